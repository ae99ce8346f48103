"""EasyPost: trackers of many carriers, which report to us by signed webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
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
    Reading,
    clean_code,
    failed,
    meaning_of,
    table,
    unreadable,
)
from ordernotify.carriers._telling import (
    ADDRESS,
    AVAILABLE,
    CUSTOMS,
    RETURNED,
    RETURNING,
    WEATHER,
    day_of,
    items_of,
    name_for_people,
    oldest_first,
    tell,
    text_of,
    when,
    with_day,
)
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus as S
from ordernotify.core.tracking import Care, Meaning, TrackingEvent, normal_number
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Refusal, json_body
from ordernotify.platforms._reading import parse
from ordernotify.platforms._signing import active, same_secret

NAME = "easypost"
_OK, _CREATED, _UNAUTHORIZED, _UNPROCESSABLE = 200, 201, 401, 422
_V1, _V2, _STAMP, _PATH = "X-Hmac-Signature", "X-Hmac-Signature-V2", "X-Timestamp", "X-Path"
_PREFIX = "hmac-sha256-hex="
_AGE: Final = timedelta(minutes=5)
_WANTED = frozenset({"tracker.created", "tracker.updated"})
_TEST = "test"

# A status, or a status and its detail: the pair decides where it has a row.
STATUSES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(None), "unknown"),
        (Meaning(S.PROCESSING), "pre_transit"),
        (Meaning(S.SHIPPED), "in_transit"),
        (Meaning(S.DELAYED), "in_transit/delayed in_transit/delivery_exception in_transit/transit_exception"),
        (Meaning(S.DELAYED), "in_transit/missorted in_transit/awaiting_information in_transit/held"),
        (Meaning(S.DELAYED), "in_transit/expired"),
        (Meaning(S.DELAYED, WEATHER), "in_transit/weather_delay"),
        (Meaning(S.DELAYED, ADDRESS), "in_transit/address_correction"),
        (Meaning(S.OUT_FOR_DELIVERY), "out_for_delivery"),
        (Meaning(S.OUT_FOR_DELIVERY, AVAILABLE), "available_for_pickup"),
        (Meaning(S.DELIVERED), "delivered"),
        (Meaning(S.RETURNED, RETURNED), "return_to_sender"),
        (Meaning(S.DELAYED, care=Care.ALSO), "failure"),
        (Meaning(S.RETURNED, RETURNING, Care.ALSO), "failure/refused failure/return"),
        (Meaning(S.DELAYED, care=Care.FIRST), "failure/damaged failure/lost"),
        (Meaning(None, care=Care.FIRST), "cancelled error"),
    )
)
_HELD = re.compile(r"\bcustoms\b", re.IGNORECASE)
_KINDS: Mapping[str, FailureKind] = {"RATE_LIMITED": FailureKind.RATE}


class Settings(CarrierSettings):
    """The account at EasyPost, and the secret of its webhook."""

    base_url: str = Field(default="https://api.easypost.com/v2", description="Root of the API.")
    api_key: SecretStr = Field(description="API key; test and production have keys of their own.")
    carrier: str = Field(default="", description="Carrier of new trackers (USPS, UPS, ...); EasyPost guesses without.")
    webhook_secret: SecretStr | None = Field(
        default=None, description="Secret of the webhook. Two, with a comma, while one changes."
    )
    only_v2: bool = Field(
        default=False, description="Refuse webhooks without the newer signature, which holds the time."
    )
    take_test: bool = Field(default=False, description="Take events of test mode as if they were real.")


def _call(context: Context, method: Literal["GET", "POST"], path: str, value: Any = None) -> Call:
    settings: Settings = context.settings
    pair = f"{settings.api_key.get_secret_value()}:"
    headers = {"authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"}
    if value is not None:
        headers["content-type"] = "application/json"
    body = b"" if value is None else json_body(value)
    return Call(method, f"{settings.base_url.rstrip('/')}{path}", headers, body)


# ---- questions ----


def _build(numbers: Sequence[str], context: Context) -> Call:
    (number,) = numbers
    return _call(context, "GET", f"/trackers?{urlencode({'tracking_code': number})}")


def _read(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Reading]:
    (number,) = numbers
    body = answer.json()
    if answer.status != _OK:
        return {number: _failed(answer, context)}
    if not isinstance(body, dict) or not isinstance(body.get("trackers"), list):
        return {number: unreadable(NAME)}
    own = [one for one in items_of(body, "trackers") if normal_number(text_of(one, "tracking_code")) == number]
    newest = max(own, key=lambda one: text_of(one, "updated_at"), default=None)
    return {number: () if newest is None else _events(newest, number, context.now)}


def _failed(answer: Answer, context: Context) -> Deferred | Rejected:
    return failed(answer, context, carrier=NAME, code=text_of(answer.json(), "error", "code"), kinds=_KINDS)


def _follow(numbers: Sequence[str], context: Context) -> Call:
    (number,) = numbers
    carrier = {"carrier": context.settings.carrier} if context.settings.carrier else {}
    return _call(context, "POST", "/trackers", {"tracker": {"tracking_code": number, **carrier}})


def _followed(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Accepted | Deferred | Rejected]:
    (number,) = numbers
    if answer.status in {_OK, _CREATED}:
        reference = clean_code(text_of(answer.json(), "id"))
        return {number: Accepted(reference) if reference else unreadable(NAME)}
    return {number: _failed(answer, context)}


def _events(tracker: Mapping[str, Any], number: str, now: datetime) -> tuple[TrackingEvent, ...]:
    steps = oldest_first(items_of(tracker, "tracking_details"), lambda step: when(step.get("datetime")))
    title = name_for_people(tracker.get("carrier"))
    told = [_event(step, step, number, title, now) for step in steps[:-1]]
    told.append(_event(tracker, steps[-1] if steps else {}, number, title, now))
    return with_day(told, day_of(tracker.get("est_delivery_date")))


def _event(says: Mapping[str, Any], step: Mapping[str, Any], number: str, title: str, now: datetime) -> TrackingEvent:
    """Return one event: ``says`` has the status, the tracker's own for the newest, and ``step`` the time."""
    status, detail = clean_code(text_of(says, "status")), clean_code(text_of(says, "status_detail"))
    means = meaning_of(STATUSES, f"{status}/{detail}", status)
    if detail == "held" and _HELD.search(text_of(step, "message")):
        # EasyPost has no word for customs: a person says whether this is a hold.
        means = Meaning(S.REGULATORY_HOLD, CUSTOMS, Care.FIRST)
    at = when(step.get("datetime")) or when(says.get("updated_at"))
    code = f"{status}/{detail}" if detail and detail != status else status
    known_by = "" if at else "without a time"
    return tell(NAME, number, means, code, at or now, now=now, title=title, event_id=known_by)


