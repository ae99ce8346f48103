"""Shippo: shipments of many carriers, which report to us by webhooks with a signature or a secret URL."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import quote

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
    RETURNING,
    day_of,
    items_of,
    name_for_people,
    oldest_first,
    tell,
    text_of,
    when,
    with_day,
)
from ordernotify.core.delivery import Accepted, Deferred, Rejected
from ordernotify.core.events import OrderStatus as S
from ordernotify.core.tracking import Care, Meaning, TrackingEvent, normal_number
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Refusal, json_body
from ordernotify.platforms._reading import parse
from ordernotify.platforms._signing import active, same_secret

NAME = "shippo"
_OK, _CREATED, _NOT_FOUND = 200, 201, 404
_UNAUTHORIZED, _UNPROCESSABLE = 401, 422
_SIGNATURE = "Shippo-Auth-Signature"
_PARTS = re.compile(r"t=(?P<t>[0-9]{1,11}),\s*v1=(?P<v1>[0-9a-f]{64})")
# Whether a webhook that is sent again is signed anew is not documented: an hour lets the retries in, and a
# repetition changes nothing anyway.
_AGE: Final = timedelta(hours=1)

STATUSES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(None), "UNKNOWN UNKNOWN/other"),
        (Meaning(S.PROCESSING), "PRE_TRANSIT PRE_TRANSIT/information_received"),
        (Meaning(S.SHIPPED), "TRANSIT TRANSIT/package_accepted TRANSIT/package_arrived TRANSIT/package_departed"),
        (Meaning(S.SHIPPED), "TRANSIT/package_processed TRANSIT/package_processing TRANSIT/package_forwarded"),
        (Meaning(S.SHIPPED), "TRANSIT/delivery_scheduled"),
        (Meaning(S.OUT_FOR_DELIVERY), "TRANSIT/out_for_delivery"),
        (Meaning(S.OUT_FOR_DELIVERY, AVAILABLE), "TRANSIT/pickup_available"),
        (Meaning(S.DELAYED), "TRANSIT/delayed TRANSIT/delivery_rescheduled TRANSIT/reschedule_delivery"),
        (Meaning(S.DELAYED), "TRANSIT/location_inaccessible TRANSIT/contact_carrier TRANSIT/package_held"),
        (Meaning(S.DELAYED), "TRANSIT/package_damaged"),
        (Meaning(S.DELAYED, ATTEMPTED), "TRANSIT/delivery_attempted TRANSIT/notice_left"),
        (Meaning(S.DELAYED, ADDRESS), "TRANSIT/address_issue"),
        (Meaning(S.DELIVERED), "DELIVERED DELIVERED/delivered"),
        (Meaning(S.RETURNED, RETURNING), "RETURNED RETURNED/return_to_sender RETURNED/package_unclaimed"),
        (Meaning(S.DELAYED, care=Care.ALSO), "FAILURE FAILURE/package_undeliverable FAILURE/package_disposed"),
        (Meaning(S.DELAYED, care=Care.ALSO), "FAILURE/package_lost"),
    )
)
_ACTION = Meaning(S.DELAYED, care=Care.ALSO)

# The forms of numbers by which Shippo's own name of a carrier is chosen where none is set.
_FORMS = (
    (re.compile(r"1Z[0-9A-Z]{16}"), "ups"),
    (re.compile(r"(?:420[0-9]{5})?9[1-5][0-9]{18,20}|[A-Z]{2}[0-9]{9}US"), "usps"),
    (re.compile(r"[0-9]{12}|[0-9]{15}|96[0-9]{20}"), "fedex"),
    (re.compile(r"[0-9]{10}|J?JD[0-9]{16,20}"), "dhl_express"),
    (re.compile(r"SHIPPO_[A-Z_]+"), "shippo"),
)


class Settings(CarrierSettings):
    """The account at Shippo, and what proves that a webhook is its own."""

    base_url: str = Field(default="https://api.goshippo.com", description="Root of the API.")
    token: SecretStr = Field(description="API token (shippo_live_...).")
    api_version: str = Field(default="2018-02-08", description="API version; older ones push other things.")
    carrier: str = Field(default="", description="Shippo's name of our carrier; guessed from the number without.")
    hmac_secret: SecretStr | None = Field(
        default=None, description="Secret that signs webhooks, which Shippo issues on request."
    )
    url_token: SecretStr | None = Field(
        default=None,
        description="Secret in the webhook's URL as ?token=, for accounts without a signature. Two, with a "
        "comma, while one changes.",
    )
    take_test: bool = Field(default=False, description="Take test events as if they were real.")


def _call(context: Context, method: Literal["GET", "POST"], path: str, value: Any = None) -> Call:
    settings: Settings = context.settings
    headers = {
        "authorization": f"ShippoToken {settings.token.get_secret_value()}",
        "shippo-api-version": settings.api_version,
    }
    if value is not None:
        headers["content-type"] = "application/json"
    body = b"" if value is None else json_body(value)
    return Call(method, f"{settings.base_url.rstrip('/')}{path}", headers, body)


def _carrier(number: str, settings: Settings) -> str:
    guess = next((name for form, name in _FORMS if form.fullmatch(number)), "ups")
    return settings.carrier or guess


def _build(numbers: Sequence[str], context: Context) -> Call:
    (number,) = numbers
    carrier = quote(_carrier(number, context.settings), safe="")
    return _call(context, "GET", f"/tracks/{carrier}/{quote(number, safe='')}")


def _read(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Reading]:
    (number,) = numbers
    body = answer.json()
    if answer.status == _NOT_FOUND:
        return {number: ()}
    if answer.status != _OK:
        return {number: failed(answer, context, carrier=NAME, kinds={})}
    return {number: _events(body, number, context.now) if isinstance(body, dict) else unreadable(NAME)}


def _follow(numbers: Sequence[str], context: Context) -> Call:
    (number,) = numbers
    value = {"carrier": _carrier(number, context.settings), "tracking_number": number}
    return _call(context, "POST", "/tracks", value)


def _followed(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Accepted | Deferred | Rejected]:
    (number,) = numbers
    if answer.status in {_OK, _CREATED}:
        return {number: Accepted()}
    return {number: failed(answer, context, carrier=NAME, kinds={})}


def _events(track: Mapping[str, Any], number: str, now: datetime) -> tuple[TrackingEvent, ...]:
    steps = list(oldest_first(items_of(track, "tracking_history"), lambda one: when(one.get("status_date"))))
    current = track.get("tracking_status")
    if isinstance(current, dict):
        steps.append(current)
    title = name_for_people(track.get("carrier"))
    told = [_event(step, number, title, now) for step in steps]
    return with_day(told, day_of(track.get("eta")))


def _event(step: Mapping[str, Any], number: str, title: str, now: datetime) -> TrackingEvent:
    status, detail = clean_code(text_of(step, "status")), clean_code(text_of(step, "substatus", "code"))
    pair = f"{status}/{detail}" if detail else status
    means = meaning_of(STATUSES, pair, status)
    substatus = step.get("substatus")
    if pair not in STATUSES and isinstance(substatus, dict) and substatus.get("action_required") is True:
        means = _ACTION
    written = step.get("status_date") or step.get("object_created")
    at = when(written)
    known_by = text_of(step, "status_date") or text_of(step, "object_id") or "without a time"
    return tell(NAME, number, means, pair, at or now, now=now, title=title, event_id=known_by)


# ---- pushes ----


def _verify(inbound: Inbound, settings: Settings, now: datetime) -> Refusal | None:
    if settings.hmac_secret is None:
        if same_secret(inbound.query.get("token", ""), active(settings.url_token)):
            return None
        return Refusal(_UNAUTHORIZED, "token", "must be in the URL, as it is configured here")
    found = _PARTS.fullmatch(inbound.header(_SIGNATURE).strip())
    if found is None:
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "must be t= and a time, a comma, v1= and a signature")
    if abs(now - datetime.fromtimestamp(int(found["t"]), UTC)) > _AGE:
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "must hold a time at most an hour from ours")
    signed = found["t"].encode() + b"." + inbound.body
    expected = [hmac.new(one.encode(), signed, hashlib.sha256).hexdigest() for one in active(settings.hmac_secret)]
    if not same_secret(found["v1"], expected):
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "must match its time and the exact bytes of the body")
    return None


def _pushed(inbound: Inbound, settings: Settings, now: datetime) -> Pushed | Refusal:
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    if not isinstance(body, dict):
        return Refusal(_UNPROCESSABLE, "body", "must be an object")
    if text_of(body, "event") != "track_updated" or (body.get("test") is not False and not settings.take_test):
        return Pushed()
    track = body.get("data")
    number = normal_number(text_of(track, "tracking_number"))
    if not isinstance(track, dict) or not number:
        return Refusal(_UNPROCESSABLE, "data.tracking_number", "must be a tracking number")
    return Pushed(events=_events(track, number, now))


CARRIER = Carrier(
    name=NAME,
    title="Shippo",
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
        signature="Shippo-Auth-Signature: hex HMAC-SHA256 over time and body, or a secret in the URL",
    ),
    quota=(Quota(500, 60),),
    at_least=timedelta(hours=12),
)
