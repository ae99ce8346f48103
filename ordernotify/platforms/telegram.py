"""Telegram: a bot's messages to people who started it and to groups; it edits what it sent."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from pydantic import Field, SecretStr, field_validator

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
    PlatformSettings,
    Probe,
    Refusal,
    Step,
    Webhook,
    by_status,
    each,
    failure,
    json_body,
)
from ordernotify.platforms._chat_words import cut
from ordernotify.platforms._signing import active
from ordernotify.platforms._telegram_updates import read, verify

_TOKEN = re.compile(r"[0-9]{3,20}:[A-Za-z0-9_-]{10,100}")
_SECRET_TEXT = re.compile(r"[A-Za-z0-9_-]{1,256}")


class TelegramSettings(PlatformSettings):
    """One bot."""

    base_url: str = Field(default="https://api.telegram.org", description="Root of the Bot API.")
    bot_token: SecretStr = Field(description="Token of the bot, as @BotFather gives it: digits:letters.")
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Text of our own choice (A-Z, a-z, 0-9, _ and -) that Telegram sends with every update.",
    )

    @field_validator("bot_token")
    @classmethod
    def _is_token(cls, value: SecretStr) -> SecretStr:
        if not _TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("must be the token as @BotFather gives it, such as 123456:ABC-DEF")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _is_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if not all(_SECRET_TEXT.fullmatch(secret) for secret in active(value)):
            raise ValueError("must be 1 to 256 of A-Z, a-z, 0-9, _ and -")
        return value


_K = FailureKind

# Telegram names no errors: a status and a sentence, of which these parts hold still. In this order.
SENTENCES: Final[Sequence[tuple[int, str, FailureKind, str]]] = (
    (403, "bot was blocked by the user", _K.OPT_OUT, "blocked"),
    (403, "bot was kicked", _K.OPT_OUT, "kicked"),
    (403, "user is deactivated", _K.PERMANENT, "deactivated"),
    (403, "bot is not a member", _K.PERMANENT, "not_a_member"),
    (403, "chat was deleted", _K.PERMANENT, "chat_deleted"),
    (403, "can't initiate conversation", _K.PERMANENT, "not_started"),
    (400, "chat not found", _K.PERMANENT, "chat_not_found"),
    (400, "chat_id is empty", _K.PERMANENT, "chat_id_empty"),
    (400, "upgraded to a supergroup", _K.PERMANENT, "migrated"),
    (400, "can't parse entities", _K.PERMANENT, "entities"),
    (400, "message is too long", _K.PERMANENT, "too_long"),
    (400, "text is too long", _K.PERMANENT, "too_long"),
    (400, "text is empty", _K.PERMANENT, "empty"),
    (400, "message to edit not found", _K.PERMANENT, "edit_not_found"),
    (400, "message can't be edited", _K.PERMANENT, "edit_refused"),
    (400, "message thread not found", _K.PERMANENT, "thread_not_found"),
)
# A wrong token makes a wrong path, hence 404.
BY_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    401: _K.AUTH,
    403: _K.PERMANENT,
    404: _K.AUTH,
    409: _K.CONFIG,
    421: _K.CONFIG,
}
_GONE: Final = ("message to edit not found", "message can't be edited")
_SAME: Final = "message is not modified"

_LIMIT, _TOO_MANY = 4096, 429
_CHAT_ID = re.compile(r"-?[1-9][0-9]{0,15}")
_CHANNEL = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")
_MAX_CHAT_ID = 2**52
UPDATES: Final = ("message", "my_chat_member")


def read_address(text: str) -> str | Refusal:
    """Return a chat id or @channel, or why the text is neither."""
    address = text.strip()
    if _CHANNEL.fullmatch(address) or (_CHAT_ID.fullmatch(address) and abs(int(address)) < _MAX_CHAT_ID):
        return address
    shapes = "a chat id (123456789, groups -1001234567890), which /start <code> ties to a contact, or @channel"
    return Refusal(422, "address", f"must be {shapes}")


# ---- requests ----


def build(messages: Sequence[Message], context: Context) -> Call:
    """Return the request that sends a message, or edits the one it replaces."""
    (message,) = messages
    chat, _, number = message.edit_of.rpartition(":")
    if chat and number.isascii() and number.isdigit():
        return _method(context.settings, "editMessageText", _content(message, chat) | {"message_id": int(number)})
    return _anew(message, message.to, context)


def _anew(message: Message, chat: str, context: Context) -> Call:
    return _method(context.settings, "sendMessage", _content(message, chat))


def _content(message: Message, chat: str) -> dict[str, Any]:
    return {
        "chat_id": int(chat) if _CHAT_ID.fullmatch(chat) else chat,
        "text": words(message),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }


def words(message: Message) -> str:
    """Return the message as Telegram's HTML: the title in bold, then the text, both escaped.

    Telegram counts 4096 UTF-16 units after it has read the HTML, so the text is cut before it is escaped.
    """
    title = "" if message.notice_only else cut(" ".join(message.subject.split()), _LIMIT // 4)
    head = f"<b>{html.escape(title, quote=False)}</b>\n\n" if title else ""
    room = _LIMIT - (len(title.encode("utf-16-le")) // 2 + 2 if title else 0)
    return head + html.escape(cut(message.text, room), quote=False)


def _method(settings: TelegramSettings, method: str, value: Mapping[str, Any] | None = None) -> Call:
    token = settings.bot_token.get_secret_value()
    url = f"{settings.base_url}/bot{token}/{method}"
    if value is None:
        return Call("GET", url, secrets=(token,))
    return Call("POST", url, {"content-type": "application/json"}, json_body(value), secrets=(token,))


def converse(messages: Sequence[Message], context: Context) -> Conversation:
    """Send a message; once more to a group's new id, and anew where the message to edit is gone."""
    (message,) = messages
    answer = yield build(messages, context)
    if message.edit_of and _says(answer, *_GONE):
        message = replace(message, edit_of="")
        answer = yield _anew(message, message.to, context)
    if (moved := _new_chat(answer)) is not None:
        # Nothing was sent to the old id, and no message of the old group can be edited in the new one.
        message = replace(message, edit_of="")
        answer = yield _anew(message, moved, context)
    return read_answer(answer, [message], context)


