"""What WooCommerce's webhooks say, in our words: its payloads, its statuses, and the settings that reach it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretStr

from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Inbound, PlatformSettings, Received, Refusal, Reply
from ordernotify.platforms._events import raw_status
from ordernotify.platforms._reading import (
    Count,
    Filled,
    Foreign,
    GmtMoment,
    Id,
    Word,
    one_line,
    parse,
    read_json,
    tracking_number,
)

SOURCE: Final = "woocommerce"

_S = OrderStatus
_UNPROCESSABLE = 422
_PREFIX = "wc-"  # how the shop stores its statuses; the API says them without

# `completed` is as far as WooCommerce goes: that a parcel arrived, only a carrier knows. `on-hold` waits for
# money or stock and is no regulatory hold. A payment that failed is for a person, not for the client.
STATUS: Mapping[str, OrderStatus] = {
    "pending": _S.RECEIVED,
    "on-hold": _S.RECEIVED,
    "processing": _S.PROCESSING,
    "completed": _S.SHIPPED,
    "cancelled": _S.CANCELLED,
    "failed": _S.UNKNOWN,
}
# Not orders yet, not orders any more, or money alone, which is no evidence that the goods came back.
SILENT: Final = frozenset({"checkout-draft", "auto-draft", "draft", "trash", "refunded"})
WHOLE_ORDER: Final = ("order.created", "order.updated", "order.restored")


def _status_map(value: object) -> object:
    """Read ``custom=status, other=status`` or the same as an object, the shop's prefix left away."""
    if isinstance(value, str):
        pairs = [one.partition("=") for one in value.split(",") if one.strip()]
        value = {word.strip(): status.strip() for word, _, status in pairs}
    if not isinstance(value, dict):
        return value
    return {str(word).strip().lower().removeprefix(_PREFIX): status for word, status in value.items()}


class Settings(PlatformSettings):
    """A shop, the secret that signs its webhooks, and the keys to write back with."""

    base_url: str = Field(description="Root of the shop, such as https://shop.example.com.")
    webhook_secret: SecretStr = Field(
        description="Secret of the webhooks, of letters and digits. Two, with a comma, while one changes."
    )
    consumer_key: SecretStr = Field(description="REST API key (ck_...), with read and write access.")
    consumer_secret: SecretStr = Field(description="REST API secret (cs_...).")
    status_map: Annotated[dict[str, OrderStatus], BeforeValidator(_status_map)] = Field(
        default_factory=dict,
        description="What the shop's own statuses mean: awaiting-stock=backordered,in-transit=shipped.",
    )
    customer_note: bool = Field(
        default=False,
        description="Whether the shop shows our notes to the buyer and mails them: a second message.",
    )
    tracking_meta_key: str = Field(
        default="_wc_shipment_tracking_items", description="Order field where a plugin keeps tracking numbers."
    )
    contract_meta_key: str = Field(default="", description="Order field that holds the contract number.")


class _Line(Foreign):
    sku: Word = ""
    quantity: Count = 0


class _Billing(Foreign):
    email: Word = ""


class _Meta(Foreign):
    key: Word = ""
    value: Any = None


class _Order(Foreign):
    id: Id
    number: Word = ""
    status: Filled
    customer_id: Count = 0
    billing: _Billing | None = None
    date_created_gmt: GmtMoment | None = None
    date_modified_gmt: GmtMoment | None = None
    date_completed_gmt: GmtMoment | None = None
    line_items: list[_Line] = Field(default_factory=list)
    meta_data: list[_Meta] = Field(default_factory=list)


class _Action(Foreign):
    action: Filled
    arg: Id


def read(inbound: Inbound, settings: Settings, now: datetime) -> Received | Refusal:
    """Return what a verified request says; topics that are not about an order's status say nothing."""
    topic = inbound.header("x-wc-webhook-topic").strip().lower()
    if not topic:
        return Refusal(_UNPROCESSABLE, "X-WC-Webhook-Topic", "is missing")
    if topic.startswith("action."):
        return _action(inbound, now)
    if topic not in WHOLE_ORDER:
        return Received(reply=Reply())
    order = read_json(_Order, inbound.body)
    if isinstance(order, Refusal):
        return order
    status = order.status.lower().removeprefix(_PREFIX)
    changed = order.date_modified_gmt or order.date_created_gmt
    # Two edits within one second have the same time; the body tells them apart, and a repetition does not.
    digest = hashlib.sha256(inbound.body).hexdigest()[:16]
    key = f"{order.id} {status} {changed.isoformat() if changed else ''} {digest}"
    event = _event(order, settings, key=key, now=now)
    return Received(events=(event,) if event else (), reply=Reply())


