"""What Shopify's webhooks say, in our words: a table of topics, and tables of Shopify's own vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Inbound, Received, Refusal, Reply
from ordernotify.platforms._events import raw_status
from ordernotify.platforms._reading import Model, mark_of, one_line, parse, read_json, read_moment
from ordernotify.platforms._shopify_payloads import (
    DETAIL,
    FULFILLMENT,
    FULFILLMENT_GID,
    HOLD,
    ORDER_GID,
    SHIPMENT,
    Fulfillment,
    FulfillmentEvent,
    FulfillmentOrder,
    Held,
    Order,
    OrderedLine,
    Released,
    Return,
)

SOURCE: Final = "shopify"

_S = OrderStatus
_UNPROCESSABLE = 422

# How far an order is whose fulfillments differ: the first of these that any of them has.
_WORST_FIRST = (_S.UNKNOWN, _S.DELAYED, _S.OUT_FOR_DELIVERY, _S.SHIPPED)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One verified request: its body, and what its headers say of it."""

    topic: str
    shop: str
    event_id: str
    triggered_at: datetime
    body: bytes
    contract_attribute: str

    def key(self, what: str = "") -> str:
        """Return the dedupe key: one action reaches us once a subscription, under one event id."""
        return f"{self.shop} {self.event_id} {self.topic}{what}"

    def fact_key(self, order_id: int, fact: str) -> str:
        """Return the dedupe key of a fact that an order keeps stating with every later edit."""
        return f"{self.shop} order {order_id} {fact}"


_Read = Sequence[OrderEvent] | Refusal


def read(inbound: Inbound, *, prefix: str, now: datetime, contract_attribute: str) -> Received | Refusal:
    """Return what a verified request says; ``prefix`` is that of its headers. Unknown topics say nothing."""
    topic = inbound.header(f"{prefix}topic").strip().lower()
    if not topic:
        return Refusal(_UNPROCESSABLE, f"{prefix}Topic", "is missing")
    reader = TOPICS.get(topic)
    if reader is None:
        return Received(reply=Reply())
    # The newer kind of webhook has no event id any more: there the delivery's own id is the key.
    event_id = inbound.header(f"{prefix}event-id") or inbound.header(f"{prefix}webhook-id")
    if not event_id:
        return Refusal(_UNPROCESSABLE, f"{prefix}Webhook-Id", "is missing")
    events = reader(
        Delivery(
            topic=topic,
            shop=inbound.header(f"{prefix}shop-domain").lower(),
            event_id=one_line(event_id, limit=100),
            triggered_at=read_moment(inbound.header(f"{prefix}triggered-at")) or now,
            body=inbound.body,
            contract_attribute=contract_attribute,
        )
    )
    return events if isinstance(events, Refusal) else Received(events=tuple(events), reply=Reply())


def _then(model: type[Model], tell: Callable[[Delivery, Model], Sequence[OrderEvent]]) -> Callable[[Delivery], _Read]:
    def reader(delivery: Delivery) -> _Read:
        value = read_json(model, delivery.body)
        return value if isinstance(value, Refusal) else tell(delivery, value)

    return reader


def _order_event(
    delivery: Delivery, order: Order, status: OrderStatus, *, key: str, at: datetime | None, raw: str
) -> OrderEvent:
    one = order.fulfillments[0] if len(order.fulfillments) == 1 else None
    refs = {"shopify": f"{ORDER_GID}{order.id}"}
    if one is not None:
        refs["shopify_fulfillment"] = f"{FULFILLMENT_GID}{one.id}"
    return OrderEvent(
        source=SOURCE,
        dedupe_key=key,
        order_ref=str(order.id),
        order_no=order.name or (str(order.order_number) if order.order_number else ""),
        status=status,
        raw_status=raw_status(raw),
        occurred_at=at or order.updated_at or delivery.triggered_at,
        client_ref=_client(order),
        contract_id=_contract(order, delivery.contract_attribute),
        carrier=one.tracking_company if one else "",
        tracking_no=one.tracking_number if one else "",
        lines=_lines(order.line_items),
        refs=refs,
    )


def _client(order: Order) -> str:
    customer = order.customer
    if customer is not None and customer.id is not None:
        return str(customer.id)
    return (order.email or (customer.email if customer else "")).lower()


