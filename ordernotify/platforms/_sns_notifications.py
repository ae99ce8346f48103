"""SNS's notifications over HTTPS: signed, from topics of ours; reports of SMS, and what people answer."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final
from urllib.parse import quote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from pydantic import Field

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange, DeliveryStatus, Receipt
from ordernotify.platforms._base import Call, Inbound, Received, Refusal, Reply
from ordernotify.platforms._chat_words import said
from ordernotify.platforms._reading import Foreign, Word, parse, read_json, read_moment, read_value
from ordernotify.platforms._sns_api import API_VERSION, SnsSettings, certificates

NOTIFICATION: Final = "Notification"
SUBSCRIBE: Final = "SubscriptionConfirmation"
UNSUBSCRIBE: Final = "UnsubscribeConfirmation"

_CONFIRMED = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
# What is signed of each type, in this order; a subject only where there is one.
SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SUBSCRIBE: _CONFIRMED,
    UNSUBSCRIBE: _CONFIRMED,
}
HASHES: Final[Mapping[str, HashAlgorithm]] = {
    "1": SHA1(),  # noqa: S303 - what SNS signs with until a topic is told otherwise
    "2": SHA256(),
}
_HOST = re.compile(r"sns\.[a-zA-Z0-9-]{3,}\.amazonaws\.com(\.cn)?")
_TOKEN = re.compile(r"[A-Za-z0-9]{1,2000}")
# SNS repeats for an hour at the most; an older one is a replay, which could undo a later STOP.
_WINDOW = timedelta(hours=2)

_S = DeliveryStatus

ACCEPTED_BY_PHONE: Final = "Message has been accepted by phone"
# Why an SMS did not arrive, in SNS's words. What may pass another time is FAILED: a person decides.
FAILURES: Final[Mapping[str, tuple[DeliveryStatus, str]]] = {
    "Blocked as spam by phone carrier": (_S.BOUNCED, "spam"),
    "Destination is on a blocked list": (_S.BOUNCED, "blocked_destination"),
    "Invalid phone number": (_S.BOUNCED, "invalid_number"),
    "Message body is invalid": (_S.REJECTED, "invalid_body"),
    "Phone carrier has blocked this message": (_S.BOUNCED, "blocked_by_carrier"),
    "Phone carrier is currently unreachable/unavailable": (_S.FAILED, "carrier_unreachable"),
    "Phone has blocked SMS": (_S.BOUNCED, "blocked_by_phone"),
    "Phone is on a blocked list": (_S.BOUNCED, "blocked_phone"),
    "Phone is currently unreachable/unavailable": (_S.FAILED, "phone_unreachable"),
    "Phone number is opted out": (_S.REJECTED, "opted_out"),
    "This delivery would exceed max price": (_S.FAILED, "max_price"),
    "Unknown error attempting to reach phone": (_S.FAILED, "unknown"),
}
OPTED_OUT: Final = "Phone number is opted out"


# As it came: a cleaned text would not fit its signature.
_Raw = Annotated[str, Field(strict=True, max_length=1_048_576)]


class _Signed(Foreign):
    type: _Raw = Field(alias="Type")
    message_id: _Raw = Field(alias="MessageId")
    topic_arn: _Raw = Field(alias="TopicArn")
    message: _Raw = Field(alias="Message")
    timestamp: _Raw = Field(alias="Timestamp")
    signature: _Raw = Field(alias="Signature")
    signature_version: _Raw = Field(alias="SignatureVersion")
    signing_cert_url: _Raw = Field(alias="SigningCertURL")
    subject: _Raw | None = Field(default=None, alias="Subject")
    token: _Raw | None = Field(default=None, alias="Token")
    subscribe_url: _Raw | None = Field(default=None, alias="SubscribeURL")


def _is_aws(url: str) -> bool:
    """Return whether a URL is one of SNS itself: nobody else's may be believed or called."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and _HOST.fullmatch(parts.netloc) is not None
    except ValueError:
        return False


def verify(inbound: Inbound, settings: SnsSettings, now: datetime) -> Refusal | None:
    """Return why a request is no notification of SNS from a topic of ours, None when it is."""
    if not settings.signing_certificate:
        return Refusal(401, "Signature", "cannot be checked: set signing_certificate")
    signed = read_json(_Signed, inbound.body)
    if isinstance(signed, Refusal):
        return Refusal(401, signed.field, signed.message)
    at = read_moment(signed.timestamp)
    url = signed.signing_cert_url
    checks = (
        (signed.type in SIGNED, "Type", f"must be one of {', '.join(SIGNED)}"),
        (
            signed.topic_arn in settings.notification_topics,
            "TopicArn",
            "must be one of notification_topics: every AWS account can sign",
        ),
        (
            _is_aws(url) and urlsplit(url).path.endswith(".pem"),
            "SigningCertURL",
            "must be https://sns.<region>.amazonaws.com/....pem",
        ),
        (signed.signature_version in HASHES, "SignatureVersion", "must be 1 or 2"),
        (at is not None and abs(now - at) <= _WINDOW, "Timestamp", "must be within 2 hours of now"),
        (_is_genuine(signed, settings, now), "Signature", "must be that of the fields, by the signing_certificate"),
    )
    return next((Refusal(401, name, rule) for good, name, rule in checks if not good), None)


