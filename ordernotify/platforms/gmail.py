"""Gmail: e-mail from a Google mailbox, one message a call; bounces come back to the mailbox, not to us."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Finding,
    Idempotency,
    Lookup,
    Platform,
    Probe,
    Refusal,
    Step,
    by_status,
    each,
    failure,
    json_body,
)
from ordernotify.platforms._gmail_access import SCOPES, TOKEN, GmailSettings
from ordernotify.platforms._mail import Letter, compose, message_id, read_address
from ordernotify.platforms._oauth import authorization, token_refused
from ordernotify.platforms._reading import read_moment

_K = FailureKind

# Google's reasons, of the list ``error.errors``.
REASONS: Final[Mapping[str, FailureKind]] = {
    **dict.fromkeys(("rateLimitExceeded", "userRateLimitExceeded", "concurrentLimitExceeded"), _K.RATE),
    **dict.fromkeys(("dailyLimitExceeded", "quotaExceeded"), _K.QUOTA),
    **dict.fromkeys(("authError", "insufficientPermissions", "domainPolicy"), _K.AUTH),
    # A service account that acts for nobody, a user without Gmail, an API that is not switched on.
    **dict.fromkeys(("failedPrecondition", "accessNotConfigured"), _K.CONFIG),
    **dict.fromkeys(("invalidArgument", "uploadTooLarge"), _K.PERMANENT),
    **dict.fromkeys(("backendError", "internalError"), _K.TRANSIENT),
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    401: _K.AUTH,
    403: _K.AUTH,
    404: _K.CONFIG,  # of no message's making: the mailbox is always "me"
    413: _K.PERMANENT,
}
_RETRY_AT = re.compile(r"[Rr]etry after (\d{4}-\d{2}-\d{2}T[\d:.]{8,20}Z)")
_LISTED_LATE_S: Final = 30.0  # until sent mail is surely found by a search
_CLOCK_SKEW = timedelta(seconds=10)
_MAILBOX: Final = "/gmail/v1/users/me"
_OK, _UNAUTHORIZED, _SERVER_ERROR = 200, 401, 500
_PER_SECOND: Final = 1.0  # 6,000 quota units a minute for one user, 100 for each message


# ---- requests ----


def build(messages: Sequence[Message], context: Context) -> Call | Rejected:
    """Return the request that sends one message as raw MIME, or which part of it no mail can hold."""
    (message,) = messages
    settings: GmailSettings = context.settings
    raw = compose(
        Letter(
            sender=settings.from_email,
            sender_name=settings.from_name,
            reply_to=settings.reply_to,
            to=message.to,
            subject=message.subject,
            text=message.text,
            html="" if message.notice_only else message.html,
            message_id=message_id(message.reference, settings.from_email),
            date=context.now,
            headers=settings.headers,
            attachments=message.attachments,
        )
    )
    if isinstance(raw, Refusal):
        return Rejected(_K.PERMANENT, f"gmail_{raw.field}")
    body = json_body({"raw": base64.urlsafe_b64encode(raw).decode("ascii")})
    headers = {"content-type": "application/json", **authorization(context)}
    return Call("POST", f"{settings.base_url}{_MAILBOX}/messages/send", headers, body)


# ---- answers ----


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what Gmail made of a message: Google's reason first, the HTTP status second."""
    return each(_outcome(answer, context), messages)


def _outcome(answer: Answer, context: Context) -> Outcome:
    body = answer.json()
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    if answer.status == _OK:
        if isinstance(found := said.get("id"), str) and found:
            return Accepted(found, "gmail_200")
        return Deferred(_K.TRANSIENT, "gmail_unreadable", ambiguous=True)
    error = said.get("error")
    reason = _reason(error)
    code = f"gmail_{reason or answer.status}"
    if answer.status == _UNAUTHORIZED:
        return token_refused(context, code)
    wait_s = _wait_s(answer, error, context.now)
    kind = REASONS.get(reason)
    if kind is None and (busy := by_status(answer, context.now, code=code)):
        return Deferred(busy.kind, code, wait_s, busy.ambiguous) if isinstance(busy, Deferred) else busy
    kind = kind or BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    return failure(kind, code, retry_after_s=wait_s, ambiguous=answer.status >= _SERVER_ERROR)


def _reason(error: object) -> str:
    listed = error.get("errors") if isinstance(error, dict) else None
    entries = listed if isinstance(listed, list) else []
    reasons = (str(entry.get("reason")) for entry in entries if isinstance(entry, dict))
    return next((reason for reason in reasons if reason in REASONS), "")


