"""HubSpot simulated: records written alone and in batches, single-send e-mail, tokens, and signed webhooks.

Every record exists, except those whose key begins with ``none``; ``locked`` is held by a bulk job. The workflow of
the account sends when the reference of a record changes, and only then. The part of an e-mail address before the @
decides what becomes of it: ``optedout`` and ``bounced`` are refused, ``later`` is throttled; every other is sent.
Where a write changes the stage of a record, the webhook named ``events`` is told.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final
from urllib.parse import unquote

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply
from ordernotify.sandbox.vendors._hubspot_setup import error, error_body, find_property, flows, make_property

ACCESS_TOKEN: Final = "pat-na1-sandbox-opens-nothing"  # noqa: S105 - of the sandbox, which guards nothing
CLIENT_ID: Final = "11111111-2222-3333-4444-555555555555"
CLIENT_SECRET: Final = "66666666-7777-8888-9999-000000000000"  # noqa: S105 - likewise
REFRESH_TOKEN: Final = "sandbox-refresh-token"  # noqa: S105 - likewise
REFRESHED: Final = "sandbox-access-token"
PORTAL: Final = 62515
STAGE: Final = "hs_pipeline_stage"

_TYPE = r"/crm/objects/\d{4}-\d{2}/[a-z0-9_-]+"
_PROPERTIES = r"/crm/properties/\d{4}-\d{2}/[a-z0-9_-]+"
_FLOWS = "/automation/v4/flows"
_EMAIL = r"/marketing/(?:transactional/\d{4}-\d{2}/single-email/send|email-campaigns/\d{4}-\d{2}/single-send)"
_INPUTS = 100
_LIFE_S = 1800
_WRITABLE = {"order_notice_status", "order_notice_text", "order_notice_reference", STAGE}
_RESULTS: Final[Mapping[str, str]] = {
    "optedout": "ADDRESS_OPTED_OUT",
    "bounced": "PREVIOUSLY_BOUNCED",
    "later": "THROTTLED",
}

_Endpoint = Callable[[Request, Shelf], Reply]


_LIMITED = {
    "status": "error",
    "message": "You have reached your ten_secondly_rolling limit.",
    "errorType": "RATE_LIMIT",
    "policyName": "TEN_SECONDLY_ROLLING",
}
_LIMIT_HEADERS = {"x-hubspot-ratelimit-max": "100", "x-hubspot-ratelimit-interval-milliseconds": "10000"}
FAULTS: Final[Mapping[Fault, Reply]] = {
    Fault.RATE: json_reply(429, _LIMITED, headers={**_LIMIT_HEADERS, "retry-after": "1"}),
    Fault.RATE_BARE: json_reply(429, _LIMITED, headers=_LIMIT_HEADERS),
    Fault.SERVER_ERROR: error(500, "INTERNAL_ERROR", "internal error"),
    Fault.PERMANENT: error(400, "VALIDATION_ERROR", "Property values were not valid"),
    Fault.AUTH: error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found."),
    Fault.OPT_OUT: json_reply(
        200, {"statusId": "sandbox-fault", "status": "CANCELED", "sendResult": "ADDRESS_OPTED_OUT"}
    ),
}


def refuse(fault: Fault) -> Reply:
    """Answer a fault in HubSpot's format."""
    return FAULTS[fault]


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        if request.headers.get("authorization") not in {f"Bearer {ACCESS_TOKEN}", f"Bearer {REFRESHED}"}:
            return FAULTS[Fault.AUTH]
        return endpoint(request, shelf)

    return check


def _token(request: Request, _shelf: Shelf) -> Reply:
    form = request.form()
    if form.get("grant_type") != "refresh_token":
        return json_reply(400, {"error": "unsupported_grant_type", "error_description": "not supported"})
    if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
        return json_reply(400, {"status": "BAD_CLIENT_SECRET", "message": "missing or unknown client"})
    if form.get("refresh_token") != REFRESH_TOKEN:
        return json_reply(400, {"status": "BAD_REFRESH_TOKEN", "message": "missing or invalid refresh token"})
    answer = {"token_type": "bearer", "access_token": REFRESHED, "refresh_token": REFRESH_TOKEN}
    return json_reply(200, {**answer, "expires_in": _LIFE_S, "hub_id": PORTAL})


