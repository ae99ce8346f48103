"""HubSpot: the settings that reach an account, how a token is had, and what refusals mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode

from pydantic import Field, SecretStr, model_validator

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    PlatformSettings,
    Token,
    TokenSource,
    bearer,
    by_status,
    failure,
)
from ordernotify.platforms._word_maps import StatusMap, StatusWords

_PATH = r"^(/[A-Za-z0-9._-]+)+$"
_PROPERTY = r"^[a-z][a-z0-9_]{0,99}$"
_OPTIONAL_PROPERTY = r"^([a-z][a-z0-9_]{0,99})?$"

# HubSpot's numbers for its own kinds of object; a custom object is named by its number.
OBJECT_TYPES: Final[Mapping[str, str]] = {
    "contacts": "0-1",
    "companies": "0-2",
    "deals": "0-3",
    "tickets": "0-5",
    "orders": "0-123",
}


class HubSpotSettings(PlatformSettings):
    """One HubSpot account: how we log in, what we write, and what its webhooks mean."""

    base_url: str = Field(default="https://api.hubapi.com", description="Root of the API.")
    token_url: str = Field(
        default="https://api.hubapi.com/oauth/2026-09/token", description="Where an OAuth app refreshes its token."
    )
    objects_path: str = Field(
        default="/crm/objects/2026-09", pattern=_PATH, description="Path of the object API; /crm/v3/objects until 2027."
    )
    properties_path: str = Field(
        default="/crm/properties/2026-09", pattern=_PATH, description="Path of the property API."
    )
    flows_path: str = Field(default="/automation/v4/flows", pattern=_PATH, description="Path of the workflow API.")
    email_path: str = Field(
        default="/marketing/transactional/2026-09/single-email/send",
        pattern=_PATH,
        description="Path of the single send; /marketing/email-campaigns/2026-03/single-send without the "
        "transactional add-on.",
    )
    access_token: SecretStr | None = Field(default=None, description="Token of a private app or a service key.")
    client_id: str = Field(default="", description="Client id of an OAuth app.")
    client_secret: SecretStr | None = Field(
        default=None, description="Client secret of the app, which signs webhooks. Two, with a comma, in a change."
    )
    refresh_token: SecretStr | None = Field(default=None, description="Refresh token of an installed OAuth app.")
    portal_id: int = Field(default=0, ge=0, description="Account whose webhooks are taken; 0 for any of the app.")
    object_type: str = Field(
        default="orders",
        pattern=r"^([a-z_]{1,50}|[0-9]-[0-9]{1,12})$",
        description="Kind of record that is written: orders, deals, tickets, or a number such as 2-123.",
    )
    id_property: str = Field(
        default="", pattern=_OPTIONAL_PROPERTY, description="Unique property that holds our order number."
    )
    status_property: str = Field(
        default="order_notice_status", pattern=_PROPERTY, description="Property that takes the status."
    )
    text_property: str = Field(
        default="order_notice_text", pattern=_PROPERTY, description="Property that takes the words of the message."
    )
    reference_property: str = Field(
        default="order_notice_reference",
        pattern=_PROPERTY,
        description="Property that takes our reference; the workflow enrols a record when it changes.",
    )
    status_words: StatusWords = Field(
        default_factory=dict, description="What is written for a status: shipped=Sent out,delivered=Done."
    )
    email_id: int = Field(
        default=0, ge=0, description="E-mail of the single send, for addresses on the channel e-mail; 0: none."
    )
    from_address: str = Field(default="", description="Sender of the single send, if not the e-mail's own.")
    workflow_email_id: int = Field(
        default=0, ge=0, description="Automated e-mail that the workflow we create sends; 0: a person adds it."
    )
    event_property: str = Field(
        default="hs_pipeline_stage", pattern=_PROPERTY, description="Property whose changes are order events."
    )
    status_map: StatusMap = Field(
        default_factory=dict, description="What its values mean, by internal name: 4b27b500-f031=shipped."
    )
    order_no_property: str = Field(
        default="hs_external_order_id", pattern=_OPTIONAL_PROPERTY, description="Property with the order number."
    )
    client_property: str = Field(
        default="", pattern=_OPTIONAL_PROPERTY, description="Property with our key of the client."
    )
    contract_property: str = Field(
        default="", pattern=_OPTIONAL_PROPERTY, description="Property with the contract number."
    )
    carrier_property: str = Field(default="", pattern=_OPTIONAL_PROPERTY, description="Property with the carrier.")
    tracking_property: str = Field(
        default="hs_shipping_tracking_number",
        pattern=_OPTIONAL_PROPERTY,
        description="Property with the tracking number.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        refreshes = self.refresh_token is not None
        if refreshes == (self.access_token is not None):
            raise ValueError("set access_token, or refresh_token with client_id and client_secret")
        if refreshes and not (self.client_id and self.client_secret):
            raise ValueError("refresh_token needs client_id and client_secret")
        if self.event_property in {self.status_property, self.text_property, self.reference_property}:
            raise ValueError("event_property must not be one that we write: we would hear ourselves")
        return self

    @property
    def object_number(self) -> str:
        """HubSpot's number of the kind of record that is written."""
        return OBJECT_TYPES.get(self.object_type, self.object_type)


