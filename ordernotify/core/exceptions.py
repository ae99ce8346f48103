"""Exceptions: what the house concludes when a promised date passes, and which orders a person must look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from ordernotify.core.events import OrderEvent, OrderState, OrderStatus, Trigger

SOURCE: Final = "house"
# The word by which the templates say why.
PROMISE_PASSED: Final = "promise_passed"


class Cause(StrEnum):
    """Why a person must look at an order until it moves on."""

    BACKORDER = "backorder"
    CUSTOMS = "customs"
    CARRIER_EXCEPTION = "carrier_exception"


# What is known in detail says more than the status.
CAUSE_OF_DETAIL: Mapping[str, Cause] = {
    "customs": Cause.CUSTOMS,
    "delivery_failed": Cause.CARRIER_EXCEPTION,
    "address_issue": Cause.CARRIER_EXCEPTION,
    "returning": Cause.CARRIER_EXCEPTION,
}
CAUSE_OF_STATUS: Mapping[OrderStatus, Cause] = {
    OrderStatus.BACKORDERED: Cause.BACKORDER,
}
# Nobody waits for these any more.
DONE: Final = frozenset({OrderStatus.DELIVERED, OrderStatus.CANCELLED, OrderStatus.RETURNED})


def cause_of(status: OrderStatus, detail: str) -> Cause | None:
    """Return why a person must look at an order in this status, None when nobody must."""
    if status in DONE:
        return None
    return CAUSE_OF_DETAIL.get(detail) or CAUSE_OF_STATUS.get(status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """An order with the date that its client was promised."""

    order_id: str
    order_no: str
    client_id: str
    state: OrderState


def promise_key(order_id: str, promised_date: str) -> str:
    """Return the key under which a passed date is told once; a new date makes a new one."""
    return f"promised/{order_id}/{promised_date}"


def broken_promise(promise: Promise, *, zone: tzinfo, at: datetime) -> OrderEvent | None:
    """Return the event that tells a client of a promised date that has passed in ``zone``; None when none has.

    An order that its source called late when the date was already over is not called late again: its client knows.
    """
    state = promise.state
    if state.status in DONE or state.status is OrderStatus.REGULATORY_HOLD:
        return None
    try:
        day = date.fromisoformat(state.promised_date)
    except ValueError:
        return None
    over = datetime.combine(day + timedelta(days=1), time(0), zone)
    known = state.status is OrderStatus.DELAYED and state.status_at >= over
    if at < over or known:
        return None
    return OrderEvent(
        source=SOURCE,
        dedupe_key=promise_key(promise.order_id, state.promised_date),
        order_ref=promise.order_id,
        order_no=promise.order_no,
        status=OrderStatus.DELAYED,
        raw_status=PROMISE_PASSED,
        # Not before what is known already, or it would be taken for old news.
        occurred_at=max(over.astimezone(at.tzinfo), state.status_at),
        trigger=Trigger.EXCEPTION,
        client_ref=promise.client_id,
        detail=PROMISE_PASSED,
    )
