"""Portal requests: drafted and posted by a person, each row with its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg

from ordernotify.core.audit import Actor, AuditType, Source
from ordernotify.core.portal import Refused, UpdateReason
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import PORTAL, Connection, Pool

_DRAFTS_LAST = timedelta(days=1)


class RequestState(StrEnum):
    """Where a request stands."""

    DRAFT = "draft"  # shown to its author, told to nobody
    POSTED = "posted"  # a flow run takes it
    DONE = "done"  # each row has its result


class RowState(StrEnum):
    """What became of a row."""

    OPEN = "open"
    ACCEPTED = "accepted"  # an event of the pipeline now
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asked for."""

    id: UUID
    actor: Actor
    door: str
    remote: str
    reason: UpdateReason
    note: str
    state: RequestState
    created_at: datetime
    posted_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """A row as it was given, with its order, or why it is refused. ``known`` is the order's status that decided."""

    number: int
    content: Mapping[str, str]
    order_id: UUID | None = None
    refused: Refused | None = None
    known: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row with what became of it; ``event_state`` and ``told`` are the pipeline's and say how far it got."""

    number: int
    content: Mapping[str, str]
    order_id: UUID | None
    state: RowState
    problem: str
    field: str
    known: str
    event_id: UUID | None
    event_state: str = ""
    event_reason: str = ""


