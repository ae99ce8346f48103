"""Words: what templates of one language share, and how a date reads in it."""

from __future__ import annotations

from datetime import date
from functools import cached_property
from typing import Annotated

from annotated_types import Len
from pydantic import BaseModel, ConfigDict

from ordernotify.core.events import OrderStatus

# The way of an order that nothing stops; the progress line shows how far it is.
STEPS = (
    OrderStatus.RECEIVED,
    OrderStatus.PROCESSING,
    OrderStatus.SHIPPED,
    OrderStatus.OUT_FOR_DELIVERY,
    OrderStatus.DELIVERED,
)

# `unknown` has no word: a status that nobody understands is never told to a client.
TOLD = tuple(status.value for status in OrderStatus if status is not OrderStatus.UNKNOWN)


class Words(BaseModel):
    """One file of ``_words``: a language's names for statuses, facts, details, and the layouts' phrases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    months: Annotated[tuple[str, ...], Len(12, 12)]
    replaces_status: frozenset[str]
    status: dict[str, str]
    labels: dict[str, str]
    details: dict[str, str]
    phrases: dict[str, str]

    def day(self, when: date) -> str:
        """Return a date as people write it, such as ``25 Nov 2026``."""
        return f"{when.day} {self.months[when.month - 1]} {when.year}"

    def progress(self, status: str) -> str:
        """Return how far an order has come as one line; '' where it is off the straight way."""
        return self._lines.get(status, "")

    @cached_property
    def _lines(self) -> dict[str, str]:
        return {step.value: self._line(reached) for reached, step in enumerate(STEPS)}

    def _line(self, reached: int) -> str:
        arrived = reached == len(STEPS) - 1
        marks = ["✓" if n < reached or arrived else "●" if n == reached else "○" for n in range(len(STEPS))]
        # A mark stays on the line of its word.
        return " · ".join(f"{mark}\u00a0{self.status[step]}" for mark, step in zip(marks, STEPS, strict=True))


SEE_PORTAL = "see_portal"  # the phrase that stands where a field may not be shown
