"""WhatsApp's webhook: what became of messages, and what people say about being written to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange, DeliveryStatus, FailureKind, Receipt
from ordernotify.platforms._base import Inbound, Received, Refusal, Reply
from ordernotify.platforms._chat_words import said
from ordernotify.platforms._meta import Stamp, read_entries, unix_moment
from ordernotify.platforms._reading import Count, Filled, Foreign, Word, read_value

_S = DeliveryStatus

STATUSES: Final[Mapping[str, DeliveryStatus]] = {
    "sent": _S.SENT,
    "delivered": _S.DELIVERED,
    "read": _S.READ,
    "played": _S.READ,
    "failed": _S.REJECTED,
}
_FINAL = frozenset({FailureKind.PERMANENT, FailureKind.OPT_OUT})
# We send no marketing: who stops or resumes it can only mean our messages.
PREFERENCES: Final[Mapping[str, bool]] = {"stop": False, "resume": True}
_FIELDS = frozenset({"messages", "user_preferences"})
# Anything but exactly 200 makes Meta repeat the request for up to seven days.
_EXACTLY_200 = Reply()


class _Error(Foreign):
    code: Count = 0


class _Status(Foreign):
    id: Filled
    status: Filled
    timestamp: Word = ""
    biz_opaque_callback_data: Word = ""
    errors: tuple[_Error, ...] = ()


class _Text(Foreign):
    body: Word = ""


class _Button(Foreign):
    text: Word = ""


class _Said(Foreign):
    id: Filled
    sender: Word = Field(default="", alias="from")
    text: _Text = _Text()
    button: _Button = _Button()


class _Preference(Foreign):
    wa_id: Word = ""
    value: Word = ""
    timestamp: Stamp = 0


class _Metadata(Foreign):
    phone_number_id: Word = ""


class _Value(Foreign):
    metadata: _Metadata = _Metadata()
    statuses: tuple[_Status, ...] = ()
    messages: tuple[_Said, ...] = ()
    user_preferences: tuple[_Preference, ...] = ()


class _Change(Foreign):
    field: Word = ""
    value: Any = None


def reader(codes: Mapping[int, FailureKind]) -> Callable[[Inbound, Any, datetime], Received | Refusal]:
    """Return the reader of the webhook; ``codes`` says what Meta's error codes mean."""

    def read(inbound: Inbound, settings: Any, _now: datetime) -> Received | Refusal:
        entries = read_entries(inbound, "whatsapp_business_account")
        if isinstance(entries, Refusal):
            return entries
        receipts: list[Receipt] = []
        consents: list[ConsentChange] = []
        for place, entry in enumerate(entries):
            for number, change in enumerate(entry.changes):
                value = _value(change, f"entry[{place}].changes[{number}]")
                if isinstance(value, Refusal):
                    return value
                # One app may serve several numbers; what is said to another one is not for us.
                if value.metadata.phone_number_id not in {"", settings.phone_number_id}:
                    continue
                receipts += (_receipt(status, codes) for status in value.statuses)
                consents += _consents(value)
        return Received(receipts=tuple(receipts), consents=tuple(consents), reply=_EXACTLY_200)

    return read


def _value(change: object, where: str) -> _Value | Refusal:
    read = read_value(_Change, change, within=where)
    if isinstance(read, Refusal):
        return read
    if read.field not in _FIELDS:
        return _Value()  # about templates or the account: each in a shape of its own
    return read_value(_Value, read.value, within=f"{where}.value")


def _receipt(status: _Status, codes: Mapping[int, FailureKind]) -> Receipt:
    word, code = status.status, status.errors[0].code if status.errors else 0
    kind = codes.get(code) if status.errors else None
    then = STATUSES.get(word)
    if then is _S.REJECTED and kind not in _FINAL:
        then = _S.FAILED  # another try or another set-up may pass: a person decides
    named = f"whatsapp_{code}" if kind else f"whatsapp_{word}" if then else "whatsapp_unlisted"
    seconds = int(status.timestamp) if status.timestamp.isascii() and status.timestamp.isdigit() else 0
    return Receipt(
        dedupe_key=f"{status.id}:{word}",
        status=then,
        occurred_at=unix_moment(seconds),
        provider_ref=status.id,
        reference=status.biz_opaque_callback_data,
        code=named,
        opt_out=kind is FailureKind.OPT_OUT,
    )


def _consents(value: _Value) -> list[ConsentChange]:
    changes = [
        _change(message.id, message.sender, granted=granted)
        for message in value.messages
        if (granted := said(message.text.body or message.button.text)) is not None
    ]
    changes += (
        _change(f"{wish.wa_id}:{wish.timestamp}:{wish.value}", wish.wa_id, granted=PREFERENCES[wish.value])
        for wish in value.user_preferences
        if wish.value in PREFERENCES
    )
    # A person with a user name may hide the number: then nothing says which contact it is.
    return [change for change in changes if change.address != "+"]


def _change(key: str, number: str, *, granted: bool) -> ConsentChange:
    return ConsentChange(
        dedupe_key=key,
        channel=Channel.CHAT,
        address=f"+{number.removeprefix('+')}",
        granted=granted,
        code="whatsapp_start" if granted else "whatsapp_stop",
    )
