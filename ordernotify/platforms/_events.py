"""Our own vocabulary of order events, as senders write it: the JSON API and the generic signed sources."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import partial
from typing import Annotated, Final

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Refusal
from ordernotify.platforms._reading import (
    TRACKING_MAX,
    filled,
    moment,
    one_line,
    read_value,
    rule,
    tracking_number,
    whole,
)

MAX_LINES: Final = 500
MAX_QUANTITY: Final = 1_000_000_000
RAW_STATUS_MAX: Final = 60
AHEAD: Final = timedelta(minutes=10)
TYPE_PREFIX: Final = "order."

_KEY_MAX = 200
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UNPROCESSABLE = 422
_KNOWN: Mapping[str, OrderStatus] = {status.value: status for status in OrderStatus}
_ORDER_TYPES: Mapping[str, str] = {
    f"{TYPE_PREFIX}{status.value}": status.value for status in OrderStatus if status is not OrderStatus.UNKNOWN
}


def status_of(word: str) -> OrderStatus:
    """Return the status that ``word`` names, in any case; UNKNOWN for every other word."""
    return _KNOWN.get(word.strip().lower(), OrderStatus.UNKNOWN)


def raw_status(word: str) -> str:
    """Return a source's status word as the house keeps it: one line, no control characters, at most 60."""
    return one_line(word, limit=RAW_STATUS_MAX)


def event_key(*parts: str) -> str:
    """Return the dedupe key of ``parts``: joined by a space, or their SHA-256 where that would not do.

    It would not do when it is long, or when a part is empty, holds a space or cannot be printed: then two
    different lists of parts could look the same.
    """
    joined = " ".join(parts)
    if len(joined) <= _KEY_MAX and joined.isprintable() and all(part and " " not in part for part in parts):
        return joined
    exact = "".join(f"{len(part.encode())}:{part}" for part in parts)
    return f"sha256:{hashlib.sha256(exact.encode()).hexdigest()}"


def _iso_date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise rule("must be a date such as 2026-11-24")


_LINE = AfterValidator(partial(one_line, limit=1_000))
_FILLED = AfterValidator(filled)


class LineBody(BaseModel):
    """One ordered part."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    sku: Annotated[str, Field(min_length=1, max_length=64), _LINE, _FILLED] = Field(
        description="Part number, as the catalogue has it.", examples=["RAD-7"]
    )
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY), BeforeValidator(whole(1, MAX_QUANTITY))] = Field(
        description="How many, in units: a whole number.", examples=[12]
    )


class EventBody(BaseModel):
    """Something that happened to one order."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        json_schema_extra={
            "examples": [
                {
                    "order_id": "SO-1001",
                    "client": "C-204",
                    "status": "shipped",
                    "occurred_at": "2026-11-24T10:00:00Z",
                    "carrier": "UPS",
                    "tracking_no": "1Z999AA10123456784",
                    "lines": [{"sku": "RAD-7", "quantity": 12}],
                }
            ]
        },
    )

    order_id: Annotated[str, Field(min_length=1, max_length=128), _LINE, _FILLED] = Field(
        description="Your own key of the order; the same in every event about it.", examples=["SO-1001"]
    )
    status: Annotated[str, Field(min_length=1, max_length=200), _LINE, _FILLED] = Field(
        description="What happened: received, processing, shipped, out_for_delivery, delivered, delayed, "
        "backordered, regulatory_hold, cancelled or returned. Any other word is kept and shown to a person.",
        examples=["shipped"],
    )
    order_no: Annotated[str, Field(max_length=64), _LINE] = Field(
        default="",
        description="Number by which people know the order; order_id without it.",
        examples=["1001"],
    )
    client: Annotated[str, Field(max_length=254), _LINE] = Field(
        default="", description="Your key of the client, or an e-mail address of it.", examples=["C-204"]
    )
    occurred_at: Annotated[datetime, BeforeValidator(moment)] | None = Field(
        default=None,
        validation_alias=AliasChoices("occurred_at", "time"),
        description="When it happened, ISO 8601 with a time zone (`time` is read too); now without it.",
        examples=["2026-11-24T10:00:00Z"],
    )
    detail: Annotated[str, Field(max_length=500), _LINE] = Field(
        default="", description="More about it, in a word or a sentence.", examples=["customs"]
    )
    contract: Annotated[str, Field(max_length=64), _LINE] = Field(
        default="",
        description="Number of the government contract it is under.",
        examples=["N00024-26-C-1234"],
    )
    label: Annotated[str, Field(max_length=64), _LINE] = Field(
        default="", description="How sensitive it is: PUBLIC, INTERNAL, FCI, CUI, CUI_SP.", examples=["FCI"]
    )
    carrier: Annotated[str, Field(max_length=64), _LINE] = Field(
        default="", description="Who carries it.", examples=["UPS"]
    )
    tracking_no: Annotated[str, Field(max_length=TRACKING_MAX), AfterValidator(tracking_number)] = Field(
        default="", description="The carrier's number of the parcel.", examples=["1Z999AA10123456784"]
    )
    promised_date: Annotated[date, BeforeValidator(_iso_date)] | None = Field(
        default=None, description="Day on which it is now expected, ISO 8601.", examples=["2026-12-01"]
    )
    lines: list[LineBody] = Field(
        default_factory=list, max_length=MAX_LINES, description="The parts that the event is about."
    )
    correction: bool = Field(
        default=False, description="True when it takes back what was said, such as a wrong `delivered`."
    )

    def to_event(self, *, source: str, dedupe_key: str, default_time: datetime) -> OrderEvent:
        """Return the body as an event of ``source``; ``default_time`` stands in for a missing time."""
        return OrderEvent(
            source=source,
            dedupe_key=dedupe_key,
            order_ref=self.order_id,
            order_no=self.order_no or self.order_id,
            status=status_of(self.status),
            raw_status=raw_status(self.status),
            occurred_at=self.occurred_at or default_time,
            client_ref=self.client.lower() if "@" in self.client else self.client,
            contract_id=self.contract,
            label=self.label,
            detail=self.detail,
            carrier=self.carrier,
            tracking_no=self.tracking_no,
            promised_date=self.promised_date.isoformat() if self.promised_date else "",
            lines=tuple(Line(sku=line.sku, quantity=line.quantity) for line in self.lines),
            correction=self.correction,
        )


def read_body(data: object, *, type_word: str = "", within: str = "") -> EventBody | Refusal:
    """Return parsed JSON as an event body, or a 422 naming the field (``within`` put before its name).

    ``type_word`` is the type that the envelope states. ``order.<status>`` stands in for a status that the
    data lacks; one that contradicts the data is refused, because nobody can say which of the two is meant.
    """
    typed = _ORDER_TYPES.get(type_word)
    if typed and isinstance(data, dict) and "status" not in data:
        data = {**data, "status": typed}
    body = read_value(EventBody, data, within=within)
    if isinstance(body, Refusal) or not typed or status_of(body.status) is OrderStatus(typed):
        return body
    field = f"{within}.status" if within else "status"
    return Refusal(_UNPROCESSABLE, field, f"must be {typed}, or left out, when the type is {TYPE_PREFIX}{typed}")


def too_far_ahead(event: OrderEvent, *, now: datetime, field: str) -> Refusal | None:
    """Return a 422 for an event from more than ten minutes ahead: everything true after it would look old."""
    if event.occurred_at <= now + AHEAD:
        return None
    return Refusal(_UNPROCESSABLE, field, "must not lie in the future: check the sender's clock and time zone")