async def draft(
    pool: Pool,
    scribe: Scribe,
    *,
    request_id: UUID,
    actor: Actor,
    door: str,
    remote: str,
    reason: UpdateReason,
    note: str,
    rows: Sequence[NewRow],
    at: datetime,
    post: bool = False,
) -> bool:
    """Store a request with its rows, and ``post`` it at once; False, and nothing is done, when its id is known."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "DELETE FROM portal_request WHERE state = 'draft' AND created_at < $1", at - _DRAFTS_LAST
        )
        made = await connection.fetchval(
            "INSERT INTO portal_request (id, actor_kind, actor_id, door, remote, reason, note, created_at, lease_until)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (id) DO NOTHING RETURNING true",
            request_id,
            actor.kind,
            actor.id,
            door,
            remote,
            reason.value,
            note,
            at,
        )
        if not made:
            return False
        await connection.execute(
            "INSERT INTO portal_row (request_id, number, content, order_id, state, problem, field, known)"
            " SELECT $1, * FROM unnest($2::int[], $3::jsonb[], $4::uuid[], $5::text[], $6::text[], $7::text[],"
            " $8::text[])",
            request_id,
            [row.number for row in rows],
            [dict(row.content) for row in rows],
            [row.order_id for row in rows],
            [RowState.REFUSED.value if row.refused else RowState.OPEN.value for row in rows],
            [row.refused.problem.value if row.refused else "" for row in rows],
            [row.refused.field if row.refused else "" for row in rows],
            [row.known for row in rows],
        )
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.INGEST_RECEIVED,
                    object_=("portal_request", str(request_id)),
                    stream=(str(request_id), 1),
                    at=at,
                    actor=actor,
                    source=Source(kind=actor.kind, id=actor.id, ip=remote or None),
                    outcome={"status": "success", "code": "portal_draft", "door": door, "reason": reason.value},
                    data={"rows": len(rows), "refused": sum(row.refused is not None for row in rows)},
                )
            ],
        )
        if post:
            await _post(connection, scribe, request_id, actor=actor, remote=remote, at=at)
    return True


async def post(pool: Pool, scribe: Scribe, request_id: UUID, *, actor: Actor, remote: str, at: datetime) -> bool:
    """Post a draft of ``actor`` and wake the workers; after it the request is durable. False when there is none."""
    async with pool.acquire() as connection, connection.transaction():
        return await _post(connection, scribe, request_id, actor=actor, remote=remote, at=at)


async def _post(
    connection: Connection, scribe: Scribe, request_id: UUID, *, actor: Actor, remote: str, at: datetime
) -> bool:
    version = await connection.fetchval(
        "UPDATE portal_request SET state = 'posted', posted_at = $2, lease_until = $2, version = version + 1"
        " WHERE id = $1 AND state = 'draft' AND actor_kind = $3 AND actor_id = $4 RETURNING version",
        request_id,
        at,
        actor.kind,
        actor.id,
    )
    if version is None:
        return False
    await emit(
        connection,
        [
            scribe.record(
                AuditType.INGEST_ACCEPTED,
                object_=("portal_request", str(request_id)),
                stream=(str(request_id), version),
                at=at,
                actor=actor,
                source=Source(kind=actor.kind, id=actor.id, ip=remote or None),
                outcome={"status": "success", "code": "portal_posted"},
            )
        ],
    )
    await connection.execute("SELECT pg_notify($1, '')", PORTAL)
    return True


async def read(pool: Pool, request_id: UUID) -> Request | None:
    """Return a request, None for an id that is none."""
    row = await pool.fetchrow("SELECT * FROM portal_request WHERE id = $1", request_id)
    return None if row is None else _request(row)


async def latest(pool: Pool, *, limit: int = 50) -> list[tuple[Request, int]]:
    """Return the newest requests that were posted, each with how many rows it has."""
    rows = await pool.fetch(
        "SELECT r.*, (SELECT count(*) FROM portal_row w WHERE w.request_id = r.id) AS rows FROM portal_request r"
        " WHERE r.state <> 'draft' ORDER BY r.created_at DESC LIMIT $1",
        limit,
    )
    return [(_request(row), row["rows"]) for row in rows]


async def rows_of(
    pool: Pool, request_id: UUID, *, state: RowState | None = None, after: int = 0, limit: int = 1_000_000
) -> list[Row]:
    """Return rows of a request in their order, those after a number, in one state or in any."""
    found = await pool.fetch(
        "SELECT w.*, coalesce(e.state, '') AS event_state, coalesce(e.reason, '') AS event_reason FROM portal_row w"
        " LEFT JOIN event e ON e.id = w.event_id WHERE w.request_id = $1 AND ($2::text IS NULL OR w.state = $2)"
        " AND w.number > $3 ORDER BY w.number LIMIT $4",
        request_id,
        state.value if state else None,
        after,
        limit,
    )
    return [
        Row(
            number=row["number"],
            content=row["content"],
            order_id=row["order_id"],
            state=RowState(row["state"]),
            problem=row["problem"],
            field=row["field"],
            known=row["known"],
            event_id=row["event_id"],
            event_state=row["event_state"],
            event_reason=row["event_reason"],
        )
        for row in found
    ]


async def tally(pool: Pool, request_id: UUID) -> dict[str, int]:
    """Return how many rows of a request stand how."""
    rows = await pool.fetch("SELECT state, count(*) FROM portal_row WHERE request_id = $1 GROUP BY 1", request_id)
    return {row["state"]: row["count"] for row in rows}


async def deliveries_tally(pool: Pool, request_id: UUID) -> list[dict[str, Any]]:
    """Return the deliveries that a request led to, by platform and status."""
    rows = await pool.fetch(
        "SELECT d.platform, d.status, count(*) FROM portal_row w JOIN delivery d ON d.event_id = w.event_id"
        " WHERE w.request_id = $1 GROUP BY 1, 2 ORDER BY 1, 2",
        request_id,
    )
    return [dict(row) for row in rows]


def dedupe_key(request_id: UUID, number: int) -> str:
    """Return the key under which the event of a row exists once."""
    return f"{request_id}/{number}"


def _request(row: asyncpg.Record) -> Request:
    return Request(
        id=row["id"],
        actor=Actor(kind=row["actor_kind"], id=row["actor_id"]),
        door=row["door"],
        remote=row["remote"],
        reason=UpdateReason(row["reason"]),
        note=row["note"],
        state=RequestState(row["state"]),
        created_at=row["created_at"],
        posted_at=row["posted_at"],
        finished_at=row["finished_at"],
    )
