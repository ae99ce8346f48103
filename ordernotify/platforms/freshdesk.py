"""Freshdesk: an order's ticket is answered, or updated so that an automation mails; automations speak to us."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Gives,
    Idempotency,
    Inbound,
    Platform,
    Probe,
    Received,
    Refusal,
    Webhook,
    by_status,
    failure,
)
from ordernotify.platforms._freshdesk_setup import (
    TOKEN_HEADER,
    FreshdeskSettings,
    ask_who,
    call,
    provision,
    read_who,
    status_word,
)
from ordernotify.platforms._helpdesk import as_html, read_address, read_notice, ticket_of
from ordernotify.platforms._reading import mark_of, marked
from ordernotify.platforms._signing import active, same_secret

_K = FailureKind

# Freshdesk's codes, whichever HTTP status they come with.
CODES: Final[Mapping[str, FailureKind]] = {
    **dict.fromkeys(("missing_field", "invalid_value", "duplicate_value", "datatype_mismatch"), _K.PERMANENT),
    **dict.fromkeys(("inconsistent_state", "no_content_required"), _K.PERMANENT),
    # A field that our ticket form lacks, or that this key may not write, fails for every message.
    **dict.fromkeys(("invalid_field", "readonly_field", "inaccessible_field", "incompatible_field"), _K.CONFIG),
    **dict.fromkeys(("invalid_json", "unsupported_content_type"), _K.CONFIG),
    **dict.fromkeys(("invalid_credentials", "password_expired", "password_lockout", "access_denied"), _K.AUTH),
    **dict.fromkeys(("account_suspended", "max_agents_reached"), _K.AUTH),
    **dict.fromkeys(("require_feature", "ssl_required"), _K.CONFIG),
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    401: _K.AUTH,
    403: _K.AUTH,
    404: _K.PERMANENT,
    405: _K.CONFIG,
    406: _K.CONFIG,
    409: _K.PERMANENT,
    415: _K.CONFIG,
}
_OK, _CREATED, _NOT_FOUND, _UNAUTHORIZED = 200, 201, 404, 401
_CLOSED = 5
_PAGE, _PAGES = 100, 10


# ---- out ----


def _send(messages: Sequence[Message], context: Context) -> Conversation:
    (message,) = messages
    settings: FreshdeskSettings = context.settings
    address = read_address(message.to)
    if isinstance(address, Refusal):
        return [Rejected(_K.PERMANENT, "freshdesk_address")]
    ticket: str | Outcome = ticket_of(address)
    if not ticket:
        ticket = _one_of((yield _search(address, context)), context)
    if not isinstance(ticket, str):
        return [ticket]
    if settings.action == "update":
        answer = yield call(context, "PUT", f"tickets/{ticket}", _fields(message, settings))
        return [_written(answer, context)]
    outcome = yield from _reply(ticket, message, context)
    return [outcome]


def _search(order_no: str, context: Context) -> Call:
    settings: FreshdeskSettings = context.settings
    query = urlencode({"query": f"\"{settings.order_field}:'{order_no}'\""})
    return call(context, "GET", f"search/tickets?{query}")


def _one_of(answer: Answer, context: Context) -> str | Outcome:
    """Return the newest ticket of an order, an open one before every closed one."""
    if answer.status != _OK:
        return _failure(answer, context, asking=True, missing=_K.CONFIG)
    body = answer.json()
    results = body.get("results") if isinstance(body, dict) else None
    if not isinstance(results, list):
        return Deferred(_K.TRANSIENT, "freshdesk_unreadable")
    found = [
        (one.get("status") != _CLOSED, one["id"])
        for one in results
        if isinstance(one, dict) and type(one.get("id")) is int
    ]
    return str(max(found)[1]) if found else Rejected(_K.PERMANENT, "freshdesk_no_ticket")


def _fields(message: Message, settings: FreshdeskSettings) -> dict[str, Any]:
    fields = {settings.text_field: message.text, settings.reference_field: message.reference}
    if not message.notice_only:
        fields[settings.status_field] = status_word(settings, message.status)
    return {"custom_fields": fields}


def _reply(ticket: str, message: Message, context: Context) -> Generator[Call, Answer, Outcome]:
    """Answer the ticket, unless our reference stands in its conversation already."""
    settings: FreshdeskSettings = context.settings
    for page in range(1, _PAGES + 1):
        path = f"tickets/{ticket}/conversations?{urlencode({'per_page': _PAGE, 'page': page})}"
        answer = yield call(context, "GET", path)
        entries = answer.json()
        if answer.status != _OK:
            return _failure(answer, context, asking=True)
        if not isinstance(entries, list):
            return Deferred(_K.TRANSIENT, "freshdesk_unreadable")
        for entry in entries:
            if isinstance(entry, dict) and mark_of(str(entry.get("body_text"))) == message.reference:
                return Accepted(str(entry.get("id", "")), "freshdesk_found")
        if len(entries) < _PAGE:
            break
    reply = {"body": as_html(marked(message.text, message.reference))}
    if settings.from_email:
        reply["from_email"] = settings.from_email
    answer = yield call(context, "POST", f"tickets/{ticket}/reply", reply)
    return _written(answer, context)


# ---- answers ----


def _written(answer: Answer, context: Context) -> Outcome:
    if answer.status not in {_OK, _CREATED}:
        return _failure(answer, context, asking=False)
    body = answer.json()
    number = body.get("id") if isinstance(body, dict) else None
    if isinstance(number, int):
        return Accepted(str(number), f"freshdesk_{answer.status}")
    return Deferred(_K.TRANSIENT, "freshdesk_unreadable", ambiguous=True)


def _failure(answer: Answer, context: Context, *, asking: bool, missing: FailureKind = _K.PERMANENT) -> Outcome:
    """Return what a refusal means. ``asking``: it changed nothing; ``missing``: what a bare 404 means here."""
    now: datetime = context.now
    word, field = _first_error(answer)
    code, wait = f"freshdesk_{word or answer.status}", answer.retry_after_s(now)
    # A value that a field of ours does not take (a choice that is not there) is our set-up, not this message.
    if word in {"invalid_value", "missing_field", "datatype_mismatch"} and field in context.settings.fields:
        return Rejected(_K.CONFIG, code)
    if word in CODES:
        return Rejected(CODES[word], code)
    kind = missing if answer.status == _NOT_FOUND else BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    return by_status(answer, now, code=code, ambiguous_5xx=not asking) or failure(kind, code, retry_after_s=wait)


def _first_error(answer: Answer) -> tuple[str, str]:
    """Return code and field of the first error, '' where there is none; the message may hold anybody's text."""
    body = answer.json()
    said = body if isinstance(body, dict) else {}
    errors = said.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else said
    word = str(first.get("code", ""))
    # A custom field's error is named either by the field or by the path that leads to it.
    field = str(first.get("field", "")).removeprefix("custom_fields.")
    return (word if re.fullmatch(r"[a-z_]{1,40}", word) else ""), field


