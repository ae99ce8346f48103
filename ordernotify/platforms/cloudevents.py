"""CloudEvents 1.0 over HTTP: order events in our own vocabulary, in binary, structured or batched mode."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes

from pydantic import BeforeValidator, Field, SecretStr

from ordernotify.core.events import OrderEvent
from ordernotify.platforms._base import Gives, Inbound, Platform, Received, Refusal, Reply, Webhook
from ordernotify.platforms._events import event_key, read_body, too_far_ahead
from ordernotify.platforms._reading import Foreign, moment, parse, read_value
from ordernotify.platforms._signing import active, same_secret
from ordernotify.platforms._standard import SignedSettings, sender_steps, verify_signature

BATCH_MAX: Final = 1_000

_BATCH = "application/cloudevents-batch"
_STRUCTURED = "application/cloudevents"
_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json|text/json")
_ORIGIN = re.compile(r"[A-Za-z0-9.:*/_-]{1,253}")
_RATE = re.compile(r"[1-9][0-9]{0,8}")
_UNAUTHORIZED, _FORBIDDEN, _BAD_REQUEST = 401, 403, 400
_UNSUPPORTED, _UNPROCESSABLE = 415, 422
_ATTRIBUTES = ("specversion", "id", "source", "type", "time")


class Settings(SignedSettings):
    """What a sender of CloudEvents shares with us; the protocol defines no proof, so we ask for one."""

    bearer_token: SecretStr | None = Field(
        default=None,
        description="Token that must also stand in Authorization: Bearer; several with commas.",
    )
    allowed_origins: str = Field(
        default="*",
        description="Origins whose OPTIONS handshake is granted, with commas; * for every one. Deliveries "
        "are proved by their signature either way.",
    )


class _Attributes(Foreign):
    """The context attributes that we read; extensions are left alone."""

    specversion: str = Field(strict=True, max_length=8)
    id: str = Field(strict=True, min_length=1, max_length=512)
    source: str = Field(strict=True, min_length=1, max_length=1024)
    type: str = Field(strict=True, min_length=1, max_length=256)
    time: Annotated[datetime, BeforeValidator(moment)] | None = None


def _verify(inbound: Inbound, settings: Settings, now: datetime) -> Refusal | None:
    tokens = active(settings.bearer_token)
    if tokens:
        scheme, _, token = inbound.header("authorization").partition(" ")
        if scheme.lower() != "bearer" or not same_secret(token.strip(), tokens):
            return Refusal(_UNAUTHORIZED, "Authorization", "must be Bearer and the token of this source")
    return verify_signature(inbound, settings, now)


def _read(inbound: Inbound, _settings: Any, now: datetime) -> Received | Refusal:
    media = inbound.header("content-type").partition(";")[0].strip().lower()
    # The batch's prefix begins with that of a single event, so it is asked for first.
    if media.startswith(_BATCH):
        return _batch(inbound.body, media, now)
    event = _structured(inbound.body, media, now) if media.startswith(_STRUCTURED) else _binary(inbound, media, now)
    return event if isinstance(event, Refusal) else Received(events=(event,))


def _batch(body: bytes, media: str, now: datetime) -> Received | Refusal:
    if media != f"{_BATCH}+json":
        return _unsupported(f"must be {_BATCH}+json: no other format of a batch is read")
    entries = parse(body)
    if isinstance(entries, Refusal):
        return entries
    if not isinstance(entries, list):
        return Refusal(_UNPROCESSABLE, "body", "must be a list of events")
    if len(entries) > BATCH_MAX:
        return Refusal(_UNPROCESSABLE, "body", f"must have at most {BATCH_MAX} events")
    events: list[OrderEvent] = []
    for number, entry in enumerate(entries):
        event = _one(entry, now, within=f"[{number}]")
        if isinstance(event, Refusal):
            return event
        events.append(event)
    return Received(events=tuple(events))


def _structured(body: bytes, media: str, now: datetime) -> OrderEvent | Refusal:
    if media != f"{_STRUCTURED}+json":
        return _unsupported(f"must be {_STRUCTURED}+json: no other format of an event is read")
    entry = parse(body)
    return entry if isinstance(entry, Refusal) else _one(entry, now, within="")


def _one(entry: object, now: datetime, *, within: str) -> OrderEvent | Refusal:
    attributes = read_value(_Attributes, entry, within=within)
    if isinstance(attributes, Refusal):
        return attributes
    # A model was read from it, so it is an object.
    data = _structured_data(entry if isinstance(entry, dict) else {}, within=within)
    return data if isinstance(data, Refusal) else _event(attributes, data, now, within=within)


def _structured_data(entry: Mapping[str, Any], *, within: str) -> Any:
    """Return an event's data, or a Refusal; without ``datacontenttype`` it is JSON."""
    content_type = entry.get("datacontenttype", "application/json")
    if not isinstance(content_type, str) or not _is_json(content_type):
        return _unsupported("must be application/json", field=_join(within, "datacontenttype"))
    if "data_base64" not in entry:
        return entry.get("data")
    field = _join(within, "data_base64")
    if "data" in entry:
        return Refusal(_UNPROCESSABLE, field, "must not stand beside data")
    try:
        return parse(base64.b64decode(entry["data_base64"], validate=True), within=field)
    except (binascii.Error, TypeError, ValueError):
        return Refusal(_UNPROCESSABLE, field, "must be base64")