def _action(inbound: Inbound, now: datetime) -> Received | Refusal:
    """Return an event that says only which order changed: the body of an action holds nothing else."""
    action = read_json(_Action, inbound.body)
    if isinstance(action, Refusal):
        return action
    # The body is the same at every change of an order, so the delivery's id must tell them apart.
    delivery = one_line(inbound.header("x-wc-webhook-delivery-id"), limit=100) or now.isoformat()
    event = OrderEvent(
        source=SOURCE,
        dedupe_key=f"{action.arg} {one_line(action.action, limit=100)} {delivery}",
        order_ref=str(action.arg),
        order_no="",
        status=_S.UNKNOWN,
        raw_status=raw_status(action.action),
        occurred_at=now,
        refs={SOURCE: str(action.arg)},
        thin=True,
    )
    return Received(events=(event,), reply=Reply())


def read_order(body: bytes, settings: Settings, *, key: str, now: datetime) -> OrderEvent | Refusal | None:
    """Return the event of an order that was fetched, None where its status is nothing to tell."""
    order = read_json(_Order, body)
    return order if isinstance(order, Refusal) else _event(order, settings, key=key, now=now)


def _event(order: _Order, settings: Settings, *, key: str, now: datetime) -> OrderEvent | None:
    word = order.status.lower().removeprefix(_PREFIX)
    status = settings.status_map.get(word) or STATUS.get(word)
    if status is None and word in SILENT:
        return None
    # Every edit of a completed order moves its modification time; when it was completed stays as it was, so
    # that a late edit cannot make a parcel that a carrier already delivered "shipped" again.
    completed = order.date_completed_gmt if word == "completed" else None
    carrier, number = _tracking(order.meta_data, settings.tracking_meta_key)
    return OrderEvent(
        source=SOURCE,
        dedupe_key=key,
        order_ref=str(order.id),
        order_no=order.number or str(order.id),
        status=status or _S.UNKNOWN,
        raw_status=raw_status(order.status),
        occurred_at=completed or order.date_modified_gmt or order.date_created_gmt or now,
        client_ref=_client(order),
        contract_id=_contract(order.meta_data, settings.contract_meta_key),
        carrier=carrier,
        tracking_no=number,
        lines=tuple(Line(item.sku, item.quantity) for item in order.line_items if item.sku and item.quantity),
        refs={SOURCE: str(order.id)},
    )


def _client(order: _Order) -> str:
    if order.customer_id:
        return str(order.customer_id)
    return order.billing.email.lower() if order.billing else ""


def _contract(meta: Sequence[_Meta], key: str) -> str:
    value = next((one.value for one in meta if key and one.key == key), "")
    return one_line(value, limit=64) if isinstance(value, str) else ""


def _tracking(meta: Sequence[_Meta], key: str) -> tuple[str, str]:
    """Return carrier and number of the last parcel that the tracking plugin knows, '' where it knows none."""
    items = next((one.value for one in meta if one.key == key), None)
    last = items[-1] if isinstance(items, list) and items else None
    if not isinstance(last, dict):
        return "", ""
    carrier, number = last.get("tracking_provider"), last.get("tracking_number")
    return (
        one_line(carrier, limit=64) if isinstance(carrier, str) else "",
        tracking_number(number) if isinstance(number, str) else "",
    )


_PING = re.compile(rb"webhook_id=[0-9]{1,19}")


def ping(inbound: Inbound) -> Reply | None:
    """Answer the unsigned ping that the shop makes when a webhook is created: it wants exactly 200."""
    form = inbound.header("content-type").lower().startswith("application/x-www-form-urlencoded")
    return Reply() if form and _PING.fullmatch(inbound.body) else None


def id_of(body: bytes) -> str:
    """Return the ``id`` of a JSON object that the shop answered, '' where it has none."""
    value = parse(body)
    found = value.get("id") if isinstance(value, dict) else None
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else ""


def stored_as(secret: str) -> str:
    """Return the key that the shop signs with: it decodes these entities in the secret it stores."""
    return _ENTITY.sub(lambda found: _ENTITIES[found.group()], secret)


_ENTITIES: Mapping[str, str] = {
    **dict.fromkeys(("&amp;", "&#038;"), "&"),
    **dict.fromkeys(("&lt;", "&#060;"), "<"),
    **dict.fromkeys(("&gt;", "&#062;"), ">"),
    **dict.fromkeys(("&quot;", "&#034;", "&#34;", "&#x22;"), '"'),
    **dict.fromkeys(("&#039;", "&#39;", "&#x27;"), "'"),
}
_ENTITY = re.compile("|".join(map(re.escape, _ENTITIES)))
