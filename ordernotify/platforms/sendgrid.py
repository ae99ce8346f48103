"""SendGrid: e-mail by inline words or a dynamic template, many people a call; signed events come back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from sendgrid.helpers.mail import Category, CustomArg, From, Header, Mail, Personalization, ReplyTo, To

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome
from ordernotify.core.recipients import Refused, read_email
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Finding,
    Gives,
    Idempotency,
    Platform,
    PlatformSettings,
    Probe,
    Refusal,
    Step,
    Webhook,
    bearer,
    by_status,
    each,
    failure,
    json_body,
)
from ordernotify.platforms._sendgrid_events import REFERENCE, SIGNATURE, read, verifier, verify
from ordernotify.platforms._sendgrid_files import attach

NAME: Final = "ordernotify"
MAX_CATEGORIES: Final = 10


def _comma_list(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class SendGridSettings(PlatformSettings):
    """One SendGrid account and the sender its messages come from."""

    base_url: str = Field(
        default="https://api.sendgrid.com", description="Root of the API; https://api.eu.sendgrid.com in the EU."
    )
    api_key: SecretStr = Field(description="API key with the scope mail.send.")
    from_email: str = Field(min_length=3, description="Sender, an address of an authenticated domain, in ASCII.")
    from_name: str = Field(default="", pattern=r"^[^,;\x00-\x1f]*$", description="Sender's name, without , and ;")
    reply_to: str = Field(default="", description="Where answers go, if not to the sender.")
    template_id: str = Field(
        default="", pattern=r"^(d-[0-9a-f]{32})?$", description="Dynamic template; empty: our own words."
    )
    categories: Annotated[tuple[str, ...], BeforeValidator(_comma_list)] = Field(
        default=(), max_length=MAX_CATEGORIES, description="Up to 10 categories for statistics, with commas."
    )
    webhook_public_key: str = Field(default="", description="Verification key of the Event Webhook.")

    @field_validator("from_email", "reply_to")
    @classmethod
    def _is_address(cls, value: str) -> str:
        address = read_email(value) if value else value
        if isinstance(address, Refused) or not value.isascii():
            raise ValueError("must be one e-mail address in ASCII, such as orders@example.com")
        return address

    @field_validator("webhook_public_key")
    @classmethod
    def _is_key(cls, value: str) -> str:
        if value:
            try:
                verifier(value)
            except ValueError:
                raise ValueError("must be the key as SendGrid shows it: base64 on one line") from None
        return value


_K = FailureKind

BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    401: _K.AUTH,
    403: _K.AUTH,
    404: _K.CONFIG,  # like 405 and 415 of no message's making
    405: _K.CONFIG,
    413: _K.PERMANENT,
    415: _K.CONFIG,
}
NO_CREDITS: Final = "maximum credits exceeded"  # comes as a 401, but the key is good

_OK, _ACCEPTED = 200, 202


def read_address(text: str) -> str | Refusal:
    """Return an e-mail address, or why it is none."""
    address = read_email(text)
    return Refusal(422, "address", address.message) if isinstance(address, Refused) else address


def build(messages: Sequence[Message], context: Context) -> Call:
    """Return the request that mails ``messages`` of one group; nobody sees another's address or values."""
    settings: SendGridSettings = context.settings
    first = messages[0]
    mail = Mail(from_email=From(settings.from_email, settings.from_name or None))
    if settings.template_id:
        mail.template_id = settings.template_id
    else:
        mail.subject = one_line(first.subject)
        mail.add_content(first.text, "text/plain")
        if first.html:
            mail.add_content(first.html, "text/html")
    # The SDK puts each in front of those before, and SendGrid names a person at fault by place: last one first.
    for message in reversed(messages):
        mail.add_personalization(_personalization(message, dynamic=bool(settings.template_id)))
    attach(mail, first.attachments)
    if settings.reply_to:
        mail.reply_to = ReplyTo(settings.reply_to)
    for category in reversed(settings.categories):
        mail.add_category(Category(category))
    mail.add_header(Header("Auto-Submitted", "auto-generated"))
    headers = {"content-type": "application/json", **bearer(settings.api_key)}
    return Call("POST", f"{settings.base_url}/v3/mail/send", headers, json_body(mail.get()))


