"""Lanes: how many calls one platform may have on the wire, and when it is left alone for a while."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass, field

from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Outcome, Rejected

# So many failures in a row, with not one success between, open the breaker for so long.
_FAILURES_TO_OPEN = 20
_OPEN_S = 15.0
# Without an answer for so long, no more than so many calls are on the wire: each would only hold its run open.
_SILENT_S = 1.0
_ON_TRIAL = 32
# Places that come free within this time are taken together: one transaction writes all their attempts.
_GATHER_S = 0.02


class LaneFullError(Exception):
    """No place on the wire became free in time: the platform is slow, its deliveries wait in the store."""


@dataclass(slots=True)
class Lane:
    """One platform's places on the wire and its circuit breaker, shared by every run of this process.

    ``closed_until`` and ``answered_at`` are in the event loop's seconds. After the first, one caller at a time may
    try; a success closes the breaker, a failure opens it again. All of the capacity is there while answers come.
    """

    capacity: int
    busy: int = 0
    failures: int = 0
    closed_until: float = 0.0
    answered_at: float = -math.inf
    _freed: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, at_most: int, *, patience_s: float, at_least: int = 1) -> int:
        """Take places for up to ``at_most`` calls, waiting until ``at_least`` are free (one, when all are slow).

        Raises LaneFullError after ``patience_s`` seconds without a single one.
        """
        began = asyncio.get_running_loop().time()
        while self._allowed() - self.busy < self._wanted(at_least, began):
            self._freed.clear()
            waited = asyncio.get_running_loop().time() - began
            if waited >= patience_s:
                raise LaneFullError
            # Fewer places will do after a while; from then on only one that comes free changes anything.
            until = min(_GATHER_S, patience_s) if waited < _GATHER_S else patience_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), until - waited)
        taken = min(at_most, self._allowed() - self.busy)
        self.busy += taken
        return taken

    def give_back(self, count: int) -> None:
        """Give places back, and wake who waits."""
        self.busy -= count
        self._freed.set()

    def resting_s(self) -> float:
        """Return for how many seconds the platform should still be left alone (0: it may be called)."""
        return max(0.0, self.closed_until - asyncio.get_running_loop().time())

    def note(self, outcome: Outcome) -> None:
        """Count an outcome towards the breaker."""
        match outcome:
            case Accepted() | Rejected() | Deferred(kind=FailureKind.RATE):
                self.failures = 0
                self.closed_until = 0.0
                self.answered_at = asyncio.get_running_loop().time()
            case Deferred():
                self.failures += 1
                if self.failures >= _FAILURES_TO_OPEN:
                    self.closed_until = asyncio.get_running_loop().time() + _OPEN_S

    def _wanted(self, at_least: int, began: float) -> int:
        """Return how many free places are worth going on with: fewer the longer one waits."""
        waited = asyncio.get_running_loop().time() - began
        return min(at_least, self._allowed()) if waited < _GATHER_S else 1

    def _allowed(self) -> int:
        if self.failures >= _FAILURES_TO_OPEN:
            return 1
        silent = asyncio.get_running_loop().time() - self.answered_at > _SILENT_S
        return min(self.capacity, _ON_TRIAL) if silent else self.capacity


class Lanes:
    """The lane of every platform, made when it is first asked for."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lanes: dict[str, Lane] = {}

    def __getitem__(self, platform: str) -> Lane:
        return self._lanes.setdefault(platform, Lane(self._capacity))
