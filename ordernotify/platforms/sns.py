"""Amazon SNS: SMS to phone numbers, and topics whose subscribers (e-mail and others) AWS knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.recipients import Refused, read_phone
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Gives,
    Idempotency,
    Platform,
    Refusal,
    Webhook,
    by_status,
    each,
    failure,
)
from ordernotify.platforms._chat_words import squeezed
from ordernotify.platforms._sns_api import (
    TOPIC,
    SnsSettings,
    attributes,
    get,
    members,
    post,
    read_xml,
    text_of,
)
from ordernotify.platforms._sns_notifications import read, verify
from ordernotify.platforms._sns_setup import PROBE, provision

_K = FailureKind

# AWS's error codes, of answers and of the entries of a batch. A topic that is gone is one client's topic: it
# must not stop the platform for everybody else.
CODES: Final[Mapping[str, FailureKind]] = {
    word: kind
    for kind, words in {
        _K.AUTH: "AuthorizationError AccessDenied AccessDeniedException InvalidSecurity InvalidClientTokenId "
        "SignatureDoesNotMatch ExpiredToken RequestExpired IncompleteSignature MissingAuthenticationToken "
        "OptInRequired UnrecognizedClientException",
        _K.CONFIG: "KMSDisabled KMSInvalidState KMSNotFound KMSOptInRequired KMSAccessDenied InvalidAction",
        _K.RATE: "Throttling ThrottlingException Throttled KMSThrottling RequestLimitExceeded TooManyRequests",
        _K.TRANSIENT: "InternalError InternalFailure InternalServiceError ServiceUnavailable",
        _K.PERMANENT: "InvalidParameter ParameterValueInvalid InvalidParameterValue ValidationException "
        "ValidationError NotFound EndpointDisabled PlatformApplicationDisabled TooManyEntriesInBatchRequest "
        "EmptyBatchRequest BatchEntryIdsNotDistinct InvalidBatchEntryId BatchRequestTooLong InvalidState",
        _K.OPT_OUT: "OptedOut",
        _K.QUOTA: "MonthlySpendLimitReached",
    }.items()
    for word in words.split()
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {401: _K.AUTH, 403: _K.AUTH}
AMBIGUOUS: Final = frozenset({"InternalError", "InternalFailure", "InternalServiceError", "ServiceUnavailable"})

MAX_BATCH: Final = 10
# AWS counts bytes: 1600 of an SMS; 262144 of a whole batch, of which each of ten gets its share with room for
# its subject and attributes.
SMS_BYTES: Final = 1600
TOPIC_BYTES: Final = 25_000
_SUBJECT = 99
_CUT = "..."
_OK = 200


def read_address(text: str) -> str | Refusal:
    """Return a phone number in E.164 or a topic's ARN, or why the text is neither."""
    address = text.strip()
    if TOPIC.fullmatch(address):
        return address
    if address.startswith("arn:"):
        return Refusal(422, "address", "must be a topic's ARN: arn:aws:sns:us-east-1:123456789012:order-news")
    number = read_phone(address)
    return Refusal(422, "address", number.message) if isinstance(number, Refused) else number


def group(message: Message, _settings: Any) -> str:
    """Return what messages of one request share: the topic. Phone numbers go one by one."""
    return message.to if TOPIC.fullmatch(message.to) else f"{message.to} {message.reference}"


# ---- requests ----


def build(messages: Sequence[Message], context: Context) -> Call | Rejected:
    """Return the one request that publishes ``messages`` of one group."""
    settings: SnsSettings = context.settings
    first = messages[0]
    topic = TOPIC.fullmatch(first.to)
    if topic is None:
        return post(context, _sms(first, settings))
    if topic[1] != settings.region:
        return Rejected(_K.PERMANENT, "sns_other_region")
    if len(messages) == 1:
        return post(context, [("Action", "Publish"), ("TopicArn", first.to), *_entry(first)])
    parameters = [("Action", "PublishBatch"), ("TopicArn", first.to)]
    for place, message in enumerate(messages):
        prefix = f"PublishBatchRequestEntries.member.{place + 1}."
        parameters.append((f"{prefix}Id", str(place)))
        parameters += _entry(message, prefix)
    return post(context, parameters)


def _sms(message: Message, settings: SnsSettings) -> list[tuple[str, str]]:
    wanted = {
        "AWS.SNS.SMS.SMSType": ("String", "Transactional"),
        "AWS.SNS.SMS.SenderID": ("String", settings.sender_id),
        "AWS.SNS.SMS.MaxPrice": ("Number", settings.max_price_usd),
        "AWS.MM.SMS.OriginationNumber": ("String", settings.origination_number),
    }
    words = [("PhoneNumber", message.to), ("Message", fit(message.text, SMS_BYTES))]
    return [("Action", "Publish"), *words, *attributes(wanted)]


