"""Outlook: e-mail from a Microsoft 365 mailbox through Microsoft Graph, as JSON in batches or as MIME one by one."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.recipients import Refused, read_email
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Idempotency,
    Lookup,
    Platform,
    Refusal,
    by_status,
    failure,
    json_body,
)
from ordernotify.platforms._mail import Letter, compose, line_fault, message_id, read_address
from ordernotify.platforms._oauth import authorization, token_refused
from ordernotify.platforms._outlook_files import file_attachment
from ordernotify.platforms._outlook_setup import (
    PROBE,
    TOKEN,
    OutlookSettings,
    error_code,
    folder,
    provision,
    user,
)

REFERENCE: Final = "x-ordernotify-reference"  # Graph takes no name that does not begin with x-

_K = FailureKind

# Graph's error codes; its messages change without notice.
CODES: Final[Mapping[str, FailureKind]] = {
    "ErrorInvalidRecipients": _K.PERMANENT,
    "InvalidInternetMessageHeader": _K.PERMANENT,
    "InvalidInternetMessageHeaderCollection": _K.PERMANENT,
    "ErrorMimeContentInvalid": _K.PERMANENT,
    "ErrorMimeContentInvalidBase64String": _K.PERMANENT,
    "ErrorMessageSizeExceeded": _K.PERMANENT,
    "InvalidAuthenticationToken": _K.AUTH,
    "ErrorAccessDenied": _K.AUTH,
    "ErrorSendAsDenied": _K.AUTH,
    "Authorization_RequestDenied": _K.AUTH,
    "ErrorInvalidUser": _K.CONFIG,
    "MailboxNotEnabledForRESTAPI": _K.CONFIG,
    "ErrorExceededMessageLimit": _K.QUOTA,
    "ErrorSubmissionQuotaExceeded": _K.QUOTA,
    "ErrorQuotaExceeded": _K.QUOTA,
    "ApplicationThrottled": _K.RATE,
    "TooManyRequests": _K.RATE,
    "ErrorServerBusy": _K.TRANSIENT,
    "ErrorTimeoutExpired": _K.TRANSIENT,
    "ErrorInternalServerError": _K.TRANSIENT,
    "UnknownError": _K.TRANSIENT,
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    403: _K.AUTH,
    404: _K.CONFIG,
    409: _K.TRANSIENT,
    413: _K.PERMANENT,
    423: _K.TRANSIENT,
    507: _K.QUOTA,
    509: _K.QUOTA,
}
_OK, _ACCEPTED, _UNAUTHORIZED, _SERVER_ERROR = 200, 202, 401, 500
_BATCH: Final = 20
_PAGE: Final = 100
_LISTED_LATE_S: Final = 30.0  # a mail is sent, and then listed, after the 202
_CLOCK_SKEW = timedelta(seconds=60)
_PER_SECOND: Final = 0.5  # Exchange Online takes 30 messages a minute from one mailbox


# ---- requests ----


def as_mime(message: Message, settings: OutlookSettings) -> bool:
    """Return whether a message goes as MIME: Graph's JSON has room for one part only.

    A mail sent as MIME is always kept in Sent Items.
    """
    wanted = settings.both_parts and settings.save_to_sent_items
    return wanted and bool(message.html) and not message.notice_only


def group(message: Message, settings: OutlookSettings) -> str:
    """Return what shares a request: all JSON mails may, one as MIME or with a file has one to itself.

    Graph takes 4 MB a request.
    """
    alone = as_mime(message, settings) or message.attachments
    return f"alone {message.reference}" if alone else "json"


def converse(messages: Sequence[Message], context: Context) -> Conversation:
    """Send ``messages``, up to 20 in one request; each has its own outcome."""
    settings: OutlookSettings = context.settings
    outcomes: dict[int, Outcome] = {}
    together: dict[int, Mapping[str, Any]] = {}
    for place, message in enumerate(messages):
        content = _mime(message, context) if as_mime(message, settings) else _json(message, settings)
        if isinstance(content, Refusal):
            outcomes[place] = Rejected(_K.PERMANENT, f"outlook_{content.field}")
        elif isinstance(content, str) or len(messages) == 1:
            outcomes[place] = _outcome((yield _single(message, content, context)), context)
        else:
            together[place] = content
    if together:
        answer = yield _batch({place: (messages[place], one) for place, one in together.items()}, context)
        outcomes.update(_outcomes(answer, together, context))
    return [outcomes[place] for place in range(len(messages))]


def _mime(message: Message, context: Context) -> str | Refusal:
    settings: OutlookSettings = context.settings
    raw = compose(
        Letter(
            sender=settings.sender,
            reply_to=settings.reply_to,
            to=message.to,
            subject=message.subject,
            text=message.text,
            html=message.html,
            message_id=message_id(message.reference, settings.sender),
            date=context.now,
            headers={REFERENCE: message.reference},
            attachments=message.attachments,
        )
    )
    return raw if isinstance(raw, Refusal) else base64.b64encode(raw).decode("ascii")


def _json(message: Message, settings: OutlookSettings) -> Mapping[str, Any] | Refusal:
    address = read_email(message.to)
    if isinstance(address, Refused):
        return Refusal(422, "to", address.message)
    if fault := line_fault("subject", message.subject):
        return fault
    html = "" if message.notice_only else message.html
    content: dict[str, Any] = {
        "subject": message.subject,
        "body": {"contentType": "HTML" if html else "Text", "content": html or message.text},
        "toRecipients": [{"emailAddress": {"address": address}}],
        "internetMessageHeaders": [{"name": REFERENCE, "value": message.reference}],
    }
    if message.attachments:
        content["attachments"] = [file_attachment(one) for one in message.attachments]
    if settings.reply_to:
        content["replyTo"] = [{"emailAddress": {"address": settings.reply_to}}]
    return {"message": content, "saveToSentItems": settings.save_to_sent_items}


def _headers(message: Message, content_type: str) -> dict[str, str]:
    # By the request id Microsoft's support finds a request; it is the same for every attempt.
    request_id = str(uuid.uuid5(uuid.NAMESPACE_OID, message.reference))
    return {"Content-Type": content_type, "client-request-id": request_id}


def _single(message: Message, content: Mapping[str, Any] | str, context: Context) -> Call:
    settings: OutlookSettings = context.settings
    mime = isinstance(content, str)
    body = content.encode("ascii") if isinstance(content, str) else json_body(content)
    headers = {**_headers(message, "text/plain" if mime else "application/json"), **authorization(context)}
    return Call("POST", f"{settings.base_url}/v1.0{user(settings)}/sendMail", headers, body)


def _batch(contents: Mapping[int, tuple[Message, Mapping[str, Any]]], context: Context) -> Call:
    settings: OutlookSettings = context.settings
    requests = [
        {
            "id": str(place),
            "method": "POST",
            "url": f"{user(settings)}/sendMail",
            "headers": _headers(message, "application/json"),
            "body": content,
        }
        for place, (message, content) in contents.items()
    ]
    headers = {"content-type": "application/json", **authorization(context)}
    return Call("POST", f"{settings.base_url}/v1.0/$batch", headers, json_body({"requests": requests}))


# ---- answers ----


def _outcome(answer: Answer, context: Context) -> Outcome:
    if answer.status == _ACCEPTED:  # also with a Retry-After, which is about the next one
        return Accepted(answer.headers.get("request-id", ""), "outlook_202")
    word = error_code(answer)
    code = f"outlook_{word if word in CODES else answer.status}"
    if answer.status == _UNAUTHORIZED:
        return token_refused(context, code)
    kind = CODES.get(word) or BY_HTTP_STATUS.get(answer.status)
    if kind is None:
        return by_status(answer, context.now, code=code) or Rejected(_K.PERMANENT, code)
    wait_s = answer.retry_after_s(context.now)
    return failure(kind, code, retry_after_s=wait_s, ambiguous=answer.status >= _SERVER_ERROR)


def _outcomes(answer: Answer, places: Iterable[int], context: Context) -> Mapping[int, Outcome]:
    """Return the outcome of each request of a batch; Graph answers them in any order, by their ids."""
    if answer.status != _OK:
        return dict.fromkeys(places, _outcome(answer, context))
    body = answer.json()
    parts = {str(part.get("id")): part for part in _objects(body.get("responses") if isinstance(body, dict) else None)}
    return {place: _part(parts.get(str(place)), context) for place in places}


def _part(part: Mapping[str, Any] | None, context: Context) -> Outcome:
    status = part.get("status") if part else None
    if part is None or not isinstance(status, int):
        return Deferred(_K.TRANSIENT, "outlook_unreadable", ambiguous=True)
    headers = part.get("headers")
    named = {str(name).lower(): str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
    return _outcome(Answer(status, named, json_body(part.get("body"))), context)


# ---- asked, when an answer was lost ----


def _ask(_message: Message, context: Context, began: datetime) -> Call:
    """Return the request for what the mailbox sent since just before the attempt began."""
    settings: OutlookSettings = context.settings
    if not settings.save_to_sent_items:
        # Nothing is kept there, so its emptiness proves nothing: the folder itself answers without a list.
        return Call("GET", f"{folder(settings)}?$select=id", authorization(context))
    since = (began - _CLOCK_SKEW).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = "id,subject,toRecipients,internetMessageId,internetMessageHeaders"
    query = f"$filter={quote(f'sentDateTime ge {since}')}&$select={fields}&$top={_PAGE}"
    return Call("GET", f"{folder(settings)}/messages?{query}", authorization(context))


def _found(answer: Answer, message: Message) -> Outcome:
    body = answer.json()
    listed = body.get("value") if isinstance(body, dict) else None
    if answer.status != _OK or not isinstance(listed, list):
        return Deferred(_K.TRANSIENT, f"outlook_{answer.status}")
    for entry in _objects(listed):
        if _is(entry, message):
            return Accepted(str(entry.get("id", "")), "outlook_found")
    if body.get("@odata.nextLink"):
        return Deferred(_K.TRANSIENT, "outlook_more_pages")
    return Rejected(_K.PERMANENT, "not_found")


def _is(entry: Mapping[str, Any], message: Message) -> bool:
    """Return whether a mail of Sent Items is this message: by our header, else by person and subject.

    Exchange may drop headers of one's own. A notice's subject names no order and proves nothing.
    """
    headers = _objects(entry.get("internetMessageHeaders"))
    ours = [header.get("value") for header in headers if str(header.get("name")).lower() == REFERENCE]
    if ours:
        return message.reference in ours
    if str(entry.get("internetMessageId", "")).startswith(f"<{message.reference}@"):
        return True
    people = [person.get("emailAddress") for person in _objects(entry.get("toRecipients"))]
    named = [str(address.get("address", "")).casefold() for address in _objects(people)]
    return not message.notice_only and message.to.casefold() in named and entry.get("subject") == message.subject


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


PLATFORM = Platform(
    name="outlook",
    title="Outlook (Microsoft 365)",
    settings=OutlookSettings,
    channels=frozenset({Channel.EMAIL}),
    level=Level.C0,
    address="e-mail address",
    example="buyer@example.com",
    read_address=read_address,
    converse=converse,
    batch=_BATCH,
    attachment_bytes=2_000_000,
    group=group,
    idempotency=Idempotency.LOOKUP,
    idempotency_note="Drops no repetition; Sent Items are searched for our header, or for address and subject where "
    "Exchange dropped it.",
    lookup=Lookup(build=_ask, read=_found, settles_after_s=_LISTED_LATE_S),
    token=TOKEN,
    probe=PROBE,
    provision=provision,
    per_second=_PER_SECOND,
)
