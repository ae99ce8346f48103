"""What SAP pushes: CloudEvents of Event Mesh, which only point at a document, and IDocs, which carry it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

from pydantic import Field

from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Inbound, Received, Refusal, Reply
from ordernotify.platforms._events import event_key, raw_status, too_far_ahead
from ordernotify.platforms._reading import Filled, Foreign, Moment, one_line, read_json, tracking_number
from ordernotify.platforms._sap_access import SapSettings
from ordernotify.platforms._sap_orders import DELIVERY, number, quantity

SOURCE: Final = "sap"
MAX_IDOCS: Final = 500

_UNPROCESSABLE, _BAD_REQUEST, _FORBIDDEN = 422, 400, 403
_S = OrderStatus
_ORIGIN = re.compile(r"[A-Za-z0-9.:*/_-]{1,253}")
_TYPE = re.compile(
    r"sap\.s4\.beh\.(salesorder|outbounddelivery)\.v1\.(SalesOrder|OutboundDelivery)\.([A-Za-z]{1,40})\.v1"
)
# Bills, cost centres and project structure: nothing that the client of an order is told.
SILENT: Final = frozenset(
    {
        *("OvrlBlgBlkStsChgd", "ItmBillgBlkStsChgd", "TotCrdtChkStsChgd"),
        *("ItmPrftCtrChanged", "ItmWBSElmntChanged", "ItmGenIncplStsChgd", "ApprovalStsChanged"),
    }
)


def handshake(inbound: Inbound, settings: SapSettings) -> Reply | Refusal | None:
    """Answer Event Mesh, which asks by OPTIONS whether it may deliver: the consent is the header."""
    if inbound.method.upper() != "OPTIONS":
        return None
    origin = inbound.header("webhook-request-origin")
    if not _ORIGIN.fullmatch(origin):
        return Refusal(_BAD_REQUEST, "WebHook-Request-Origin", "must be the sender's host name")
    allowed = [one.strip().lower() for one in settings.allowed_origins.split(",")]
    if "*" not in allowed and origin.lower() not in allowed:
        return Refusal(_FORBIDDEN, "WebHook-Request-Origin", "must be one of the origins allowed here")
    return Reply(headers={"webhook-allowed-origin": origin, "allow": "POST"})


def read(inbound: Inbound, settings: SapSettings, now: datetime) -> Received | Refusal:
    """Return what a verified push says."""
    media = inbound.header("content-type").partition(";")[0].strip().lower()
    if media in _XML:
        return _idocs(inbound.body, settings, now)
    return _cloud_event(inbound.body, now)


_XML = frozenset({"text/xml", "application/xml", "application/x-sap.idoc"})


# ---- Event Mesh ----


class _Keys(Foreign):
    SalesOrder: Any = None
    OutboundDelivery: Any = None
    SoldToParty: Any = None


class _CloudEvent(Foreign):
    type: str = Field(strict=True, min_length=1, max_length=256)
    id: Filled
    source: Filled
    time: Moment | None = None
    data: _Keys


def _cloud_event(body: bytes, now: datetime) -> Received | Refusal:
    told = read_json(_CloudEvent, body)
    if isinstance(told, Refusal):
        return told
    found = _TYPE.fullmatch(told.type)
    if found is None or found[3] in SILENT:
        return Received()
    delivery = found[1] == "outbounddelivery"
    field = "OutboundDelivery" if delivery else "SalesOrder"
    document = number(told.data.OutboundDelivery if delivery else told.data.SalesOrder)
    if not document:
        return Refusal(_UNPROCESSABLE, f"data.{field}", "must be a document number, such as 4800")
    event = OrderEvent(
        source=SOURCE,
        dedupe_key=event_key(told.source, told.id),
        order_ref=f"{DELIVERY}{document}" if delivery else document,
        order_no="" if delivery else document,
        status=_S.UNKNOWN,
        raw_status=raw_status(f"{found[2]}.{found[3]}"),
        occurred_at=told.time or now,
        client_ref=one_line(str(told.data.SoldToParty or ""), limit=64),
        refs={"sap_delivery": document} if delivery else {SOURCE: document},
        # A deleted order can be read no more: a person must look.
        thin=found[3] != "Deleted",
    )
    return too_far_ahead(event, now=now, field="time") or Received(events=(event,))


# ---- IDocs ----


def _idocs(body: bytes, settings: SapSettings, now: datetime) -> Received | Refusal:
    root = parse(body)
    if isinstance(root, Refusal):
        return root
    idocs = root.findall("IDOC")
    if not 1 <= len(idocs) <= MAX_IDOCS:
        return Refusal(_UNPROCESSABLE, "IDOC", f"must stand there 1 to {MAX_IDOCS} times")
    events: list[OrderEvent] = []
    for place, idoc in enumerate(idocs):
        told = _idoc(idoc, settings, within=f"IDOC[{place}]", now=now)
        if isinstance(told, Refusal):
            return told
        events.extend(told)
    return Received(events=tuple(events))


def parse(body: bytes) -> ET.Element | Refusal:
    """Return the root of an IDoc packet. No document type, so no entity: nothing is expanded or fetched."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Refusal(_UNPROCESSABLE, "body", "must be XML in UTF-8")
    if re.search(r"<!\s*(?:DOCTYPE|ENTITY)", text, re.IGNORECASE):
        return Refusal(_UNPROCESSABLE, "body", "must have no document type (DOCTYPE)")
    try:
        # Given text, the parser cannot be led to another encoding by the document's own declaration.
        return ET.fromstring(text)  # noqa: S314 - what makes it unsafe, a document type, was refused above
    except ET.ParseError:
        return Refusal(_UNPROCESSABLE, "body", "must be well-formed XML")