# ---- answers ----


def _body(answer: Answer) -> Mapping[str, Any]:
    body = answer.json()
    return body if isinstance(body, dict) else {}


def _parameter(answer: Answer, name: str) -> int | None:
    parameters = _body(answer).get("parameters")
    value = parameters.get(name) if isinstance(parameters, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _new_chat(answer: Answer) -> str | None:
    moved = _parameter(answer, "migrate_to_chat_id")
    return None if moved is None else str(moved)


def _says(answer: Answer, *parts: str) -> bool:
    return any(part in str(_body(answer).get("description", "")).lower() for part in parts)


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what Telegram made of a message: its sentence first, the status second."""
    return each(_outcome(answer, messages[0], context.now), messages)


def _outcome(answer: Answer, message: Message, now: datetime) -> Outcome:
    if (body := _body(answer)).get("ok") is True:
        return _accepted(body.get("result"))
    if message.edit_of and _says(answer, _SAME):
        return Accepted(message.edit_of, "telegram_not_modified")
    told_status = body.get("error_code")
    status = told_status if isinstance(told_status, int) else answer.status
    for code, part, kind, word in SENTENCES:
        if code == status and _says(answer, part):
            return failure(kind, f"telegram_{code}_{word}")
    word = f"telegram_{status}"
    if status == _TOO_MANY:
        told = _parameter(answer, "retry_after")
        wait = answer.retry_after_s(now) if told is None else max(0.0, float(told))
        return failure(_K.RATE, word, retry_after_s=wait)
    # An edit sent twice is the same edit.
    other = by_status(answer, now, code=word, ambiguous_5xx=not message.edit_of)
    return other or Rejected(BY_STATUS.get(status, _K.PERMANENT), word)


def _accepted(result: object) -> Outcome:
    sent = result if isinstance(result, dict) else {}
    chat, number = sent.get("chat"), sent.get("message_id")
    if not isinstance(chat, dict) or not isinstance(number, int):
        return Deferred(_K.TRANSIENT, "telegram_unreadable", ambiguous=True)
    # Number 0 means that Telegram will send it later: taken, but nothing that could be edited.
    return Accepted(f"{chat.get('id')}:{number}" if number else "", "telegram_ok")


# ---- setting up ----


def _read_me(answer: Answer, context: Context) -> Sequence[Finding]:
    works = _body(answer).get("ok") is True
    answers = bool(active(context.settings.webhook_secret) and context.webhook_url)
    advice = f"HTTP {answer.status}: copy bot_token from @BotFather (/mybots)"
    return (
        Finding("credentials", works, "" if works else advice),
        Finding("start and stop", answers, "" if answers else "set webhook_secret and public_url"),
    )


def provision(context: Context) -> Sequence[Step]:
    """Return how updates find their way to us, and how people start the bot."""
    settings: TelegramSettings = context.settings
    secrets = active(settings.webhook_secret)
    bot = Step(
        title="Bot",
        instruction="Ask @BotFather for /newbot, put the token into bot_token, and choose a webhook_secret.",
    )
    people = Step(
        title="Each person or group",
        instruction="Send a person the link https://t.me/<bot>?start=<code>, a group's administrator "
        "https://t.me/<bot>?startgroup=<code>, with the one-time code of the contact.",
    )
    if not secrets:
        return (bot, people)
    wanted = {"url": context.webhook_url, "secret_token": secrets[0], "allowed_updates": list(UPDATES)}

    def is_set(answer: Answer) -> bool:
        info = _body(answer).get("result")
        if not isinstance(info, dict) or info.get("url") != context.webhook_url:
            return False
        return sorted(info.get("allowed_updates") or ()) == sorted(UPDATES)

    hook = Step(
        title="Webhook",
        find=_method(settings, "getWebhookInfo"),
        exists=is_set,
        make=_method(settings, "setWebhook", wanted),
        instruction="Telegram does not show the secret: after changing webhook_secret, make the webhook again.",
    )
    return (bot, hook, people)


PLATFORM = Platform(
    name="telegram",
    title="Telegram",
    settings=TelegramSettings,
    channels=frozenset({Channel.CHAT}),
    level=Level.C0,
    address="chat id or @channel",
    example="123456789",
    read_address=read_address,
    converse=converse,
    edits=True,
    idempotency=Idempotency.NONE,
    idempotency_note="Drops no repetition and cannot be asked; an edit may be sent again.",
    webhook=Webhook(
        gives=frozenset({Gives.CONSENTS}),
        verify=verify,
        read=read,
        signature="X-Telegram-Bot-Api-Secret-Token: our own secret, sent back with every update",
    ),
    probe=Probe(build=lambda context: _method(context.settings, "getMe"), read=_read_me),
    provision=provision,
    per_second=30.0,
)
