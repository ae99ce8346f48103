"""Many orders at once: a CSV table, looked at row by row before anything is posted; and the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from ordernotify.clock import new_id, now
from ordernotify.core.people import Act
from ordernotify.core.portal import COLUMNS, DETAILS, MOST_NOTE, MOST_ROWS, REASONS, STATUSES, Unreadable, read_table
from ordernotify.store import finding, portal, portal_rows
from ordernotify.web.portal.guard import LOOKS, Visitor, address_of, doorway_of, genuine, let_in, text
from ordernotify.web.portal.orders import read_why
from ordernotify.web.portal.views import ASSETS, HEADERS, PageRoute, moved, page

router = APIRouter(prefix="/portal", include_in_schema=False, route_class=PageRoute)

_NO_VALUES: Mapping[str, str] = {"reason": "", "note": ""}


@router.get("/upload")
async def ask(request: Request) -> Response:
    """Show the form for a table."""
    visitor = await let_in(request, Act.POST_UPDATE)
    return visitor if isinstance(visitor, Response) else _form(visitor, _NO_VALUES, {})


@router.post("/upload")
async def look(request: Request) -> Response:
    """Store a table as a draft and show what its rows would do."""
    visitor = await let_in(request, Act.POST_UPDATE)
    if isinstance(visitor, Response):
        return visitor
    doorway = doorway_of(request)
    form = await genuine(request, visitor, limit=doorway.settings.max_upload_bytes)
    if isinstance(form, Response):
        return form
    why, errors = read_why(form)
    file = form.get("table")
    content = await file.read() if isinstance(file, UploadFile) else b""
    table = await asyncio.to_thread(read_table, content) if content else Unreadable("Choose a CSV file.")
    if isinstance(table, Unreadable):
        errors["table"] = table.message
    if errors or why is None or isinstance(table, Unreadable):
        return _form(visitor, {name: text(form, name) for name in _NO_VALUES}, errors, status=422)
    request_id, at = new_id(), now()
    await portal.draft(
        doorway.pool,
        doorway.scribe,
        request_id=request_id,
        actor=visitor.actor,
        door="csv",
        remote=address_of(request),
        reason=why[0],
        note=why[1],
        rows=await portal_rows.examine(doorway.pool, table.rows, at=at),
        at=at,
    )
    return moved(f"/portal/requests/{request_id}")


def _form(visitor: Visitor, values: Mapping[str, str], errors: Mapping[str, str], *, status: int = 200) -> Response:
    return page(
        "upload",
        status=status,
        visitor=visitor,
        here="upload",
        values=values,
        errors=errors,
        reasons=REASONS,
        columns=COLUMNS,
        statuses=STATUSES,
        details=DETAILS,
        most_rows=MOST_ROWS,
        most_note=MOST_NOTE,
    )


@router.get("/queue")
async def queue(request: Request) -> Response:
    """Show what waits for a person."""
    visitor = await let_in(request, *LOOKS)
    if isinstance(visitor, Response):
        return visitor
    incidents = await finding.open_incidents_page(doorway_of(request).pool)
    return page("queue", visitor=visitor, here="queue", incidents=incidents)


@router.get("/portal.css")
@router.get("/icon.svg")
async def asset(request: Request) -> Response:
    """Return the one style sheet, or the icon."""
    kind, content = ASSETS[request.url.path.rpartition("/")[2]]
    return Response(content, media_type=kind, headers={**HEADERS, "cache-control": "public, max-age=300"})
