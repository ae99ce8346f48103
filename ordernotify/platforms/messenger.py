"""Facebook Messenger: a Page's messages to people who wrote to it, by text or by utility template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Finding,
    Gives,
    Idempotency,
    Platform,
    Probe,
    Refusal,
    Step,
    Webhook,
    by_status,
    each,
    failure,
)
from ordernotify.platforms._chat_words import cut
from ordernotify.platforms._messenger_events import read
from ordernotify.platforms._meta import MetaSettings, error_of, graph_call, handshake, listed, verify
from ordernotify.platforms._meta_templates import parameters_of, template_of, template_steps
from ordernotify.platforms._signing import active


class MessengerSettings(MetaSettings):
    """One Facebook Page and the utility templates approved for it."""

    page_id: str = Field(pattern=r"^[0-9]{5,20}$", description="Id of the Page that the messages come from.")
    template_prefix: str = Field(
        default="order_",
        pattern=r"^[a-z0-9_]{0,100}$",
        description="Before the status in a utility template's name: order_ makes order_shipped; empty: the Page "
        "has no templates (Meta offers them in few countries), and only people who wrote today are reached.",
    )
    notice_template: str = Field(
        default="order_notice",
        pattern=r"^[a-z0-9_]{1,200}$",
        description="Utility template with one parameter, for messages that say only that there is news.",
    )


_K = FailureKind

# Meta's error codes with their subcodes (0: any other). Where only the code is known, its row of 0 decides.
CODES: Final[Mapping[tuple[int, int], FailureKind]] = {
    (1, 0): _K.TRANSIENT,
    (1, 99): _K.TRANSIENT,
    (1, 1357046): _K.TRANSIENT,
    (2, 0): _K.TRANSIENT,
    (1200, 0): _K.TRANSIENT,
    (4, 0): _K.RATE,
    (4, 2018354): _K.RATE,
    (613, 0): _K.RATE,
    (613, 2534040): _K.RATE,
    (613, 2018338): _K.RATE,
    (10, 0): _K.AUTH,
    (10, 2018278): _K.PERMANENT,
    (10, 2018065): _K.PERMANENT,
    (10, 2534022): _K.PERMANENT,
    (10, 2018108): _K.OPT_OUT,
    (10, 1893015): _K.OPT_OUT,
    (10, 1893063): _K.AUTH,
    (551, 0): _K.OPT_OUT,
    (551, 1545041): _K.OPT_OUT,
    (200, 0): _K.AUTH,
    (200, 1545041): _K.OPT_OUT,
    (200, 2018028): _K.AUTH,
    (100, 0): _K.PERMANENT,
    (100, 33): _K.CONFIG,
    (100, 2018001): _K.PERMANENT,
    (100, 2018008): _K.PERMANENT,
    (100, 2018047): _K.PERMANENT,
    (100, 2018109): _K.PERMANENT,
    (100, 2018294): _K.PERMANENT,
    (190, 0): _K.AUTH,
    (2022, 0): _K.CONFIG,
    (2018300, 0): _K.PERMANENT,
}
# More than 24 hours since the person last wrote: only a utility template may go.
OUTSIDE_WINDOW: Final = frozenset({(10, 2018278), (10, 2018065), (10, 2534022)})
# Meta says of this one that the message may have been sent; of a bare 1 it says nothing.
AMBIGUOUS: Final = frozenset({(1, 0), (1, 1357046)})

_TEXT = 2000
_PSID = re.compile(r"[0-9]{5,25}")
_OK = 200


def read_address(text: str) -> str | Refusal:
    """Return a page-scoped id, or why it is none."""
    address = text.strip()
    if _PSID.fullmatch(address) and address.isascii():
        return address
    return Refusal(422, "address", "must be a page-scoped id of digits, which m.me/<page>?ref=<code> ties to a contact")


# ---- requests ----


def build(messages: Sequence[Message], context: Context) -> Call:
    """Return the request that sends a message as text, for people who wrote within 24 hours."""
    (message,) = messages
    # The metadata comes back in the echo of the message: it settles a call that was never answered.
    body = {"text": cut(message.text, _TEXT), "metadata": message.reference}
    return _send(message, context, "UPDATE", body)


def build_utility(message: Message, context: Context) -> Call | None:
    """Return the request that sends a message as a utility template, None where there is no such template."""
    settings: MessengerSettings = context.settings
    name = template_of(message, prefix=settings.template_prefix, notice=settings.notice_template)
    if not settings.template_prefix or name is None:
        return None
    template = {
        "name": name,
        "language": {"code": settings.language_code(message.language)},
        "components": [{"type": "body", "parameters": parameters_of(message)}],
    }
    return _send(message, context, "UTILITY", {"template": template})


def _send(message: Message, context: Context, kind: str, body: Mapping[str, Any]) -> Call:
    settings: MessengerSettings = context.settings
    value = {"recipient": {"id": message.to}, "messaging_type": kind, "message": body}
    return graph_call(settings, "POST", f"{settings.page_id}/messages", value)


def converse(messages: Sequence[Message], context: Context) -> Conversation:
    """Send a message as text; where Meta finds the 24 hours over, send it once more as a template."""
    answer = yield build(messages, context)
    if _key(answer) in OUTSIDE_WINDOW:
        utility = build_utility(messages[0], context)
        if utility is not None:
            answer = yield utility
    return read_answer(answer, messages, context)


# ---- answers ----


def _key(answer: Answer) -> tuple[int, int] | None:
    error = error_of(answer)
    return (error.code, error.subcode) if error else None


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what Messenger made of a message: its own codes first, the HTTP status second."""
    return each(_outcome(answer, context.now), messages)


