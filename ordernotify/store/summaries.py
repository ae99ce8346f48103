"""Summaries: whose are due, and how their orders stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import asyncpg

from ordernotify.core.events import OrderStatus
from ordernotify.core.policy import OrderFacts
from ordernotify.core.summaries import CLOSED, Standing, due
from ordernotify.store.database import Pool
from ordernotify.store.plans import facts_of

# An order that closed this long before its summary was told of then.
_NEWS_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class DueClient:
    """A client whose summary of ``day`` is due; ``covered_until`` is where its last one ended."""

    id: str
    name: str
    zone: ZoneInfo
    day: date
    covered_until: datetime


async def due_clients(pool: Pool, *, at: datetime, early: bool = False) -> list[DueClient]:
    """Return the clients whose summary is due, in the order of their ids; with ``early`` before its hour too."""
    rows = await pool.fetch(
        "SELECT c.id, c.name, c.time_zone, c.summary_at, c.created_at, s.day, s.covers_until FROM client c"
        " LEFT JOIN LATERAL (SELECT day, covers_until FROM summary WHERE client_id = c.id"
        " ORDER BY day DESC LIMIT 1) s ON true WHERE c.summary_at <> '' ORDER BY c.id"
    )
    found = []
    for row in rows:
        zone = ZoneInfo(row["time_zone"])
        day = _today(row, zone, at) if early else _due(row, zone, at)
        if day is not None:
            since = row["covers_until"] or row["created_at"]
            found.append(DueClient(row["id"], row["name"], zone, day, since))
    return found


def _due(row: asyncpg.Record, zone: ZoneInfo, at: datetime) -> date | None:
    return due(zone, at, time.fromisoformat(row["summary_at"]), row["day"], since=row["created_at"])


def _today(row: asyncpg.Record, zone: ZoneInfo, at: datetime) -> date | None:
    today = at.astimezone(zone).date()
    return today if row["day"] is None or today > row["day"] else None


async def orders_of(pool: Pool, clients: Sequence[DueClient], *, at: datetime) -> dict[str, list[asyncpg.Record]]:
    """Return the orders of clients, for ``standings``: the open ones, and those that changed since the last summary."""
    rows = await pool.fetch(
        "SELECT * FROM (SELECT o.client_id, o.order_no, o.label, o.categories, o.ldc, o.jurisdiction, o.contract_id,"
        # While an order is held, clients are told that it is under review, and nothing further.
        " CASE WHEN h.id IS NULL THEN o.status ELSE $6 END AS status, coalesce(h.opened_at, o.status_at) AS status_at,"
        " CASE WHEN h.id IS NULL THEN o.promised_date ELSE '' END AS promised_date,"
        " CASE WHEN h.id IS NULL THEN o.carrier ELSE '' END AS carrier,"
        " CASE WHEN h.id IS NULL THEN o.tracking_no ELSE '' END AS tracking_no,"
        " CASE WHEN h.id IS NOT NULL THEN h.opened_at > c.since ELSE EXISTS (SELECT 1 FROM event e"
        "  WHERE e.order_id = o.id AND e.received_at > c.since AND e.received_at <= $5"
        "  AND e.state IN ('admitted', 'planned', 'closed')) END AS changed"
        " FROM unnest($1::text[], $2::timestamptz[]) AS c(client_id, since) JOIN orders o USING (client_id)"
        " LEFT JOIN hold h ON h.order_id = o.id AND h.ended_at IS NULL"
        " WHERE o.version > 0 AND o.status <> 'unknown'"
        " AND (o.status <> ALL($3) OR h.id IS NOT NULL OR o.status_at > c.since - $4::interval)) found"
        " WHERE changed OR status <> ALL($3)",
        [client.id for client in clients],
        [client.covered_until for client in clients],
        [status.value for status in CLOSED],
        _NEWS_FOR,
        at,
        OrderStatus.REGULATORY_HOLD.value,
    )
    found: dict[str, list[asyncpg.Record]] = {}
    for row in rows:
        found.setdefault(row["client_id"], []).append(row)
    return found


def standings(rows: Sequence[asyncpg.Record], zone: ZoneInfo) -> list[Standing]:
    """Return how the orders of a client stand, by the client's own clock."""
    known: dict[tuple[str, ...], OrderFacts] = {}
    return [_standing(row, zone, known) for row in rows]


def _standing(row: asyncpg.Record, zone: ZoneInfo, known: dict[tuple[str, ...], OrderFacts]) -> Standing:
    key = (row["label"], *row["categories"], "", *row["ldc"], "", row["jurisdiction"], row["contract_id"])
    facts = known.get(key)
    if facts is None:
        facts = known[key] = facts_of(row)
    return Standing(
        order_no=row["order_no"],
        status=OrderStatus(row["status"]),
        since=row["status_at"].astimezone(zone).date(),
        promised_date=row["promised_date"],
        carrier=row["carrier"],
        tracking_no=row["tracking_no"],
        changed=row["changed"],
        facts=facts,
    )
