"""Microsoft Teams: Adaptive Cards posted to Workflows (Power Automate), one URL for each client's channel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import Field, SecretStr, field_validator

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Idempotency,
    Platform,
    PlatformSettings,
    Refusal,
    Step,
    by_status,
    each,
    failure,
    json_body,
)

DEFAULT: Final = "default"  # the address of settings.webhook_url
_HOSTS = (
    ".api.powerplatform.com",
    ".api.gov.powerplatform.microsoft.us",  # GCC
    ".api.high.powerplatform.microsoft.us",  # GCC High
    ".api.appsplatform.us",  # DoD
    ".logic.azure.com",
    ".logic.azure.us",
)
_RETIRED = (".webhook.office.com", "outlook.office.com", "outlook.office365.com")
_ADVICE: Final = (
    "In Teams open the channel's Workflows, choose 'Send webhook alerts to a channel', let anyone trigger it, "
    "and copy its URL."
)


class TeamsSettings(PlatformSettings):
    """Nothing but a default: every channel hands out its own URL, which is the credential."""

    base_url: str = Field(
        default="", description="Origin instead of the one in each Workflows URL; empty: as the URL says."
    )
    webhook_url: SecretStr | None = Field(default=None, description="Workflows URL of the address 'default'.")

    @field_validator("webhook_url")
    @classmethod
    def _is_workflow(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        address = read_address(value.get_secret_value())
        if isinstance(address, Refusal) or address == DEFAULT:
            raise ValueError(f"must be a Workflows URL, with sig= in its query. {_ADVICE}")
        return value


_K = FailureKind

# What Power Automate says of a request, by the code in the body. Most of it is about one workflow, hence about
# one client: CONFIG and AUTH only where it is our own default, PERMANENT for everybody else's.
WORDS: Final[Mapping[str, FailureKind]] = {
    "TriggerInputSchemaMismatch": _K.PERMANENT,
    "InvalidRequestContent": _K.PERMANENT,
    "DirectApiAuthorizationRequired": _K.CONFIG,
    "WorkflowNotFound": _K.CONFIG,
    "WorkflowTriggerNotFound": _K.CONFIG,
    "WorkflowTriggerIsNotEnabled": _K.CONFIG,
    "DirectApiAuthorizationFailed": _K.AUTH,
    "AuthorizationFailed": _K.AUTH,
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    401: _K.AUTH,
    403: _K.AUTH,
    404: _K.CONFIG,
    410: _K.CONFIG,
    413: _K.PERMANENT,
}
_OF_THE_WORKFLOW = frozenset({_K.AUTH, _K.CONFIG})
_RUN_ID = "x-ms-workflow-run-id"
_TAKEN = frozenset({200, 202})

# Teams refuses about 28 KB, but only after the 202: whatever is longer would be lost without a word.
BUDGET: Final = 20_000
_LINE, _LABEL = 2_000, 200  # characters of one line
_LINK = re.compile(r"https://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]")


def read_address(text: str) -> str | Refusal:
    """Return a Workflows URL exactly as it was copied, or ``default``; or why the text is neither."""
    address = text.strip()
    if address == DEFAULT:
        return address
    url = _split(address)
    host = (url.hostname or "") if url else ""
    if host.endswith(_RETIRED):
        return Refusal(422, "address", f"is an Office 365 connector, which Microsoft retired in May 2026. {_ADVICE}")
    if url is None or url.scheme != "https" or url.username or url.fragment or not host.endswith(_HOSTS):
        return Refusal(422, "address", f"must be a Workflows URL (https://....api.powerplatform.com/...). {_ADVICE}")
    if not parse_qs(url.query).get("sig"):
        return Refusal(422, "address", "must keep its query, which ends in sig=: copy the whole Workflows URL")
    return address


def _split(address: str) -> SplitResult | None:
    if not address.isascii() or not address.isprintable() or " " in address:
        return None
    try:
        url = urlsplit(address)
        _ = url.port
    except ValueError:
        return None
    return url


def build(messages: Sequence[Message], context: Context) -> Call | Rejected:
    """Return the request that posts one card; Rejected where the address is no Workflows URL."""
    (message,) = messages
    settings: TeamsSettings = context.settings
    address = message.to
    if address == DEFAULT:
        if settings.webhook_url is None:
            return Rejected(_K.CONFIG, "teams_no_webhook_url")
        address = settings.webhook_url.get_secret_value()
    # Read again: what stands in the store decides where a request goes.
    if isinstance(read_address(address), Refusal):
        return Rejected(_K.PERMANENT, "teams_address")
    url = urlsplit(address)
    origin = settings.base_url or f"{url.scheme}://{url.netloc}"
    return Call(
        "POST",
        f"{origin}{url.path}?{url.query}",
        {"content-type": "application/json"},
        card_body(message),
        secrets=tuple({*parse_qs(url.query)["sig"], *re.findall(r"(?:^|&)sig=([^&]+)", url.query)}),
    )


def card_body(message: Message) -> bytes:
    """Return the message as JSON within Teams' budget; what does not fit falls off at the end."""
    body = [_line(message.subject, weight="Bolder", size="Medium")] if message.subject else []
    body += [_line(line) for line in message.text.splitlines() if line.strip()]
    body += [_line(value, label=label) for label, value in message.facts]
    if body:
        body[0]["id"] = message.reference  # the only place where a card keeps a mark of ours
    links = [{"type": "Action.OpenUrl", "title": urlsplit(url).netloc, "url": url} for url in _links(message.text)]
    while True:
        encoded = json_body(_post(body, links))
        if len(encoded) <= BUDGET or len(body) <= 1:
            return encoded
        body.pop()


