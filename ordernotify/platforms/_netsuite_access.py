"""NetSuite's settings, its two ways to log in, its record calls, and what its refusals mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qsl, quote, urlsplit

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Field, SecretStr, field_validator, model_validator

from ordernotify.core.delivery import FailureKind, Outcome, Rejected
from ordernotify.platforms._base import Answer, Call, Context, Token, TokenSource, by_status, failure, json_body
from ordernotify.platforms._oauth import ask, authorization, read_token, token_refused
from ordernotify.platforms._standard import SignedSettings
from ordernotify.platforms._word_maps import StatusWords

_OK, _UNAUTHORIZED = 200, 401
_FIELD = r"^custbody_[a-z0-9_]{1,30}$"
_KEY_BITS = 3072
_COORDINATE = 32
SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class NetSuiteSettings(SignedSettings):
    """One account: how we log in, which fields of an order we write, and the secret its script signs with."""

    account: str = Field(
        pattern=r"^[A-Za-z0-9]{1,20}(_[A-Za-z0-9]{1,20})?$", description="Account id, such as 1234567 or 1234567_SB1."
    )
    base_url: str = Field(default="", description="Root of the REST services; the account's own host by default.")
    token_url: str = Field(
        default="", description="Where tokens come from; /services/rest/auth/oauth2/v1/token of base_url by default."
    )
    client_id: str = Field(default="", description="OAuth 2.0 (M2M): client id of the integration record.")
    certificate_id: str = Field(default="", description="OAuth 2.0 (M2M): id of the certificate mapping.")
    private_key: SecretStr | None = Field(
        default=None, description="OAuth 2.0 (M2M): key of the certificate (PEM), RSA of 3072 bits or EC P-256."
    )
    consumer_key: str = Field(default="", description="Token-based login: consumer key of the integration record.")
    consumer_secret: SecretStr | None = Field(default=None, description="Token-based login: consumer secret.")
    token_id: str = Field(default="", description="Token-based login: token id of the role.")
    token_secret: SecretStr | None = Field(default=None, description="Token-based login: token secret.")
    status_field: str = Field(
        default="custbody_on_status", pattern=_FIELD, description="Order field that takes the status."
    )
    text_field: str = Field(
        default="custbody_on_notice", pattern=_FIELD, description="Order field that takes the words of the message."
    )
    reference_field: str = Field(
        default="custbody_on_reference",
        pattern=_FIELD,
        description="Order field that takes our reference; a workflow mails when it changes.",
    )
    status_words: StatusWords = Field(
        default_factory=dict, description="What is written for a status: shipped=On its way,delivered=Done."
    )

    @model_validator(mode="before")
    @classmethod
    def _lives_at_its_account(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        host = str(values.get("account", "")).lower().replace("_", "-")
        base = values.get("base_url") or f"https://{host}.suitetalk.api.netsuite.com"
        token = values.get("token_url") or f"{base}/services/rest/auth/oauth2/v1/token"
        return {**values, "base_url": base, "token_url": token}

    @field_validator("private_key")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            signing_key(value)
        return value

    @model_validator(mode="after")
    def _logs_in_one_way(self) -> Self:
        machine = (bool(self.client_id), bool(self.certificate_id), self.private_key is not None)
        tokens = (
            *(bool(self.consumer_key), self.consumer_secret is not None),
            *(bool(self.token_id), self.token_secret is not None),
        )
        if all(machine) == all(tokens) or any(machine) != all(machine) or any(tokens) != all(tokens):
            raise ValueError(
                "set client_id, certificate_id and private_key, or consumer_key, consumer_secret, token_id and "
                "token_secret: one way to log in"
            )
        return self

    @property
    def fields(self) -> frozenset[str]:
        """The order fields that must exist."""
        return frozenset({self.status_field, self.text_field, self.reference_field})


def signing_key(pem: SecretStr) -> SigningKey:
    """Return the key of a signed login. Raises ValueError where it is none that NetSuite takes."""
    # An environment variable often cannot hold a line break.
    text = pem.get_secret_value().replace("\\n", "\n")
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _KEY_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("must be an RSA key of 3072 bits or more, or an EC key on P-256, in PEM without a password")


# ---- OAuth 2.0, machine to machine ----

_ASSERTION_LIFE = timedelta(minutes=5)
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def _segment(value: Mapping[str, object]) -> str:
    return _base64url(orjson.dumps(value))


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def assertion(settings: NetSuiteSettings, key: SigningKey, now: datetime) -> str:
    """Return the signed statement that we are the integration; NetSuite refuses the older RS256."""
    issued = int(now.timestamp())
    algorithm = "PS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    claims = {
        "iss": settings.client_id,
        "scope": ["rest_webservices"],
        "iat": issued,
        "exp": issued + int(_ASSERTION_LIFE.total_seconds()),
        "aud": settings.token_url,
    }
    head = {"typ": "JWT", "alg": algorithm, "kid": settings.certificate_id}
    signed = f"{_segment(head)}.{_segment(claims)}"
    return f"{signed}.{_base64url(_signature(key, signed.encode('ascii')))}"


def _signature(key: SigningKey, signed: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
        return key.sign(signed, pss, hashes.SHA256())
    # A signed token carries the two numbers side by side, not in the form that libraries make.
    numbers = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return b"".join(number.to_bytes(_COORDINATE, "big") for number in numbers)


def _ask_token(context: Context) -> Call:
    settings: NetSuiteSettings = context.settings
    if settings.private_key is None:
        # Token-based login has no tokens to fetch, every request is signed: this one proves the keys, once a day.
        return call(context, "GET", "salesOrder?limit=1")
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": _ASSERTION_TYPE,
        "client_assertion": assertion(settings, signing_key(settings.private_key), context.now),
    }
    return ask(settings.token_url, form)


def _read_token(answer: Answer, context: Context) -> Token | Outcome:
    settings: NetSuiteSettings = context.settings
    if settings.private_key is None and answer.status == _OK:
        return Token("", context.now + timedelta(days=1))
    if settings.private_key is None or _error(answer)[0] in CODES:
        return refusal(answer, context, asking=True)
    return read_token(answer, context.now, platform="netsuite")


TOKEN: Final = TokenSource(build=_ask_token, read=_read_token)


# ---- token-based login: OAuth 1.0a, every request signed ----


def oauth_signature(
    method: str, url: str, parameters: Sequence[tuple[str, str]], *, consumer_secret: str, token_secret: str
) -> str:
    """Return the HMAC-SHA256 signature (RFC 5849) of a request: its URL, its query and the OAuth parameters."""
    parts = urlsplit(url)
    pairs = [*parse_qsl(parts.query, keep_blank_values=True), *parameters]
    encoded = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in pairs)
    joined = "&".join(f"{name}={value}" for name, value in encoded)
    where = f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path}"
    base = "&".join((method, quote(where, safe=""), quote(joined, safe="")))
    key = f"{quote(consumer_secret, safe='')}&{quote(token_secret, safe='')}"
    return base64.b64encode(hmac.new(key.encode(), base.encode(), hashlib.sha256).digest()).decode("ascii")


def _signed_header(settings: NetSuiteSettings, method: str, url: str, body: bytes, now: datetime) -> str:
    # Drawn from the request and the microsecond, so that an adapter stays a function of what it is given.
    nonce = hashlib.sha256(f"{now.isoformat()} {method} {url} ".encode() + body).hexdigest()[:32]
    parameters = [
        ("oauth_consumer_key", settings.consumer_key),
        ("oauth_token", settings.token_id),
        ("oauth_signature_method", "HMAC-SHA256"),
        ("oauth_timestamp", str(int(now.timestamp()))),
        ("oauth_nonce", nonce),
        ("oauth_version", "1.0"),
    ]
    signature = oauth_signature(
        method,
        url,
        parameters,
        consumer_secret=settings.consumer_secret.get_secret_value() if settings.consumer_secret else "",
        token_secret=settings.token_secret.get_secret_value() if settings.token_secret else "",
    )
    shown = [("realm", settings.account.upper()), *parameters, ("oauth_signature", signature)]
    return "OAuth " + ", ".join(f'{name}="{quote(value, safe="")}"' for name, value in shown)


# ---- calls and refusals ----


def call(context: Context, method: Literal["GET", "PATCH"], path: str, value: Mapping[str, Any] | None = None) -> Call:
    """Return a request to the record service; ``path`` is below /services/rest/record/v1/."""
    settings: NetSuiteSettings = context.settings
    url = f"{settings.base_url}/services/rest/record/v1/{path}"
    body = b"" if value is None else json_body(value)
    headers = {"accept": "application/json"}
    if settings.private_key is None:
        headers["authorization"] = _signed_header(settings, method, url, body, context.now)
    else:
        headers |= authorization(context)
    if value is not None:
        headers["content-type"] = "application/json"
    return Call(method, url, headers, body)


_K = FailureKind
CODES: Final[Mapping[str, FailureKind]] = {
    **dict.fromkeys(("INVALID_LOGIN", "INVALID_LOGIN_ATTEMPT", "INSUFFICIENT_PERMISSION", "USER_DISABLED"), _K.AUTH),
    **dict.fromkeys(("NONEXISTENT_ID", "RCRD_DSNT_EXIST", "INVALID_KEY_OR_REF", "INVALID_ID"), _K.PERMANENT),
    **dict.fromkeys(("INVALID_CONTENT", "INVALID_VALUE", "USER_ERROR", "EXCEEDED_MAX_FIELD_LENGTH"), _K.PERMANENT),
    **dict.fromkeys(("SSS_REQUEST_LIMIT_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "CONCURRENCY_LIMIT_EXCEEDED"), _K.RATE),
    **dict.fromkeys(("RCRD_HAS_BEEN_CHANGED", "RCRD_LOCKED", "SSS_REQUEST_TIME_EXCEEDED"), _K.TRANSIENT),
    "UNEXPECTED_ERROR": _K.TRANSIENT,
    **dict.fromkeys(("FEATURE_DISABLED", "INVALID_URL", "UNSUPPORTED_RECORD_TYPE"), _K.CONFIG),
}
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    400: _K.PERMANENT,
    401: _K.AUTH,
    403: _K.AUTH,
    404: _K.PERMANENT,
    405: _K.CONFIG,
    409: _K.TRANSIENT,
    415: _K.CONFIG,
}
_UNCLEAR = frozenset({"UNEXPECTED_ERROR", "SSS_REQUEST_TIME_EXCEEDED"})


def refusal(answer: Answer, context: Context, *, asking: bool) -> Outcome:
    """Return what a refusal means; ``asking``: the request changed nothing, so nothing is in doubt."""
    settings: NetSuiteSettings = context.settings
    code, about = _error(answer)
    word, wait = f"netsuite_{code or answer.status}", answer.retry_after_s(context.now)
    if any(field in about for field in settings.fields):
        return Rejected(_K.CONFIG, word)  # a field that this account lacks, or that cannot hold our word
    if answer.status == _UNAUTHORIZED and context.token is not None and context.token.value:
        return token_refused(context, word)
    if code in CODES:
        return failure(CODES[code], word, retry_after_s=wait, ambiguous=not asking and code in _UNCLEAR)
    kind = BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    passing = by_status(answer, context.now, code=word, ambiguous_5xx=not asking)
    return passing or failure(kind, word, retry_after_s=wait)


def _error(answer: Answer) -> tuple[str, str]:
    """Return the first error's code, and path and words in which a field of ours may be named."""
    body = answer.json()
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    details, older = said.get("o:errorDetails"), said.get("error")
    first = details[0] if isinstance(details, list) and details and isinstance(details[0], dict) else {}
    if not first and isinstance(older, dict):
        first = {"o:errorCode": older.get("code"), "detail": older.get("message")}
    code = str(first.get("o:errorCode", ""))
    about = f"{first.get('o:errorPath', '')} {first.get('detail', '')}"
    return (code if re.fullmatch(r"[A-Z0-9_]{1,60}", code) else ""), about