# ---- in ----


def verify(inbound: Inbound, settings: FreshdeskSettings, _now: datetime) -> Refusal | None:
    """Return why a request is not from our automation, None when it is: Freshdesk signs nothing itself."""
    secrets = active(settings.webhook_secret)
    if not secrets:
        return Refusal(_UNAUTHORIZED, TOKEN_HEADER, "cannot be checked: set webhook_secret")
    token = inbound.header(TOKEN_HEADER)
    if not token:
        return Refusal(_UNAUTHORIZED, TOKEN_HEADER, "is missing: set it in the automation")
    if not same_secret(token, secrets):
        return Refusal(_UNAUTHORIZED, TOKEN_HEADER, "must be the secret of webhook_secret")
    return None


def read(inbound: Inbound, settings: FreshdeskSettings, now: datetime) -> Received | Refusal:
    """Return what an automation says of an order."""
    return read_notice(inbound.body, source="freshdesk", status_map=settings.status_map, now=now)


PLATFORM = Platform(
    name="freshdesk",
    title="Freshdesk",
    settings=FreshdeskSettings,
    channels=frozenset({Channel.RECORD}),
    level=Level.C0,
    address="ticket: and a ticket id, or an order number kept in the ticket's order field",
    example="ticket:1042",
    read_address=read_address,
    converse=_send,
    idempotency=Idempotency.OVERWRITE,
    idempotency_note="Before a reply the ticket's conversation is read and searched for our reference; an update "
    "sent again writes the same fields again, which starts no automation.",
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=verify,
        read=read,
        signature=f"{TOKEN_HEADER}: our own secret; Freshdesk signs nothing and sends no time",
    ),
    probe=Probe(build=ask_who, read=read_who),
    provision=provision,
    per_second=1.3,  # 80 ticket updates a minute on the smallest plan that has an API
)
