"""WhatsApp Business (Meta Cloud API): approved templates to phone numbers; signed statuses come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.recipients import Refused, read_phone
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
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
from ordernotify.platforms._meta import MetaSettings, error_of, graph_call, handshake, listed, verify
from ordernotify.platforms._meta_templates import parameters_of, template_of, template_steps
from ordernotify.platforms._signing import active
from ordernotify.platforms._whatsapp_events import reader


class WhatsAppSettings(MetaSettings):
    """One business phone number and the templates approved for its account."""

    phone_number_id: str = Field(
        pattern=r"^[0-9]{5,20}$", description="Id of the sending number in Meta's terms, not the number."
    )
    business_account_id: str = Field(
        default="",
        pattern=r"^([0-9]{5,20})?$",
        description="Id of the WhatsApp Business Account, to create templates and subscribe to webhooks.",
    )
    template_prefix: str = Field(
        default="order_",
        pattern=r"^[a-z0-9_]{0,100}$",
        description="Before the status in a template's name: order_ makes order_shipped, order_delayed, ...",
    )
    notice_template: str = Field(
        default="order_notice",
        pattern=r"^[a-z0-9_]{1,200}$",
        description="Template with one parameter, for messages that say only that there is news.",
    )


_K = FailureKind

# Meta's error codes, of answers and of status webhooks. The HTTP status says nothing beside them. What is about
# one number is PERMANENT: the contact's next channel is better than waiting a day.
CODES: Final[Mapping[int, FailureKind]] = {
    **dict.fromkeys((0, 3, 10, 190, *range(200, 300), 368, 130497, 131005, 131031), _K.AUTH),
    **dict.fromkeys((1, 2, 131000, 131016, 131057, 133004, 134101), _K.TRANSIENT),
    **dict.fromkeys((4, 80007, 130429, 131056, 132069), _K.RATE),
    **dict.fromkeys((33, 131030, 131037, 131045, 131048, 131055, 131063, 131064, 133010, 134100, 134102), _K.CONFIG),
    **dict.fromkeys((132001, 132007, 132015, 132016, 132068), _K.CONFIG),
    131042: _K.QUOTA,  # no way to pay
    131050: _K.OPT_OUT,
    **dict.fromkeys((100, 130403, 130472, 131008, 131009, 131021, 131026, 131047, 131049), _K.PERMANENT),
    **dict.fromkeys((131051, 131052, 131053, 131062, 132000, 132005, 132008, 132012, 132018), _K.PERMANENT),
    **dict.fromkeys((135000, 137000), _K.PERMANENT),
}
AMBIGUOUS: Final = frozenset({1, 131000})
# Seconds after which Meta takes a message again, where it says so in its documentation and nowhere else.
WAITS: Final[Mapping[int, float]] = {131056: 6.0, 131057: 60.0, 134101: 600.0}
_OK = 200


def read_address(text: str) -> str | Refusal:
    """Return a phone number in E.164, or why it is none."""
    number = read_phone(text)
    return Refusal(422, "address", number.message) if isinstance(number, Refused) else number


def build(messages: Sequence[Message], context: Context) -> Call | Rejected:
    """Return the request that sends one template; Rejected for a status that no template tells."""
    (message,) = messages
    settings: WhatsAppSettings = context.settings
    name = template_of(message, prefix=settings.template_prefix, notice=settings.notice_template)
    if name is None:
        return Rejected(_K.PERMANENT, "whatsapp_no_template")
    value = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": message.to.removeprefix("+"),
        "type": "template",
        "biz_opaque_callback_data": message.reference,
        "template": {
            "name": name,
            "language": {"code": settings.language_code(message.language)},
            "components": [{"type": "body", "parameters": parameters_of(message)}],
        },
    }
    return graph_call(settings, "POST", f"{settings.phone_number_id}/messages", value)


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what WhatsApp made of a message: its own code first, the HTTP status second."""
    return each(_outcome(answer, context.now), messages)


