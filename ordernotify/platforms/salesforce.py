"""Salesforce: a notice written into its order, so that a Flow sends it; order events by outbound message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Finding,
    Gives,
    Idempotency,
    Platform,
    Probe,
    Refusal,
    Webhook,
    json_body,
)
from ordernotify.platforms._salesforce_access import (
    TOKEN,
    SalesforceSettings,
    call,
    data_path,
    id18,
)
from ordernotify.platforms._salesforce_errors import refusal
from ordernotify.platforms._salesforce_events import REREAD, read, verify
from ordernotify.platforms._salesforce_package import provision

MAX_SUBREQUESTS: Final = 25

_OK = 200
_WRITTEN: Final = frozenset({200, 201, 204})
_ORDER_PREFIX = "801"
_ID = 18
_ADDRESS_MAX = 255
# As a path segment these two would leave the folder.
_DOTS: Final = frozenset({".", ".."})


def read_address(text: str) -> str | Refusal:
    """Return an order's external id, or its record id of 18 characters; or why the text is neither."""
    address = text.strip()
    if not 0 < len(address) <= _ADDRESS_MAX or not address.isprintable() or address in _DOTS:
        return Refusal(422, "address", "must be the order's external id, or its record id (801...)")
    return address


def _path(address: str, settings: SalesforceSettings) -> str | None:
    """Return the path of the order's record below the API's version, None where the address is none."""
    key = read_address(address)
    if isinstance(key, Refusal):
        return None
    if len(key) == _ID and key.startswith(_ORDER_PREFIX) and (record := id18(key)):
        return f"/sobjects/Order/{record}"
    # Without updateOnly an order that is not there would be made, out of nothing but our notice.
    return f"/sobjects/Order/{settings.external_id_field}/{quote(key, safe='')}?updateOnly=true"


def fields_of(message: Message, settings: SalesforceSettings) -> dict[str, str]:
    """Return the fields to write; the reference changes with every message, and that starts the Flow."""
    fields = {settings.text_field: message.text, settings.reference_field: message.reference}
    if not message.notice_only:
        fields[settings.status_field] = settings.status_words.get(message.status, message.status.value)
    return fields


def _send(messages: Sequence[Message], context: Context) -> Conversation:
    """Write one order by itself, several in one composite request, which counts as one call."""
    settings: SalesforceSettings = context.settings
    outcomes: list[Outcome] = [Rejected(FailureKind.PERMANENT, "salesforce_address")] * len(messages)
    writes = {
        place: (path, fields_of(message, settings))
        for place, message in enumerate(messages)
        if (path := _path(message.to, settings)) is not None
    }
    if len(writes) == 1:
        ((place, (path, fields)),) = writes.items()
        outcomes[place] = _written((yield call(context, "PATCH", path, json_body(fields))), context)
    elif writes:
        answer = yield _composite(writes, context)
        for place, outcome in _each_written(answer, writes, context).items():
            outcomes[place] = outcome
    return outcomes


def _composite(writes: Mapping[int, tuple[str, dict[str, str]]], context: Context) -> Call:
    root = data_path(context.settings)
    body = {
        "allOrNone": False,
        # Sorted for speed, two messages for one order could be written in the wrong order.
        "collateSubrequests": False,
        "compositeRequest": [
            {"method": "PATCH", "url": f"{root}{path}", "referenceId": f"m{place}", "body": fields}
            for place, (path, fields) in writes.items()
        ],
    }
    return call(context, "POST", "/composite", json_body(body))


def _written(answer: Answer, context: Context) -> Outcome:
    """Read the answer to one write, alone or as part of a composite request."""
    if answer.status not in _WRITTEN:
        return refusal(answer, context)
    body = answer.json()
    found = body.get("id") if isinstance(body, dict) else None
    record = id18(found) if isinstance(found, str) else None
    return Accepted(record or "", f"salesforce_{answer.status}")


def _each_written(answer: Answer, places: Mapping[int, object], context: Context) -> dict[int, Outcome]:
    if answer.status != _OK:
        return dict.fromkeys(places, refusal(answer, context))
    body = answer.json()
    results = body.get("compositeResponse") if isinstance(body, dict) else None
    told: dict[str, Answer] = {}
    for result in results if isinstance(results, list) else ():
        if isinstance(result, dict) and isinstance(result.get("httpStatusCode"), int):
            told[str(result.get("referenceId"))] = _part(result)
    lost = Deferred(FailureKind.TRANSIENT, "salesforce_unreadable", ambiguous=True)
    return {place: _written(told[f"m{place}"], context) if f"m{place}" in told else lost for place in places}


def _part(result: Mapping[str, Any]) -> Answer:
    headers = result.get("httpHeaders")
    named = headers.items() if isinstance(headers, dict) else ()
    return Answer(
        result["httpStatusCode"],
        {str(name).lower(): str(value) for name, value in named},
        json_body(result.get("body")),
    )


def _read_limits(answer: Answer, context: Context) -> Sequence[Finding]:
    settings: SalesforceSettings = context.settings
    if answer.status != _OK:
        advice = f"Salesforce answers {refusal(answer, context).code}: check base_url, client_id and its secret"
        return (Finding("access", ok=False, advice=advice),)
    body = answer.json()
    daily = body.get("DailyApiRequests") if isinstance(body, dict) else None
    left, most = (daily.get("Remaining"), daily.get("Max")) if isinstance(daily, dict) else (None, None)
    enough = not isinstance(left, int) or not isinstance(most, int) or left * 10 >= most
    receives = bool(settings.webhook_secret and settings.organizations and context.webhook_url)
    return (
        Finding("access", ok=True),
        Finding("requests left today", enough, "" if enough else f"{left} of {most}: raise the org's limit"),
        Finding(
            "order events",
            receives,
            "" if receives else "set public_url, webhook_secret and organization_ids to take outbound messages",
        ),
    )


PLATFORM = Platform(
    name="salesforce",
    title="Salesforce",
    settings=SalesforceSettings,
    channels=frozenset({Channel.RECORD}),
    level=Level.C0,
    address="external id of the order, or its record id",
    example="SO-1001",
    read_address=read_address,
    converse=_send,
    batch=MAX_SUBREQUESTS,
    idempotency=Idempotency.OVERWRITE,
    idempotency_note="The same values are written again; the Flow starts only when our reference changes.",
    token=TOKEN,
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=verify,
        read=read,
        signature="none by Salesforce: the webhook_secret as ?key= and the OrganizationId, both checked",
    ),
    reread=REREAD,
    probe=Probe(build=lambda context: call(context, "GET", "/limits"), read=_read_limits),
    provision=provision,
)
