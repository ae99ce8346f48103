"""Daily summaries: when one is due by a client's own clock, and what of its orders may stand in it for whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import Final

from ordernotify.core.channels import Channel, Level
from ordernotify.core.events import OrderStatus
from ordernotify.core.labels import Label, join
from ordernotify.core.planning import LINK, Registered, Suppressed, SuppressionReason
from ordernotify.core.policy import Decision, OrderFacts, TemplateFacts, Verdict, decide
from ordernotify.core.recipients import ContactPoint, Recipient

# Every summary is an event of the house's own; its key is its client and day.
SOURCE: Final = "house"

CLOSED: Final = frozenset({OrderStatus.DELIVERED, OrderStatus.CANCELLED, OrderStatus.RETURNED})
_STOPPED: Final = frozenset({OrderStatus.DELAYED, OrderStatus.BACKORDERED, OrderStatus.REGULATORY_HOLD})
_DAY: Final = timedelta(days=1)


def dedupe_key(client_id: str, day: date) -> str:
    """Return the key under which a client's summary of a day exists once."""
    return f"summary:{client_id}:{day.isoformat()}"


# ---- when ----


def due(zone: tzinfo, at: datetime, hour: time, last_day: date | None, *, since: datetime) -> date | None:
    """Return the local day whose summary is due at ``at`` and was not made yet, None when none is.

    The newest day whose ``hour`` has come is the only one that can be due: of days that were missed nobody
    wants the older ones. ``last_day`` is that of the last summary. Hours before ``since``, when the client
    came, are not caught up.
    """
    day, begins = _newest(zone, at, hour)
    return day if begins > since and (last_day is None or day > last_day) else None


@lru_cache(maxsize=1024)
def _newest(zone: tzinfo, at: datetime, hour: time) -> tuple[date, datetime]:
    """Return the last local day whose ``hour`` has come, and when it came; many clients share a clock."""
    day = at.astimezone(zone).date()
    while (begins := moment(zone, day, hour)) is None or begins > at:
        day -= _DAY
    return day, begins


def moment(zone: tzinfo, day: date, hour: time) -> datetime | None:
    """Return when a clock in ``zone`` first shows ``hour`` on ``day``; None for a day that the zone left out.

    An hour that comes twice counts the first time. One that does not come, because the clock is put forward
    over it, is the moment at which it is put forward.
    """
    found = _first(zone, datetime.combine(day, hour))
    return found if _first(zone, datetime.combine(day, time(0))).astimezone(zone).date() == day else None


def _first(zone: tzinfo, local: datetime) -> datetime:
    after = local.replace(tzinfo=zone).astimezone(UTC)
    if after.astimezone(zone).replace(tzinfo=None) == local:
        return after
    # The clock never shows it: it is put forward somewhere between its two readings.
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).replace(tzinfo=None) >= local:
            after = middle
        else:
            before = middle
    return after


# ---- what ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one order stands. ``changed``: since the client's last summary. Dates are the client's own."""

    order_no: str
    status: OrderStatus
    since: date
    promised_date: str
    carrier: str
    tracking_no: str
    changed: bool
    facts: OrderFacts

    @property
    def is_open(self) -> bool:
        """Whether more is to come."""
        return self.status not in CLOSED


class Group(StrEnum):
    """In which part of a summary an order stands; the first that fits."""

    ATTENTION = "attention"  # late or on hold
    CHANGED = "changed"
    OTHERS = "others"


def group(standing: Standing, *, day: date) -> Group:
    """Return the part of the summary of ``day`` in which an order stands."""
    if standing.is_open and (standing.status in _STOPPED or _passed(standing.promised_date, day)):
        return Group.ATTENTION
    return Group.CHANGED if standing.changed else Group.OTHERS


