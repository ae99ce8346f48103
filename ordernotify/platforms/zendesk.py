"""Zendesk: an order's ticket is updated so that a trigger mails its requester; statuses of tickets come back."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
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
    Platform,
    Probe,
    Refusal,
    Webhook,
    by_status,
    failure,
)
from ordernotify.platforms._helpdesk import as_html, read_address, ticket_of
from ordernotify.platforms._zendesk_events import SIGNATURE, read, verify
from ordernotify.platforms._zendesk_setup import NAME, ZendeskSettings, ask_who, call, provision, read_who

_K = FailureKind
WORDS: Final[Mapping[str, FailureKind]] = {
    **dict.fromkeys(("RecordInvalid", "RecordNotFound", "InvalidValue", "InvalidFormat"), _K.PERMANENT),
    **dict.fromkeys(("AttributesTooLong", "ParameterMissing", "Unprocessable"), _K.PERMANENT),
    **dict.fromkeys(("Forbidden", "Unauthorized", "invalid_token", "ExpiredToken", "MissingScope"), _K.AUTH),
    **dict.fromkeys(("InvalidEndpoint", "SubscriptionRequired"), _K.CONFIG),
    **dict.fromkeys(("TooManyRequests", "APIRateLimitExceeded"), _K.RATE),
    **dict.fromkeys(("UpdateConflict", "DatabaseConflict", "DatabaseError", "ServiceUnavailable"), _K.TRANSIENT),
    # A ticket was made under our reference with other words: looking again finds it.
    "IdempotentRequestError": _K.TRANSIENT,
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    401: _K.AUTH,
    403: _K.AUTH,
    404: _K.CONFIG,  # without a word it is the account that is not there
    409: _K.TRANSIENT,
    413: _K.PERMANENT,
    422: _K.PERMANENT,
}
_OK, _CREATED, _CONFLICT, _UNPROCESSABLE, _TOO_MANY = 200, 201, 409, 422, 429
_ROUNDS = 3
_SUBJECT = 150


# ---- out: read the ticket, then write to it as it was read ----


@dataclass(frozen=True, slots=True)
class _Ticket:
    id: int
    status: str
    updated_at: str
    tags: tuple[str, ...]
    requester_id: int | None


def _send(messages: Sequence[Message], context: Context) -> Conversation:
    (message,) = messages
    outcome = yield from _write(message, context)
    return [outcome]


def _write(message: Message, context: Context) -> Generator[Call, Answer, Outcome]:
    address = read_address(message.to)
    if isinstance(address, Refusal):
        return Rejected(_K.PERMANENT, "zendesk_address")
    outcome: Outcome = Deferred(_K.TRANSIENT, "zendesk_collisions")
    for _ in range(_ROUNDS):
        found = _read_tickets((yield _find(address, context)), context.now)
        if not isinstance(found, list):
            return found
        for one in found:
            if _mark(message) in one.tags:
                return Accepted(str(one.id), "zendesk_found")
        made = _write_to(_current(found), address, message, context)
        if isinstance(made, Rejected):
            return made
        answer = yield made
        outcome = _written(answer, context.now)
        # Somebody changed the ticket, or closed it, since we read it: read again.
        if answer.status != _CONFLICT and not _is_closed(answer):
            return outcome
    return outcome


def _find(address: str, context: Context) -> Call:
    if ticket := ticket_of(address):
        return call(context, "GET", f"tickets/{ticket}.json")
    return call(context, "GET", f"tickets.json?{urlencode({'external_id': address})}")


def _read_tickets(answer: Answer, now: datetime) -> list[_Ticket] | Outcome:
    """Return the tickets that were found, or why none can be known."""
    if answer.status != _OK:
        return _failure(answer, now, asking=True)
    body = answer.json()
    said = body if isinstance(body, dict) else {}
    listed = said.get("tickets", [said.get("ticket")])
    tickets = [_ticket(one) for one in listed] if isinstance(listed, list) else [None]
    known = [one for one in tickets if one is not None]
    return known if len(known) == len(tickets) else Deferred(_K.TRANSIENT, "zendesk_unreadable")


def _ticket(value: object) -> _Ticket | None:
    if not isinstance(value, dict) or type(value.get("id")) is not int:
        return None
    tags, requester = value.get("tags"), value.get("requester_id")
    return _Ticket(
        id=value["id"],
        status=str(value.get("status", "")).casefold(),
        updated_at=str(value.get("updated_at", "")),
        tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
        requester_id=requester if isinstance(requester, int) else None,
    )


def _current(tickets: Sequence[_Ticket]) -> _Ticket | None:
    """Return the newest ticket of an order, an open one before every closed one."""
    return max(tickets, key=lambda one: (one.status != "closed", one.id), default=None)


def _mark(message: Message) -> str:
    return f"{NAME}_{message.reference}".lower()  # Zendesk keeps tags in lower case


def _write_to(ticket: _Ticket | None, address: str, message: Message, context: Context) -> Call | Rejected:
    settings: ZendeskSettings = context.settings
    value: dict[str, Any] = {
        "comment": {"html_body": as_html(message.text), "public": settings.public},
        "tags": sorted({*(ticket.tags if ticket else ()), NAME, _mark(message)}),
    }
    if settings.status_field_id and not message.notice_only:
        word = settings.status_words.get(message.status, message.status.value)
        value["custom_fields"] = [{"id": settings.status_field_id, "value": word}]
    if settings.ticket_status:
        value["status"] = settings.ticket_status
    if ticket is not None and ticket.status != "closed":
        # The tags are the ticket's own and our mark: written over a newer ticket they would undo a change, so
        # Zendesk is told which state we read. It refuses the second of two equal writes for the same reason.
        value |= {"safe_update": True, "updated_stamp": ticket.updated_at}
        return call(context, "PUT", f"tickets/{ticket.id}.json", {"ticket": value})
    if ticket is None and not settings.requester_email:
        return Rejected(_K.PERMANENT, "zendesk_no_ticket")
    key = message.reference
    if ticket is not None:
        # A closed ticket takes nothing any more; a follow-up takes its place.
        key = f"{key}-{ticket.id}"
        value |= {"via_followup_source_id": ticket.id, "requester_id": ticket.requester_id}
    else:
        value["requester"] = {"email": settings.requester_email, "name": settings.requester_email}
    if not ticket_of(address):
        value["external_id"] = address
    if message.subject and not message.notice_only:
        value["subject"] = " ".join(message.subject.split())[:_SUBJECT]
    return call(context, "POST", "tickets.json", {"ticket": value}, key=key)


# ---- answers ----


def _written(answer: Answer, now: datetime) -> Outcome:
    if answer.status not in {_OK, _CREATED}:
        return _failure(answer, now, asking=False)
    body = answer.json()
    audit = body.get("audit") if isinstance(body, dict) else None
    number = audit.get("id") if isinstance(audit, dict) else None
    if isinstance(number, int):
        return Accepted(str(number), f"zendesk_{answer.status}")
    return Deferred(_K.TRANSIENT, "zendesk_unreadable", ambiguous=True)


def _failure(answer: Answer, now: datetime, *, asking: bool) -> Outcome:
    """Return what a refusal means; ``asking``: the request changed nothing, so nothing is in doubt."""
    word = _word(answer)
    code, wait = f"zendesk_{word or answer.status}", _wait_s(answer, now)
    if word == "RecordInvalid" and "suspended" in _details(answer):
        return Rejected(_K.OPT_OUT, "zendesk_suspended")
    if answer.status == _TOO_MANY:
        # While the account has requests left, it is this ticket that was written to too often.
        left = answer.headers.get("x-rate-limit-remaining", "0")
        one_ticket = left.isascii() and left.isdigit() and int(left) > 0
        return Deferred(_K.RATE, "zendesk_ticket_rate" if one_ticket else code, retry_after_s=wait)
    if word in WORDS:
        unclear = not asking and (word == "IdempotentRequestError" or answer.status >= 500)  # noqa: PLR2004 - 5xx
        return failure(WORDS[word], code, retry_after_s=wait, ambiguous=unclear)
    kind = BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    return by_status(answer, now, code=code, ambiguous_5xx=not asking) or failure(kind, code, retry_after_s=wait)


def _word(answer: Answer) -> str:
    body = answer.json()
    word = body.get("error") if isinstance(body, dict) else None
    if isinstance(word, dict):
        word = word.get("title")
    return word if isinstance(word, str) and re.fullmatch(r"[A-Za-z_]{1,40}", word) else ""


def _details(answer: Answer) -> str:
    body = answer.json()
    return str(body.get("details", "")).casefold() if isinstance(body, dict) else ""


def _is_closed(answer: Answer) -> bool:
    return answer.status == _UNPROCESSABLE and "closed prevents ticket update" in _details(answer)


def _wait_s(answer: Answer, now: datetime) -> float | None:
    wait, reset = answer.retry_after_s(now), answer.headers.get("ratelimit-reset", "")
    return float(reset) if wait is None and re.fullmatch(r"[0-9]{1,6}", reset) else wait


PLATFORM = Platform(
    name="zendesk",
    title="Zendesk",
    settings=ZendeskSettings,
    channels=frozenset({Channel.RECORD}),
    level=Level.C0,
    address="ticket: and a ticket id, or an order number kept as the ticket's external id",
    example="ticket:5158",
    read_address=read_address,
    converse=_send,
    idempotency=Idempotency.NATIVE,
    idempotency_note="The ticket is read first: our reference in its tags means that it is written. safe_update "
    "refuses the second of two equal updates, Idempotency-Key the second of two equal tickets (for 2 hours).",
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=verify,
        read=read,
        signature=f"{SIGNATURE}: base64 HMAC-SHA256 over timestamp and body; within 5 minutes",
    ),
    probe=Probe(build=ask_who, read=read_who),
    provision=provision,
    per_second=1.6,  # 100 ticket updates a minute for an account without the High Volume add-on
)
