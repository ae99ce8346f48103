"""The payloads and the vocabulary of Shopify's webhooks, as far as we read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from ordernotify.core.events import OrderStatus
from ordernotify.platforms._reading import Count, Filled, Foreign, Id, Moment, Tracking, Word

ORDER_GID: Final = "gid://shopify/Order/"
FULFILLMENT_GID: Final = "gid://shopify/Fulfillment/"
FULFILLMENT_ORDER_GID: Final = "gid://shopify/FulfillmentOrder/"

_S = OrderStatus

# `shipment_status` of a fulfillment and `status` of a fulfillment event share one vocabulary. `picked_up` may
# mean a carrier or, in a store, the buyer: the weaker of the two is said.
SHIPMENT: Mapping[str, OrderStatus] = {
    "label_printed": _S.PROCESSING,
    "label_purchased": _S.PROCESSING,
    "confirmed": _S.PROCESSING,
    "carrier_picked_up": _S.SHIPPED,
    "picked_up": _S.SHIPPED,
    "in_transit": _S.SHIPPED,
    "out_for_delivery": _S.OUT_FOR_DELIVERY,
    "ready_for_pickup": _S.OUT_FOR_DELIVERY,
    "attempted_delivery": _S.DELAYED,
    "delayed": _S.DELAYED,
    "failure": _S.DELAYED,
    "delivered": _S.DELIVERED,
}
DETAIL: Mapping[str, str] = {
    "ready_for_pickup": "available_for_pickup",
    "attempted_delivery": "delivery_attempted",
    "failure": "delivery_failed",
}
# A fulfillment that failed or was cancelled is not an order that was: a person looks, no client is told.
FULFILLMENT: Mapping[str, OrderStatus] = {
    "pending": _S.PROCESSING,
    "open": _S.PROCESSING,
    "cancelled": _S.UNKNOWN,
    "error": _S.UNKNOWN,
    "failure": _S.UNKNOWN,
}
# Only missing stock is news to a client; the others are between the merchant and the order.
HOLD: Mapping[str, OrderStatus] = {
    "inventory_out_of_stock": _S.BACKORDERED,
    "awaiting_payment": _S.PROCESSING,
    "incorrect_address": _S.PROCESSING,
    "high_risk_of_fraud": _S.PROCESSING,
    "unknown_delivery_date": _S.PROCESSING,
    "awaiting_return_items": _S.PROCESSING,
    "online_store_post_purchase_cross_sell": _S.PROCESSING,
    "other": _S.PROCESSING,
}


class OrderedLine(Foreign):
    """One line of an order or fulfillment."""

    sku: Word = ""
    quantity: Count = 0
    current_quantity: Count | None = None  # what is left of it after edits and refunds


class Customer(Foreign):
    """Who ordered; absent without access to protected customer data."""

    id: Id | None = None
    email: Word = ""


class Attribute(Foreign):
    """A named value that the shop attached to an order."""

    name: Word = ""
    value: Any = None


class Fulfillment(Foreign):
    """One shipment of an order."""

    id: Id
    order_id: Id
    status: Word = ""
    shipment_status: Word = ""
    tracking_company: Word = ""
    tracking_number: Tracking = ""
    created_at: Moment | None = None
    updated_at: Moment | None = None
    line_items: list[OrderedLine] = Field(default_factory=list)


class Order(Foreign):
    """An order as the order topics send it, whole."""

    id: Id
    name: Word = ""
    order_number: Id | None = None
    email: Word = ""
    customer: Customer | None = None
    financial_status: Word = ""
    po_number: Word = ""
    created_at: Moment | None = None
    updated_at: Moment | None = None
    cancelled_at: Moment | None = None
    note_attributes: list[Attribute] = Field(default_factory=list)
    line_items: list[OrderedLine] = Field(default_factory=list)
    fulfillments: list[Fulfillment] = Field(default_factory=list)


class FulfillmentEvent(Foreign):
    """One step of a shipment."""

    id: Id
    fulfillment_id: Id
    order_id: Id
    status: Filled
    message: Annotated[str | None, Field(strict=True)] = None
    happened_at: Moment
    estimated_delivery_at: Word = ""


class FulfillmentOrder(Foreign):
    """What is to be shipped from one place; the payload does not say of which order."""

    id: Annotated[str, Field(strict=True, pattern=rf"^{FULFILLMENT_ORDER_GID}[0-9]{{1,19}}$")]
    order_id: Id | None = None


class Hold(Foreign):
    """Why something is held."""

    reason: Filled


class Held(Foreign):
    """A fulfillment order that was put on hold."""

    fulfillment_order: FulfillmentOrder
    created_fulfillment_hold: Hold


class Released(Foreign):
    """A fulfillment order whose holds are gone."""

    fulfillment_order: FulfillmentOrder


class Return(Foreign):
    """A return of an order's parts."""

    id: Id
    order_id: Id
    status: Word = ""
