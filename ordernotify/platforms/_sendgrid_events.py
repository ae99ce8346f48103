"""SendGrid's Event Webhook: signed lists of what became of mails, and of who wants none any more."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from sendgrid.helpers.eventwebhook import EventWebhook

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange, DeliveryStatus, Receipt
from ordernotify.platforms._base import Answer, Inbound, Received, Refusal

REFERENCE: Final = "on_reference"  # our name in custom_args, which come back in every event
SIGNATURE: Final = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP: Final = "X-Twilio-Email-Event-Webhook-Timestamp"

_S = DeliveryStatus

STATUSES: Final[Mapping[str, DeliveryStatus | None]] = {
    "processed": _S.SENT,
    "deferred": _S.SENT,  # SendGrid goes on trying for 72 hours
    "delivered": _S.DELIVERED,
    "bounce": _S.BOUNCED,
    "dropped": _S.REJECTED,
    "spamreport": _S.COMPLAINED,
    # Scanners and privacy proxies open and click too: no proof that a person read it.
    "open": None,
    "click": None,
}
DROPPED: Final[Mapping[str, str]] = {
    "Unsubscribed Address": "unsubscribed",
    "Spam Reporting Address": "spam_reporter",
    "Bounced Address": "bounced_address",
    "Invalid": "invalid",
    "Invalid SMTPAPI header": "invalid_header",
    "Spam Content": "spam_content",
    "Spam Content (if Spam Checker app enabled)": "spam_content",
    "Recipient List over Package Quota": "over_quota",
}
_OPTED_OUT = frozenset({"spamreport", "dropped_unsubscribed", "dropped_spam_reporter"})
CONSENTS: Final[Mapping[str, bool]] = {
    "unsubscribe": False,
    "group_unsubscribe": False,
    "group_resubscribe": True,
}

# SendGrid repeats an event for 24 hours, and does not say whether it signs it anew.
_WINDOW = timedelta(hours=48)
_YEAR_3000 = 32_503_680_000


@lru_cache(maxsize=8)
def verifier(public_key: str) -> EventWebhook:
    """Return the SDK's verifier for a public key; raises ValueError when it is none of an elliptic curve."""
    found = EventWebhook(public_key)
    if not isinstance(found.public_key, EllipticCurvePublicKey):
        raise ValueError("SendGrid signs with elliptic curves only")  # noqa: TRY004 - as for every other wrong key
    return found


def verify(inbound: Inbound, settings: Any, now: datetime) -> Refusal | None:
    """Return why a request is not SendGrid's, None when it is."""
    signature, stamp = inbound.header(SIGNATURE), inbound.header(TIMESTAMP)
    if not settings.webhook_public_key:
        return Refusal(401, SIGNATURE, "cannot be checked: set webhook_public_key")
    if not signature:
        return Refusal(401, SIGNATURE, "is missing: turn on the signature of the Event Webhook")
    if not re.fullmatch(r"[0-9]{1,12}", stamp) or abs(now.timestamp() - int(stamp)) > _WINDOW.total_seconds():
        return Refusal(401, TIMESTAMP, "must be the Unix time of the request, within 48 hours of now")
    try:
        genuine = verifier(settings.webhook_public_key).verify_signature(inbound.body.decode(), signature, stamp)
    except (binascii.Error, UnicodeDecodeError):  # no base64, or a body that SendGrid would not have sent
        genuine = False
    return None if genuine else Refusal(401, SIGNATURE, "must match the timestamp and the exact body")


def read(inbound: Inbound, _settings: Any, _now: datetime) -> Received | Refusal:
    """Return the receipts and changes of consent in a list of events."""
    events = Answer(200, body=inbound.body).json()
    if not isinstance(events, list):
        return Refusal(422, "body", "must be a JSON list of events")
    receipts: list[Receipt] = []
    consents: list[ConsentChange] = []
    for place, event in enumerate(events):
        match _read_event(event, f"[{place}]"):
            case Refusal() as refusal:
                return refusal
            case Receipt() as receipt:
                receipts.append(receipt)
            case ConsentChange() as change:
                consents.append(change)
    return Received(receipts=tuple(receipts), consents=tuple(consents))


def _read_event(event: object, where: str) -> Receipt | ConsentChange | Refusal | None:
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return Refusal(422, f"{where}.event", "must be the kind of event")
    word = event["event"]
    if word not in STATUSES and word not in CONSENTS:
        return None  # of the account, or of a kind that SendGrid added since
    key, at = event.get("sg_event_id"), event.get("timestamp")
    if not isinstance(key, str) or not key:
        return Refusal(422, f"{where}.sg_event_id", "must be the id of the event")
    if not isinstance(at, int) or not 0 < at < _YEAR_3000:
        return Refusal(422, f"{where}.timestamp", "must be a Unix time in seconds")
    if word in CONSENTS:
        return ConsentChange(
            dedupe_key=key,
            channel=Channel.EMAIL,
            address=str(event.get("email", "")),
            granted=CONSENTS[word],
            code=f"sendgrid_{word}",
        )
    detail = _detail(word, event)
    return Receipt(
        dedupe_key=key,
        status=STATUSES[word],
        occurred_at=datetime.fromtimestamp(at, UTC),
        provider_ref=str(event.get("sg_message_id", "")).partition(".")[0],
        reference=str(event.get(REFERENCE, "")),
        code=f"sendgrid_{detail}",
        opt_out=detail in _OPTED_OUT,
    )


def _detail(word: str, event: Mapping[str, Any]) -> str:
    if word == "dropped":
        return f"dropped_{DROPPED.get(str(event.get('reason', '')), 'unlisted')}"
    return "blocked" if word == "bounce" and event.get("type") == "blocked" else word
