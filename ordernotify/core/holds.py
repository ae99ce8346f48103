"""Regulatory holds: what may be decided, why, and who must agree before clients are told more of an order."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ordernotify.core.labels import Label, Tags

# The code of a message that waits until compliance releases its order.
ON_HOLD: Final = "on_hold"


class HoldDecision(StrEnum):
    """What compliance may decide."""

    RELEASE = "release"
    KEEP = "keep"


class HoldReason(StrEnum):
    """Why; free text would end in records, where it must not."""

    LICENSE_GRANTED = "license_granted"
    NO_LICENSE_NEEDED = "no_license_needed"
    SCREENING_CLEARED = "screening_cleared"
    PLACED_IN_ERROR = "placed_in_error"
    LICENSE_PENDING = "license_pending"
    SCREENING_OPEN = "screening_open"
    DOCUMENTS_MISSING = "documents_missing"


class HoldAnswer(StrEnum):
    """What a decision led to."""

    RELEASED = "released"
    NEEDS_SECOND = "needs_second"  # one of two has released it
    KEPT = "kept"
    SAME_PERSON = "same_person"  # the second release must be another person's
    NOT_ALLOWED = "not_allowed"  # that person's roles do not decide holds
    REASON_DOES_NOT_FIT = "reason_does_not_fit"
    CODE_REFUSED = "code_refused"  # wrong, used, or too old
    ENDED = "ended"  # decided before
    UNKNOWN = "unknown"


REASONS: Final[dict[HoldDecision, frozenset[HoldReason]]] = {
    HoldDecision.RELEASE: frozenset(
        {
            HoldReason.LICENSE_GRANTED,
            HoldReason.NO_LICENSE_NEEDED,
            HoldReason.SCREENING_CLEARED,
            HoldReason.PLACED_IN_ERROR,
        }
    ),
    HoldDecision.KEEP: frozenset({HoldReason.LICENSE_PENDING, HoldReason.SCREENING_OPEN, HoldReason.DOCUMENTS_MISSING}),
}


def people_needed(*, by_contract: bool, label: Label, tags: Tags) -> int:
    """Return how many persons must release an order: two where its contract, its label or export rules bind."""
    return 2 if by_contract or label >= Label.CUI or tags.export else 1
