"""Leaving: the last look at a message before its call, and its attempt, written first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ordernotify.core.audit import AuditType
from ordernotify.core.delivery import DeliveryStatus, Message
from ordernotify.core.holds import ON_HOLD
from ordernotify.core.planning import SuppressionReason
from ordernotify.store.audit import Record, Scribe, recording
from ordernotify.store.database import Pool
from ordernotify.store.wording import read_message


@dataclass(frozen=True, slots=True)
class Authorized:
    """What may leave as it was worded, and the version of its delivery since."""

    version: int
    message: Message


@dataclass(frozen=True, slots=True)
class ToSend:
    """A delivery whose attempt is recorded: it may be called now, once."""

    delivery_id: UUID
    version: int
    number: int
    started_at: datetime
    message: Message


async def begin(
    pool: Pool,
    scribe: Scribe,
    delivery_ids: Sequence[UUID],
    *,
    platform: str,
    batch_id: UUID,
    at: datetime,
    known: Mapping[UUID, Authorized] | None = None,
) -> list[ToSend]:
    """Record the next attempts of deliveries and return them; what must not leave any more is ended instead.

    ``known``: what this run authorized itself and need not read again.

    Deliveries that somebody else took meanwhile are left out. What decides is asked here, when a
    message is about to leave: newer news of its order, a stop by its reader, a platform that was stopped, and a
    regulatory hold of its order, until whose end the message waits.
    """
    known = known or {}
    fresh = [delivery_id for delivery_id in delivery_ids if delivery_id in known]
    begun = await _begin_fresh(pool, scribe, fresh, known, platform=platform, batch_id=batch_id, at=at) if fresh else []
    done = {attempt.delivery_id for attempt in begun}
    rest = [delivery_id for delivery_id in delivery_ids if delivery_id not in done]
    if rest:
        begun += await _begin_any(pool, scribe, rest, platform=platform, batch_id=batch_id, at=at)
    return begun


# What keeps a message of delivery d from leaving to the platform that is parameter 2. While an order is held, the word
# that it is under review stays the last one that clients are told.
_OVERTAKEN = (
    "coalesce(o.status_at > d.event_at AND d.template <> 'correction' AND o.status <> e.status"
    " AND (h.id IS NULL OR e.status <> 'regulatory_hold'), false)"
)
_HELD = "(h.id IS NOT NULL AND e.status <> 'regulatory_hold')"
_STOPPED = "EXISTS (SELECT 1 FROM opt_out x WHERE x.channel = d.channel AND x.address = d.address)"
_PLATFORM_STOPPED = "EXISTS (SELECT 1 FROM channel c WHERE c.platform = $2 AND c.stopped_code <> '')"
_AROUND = (
    " LEFT JOIN orders o ON o.id = d.order_id JOIN event e ON e.id = d.event_id"
    " LEFT JOIN hold h ON h.order_id = d.order_id AND h.ended_at IS NULL"
)


async def _begin_fresh(
    pool: Pool,
    scribe: Scribe,
    delivery_ids: Sequence[UUID],
    known: Mapping[UUID, Authorized],
    *,
    platform: str,
    batch_id: UUID,
    at: datetime,
) -> list[ToSend]:
    """Begin the first attempts of what nobody has touched since it was authorized, which is nearly all, in one go."""
    versions = [known[delivery_id].version for delivery_id in delivery_ids]
    records = [
        _leaving(scribe, delivery_id, DeliveryStatus.SENDING, version=version + 1, attempt=1, platform=platform, at=at)
        for delivery_id, version in zip(delivery_ids, versions, strict=True)
    ]
    moved = await pool.fetch(
        "WITH given AS (SELECT * FROM unnest($1::uuid[], $3::int[]) AS g(id, version)),"  # noqa: S608 - the literals above
        f" held AS (SELECT d.id FROM given g JOIN delivery d ON d.id = g.id AND d.version = g.version{_AROUND}"
        f" WHERE d.status = 'authorized' AND d.attempts = 0 AND NOT {_OVERTAKEN} AND NOT {_HELD} AND NOT {_STOPPED}"
        f" AND NOT {_PLATFORM_STOPPED} ORDER BY d.id FOR UPDATE OF d SKIP LOCKED),"
        " moved AS (UPDATE delivery SET status = 'sending', status_at = $4, version = version + 1, sender = $5,"
        " code = '', attempts = 1 FROM held WHERE delivery.id = held.id RETURNING delivery.id),"
        f" {recording('$1', '$6', '$7')} SELECT id FROM moved ORDER BY id",
        delivery_ids,
        platform,
        versions,
        at,
        str(batch_id),
        [record.event_id for record in records],
        [record.body for record in records],
    )
    return [
        ToSend(delivery_id, ready.version + 1, 1, at, ready.message)
        for delivery_id, ready in ((row["id"], known[row["id"]]) for row in moved)
    ]


async def _begin_any(
    pool: Pool, scribe: Scribe, delivery_ids: Sequence[UUID], *, platform: str, batch_id: UUID, at: datetime
) -> list[ToSend]:
    rows = await pool.fetch(
        f"SELECT d.id, d.version, d.attempts, m.body, {_OVERTAKEN} AS overtaken, {_HELD} AS held,"  # noqa: S608 - the literals above
        f" {_STOPPED} AS stopped FROM delivery d LEFT JOIN message m ON m.delivery_id = d.id{_AROUND}"
        " WHERE d.id = ANY($1) AND d.status IN ('authorized', 'deferred')"
        f" AND NOT {_PLATFORM_STOPPED} ORDER BY d.id",
        delivery_ids,
        platform,
    )
    if not rows:
        return []
    statuses = [next((status for what, status in _BEFORE_LEAVING if row[what]), DeliveryStatus.SENDING) for row in rows]
    records = [
        _leaving(
            scribe,
            row["id"],
            status,
            version=row["version"] + 1,
            attempt=row["attempts"] + (status is DeliveryStatus.SENDING),
            platform=platform,
            at=at,
        )
        for row, status in zip(rows, statuses, strict=True)
    ]
    moved = await pool.fetch(
        "WITH given AS (SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[])"  # noqa: S608 - parameters' numbers
        " AS g(id, version, status, code)),"
        # Whoever took or changed one since it was read has it now.
        " held AS (SELECT d.id FROM delivery d JOIN given g ON g.id = d.id AND g.version = d.version"
        " ORDER BY d.id FOR UPDATE OF d SKIP LOCKED),"
        " moved AS (UPDATE delivery SET status = g.status, status_at = $5, version = delivery.version + 1,"
        " sender = $6, code = g.code, attempts = attempts + (g.status = 'sending')::int,"
        # Whoever releases the order sets the time.
        " next_attempt_at = CASE WHEN g.status = 'deferred' THEN 'infinity' ELSE next_attempt_at END"
        " FROM held JOIN given g ON g.id = held.id WHERE delivery.id = held.id RETURNING delivery.id),"
        f" {recording('$1', '$7', '$8')} SELECT id FROM moved",
        [row["id"] for row in rows],
        [row["version"] for row in rows],
        [status.value for status in statuses],
        [_REASON_BEFORE.get(status, "") for status in statuses],
        at,
        str(batch_id),
        [record.event_id for record in records],
        [record.body for record in records],
    )
    mine = {row["id"] for row in moved}
    return [
        ToSend(row["id"], row["version"] + 1, row["attempts"] + 1, at, read_message(row["body"]))
        for row, status in zip(rows, statuses, strict=True)
        if status is DeliveryStatus.SENDING and row["id"] in mine
    ]


def _leaving(
    scribe: Scribe,
    delivery_id: UUID,
    status: DeliveryStatus,
    *,
    version: int,
    attempt: int,
    platform: str,
    at: datetime,
) -> Record:
    return scribe.record(
        _TYPE_BEFORE[status],
        object_=("delivery", str(delivery_id)),
        stream=(str(delivery_id), version),
        at=at,
        outcome={
            "status": "success",
            "platform": platform,
            "attempt": attempt,
            "code": _REASON_BEFORE.get(status, status.value),
        },
    )


# What keeps a message from leaving, by the column that says so; the first that holds decides.
_BEFORE_LEAVING = (
    ("stopped", DeliveryStatus.SUPPRESSED),
    ("overtaken", DeliveryStatus.SUPERSEDED),
    ("held", DeliveryStatus.DEFERRED),
)
_TYPE_BEFORE = {
    DeliveryStatus.DEFERRED: AuditType.DELIVERY_DEFERRED,
    DeliveryStatus.SENDING: AuditType.DELIVERY_ATTEMPTED,
    DeliveryStatus.SUPERSEDED: AuditType.DELIVERY_SUPERSEDED,
    DeliveryStatus.SUPPRESSED: AuditType.DELIVERY_SUPPRESSED,
}
_REASON_BEFORE = {
    DeliveryStatus.DEFERRED: ON_HOLD,
    DeliveryStatus.SUPERSEDED: "superseded",
    DeliveryStatus.SUPPRESSED: SuppressionReason.OPTED_OUT.value,
}
