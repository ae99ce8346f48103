"""Zendesk's webhooks: proof that one is genuine, and what a ticket's change says of its order."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ordernotify.core.events import OrderEvent
from ordernotify.platforms._base import Inbound, Received, Refusal
from ordernotify.platforms._events import event_key, raw_status, too_far_ahead
from ordernotify.platforms._helpdesk import TICKET, TicketId, read_notice
from ordernotify.platforms._reading import Filled, Foreign, Moment, Word, parse, read_moment, read_value
from ordernotify.platforms._signing import active, is_signed
from ordernotify.platforms._zendesk_setup import ZendeskSettings

SIGNATURE: Final = "X-Zendesk-Webhook-Signature"
TIMESTAMP: Final = "X-Zendesk-Webhook-Signature-Timestamp"
TOLERANCE: Final = timedelta(minutes=5)
STATUS_CHANGED: Final = "zen:event-type:ticket.status_changed"

_UNAUTHORIZED = 401


class _Detail(Foreign):
    id: TicketId
    external_id: Word = ""
    organization_id: Word = ""
    requester_id: Word = ""


class _Change(Foreign):
    current: Filled


class _TicketEvent(Foreign):
    id: Filled
    time: Moment
    detail: _Detail
    event: _Change


def verify(inbound: Inbound, settings: ZendeskSettings, now: datetime) -> Refusal | None:
    """Return why a webhook is not Zendesk's, None when it is: signed are its time and its exact body."""
    secrets = active(settings.webhook_secret)
    if not secrets:
        return Refusal(_UNAUTHORIZED, SIGNATURE, "cannot be checked: set webhook_secret")
    signature, stamp = inbound.header(SIGNATURE), inbound.header(TIMESTAMP)
    if not signature or not stamp:
        missing = TIMESTAMP if signature else SIGNATURE
        return Refusal(_UNAUTHORIZED, missing, "is missing: Zendesk signs every webhook")
    # The secret looks like base64 but is the key as it stands.
    if not is_signed([signature], stamp.encode() + inbound.body, [one.encode() for one in secrets]):
        return Refusal(_UNAUTHORIZED, SIGNATURE, "must match the timestamp and the exact bytes of the body")
    at = read_moment(stamp)
    if at is None or abs(now - at) > TOLERANCE:
        return Refusal(_UNAUTHORIZED, TIMESTAMP, "must lie within 5 minutes of now")
    return None


def read(inbound: Inbound, settings: ZendeskSettings, now: datetime) -> Received | Refusal:
    """Return what a webhook says of an order: our trigger's body, or a ticket's change of status."""
    value = parse(inbound.body)
    if isinstance(value, Refusal):
        return value
    kind = value.get("type") if isinstance(value, dict) else None
    if kind is None:
        return read_notice(inbound.body, source="zendesk", status_map=settings.status_map, now=now)
    if kind != STATUS_CHANGED:
        return Received()
    told = read_value(_TicketEvent, value)
    if isinstance(told, Refusal):
        return told
    word = told.event.current.casefold()
    # A ticket's own status is about the conversation; it is about the order only where a table says so.
    if word not in settings.status_map:
        return Received()
    event = OrderEvent(
        source="zendesk",
        dedupe_key=event_key(told.id),
        order_ref=f"{TICKET}{told.detail.id}",
        order_no=told.detail.external_id,
        status=settings.status_map[word],
        raw_status=raw_status(told.event.current),
        occurred_at=told.time,
        client_ref=told.detail.organization_id or told.detail.requester_id,
        refs={"zendesk": f"{TICKET}{told.detail.id}"},
    )
    return too_far_ahead(event, now=now, field="time") or Received(events=(event,))
