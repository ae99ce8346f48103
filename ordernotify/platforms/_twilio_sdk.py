"""Twilio's settings, and what the official SDK does for us: it shapes requests and checks signatures."""

from __future__ import annotations

import base64
import importlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, model_validator
from twilio.http import HttpClient
from twilio.request_validator import HMAC_SHA1, RequestValidator, get_signature_algorithm
from twilio.rest import Client
from yarl import URL

from ordernotify.platforms._base import Call, Inbound, PlatformSettings, Refusal


class TwilioSettings(PlatformSettings):
    """One Twilio account and the sender its messages come from."""

    base_url: str = Field(
        default="https://api.twilio.com",
        description="Root of the API; name the edge and region in it, if any.",
    )
    messaging_url: str = Field(
        default="https://messaging.twilio.com", description="Root of the Messaging Services API."
    )
    account_sid: str = Field(pattern=r"^AC[0-9a-fA-F]{32}$", description="Account SID, AC and 32 characters.")
    auth_token: SecretStr = Field(description="Primary auth token; callbacks are signed with it.")
    api_key_sid: str = Field(default="", description="API key to send with instead of the auth token.")
    api_key_secret: SecretStr | None = Field(default=None, description="Secret of the API key.")
    webhook_shared_key: SecretStr | None = Field(
        default=None, description="Secret of the shared key, if the account signs callbacks with one."
    )
    from_number: str = Field(default="", description="Sender: a number in E.164 or a short code.")
    messaging_service_sid: str = Field(
        default="", pattern=r"^(MG[0-9a-fA-F]{32})?$", description="Messaging Service that picks the sender."
    )
    status_callbacks: bool = Field(default=True, description="Whether to ask for delivery receipts.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not (self.from_number or self.messaging_service_sid):
            raise ValueError("from_number or messaging_service_sid must be set: messages need a sender")
        if bool(self.api_key_sid) != (self.api_key_secret is not None):
            raise ValueError("api_key_sid and api_key_secret must be set together, or neither")
        return self

    @property
    def login(self) -> tuple[str, str]:
        """User name and password of a request: the API key where there is one."""
        if self.api_key_secret is not None:
            return self.api_key_sid, self.api_key_secret.get_secret_value()
        return self.account_sid, self.auth_token.get_secret_value()


class _Captured(Exception):  # noqa: N818 - a request leaving the SDK, not an error
    """Carries the request out of the SDK, so that a client shared by threads keeps no state of any call."""

    def __init__(self, method: Any, uri: str, fields: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        super().__init__()
        self.method, self.uri, self.fields, self.headers = method, uri, fields, headers


class _NeverSends(HttpClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's transport, which hands every request back instead of sending it."""

    def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **_of_the_wire: object,  # login, timeout and redirects
    ) -> None:
        raise _Captured(method, uri, params or data or {}, headers or {})


@lru_cache(maxsize=8)
def _client(settings: TwilioSettings) -> Client:
    transport = _NeverSends(logging.getLogger(__name__), is_async=False)
    # An environment of its own: the SDK would take the edge and region of TWILIO_* variables.
    return Client(*settings.login, settings.account_sid, http_client=transport, environment={"TWILIO_EDGE": ""})


def sdk_call(settings: TwilioSettings, make: Callable[[Client], object]) -> Call:
    """Return the request by which the SDK would do ``make``, a call of one of its methods."""
    request, url = _shaped(settings, make)
    encoded = _form(request.fields)
    if request.method != "GET":
        return Call(request.method, url, _headers(request, settings), encoded.encode())
    return Call("GET", f"{url}{'?' if encoded else ''}{encoded}", _headers(request, settings))


def load_sdk() -> None:
    """Load the part of the SDK that it would load itself at the first message, while every other one waits."""
    importlib.import_module("twilio.rest.api")


# Stands in a field for what is filled in later; the rest is the name of the gap.
_GAP = "gap:"


class Blank(NamedTuple):
    """A POST as the SDK shapes it, once, with gaps for what differs from message to message."""

    url: str
    headers: Mapping[str, str]
    fields: Mapping[str, str]
    gaps: Mapping[str, str]  # the SDK's name of each field that is filled in, by our name of it

    def filled(self, values: Mapping[str, str]) -> Call:
        """Return the request with a value in every gap."""
        fields = dict(self.fields)
        for name, field in self.gaps.items():
            fields[field] = values[name]
        return Call("POST", self.url, self.headers, _form(fields).encode())


@lru_cache(maxsize=16)
def blank_message(settings: TwilioSettings, gaps: frozenset[str]) -> Blank:
    """Return the request that creates a Message resource, with ``gaps``: arguments of the SDK's method."""
    options: dict[str, Any] = {name: _GAP + name for name in gaps} | {"smart_encoded": True}
    if settings.messaging_service_sid:
        options["messaging_service_sid"] = settings.messaging_service_sid
    if settings.from_number:
        options["from_"] = settings.from_number
    request, url = _shaped(settings, lambda client: client.messages.create(**options))
    return Blank(
        url=url,
        headers=_headers(request, settings),
        fields={name: value for name, value in request.fields.items() if not value.startswith(_GAP)},
        gaps={value.removeprefix(_GAP): name for name, value in request.fields.items() if value.startswith(_GAP)},
    )


def _shaped(settings: TwilioSettings, make: Callable[[Client], object]) -> tuple[_Captured, str]:
    try:
        make(_client(settings))
    except _Captured as request:
        url = urlsplit(request.uri)
        root = settings.messaging_url if url.netloc.startswith("messaging.") else settings.base_url
        return request, f"{root}{url.path}"
    raise TypeError("the SDK made no request")


def _headers(request: _Captured, settings: TwilioSettings) -> dict[str, str]:
    login = base64.b64encode(":".join(settings.login).encode()).decode()
    return {name.lower(): value for name, value in request.headers.items()} | {"authorization": f"Basic {login}"}


def _form(fields: Mapping[str, Any]) -> str:
    # Not by urllib, which takes five times as long: a text is quoted for every message.
    return URL.build(query=fields).raw_query_string


class Form(dict[str, list[str]]):
    """Form fields with all values of each, in the shape the SDK's validator asks for."""

    def getall(self, name: str) -> list[str]:
        """Return all values of a field."""
        return self[name]


def read_form(body: bytes) -> Form:
    """Return the fields of a form body, blank ones included: they are part of what is signed."""
    form = Form()
    for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
        form.setdefault(name, []).append(value)
    return form


def verify(inbound: Inbound, settings: TwilioSettings, _now: datetime) -> Refusal | None:
    """Return why a request is not Twilio's, None when it is."""
    signature = inbound.header("X-Twilio-Signature")
    if not signature:
        return Refusal(401, "X-Twilio-Signature", "is missing: Twilio signs every request")
    algorithm = get_signature_algorithm(inbound.header("X-Twilio-Webhooks-Signature-Settings"))
    secret = settings.auth_token if algorithm == HMAC_SHA1 else settings.webhook_shared_key
    if secret is None:
        return Refusal(401, "X-Twilio-Webhooks-Signature-Settings", "names a shared key: set webhook_shared_key")
    signed: Form | str = read_form(inbound.body)
    if inbound.header("Content-Type").lower().startswith("application/json"):
        signed = inbound.body.decode("utf-8", "replace")
        if "bodySHA256" not in dict(parse_qsl(urlsplit(inbound.url).query)):
            return Refusal(401, "bodySHA256", "is missing from the URL: it signs a JSON body")
    if not RequestValidator(secret.get_secret_value()).validate(inbound.url, signed, signature, algorithm):
        return Refusal(401, "X-Twilio-Signature", "must match the public URL and every field of the body")
    return None
