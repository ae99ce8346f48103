"""Intercom: a contact's attributes and a data event, which together start the workspace's automated message."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.recipients import Refused, read_email
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
)
from ordernotify.platforms._intercom_api import IntercomSettings, call, refusal
from ordernotify.platforms._intercom_events import SIGNATURE, handshake, read, verify

_K = FailureKind
_OK, _ACCEPTED = 200, 202

MAX_TEXT: Final = 255  # of one attribute or one value of an event
# Beside reference, status and text: Intercom keeps ten values of an event and drops the others in silence. A
# name that ends in _date would be read as a Unix time.
METADATA: Final[Mapping[str, str]] = {
    "order_no": "order_no",
    "carrier": "carrier",
    "tracking_no": "tracking_no",
    "promised_date": "promised_on",
    "detail": "detail",
    "portal_url": "portal_url",
}
# Two events of one name, contact and second are one to Intercom, which drops the second and says 202. So the
# second of each message is moved back by what its reference says, up to this: the same for every attempt.
SPREAD_S: Final = 600
_CONTACT_ID = re.compile(r"[0-9a-f]{24}")


def read_address(text: str) -> str | Refusal:
    """Return an e-mail address, a contact's id at Intercom or its external id; or why the text is none."""
    address = text.strip()
    if "@" in address and not isinstance(email := read_email(address), Refused):
        return email.lower()
    if 0 < len(address) <= MAX_TEXT and address.isprintable() and "@" not in address:
        return address
    return Refusal(422, "address", "must be the contact's e-mail address, external id, or id at Intercom")


def _send(messages: Sequence[Message], context: Context) -> Conversation:
    """Find the contact, update its attributes, then record the event that starts the message."""
    (message,) = messages
    settings: IntercomSettings = context.settings
    contact = _contact((yield _find(message.to, context)), message.to, context)
    if not isinstance(contact, str):
        return [contact]
    attributes = attributes_of(message, settings)
    answer = yield call(context, "PUT", f"/contacts/{contact}", {"custom_attributes": attributes})
    if answer.status != _OK:
        return [refusal(answer, context.now)]
    event = {
        "event_name": settings.event_name,
        "created_at": second_of(message, context.now),
        "id": contact,
        "metadata": metadata_of(message),
    }
    answer = yield call(context, "POST", "/events", event)
    if answer.status not in {_OK, _ACCEPTED}:
        return [refusal(answer, context.now)]
    return [Accepted(f"{contact}:{event['created_at']}", f"intercom_{answer.status}")]


def attributes_of(message: Message, settings: IntercomSettings) -> dict[str, str]:
    """Return the contact's attributes that a message sets."""
    written = {settings.text_attribute: _fit(message.text), settings.reference_attribute: message.reference}
    if not message.notice_only:
        written[settings.status_attribute] = message.status.value
    return written


def metadata_of(message: Message) -> dict[str, str]:
    """Return what the event carries for the automated message to show; of a notice its words alone."""
    values = {"reference": message.reference, "text": _fit(message.text)}
    if message.notice_only:
        return values
    values["status"] = message.status.value
    facts = {ours: message.variables.get(name, "") for name, ours in METADATA.items()}
    return values | {name: _fit(value) for name, value in facts.items() if value}


def second_of(message: Message, now: datetime) -> int:
    """Return the Unix second of a message's event: it decides whether Intercom has seen the event before."""
    happened = int((message.occurred_at or now).astimezone(UTC).timestamp())
    return happened - int.from_bytes(message.reference.encode(), "big") % SPREAD_S


def _fit(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


# ---- the contact ----


def _find(address: str, context: Context) -> Call:
    if _CONTACT_ID.fullmatch(address):
        return call(context, "GET", f"/contacts/{quote(address, safe='')}")
    field = "email" if "@" in address else "external_id"
    query = {"query": {"field": field, "operator": "=", "value": address}, "pagination": {"per_page": 10}}
    return call(context, "POST", "/contacts/search", query)


def _contact(answer: Answer, address: str, context: Context) -> str | Outcome:
    """Return the id of the one contact with this address, or why there is none to write to."""
    if answer.status != _OK:
        return refusal(answer, context.now)
    body = answer.json()
    listed = body.get("data") if isinstance(body, dict) else None
    found = [body] if isinstance(body, dict) and _CONTACT_ID.fullmatch(address) else listed
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("id"), str) for one in found
    ):
        return Deferred(_K.TRANSIENT, "intercom_unreadable")
    # A lead that became a user may stay beside it, under the same address.
    users = [one for one in found if one.get("role") == "user"] or found
    if len(users) != 1 or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", users[0]["id"]):
        return Rejected(_K.PERMANENT, "intercom_several_contacts" if users else "intercom_no_contact")
    (contact,) = users
    if context.settings.sends_email:
        for field in ("unsubscribed_from_emails", "marked_email_as_spam"):
            if contact.get(field) is True:
                return Rejected(_K.OPT_OUT, f"intercom_{field}")
        if contact.get("has_hard_bounced") is True:
            return Rejected(_K.PERMANENT, "intercom_has_hard_bounced")
    return str(contact["id"])


