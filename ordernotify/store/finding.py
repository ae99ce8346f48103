"""Finding orders: for a person who looks for one, and for rows that name many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from ordernotify.core.portal import Placed, Problem, Refused, Update
from ordernotify.store.database import Pool
from ordernotify.store.orders import state_of

_MOST_FOUND = 100


@dataclass(frozen=True, slots=True)
class FoundOrder:
    """An order as a list shows it."""

    id: UUID
    order_no: str
    client_name: str
    status: str
    status_at: datetime
    tracking_no: str


async def find_orders(pool: Pool, *, text: str = "", status: str = "") -> list[FoundOrder]:
    """Return the orders whose number, client or tracking number holds ``text``, newest change first, at most 100."""
    pattern = "%" + text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
    rows = await pool.fetch(
        "SELECT o.id, o.order_no, c.name AS client_name, o.status, o.status_at, o.tracking_no FROM orders o"
        " JOIN client c ON c.id = o.client_id WHERE o.version > 0 AND ($2 = '' OR o.status = $2)"
        " AND ($3 = '' OR o.order_no ILIKE $1 OR o.tracking_no ILIKE $1 OR o.client_id ILIKE $1 OR c.name ILIKE $1)"
        " ORDER BY o.order_no = $3 DESC, o.status_at DESC, o.id LIMIT $4",
        pattern,
        status,
        text,
        _MOST_FOUND,
    )
    return [FoundOrder(*row.values()) for row in rows]


# The event that clients were last told of: what a correction takes back.
_LAST_EVENT = (
    "(SELECT e.id FROM event e WHERE e.order_id = o.id AND e.state IN ('admitted', 'planned', 'closed')"
    " ORDER BY e.occurred_at DESC, e.id DESC LIMIT 1) AS last_event"
)
_STATE = "o.status, o.status_at, o.carrier, o.tracking_no, o.promised_date, o.detail"


async def orders_by_id(pool: Pool, order_ids: Sequence[UUID]) -> dict[UUID, Placed]:
    """Return what is known of these orders now."""
    rows = await pool.fetch(
        f"SELECT o.id, o.client_id, o.order_no, {_STATE}, {_LAST_EVENT} FROM orders o"  # noqa: S608 - the literals above
        " WHERE o.id = ANY($1) AND o.version > 0",
        order_ids,
    )
    return {row["id"]: _placed(row) for row in rows}


async def place(pool: Pool, updates: Sequence[Update]) -> list[Placed | Refused]:
    """Return the order that each update is about, or why that cannot be said; the client may be its id or its name."""
    numbers = list(range(len(updates)))
    rows = await pool.fetch(
        "SELECT wanted.place, o.id, o.client_id, o.order_no, "  # noqa: S608 - the literals above
        f"{_STATE}, {_LAST_EVENT} FROM unnest($1::int[], $2::text[], $3::text[]) AS wanted(place, order_no, client)"
        " JOIN orders o ON o.order_no = wanted.order_no AND o.version > 0 JOIN client c ON c.id = o.client_id"
        " WHERE wanted.client = '' OR wanted.client = o.client_id OR lower(wanted.client) = lower(c.name)",
        numbers,
        [update.order_no for update in updates],
        [update.client for update in updates],
    )
    found: dict[int, list[Placed]] = {}
    for row in rows:
        found.setdefault(row["place"], []).append(_placed(row))
    return [_one(found.get(number, [])) for number in numbers]


def _one(matches: Sequence[Placed]) -> Placed | Refused:
    if not matches:
        return Refused(Problem.ORDER_UNKNOWN, "order_no")
    return matches[0] if len(matches) == 1 else Refused(Problem.CLIENT_NEEDED, "client")


def _placed(row: asyncpg.Record) -> Placed:
    return Placed(
        order_id=row["id"],
        client_id=row["client_id"],
        order_no=row["order_no"],
        state=state_of(row),
        last_event=row["last_event"],
    )


async def order_page(pool: Pool, order_id: UUID) -> dict[str, Any] | None:
    """Return everything that a person may see of one order: facts, events, deliveries and what was held back."""
    order = await pool.fetchrow(
        "SELECT o.*, c.name AS client_name FROM orders o JOIN client c ON c.id = o.client_id"
        " WHERE o.id = $1 AND o.version > 0",
        order_id,
    )
    if order is None:
        return None
    events = await pool.fetch(
        "SELECT id, source, trigger, status, state, reason, occurred_at, content ->> 'corrects' AS corrects"
        " FROM event WHERE order_id = $1 ORDER BY occurred_at DESC, id DESC",
        order_id,
    )
    return {
        **dict(order),
        "events": [dict(row) for row in events],
        **await told_of(pool, [row["id"] for row in events]),
    }


async def told_of(pool: Pool, event_ids: Sequence[UUID]) -> Mapping[str, list[dict[str, Any]]]:
    """Return the deliveries of events and what was held back, with the names of the people."""
    deliveries = await pool.fetch(
        "SELECT d.id, d.event_id, d.platform, d.channel, d.template, d.verdict, d.rules, d.status, d.status_at,"
        " d.attempts, d.code, d.corrects, d.next_attempt_at, r.name AS recipient_name FROM delivery d"
        " JOIN recipient r ON r.id = d.recipient_id WHERE d.event_id = ANY($1) ORDER BY d.id",
        event_ids,
    )
    suppressions = await pool.fetch(
        "SELECT s.event_id, s.platform, s.reason, s.rules, s.at, r.name AS recipient_name FROM suppression s"
        " JOIN recipient r ON r.id = s.recipient_id WHERE s.event_id = ANY($1) ORDER BY s.at, s.id",
        event_ids,
    )
    return {"deliveries": [dict(row) for row in deliveries], "suppressions": [dict(row) for row in suppressions]}


async def open_incidents_page(pool: Pool) -> list[dict[str, Any]]:
    """Return what waits for a person, oldest first, at most 200."""
    rows = await pool.fetch(
        "SELECT i.id, i.kind, i.code, i.opened_at, i.times, i.order_id, o.order_no FROM incident i"
        " LEFT JOIN orders o ON o.id = i.order_id WHERE i.closed_at IS NULL ORDER BY i.opened_at LIMIT 200"
    )
    return [dict(row) for row in rows]
