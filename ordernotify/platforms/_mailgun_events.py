"""Mailgun's webhooks: one signed event a request, of what became of a mail or of who wants none any more."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretStr

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange, DeliveryStatus, Receipt
from ordernotify.core.recipients import Refused, read_email
from ordernotify.platforms._base import Inbound, Received, Refusal
from ordernotify.platforms._reading import Foreign, Word, read_json, rule
from ordernotify.platforms._signing import active

REFERENCE: Final = "reference"  # the variable v:reference, which comes back in every event
SIGNATURE: Final = "signature"

_S = DeliveryStatus

STATUSES: Final[Mapping[str, DeliveryStatus | None]] = {
    "accepted": _S.SENT,
    "rejected": _S.REJECTED,
    "delivered": _S.DELIVERED,
    "failed_temporary": _S.SENT,  # Mailgun goes on trying for hours
    "failed_permanent": _S.BOUNCED,
    "complained": _S.COMPLAINED,
    "unsubscribed": None,
    # Scanners and privacy proxies open and click too: no proof that a person read it.
    "opened": None,
    "clicked": None,
    "stored": None,
}
# Why a mail failed for good, with what is known then; every other reason is a bounce.
REASONS: Final[Mapping[str, DeliveryStatus]] = {
    "bounce": _S.BOUNCED,
    "generic": _S.BOUNCED,
    "espblock": _S.BOUNCED,
    "old": _S.BOUNCED,
    "suppress-bounce": _S.REJECTED,  # Mailgun keeps a list, and did not even try
    "suppress-unsubscribe": _S.REJECTED,
    "suppress-complaint": _S.REJECTED,
}
_OPTED_OUT: Final = frozenset({"complained", "unsubscribed", "suppress-unsubscribe", "suppress-complaint"})

# A webhook is repeated for about eight hours, and Mailgun does not say whether it is signed anew.
_WINDOW: Final = timedelta(hours=12)
_YEAR_3000: Final = 32_503_680_000


def _unix_time(value: object) -> datetime:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _YEAR_3000:
        return datetime.fromtimestamp(value, UTC)
    raise rule("must be a Unix time in seconds")


def _object(value: object) -> object:
    return value if isinstance(value, dict) else {}  # an empty one may be written as a list


class _Signature(Foreign):
    timestamp: str = Field(strict=True, pattern=r"^[0-9]{1,12}$")
    token: str = Field(strict=True, min_length=1, max_length=100)
    signature: str = Field(strict=True, min_length=1, max_length=200)


class _Signed(Foreign):
    signature: _Signature


class _Event(Foreign):
    event: Word
    timestamp: Annotated[datetime, BeforeValidator(_unix_time)]
    severity: Word = ""
    reason: Word = ""
    recipient: Word = ""
    variables: Annotated[Mapping[str, Any], BeforeValidator(_object)] = Field(default={}, alias="user-variables")


class _Body(Foreign):
    signature: _Signature
    data: _Event = Field(alias="event-data")


def verify(inbound: Inbound, settings: Any, now: datetime) -> Refusal | None:
    """Return why a request is not Mailgun's, None when it is.

    The signature covers the time and a token used once, not the event. ``read`` makes the token the key of
    the receipt, so that a signature seen once cannot carry another event later.
    """
    key: SecretStr | None = settings.webhook_signing_key
    if not active(key):
        return Refusal(401, SIGNATURE, "cannot be checked: set webhook_signing_key")
    signed = read_json(_Signed, inbound.body)
    if isinstance(signed, Refusal):
        return Refusal(401, signed.field, signed.message)
    proof = signed.signature
    if abs(now.timestamp() - int(proof.timestamp)) > _WINDOW.total_seconds():
        return Refusal(401, "signature.timestamp", "must be the Unix time of the request, within 12 hours of now")
    offered = proof.signature.encode("utf-8", "replace")
    words = f"{proof.timestamp}{proof.token}".encode("utf-8", "replace")
    expected = [hmac.new(one.encode(), words, hashlib.sha256).hexdigest().encode() for one in active(key)]
    if any([hmac.compare_digest(offered, one) for one in expected]):  # noqa: C419 - all are compared, for equal time
        return None
    return Refusal(401, "signature.signature", "must match the timestamp and the token")


def read(inbound: Inbound, _settings: Any, _now: datetime) -> Received | Refusal:
    """Return the receipt of an event, and the change of consent that it is when somebody unsubscribed."""
    body = read_json(_Body, inbound.body)
    if isinstance(body, Refusal):
        return body
    event, key = body.data, body.signature.token
    word = f"failed_{event.severity}" if event.event == "failed" else event.event
    reason = event.reason if word == "failed_permanent" and event.reason in REASONS else ""
    known = reason or word
    receipt = Receipt(
        dedupe_key=key,
        status=REASONS[reason] if reason else STATUSES.get(word),
        occurred_at=event.timestamp,
        # Not Mailgun's id: it is one for all the people of a request.
        reference=_reference(event.variables),
        code=f"mailgun_{known}" if known in REASONS or known in STATUSES else "mailgun_unlisted",
        opt_out=known in _OPTED_OUT,
    )
    if word != "unsubscribed":
        return Received(receipts=(receipt,))
    address = read_email(event.recipient)
    if isinstance(address, Refused):
        return Refusal(422, "event-data.recipient", address.message)
    change = ConsentChange(
        dedupe_key=key, channel=Channel.EMAIL, address=address, granted=False, code="mailgun_unsubscribed"
    )
    return Received(receipts=(receipt,), consents=(change,))


def _reference(variables: Mapping[str, Any]) -> str:
    value = variables.get(REFERENCE)
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) else ""