# ---- setting up ----


def _read_me(answer: Answer, context: Context) -> Sequence[Finding]:
    settings: IntercomSettings = context.settings
    if answer.status != _OK:
        code = refusal(answer, context.now).code
        return (Finding("access", ok=False, advice=f"Intercom answers {code}: check access_token and base_url"),)
    body = answer.json()
    app = body.get("app") if isinstance(body, dict) else None
    workspace = app.get("id_code") if isinstance(app, dict) else None
    ours = not settings.app_id or workspace == settings.app_id
    hears = settings.client_secret is not None and bool(context.webhook_url)
    return (
        Finding("access", ok=True),
        Finding("workspace", ours, "" if ours else "app_id is not the workspace of access_token"),
        Finding("unsubscriptions", hears, "" if hears else "set public_url and client_secret to hear of them"),
    )


def provision(context: Context) -> Sequence[Step]:
    """Return the attributes that we set, then the checklist for what Intercom lets only a person do."""
    settings: IntercomSettings = context.settings
    names = (settings.status_attribute, settings.text_attribute, settings.reference_attribute)
    values = ", ".join(("text", "status", *METADATA.values()))
    url = context.webhook_url or "(set public_url first)"
    return (
        *(_attribute(context, name) for name in names),
        Step(
            title="Event",
            instruction=f"Send one notice to a contact of your own. Intercom lists the event {settings.event_name} "
            "under Settings > Data > Events once it has seen it; its values can be used up to a day later.",
        ),
        Step(
            title="Automated message",
            instruction="Under Outbound (or in a Series) make a message with the rule: when the event "
            f"{settings.event_name} occurs, every time. Let it send again to the same person without a limit. Its "
            f"words may use the event's {values}; {settings.text_attribute} of the contact holds the whole notice, "
            f"up to {MAX_TEXT} characters. Set it live.",
        ),
        Step(
            title="Webhooks",
            instruction=f"In the Developer Hub, under your app's Webhooks, set the endpoint {url}, subscribe to "
            "contact.unsubscribed, conversation.user.created and conversation.user.replied, and put the app's client "
            "secret (Basic information) into client_secret.",
        ),
    )


def _attribute(context: Context, name: str) -> Step:
    def exists(answer: Answer) -> bool:
        body = answer.json()
        listed = body.get("data") if isinstance(body, dict) else None
        return isinstance(listed, list) and any(isinstance(one, dict) and one.get("name") == name for one in listed)

    return Step(
        title=f"Contact attribute {name}",
        find=call(context, "GET", "/data_attributes?model=contact"),
        exists=exists,
        make=call(context, "POST", "/data_attributes", {"name": name, "model": "contact", "data_type": "string"}),
    )


PLATFORM = Platform(
    name="intercom",
    title="Intercom",
    settings=IntercomSettings,
    channels=frozenset({Channel.CHAT}),
    level=Level.C0,
    address="e-mail address, external id or Intercom id of the contact",
    example="buyer@example.com",
    read_address=read_address,
    converse=_send,
    idempotency=Idempotency.NATIVE,
    idempotency_note="Drops a second event of the same workspace, contact, name and second; ours stays the same.",
    webhook=Webhook(
        gives=frozenset({Gives.CONSENTS}),
        verify=verify,
        read=read,
        handshake=handshake,
        signature=f"{SIGNATURE}: HMAC-SHA1 over the body under the app's client secret",
    ),
    probe=Probe(build=lambda context: call(context, "GET", "/me"), read=_read_me),
    provision=provision,
    per_second=50.0,  # 10,000 requests a minute, of which a message takes three
)
