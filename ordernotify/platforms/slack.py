"""Slack: incoming webhooks routed per client, or a bot that posts to channels and edits what it posted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from pydantic import Field, SecretStr, field_validator

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
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
from ordernotify.platforms._slack_blocks import words
from ordernotify.platforms._slack_events import read, verify

VENDOR_URL: Final = "https://hooks.slack.com"
DEFAULT: Final = "default"  # the address of settings.webhook_url
_HOOK = re.compile(
    r"(?:(https://hooks\.slack(?:-gov)?\.com)?/)?(services/T[A-Z0-9]{2,}/B[A-Z0-9]{2,}/([A-Za-z0-9]{8,}))"
)
_CHANNEL = re.compile(r"[CGDUW][A-Z0-9]{7,20}")


class SlackSettings(PlatformSettings):
    """A Slack app; what it needs depends on whether clients hand out webhooks or invite a bot."""

    base_url: str = Field(
        default=VENDOR_URL, description="Where incoming webhooks are; https://hooks.slack-gov.com for GovSlack."
    )
    api_url: str = Field(
        default="https://slack.com/api", description="Web API; https://slack-gov.com/api for GovSlack."
    )
    webhook_url: SecretStr | None = Field(default=None, description="Incoming webhook of the address 'default'.")
    bot_token: SecretStr | None = Field(default=None, description="Bot token, xoxb-, for addresses that are ids.")
    signing_secret: SecretStr | None = Field(default=None, description="Signing secret of the app, for events.")

    @field_validator("webhook_url")
    @classmethod
    def _is_hook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _HOOK.fullmatch(value.get_secret_value()):
            raise ValueError("must be an incoming webhook, such as https://hooks.slack.com/services/T.../B.../...")
        return value


_K = FailureKind

# Slack's error words, of webhooks and of the Web API, by what they mean for us. Any other word is PERMANENT.
WORDS: Final[Mapping[str, FailureKind]] = {
    word: kind
    for kind, words in {
        _K.RATE: "ratelimited rate_limited message_limit_exceeded",
        _K.TRANSIENT: "rollup_error internal_error fatal_error service_unavailable request_timeout "
        "team_added_to_org org_login_required update_failed external_channel_migrating streaming_state_conflict",
        _K.AUTH: "not_authed invalid_auth account_inactive token_expired token_revoked missing_scope "
        "not_allowed_token_type no_permission access_denied accesslimited ekm_access_denied "
        "enterprise_is_restricted two_factor_setup_required team_access_not_granted app_access_restricted is_bot",
        _K.CONFIG: "metadata_must_be_sent_from_app as_user_not_supported send_on_behalf_not_allowed "
        "method_deprecated deprecated_endpoint unknown_method",
        _K.PERMANENT: "invalid_payload invalid_blocks invalid_blocks_format no_text user_not_found "
        "missing_text_or_fallback_or_attachments too_many_attachments msg_blocks_too_long msg_too_long "
        "message_not_found edit_window_closed cant_update_message block_mismatch",
    }.items()
    for word in words.split()
}
# About one channel or one webhook: CONFIG when it is our own default, PERMANENT when it is a client's, whose
# lost webhook must not stop the platform for everybody else.
ENDPOINT_WORDS: Final = frozenset(
    [
        "invalid_token",
        "action_prohibited",
        "posting_to_general_channel_denied",
        "team_disabled",
        "channel_not_found",
        "no_service",
        "no_service_id",
        "no_active_hooks",
        "no_team",
        "channel_is_archived",
        "not_in_channel",
        "is_archived",
        "restricted_action",
        "restricted_action_read_only_channel",
        "restricted_action_thread_only_channel",
        "messages_tab_disabled",
        "team_not_found",
        "is_inactive",
        "posting_to_channel_denied",
    ]
)
AMBIGUOUS: Final = frozenset({"rollup_error", "internal_error", "fatal_error"})

_JSON = {"content-type": "application/json; charset=utf-8"}
_OK = 200


def read_address(text: str) -> str | Refusal:
    """Return a channel id, ``default`` or an incoming webhook (its URL, or its path); or why it is none."""
    address = text.strip()
    if address == DEFAULT or _CHANNEL.fullmatch(address) or _HOOK.fullmatch(address):
        return address.removeprefix("/")
    shapes = "a channel id (C0123456789) or a webhook (https://hooks.slack.com/services/T.../B.../...)"
    return Refusal(422, "address", f"must be {shapes}")


def build(messages: Sequence[Message], context: Context) -> Call | Rejected:
    """Return the request that posts a message, or edits the one it replaces where a bot may."""
    (message,) = messages
    settings: SlackSettings = context.settings
    address = message.to
    if _CHANNEL.fullmatch(address):
        return _bot_call(message, settings)
    if address == DEFAULT:
        if settings.webhook_url is None:
            return Rejected(_K.CONFIG, "slack_no_webhook_url")
        address = settings.webhook_url.get_secret_value()
    hook = _HOOK.fullmatch(address)
    return Rejected(_K.PERMANENT, "slack_address") if hook is None else _post(hook, settings, words(message))


def _post(hook: re.Match[str], settings: SlackSettings, value: Mapping[str, Any]) -> Call:
    origin = hook[1] if hook[1] and settings.base_url == VENDOR_URL else settings.base_url
    return Call("POST", f"{origin}/{hook[2]}", _JSON, json_body(value), secrets=(hook[3],))


def _bot_call(message: Message, settings: SlackSettings) -> Call | Rejected:
    if settings.bot_token is None:
        return Rejected(_K.CONFIG, "slack_no_bot_token")
    method = "chat.postMessage"
    body = {
        "channel": message.to,
        **words(message),
        "metadata": {"event_type": "order_update", "event_payload": {"on_reference": message.reference}},
    }
    if message.edit_of:
        method = "chat.update"
        body["channel"], _, body["ts"] = message.edit_of.partition(":")
    else:
        body["unfurl_links"] = False
    headers = {**_JSON, **bearer(settings.bot_token)}
    return Call("POST", f"{settings.api_url}/{method}", headers, json_body(body))


# What Slack says of a message that cannot be edited any more: its reader must be told all the same.
_GONE: Final = frozenset({"message_not_found", "edit_window_closed", "cant_update_message"})


def converse(messages: Sequence[Message], context: Context) -> Conversation:
    """Send a message; anew where the one to edit is gone."""
    (message,) = messages
    call = build(messages, context)
    if isinstance(call, Rejected):
        return each(call, messages)
    answer = yield call
    said = answer.json()
    if message.edit_of and isinstance(said, dict) and said.get("error") in _GONE:
        message = replace(message, edit_of="")
        anew = build([message], context)
        if isinstance(anew, Call):
            answer = yield anew
    return read_answer(answer, [message], context)


# ---- answers ----


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what Slack made of a message: its own word first, the HTTP status second."""
    return each(_outcome(answer, messages[0], context.now), messages)


