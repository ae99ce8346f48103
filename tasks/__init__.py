"""One idempotent unit of work each: load, decide (core), act, record."""
