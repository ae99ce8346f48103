"""Quarantine: events held with a reason, and how they get another chance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ordernotify.core.audit import AuditType
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import INBOX, Connection, Pool
from ordernotify.store.incidents import Incident, IncidentKind, close_incidents, open_incidents

# By the reason why an event is held: when the reason is gone.
_ANSWERED = {
    "order_unknown": "EXISTS (SELECT 1 FROM order_alias a WHERE a.source = e.source"
    " AND a.ref = e.content ->> 'order_ref')",
    "client_unknown": "EXISTS (SELECT 1 FROM client_alias a WHERE a.source = e.source"
    " AND a.ref = e.content ->> 'client_ref')"
    " OR EXISTS (SELECT 1 FROM client c WHERE c.id = e.content ->> 'client_ref')",
    "sku_unknown": "NOT EXISTS (SELECT 1 FROM jsonb_array_elements(e.content -> 'lines') line"
    " LEFT JOIN part p ON p.sku = line ->> 0 WHERE p.sku IS NULL)",
}
_AT_ONCE = 1_000


async def hold(connection: Connection, scribe: Scribe, event_ids: Sequence[UUID], *, reason: str, at: datetime) -> None:
    """Hold events that have just been accepted until a person releases them; call it in that transaction."""
    if not event_ids:
        return
    held = await connection.fetch(
        "UPDATE event SET state = 'quarantined', reason = $2, version = version + 1"
        " WHERE id = ANY($1) AND state = 'waiting' RETURNING id, version",
        event_ids,
        reason,
    )
    await open_incidents(
        connection,
        scribe,
        [Incident(IncidentKind.QUARANTINED, str(row["id"]), code=reason, event_id=row["id"]) for row in held],
        at=at,
    )
    await emit(
        connection,
        [
            scribe.record(
                AuditType.QUARANTINE_PLACED,
                object_=("event", str(row["id"])),
                stream=(str(row["id"]), row["version"]),
                at=at,
                outcome={"status": "failure", "code": reason},
            )
            for row in held
        ],
    )


async def release(
    connection: Connection,
    scribe: Scribe,
    event_ids: Sequence[UUID],
    *,
    code: str,
    at: datetime,
    batch_id: UUID | None = None,
) -> int:
    """Let held events go, back to the inbox or into a batch, and close their incidents; returns how many.

    Call it inside a transaction. ``code`` says why, in the ledger.
    """
    freed = await connection.fetch(
        "UPDATE event SET state = CASE WHEN $2::uuid IS NULL THEN 'waiting' ELSE 'claimed' END, reason = '',"
        " batch_id = $2, version = version + 1 WHERE id = ANY($1) AND state = 'quarantined' RETURNING id, version",
        event_ids,
        batch_id,
    )
    if not freed:
        return 0
    await close_incidents(connection, scribe, [IncidentKind.QUARANTINED], [str(row["id"]) for row in freed], at=at)
    await emit(
        connection,
        [
            scribe.record(
                AuditType.QUARANTINE_RELEASED,
                object_=("event", str(row["id"])),
                stream=(str(row["id"]), row["version"]),
                at=at,
                outcome={"status": "success", "code": code},
            )
            for row in freed
        ],
    )
    if batch_id is None:
        await connection.execute("SELECT pg_notify($1, '')", INBOX)
    return len(freed)


async def release_answered(connection: Connection, scribe: Scribe, reason: str, *, at: datetime) -> int:
    """Let go the events held for ``reason`` where it is gone; call it in the transaction that may have ended it."""
    rows = await connection.fetch(
        f"SELECT e.id FROM event e WHERE e.held_for = $1 AND e.held_for <> '' AND ({_ANSWERED[reason]})"  # noqa: S608 - literals of the table above
        " ORDER BY e.id LIMIT $2 FOR UPDATE SKIP LOCKED",
        reason,
        _AT_ONCE,
    )
    return await release(connection, scribe, [row["id"] for row in rows], code=f"no_longer_{reason}", at=at)


async def sweep(pool: Pool, scribe: Scribe, *, at: datetime) -> int:
    """Let go what two transactions left held that did not see each other; returns how many events.

    One found no order and held its event; the other, at the same time, made the order and found nothing held.
    """
    freed = 0
    for reason in _ANSWERED:
        async with pool.acquire() as connection, connection.transaction():
            freed += await release_answered(connection, scribe, reason, at=at)
    return freed
