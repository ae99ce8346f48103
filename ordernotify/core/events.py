"""Order events: the statuses an order can have, what may follow what, and which event is news."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class OrderStatus(StrEnum):
    """Where an order stands, in our words; foreign words are mapped by each source's table."""

    RECEIVED = "received"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    OUT_FOR_DELIVERY = "out_for_delivery"
    DELIVERED = "delivered"
    DELAYED = "delayed"
    BACKORDERED = "backordered"
    REGULATORY_HOLD = "regulatory_hold"
    CANCELLED = "cancelled"
    RETURNED = "returned"
    UNKNOWN = "unknown"


class Trigger(StrEnum):
    """What made the system look at an order."""

    EVENT = "event"
    PORTAL = "portal"
    TRACKING = "tracking"
    BATCH = "batch"
    EXCEPTION = "exception"


@dataclass(frozen=True, slots=True)
class Line:
    """One ordered part: its number and how many (units, a whole number)."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """Something that happened to one order, as its source tells it, in our words.

    ``dedupe_key`` is unique within ``source``: a second event with the same key is the same event.
    ``order_ref`` is the source's own key of the order, ``order_no`` the number people use.
    ``raw_status`` keeps the source's word, because an unknown word must be seen by a person.
    """

    source: str
    dedupe_key: str
    order_ref: str
    order_no: str
    status: OrderStatus
    raw_status: str
    occurred_at: datetime
    trigger: Trigger = Trigger.EVENT
    client_ref: str = ""
    contract_id: str = ""
    label: str = ""
    detail: str = ""
    carrier: str = ""
    tracking_no: str = ""
    promised_date: str = ""
    lines: tuple[Line, ...] = ()
    refs: dict[str, str] = field(default_factory=dict)
    correction: bool = False
    corrects: str = ""  # our id of the event that a correction takes back, where it is known
    thin: bool = False

    def as_dict(self) -> dict[str, object]:
        """Return the event as JSON-ready values; ``from_dict`` is its inverse."""
        return {
            "source": self.source,
            "dedupe_key": self.dedupe_key,
            "order_ref": self.order_ref,
            "order_no": self.order_no,
            "status": self.status.value,
            "raw_status": self.raw_status,
            "occurred_at": self.occurred_at.astimezone(UTC).isoformat(),
            "trigger": self.trigger.value,
            "client_ref": self.client_ref,
            "contract_id": self.contract_id,
            "label": self.label,
            "detail": self.detail,
            "carrier": self.carrier,
            "tracking_no": self.tracking_no,
            "promised_date": self.promised_date,
            "lines": [[line.sku, line.quantity] for line in self.lines],
            "refs": self.refs,
            "correction": self.correction,
            "corrects": self.corrects,
            "thin": self.thin,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, object]) -> OrderEvent:
        """Return the event that ``as_dict`` wrote; for stored events only, not for input from outside."""
        lines = stored["lines"]
        if not isinstance(lines, list):
            raise TypeError("lines must be a list of [sku, quantity]")
        values = stored | {
            "status": _STATUSES[stored["status"]],
            "trigger": _TRIGGERS[stored["trigger"]],
            "occurred_at": datetime.fromisoformat(str(stored["occurred_at"])),
            "lines": tuple(Line(sku=str(sku), quantity=int(quantity)) for sku, quantity in lines) if lines else (),
        }
        return cls(**values)  # type: ignore[arg-type]  # written by as_dict, whose keys are the fields


# An enum's own look-up costs several times as much, and every event is read more than once.
_STATUSES: dict[object, OrderStatus] = {status.value: status for status in OrderStatus}
_TRIGGERS: dict[object, Trigger] = {trigger.value: trigger for trigger in Trigger}


# What may follow a status without anybody saying that it is a correction. `delivered` is not final:
# a parcel may come back. `unknown` never becomes an order's status, so it has no row.
FOLLOWS: dict[OrderStatus, frozenset[OrderStatus]] = {
    OrderStatus.RECEIVED: frozenset(OrderStatus) - {OrderStatus.UNKNOWN},
    OrderStatus.PROCESSING: frozenset(OrderStatus) - {OrderStatus.UNKNOWN, OrderStatus.RECEIVED},
    OrderStatus.BACKORDERED: frozenset(OrderStatus) - {OrderStatus.UNKNOWN, OrderStatus.RECEIVED},
    OrderStatus.REGULATORY_HOLD: frozenset(OrderStatus) - {OrderStatus.UNKNOWN, OrderStatus.RECEIVED},
    OrderStatus.DELAYED: frozenset(OrderStatus) - {OrderStatus.UNKNOWN, OrderStatus.RECEIVED},
    OrderStatus.SHIPPED: frozenset(
        {
            OrderStatus.SHIPPED,
            OrderStatus.OUT_FOR_DELIVERY,
            OrderStatus.DELIVERED,
            OrderStatus.DELAYED,
            OrderStatus.REGULATORY_HOLD,
            OrderStatus.CANCELLED,
            OrderStatus.RETURNED,
        }
    ),
    OrderStatus.OUT_FOR_DELIVERY: frozenset(
        {
            OrderStatus.OUT_FOR_DELIVERY,
            OrderStatus.SHIPPED,
            OrderStatus.DELIVERED,
            OrderStatus.DELAYED,
            OrderStatus.RETURNED,
        }
    ),
    OrderStatus.DELIVERED: frozenset({OrderStatus.DELIVERED, OrderStatus.RETURNED}),
    OrderStatus.CANCELLED: frozenset({OrderStatus.CANCELLED, OrderStatus.RETURNED}),
    OrderStatus.RETURNED: frozenset({OrderStatus.RETURNED}),
}


class Admission(StrEnum):
    """What an event means for its order."""

    NEWS = "news"  # the order changes; clients are told
    SAME = "same"  # nothing a client does not know already
    STALE = "stale"  # older than what is known; recorded, never announced
    REFUSED = "refused"  # cannot follow what is known, unless somebody says it is a correction
    UNKNOWN = "unknown"  # a word that no table maps; a person must look


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """What is known of an order: its status, since when, and the facts clients were last told."""

    status: OrderStatus
    status_at: datetime
    carrier: str = ""
    tracking_no: str = ""
    promised_date: str = ""
    detail: str = ""


def admit(state: OrderState | None, event: OrderEvent) -> Admission:
    """Return what ``event`` means for an order in ``state`` (None: first word of this order).

    An older event never overwrites a newer status and is never news. At equal times the later arrival
    wins only when it can follow what is known, so that two events of one second do not erase each other.
    """
    if event.status is OrderStatus.UNKNOWN:
        return Admission.UNKNOWN
    if state is None:
        return Admission.NEWS
    if event.occurred_at < state.status_at:
        return Admission.STALE
    if event.correction:
        return Admission.SAME if _tells_nothing_new(state, event) else Admission.NEWS
    if event.status not in FOLLOWS[state.status]:
        return Admission.STALE if event.occurred_at == state.status_at else Admission.REFUSED
    return Admission.SAME if _tells_nothing_new(state, event) else Admission.NEWS


def advance(state: OrderState | None, event: OrderEvent) -> OrderState:
    """Return the order's state after ``event``, which ``admit`` found to be news or the same.

    A fact that the event does not carry is kept: a source that knows no tracking number does not erase one.
    """
    known = state or OrderState(status=event.status, status_at=event.occurred_at)
    return OrderState(
        status=event.status,
        status_at=max(event.occurred_at, known.status_at),
        carrier=event.carrier or known.carrier,
        tracking_no=event.tracking_no or known.tracking_no,
        promised_date=event.promised_date or known.promised_date,
        detail=event.detail,
    )


def _tells_nothing_new(state: OrderState, event: OrderEvent) -> bool:
    return (
        event.status is state.status
        and event.detail == state.detail
        and event.tracking_no in {"", state.tracking_no}
        and event.promised_date in {"", state.promised_date}
    )
