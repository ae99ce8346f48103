"""Believable lives of orders, as each order source would tell them: real formats, signed, always the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any, Final, Literal, NamedTuple

from ordernotify.sandbox.senders import (
    Signed,
    cloudevents_request,
    shopify_request,
    standard_webhooks_request,
    woocommerce_request,
)

Source = Literal["shopify", "woocommerce", "cloudevents", "standard_webhooks"]

SHOP: Final = "northgate-demo.myshopify.com"
SHOP_URL: Final = "https://shop.example"
CATALOGUE: Final = ("RAD-7", "CBL-12", "ANT-3", "OPT-9")
UNKNOWN_SKU: Final = "XYZ-404"
CLIENTS: Final = 4
# What the plugins of the demo's WooCommerce shop add to the statuses that every shop has.
WOOCOMMERCE_STATUSES: Final = (
    "awaiting-stock=backordered,delayed=delayed,out-for-delivery=out_for_delivery,delivered=delivered"
)

# Numbers of a shop's things, apart from each other as they are in a real shop.
SHOPIFY_ORDER: Final = 5_000_000_000_000
SHOPIFY_FULFILLMENT: Final = 4_000_000_000_000
SHOPIFY_FULFILLMENT_ORDER: Final = 6_000_000_000_000
_SHOPIFY_CUSTOMER = 6_600_000_000_000
_EVENTS = uuid.UUID("6f0d1f0a-6a53-4a7e-9d0c-3c5d1b1f7a10")
_GENERIC = {"cloudevents": "SO", "standard_webhooks": "MO"}


class Sent(NamedTuple):
    """One request of a source to us: its headers, its exact body, and the path below our root."""

    headers: dict[str, str]
    body: bytes
    path: str


@dataclass(frozen=True, slots=True)
class _Step:
    """One thing that happens to order ``n``."""

    n: int
    number: int
    status: str
    at: datetime
    again: bool = False  # the same status as before, after something held the order up
    sku: str = ""


def client_ref(n: int, source: Source) -> str:
    """Return how ``source`` names the client of order ``n``; there are four, in turn."""
    client = 201 + n % CLIENTS
    return {"shopify": str(_SHOPIFY_CUSTOMER + client), "woocommerce": str(client)}.get(source, f"C-{client}")


def order_no(n: int, source: Source) -> str:
    """Return the number by which people know order ``n`` of ``source``."""
    number = 1000 + n
    return {"shopify": f"#{number}", "woocommerce": str(number)}.get(source) or f"{_GENERIC[source]}-{number}"


def story(
    n: int,
    *,
    source: Source,
    start: datetime,
    secret: str,
    sent_at: datetime | None = None,
    unknown_sku: bool = False,
) -> Iterator[Sent]:
    """Tell the life of order ``n`` (from 1), from ``start`` on: about five days until it is delivered.

    Every fifth order is delayed on its way, every seventh waits for stock, and every fourth of CloudEvents
    for an export licence. ``sent_at`` is when the requests leave, for signatures that hold for five minutes;
    without it each leaves when its step happens. ``unknown_sku`` puts a part on it that no catalogue knows.
    """
    tell = _TELLERS[source]
    for step in _life(n, source=source, start=start):
        told = replace(step, sku=UNKNOWN_SKU) if unknown_sku else step
        headers, body = tell(told, secret, sent_at or step.at)
        yield Sent(headers, body, f"/webhooks/{source}")


def _life(n: int, *, source: Source, start: datetime) -> Iterator[_Step]:
    at = start.astimezone(UTC)
    hours_and_statuses = [(0.0, "received"), (2.0, "processing")]
    if n % 7 == 0:
        hours_and_statuses += [(6.0, "backordered"), (30.0, "processing")]
    if n % 4 == 0 and source == "cloudevents":
        hours_and_statuses += [(4.0, "regulatory_hold"), (20.0, "processing")]
    hours_and_statuses.append((18.0, "shipped"))
    if n % 5 == 0:
        hours_and_statuses.append((20.0, "delayed"))
    hours_and_statuses += [(26.0, "out_for_delivery"), (5.5, "delivered")]
    seen: set[str] = set()
    for number, (hours, status) in enumerate(hours_and_statuses):
        at += timedelta(hours=hours, seconds=n % 60)
        yield _Step(n, number, status, at, again=status in seen)
        seen.add(status)


def _lines(step: _Step) -> list[tuple[str, int]]:
    first, second = CATALOGUE[step.n % len(CATALOGUE)], CATALOGUE[(step.n + 1) % len(CATALOGUE)]
    return [(step.sku or first, 1 + step.n % 5), (second, 2 + step.n % 3)]


def tracking_no(n: int) -> str:
    """Return the tracking number of order ``n``, with the check digit that the carrier's numbers have."""
    stem = f"999AA1{n % 10**9:09d}"
    values = [int(mark) if mark.isdigit() else (ord(mark) - ord("?")) % 10 for mark in stem]
    check = (sum(values[::2]) + 2 * sum(values[1::2])) % 10
    return f"1Z{stem}{(10 - check) % 10}"