def _contract(order: Order, attribute: str) -> str:
    if attribute == "po_number":
        return order.po_number
    named = (one.value for one in order.note_attributes if attribute and one.name == attribute)
    value = next(named, "")
    return one_line(value, limit=64) if isinstance(value, str) else ""


def _lines(items: Sequence[OrderedLine]) -> tuple[Line, ...]:
    left = [(item, item.quantity if item.current_quantity is None else item.current_quantity) for item in items]
    return tuple(Line(sku=item.sku, quantity=quantity) for item, quantity in left if item.sku and quantity)


def _cancelled(delivery: Delivery, order: Order) -> Sequence[OrderEvent]:
    key = delivery.fact_key(order.id, "cancelled")
    return (_order_event(delivery, order, _S.CANCELLED, key=key, at=order.cancelled_at, raw="cancelled"),)


def _created(delivery: Delivery, order: Order) -> Sequence[OrderEvent]:
    if order.cancelled_at is not None:
        return _cancelled(delivery, order)
    key, at = delivery.key(), order.created_at
    return (_order_event(delivery, order, _S.RECEIVED, key=key, at=at, raw="created"),)


def _updated(delivery: Delivery, order: Order) -> Sequence[OrderEvent]:
    """Tell of cancellation and payment only, each once: every edit of an order repeats all it ever was.

    What a fulfillment became is said by its own topics, when it happens.
    """
    if order.cancelled_at is not None:
        return _cancelled(delivery, order)
    if order.financial_status.lower() != "paid" or order.fulfillments:
        return ()
    key = delivery.fact_key(order.id, "paid")
    return (_order_event(delivery, order, _S.PROCESSING, key=key, at=order.updated_at, raw="paid"),)


def _fulfilled(delivery: Delivery, order: Order) -> Sequence[OrderEvent]:
    complete = delivery.topic == "orders/fulfilled"
    # One that failed or was cancelled has been replaced, or the order would not be fulfilled.
    alive = [one for one in order.fulfillments if FULFILLMENT.get(one.status.lower()) is not _S.UNKNOWN]
    statuses = [_fulfillment_status(one, complete=complete) for one in alive]
    if statuses and all(status is _S.DELIVERED for status in statuses):
        status = _S.DELIVERED if complete else _S.SHIPPED
    elif not statuses and complete:
        status = _S.SHIPPED
    else:
        status = next((worst for worst in _WORST_FIRST if worst in statuses), _S.PROCESSING)
    raw = "fulfilled" if complete else "partially fulfilled"
    return (_order_event(delivery, order, status, key=delivery.key(), at=order.updated_at, raw=raw),)


def _fulfillment_status(one: Fulfillment, *, complete: bool) -> OrderStatus:
    word = one.status.lower()
    if word != "success":
        return FULFILLMENT.get(word, _S.UNKNOWN)
    if one.shipment_status:
        return SHIPMENT.get(one.shipment_status.lower(), _S.UNKNOWN)
    return _S.SHIPPED if complete or one.tracking_number else _S.PROCESSING


def _fulfillment(delivery: Delivery, one: Fulfillment) -> Sequence[OrderEvent]:
    succeeded = one.status.lower() == "success"
    word = one.shipment_status.lower() if succeeded else ""
    raw = one.shipment_status if word else f"fulfillment {one.status}"
    event = OrderEvent(
        source=SOURCE,
        dedupe_key=delivery.key(),
        order_ref=str(one.order_id),
        order_no="",
        status=_fulfillment_status(one, complete=False),
        raw_status=raw_status(raw),
        occurred_at=one.updated_at or one.created_at or delivery.triggered_at,
        detail=DETAIL.get(word, ""),
        carrier=one.tracking_company,
        tracking_no=one.tracking_number,
        lines=_lines(one.line_items),
        refs=_fulfillment_refs(one.order_id, one.id),
    )
    return _with_alert(delivery, event, word)