def _personalization(message: Message, *, dynamic: bool) -> Personalization:
    one = Personalization()
    person = To()
    person.email = message.to  # as an argument it would be parsed, and come out changed
    one.add_to(person)
    one.add_custom_arg(CustomArg(REFERENCE, message.reference))
    if dynamic:
        one.dynamic_template_data = {
            **message.variables,
            "subject": one_line(message.subject),
            "text": message.text,
            "html": message.html,
            "facts": [{"label": label, "value": value} for label, value in message.facts],
        }
    return one


def one_line(text: str) -> str:
    """Return ``text`` as a header may hold it: without line breaks and control characters."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())


def group(message: Message, settings: SendGridSettings) -> str:
    """Return what messages of one call must share: the template, or the very same words, and the same files."""
    words = settings.template_id or f"{message.subject}\0{message.text}\0{message.html}"
    if not message.attachments and settings.template_id:
        return words
    return hashlib.sha256(b"\0".join([words.encode(), *(one.content for one in message.attachments)])).hexdigest()


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what became of each message; SendGrid takes or refuses a call as a whole."""
    if answer.status in {_OK, _ACCEPTED}:
        reference = answer.headers.get("x-message-id", "")
        return each(Accepted(reference, f"sendgrid_{answer.status}"), messages)
    errors = [error for error in _listed(answer, "errors") if isinstance(error, dict)]
    if any(NO_CREDITS in str(error.get("message", "")).lower() for error in errors):
        return each(failure(_K.QUOTA, "sendgrid_no_credits"), messages)
    code = f"sendgrid_{answer.status}"
    outcome = _busy(answer, context.now) or failure(BY_HTTP_STATUS.get(answer.status, _K.PERMANENT), code)
    fields = (_AT_FAULT.match(str(error.get("field", ""))) for error in errors)
    named = {int(field[1]) for field in fields if field}.intersection(range(len(messages)))
    if not named or isinstance(outcome, Deferred):
        return each(outcome, messages)
    # One bad address fails the call: the others were not sent, and may go at once.
    spared = Deferred(_K.TRANSIENT, "sendgrid_spared", retry_after_s=0.0)
    return [outcome if place in named else spared for place in range(len(messages))]


_AT_FAULT = re.compile(r"personalizations\.(\d{1,4})\b")


def _busy(answer: Answer, now: datetime) -> Outcome | None:
    outcome = by_status(answer, now, code=f"sendgrid_{answer.status}")
    reset = answer.headers.get("x-ratelimit-reset", "")
    if isinstance(outcome, Deferred) and outcome.kind is _K.RATE and re.fullmatch(r"[0-9]{1,12}", reset):
        wait_s = max(0.0, int(reset) - now.timestamp())
        return Deferred(_K.RATE, outcome.code, retry_after_s=wait_s)
    return outcome


# ---- setting up ----


def _ask(context: Context, path: str) -> Call:
    return Call("GET", f"{context.settings.base_url}{path}", bearer(context.settings.api_key))


def _tell(context: Context, method: Literal["POST", "PATCH"], path: str, value: Mapping[str, Any]) -> Call:
    headers = {"content-type": "application/json", **bearer(context.settings.api_key)}
    return Call(method, f"{context.settings.base_url}{path}", headers, json_body(value))


def _listed(answer: Answer, name: str) -> Sequence[Any]:
    body = answer.json()
    listed = body.get(name) if isinstance(body, dict) else None
    return listed if isinstance(listed, list) else ()


