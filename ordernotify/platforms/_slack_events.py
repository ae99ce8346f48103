"""Slack's Events API: signed requests, among them the words by which a channel says stop or start."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange
from ordernotify.platforms._base import Answer, Inbound, Received, Refusal, Reply

_TOLERANCE_S = 300
SIGNATURE, TIMESTAMP = "X-Slack-Signature", "X-Slack-Request-Timestamp"
KEYWORDS: Final[Mapping[str, bool]] = {"STOP": False, "UNSUBSCRIBE": False, "START": True, "SUBSCRIBE": True}
_MENTION = re.compile(r"<@[UW][A-Z0-9]+>")


def verify(inbound: Inbound, settings: Any, now: datetime) -> Refusal | None:
    """Return why a request is not Slack's, None when it is."""
    if settings.signing_secret is None:
        return Refusal(401, SIGNATURE, "cannot be checked: set signing_secret")
    stamp = inbound.header(TIMESTAMP)
    if not re.fullmatch(r"[0-9]{1,12}", stamp) or abs(now.timestamp() - int(stamp)) > _TOLERANCE_S:
        return Refusal(401, TIMESTAMP, "must be the Unix time of the request, within 5 minutes of now")
    key = settings.signing_secret.get_secret_value().encode()
    expected = hmac.new(key, f"v0:{stamp}:".encode() + inbound.body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(f"v0={expected}".encode(), inbound.header(SIGNATURE).encode()):
        return Refusal(401, SIGNATURE, "must be v0= and the HMAC of timestamp and exact body")
    return None


def read(inbound: Inbound, _settings: Any, _now: datetime) -> Received | Refusal:
    """Return the STOP or START that somebody wrote in a channel; answer Slack's check of the URL."""
    body = Answer(200, body=inbound.body).json()
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        return Refusal(422, "type", "must be url_verification or event_callback, in a JSON object")
    if body["type"] == "url_verification":
        challenge = body.get("challenge")
        if not isinstance(challenge, str):
            return Refusal(422, "challenge", "must be the text to send back")
        return Received(reply=Reply(body=challenge.encode()))
    event = body.get("event")
    if body["type"] != "event_callback" or not isinstance(event, dict):
        return Received()
    return _read_event(event, body.get("event_id"))


def _read_event(event: Mapping[str, Any], event_id: object) -> Received | Refusal:
    word = _MENTION.sub("", str(event.get("text", ""))).strip().upper()
    granted = None if event.get("bot_id") else KEYWORDS.get(word)
    if granted is None or event.get("type") not in {"message", "app_mention"}:
        return Received()
    channel = event.get("channel")
    if not isinstance(event_id, str):
        return Refusal(422, "event_id", "is missing: it tells repetitions apart")
    if not isinstance(channel, str):
        return Refusal(422, "event.channel", "is missing: it is who says so")
    change = ConsentChange(
        dedupe_key=event_id,
        channel=Channel.CHAT,
        address=channel,
        granted=granted,
        code="slack_start" if granted else "slack_stop",
    )
    return Received(consents=(change,))