def call(context: Context, method: Literal["GET", "POST", "PATCH"], path: str, body: bytes = b"") -> Call:
    """Return a request to the API, with the token that the set-up has."""
    settings: HubSpotSettings = context.settings
    headers = {"accept": "application/json"}
    if context.token is not None:
        headers["authorization"] = f"Bearer {context.token.value}"
    elif settings.access_token is not None:
        headers |= bearer(settings.access_token)
    if body:
        headers["content-type"] = "application/json"
    return Call(method, f"{settings.base_url}{path}", headers, body)


# ---- tokens ----

_OK, _UNAUTHORIZED = 200, 401
_CHECKED_EVERY = timedelta(hours=12)
_K = FailureKind
_LOGIN: Final[Mapping[str, FailureKind]] = {
    **dict.fromkeys(("BAD_REFRESH_TOKEN", "BAD_CLIENT_ID", "BAD_CLIENT_SECRET", "MISMATCH_CLIENT_ID"), _K.AUTH),
    **dict.fromkeys(("invalid_grant", "invalid_client", "unauthorized_client", "access_denied"), _K.AUTH),
    **dict.fromkeys(("invalid_request", "unsupported_grant_type", "MISSING_CLIENT_ID"), _K.CONFIG),
}


def ask_property(context: Context) -> Call:
    """Return the question whether the property that starts the workflow is there: the cheapest there is."""
    settings: HubSpotSettings = context.settings
    path = f"{settings.properties_path}/{settings.object_type}/{settings.reference_property}"
    return call(context, "GET", path)


def _ask_token(context: Context) -> Call:
    settings: HubSpotSettings = context.settings
    if settings.refresh_token is None:
        # A fixed token needs no fetching; asked once, a dead one is found before a message meets it.
        return ask_property(context)
    secret = settings.client_secret.get_secret_value() if settings.client_secret else ""
    form = {
        "grant_type": "refresh_token",
        "client_id": settings.client_id,
        "client_secret": secret.partition(",")[0].strip(),
        "refresh_token": settings.refresh_token.get_secret_value(),
    }
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    return Call("POST", settings.token_url, headers, urlencode(form).encode())


def _read_token(answer: Answer, context: Context) -> Token | Outcome:
    settings: HubSpotSettings = context.settings
    if settings.access_token is not None:
        # Only this answer is about the token; a scope that it lacks may not be needed for what it sends.
        if answer.status == _UNAUTHORIZED:
            return Rejected(_K.AUTH, "hubspot_access_token")
        return Token(settings.access_token.get_secret_value(), context.now + _CHECKED_EVERY)
    body = answer.json()
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    value, lasts_s = said.get("access_token"), said.get("expires_in")
    if answer.status == _OK:
        if not isinstance(value, str) or not value or not isinstance(lasts_s, int):
            return Deferred(_K.TRANSIENT, "hubspot_token_unreadable")
        return Token(value, context.now + timedelta(seconds=lasts_s))
    for word in (said.get("error"), said.get("status"), said.get("category")):
        if isinstance(word, str) and word in _LOGIN:
            return failure(_LOGIN[word], f"hubspot_{word}")
    code = f"hubspot_token_{answer.status}"
    return by_status(answer, context.now, code=code, ambiguous_5xx=False) or Rejected(_K.AUTH, code)


