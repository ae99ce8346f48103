"""Signs what carriers push to us, the way each carrier does: for the demo, the sandbox and the tests.

Nothing here is shared with the adapters that verify: an error would otherwise be on both sides and be unseen.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

import orjson

Json = Mapping[str, object]
Signed = tuple[dict[str, str], bytes]  # headers and exact body

_JSON = {"content-type": "application/json"}


def _hmac(secret: str, signed: bytes) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def ups_request(payload: Json, *, credential: str) -> Signed:
    """Return a Track Alert, which carries a credential and no signature."""
    headers = {**_JSON, "user-agent": "UPSPubSubTrackingService", "credential": credential}
    return headers, orjson.dumps(payload)


def fedex_request(payload: Json, *, token: str) -> Signed:
    """Return a push of FedEx's Advanced Integrated Visibility."""
    body = orjson.dumps(payload)
    return {**_JSON, "fdx-signature": _base64(_hmac(token, body))}, body


def usps_request(payload: Json, *, secret: str, sent_at: datetime, subscription_id: str = "a1") -> Signed:
    """Return an update of a USPS subscription: the payload is text within the body."""
    text = orjson.dumps(payload).decode()
    stamp = sent_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    envelope = {
        "subscriptionId": subscription_id,
        "subscriptionType": "TRACKING",
        "timestamp": stamp,
        "payload": text,
        "links": [],
    }
    signature = _base64(_hmac(secret, f"{stamp}{text}".encode()))
    return {**_JSON, "x-hmac": signature}, orjson.dumps(envelope)


def easypost_request(
    payload: Json, *, secret: str, sent_at: datetime | None = None, path: str = "/carriers/easypost"
) -> Signed:
    """Return an EasyPost event; with ``sent_at`` it has both signatures, without it only the older one."""
    body = orjson.dumps(payload)
    key = unicodedata.normalize("NFKD", secret)
    headers = {**_JSON, "x-hmac-signature": f"hmac-sha256-hex={_hmac(key, body).hex()}"}
    if sent_at is not None:
        stamp = format_datetime(sent_at.astimezone(UTC).replace(tzinfo=None))  # which ends in -0000
        signed = f"{stamp}POST{path}".encode() + body
        headers |= {
            "x-timestamp": stamp,
            "x-path": path,
            "x-hmac-signature-v2": f"hmac-sha256-hex={_hmac(key, signed).hex()}",
        }
    return headers, body


def shippo_request(payload: Json, *, secret: str, sent_at: datetime) -> Signed:
    """Return a Shippo webhook of an account for which signatures are on."""
    body = orjson.dumps(payload)
    stamp = str(int(sent_at.timestamp()))
    signature = _hmac(secret, f"{stamp}.".encode() + body).hex()
    return {**_JSON, "shippo-auth-signature": f"t={stamp},v1={signature}"}, body


def aftership_request(payload: Json, *, secret: str) -> Signed:
    """Return an AfterShip webhook."""
    body = orjson.dumps(payload)
    headers = {
        **_JSON,
        "user-agent": "AfterShipTrackingWebhook/1.0",
        "as-webhook-version": "2026-07",
        "aftership-hmac-sha256": _base64(_hmac(secret, body)),
    }
    return headers, body


def seventeentrack_request(payload: Json, *, api_key: str) -> Signed:
    """Return a 17TRACK webhook, which is signed by a plain digest."""
    body = orjson.dumps(payload)
    return {**_JSON, "sign": hashlib.sha256(body + f"/{api_key}".encode()).hexdigest()}, body
