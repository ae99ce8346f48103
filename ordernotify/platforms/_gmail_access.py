"""Gmail: the settings that reach a mailbox, and how a token is had, by service account or by refresh token."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Self

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from ordernotify.core.delivery import Outcome
from ordernotify.platforms._base import Answer, Call, Context, PlatformSettings, Refusal, Token, TokenSource
from ordernotify.platforms._mail import DisplayName, OptionalAddress, SenderAddress, header_fault
from ordernotify.platforms._oauth import ask, read_token
from ordernotify.platforms._reading import Foreign, read_json

# To send, and to search the sent mail for a message whose answer was lost.
SCOPES: Final = (
    "https://www.googleapis.com/auth/gmail.send",
    "https://www.googleapis.com/auth/gmail.readonly",
)
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME_S: Final = 3600  # the longest that Google takes
_KEY_BITS: Final = 2048


class ServiceAccount(Foreign):
    """What is used of the key file of a service account."""

    client_email: str = Field(min_length=1)
    client_id: str = ""
    private_key: SecretStr
    private_key_id: str = Field(min_length=1)

    def key(self) -> rsa.RSAPrivateKey | None:
        """Return the private key, None where it is no RSA key of at least 2048 bits."""
        try:
            found = load_pem_private_key(self.private_key.get_secret_value().encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return None
        return found if isinstance(found, rsa.RSAPrivateKey) and found.key_size >= _KEY_BITS else None


def _json_object(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value) if value.strip() else {}
    except orjson.JSONDecodeError:
        raise ValueError('must be a JSON object of names and values, such as {"Organization": "Northgate"}') from None


def _usable(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if fault := header_fault(name, value):
            raise ValueError(f"{fault.field if fault.field == name else 'a name'} {fault.message}")
    return headers


class GmailSettings(PlatformSettings):
    """One mailbox of Google, and either a service account or the consent of its owner to send from it."""

    base_url: str = Field(default="https://gmail.googleapis.com", description="Root of the Gmail API.")
    token_url: str = Field(default="https://oauth2.googleapis.com/token", description="Where access tokens are had.")
    from_email: SenderAddress = Field(
        description="Sender: the mailbox, or an alias that is verified there under 'Send mail as'."
    )
    from_name: DisplayName = Field(default="", description="Sender's name.")
    mailbox: OptionalAddress = Field(
        default="", description="The Google account to send as; empty: from_email. Take one that does nothing else."
    )
    reply_to: OptionalAddress = Field(default="", description="Where answers go, if not to the sender.")
    headers: Annotated[Mapping[str, str], BeforeValidator(_json_object), AfterValidator(_usable)] = Field(
        default={}, description='Further header fields as JSON, such as {"Organization": "Northgate"}.'
    )
    service_account: SecretStr | None = Field(
        default=None, description="Key file (JSON) of a service account with domain-wide delegation."
    )
    client_id: str = Field(default="", description="OAuth client, where there is no service account.")
    client_secret: SecretStr | None = Field(default=None, description="Secret of the OAuth client.")
    refresh_token: SecretStr | None = Field(default=None, description="Refresh token of the mailbox's owner.")

    @field_validator("service_account")
    @classmethod
    def _is_key_file(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            account = read_json(ServiceAccount, value.get_secret_value().encode())
            if isinstance(account, Refusal) or account.key() is None:
                raise ValueError("must be the JSON key file of a service account, with its RSA private_key")
        return value

    @model_validator(mode="after")
    def _has_one_way_in(self) -> Self:
        consent = [bool(self.client_id), self.client_secret is not None, self.refresh_token is not None]
        if any(consent) if self.service_account else not all(consent):
            raise ValueError("set service_account, or client_id, client_secret and refresh_token, and not both")
        return self

    @property
    def account(self) -> str:
        """The Google account whose mailbox is used."""
        return self.mailbox or self.from_email

    @property
    def delegate(self) -> ServiceAccount | None:
        """The service account that acts for the mailbox."""
        if self.service_account is None:
            return None
        return ServiceAccount.model_validate_json(self.service_account.get_secret_value())


def assertion(account: ServiceAccount, *, subject: str, audience: str, now: datetime) -> str:
    """Return the signed statement (RS256) by which a service account asks to act for ``subject``."""
    key = account.key()
    if key is None:
        raise TypeError("the settings were made without checking service_account")
    issued = int(now.timestamp())
    header = {"alg": "RS256", "typ": "JWT", "kid": account.private_key_id}
    claims = {
        "iss": account.client_email,
        "sub": subject,
        "scope": " ".join(SCOPES),
        "aud": audience,
        "iat": issued,
        "exp": issued + _LIFETIME_S,
    }
    signed = f"{_part(orjson.dumps(header))}.{_part(orjson.dumps(claims))}"
    return f"{signed}.{_part(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _ask(context: Context) -> Call:
    settings: GmailSettings = context.settings
    account = settings.delegate
    if account is not None:
        words = assertion(account, subject=settings.account, audience=settings.token_url, now=context.now)
        return ask(settings.token_url, {"grant_type": _JWT_BEARER, "assertion": words})
    fields: dict[str, Any] = {
        "client_secret": settings.client_secret,
        "refresh_token": settings.refresh_token,
    }
    secrets = {name: value.get_secret_value() for name, value in fields.items() if value is not None}
    return ask(settings.token_url, {"grant_type": "refresh_token", "client_id": settings.client_id, **secrets})


def _read(answer: Answer, context: Context) -> Token | Outcome:
    return read_token(answer, context.now, platform="gmail")


TOKEN: Final = TokenSource(build=_ask, read=_read)