TOKEN: Final = TokenSource(build=_ask_token, read=_read_token)


# ---- refusals ----

CATEGORIES: Final[Mapping[str, FailureKind]] = {
    **dict.fromkeys(("VALIDATION_ERROR", "OBJECT_NOT_FOUND", "CONFLICT", "OBJECT_ALREADY_EXISTS"), _K.PERMANENT),
    **dict.fromkeys(("MISSING_SCOPES", "INVALID_AUTHENTICATION", "BANNED", "UNAUTHORIZED", "FORBIDDEN"), _K.AUTH),
    **dict.fromkeys(("RATE_LIMITS", "RATE_LIMIT", "TEN_SECONDLY_ROLLING", "SECONDLY"), _K.RATE),
    **dict.fromkeys(("DAILY", "QUOTA_EXCEEDED"), _K.QUOTA),
    **dict.fromkeys(("PROPERTY_DOESNT_EXIST", "INVALID_OBJECT_TYPE", "METHOD_NOT_ALLOWED"), _K.CONFIG),
    **dict.fromkeys(("RECORD_LOCKED", "EXPIRED_AUTHENTICATION", "INTERNAL_ERROR"), _K.TRANSIENT),
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    401: _K.AUTH,
    403: _K.AUTH,
    404: _K.PERMANENT,
    405: _K.CONFIG,
    409: _K.PERMANENT,
    414: _K.PERMANENT,
    415: _K.CONFIG,
    423: _K.TRANSIENT,  # the record is locked by a bulk job
    477: _K.RATE,  # the account moves to another data centre
}
# The most telling word first: which limit, which property, and only then the general category.
_WORDS = ("policyName", "subCategory", "category", "errorType")
_NO_PROPERTY = "PROPERTY_DOESNT_EXIST"
_LOCKED, _LOCKED_WAIT_S = 423, 2.0


def refusal(answer: Answer, context: Context) -> Outcome:
    """Return what an answer that is no success means: HubSpot's own words first, the HTTP status second."""
    body = answer.json()
    error = body if isinstance(body, dict) else {}
    wait_s = answer.retry_after_s(context.now)
    word = word_of(error)
    if word is None:
        code = f"hubspot_{answer.status}"
        kind = BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
        if answer.status == _LOCKED:
            wait_s = max(wait_s or 0.0, _LOCKED_WAIT_S)
        return by_status(answer, context.now, code=code) or failure(kind, code, retry_after_s=wait_s)
    if word == "EXPIRED_AUTHENTICATION":
        # The next attempt fetches a new token; a fixed token that expired will not come back.
        fixed = context.settings.access_token is not None
        code = f"hubspot_{word}"
        return Rejected(_K.AUTH, code) if fixed else Deferred(_K.TRANSIENT, code, retry_after_s=0.0)
    unclear = word == "INTERNAL_ERROR"
    return failure(CATEGORIES[word], f"hubspot_{word}", retry_after_s=wait_s, ambiguous=unclear)


def word_of(error: Mapping[str, Any]) -> str | None:
    """Return the most telling word of an error that the table knows, None where it has none."""
    if _NO_PROPERTY in str(error.get("message", "")):
        return _NO_PROPERTY
    details = error.get("errors")
    codes = [one.get("code") for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    words = (*codes, *(error.get(name) for name in _WORDS))
    return next((word for word in words if isinstance(word, str) and word in CATEGORIES), None)


def safe_code(word: str) -> str:
    """Return a foreign word as a code of ours, ``hubspot_unlisted`` where it does not look like one."""
    return f"hubspot_{word}" if re.fullmatch(r"[A-Z][A-Z0-9_]{1,63}", word) else "hubspot_unlisted"
