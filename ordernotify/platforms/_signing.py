"""Proofs that a request is genuine: HMAC-SHA256 over exact bytes, under any of the secrets now in use."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

from pydantic import SecretStr


def active(secret: SecretStr | None) -> tuple[str, ...]:
    """Return the secrets in use: while one is being replaced, a setting holds both, with a comma between."""
    if secret is None:
        return ()
    return tuple(part.strip() for part in secret.get_secret_value().split(",") if part.strip())


def sha256_base64(key: bytes, signed: bytes) -> str:
    """Return the base64 of the HMAC-SHA256 of ``signed`` under ``key``."""
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")


def is_signed(signatures: Iterable[str], signed: bytes, keys: Iterable[bytes]) -> bool:
    """Return whether any of ``signatures`` (base64) is that of ``signed`` under any of ``keys``.

    Every pair is compared in constant time, and all of them: the time taken does not tell which one matched.
    """
    expected = [sha256_base64(key, signed).encode("ascii") for key in keys]
    offered = [signature.encode("utf-8", "replace") for signature in signatures]
    matches = [hmac.compare_digest(one, other) for one in expected for other in offered]
    return any(matches)


def same_secret(offered: str, secrets: Iterable[str]) -> bool:
    """Return whether ``offered`` is one of ``secrets``, compared in constant time."""
    given = offered.encode("utf-8", "replace")
    matches = [hmac.compare_digest(given, secret.encode("utf-8")) for secret in secrets]
    return any(matches)
