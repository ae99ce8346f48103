"""DHL: shipments of all its divisions by the Shipment Tracking API, one number a call."""

from __future__ import annotations

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
    Quota,
    Reading,
    clean_code,
    failed,
    unreadable,
)
from ordernotify.carriers._dhl_codes import STATUSES, meaning
from ordernotify.carriers._telling import (
    day_of,
    in_list_order,
    items_of,
    oldest_first,
    tell,
    text_of,
    when,
    with_day,
)
from ordernotify.core.tracking import TrackingEvent, normal_number
from ordernotify.platforms._base import Answer, Call, Context

NAME, TITLE = "dhl", "DHL"
_OK, _NOT_FOUND = 200, 404


class Settings(CarrierSettings):
    """The application at DHL's developer portal, and what narrows a number down to one division."""

    base_url: str = Field(default="https://api-eu.dhl.com", description="Root of the API.")
    api_key: SecretStr = Field(description="API key of the application.")
    service: str = Field(
        default="",
        description="Division that moves our shipments (express, freight, ecommerce, ...); one number can "
        "exist in several.",
    )
    requester_country: str = Field(default="", description="Our country, two letters; DHL may show more with it.")
    language: str = Field(default="en", description="Language of the answers.")


def _build(numbers: Sequence[str], context: Context) -> Call:
    (number,) = numbers
    settings: Settings = context.settings
    query = {
        "trackingNumber": number,
        "service": settings.service,
        "requesterCountryCode": settings.requester_country,
        "language": settings.language,
    }
    given = urlencode({name: value for name, value in query.items() if value})
    headers = {"dhl-api-key": settings.api_key.get_secret_value(), "accept": "application/json"}
    return Call("GET", f"{settings.base_url.rstrip('/')}/track/shipments?{given}", headers)


def _read(answer: Answer, numbers: Sequence[str], context: Context) -> Mapping[str, Reading]:
    (number,) = numbers
    return {number: _reading(answer, number, context)}


def _reading(answer: Answer, number: str, context: Context) -> Reading:
    if answer.status == _NOT_FOUND:
        return ()  # so it is for half an hour after a label is made
    if answer.status != _OK:
        return failed(answer, context, carrier=NAME, kinds={})
    shipments = items_of(answer.json(), "shipments")
    if not shipments:
        return unreadable(NAME)
    own = [one for one in shipments if normal_number(text_of(one, "id")) == number]
    # Of several divisions that have the number the one with the latest word moves our shipment.
    newest = max(own or shipments, key=lambda one: text_of(one, "status", "timestamp"))
    return _events(newest, number, context.now)


def _events(shipment: Mapping[str, Any], number: str, now: datetime) -> tuple[TrackingEvent, ...]:
    service = clean_code(text_of(shipment, "service"))
    steps, status = items_of(shipment, "events"), shipment.get("status")
    if isinstance(status, dict) and steps and _same(status, steps[0]):
        steps.reverse()
    elif not isinstance(status, dict) or not steps or not _same(status, steps[-1]):
        steps = list(oldest_first(steps, _time))  # by their times, which have no zone: the second choice
    if isinstance(status, dict) and not _same(status, steps[-1] if steps else {}):
        steps.append(status)
    told = [_event(service, step, number, now) for step in steps]
    return with_day(in_list_order(told), day_of(shipment.get("estimatedTimeOfDelivery")))


def _same(status: Mapping[str, Any], step: Mapping[str, Any]) -> bool:
    names = ("timestamp", "statusCode", "status")
    return all(text_of(status, name) == text_of(step, name) for name in names)


def _time(step: Mapping[str, Any]) -> datetime | None:
    return when(step.get("timestamp"))


def _event(service: str, step: Mapping[str, Any], number: str, now: datetime) -> TrackingEvent:
    common, code = clean_code(text_of(step, "statusCode")), clean_code(text_of(step, "status"))
    words = " ".join(text_of(step, name) for name in ("status", "description", "remark"))
    means = meaning(service, code, common, words)
    at = _time(step)
    known_by = text_of(step, "timestamp") if at else "without a time"
    word = f"{service}/{code or common}"
    return tell(NAME, number, means, word, at or now, now=now, title=TITLE, event_id=known_by)


CARRIER = Carrier(
    name=NAME,
    title=TITLE,
    settings=Settings,
    freshness=Freshness.POLL,
    names=("dhl", "deutschepost"),
    patterns=(
        re.compile(r"[0-9]{10}"),
        re.compile(r"J?JD[0-9]{16,20}"),
        re.compile(r"GM[0-9]{16,20}"),
        re.compile(r"[A-Z]{2}[0-9]{9}DE"),
    ),
    statuses=STATUSES,
    build=_build,
    read=_read,
    quota=(Quota(1, 5), Quota(250, 86_400)),
    # DHL asks for about ten questions a shipment and day at the most, evenly spread.
    at_least=timedelta(minutes=150),
)
