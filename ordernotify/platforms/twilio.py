"""Twilio Programmable Messaging: SMS to phone numbers; statuses and STOP words come back by webhook."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from ordernotify.core.channels import LIMITS, Channel, Level
from ordernotify.core.delivery import (
    Accepted,
    ConsentChange,
    Deferred,
    DeliveryStatus,
    FailureKind,
    Message,
    Outcome,
    Receipt,
    Rejected,
)
from ordernotify.core.recipients import Refused, read_phone
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Finding,
    Gives,
    Idempotency,
    Inbound,
    Lookup,
    Platform,
    Probe,
    Received,
    Refusal,
    Reply,
    Step,
    Webhook,
    by_status,
    each,
    failure,
)
from ordernotify.platforms._twilio_sdk import TwilioSettings, blank_message, load_sdk, read_form, sdk_call, verify

_K = FailureKind
_S = DeliveryStatus

# Twilio's error codes, of answers and of status callbacks. A code that is about one destination is PERMANENT
# even where only our set-up could change it: one number must not stop the platform for everybody else.
CODES: Final[Mapping[int, FailureKind]] = {
    **dict.fromkeys((20003, 20005, 20403, 30002), _K.AUTH),
    **dict.fromkeys((20404, 21603, 21606, 21212, 21609, 21655, 21656, 21701, 21703, 35118), _K.CONFIG),
    **dict.fromkeys((30018, 30024, 30032, 30034, 30035), _K.CONFIG),
    **dict.fromkeys((20429, 21611, 35125, 60728, 63017, 63018, 30001, 30022, 30023, 30027), _K.RATE),
    **dict.fromkeys((20500, 20503, 30003, 30008, 30017, 30410, 30450), _K.TRANSIENT),
    21610: _K.OPT_OUT,
    **dict.fromkeys((21408, 21608), _K.PERMANENT),  # this country not enabled; trial accounts
    **dict.fromkeys((21211, 21214, 21602, 21604, 21612, 21614, 21617, 21620, 21623, 21635), _K.PERMANENT),
    **dict.fromkeys((35111, 35114, 35115, 35117, 35126), _K.PERMANENT),
    **dict.fromkeys((30004, 30005, 30006, 30007, 30010, 30019, 63016, 63024), _K.PERMANENT),
}
AMBIGUOUS: Final = frozenset({20500, 20503})
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {401: _K.AUTH, 403: _K.AUTH, 404: _K.CONFIG}

STATUSES: Final[Mapping[str, DeliveryStatus]] = {
    **dict.fromkeys(("accepted", "scheduled", "queued", "sending", "sent"), _S.SENT),
    "delivered": _S.DELIVERED,
    "read": _S.READ,
    "undelivered": _S.BOUNCED,
    "failed": _S.REJECTED,
    "canceled": _S.FAILED,
    "partially_delivered": _S.FAILED,
}
_UNHAPPY = frozenset({"undelivered", "failed"})
_FINAL = frozenset({_K.PERMANENT, _K.OPT_OUT})

# What Twilio itself obeys when it is the whole message; it answers the person, so we never do.
KEYWORDS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"), False),
    **dict.fromkeys(("START", "YES", "UNSTOP"), True),
}

_NO_TWIML = Reply(body=b"<Response/>", content_type="text/xml; charset=utf-8")
_CUT = "..."  # three dots stay in the GSM alphabet, an ellipsis would double the price
_CLOCK_SKEW = timedelta(seconds=10)
_PAGE = 100
_OK, _CREATED = 200, 201


def read_address(text: str) -> str | Refusal:
    """Return a phone number in E.164, or why it is none."""
    number = read_phone(text)
    return Refusal(422, "address", number.message) if isinstance(number, Refused) else number


# ---- requests: the SDK shapes them, the wire sends them ----


def build(messages: Sequence[Message], context: Context) -> Call:
    """Return the request that creates one Message resource."""
    (message,) = messages
    settings: TwilioSettings = context.settings
    said = {"to": message.to, "body": fit(message.text)}
    if settings.status_callbacks and context.webhook_url:
        said["status_callback"] = callback_url(context.webhook_url, message.reference)
    return blank_message(settings, frozenset(said)).filled(said)


def callback_url(webhook_url: str, reference: str = "") -> str:
    """Return where Twilio reports statuses; the fragment makes it retry, which it does not do by itself."""
    query = f"{'&' if '?' in webhook_url else '?'}d={quote(reference, safe='')}" if reference else ""
    return f"{webhook_url}{query}#rc=5&rp=all"


def fit(text: str) -> str:
    """Return ``text`` cut to what Twilio takes, counted as SMS counts: in UTF-16 units."""
    limit, units = LIMITS[Channel.SMS].text, text.encode("utf-16-le")
    if len(units) <= 2 * limit:
        return text
    return units[: 2 * (limit - len(_CUT))].decode("utf-16-le", "ignore") + _CUT


# ---- answers ----


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what Twilio made of a message: its own code first, the HTTP status second."""
    return each(_outcome(answer, context.now), messages)


