"""Mailgun: e-mail to many people a call, each with variables of their own; signed events come back."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import STOPS_PLATFORM, Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Gives,
    Idempotency,
    Lookup,
    Platform,
    Webhook,
    by_status,
    each,
    failure,
    json_body,
)
from ordernotify.platforms._mail import form_with_files, line_fault, read_address
from ordernotify.platforms._mailgun_events import REFERENCE, read, verify
from ordernotify.platforms._mailgun_setup import PROBE, MailgunSettings, login, provision

_K = FailureKind

# Mailgun has no error codes: what its messages say, in lower case; the first that fits decides.
TEXTS: Final[Sequence[tuple[str, FailureKind, str]]] = (
    ("limit exceeded", _K.RATE, "limit_exceeded"),
    ("not allowed to send", _K.CONFIG, "domain_not_allowed"),
    ("for test purposes", _K.CONFIG, "test_domain"),
    ("domain not found", _K.CONFIG, "domain_not_found"),
    ("from parameter", _K.CONFIG, "from"),
    ("'from' parameter", _K.CONFIG, "from"),
)
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    401: _K.AUTH,
    402: _K.QUOTA,
    403: _K.AUTH,
    404: _K.CONFIG,  # no such domain, or the other region's
    405: _K.CONFIG,
    413: _K.PERMANENT,
}
_WRONG_URL: Final = "Mailgun Magnificent API"  # greets whoever asks for a path that does not exist
_AGAIN = re.compile(r"try again after (?:(\d{1,9}) seconds?|([^()]{10,40}))", re.IGNORECASE)
_OK, _BAD_REQUEST = 200, 400
_BATCH: Final = 1000
_MOST_CALLS: Final = 64
_PAGE: Final = 300
# Events may be listed this long after they happened.
_EVENTS_LATE_S: Final = 60.0
_CLOCK_SKEW = timedelta(seconds=60)
# Mailgun would put a value, or nothing, in the place of these; it knows no way to write them as they are.
_PLACEHOLDER = re.compile(r"%(?=(?:recipient|(?:tag_|mailing_list_)?unsubscribe_)[\w.-]*%)", re.IGNORECASE)
_WORD_JOINER: Final = "\u2060"  # has no width


# ---- requests ----


def build(messages: Sequence[Message], context: Context) -> Call:
    """Return the request that mails ``messages`` of one group to distinct addresses; nobody sees another's."""
    settings: MailgunSettings = context.settings
    first = messages[0]
    html = "" if first.notice_only else first.html
    variables = {message.to: {REFERENCE: message.reference} for message in messages}
    fields: list[tuple[str, str]] = [
        ("from", str(Address(settings.from_name, addr_spec=settings.from_email))),
        *(("to", message.to) for message in messages),
        ("subject", _PLACEHOLDER.sub(f"%{_WORD_JOINER}", first.subject)),
        ("text", _PLACEHOLDER.sub(f"%{_WORD_JOINER}", first.text)),
        *((("html", _PLACEHOLDER.sub("&#37;", html)),) if html else ()),
        ("recipient-variables", json_body(variables).decode()),
        (f"v:{REFERENCE}", f"%recipient.{REFERENCE}%"),
        ("h:Auto-Submitted", "auto-generated"),
        *((("h:Reply-To", settings.reply_to),) if settings.reply_to else ()),
        *(("o:tag", tag) for tag in settings.tags),
        ("o:tracking", "yes" if settings.tracking else "no"),
        ("o:require-tls", "yes" if settings.require_tls else "no"),
        *((("o:testmode", "yes"),) if settings.test_mode else ()),
    ]
    kind, body = ("application/x-www-form-urlencoded", urlencode(fields).encode())
    if first.attachments:
        kind, body = form_with_files(fields, first.attachments, boundary=f"ordernotify-{first.reference}")
    headers = {"content-type": kind, **login(settings)}
    return Call("POST", f"{settings.base_url}/v3/{settings.domain}/messages", headers, body)


def group(message: Message, _settings: MailgunSettings) -> str:
    """Return what messages of one call must share: the very same words and files."""
    words = f"{message.notice_only}\0{message.subject}\0{message.text}\0{message.html}"
    return hashlib.sha256(b"\0".join([words.encode(), *(one.content for one in message.attachments)])).hexdigest()


def converse(messages: Sequence[Message], context: Context) -> Conversation:
    """Send ``messages`` of one group.

    One bad address fails a call and is not named, so a refused call is cut in two until it stands alone.
    """
    if line_fault("subject", messages[0].subject):
        return each(Rejected(_K.PERMANENT, "mailgun_subject"), messages)
    outcomes: dict[int, Outcome] = {}
    rest: Outcome = Deferred(_K.TRANSIENT, "mailgun_spared", retry_after_s=0.0)
    waiting = deque(_rounds(messages))
    for _ in range(_MOST_CALLS):
        if not waiting:
            break
        places = waiting.popleft()
        answer = yield build([messages[place] for place in places], context)
        outcome = _outcome(answer, context.now)
        if answer.status == _BAD_REQUEST and _is_about_one(outcome) and len(places) > 1:
            middle = len(places) // 2
            waiting.extendleft((places[middle:], places[:middle]))
            continue
        outcomes.update(dict.fromkeys(places, outcome))
        if isinstance(outcome, Deferred) or (isinstance(outcome, Rejected) and outcome.kind in STOPS_PLATFORM):
            # What was not yet sent would fare no better, but it surely was not sent.
            rest = replace(outcome, ambiguous=False) if isinstance(outcome, Deferred) else outcome
            break
    return [outcomes.get(place, rest) for place in range(len(messages))]


