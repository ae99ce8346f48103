"""The portal's API: updates of one order or many in one call, each with its own result."""

from __future__ import annotations

import hmac
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ordernotify.clock import new_id, now
from ordernotify.core.audit import Actor
from ordernotify.core.people import Act
from ordernotify.core.portal import MOST_NOTE, MOST_ROWS, Problem, UpdateReason, explain
from ordernotify.platforms._base import Refusal
from ordernotify.platforms._reading import read_value
from ordernotify.store import portal, portal_rows
from ordernotify.store.database import DATABASE_AWAY
from ordernotify.web.doorway import too_large
from ordernotify.web.portal.guard import CSRF_HEADER, address_of, doorway_of, is_from_here, note_denied, visitor_of
from ordernotify.web.portal.orders import read_id
from ordernotify.web.portal.views import as_words
from ordernotify.web.webhooks import overloaded, refusal

router = APIRouter(prefix="/api/v1/portal", tags=["portal"])

_Text = Annotated[str, Field(default="", max_length=500)]


class UpdateIn(BaseModel):
    """What happened to one order; every text as in a row of the portal's table."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    order_no: str = Field(max_length=500, description="Number that people use.", examples=["SO-1001"])
    status: str = Field(max_length=500, description="One of our statuses.", examples=["shipped"])
    client: _Text = Field(description="Needed only where several clients have the number.", examples=["acme"])
    detail: _Text
    carrier: _Text
    tracking_no: _Text
    promised_date: _Text
    correction: bool = Field(default=False, description="True to take back what was said last.")


class PortalRequestIn(BaseModel):
    """Updates for which a person answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: UUID | None = Field(default=None, description="Your id of this request: repeated, it does nothing again.")
    reason: UpdateReason
    note: str = Field(default="", max_length=MOST_NOTE)
    updates: list[UpdateIn] = Field(min_length=1, max_length=MOST_ROWS)


@router.post(
    "/requests",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PortalRequestIn"}}},
        }
    },
)
async def post_request(request: Request) -> Response:
    """Take updates of orders. 202: stored; each row says whether it was taken, and if not, why and which field."""
    actor = await _actor(request)
    if isinstance(actor, Response):
        return actor
    doorway = doorway_of(request)
    body = await doorway.body_of(request, limit=doorway.settings.max_upload_bytes)
    if body is None:
        return too_large(doorway)
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return refusal(Refusal(422, "body", f"must be JSON: line {error.lineno}, column {error.colno}"))
    asked = read_value(PortalRequestIn, given)
    if isinstance(asked, Refusal):
        return refusal(asked)
    try:
        return await _stored(request, asked, actor)
    except DATABASE_AWAY:
        return overloaded(5)


async def _stored(request: Request, asked: PortalRequestIn, actor: Actor) -> Response:
    doorway = doorway_of(request)
    request_id, at = asked.id or new_id(), now()
    values = [_cells(update) for update in asked.updates]
    made = await portal.draft(
        doorway.pool,
        doorway.scribe,
        request_id=request_id,
        actor=actor,
        door="api",
        remote=address_of(request),
        reason=asked.reason,
        note=asked.note,
        rows=await portal_rows.examine(doorway.pool, values, at=at),
        at=at,
        post=True,
    )
    return await _results(request, request_id, actor, status=202 if made else 200)


@router.get("/requests/{request_id}")
async def get_request(request: Request, request_id: str) -> Response:
    """Return what became of the rows of a request."""
    actor = await _actor(request)
    if isinstance(actor, Response):
        return actor
    found = read_id(request_id)
    return _UNKNOWN if found is None else await _results(request, found, actor, status=200)


_UNKNOWN = refusal(Refusal(404, "request_id", "is not a request of yours"))


async def _results(request: Request, request_id: UUID, actor: Actor, *, status: int) -> Response:
    pool = doorway_of(request).pool
    asked = await portal.read(pool, request_id)
    if asked is None or asked.actor != actor:
        return _UNKNOWN
    rows = await portal.rows_of(pool, request_id)
    return JSONResponse(
        {
            "id": str(asked.id),
            "state": asked.state.value,
            "url": f"/portal/requests/{asked.id}",
            "rows": [_result(row) for row in rows],
        },
        status_code=status,
        headers={"cache-control": "no-store"},
    )


def _result(row: portal.Row) -> dict[str, Any]:
    told: dict[str, Any] = {"row": row.number, "order_no": row.content.get("order_no", ""), "result": row.state.value}
    if row.problem:
        message = explain(Problem(row.problem), field=row.field, now=as_words(row.known))
        told["error"] = {"field": row.field, "code": row.problem, "message": message}
    if row.event_id:
        told |= {"event": str(row.event_id), "pipeline": row.event_state}
    return told


def _cells(update: UpdateIn) -> dict[str, str]:
    return {**update.model_dump(), "correction": "yes" if update.correction else ""}


async def _actor(request: Request) -> Actor | Response:
    """Return who asks: a program with an API key, or a person whose page shows the session's token."""
    if doorway_of(request).is_known_key(request):
        return Actor(kind="service", id="svc:api")
    visitor = await visitor_of(request)
    if visitor is None:
        return refusal(Refusal(401, "X-API-Key", "must be one of the keys in ORDERNOTIFY_API_KEYS, or sign in"))
    shown = request.headers.get(CSRF_HEADER, "")
    if not (is_from_here(request) and hmac.compare_digest(shown.encode(), visitor.csrf.encode())):
        await note_denied(request, visitor.actor, code="forged_form")
        return refusal(Refusal(403, CSRF_HEADER, "must be the token that the pages of your session carry"))
    if not visitor.person.may(Act.POST_UPDATE):
        await note_denied(request, visitor.actor, code=Act.POST_UPDATE.value)
        return refusal(Refusal(403, "role", "your account does not have the role for it"))
    return visitor.actor
