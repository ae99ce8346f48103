"""SAP S/4HANA's settings, its tokens, its OData calls, and what its refusals mean."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, Self
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator, model_validator

from ordernotify.core.delivery import FailureKind, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    PlatformSettings,
    Token,
    TokenSource,
    by_status,
    failure,
    json_body,
)
from ordernotify.platforms._oauth import authorization, read_token, token_refused
from ordernotify.platforms._sap_proof import public_key
from ordernotify.platforms._word_maps import StatusWords

_URL = r"^https?://[^/?#\s]+(/[^/?#\s]+)*$"
_FIELD = r"^([A-Za-z][A-Za-z0-9_]{0,39})?$"
_UNAUTHORIZED = 401


class SapSettings(PlatformSettings):
    """One S/4HANA system: how we log in, what we write to an order, and what proves its pushes."""

    base_url: str = Field(pattern=_URL, description="Root of the APIs, such as https://my300000-api.s4hana.cloud.sap.")
    token_url: str = Field(pattern=_URL, description="Where tokens come from (OAuth 2 client credentials).")
    client_id: str = Field(min_length=1, description="Client of the communication system.")
    client_secret: SecretStr = Field(description="Secret of the client.")
    sap_client: str = Field(default="", pattern=r"^([0-9]{3})?$", description="SAP client; empty: the default one.")
    order_service: str = Field(
        default="/sap/opu/odata/sap/API_SALES_ORDER_SRV", pattern=r"^/\S+[^/]$", description="Sales order service."
    )
    delivery_service: str = Field(
        default="/sap/opu/odata/sap/API_OUTBOUND_DELIVERY_SRV;v=0002",
        pattern=r"^/\S+[^/]$",
        description="Outbound delivery service.",
    )
    reference_field: str = Field(
        default="YY1_NoticeReference_SDH",
        pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$",
        description="Order field that takes our reference; output management sends when it changes.",
    )
    status_field: str = Field(
        default="YY1_NoticeStatus_SDH", pattern=_FIELD, description="Order field that takes the status; empty: none."
    )
    text_id: str = Field(
        default="TX05",
        pattern=r"^([A-Z0-9]{1,4})?$",
        description="Kind of header text that takes the words, from which the output is made; empty: none.",
    )
    text_language: str = Field(default="EN", pattern=r"^[A-Z]{2}$", description="Language of that header text.")
    status_words: StatusWords = Field(
        default_factory=dict, description="What is written for a status: shipped=SHIPPED,delivered=DONE."
    )
    hold_blocks: str = Field(
        default="",
        pattern=r"^[A-Z0-9, ]*$",
        description="Delivery block reasons that mean an export control hold, with commas; others are delays.",
    )
    contract_field: str = Field(
        default="", pattern=_FIELD, description="Order field with the contract number: PurchaseOrderByCustomer."
    )
    time_zone: str = Field(default="UTC", description="Time zone of the times in IDocs, such as America/New_York.")
    webhook_token: SecretStr | None = Field(
        default=None, description="Bearer token that Event Mesh sends. Two, with a comma, while one changes."
    )
    jwt_key: str = Field(
        default="", description="Public key (PEM) of the server whose tokens Event Mesh sends, instead of a fixed one."
    )
    jwt_issuer: str = Field(default="", description="Issuer that such a token must name.")
    jwt_audience: str = Field(default="", description="Audience that such a token must name.")
    idoc_user: str = Field(default="", description="User name with which IDocs are pushed.")
    idoc_password: SecretStr | None = Field(default=None, description="Password with which IDocs are pushed.")
    allowed_origins: str = Field(default="*", description="Origins whose OPTIONS handshake is granted; * for all.")

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("must be a time zone such as America/New_York") from None
        return value

    @field_validator("jwt_key")
    @classmethod
    def _is_key(cls, value: str) -> str:
        if value:
            public_key(value)
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.jwt_key and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError("jwt_key needs jwt_issuer and jwt_audience: a token for anybody else proves nothing")
        if bool(self.idoc_user) != (self.idoc_password is not None):
            raise ValueError("idoc_user and idoc_password must be set together, or neither")
        return self

    @property
    def holds(self) -> frozenset[str]:
        """The delivery block reasons that mean a regulatory hold."""
        return frozenset(one.strip() for one in self.hold_blocks.split(",") if one.strip())


# ---- tokens ----


def _ask_token(context: Context) -> Call:
    settings: SapSettings = context.settings
    pair = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret.get_secret_value(), safe='')}"
    headers = {
        "authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}",
        "content-type": "application/x-www-form-urlencoded",
        "accept": "application/json",
    }
    return Call("POST", settings.token_url, headers, b"grant_type=client_credentials")


def _read_token(answer: Answer, context: Context) -> Token | Outcome:
    return read_token(answer, context.now, platform="sap")


TOKEN: Final = TokenSource(build=_ask_token, read=_read_token)


# ---- calls ----


def call(
    context: Context,
    method: Literal["GET", "POST", "PATCH"],
    path: str,
    value: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Call:
    """Return an OData request; ``path`` is below base_url, its query included."""
    settings: SapSettings = context.settings
    found = {"accept": "application/json", **authorization(context), **(headers or {})}
    if settings.sap_client:
        found["sap-client"] = settings.sap_client
    if value is not None:
        found["content-type"] = "application/json"
    body = b"" if value is None else json_body(value)
    return Call(method, f"{settings.base_url}{path}", found, body)


def order_path(settings: SapSettings, order: str, query: str = "") -> str:
    """Return where an order lives; ``order`` holds digits alone, so nothing in it can end the key."""
    return f"{settings.order_service}/A_SalesOrder('{order}'){query}"


# ---- refusals ----

_K = FailureKind
# Message class and number. An order that a clerk has open is locked until the screen is left.
CODES: Final[Mapping[str, FailureKind]] = {
    "MC/601": _K.TRANSIENT,
    "V1/042": _K.TRANSIENT,
    "/IWFND/MED/170": _K.CONFIG,  # the service is not active
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    403: _K.AUTH,
    404: _K.PERMANENT,
    405: _K.CONFIG,
    409: _K.TRANSIENT,
    412: _K.TRANSIENT,
    415: _K.CONFIG,
    423: _K.TRANSIENT,
    428: _K.TRANSIENT,
}


def refusal(answer: Answer, context: Context, *, asking: bool) -> Outcome:
    """Return what a refusal means; ``asking``: the request changed nothing, so nothing is in doubt."""
    code, text = _error(answer)
    word = f"sap_{code or answer.status}"
    wait = answer.retry_after_s(context.now)
    if answer.status == _UNAUTHORIZED:
        return token_refused(context, word)
    if code in CODES:
        return failure(CODES[code], word, retry_after_s=wait)
    settings: SapSettings = context.settings
    if any(name and name in text for name in (settings.reference_field, settings.status_field)):
        return Rejected(_K.CONFIG, word)  # an extension field that this system lacks, or whose list lacks our word
    kind = BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    passing = by_status(answer, context.now, code=word, ambiguous_5xx=not asking)
    return passing or failure(kind, word, retry_after_s=wait)


def _error(answer: Answer) -> tuple[str, str]:
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    said = error if isinstance(error, dict) else {}
    code, message = said.get("code"), said.get("message")
    text = message.get("value") if isinstance(message, dict) else message
    known = isinstance(code, str) and re.fullmatch(r"[A-Za-z0-9_/.-]{1,40}", code)
    return (str(code) if known else ""), str(text or "")
