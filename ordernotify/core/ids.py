"""Deterministic identifiers: the same facts always give the same key, so nothing is done twice."""

from __future__ import annotations

import base64
import hashlib
import re

SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SEPARATOR = b"\x1f"


def delivery_reference(*, event_id: str, contact_id: str, template: str, resend: int = 0) -> str:
    """Return our idempotency key of one delivery: 32 hexadecimal characters that identify nobody.

    ``resend`` counts deliberate repetitions; 0 is the first telling.
    """
    parts = (event_id, contact_id, template, str(resend))
    return hashlib.sha256(_SEPARATOR.join(part.encode() for part in parts)).hexdigest()[:32]


def notice_reference(noise: bytes) -> str:
    """Return a notice reference such as ``N-7F3K-Q2WM-81TX`` from at least 8 random bytes (60 bits are used).

    Random, not derived: whoever holds it learns nothing about order, contract or person.
    """
    letters = base64.b32encode(noise).decode("ascii")[:12]
    return f"N-{letters[:4]}-{letters[4:8]}-{letters[8:12]}"
