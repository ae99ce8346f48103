"""The durable inbox: what arrived, in the transaction that makes a 2xx true, and the batches made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import asyncpg

from ordernotify.clock import new_id
from ordernotify.core.audit import Actor, AuditType, Source
from ordernotify.core.events import OrderEvent, Trigger
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import INBOX, Connection, Pool
from ordernotify.store.quarantine import release

# A worker renews its leases every few seconds; one that is silent this long is taken for dead.
LEASE = timedelta(seconds=15)

# A run takes so many events at the most: of larger ones nothing is sent while all of them are prepared.
GROUP = 2_000

# By which door an event came, as the ledger has it.
_DOORS: dict[Trigger, str] = {
    Trigger.EVENT: "webhook",
    Trigger.PORTAL: "person",
    Trigger.TRACKING: "carrier",
    Trigger.BATCH: "extract",
    Trigger.EXCEPTION: "house",
}


class EventState(StrEnum):
    """Where an event stands in the pipeline."""

    WAITING = "waiting"
    CLAIMED = "claimed"  # in a batch
    ADMITTED = "admitted"  # news: its order has changed, nobody is told yet
    PLANNED = "planned"  # its deliveries and suppressions are decided
    CLOSED = "closed"  # every delivery has ended or is the store's to retry
    NOTED = "noted"  # recorded, not news (the same again, stale, refused, unknown)
    QUARANTINED = "quarantined"  # held with a reason until a person, or a later event, releases it


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request that was verified and read: the exact bytes and the events in it."""

    source: str
    headers: Mapping[str, str]
    body: bytes
    events: tuple[OrderEvent, ...]
    remote: str
    at: datetime
    actor: Actor | None = None  # the person who asked for it
    corr: Mapping[str, str] = field(default_factory=dict)  # what else its records must refer to


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of one arrival: ids of new events, and how many were known already."""

    accepted: tuple[UUID, ...]
    duplicates: int


class BatchKind(StrEnum):
    """Why a batch was made."""

    ARRIVED = "arrived"
    DUE = "due"  # deliveries whose next attempt has come
    ABANDONED = "abandoned"  # its worker died
    REQUESTED = "requested"  # a person asked
    SUMMARY = "summary"  # daily summaries, worded already


async def accept(pool: Pool, scribe: Scribe, arrivals: Sequence[Arrival]) -> list[Acceptance]:
    """Store a group of arrivals in one transaction and wake the dispatchers; after it, a 2xx is true.

    An event whose (source, dedupe_key) is known is a duplicate: recorded as such, never processed again.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await take(connection, scribe, arrivals)


async def take(connection: Connection, scribe: Scribe, arrivals: Sequence[Arrival]) -> list[Acceptance]:
    """Store a group of arrivals as ``accept`` does, within the caller's transaction."""
    raw: list[tuple[UUID, Arrival]] = []
    events: list[tuple[UUID, UUID, Arrival, OrderEvent]] = []
    for arrival in arrivals:
        raw_id = new_id()
        raw.append((raw_id, arrival))
        events.extend((new_id(), raw_id, arrival, event) for event in arrival.events)
    await connection.execute(
        "INSERT INTO raw_request (id, source, received_at, headers, body)"
        " SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::jsonb[], $5::bytea[])",
        [raw_id for raw_id, _ in raw],
        [arrival.source for _, arrival in raw],
        [arrival.at for _, arrival in raw],
        [dict(arrival.headers) for _, arrival in raw],
        [arrival.body for _, arrival in raw],
    )
    new = await connection.fetch(
        "INSERT INTO event (id, raw_id, source, dedupe_key, trigger, received_at, occurred_at, content,"
        " status) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[],"
        " $6::timestamptz[], $7::timestamptz[], $8::jsonb[], $9::text[])"
        " ON CONFLICT (source, dedupe_key) DO NOTHING RETURNING id",
        [event_id for event_id, *_ in events],
        [raw_id for _, raw_id, *_ in events],
        [event.source for *_, event in events],
        [event.dedupe_key for *_, event in events],
        [event.trigger.value for *_, event in events],
        [arrival.at for _, _, arrival, _ in events],
        [event.occurred_at for *_, event in events],
        [event.as_dict() for *_, event in events],
        [event.status.value for *_, event in events],
    )
    accepted = {row["id"] for row in new}
    await emit(connection, [_arrived(scribe, entry, new_event=entry[0] in accepted) for entry in events])
    if accepted:
        await connection.execute("SELECT pg_notify($1, '')", INBOX)
    verdicts = []
    for raw_id, arrival in raw:
        mine = tuple(event_id for event_id, owner, *_ in events if owner == raw_id and event_id in accepted)
        verdicts.append(Acceptance(mine, len(arrival.events) - len(mine)))
    return verdicts


