"""Shopify's GraphQL: the settings that reach it, its calls, and what its answers mean before any data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field, SecretStr, field_validator, model_validator

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.platforms._base import Answer, Call, Context, PlatformSettings, by_status, json_body

_OK = 200
_HOST = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}(?::[0-9]{1,5})?")
_HTTP: Mapping[int, FailureKind] = {
    400: FailureKind.CONFIG,
    401: FailureKind.AUTH,
    402: FailureKind.CONFIG,  # the shop is frozen
    403: FailureKind.AUTH,
    404: FailureKind.CONFIG,  # no such shop or version
    423: FailureKind.CONFIG,  # the shop is locked
}
_SHIELD = 430  # Shopify's own: it takes us for a flood
_ERRORS: Mapping[str, Outcome] = {
    "INTERNAL_SERVER_ERROR": Deferred(FailureKind.TRANSIENT, "INTERNAL_SERVER_ERROR", ambiguous=True),
    "TIMEOUT": Deferred(FailureKind.TRANSIENT, "TIMEOUT", ambiguous=True),
    "ACCESS_DENIED": Rejected(FailureKind.AUTH, "ACCESS_DENIED"),
    "SHOP_INACTIVE": Rejected(FailureKind.CONFIG, "SHOP_INACTIVE"),
    "MAX_COST_EXCEEDED": Rejected(FailureKind.CONFIG, "MAX_COST_EXCEEDED"),
}


class Settings(PlatformSettings):
    """A shop, the secrets that sign its webhooks, and the token to write back with."""

    shop: str = Field(
        description="Shop's own domain, such as northgate.myshopify.com. Several with commas: webhooks are "
        "taken from all of them, and written back is to the first."
    )
    base_url: str = Field(default="", description="Root of the shop's API; https:// and the shop by default.")
    client_secret: SecretStr = Field(
        description="Client secret of the app, which signs webhooks. Two, with a comma, while one changes."
    )
    admin_secret: SecretStr | None = Field(
        default=None,
        description="Secret that signs webhooks made in the admin pages, under Notifications.",
    )
    access_token: SecretStr = Field(description="Admin API access token of the app (shpat_...).")
    api_version: str = Field(default="2026-10", pattern=r"^\d{4}-(01|04|07|10)$", description="Admin API version.")
    contract_attribute: str = Field(
        default="",
        description="Order attribute that holds the contract number; po_number takes the PO field.",
    )

    @field_validator("shop")
    @classmethod
    def _names_shops(cls, value: str) -> str:
        shops = [one.strip().lower() for one in value.split(",") if one.strip()]
        if not shops or not all(_HOST.fullmatch(one) for one in shops):
            raise ValueError("must be a domain such as northgate.myshopify.com, several with commas")
        return ",".join(shops)

    @model_validator(mode="before")
    @classmethod
    def _lives_at_its_shop(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("base_url"):
            first = str(values.get("shop", "")).partition(",")[0].strip().lower()
            return {**values, "base_url": f"https://{first}"}
        return values

    @property
    def shops(self) -> frozenset[str]:
        """The domains from which webhooks are taken."""
        return frozenset(self.shop.split(","))


def query(context: Context, text: str, variables: Mapping[str, object]) -> Call:
    """Return the call that asks or tells the shop something."""
    settings: Settings = context.settings
    return Call(
        "POST",
        f"{settings.base_url.rstrip('/')}/admin/api/{settings.api_version}/graphql.json",
        {
            "content-type": "application/json",
            "x-shopify-access-token": settings.access_token.get_secret_value(),
        },
        json_body({"query": text, "variables": dict(variables)}),
    )


def data(answer: Answer, now: datetime) -> dict[str, Any] | Outcome:
    """Return the ``data`` of a GraphQL answer, or the outcome that its status or its errors imply."""
    if answer.status in _HTTP:
        return Rejected(_HTTP[answer.status], f"http_{answer.status}")
    if answer.status == _SHIELD:
        return Deferred(FailureKind.RATE, "http_430", retry_after_s=answer.retry_after_s(now))
    if answer.status != _OK:
        return by_status(answer, now) or Rejected(FailureKind.PERMANENT, f"http_{answer.status}")
    body = answer.json()
    found, errors = at(body, "data"), at(body, "errors")
    if isinstance(errors, list) and errors and not _has_value(found):
        return _error(body, errors[0])
    return found if isinstance(found, dict) else Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)


def _has_value(data: object) -> bool:
    return isinstance(data, dict) and any(value is not None for value in data.values())


def _error(body: object, error: object) -> Outcome:
    code = at(error, "extensions", "code")
    if code == "THROTTLED":
        return Deferred(FailureKind.RATE, "THROTTLED", retry_after_s=_wait_s(body))
    if not isinstance(code, str):
        # Without a code it is the query itself that this version of the API does not understand.
        return Rejected(FailureKind.CONFIG, "query_refused")
    return _ERRORS.get(code, Deferred(FailureKind.TRANSIENT, "graphql_error", ambiguous=True))


def _wait_s(body: object) -> float | None:
    """Return the seconds until the bucket holds what the query costs, None where the answer does not say."""
    cost = at(body, "extensions", "cost")
    wanted = at(cost, "requestedQueryCost")
    left = at(cost, "throttleStatus", "currentlyAvailable")
    per_second = at(cost, "throttleStatus", "restoreRate")
    if not all(isinstance(one, (int, float)) for one in (wanted, left, per_second)) or per_second <= 0:
        return None
    return float(math.ceil(max(0.0, (wanted - left) / per_second)))


def at(value: object, *names: str) -> Any:
    """Return what stands under ``names`` in nested objects, None where there is nothing."""
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