# ---- records ----


def _fault_of(key: str, properties: Any) -> tuple[int, dict[str, Any]] | None:
    """Return status and body of what is wrong with one write, None when nothing is."""
    if not isinstance(properties, dict) or not all(isinstance(value, str) for value in properties.values()):
        return 400, error_body("VALIDATION_ERROR", "Invalid input JSON")
    if key.startswith("none"):
        return 404, error_body("OBJECT_NOT_FOUND", "Object not found.  objectId are usually numeric.")
    if key.startswith("locked"):
        return 423, {"status": "error", "message": "The record is locked."}
    if unknown := properties.keys() - _WRITABLE:
        detail = f'[{{"isValid":false,"error":"PROPERTY_DOESNT_EXIST","name":"{min(unknown)}"}}]'
        return 400, error_body("VALIDATION_ERROR", f"Property values were not valid: {detail}")
    return None


def _apply(key: str, properties: Mapping[str, str], shelf: Shelf, *, unique: str) -> tuple[dict[str, Any], Reply]:
    """Write one record; return it as HubSpot shows it, and a reply with what was sent and told."""
    records = shelf.kind("records")
    known = records.setdefault(f"{unique} {key}", {"id": key if key.isdecimal() and not unique else _number(key)})
    sends = properties.get("order_notice_reference") not in {None, known.get("order_notice_reference")}
    moves = properties.get(STAGE) not in {None, known.get(STAGE)}
    known.update(properties)
    taken = Taken(
        to=key,
        reference=known.get("order_notice_reference", ""),
        text=known.get("order_notice_text", ""),
        provider_ref=known["id"],
    )
    now = _zulu(clock.now())
    shown = {"id": known["id"], "properties": dict(properties), "createdAt": now, "updatedAt": now, "archived": False}
    callbacks = stage_changed(known["id"], known[STAGE], shelf) if moves else ()
    return shown, Reply(200, taken=(taken,) if sends else (), callbacks=callbacks)


def _number(key: str) -> str:
    return str(54_000_000_000 + int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10**9)


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _patch(request: Request, shelf: Shelf) -> Reply:
    key, body = unquote(request.path.rsplit("/", 1)[1]), request.json()
    properties = body.get("properties") if isinstance(body, dict) else None
    if fault := _fault_of(key, properties):
        return json_reply(*fault)
    shown, done = _apply(key, properties or {}, shelf, unique=request.query.get("idProperty", ""))
    return json_reply(200, shown, taken=done.taken, callbacks=done.callbacks)