def _outcome(answer: Answer, message: Message, now: datetime) -> Outcome:
    body = answer.json()
    said = body if isinstance(body, dict) else {}
    if said.get("ok") is True:
        return Accepted(f"{said.get('channel', '')}:{said.get('ts', '')}", "slack_ok")
    word = str(said.get("error", "")) or answer.text().strip()
    if answer.status == _OK and word == "ok":
        return Accepted("", "slack_ok")
    kind = WORDS.get(word)
    if word in ENDPOINT_WORDS:
        kind = _K.CONFIG if message.to == DEFAULT else _K.PERMANENT
    code = f"slack_{word}" if re.fullmatch(r"[a-z0-9_]{1,64}", word) else f"slack_{answer.status}"
    once = not message.edit_of  # an edit made twice is the same edit
    if kind is None:
        return by_status(answer, now, code=code, ambiguous_5xx=once) or Rejected(_K.PERMANENT, code)
    unclear = once and word in AMBIGUOUS
    return failure(kind, code, retry_after_s=answer.retry_after_s(now), ambiguous=unclear)


# ---- setting up ----


def _ask_who(context: Context) -> Call:
    """Return the cheapest question: who the bot is; without a bot, whether the webhook knows an empty post."""
    settings: SlackSettings = context.settings
    if settings.bot_token is None and settings.webhook_url is not None:
        hook = _HOOK.fullmatch(settings.webhook_url.get_secret_value())
        if hook is not None:
            return _post(hook, settings, {})
    login = {} if settings.bot_token is None else bearer(settings.bot_token)
    return Call("GET", f"{settings.api_url}/auth.test", login)


_EMPTY_POST = frozenset({"no_text", "missing_text_or_fallback_or_attachments", "invalid_payload"})


def _read_who(answer: Answer, context: Context) -> Sequence[Finding]:
    settings: SlackSettings = context.settings
    if settings.bot_token is None and settings.webhook_url is None:
        return (Finding("credentials", ok=True, advice="none set: each client hands out its own webhook"),)
    body = answer.json()
    works = (isinstance(body, dict) and body.get("ok") is True) or answer.text().strip() in _EMPTY_POST
    advice = f"Slack refuses (HTTP {answer.status}): copy bot_token or webhook_url from api.slack.com/apps"
    return (Finding("credentials", works, "" if works else advice),)


def provision(context: Context) -> Sequence[Step]:
    """Return what a person sets up at api.slack.com; Slack has no API for it."""
    url = context.webhook_url or "the webhook address of this platform"
    return (
        Step(
            title="Slack app",
            instruction="At api.slack.com/apps create an app from scratch. Under OAuth & Permissions add the bot "
            "scopes chat:write, channels:history and app_mentions:read, install it, and put the Bot User OAuth "
            "Token into bot_token.",
        ),
        Step(
            title="Events",
            instruction=f"Put the Signing Secret (Basic Information) into signing_secret, then under Event "
            f"Subscriptions set the Request URL {url} and subscribe to the bot events message.channels and "
            "app_mention.",
        ),
        Step(
            title="Each client",
            instruction="Let the client invite the bot (/invite) and use the channel id as its address; or add an "
            "Incoming Webhook in the client's workspace and use its URL.",
        ),
    )


PLATFORM = Platform(
    name="slack",
    title="Slack",
    settings=SlackSettings,
    channels=frozenset({Channel.CHAT}),
    level=Level.C0,
    address="channel id or incoming webhook",
    example="https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    read_address=read_address,
    converse=converse,
    edits=True,
    idempotency=Idempotency.NONE,
    idempotency_note="Drops no repetition, and webhooks return no id; an edit by the bot may be sent again.",
    webhook=Webhook(
        gives=frozenset({Gives.CONSENTS}),
        verify=verify,
        read=read,
        signature="X-Slack-Signature: HMAC-SHA256 over timestamp and body; within 5 minutes",
    ),
    probe=Probe(build=_ask_who, read=_read_who),
    provision=provision,
    # No per_second: Slack's 1 message/s holds for each channel, not for the sender; 429 says how long to wait.
)