def _outcome(answer: Answer, now: datetime) -> Outcome:
    key = _key(answer)
    if key is not None:
        code, subcode = key
        word = f"messenger_{code}_{subcode}" if subcode else f"messenger_{code}"
        known = key if key in CODES else (code, 0)
        if kind := CODES.get(known):
            return failure(kind, word, retry_after_s=answer.retry_after_s(now), ambiguous=known in AMBIGUOUS)
        return by_status(answer, now, code=word) or Rejected(_K.PERMANENT, word)
    if answer.status != _OK:
        word = f"messenger_{answer.status}"
        return by_status(answer, now, code=word) or Rejected(_K.PERMANENT, word)
    body = answer.json()
    mid = body.get("message_id") if isinstance(body, dict) else None
    if isinstance(mid, str) and mid:
        return Accepted(mid, "messenger_200")
    return Deferred(_K.TRANSIENT, "messenger_unreadable", ambiguous=True)


# ---- setting up ----

FIELDS: Final = (
    "messages",
    "messaging_postbacks",
    "messaging_referrals",
    "messaging_optins",
    "message_deliveries",
    "message_echoes",
)


def _ask_page(context: Context) -> Call:
    settings: MessengerSettings = context.settings
    return graph_call(settings, "GET", settings.page_id, fields="id,name")


def _read_page(answer: Answer, context: Context) -> Sequence[Finding]:
    settings: MessengerSettings = context.settings
    body = answer.json()
    works = answer.status == _OK and isinstance(body, dict) and body.get("id") == settings.page_id
    receipts = bool(active(settings.app_secret) and active(settings.verify_token))
    error = error_of(answer)
    named = f"error {error.code}" if error else f"HTTP {answer.status}"
    advice = f"{named}: make a new Page token with pages_messaging and put it into access_token"
    return (
        Finding("credentials", works, "" if works else advice),
        Finding("receipts", receipts, "" if receipts else "set app_secret and verify_token"),
    )


def provision(context: Context) -> Sequence[Step]:
    """Return how the webhook, the templates and people's ids come to be."""
    settings: MessengerSettings = context.settings
    path, wanted = f"{settings.page_id}/subscribed_apps", frozenset(FIELDS)

    def is_subscribed(answer: Answer) -> bool:
        return any(wanted.issubset(_words(entry.get("subscribed_fields"))) for entry in listed(answer))

    app = Step(
        title="Webhook of the app",
        instruction="In the app's dashboard under Messenger > Webhooks set the callback URL "
        f"{context.webhook_url}, the verify token of verify_token, and the fields {', '.join(FIELDS)}.",
    )
    page = Step(
        title="Webhook of the Page",
        find=graph_call(settings, "GET", path),
        exists=is_subscribed,
        make=graph_call(settings, "POST", path, {"subscribed_fields": ",".join(FIELDS)}),
    )
    people = Step(
        title="Each person",
        instruction="A person has no id here before they write to the Page: send them the link "
        "https://m.me/<page>?ref=<code> with the one-time code of their contact.",
    )
    if not settings.template_prefix:
        return (app, page, people)
    templates = template_steps(
        settings, settings.page_id, prefix=settings.template_prefix, notice=settings.notice_template
    )
    return (app, page, people, *templates)


def _words(value: object) -> frozenset[str]:
    return frozenset(word for word in value if isinstance(word, str)) if isinstance(value, list) else frozenset()


PLATFORM = Platform(
    name="messenger",
    title="Facebook Messenger",
    settings=MessengerSettings,
    channels=frozenset({Channel.CHAT}),
    level=Level.C0,
    address="page-scoped id (PSID)",
    example="6489123456789012",
    read_address=read_address,
    converse=converse,
    idempotency=Idempotency.NONE,
    idempotency_note="Drops no repetition and cannot be asked; the echo of a text brings our reference back.",
    webhook=Webhook(
        gives=frozenset({Gives.RECEIPTS, Gives.CONSENTS}),
        verify=verify,
        read=read,
        handshake=handshake,
        signature="X-Hub-Signature-256: HMAC-SHA256 over the exact body",
    ),
    probe=Probe(build=_ask_page, read=_read_page),
    provision=provision,
    per_second=300.0,
)