def _entry(message: Message, prefix: str = "") -> list[tuple[str, str]]:
    parameters = [(f"{prefix}Message", fit(message.text, TOPIC_BYTES))]
    if message.to.endswith(".fifo"):
        # One group a topic: its subscribers see an order's news in their order.
        parameters += [
            (f"{prefix}MessageGroupId", "ordernotify"),
            (f"{prefix}MessageDeduplicationId", message.reference),
        ]
    if message.notice_only:
        return parameters
    subject = subject_of(message.subject)
    if subject:
        parameters.append((f"{prefix}Subject", subject))
    # What subscribers filter by.
    marks = {"reference": ("String", message.reference), "status": ("String", message.status.value)}
    return parameters + attributes(marks, prefix)


def subject_of(text: str) -> str:
    """Return a title as SNS takes it: one line of printable characters, fewer than 100."""
    return squeezed("".join(mark if mark.isprintable() else " " for mark in text))[:_SUBJECT].rstrip()


def fit(text: str, limit: int) -> str:
    """Return ``text`` cut to ``limit`` bytes of UTF-8, never inside a character."""
    whole = text.encode("utf-8", "replace")
    if len(whole) <= limit:
        return text
    return whole[: limit - len(_CUT)].decode("utf-8", "ignore") + _CUT


def converse(messages: Sequence[Message], context: Context) -> Conversation:
    """Publish ``messages`` of one group; before an SMS, ask whether the person opted out."""
    first = messages[0]
    settings: SnsSettings = context.settings
    if settings.check_opt_outs and TOPIC.fullmatch(first.to) is None:
        question = [("Action", "CheckIfPhoneNumberIsOptedOut"), ("phoneNumber", first.to)]
        answer = yield get(context, question)
        if (stopped := _opted_out(answer, context.now)) is not None:
            return each(stopped, messages)
    call = build(messages, context)
    if isinstance(call, Rejected):
        return each(call, messages)
    answer = yield call
    return read_answer(answer, messages, context)


def _opted_out(answer: Answer, now: datetime) -> Outcome | None:
    """Return why the SMS must not be sent, None when it may."""
    if answer.status == _OK:
        said = text_of(read_xml(answer), "CheckIfPhoneNumberIsOptedOutResult", "isOptedOut")
        if said == "false":
            return None
        if said == "true":
            return Rejected(_K.OPT_OUT, "sns_opted_out")
        return Deferred(_K.TRANSIENT, "sns_unreadable")
    outcome = _refused(answer, now)
    # Nothing was sent yet, whatever became of the question.
    if isinstance(outcome, Deferred):
        return Deferred(outcome.kind, outcome.code, retry_after_s=outcome.retry_after_s)
    return outcome


# ---- answers ----


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what SNS made of each message: its own codes first, the HTTP status second."""
    if answer.status != _OK:
        return each(_refused(answer, context.now), messages)
    root = read_xml(answer)
    if message_id := text_of(root, "PublishResult", "MessageId"):
        return each(Accepted(message_id, "sns_200"), messages)
    known: dict[str, Outcome] = {}
    for entry in members(root, "PublishBatchResult", "Successful"):
        known[text_of(entry, "Id")] = Accepted(text_of(entry, "MessageId"), "sns_200")
    for entry in members(root, "PublishBatchResult", "Failed"):
        fault = text_of(entry, "SenderFault") == "true"
        known[text_of(entry, "Id")] = _failed(text_of(entry, "Code"), ours=fault)
    unsaid = Deferred(_K.TRANSIENT, "sns_unreadable", ambiguous=True)
    return [known.get(str(place), unsaid) for place in range(len(messages))]


def _failed(code: str, *, ours: bool) -> Outcome:
    """Return the outcome of an entry that SNS reports as not published: never ambiguous."""
    kind = CODES.get(code, _K.PERMANENT if ours else _K.TRANSIENT)
    return failure(kind, _word(code, "batch"))


def _refused(answer: Answer, now: datetime) -> Outcome:
    code = text_of(read_xml(answer), "Error", "Code")
    word = _word(code, str(answer.status))
    if kind := CODES.get(code):
        return failure(kind, word, retry_after_s=answer.retry_after_s(now), ambiguous=code in AMBIGUOUS)
    other = BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    return by_status(answer, now, code=word) or failure(other, word)


def _word(code: str, otherwise: str) -> str:
    return f"sns_{code if re.fullmatch(r'[A-Za-z0-9.]{1,64}', code) else otherwise}"


PLATFORM = Platform(
    name="sns",
    title="Amazon SNS",
    settings=SnsSettings,
    channels=frozenset({Channel.SMS, Channel.EMAIL}),
    level=Level.C0,
    address="phone number, E.164, or a topic's ARN",
    example="+12025550123",
    read_address=read_address,
    converse=converse,
    batch=MAX_BATCH,
    group=group,
    idempotency=Idempotency.NONE,
    idempotency_note="Only FIFO topics drop a repetition of our reference, and for 5 minutes; nothing can be asked.",
    webhook=Webhook(
        gives=frozenset({Gives.RECEIPTS, Gives.CONSENTS}),
        verify=verify,
        read=read,
        signature="Signature: RSA over the listed fields (SHA-1 or SHA-256), from a topic on the allow-list",
    ),
    probe=PROBE,
    provision=provision,
    per_second=20.0,
)