def _wait_s(answer: Answer, error: object, now: datetime) -> float | None:
    """Return the seconds to wait: by the header, else by the text, which names a time hours away."""
    by_header = answer.retry_after_s(now)
    if by_header is not None:
        return by_header
    found = _RETRY_AT.search(str(error.get("message", ""))) if isinstance(error, dict) else None
    until = read_moment(found[1]) if found else None
    return max(0.0, (until - now).total_seconds()) if until else None


# ---- asked, when an answer was lost ----


def _ask(message: Message, context: Context, began: datetime) -> Call:
    """Return the search for our Message-ID, or else for what we wrote to this person since the attempt began.

    Gmail has been seen to put an id of its own in the place of ours. A notice's subject names no order, so
    only its id can tell it from the notice before it.
    """
    wanted = f"rfc822msgid:{message_id(message.reference, context.settings.from_email)[1:-1]}"
    if not message.notice_only:
        since = int((began - _CLOCK_SKEW).timestamp())
        words = " ".join(re.sub(r'["\\{}()]', " ", message.subject).split())
        wanted = f'{{{wanted} (in:sent to:{message.to} subject:"{words}" after:{since})}}'
    query = urlencode({"q": wanted, "maxResults": 1}, quote_via=quote)
    url = f"{context.settings.base_url}{_MAILBOX}/messages?{query}"
    return Call("GET", url, authorization(context), secrets=(query,))


def _found(answer: Answer, _message: Message) -> Outcome:
    body = answer.json()
    if answer.status != _OK or not isinstance(body, dict):
        return Deferred(_K.TRANSIENT, f"gmail_{answer.status}")
    listed = body.get("messages", [])
    if not isinstance(listed, list):
        return Deferred(_K.TRANSIENT, "gmail_unreadable")
    ids = [str(entry.get("id", "")) for entry in listed if isinstance(entry, dict)]
    return Accepted(ids[0], "gmail_found") if ids else Rejected(_K.PERMANENT, "not_found")


# ---- setting up ----


def _find_mailbox(context: Context) -> Call:
    return Call("GET", f"{context.settings.base_url}{_MAILBOX}/profile", authorization(context))


def _read_mailbox(answer: Answer, context: Context) -> Sequence[Finding]:
    settings: GmailSettings = context.settings
    body = answer.json()
    works = answer.status == _OK and isinstance(body, dict)
    if not works:
        code = _outcome(answer, context).code
        advice = f"HTTP {answer.status} ({code}): grant exactly the scopes {' '.join(SCOPES)}"
        return (Finding("credentials", ok=False, advice=advice),)
    same = str(body.get("emailAddress", "")).casefold() == settings.account.casefold()
    advice = "" if same else "the credentials open another mailbox: set mailbox to the account that consented"
    return (Finding("credentials", ok=True), Finding("mailbox", ok=same, advice=advice))


def provision(context: Context) -> Sequence[Step]:
    """Return what a person must allow: nothing of it can be done by the API itself."""
    settings: GmailSettings = context.settings
    account = settings.delegate
    switch_on = Step(
        title="Gmail API",
        instruction="In console.cloud.google.com, in the project of the credentials: APIs & Services > Library > "
        "Gmail API > Enable.",
    )
    if account is not None:
        allow = Step(
            title="Domain-wide delegation",
            instruction="In admin.google.com: Security > Access and data control > API controls > Domain-wide "
            f"delegation > Add new.\nClient ID: {account.client_id or account.client_email}\n"
            f"OAuth scopes: {','.join(SCOPES)}",
        )
        return (switch_on, allow)
    consent = Step(
        title="Consent of the mailbox's owner",
        instruction="Publish the OAuth consent screen: in testing, refresh tokens end after 7 days. Then sign in as "
        f"{settings.account} with access_type=offline and put the token into refresh_token.\n"
        f"OAuth scopes: {' '.join(SCOPES)}",
    )
    return (switch_on, consent)


PLATFORM = Platform(
    name="gmail",
    title="Gmail",
    settings=GmailSettings,
    channels=frozenset({Channel.EMAIL}),
    level=Level.C0,
    address="e-mail address",
    example="buyer@example.com",
    read_address=read_address,
    build=build,
    read_answer=read_answer,
    attachment_bytes=15_000_000,  # 25 MB a mail, of which encoding takes a third
    idempotency=Idempotency.LOOKUP,
    idempotency_note="Drops no repetition; sent mail is searched for our Message-ID, or for address, subject and "
    "time where Gmail replaced it.",
    lookup=Lookup(build=_ask, read=_found, settles_after_s=_LISTED_LATE_S),
    token=TOKEN,
    probe=Probe(build=_find_mailbox, read=_read_mailbox),
    provision=provision,
    per_second=_PER_SECOND,
)
