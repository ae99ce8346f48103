"""When to try again: exponential, jittered, bounded, and never against what the platform asked for."""

from __future__ import annotations

from datetime import datetime, timedelta

# Twelve attempts with these waits reach over about a day; after that a person decides.
MAX_ATTEMPTS = 12
_FIRST_S = 1.0
_LONGEST_S = 4 * 3600.0


def next_attempt(*, ended_at: datetime, number: int, retry_after_s: float | None, noise: float) -> datetime:
    """Return when the attempt after attempt ``number`` (from 1) may begin.

    ``noise`` in [0, 1) spreads attempts that failed together over half of the wait. A platform's own
    ``retry_after_s`` is a lower bound: it is never undercut.
    """
    wait = min(_FIRST_S * 3.0 ** (number - 1), _LONGEST_S)
    jittered = wait * (0.75 + noise / 2)
    return ended_at + timedelta(seconds=max(jittered, (retry_after_s or 0.0) * (1 + noise / 20)))