def _post(body: Sequence[Mapping[str, Any]], links: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    if links:
        card["actions"] = links
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _line(text: str, *, label: str = "", **style: str) -> dict[str, Any]:
    # Text runs, because a TextBlock or a FactSet reads Markdown into anybody's data.
    runs = [{"type": "TextRun", "text": text[:_LINE], **style}]
    if label:
        runs.insert(0, {"type": "TextRun", "text": f"{label[:_LABEL]}: ", "weight": "Bolder"})
    return {"type": "RichTextBlock", "inlines": runs}


def _links(text: str) -> Sequence[str]:
    found = _LINK.search(text)
    return [found[0]] if found else []


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what became of a card: its word first, the HTTP status second.

    Accepted means that a run of the workflow is queued; no platform call tells whether it posted.
    """
    return each(_outcome(answer, messages[0], context.now), messages)


def _outcome(answer: Answer, message: Message, now: datetime) -> Outcome:
    if answer.status in _TAKEN:
        return Accepted(answer.headers.get(_RUN_ID, ""), f"teams_{answer.status}")
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    word = str(error.get("code", "")) if isinstance(error, dict) else ""
    code = f"teams_{word if word in WORDS else answer.status}"
    kind = WORDS.get(word) or BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    if kind in _OF_THE_WORKFLOW and message.to != DEFAULT:
        kind = _K.PERMANENT
    return by_status(answer, now, code=code) or failure(kind, code)


def provision(_context: Context) -> Sequence[Step]:
    """Return what the owner of a channel sets up in Teams; Microsoft has no API for it."""
    return (
        Step(
            title="Workflow of each channel",
            instruction=f"{_ADVICE} The URL is the contact's address and its credential. In a tenant of your own "
            "let a service account own it: a workflow dies with the account that made it.",
        ),
        Step(
            title="Card format",
            instruction="Leave the template's loop over attachments as it is. Post as Flow bot; in a private "
            "channel as User, because the bot cannot enter it.",
        ),
        Step(
            title="First card",
            instruction="Send a test notification and look at the workflow's run history: Teams accepts a card "
            "before it posts it, and reports later errors only there.",
        ),
    )


PLATFORM = Platform(
    name="teams",
    title="Microsoft Teams",
    settings=TeamsSettings,
    channels=frozenset({Channel.CHAT}),
    level=Level.C0,
    address="Workflows URL of a channel",
    example="https://default0123.45.environment.api.powerplatform.com/powerautomate/automations/direct/workflows/"
    "0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke?api-version=1"
    "&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=EXAMPLE0123456789",
    read_address=read_address,
    build=build,
    read_answer=read_answer,
    idempotency=Idempotency.NONE,
    idempotency_note="Drops no repetition and cannot be asked: an unanswered post stays unknown.",
    provision=provision,
    # No probe: the only request a workflow understands posts a card.
)
