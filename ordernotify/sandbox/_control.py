"""The sandbox's own side: counts, what was taken, faults on and off, where vendors call back, reset."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from pydantic import ValidationError

from ordernotify.sandbox._base import Reply, Request, json_reply
from ordernotify.sandbox._callbacks import is_loopback
from ordernotify.sandbox._desk import KEPT_ARRIVALS, Desk, FaultOrder

_DEFAULT_LIMIT = 100

NOT_FOUND: Final = json_reply(404, {"error": "not_found", "message": "No such endpoint."})


def counts(desks: Mapping[str, Desk]) -> Reply:
    """Return the totals of every vendor by its name."""
    return json_reply(200, {name: desk.totals() for name, desk in desks.items()})


def one_vendor(request: Request, desk: Desk, what: str) -> Reply:
    """Answer a request for ``what`` of one vendor, 404 where there is no such thing."""
    action = _ACTIONS.get((request.method, what))
    return NOT_FOUND if action is None else action(request, desk)


def _taken(request: Request, desk: Desk) -> Reply:
    asked = request.query.get("limit", str(_DEFAULT_LIMIT))
    if not re.fullmatch(r"[1-9][0-9]{0,5}", asked):
        return _wrong("limit", f"must be a number from 1 to {KEPT_ARRIVALS}")
    limit, to = int(asked), request.query.get("to")
    newest = (arrival for arrival in reversed(desk.arrivals) if to is None or arrival.to == to)
    return json_reply(200, [asdict(arrival) for arrival, _ in zip(newest, range(limit), strict=False)])


def _references(_: Request, desk: Desk) -> Reply:
    return json_reply(200, dict(desk.seen))


def _fault(_: Request, desk: Desk) -> Reply:
    return json_reply(200, None if desk.fault is None else desk.fault.model_dump(mode="json"))


def _arm(request: Request, desk: Desk) -> Reply:
    try:
        order = FaultOrder.model_validate(request.json())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return _wrong(".".join(map(str, first["loc"])) or "body", first["msg"])
    desk.arm(order)
    return json_reply(200, order.model_dump(mode="json"))


def _disarm(_: Request, desk: Desk) -> Reply:
    desk.disarm()
    return Reply(204)


def _webhooks(request: Request, desk: Desk) -> Reply:
    urls: Any = request.json()
    if not isinstance(urls, dict):
        return _wrong("body", "must be a JSON object of webhook names and URLs")
    for name, url in urls.items():
        if not (isinstance(url, str) and is_loopback(url)):
            return _wrong(name, "must be an http URL of this machine (127.0.0.1, [::1] or localhost)")
    desk.shelf.webhooks = dict(urls)
    return json_reply(200, desk.shelf.webhooks)


def _wrong(field: str, message: str) -> Reply:
    return json_reply(422, {"error": "invalid", "field": field, "message": message})


_ACTIONS: Final[Mapping[tuple[str, str], Callable[[Request, Desk], Reply]]] = {
    ("GET", "taken"): _taken,
    ("GET", "references"): _references,
    ("GET", "fault"): _fault,
    ("POST", "fault"): _arm,
    ("DELETE", "fault"): _disarm,
    ("PUT", "webhooks"): _webhooks,
}
