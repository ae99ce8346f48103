"""NetSuite simulated: machine-to-machine tokens, token-based login, sales orders, and the account's script.

The account is as if it had every sales order, but for those whose id ends in 404. A workflow "mails" when the
reference in an order's field changes; the script posts an order when its status changes, not when we wrote a notice.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final
from urllib.parse import quote, unquote

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply
from ordernotify.sandbox.senders import signed_headers

ACCOUNT: Final = "1234567_SB1"
CLIENT: Final = "sandbox-netsuite-client"
CERTIFICATE: Final = "sandbox-certificate"
# The other way to log in, for tests and for people who try it.
TBA: Final[Mapping[str, str]] = {
    "consumer_key": "sandbox-consumer",
    "consumer_secret": "sandbox-consumer-secret",
    "token_id": "sandbox-token",
    "token_secret": "sandbox-token-secret",
}
_ACCESS = "sandbox-netsuite-access-token"
_WEBHOOK_SECRET = f"whsec_{base64.b64encode(b'sandbox-netsuite-webhook-secret!').decode()}"
# The same in every process, because the house and the sandbox are two; it opens nothing but this simulation.
_KEY = ec.derive_private_key(0x5A11D_B0C5, ec.SECP256R1())
_PEM = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

_RECORD = "/services/rest/record/v1/salesOrder"
_TOKEN_PATH = "/services/rest/auth/oauth2/v1/token"  # noqa: S105 - a path
_FIELDS: Final = {"custbody_on_status": 300, "custbody_on_notice": 4000, "custbody_on_reference": 300}
_SKEW_S, _LONGEST_S = 300, 3600
_STATUSES: Final = {"A": "Pending Approval", "B": "Pending Fulfillment"}

_Endpoint = Callable[[Request, Shelf], Reply]


def _error(status: int, code: str, detail: str, path: str = "", **headers: str) -> Reply:
    first = {"detail": detail, "o:errorCode": code} | ({"o:errorPath": path} if path else {})
    body = {
        "type": f"https://www.rfc-editor.org/rfc/rfc9110.html#status.{status}",
        "title": "Error",
        "status": status,
        "o:errorDetails": [first],
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return json_reply(status, body, headers={"content-type": "application/vnd.oracle.resource+json", **named})


def _unauthorized() -> Reply:
    return _error(401, "INVALID_LOGIN", "Invalid login attempt. For more details, see the Login Audit Trail.")


# ---- logins ----


def _token(request: Request, shelf: Shelf) -> Reply:
    form = request.form()
    if form.get("grant_type") != "client_credentials" or not form.get("client_assertion_type", "").endswith(
        "jwt-bearer"
    ):
        return json_reply(400, {"error": "invalid_request"})
    claims = _claims(form.get("client_assertion", ""))
    if claims is None or claims.get("iss") != CLIENT or claims.get("aud") != f"{shelf.root}{_TOKEN_PATH}":
        return json_reply(400, {"error": "invalid_client"})
    issued, ends, now = int(claims.get("iat", 0)), int(claims.get("exp", 0)), clock.now().timestamp()
    if (
        not issued - _SKEW_S <= now < ends
        or ends - issued > _LONGEST_S
        or "rest_webservices" not in claims.get("scope", [])
    ):
        return json_reply(400, {"error": "invalid_grant"})
    return json_reply(200, {"access_token": _ACCESS, "expires_in": "3600", "token_type": "bearer"})


def _claims(assertion: str) -> dict[str, Any] | None:
    try:
        head, claims, signature = (base64.urlsafe_b64decode(f"{part}===") for part in assertion.split("."))
        known = orjson.loads(head)
        if known != {"typ": "JWT", "alg": "ES256", "kid": CERTIFICATE}:
            return None
        numbers = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        signed = assertion.rpartition(".")[0].encode()
        _KEY.public_key().verify(numbers, signed, ec.ECDSA(hashes.SHA256()))
        found: dict[str, Any] = orjson.loads(claims)
    except (ValueError, InvalidSignature):
        return None
    return found


def _is_signed(request: Request, shelf: Shelf) -> bool:
    """Return whether a request is signed by OAuth 1.0a with the keys of the token-based login."""
    header = request.headers.get("authorization", "").removeprefix("OAuth ")
    said = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', header)}
    if (
        said.pop("realm", "") != ACCOUNT
        or abs(int(said.get("oauth_timestamp", "0")) - clock.now().timestamp()) > _SKEW_S
    ):
        return False
    if (said.get("oauth_consumer_key"), said.get("oauth_token")) != (TBA["consumer_key"], TBA["token_id"]):
        return False
    offered, used = said.pop("oauth_signature", ""), shelf.kind("nonces")
    if said.get("oauth_nonce", "") in used:
        return False
    used[said.get("oauth_nonce", "")] = True
    pairs = sorted((quote(n, safe="~"), quote(v, safe="~")) for n, v in [*request.query.items(), *said.items()])
    url = f"{shelf.root}{request.path}"
    joined = "&".join(f"{name}={value}" for name, value in pairs)
    base = "&".join([request.method, quote(url, safe="~"), quote(joined, safe="~")])
    key = f"{TBA['consumer_secret']}&{TBA['token_secret']}".encode()
    return base64.b64encode(hmac.new(key, base.encode(), hashlib.sha256).digest()).decode() == offered


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        login = request.headers.get("authorization", "")
        known = login == f"Bearer {_ACCESS}" or (login.startswith("OAuth ") and _is_signed(request, shelf))
        return endpoint(request, shelf) if known else _unauthorized()

    return check


# ---- sales orders ----


def _key(request: Request) -> str:
    return request.path.removeprefix(f"{_RECORD}/")


def _order_of(shelf: Shelf, key: str) -> dict[str, Any] | None:
    made: dict[str, Any] | None = shelf.kind("orders").get(key)
    if made is not None or key.endswith("404"):
        return made
    number = key.removeprefix("eid:")
    digits = re.sub(r"\D", "", number) or "1"
    return {
        "id": digits.lstrip("0") or "1",
        "tranId": number if key.startswith("eid:") else f"SO{number}",
        "orderStatus": "A",
        "entity": "204",
        **dict.fromkeys(_FIELDS, ""),
    }


def _list(request: Request, _: Shelf) -> Reply:
    limit = int(request.query.get("limit", "1000"))
    items = [{"id": "1", "links": []}][:limit]
    return json_reply(200, {"count": len(items), "hasMore": True, "items": items, "offset": 0, "totalResults": 1})


def _patch(request: Request, shelf: Shelf) -> Reply:
    key, given = _key(request), request.json()
    order = _order_of(shelf, key)
    if order is None:
        return _error(404, "NONEXISTENT_ID", "The record instance does not exist. Provide a valid record instance ID.")
    refused = _wrong(given)
    if refused is not None:
        return refused
    changed = {**order, **given}
    shelf.kind("orders")[key] = changed
    reference = changed["custbody_on_reference"]
    mails = bool(reference) and reference != order["custbody_on_reference"]
    to = key if key.startswith("eid:") else f"id:{key}"
    taken = (Taken(to, reference, changed["custbody_on_notice"], order["id"]),) if mails else ()
    location = f"{shelf.root}{_RECORD}/{order['id']}"
    return Reply(204, b"", {"location": location}, taken, _told(shelf, order, changed))


def _wrong(given: object) -> Reply | None:
    if not isinstance(given, dict):
        return _error(400, "INVALID_CONTENT", "Invalid content in the request body.")
    for name, value in given.items():
        if name == "orderStatus" and value not in _STATUSES:
            return _error(400, "INVALID_VALUE", "Invalid value for the field orderStatus.", name)
        if name not in _FIELDS and name != "orderStatus":
            return _error(400, "INVALID_CONTENT", f"Unknown reference or field '{name}'.", name)
        if name in _FIELDS and len(str(value)) > _FIELDS[name]:
            return _error(400, "EXCEEDED_MAX_FIELD_LENGTH", "The field contained more than the maximum number.", "")
    return None


def _told(shelf: Shelf, before: Mapping[str, Any], order: Mapping[str, Any]) -> tuple[Callback, ...]:
    """Return what the script posts when an order's status changed."""
    url = shelf.webhooks.get("events")
    if not url or before["orderStatus"] == order["orderStatus"]:
        return ()
    now = clock.now()
    event_id = f"ns-so-{order['id']}-{now.strftime('%Y%m%dT%H%M%S')}-{shelf.next_serial()}"
    post = {
        "event_id": event_id,
        "type": "netsuite.salesorder.changed",
        "occurred_at": now.isoformat(),
        "account": ACCOUNT,
        "record": "salesorder",
        "internal_id": order["id"],
        "tran_id": order["tranId"],
        "client": order["entity"],
        "status_text": _STATUSES[order["orderStatus"]],
        "lines": [{"sku": "RAD-7", "quantity": 2, "backordered": 0, "committed": 2, "shipped": 0}],
        "fulfillments": [],
    }
    body = orjson.dumps(post)
    headers = {"content-type": "application/json"}
    headers |= signed_headers(body, secret=_WEBHOOK_SECRET, message_id=event_id, sent_at=now)
    return (Callback(url, headers, body),)