def _arrived(scribe: Scribe, entry: tuple[UUID, UUID, Arrival, OrderEvent], *, new_event: bool) -> Record:
    event_id, raw_id, arrival, event = entry
    return scribe.record(
        AuditType.INGEST_ACCEPTED if new_event else AuditType.INGEST_DUPLICATE,
        object_=("event", str(event_id)),
        stream=(str(event_id), 1),
        at=arrival.at,
        occurred_at=event.occurred_at,
        source=Source(kind=_DOORS[event.trigger], id=event.source, ip=arrival.remote or None),
        actor=arrival.actor,
        outcome={"status": "success", "trigger": event.trigger.value},
        corr={"request_id": str(raw_id), **arrival.corr, **({"corrects": event.corrects} if event.corrects else {})},
    )


async def note_rejected(pool: Pool, scribe: Scribe, *, source: str, remote: str, code: str, at: datetime) -> None:
    """Record that a request was refused at the door; its content is not kept."""
    rejection = new_id()
    record = scribe.record(
        AuditType.INGEST_REJECTED,
        object_=("request", str(rejection)),
        stream=(str(rejection), 1),
        at=at,
        source=Source(kind="webhook", id=source, ip=remote or None),
        outcome={"status": "failure", "code": code},
    )
    async with pool.acquire() as connection, connection.transaction():
        await emit(connection, [record])


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one run, and the reason when what was sent is to be sent again."""

    event_ids: Sequence[UUID]
    resend: str


async def waiting(pool: Pool) -> int:
    """Return how many events wait for a batch."""
    count: int = await pool.fetchval("SELECT count(*) FROM event WHERE waits")
    return count


async def claim(
    pool: Pool, *, owner: str, at: datetime, limit: int = GROUP, batch_id: UUID | None = None, flow_run_id: str = ""
) -> tuple[UUID, int] | None:
    """Put up to ``limit`` waiting events into a new batch of ``owner``; None when nothing waits.

    ``batch_id`` is an id drawn before, ``flow_run_id`` the run that will work on it, where they are known.
    """
    batch_id = batch_id or new_id()
    size = await pool.fetchval(
        "WITH picked AS (SELECT id FROM event WHERE waits ORDER BY id LIMIT $1"
        " FOR UPDATE SKIP LOCKED),"
        " moved AS (UPDATE event SET state = 'claimed', batch_id = $2 FROM picked"
        " WHERE event.id = picked.id RETURNING event.id)"
        " INSERT INTO batch (id, kind, event_ids, created_at, owner, lease_until, flow_run_id)"
        " SELECT $2, $3, array_agg(id ORDER BY id), $4, $5, $6, $7 FROM moved HAVING count(*) > 0"
        " RETURNING cardinality(event_ids)",
        limit,
        batch_id,
        BatchKind.ARRIVED.value,
        at,
        owner,
        at + LEASE,
        flow_run_id,
    )
    return None if size is None else (batch_id, size)


async def claim_due(pool: Pool, *, owner: str, limit: int, at: datetime) -> tuple[UUID, int] | None:
    """Make a batch of events whose deliveries are due again and in nobody's hands; None when none is."""
    batch_id = new_id()
    size = await pool.fetchval(
        "WITH due AS (SELECT d.id, d.event_id FROM delivery d LEFT JOIN channel c ON c.platform = d.platform"
        "   WHERE d.due_at <= $4 AND coalesce(c.stopped_code, '') = ''"
        # On the wire of an open batch, or left there by one that was closed without an outcome?
        "   AND (d.status <> 'sending' OR NOT EXISTS (SELECT 1 FROM batch s"
        "     WHERE s.id::text = d.sender AND s.finished_at IS NULL))"
        "   AND NOT EXISTS (SELECT 1 FROM event e JOIN batch b ON b.id = e.batch_id"
        "     WHERE e.id = d.event_id AND b.finished_at IS NULL)"
        "   ORDER BY d.due_at LIMIT $1 FOR UPDATE OF d SKIP LOCKED),"
        " moved AS (UPDATE event SET batch_id = $2 FROM (SELECT DISTINCT event_id FROM due) one"
        "   WHERE event.id = one.event_id RETURNING event.id)"
        " INSERT INTO batch (id, kind, event_ids, created_at, owner, lease_until)"
        " SELECT $2, $3, array_agg(id ORDER BY id), $4, $5, $6 FROM moved HAVING count(*) > 0"
        " RETURNING cardinality(event_ids)",
        limit,
        batch_id,
        BatchKind.DUE.value,
        at,
        owner,
        at + LEASE,
    )
    return None if size is None else (batch_id, size)


