"""Daily summaries: each client's hour, who gets them, which days were told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("client", sa.Column("summary_at", sa.Text(), server_default="07:00", nullable=False))
    op.add_column("contact_point", sa.Column("summary", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE contact_point SET summary = true WHERE channel = 'email'")
    # A summary is about many orders.
    op.alter_column("delivery", "order_id", nullable=True)
    op.alter_column("suppression", "order_id", nullable=True)
    op.create_table(
        "summary",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("covers_until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"]),
        sa.PrimaryKeyConstraint("client_id", "day"),
    )


def downgrade() -> None:
    raise NotImplementedError("the store only moves forward: restore a backup instead")