def _refuse(fault: Fault) -> Reply:
    busy = "Concurrent request limit exceeded. Request blocked."
    refusals = {
        Fault.RATE: _error(429, "CONCURRENCY_LIMIT_EXCEEDED", busy, retry_after="1"),
        Fault.RATE_BARE: _error(400, "SSS_REQUEST_LIMIT_EXCEEDED", busy),
        Fault.SERVER_ERROR: _error(500, "UNEXPECTED_ERROR", "An unexpected error occurred."),
        Fault.AUTH: _unauthorized(),
    }
    # An order knows no opt-out: what the account will not take, it will not take for anybody.
    return refusals.get(fault, _error(404, "NONEXISTENT_ID", "The record instance does not exist."))


VENDOR = Vendor(
    name="netsuite",
    routes={
        ("POST", _TOKEN_PATH): _token,
        ("GET", _RECORD): _guarded(_list),
        ("PATCH", rf"{_RECORD}/(?:eid:[A-Za-z0-9_-]+|\d+)"): _guarded(_patch),
    },
    settings={
        "account": ACCOUNT,
        "client_id": CLIENT,
        "certificate_id": CERTIFICATE,
        "private_key": _PEM,
        "webhook_secret": _WEBHOOK_SECRET,
    },
    url_settings={"token_url": _TOKEN_PATH},
    refuse=_refuse,
)
