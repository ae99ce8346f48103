"""Shipments: which parcels are followed, which are to be asked about now, and who asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from ordernotify.carriers import carrier_of
from ordernotify.clock import new_id
from ordernotify.core.following import GIVEN_UP, Stage
from ordernotify.core.tracking import normal_number
from ordernotify.store.audit import Scribe
from ordernotify.store.database import Connection, Pool
from ordernotify.store.incidents import Incident, IncidentKind, close_incidents, open_incidents

# Nobody is asked about a parcel of an order that has ended by another's word than its carrier's.
_OPEN = (
    "s.order_id IS NOT NULL AND (s.stage = 'done' OR EXISTS (SELECT 1 FROM orders o WHERE o.id = s.order_id"
    " AND o.status NOT IN ('delivered', 'returned', 'cancelled')))"
)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A tracking number that an order's source named, and what it calls the carrier."""

    order_id: UUID
    tracking_no: str
    named: str


@dataclass(frozen=True, slots=True)
class Due:
    """A shipment to ask about, held under a lease; ``tries`` counts the questions without an answer."""

    id: UUID
    tracking_no: str
    tries: int


@dataclass(frozen=True, slots=True)
class Share:
    """Which shipments one carrier or service is asked about: its own, and with ``rest`` those of nobody else.

    ``others`` are the carriers that are configured besides. ``followed_first``: it can be asked only about what
    it was told to report.
    """

    carrier: str
    rest: bool
    others: tuple[str, ...]
    followed_first: bool = False


async def make(connection: Connection, parcels: Sequence[Parcel], *, at: datetime) -> None:
    """Follow these parcels from now on; those that are followed already are left alone."""
    numbers = [(parcel, number) for parcel in parcels if (number := normal_number(parcel.tracking_no))]
    if not numbers:
        return
    carriers = [carrier_of(number, named=parcel.named) for parcel, number in numbers]
    await connection.execute(
        "INSERT INTO shipment (id, order_id, tracking_no, carrier, since, next_question_at)"
        " SELECT *, $5, $5 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING",
        [new_id() for _ in numbers],
        [parcel.order_id for parcel, _ in numbers],
        [number for _, number in numbers],
        [carrier.name if carrier else "" for carrier in carriers],
        at,
    )


async def keep_unplaced(connection: Connection, numbers: Sequence[str], *, carrier: str, at: datetime) -> None:
    """Keep numbers that no order is known to have, with what is told of them, until an order names them."""
    await connection.execute(
        "INSERT INTO shipment (id, tracking_no, carrier, since)"
        " SELECT id, number, $3, $4 FROM unnest($1::uuid[], $2::text[]) AS new(id, number)"
        " WHERE NOT EXISTS (SELECT 1 FROM shipment s WHERE s.tracking_no = number) ON CONFLICT DO NOTHING",
        [new_id() for _ in numbers],
        numbers,
        carrier,
        at,
    )


async def of_numbers(connection: Connection, numbers: Sequence[str]) -> dict[str, list[UUID]]:
    """Return the shipments of each number: those of orders, else the one that is kept until an order names it.

    The latter is locked. One that was given to its order meanwhile is left out: ask again.
    """
    rows = await connection.fetch(
        "SELECT id, tracking_no, order_id FROM shipment WHERE tracking_no = ANY($1) ORDER BY id", numbers
    )
    placed = {row["tracking_no"] for row in rows if row["order_id"]}
    kept = await connection.fetch(
        "SELECT id FROM shipment WHERE id = ANY($1) ORDER BY id FOR UPDATE",
        [row["id"] for row in rows if row["tracking_no"] not in placed],
    )
    there = {row["id"] for row in kept}
    found: dict[str, list[UUID]] = {}
    for row in rows:
        if row["order_id"] or row["id"] in there:
            found.setdefault(row["tracking_no"], []).append(row["id"])
    return found


async def of_order(pool: Pool, order_no: str) -> list[dict[str, Any]]:
    """Return the shipments of the orders of that number, for people to read."""
    rows = await pool.fetch(
        "SELECT s.id, s.tracking_no, s.carrier, s.followed_by, s.stage, s.status, s.asked_at, s.next_question_at"
        " FROM shipment s JOIN orders o ON o.id = s.order_id WHERE o.order_no = $1 ORDER BY s.id",
        order_no,
    )
    return [dict(row) for row in rows]


async def unplaced_that_are_named(pool: Pool) -> list[tuple[UUID, UUID]]:
    """Return (kept until an order names it, the shipment of an order that does) for every such pair."""
    rows = await pool.fetch(
        "SELECT kept.id AS kept, s.id FROM shipment kept JOIN shipment s ON s.tracking_no = kept.tracking_no"
        " WHERE kept.order_id IS NULL AND s.order_id IS NOT NULL ORDER BY s.id LIMIT 1000"
    )
    return [(row["kept"], row["id"]) for row in rows]


async def drop_unplaced(connection: Connection, shipment_ids: Sequence[UUID]) -> None:
    """Forget numbers that were kept until an order named them: its own shipment has heard what was told."""
    await connection.execute("DELETE FROM tracking_event WHERE shipment_id = ANY($1)", shipment_ids)
    await connection.execute("DELETE FROM shipment WHERE id = ANY($1) AND order_id IS NULL", shipment_ids)


# ---- questions ----


async def carriers_due(pool: Pool, *, at: datetime) -> set[str]:
    """Return whose shipments are to be asked about now, '' among them for shipments of no carrier we know."""
    rows = await pool.fetch(
        f"SELECT DISTINCT carrier FROM shipment s WHERE next_question_at <= $1 AND {_OPEN}",  # noqa: S608 - ours
        at,
    )
    return {row["carrier"] for row in rows}


