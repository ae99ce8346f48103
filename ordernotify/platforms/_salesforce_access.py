"""Salesforce: the settings that reach an org, how a token is had, and what refusals mean."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlencode, urlsplit

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, Field, SecretStr, model_validator

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    PlatformSettings,
    Token,
    TokenSource,
    by_status,
    failure,
)
from ordernotify.platforms._salesforce_errors import refusal
from ordernotify.platforms._word_maps import StatusMap, StatusWords

_OK = 200
_URL = r"^https?://[^/?#\s]+(/[^/?#\s]+)*$"
_FIELD = r"^[A-Za-z][A-Za-z0-9_]{0,79}$"
_OPTIONAL_FIELD = r"^([A-Za-z][A-Za-z0-9_]{0,79})?$"
_KEY_BITS = 2048


def id18(text: str) -> str | None:
    """Return a record id in its form of 18 characters, None where ``text`` is none.

    The last three characters say which letters of the first fifteen are capitals.
    """
    if not re.fullmatch(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?", text):
        return None
    stem, check = text[:15], ""
    for start in (0, 5, 10):
        capitals = sum(1 << place for place, mark in enumerate(stem[start : start + 5]) if mark.isupper())
        check += "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[capitals]
    return stem + check if text[15:].upper() in {"", check} else None


def _organizations(value: str) -> str:
    ids = [id18(one.strip()) for one in value.split(",") if one.strip()]
    if any(one is None or not one.startswith("00D") for one in ids):
        raise ValueError("must be organization ids such as 00D000000000001EAA, with commas")
    return ",".join(one for one in ids if one)


class SalesforceSettings(PlatformSettings):
    """One org: how we log in, which fields of an order we write, and what its outbound messages mean."""

    base_url: str = Field(
        pattern=_URL, description="The org's own domain, such as https://northgate.my.salesforce.com."
    )
    token_url: str = Field(
        default="", description="Where tokens come from; /services/oauth2/token of base_url by default."
    )
    audience: str = Field(default="", description="Audience of a signed login; base_url by default.")
    client_id: str = Field(min_length=1, description="Consumer key of the connected or external client app.")
    client_secret: SecretStr | None = Field(
        default=None, description="Consumer secret: the app logs in as its run-as user (client credentials)."
    )
    private_key: SecretStr | None = Field(
        default=None, description="RSA key (PEM) of the app's certificate: we log in as username (JWT bearer)."
    )
    username: str = Field(default="", description="User whom a signed login is for.")
    token_lifetime_s: int = Field(
        default=3600,
        ge=120,
        le=86_400,
        description="Seconds a token is used, which Salesforce does not say: less than the session timeout.",
    )
    api_version: str = Field(default="68.0", pattern=r"^[0-9]{2,3}\.0$", description="Version of the REST API.")
    external_id_field: str = Field(
        default="Ext_Id__c", pattern=_FIELD, description="Order field (External ID) that holds our order number."
    )
    status_field: str = Field(
        default="Notice_Status__c", pattern=_FIELD, description="Order field that takes the status."
    )
    text_field: str = Field(
        default="Notice_Text__c", pattern=_FIELD, description="Order field that takes the words of the message."
    )
    reference_field: str = Field(
        default="Notice_Reference__c",
        pattern=_FIELD,
        description="Order field that takes our reference; a Flow starts when it changes.",
    )
    recipient_field: str = Field(
        default="BillToContact.Email",
        pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*$",
        description="Where the Flow that we hand out finds the e-mail address, from the order.",
    )
    status_words: StatusWords = Field(
        default_factory=dict, description="What is written for a status: shipped=Shipped,delivered=Done."
    )
    organization_ids: Annotated[str, AfterValidator(_organizations)] = Field(
        default="", description="Orgs whose outbound messages are taken, with commas."
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Secret that outbound messages carry as ?key= in their URL. Two, with a comma, in a change.",
    )
    status_map: StatusMap = Field(
        default_factory=dict, description="What the org's own Order statuses mean: Shipped=shipped."
    )
    contract_field: str = Field(
        default="", pattern=_OPTIONAL_FIELD, description="Order field with the contract number."
    )
    carrier_field: str = Field(default="", pattern=_OPTIONAL_FIELD, description="Order field with the carrier.")
    tracking_field: str = Field(
        default="", pattern=_OPTIONAL_FIELD, description="Order field with the tracking number."
    )

    @model_validator(mode="after")
    def _logs_in_one_way(self) -> Self:
        signed = self.private_key is not None
        if signed == (self.client_secret is not None) or signed != bool(self.username):
            raise ValueError("set client_secret, or private_key and username: one way to log in")
        if self.private_key is not None:
            signing_key(self.private_key)
        return self

    @property
    def organizations(self) -> frozenset[str]:
        """The ids, of 18 characters, of the orgs whose outbound messages are taken."""
        return frozenset(one for one in self.organization_ids.split(",") if one)


def signing_key(pem: SecretStr) -> rsa.RSAPrivateKey:
    """Return the key of a signed login. Raises ValueError where it is none that Salesforce takes."""
    # An environment variable often cannot hold a line break.
    text = pem.get_secret_value().replace("\\n", "\n")
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _KEY_BITS:
        raise ValueError("private_key must be an RSA key of 2048 bits or more, in PEM without a password")
    return key


# ---- tokens ----

_ASSERTION_LIFE = timedelta(seconds=120)  # Salesforce takes three minutes at the most, by its own clock
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_K = FailureKind
_LOGIN: Final[Mapping[str, FailureKind]] = {
    **dict.fromkeys(("invalid_grant", "invalid_client", "invalid_client_id", "invalid_assertion"), _K.AUTH),
    **dict.fromkeys(("inactive_user", "inactive_org", "access_denied", "unauthorized_client"), _K.AUTH),
    **dict.fromkeys(("app_not_found", "invalid_app_access", "unsupported_grant_type"), _K.CONFIG),
    **dict.fromkeys(("invalid_request", "redirect_uri_mismatch"), _K.CONFIG),
    **dict.fromkeys(("rate_limit_exceeded", "login_rate_exceeded"), _K.RATE),
    **dict.fromkeys(("unknown_error", "server_error", "temporarily_unavailable"), _K.TRANSIENT),
}


def _segment(value: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode("ascii")


def assertion(settings: SalesforceSettings, key: rsa.RSAPrivateKey, now: datetime) -> str:
    """Return the signed statement that we log in as ``username``, good for two minutes."""
    claims = {
        "iss": settings.client_id,
        "sub": settings.username,
        "aud": settings.audience or settings.base_url,
        "exp": int((now + _ASSERTION_LIFE).timestamp()),
    }
    signed = f"{_segment({'alg': 'RS256'})}.{_segment(claims)}"
    signature = key.sign(signed.encode("ascii"), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode('ascii')}"


def _ask_token(context: Context) -> Call:
    settings: SalesforceSettings = context.settings
    url = settings.token_url or f"{settings.base_url}/services/oauth2/token"
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if settings.private_key is not None:
        signed = assertion(settings, signing_key(settings.private_key), context.now)
        return Call("POST", url, headers, urlencode({"grant_type": _JWT_BEARER, "assertion": signed}).encode())
    secret = settings.client_secret.get_secret_value() if settings.client_secret else ""
    pair = base64.b64encode(f"{settings.client_id}:{secret}".encode()).decode("ascii")
    return Call("POST", url, {**headers, "authorization": f"Basic {pair}"}, b"grant_type=client_credentials")


def _read_token(answer: Answer, context: Context) -> Token | Outcome:
    body = answer.json()
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    settings: SalesforceSettings = context.settings
    if answer.status == _OK:
        value, instance = said.get("access_token"), said.get("instance_url")
        if not isinstance(value, str) or not value or not isinstance(instance, str):
            return Deferred(_K.TRANSIENT, "salesforce_token_unreadable")
        if not _is_trusted(instance, settings.base_url):
            return Rejected(_K.CONFIG, "salesforce_instance_url")
        ends = context.now + timedelta(seconds=settings.token_lifetime_s)
        return Token(value, ends, {"instance_url": instance.rstrip("/")})
    word = said.get("error")
    if isinstance(word, str) and word in _LOGIN:
        return failure(_LOGIN[word], f"salesforce_{word}", retry_after_s=answer.retry_after_s(context.now))
    if isinstance(body, list):
        refused = refusal(answer, context)
        # The login failed, so no message was on its way.
        return replace(refused, ambiguous=False) if isinstance(refused, Deferred) else refused
    code = f"salesforce_token_{answer.status}"
    return by_status(answer, context.now, code=code, ambiguous_5xx=False) or Rejected(_K.AUTH, code)


def _is_trusted(instance_url: str, base_url: str) -> bool:
    """Return whether a token may travel to where the login says that the org lives."""
    instance, base = urlsplit(instance_url), urlsplit(base_url)
    if (instance.scheme, instance.netloc) == (base.scheme, base.netloc):
        return True
    host = instance.hostname or ""
    return instance.scheme == "https" and host.endswith((".salesforce.com", ".salesforce.mil"))


TOKEN: Final = TokenSource(build=_ask_token, read=_read_token)


def call(context: Context, method: Literal["GET", "POST", "PATCH"], path: str, body: bytes = b"") -> Call:
    """Return a request to the org's data API; ``path`` is below the version, such as ``/limits``."""
    settings: SalesforceSettings = context.settings
    token = context.token
    root = token.extra.get("instance_url", settings.base_url) if token else settings.base_url
    headers = {"accept": "application/json"}
    if token is not None:
        headers["authorization"] = f"Bearer {token.value}"
    if body:
        headers["content-type"] = "application/json"
    return Call(method, f"{root}{data_path(settings)}{path}", headers, body)


def data_path(settings: SalesforceSettings) -> str:
    """Return the path of the data API in the version that is set."""
    return f"/services/data/v{settings.api_version}"
