"""Intercom's webhooks: who unsubscribed, who wrote STOP, and the requests by which it tries an address."""

from __future__ import annotations

import hashlib
import hmac
import html
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange
from ordernotify.platforms._base import Inbound, Received, Refusal, Reply
from ordernotify.platforms._reading import one_line, parse
from ordernotify.platforms._signing import active

SIGNATURE: Final = "X-Hub-Signature"
KEYWORDS: Final[Mapping[str, bool]] = {"STOP": False, "UNSUBSCRIBE": False, "START": True, "SUBSCRIBE": True}

_UNAUTHORIZED, _UNPROCESSABLE = 401, 422
_PING = "ping"
_PING_MAX = 4_096
_TAG = re.compile(r"<[^>]*>")


def handshake(inbound: Inbound, _settings: Any) -> Reply | None:
    """Answer what Intercom asks of an address before it uses it: HEAD, and a ping that says nothing."""
    if inbound.method == "HEAD":
        return Reply()
    if inbound.method != "POST" or len(inbound.body) > _PING_MAX:
        return None
    body = parse(inbound.body)
    return Reply() if isinstance(body, dict) and body.get("topic") == _PING else None


def verify(inbound: Inbound, settings: Any, _now: datetime) -> Refusal | None:
    """Return why a request is not Intercom's, None when it is.

    No time is checked, because none is signed: a request sent again changes nothing that the first did not.
    """
    secrets = active(settings.client_secret)
    if not secrets:
        return Refusal(_UNAUTHORIZED, SIGNATURE, "cannot be checked: set client_secret")
    given = inbound.header(SIGNATURE).encode("utf-8", "replace")
    expected = [
        f"sha1={hmac.new(secret.encode(), inbound.body, hashlib.sha1).hexdigest()}".encode() for secret in secrets
    ]
    if not any([hmac.compare_digest(given, one) for one in expected]):  # noqa: C419 - every secret takes its time
        return Refusal(_UNAUTHORIZED, SIGNATURE, "must be sha1= and the HMAC of the exact body")
    return None


def read(inbound: Inbound, settings: Any, _now: datetime) -> Received | Refusal:
    """Return what a person said about being written to; every other notification says nothing here."""
    body = parse(inbound.body)
    if isinstance(body, Refusal):
        return body
    if not isinstance(body, dict) or not isinstance(body.get("topic"), str):
        return Refusal(_UNPROCESSABLE, "topic", "must name the notification, in a JSON object")
    if settings.app_id and body.get("app_id") != settings.app_id:
        return Refusal(_UNPROCESSABLE, "app_id", "must be the workspace that is configured here")
    reader = _TOPICS.get(body["topic"])
    if reader is None:
        return Received(reply=Reply())
    data = body.get("data")
    item = data.get("item") if isinstance(data, dict) else None
    if not isinstance(item, dict):
        return Refusal(_UNPROCESSABLE, "data.item", "must be the contact or conversation")
    # A notification may come without an id, and is then known by its bytes: one key for all would hide the rest.
    return reader(item, one_line(str(body.get("id") or ""), limit=100) or hashlib.sha256(inbound.body).hexdigest())


def _unsubscribed(contact: Mapping[str, Any], key: str) -> Received | Refusal:
    return _changed(contact, granted=False, code="intercom_unsubscribed", key=key, within="data.item")


def _created(conversation: Mapping[str, Any], key: str) -> Received | Refusal:
    return _spoken(conversation.get("source"), key)


def _replied(conversation: Mapping[str, Any], key: str) -> Received | Refusal:
    parts = conversation.get("conversation_parts")
    listed = parts.get("conversation_parts") if isinstance(parts, dict) else None
    return _spoken(listed[-1] if isinstance(listed, list) and listed else None, key)


_TOPICS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Received | Refusal]]] = {
    "contact.unsubscribed": _unsubscribed,
    "conversation.user.created": _created,
    "conversation.user.replied": _replied,
}


def _spoken(part: object, key: str) -> Received | Refusal:
    """Return the change of consent that a person's message is, where it is nothing but the word."""
    if not isinstance(part, dict):
        return Refusal(_UNPROCESSABLE, "data.item", "must hold what the person wrote")
    text = html.unescape(_TAG.sub(" ", str(part.get("body") or ""))).strip().rstrip(".!").upper()
    granted = KEYWORDS.get(text)
    author = part.get("author")
    if granted is None:
        return Received(reply=Reply())
    if not isinstance(author, dict):
        return Refusal(_UNPROCESSABLE, "author", "is missing: it is who says so")
    code = "intercom_start" if granted else "intercom_stop"
    return _changed(author, granted=granted, code=code, key=key, within="author")


def _changed(contact: Mapping[str, Any], *, granted: bool, code: str, key: str, within: str) -> Received | Refusal:
    """Return the change for every form in which we may hold this contact's address."""
    names = ("id", "external_id", "user_id", "email")
    forms = {one_line(value, limit=254) for name in names if isinstance(value := contact.get(name), str)}
    addresses = {form.lower() if "@" in form else form for form in forms if form}
    if not addresses:
        return Refusal(_UNPROCESSABLE, f"{within}.id", "is missing: it is who says so")
    return Received(
        consents=tuple(
            ConsentChange(
                dedupe_key=f"{key}:{address}", channel=Channel.CHAT, address=address, granted=granted, code=code
            )
            for address in sorted(addresses)
        ),
        reply=Reply(),
    )
