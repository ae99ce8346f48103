"""Tracking events: what carriers say of shipments, in our words, and what it means for an order."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from itertools import chain
from typing import Final

from ordernotify.core.events import OrderEvent, OrderStatus, Trigger

NUMBER_MAX: Final = 64
_CODE_MAX = 100


class Care(StrEnum):
    """Whether a person must look at a tracking event."""

    NOBODY = "nobody"  # the usual: clients are told by the usual rules
    ALSO = "also"  # a person looks, and clients are told as usual
    FIRST = "first"  # a person looks, and clients are told nothing until that person says so


@dataclass(frozen=True, slots=True)
class Meaning:
    """A row of a carrier's table.

    ``status`` is None for a known word that changes nothing (a photo, a request), UNKNOWN for a word that no
    table maps. ``detail`` is a word of ours, as the message templates know it.
    """

    status: OrderStatus | None
    detail: str = ""
    care: Care = Care.NOBODY


UNMAPPED: Final = Meaning(OrderStatus.UNKNOWN, care=Care.FIRST)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingEvent:
    """One thing that a carrier says happened to one shipment.

    ``raw_code`` is the carrier's own code, never free text. ``event_id`` is what the carrier knows the event
    by; without it the event is known by its time, which must then be exact. ``estimated_delivery`` is the day
    that the carrier promised when it said this, at the place of delivery. ``title`` is what people call the
    company that moves the shipment, '' where the one that speaks does not say.
    """

    carrier: str
    tracking_no: str
    status: OrderStatus | None
    raw_code: str
    occurred_at: datetime
    detail: str = ""
    estimated_delivery: date | None = None
    care: Care = Care.NOBODY
    event_id: str = ""
    title: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes this event this event: a carrier tells its whole story anew each time it is asked."""
        known_by = self.event_id or self.occurred_at.astimezone(UTC).isoformat()
        return (self.carrier, self.tracking_no, known_by, self.raw_code)

    @property
    def moves(self) -> bool:
        """Whether the shipment's status follows from this event."""
        return self.status is not None and self.status is not OrderStatus.UNKNOWN


def normal_number(text: str) -> str:
    """Return a tracking number as carriers write it: visible ASCII without spaces, upper case, at most 64."""
    folded = unicodedata.normalize("NFC", text)
    return "".join(mark for mark in folded if "!" <= mark <= "~")[:NUMBER_MAX].upper()


# Of two events with one time the further one is the later: carriers round to minutes.
_FURTHER: Mapping[OrderStatus | None, int] = {
    status: place
    for place, status in enumerate(
        (
            None,
            OrderStatus.UNKNOWN,
            OrderStatus.RECEIVED,
            OrderStatus.PROCESSING,
            OrderStatus.BACKORDERED,
            OrderStatus.SHIPPED,
            OrderStatus.DELAYED,
            OrderStatus.REGULATORY_HOLD,
            OrderStatus.OUT_FOR_DELIVERY,
            OrderStatus.CANCELLED,
            OrderStatus.DELIVERED,
            OrderStatus.RETURNED,
        )
    )
}


def merge(known: Iterable[TrackingEvent], fresh: Iterable[TrackingEvent] = ()) -> tuple[TrackingEvent, ...]:
    """Return the events of both, each once, oldest first, numbers and times in one form.

    An event heard again stays as it was first heard, except for the day of delivery, which carriers revise.
    """
    kept: dict[tuple[str, str, str, str], TrackingEvent] = {}
    for event in chain(known, fresh):
        normal = replace(
            event,
            tracking_no=normal_number(event.tracking_no),
            occurred_at=event.occurred_at.astimezone(UTC),
            raw_code=event.raw_code[:_CODE_MAX],
        )
        first = kept.setdefault(normal.key, normal)
        if normal.estimated_delivery is not None:
            kept[normal.key] = replace(first, estimated_delivery=normal.estimated_delivery)
    return tuple(sorted(kept.values(), key=_place))


def _place(event: TrackingEvent) -> tuple[datetime, int, str, str, str]:
    return (event.occurred_at, _FURTHER[event.status], event.raw_code, event.event_id, event.tracking_no)


def latest(events: Iterable[TrackingEvent]) -> TrackingEvent | None:
    """Return the event from which the shipment's status follows, None while there is none."""
    moving = [event for event in events if event.moves]
    return max(moving, key=_place, default=None)