@cache
def _recording(name: str) -> str:
    return (resources.files("ordernotify.sandbox") / "recordings" / f"{name}.json").read_text(encoding="utf-8")


def recording(name: str) -> dict[str, Any]:
    """Return a fresh copy of a recorded payload by its file's name without ``.json``."""
    value: dict[str, Any] = json.loads(_recording(name))
    return value


# ---- Shopify ----


def _shopify(step: _Step, secret: str, _sent_at: datetime) -> Signed:
    topic = "fulfillment_orders/hold_released" if step.again else _SHOPIFY_TOPICS[step.status]
    return shopify_request(
        topic,
        _SHOPIFY_PAYLOADS[topic](step),
        secret=secret,
        shop=SHOP,
        event_id=str(uuid.uuid5(_EVENTS, f"{step.n} {step.number}")),
        triggered_at=step.at,
    )


_SHOPIFY_TOPICS: Mapping[str, str] = {
    "received": "orders/create",
    "processing": "orders/paid",
    "backordered": "fulfillment_orders/placed_on_hold",
    "shipped": "fulfillments/create",
    "delayed": "fulfillment_events/create",
    "out_for_delivery": "fulfillment_events/create",
    "delivered": "fulfillment_events/create",
}


def _offset(moment: datetime) -> str:
    # A shop writes times in its own zone; this one is five hours behind UTC.
    return (moment - timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%S-05:00")


def _shopify_lines(step: _Step, recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        line | {"sku": sku, "quantity": quantity, "current_quantity": quantity, "name": sku, "title": sku}
        for line, (sku, quantity) in zip(recorded, _lines(step), strict=True)
    ]


def _shopify_order(step: _Step) -> dict[str, Any]:
    order = recording("shopify_order")
    number = SHOPIFY_ORDER + step.n
    customer = int(client_ref(step.n, "shopify"))
    return order | {
        "id": number,
        "admin_graphql_api_id": f"gid://shopify/Order/{number}",
        "name": order_no(step.n, "shopify"),
        "order_number": 1000 + step.n,
        "number": step.n,
        "created_at": _offset(step.at),
        "processed_at": _offset(step.at),
        "updated_at": _offset(step.at),
        "financial_status": "pending" if step.status == "received" else "paid",
        "customer": order["customer"] | {"id": customer, "admin_graphql_api_id": f"gid://shopify/Customer/{customer}"},
        "line_items": _shopify_lines(step, order["line_items"]),
    }


def _shopify_fulfillment(step: _Step) -> dict[str, Any]:
    fulfillment = recording("shopify_fulfillment")
    number, parcel = SHOPIFY_FULFILLMENT + step.n, tracking_no(step.n)
    url = f"https://www.ups.com/track?tracknum={parcel}"
    return fulfillment | {
        "id": number,
        "admin_graphql_api_id": f"gid://shopify/Fulfillment/{number}",
        "order_id": SHOPIFY_ORDER + step.n,
        "name": f"{order_no(step.n, 'shopify')}.1",
        "created_at": _offset(step.at),
        "updated_at": _offset(step.at),
        "tracking_number": parcel,
        "tracking_numbers": [parcel],
        "tracking_url": url,
        "tracking_urls": [url],
        "line_items": _shopify_lines(step, fulfillment["line_items"]),
    }


def _shopify_event(step: _Step) -> dict[str, Any]:
    number = 94_000_000_000_000 + step.n * 100 + step.number
    return recording("shopify_fulfillment_event") | {
        "id": number,
        "admin_graphql_api_id": f"gid://shopify/FulfillmentEvent/{number}",
        "fulfillment_id": SHOPIFY_FULFILLMENT + step.n,
        "order_id": SHOPIFY_ORDER + step.n,
        "status": step.status,
        "happened_at": _offset(step.at),
        "created_at": _offset(step.at),
        "updated_at": _offset(step.at),
        "estimated_delivery_at": _offset(step.at + timedelta(days=2)) if step.status == "delayed" else None,
    }


def _fulfillment_order(step: _Step) -> str:
    return f"gid://shopify/FulfillmentOrder/{SHOPIFY_FULFILLMENT_ORDER + step.n}"


def _shopify_held(step: _Step) -> dict[str, Any]:
    held = recording("shopify_hold")
    return held | {"fulfillment_order": held["fulfillment_order"] | {"id": _fulfillment_order(step)}}


def _shopify_released(step: _Step) -> dict[str, Any]:
    return {"fulfillment_order": {"id": _fulfillment_order(step), "status": "open"}}


_SHOPIFY_PAYLOADS: Mapping[str, Callable[[_Step], dict[str, Any]]] = {
    "orders/create": _shopify_order,
    "orders/paid": _shopify_order,
    "fulfillments/create": _shopify_fulfillment,
    "fulfillment_events/create": _shopify_event,
    "fulfillment_orders/placed_on_hold": _shopify_held,
    "fulfillment_orders/hold_released": _shopify_released,
}


# ---- WooCommerce ----

_WOOCOMMERCE_WORDS: Mapping[str, str] = {
    "received": "pending",
    "backordered": "awaiting-stock",
    "shipped": "completed",
    "out_for_delivery": "out-for-delivery",
}


def _woocommerce(step: _Step, secret: str, sent_at: datetime) -> Signed:
    topic = "order.created" if step.status == "received" else "order.updated"
    return woocommerce_request(topic, _woocommerce_order(step), secret=secret, shop_url=SHOP_URL, sent_at=sent_at)


def _woocommerce_order(step: _Step) -> dict[str, Any]:
    order = recording("woocommerce_order")
    at = step.at.strftime("%Y-%m-%dT%H:%M:%S")
    word = _WOOCOMMERCE_WORDS.get(step.status, step.status)
    parcel = {"tracking_provider": "UPS", "tracking_number": tracking_no(step.n), "tracking_id": f"{step.n:032x}"}
    on_its_way = step.status in {"shipped", "delayed", "out_for_delivery", "delivered"}
    tracking = [{"id": 13200 + step.n, "key": "_wc_shipment_tracking_items", "value": [parcel]}]
    return order | {
        "id": 1000 + step.n,
        "number": order_no(step.n, "woocommerce"),
        "status": word,
        "customer_id": int(client_ref(step.n, "woocommerce")),
        "date_modified": at,
        "date_modified_gmt": at,
        "date_completed": at if word == "completed" else None,
        "date_completed_gmt": at if word == "completed" else None,
        "meta_data": order["meta_data"] + (tracking if on_its_way else []),
        "line_items": [
            line | {"sku": sku, "quantity": quantity, "name": sku}
            for line, (sku, quantity) in zip(order["line_items"], _lines(step), strict=True)
        ],
    }


# ---- our own vocabulary, under two envelopes ----


def _data(step: _Step, source: Source) -> dict[str, Any]:
    data: dict[str, Any] = {
        "order_id": order_no(step.n, source),
        "client": client_ref(step.n, source),
        "status": step.status,
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in _lines(step)],
    }
    if step.status in {"shipped", "delayed", "out_for_delivery", "delivered"}:
        data |= {"carrier": "UPS", "tracking_no": tracking_no(step.n)}
    if step.status == "delayed":
        data |= {"promised_date": (step.at + timedelta(days=3)).date().isoformat(), "detail": "weather"}
    return data