def _text(element: ET.Element, path: str, *, limit: int = 64) -> str:
    return one_line(element.findtext(path) or "", limit=limit)


def _idoc(idoc: ET.Element, settings: SapSettings, *, within: str, now: datetime) -> list[OrderEvent] | Refusal:
    control = idoc.find("EDI_DC40")
    if control is None:
        return Refusal(_UNPROCESSABLE, f"{within}.EDI_DC40", "is missing: the control record of the IDoc")
    if _text(control, "DIRECT") != "1":
        return Refusal(_UNPROCESSABLE, f"{within}.EDI_DC40.DIRECT", "must be 1: an IDoc that leaves SAP")
    sender, client, serial = _text(control, "SNDPRN"), _text(control, "MANDT"), _text(control, "DOCNUM")
    if not (sender and serial):
        missing = "DOCNUM" if sender else "SNDPRN"
        return Refusal(_UNPROCESSABLE, f"{within}.EDI_DC40.{missing}", "must not be empty")
    message = _text(control, "MESTYP")
    facts = _of_delivery(idoc) or _of_order(idoc)
    if not facts:
        return Refusal(_UNPROCESSABLE, within, "must hold a delivery (E1EDL20) or an order (E1EDK01) with its number")
    at = _sent_at(control, settings) or now
    events: list[OrderEvent] = []
    for fact in facts:
        event = OrderEvent(
            source=SOURCE,
            dedupe_key=event_key(sender, client or "-", serial, fact.order),
            order_ref=fact.order,
            order_no=fact.order,
            status=MESSAGES.get(message, _S.UNKNOWN),
            raw_status=raw_status(message or "an IDoc without MESTYP"),
            occurred_at=at,
            client_ref=fact.client,
            tracking_no=fact.tracking,
            lines=fact.lines,
            refs={SOURCE: fact.order} | ({"sap_delivery": fact.delivery} if fact.delivery else {}),
        )
        refused = too_far_ahead(event, now=now, field=f"{within}.EDI_DC40.SERIAL")
        if refused is not None:
            return refused
        events.append(event)
    return events


# A despatch advice leaves with the goods; STPPOD is the proof of delivery.
MESSAGES: Final[Mapping[str, OrderStatus]] = {
    "ORDRSP": _S.RECEIVED,
    "DESADV": _S.SHIPPED,
    "STPPOD": _S.DELIVERED,
}


def _sent_at(control: ET.Element, settings: SapSettings) -> datetime | None:
    """Return when the IDoc was made: SAP writes its own local time, without a zone."""
    stamp = _text(control, "SERIAL")[:14] or f"{_text(control, 'CREDAT')}{_text(control, 'CRETIM')}"
    if not re.fullmatch(r"20[0-9]{12}", stamp):
        return None
    try:
        local = datetime.strptime(stamp, "%Y%m%d%H%M%S").replace(tzinfo=ZoneInfo(settings.time_zone))
    except ValueError:
        return None
    return local.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    """What an IDoc says of one order."""

    order: str
    client: str
    lines: tuple[Line, ...]
    tracking: str = ""
    delivery: str = ""


def _of_delivery(idoc: ET.Element) -> list[_Fact]:
    """Return what a delivery IDoc says of each order that it carries goods of."""
    header = idoc.find("E1EDL20")
    if header is None:
        return []
    items = [(number(item.findtext("VGBEL")), item) for item in header.findall("E1EDL24")]
    return [
        _Fact(
            order=order,
            client=_partner(header, "E1ADRM1", qualifier="PARTNER_Q", name="PARTNER_ID"),
            tracking=tracking_number(header.findtext("BOLNR") or ""),
            delivery=number(header.findtext("VBELN")),
            lines=_lines((_text(item, "MATNR"), item.findtext("LFIMG")) for of, item in items if of == order),
        )
        for order in dict.fromkeys(of for of, _ in items if of)
    ]


def _of_order(idoc: ET.Element) -> list[_Fact]:
    """Return what an order IDoc says; 002 qualifies the supplier's own numbers, 001 the buyer's."""
    own = idoc.findtext("E1EDK02[QUALF='002']/BELNR") or idoc.findtext("E1EDK01/BELNR")
    order = number(own)
    if not order:
        return []
    items = idoc.findall("E1EDP01")
    lines = _lines((_text(item, "E1EDP19[QUALF='002']/IDTNR"), item.findtext("MENGE")) for item in items)
    client = _partner(idoc, "E1EDKA1", qualifier="PARVW", name="PARTN")
    return [_Fact(order=order, client=client, lines=lines)]


def _partner(parent: ET.Element, segment: str, *, qualifier: str, name: str) -> str:
    """Return the sold-to party, AG in every language, without the zeros before its number."""
    return _text(parent, f"{segment}[{qualifier}='AG']/{name}").lstrip("0")


def _lines(pairs: Iterable[tuple[str, str | None]]) -> tuple[Line, ...]:
    counted = ((sku.lstrip("0"), quantity(amount)) for sku, amount in pairs)
    return tuple(Line(sku, count) for sku, count in counted if sku and count)
