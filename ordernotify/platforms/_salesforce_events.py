"""Salesforce's outbound messages: up to a hundred order changes in one SOAP request, and how to re-read one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Reply, Reread
from ordernotify.platforms._events import raw_status
from ordernotify.platforms._reading import one_line, read_moment, tracking_number
from ordernotify.platforms._salesforce_access import SalesforceSettings, call, id18
from ordernotify.platforms._salesforce_errors import refusal
from ordernotify.platforms._signing import active, same_secret

SOURCE: Final = "salesforce"
MAX_NOTIFICATIONS: Final = 100
SECRET: Final = "key"  # noqa: S105 - the name of the query parameter, not a secret

_OUTBOUND = "{http://soap.sforce.com/2005/09/outbound}"
_ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_OK, _NOT_FOUND, _UNAUTHORIZED, _UNPROCESSABLE = 200, 404, 401, 422

ACK: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    b'<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>'
    b"</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)

# The categories behind Order.Status; its labels are the org's own and stand in `status_map`. An expired
# order is between the supplier and the buyer, so a person decides what to say.
STATUS: Final[Mapping[str, OrderStatus]] = {
    "Draft": OrderStatus.RECEIVED,
    "Activated": OrderStatus.PROCESSING,
    "Canceled": OrderStatus.CANCELLED,
    "Expired": OrderStatus.UNKNOWN,
}


def parse(body: bytes) -> ET.Element | Refusal:
    """Return the ``notifications`` element of a SOAP envelope, or why there is none.

    No document type, so no entity: nothing is expanded, and nothing is fetched.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return Refusal(_UNPROCESSABLE, "body", "must be XML in UTF-8")
    if re.search(r"<!\s*(?:DOCTYPE|ENTITY)", text, re.IGNORECASE):
        return Refusal(_UNPROCESSABLE, "body", "must have no document type (DOCTYPE)")
    try:
        # Given text, the parser cannot be led to another encoding by the document's own declaration.
        root = ET.fromstring(text)  # noqa: S314 - what makes it unsafe, a document type, was refused above
    except ET.ParseError:
        return Refusal(_UNPROCESSABLE, "body", "must be well-formed XML")
    found = root.find(f"{_ENVELOPE}Body/{_OUTBOUND}notifications") if root.tag == f"{_ENVELOPE}Envelope" else None
    if found is None:
        return Refusal(_UNPROCESSABLE, "notifications", "is missing from the body of the SOAP envelope")
    return found


def verify(inbound: Inbound, settings: SalesforceSettings, _now: datetime) -> Refusal | None:
    """Return why a request is not our org's, None when it is.

    Outbound messages are not signed: what proves them is a secret in the URL that only the org was told,
    besides client certificates, which are for the proxy in front of us.
    """
    secrets = active(settings.webhook_secret)
    if not secrets:
        return Refusal(_UNAUTHORIZED, SECRET, "cannot be checked: set webhook_secret")
    if not same_secret(inbound.query.get(SECRET, ""), secrets):
        return Refusal(_UNAUTHORIZED, SECRET, "must be the webhook_secret, in the URL's query")
    message = parse(inbound.body)
    if isinstance(message, Refusal):
        return message
    organization = id18((message.findtext(f"{_OUTBOUND}OrganizationId") or "").strip())
    if organization is None or organization not in settings.organizations:
        return Refusal(_UNAUTHORIZED, "OrganizationId", "must be an org that is configured here")
    return None


