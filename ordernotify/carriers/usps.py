"""USPS: shipments by the Tracking API, one number a call, and the updates of its subscriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from pydantic import Field, SecretStr

from ordernotify.carriers._base import (
    Carrier,
    CarrierSettings,
    Freshness,
    Push,
    Pushed,
    Quota,
    Reading,
    bearer_of,
    clean_code,
    failed,
    read_token,
    table,
    unreadable,
)
from ordernotify.carriers._telling import (
    ATTEMPTED,
    AVAILABLE,
    RETURNED,
    RETURNING,
    WITH_AGENT,
    day_of,
    items_of,
    oldest_first,
    tell,
    text_of,
    when,
    with_day,
)
from ordernotify.core.delivery import FailureKind
from ordernotify.core.events import OrderStatus as S
from ordernotify.core.tracking import UNMAPPED, Meaning, TrackingEvent, normal_number
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Refusal, TokenSource, json_body
from ordernotify.platforms._reading import parse
from ordernotify.platforms._signing import active, is_signed

NAME, TITLE = "usps", "USPS"
_OK, _UNAUTHORIZED, _UNPROCESSABLE = 200, 401, 422
_SIGNATURES = ("X-HMAC", "hmac-header")

# The category says where the piece is; a code, what one scan was. Categories are written without spaces here.
CATEGORIES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(S.PROCESSING), "Pre-Shipment"),
        (Meaning(S.SHIPPED), "Accepted InTransit"),
        (Meaning(S.OUT_FOR_DELIVERY), "OutforDelivery"),
        (Meaning(S.OUT_FOR_DELIVERY, AVAILABLE), "AvailableforPickup"),
        (Meaning(S.OUT_FOR_DELIVERY, WITH_AGENT), "DeliveredtoAgent"),
        (Meaning(S.DELIVERED), "Delivered"),
        (Meaning(S.DELAYED, ATTEMPTED), "DeliveryAttempt"),
        (Meaning(S.DELAYED), "Alert"),
    )
)
CODES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(S.PROCESSING), "GX MA"),
        (Meaning(S.SHIPPED), "03 SF 10 T1 TL A1 07"),
        (Meaning(S.OUT_FOR_DELIVERY), "OF"),
        (Meaning(S.OUT_FOR_DELIVERY, AVAILABLE), "14"),
        (Meaning(S.DELIVERED), "01"),
        (Meaning(S.DELAYED, ATTEMPTED), "02"),
        (Meaning(S.DELAYED), "05"),
        (Meaning(S.RETURNED, RETURNING), "04 09 21"),
    )
)
_ALERT = "Alert"
_GOING_BACK = frozenset({"09", "21"})
_BACK = re.compile(r"return(ed)? to sender", re.IGNORECASE)
_NOT_YET = re.compile(r"1500(0[1-9]|1[0-3])")
_KINDS: Mapping[str, FailureKind] = {
    "invalid_client": FailureKind.AUTH,
    "invalid_token": FailureKind.AUTH,
    "insufficient_scope": FailureKind.AUTH,  # USPS has not granted tracking to the application yet
}


class Settings(CarrierSettings):
    """The application at USPS's developer portal, which must have been granted tracking."""

    base_url: str = Field(default="https://apis.usps.com", description="Root of the API; apis-tem.usps.com for tests.")
    token_url: str = Field(default="https://apis.usps.com/oauth2/v3/token", description="Where tokens are fetched.")
    client_id: str = Field(description="Consumer key of the application.")
    client_secret: SecretStr = Field(description="Consumer secret of the application.")
    scope: str = Field(default="tracking", description="Scope that tokens are asked for.")
    push_secret: SecretStr | None = Field(
        default=None,
        description="Secret of the subscription (32 characters), which signs updates. Two, with a comma, "
        "while one changes.",
    )


def _ask_token(context: Context) -> Call:
    settings: Settings = context.settings
    value = {
        "grant_type": "client_credentials",
        "client_id": settings.client_id,
        "client_secret": settings.client_secret.get_secret_value(),
        "scope": settings.scope,
    }
    return Call("POST", settings.token_url, {"content-type": "application/json"}, json_body(value))


# ---- questions ----


def _build(numbers: Sequence[str], context: Context) -> Call:
    (number,) = numbers
    path = f"/tracking/v3/tracking/{quote(number, safe='')}?expand=DETAIL"
    headers = {**bearer_of(context), "accept": "application/json"}
    return Call("GET", f"{context.settings.base_url.rstrip('/')}{path}", headers)


def _read(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Reading]:
    (number,) = numbers
    return {number: _reading(answer, number, context)}


def _reading(answer: Answer, number: str, context: Context) -> Reading:
    body = answer.json()
    if answer.status == _OK:
        return events_of(body, number, context.now) if isinstance(body, dict) else unreadable(NAME)
    codes = [text_of(one, "code") for one in items_of(body, "error", "errors")]
    # The same codes stand for a number that is wrong and for one that is not known yet: time tells.
    if any(map(_NOT_YET.fullmatch, codes)):
        return ()
    return failed(answer, context, carrier=NAME, code=text_of(body, "error"), kinds=_KINDS)