def _outcome(answer: Answer, now: datetime) -> Outcome:
    body = answer.json()
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    if answer.status in {_OK, _CREATED}:
        if sid := said.get("sid"):
            return Accepted(str(sid), f"twilio_{answer.status}")
        return Deferred(_K.TRANSIENT, "twilio_unreadable", ambiguous=True)
    code = said.get("code")
    if not isinstance(code, int):
        code = answer.status
    word = f"twilio_{code}"
    if kind := CODES.get(code):
        return failure(kind, word, retry_after_s=answer.retry_after_s(now), ambiguous=code in AMBIGUOUS)
    kind = BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    return by_status(answer, now, code=word) or failure(kind, word)


def _ask(message: Message, context: Context, began: datetime) -> Call:
    """Return the request for what was sent to this number since just before the attempt began."""
    since = began - _CLOCK_SKEW
    return sdk_call(
        context.settings,
        lambda client: client.messages.page(to=message.to, date_sent_after=since, page_size=_PAGE),
    )


def _found(answer: Answer, message: Message) -> Outcome:
    body = answer.json()
    listed = body.get("messages") if isinstance(body, dict) else None
    if answer.status != _OK or not isinstance(listed, list):
        return Deferred(_K.TRANSIENT, f"twilio_{answer.status}")
    words = _letters(fit(message.text))
    for entry in listed:
        ours = str(entry["direction"]).startswith("outbound") and entry["to"] == message.to
        if ours and _letters(str(entry["body"])) == words:
            return Accepted(str(entry["sid"]), "twilio_found")
    if body.get("next_page_uri"):
        return Deferred(_K.TRANSIENT, "twilio_more_pages")
    return Rejected(_K.PERMANENT, "not_found")


def _letters(text: str) -> str:
    # SmartEncoded replaces quotes, dashes and spaces: only letters and digits are sure to come back.
    return "".join(mark for mark in unicodedata.normalize("NFKD", text) if mark.isalnum())


# ---- webhook ----


def read(inbound: Inbound, _settings: TwilioSettings, _now: datetime) -> Received | Refusal:
    """Return the receipt of a status callback, or the change of consent that a person's message is."""
    form = {name: values[-1] for name, values in read_form(inbound.body).items()}
    sid = form.get("MessageSid") or form.get("SmsSid")
    if not sid:
        return Refusal(422, "MessageSid", "is missing: it names the message")
    word = form.get("MessageStatus")
    if word is None:
        return _read_person(form, sid)
    code = form.get("ErrorCode", "")
    kind = CODES.get(int(code)) if code.isascii() and code.isdigit() else None
    status = STATUSES.get(word)
    if word in _UNHAPPY and kind is not None and kind not in _FINAL:
        status = _S.FAILED  # another try or another set-up may pass: a person decides
    receipt = Receipt(
        dedupe_key=f"{sid}:{word}",
        status=status,
        provider_ref=sid,
        reference=inbound.query.get("d", ""),
        code=f"twilio_{code}" if kind else f"twilio_{word}" if status else "twilio_unlisted",
        opt_out=kind is _K.OPT_OUT,
    )
    return Received(receipts=(receipt,))


