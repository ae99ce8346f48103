"""Zendesk simulated: tickets with safe updates, triggers, fields, webhooks, and signed ticket events.

The account is as if it had every ticket up to number 999999: one ending in 404 was deleted, one ending in 422 is
closed, and the requester of one ending in 403 is suspended. A ticket takes 30 updates in ten minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import wraps
from typing import Any, Final

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply

AGENT: Final = "agent@northgate.example"
_TOKEN = "sandbox-zendesk-token"  # noqa: S105 - opens nothing but this simulation
_SECRET = "c2FuZGJveC16ZW5kZXNrLXNlY3JldA=="  # noqa: S105 - likewise
_LOGIN = f"Basic {base64.b64encode(f'{AGENT}/token:{_TOKEN}'.encode()).decode()}"
STATUS_FIELD: Final = 360001234567

_LAST_TICKET = 999_999
_FIRST_MADE = 1_000_000
_UPDATES, _WINDOW = 30, timedelta(minutes=10)
_STATUSES = frozenset({"new", "open", "pending", "hold", "solved"})
_REFERENCE = re.compile(r"ordernotify_([a-z0-9_-]{1,64})")
_KEY_LENGTH = 255

_Endpoint = Callable[[Request, Shelf], Reply]


def _error(status: int, error: str, description: str, **more: Any) -> Reply:
    headers = more.pop("headers", {})
    return json_reply(status, {"error": error, "description": description, **more}, headers=headers)


def _invalid(field: str, description: str) -> Reply:
    details = {field: [{"description": description, "error": "BlankValue"}]}
    return _error(422, "RecordInvalid", "Record validation errors", details=details)


def _not_found() -> Reply:
    return _error(404, "RecordNotFound", "Not found")


def _unauthorized() -> Reply:
    return json_reply(401, {"error": "Couldn't authenticate you"})


def _rate(*, wait_s: int | None, left: int) -> Reply:
    headers = {"x-rate-limit": "700", "x-rate-limit-remaining": str(left)}
    if wait_s is not None:
        headers["retry-after"] = str(wait_s)
    return _error(429, "TooManyRequests", "Number of allowed API requests per minute exceeded", headers=headers)


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        known = request.headers.get("authorization") == _LOGIN
        return endpoint(request, shelf) if known else _unauthorized()

    return check


def _now() -> str:
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- tickets ----


def _number(request: Request) -> int:
    found = re.search(r"/tickets/(\d+)", request.path)
    return int(found.group(1)) if found else 0


def _ticket_of(shelf: Shelf, number: int) -> dict[str, Any] | None:
    made: dict[str, Any] | None = shelf.kind("tickets").get(str(number))
    if made is not None or not 0 < number <= _LAST_TICKET or str(number).endswith("404"):
        return made
    return {
        "id": number,
        "external_id": None,
        "subject": f"Ticket {number}",
        "status": "closed" if str(number).endswith("422") else "open",
        "requester_id": 20978392,
        "organization_id": 509974,
        "tags": ["enterprise"],
        "custom_fields": [{"id": STATUS_FIELD, "value": None}],
        "updated_at": "2026-11-01T08:00:00Z",
        "created_at": "2026-11-01T08:00:00Z",
    }


def _get(request: Request, shelf: Shelf) -> Reply:
    ticket = _ticket_of(shelf, _number(request))
    return _not_found() if ticket is None else json_reply(200, {"ticket": ticket})


def _list(request: Request, shelf: Shelf) -> Reply:
    wanted = request.query.get("external_id")
    tickets = [one for one in shelf.kind("tickets").values() if wanted in {None, one["external_id"]}]
    return json_reply(200, {"tickets": tickets, "next_page": None, "previous_page": None, "count": len(tickets)})


def _given(request: Request) -> dict[str, Any]:
    body = request.json()
    value = body.get("ticket") if isinstance(body, dict) else None
    return value if isinstance(value, dict) else {}


def _wrong(given: Mapping[str, Any]) -> Reply | None:
    comment = given.get("comment")
    if not isinstance(comment, dict) or not (comment.get("html_body") or comment.get("body")):
        return _invalid("base", "Description: cannot be blank")
    if given.get("status", "open") not in _STATUSES:
        return _invalid("status", f"Status: {given['status']} is not a valid status")
    fields = given.get("custom_fields", [])
    if not isinstance(fields, list) or any(one.get("id") != STATUS_FIELD for one in fields):
        return _invalid("base", "Custom field is not known")
    return None


def _update(request: Request, shelf: Shelf) -> Reply:
    number, given = _number(request), _given(request)
    ticket = _ticket_of(shelf, number)
    if ticket is None:
        return _not_found()
    refused = _locked(ticket, given) or _wrong(given) or _too_often(shelf, number)
    return refused or _store(shelf, ticket, given, status=200)


def _locked(ticket: Mapping[str, Any], given: Mapping[str, Any]) -> Reply | None:
    if ticket["status"] == "closed":
        return _invalid("status", "Status: closed prevents ticket update")
    if str(ticket["id"]).endswith("403"):
        return _invalid("requester", "Requester: Sam Client is suspended.")
    if given.get("safe_update") and given.get("updated_stamp") != ticket["updated_at"]:
        return _error(409, "UpdateConflict", "Safe Update prevented the update due to outdated ticket data")
    return None


def _too_often(shelf: Shelf, number: int) -> Reply | None:
    now = clock.now()
    recent = [at for at in shelf.kind("updates").get(str(number), []) if now - at < _WINDOW]
    shelf.kind("updates")[str(number)] = recent
    if len(recent) >= _UPDATES:
        return _rate(wait_s=int((recent[0] + _WINDOW - now).total_seconds()) + 1, left=699)
    recent.append(now)
    return None


def _create(request: Request, shelf: Shelf) -> Reply:
    given, key = _given(request), request.headers.get("idempotency-key", "")[:_KEY_LENGTH]
    kept = shelf.kind("keys").get(key) if key else None
    if kept is not None:
        if kept["body"] != request.body:
            return _error(400, "IdempotentRequestError", "The request body does not match that of the first one")
        return Reply(201, kept["answer"], {"content-type": "application/json", "x-idempotency-lookup": "hit"})
    if (wrong := _wrong(given)) is not None:
        return wrong
    number = _FIRST_MADE + shelf.next_serial()
    requester = given.get("requester")
    ticket = {
        "id": number,
        "external_id": given.get("external_id"),
        "subject": given.get("subject") or f"Ticket {number}",
        "status": "new",
        "requester_id": given.get("requester_id") or (20978393 if isinstance(requester, dict) else 1),
        "organization_id": None,
        "tags": [],
        "custom_fields": [{"id": STATUS_FIELD, "value": None}],
        "via_followup_source_id": given.get("via_followup_source_id"),
        "created_at": _now(),
    }
    reply = _store(shelf, ticket, given, status=201)
    if key:
        shelf.kind("keys")[key] = {"body": request.body, "answer": reply.body}
    headers = {**reply.headers, "x-idempotency-lookup": "miss", "location": f"{shelf.root}/tickets/{number}.json"}
    return Reply(201, reply.body, headers, reply.taken, reply.callbacks)


def _store(shelf: Shelf, before: Mapping[str, Any], given: Mapping[str, Any], *, status: int) -> Reply:
    # Two updates of one second must not look the same, or a safe update would let the second one through.
    stamp = f"{_now()[:-1]}.{shelf.next_serial():06d}Z"
    ticket = {**before, "updated_at": stamp}
    for name in ("status", "tags", "custom_fields"):
        if name in given:
            ticket[name] = given[name]
    shelf.kind("tickets")[str(ticket["id"])] = ticket
    comment = given["comment"]
    text = str(comment.get("html_body") or comment.get("body"))
    plain = html.unescape(re.sub(r"<[^>]+>", "", text.replace("<br>", "\n")))
    mark = [found for tag in given.get("tags", []) if (found := _REFERENCE.fullmatch(str(tag)))]
    new = [one.group(1) for one in mark if one.group(0) not in before["tags"]]
    audit = {
        "id": 2_127_300_000_000 + shelf.serial,
        "ticket_id": ticket["id"],
        "created_at": _now(),
        "author_id": 1,
        "events": [{"id": 1, "type": "Comment", "public": comment.get("public", True), "body": plain}],
    }
    taken = Taken(
        to=str(ticket["external_id"] or f"ticket:{ticket['id']}"),
        reference=new[0] if new else "",
        text=plain,
        provider_ref=str(audit["id"]),
    )
    body = {"ticket": ticket, "audit": audit}
    return json_reply(status, body, taken=(taken,), callbacks=_told(shelf, before, ticket))


# ---- webhooks, triggers, fields ----


def _told(shelf: Shelf, before: Mapping[str, Any], ticket: Mapping[str, Any]) -> tuple[Callback, ...]:
    """Return the event of a changed status; triggers keep silent, because what we write is excluded there."""
    url = shelf.webhooks.get("events")
    if not url or before["status"] == ticket["status"]:
        return ()
    event = {
        "type": "zen:event-type:ticket.status_changed",
        "account_id": 22129848,
        "id": f"sandbox-{shelf.serial}",
        "time": f"{_now()[:-1]}.987654321Z",
        "zendesk_event_version": "2022-11-06",
        "subject": f"zen:ticket:{ticket['id']}",
        "detail": {
            "id": str(ticket["id"]),
            "external_id": ticket["external_id"],
            "organization_id": str(ticket["organization_id"] or "") or None,
            "requester_id": str(ticket["requester_id"]),
            "status": str(ticket["status"]).upper(),
            "tags": ticket["tags"],
            "updated_at": ticket["updated_at"],
        },
        "event": {"current": str(ticket["status"]).upper(), "previous": str(before["status"]).upper()},
    }
    body = orjson.dumps(event)
    stamp = _now()
    signed = hmac.new(_SECRET.encode(), stamp.encode() + body, hashlib.sha256).digest()
    headers = {
        "content-type": "application/json",
        "x-zendesk-account-id": "22129848",
        "x-zendesk-webhook-id": "01GK8E6BKWMJZD2TEXAMPLE",
        "x-zendesk-webhook-invocation-id": f"invocation-{shelf.serial}",
        "x-zendesk-webhook-signature": base64.b64encode(signed).decode(),
        "x-zendesk-webhook-signature-timestamp": stamp,
    }
    return (Callback(url, headers, body),)


def _things(kind: str, single: str, required: tuple[str, ...]) -> tuple[_Endpoint, _Endpoint]:
    """Return the endpoints that list and make one kind of thing."""

    def listed(_: Request, shelf: Shelf) -> Reply:
        return json_reply(200, {kind: list(shelf.kind(kind).values())})

    def made(request: Request, shelf: Shelf) -> Reply:
        body = request.json()
        given = body.get(single) if isinstance(body, dict) else None
        if not isinstance(given, dict):
            return _error(400, "ParameterMissing", f"Parameter {single} is required")
        missing = [name for name in required if not given.get(name)]
        if missing:
            return _invalid(missing[0], f"{missing[0]}: cannot be blank")
        thing = {**given, "id": shelf.next_serial()}
        shelf.kind(kind)[str(thing["id"])] = thing
        if kind == "webhooks":
            shelf.webhooks["events"] = str(given["endpoint"])
        return json_reply(201, {single: thing})

    return _guarded(listed), _guarded(made)


def _me(request: Request, _: Shelf) -> Reply:
    known = request.headers.get("authorization") == _LOGIN
    user = {"id": 1, "role": "agent", "email": AGENT} if known else {"id": None, "role": "end-user"}
    return json_reply(200, {"user": user})


def _refuse(fault: Fault) -> Reply:
    refusals = {
        Fault.RATE: _rate(wait_s=1, left=0),
        Fault.RATE_BARE: _rate(wait_s=None, left=0),
        Fault.SERVER_ERROR: json_reply(500, {"error": "InternalError", "message": "Something went wrong."}),
        Fault.AUTH: _unauthorized(),
        Fault.OPT_OUT: _invalid("requester", "Requester: Sam Client is suspended."),
    }
    return refusals.get(fault, _not_found())


_V2 = "/api/v2"
_FIELDS = _things("ticket_fields", "ticket_field", ("type", "title"))
_TRIGGERS = _things("triggers", "trigger", ("title", "conditions", "actions"))
_WEBHOOKS = _things("webhooks", "webhook", ("name", "endpoint", "http_method", "request_format", "status"))

VENDOR = Vendor(
    name="zendesk",
    routes={
        ("GET", rf"{_V2}/tickets/\d+\.json"): _guarded(_get),
        ("PUT", rf"{_V2}/tickets/\d+\.json"): _guarded(_update),
        ("GET", rf"{_V2}/tickets\.json"): _guarded(_list),
        ("POST", rf"{_V2}/tickets\.json"): _guarded(_create),
        ("GET", rf"{_V2}/ticket_fields\.json"): _FIELDS[0],
        ("POST", rf"{_V2}/ticket_fields\.json"): _FIELDS[1],
        ("GET", rf"{_V2}/triggers\.json"): _TRIGGERS[0],
        ("POST", rf"{_V2}/triggers\.json"): _TRIGGERS[1],
        ("GET", rf"{_V2}/webhooks"): _WEBHOOKS[0],
        ("POST", rf"{_V2}/webhooks"): _WEBHOOKS[1],
        ("GET", rf"{_V2}/users/me\.json"): _me,
    },
    settings={
        "agent_email": AGENT,
        "api_token": _TOKEN,
        "requester_email": "orders@client.example",
        "status_field_id": str(STATUS_FIELD),
        "webhook_id": "01GK8E6BKWMJZD2TEXAMPLE",
        "webhook_secret": _SECRET,
        "status_map": "solved=delivered",
    },
    refuse=_refuse,
)
