"""Freshdesk's settings, its calls, and what is set up there: four ticket fields and two automation rules."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import orjson
from pydantic import Field, SecretStr

from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Finding, PlatformSettings, Step, json_body
from ordernotify.platforms._helpdesk import NOTICE_FIELDS
from ordernotify.platforms._word_maps import StatusMap, StatusWords

TOKEN_HEADER: Final = "X-Webhook-Token"  # noqa: S105 - the name of a header

_OK = 200
_FIELD = r"^cf_[a-z0-9_]{1,60}$"


class FreshdeskSettings(PlatformSettings):
    """One Freshdesk account, what is done to an order's ticket, and in which fields an order stands."""

    base_url: str = Field(
        pattern=r"^https?://[^/?#\s]+(/[^/?#\s]+)*$",
        description="Root of the account, such as https://northgate.freshdesk.com; its own name, no alias.",
    )
    api_key: SecretStr = Field(description="API key of the agent we write as.")
    action: Literal["reply", "update"] = Field(
        default="reply",
        description="reply: the requester is written to. update: fields are set, and an automation writes.",
    )
    from_email: str = Field(default="", description="Support address that replies come from; empty: the default.")
    order_field: str = Field(
        default="cf_order_no", pattern=_FIELD, description="Ticket field that holds the order number."
    )
    status_field: str = Field(
        default="cf_order_status", pattern=_FIELD, description="Ticket field that takes the order's status."
    )
    text_field: str = Field(
        default="cf_notice", pattern=_FIELD, description="Ticket field that takes the words of the message."
    )
    reference_field: str = Field(
        default="cf_notice_reference",
        pattern=_FIELD,
        description="Ticket field that takes our reference; an automation starts when it changes.",
    )
    status_words: StatusWords = Field(
        default_factory=dict, description="What is written for a status; Out for delivery and so on by default."
    )
    status_map: StatusMap = Field(default_factory=dict, description="What words of the desk mean: On its way=shipped.")
    webhook_secret: SecretStr | None = Field(
        default=None,
        description=f"Secret that automations send in {TOKEN_HEADER}. Two, with a comma, while one changes.",
    )

    @property
    def fields(self) -> frozenset[str]:
        """The ticket fields that must exist."""
        return frozenset({self.order_field, self.status_field, self.text_field, self.reference_field})


def call(
    context: Context, method: Literal["GET", "POST", "PUT"], path: str, value: Mapping[str, Any] | None = None
) -> Call:
    """Return a request to the account; ``path`` is below /api/v2/."""
    settings: FreshdeskSettings = context.settings
    # The key is the user name; the password is never looked at.
    pair = base64.b64encode(f"{settings.api_key.get_secret_value()}:X".encode()).decode("ascii")
    headers = {"accept": "application/json", "authorization": f"Basic {pair}"}
    if value is not None:
        headers["content-type"] = "application/json"
    body = b"" if value is None else json_body(value)
    return Call(method, f"{settings.base_url}/api/v2/{path}", headers, body)


def status_word(settings: FreshdeskSettings, status: OrderStatus) -> str:
    """Return the choice of the status field for a status of ours."""
    return settings.status_words.get(status, status.value.replace("_", " ").capitalize())


# ---- probe ----


def ask_who(context: Context) -> Call:
    """Return the question which agent we are."""
    return call(context, "GET", "agents/me")


def read_who(answer: Answer, context: Context) -> Sequence[Finding]:
    """Return whether the key is an agent's, whether the plan has an API, and whether automations can be believed."""
    settings: FreshdeskSettings = context.settings
    works, paid = answer.status == _OK, answer.headers.get("x-ratelimit-total") != "0"
    advice = f"HTTP {answer.status}: copy api_key from Profile settings, and check base_url"
    signed = settings.webhook_secret is not None
    return (
        Finding("credentials", works, "" if works else advice),
        Finding("plan", paid, "" if paid else "this plan allows no API calls: take one that does"),
        Finding("webhook", signed, "" if signed else "set webhook_secret, and the same in the automation's header"),
    )


# ---- provision ----


def provision(context: Context) -> Sequence[Step]:
    """Return how the ticket fields come to be, and the rules that a person adds: Freshdesk has no API for them."""
    settings: FreshdeskSettings = context.settings
    choices = [{"value": status_word(settings, one)} for one in OrderStatus if one is not OrderStatus.UNKNOWN]
    steps = [
        _field(context, settings.order_field, "custom_text", "Order no"),
        _field(context, settings.status_field, "custom_dropdown", "Order status", choices=choices),
    ]
    if settings.action == "update":
        steps += [
            _field(context, settings.text_field, "custom_paragraph", "Notice"),
            _field(context, settings.reference_field, "custom_text", "Notice reference"),
            Step(title="Automation that mails the requester", instruction=_mailing(settings)),
        ]
    steps.append(Step(title="Automation that tells the order status", instruction=_telling(context)))
    return tuple(steps)


def _field(context: Context, name: str, kind: str, label: str, **more: Any) -> Step:
    field = {
        "type": kind,
        "label": label,
        "label_for_customers": label,
        "customers_can_edit": False,
        "displayed_to_customers": False,
        **more,
    }
    return Step(
        title=f"Ticket field {name}",
        find=call(context, "GET", "ticket_fields"),
        exists=partial(_is_there, name=name),
        make=call(context, "POST", "admin/ticket_fields", field),
        instruction=f"Freshdesk names a field by its label: where the new one is not {name}, set its name here.",
    )


def _is_there(answer: Answer, *, name: str) -> bool:
    fields = answer.json()
    return isinstance(fields, list) and any(isinstance(one, dict) and one.get("name") == name for one in fields)


def _mailing(settings: FreshdeskSettings) -> str:
    return (
        "Admin > Workflows > Automations > Ticket Updates > New rule, named `ordernotify: mail the requester`. "
        "Performed by: Agent, the one of our api_key. "
        f"Event: the field {settings.reference_field} is changed from Any to Any. "
        "Action: Send email to requester, subject {{ticket.subject}}, body "
        f"{{{{ticket.{settings.text_field}}}}}. Without this rule nobody is mailed, and no error says so."
    )


def _telling(context: Context) -> str:
    settings: FreshdeskSettings = context.settings
    placeholders = {
        "ticket_id": "{{ticket.id}}",
        "order_status": f"{{{{ticket.{settings.status_field}}}}}",
        "order_no": f"{{{{ticket.{settings.order_field}}}}}",
        "client": "{{ticket.company.id}}",
    }
    # Placeholders are not escaped: only values that can hold no quote go into the body.
    body = orjson.dumps({name: placeholders[name] for name in NOTICE_FIELDS if name in placeholders}).decode()
    return (
        "Admin > Workflows > Automations > Ticket Updates > New rule, named `ordernotify: tell the order status`. "
        "Performed by: Agent, every one but that of our api_key, or our own writing is told back to us. "
        f"Event: the field {settings.status_field} is changed from Any to Any. "
        f"Action: Trigger webhook, POST {context.webhook_url or 'the webhook address of this platform'}, "
        f"custom header {TOKEN_HEADER} with the value of webhook_secret, encoding JSON, advanced, content: {body}"
    )
