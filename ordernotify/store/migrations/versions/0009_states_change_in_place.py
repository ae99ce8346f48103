"""States of events and deliveries change in place: no index holds them any more, and pages keep room for it."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A row whose indexed values stay the same is rewritten within its page (HOT); otherwise every step of an event or
    # a delivery is a new entry in each of its indexes. A partial index counts by what its condition names, so what
    # is searched by is computed: it changes only where a row enters or leaves that search.
    op.execute(
        "ALTER TABLE event"
        " ADD COLUMN waits boolean NOT NULL GENERATED ALWAYS AS (state = 'waiting') STORED,"
        " ADD COLUMN held_for text NOT NULL"
        " GENERATED ALWAYS AS (CASE WHEN state = 'quarantined' THEN reason ELSE '' END) STORED"
    )
    op.execute("DROP INDEX event_waiting")
    op.execute("DROP INDEX event_quarantined")
    op.execute("CREATE INDEX event_waiting ON event (id) WHERE waits")
    op.execute("CREATE INDEX event_quarantined ON event (held_for) WHERE held_for <> ''")
    op.execute(
        "ALTER TABLE delivery ADD COLUMN due_at timestamptz GENERATED ALWAYS AS (CASE WHEN status IN"
        " ('planned', 'authorized', 'sending', 'deferred', 'unknown') THEN next_attempt_at END) STORED"
    )
    op.execute("DROP INDEX delivery_open")
    op.execute("CREATE INDEX delivery_due ON delivery (due_at) WHERE due_at IS NOT NULL")
    for table in ("event", "delivery"):
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")


def downgrade() -> None:
    raise NotImplementedError("the store only moves forward: restore a backup instead")