async def take_over(pool: Pool, *, owner: str, besides: Sequence[UUID], at: datetime) -> list[tuple[UUID, str]]:
    """Take every batch whose lease has run out; returns (batch, its dead flow run or '').

    ``besides``: those that this process works on. Their leases may run out in an outage of the database, and
    their runs go on all the same.
    """
    rows = await pool.fetch(
        "UPDATE batch SET owner = $1, lease_until = $2, kind = $3 FROM"
        " (SELECT id, flow_run_id FROM batch WHERE finished_at IS NULL AND lease_until < $4"
        "  AND id <> ALL($5) ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED) old"
        " WHERE batch.id = old.id RETURNING batch.id, old.flow_run_id",
        owner,
        at + LEASE,
        BatchKind.ABANDONED.value,
        at,
        list(besides),
    )
    return [(row["id"], row["flow_run_id"]) for row in rows]


async def note_run(pool: Pool, batch_id: UUID, *, flow_run_id: str) -> None:
    """Remember which flow run works on a batch, so that a dead one can be marked."""
    await pool.execute("UPDATE batch SET flow_run_id = $2 WHERE id = $1", batch_id, flow_run_id)


async def renew(pool: Pool, batch_ids: Sequence[UUID], *, owner: str, at: datetime) -> None:
    """Renew the leases of the batches that this process works on."""
    await pool.execute(
        "UPDATE batch SET lease_until = $3 WHERE id = ANY($1) AND owner = $2 AND finished_at IS NULL",
        batch_ids,
        owner,
        at + LEASE,
    )


async def note_failed(connection: Connection, batch_id: UUID, *, at: datetime) -> int:
    """Let a batch whose run failed rest, longer each time; returns how often it has failed."""
    tries: int = await connection.fetchval(
        "UPDATE batch SET tries = tries + 1,"
        " lease_until = $2::timestamptz + interval '1 second' * power(2, least(tries, 8)) WHERE id = $1"
        " RETURNING tries",
        batch_id,
        at,
    )
    return tries


async def hand_back(pool: Pool, *, owner: str, at: datetime) -> int:
    """End the leases of a process that stops, so that the next one takes its batches at once."""
    done = await pool.execute(
        "UPDATE batch SET lease_until = $2 WHERE owner = $1 AND finished_at IS NULL",
        owner,
        at - timedelta(seconds=1),
    )
    return int(done.split()[-1])


async def open_batch(pool: Pool, batch_id: UUID, *, owner: str, at: datetime) -> bool:
    """Take a batch for this run; False when another live worker holds it.

    A finished batch can be opened again (a rerun from the Prefect UI): only what is unfinished is done.
    """
    taken = await pool.fetchval(
        "UPDATE batch SET owner = $2, lease_until = $3, finished_at = NULL"
        " WHERE id = $1 AND (owner = $2 OR lease_until < $4 OR finished_at IS NOT NULL) RETURNING true",
        batch_id,
        owner,
        at + LEASE,
        at,
    )
    return bool(taken)


