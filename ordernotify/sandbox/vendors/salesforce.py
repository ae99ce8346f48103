"""Salesforce simulated: logins, orders written alone and in composite requests, and outbound messages.

Every order number exists, except those that begin with ``NONE-``; ``TWICE-`` are two orders, ``LOCKED-`` one that
somebody else is writing. The Flow of the org sends when the reference of an order changes, and only then. Where a
write changes ``Status``, the outbound message goes to the webhook named ``events``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply
from ordernotify.sandbox.vendors._salesforce_login import CLIENT_ID, CLIENT_SECRET, ORGANIZATION, TOKEN, token
from ordernotify.sandbox.vendors._salesforce_outbound import WEBHOOK_SECRET, outbound_callback, outbound_message

_SUBREQUESTS = 25
_DATA = r"/services/data/v\d{2,3}\.0"
_FIELDS: Final[Mapping[str, int]] = {
    "Status": 40,
    "Notice_Status__c": 40,
    "Notice_Text__c": 32_768,
    "Notice_Reference__c": 64,
}
_EXTERNAL_ID = "Ext_Id__c"
_PICKLIST = frozenset({"Draft", "Activated", "Canceled", "Expired", "Shipped"})

_Endpoint = Callable[[Request, Shelf], Reply]


def _error(status: int, code: str, message: str, *fields: str) -> Reply:
    return json_reply(status, [{"message": message, "errorCode": code, "fields": list(fields)}])


_NOT_FOUND = _error(404, "NOT_FOUND", "The requested resource does not exist")
FAULTS: Final[Mapping[Fault, Reply]] = {
    Fault.RATE: json_reply(
        429,
        [{"message": "Too many requests", "errorCode": "TOO_MANY_REQUESTS", "fields": []}],
        headers={"retry-after": "1"},
    ),
    Fault.RATE_BARE: _error(
        403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
    ),
    Fault.SERVER_ERROR: _error(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred."),
    Fault.PERMANENT: _error(400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", "This order is closed.", "Notice_Text__c"),
    Fault.AUTH: _error(401, "INVALID_SESSION_ID", "Session expired or invalid"),
    # Salesforce knows no opt-out on an order: what it will not take, it will not take for anybody.
    Fault.OPT_OUT: _error(400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", "The contact opted out.", "Notice_Text__c"),
}


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Salesforce's format."""
    return FAULTS[fault]


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return FAULTS[Fault.AUTH]
        return endpoint(request, shelf)

    return check


# ---- orders ----


def record_id(number: str) -> str:
    """Return the record id of the order with this external id: the same one, always."""
    digits = f"{int(hashlib.sha256(number.encode()).hexdigest(), 16) % 10**12:012d}"
    return f"801{digits}AAA"  # without capitals in the first fifteen, the last three are AAA


def _write(request: Request, shelf: Shelf) -> Reply:
    """Update an order, by its record id or by its external id."""
    where = unquote(request.path.split("/sobjects/Order/", 1)[1])
    field, _, number = where.partition("/")
    body = request.json()
    if not isinstance(body, dict):
        return _error(400, "JSON_PARSER_ERROR", "Unexpected character")
    if number and field != _EXTERNAL_ID:
        message = f"Provided external ID field does not exist or is not accessible: {field}"
        return _error(404, "NOT_FOUND", message)
    if not number and not re.fullmatch(r"801[A-Za-z0-9]{15}", where):
        return _NOT_FOUND
    refusal = _fault_of_order(number, update_only=request.query.get("updateOnly") == "true")
    return refusal or _fault_of_fields(body) or _update(number or where, number, body, shelf)