def _binary(inbound: Inbound, media: str, now: datetime) -> OrderEvent | Refusal:
    if media and not _is_json(media):
        return _unsupported("must be application/json, application/cloudevents+json or its batch")
    if inbound.header("ce-datacontenttype"):
        return Refusal(_UNPROCESSABLE, "ce-datacontenttype", "must not be sent: Content-Type says it")
    values: dict[str, str] = {}
    for name in _ATTRIBUTES:
        raw = inbound.header(f"ce-{name}")
        if not raw:
            continue
        value = header_value(raw)
        if value is None:
            return Refusal(_UNPROCESSABLE, f"ce-{name}", "must be percent-encoded UTF-8")
        values[name] = value
    attributes = read_value(_Attributes, values)
    if isinstance(attributes, Refusal):
        return Refusal(attributes.status, f"ce-{attributes.field}", attributes.message)
    data = parse(inbound.body, within="data")
    return data if isinstance(data, Refusal) else _event(attributes, data, now, within="", prefix="ce-")


def header_value(raw: str) -> str | None:
    """Return what a binary-mode header says: unquoted, percent-decoded once; None when it is no UTF-8."""
    text = raw
    if len(raw) > 1 and raw.startswith('"') and raw.endswith('"'):
        text = re.sub(r"\\(.)", r"\1", raw[1:-1])
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _event(
    attributes: _Attributes, data: object, now: datetime, *, within: str, prefix: str = ""
) -> OrderEvent | Refusal:
    if attributes.specversion != "1.0":
        return Refusal(_UNPROCESSABLE, _join(within, f"{prefix}specversion"), 'must be "1.0"')
    body = read_body(data, type_word=attributes.type, within=_join(within, "data"))
    if isinstance(body, Refusal):
        return body
    event = body.to_event(
        source=PLATFORM.name,
        dedupe_key=event_key(attributes.source, attributes.id),
        default_time=attributes.time or now,
    )
    field = _join(within, "data.occurred_at" if body.occurred_at else f"{prefix}time")
    return too_far_ahead(event, now=now, field=field) or event


def _is_json(media: str) -> bool:
    return _JSON.fullmatch(media.partition(";")[0].strip().lower()) is not None


def _join(within: str, field: str) -> str:
    return f"{within}.{field}" if within else field


def _unsupported(message: str, *, field: str = "Content-Type") -> Refusal:
    return Refusal(_UNSUPPORTED, field, message)


def _handshake(inbound: Inbound, settings: Settings) -> Reply | Refusal | None:
    """Answer a sender that asks by OPTIONS whether it may deliver: the consent is the header."""
    if inbound.method.upper() != "OPTIONS":
        return None
    origin = inbound.header("webhook-request-origin")
    if not _ORIGIN.fullmatch(origin):
        return Refusal(_BAD_REQUEST, "WebHook-Request-Origin", "must be the sender's host name")
    if not _is_allowed(origin, settings.allowed_origins.split(",")):
        return Refusal(_FORBIDDEN, "WebHook-Request-Origin", "must be one of the origins allowed here")
    rate = inbound.header("webhook-request-rate")
    return Reply(
        headers={
            "webhook-allowed-origin": origin,
            "webhook-allowed-rate": rate if _RATE.fullmatch(rate) else "*",
            "allow": "POST",
        }
    )


def _is_allowed(origin: str, allowed: Iterable[str]) -> bool:
    return any(one.strip() == "*" or one.strip().lower() == origin.lower() for one in allowed)


PLATFORM = Platform(
    name="cloudevents",
    title="CloudEvents",
    settings=Settings,
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=_verify,
        read=_read,
        handshake=_handshake,
        signature="webhook-signature: v1, HMAC-SHA256 over id, timestamp and body; a bearer token where set",
    ),
    provision=sender_steps,
)