def _zulu(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _cloudevents(step: _Step, secret: str, sent_at: datetime) -> Signed:
    event = {
        "specversion": "1.0",
        "id": f"{order_no(step.n, 'cloudevents')}-{step.number + 1}",
        "source": "//erp.example/orders",
        "type": "com.example.order.status.v1",
        "subject": order_no(step.n, "cloudevents"),
        "time": _zulu(step.at),
        "datacontenttype": "application/json",
        "sequence": f"{step.number + 1:09d}",
        "data": _data(step, "cloudevents"),
    }
    mode: Literal["binary", "structured"] = "structured" if step.n % 2 else "binary"
    return cloudevents_request([event], mode=mode, secret=secret, sent_at=sent_at)


def _standard_webhooks(step: _Step, secret: str, sent_at: datetime) -> Signed:
    data = _data(step, "standard_webhooks")
    return standard_webhooks_request(
        f"order.{step.status}",
        data,
        secret=secret,
        message_id=f"msg_{order_no(step.n, 'standard_webhooks')}_{step.number + 1}",
        occurred_at=step.at,
        sent_at=sent_at,
    )


_TELLERS: Mapping[Source, Callable[[_Step, str, datetime], Signed]] = {
    "shopify": _shopify,
    "woocommerce": _woocommerce,
    "cloudevents": _cloudevents,
    "standard_webhooks": _standard_webhooks,
}
