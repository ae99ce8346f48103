"""UPS: shipments by the Tracking API, one number a call, and alerts that UPS sends."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote

from pydantic import Field, SecretStr

from ordernotify.carriers import _ups_push as alerts
from ordernotify.carriers._base import (
    Carrier,
    CarrierSettings,
    Follow,
    Freshness,
    Push,
    Reading,
    bearer_of,
    clean_code,
    read_token,
    unreadable,
)
from ordernotify.carriers._telling import day_of, items_of, tell, text_of, with_day
from ordernotify.carriers._ups_codes import STATUSES, meaning, padded
from ordernotify.carriers._ups_push import NAME, TITLE, failure, moment
from ordernotify.core.delivery import FailureKind, Rejected
from ordernotify.core.tracking import TrackingEvent
from ordernotify.platforms._base import Answer, Call, Context, TokenSource

_OK, _NOT_FOUND = 200, 404
_TAKES = re.compile(r"[0-9A-Z]{7,34}")


class Settings(CarrierSettings):
    """The application at UPS's developer portal, and the credential of its alerts."""

    base_url: str = Field(
        default="https://onlinetools.ups.com", description="Root of the API; wwwcie.ups.com is UPS's test host."
    )
    token_url: str = Field(
        default="https://onlinetools.ups.com/security/v1/oauth/token", description="Where tokens are fetched."
    )
    client_id: str = Field(description="Client ID of the application.")
    client_secret: SecretStr = Field(description="Client secret of the application.")
    merchant_id: str = Field(default="", description="Shipper number, where the application asks for it.")
    locale: str = Field(default="en_US", description="Language of the answers.")
    country: str = Field(default="US", description="Country that numbers are subscribed to in.")
    transaction_source: str = Field(default="ordernotify", description="What UPS calls us in its own log.")
    push_credential: SecretStr | None = Field(
        default=None,
        description="Credential that Track Alert sends with each alert, as set in UPS's portal. Two, with a "
        "comma, while one changes.",
    )

    @staticmethod
    def transaction(numbers: Sequence[str], now: datetime) -> str:
        """Return the id of one call, which UPS wants to be unique."""
        return hashlib.sha256(f"{','.join(numbers)} {now.isoformat()}".encode()).hexdigest()[:32]


# ---- tokens ----


def _ask_token(context: Context) -> Call:
    settings: Settings = context.settings
    pair = f"{settings.client_id}:{settings.client_secret.get_secret_value()}"
    headers = {
        "authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}",
        "content-type": "application/x-www-form-urlencoded",
    }
    if settings.merchant_id:
        headers["x-merchant-id"] = settings.merchant_id
    return Call("POST", settings.token_url, headers, b"grant_type=client_credentials")


# ---- questions ----


def _build(numbers: Sequence[str], context: Context) -> Call:
    (number,) = numbers
    settings: Settings = context.settings
    query = f"locale={quote(settings.locale)}&returnSignature=false&returnMilestones=false&returnPOD=false"
    return Call(
        "GET",
        f"{settings.base_url.rstrip('/')}/api/track/v1/details/{quote(number, safe='')}?{query}",
        {
            **bearer_of(context),
            "accept": "application/json",
            "transId": settings.transaction(numbers, context.now),
            "transactionSrc": settings.transaction_source,
        },
    )


def _read(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Reading]:
    (number,) = numbers
    return {number: _reading(answer, number, context)}


def _reading(answer: Answer, number: str, context: Context) -> Reading:
    body = answer.json()
    if answer.status == _NOT_FOUND:
        return ()
    if answer.status != _OK:
        return failure(answer, context)
    shipments = items_of(body, "trackResponse", "shipment")
    if not shipments:
        return unreadable(NAME)
    packages = [package for shipment in shipments for package in items_of(shipment, "package")]
    own = [package for package in packages if text_of(package, "trackingNumber").upper() == number]
    # A reference stands for one package only where there is one; of several each is asked for by its own.
    if not own and len(packages) > 1:
        return Rejected(FailureKind.PERMANENT, "ups_several_packages")
    return _events((own or packages)[0], number, context.now) if packages else ()


def _events(package: Mapping[str, Any], number: str, now: datetime) -> tuple[TrackingEvent, ...]:
    newest_first = items_of(package, "activity")
    events = [_event(step, step.get("status"), number, now) for step in reversed(newest_first)]
    if not events and isinstance(package.get("currentStatus"), dict):
        events = [_event({}, package["currentStatus"], number, now)]
    return with_day(events, _day(package))


def _event(step: Mapping[str, Any], status: object, number: str, now: datetime) -> TrackingEvent:
    kind, letters = clean_code(text_of(status, "type")), clean_code(text_of(status, "code"))
    means, code = meaning(kind, letters, padded(clean_code(text_of(status, "statusCode"))))
    at, known_by = moment(text_of(step, "gmtDate"), text_of(step, "gmtTime"))
    if at is None:
        # Local time only: close enough to order by, and known by what UPS wrote.
        at, known_by = moment(text_of(step, "date"), text_of(step, "time"))
    return tell(NAME, number, means, code, at or now, now=now, title=TITLE, event_id=known_by or "without a time")


def _day(package: Mapping[str, Any]) -> date | None:
    """Return the promised day; one that was put off counts before the first."""
    days = {text_of(day, "type"): day_of(text_of(day, "date")) for day in items_of(package, "deliveryDate")}
    return days.get("RDD") or days.get("SDD")


CARRIER = Carrier(
    name=NAME,
    title=TITLE,
    settings=Settings,
    freshness=Freshness.POLL,
    names=("ups", "unitedparcelservice"),
    patterns=(re.compile(r"1[ZR][0-9A-Z]{16}"), re.compile(r"T[0-9]{10}")),
    takes=_TAKES,
    statuses=STATUSES,
    token=TokenSource(build=_ask_token, read=lambda answer, context: read_token(answer, context, carrier=NAME)),
    build=_build,
    read=_read,
    push=Push(
        verify=alerts.verify,
        read=alerts.read,
        signature="credential (or x-api-key): the secret that was set for the URL in UPS's portal",
    ),
    follow=Follow(build=alerts.subscribe, read=alerts.subscribed, batch=100, again_after=alerts.AGAIN_AFTER),
    at_least=timedelta(minutes=30),
)