def _read_person(form: Mapping[str, str], sid: str) -> Received | Refusal:
    if "Body" not in form or "From" not in form:
        return Refusal(422, "MessageStatus", "is missing, and so are From and Body: neither status nor message")
    # With Advanced Opt-Out the words are the customer's own, and Twilio says what they mean.
    word = form.get("OptOutType") or form["Body"].strip().rstrip(".!").upper()
    granted = KEYWORDS.get(word)
    if granted is None:
        return Received(reply=_NO_TWIML)
    change = ConsentChange(
        dedupe_key=sid,
        channel=Channel.SMS,
        address=form["From"],
        granted=granted,
        code="twilio_start" if granted else "twilio_stop",
    )
    return Received(consents=(change,), reply=_NO_TWIML)


# ---- setting up ----


def _find_credentials(context: Context) -> Call:
    return sdk_call(context.settings, lambda client: client.messages.page(page_size=1))


def _read_credentials(answer: Answer, context: Context) -> Sequence[Finding]:
    works = answer.status == _OK
    advice = f"HTTP {answer.status}: copy account_sid and auth_token, or the API key, from console.twilio.com"
    receipts = bool(context.webhook_url) and context.settings.status_callbacks
    return (
        Finding("credentials", ok=works, advice="" if works else advice),
        Finding("receipts", ok=receipts, advice="" if receipts else "set public_url and status_callbacks"),
    )


def provision(context: Context) -> Sequence[Step]:
    """Return how statuses and STOP words find their way to us."""
    settings: TwilioSettings = context.settings
    url = context.webhook_url
    sid = settings.messaging_service_sid
    if not sid:
        where = f"Phone Numbers > {settings.from_number} > Messaging > A message comes in: webhook {url}, POST"
        return (Step(title="STOP words of the number", instruction=f"In the console: {where}"),)
    wanted = {"status_callback": callback_url(url), "inbound_request_url": url, "inbound_method": "POST"}

    def is_set(answer: Answer) -> bool:
        service = answer.json()
        return isinstance(service, dict) and all(service.get(name) == wanted[name] for name in wanted)

    return (
        Step(
            title="Status callback and STOP words of the Messaging Service",
            find=sdk_call(settings, lambda client: client.messaging.v1.services(sid).fetch()),
            exists=is_set,
            make=sdk_call(settings, lambda client: client.messaging.v1.services(sid).update(**wanted)),
        ),
    )


PLATFORM = Platform(
    name="twilio",
    title="Twilio SMS",
    settings=TwilioSettings,
    channels=frozenset({Channel.SMS}),
    level=Level.C0,
    address="phone number, E.164",
    example="+12025550123",
    read_address=read_address,
    build=build,
    read_answer=read_answer,
    idempotency=Idempotency.LOOKUP,
    idempotency_note="Drops no repetition itself; the message list is searched by number, time and text.",
    lookup=Lookup(build=_ask, read=_found),
    webhook=Webhook(
        gives=frozenset({Gives.RECEIPTS, Gives.CONSENTS}),
        verify=verify,
        read=read,
        signature="X-Twilio-Signature: HMAC-SHA1 over URL and form fields (HMAC-SHA256 with a shared key)",
    ),
    probe=Probe(build=_find_credentials, read=_read_credentials),
    provision=provision,
    load=load_sdk,
    # No per_second: a sender's own rate (1 segment/s for a US number) is kept by Twilio's queue of 10 hours.
)
