"""AfterShip: shipments of many carriers, which report to us by signed webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlencode

from pydantic import Field, SecretStr

from ordernotify.carriers._base import (
    Carrier,
    CarrierSettings,
    Follow,
    Freshness,
    Push,
    Pushed,
    Quota,
    Reading,
    clean_code,
    failed,
    meaning_of,
    table,
    unreadable,
)
from ordernotify.carriers._telling import (
    ADDRESS,
    ATTEMPTED,
    AVAILABLE,
    CUSTOMS,
    RETURNED,
    RETURNING,
    WEATHER,
    day_of,
    items_of,
    name_for_people,
    tell,
    text_of,
    when,
)
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus as S
from ordernotify.core.tracking import Care, Meaning, TrackingEvent, normal_number
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Refusal, json_body
from ordernotify.platforms._reading import parse, read_moment
from ordernotify.platforms._signing import active, is_signed

NAME = "aftership"
_OK, _CREATED, _UNAUTHORIZED, _UNPROCESSABLE = 200, 201, 401, 422
_SIGNATURE = "aftership-hmac-sha256"  # that of AfterShip's other products has another name
_UPDATE, _DELIVERED = "tracking_update", "Delivered"
_TIMES = range(946_684_800, 4_102_444_800)  # the years 2000 to 2099: what lies outside is no time

_PERSON = Meaning(None, care=Care.FIRST)

# A tag, or a subtag of it that says more.
STATUSES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(None), "Pending"),
        (Meaning(S.PROCESSING), "InfoReceived"),
        (Meaning(S.SHIPPED), "InTransit"),
        (Meaning(S.OUT_FOR_DELIVERY), "OutForDelivery"),
        (Meaning(S.OUT_FOR_DELIVERY, AVAILABLE), "AvailableForPickup"),
        (Meaning(S.DELAYED, ATTEMPTED), "AttemptFail"),
        (Meaning(S.DELIVERED), "Delivered Delivered_001 Delivered_002 Delivered_003 Delivered_004 Delivered_005"),
        (Meaning(S.REGULATORY_HOLD, CUSTOMS), "Exception_018"),  # documents missing or wrong
        (Meaning(S.DELAYED, CUSTOMS), "Exception_004"),
        (Meaning(S.RETURNED, RETURNING), "Exception_003 Exception_010"),
        (Meaning(S.RETURNED, RETURNED), "Exception_011"),
        (Meaning(S.DELAYED, care=Care.FIRST), "Exception_012 Exception_013"),  # damaged, lost
        (Meaning(S.DELAYED), "Exception_001 Exception_002 Exception_005 Exception_006 Exception_008"),
        (Meaning(S.DELAYED), "Exception_009 Exception_016"),
        (Meaning(S.DELAYED, ADDRESS), "Exception_007"),
        (Meaning(S.DELAYED, WEATHER), "Exception_017"),
        (_PERSON, "Exception Exception_019 Exception_020 Exception_021 Expired"),
    )
)
_EXISTS = "4003"
_KINDS: Mapping[str, FailureKind] = {
    "4004": FailureKind.PERMANENT,
    "4005": FailureKind.PERMANENT,
    "4010": FailureKind.PERMANENT,
    "4012": FailureKind.PERMANENT,
    "4013": FailureKind.PERMANENT,
    "4016": FailureKind.PERMANENT,
    "4017": FailureKind.PERMANENT,
}


class Settings(CarrierSettings):
    """The organization at AfterShip, and the secret of its webhook."""

    base_url: str = Field(
        default="https://api.aftership.com/tracking/2026-07", description="Root of the API, with its version."
    )
    api_key: SecretStr = Field(description="API key, used without request signing.")
    slug: str = Field(default="", description="AfterShip's name of our carrier; AfterShip guesses without.")
    webhook_secret: SecretStr | None = Field(
        default=None, description="Secret of the webhook. Two, with a comma, while one changes."
    )


def _call(context: Context, method: Literal["GET", "POST"], path: str, value: Any = None) -> Call:
    settings: Settings = context.settings
    headers = {"as-api-key": settings.api_key.get_secret_value(), "accept": "application/json"}
    if value is not None:
        headers["content-type"] = "application/json"
    body = b"" if value is None else json_body(value)
    return Call(method, f"{settings.base_url.rstrip('/')}{path}", headers, body)


def _build(numbers: Sequence[str], context: Context) -> Call:
    query = urlencode({"tracking_numbers": ",".join(numbers)})
    return _call(context, "GET", f"/trackings?{query}")


def _read(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Reading]:
    body = answer.json()
    if answer.status != _OK:
        return dict.fromkeys(numbers, _failed(answer, context))
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("trackings"), list):
        return dict.fromkeys(numbers, unreadable(NAME))
    told: dict[str, Mapping[str, Any]] = {}
    for one in sorted(items_of(data, "trackings"), key=lambda one: text_of(one, "updated_at")):
        told[normal_number(text_of(one, "tracking_number"))] = one
    return {number: _known(told.get(number), number, context.now) for number in numbers}


def _known(tracking: Mapping[str, Any] | None, number: str, now: datetime) -> tuple[TrackingEvent, ...]:
    if tracking is None:
        return ()
    return (_event(tracking, number, read_moment(text_of(tracking, "updated_at")) or now, now),)


def _failed(answer: Answer, context: Context) -> Deferred | Rejected:
    return failed(answer, context, carrier=NAME, code=_code(answer), kinds=_KINDS)


def _code(answer: Answer) -> str:
    return text_of(answer.json(), "meta", "code")


def _follow(numbers: Sequence[str], context: Context) -> Call:
    (number,) = numbers
    slug = {"slug": context.settings.slug} if context.settings.slug else {}
    return _call(context, "POST", "/trackings", {"tracking_number": number, **slug})


def _followed(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Accepted | Deferred | Rejected]:
    (number,) = numbers
    if answer.status in {_OK, _CREATED}:
        reference = clean_code(text_of(answer.json(), "data", "id"))
        return {number: Accepted(reference) if reference else unreadable(NAME)}
    if _code(answer) == _EXISTS:
        return {number: Accepted(code="exists")}
    return {number: _failed(answer, context)}


def _event(tracking: Mapping[str, Any], number: str, said_at: datetime, now: datetime) -> TrackingEvent:
    """Return the state of a shipment: ``said_at`` is its time where the scan's own has no zone."""
    tag, subtag = clean_code(text_of(tracking, "tag")), clean_code(text_of(tracking, "subtag"))
    means = meaning_of(STATUSES, subtag, tag)
    if tracking.get("return_to_sender") is True and tag == _DELIVERED:
        means = Meaning(S.RETURNED, RETURNED)
    scans = items_of(tracking, "checkpoints")
    written = text_of(max(scans, key=_scan_time, default={}), "checkpoint_time")
    return tell(
        NAME,
        number,
        means,
        subtag or tag,
        read_moment(written) or said_at,
        now=now,
        title=name_for_people(tracking.get("slug")),
        day=day_of(_promised(tracking)),
        event_id=written or f"{tag} without a scan",
    )


