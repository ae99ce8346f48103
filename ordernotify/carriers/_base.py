"""The shape of a carrier: what it declares, and what its answers and its own calls to us are read into.

Like a platform's adapter a carrier's is pure: it builds calls and reads answers, and the wire alone speaks
HTTP. One file adds a carrier: its settings, its table of words, and a ``CARRIER`` declaration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.tracking import UNMAPPED, Meaning, TrackingEvent
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Inbound,
    PlatformSettings,
    Refusal,
    Token,
    TokenSource,
    by_status,
    failure,
)
from ordernotify.platforms._reading import one_line


class CarrierSettings(PlatformSettings):
    """What every carrier is told; read from the environment as ``ORDERNOTIFY_<CARRIER>_<SETTING>``."""


# What a carrier says of one number: its events (none yet: an empty tuple), or why it says nothing.
Reading = tuple[TrackingEvent, ...] | Deferred | Rejected

Build = Callable[[Sequence[str], Context], Call]


class Freshness(StrEnum):
    """How news of a shipment reaches us."""

    PUSH = "push"  # the carrier tells us; it is asked only to be sure
    POLL = "poll"  # the carrier must be asked


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``calls`` in any ``seconds``."""

    calls: int
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a carrier's call to us said; ``ask`` are numbers of which it said too little: ask about them."""

    events: tuple[TrackingEvent, ...] = ()
    ask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """How a carrier speaks to us. ``verify`` sees raw bytes; a refusal, or None when the call is genuine.

    ``status`` is the HTTP status that this carrier takes for success.
    """

    verify: Callable[[Inbound, Any, datetime], Refusal | None]
    read: Callable[[Inbound, Any, datetime], Pushed | Refusal]
    signature: str  # one line for the documentation: what proves that a call is genuine
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """How a carrier is told to report a shipment to us; ``again_after``: its promise ends, so tell it anew."""

    build: Build
    read: Callable[[Answer, Sequence[str], Context], Mapping[str, Accepted | Deferred | Rejected]]
    batch: int = 1
    again_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """Everything the house needs to know of a carrier, or of a service that speaks for many carriers.

    Numbers are given to it as ``normal_number`` returns them, at most ``batch`` a call, and ``read`` has a
    reading for each of them.
    ``patterns`` are the numbers that are certainly its own, ``takes`` those that it can be asked about.
    ``names`` are the beginnings of what order sources call it (lower case, letters and digits only).
    """

    name: str
    title: str
    settings: type[CarrierSettings]
    freshness: Freshness
    statuses: Mapping[str, Meaning]
    build: Build
    read: Callable[[Answer, Sequence[str], Context], Mapping[str, Reading]]
    batch: int = 1
    names: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()
    takes: re.Pattern[str] = re.compile(r"[!-~]{1,64}")
    token: TokenSource | None = None
    push: Push | None = None
    follow: Follow | None = None
    quota: tuple[Quota, ...] = ()
    at_least: timedelta = timedelta(0)  # between two questions about one number, so that the quota lasts

    def owns(self, number: str) -> bool:
        """Return whether a tracking number has one of this carrier's own forms."""
        return any(pattern.fullmatch(number) for pattern in self.patterns)


def table(rows: Iterable[tuple[Meaning, str]]) -> Mapping[str, Meaning]:
    """Return a table by code from rows of one meaning and its codes, separated by spaces.

    Raises ValueError where a code has two meanings.
    """
    found: dict[str, Meaning] = {}
    for meaning, codes in rows:
        for code in codes.split():
            if code in found:
                raise ValueError(f"{code}: has two meanings")
            found[code] = meaning
    return found


def meaning_of(statuses: Mapping[str, Meaning], *codes: str) -> Meaning:
    """Return the meaning of the first of ``codes`` that the table knows, UNMAPPED where it knows none."""
    return next((statuses[code] for code in codes if code in statuses), UNMAPPED)


# ---- what goes wrong ----

_HTTP: Mapping[int, FailureKind] = {
    401: FailureKind.AUTH,
    402: FailureKind.QUOTA,
    403: FailureKind.AUTH,
}
_CODE_MAX: Final = 60
_OK = 200


def failed(
    answer: Answer, context: Context, *, carrier: str, code: str = "", kinds: Mapping[str, FailureKind]
) -> Deferred | Rejected:
    """Return what an answer without facts means: the carrier's own code decides before its status does."""
    kind = kinds.get(code) or _HTTP.get(answer.status)
    word = f"{carrier}_{code}" if code in kinds else f"{carrier}_http_{answer.status}"
    if kind is not None:
        found = failure(kind, word, retry_after_s=answer.retry_after_s(context.now))
    else:
        # Asking changes nothing at the carrier: no answer of its can be ambiguous.
        tail = by_status(answer, context.now, code=word, ambiguous_5xx=False)
        found = tail or Rejected(FailureKind.PERMANENT, word)
    return unreadable(carrier) if isinstance(found, Accepted) else found


def unreadable(carrier: str) -> Deferred:
    """Return what an answer means that is not in the carrier's format: a proxy or a bad hour spoke for it."""
    return Deferred(FailureKind.TRANSIENT, f"{carrier}_unreadable")


def clean_code(value: object) -> str:
    """Return a foreign code as a short word, '' where it is none: it is kept, counted and logged."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return re.sub(r"[^A-Za-z0-9 _.,:+/-]", "", one_line(str(value), limit=_CODE_MAX)).strip()


def read_token(answer: Answer, context: Context, *, carrier: str) -> Token | Deferred | Rejected:
    """Read the answer of an OAuth 2.0 token endpoint (client credentials).

    The token is given up after four fifths of its life, which carriers end early.
    """
    body = answer.json()
    if answer.status != _OK or not isinstance(body, dict):
        refused = answer.status in {400, 401, 403}
        kinds = {"token": FailureKind.AUTH} if refused else {}
        return failed(answer, context, carrier=carrier, code="token", kinds=kinds)
    value, life = body.get("access_token"), str(body.get("expires_in", ""))
    if not isinstance(value, str) or not value or not re.fullmatch(r"[0-9]{1,9}", life):
        return unreadable(carrier)
    return Token(value, context.now + timedelta(seconds=int(life)) * 4 // 5)


def bearer_of(context: Context) -> dict[str, str]:
    """Return the Authorization header for the token at hand; none where there is none, which is refused."""
    return {} if context.token is None else {"authorization": f"Bearer {context.token.value}"}
