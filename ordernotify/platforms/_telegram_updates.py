"""Telegram's updates: who started the bot, with which code, who said stop, and who blocked it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange
from ordernotify.platforms._base import Inbound, Received, Refusal, Reply
from ordernotify.platforms._chat_words import said
from ordernotify.platforms._reading import MAX_ID, Foreign, Word, read_json, whole
from ordernotify.platforms._signing import active, same_secret

SECRET: Final = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - the name of the header

# In a group the command may name the bot; the code is what our link put after start=.
_START = re.compile(r"/start(?:@[A-Za-z0-9_]{1,32})?(?:\s+([A-Za-z0-9_-]{1,64}))?")
_STOP = re.compile(r"/stop(?:@[A-Za-z0-9_]{1,32})?")
# What a chat makes of the bot. Coming back says nothing: whoever unblocks presses Start, which does.
_OUT = frozenset({"kicked", "left"})

_NOTHING = Received(reply=Reply())

_UpdateId = Annotated[int, BeforeValidator(whole(0, MAX_ID))]
_ChatId = Annotated[int, BeforeValidator(whole(-MAX_ID, MAX_ID))]


class _Chat(Foreign):
    id: _ChatId


class _Message(Foreign):
    chat: _Chat
    text: Word = ""


class _Member(Foreign):
    status: Word = ""


class _MyMembership(Foreign):
    chat: _Chat
    new_chat_member: _Member


class _Update(Foreign):
    update_id: _UpdateId
    message: _Message | None = None
    my_chat_member: _MyMembership | None = None


def verify(inbound: Inbound, settings: Any, _now: datetime) -> Refusal | None:
    """Return why an update is not Telegram's, None when it is: it brings our secret, nothing more."""
    secrets = active(settings.webhook_secret)
    if not secrets:
        return Refusal(401, SECRET, "cannot be checked: set webhook_secret")
    if not same_secret(inbound.header(SECRET), secrets):
        return Refusal(401, SECRET, "must be the secret that was given to setWebhook")
    return None


def read(inbound: Inbound, _settings: Any, _now: datetime) -> Received | Refusal:
    """Return the tie of an account to a contact, and the change of consent, in an update."""
    update = read_json(_Update, inbound.body)
    if isinstance(update, Refusal):
        return update
    if update.my_chat_member is not None:
        return _read_membership(update.update_id, update.my_chat_member)
    if update.message is not None:
        return _read_message(update.update_id, update.message)
    return _NOTHING


def _read_membership(update_id: int, mine: _MyMembership) -> Received:
    if mine.new_chat_member.status not in _OUT:
        return _NOTHING
    return _received(update_id, mine.chat, granted=False, code="telegram_blocked")


def _read_message(update_id: int, message: _Message) -> Received:
    if (start := _START.fullmatch(message.text)) is not None:
        links = ((start[1], str(message.chat.id)),) if start[1] else ()
        return _received(update_id, message.chat, granted=True, code="telegram_start", links=links)
    granted = False if _STOP.fullmatch(message.text) else said(message.text)
    if granted is None:
        return _NOTHING
    code = "telegram_start" if granted else "telegram_stop"
    return _received(update_id, message.chat, granted=granted, code=code)


def _received(
    update_id: int, chat: _Chat, *, granted: bool, code: str, links: tuple[tuple[str, str], ...] = ()
) -> Received:
    change = ConsentChange(
        dedupe_key=str(update_id), channel=Channel.CHAT, address=str(chat.id), granted=granted, code=code
    )
    return Received(consents=(change,), links=links, reply=Reply())
