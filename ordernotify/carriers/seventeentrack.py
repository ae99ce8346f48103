"""17TRACK: shipments of many carriers, forty numbers a call, which report to us by signed webhooks.

Its operator is abroad: whether the numbers of defense shipments may be sent there is decided before it is
set up, and nothing is sent without an API key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

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
    day_of,
    items_of,
    tell,
    text_of,
    when,
)
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus as S
from ordernotify.core.tracking import UNMAPPED, Care, Meaning, TrackingEvent, normal_number
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Refusal, json_body
from ordernotify.platforms._reading import parse
from ordernotify.platforms._signing import active, same_secret

NAME = "seventeentrack"
_OK, _UNAUTHORIZED, _UNPROCESSABLE = 200, 401, 422
_BATCH = 40
_UPDATED, _STOPPED = "TRACKING_UPDATED", "TRACKING_STOPPED"

_LOST = Meaning(S.DELAYED, care=Care.FIRST)

STATUSES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(None), "NotFound NotFound_Other"),
        (Meaning(None, care=Care.FIRST), "NotFound_InvalidCode Expired Expired_Other Exception_Cancel"),
        (Meaning(S.PROCESSING), "InfoReceived"),
        (Meaning(S.SHIPPED), "InTransit InTransit_PickedUp InTransit_Departure InTransit_Arrival InTransit_Other"),
        (Meaning(S.SHIPPED), "InTransit_CustomsProcessing InTransit_CustomsReleased"),
        (Meaning(S.REGULATORY_HOLD, CUSTOMS), "InTransit_CustomsRequiringInformation"),
        (Meaning(S.OUT_FOR_DELIVERY), "OutForDelivery OutForDelivery_Other"),
        (Meaning(S.OUT_FOR_DELIVERY, AVAILABLE), "AvailableForPickup AvailableForPickup_Other"),
        (Meaning(S.DELAYED, ATTEMPTED), "DeliveryFailure_Other DeliveryFailure_NoBody"),
        (Meaning(S.DELAYED, ADDRESS), "DeliveryFailure_InvalidAddress"),
        (Meaning(S.DELAYED, care=Care.ALSO), "DeliveryFailure_Security"),
        (Meaning(S.RETURNED, RETURNING), "DeliveryFailure_Rejected Exception_Returning Exception_Rejected"),
        (Meaning(S.RETURNED, RETURNED), "Exception_Returned"),
        (Meaning(S.DELIVERED), "Delivered Delivered_Other"),
        (Meaning(S.DELAYED), "Exception_Delayed Exception_NoBody Exception_Other"),
        (_LOST, "Exception_Lost Exception_Damage Exception_Destroyed Exception_Security"),
    )
)
# Of these an unknown sub-status may mean anything, a return as well as a loss.
_OPEN = frozenset({"Exception", "DeliveryFailure"})

_REGISTERED = "-18019901"
_NOTHING_YET = "-18019909"
_KINDS: Mapping[str, FailureKind] = {
    "-18010001": FailureKind.AUTH,  # our address is not on the account's list
    "-18010002": FailureKind.AUTH,
    "-18010003": FailureKind.TRANSIENT,
    "-18010004": FailureKind.AUTH,
    "-18010005": FailureKind.AUTH,
    **{str(code): FailureKind.PERMANENT for code in range(-18010015, -18010009)},
    **{str(code): FailureKind.PERMANENT for code in range(-18010022, -18010017)},
    "-18019902": FailureKind.PERMANENT,  # not registered: it must be followed first
    "-18019903": FailureKind.PERMANENT,
    "-18019904": FailureKind.PERMANENT,
    "-18019905": FailureKind.PERMANENT,
    "-18019906": FailureKind.PERMANENT,
    "-18019907": FailureKind.QUOTA,
    "-18019908": FailureKind.QUOTA,
    "-18019910": FailureKind.PERMANENT,
    "-18019911": FailureKind.PERMANENT,
}


class Settings(CarrierSettings):
    """The account at 17TRACK, whose key also signs what it sends."""

    base_url: str = Field(
        default="https://api.17track.net/track/v2.4", description="Root of the API, with its version."
    )
    api_key: SecretStr = Field(description="API key. Two, with a comma, while one changes: the first is used.")


def _call(context: Context, verb: str, numbers: Sequence[str]) -> Call:
    settings: Settings = context.settings
    headers = {"17token": next(iter(active(settings.api_key)), ""), "content-type": "application/json"}
    body = json_body([{"number": number} for number in numbers])
    return Call("POST", f"{settings.base_url.rstrip('/')}/{verb}", headers, body)


# ---- questions ----


def _build(numbers: Sequence[str], context: Context) -> Call:
    return _call(context, "gettrackinfo", numbers)


def _read(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Reading]:
    whole = _whole(answer, context)
    if whole is not None:
        return dict.fromkeys(numbers, whole)
    accepted, refused = _halves(answer)
    found: dict[str, Reading] = {}
    for number in numbers:
        if number in accepted:
            found[number] = _events(accepted[number], number, context.now)
        elif refused.get(number) == _NOTHING_YET:
            found[number] = ()
        else:
            found[number] = _refusal(answer, context, refused.get(number, ""))
    return found


def _follow(numbers: Sequence[str], context: Context) -> Call:
    return _call(context, "register", numbers)


def _followed(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Accepted | Deferred | Rejected]:
    whole = _whole(answer, context)
    if whole is not None:
        return dict.fromkeys(numbers, whole)
    accepted, refused = _halves(answer)
    return {
        number: Accepted()
        if number in accepted or refused.get(number) == _REGISTERED
        else _refusal(answer, context, refused.get(number, ""))
        for number in numbers
    }


def _whole(answer: Answer, context: Context) -> Deferred | Rejected | None:
    """Return what befell the call as a whole, None where each number has its own answer."""
    body = answer.json()
    errors = items_of(body, "data", "errors")
    code = text_of(errors[0], "code") if errors else text_of(body, "code")
    if answer.status != _OK or code != "0":
        return _refusal(answer, context, code)
    return None


def _refusal(answer: Answer, context: Context, code: str) -> Deferred | Rejected:
    if answer.status == _OK and code not in _KINDS:
        return unreadable(NAME)
    return failed(answer, context, carrier=NAME, code=code, kinds=_KINDS)


def _halves(answer: Answer) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, str]]:
    """Return the accepted items and the codes of the refused ones, by number: one answer holds both."""
    body = answer.json()
    accepted = {normal_number(text_of(one, "number")): one for one in items_of(body, "data", "accepted")}
    refused = {
        normal_number(text_of(one, "number")): text_of(one, "error", "code")
        for one in items_of(body, "data", "rejected")
    }
    return accepted, refused


def _events(item: Mapping[str, Any], number: str, now: datetime) -> tuple[TrackingEvent, ...]:
    info = item.get("track_info")
    latest = info.get("latest_status") if isinstance(info, dict) else None
    status, detail = clean_code(text_of(latest, "status")), clean_code(text_of(latest, "sub_status"))
    if not status:
        return ()
    means = meaning_of(STATUSES, detail, status)
    if status in _OPEN and detail not in STATUSES:
        means = UNMAPPED
    event = info.get("latest_event") if isinstance(info, dict) else None
    at, known_by = _time(event)
    days = ("time_metrics", "estimated_delivery_date")
    day = day_of(text_of(info, *days, "to")) or day_of(text_of(info, *days, "from"))
    return (tell(NAME, number, means, detail or status, at or now, now=now, day=day, event_id=known_by),)


def _time(event: object) -> tuple[datetime | None, str]:
    """Return when an event happened and what it is known by: its exact times may both be missing."""
    for name in ("time_utc", "time_iso"):
        at = when(text_of(event, name))
        if at is not None:
            return at, at.isoformat()
    day, clock = (text_of(event, "time_raw", name) for name in ("date", "time"))
    zone = text_of(event, "time_raw", "timezone")
    return when(f"{day}T{clock or '00:00:00'}{zone}"), f"{day} {clock} {zone}".strip() or "without a time"


# ---- pushes ----


def _verify(inbound: Inbound, settings: Settings, _now: datetime) -> Refusal | None:
    # A plain digest, not an HMAC: its key is the end of what is digested, so nothing can be appended.
    offered = inbound.header("sign")
    if not offered:
        return Refusal(_UNAUTHORIZED, "sign", "is missing: every webhook of 17TRACK is signed")
    expected = [hashlib.sha256(inbound.body + b"/" + one.encode()).hexdigest() for one in active(settings.api_key)]
    if not same_secret(offered.lower(), expected):
        return Refusal(_UNAUTHORIZED, "sign", "must match the exact bytes of the body")
    return None


def _pushed(inbound: Inbound, _settings: Settings, now: datetime) -> Pushed | Refusal:
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    if not isinstance(body, dict):
        return Refusal(_UNPROCESSABLE, "body", "must be an object")
    item = body.get("data")
    number = normal_number(text_of(item, "number"))
    if not isinstance(item, dict) or not number:
        return Refusal(_UNPROCESSABLE, "data.number", "must be a tracking number")
    kind = text_of(body, "event")
    if kind == _STOPPED:
        return Pushed(ask=(number,))  # it says only that no more will be said
    return Pushed(events=_events(item, number, now)) if kind == _UPDATED else Pushed()


CARRIER = Carrier(
    name=NAME,
    title="17TRACK",
    settings=Settings,
    freshness=Freshness.PUSH,
    names=("17track", NAME),
    statuses=STATUSES,
    build=_build,
    read=_read,
    batch=_BATCH,
    follow=Follow(build=_follow, read=_followed, batch=_BATCH),
    push=Push(
        verify=_verify,
        read=_pushed,
        signature="sign: hex SHA-256 over the body, a slash and the API key",
    ),
    quota=(Quota(3, 1),),
    at_least=timedelta(hours=24),
)
