"""How the simulated SNS knows a caller, and how it signs: its key, its certificate, its notifications."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Request, Shelf

ACCESS_KEY: Final = "AKIASANDBOX000000000"
SECRET_KEY: Final = "sandbox/opens-nothing-but-this-simulation"  # noqa: S105 - see its text
REGION: Final = "us-east-1"
HOST: Final = "https://sns.us-east-1.amazonaws.com"

# Kept, not drawn: the sandbox and whoever reads its settings may be two processes. It signs for nobody else.
_P = int(
    "fbfdad7008f78bf738fd6af1dfe12957d38f604912a599b67bbb450f39328e334da64414a5fa0c556bf4fe29dfd4de0d"
    "ff7640c12e8d8bd3e2745df67c5664fdb2587e460bedcb5a72972332c3ddeff6580cad278e9d5ef1b5fb1da67c728703"
    "fe96d9a4f2773b7e8b7229feb75534a2bd22356de05de4b52f97a555fb7c2ff1",
    16,
)
_Q = int(
    "bc711b43060d329d20e14679d223d2b2f04a6356bee85c48040f9e69f7897ed4d3d5432119f1413fe704cbf36efe5bb2"
    "63c12c7e7cf476bf3d13c8ea69a956d04976a6000dd5db701a788b0807333b9d6f2d18a1ed44829c16cabe01782ab4c8"
    "ace29e9f6905ffccdb414ba8d21673f8d18436911e7282bd4d820034a387c513",
    16,
)
_E = 65537

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/([0-9]{8})/([a-z0-9-]+)/sns/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)
_SKEW = timedelta(minutes=15)
_SIGNED: Final[Mapping[str, str]] = {
    "Notification": "Message MessageId Subject Timestamp TopicArn Type",
    "SubscriptionConfirmation": "Message MessageId SubscribeURL Timestamp Token TopicArn Type",
}


@lru_cache(maxsize=1)
def _key() -> rsa.RSAPrivateKey:
    d = pow(_E, -1, (_P - 1) * (_Q - 1))
    return rsa.RSAPrivateNumbers(
        p=_P,
        q=_Q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, _P),
        dmq1=rsa.rsa_crt_dmq1(d, _Q),
        iqmp=rsa.rsa_crt_iqmp(_P, _Q),
        public_numbers=rsa.RSAPublicNumbers(_E, _P * _Q),
    ).private_key()


def certificate() -> str:
    """Return the certificate of the simulation's key, in PEM, the same in every process."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.us-east-1.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .sign(_key(), hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode("ascii")


def fault_of_login(request: Request, shelf: Shelf) -> str | None:
    """Return AWS's code for what is wrong with the signature of a request, None when nothing is."""
    said = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if said is None:
        return "MissingAuthenticationToken"
    key_id, day, region, names, signature = said.groups()
    stamp = request.headers.get("x-amz-date", "")
    if key_id != ACCESS_KEY:
        return "InvalidClientTokenId"
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", stamp) or not stamp.startswith(day) or region != REGION:
        return "IncompleteSignature"
    at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(clock.now() - at) > _SKEW:
        return "RequestExpired"
    expected = _signature(request, shelf, names=names.split(";"), stamp=stamp)
    return None if hmac.compare_digest(expected, signature) else "SignatureDoesNotMatch"


def _signature(request: Request, shelf: Shelf, *, names: list[str], stamp: str) -> str:
    root = urlsplit(shelf.root)
    headers = {"host": root.netloc, **request.headers}
    query = sorted((_escaped(name), _escaped(value)) for name, value in request.query.items())
    canonical = "".join(
        (
            f"{request.method}\n{root.path}{request.path}\n",
            "&".join(f"{name}={value}" for name, value in query) + "\n",
            "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in names),
            f"\n{';'.join(names)}\n{hashlib.sha256(request.body).hexdigest()}",
        )
    )
    scope = f"{stamp[:8]}/{REGION}/sns/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = b"AWS4" + SECRET_KEY.encode()
    for part in (stamp[:8], REGION, "sns", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")


def callback(url: str, topic: str, fields: Mapping[str, str], *, version: str = "2", after_s: float = 0.05) -> Callback:
    """Return a signed notification of a topic: ``fields`` are its Type, its Message and what else it has."""
    now = clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    value = {"MessageId": str(uuid4()), "TopicArn": topic, "Timestamp": now, **fields}
    names = [name for name in _SIGNED[fields["Type"]].split() if name in value]
    text = "".join(f"{name}\n{value[name]}\n" for name in names)
    hashing = hashes.SHA1() if version == "1" else hashes.SHA256()  # noqa: S303 - as SNS does by default
    signature = _key().sign(text.encode(), padding.PKCS1v15(), hashing)
    value |= {
        "SignatureVersion": version,
        "Signature": base64.b64encode(signature).decode("ascii"),
        "SigningCertURL": f"{HOST}/SimpleNotificationService-sandbox.pem",
    }
    headers = {
        "content-type": "text/plain; charset=UTF-8",
        "user-agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": fields["Type"],
        "x-amz-sns-message-id": value["MessageId"],
        "x-amz-sns-topic-arn": topic,
    }
    return Callback(url, headers, orjson.dumps(value), after_s=after_s)
