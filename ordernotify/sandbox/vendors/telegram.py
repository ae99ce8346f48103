"""Telegram simulated: sendMessage, editMessageText, the webhook and its updates.

Chats tell by their id what becomes of a message: one that ends in ``403`` blocked the bot, ``404`` is unknown,
``410`` was deactivated; group ``-1777`` became the supergroup ``-1001777``. Whoever has an id ending in ``199``
answers /stop, one ending in ``198`` blocks the bot after reading.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply

TOKEN: Final = "5000000001:sandbox-opens-nothing-but-this-simulation"  # noqa: S105 - see its text
SECRET: Final = "sandbox-secret_0123456789"  # noqa: S105 - proves nothing but this simulation

MIGRATED: Final[Mapping[str, int]] = {"-1777": -1001777}
REFUSED: Final[Mapping[str, tuple[int, str]]] = {
    "403": (403, "Forbidden: bot was blocked by the user"),
    "404": (400, "Bad Request: chat not found"),
    "410": (403, "Forbidden: user is deactivated"),
}
STOPS, BLOCKS = "199", "198"

_LIMIT = 4096
_TAG = re.compile(r"<(/?)([a-z-]+)>")
_TAGS = frozenset({"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "blockquote"})
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#[0-9]{1,7});")


def _no(code: int, description: str, **parameters: int) -> Reply:
    value: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    if parameters:
        value["parameters"] = parameters
    wait = parameters.get("retry_after")
    return json_reply(code, value, headers={"retry-after": str(wait)} if wait else {})


FAULTS: Final[Mapping[Fault, Reply]] = {
    Fault.RATE: _no(429, "Too Many Requests: retry after 1", retry_after=1),
    Fault.RATE_BARE: _no(429, "Too Many Requests"),
    Fault.SERVER_ERROR: _no(500, "Internal Server Error"),
    Fault.PERMANENT: _no(400, "Bad Request: chat not found"),
    Fault.AUTH: _no(401, "Unauthorized"),
    Fault.OPT_OUT: _no(403, "Forbidden: bot was blocked by the user"),
}


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Telegram's format."""
    return FAULTS[fault]


def _ok(result: Any, **more: Any) -> Reply:
    return json_reply(200, {"ok": True, "result": result}, **more)


def _parsed(text: str) -> str | None:
    """Return what a person reads of Telegram's HTML, None where it is none."""
    opened: list[str] = []
    for closing, tag in _TAG.findall(text):
        if tag not in _TAGS or (closing and (not opened or opened.pop() != tag)):
            return None
        if not closing:
            opened.append(tag)
    plain = _TAG.sub("", text)
    if opened or "<" in plain or "&" in _ENTITY.sub("", plain):
        return None
    return html.unescape(plain)


def _fault_of(asked: Any) -> Reply | None:
    """Return the refusal of the first thing that is wrong with a message, None when nothing is."""
    if not isinstance(asked, dict) or not asked.get("chat_id"):
        return _no(400, "Bad Request: chat_id is empty")
    chat = str(asked["chat_id"])
    if chat in MIGRATED:
        words = "Bad Request: group chat was upgraded to a supergroup chat"
        return _no(400, words, migrate_to_chat_id=MIGRATED[chat])
    for ending, (code, words) in REFUSED.items():
        if chat.endswith(ending):
            return _no(code, words)
    text = str(asked.get("text", ""))
    plain = _parsed(text) if asked.get("parse_mode") == "HTML" else text
    if plain is None:
        return _no(400, "Bad Request: can't parse entities: unsupported start tag")
    if not plain.strip():
        return _no(400, "Bad Request: message text is empty")
    too_long = len(plain.encode("utf-16-le")) > 2 * _LIMIT
    return _no(400, "Bad Request: message is too long") if too_long else None


