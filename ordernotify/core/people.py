"""People of the supplier: what their roles allow, what a password must be, and when an account is locked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ordernotify.core.recipients import Refused


class Role(StrEnum):
    """What a person is at the supplier."""

    STAFF = "staff"
    COMPLIANCE = "compliance"
    ADMIN = "admin"


class Act(StrEnum):
    """What only some people may do."""

    POST_UPDATE = "post_update"  # find orders, preview and post updates and corrections
    DECIDE_HOLD = "decide_hold"  # release an order from a regulatory hold, or keep it
    READ_EVIDENCE = "read_evidence"
    MANAGE_PEOPLE = "manage_people"


# Duties are apart: who runs the house does not post, and who posts does not release.
ROLE_MAY: Mapping[Role, frozenset[Act]] = {
    Role.STAFF: frozenset({Act.POST_UPDATE}),
    Role.COMPLIANCE: frozenset({Act.DECIDE_HOLD, Act.READ_EVIDENCE}),
    Role.ADMIN: frozenset({Act.MANAGE_PEOPLE}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an account."""

    id: str
    name: str
    roles: frozenset[Role]

    def may(self, act: Act) -> bool:
        """Return whether one of the person's roles allows ``act``."""
        return any(act in ROLE_MAY[role] for role in self.roles)


# An id is seen in records and in Prefect, so it is a word and no address or number.
_ID: Final = re.compile(r"[a-z]+([_-][a-z]+){0,4}")
_LONGEST_ID: Final = 40
LEAST_PASSWORD: Final = 16
_MOST_PASSWORD: Final = 256
# The words that lists of stolen passwords begin with; a long password made of one of them is guessed early.
_COMMON: Final = (
    "password", "passw0rd", "qwerty", "letmein", "welcome", "administrator", "iloveyou", "changeme", "trustno1",
    "abc123", "123456", "111111", "secret", "monkey", "dragon", "football", "baseball", "sunshine", "princess",
    "correcthorsebatterystaple",
)  # fmt: skip
_LEAST_VARIETY: Final = 5

# Six wrong passwords in a row lock an account; whoever waits starts a new row.
WRONG_IN_A_ROW: Final = 6
LOCKED_FOR: Final = timedelta(minutes=30)
SESSION_IDLE: Final = timedelta(minutes=15)
SESSION_LASTS: Final = timedelta(hours=12)
CODE_LASTS: Final = timedelta(minutes=10)


def read_person_id(text: str) -> str | Refused:
    """Return ``text`` if it may name a person."""
    if _ID.fullmatch(text) and len(text) <= _LONGEST_ID:
        return text
    return Refused("person", f"must be lower case words joined by _ or -, at most {_LONGEST_ID} letters, as ann_lee")


def read_password(password: str, *, person_id: str, name: str) -> str | Refused:
    """Return ``password`` if it may protect an account; a refusal says the rule, never the password."""
    if not LEAST_PASSWORD <= len(password) <= _MOST_PASSWORD:
        return Refused("password", f"must have {LEAST_PASSWORD} to {_MOST_PASSWORD} characters")
    plain = _letters_and_digits(password)
    own = [part for text in (person_id, name) for part in re.split(r"[\W_]+", text.lower()) if len(part) > 2]  # noqa: PLR2004 - initials are in every text
    if any(part in plain for part in own):
        return Refused("password", "must not contain your name")
    rest = plain
    for word in _COMMON:
        rest = rest.replace(word, "")
    if len(rest) * 2 < len(plain) or len(set(password)) < _LEAST_VARIETY:
        return Refused("password", "must not be made of what everybody tries first, nor of few characters repeated")
    return password


def _letters_and_digits(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def after_wrong(wrong: int, locked_until: datetime | None, *, at: datetime) -> tuple[int, datetime | None]:
    """Return how many wrong passwords in a row there are after another one, and until when that locks."""
    # A lock that has run out began a new row.
    counted = 1 if locked_until is not None else wrong + 1
    return counted, at + LOCKED_FOR if counted >= WRONG_IN_A_ROW else None


def session_is_over(*, created_at: datetime, last_seen_at: datetime, at: datetime) -> bool:
    """Return whether a session has ended: unused for too long, or simply old."""
    return at - last_seen_at >= SESSION_IDLE or at - created_at >= SESSION_LASTS
