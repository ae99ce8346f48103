"""Mailgun: the settings that reach a sending domain, its checks and its webhooks."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from ordernotify.platforms._base import Answer, Call, Context, Finding, PlatformSettings, Probe, Step
from ordernotify.platforms._mail import DisplayName, OptionalAddress, SenderAddress

_MAX_TAGS: Final = 3
_TAG = re.compile(r"[ -~]{1,128}")


def _comma_list(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class MailgunSettings(PlatformSettings):
    """One sending domain of a Mailgun account."""

    base_url: str = Field(
        default="https://api.mailgun.net", description="Root of the API; https://api.eu.mailgun.net in the EU."
    )
    domain: str = Field(pattern=r"^[a-z0-9.-]{1,253}$", description="Sending domain, such as mg.example.com.")
    api_key: SecretStr = Field(
        description="Account API key. A domain sending key sends too, but cannot look for lost answers."
    )
    webhook_signing_key: SecretStr | None = Field(
        default=None, description="HTTP webhook signing key. Two, with a comma, while one changes."
    )
    from_email: SenderAddress = Field(description="Sender, an address of the sending domain.")
    from_name: DisplayName = Field(default="", description="Sender's name.")
    reply_to: OptionalAddress = Field(default="", description="Where answers go, if not to the sender.")
    tags: Annotated[tuple[str, ...], BeforeValidator(_comma_list)] = Field(
        default=(), max_length=_MAX_TAGS, description="Up to 3 tags for statistics, with commas."
    )
    require_tls: bool = Field(default=True, description="Deliver over TLS only, or not at all.")
    tracking: bool = Field(default=False, description="Let Mailgun track opens and rewrite links.")
    test_mode: bool = Field(default=False, description="Mailgun takes and bills mails but delivers none.")

    @field_validator("tags")
    @classmethod
    def _are_tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_TAG.fullmatch(tag) for tag in value):
            raise ValueError("must be tags of up to 128 ASCII characters")
        return value


# What becomes of a mail after it was taken; opens and clicks prove nothing.
WEBHOOKS: Final = ("delivered", "temporary_fail", "permanent_fail", "complained", "unsubscribed")
_OK: Final = 200


def login(settings: MailgunSettings) -> dict[str, str]:
    """Return the Authorization header of the API key."""
    pair = f"api:{settings.api_key.get_secret_value()}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def _find_domain(context: Context) -> Call:
    settings: MailgunSettings = context.settings
    return Call("GET", f"{settings.base_url}/v4/domains/{settings.domain}", login(settings))


def _read_domain(answer: Answer, context: Context) -> Sequence[Finding]:
    body = answer.json()
    domain = body.get("domain") if isinstance(body, dict) else None
    signed = context.settings.webhook_signing_key is not None
    receipts = Finding("receipts", signed, "" if signed else "set webhook_signing_key to the HTTP signing key")
    if answer.status != _OK or not isinstance(domain, dict):
        advice = f"HTTP {answer.status}: check api_key and domain, and that base_url is of the domain's region"
        return (Finding("credentials", ok=False, advice=advice), receipts)
    state = str(domain.get("state", ""))
    active = state == "active" and not domain.get("is_disabled")
    advice = "" if active else "verify the domain's DNS records in Mailgun, and ask it why the domain is disabled"
    return (Finding("credentials", ok=True), Finding("domain", active, advice), receipts)


PROBE: Final = Probe(build=_find_domain, read=_read_domain)


def _are_set(answer: Answer, url: str) -> bool:
    body = answer.json()
    hooks = body.get("webhooks") if isinstance(body, dict) else None
    return isinstance(hooks, dict) and all(url in _urls(hooks.get(name)) for name in WEBHOOKS)


def _urls(hook: object) -> Sequence[Any]:
    urls = hook.get("urls") if isinstance(hook, Mapping) else None
    return urls if isinstance(urls, list) else ()


def provision(context: Context) -> Sequence[Step]:
    """Return how events find their way to us."""
    settings: MailgunSettings = context.settings
    key = Step(
        title="HTTP webhook signing key",
        instruction="In app.mailgun.com: Sending > Webhooks > HTTP webhook signing key; put it into "
        "webhook_signing_key.",
    )
    url = context.webhook_url
    if not url:
        return (key, Step(title="Webhooks", instruction="Set ORDERNOTIFY_PUBLIC_URL, then provision again."))
    hooks = f"{settings.base_url}/{{version}}/domains/{settings.domain}/webhooks"
    headers = {"content-type": "application/x-www-form-urlencoded", **login(settings)}
    fields = [("url", url), *(("event_types", name) for name in WEBHOOKS)]
    subscribe = Step(
        title="Webhooks",
        find=Call("GET", hooks.format(version="v3"), login(settings)),
        exists=lambda answer: _are_set(answer, url),
        make=Call("POST", hooks.format(version="v4"), headers, urlencode(fields).encode()),
    )
    return (subscribe,) if settings.webhook_signing_key else (key, subscribe)
