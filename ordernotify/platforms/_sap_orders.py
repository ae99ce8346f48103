"""What an order or a delivery that was read from SAP says, in our words: events only point at them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Reread
from ordernotify.platforms._events import MAX_QUANTITY
from ordernotify.platforms._reading import one_line, tracking_number
from ordernotify.platforms._sap_access import SapSettings, call, order_path, refusal

DELIVERY: Final = "delivery:"  # an event's order_ref while only the delivery is known

_S = OrderStatus
_OK, _NOT_FOUND = 200, 404
_DATE = re.compile(r"/Date\((-?[0-9]{1,15})(?:[+-][0-9]{4})?\)/")
_NUMBER = re.compile(r"[0-9]{1,10}")

# Of an order: "A" not yet processed, "B" partly. "C" says that the flow of documents is complete, bills
# included, which is no word about parcels; what was delivered, the delivery says.
PROCESS: Final[Mapping[str, OrderStatus | None]] = {"A": _S.RECEIVED, "B": _S.PROCESSING, "C": None, "": None}
# Of a delivery: goods movement, and the proof that it arrived.
MOVEMENT: Final[Mapping[str, OrderStatus]] = {"A": _S.PROCESSING, "B": _S.SHIPPED, "C": _S.SHIPPED}
PROVEN: Final = "C"
_HAS_DELIVERIES = frozenset({"B", "C"})
REJECTED: Final[Mapping[str, OrderStatus]] = {"B": _S.UNKNOWN, "C": _S.CANCELLED}


def number(text: object) -> str:
    """Return a document number without the zeros that IDocs fill it up with, '' where it is none."""
    value = str(text or "").strip()
    return value.lstrip("0") if _NUMBER.fullmatch(value) else ""


def quantity(text: object) -> int:
    """Return a whole quantity such as "2.000", 0 where it is none or is not whole."""
    try:
        value = Decimal(str(text).strip())
    except InvalidOperation:
        return 0
    whole = value.is_finite() and value == value.to_integral_value() and 0 < value <= MAX_QUANTITY
    return int(value) if whole else 0


def moment(text: object) -> datetime | None:
    """Return the time that OData V2 writes as ``/Date(1795514400000+0000)/``, None where it is none."""
    found = _DATE.fullmatch(str(text))
    try:
        return datetime.fromtimestamp(int(found[1]) / 1000, UTC) if found else None
    except (ValueError, OverflowError, OSError):
        return None


def _entries(value: object) -> list[dict[str, Any]]:
    results = value.get("results") if isinstance(value, dict) else None
    return [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []


def _word(value: Mapping[str, Any], *names: str, limit: int = 64) -> str:
    """Return the first of the fields that says something: releases differ in what they call it."""
    found = next((value[name] for name in names if isinstance(value.get(name), str) and value[name]), "")
    return one_line(found, limit=limit)


# ---- reading what a thin event points at ----


def _ask(event: OrderEvent, context: Context) -> Call:
    settings: SapSettings = context.settings
    if event.order_ref.startswith(DELIVERY):
        key = number(event.order_ref.removeprefix(DELIVERY)) or "0"
        path = f"{settings.delivery_service}/A_OutbDeliveryHeader('{key}')?$expand=to_DeliveryDocumentItem"
        return call(context, "GET", f"{path}&$format=json")
    query = "?$expand=to_Item/to_ScheduleLine&$format=json"
    return call(context, "GET", order_path(settings, number(event.order_ref) or "0", query))


def _told(answer: Answer, event: OrderEvent, context: Context) -> OrderEvent | Outcome | None:
    if answer.status == _NOT_FOUND:
        return Rejected(FailureKind.PERMANENT, "not_found")
    if answer.status != _OK:
        return refusal(answer, context, asking=True)
    body = answer.json()
    found = body.get("d") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        return Deferred(FailureKind.TRANSIENT, "sap_unreadable")
    if event.order_ref.startswith(DELIVERY):
        return _delivery(found, event)
    return _order(found, event, context.settings)


def _order(found: Mapping[str, Any], event: OrderEvent, settings: SapSettings) -> OrderEvent | None:
    items = _entries(found.get("to_Item"))
    status, detail, raw, promised = _judge(found, items, settings)
    if status is None:
        return None
    return replace(
        event,
        order_no=event.order_ref,
        status=status,
        raw_status=raw,
        # After reading, the order's own time counts: of two events of one change the second says nothing new.
        occurred_at=moment(found.get("LastChangeDateTime")) or event.occurred_at,
        client_ref=_word(found, "SoldToParty") or event.client_ref,
        contract_id=_word(found, settings.contract_field) if settings.contract_field else "",
        detail=detail,
        promised_date=promised,
        lines=_lines(items, "RequestedQuantity"),
        thin=False,
    )


def _judge(
    found: Mapping[str, Any], items: list[dict[str, Any]], settings: SapSettings
) -> tuple[OrderStatus | None, str, str, str]:
    """Return status, detail, SAP's word and promised date: what stops an order counts before how far it is."""
    rejection = _word(found, "OverallSDDocumentRejectionSts")
    if rejection in REJECTED:
        return REJECTED[rejection], "", f"OverallSDDocumentRejectionSts={rejection}", ""
    block = _word(found, "DeliveryBlockReason")
    if block:
        held = _S.REGULATORY_HOLD if block in settings.holds else _S.DELAYED
        return held, "", f"DeliveryBlockReason={block}", ""
    process = _word(found, "OverallSDProcessStatus")
    status = PROCESS.get(process, _S.UNKNOWN)
    if _word(found, "OverallTotalDeliveryStatus", "OverallDeliveryStatus") in _HAS_DELIVERIES:
        # From the first delivery on, deliveries tell what happens: the order stays "partly processed" for weeks,
        # and would take back that its goods are on their way.
        return None, "", "", ""
    if status in {_S.RECEIVED, _S.PROCESSING}:
        schedule = [line for item in items for line in _entries(item.get("to_ScheduleLine"))]
        if any(_ordered(line) > _confirmed(line) for line in schedule):
            return _S.BACKORDERED, "", "ConfdOrderQtyByMatlAvailCheck<ScheduleLineOrderQuantity", ""
        late = _latest(schedule)
        if late is not None:
            return _S.DELAYED, "", "ConfirmedDeliveryDate>RequestedDeliveryDate", late.date().isoformat()
    return status, "", f"OverallSDProcessStatus={process}", ""