def _is_about_one(outcome: Outcome) -> bool:
    return isinstance(outcome, Rejected) and outcome.kind is _K.PERMANENT


def _rounds(messages: Sequence[Message]) -> list[list[int]]:
    """Return the messages' places in as few calls as possible without an address twice: it has one set of variables."""
    rounds: list[list[int]] = []
    count: dict[str, int] = {}
    for place, message in enumerate(messages):
        number = count.get(message.to.casefold(), 0)
        count[message.to.casefold()] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    return rounds


# ---- answers ----


def _outcome(answer: Answer, now: datetime) -> Outcome:
    body = answer.json()
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    if answer.status == _OK:
        if isinstance(found := said.get("id"), str) and found:
            return Accepted(found.strip("<>"), "mailgun_200")
        if _WRONG_URL in answer.text():
            return Rejected(_K.CONFIG, "mailgun_wrong_url")
        return Deferred(_K.TRANSIENT, "mailgun_unreadable", ambiguous=True)
    text = str(said.get("message", ""))
    row = next(((kind, word) for part, kind, word in TEXTS if part in text.lower()), None)
    wait_s = _wait_s(answer, text, now)
    if row is not None:
        return failure(row[0], f"mailgun_{row[1]}", retry_after_s=wait_s)
    code = f"mailgun_{answer.status}"
    busy = by_status(answer, now, code=code)
    if isinstance(busy, Deferred):
        return replace(busy, retry_after_s=wait_s)
    return failure(BY_HTTP_STATUS.get(answer.status, _K.PERMANENT), code)


def _wait_s(answer: Answer, text: str, now: datetime) -> float | None:
    """Return the seconds to wait: by the header, else by the text, which names seconds or a date."""
    by_header = answer.retry_after_s(now)
    found = _AGAIN.search(text)
    if by_header is not None or found is None:
        return by_header
    if found[1]:
        return float(found[1])
    try:
        when = parsedate_to_datetime(found[2].strip(" ."))
    except ValueError:
        return None
    return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds())


# ---- asked, when an answer was lost ----


def _ask(message: Message, context: Context, began: datetime) -> Call:
    """Return the request for what happened to this person's mails since just before the attempt began."""
    settings: MailgunSettings = context.settings
    begin = int((began - _CLOCK_SKEW).timestamp())
    query = urlencode({"begin": begin, "ascending": "yes", "limit": _PAGE, "recipient": message.to})
    url = f"{settings.base_url}/v3/{settings.domain}/events?{query}"
    return Call("GET", url, login(settings), secrets=(query,))


def _found(answer: Answer, message: Message) -> Outcome:
    body = answer.json()
    listed = body.get("items") if isinstance(body, dict) else None
    if answer.status != _OK or not isinstance(listed, list):
        return Deferred(_K.TRANSIENT, f"mailgun_{answer.status}")
    for entry in listed:
        variables = entry.get("user-variables") if isinstance(entry, dict) else None
        if isinstance(variables, dict) and variables.get(REFERENCE) == message.reference:
            return Accepted(_id_of(entry), "mailgun_found")
    if len(listed) >= _PAGE:
        return Deferred(_K.TRANSIENT, "mailgun_more_pages")
    return Rejected(_K.PERMANENT, "not_found")


def _id_of(entry: Mapping[str, Any]) -> str:
    found: Any = entry
    for name in ("message", "headers", "message-id"):
        found = found.get(name) if isinstance(found, dict) else None
    return found.strip("<>") if isinstance(found, str) else ""


PLATFORM = Platform(
    name="mailgun",
    title="Mailgun",
    settings=MailgunSettings,
    channels=frozenset({Channel.EMAIL}),
    level=Level.C0,
    address="e-mail address",
    example="buyer@example.com",
    read_address=read_address,
    converse=converse,
    batch=_BATCH,
    attachment_bytes=20_000_000,  # 25 MB a mail
    group=group,
    idempotency=Idempotency.LOOKUP,
    idempotency_note="Drops no repetition; its events of the address are searched for our reference.",
    lookup=Lookup(build=_ask, read=_found, settles_after_s=_EVENTS_LATE_S),
    webhook=Webhook(
        gives=frozenset({Gives.RECEIPTS, Gives.CONSENTS}),
        verify=verify,
        read=read,
        signature="signature in the body: HMAC-SHA256 over timestamp and a token used once; within 12 hours",
    ),
    probe=PROBE,
    provision=provision,
)
