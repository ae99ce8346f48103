"""HubSpot's webhooks: signed lists of changes that only point at a record, and how to re-read one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Reply, Reread
from ordernotify.platforms._events import event_key, raw_status, status_of
from ordernotify.platforms._hubspot_access import HubSpotSettings, call, refusal
from ordernotify.platforms._reading import Foreign, Id, Word, one_line, parse, read_value, tracking_number, whole
from ordernotify.platforms._signing import active, is_signed

SOURCE: Final = "hubspot"
SIGNATURE, TIMESTAMP = "X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp"
RECORD: Final = "hs_object_id:"  # before an address that is HubSpot's own id, not a value of id_property

_OK, _NOT_FOUND, _UNAUTHORIZED, _UNPROCESSABLE = 200, 404, 401, 422
_TOLERANCE_MS = 300_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS, _LAST_MS = 946_684_800_000, 4_102_444_799_999  # the years 2000 to 2099

# These and no others are decoded in the URL before it is signed.
_DECODED: Final[Mapping[str, str]] = {f"%{ord(mark):02X}": mark for mark in ":/?@!$'()*,;"}


def signed_url(url: str) -> str:
    """Return the URL as HubSpot signs it."""
    return re.sub(r"%[0-9A-Fa-f]{2}", lambda found: _DECODED.get(found[0].upper(), found[0]), url)


def verify(inbound: Inbound, settings: HubSpotSettings, now: datetime) -> Refusal | None:
    """Return why a request is not HubSpot's, None when it is."""
    keys = [one.encode() for one in active(settings.client_secret)]
    if not keys:
        return Refusal(_UNAUTHORIZED, SIGNATURE, "cannot be checked: set client_secret")
    stamp = inbound.header(TIMESTAMP)
    now_ms = (now - _EPOCH) // timedelta(milliseconds=1)
    if not re.fullmatch(r"[0-9]{1,16}", stamp) or abs(now_ms - int(stamp)) > _TOLERANCE_MS:
        return Refusal(_UNAUTHORIZED, TIMESTAMP, "must be the time in milliseconds, within 5 minutes of now")
    head = f"{inbound.method}{signed_url(inbound.url)}".encode()
    if not is_signed([inbound.header(SIGNATURE)], head + inbound.body + stamp.encode(), keys):
        return Refusal(_UNAUTHORIZED, SIGNATURE, "must match the method, the public URL, the exact body and the time")
    return None


class _Change(Foreign):
    """One change of one record."""

    subscriptionId: Id  # noqa: N815 - HubSpot's name
    portalId: Id  # noqa: N815 - HubSpot's name
    occurredAt: Annotated[int, BeforeValidator(whole(_FIRST_MS, _LAST_MS))]  # noqa: N815 - HubSpot's name
    objectId: Id  # noqa: N815 - HubSpot's name
    subscriptionType: Word = ""  # noqa: N815 - HubSpot's name
    eventType: Word = ""  # noqa: N815 - HubSpot's name, in some accounts instead of the one above
    objectTypeId: Word = ""  # noqa: N815 - HubSpot's name
    propertyName: Word = ""  # noqa: N815 - HubSpot's name
    propertyValue: Word = ""  # noqa: N815 - HubSpot's name


def read(inbound: Inbound, settings: HubSpotSettings, _now: datetime) -> Received | Refusal:
    """Return the changes that are about an order's status; every other one says nothing."""
    changes = parse(inbound.body)
    if isinstance(changes, Refusal):
        return changes
    if not isinstance(changes, list):
        return Refusal(_UNPROCESSABLE, "body", "must be a list of changes")
    events = []
    for place, value in enumerate(changes):
        change = read_value(_Change, value, within=f"[{place}]")
        if isinstance(change, Refusal):
            return change
        if settings.portal_id not in {0, change.portalId}:
            return Refusal(_UNPROCESSABLE, f"[{place}].portalId", "must be the account that is configured here")
        if (event := _event(change, settings)) is not None:
            events.append(event)
    return Received(events=tuple(events), reply=Reply())


def _event(change: _Change, settings: HubSpotSettings) -> OrderEvent | None:
    kind, _, what = (change.subscriptionType or change.eventType).rpartition(".")
    if not _is_ours(kind, change.objectTypeId, settings):
        return None
    if what == "creation":
        status, word = OrderStatus.RECEIVED, what
    elif what == "propertyChange" and change.propertyName == settings.event_property:
        word = change.propertyValue
        status = settings.status_map.get(word) or status_of(word)
    else:
        return None
    return OrderEvent(
        source=SOURCE,
        # `eventId` is not unique; these four are.
        dedupe_key=event_key(
            str(change.subscriptionId), str(change.objectId), change.propertyName or what, str(change.occurredAt)
        ),
        order_ref=str(change.objectId),
        order_no="",
        status=status,
        raw_status=raw_status(word),
        occurred_at=_EPOCH + timedelta(milliseconds=change.occurredAt),
        refs={SOURCE: f"{RECORD}{change.objectId}"},
        thin=True,
    )


def _is_ours(kind: str, number: str, settings: HubSpotSettings) -> bool:
    """Return whether a change is of the kind of record that orders are: ``deal``, ``0-3``, or any ``object``."""
    names = {settings.object_type, settings.object_type.removesuffix("s"), settings.object_number}
    return kind in names or (kind == "object" and number in {"", settings.object_number})


# ---- a change only points at its record ----


def _ask(event: OrderEvent, context: Context) -> Call:
    settings: HubSpotSettings = context.settings
    named = (
        settings.order_no_property,
        settings.client_property,
        settings.contract_property,
        settings.carrier_property,
        settings.tracking_property,
    )
    record = event.order_ref if re.fullmatch(r"[0-9]{1,19}", event.order_ref) else "0"
    wanted = ",".join(dict.fromkeys(name for name in named if name))
    return call(context, "GET", f"{settings.objects_path}/{settings.object_type}/{record}?properties={wanted}")


def _told(answer: Answer, event: OrderEvent, context: Context) -> OrderEvent | Outcome | None:
    """Complete an event from its record; its status stays the one that the change told of."""
    if answer.status == _NOT_FOUND:
        return Rejected(FailureKind.PERMANENT, "not_found")
    if answer.status != _OK:
        return refusal(answer, context)
    body = answer.json()
    properties: Any = body.get("properties") if isinstance(body, dict) else None
    if not isinstance(properties, dict):
        return Deferred(FailureKind.TRANSIENT, "hubspot_unreadable")
    settings: HubSpotSettings = context.settings

    def word(name: str) -> str:
        value = properties.get(name)
        return one_line(value, limit=64) if isinstance(value, str) else ""

    client = word(settings.client_property)
    return replace(
        event,
        order_no=word(settings.order_no_property) or event.order_ref,
        client_ref=client.lower() if "@" in client else client,
        contract_id=word(settings.contract_property),
        carrier=word(settings.carrier_property),
        tracking_no=tracking_number(word(settings.tracking_property)),
        thin=False,
    )


REREAD: Final = Reread(build=_ask, read=_told)