def _fulfillment_event(delivery: Delivery, step: FulfillmentEvent) -> Sequence[OrderEvent]:
    if mark_of(step.message or ""):
        return ()  # our own writing, coming back
    word = step.status.lower()
    status = SHIPMENT.get(word, _S.UNKNOWN)
    # The carrier's estimate moves all the time; it is news only where it tells how long a delay is.
    estimate = step.estimated_delivery_at if status is _S.DELAYED else ""
    event = OrderEvent(
        source=SOURCE,
        dedupe_key=delivery.key(),
        order_ref=str(step.order_id),
        order_no="",
        status=status,
        raw_status=raw_status(step.status),
        occurred_at=step.happened_at,
        detail=DETAIL.get(word, ""),
        promised_date=_day(estimate),
        refs=_fulfillment_refs(step.order_id, step.fulfillment_id),
    )
    return _with_alert(delivery, event, word)


def _day(moment: str) -> str:
    # The day as the shop's own time zone has it, which is the one that people there were told.
    return moment[: len("2026-11-24")] if read_moment(moment) else ""


def _with_alert(delivery: Delivery, event: OrderEvent, word: str) -> Sequence[OrderEvent]:
    """Return the event, and for a failed delivery a second one that a person must look at."""
    if word != "failure":
        return (event,)
    alert = replace(event, dedupe_key=delivery.key(" alert"), status=_S.UNKNOWN, raw_status="delivery failure")
    return (event, alert)


def _fulfillment_refs(order_id: int, fulfillment_id: int) -> dict[str, str]:
    return {
        "shopify": f"{ORDER_GID}{order_id}",
        "shopify_fulfillment": f"{FULFILLMENT_GID}{fulfillment_id}",
    }


def _held(delivery: Delivery, held: Held) -> Sequence[OrderEvent]:
    reason = held.created_fulfillment_hold.reason
    status = HOLD.get(reason.lower(), _S.UNKNOWN)
    return (_of_fulfillment_order(delivery, held.fulfillment_order, status, f"hold {reason}"),)


def _released(delivery: Delivery, released: Released) -> Sequence[OrderEvent]:
    return (_of_fulfillment_order(delivery, released.fulfillment_order, _S.PROCESSING, "hold released"),)


def _of_fulfillment_order(delivery: Delivery, order: FulfillmentOrder, status: OrderStatus, raw: str) -> OrderEvent:
    """Return an event that names a fulfillment order; the payload does not say whose, so it must be asked."""
    refs = {"shopify_fulfillment_order": order.id}
    if order.order_id is not None:
        refs["shopify"] = f"{ORDER_GID}{order.order_id}"
    return OrderEvent(
        source=SOURCE,
        dedupe_key=delivery.key(),
        order_ref=str(order.order_id) if order.order_id is not None else order.id,
        order_no="",
        status=status,
        raw_status=raw_status(raw),
        occurred_at=delivery.triggered_at,
        refs=refs,
        thin=order.order_id is None,
    )


def _return_closed(delivery: Delivery, closed: Return) -> Sequence[OrderEvent]:
    return (
        OrderEvent(
            source=SOURCE,
            dedupe_key=delivery.key(),
            order_ref=str(closed.order_id),
            order_no="",
            status=_S.RETURNED,
            raw_status=raw_status(f"return {closed.status or 'closed'}"),
            occurred_at=delivery.triggered_at,
            detail="returned",
            refs={"shopify": f"{ORDER_GID}{closed.order_id}"},
        ),
    )


def nothing(delivery: Delivery) -> _Read:
    """Tell nothing: a refund alone is no return, and money is not what clients are told about here."""
    value = parse(delivery.body)
    return value if isinstance(value, Refusal) else ()


TOPICS: Mapping[str, Callable[[Delivery], _Read]] = {
    "orders/create": _then(Order, _created),
    "orders/updated": _then(Order, _updated),
    "orders/paid": _then(Order, _updated),
    "orders/cancelled": _then(Order, _cancelled),
    "orders/fulfilled": _then(Order, _fulfilled),
    "orders/partially_fulfilled": _then(Order, _fulfilled),
    "fulfillments/create": _then(Fulfillment, _fulfillment),
    "fulfillments/update": _then(Fulfillment, _fulfillment),
    "fulfillment_events/create": _then(FulfillmentEvent, _fulfillment_event),
    "fulfillment_orders/placed_on_hold": _then(Held, _held),
    "fulfillment_orders/hold_released": _then(Released, _released),
    "returns/close": _then(Return, _return_closed),
    "refunds/create": nothing,
}
