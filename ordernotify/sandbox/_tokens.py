"""Access tokens of simulated vendors: signed and not stored, so that they outlive a reset of the sandbox."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from ordernotify import clock

LIFETIME_S: Final = 3599
_KEY: Final = b"sandbox: opens nothing but this simulation"


def issue(vendor: str) -> str:
    """Return an access token of ``vendor`` that holds for an hour."""
    ends = int(clock.now().timestamp()) + LIFETIME_S
    return f"{ends}.{_sign(vendor, ends)}"


def is_valid(vendor: str, authorization: str) -> bool:
    """Return whether an Authorization header bears a token of ``vendor`` that has not ended."""
    found = re.fullmatch(r"Bearer ([0-9]{1,12})\.([0-9a-f]{64})", authorization)
    if found is None or int(found[1]) <= clock.now().timestamp():
        return False
    return hmac.compare_digest(_sign(vendor, int(found[1])), found[2])


def _sign(vendor: str, ends: int) -> str:
    return hmac.new(_KEY, f"{vendor} {ends}".encode(), hashlib.sha256).hexdigest()