# ---- pushes ----


def signed_with(secret: str, signed: bytes) -> str:
    """Return the signature of ``signed``; the key is the secret in its decomposed form (NFKD)."""
    key = unicodedata.normalize("NFKD", secret).encode()
    return _PREFIX + hmac.new(key, signed, hashlib.sha256).hexdigest()


def _verify(inbound: Inbound, settings: Settings, now: datetime) -> Refusal | None:
    newer = inbound.header(_V2)
    if not newer and settings.only_v2:
        return Refusal(_UNAUTHORIZED, _V2, "is missing")
    if newer:
        stamp = inbound.header(_STAMP)
        sent_at = _rfc2822(stamp)
        if sent_at is None or abs(now - sent_at) > _AGE:
            return Refusal(_UNAUTHORIZED, _STAMP, "must be a time at most five minutes from ours")
        signed = f"{stamp}{inbound.method}{inbound.header(_PATH)}".encode() + inbound.body
        name, offered = _V2, newer
    else:
        name, offered, signed = _V1, inbound.header(_V1), inbound.body
    if not offered:
        return Refusal(_UNAUTHORIZED, name, "is missing: give the webhook a secret")
    if not same_secret(offered, [signed_with(one, signed) for one in active(settings.webhook_secret)]):
        return Refusal(_UNAUTHORIZED, name, "must match the exact bytes of the body")
    return None


def _rfc2822(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)  # -0000 is UTC too, but read as without a zone


def _pushed(inbound: Inbound, settings: Settings, now: datetime) -> Pushed | Refusal:
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    if not isinstance(body, dict):
        return Refusal(_UNPROCESSABLE, "body", "must be an object")
    if text_of(body, "description") not in _WANTED:
        return Pushed()
    if text_of(body, "mode") == _TEST and not settings.take_test:
        return Pushed()
    tracker = body.get("result")
    number = normal_number(text_of(tracker, "tracking_code"))
    if not isinstance(tracker, dict) or not number:
        return Refusal(_UNPROCESSABLE, "result.tracking_code", "must be a tracking number")
    return Pushed(events=_events(tracker, number, now))


CARRIER = Carrier(
    name=NAME,
    title="EasyPost",
    settings=Settings,
    freshness=Freshness.PUSH,
    names=(NAME,),
    statuses=STATUSES,
    build=_build,
    read=_read,
    follow=Follow(build=_follow, read=_followed),
    push=Push(
        verify=_verify,
        read=_pushed,
        signature="X-Hmac-Signature: hex HMAC-SHA256 over the body under the webhook's secret; the second "
        "version also over the time, the method and the path",
    ),
    at_least=timedelta(hours=12),
)
