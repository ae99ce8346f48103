"""Deliveries: the states one message to one address passes through, and the answers that move it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ordernotify.core.channels import Channel
from ordernotify.core.events import OrderStatus


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PLANNED = "planned"  # decided, not yet worded
    AUTHORIZED = "authorized"  # worded, gated, its record written
    SENDING = "sending"  # the attempt is recorded, the answer is not
    SENT = "sent"  # the platform accepted it
    DELIVERED = "delivered"  # a receipt says it arrived
    READ = "read"  # a receipt says it was opened by its reader
    DEFERRED = "deferred"  # will be tried again
    UNKNOWN = "unknown"  # sent or not: nobody can say yet
    REJECTED = "rejected"  # the platform refused it for good
    BOUNCED = "bounced"  # accepted, then came back
    COMPLAINED = "complained"  # arrived, and its reader called it unwanted
    FAILED = "failed"  # given up; a person decides
    SUPPRESSED = "suppressed"  # chosen not to be made, with a reason
    SUPERSEDED = "superseded"  # newer news overtook it before it left
    QUARANTINED = "quarantined"  # the content gate stopped it


_S = DeliveryStatus

# A state machine as a table: from each status, where it may go. Receipts arrive in any order and twice:
# what is not in the row is ignored, never applied.
NEXT: dict[DeliveryStatus, frozenset[DeliveryStatus]] = {
    _S.PLANNED: frozenset({_S.AUTHORIZED, _S.SUPPRESSED, _S.SUPERSEDED, _S.QUARANTINED, _S.FAILED}),
    _S.AUTHORIZED: frozenset({_S.SENDING, _S.DEFERRED, _S.SUPPRESSED, _S.SUPERSEDED, _S.FAILED}),
    _S.SENDING: frozenset({_S.SENT, _S.DEFERRED, _S.UNKNOWN, _S.REJECTED, _S.DELIVERED, _S.BOUNCED, _S.READ}),
    _S.DEFERRED: frozenset({_S.SENDING, _S.SUPPRESSED, _S.SUPERSEDED, _S.FAILED}),
    _S.UNKNOWN: frozenset({_S.SENT, _S.DELIVERED, _S.READ, _S.BOUNCED, _S.REJECTED, _S.DEFERRED, _S.FAILED}),
    _S.SENT: frozenset({_S.DELIVERED, _S.READ, _S.BOUNCED, _S.REJECTED, _S.COMPLAINED, _S.FAILED}),
    _S.DELIVERED: frozenset({_S.READ, _S.BOUNCED, _S.COMPLAINED}),
    _S.READ: frozenset({_S.COMPLAINED}),
    # A platform may take a failure back (several devices, late carrier reports): good news replaces it.
    _S.BOUNCED: frozenset({_S.DELIVERED, _S.READ}),
    _S.REJECTED: frozenset({_S.DELIVERED, _S.READ}),
    _S.FAILED: frozenset({_S.DELIVERED, _S.READ, _S.DEFERRED}),
    _S.COMPLAINED: frozenset(),
    _S.SUPPRESSED: frozenset(),
    _S.SUPERSEDED: frozenset(),
    _S.QUARANTINED: frozenset({_S.AUTHORIZED, _S.SUPPRESSED}),
}

UNFINISHED = frozenset({_S.PLANNED, _S.AUTHORIZED, _S.SENDING, _S.DEFERRED, _S.UNKNOWN})


def can_become(now: DeliveryStatus, then: DeliveryStatus) -> bool:
    """Return whether a delivery in status ``now`` may move to ``then``."""
    return then in NEXT[now]


class FailureKind(StrEnum):
    """Why a platform did not take a message, and so who must act."""

    TRANSIENT = "transient"  # time heals it
    RATE = "rate"  # we were too fast; wait as told
    PERMANENT = "permanent"  # this message will never pass
    OPT_OUT = "opt_out"  # this person does not want it
    AUTH = "auth"  # our credentials: the platform stops, a person is alerted
    CONFIG = "config"  # our set-up at the platform: likewise
    QUOTA = "quota"  # our plan is used up: likewise


STOPS_PLATFORM = frozenset({FailureKind.AUTH, FailureKind.CONFIG, FailureKind.QUOTA})


@dataclass(frozen=True, slots=True)
class Accepted:
    """The platform took the message; ``provider_ref`` is its id for it ('' where it gives none)."""

    provider_ref: str = ""
    code: str = "accepted"


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. ``ambiguous``: the platform may have taken it all the same, so ask before sending again."""

    kind: FailureKind
    code: str
    retry_after_s: float | None = None
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not this message; ``kind`` says whether the message, the person or our own set-up is the reason."""

    kind: FailureKind
    code: str


Outcome = Accepted | Deferred | Rejected


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with an e-mail."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The words for one delivery, cut to what its channel may carry.

    Plain, unescaped values: each adapter escapes by its platform's rules. ``text`` is the whole message as
    plain text; ``subject`` a one-line title; ``html`` the HTML part of an e-mail; ``facts`` labelled values
    for cards and forms; ``variables`` the same by field name, for templates kept at the platform.
    ``attachments`` are there only for platforms that declare how much of them they take.
    ``reference`` is our idempotency key, safe to hand to a platform (it identifies nobody).
    """

    delivery_id: str
    reference: str
    channel: Channel
    to: str
    status: OrderStatus
    language: str
    text: str
    subject: str = ""
    html: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    refs: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    notice_only: bool = False
    edit_of: str = ""
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A platform's later word on a delivery.

    Found by ``reference`` (ours) or ``provider_ref`` (theirs). ``dedupe_key`` is unique per platform, so that
    a receipt sent twice is applied once. ``code`` is the platform's code, never free text from outside.
    ``opt_out``: the person wants no more on this address.
    """

    dedupe_key: str
    status: DeliveryStatus | None
    occurred_at: datetime | None = None
    provider_ref: str = ""
    reference: str = ""
    code: str = ""
    opt_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentChange:
    """A person said stop or start on an address, in a message to a platform."""

    dedupe_key: str
    channel: Channel
    address: str
    granted: bool
    code: str
