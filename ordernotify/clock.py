"""The one place that reads the clock and draws random identifiers; everything else is given them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from uuid import UUID

_VERSION = 0x7 << 76
_VARIANT = 0x2 << 62
_RAND_A = 0xFFF << 64
_RAND_B = (1 << 62) - 1


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """Return a new UUIDv7: it sorts by time, so that indexes grow at one end."""
    noise = int.from_bytes(os.urandom(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    return UUID(int=(milliseconds << 80) | _VERSION | (noise & _RAND_A) | _VARIANT | (noise & _RAND_B))


def first_id(at: datetime) -> UUID:
    """Return an id that none drawn by ``new_id`` at ``at`` or later is below."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | _VERSION | _VARIANT)
