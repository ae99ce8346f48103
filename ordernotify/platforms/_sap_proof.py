"""What proves that a push is our SAP system's: a bearer token, a signed one, or a password for IDocs."""

from __future__ import annotations

import base64
import binascii
import math
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ordernotify.platforms._base import Inbound, Refusal
from ordernotify.platforms._signing import active, same_secret

HEADER: Final = "Authorization"
_SKEW_S = 60
_TOKEN_MAX = 8_192
_UNAUTHORIZED = 401


@lru_cache(maxsize=8)
def public_key(pem: str) -> rsa.RSAPublicKey:
    """Return the key of ``pem``. Raises ValueError where it is no RSA public key."""
    try:
        # An environment variable often cannot hold a line break.
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, rsa.RSAPublicKey):
        return key
    raise ValueError("must be an RSA public key in PEM")


def verify(inbound: Inbound, settings: Any, now: datetime) -> Refusal | None:
    """Return why a push is not our system's, None when it is."""
    scheme, _, value = inbound.header(HEADER).partition(" ")
    match scheme.lower():
        case "bearer":
            return _bearer(value.strip(), settings, now)
        case "basic":
            return _basic(value.strip(), settings)
        case _:
            return _refused("is missing: Event Mesh sends Bearer and a token, IDocs Basic and a password")


def _refused(message: str) -> Refusal:
    return Refusal(_UNAUTHORIZED, HEADER, message)


def _bearer(token: str, settings: Any, now: datetime) -> Refusal | None:
    fixed = active(settings.webhook_token)
    if fixed and same_secret(token, fixed):
        return None
    if not settings.jwt_key:
        return _refused("must be the token of webhook_token" if fixed else "cannot be checked: set webhook_token")
    return _signed(_claims(token, settings.jwt_key), settings, now.timestamp())


def _signed(claims: dict[str, Any] | None, settings: Any, now: float) -> Refusal | None:
    """Return what is wrong with the claims of a token (None: it is not signed with our key)."""
    if claims is None:
        return _refused("must be a token signed (RS256) with the key of jwt_key")
    audience = claims.get("aud")
    begins, ends = _seconds(claims.get("nbf", 0)), _seconds(claims.get("exp"))
    wrong = (
        (claims.get("iss") != settings.jwt_issuer, "must be a token of the issuer jwt_issuer"),
        (
            settings.jwt_audience not in (audience if isinstance(audience, list) else [audience]),
            "must be a token for the audience jwt_audience",
        ),
        (not begins - _SKEW_S <= now < ends + _SKEW_S, "must be a token that is valid now"),
    )
    return next((_refused(message) for fault, message in wrong if fault), None)


def _seconds(value: object) -> float:
    """Return a time of a token; one that says none is never valid."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _claims(token: str, pem: str) -> dict[str, Any] | None:
    """Return what a signed token says, None where it is not signed with our key.

    The algorithm is ours to choose, not the token's: one that names another is none.
    """
    parts = token.split(".")
    if len(parts) != len(("header", "claims", "signature")) or len(token) > _TOKEN_MAX:
        return None
    try:
        head, claims = orjson.loads(_decoded(parts[0])), orjson.loads(_decoded(parts[1]))
        signature = _decoded(parts[2])
        if not isinstance(head, dict) or head.get("alg") != "RS256":
            return None
        signed = f"{parts[0]}.{parts[1]}".encode("ascii")
        public_key(pem).verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, InvalidSignature):
        return None
    return claims if isinstance(claims, dict) else None


def _decoded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _basic(value: str, settings: Any) -> Refusal | None:
    if settings.idoc_password is None:
        return _refused("cannot be checked: set idoc_user and idoc_password")
    try:
        offered = base64.b64decode(value, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        offered = ""
    wanted = [f"{settings.idoc_user}:{one}" for one in active(settings.idoc_password)]
    return None if same_secret(offered, wanted) else _refused("must be idoc_user and idoc_password")