def events_of(piece: Mapping[str, Any], number: str, now: datetime) -> tuple[TrackingEvent, ...]:
    """Return the events of one mail piece, as it is answered or pushed."""
    steps = oldest_first(items_of(piece, "trackingEvents"), _time)
    told = [_step(step, number, now) for step in steps[:-1]]
    category = text_of(piece, "statusCategory")
    if category or steps:
        told.append(_current(piece, steps[-1] if steps else {}, number, now))
    return with_day(told, day_of(piece.get("expectedDeliveryDate")))


def _time(step: Mapping[str, Any]) -> datetime | None:
    return when(step.get("GMTTimestamp")) or when(step.get("eventTimestamp"))


def _step(step: Mapping[str, Any], number: str, now: datetime) -> TrackingEvent:
    # Of a scan that is over only what it surely meant counts: USPS has hundreds of codes.
    code = clean_code(text_of(step, "eventCode"))
    return _tell(step, CODES.get(code, Meaning(None)), code or "scan", number, now)


def _current(piece: Mapping[str, Any], step: Mapping[str, Any], number: str, now: datetime) -> TrackingEvent:
    category = "".join(clean_code(text_of(piece, "statusCategory")).split())
    code = clean_code(text_of(step, "eventCode"))
    means = (CATEGORIES.get(category) if category else CODES.get(code)) or UNMAPPED
    if category == _ALERT:
        words = " ".join((text_of(piece, "status"), text_of(piece, "statusSummary"), text_of(step, "eventType")))
        means = _alert(code, words) or means
    return _tell(step, means, f"{category}/{code}".strip("/"), number, now)


def _alert(code: str, words: str) -> Meaning | None:
    if code in _GOING_BACK or _BACK.search(words):
        back = "returned to sender" in words.casefold()
        return Meaning(S.RETURNED, RETURNED if back else RETURNING)
    if "customs" in words.casefold() and "held" in words.casefold():
        return Meaning(S.REGULATORY_HOLD, "customs")
    return None


def _tell(step: Mapping[str, Any], means: Meaning, code: str, number: str, now: datetime) -> TrackingEvent:
    at = _time(step)
    known_by = "" if at else "without a time"
    return tell(NAME, number, means, code, at or now, now=now, title=TITLE, event_id=known_by)


# ---- pushes ----


def _verify(inbound: Inbound, settings: Settings, _now: datetime) -> Refusal | None:
    signatures = [value for value in map(inbound.header, _SIGNATURES) if value]
    if not signatures:
        return Refusal(_UNAUTHORIZED, _SIGNATURES[0], "is missing: give the subscription a secret")
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    # What is signed are two fields as they read, not the bytes that carry them.
    signed = (_exactly(body, "timestamp") + _exactly(body, "payload")).encode()
    if not is_signed(signatures, signed, [one.encode() for one in active(settings.push_secret)]):
        return Refusal(_UNAUTHORIZED, _SIGNATURES[0], "must match timestamp and payload of the body")
    return None


def _exactly(body: object, name: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""


def _pushed(inbound: Inbound, _settings: Settings, now: datetime) -> Pushed | Refusal:
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    piece = parse(_exactly(body, "payload").encode(), within="payload")
    if isinstance(piece, Refusal):
        return piece
    number = normal_number(text_of(piece, "trackingNumber"))
    if not number:
        return Refusal(_UNPROCESSABLE, "payload.trackingNumber", "must be a tracking number")
    if not items_of(piece, "trackingEvents"):
        # An update without scans happened when it says that it was sent.
        piece = {**piece, "trackingEvents": [{"GMTTimestamp": text_of(body, "timestamp")}]}
    return Pushed(events=events_of(piece, number, now))


CARRIER = Carrier(
    name=NAME,
    title=TITLE,
    settings=Settings,
    freshness=Freshness.POLL,
    names=("usps", "unitedstatespostalservice", "uspostalservice"),
    patterns=(
        re.compile(r"(?:420[0-9]{5}(?:[0-9]{4})?)?9[1-5][0-9]{18,20}"),
        re.compile(r"[A-Z]{2}[0-9]{9}US"),
    ),
    statuses={**CATEGORIES, **CODES},
    token=TokenSource(build=_ask_token, read=lambda answer, context: read_token(answer, context, carrier=NAME)),
    build=_build,
    read=_read,
    push=Push(
        verify=_verify,
        read=_pushed,
        signature="X-HMAC: base64 HMAC-SHA256 over timestamp and payload under the subscription's secret",
    ),
    quota=(Quota(60, 3_600),),  # of a new application, until USPS raises it
    at_least=timedelta(hours=6),
)
