"""Requests: what was asked for, previewed, posted, and what became of it row by row."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response

from ordernotify.clock import now
from ordernotify.core.people import Act
from ordernotify.core.portal import COLUMNS, REASONS, Problem, Update, event_of, explain, read_update
from ordernotify.previewing import Previewed, preview
from ordernotify.rendering import shipped
from ordernotify.store import finding, portal
from ordernotify.store.portal import Row, RowState
from ordernotify.web.portal.guard import LOOKS, Visitor, address_of, doorway_of, genuine, let_in
from ordernotify.web.portal.orders import read_id
from ordernotify.web.portal.views import HEADERS, PageRoute, as_words, moved, page, problem

router = APIRouter(prefix="/portal", include_in_schema=False, route_class=PageRoute)

_PAGE = 200
_REFRESH_S = 2
# What has not ended by then waits for a platform or a person; the page need not ask for it any more.
_REFRESHES_FOR = timedelta(minutes=5)
_UNDER_WAY: Final = frozenset({"waiting", "claimed", "admitted", "planned"})
_ON_THE_WAY: Final = frozenset({"planned", "authorized", "sending"})
# Text that a spreadsheet would take for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@router.get("/requests")
async def show_all(request: Request) -> Response:
    """List what was asked for, newest first."""
    visitor = await let_in(request, *LOOKS)
    if isinstance(visitor, Response):
        return visitor
    return page(
        "requests",
        visitor=visitor,
        here="requests",
        requests=await portal.latest(doorway_of(request).pool),
        reasons=REASONS,
    )


@router.get("/requests/{request_id}")
async def show(request: Request, request_id: str) -> Response:
    """Show a draft with the messages it would make, or a posted request with what became of it."""
    visitor = await let_in(request, *LOOKS)
    if isinstance(visitor, Response):
        return visitor
    asked = await _asked(request, request_id)
    if asked is None:
        return _missing(visitor)
    pool = doorway_of(request).pool
    shown = _state(request.query_params.get("show", ""))
    after = _number(request.query_params.get("after", ""))
    rows = await portal.rows_of(pool, asked.id, state=shown, after=after, limit=_PAGE + 1)
    counts = await portal.tally(pool, asked.id)
    values: dict[str, Any] = {
        "request": asked,
        "mine": asked.actor == visitor.actor,
        "reason": REASONS[asked.reason],
        "rows": [(row, _why(row)) for row in rows[:_PAGE]],
        "next": rows[_PAGE - 1].number if len(rows) > _PAGE else 0,
        "counts": counts,
        "total": sum(counts.values()),
        "show": shown.value if shown else "",
    }
    if asked.state is portal.RequestState.DRAFT:
        row = await _row_to_preview(request, asked.id)
        messages = await _preview(request, row) if row else []
        return page("draft", visitor=visitor, here="requests", row=row, messages=messages, **values)
    events = [row.event_id for row in rows if row.event_id]
    single = values["total"] == 1
    told = await finding.told_of(pool, events) if single else {"deliveries": [], "suppressions": []}
    tallies = await portal.deliveries_tally(pool, asked.id)
    moving = (
        asked.state is portal.RequestState.POSTED
        or any(row.event_state in _UNDER_WAY for row in rows)
        or any(entry["status"] in _ON_THE_WAY for entry in tallies)
    )
    fresh = asked.posted_at is not None and now() - asked.posted_at < _REFRESHES_FOR
    return page(
        "request",
        visitor=visitor,
        here="requests",
        single=single,
        told=told,
        tallies=tallies,
        moving=moving,
        refresh_s=_REFRESH_S if moving and fresh else 0,
        **values,
    )


@router.post("/requests/{request_id}/post")
async def post(request: Request, request_id: str) -> Response:
    """Post a draft: after the answer it is durable, and posting it again does nothing."""
    visitor = await let_in(request, Act.POST_UPDATE)
    if isinstance(visitor, Response):
        return visitor
    form = await genuine(request, visitor)
    if isinstance(form, Response):
        return form
    asked = await _asked(request, request_id)
    if asked is None:
        return _missing(visitor)
    if asked.actor != visitor.actor:
        return problem(403, "This is somebody else's draft", "Only its author can post it.", visitor=visitor)
    doorway = doorway_of(request)
    await portal.post(doorway.pool, doorway.scribe, asked.id, actor=visitor.actor, remote=address_of(request), at=now())
    return moved(f"/portal/requests/{asked.id}")


@router.get("/requests/{request_id}/results.csv")
async def download(request: Request, request_id: str) -> Response:
    """Return the rows with their results, as they were given, for a spreadsheet."""
    visitor = await let_in(request, *LOOKS)
    if isinstance(visitor, Response):
        return visitor
    asked = await _asked(request, request_id)
    if asked is None:
        return _missing(visitor)
    rows = await portal.rows_of(doorway_of(request).pool, asked.id)
    headers = {**HEADERS, "content-disposition": f'attachment; filename="results-{asked.id}.csv"'}
    table = await asyncio.to_thread(results_table, rows)
    return Response("\ufeff" + table, media_type="text/csv; charset=utf-8", headers=headers)


def results_table(rows: Sequence[Row]) -> str:
    """Return rows and results as CSV in which no cell is a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["row", *COLUMNS, "result", "field", "why", "pipeline"])
    for row in rows:
        cells = (row.content.get(name, "") for name in COLUMNS)
        kept = (f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells)
        writer.writerow([row.number, *kept, row.state.value, row.field, _why(row), row.event_state])
    return out.getvalue()


def _why(row: Row) -> str:
    if row.problem:
        return explain(Problem(row.problem), field=row.field, now=as_words(row.known))
    return f"Noted: {row.event_reason}." if row.event_state == "noted" else ""


async def _row_to_preview(request: Request, request_id: UUID) -> Row | None:
    number = _number(request.query_params.get("row", ""))
    rows = await portal.rows_of(
        doorway_of(request).pool, request_id, state=RowState.OPEN, after=max(0, number - 1), limit=1
    )
    return rows[0] if rows else None


async def _preview(request: Request, row: Row) -> list[Previewed]:
    """Return the messages that a row would make, by the planning and the words that send."""
    doorway = doorway_of(request)
    update = read_update(row.content)
    placed = (await finding.orders_by_id(doorway.pool, [row.order_id])).get(row.order_id) if row.order_id else None
    if placed is None or not isinstance(update, Update):
        return []
    return await preview(
        doorway.pool,
        event_of(update, placed, dedupe_key="", at=now()),
        placed.order_id,
        library=await asyncio.to_thread(shipped),
        settings=doorway.settings,
        configured=list(await doorway.credentials()),
        at=now(),
    )


def _state(word: str) -> RowState | None:
    states: Mapping[str, RowState] = {state.value: state for state in RowState}
    return states.get(word)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 - a PostgreSQL integer


async def _asked(request: Request, request_id: str) -> portal.Request | None:
    found = read_id(request_id)
    return None if found is None else await portal.read(doorway_of(request).pool, found)


def _missing(visitor: Visitor) -> Response:
    return problem(
        404, "No such request", "Drafts are kept for a day. Requests that were posted are listed.", visitor=visitor
    )
