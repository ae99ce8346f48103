"""Messenger's webhook: deliveries, echoes of our own messages, and what people write or press."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange, DeliveryStatus, Receipt
from ordernotify.platforms._base import Inbound, Received, Refusal, Reply
from ordernotify.platforms._chat_words import said
from ordernotify.platforms._meta import Stamp, read_entries, unix_moment
from ordernotify.platforms._reading import Foreign, Word, read_value

OPTINS: Final[Mapping[str, bool]] = {"STOP_NOTIFICATIONS": False, "RESUME_NOTIFICATIONS": True}
_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_ID_LENGTH = 500
# A message id may be longer than any word of ours; cut, it would name another message.
_Mid = Annotated[str, Field(strict=True, max_length=_MAX_ID_LENGTH)]
# Meta takes any other answer as a failure, and after an hour of those it stops calling.
_EXACTLY_200 = Reply()


class _Party(Foreign):
    id: Word = ""


class _Referral(Foreign):
    ref: Word = ""


class _Said(Foreign):
    mid: _Mid = ""
    text: Word = ""
    is_echo: bool = False
    metadata: Word = ""


class _Delivery(Foreign):
    mids: tuple[_Mid, ...] = ()


class _Postback(Foreign):
    referral: _Referral = _Referral()


class _Optin(Foreign):
    notification_messages_status: Word = ""


class _Event(Foreign):
    """One thing that happened. A read has only a time, which names no message, so it is not read here."""

    sender: _Party = _Party()
    timestamp: Stamp = 0
    message: _Said = _Said()
    delivery: _Delivery = _Delivery()
    postback: _Postback = _Postback()
    referral: _Referral = _Referral()
    optin: _Optin = _Optin()

    @property
    def occurred_at(self) -> datetime | None:
        """When it happened, None where the sender does not say."""
        return unix_moment(self.timestamp // 1000)


def read(inbound: Inbound, settings: Any, _now: datetime) -> Received | Refusal:
    """Return the receipts, changes of consent and ties of accounts to contacts in a webhook."""
    entries = read_entries(inbound, "page")
    if isinstance(entries, Refusal):
        return entries
    receipts: list[Receipt] = []
    consents: list[ConsentChange] = []
    links: list[tuple[str, str]] = []
    for place, entry in enumerate(entries):
        if entry.id != settings.page_id:
            continue  # one app may serve several Pages
        for number, happened in enumerate(entry.messaging):
            event = read_value(_Event, happened, within=f"entry[{place}].messaging[{number}]")
            if isinstance(event, Refusal):
                return event
            receipts += _receipts(event)
            consents += _consents(event)
            links += _links(event)
    return Received(receipts=tuple(receipts), consents=tuple(consents), links=tuple(links), reply=_EXACTLY_200)


def _receipts(event: _Event) -> list[Receipt]:
    found = [
        Receipt(
            dedupe_key=f"{mid}:delivered",
            status=DeliveryStatus.DELIVERED,
            occurred_at=event.occurred_at,
            provider_ref=mid,
            code="messenger_delivered",
        )
        for mid in event.delivery.mids
        if mid
    ]
    if event.message.is_echo and event.message.metadata and event.message.mid:
        echo = Receipt(
            dedupe_key=f"{event.message.mid}:echo",
            status=DeliveryStatus.SENT,
            occurred_at=event.occurred_at,
            provider_ref=event.message.mid,
            reference=event.message.metadata,
            code="messenger_echo",
        )
        found.append(echo)
    return found


def _consents(event: _Event) -> list[ConsentChange]:
    if not event.sender.id or event.message.is_echo:
        return []
    pressed = event.optin.notification_messages_status
    granted = OPTINS[pressed] if pressed in OPTINS else said(event.message.text)
    if granted is None:
        return []
    key = event.message.mid or f"{event.sender.id}:{event.timestamp}:{pressed}"
    change = ConsentChange(
        dedupe_key=key,
        channel=Channel.CHAT,
        address=event.sender.id,
        granted=granted,
        code="messenger_start" if granted else "messenger_stop",
    )
    return [change]


def _links(event: _Event) -> list[tuple[str, str]]:
    """Return the one-time code of an m.me link: of an old conversation directly, of a new one in a postback."""
    code = event.referral.ref or event.postback.referral.ref
    return [(code, event.sender.id)] if event.sender.id and _CODE.fullmatch(code) else []
