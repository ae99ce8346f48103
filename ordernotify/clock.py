"""The one place that reads the clock and draws random identifiers; everything else is given them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from io import BytesIO
from uuid import UUID

# The UUID that the database driver returns, also to us: made and written out ten times faster than its base class.
from asyncpg.pgproto.pgproto import UUID as _Id  # noqa: N811 - by its role here

_VERSION = 0x7 << 76
_VARIANT = 0x2 << 62
_RAND_A = 0xFFF << 64
_RAND_B = (1 << 62) - 1

# The kernel's noise, drawn ahead: asking it for every id costs more than all the rest of making one.
_AHEAD = 4096
_drawn = BytesIO()


def noise(size: int) -> bytes:
    """Return ``size`` bytes from the kernel's source of randomness, fit for keys and salts; each is given once."""
    found = _drawn.read(size)
    if len(found) < size:
        _draw()
        found = os.urandom(size)
    return found


def _draw() -> None:
    """Replace what is left, also in a forked child: it must not give what its parent gives."""
    global _drawn  # noqa: PLW0603 - what is drawn ahead is the process's
    _drawn = BytesIO(os.urandom(_AHEAD))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_draw)


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """Return a new UUIDv7: it sorts by time, so that indexes grow at one end."""
    drawn = int.from_bytes(noise(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds << 80) | _VERSION | (drawn & _RAND_A) | _VARIANT | (drawn & _RAND_B)
    return _Id(number.to_bytes(16, "big"))


def first_id(at: datetime) -> UUID:
    """Return an id that none drawn by ``new_id`` at ``at`` or later is below."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | _VERSION | _VARIANT)