def canonical(signed: _Signed) -> bytes:
    """Return the bytes that SNS signed."""
    values = signed.model_dump(by_alias=True)
    names = (name for name in SIGNED.get(signed.type, ()) if values.get(name) is not None)
    return "".join(f"{name}\n{values[name]}\n" for name in names).encode()


def _is_genuine(signed: _Signed, settings: SnsSettings, now: datetime) -> bool:
    hashing = HASHES.get(signed.signature_version)
    try:
        signature = base64.b64decode(signed.signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    if hashing is None:
        return False
    for certificate in certificates(settings.signing_certificate):
        key = certificate.public_key()
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            continue
        if not isinstance(key, RSAPublicKey):
            continue
        try:
            key.verify(signature, canonical(signed), PKCS1v15(), hashing)
        except InvalidSignature:
            continue
        return True
    return False


# ---- what it says ----


def read(inbound: Inbound, settings: SnsSettings, _now: datetime) -> Received | Refusal:
    """Return what a verified notification says: a report, a person's word, or a subscription to confirm."""
    signed = read_json(_Signed, inbound.body)
    if isinstance(signed, Refusal):
        return signed
    if signed.type == SUBSCRIBE:
        return _confirm(signed, settings)
    if signed.type == UNSUBSCRIBE:
        return Received(reply=Reply())
    return _read_message(signed)


def _confirm(signed: _Signed, settings: SnsSettings) -> Received | Refusal:
    if not _is_aws(signed.subscribe_url or ""):
        return Refusal(422, "SubscribeURL", "must be https://sns.<region>.amazonaws.com/...")
    token = signed.token or ""
    if not _TOKEN.fullmatch(token):
        return Refusal(422, "Token", "must be the token of the subscription, letters and digits")
    # What SubscribeURL would do, at our own endpoint: no address out of a request is ever called.
    query = f"Action=ConfirmSubscription&TopicArn={quote(signed.topic_arn, safe='')}&Token={token}"
    url = f"{settings.endpoint}/?{query}&Version={API_VERSION}"
    return Received(confirm=(Call("GET", url, secrets=(token,)),), reply=Reply())


class _Notified(Foreign):
    message_id: Word = Field(default="", alias="messageId")


class _Delivered(Foreign):
    response: Word = Field(default="", alias="providerResponse")


class _Report(Foreign):
    """One line of the log of SMS deliveries."""

    notification: _Notified = _Notified()
    delivery: _Delivered = _Delivered()
    status: Word = ""


class _Answered(Foreign):
    """One SMS to our own number."""

    origination_number: Word = Field(default="", alias="originationNumber")
    body: Word = Field(default="", alias="messageBody")
    inbound_message_id: Word = Field(default="", alias="inboundMessageId")


def _read_message(signed: _Signed) -> Received | Refusal:
    value = parse(signed.message.encode(), within="Message")
    if not isinstance(value, dict):
        return Received(reply=Reply())  # somebody's own words to a topic of ours
    if "notification" in value and "delivery" in value:
        report = read_value(_Report, value, within="Message")
        return report if isinstance(report, Refusal) else _receipt(report, signed)
    if "originationNumber" in value:
        answered = read_value(_Answered, value, within="Message")
        return answered if isinstance(answered, Refusal) else _consent(answered, signed)
    return Received(reply=Reply())


def _receipt(report: _Report, signed: _Signed) -> Received | Refusal:
    message_id, response = report.notification.message_id, report.delivery.response
    if not message_id:
        return Refusal(422, "Message.notification.messageId", "is missing: it names the message")
    status: DeliveryStatus | None = None
    word = "unlisted"
    if report.status == "SUCCESS":
        # By the carrier is not yet by the phone.
        by_phone = response == ACCEPTED_BY_PHONE
        status, word = (_S.DELIVERED, "delivered") if by_phone else (_S.SENT, "accepted_by_carrier")
    elif report.status == "FAILURE":
        status, word = FAILURES.get(response, (_S.FAILED, "unlisted"))
    receipt = Receipt(
        dedupe_key=f"{message_id}:{word}",
        status=status,
        occurred_at=read_moment(signed.timestamp),
        provider_ref=message_id,
        code=f"sns_{word}",
        opt_out=response == OPTED_OUT,
    )
    return Received(receipts=(receipt,), reply=Reply())


def _consent(answered: _Answered, signed: _Signed) -> Received:
    granted = said(answered.body)
    if granted is None or not answered.origination_number:
        return Received(reply=Reply())
    change = ConsentChange(
        dedupe_key=answered.inbound_message_id or signed.message_id,
        channel=Channel.SMS,
        address=answered.origination_number,
        granted=granted,
        code="sns_start" if granted else "sns_stop",
    )
    return Received(consents=(change,), reply=Reply())