def _ordered(line: Mapping[str, Any]) -> Decimal:
    return _decimal(line.get("ScheduleLineOrderQuantity"))


def _confirmed(line: Mapping[str, Any]) -> Decimal:
    # A system that checks no stock leaves it out: nothing says that the goods are missing.
    value = line.get("ConfdOrderQtyByMatlAvailCheck")
    return _ordered(line) if value is None else _decimal(value)


def _decimal(value: object) -> Decimal:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return found if found.is_finite() else Decimal(0)


def _latest(schedule: Iterable[Mapping[str, Any]]) -> datetime | None:
    """Return the latest confirmed day that lies after the day it was asked for, None where none does."""
    pairs = (
        (moment(line.get("ConfirmedDeliveryDate")), moment(line.get("RequestedDeliveryDate"))) for line in schedule
    )
    return max((confirmed for confirmed, asked in pairs if confirmed and asked and confirmed > asked), default=None)


def _lines(items: Iterable[Mapping[str, Any]], amount: str) -> tuple[Line, ...]:
    pairs = ((_word(item, "Material"), quantity(item.get(amount))) for item in items)
    return tuple(Line(sku, count) for sku, count in pairs if sku and count)


def _delivery(found: Mapping[str, Any], event: OrderEvent) -> OrderEvent | Outcome:
    items = _entries(found.get("to_DeliveryDocumentItem"))
    orders = sorted({order for item in items if (order := number(item.get("ReferenceSDDocument")))})
    if len(orders) != 1:
        # Goods of several orders in one delivery: a person decides which of them it is about.
        return Rejected(FailureKind.PERMANENT, "sap_delivery_of_several_orders" if orders else "not_found")
    proof = _word(found, "OverallProofOfDeliveryStatus")
    movement = _word(found, "OverallGoodsMovementStatus")
    status = _S.DELIVERED if proof == PROVEN else MOVEMENT.get(movement, _S.UNKNOWN)
    return replace(
        event,
        order_ref=orders[0],
        order_no=orders[0],
        status=status,
        raw_status=f"OverallGoodsMovementStatus={movement}" if proof != PROVEN else "OverallProofOfDeliveryStatus=C",
        # A delivery's own last change is a day without a time: the event's time is the better one.
        client_ref=_word(found, "SoldToParty") or event.client_ref,
        detail="partial" if status is _S.SHIPPED and movement == "B" else "",
        tracking_no=tracking_number(str(found.get("BillOfLading") or "")),
        lines=_lines(items, "ActualDeliveryQuantity"),
        refs={**event.refs, "sap": orders[0]},
        thin=False,
    )


REREAD: Final = Reread(build=_ask, read=_told)
