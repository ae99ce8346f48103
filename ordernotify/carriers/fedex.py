"""FedEx: shipments by the Track API, thirty numbers a call, and the visibility webhooks that FedEx sends."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

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
    failed,
    read_token,
    unreadable,
)
from ordernotify.carriers._fedex_results import NAME, STATUSES, TITLE, events_of
from ordernotify.carriers._telling import items_of, text_of
from ordernotify.core.delivery import Deferred, FailureKind, Rejected
from ordernotify.core.tracking import TrackingEvent, normal_number
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Refusal, TokenSource, json_body
from ordernotify.platforms._reading import parse
from ordernotify.platforms._signing import active, is_signed

_OK, _UNAUTHORIZED, _UNPROCESSABLE = 200, 401, 422
_BATCH = 30
_SIGNATURE = "fdx-signature"
_NOTHING_YET = frozenset({"TRACKING.TRACKINGNUMBER.NOTFOUND", "TRACKING.DATA.NOTFOUND"})
_KINDS: Mapping[str, FailureKind] = {
    "NOT.AUTHORIZED.ERROR": FailureKind.AUTH,
    "FORBIDDEN.ERROR": FailureKind.CONFIG,  # the project lacks the Track API, or the gateway blocks us
    "TRACKING.TRACKINGNUMBER.EMPTY": FailureKind.PERMANENT,
    "TRACKING.TRACKINGNUMBER.INVALID": FailureKind.PERMANENT,
    "INTERNAL.SERVER.ERROR": FailureKind.TRANSIENT,
    "SERVICE.UNAVAILABLE.ERROR": FailureKind.TRANSIENT,
}


class Settings(CarrierSettings):
    """The project at FedEx's developer portal; tracking usually needs one of its own."""

    base_url: str = Field(
        default="https://apis.fedex.com", description="Root of the API; apis-sandbox.fedex.com for tests."
    )
    token_url: str = Field(default="https://apis.fedex.com/oauth/token", description="Where tokens are fetched.")
    client_id: str = Field(description="API key of the project.")
    client_secret: SecretStr = Field(description="Secret key of the project.")
    locale: str = Field(default="en_US", description="Language of the answers.")
    push_token: SecretStr | None = Field(
        default=None,
        description="Security token of the Advanced Integrated Visibility webhook, which signs what FedEx "
        "sends. Two, with a comma, while one changes.",
    )


# ---- tokens ----


def _ask_token(context: Context) -> Call:
    settings: Settings = context.settings
    form = {
        "grant_type": "client_credentials",
        "client_id": settings.client_id,
        "client_secret": settings.client_secret.get_secret_value(),
    }
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return Call("POST", settings.token_url, headers, urlencode(form).encode())


# ---- questions ----


def _build(numbers: Sequence[str], context: Context) -> Call:
    settings: Settings = context.settings
    transaction = hashlib.sha256(f"{','.join(numbers)} {context.now.isoformat()}".encode()).hexdigest()[:32]
    asked = [{"trackingNumberInfo": {"trackingNumber": number}} for number in numbers]
    return Call(
        "POST",
        f"{settings.base_url.rstrip('/')}/track/v1/trackingnumbers",
        {
            **bearer_of(context),
            "content-type": "application/json",
            "x-locale": settings.locale,
            "x-customer-transaction-id": transaction,
        },
        json_body({"includeDetailedScans": True, "trackingInfo": asked}),
    )


def _read(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Reading]:
    body = answer.json()
    if answer.status != _OK:
        code = _code(body)
        refused: Reading = () if code in _NOTHING_YET else _failed(answer, context, code)
        return dict.fromkeys(numbers, refused)
    complete = items_of(body, "output", "completeTrackResults")
    if not complete:
        return dict.fromkeys(numbers, unreadable(NAME))
    told = {normal_number(text_of(one, "trackingNumber")): items_of(one, "trackResults") for one in complete}
    # A number of the question that the answer leaves out is one that FedEx knows nothing of yet.
    return {number: _reading(told.get(number, []), number, answer, context) for number in numbers}


def _reading(results: Sequence[Mapping[str, Any]], number: str, answer: Answer, context: Context) -> Reading:
    good = [result for result in results if not isinstance(result.get("error"), dict)]
    if good or not results:
        return events_of(good, number, context.now)
    code = text_of(results[0], "error", "code")
    return () if code in _NOTHING_YET else _failed(answer, context, code)


def _failed(answer: Answer, context: Context, code: str) -> Deferred | Rejected:
    return failed(answer, context, carrier=NAME, code=code, kinds=_KINDS)


def _code(body: object) -> str:
    errors = items_of(body, "errors")
    return text_of(errors[0], "code") if errors else ""


# ---- pushes ----


def _verify(inbound: Inbound, settings: Settings, _now: datetime) -> Refusal | None:
    # No time is signed. What is sent again is the same event, and an old one is stale by its scan's time.
    signature = inbound.header(_SIGNATURE)
    if not signature:
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "is missing: set a security token for the webhook")
    if not is_signed([signature], inbound.body, [one.encode() for one in active(settings.push_token)]):
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "must match the exact bytes of the body")
    return None


def _pushed(inbound: Inbound, _settings: Settings, now: datetime) -> Pushed | Refusal:
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    output = body.get("output", body) if isinstance(body, dict) else None
    # Some projects send one complete result without the list that answers have around it.
    complete = items_of(output, "completeTrackResults") or ([output] if isinstance(output, dict) else [])
    events: list[TrackingEvent] = []
    for one in complete:
        results = items_of(one, "trackResults") or [one]
        number = normal_number(text_of(one, "trackingNumber") or _number_of(results[0]))
        if not number:
            return Refusal(_UNPROCESSABLE, "trackingNumber", "must be a tracking number")
        events += events_of(results, number, now)
    if not complete:
        return Refusal(_UNPROCESSABLE, "output", "must be an object with track results")
    return Pushed(events=tuple(events))


def _number_of(result: Mapping[str, Any]) -> str:
    return text_of(result, "trackingNumberInfo", "trackingNumber")


CARRIER = Carrier(
    name=NAME,
    title=TITLE,
    settings=Settings,
    freshness=Freshness.POLL,
    names=("fedex", "federalexpress"),
    patterns=(re.compile(r"[0-9]{12}"), re.compile(r"[0-9]{15}"), re.compile(r"96[0-9]{20}")),
    statuses=STATUSES,
    batch=_BATCH,
    token=TokenSource(build=_ask_token, read=lambda answer, context: read_token(answer, context, carrier=NAME)),
    build=_build,
    read=_read,
    push=Push(
        verify=_verify,
        read=_pushed,
        signature="fdx-signature: base64 HMAC-SHA256 over the body under the security token",
    ),
    # FedEx publishes no figures; these are what projects are commonly given.
    quota=(Quota(1_400, 10), Quota(500_000, 86_400)),
    at_least=timedelta(minutes=30),
)
