"""Intercom simulated: contacts, their attributes, data events that start a message, and signed webhooks.

Every address is a contact, except ``nobody``; ``twice`` are two. The part of an e-mail address before the @ decides
what is known of it: ``unsubscribed``, ``spam`` and ``bounced``; ``stop`` unsubscribes after the message that it gets,
and the webhook named ``events`` is told. The workspace's message starts with every event that is not a repetition.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply

ACCESS_TOKEN: Final = "dG9rOnNhbmRib3g="  # noqa: S105 - of the sandbox, which guards nothing
CLIENT_SECRET: Final = "sandbox-client-secret"  # noqa: S105 - likewise
APP_ID: Final = "sandbox1"

_KNOWN_ATTRIBUTES = frozenset({"order_notice_status", "order_notice_text", "order_notice_reference"})
_LONGEST = 255
_KEPT = 10  # values of an event; the others are dropped in silence
_ID = re.compile(r"[0-9a-f]{24}")

_Endpoint = Callable[[Request, Shelf], Reply]


def _error(status: int, code: str, message: str, **more: Any) -> Reply:
    value = {"type": "error.list", "request_id": "sandbox", "errors": [{"code": code, "message": message}]}
    return json_reply(status, value, **more)


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Intercom's format."""
    if fault is Fault.RATE:
        reset = str(int(clock.now().timestamp()) + 1)
        headers = {"x-ratelimit-limit": "1600", "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
        return _error(429, "rate_limit_exceeded", "Exceeded rate limit", headers=headers)
    return FAULTS[fault]


FAULTS: Final[Mapping[Fault, Reply]] = {
    Fault.RATE_BARE: _error(429, "rate_limit_exceeded", "Exceeded rate limit"),
    Fault.SERVER_ERROR: _error(500, "server_error", "Server Error"),
    Fault.PERMANENT: _error(422, "data_invalid", "The value is not valid"),
    Fault.AUTH: _error(401, "unauthorized", "Access Token Invalid"),
    # Intercom drops the message later; as an answer there is only this.
    Fault.OPT_OUT: _error(422, "unprocessable_entity", "The contact is unsubscribed"),
}


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        if request.headers.get("authorization") != f"Bearer {ACCESS_TOKEN}":
            return FAULTS[Fault.AUTH]
        if request.headers.get("accept") != "application/json":
            return _error(406, "media_type_not_acceptable", "The Accept header should send a media type of JSON")
        return endpoint(request, shelf)

    return check


# ---- contacts ----


def contact_id(address: str) -> str:
    """Return the id of the contact with this address: the same one, always."""
    return hashlib.sha256(address.lower().encode()).hexdigest()[:24]


def _contact(address: str, shelf: Shelf) -> dict[str, Any]:
    is_email = "@" in address
    known: dict[str, Any] = shelf.kind("contacts").setdefault(
        contact_id(address),
        {
            "type": "contact",
            "id": contact_id(address),
            "role": "user",
            "external_id": None if is_email else address,
            "email": address if is_email else None,
            "unsubscribed_from_emails": address.startswith("unsubscribed@"),
            "marked_email_as_spam": address.startswith("spam@"),
            "has_hard_bounced": address.startswith("bounced@"),
            "custom_attributes": {},
        },
    )
    return known


def _search(request: Request, shelf: Shelf) -> Reply:
    body = request.json()
    query = body.get("query") if isinstance(body, dict) else None
    if (
        not isinstance(query, dict)
        or query.get("field") not in {"email", "external_id"}
        or query.get("operator") != "="
    ):
        return _error(400, "parameter_invalid", "query is not valid")
    address = str(query.get("value", ""))
    found = [] if address == "nobody" else [_contact(address, shelf)]
    if address == "twice":
        found.append({**found[0], "id": contact_id("twice too")})
    return json_reply(200, {"type": "list", "data": found, "total_count": len(found), "pages": {"type": "pages"}})


def _one(request: Request, shelf: Shelf) -> Reply:
    contact = shelf.kind("contacts").get(request.path.rsplit("/", 1)[1])
    if contact is None:
        return _error(404, "not_found", "User Not Found")
    if request.method == "GET":
        return json_reply(200, contact)
    body = request.json()
    attributes = body.get("custom_attributes") if isinstance(body, dict) else None
    if not isinstance(attributes, dict):
        return _error(400, "parameter_not_found", "custom_attributes is missing")
    for name, value in attributes.items():
        if name not in _KNOWN_ATTRIBUTES and name not in shelf.kind("attributes"):
            return _error(400, "parameter_invalid", f"Custom attribute '{name}' does not exist")
        if len(str(value)) > _LONGEST:
            return _error(422, "data_invalid", f"Custom attribute '{name}' is too long")
    contact["custom_attributes"].update(attributes)
    return json_reply(200, contact)


# ---- events ----


def _event(request: Request, shelf: Shelf) -> Reply:
    body = request.json()
    name, at = (body.get("event_name"), body.get("created_at")) if isinstance(body, dict) else (None, None)
    if not isinstance(body, dict) or not isinstance(name, str) or not isinstance(at, int):
        return _error(400, "parameter_not_found", "event_name and created_at are required")
    contact = shelf.kind("contacts").get(str(body.get("id", "")))
    if contact is None:
        return _error(404, "not_found", "User Not Found")
    seen = shelf.kind("events")
    key = f"{contact['id']} {name} {at}"
    if key in seen:
        return Reply(202)
    metadata = body.get("metadata", {})
    seen[key] = dict(list(metadata.items())[:_KEPT])
    address = contact["email"] or contact["external_id"]
    taken = Taken(address, str(seen[key].get("reference", "")), str(seen[key].get("text", "")), f"{contact['id']}:{at}")
    url = shelf.webhooks.get("events", "")
    callbacks = (unsubscribed(url, contact, shelf),) if url and address.startswith("stop@") else ()
    return Reply(202, taken=(taken,), callbacks=callbacks)


def unsubscribed(url: str, contact: Mapping[str, Any], shelf: Shelf) -> Callback:
    """Return the signed notification that a contact unsubscribed."""
    item = {name: contact[name] for name in ("type", "id", "external_id", "email")}
    now = int(clock.now().timestamp())
    value = {
        "type": "notification_event",
        "app_id": APP_ID,
        "id": f"notif_{shelf.next_serial()}",
        "topic": "contact.unsubscribed",
        "data": {"type": "notification_event_data", "item": item},
        "delivery_attempts": 1,
        "first_sent_at": now,
        "created_at": now,
    }
    return signed_callback(url, value)


def signed_callback(url: str, value: Mapping[str, Any], *, secret: str = CLIENT_SECRET) -> Callback:
    """Return a notification as Intercom signs it."""
    body = orjson.dumps(value)
    digest = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
    return Callback(url, {"content-type": "application/json", "x-hub-signature": f"sha1={digest}"}, body)


# ---- setting up ----


def _me(_request: Request, _shelf: Shelf) -> Reply:
    app = {"type": "app", "id_code": APP_ID, "name": "Sandbox", "region": "US"}
    return json_reply(200, {"type": "admin", "id": "1", "email": "admin@sandbox.example", "app": app})


def _attributes(request: Request, shelf: Shelf) -> Reply:
    made = shelf.kind("attributes")
    if request.method == "GET":
        return json_reply(200, {"type": "list", "data": list(made.values())})
    body = request.json()
    if not isinstance(body, dict) or {"name", "model", "data_type"} - body.keys():
        return _error(400, "parameter_not_found", "name, model and data_type are required")
    if body["name"] in made:
        return _error(400, "parameter_invalid", "You already have an attribute of this name")
    made[body["name"]] = {**body, "type": "data_attribute", "id": shelf.next_serial(), "custom": True}
    return json_reply(200, made[body["name"]])


VENDOR = Vendor(
    name="intercom",
    routes={
        ("POST", "/contacts/search"): _guarded(_search),
        ("GET", f"/contacts/{_ID.pattern}"): _guarded(_one),
        ("PUT", f"/contacts/{_ID.pattern}"): _guarded(_one),
        ("POST", "/events"): _guarded(_event),
        ("GET", "/me"): _guarded(_me),
        ("GET", "/data_attributes"): _guarded(_attributes),
        ("POST", "/data_attributes"): _guarded(_attributes),
    },
    settings={"access_token": ACCESS_TOKEN, "client_secret": CLIENT_SECRET, "app_id": APP_ID},
    refuse=refuse,
)
