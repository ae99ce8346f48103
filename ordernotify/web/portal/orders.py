"""Finding orders, reading one, and saying what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from ordernotify.clock import new_id, now
from ordernotify.core.people import Act
from ordernotify.core.portal import DETAILS, MOST_NOTE, REASONS, STATUSES, UpdateReason, explain
from ordernotify.store import finding, portal, portal_rows
from ordernotify.web.portal.guard import LOOKS, Visitor, address_of, doorway_of, genuine, let_in, text
from ordernotify.web.portal.views import PageRoute, as_words, moved, page, problem

router = APIRouter(prefix="/portal", include_in_schema=False, route_class=PageRoute)

_FIELDS: Final = ("status", "detail", "carrier", "tracking_no", "promised_date")
_LONGEST_SEARCH = 100


@router.get("/")
async def find(request: Request) -> Response:
    """Find orders by number, client, tracking number or status."""
    visitor = await let_in(request, *LOOKS)
    if isinstance(visitor, Response):
        return visitor
    wanted = request.query_params.get("q", "").strip().replace("\0", "")[:_LONGEST_SEARCH]
    status = request.query_params.get("status", "")
    status = status if status in STATUSES else ""
    orders = await finding.find_orders(doorway_of(request).pool, text=wanted, status=status)
    return page("orders", visitor=visitor, here="orders", q=wanted, chosen=status, statuses=STATUSES, orders=orders)


@router.get("/orders/{order_id}")
async def show(request: Request, order_id: str) -> Response:
    """Show one order: its facts, its events, and every message about it with its outcome and the rules."""
    visitor = await let_in(request, *LOOKS)
    if isinstance(visitor, Response):
        return visitor
    order = await _order(request, order_id)
    return _missing(visitor) if order is None else page("order", visitor=visitor, here="orders", order=order)


@router.get("/orders/{order_id}/update")
async def ask(request: Request, order_id: str) -> Response:
    """Show the form for an update, or with ``correction`` for taking back what was said last."""
    visitor = await let_in(request, Act.POST_UPDATE)
    if isinstance(visitor, Response):
        return visitor
    order = await _order(request, order_id)
    if order is None:
        return _missing(visitor)
    correction = "yes" if request.query_params.get("correction") else ""
    values = {"status": "", "reason": "", "note": "", **dict.fromkeys(_FIELDS, ""), "correction": correction}
    return _form(visitor, order, values, {})


@router.post("/orders/{order_id}/update")
async def look(request: Request, order_id: str) -> Response:
    """Store what was asked for as a draft and show what it would tell whom; refuse what cannot be."""
    visitor = await let_in(request, Act.POST_UPDATE)
    if isinstance(visitor, Response):
        return visitor
    form = await genuine(request, visitor)
    if isinstance(form, Response):
        return form
    order = await _order(request, order_id)
    if order is None:
        return _missing(visitor)
    doorway = doorway_of(request)
    values = {name: text(form, name) for name in (*_FIELDS, "reason", "note", "correction")}
    content = {"order_no": order["order_no"], "client": order["client_id"], **values}
    (row,) = await portal_rows.examine(doorway.pool, [content], at=now())
    why, errors = read_why(form)
    if row.refused is not None:
        sentence = explain(row.refused.problem, field=as_words(row.refused.field), now=as_words(row.known))
        errors = {row.refused.field or "status": sentence, **errors}
    if errors or why is None:
        return _form(visitor, order, values, errors, status=422)
    request_id = new_id()
    await portal.draft(
        doorway.pool,
        doorway.scribe,
        request_id=request_id,
        actor=visitor.actor,
        door="form",
        remote=address_of(request),
        reason=why[0],
        note=why[1],
        rows=[row],
        at=now(),
    )
    return moved(f"/portal/requests/{request_id}")


def read_why(form: FormData) -> tuple[tuple[UpdateReason, str] | None, dict[str, str]]:
    """Return reason and note of a form, or what is wrong with them, by field."""
    word, note = text(form, "reason"), text(form, "note")
    errors: dict[str, str] = {}
    if word not in REASONS:
        errors["reason"] = "Choose a reason."
    if len(note) > MOST_NOTE or "\0" in note:
        errors["note"] = f"The note must be text of at most {MOST_NOTE} characters."
    elif word == UpdateReason.OTHER and not note:
        errors["note"] = "Say in the note what the reason is."
    return (None, errors) if errors else ((UpdateReason(word), note), {})


def _form(
    visitor: Visitor,
    order: Mapping[str, Any],
    values: Mapping[str, str],
    errors: Mapping[str, str],
    *,
    status: int = 200,
) -> Response:
    return page(
        "update",
        status=status,
        visitor=visitor,
        here="orders",
        order=order,
        values=values,
        errors=errors,
        statuses=STATUSES,
        details=DETAILS,
        reasons=REASONS,
        most_note=MOST_NOTE,
    )


def read_id(value: str) -> UUID | None:
    """Return the id that a path names, None where it is none."""
    try:
        return UUID(value)
    except ValueError:
        return None


async def _order(request: Request, order_id: str) -> dict[str, Any] | None:
    found = read_id(order_id)
    return None if found is None else await finding.order_page(doorway_of(request).pool, found)


def _missing(visitor: Visitor) -> Response:
    return problem(404, "No such order", "It may have been named wrong. Search for it by its number.", visitor=visitor)
