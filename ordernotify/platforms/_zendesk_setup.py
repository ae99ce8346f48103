"""Zendesk's settings, its calls, and what is set up there: the status field, the webhook, two triggers."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

import orjson
from pydantic import Field, SecretStr, field_validator, model_validator

from ordernotify.core.events import OrderStatus
from ordernotify.core.recipients import Refused, read_email
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Finding,
    PlatformSettings,
    Step,
    bearer,
    json_body,
)
from ordernotify.platforms._helpdesk import NOTICE_FIELDS
from ordernotify.platforms._signing import active
from ordernotify.platforms._word_maps import StatusMap, StatusWords

NAME: Final = "ordernotify"  # the tag of every ticket that we wrote to
# Zendesk signs a webhook that is only being tried with this secret, which everybody knows.
PUBLIC_SECRET: Final = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="  # noqa: S105 - published by Zendesk
MAIL_TRIGGER: Final = "ordernotify: mail the requester"
TELL_TRIGGER: Final = "ordernotify: tell the order status"
STATUS_FIELD: Final = "Order status"

_OK = 200
_API = "5"  # the number of "Web service (API)" among the ways a ticket is updated
_STAFF = frozenset({"agent", "admin"})


class ZendeskSettings(PlatformSettings):
    """One Zendesk account, the agent we write as, and what a written ticket looks like."""

    base_url: str = Field(
        pattern=r"^https?://[^/?#\s]+(/[^/?#\s]+)*$",
        description="Root of the account, such as https://northgate.zendesk.com.",
    )
    agent_email: str = Field(default="", description="Agent whose API token api_token is.")
    api_token: SecretStr | None = Field(default=None, description="API token of the agent.")
    access_token: SecretStr | None = Field(
        default=None, description="OAuth access token, instead of agent_email and api_token."
    )
    public: bool = Field(default=True, description="Whether the requester sees what we write.")
    ticket_status: Literal["", "open", "pending", "hold", "solved"] = Field(
        default="", description="Status that a written ticket takes; empty: it keeps its own."
    )
    requester_email: str = Field(
        default="",
        description="Requester of tickets made for orders that have none; empty: none is made, and a message "
        "for such an order is refused.",
    )
    status_field_id: int | None = Field(
        default=None, ge=1, description="Id of the ticket field that takes the order's status."
    )
    status_words: StatusWords = Field(
        default_factory=dict, description="What is written for a status: shipped=on_its_way,delivered=done."
    )
    status_map: StatusMap = Field(
        default_factory=dict,
        description="What words of the desk mean, ticket statuses in lower case included: solved=delivered.",
    )
    webhook_id: str = Field(
        default="", pattern=r"^[A-Za-z0-9]{0,40}$", description="Id of the webhook that speaks to us."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="Signing secret of the webhook. Two, with a comma, while one changes."
    )

    @field_validator("requester_email", "agent_email")
    @classmethod
    def _is_address(cls, value: str) -> str:
        address = read_email(value) if value else value
        if isinstance(address, Refused) or not value.isascii():
            raise ValueError("must be one e-mail address in ASCII, such as orders@example.com")
        return address

    @field_validator("webhook_secret")
    @classmethod
    def _is_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if PUBLIC_SECRET in active(value):
            raise ValueError("must be the webhook's own secret: this one is published, for trials")
        return value

    @model_validator(mode="after")
    def _logs_in_one_way(self) -> Self:
        if bool(self.agent_email) != (self.api_token is not None):
            raise ValueError("agent_email and api_token must be set together, or neither")
        if (self.api_token is None) == (self.access_token is None):
            raise ValueError("set agent_email and api_token, or access_token: one way to log in")
        return self


def call(
    context: Context,
    method: Literal["GET", "POST", "PUT"],
    path: str,
    value: Mapping[str, Any] | None = None,
    *,
    key: str = "",
) -> Call:
    """Return a request to the account; ``path`` is below /api/v2/, ``key`` makes a repetition harmless."""
    settings: ZendeskSettings = context.settings
    headers = {"accept": "application/json", **_login(settings)}
    if key:
        headers["idempotency-key"] = key
    if value is not None:
        headers["content-type"] = "application/json"
    body = b"" if value is None else json_body(value)
    return Call(method, f"{settings.base_url}/api/v2/{path}", headers, body)


def _login(settings: ZendeskSettings) -> dict[str, str]:
    if settings.access_token is not None:
        return bearer(settings.access_token)
    token = settings.api_token.get_secret_value() if settings.api_token else ""
    pair = f"{settings.agent_email}/token:{token}"
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"}


# ---- probe ----


def ask_who(context: Context) -> Call:
    """Return the question who we are."""
    return call(context, "GET", "users/me.json")


def read_who(answer: Answer, context: Context) -> Sequence[Finding]:
    """Return whether we are an agent, and whether we can believe the webhook.

    An unknown caller is answered 200 too, as a user without an id.
    """
    body = answer.json()
    user = body.get("user") if isinstance(body, dict) else None
    role = user.get("role") if isinstance(user, dict) and user.get("id") else None
    works = answer.status == _OK and role in _STAFF
    advice = f"HTTP {answer.status}, role {role or 'none'}: copy the token of an agent from the Admin Center"
    settings: ZendeskSettings = context.settings
    signed, field = settings.webhook_secret is not None, settings.status_field_id is not None
    return (
        Finding("credentials", works, "" if works else advice),
        Finding("status field", field, "" if field else "provision, then set status_field_id to the field's id"),
        Finding("webhook", signed, "" if signed else "set webhook_secret to the webhook's signing secret"),
    )


# ---- provision ----


def provision(context: Context) -> Sequence[Step]:
    """Return how the status field, the mail trigger, the webhook and the trigger that speaks to us come to be."""
    settings: ZendeskSettings = context.settings
    steps = [_status_field(context), _mail_trigger(context)]
    if not context.webhook_url:
        steps.append(Step(title="Webhook", instruction="Set ORDERNOTIFY_PUBLIC_URL, then provision again."))
        return tuple(steps)
    steps.append(_webhook(context))
    if settings.webhook_id and settings.status_field_id:
        steps.append(_tell_trigger(context, settings.webhook_id, settings.status_field_id))
    else:
        text = "Set webhook_id and status_field_id to the ids that were just made, then provision again."
        steps.append(Step(title="Trigger that tells the order status", instruction=text))
    return tuple(steps)


def _has(answer: Answer, kind: str, **wanted: str) -> bool:
    body = answer.json()
    entries = body.get(kind) if isinstance(body, dict) else None
    return isinstance(entries, list) and any(
        isinstance(entry, dict) and all(entry.get(name) == value for name, value in wanted.items()) for entry in entries
    )


def _status_field(context: Context) -> Step:
    settings: ZendeskSettings = context.settings
    known = [status for status in OrderStatus if status is not OrderStatus.UNKNOWN]
    options = [
        {"name": status.value.replace("_", " ").capitalize(), "value": settings.status_words.get(status, status)}
        for status in known
    ]
    field = {"type": "tagger", "title": STATUS_FIELD, "custom_field_options": options}
    return Step(
        title=f"Ticket field {STATUS_FIELD}",
        find=call(context, "GET", "ticket_fields.json"),
        exists=lambda answer: _has(answer, "ticket_fields", title=STATUS_FIELD, type="tagger"),
        make=call(context, "POST", "ticket_fields.json", {"ticket_field": field}),
        instruction="Put the field's id into status_field_id.",
    )


def _condition(field: str, operator: str, value: str) -> dict[str, str]:
    return {"field": field, "operator": operator, "value": value}


def _trigger(context: Context, title: str, conditions: list[dict[str, str]], action: list[Any], why: str) -> Step:
    trigger = {
        "title": title,
        "active": True,
        "conditions": {"all": conditions, "any": []},
        "actions": [{"field": action[0], "value": action[1:]}],
    }
    return Step(
        title=f"Trigger {title}",
        find=call(context, "GET", "triggers.json?active=true"),
        exists=lambda answer: _has(answer, "triggers", title=title),
        make=call(context, "POST", "triggers.json", {"trigger": trigger}),
        instruction=why,
    )


def _mail_trigger(context: Context) -> Step:
    # Only what was written through the API: an agent's own comment on the same ticket has its own trigger.
    conditions = [
        _condition("current_tags", "includes", NAME),
        _condition("comment_is_public", "is", "true"),
        _condition("current_via_id", "is", _API),
    ]
    words = ["notification_user", "requester_id", "{{ticket.title}}", "{{ticket.latest_public_comment_html}}"]
    why = (
        "Without it nobody is mailed, and no error says so. Add the condition `Tags contain none of ordernotify` "
        "to Zendesk's own trigger `Notify requester and CCs of comment update`, or the requester is mailed twice."
    )
    return _trigger(context, MAIL_TRIGGER, conditions, words, why)


def _webhook(context: Context) -> Step:
    webhook = {
        "name": NAME,
        "endpoint": context.webhook_url,
        "http_method": "POST",
        "request_format": "json",
        "status": "active",
        "subscriptions": ["conditional_ticket_events"],
    }
    return Step(
        title="Webhook",
        find=call(context, "GET", "webhooks"),
        exists=lambda answer: _has(answer, "webhooks", endpoint=context.webhook_url, status="active"),
        make=call(context, "POST", "webhooks", {"webhook": webhook}),
        instruction="Put the webhook's id into webhook_id, and what Reveal secret shows (or "
        "GET /api/v2/webhooks/{id}/signing_secret answers) into webhook_secret.",
    )


def _tell_trigger(context: Context, webhook_id: str, field_id: int) -> Step:
    # What the API wrote is our own word: told back to us it would say nothing, and could go round for ever.
    conditions = [
        _condition(f"custom_fields_{field_id}", "changed", ""),
        _condition("current_via_id", "is_not", _API),
    ]
    placeholders = {
        "ticket_id": "{{ticket.id}}",
        "order_status": f"{{{{ticket.ticket_field_{field_id}}}}}",
        "order_no": "{{ticket.external_id}}",
        "client": "{{ticket.organization.external_id}}",
        "updated_at": "{{ticket.updated_at_with_timestamp}}",
    }
    body = orjson.dumps({name: placeholders[name] for name in NOTICE_FIELDS if name in placeholders}).decode()
    why = "It speaks when an agent sets the order status of a ticket."
    return _trigger(context, TELL_TRIGGER, conditions, ["notification_webhook", webhook_id, body], why)
