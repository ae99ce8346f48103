"""Questions about regulatory holds: which is open, which run asks it, and which has waited too long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from ordernotify.core.audit import AuditType
from ordernotify.core.holds import ON_HOLD
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import Pool
from ordernotify.store.holds import needed_by
from ordernotify.store.incidents import Incident, IncidentKind, open_incidents


@dataclass(frozen=True, slots=True)
class Asked:
    """A hold as the run that asks about it sees it: which question is open, and whether any is."""

    ask: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Attended:
    """A hold and the run that asks about it ('' for none); ``runs`` counts those there were."""

    hold_id: UUID
    flow_run_id: str
    runs: int
    ask: int
    ended: bool


async def ask_anew(pool: Pool, scribe: Scribe, *, lasts: timedelta, at: datetime) -> int:
    """Ask again about holds of which compliance was asked longer than ``lasts`` ago; returns how many.

    They stay held, what one of two persons had released counts no more, and an incident says that it takes too long.
    """
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "UPDATE hold SET asked_at = $2, round = round + 1, asks = asks + 1, version = version + 1"
            " WHERE id IN (SELECT id FROM hold WHERE ended_at IS NULL AND asked_at + $1::interval <= $2"
            " ORDER BY id FOR UPDATE SKIP LOCKED) RETURNING id, order_id, event_id, round, version",
            lasts,
            at,
        )
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.APPROVAL_REQUESTED,
                    object_=("hold", str(row["id"])),
                    stream=(f"hold:{row['id']}", row["version"]),
                    at=at,
                    outcome={"status": "success", "code": "overdue", "round": row["round"]},
                )
                for row in rows
            ],
        )
        await open_incidents(
            connection,
            scribe,
            [
                Incident(IncidentKind.REGULATORY_HOLD_OVERDUE, str(row["order_id"]), event_id=row["event_id"],
                         order_id=row["order_id"])
                for row in rows
            ],
            at=at,
        )  # fmt: skip
    return len(rows)


async def asked(pool: Pool, hold_id: UUID) -> Asked:
    """Return which question about a hold is open; a hold that nobody knows has ended."""
    row = await pool.fetchrow("SELECT asks, ended_at FROM hold WHERE id = $1", hold_id)
    return Asked(row["asks"], row["ended_at"] is not None) if row else Asked(0, ended=True)


async def pass_over(pool: Pool, hold_id: UUID, *, ask: int) -> None:
    """Close a question whose answer is none, so that the next one is asked."""
    await pool.execute("UPDATE hold SET asks = asks + 1 WHERE id = $1 AND asks = $2", hold_id, ask)


async def to_attend(pool: Pool) -> list[Attended]:
    """Return the holds that a run must ask about, and those that have ended while one still asks."""
    rows = await pool.fetch(
        "SELECT id, flow_run_id, runs, asks, ended_at FROM hold WHERE ended_at IS NULL OR flow_run_id <> '' ORDER BY id"
    )
    return [
        Attended(row["id"], row["flow_run_id"], row["runs"], row["asks"], row["ended_at"] is not None) for row in rows
    ]


async def note_hold_run(pool: Pool, hold_id: UUID, *, flow_run_id: str, runs: int) -> None:
    """Remember which run asks about a hold."""
    await pool.execute("UPDATE hold SET flow_run_id = $2, runs = $3 WHERE id = $1", hold_id, flow_run_id, runs)


async def open_holds(pool: Pool) -> list[dict[str, Any]]:
    """Return the open holds, oldest first, with their orders, who has released them, and what waits for their end."""
    rows = await pool.fetch(
        "SELECT h.id, h.opened_at, h.asked_at, o.order_no, o.client_id, o.label, o.categories, o.ldc, o.jurisdiction,"
        " coalesce(c.release_by_two, false) AS by_contract,"
        " ARRAY(SELECT v.person_id FROM hold_vote v WHERE v.hold_id = h.id AND v.round = h.round"
        "   AND v.decision = 'release' ORDER BY v.at) AS released_by,"
        " (SELECT count(*) FROM delivery d WHERE d.order_id = h.order_id AND d.status = 'deferred' AND d.code = $1)"
        "   AS waiting"
        " FROM hold h JOIN orders o ON o.id = h.order_id LEFT JOIN contract c ON c.id = o.contract_id"
        " WHERE h.ended_at IS NULL ORDER BY h.opened_at, h.id",
        ON_HOLD,
    )
    return [
        {
            "hold": row["id"],
            "order_no": row["order_no"],
            "client": row["client_id"],
            "held_since": row["opened_at"],
            "asked_at": row["asked_at"],
            "released_by": list(row["released_by"]),
            "needed": needed_by(row),
            "waiting": row["waiting"],
        }
        for row in rows
    ]
