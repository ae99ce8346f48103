"""What a NetSuite account's script posts: one sales order with its lines and fulfillments, in our words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Inbound, Received, Refusal
from ordernotify.platforms._events import MAX_LINES, event_key, raw_status, too_far_ahead
from ordernotify.platforms._netsuite_access import NetSuiteSettings
from ordernotify.platforms._reading import Count, Filled, Foreign, Moment, Tracking, Word, read_json

SOURCE: Final = "netsuite"
_UNPROCESSABLE = 422
_S = OrderStatus

# Of a sales order, by the letter that searches filter by. Closed says only that nothing more will come, and
# billing is no word about parcels.
STATUS: Final[Mapping[str, OrderStatus]] = {
    "A": _S.RECEIVED,
    "B": _S.PROCESSING,
    "C": _S.CANCELLED,
    "D": _S.SHIPPED,
    "E": _S.SHIPPED,
    "F": _S.SHIPPED,
    "G": _S.SHIPPED,
    "H": _S.CANCELLED,
}
PARTLY: Final = frozenset({"D", "E"})
WAITING: Final = "B"
CLOSED: Final = "H"
# The same in the words that search results show, and those of fulfillments.
WORDS: Final[Mapping[str, str]] = {
    "pending approval": "A",
    "pending fulfillment": "B",
    "cancelled": "C",
    "partially fulfilled": "D",
    "pending billing/partially fulfilled": "E",
    "pending billing": "F",
    "billed": "G",
    "closed": "H",
}
FULFILLMENT_WORDS: Final[Mapping[str, str]] = {"picked": "A", "packed": "B", "shipped": "C"}
LEFT: Final = "C"


def _id(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class _Line(Foreign):
    sku: Word = ""
    quantity: Count = 0
    backordered: Count = 0
    committed: Count = 0
    shipped: Count = 0


class _Fulfillment(Foreign):
    status_code: Any = None
    carrier: Word = ""
    tracking: list[Tracking] = Field(default_factory=list, max_length=100)


class _Post(Foreign):
    event_id: Filled
    occurred_at: Moment
    account: Filled
    internal_id: Annotated[str, BeforeValidator(_id), Field(pattern=r"^[1-9][0-9]{0,18}$")]
    tran_id: Word = ""
    client: Word = ""
    contract: Word = ""
    status_code: Any = None
    status_text: Word = ""
    lines: list[_Line] = Field(default_factory=list, max_length=MAX_LINES)
    fulfillments: list[_Fulfillment] = Field(default_factory=list, max_length=MAX_LINES)


def read(inbound: Inbound, settings: NetSuiteSettings, now: datetime) -> Received | Refusal:
    """Return the event of a verified post, none where it tells the client nothing."""
    post = read_json(_Post, inbound.body)
    if isinstance(post, Refusal):
        return post
    if post.account.upper().replace("-", "_") != settings.account.upper():
        return Refusal(_UNPROCESSABLE, "account", "must be the account that is configured here")
    code = letter(post.status_code, WORDS) or letter(post.status_text, WORDS)
    status, detail = _judge(code, post)
    if status is None:
        return Received()
    gone = [one for one in post.fulfillments if letter(one.status_code, FULFILLMENT_WORDS) == LEFT]
    last = gone[-1] if gone else None
    event = OrderEvent(
        source=SOURCE,
        dedupe_key=event_key(post.event_id),
        order_ref=post.internal_id,
        order_no=post.tran_id,
        status=status,
        raw_status=raw_status(post.status_text or f"SalesOrd:{code}"),
        occurred_at=post.occurred_at,
        client_ref=post.client,
        contract_id=post.contract,
        detail=detail,
        carrier=last.carrier if last else "",
        tracking_no=last.tracking[-1] if last and last.tracking else "",
        lines=tuple(Line(one.sku, one.quantity) for one in post.lines if one.sku and one.quantity),
        refs={SOURCE: f"id:{post.internal_id}"},
    )
    return too_far_ahead(event, now=now, field="occurred_at") or Received(events=(event,))


def letter(value: object, words: Mapping[str, str]) -> str:
    """Return the letter of a status in any of its forms: ``SalesOrd:B``, ``B``, its words, or ``{"id": "B"}``."""
    if isinstance(value, dict):
        value = value.get("id") or value.get("refName")
    if not isinstance(value, str):
        return ""
    text = value.rpartition(":")[2].strip()
    return words.get(text.casefold(), text.upper() if text.upper() in words.values() else "")


def _judge(code: str, post: _Post) -> tuple[OrderStatus | None, str]:
    """Return status and detail of an order, no status where there is nothing to tell."""
    if code == CLOSED and (not post.lines or any(line.shipped for line in post.lines)):
        return None, ""
    if code == WAITING and any(line.backordered and not line.committed for line in post.lines):
        return _S.BACKORDERED, ""
    if code in PARTLY:
        return _partly(post.fulfillments)
    return STATUS.get(code, _S.UNKNOWN), ""


def _partly(fulfillments: Sequence[_Fulfillment]) -> tuple[OrderStatus, str]:
    # "Partially fulfilled" begins when a fulfillment is picked: it says nothing yet of a parcel that left.
    letters = [letter(one.status_code, FULFILLMENT_WORDS) for one in fulfillments]
    if letters and LEFT not in letters:
        return _S.PROCESSING, ""
    return _S.SHIPPED, "partial"
