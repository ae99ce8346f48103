"""Standard Webhooks: signed order events in our own vocabulary, from any system that can sign a request."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ordernotify.platforms._base import Gives, Inbound, Platform, Received, Refusal, Webhook
from ordernotify.platforms._events import event_key, read_body, too_far_ahead
from ordernotify.platforms._reading import Foreign, moment, read_json
from ordernotify.platforms._standard import SignedSettings, message_id, sender_steps, verify_signature


class _Envelope(Foreign):
    type: str = Field(strict=True, max_length=256)
    timestamp: Annotated[datetime, BeforeValidator(moment)] | None = None
    data: Any = Field(default=None)


def _read(inbound: Inbound, _settings: Any, now: datetime) -> Received | Refusal:
    envelope = read_json(_Envelope, inbound.body)
    if isinstance(envelope, Refusal):
        return envelope
    body = read_body(envelope.data, type_word=envelope.type, within="data")
    if isinstance(body, Refusal):
        return body
    event = body.to_event(
        source=PLATFORM.name,
        dedupe_key=event_key(message_id(inbound)),
        default_time=envelope.timestamp or now,
    )
    field = "data.occurred_at" if body.occurred_at else "timestamp"
    return too_far_ahead(event, now=now, field=field) or Received(events=(event,))


PLATFORM = Platform(
    name="standard_webhooks",
    title="Standard Webhooks",
    settings=SignedSettings,
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=verify_signature,
        read=_read,
        signature="webhook-signature: v1, HMAC-SHA256 over id, timestamp and body; within 5 minutes",
    ),
    provision=sender_steps,
)