def _send(request: Request, shelf: Shelf) -> Reply:
    asked = request.json()
    if refusal := _stranger(request) or _fault_of(asked):
        return refusal
    chat, number = str(asked["chat_id"]), shelf.next_serial()
    shelf.kind(chat)[str(number)] = asked["text"]
    url, secret = shelf.webhooks.get("events", ""), str(shelf.kind("hook").get("secret_token", SECRET))
    return _done(asked, number, _callbacks(url, secret, chat, shelf) if url else ())


def _edit(request: Request, shelf: Shelf) -> Reply:
    asked = request.json()
    if refusal := _stranger(request) or _fault_of(asked):
        return refusal
    texts, number = shelf.kind(str(asked["chat_id"])), asked.get("message_id")
    if number is None:
        return _no(400, "Bad Request: message identifier is not specified")
    if str(number) not in texts:
        return _no(400, "Bad Request: message to edit not found")
    if texts[str(number)] == asked["text"]:
        return _no(400, "Bad Request: message is not modified: specified new message content is the same")
    texts[str(number)] = asked["text"]
    return _done(asked, int(number), ())


def _done(asked: Mapping[str, Any], number: int, callbacks: tuple[Callback, ...]) -> Reply:
    chat, text = asked["chat_id"], _parsed(asked["text"]) or ""
    kind = "private" if str(chat).isdigit() else "supergroup"
    result = {
        "message_id": number,
        "date": int(clock.now().timestamp()),
        "chat": {"id": chat, "type": kind},
        "text": text,
    }
    # Telegram carries no reference of the sender's; the number of the message is all there is.
    return _ok(result, taken=(Taken(str(chat), "", text, f"{chat}:{number}"),), callbacks=callbacks)


def _callbacks(url: str, secret: str, chat: str, shelf: Shelf) -> tuple[Callback, ...]:
    about = {"chat": {"id": int(chat), "type": "private"}} if chat.lstrip("-").isdigit() else {}
    stamp = int(clock.now().timestamp())
    if about and chat.endswith(STOPS):
        update: dict[str, Any] = {"message": {**about, "message_id": 1, "date": stamp, "text": "/stop"}}
    elif about and chat.endswith(BLOCKS):
        members = {"old_chat_member": {"status": "member"}, "new_chat_member": {"status": "kicked"}}
        update = {"my_chat_member": {**about, "date": stamp, **members}}
    else:
        return ()
    body = orjson.dumps({"update_id": 700_000_000 + shelf.next_serial(), **update})
    headers = {"content-type": "application/json", "x-telegram-bot-api-secret-token": secret}
    return (Callback(url, headers, body),)


def _me(request: Request, _shelf: Shelf) -> Reply:
    me = {"id": 5000000001, "is_bot": True, "first_name": "Northgate", "username": "northgate_bot"}
    return _stranger(request) or _ok(me)


def _set_hook(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    asked = request.json()
    if not isinstance(asked, dict) or not asked.get("url"):
        return _no(400, "Bad Request: bad webhook: HTTPS url must be provided for webhook")
    shelf.kind("hook").update(asked)
    shelf.webhooks["events"] = str(asked["url"])
    return _ok(result=True)


def _hook(request: Request, shelf: Shelf) -> Reply:
    hook = shelf.kind("hook")
    info = {
        "url": hook.get("url", ""),
        "has_custom_certificate": False,
        "pending_update_count": 0,
        "allowed_updates": hook.get("allowed_updates", []),
    }
    return _stranger(request) or _ok(info)


def _stranger(request: Request) -> Reply | None:
    return None if request.path.startswith(f"/bot{TOKEN}/") else _no(401, "Unauthorized")


_BOT = "/bot[^/]+"

VENDOR = Vendor(
    name="telegram",
    routes={
        ("POST", f"{_BOT}/sendMessage"): _send,
        ("POST", f"{_BOT}/editMessageText"): _edit,
        ("POST", f"{_BOT}/setWebhook"): _set_hook,
        ("GET", f"{_BOT}/getWebhookInfo"): _hook,
        ("GET", f"{_BOT}/getMe"): _me,
    },
    settings={"bot_token": TOKEN, "webhook_secret": SECRET},
    refuse=refuse,
)
