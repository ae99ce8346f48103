"""UPS Track Alert: subscriptions to numbers, and the alerts that UPS then sends us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ordernotify.carriers._base import Pushed, bearer_of, clean_code, failed, unreadable
from ordernotify.carriers._telling import day_of, tell, text_of
from ordernotify.carriers._ups_codes import meaning, padded
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.tracking import normal_number
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Refusal, json_body
from ordernotify.platforms._reading import parse, read_moment
from ordernotify.platforms._signing import active, same_secret

NAME, TITLE = "ups", "UPS"
_OK, _UNAUTHORIZED, _UNPROCESSABLE = 200, 401, 422
_HEADERS = ("credential", "x-api-key")
_PACKAGES = ("1Z", "1R")  # the only numbers that can be subscribed to


def verify(inbound: Inbound, settings: Any, _now: datetime) -> Refusal | None:
    """Return why an alert is not UPS's, None when it is: it carries the credential that we chose."""
    offered = next((value for value in map(inbound.header, _HEADERS) if value), "")
    if not offered:
        return Refusal(_UNAUTHORIZED, "credential", "is missing: set it for the URL in UPS's portal")
    if not same_secret(offered, active(settings.push_credential)):
        return Refusal(_UNAUTHORIZED, "credential", "must be the one that is configured here")
    return None


def read(inbound: Inbound, _settings: Any, now: datetime) -> Pushed | Refusal:
    """Return what an alert says, or the field at fault."""
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    number = normal_number(text_of(body, "trackingNumber"))
    if not number:
        return Refusal(_UNPROCESSABLE, "trackingNumber", "must be a tracking number")
    kind = clean_code(text_of(body, "activityStatus", "type"))
    if not kind:
        return Refusal(_UNPROCESSABLE, "activityStatus.type", "must be a status type, such as I")
    letters = clean_code(text_of(body, "activityStatus", "code"))
    digits = padded(clean_code(text_of(body, "activityStatus", "descriptionCode")))
    arrived = text_of(body, "actualDeliveryDate")
    word = text_of(body, "activityStatus", "description").casefold()
    means, code = meaning(kind, letters, digits, delivered=bool(arrived) or word == "delivered")
    at, known_by = moment(text_of(body, "gmtActivityDate"), text_of(body, "gmtActivityTime"))
    return Pushed(
        events=(
            tell(
                NAME,
                number,
                means,
                code,
                at or now,
                now=now,
                title=TITLE,
                day=day_of(arrived or text_of(body, "scheduledDeliveryDate")),
                event_id=known_by or "without a time",
            ),
        )
    )


def moment(day: str, clock: str) -> tuple[datetime | None, str]:
    """Return a GMT date and time as UPS writes them (20261124, 71356), and the one text that names them."""
    digits = clock.replace(":", "").zfill(6)
    found = read_moment(f"{day}T{digits}+00:00") if day else None
    return (None, "") if found is None else (found, found.astimezone(UTC).isoformat())


# ---- subscriptions ----


def subscribe(numbers: Sequence[str], context: Context) -> Call:
    """Return the call that subscribes to packages; the URL of the alerts is set in UPS's portal."""
    settings = context.settings
    packages = [number for number in numbers if number.startswith(_PACKAGES)]
    return Call(
        "POST",
        f"{settings.base_url.rstrip('/')}/api/track/v2/subscription/standard/package",
        {
            **bearer_of(context),
            "content-type": "application/json",
            "transId": settings.transaction(packages, context.now),
            "transactionSrc": settings.transaction_source,
        },
        json_body({"locale": settings.locale, "countryCode": settings.country, "trackingNumberList": packages}),
    )


def subscribed(
    answer: Answer, numbers: Sequence[str], context: Context
) -> Mapping[str, Accepted | Deferred | Rejected]:
    """Return for each number whether UPS will send alerts of it."""
    body = answer.json()
    if answer.status != _OK or not isinstance(body, dict):
        return dict.fromkeys(numbers, failure(answer, context))
    valid = body.get("validTrackingNumbers")
    if not isinstance(valid, list):
        return dict.fromkeys(numbers, unreadable(NAME))
    refused = Rejected(FailureKind.PERMANENT, "ups_not_subscribed")
    return {number: Accepted() if number in valid else refused for number in numbers}


_KINDS: Mapping[str, FailureKind] = {
    "250002": FailureKind.AUTH,
    "250003": FailureKind.AUTH,
    "251004": FailureKind.AUTH,
    "10429": FailureKind.RATE,
    "TV1002": FailureKind.PERMANENT,
    "VSS220": FailureKind.CONFIG,  # more than a hundred numbers in one subscription
}
_BACKOFF_S = 60.0


def failure(answer: Answer, context: Context) -> Deferred | Rejected:
    """Return what a refusal of UPS's means; where it asks to slow down it does not say for how long."""
    errors = answer.json()
    for name in ("response", "errors"):
        errors = errors.get(name) if isinstance(errors, dict) else None
    code = text_of(errors[0], "code") if isinstance(errors, list) and errors else ""
    found = failed(answer, context, carrier=NAME, code=code, kinds=_KINDS)
    if isinstance(found, Deferred) and found.kind is FailureKind.RATE and found.retry_after_s is None:
        return Deferred(FailureKind.RATE, found.code, retry_after_s=_BACKOFF_S)
    return found


AGAIN_AFTER = timedelta(days=13)  # a subscription lives for fourteen
