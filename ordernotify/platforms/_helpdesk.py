"""What help desks share: how a ticket is addressed, and what a rule of a desk tells us of an order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator

from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.platforms._base import Received, Refusal
from ordernotify.platforms._events import event_key, raw_status, status_of, too_far_ahead
from ordernotify.platforms._reading import Foreign, Tracking, Word, read_json, read_moment, rule

TICKET: Final = "ticket:"

_TICKET = re.compile(r"ticket:([1-9][0-9]{0,18})")
# No quotes, spaces or operators: an order number is put into the search languages of the desks.
_ORDER_NO = re.compile(r"[A-Za-z0-9#][A-Za-z0-9#._/-]{0,63}")
_BRACES = str.maketrans({"{": "&#123;", "}": "&#125;"})


def read_address(text: str) -> str | Refusal:
    """Return ``ticket:`` with a ticket's id, or an order number to find the ticket by; or why it is neither.

    A bare number is an order number, never a ticket: a ticket of that number is somebody else's.
    """
    address = text.strip()
    if _TICKET.fullmatch(address) or _ORDER_NO.fullmatch(address):
        return address
    return Refusal(422, "address", "must be ticket: and a ticket id (ticket:5158), or an order number (SO-1001)")


def ticket_of(address: str) -> str:
    """Return the ticket id in an address, '' where it is an order number."""
    found = _TICKET.fullmatch(address)
    return found.group(1) if found else ""


def as_html(text: str) -> str:
    """Return ``text`` as an HTML paragraph; braces are written so that no desk reads a placeholder in them."""
    return f"<p>{escape(text).translate(_BRACES)}</p>".replace("\n", "<br>")


def status_for(word: str, status_map: Mapping[str, OrderStatus]) -> OrderStatus:
    """Return what a desk's word means: by the tenant's own table, else as our word in any spelling."""
    mapped = status_map.get(word)
    return mapped or status_of(re.sub(r"[\s-]+", "_", word.strip()))


def _id(value: object) -> object:
    """Read a ticket id that a placeholder rendered as a number or as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _is_id(value: str) -> str:
    if not _TICKET.fullmatch(f"{TICKET}{value}"):
        raise rule("must be a ticket id, such as 5158")
    return value


TicketId = Annotated[str, BeforeValidator(_id), AfterValidator(_is_id)]


class Notice(Foreign):
    """The body that our rule at the desk posts: a ticket and what its order fields say."""

    ticket_id: TicketId
    order_status: Word
    order_no: Word = ""
    client: Word = ""
    carrier: Word = ""
    tracking_no: Tracking = ""
    updated_at: Word = ""


# What a rule at a desk posts, with the desk's placeholders in the places of the values.
NOTICE_FIELDS: Final = tuple(Notice.model_fields)


def read_notice(
    body: bytes, *, source: str, status_map: Mapping[str, OrderStatus], now: datetime
) -> Received | Refusal:
    """Return the event that a rule's body tells, none where the ticket has no order status; or a 422."""
    notice = read_json(Notice, body)
    if isinstance(notice, Refusal):
        return notice
    if not notice.order_status:
        return Received()
    at = read_moment(notice.updated_at) or now
    event = OrderEvent(
        source=source,
        dedupe_key=event_key(notice.ticket_id, notice.order_status, at.isoformat()),
        order_ref=f"{TICKET}{notice.ticket_id}",
        order_no=notice.order_no,
        status=status_for(notice.order_status, status_map),
        raw_status=raw_status(notice.order_status),
        occurred_at=at,
        client_ref=notice.client,
        carrier=notice.carrier,
        tracking_no=notice.tracking_no,
        refs={source: f"{TICKET}{notice.ticket_id}"},
    )
    return too_far_ahead(event, now=now, field="updated_at") or Received(events=(event,))
