"""Amazon SNS's query protocol: settings, requests signed with Signature Version 4, answers in XML."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal
from urllib.parse import quote, quote_plus, urlsplit
from xml.etree.ElementTree import Element, ParseError, fromstring

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pydantic import BeforeValidator, Field, SecretStr, field_validator

from ordernotify.platforms._base import Answer, Call, Context, PlatformSettings

API_VERSION: Final = "2010-03-31"
FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"
ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE = "sns"

TOPIC: Final = re.compile(
    r"arn:(?:aws|aws-us-gov|aws-cn):sns:([a-z0-9-]{3,30}):[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
)


def _comma_list(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class SnsSettings(PlatformSettings):
    """One AWS identity in one region."""

    base_url: str = Field(default="", description="Endpoint; empty: https://sns.<region>.amazonaws.com (.cn in China).")
    region: str = Field(default="us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", description="AWS region.")
    access_key_id: str = Field(pattern=r"^[A-Z0-9]{16,128}$", description="Access key id of an IAM user or role.")
    secret_access_key: SecretStr = Field(description="Secret of the access key.")
    session_token: SecretStr | None = Field(default=None, description="Session token of temporary credentials.")
    sender_id: str = Field(
        default="",
        max_length=11,
        pattern=r"^([A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*)?$",
        description="Sender's name on phones, where the country has them: up to 11 letters and digits.",
    )
    origination_number: str = Field(
        default="", pattern=r"^(\+?[0-9]{5,14})?$", description="Our own number or short code for SMS."
    )
    max_price_usd: str = Field(
        default="", pattern=r"^([0-9]{1,3}(\.[0-9]{1,5})?)?$", description="Most that one SMS may cost, in USD."
    )
    check_opt_outs: bool = Field(
        default=True,
        description="Ask before each SMS whether the person opted out: SNS takes such a message and says nothing. "
        "Needs the permission sns:CheckIfPhoneNumberIsOptedOut.",
    )
    notification_topics: Annotated[tuple[str, ...], BeforeValidator(_comma_list)] = Field(
        default=(),
        description="ARNs of the topics whose notifications are believed, with commas: anybody's AWS account can "
        "sign a genuine one.",
    )
    signing_certificate: str = Field(
        default="",
        description="Certificate with which SNS signs in this region, in PEM: download over HTTPS the file that "
        "SigningCertURL of any notification names (sns.<region>.amazonaws.com/SimpleNotificationService-....pem). "
        "AWS replaces it about once a year: hold both, one after the other, while it does.",
    )

    @field_validator("notification_topics")
    @classmethod
    def _are_topics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(TOPIC.fullmatch(topic) for topic in value):
            raise ValueError("must be ARNs such as arn:aws:sns:us-east-1:123456789012:order-receipts")
        return value

    @field_validator("signing_certificate")
    @classmethod
    def _is_certificate(cls, value: str) -> str:
        # A variable of one line writes its line breaks as \n.
        pem = value.replace("\\n", "\n").strip()
        if pem:
            certificates(pem)
        return pem

    @property
    def endpoint(self) -> str:
        """The root of the API."""
        return self.base_url or f"https://sns.{self.region}.amazonaws.com{'.cn' * self.region.startswith('cn-')}"


@lru_cache(maxsize=8)
def certificates(pem: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates in ``pem``; raises ValueError where there is none or one without an RSA key."""
    found = tuple(x509.load_pem_x509_certificates(pem.encode()))
    if not all(isinstance(one.public_key(), RSAPublicKey) for one in found):
        raise ValueError("must be certificates with RSA keys, which SNS signs with")
    return found


# ---- requests ----


def post(context: Context, parameters: Sequence[tuple[str, str]]) -> Call:
    """Return a signed POST of an action; the body is encoded once, because its exact bytes are signed."""
    settings: SnsSettings = context.settings
    body = encoded(parameters)
    url = f"{settings.endpoint}/"
    headers = signed_headers("POST", url, body, settings=settings, now=context.now, content_type=FORM)
    return Call("POST", url, headers, body)


def get(context: Context, parameters: Sequence[tuple[str, str]]) -> Call:
    """Return a signed GET of an action, for questions: unanswered, they have surely changed nothing."""
    settings: SnsSettings = context.settings
    url = f"{settings.endpoint}/?{canonical_query(parameters)}"
    return Call("GET", url, signed_headers("GET", url, b"", settings=settings, now=context.now))


def encoded(parameters: Sequence[tuple[str, str]]) -> bytes:
    """Return parameters as a form body."""
    pairs = (f"{quote_plus(name)}={quote_plus(value)}" for name, value in (*parameters, ("Version", API_VERSION)))
    return "&".join(pairs).encode("ascii")


def canonical_query(parameters: Sequence[tuple[str, str]]) -> str:
    """Return parameters as a query in the form that is signed: sorted, everything but -_.~ escaped."""
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parameters]
    pairs.append(("Version", API_VERSION))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def signed_headers(
    method: Literal["GET", "POST"],
    url: str,
    body: bytes,
    *,
    settings: SnsSettings,
    now: datetime,
    content_type: str = "",
) -> dict[str, str]:
    """Return the headers of a request with its signature (Signature Version 4); it holds for 5 minutes.

    The query of ``url`` must be canonical. The host is signed, though it is the wire that sends it.
    """
    parts, stamp = urlsplit(url), now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {"content-type": content_type} if content_type else {}
    sent["x-amz-date"] = stamp
    if settings.session_token is not None:
        sent["x-amz-security-token"] = settings.session_token.get_secret_value()
    signed = sorted({**sent, "host": parts.netloc}.items())
    names = ";".join(name for name, _ in signed)
    request = "\n".join(
        [
            method,
            parts.path or "/",
            parts.query,
            *(f"{name}:{value}" for name, value in signed),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{stamp[:8]}/{settings.region}/{_SERVICE}/aws4_request"
    to_sign = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{settings.secret_access_key.get_secret_value()}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"{settings.access_key_id}/{scope}"
    sent["authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return sent


# ---- answers ----


def read_xml(answer: Answer) -> Element | None:
    """Return the root of an XML answer, None where it is none.

    A document type is refused before anything is parsed: entities are declared nowhere else, so none can be
    expanded or fetched. The text is decoded here, so that no other encoding hides one.
    """
    try:
        text = answer.body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "<!doctype" in text.lower() or "<!entity" in text.lower():
        return None
    try:
        return fromstring(text)  # noqa: S314 - no document type, hence no entities
    except (ParseError, ValueError):
        return None


def text_of(element: Element | None, *path: str) -> str:
    """Return the text at a path of element names in any namespace, '' where there is none."""
    if element is None:
        return ""
    return element.findtext("/".join(f"{{*}}{name}" for name in path), "").strip()


def members(element: Element | None, *path: str) -> list[Element]:
    """Return the members of a list at a path."""
    if element is None:
        return []
    return element.findall("/".join(f"{{*}}{name}" for name in (*path, "member")))


def attributes(entries: Mapping[str, tuple[str, str]], prefix: str = "") -> list[tuple[str, str]]:
    """Return message attributes (name: type and text) as parameters; one without text is left out."""
    filled = [(name, kind, text) for name, (kind, text) in entries.items() if text]
    parameters: list[tuple[str, str]] = []
    for place, (name, kind, text) in enumerate(filled, start=1):
        root = f"{prefix}MessageAttributes.entry.{place}"
        parameters += [
            (f"{root}.Name", name),
            (f"{root}.Value.DataType", kind),
            (f"{root}.Value.StringValue", text),
        ]
    return parameters
