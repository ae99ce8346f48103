"""Signs and addresses payloads the way each order source does: for the demo, the sandbox and the tests.

Nothing here is shared with the adapters that verify: an error would otherwise be on both sides and be unseen.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

import orjson

Json = Mapping[str, object]
Signed = tuple[dict[str, str], bytes]  # headers and exact body

CloudEventsMode = Literal["binary", "structured", "batch"]

# What a binary-mode header may hold as it is: U+0021 to U+007E without quote and percent sign.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def _base64_hmac(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shopify_request(
    topic: str,
    payload: Json,
    *,
    secret: str,
    shop: str,
    event_id: str,
    triggered_at: datetime,
    kind: Literal["webhooks", "events"] = "webhooks",
) -> Signed:
    """Return a Shopify webhook; ``kind`` chooses between its two families of headers."""
    body = orjson.dumps(payload)
    prefix = "x-shopify-" if kind == "webhooks" else "shopify-"
    headers = {
        "content-type": "application/json",
        "user-agent": "Shopify-Captain-Hook",
        f"{prefix}topic": topic,
        f"{prefix}hmac-sha256": _base64_hmac(secret.encode(), body),
        f"{prefix}shop-domain": shop,
        f"{prefix}api-version": "2026-10",
        f"{prefix}webhook-id": hashlib.sha256(f"{event_id} {topic}".encode()).hexdigest()[:32],
        f"{prefix}triggered-at": _iso(triggered_at),
    }
    if kind == "webhooks":
        headers[f"{prefix}event-id"] = event_id
    return headers, body


def woocommerce_request(
    topic: str, payload: Json, *, secret: str, shop_url: str, sent_at: datetime, webhook_id: int = 12
) -> Signed:
    """Return a WooCommerce webhook; its delivery id is the same within one second, as the shop's is."""
    body = orjson.dumps(payload)
    resource, _, event = topic.partition(".")
    second = f"{webhook_id}{int(sent_at.timestamp())}"
    headers = {
        "content-type": "application/json",
        "user-agent": "WooCommerce/10.3.4 Hookshot (WordPress/6.8.3)",
        "x-wc-webhook-source": f"{shop_url.rstrip('/')}/",
        "x-wc-webhook-topic": topic,
        "x-wc-webhook-resource": resource,
        "x-wc-webhook-event": event,
        "x-wc-webhook-signature": _base64_hmac(secret.encode(), body),
        "x-wc-webhook-id": str(webhook_id),
        "x-wc-webhook-delivery-id": hashlib.sha256(second.encode()).hexdigest()[:32],
    }
    return headers, body


def woocommerce_ping(webhook_id: int = 12) -> Signed:
    """Return the unsigned request that the shop makes when a webhook is created."""
    return {"content-type": "application/x-www-form-urlencoded"}, f"webhook_id={webhook_id}".encode()


def signed_headers(body: bytes, *, secret: str, message_id: str, sent_at: datetime) -> dict[str, str]:
    """Return the headers by which Standard Webhooks proves ``body``; ``secret`` is whsec_ and base64."""
    stamp = str(int(sent_at.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = _base64_hmac(key, f"{message_id}.{stamp}.".encode() + body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{signature}",
    }


def standard_webhooks_request(
    event_type: str, data: Json, *, secret: str, message_id: str, occurred_at: datetime, sent_at: datetime
) -> Signed:
    """Return a Standard Webhooks request; ``sent_at`` is when this attempt leaves."""
    body = orjson.dumps({"type": event_type, "timestamp": _iso(occurred_at), "data": data})
    headers = {"content-type": "application/json"}
    return headers | signed_headers(body, secret=secret, message_id=message_id, sent_at=sent_at), body


def cloudevents_request(
    events: Sequence[Json],
    *,
    mode: CloudEventsMode,
    secret: str,
    sent_at: datetime,
    message_id: str = "",
    bearer_token: str = "",
) -> Signed:
    """Return CloudEvents (each with its attributes and ``data``) in one request, signed.

    Raises ValueError for several events in a mode that carries one.
    """
    if mode != "batch" and len(events) != 1:
        raise ValueError("events: only a batch carries more or less than one")
    headers, body = _MODES[mode](events)
    first = str(events[0].get("id", "")) if events else "empty"
    headers |= signed_headers(body, secret=secret, message_id=message_id or first, sent_at=sent_at)
    if bearer_token:
        headers["authorization"] = f"Bearer {bearer_token}"
    return headers, body


def _binary(events: Sequence[Json]) -> Signed:
    event = events[0]
    headers = {
        f"ce-{name}": quote(str(value), safe=_PLAIN)
        for name, value in event.items()
        if name not in {"data", "datacontenttype"}
    }
    headers["content-type"] = str(event.get("datacontenttype", "application/json"))
    return headers, orjson.dumps(event.get("data"))


def _structured(events: Sequence[Json]) -> Signed:
    return {"content-type": "application/cloudevents+json; charset=utf-8"}, orjson.dumps(events[0])


def _batch(events: Sequence[Json]) -> Signed:
    return {"content-type": "application/cloudevents-batch+json"}, orjson.dumps(list(events))


_MODES = {"binary": _binary, "structured": _structured, "batch": _batch}