def _read_scopes(answer: Answer, context: Context) -> Sequence[Finding]:
    works, sends = answer.status == _OK, "mail.send" in _listed(answer, "scopes")
    signed = bool(context.settings.webhook_public_key)
    return (
        Finding("credentials", works, "" if works else f"HTTP {answer.status}: make a new api_key"),
        Finding("scope mail.send", sends, "" if sends else "give the API key the scope Mail Send"),
        Finding("receipts", signed, "" if signed else "set webhook_public_key to the Event Webhook's key"),
    )


def provision(context: Context) -> Sequence[Step]:
    """Return how the template and the signed Event Webhook come to be."""
    template, hooks = context.settings.template_id, "/v3/user/webhooks/event/settings"

    def hook(answer: Answer, field: str) -> bool:
        ours = (entry for entry in _listed(answer, "webhooks") if entry.get("url") == context.webhook_url)
        return any(entry.get(field) for entry in ours)

    create = Step(
        title="Dynamic template",
        find=_ask(context, "/v3/templates?generations=dynamic&page_size=200"),
        exists=lambda answer: any(entry.get("name") == NAME for entry in _listed(answer, "result")),
        make=_tell(context, "POST", "/v3/templates", {"name": NAME, "generation": "dynamic"}),
        instruction="To use it, put its id into template_id, and run this again for its version.",
    )
    version = Step(
        title="Version of the template",
        find=_ask(context, f"/v3/templates/{template}"),
        exists=lambda answer: bool(_listed(answer, "versions")),
        make=_tell(context, "POST", f"/v3/templates/{template}/versions", _VERSION),
    )
    subscribe = Step(
        title="Event Webhook",
        find=_ask(context, f"{hooks}/all"),
        exists=lambda answer: hook(answer, "enabled"),
        make=_tell(context, "POST", hooks, {"url": context.webhook_url, **_SUBSCRIPTION}),
    )
    sign = Step(
        title="Signature of the Event Webhook",
        find=_ask(context, f"{hooks}/all"),
        exists=lambda answer: hook(answer, "public_key"),
        make=_tell(context, "PATCH", f"{hooks}/signed", {"enabled": True}),
        instruction="Put the public_key of the answer into webhook_public_key. The call means the oldest "
        "webhook of the account: with several, turn the signature of ours on in the settings.",
    )
    return (create, version, subscribe, sign) if template else (create, subscribe, sign)


# Three braces: the words are escaped already, by the rules of their part.
_VERSION = {
    "name": "words of ordernotify",
    "active": 1,
    "subject": "{{{subject}}}",
    "html_content": "{{{html}}}",
    "plain_content": "{{{text}}}",
    "generate_plain_content": False,
}
_KINDS = "processed deferred delivered bounce dropped spam_report unsubscribe group_unsubscribe group_resubscribe"
_SUBSCRIPTION = {"enabled": True, "friendly_name": NAME, **dict.fromkeys(_KINDS.split(), True)}

PLATFORM = Platform(
    name="sendgrid",
    title="SendGrid",
    settings=SendGridSettings,
    channels=frozenset({Channel.EMAIL}),
    level=Level.C0,
    address="e-mail address",
    example="buyer@example.com",
    read_address=read_address,
    build=build,
    read_answer=read_answer,
    batch=1000,
    attachment_bytes=20_000_000,  # 30 MB a mail, of which encoding takes a third
    group=group,
    idempotency=Idempotency.NONE,
    idempotency_note="Drops no repetition and cannot be asked; our reference comes back in every event.",
    webhook=Webhook(
        gives=frozenset({Gives.RECEIPTS, Gives.CONSENTS}),
        verify=verify,
        read=read,
        signature=f"{SIGNATURE}: ECDSA P-256 over timestamp and body; within 48 hours",
    ),
    probe=Probe(build=lambda context: _ask(context, "/v3/scopes"), read=_read_scopes),
    provision=provision,
    per_second=10_000.0,
)