def _batch(request: Request, shelf: Shelf) -> Reply:
    body = request.json()
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= _INPUTS:
        return error(400, "VALIDATION_ERROR", f"The maximum number of items per batch request is {_INPUTS}")
    keys = [(one.get("idProperty", ""), one["id"]) for one in inputs]
    if len(set(keys)) != len(keys):
        return error(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input")
    results, errors, dones = [], [], []
    for one in inputs:
        trace = one.get("objectWriteTraceId", "")
        if fault := _fault_of(one["id"], one.get("properties")):
            errors.append({**fault[1], "context": {"objectWriteTraceId": [trace], "ids": [one["id"]]}})
            continue
        shown, done = _apply(one["id"], one["properties"], shelf, unique=one.get("idProperty", ""))
        results.append({**shown, "objectWriteTraceId": trace})
        dones.append(done)
    value: dict[str, Any] = {"status": "COMPLETE", "results": results}
    if errors:
        value |= {"numErrors": len(errors), "errors": errors}
    return json_reply(
        207 if errors else 200,
        value,
        taken=tuple(taken for done in dones for taken in done.taken),
        callbacks=tuple(callback for done in dones for callback in done.callbacks),
    )


def _record(request: Request, shelf: Shelf) -> Reply:
    key = request.path.rsplit("/", 1)[1]
    if not key.isdecimal() or key.startswith("404"):
        return error(404, "OBJECT_NOT_FOUND", "Object not found.")
    known = {
        "hs_object_id": key,
        "hs_external_order_id": f"SO-{key}",
        "hs_shipping_tracking_number": "1Z999AA10123456784",
        **shelf.kind("records").get(f" {key}", {}),
    }
    wanted = request.query.get("properties", "").split(",")
    properties = {name: known.get(name) for name in ("hs_object_id", *wanted) if name}
    now = _zulu(clock.now())
    return json_reply(200, {"id": key, "properties": properties, "createdAt": now, "updatedAt": now, "archived": False})


# ---- single send ----


def _send(request: Request, shelf: Shelf) -> Reply:
    body = request.json()
    message = body.get("message") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(message, dict) or not isinstance(body.get("emailId"), int):
        return error(400, "VALIDATION_ERROR", "Invalid input JSON")
    missing = [name for name in ("contactProperties", "customProperties") if name not in body]
    missing += [name for name in ("to", "cc", "bcc", "replyTo") if name not in message]
    if missing:
        return error(400, "VALIDATION_ERROR", f"Some required fields were not set: {missing}")
    to, reference = str(message["to"]), str(message.get("sendId", ""))
    now, status_id = _zulu(clock.now()), f"AeFKGGCNv9{shelf.next_serial():010d}"
    answer: dict[str, Any] = {"requestedAt": now, "statusId": status_id, "status": "PENDING"}
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", to):
        return json_reply(200, answer | {"status": "CANCELED", "sendResult": "INVALID_TO_ADDRESS"})
    if result := _RESULTS.get(to.partition("@")[0]):
        return json_reply(200, answer | {"status": "CANCELED", "sendResult": result})
    if reference and reference in shelf.kind("sent"):
        return json_reply(200, answer | {"status": "COMPLETE", "sendResult": "IDEMPOTENT_IGNORE"})
    shelf.kind("sent")[reference] = status_id
    words = body["customProperties"]
    text = f"{words.get('subject', '')}\n{words.get('text', '')}"
    return json_reply(200, answer, taken=(Taken(to, reference, text, status_id),))


# ---- webhooks ----


def signed_callback(url: str, changes: list[dict[str, Any]], *, at: datetime, secret: str = CLIENT_SECRET) -> Callback:
    """Return the request that tells of ``changes``, signed at the time ``at``."""
    body, stamp = orjson.dumps(changes), str(int(at.timestamp() * 1000))
    digest = hmac.new(secret.encode(), f"POST{url}".encode() + body + stamp.encode(), hashlib.sha256).digest()
    headers = {
        "content-type": "application/json",
        "x-hubspot-signature-v3": base64.b64encode(digest).decode(),
        "x-hubspot-request-timestamp": stamp,
    }
    return Callback(url, headers, body)


def stage_changed(record: str, stage: str, shelf: Shelf) -> tuple[Callback, ...]:
    """Return the webhook about a new stage, where somebody subscribed."""
    url, at = shelf.webhooks.get("events", ""), clock.now()
    if not url:
        return ()
    change = {
        "eventId": 1,
        "subscriptionId": 12345,
        "portalId": PORTAL,
        "appId": 54321,
        "occurredAt": int(at.timestamp() * 1000),
        "subscriptionType": "order.propertyChange",
        "attemptNumber": 0,
        "objectId": int(record),
        "propertyName": STAGE,
        "propertyValue": stage,
        "changeSource": "INTEGRATION",
    }
    return (signed_callback(url, [change], at=at),)


VENDOR = Vendor(
    name="hubspot",
    routes={
        ("POST", r"/oauth/\d{4}-\d{2}/token"): _token,
        ("POST", rf"{_TYPE}/batch/update"): _guarded(_batch),
        ("PATCH", rf"{_TYPE}/.+"): _guarded(_patch),
        ("GET", rf"{_TYPE}/[^/]+"): _guarded(_record),
        ("POST", _EMAIL): _guarded(_send),
        ("GET", rf"{_PROPERTIES}/(?:groups/)?[a-z0-9_]+"): _guarded(find_property),
        ("POST", rf"{_PROPERTIES}(?:/groups)?"): _guarded(make_property),
        ("GET", _FLOWS): _guarded(flows),
        ("POST", _FLOWS): _guarded(flows),
    },
    settings={
        "access_token": ACCESS_TOKEN,
        "client_secret": CLIENT_SECRET,
        "email_id": "4126643121",
        "status_map": "stage-shipped=shipped",
    },
    url_settings={"token_url": "/oauth/2026-09/token"},
    refuse=refuse,
)