def read(inbound: Inbound, settings: SalesforceSettings, now: datetime) -> Received | Refusal:
    """Return what a verified request says; one acknowledgement covers all of it, so all of it is read or none."""
    message = parse(inbound.body)
    if isinstance(message, Refusal):
        return message
    if (message.findtext(f"{_OUTBOUND}SessionId") or "").strip():
        # The body is kept as evidence, and a session id in it would be a credential kept with it.
        return Refusal(_UNPROCESSABLE, "SessionId", "must not be sent: turn Send Session ID off")
    notifications = message.findall(f"{_OUTBOUND}Notification")
    if not 1 <= len(notifications) <= MAX_NOTIFICATIONS:
        return Refusal(_UNPROCESSABLE, "Notification", f"must stand there 1 to {MAX_NOTIFICATIONS} times")
    events = []
    for place, notification in enumerate(notifications):
        event = _notified(notification, settings, within=f"Notification[{place}]", now=now)
        if isinstance(event, Refusal):
            return event
        events.append(event)
    return Received(events=tuple(events), reply=Reply(body=ACK, content_type="text/xml; charset=utf-8"))


def _notified(
    notification: ET.Element, settings: SalesforceSettings, *, within: str, now: datetime
) -> OrderEvent | Refusal:
    key = id18((notification.findtext(f"{_OUTBOUND}Id") or "").strip())
    if key is None:
        return Refusal(_UNPROCESSABLE, f"{within}.Id", "must be the id of the notification")
    record = notification.find(f"{_OUTBOUND}sObject")
    if record is None or record.get(_TYPE, "").rpartition(":")[2] != "Order":
        return Refusal(_UNPROCESSABLE, f"{within}.sObject", "must be an Order")
    fields = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in record}
    event = _event(fields, settings, key=key, now=now)
    return event or Refusal(_UNPROCESSABLE, f"{within}.sObject.Id", "must be the id of an order")


def _event(fields: Mapping[str, str], settings: SalesforceSettings, *, key: str, now: datetime) -> OrderEvent | None:
    """Return the event that an order's fields are, None without an id to know it by."""
    order = id18(fields.get("Id", ""))
    if order is None:
        return None

    def word(name: str, limit: int = 64) -> str:
        return one_line(fields.get(name, ""), limit=limit)

    status = word("Status") or word("StatusCode")
    return OrderEvent(
        source=SOURCE,
        dedupe_key=key,
        order_ref=order,
        order_no=word("OrderNumber"),
        status=settings.status_map.get(status) or STATUS.get(status, OrderStatus.UNKNOWN),
        raw_status=raw_status(status),
        occurred_at=read_moment(fields.get("LastModifiedDate", "")) or now,
        client_ref=id18(fields.get("AccountId", "")) or "",
        contract_id=word(settings.contract_field),
        carrier=word(settings.carrier_field),
        tracking_no=tracking_number(fields.get(settings.tracking_field, "")),
        refs={SOURCE: order},
        # The admin chose which fields travel; without these two there is nothing to tell or to call it by.
        thin=not status or not word("OrderNumber"),
    )


# ---- an event that said too little ----


def wanted_fields(settings: SalesforceSettings) -> tuple[str, ...]:
    """Return the order fields that we read, in the order in which an admin selects them."""
    named = (settings.contract_field, settings.carrier_field, settings.tracking_field)
    return (
        "AccountId",
        "Id",
        "LastModifiedDate",
        "OrderNumber",
        "Status",
        "StatusCode",
        *dict.fromkeys(name for name in named if name),
    )


def _ask(event: OrderEvent, context: Context) -> Call:
    names = ",".join(wanted_fields(context.settings))
    return call(context, "GET", f"/sobjects/Order/{quote(event.order_ref, safe='')}?fields={names}")


def _told(answer: Answer, event: OrderEvent, context: Context) -> OrderEvent | Outcome | None:
    if answer.status == _NOT_FOUND:
        return Rejected(FailureKind.PERMANENT, "not_found")
    if answer.status != _OK:
        return refusal(answer, context)
    body = answer.json()
    fields = {name: value for name, value in body.items() if isinstance(value, str)} if isinstance(body, dict) else {}
    whole = _event(fields, context.settings, key=event.dedupe_key, now=event.occurred_at)
    if whole is None or whole.order_ref != event.order_ref:
        return Deferred(FailureKind.TRANSIENT, "salesforce_unreadable")
    return replace(whole, thin=False)


REREAD: Final = Reread(build=_ask, read=_told)