async def top_up(pool: Pool, batch_id: UUID) -> Batch:
    """Take what arrived since a batch was made along with it, up to `GROUP` events; returns the batch.

    Under load that is most of what waits. A batch whose work has begun stays as it is.
    """
    row = await pool.fetchrow(
        "WITH mine AS (SELECT b.id, $2 - cardinality(b.event_ids) AS room FROM batch b JOIN event e"
        " ON e.id = b.event_ids[1] WHERE b.id = $1 AND b.kind = $3 AND e.state = 'claimed'),"
        " picked AS (SELECT id FROM event WHERE waits ORDER BY id"
        " LIMIT greatest(0, coalesce((SELECT room FROM mine), 0)) FOR UPDATE SKIP LOCKED),"
        " moved AS (UPDATE event SET state = 'claimed', batch_id = $1 FROM picked"
        " WHERE event.id = picked.id RETURNING event.id)"
        " UPDATE batch SET event_ids = event_ids || coalesce((SELECT array_agg(id ORDER BY id) FROM moved), '{}')"
        " WHERE id = $1 RETURNING event_ids, resend",
        batch_id,
        GROUP,
        BatchKind.ARRIVED.value,
    )
    return _batch(row)


async def request(
    pool: Pool,
    scribe: Scribe,
    event_ids: Sequence[UUID],
    *,
    run_id: UUID,
    owner: str,
    at: datetime,
    resend: str = "",
) -> UUID:
    """Make the batch of a run in which a person named events; a retry of that run finds the same batch.

    A retry resends nothing again: what a resend makes is numbered by the batches that resend, and this is one.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO batch (id, kind, event_ids, created_at, owner, lease_until, flow_run_id, resend)"
            " SELECT $1::uuid, $2, array_agg(id ORDER BY id), $4, $5, $6, $1::uuid::text, $7 FROM event"
            " WHERE id = ANY($3)"
            " HAVING count(*) > 0"
            " ON CONFLICT (id) DO UPDATE SET owner = $5, lease_until = $6, finished_at = NULL",
            run_id,
            BatchKind.REQUESTED.value,
            list(event_ids),
            at,
            owner,
            at + LEASE,
            resend,
        )
        # What waits, or was held for a reason that may be gone, gets another chance.
        await connection.execute(
            "UPDATE event SET state = 'claimed', batch_id = $2 WHERE id = ANY($1) AND state = 'waiting'",
            list(event_ids),
            run_id,
        )
        await release(connection, scribe, event_ids, code="asked_by_person", at=at, batch_id=run_id)
    return run_id


async def read_batch(pool: Pool, batch_id: UUID) -> Batch:
    """Return a batch; one that does not exist has no events."""
    row = await pool.fetchrow("SELECT event_ids, resend FROM batch WHERE id = $1", batch_id)
    return _batch(row)


def _batch(row: asyncpg.Record | None) -> Batch:
    return Batch(row["event_ids"], row["resend"]) if row else Batch([], "")


async def counts(pool: Pool, batch_id: UUID) -> dict[str, int]:
    """Return how the events and deliveries of a batch stand, by state, and by platform and status."""
    rows = await pool.fetch(
        "WITH mine AS (SELECT unnest(event_ids) AS id FROM batch WHERE id = $1)"
        " SELECT 'event ' || e.state AS what, count(*) FROM event e JOIN mine USING (id) GROUP BY 1"
        " UNION ALL SELECT d.platform || ' ' || d.status, count(*) FROM delivery d"
        " JOIN mine ON mine.id = d.event_id GROUP BY 1"
        " UNION ALL SELECT 'suppressed ' || s.reason, count(*) FROM suppression s"
        " JOIN mine ON mine.id = s.event_id GROUP BY 1",
        batch_id,
    )
    return {row["what"]: row["count"] for row in rows}


async def release_dead(pool: Pool, *, host: str, alive: Callable[[int], bool], at: datetime) -> None:
    """End the leases of processes of this machine that are no more, instead of waiting for them to run out."""
    rows = await pool.fetch("SELECT DISTINCT owner FROM batch WHERE finished_at IS NULL AND owner <> ''")
    for row in rows:
        name, pid, _ = row["owner"].rsplit(":", 2)
        if name == host and not alive(int(pid)):
            await hand_back(pool, owner=row["owner"], at=at)


async def finish(connection: Connection, batch_id: UUID, *, at: datetime) -> None:
    """Close a batch and those of its events that need nothing more in this run."""
    await connection.execute(
        "UPDATE event SET state = 'closed' WHERE state = 'planned' AND id = ANY("
        "(SELECT event_ids FROM batch WHERE id = $1)::uuid[])",
        batch_id,
    )
    await connection.execute("UPDATE batch SET finished_at = $2 WHERE id = $1", batch_id, at)
