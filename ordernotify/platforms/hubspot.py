"""HubSpot: a notice written into its record, so that a workflow sends it; single-send e-mail; events by webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.recipients import Refused, read_email
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Gives,
    Idempotency,
    Platform,
    Probe,
    Refusal,
    Webhook,
    json_body,
)
from ordernotify.platforms._hubspot_access import TOKEN, HubSpotSettings, ask_property, call, refusal
from ordernotify.platforms._hubspot_email import mail, mailed
from ordernotify.platforms._hubspot_events import RECORD, REREAD, SIGNATURE, read, verify
from ordernotify.platforms._hubspot_setup import provision, read_property

MAX_INPUTS: Final = 100

_OK, _MULTI_STATUS = 200, 207
_ADDRESS_MAX = 255
_DOTS: Final = frozenset({".", ".."})


def read_address(text: str) -> str | Refusal:
    """Return an e-mail address, a record id, or a value of the unique property; or why the text is none."""
    address = text.strip()
    if "@" in address and not isinstance(email := read_email(address), Refused):
        return email
    key = address.removeprefix(RECORD)
    numbered = not address.startswith(RECORD) or (key.isascii() and key.isdecimal())
    if 0 < len(address) <= _ADDRESS_MAX and address.isprintable() and key not in _DOTS and numbered:
        return address
    return Refusal(422, "address", f"must be an e-mail address, an id such as {RECORD}123, or a unique value")


def group(message: Message, settings: HubSpotSettings) -> str:
    """Return what messages of one call share: what their records are known by; each e-mail goes by itself."""
    return message.reference if message.channel is Channel.EMAIL else f"records {_key(message, settings)[1]}"


def _send(messages: Sequence[Message], context: Context) -> Conversation:
    if messages[0].channel is Channel.EMAIL:
        outcomes: list[Outcome] = []
        for message in messages:
            request = mail(message, context)
            outcomes.append(request if isinstance(request, Rejected) else mailed((yield request), context))
        return outcomes
    return (yield from _write(messages, context))


# ---- records ----


def _write(messages: Sequence[Message], context: Context) -> Conversation:
    """Write each record at most once a call: HubSpot refuses a batch that names one twice."""
    settings: HubSpotSettings = context.settings
    outcomes: list[Outcome] = [Rejected(FailureKind.PERMANENT, "hubspot_address")] * len(messages)
    waiting = [place for place, one in enumerate(messages) if not isinstance(read_address(one.to), Refusal)]
    while waiting:
        first = {_key(messages[place], settings): place for place in reversed(waiting)}
        places = sorted(first.values())
        waiting = [place for place in waiting if place not in places]
        wave = [messages[place] for place in places]
        answer = yield _write_one(wave[0], context) if len(wave) == 1 else _write_many(wave, context)
        read_wave = [_written(answer, context)] if len(wave) == 1 else _each_written(answer, wave, context)
        for place, outcome in zip(places, read_wave, strict=True):
            outcomes[place] = outcome
    return outcomes


def _properties(message: Message, settings: HubSpotSettings) -> dict[str, str]:
    """Return what to write; the reference changes with every message, and that enrols the record again."""
    written = {settings.text_property: message.text, settings.reference_property: message.reference}
    if not message.notice_only:
        written[settings.status_property] = settings.status_words.get(message.status, message.status.value)
    return written


def _key(message: Message, settings: HubSpotSettings) -> tuple[str, str]:
    """Return a record's key and the property that it is a value of, '' for HubSpot's own id."""
    address = message.to.strip()
    if address.startswith(RECORD):
        return address.removeprefix(RECORD), ""
    return address, settings.id_property


def _write_one(message: Message, context: Context) -> Call:
    settings: HubSpotSettings = context.settings
    key, unique = _key(message, settings)
    path = f"{settings.objects_path}/{settings.object_type}/{quote(key, safe='')}"
    query = f"?idProperty={unique}" if unique else ""
    return call(context, "PATCH", f"{path}{query}", json_body({"properties": _properties(message, settings)}))


def _write_many(messages: Sequence[Message], context: Context) -> Call:
    settings: HubSpotSettings = context.settings
    inputs = []
    for message in messages:
        key, unique = _key(message, settings)
        entry = {"id": key, "objectWriteTraceId": message.reference, "properties": _properties(message, settings)}
        inputs.append({**entry, "idProperty": unique} if unique else entry)
    path = f"{settings.objects_path}/{settings.object_type}/batch/update"
    return call(context, "POST", path, json_body({"inputs": inputs}))


def _written(answer: Answer, context: Context) -> Outcome:
    if answer.status != _OK:
        return refusal(answer, context)
    body = answer.json()
    reference = _version(body) if isinstance(body, dict) else ""
    return Accepted(reference, "hubspot_200") if reference else _LOST


def _version(record: Mapping[str, Any]) -> str:
    """Return the id of a record with the time of this write, the nearest thing to an id of the message."""
    found = record.get("id")
    return f"{found}@{record.get('updatedAt', '')}"[:200] if isinstance(found, str) and found else ""


_LOST: Final = Deferred(FailureKind.TRANSIENT, "hubspot_unreadable", ambiguous=True)


def _each_written(answer: Answer, wave: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Read a batch: results and errors point at inputs by our trace id, or by the record's key."""
    if answer.status not in {_OK, _MULTI_STATUS}:
        return [refusal(answer, context)] * len(wave)
    body = answer.json()
    said: Mapping[str, Any] = body if isinstance(body, dict) else {}
    written: dict[str, Outcome] = {}
    for result in _dicts(said.get("results")):
        for name in (result.get("objectWriteTraceId"), result.get("id")):
            if isinstance(name, str) and name and (version := _version(result)):
                written[name] = Accepted(version, f"hubspot_{answer.status}")
    refused: dict[str, Outcome] = {}
    unnamed: Outcome = _LOST
    for error in _dicts(said.get("errors")):
        status = error.get("status")
        code = status if isinstance(status, int) else 400
        outcome = refusal(Answer(code, answer.headers, json_body(error)), context)
        names = _names(error)
        refused |= dict.fromkeys(names, outcome)
        # An error that names nobody is about those of whom nothing else is said.
        unnamed = unnamed if names else outcome
    complete = "results" in said and not refused and unnamed is _LOST and len(_dicts(said["results"])) == len(wave)
    other = Accepted("", f"hubspot_{answer.status}") if complete else unnamed
    settings: HubSpotSettings = context.settings
    return [_told_of(message, settings, refused) or _told_of(message, settings, written) or other for message in wave]


