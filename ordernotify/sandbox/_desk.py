"""One simulated vendor at work: its routes, what it took, what it counted, and the fault that is on."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ordernotify.sandbox._base import Endpoint, Fault, Shelf, Taken, Vendor

KEPT_ARRIVALS = 20_000
KEPT_CHARACTERS = 16_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it was taken; ``sequence`` counts over all vendors, so that their order is known."""

    sequence: int
    received_at_ms: int
    vendor: str
    to: str
    reference: str
    text: str
    text_sha256: str
    provider_ref: str
    files: tuple[tuple[str, str], ...] = ()


class FaultOrder(BaseModel):
    """What is to go wrong: how often, how long, and on which paths; without limits, until it is taken off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    times: int | None = Field(default=None, ge=1, description="Requests it strikes; null: no limit.")
    seconds: float | None = Field(default=None, gt=0, description="Seconds it stays on; null: no limit.")
    hang_seconds: float = Field(default=30.0, ge=0, description="Seconds without an answer (hang).")
    path: str | None = Field(default=None, description="Regular expression of the whole path below the vendor's root.")

    @field_validator("path")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value


@dataclass(slots=True)
class Counts:
    """What happened at one vendor since the last reset.

    ``refused`` are requests that took nothing because of a fault or of the vendor's own refusal; ``errors``
    are bugs of the simulation; ``callbacks_refused`` were addressed to a host that is not this machine.
    """

    requests: int = 0
    taken: int = 0
    refused: int = 0
    errors: int = 0
    callbacks_sent: int = 0
    callbacks_failed: int = 0
    callbacks_refused: int = 0
    callbacks_pending: int = 0


@dataclass(slots=True)
class _Armed:
    order: FaultOrder
    until: float | None
    left: int | None


@dataclass(slots=True)
class Desk:
    """One vendor from one reset to the next, which opens a new desk and resets what hangs at this one."""

    vendor: Vendor
    shelf: Shelf
    counts: Counts = field(default_factory=Counts)
    # Never dropped, unlike the arrivals: loss and repetition stay provable after millions of messages.
    seen: Counter[str] = field(default_factory=Counter)
    arrivals: deque[Arrival] = field(default_factory=deque)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _routes: list[tuple[str, re.Pattern[str], Endpoint]] = field(default_factory=list)
    _characters: int = 0
    _armed: _Armed | None = None

    @classmethod
    def open(cls, vendor: Vendor, *, root: str, webhooks: Mapping[str, str]) -> Desk:
        """Return a desk with nothing on it; ``root`` is the vendor's own URL."""
        routes = [(method, re.compile(path), end) for (method, path), end in vendor.routes.items()]
        return cls(vendor=vendor, shelf=Shelf(root=root, webhooks=dict(webhooks)), _routes=routes)

    def endpoint(self, method: str, path: str) -> Endpoint | None:
        """Return what answers the request, None where the vendor has no such route."""
        for verb, pattern, endpoint in self._routes:
            if verb == method and pattern.fullmatch(path):
                return endpoint
        return None

    def take(self, taken: Taken, *, sequence: int, received_at_ms: int) -> None:
        """Record one message, and drop the oldest texts where there are too many."""
        digest = hashlib.sha256(taken.text.encode()).hexdigest()
        self.counts.taken += 1
        self.seen[taken.reference or f"{taken.to} {digest}"] += 1
        self.arrivals.append(
            Arrival(
                sequence=sequence,
                received_at_ms=received_at_ms,
                vendor=self.vendor.name,
                to=taken.to,
                reference=taken.reference,
                text=taken.text,
                text_sha256=digest,
                provider_ref=taken.provider_ref,
                files=taken.files,
            )
        )
        self._characters += len(taken.text)
        while len(self.arrivals) > KEPT_ARRIVALS or self._characters > KEPT_CHARACTERS:
            self._characters -= len(self.arrivals.popleft().text)

    def arm(self, order: FaultOrder) -> None:
        """Turn a fault on, instead of any other."""
        until = None if order.seconds is None else time.monotonic() + order.seconds
        self._armed = _Armed(order, until, order.times)

    def disarm(self) -> None:
        """Turn the fault off; requests that already hang go on hanging, as they would."""
        self._armed = None

    @property
    def fault(self) -> FaultOrder | None:
        """The fault that is on now."""
        armed = self._armed
        if armed is not None and armed.until is not None and time.monotonic() >= armed.until:
            self._armed = armed = None
        return None if armed is None else armed.order

    def strike(self, path: str) -> FaultOrder | None:
        """Return the fault that strikes a request for ``path``, and count it."""
        order, armed = self.fault, self._armed
        if order is None or armed is None:
            return None
        if order.path is not None and not re.fullmatch(order.path, path):
            return None
        if armed.left is not None:
            armed.left -= 1
            if armed.left == 0:
                self._armed = None
        return order

    async def hang(self, seconds: float) -> bool:
        """Wait; return whether this desk was closed meanwhile."""
        try:
            await asyncio.wait_for(self.over.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """End what still hangs, and drop the callbacks that still wait."""
        self.over.set()
        for task in self.tasks:
            task.cancel()

    def totals(self) -> dict[str, int]:
        """Return the counts, with how many of the taken messages were distinct and how many repetitions."""
        counts = self.counts
        return {
            "requests": counts.requests,
            "taken": counts.taken,
            "distinct": len(self.seen),
            "duplicates": counts.taken - len(self.seen),
            "refused": counts.refused,
            "errors": counts.errors,
            "callbacks_sent": counts.callbacks_sent,
            "callbacks_failed": counts.callbacks_failed,
            "callbacks_refused": counts.callbacks_refused,
            "callbacks_pending": counts.callbacks_pending,
        }
