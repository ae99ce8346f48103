"""Sending: what may be sent, and what became of it, written down as each answer arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ordernotify.core.audit import AuditType, Source
from ordernotify.core.delivery import (
    NEXT,
    STOPS_PLATFORM,
    Accepted,
    Deferred,
    DeliveryStatus,
    FailureKind,
    Message,
    Outcome,
    Rejected,
)
from ordernotify.core.planning import SuppressionReason
from ordernotify.store.audit import Record, Scribe, emit, recording
from ordernotify.store.database import Connection, Pool
from ordernotify.store.incidents import Incident, IncidentKind, open_incidents
from ordernotify.store.leaving import ToSend
from ordernotify.store.wording import read_message

# A call that was on its way when its worker died may arrive a moment later: asked at once, the platform says no.
_ASK_AFTER = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class Tried:
    """How one attempt ended, and when to try again where it may be tried again."""

    attempt: ToSend
    outcome: Outcome
    http_status: int
    ended_at: datetime
    next_attempt_at: datetime


async def platforms_to_send(pool: Pool, event_ids: Sequence[UUID]) -> list[str]:
    """Return the platforms with unfinished deliveries of ``event_ids``, none that is stopped."""
    rows = await pool.fetch(
        "SELECT DISTINCT d.platform FROM delivery d LEFT JOIN channel c ON c.platform = d.platform"
        " WHERE d.event_id = ANY($1) AND d.status IN ('authorized', 'deferred', 'unknown', 'sending')"
        " AND coalesce(c.stopped_code, '') = '' ORDER BY 1",
        event_ids,
    )
    return [row["platform"] for row in rows]


async def to_send(pool: Pool, event_ids: Sequence[UUID], *, platform: str, at: datetime) -> list[UUID]:
    """Return the deliveries of a platform that may be sent now, in the order in which they were made."""
    rows = await pool.fetch(
        "SELECT id FROM delivery WHERE event_id = ANY($1) AND platform = $2"
        " AND (status = 'authorized' OR (status = 'deferred' AND next_attempt_at <= $3))"
        # Nothing goes to a platform that refuses our credentials, not even a retry.
        " AND NOT EXISTS (SELECT 1 FROM channel c WHERE c.platform = $2 AND c.stopped_code <> '')"
        " ORDER BY id",
        event_ids,
        platform,
        at,
    )
    return [row["id"] for row in rows]


async def messages(pool: Pool, delivery_ids: Sequence[UUID]) -> dict[UUID, Message]:
    """Return the words of deliveries as they were authorized."""
    rows = await pool.fetch("SELECT delivery_id, body FROM message WHERE delivery_id = ANY($1)", delivery_ids)
    return {row["delivery_id"]: read_message(row["body"]) for row in rows}


def status_after(outcome: Outcome) -> DeliveryStatus:
    """Return where an outcome leaves a delivery.

    A refusal of our own set-up does not burn the message: it waits until the platform works again.
    """
    match outcome:
        case Accepted():
            return DeliveryStatus.SENT
        case Deferred(ambiguous=True):
            return DeliveryStatus.UNKNOWN
        case Deferred():
            return DeliveryStatus.DEFERRED
        case Rejected(kind=kind) if kind in STOPS_PLATFORM:
            return DeliveryStatus.DEFERRED
        case Rejected():
            return DeliveryStatus.REJECTED


_TYPE_AFTER = {
    DeliveryStatus.SENT: AuditType.DELIVERY_SENT,
    DeliveryStatus.UNKNOWN: AuditType.DELIVERY_UNKNOWN,
    DeliveryStatus.DEFERRED: AuditType.DELIVERY_DEFERRED,
    DeliveryStatus.REJECTED: AuditType.DELIVERY_FAILED,
    DeliveryStatus.FAILED: AuditType.DELIVERY_FAILED,
}


async def record_outcomes(pool: Pool, scribe: Scribe, tried: Sequence[Tried], *, platform: str, corr: str) -> None:
    """Store how attempts ended; an outcome that comes after its delivery moved on changes nothing."""
    sent = [entry for entry in tried if isinstance(entry.outcome, Accepted)]
    done = await _record_sent(pool, scribe, sent, platform=platform, corr=corr) if sent else set()
    rest = [entry for entry in tried if entry.attempt.delivery_id not in done]
    if rest:
        await _record_any(pool, scribe, rest, platform=platform, corr=corr)


async def _record_sent(pool: Pool, scribe: Scribe, sent: Sequence[Tried], *, platform: str, corr: str) -> set[UUID]:
    """Store what the platform took and nobody has touched since, which is nearly all, in one statement."""
    records = [
        _ended(scribe, entry, DeliveryStatus.SENT, version=entry.attempt.version + 1, platform=platform, corr=corr)
        for entry in sent
    ]
    moved = await pool.fetch(
        "WITH given AS (SELECT * FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::timestamptz[],"  # noqa: S608 - parameters' numbers
        " $5::timestamptz[], $6::text[], $7::text[], $8::smallint[], $9::timestamptz[])"
        " AS g(id, version, number, started_at, ended_at, code, provider_ref, http_status, next_attempt_at)),"
        " held AS (SELECT d.id FROM delivery d JOIN given g ON g.id = d.id AND g.version = d.version"
        " WHERE d.status = 'sending' ORDER BY d.id FOR UPDATE OF d),"
        " moved AS (UPDATE delivery SET status = 'sent', status_at = g.ended_at, version = delivery.version + 1,"
        " code = g.code, next_attempt_at = g.next_attempt_at,"
        " provider_ref = CASE WHEN g.provider_ref = '' THEN delivery.provider_ref ELSE g.provider_ref END"
        " FROM held JOIN given g ON g.id = held.id WHERE delivery.id = held.id RETURNING delivery.id),"
        " ended AS (INSERT INTO attempt (delivery_id, number, started_at, ended_at, outcome, code, http_status)"
        " SELECT g.id, g.number, g.started_at, g.ended_at, 'sent', g.code, g.http_status"
        " FROM given g JOIN moved ON moved.id = g.id ON CONFLICT (delivery_id, number) DO UPDATE"
        " SET ended_at = excluded.ended_at, outcome = excluded.outcome, code = excluded.code,"
        " http_status = excluded.http_status),"
        f" {recording('$1', '$10', '$11')} SELECT id FROM moved",
        [entry.attempt.delivery_id for entry in sent],
        [entry.attempt.version for entry in sent],
        [entry.attempt.number for entry in sent],
        [entry.attempt.started_at for entry in sent],
        [entry.ended_at for entry in sent],
        [entry.outcome.code for entry in sent],
        [entry.outcome.provider_ref if isinstance(entry.outcome, Accepted) else "" for entry in sent],
        [entry.http_status for entry in sent],
        [entry.next_attempt_at for entry in sent],
        [record.event_id for record in records],
        [record.body for record in records],
    )
    return {row["id"] for row in moved}


async def _record_any(pool: Pool, scribe: Scribe, tried: Sequence[Tried], *, platform: str, corr: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        held = await connection.fetch(
            "SELECT id, status, version, event_id, order_id, address, channel FROM delivery"
            " WHERE id = ANY($1) ORDER BY id FOR UPDATE",
            [entry.attempt.delivery_id for entry in tried],
        )
        rows = {row["id"]: row for row in held}
        moved = [
            (entry, status_after(entry.outcome), rows[entry.attempt.delivery_id])
            for entry in tried
            if status_after(entry.outcome) in NEXT[DeliveryStatus(rows[entry.attempt.delivery_id]["status"])]
        ]
        await connection.execute(
            "UPDATE delivery SET status = t.status, status_at = t.at, version = version + 1, code = t.code,"
            " provider_ref = CASE WHEN t.provider_ref = '' THEN delivery.provider_ref ELSE t.provider_ref END,"
            " next_attempt_at = t.next_attempt_at"
            " FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[],"
            " $6::timestamptz[]) AS t(id, status, at, code, provider_ref, next_attempt_at)"
            " WHERE delivery.id = t.id",
            [entry.attempt.delivery_id for entry, _, _ in moved],
            [status.value for _, status, _ in moved],
            [entry.ended_at for entry, _, _ in moved],
            [entry.outcome.code for entry, _, _ in moved],
            [entry.outcome.provider_ref if isinstance(entry.outcome, Accepted) else "" for entry, _, _ in moved],
            [entry.next_attempt_at for entry, _, _ in moved],
        )
        await connection.execute(
            "INSERT INTO attempt (delivery_id, number, started_at, ended_at, outcome, code, http_status)"
            " SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::timestamptz[], $5::text[],"
            " $6::text[], $7::smallint[]) ON CONFLICT (delivery_id, number) DO UPDATE"
            " SET ended_at = excluded.ended_at, outcome = excluded.outcome, code = excluded.code,"
            " http_status = excluded.http_status",
            [entry.attempt.delivery_id for entry in tried],
            [entry.attempt.number for entry in tried],
            [entry.attempt.started_at for entry in tried],
            [entry.ended_at for entry in tried],
            [status_after(entry.outcome).value for entry in tried],
            [entry.outcome.code for entry in tried],
            [entry.http_status for entry in tried],
        )
        await _note_opt_outs(connection, [(entry, row) for entry, _, row in moved])
        await emit(
            connection,
            [
                _ended(scribe, entry, status, version=row["version"] + 1, platform=platform, corr=corr)
                for entry, status, row in moved
            ],
        )
        await _stop_platform(connection, scribe, tried, platform=platform)
        await open_incidents(
            connection,
            scribe,
            [
                Incident(
                    IncidentKind.DELIVERY_FAILED,
                    str(row["id"]),
                    code=entry.outcome.code,
                    event_id=row["event_id"],
                    order_id=row["order_id"],
                    delivery_id=row["id"],
                )
                for entry, status, row in moved
                if status is DeliveryStatus.REJECTED and not _is_opt_out(entry.outcome)
            ],
            at=tried[0].ended_at,
        )


def _ended(scribe: Scribe, entry: Tried, status: DeliveryStatus, *, version: int, platform: str, corr: str) -> Record:
    outcome: dict[str, str | int] = {
        "status": "success" if status is DeliveryStatus.SENT else "failure",
        "code": entry.outcome.code,
        "delivery_status": status.value,
        "attempt": entry.attempt.number,
        "http_status": entry.http_status,
    }
    if isinstance(entry.outcome, Accepted) and entry.outcome.provider_ref:
        outcome["provider_ref"] = entry.outcome.provider_ref
    return scribe.record(
        _TYPE_AFTER[status],
        object_=("delivery", str(entry.attempt.delivery_id)),
        stream=(str(entry.attempt.delivery_id), version),
        at=entry.ended_at,
        outcome=outcome,
        source=Source(kind="provider", id=platform),
        corr={"flow_run_id": corr} if corr else None,
    )


async def _note_opt_outs(connection: Connection, moved: Sequence[tuple[Tried, object]]) -> None:
    gone = [entry for entry, _ in moved if _is_opt_out(entry.outcome)]
    if gone:
        await connection.execute(
            "INSERT INTO opt_out (channel, address, code, at)"
            " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) ON CONFLICT DO NOTHING",
            [entry.attempt.message.channel.value for entry in gone],
            [entry.attempt.message.to for entry in gone],
            [entry.outcome.code for entry in gone],
            [entry.ended_at for entry in gone],
        )


async def _stop_platform(connection: Connection, scribe: Scribe, tried: Sequence[Tried], *, platform: str) -> None:
    """Stop a platform that refuses our credentials or set-up, and tell a person: it burns no messages."""
    refusals = [
        entry for entry in tried if isinstance(entry.outcome, Rejected) and entry.outcome.kind in STOPS_PLATFORM
    ]
    if not refusals:
        return
    code, at = refusals[0].outcome.code, refusals[0].ended_at
    stopped = await connection.fetchval(
        "INSERT INTO channel (platform, level, stopped_code, stopped_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (platform) DO UPDATE SET stopped_code = $3, stopped_at = $4"
        " WHERE channel.stopped_code = '' RETURNING 1",
        platform,
        0,
        code,
        at,
    )
    if stopped:
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.CHANNEL_SUSPENDED,
                    object_=("channel", platform),
                    stream=(f"channel:{platform}:{at.isoformat()}", 1),
                    at=at,
                    outcome={"status": "failure", "code": code},
                )
            ],
        )
        await open_incidents(connection, scribe, [Incident(IncidentKind.PLATFORM_STOPPED, platform, code=code)], at=at)


async def note_abandoned(pool: Pool, scribe: Scribe, event_ids: Sequence[UUID], *, batch_id: UUID, at: datetime) -> int:
    """Turn attempts of a dead run into ``unknown``: they may have left, nobody was there for the answer.

    Call it before a run of ``batch_id`` sends anything. Attempts that another live batch has on the wire are
    left alone.
    """
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "SELECT id, version + 1 AS version, attempts, status_at FROM delivery"
            " WHERE event_id = ANY($1) AND status = 'sending' AND NOT EXISTS (SELECT 1 FROM batch b"
            " WHERE b.id::text = delivery.sender AND b.id <> $2 AND b.finished_at IS NULL"
            " AND b.lease_until > $3) ORDER BY id FOR UPDATE",
            event_ids,
            batch_id,
            at,
        )
        ids = [row["id"] for row in rows]
        await connection.execute(
            "UPDATE delivery SET status = 'unknown', status_at = $2, version = version + 1,"
            " code = 'worker_died', next_attempt_at = $3 WHERE id = ANY($1)",
            ids,
            at,
            at + _ASK_AFTER,
        )
        # A platform that is asked about an attempt must be told when it began, however long ago that was.
        await connection.execute(
            "INSERT INTO attempt (delivery_id, number, started_at, ended_at, outcome, code, http_status)"
            " SELECT *, $4, 'unknown', 'worker_died', 0 FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[])"
            " ON CONFLICT DO NOTHING",
            ids,
            [row["attempts"] for row in rows],
            [row["status_at"] for row in rows],
            at,
        )
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.DELIVERY_UNKNOWN,
                    object_=("delivery", str(row["id"])),
                    stream=(str(row["id"]), row["version"]),
                    at=at,
                    outcome={
                        "status": "failure",
                        "code": "worker_died",
                        "delivery_status": DeliveryStatus.UNKNOWN.value,
                        "attempt": row["attempts"],
                    },
                )
                for row in rows
            ],
        )
    return len(rows)


async def unknown_of(pool: Pool, event_ids: Sequence[UUID], *, platform: str, at: datetime, limit: int) -> list[ToSend]:
    """Return deliveries of a platform of which nobody can say whether they left, with their attempt."""
    rows = await pool.fetch(
        "SELECT d.id, d.version, d.attempts, m.body, a.started_at FROM delivery d"
        " JOIN message m ON m.delivery_id = d.id"
        " JOIN attempt a ON a.delivery_id = d.id AND a.number = d.attempts"
        " WHERE d.event_id = ANY($1) AND d.platform = $2 AND d.status = 'unknown'"
        " AND d.next_attempt_at <= $3 ORDER BY d.id LIMIT $4",
        event_ids,
        platform,
        at,
        limit,
    )
    return [
        ToSend(row["id"], row["version"], row["attempts"], row["started_at"], read_message(row["body"])) for row in rows
    ]


async def leave_unknown(pool: Pool, scribe: Scribe, delivery_ids: Sequence[UUID], *, code: str, at: datetime) -> None:
    """Leave deliveries unknown for good, and call a person: only that person or a receipt moves them again."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "UPDATE delivery SET status_at = $2, version = version + 1, code = $3, next_attempt_at = 'infinity'"
            " WHERE id = ANY($1) AND status = 'unknown' AND next_attempt_at < 'infinity'"
            " RETURNING id, version, attempts, event_id, order_id",
            delivery_ids,
            at,
            code,
        )
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.DELIVERY_UNKNOWN,
                    object_=("delivery", str(row["id"])),
                    stream=(str(row["id"]), row["version"]),
                    at=at,
                    outcome={
                        "status": "failure",
                        "code": code,
                        "delivery_status": DeliveryStatus.UNKNOWN.value,
                        "attempt": row["attempts"],
                    },
                )
                for row in rows
            ],
        )
        await open_incidents(
            connection,
            scribe,
            [
                Incident(
                    IncidentKind.DELIVERY_UNKNOWN,
                    str(row["id"]),
                    code=code,
                    event_id=row["event_id"],
                    order_id=row["order_id"],
                    delivery_id=row["id"],
                )
                for row in rows
            ],
            at=at,
        )