def _told_of(message: Message, settings: HubSpotSettings, told: Mapping[str, Outcome]) -> Outcome | None:
    return told.get(message.reference) or told.get(_key(message, settings)[0])


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _names(error: Mapping[str, Any]) -> list[str]:
    context = error.get("context")
    groups = list(context.values()) if isinstance(context, dict) else []
    listed = [name for group_ in groups for name in (group_ if isinstance(group_, list) else [group_])]
    return [name for name in (*listed, error.get("objectWriteTraceId")) if isinstance(name, str) and name]


PLATFORM = Platform(
    name="hubspot",
    title="HubSpot",
    settings=HubSpotSettings,
    channels=frozenset({Channel.RECORD, Channel.EMAIL}),
    level=Level.C0,
    address="record id or unique value (record), e-mail address (e-mail)",
    example="hs_object_id:54767113310",
    read_address=read_address,
    converse=_send,
    batch=MAX_INPUTS,
    group=group,
    idempotency=Idempotency.NATIVE,
    idempotency_note="An e-mail's sendId is our reference, used once; a record is written with the same values.",
    token=TOKEN,
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=verify,
        read=read,
        signature=f"{SIGNATURE}: HMAC-SHA256 over method, URL, body and time; within 5 minutes",
    ),
    reread=REREAD,
    probe=Probe(build=ask_property, read=read_property),
    provision=provision,
    per_second=10.0,  # 100 in 10 seconds, the smallest of its plans
)
