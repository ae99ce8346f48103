"""Alembic's entry: runs migrations on the connection that ``setup.migrate`` opened."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    include_schemas=False,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