async def claim(pool: Pool, share: Share, *, limit: int, lease: timedelta, at: datetime) -> list[Due]:
    """Take up to ``limit`` shipments that are due and in nobody's hands, the longest waiting first."""
    rows = await pool.fetch(
        "UPDATE shipment SET lease_until = $5 FROM (SELECT id FROM shipment s WHERE next_question_at <= $4"  # noqa: S608 - ours
        f"  AND {_OPEN} AND (carrier = $1 OR ($2 AND carrier <> ALL($3)))"
        "  AND (NOT $7 OR followed_by = $1) AND (lease_until IS NULL OR lease_until < $4)"
        "  ORDER BY next_question_at, id LIMIT $6 FOR UPDATE SKIP LOCKED) due"
        " WHERE shipment.id = due.id RETURNING shipment.id, shipment.tracking_no, shipment.tries",
        share.carrier,
        share.rest,
        list(share.others),
        at,
        at + lease,
        limit,
        share.followed_first,
    )
    return [Due(row["id"], row["tracking_no"], row["tries"]) for row in rows]


async def claim_named(pool: Pool, shipment_id: UUID, *, lease: timedelta, at: datetime) -> tuple[Due, str] | None:
    """Take one shipment that a person named, due or not, with its carrier; None while another run has it."""
    row = await pool.fetchrow(
        "UPDATE shipment SET lease_until = $3 WHERE id = $1 AND order_id IS NOT NULL"
        " AND (lease_until IS NULL OR lease_until < $2) RETURNING id, tracking_no, tries, carrier",
        shipment_id,
        at,
        at + lease,
    )
    return None if row is None else (Due(row["id"], row["tracking_no"], row["tries"]), row["carrier"])


async def postpone(pool: Pool, due: Mapping[UUID, datetime], *, tried: bool) -> None:
    """Ask about each of these shipments again at its time; ``tried``: a question was asked and got no facts."""
    await pool.execute(
        "UPDATE shipment SET next_question_at = later.at, lease_until = NULL, tries = least(tries + $3, 30)"
        " FROM unnest($1::uuid[], $2::timestamptz[]) AS later(id, at) WHERE shipment.id = later.id",
        list(due),
        list(due.values()),
        int(tried),
    )


async def release(pool: Pool, shipment_ids: Sequence[UUID]) -> None:
    """End the leases of shipments that nobody can be asked about."""
    await pool.execute("UPDATE shipment SET lease_until = NULL WHERE id = ANY($1)", shipment_ids)


async def ask_now(connection: Connection, numbers: Sequence[str], *, at: datetime) -> None:
    """Let these numbers be asked about at the next opportunity: somebody said that there is more to know."""
    await connection.execute(
        "UPDATE shipment SET next_question_at = $2 WHERE tracking_no = ANY($1) AND order_id IS NOT NULL", numbers, at
    )


async def note_refused(
    pool: Pool, scribe: Scribe, kind: IncidentKind, subjects: Mapping[str, str], *, at: datetime
) -> None:
    """Open an incident for each subject (a carrier, or a shipment) with the code of what refused it."""
    async with pool.acquire() as connection, connection.transaction():
        await open_incidents(
            connection, scribe, [Incident(kind, subject, code=code) for subject, code in subjects.items()], at=at
        )


async def note_answered(connection: Connection, scribe: Scribe, carrier: str, *, at: datetime) -> None:
    """Close the incident about a carrier that answers again."""
    await close_incidents(connection, scribe, [IncidentKind.CARRIER_STOPPED], [carrier], at=at)


# ---- being told ----


async def to_follow(pool: Pool, share: Share, *, limit: int, at: datetime) -> list[tuple[UUID, str]]:
    """Return shipments that a carrier was not asked to report, or whose promise to report ends; and their numbers."""
    rows = await pool.fetch(
        f"SELECT id, tracking_no FROM shipment s WHERE {_OPEN} AND next_question_at IS NOT NULL"  # noqa: S608 - ours
        " AND stage <> $6 AND (carrier = $1 OR ($2 AND carrier <> ALL($3)))"
        " AND (followed_by <> $1 OR follow_again_at <= $4) ORDER BY since, id LIMIT $5",
        share.carrier,
        share.rest,
        list(share.others),
        at,
        limit,
        Stage.DONE.value,
    )
    return [(row["id"], row["tracking_no"]) for row in rows]


async def note_followed(pool: Pool, carrier: str, again_at: Mapping[UUID, datetime | None]) -> None:
    """Remember that a carrier was asked to report these shipments, and when it must be asked anew."""
    await pool.execute(
        "UPDATE shipment SET followed_by = $3, follow_again_at = told.at"
        " FROM unnest($1::uuid[], $2::timestamptz[]) AS told(id, at) WHERE shipment.id = told.id",
        list(again_at),
        list(again_at.values()),
        carrier,
    )


# ---- silence ----


async def still_open(pool: Pool, *, after: UUID | None, limit: int) -> list[UUID]:
    """Return the next shipments of orders that have neither ended nor been given up, in the order of their ids."""
    rows = await pool.fetch(
        f"SELECT id FROM shipment s WHERE {_OPEN} AND stage <> $1 AND ($2::uuid IS NULL OR id > $2)"  # noqa: S608 - ours
        " AND (next_question_at IS NOT NULL OR NOT EXISTS"
        "  (SELECT 1 FROM tracking_event t WHERE t.shipment_id = s.id AND t.raw_code = $4))"
        " ORDER BY id LIMIT $3",
        Stage.DONE.value,
        after,
        limit,
        GIVEN_UP,
    )
    return [row["id"] for row in rows]
