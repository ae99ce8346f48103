"""Freshdesk simulated: tickets, their conversations, search, ticket fields, and an automation that calls back.

The account is as if it had every ticket up to number 999999, but for those ending in 404. An order number is found
when a ticket that was written here carries it, or when it begins with SO- and a digit: its ticket is that number.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply

_KEY = "sandbox-freshdesk-key"
_SECRET = "sandbox-freshdesk-webhook"  # noqa: S105 - opens nothing but this simulation
_LOGIN = f"Basic {base64.b64encode(f'{_KEY}:X'.encode()).decode()}"

_LAST_TICKET = 999_999
_STANDARD = ("subject", "requester", "status", "priority", "description")
_OURS = frozenset({"cf_order_no", "cf_order_status", "cf_notice", "cf_notice_reference"})
_CHOICES = frozenset(
    {
        *("Received", "Processing", "Shipped", "Out for delivery", "Delivered"),
        *("Delayed", "Backordered", "Regulatory hold", "Cancelled", "Returned"),
    }
)
_REFERENCE = re.compile(r"\[ordernotify ([A-Za-z0-9_-]{1,64})\]")
_QUERY = re.compile(r"\"cf_order_no:'([^']{1,64})'\"")
_BUDGET = {"x-ratelimit-total": "700", "x-ratelimit-remaining": "699", "x-ratelimit-used-currentrequest": "1"}

_Endpoint = Callable[[Request, Shelf], Reply]


def _error(status: int, code: str, message: str) -> Reply:
    return json_reply(status, {"code": code, "message": message})


def _invalid(field: str, code: str, message: str) -> Reply:
    errors = [{"field": field, "message": message, "code": code}]
    return json_reply(400, {"description": "Validation failed", "errors": errors})


def _unauthorized() -> Reply:
    return _error(401, "invalid_credentials", "You have to be logged in to perform this action.")


def _rate(**headers: str) -> Reply:
    spent = {"x-ratelimit-total": "700", "x-ratelimit-remaining": "0"}
    return json_reply(429, {"message": "You have exceeded the limit of requests"}, headers={**spent, **headers})


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        if request.headers.get("authorization") != _LOGIN:
            return _unauthorized()
        reply = endpoint(request, shelf)
        return Reply(reply.status, reply.body, {**_BUDGET, **reply.headers}, reply.taken, reply.callbacks)

    return check


def _number(request: Request) -> int:
    found = re.search(r"/tickets/(\d+)", request.path)
    return int(found.group(1)) if found else 0


def _ticket_of(shelf: Shelf, number: int) -> dict[str, Any] | None:
    made: dict[str, Any] | None = shelf.kind("tickets").get(str(number))
    if made is not None or not 0 < number <= _LAST_TICKET or str(number).endswith("404"):
        return made
    fields: dict[str, str | None] = dict.fromkeys(sorted(_OURS))
    fields["cf_order_no"] = f"SO-{number}"
    return {
        "id": number,
        "subject": f"Order SO-{number}",
        "status": 2,
        "priority": 1,
        "source": 1,
        "company_id": 43000204,
        "requester_id": 43000000001,
        "custom_fields": fields,
        "updated_at": "2026-11-01T08:00:00Z",
    }


def _search(request: Request, shelf: Shelf) -> Reply:
    found = _QUERY.fullmatch(request.query.get("query", ""))
    if found is None:
        return _invalid("query", "invalid_value", "Given query is invalid.")
    wanted = found.group(1)
    tickets = [one for one in shelf.kind("tickets").values() if one["custom_fields"]["cf_order_no"] == wanted]
    if not tickets and (number := re.fullmatch(r"SO-([1-9][0-9]*)", wanted)):
        one = _ticket_of(shelf, int(number.group(1)))
        tickets = [one] if one else []
    return json_reply(200, {"total": len(tickets), "results": tickets})


def _conversations(request: Request, shelf: Shelf) -> Reply:
    number = _number(request)
    if _ticket_of(shelf, number) is None:
        return Reply(404)
    size, page = int(request.query.get("per_page", "30")), int(request.query.get("page", "1"))
    entries = shelf.kind("conversations").get(str(number), [])
    return json_reply(200, entries[(page - 1) * size : page * size])


def _plain(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", text.replace("<br>", "\n")))


def _now() -> str:
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _reply(request: Request, shelf: Shelf) -> Reply:
    number, given = _number(request), request.json()
    if _ticket_of(shelf, number) is None:
        return Reply(404)
    if not isinstance(given, dict):
        return _error(400, "invalid_json", "Request body has invalid json format")
    unknown = sorted(given.keys() - {"body", "from_email", "cc_emails", "bcc_emails", "user_id", "attachments"})
    if unknown:
        return _invalid(unknown[0], "invalid_field", "Unexpected/invalid field in request")
    if not isinstance(given.get("body"), str) or not given["body"]:
        return _invalid("body", "missing_field", "It should be a/an String")
    at, text = _now(), _plain(given["body"])
    entry = {
        "id": 1_000_000 + shelf.next_serial(),
        "body": given["body"],
        "body_text": text,
        "incoming": False,
        "private": False,
        "source": 0,
        "ticket_id": number,
        "user_id": 1,
        "from_email": given.get("from_email") or "support@northgate.freshdesk.com",
        "to_emails": ["buyer@client.example"],
        "cc_emails": None,
        "bcc_emails": None,
        "created_at": at,
        "updated_at": at,
        "attachments": [],
    }
    shelf.kind("conversations").setdefault(str(number), []).append(entry)
    found = _REFERENCE.search(text)
    words = text.rpartition("\n[ordernotify ")[0] or text
    taken = Taken(f"ticket:{number}", found.group(1) if found else "", words, str(entry["id"]))
    return json_reply(201, entry, taken=(taken,))


def _update(request: Request, shelf: Shelf) -> Reply:
    number, given = _number(request), request.json()
    ticket = _ticket_of(shelf, number)
    if ticket is None:
        return Reply(404)
    if not isinstance(given, dict):
        return _error(400, "invalid_json", "Request body has invalid json format")
    fields = given.get("custom_fields", {})
    refused = _wrong(fields)
    if refused is not None:
        return refused
    before = ticket["custom_fields"]
    changed = {**ticket, **given, "custom_fields": {**before, **fields}, "updated_at": _now()}
    shelf.kind("tickets")[str(number)] = changed
    reference = str(fields.get("cf_notice_reference") or "")
    # The same reference again changes nothing, so no automation starts and nobody is written to.
    new = bool(reference) and before.get("cf_notice_reference") != reference
    taken = (Taken(f"ticket:{number}", reference, str(fields.get("cf_notice", "")), str(number)),) if new else ()
    return json_reply(200, changed, taken=taken, callbacks=_told(shelf, before, changed))


def _wrong(fields: object) -> Reply | None:
    if not isinstance(fields, dict):
        return _invalid("custom_fields", "datatype_mismatch", "It should be a/an key/value pair")
    unknown = sorted(fields.keys() - _OURS)
    if unknown:
        return _invalid(unknown[0], "invalid_field", "Unexpected/invalid field in request")
    if fields.get("cf_order_status", "Received") not in _CHOICES:
        return _invalid("cf_order_status", "invalid_value", "It should be one of these values")
    return None


def _told(shelf: Shelf, before: Mapping[str, Any], ticket: Mapping[str, Any]) -> tuple[Callback, ...]:
    """Return what the telling automation posts; a write of ours, which has a reference, is excluded there."""
    url, fields = shelf.webhooks.get("events"), ticket["custom_fields"]
    silent = before["cf_notice_reference"] != fields["cf_notice_reference"]
    if not url or silent or before["cf_order_status"] == fields["cf_order_status"]:
        return ()
    body = {
        "ticket_id": ticket["id"],
        "order_status": fields["cf_order_status"],
        "order_no": fields["cf_order_no"],
        "client": str(ticket["company_id"]),
    }
    headers = {"content-type": "application/json", "x-webhook-token": _SECRET}
    return (Callback(url, headers, orjson.dumps(body)),)


def _fields(_: Request, shelf: Shelf) -> Reply:
    return json_reply(200, [{"name": name} for name in _STANDARD] + list(shelf.kind("fields").values()))


def _make_field(request: Request, shelf: Shelf) -> Reply:
    given = request.json()
    if not isinstance(given, dict) or not given.get("label") or not given.get("type"):
        return _invalid("label", "missing_field", "It should be a/an String")
    name = "cf_" + re.sub(r"[^a-z0-9]+", "_", str(given["label"]).lower())
    if name in shelf.kind("fields"):
        return _invalid("label", "duplicate_value", "It should be a unique value")
    shelf.kind("fields")[name] = {"id": shelf.next_serial(), "name": name, **given}
    return json_reply(201, shelf.kind("fields")[name])


def _me(_: Request, __: Shelf) -> Reply:
    return json_reply(200, {"id": 1, "contact": {"name": "Robot", "email": "robot@northgate.example"}})


def _refuse(fault: Fault) -> Reply:
    refusals = {
        Fault.RATE: _rate(**{"retry-after": "1"}),
        Fault.RATE_BARE: _rate(),
        Fault.SERVER_ERROR: Reply(500, b"<html>Something went wrong</html>", {"content-type": "text/html"}),
        Fault.AUTH: _unauthorized(),
    }
    # A desk knows no opt-out: what it will not take, it will not take for anybody.
    return refusals.get(fault, Reply(404))


_V2 = "/api/v2"

VENDOR = Vendor(
    name="freshdesk",
    routes={
        ("GET", rf"{_V2}/search/tickets"): _guarded(_search),
        ("GET", rf"{_V2}/tickets/\d+/conversations"): _guarded(_conversations),
        ("POST", rf"{_V2}/tickets/\d+/reply"): _guarded(_reply),
        ("PUT", rf"{_V2}/tickets/\d+"): _guarded(_update),
        ("GET", rf"{_V2}/ticket_fields"): _guarded(_fields),
        ("POST", rf"{_V2}/admin/ticket_fields"): _guarded(_make_field),
        ("GET", rf"{_V2}/agents/me"): _guarded(_me),
    },
    settings={"api_key": _KEY, "webhook_secret": _SECRET},
    refuse=_refuse,
)
