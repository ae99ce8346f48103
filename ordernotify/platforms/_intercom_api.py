"""Intercom's API: the settings that reach a workspace, its requests, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field, SecretStr

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.platforms._base import Answer, Call, Context, PlatformSettings, bearer, by_status, failure, json_body

_ATTRIBUTE = r"^[A-Za-z][A-Za-z0-9_]{0,100}$"


class IntercomSettings(PlatformSettings):
    """One Intercom workspace, and the names by which its automated message is started."""

    base_url: str = Field(
        default="https://api.intercom.io",
        description="Root of the API; https://api.eu.intercom.io or https://api.au.intercom.io in those regions.",
    )
    access_token: SecretStr = Field(description="Access token of the app, with rights on contacts and events.")
    client_secret: SecretStr | None = Field(
        default=None, description="Client secret of the app, which signs webhooks. Two, with a comma, in a change."
    )
    app_id: str = Field(default="", description="Workspace whose webhooks are taken; empty for any of the app.")
    api_version: str = Field(default="2.16", pattern=r"^[0-9]\.[0-9]{1,2}$", description="Version of the API.")
    event_name: str = Field(
        default="order-notice", min_length=1, max_length=100, description="Event that starts the automated message."
    )
    status_attribute: str = Field(
        default="order_notice_status", pattern=_ATTRIBUTE, description="Contact attribute that takes the status."
    )
    text_attribute: str = Field(
        default="order_notice_text", pattern=_ATTRIBUTE, description="Contact attribute that takes the words."
    )
    reference_attribute: str = Field(
        default="order_notice_reference", pattern=_ATTRIBUTE, description="Contact attribute for our reference."
    )
    sends_email: bool = Field(
        default=True, description="Whether the automated message is an e-mail: who unsubscribed gets none."
    )


def call(context: Context, method: Literal["GET", "POST", "PUT"], path: str, value: Any = None) -> Call:
    """Return a request to the API, in the version that is set."""
    settings: IntercomSettings = context.settings
    headers = {"accept": "application/json", "intercom-version": settings.api_version, **bearer(settings.access_token)}
    if value is not None:
        headers["content-type"] = "application/json"
    body = b"" if value is None else json_body(value)
    return Call(method, f"{settings.base_url}{path}", headers, body)


# ---- refusals ----

_K = FailureKind

CODES: Final[Mapping[str, FailureKind]] = {
    word: kind
    for kind, words in {
        _K.PERMANENT: "parameter_invalid parameter_not_found bad_request type_mismatch client_error not_found "
        "conflict resource_conflict data_invalid unprocessable_entity",
        _K.AUTH: "unauthorized token_not_found token_revoked token_expired token_blocked token_unauthorized "
        "missing_authorization forbidden action_forbidden",
        _K.CONFIG: "api_plan_restricted method_not_allowed media_type_not_acceptable intercom_version_invalid",
        _K.RATE: "rate_limit_exceeded too_many_requests",
        _K.TRANSIENT: "request_timeout server_error service_unavailable",
    }.items()
    for word in words.split()
}
AMBIGUOUS: Final = frozenset({"request_timeout", "server_error", "service_unavailable"})
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    401: _K.AUTH,
    403: _K.AUTH,
    405: _K.CONFIG,
    406: _K.CONFIG,
    408: _K.TRANSIENT,
}


def refusal(answer: Answer, now: datetime) -> Outcome:
    """Return what an answer that is no success means: Intercom's own code first, the HTTP status second."""
    body = answer.json()
    errors = body.get("errors") if isinstance(body, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, dict) else None
    wait_s = _wait_s(answer, now)
    if isinstance(code, str) and code in CODES:
        return failure(CODES[code], f"intercom_{code}", retry_after_s=wait_s, ambiguous=code in AMBIGUOUS)
    word = f"intercom_{answer.status}"
    if answer.status in BY_HTTP_STATUS:
        return failure(BY_HTTP_STATUS[answer.status], word, ambiguous=True)
    outcome = by_status(answer, now, code=word) or Rejected(_K.PERMANENT, word)
    if isinstance(outcome, Deferred) and outcome.kind is _K.RATE:
        return Deferred(_K.RATE, word, retry_after_s=wait_s)
    return outcome


def _wait_s(answer: Answer, now: datetime) -> float | None:
    reset = answer.headers.get("x-ratelimit-reset", "")
    if re.fullmatch(r"[0-9]{1,12}", reset) and answer.headers.get("x-ratelimit-remaining", "0") == "0":
        return max(0.0, int(reset) - now.timestamp())
    return answer.retry_after_s(now)
