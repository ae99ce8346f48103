"""Slack simulated: incoming webhooks, chat.postMessage and chat.update, and signed events.

Webhooks whose second part is ``B0GONE000`` were removed (no_service); channel ``C0ARCHIVED`` is archived and
``C0MISSING0`` unknown. Where a message goes to a channel whose id ends in ``STOP``, somebody there says stop: the
event goes to the webhook named ``events``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply

_TOKEN = "xoxb-sandbox-opens-nothing-but-this-simulation"  # noqa: S105 - see its text
_SECRET = "5a4db0c55a4db0c55a4db0c55a4db0c5"  # noqa: S105 - signs for nobody but this simulation
HOOK: Final = "services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"

REFUSED_CHANNELS: Final = {"C0ARCHIVED": "is_archived", "C0MISSING0": "channel_not_found"}
GONE: Final = "B0GONE000"

_BLOCKS, _HEADER, _SECTION, _FIELDS, _FIELD, _UPDATE_TEXT = 50, 150, 3000, 10, 2000, 4000


def _word(status: int, word: str, **headers: str) -> Reply:
    return Reply(status, word.encode(), {"content-type": "text/plain; charset=utf-8", **headers})


def _no(word: str, status: int = 200, **headers: str) -> Reply:
    return json_reply(status, {"ok": False, "error": word}, headers=headers)


FAULTS: Final[Mapping[Fault, Reply]] = {
    Fault.RATE: _no("ratelimited", 429, **{"retry-after": "1"}),
    Fault.RATE_BARE: _no("ratelimited", 429),
    Fault.SERVER_ERROR: _word(500, "rollup_error"),
    Fault.PERMANENT: _word(400, "invalid_blocks"),
    Fault.AUTH: _no("invalid_auth"),
    Fault.OPT_OUT: _word(410, "channel_is_archived"),  # the nearest thing: Slack has no list of refusals
}


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Slack's format."""
    return FAULTS[fault]


def _fault_of(message: Any) -> str | None:
    """Return Slack's word for the first thing that is wrong with a message, None when nothing is."""
    if not isinstance(message, dict):
        return "invalid_payload"
    blocks = message.get("blocks", [])
    if not message.get("text") and not blocks:
        return "no_text"
    if len(blocks) > _BLOCKS or not all(_fits(block) for block in blocks):
        return "invalid_blocks"
    return None


def _fits(block: Mapping[str, Any]) -> bool:
    text, fields = block.get("text", {}), block.get("fields", [])
    limit, kinds = (_HEADER, {"plain_text"}) if block["type"] == "header" else (_SECTION, {"plain_text", "mrkdwn"})
    return (
        bool(text or fields)
        and (not text or (text["type"] in kinds and 0 < len(text["text"]) <= limit))
        and len(fields) <= _FIELDS
        and all(0 < len(field["text"]) <= _FIELD for field in fields)
    )


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a person reads: of the blocks where there are any, else the text."""
    blocks = message.get("blocks", [])
    if not blocks:
        yield message["text"]
    for block in blocks:
        if "text" in block:
            yield block["text"]["text"]
        yield from (field["text"] for field in block.get("fields", ()))


def _taken(to: str, message: Mapping[str, Any], provider_ref: str = "") -> Taken:
    blocks = message.get("blocks", [])
    return Taken(to, blocks[0].get("block_id", "") if blocks else "", "\n".join(_texts(message)), provider_ref)


def _hook(request: Request, _shelf: Shelf) -> Reply:
    if f"/{GONE}/" in request.path:
        return _word(404, "no_service")
    message = request.json()
    if fault := _fault_of(message):
        return _word(400, fault)
    return Reply(200, b"ok", {"content-type": "text/html"}, taken=(_taken(request.path[1:], message),))


def _post(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    message = request.json()
    if fault := _fault_of(message):
        return _no(fault)
    channel = str(message.get("channel", ""))
    if word := REFUSED_CHANNELS.get(channel) or (None if channel else "channel_not_found"):
        return _no(word)
    stamp = f"{int(clock.now().timestamp())}.{shelf.next_serial() % 1_000_000:06d}"
    shelf.kind(channel)[stamp] = message
    callbacks = _stop(channel, shelf.webhooks.get("events", "")) if channel.endswith("STOP") else ()
    return json_reply(
        200,
        {"ok": True, "channel": channel, "ts": stamp, "message": {"text": message.get("text", "")}},
        taken=(_taken(channel, message, f"{channel}:{stamp}"),),
        callbacks=callbacks,
    )


def _update(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    message = request.json()
    if fault := _fault_of(message):
        return _no(fault)
    if len(message.get("text", "")) > _UPDATE_TEXT:
        return _no("msg_too_long")
    channel, stamp = str(message.get("channel", "")), str(message.get("ts", ""))
    if stamp not in shelf.kind(channel):
        return _no("message_not_found")
    shelf.kind(channel)[stamp] = message
    return json_reply(
        200,
        {"ok": True, "channel": channel, "ts": stamp, "text": message.get("text", "")},
        taken=(_taken(channel, message, f"{channel}:{stamp}"),),
    )


def _who(request: Request, _shelf: Shelf) -> Reply:
    who = {"ok": True, "url": "https://sandbox.slack.com/", "team_id": "T00000000", "user_id": "U00000000"}
    return _stranger(request) or json_reply(200, who)


def _stranger(request: Request) -> Reply | None:
    login = request.headers.get("authorization")
    if login == f"Bearer {_TOKEN}":
        return None
    return _no("invalid_auth" if login else "not_authed")


def _stop(channel: str, url: str) -> tuple[Callback, ...]:
    if not url:
        return ()
    event = {"type": "message", "channel": channel, "user": "U11111111", "text": "stop"}
    body = orjson.dumps({"type": "event_callback", "event_id": f"Ev{uuid4().hex[:9].upper()}", "event": event})
    stamp = str(int(clock.now().timestamp()))
    digest = hmac.new(_SECRET.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": f"v0={digest}",
    }
    return (Callback(url, headers, body),)


VENDOR = Vendor(
    name="slack",
    routes={
        ("POST", "/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]+"): _hook,
        ("POST", r"/api/chat\.postMessage"): _post,
        ("POST", r"/api/chat\.update"): _update,
        ("GET", r"/api/auth\.test"): _who,
    },
    settings={"bot_token": _TOKEN, "signing_secret": _SECRET, "webhook_url": f"https://hooks.slack.com/{HOOK}"},
    url_settings={"api_url": "/api"},
    refuse=refuse,
)