def estimate(events: Iterable[TrackingEvent]) -> date | None:
    """Return the day of delivery that the carrier promised last, None where it promised none."""
    promising = [event for event in events if event.estimated_delivery is not None]
    newest = max(promising, key=_place, default=None)
    return None if newest is None else newest.estimated_delivery


def news(known: Iterable[TrackingEvent], fresh: Iterable[TrackingEvent]) -> tuple[TrackingEvent, ...]:
    """Return what of ``fresh`` must be acted on, oldest first.

    That is the newest status when it, or its day of delivery, was not known, and every new event that a
    person must look at. A history told at once is not announced step by step.
    """
    before = merge(known)
    after = merge(before, fresh)
    heard = {event.key for event in before}
    newest, day = latest(after), estimate(after)
    moved = day is not None and day != estimate(before)
    found = []
    for event in after:
        if event is newest and (moved or event.key not in heard):
            found.append(replace(event, estimated_delivery=day))
        elif event.key not in heard and event.care is not Care.NOBODY:
            found.append(event)
    return tuple(found)


# ---- many shipments, one order ----


@dataclass(frozen=True, slots=True)
class Overall:
    """The status of an order of several shipments; ``partial`` where it is not that of all its parts."""

    status: OrderStatus
    partial: bool = False


# What concerns one shipment concerns the order, the gravest first.
_ANY: Final = (OrderStatus.REGULATORY_HOLD, OrderStatus.DELAYED, OrderStatus.OUT_FOR_DELIVERY)
_LEFT: Final = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED})


def overall(
    shipments: Iterable[OrderStatus | None],
    *,
    ordered: OrderStatus,
    lines_open: bool = False,
    lines_waiting: bool = False,
) -> Overall:
    """Return an order's status from those of its shipments (None: its carrier has said nothing yet).

    ``ordered`` is what the order's own source says, which alone can cancel. ``lines_open``: not everything is
    in a shipment yet; ``lines_waiting``: because it is not in stock. A shipment that came back speaks for
    itself, not for the others.
    """
    parts = [status or OrderStatus.PROCESSING for status in shipments]
    going = [status for status in parts if status is not OrderStatus.RETURNED]
    unfinished = lines_open or lines_waiting
    # Read from the top: the first that holds is the order's status.
    rules = (
        (OrderStatus.CANCELLED, ordered is OrderStatus.CANCELLED),
        (OrderStatus.RETURNED, bool(parts) and not going and not unfinished),
        (OrderStatus.DELIVERED, not unfinished and set(going) == {OrderStatus.DELIVERED}),
        *((status, status in going) for status in _ANY),
        (OrderStatus.SHIPPED, not _LEFT.isdisjoint(going)),
        (OrderStatus.BACKORDERED, lines_waiting),
        (OrderStatus.PROCESSING, bool(going)),
    )
    status = next((status for status, holds in rules if holds), ordered)
    mixed = bool(parts) and (unfinished or len(set(parts)) > 1)
    return Overall(status, partial=mixed and status is not OrderStatus.CANCELLED)


def to_order_event(
    event: TrackingEvent,
    *,
    order_ref: str,
    order_no: str,
    order: Overall | None = None,
    client_ref: str = "",
    contract_id: str = "",
    label: str = "",
) -> OrderEvent | None:
    """Return what a tracking event says of an order, None where it says nothing.

    ``order`` is the status of an order of several shipments, this event included. What a person must see
    first is told with the status UNKNOWN, which opens an incident and reaches no client.
    """
    status = event.status if order is None else order.status
    if event.care is Care.FIRST or event.status is OrderStatus.UNKNOWN:
        status = OrderStatus.UNKNOWN
    elif status is None or (event.status is None and event.estimated_delivery is None):
        return None
    day = event.estimated_delivery.isoformat() if event.estimated_delivery else ""
    told = "\x1f".join((order_ref, *event.key, day))
    return OrderEvent(
        source=f"carrier:{event.carrier}",
        dedupe_key=f"{event.tracking_no}/{hashlib.sha256(told.encode()).hexdigest()[:32]}",
        order_ref=order_ref,
        order_no=order_no,
        status=status,
        raw_status=event.raw_code,
        occurred_at=event.occurred_at,
        trigger=Trigger.TRACKING,
        client_ref=client_ref,
        contract_id=contract_id,
        label=label,
        detail=event.detail or ("partial" if order is not None and order.partial else ""),
        carrier=event.title,
        tracking_no=event.tracking_no,
        promised_date=day,
    )
