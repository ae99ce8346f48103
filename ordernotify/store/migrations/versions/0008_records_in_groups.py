"""Accepted records wait for the sealer in groups, one row a transaction; an index that nothing asked is gone."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A row for each record cost the database an insert and a delete more a record than the ledger itself.
    op.execute("ALTER TABLE audit.intake ADD COLUMN event_ids uuid[], ADD COLUMN bodies bytea[]")
    op.execute("UPDATE audit.intake SET event_ids = ARRAY[event_id], bodies = ARRAY[body]")
    op.execute(
        "ALTER TABLE audit.intake DROP COLUMN event_id, DROP COLUMN body,"
        " ALTER COLUMN event_ids SET NOT NULL, ALTER COLUMN bodies SET NOT NULL,"
        # Read once, soon: compressing costs more than it saves.
        " ALTER COLUMN event_ids SET STORAGE EXTERNAL, ALTER COLUMN bodies SET STORAGE EXTERNAL,"
        " ADD CONSTRAINT intake_whole CHECK (cardinality(event_ids) = cardinality(bodies))"
    )
    op.execute("DROP INDEX ix_event_batch_id")


def downgrade() -> None:
    raise NotImplementedError("the ledger cannot be undone")