def _outcome(answer: Answer, now: datetime) -> Outcome:
    error = error_of(answer)
    if error is not None:
        word, kind = f"whatsapp_{error.code}", CODES.get(error.code)
        if kind is None:
            return by_status(answer, now, code=word) or Rejected(_K.PERMANENT, word)
        wait = answer.retry_after_s(now)
        return failure(
            kind,
            word,
            retry_after_s=WAITS.get(error.code) if wait is None else wait,
            ambiguous=error.code in AMBIGUOUS,
        )
    if answer.status != _OK:
        word = f"whatsapp_{answer.status}"
        return by_status(answer, now, code=word) or Rejected(_K.PERMANENT, word)
    return _accepted(answer.json())


def _accepted(body: Any) -> Outcome:
    sent = body.get("messages") if isinstance(body, dict) else None
    first = sent[0] if isinstance(sent, list) and sent else None
    if not isinstance(first, dict) or not isinstance(first.get("id"), str):
        return Deferred(_K.TRANSIENT, "whatsapp_unreadable", ambiguous=True)
    # Meta may hold a new template back to judge it; a webhook says later whether the message went.
    word = first.get("message_status")
    return Accepted(first["id"], f"whatsapp_{word if word in _TAKEN else 'accepted'}")


_TAKEN = frozenset({"accepted", "held_for_quality_assessment", "paused"})


# ---- setting up ----

_ABOUT_THE_NUMBER = "display_phone_number,verified_name,quality_rating,status"


def _ask_number(context: Context) -> Call:
    settings: WhatsAppSettings = context.settings
    return graph_call(settings, "GET", settings.phone_number_id, fields=_ABOUT_THE_NUMBER)


def _read_number(answer: Answer, context: Context) -> Sequence[Finding]:
    body = answer.json()
    works = answer.status == _OK and isinstance(body, dict)
    rating = str(body.get("quality_rating", "")) if works else ""
    receipts = bool(active(context.settings.app_secret) and active(context.settings.verify_token))
    error = error_of(answer)
    named = f"error {error.code}" if error else f"HTTP {answer.status}"
    return (
        Finding(
            "credentials",
            works,
            "" if works else f"{named}: renew access_token (whatsapp_business_messaging), check phone_number_id",
        ),
        Finding("quality", rating != "RED", "" if rating != "RED" else "people block this number: send less"),
        Finding("receipts", receipts, "" if receipts else "set app_secret and verify_token"),
    )


def provision(context: Context) -> Sequence[Step]:
    """Return how the templates and the webhook come to be."""
    settings: WhatsAppSettings = context.settings
    account, url = settings.business_account_id, context.webhook_url
    app = Step(
        title="Webhook of the app",
        instruction=f"In the app's dashboard under WhatsApp > Configuration set the callback URL {url} and the "
        "verify token of verify_token, subscribe to the fields messages and user_preferences, and set the app "
        "to Live: before that no webhook comes.",
    )
    if not account:
        return (app, Step(title="Templates", instruction="Set business_account_id and run this again."))
    tokens = active(settings.verify_token)
    subscribe = Step(
        title="Webhook of the business account",
        find=graph_call(settings, "GET", f"{account}/subscribed_apps"),
        exists=lambda answer: any(entry.get("override_callback_uri") == url for entry in listed(answer)),
        make=graph_call(
            settings,
            "POST",
            f"{account}/subscribed_apps",
            {"override_callback_uri": url, "verify_token": tokens[0] if tokens else ""},
        ),
    )
    templates = template_steps(settings, account, prefix=settings.template_prefix, notice=settings.notice_template)
    return (app, subscribe, *templates)


PLATFORM = Platform(
    name="whatsapp",
    title="WhatsApp",
    settings=WhatsAppSettings,
    channels=frozenset({Channel.CHAT}),
    level=Level.C0,
    address="phone number, E.164",
    example="+12025550123",
    read_address=read_address,
    build=build,
    read_answer=read_answer,
    idempotency=Idempotency.NONE,
    idempotency_note="Drops no repetition and cannot be asked; every status webhook brings our reference back.",
    webhook=Webhook(
        gives=frozenset({Gives.RECEIPTS, Gives.CONSENTS}),
        verify=verify,
        read=reader(CODES),
        handshake=handshake,
        signature="X-Hub-Signature-256: HMAC-SHA256 over the exact body",
    ),
    probe=Probe(build=_ask_number, read=_read_number),
    provision=provision,
    per_second=80.0,
)