def _fault_of_order(number: str, *, update_only: bool) -> Reply | None:
    if number.startswith("TWICE-"):
        records = [record_id(number), record_id(f"{number}-2")]
        return json_reply(300, [f"/services/data/v68.0/sobjects/Order/{one}" for one in records])
    if number.startswith("LOCKED-"):
        return _error(400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record")
    if number.startswith("NONE-"):
        # What would be made in its place lacks what every order must have.
        missing = _error(400, "REQUIRED_FIELD_MISSING", "Required fields are missing: [AccountId]", "AccountId")
        return _NOT_FOUND if update_only else missing
    return None


def _fault_of_fields(fields: Mapping[str, Any]) -> Reply | None:
    for name, value in fields.items():
        if name in {"Id", _EXTERNAL_ID}:
            return _error(400, "INVALID_FIELD_FOR_INSERT_UPDATE", f"Unable to write {name}", name)
        if name not in _FIELDS:
            return _error(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type Order")
        if len(str(value)) > _FIELDS[name]:
            return _error(400, "STRING_TOO_LONG", f"{name}: data value too large", name)
        if name == "Status" and value not in _PICKLIST:
            code = "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
            return _error(400, code, "bad value for restricted picklist field", name)
    return None


def _update(key: str, number: str, fields: Mapping[str, Any], shelf: Shelf) -> Reply:
    record = record_id(number) if number else key
    order = shelf.kind("orders").setdefault(record, {"Id": record, "Status": "Draft"})
    sends = fields.get("Notice_Reference__c") not in {None, order.get("Notice_Reference__c")}
    told = fields.get("Status") not in {None, order["Status"]}
    order.update(fields)
    taken = (
        Taken(
            to=key,
            reference=str(order.get("Notice_Reference__c", "")),
            text=str(order.get("Notice_Text__c", "")),
            provider_ref=record,
        ),
    )
    callbacks = _told(order, shelf) if told else ()
    if not number:
        return Reply(204, taken=taken if sends else (), callbacks=callbacks)
    body = {"id": record, "success": True, "errors": [], "created": False}
    return json_reply(200, body, taken=taken if sends else (), callbacks=callbacks)


def _order(request: Request, shelf: Shelf) -> Reply:
    record = request.path.rsplit("/", 1)[1]
    if not re.fullmatch(r"801[A-Za-z0-9]{15}", record) or record.startswith("801999"):
        return _NOT_FOUND
    order = {
        "Id": record,
        "OrderNumber": "00000100",
        "Status": "Draft",
        "AccountId": "001000000000001AAA",
        "LastModifiedDate": clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
        **shelf.kind("orders").get(record, {}),
    }
    order["StatusCode"] = order["Status"] if order["Status"] != "Shipped" else "Activated"
    wanted = request.query.get("fields", "").split(",")
    unknown = [name for name in wanted if name not in order and not name.endswith("__c")]
    if unknown:
        return _error(400, "INVALID_FIELD", f"No such column '{unknown[0]}' on sobject of type Order")
    attributes = {"type": "Order", "url": f"/services/data/v68.0/sobjects/Order/{record}"}
    return json_reply(200, {"attributes": attributes, **{name: order.get(name) for name in wanted}})


def _composite(request: Request, shelf: Shelf) -> Reply:
    body = request.json()
    parts = body.get("compositeRequest") if isinstance(body, dict) else None
    if not isinstance(parts, list) or not 1 <= len(parts) <= _SUBREQUESTS:
        return _error(400, "INVALID_INPUT", f"Must have 1 to {_SUBREQUESTS} subrequests", "compositeRequest")
    replies = [(part["referenceId"], _subrequest(part, request, shelf)) for part in parts]
    results = [
        {
            "body": orjson.loads(reply.body) if reply.body else None,
            "httpHeaders": {},
            "httpStatusCode": reply.status,
            "referenceId": reference,
        }
        for reference, reply in replies
    ]
    return json_reply(
        200,
        {"compositeResponse": results},
        taken=tuple(taken for _, reply in replies for taken in reply.taken),
        callbacks=tuple(callback for _, reply in replies for callback in reply.callbacks),
    )


def _subrequest(part: Mapping[str, Any], request: Request, shelf: Shelf) -> Reply:
    url = urlsplit(part["url"])
    if part["method"] != "PATCH" or not re.fullmatch(rf"{_DATA}/sobjects/Order/.+", url.path):
        return _NOT_FOUND
    query, sent = dict(parse_qsl(url.query)), orjson.dumps(part.get("body"))
    return _write(Request("PATCH", url.path, query, request.headers, sent), shelf)


# ---- what the org does of its own ----


def _told(order: Mapping[str, Any], shelf: Shelf) -> tuple[Callback, ...]:
    url = shelf.webhooks.get("events", "")
    if not url:
        return ()
    fields = {
        "Id": str(order["Id"]),
        "OrderNumber": "00000100",
        "Status": str(order["Status"]),
        "LastModifiedDate": _zulu(clock.now()),
    }
    return (outbound_callback(url, outbound_message({f"04l{shelf.next_serial():012d}AAA": fields})),)


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---- setting up ----


def _limits(_request: Request, _shelf: Shelf) -> Reply:
    return json_reply(200, {"DailyApiRequests": {"Max": 100_000, "Remaining": 99_000}})


def _tooling_query(request: Request, shelf: Shelf) -> Reply:
    found = re.search(r"DeveloperName = '(\w+)'", request.query.get("q", ""))
    if found is None:
        return _error(400, "MALFORMED_QUERY", "unexpected token")
    field = shelf.kind("fields").get(f"Order.{found.group(1)}__c")
    records = [{"Id": field}] if field else []
    return json_reply(200, {"size": len(records), "totalSize": len(records), "done": True, "records": records})


def _make_field(request: Request, shelf: Shelf) -> Reply:
    body = request.json()
    name, metadata = (body.get("FullName"), body.get("Metadata")) if isinstance(body, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(metadata, dict) or "label" not in metadata:
        return _error(400, "REQUIRED_FIELD_MISSING", "Required fields are missing: [FullName, Metadata]")
    if name in shelf.kind("fields"):
        return _error(400, "DUPLICATE_DEVELOPER_NAME", "There is already a field with this name", "DeveloperName")
    made = shelf.kind("fields")[name] = f"00N{shelf.next_serial():012d}AAA"
    return json_reply(201, {"id": made, "success": True, "errors": []})


VENDOR = Vendor(
    name="salesforce",
    routes={
        ("POST", "/services/oauth2/token"): token,
        ("PATCH", rf"{_DATA}/sobjects/Order/.+"): _guarded(_write),
        ("GET", rf"{_DATA}/sobjects/Order/[^/]+"): _guarded(_order),
        ("POST", rf"{_DATA}/composite"): _guarded(_composite),
        ("GET", rf"{_DATA}/limits"): _guarded(_limits),
        ("GET", rf"{_DATA}/tooling/query"): _guarded(_tooling_query),
        ("POST", rf"{_DATA}/tooling/sobjects/CustomField"): _guarded(_make_field),
    },
    settings={
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "organization_ids": ORGANIZATION,
        "webhook_secret": WEBHOOK_SECRET,
        "status_map": "Shipped=shipped",
    },
    url_settings={"token_url": "/services/oauth2/token"},
    refuse=refuse,
)