def _scan_time(scan: Mapping[str, Any]) -> str:
    found = when(scan.get("checkpoint_time"))
    return "" if found is None else found.isoformat()


_PROMISES = ("courier_estimated_delivery_date", "latest_estimated_delivery", "aftership_estimated_delivery_date")


def _promised(tracking: Mapping[str, Any]) -> str:
    days = [text_of(tracking, name, "estimated_delivery_date") for name in _PROMISES]
    days += [text_of(tracking, name, "datetime") for name in _PROMISES]
    return next((day for day in days if day), "")


# ---- pushes ----


def _verify(inbound: Inbound, settings: Settings, _now: datetime) -> Refusal | None:
    # AfterShip tries for nearly three days with the same bytes; no time is checked.
    signature = inbound.header(_SIGNATURE)
    if not signature:
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "is missing: every webhook of AfterShip is signed")
    if not is_signed([signature], inbound.body, [one.encode() for one in active(settings.webhook_secret)]):
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "must match the exact bytes of the body")
    return None


def _pushed(inbound: Inbound, _settings: Settings, now: datetime) -> Pushed | Refusal:
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    if not isinstance(body, dict):
        return Refusal(_UNPROCESSABLE, "body", "must be an object")
    if text_of(body, "event") != _UPDATE:
        return Pushed()
    tracking = body.get("msg")
    number = normal_number(text_of(tracking, "tracking_number"))
    if not isinstance(tracking, dict) or not number:
        return Refusal(_UNPROCESSABLE, "msg.tracking_number", "must be a tracking number")
    stamp = body.get("ts")
    if not isinstance(stamp, int) or stamp not in _TIMES:
        return Refusal(_UNPROCESSABLE, "ts", "must be the time in seconds since 1970")
    return Pushed(events=(_event(tracking, number, datetime.fromtimestamp(stamp, UTC), now),))


CARRIER = Carrier(
    name=NAME,
    title="AfterShip",
    settings=Settings,
    freshness=Freshness.PUSH,
    names=(NAME,),
    statuses=STATUSES,
    build=_build,
    read=_read,
    batch=50,
    follow=Follow(build=_follow, read=_followed),
    push=Push(
        verify=_verify,
        read=_pushed,
        signature="aftership-hmac-sha256: base64 HMAC-SHA256 over the body under the webhook's secret",
    ),
    quota=(Quota(5, 1),),
    at_least=timedelta(hours=12),
)
