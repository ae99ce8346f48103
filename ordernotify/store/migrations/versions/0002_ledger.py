"""The ledger: append-only by privileges and triggers, each role with no more than its part."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = """
CREATE SCHEMA audit;

CREATE TABLE audit.intake (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL,
    body bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

CREATE TABLE audit.entry (
    seq bigint PRIMARY KEY,
    event_id uuid NOT NULL UNIQUE,
    body bytea NOT NULL,
    leaf bytea NOT NULL,
    chain bytea NOT NULL
);

CREATE TABLE audit.checkpoint (
    size bigint PRIMARY KEY,
    root bytea NOT NULL,
    note text NOT NULL,
    signed_at timestamptz NOT NULL
);

CREATE TABLE audit.head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    size bigint NOT NULL,
    chain bytea NOT NULL,
    frontier bytea NOT NULL
);

CREATE FUNCTION audit.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on %.% is refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION audit.only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.size < OLD.size THEN
        RAISE EXCEPTION 'the ledger never shrinks: % is below %', NEW.size, OLD.size
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER entry_rows BEFORE UPDATE OR DELETE ON audit.entry
    FOR EACH ROW EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER entry_truncate BEFORE TRUNCATE ON audit.entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER checkpoint_rows BEFORE UPDATE OR DELETE ON audit.checkpoint
    FOR EACH ROW EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER checkpoint_truncate BEFORE TRUNCATE ON audit.checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER head_rows BEFORE UPDATE ON audit.head
    FOR EACH ROW EXECUTE FUNCTION audit.only_grows();
CREATE TRIGGER head_delete BEFORE DELETE ON audit.head
    FOR EACH ROW EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER head_truncate BEFORE TRUNCATE ON audit.head
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();

-- ALWAYS: session_replication_role = replica must not switch them off.
ALTER TABLE audit.entry ENABLE ALWAYS TRIGGER entry_rows;
ALTER TABLE audit.entry ENABLE ALWAYS TRIGGER entry_truncate;
ALTER TABLE audit.checkpoint ENABLE ALWAYS TRIGGER checkpoint_rows;
ALTER TABLE audit.checkpoint ENABLE ALWAYS TRIGGER checkpoint_truncate;
ALTER TABLE audit.head ENABLE ALWAYS TRIGGER head_rows;
ALTER TABLE audit.head ENABLE ALWAYS TRIGGER head_delete;
ALTER TABLE audit.head ENABLE ALWAYS TRIGGER head_truncate;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO ordernotify_app, ordernotify_reader;
GRANT USAGE ON SCHEMA audit TO ordernotify_app, ordernotify_sealer, ordernotify_reader;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ordernotify_app;
REVOKE ALL ON public.alembic_version FROM ordernotify_app;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO ordernotify_reader;

GRANT INSERT ON audit.intake TO ordernotify_app;
GRANT SELECT ON audit.checkpoint, audit.head TO ordernotify_app;

GRANT SELECT, DELETE ON audit.intake TO ordernotify_sealer;
GRANT SELECT, INSERT ON audit.entry, audit.checkpoint TO ordernotify_sealer;
GRANT SELECT, INSERT, UPDATE ON audit.head TO ordernotify_sealer;

GRANT SELECT ON audit.intake, audit.entry, audit.checkpoint, audit.head TO ordernotify_reader;

-- Tables of later migrations follow the same rule without being told.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ordernotify_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO ordernotify_reader;
"""


def upgrade() -> None:
    for statement in _statements(STATEMENTS):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the ledger cannot be undone")


def _statements(text: str) -> list[str]:
    """Split at semicolons that end a line outside a function's body."""
    found: list[str] = []
    current: list[str] = []
    inside = False
    for line in text.splitlines():
        current.append(line)
        if line.count("$$") % 2:
            inside = not inside
        if not inside and line.rstrip().endswith(";"):
            found.append("\n".join(current))
            current = []
    return [statement for statement in found if statement.strip()]
