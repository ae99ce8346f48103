"""Thin events: those that only say that something happened; what happened is read from their source."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ordernotify.core.audit import AuditType
from ordernotify.core.events import OrderEvent
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import Pool


async def thin_events(pool: Pool, event_ids: Sequence[UUID]) -> list[tuple[UUID, OrderEvent]]:
    """Return the claimed events among ``event_ids`` that must be read again before they are believed."""
    rows = await pool.fetch(
        "SELECT id, content FROM event WHERE id = ANY($1) AND state = 'claimed' AND (content ->> 'thin')::boolean"
        " ORDER BY id",
        event_ids,
    )
    return [(row["id"], OrderEvent.from_dict(row["content"])) for row in rows]


async def filled(pool: Pool, scribe: Scribe, event_id: UUID, event: OrderEvent, *, at: datetime) -> None:
    """Replace a thin event by what its source says now; who sent it and when it arrived stay as they were."""
    async with pool.acquire() as connection, connection.transaction():
        version = await connection.fetchval(
            "UPDATE event SET content = $2, occurred_at = $3, status = $4, version = version + 1"
            " WHERE id = $1 AND state = 'claimed' RETURNING version",
            event_id,
            event.as_dict(),
            event.occurred_at,
            event.status.value,
        )
        if version is None:
            return
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.INGEST_RECEIVED,
                    object_=("event", str(event_id)),
                    stream=(str(event_id), version),
                    at=at,
                    outcome={"status": "success", "code": "read_from_source"},
                )
            ],
        )


async def dropped(pool: Pool, scribe: Scribe, event_id: UUID, *, at: datetime) -> None:
    """Note a thin event of which its source knows nothing to tell."""
    async with pool.acquire() as connection, connection.transaction():
        version = await connection.fetchval(
            "UPDATE event SET state = 'noted', reason = 'nothing_to_tell', version = version + 1"
            " WHERE id = $1 AND state = 'claimed' RETURNING version",
            event_id,
        )
        if version is None:
            return
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.VALIDATE_PASSED,
                    object_=("event", str(event_id)),
                    stream=(str(event_id), version),
                    at=at,
                    outcome={"status": "success", "code": "nothing_to_tell"},
                )
            ],
        )