def _passed(promised: str, day: date) -> bool:
    try:
        return date.fromisoformat(promised) < day
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Named:
    """An order that a summary names, and the fields of it that stay out."""

    standing: Standing
    removed: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What of a client's orders one contact may be told.

    ``unnamed`` are orders of which only a notice may be given: they are counted, and looked up in the portal.
    Orders of which not even that may be said are in none of the numbers but ``denied``, which is for the
    ledger. ``withheld`` are values that must not stand in the message. ``label`` is that of all it shows.
    """

    recipient: Recipient
    contact: ContactPoint
    decision: Decision
    named: tuple[Named, ...]
    unnamed: int
    denied: int
    withheld: frozenset[str]
    label: Label

    @property
    def notice_only(self) -> bool:
        """Whether the contact may be told no more than that there is news in the portal."""
        return self.decision.verdict is Verdict.NOTICE_ONLY


def wanted(contact: ContactPoint) -> bool:
    """Return whether a contact gets summaries: records are kept order by order."""
    return contact.summary and contact.channel is not Channel.RECORD


def cut(
    standings: Sequence[Standing],
    *,
    recipient: Recipient,
    contact: ContactPoint,
    registered: Registered | None,
    template: TemplateFacts,
    rows: frozenset[str],
    now: datetime,
) -> Cut | Suppressed:
    """Return what of ``standings`` may be told to a contact, order by order as each order's own news would be.

    ``rows`` are the fields of ``template`` that stand for one order; the rest is about all of them together.
    """
    if contact.address.startswith(LINK):
        return Suppressed(recipient=recipient, contact=contact, reason=SuppressionReason.NOT_LINKED, rules=())
    if registered is None:
        return Suppressed(recipient=recipient, contact=contact, reason=SuppressionReason.NOT_CONFIGURED, rules=())
    level = registered.level if contact.level is None else min(contact.level, registered.level)

    def decided(order: OrderFacts, shown: TemplateFacts) -> Decision:
        return decide(
            order=order,
            channel_level=level if registered.enabled else Level.CX,
            contact=contact,
            recipient=recipient,
            template=shown,
            now=now,
        )

    kinds = {facts: decided(facts, template) for facts in {standing.facts for standing in standings}}
    named = tuple(
        Named(standing, rows.intersection(kinds[standing.facts].removed))
        for standing in standings
        if kinds[standing.facts].verdict in _NAMES
    )
    unnamed = sum(kinds[standing.facts].verdict is Verdict.NOTICE_ONLY for standing in standings)
    if not named and not unnamed:
        reason = kinds[standings[0].facts]
        return Suppressed(recipient=recipient, contact=contact, reason=SuppressionReason.POLICY, rules=reason.rules)
    public = not unnamed and all(one.standing.facts.label is Label.PUBLIC for one in named)
    whole = TemplateFacts(
        permits_notice=template.permits_notice, required=template.required - rows, fields=template.fields - rows
    )
    decision = decided(OrderFacts(label=Label.PUBLIC if public else Label.INTERNAL), whole)
    if decision.verdict in {Verdict.DENY, Verdict.QUARANTINE}:
        return Suppressed(recipient=recipient, contact=contact, reason=SuppressionReason.POLICY, rules=decision.rules)
    if decision.verdict is Verdict.NOTICE_ONLY:
        named, label = (), decision.label_after
    else:
        label = join([decision.label_after, *(kinds[one.standing.facts].label_after for one in named)])
    return Cut(
        recipient=recipient,
        contact=contact,
        decision=decision,
        named=named,
        unnamed=unnamed,
        denied=sum(kinds[standing.facts].verdict in _SAYS_NOTHING for standing in standings),
        withheld=_withheld(standings, named),
        label=label,
    )


_NAMES: Final = frozenset({Verdict.ALLOW_FULL, Verdict.ALLOW_REDACTED})
_SAYS_NOTHING: Final = frozenset({Verdict.DENY, Verdict.QUARANTINE})
# A shorter value stands in other numbers by chance.
_TELLING: Final = 4


def _withheld(standings: Iterable[Standing], named: Sequence[Named]) -> frozenset[str]:
    shown = {one.standing.order_no for one in named}
    shown |= {one.standing.tracking_no for one in named if "tracking_no" not in one.removed}
    values = {value for standing in standings for value in (standing.order_no, standing.tracking_no)}
    return frozenset(value for value in values - shown if len(value) >= _TELLING)