def _is_opt_out(outcome: Outcome) -> bool:
    return isinstance(outcome, Rejected) and outcome.kind is FailureKind.OPT_OUT


async def postpone(pool: Pool, event_ids: Sequence[UUID], *, platform: str, until: datetime) -> None:
    """Leave the deliveries of a platform that is slow or resting to a later batch."""
    await pool.execute(
        "UPDATE delivery SET next_attempt_at = greatest(next_attempt_at, $3)"
        " WHERE event_id = ANY($1) AND platform = $2 AND status IN ('authorized', 'deferred')",
        event_ids,
        platform,
        until,
    )


async def postpone_unknown(pool: Pool, until: Mapping[UUID, datetime]) -> None:
    """Ask about doubtful deliveries again only at the times given, each its own."""
    await pool.execute(
        "UPDATE delivery SET next_attempt_at = u.until FROM unnest($1::uuid[], $2::timestamptz[]) AS u(id, until)"
        " WHERE delivery.id = u.id AND status = 'unknown'",
        list(until),
        list(until.values()),
    )


async def next_due(pool: Pool, event_ids: Sequence[UUID], *, platform: str) -> datetime | None:
    """Return when the platform's next deferred or doubtful delivery is due, None when none is or it is stopped."""
    due: datetime | None = await pool.fetchval(
        "SELECT min(next_attempt_at) FROM delivery WHERE event_id = ANY($1) AND platform = $2"
        " AND status IN ('deferred', 'unknown') AND next_attempt_at < 'infinity'"
        " AND NOT EXISTS (SELECT 1 FROM channel c WHERE c.platform = $2 AND c.stopped_code <> '')",
        event_ids,
        platform,
    )
    return due


async def note_ledger_stopped(pool: Pool, scribe: Scribe, *, at: datetime) -> None:
    """Call a person: nothing is sent until the ledger is whole again."""
    async with pool.acquire() as connection, connection.transaction():
        await open_incidents(connection, scribe, [Incident(IncidentKind.LEDGER_STOPPED, "ledger", code="cut")], at=at)


async def note_unconfigured(
    pool: Pool, scribe: Scribe, event_ids: Sequence[UUID], *, platform: str, at: datetime, until: datetime
) -> None:
    """Let the deliveries of a platform that is no longer configured wait, and call a person."""
    await postpone(pool, event_ids, platform=platform, until=until)
    async with pool.acquire() as connection, connection.transaction():
        code = SuppressionReason.NOT_CONFIGURED.value
        await open_incidents(connection, scribe, [Incident(IncidentKind.PLATFORM_STOPPED, platform, code=code)], at=at)
