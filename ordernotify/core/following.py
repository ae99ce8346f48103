"""Following a shipment: when to ask its carrier again, and what its silence or a passed date means."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care, Meaning, TrackingEvent, estimate, latest


class Stage(StrEnum):
    """Where a shipment is, as far as asking is concerned."""

    LABEL = "label"  # announced to the carrier, not yet in its hands
    MOVING = "moving"
    OUT = "out"  # out for delivery, or ready for pickup
    HELD = "held"  # delayed, attempted, held
    DONE = "done"


_STAGES: Mapping[OrderStatus | None, Stage] = {
    OrderStatus.SHIPPED: Stage.MOVING,
    OrderStatus.OUT_FOR_DELIVERY: Stage.OUT,
    OrderStatus.DELAYED: Stage.HELD,
    OrderStatus.REGULATORY_HOLD: Stage.HELD,
    OrderStatus.DELIVERED: Stage.DONE,
    OrderStatus.RETURNED: Stage.DONE,
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How a shipment of one stage is followed.

    ``every``: between two questions. ``silent_after``: without a word, a person is told. ``ends_after``: a
    person is told and nobody asks any more. ``by_day``: only between 08:00 and 20:00 at the destination.
    """

    every: timedelta
    silent_after: timedelta | None
    ends_after: timedelta | None
    by_day: bool = False


PACES: Mapping[Stage, Pace] = {
    Stage.LABEL: Pace(timedelta(hours=6), timedelta(hours=120), timedelta(days=14)),
    Stage.MOVING: Pace(timedelta(hours=3), timedelta(hours=72), timedelta(days=90)),
    Stage.OUT: Pace(timedelta(minutes=45), timedelta(hours=24), timedelta(days=30), by_day=True),
    Stage.HELD: Pace(timedelta(hours=4), timedelta(hours=72), timedelta(days=30)),
    # Asked once more a day later, because carriers correct themselves; then never again.
    Stage.DONE: Pace(timedelta(hours=24), None, None),
}

_MORNING, _EVENING = time(8), time(20)
_SPREAD: Final = 20  # per cent either way, so that what began together is not asked together for ever
_OWN = "ordernotify."
LATE: Final = f"{_OWN}late"
SILENT: Final = f"{_OWN}silent"
GIVEN_UP: Final = f"{_OWN}given_up"


def stage(events: Iterable[TrackingEvent]) -> Stage:
    """Return the stage that a shipment's events put it in."""
    newest = latest(events)
    return Stage.LABEL if newest is None else _STAGES.get(newest.status, Stage.LABEL)


def next_question(
    events: Iterable[TrackingEvent],
    *,
    tracking_no: str,
    since: datetime,
    asked_at: datetime | None,
    zone: tzinfo = UTC,
    at_least: timedelta = timedelta(0),
) -> datetime | None:
    """Return when to ask the carrier about a shipment again, None for never.

    ``since`` is when following began, ``asked_at`` when the carrier last answered (None: not yet), ``zone``
    that of the destination, ``at_least`` what the carrier's quota asks for between two questions.
    """
    if asked_at is None:
        return since
    told = tuple(events)
    now = stage(told)
    pace = PACES[now]
    newest = latest(told)
    if now is Stage.DONE and newest is not None:
        again = newest.occurred_at + pace.every
        return max(again, asked_at + at_least) if asked_at < again else None
    if pace.ends_after is not None and asked_at - _last_word(told, since) >= pace.ends_after:
        return None
    due = asked_at + max(_spread(pace.every, tracking_no), at_least)
    return _by_day(due, zone) if pace.by_day else due


def _spread(every: timedelta, tracking_no: str) -> timedelta:
    """Return the interval, up to a fifth shorter or longer, always the same for one shipment."""
    drawn = int.from_bytes(hashlib.sha256(tracking_no.encode()).digest()[:4], "big") % (2 * _SPREAD + 1)
    return every * (100 - _SPREAD + drawn) // 100


def _by_day(due: datetime, zone: tzinfo) -> datetime:
    local = due.astimezone(zone)
    if _MORNING <= local.time() < _EVENING:
        return due
    day = local.date() if local.time() < _MORNING else local.date() + timedelta(days=1)
    return datetime.combine(day, _MORNING, zone).astimezone(UTC)


def _last_word(events: Iterable[TrackingEvent], since: datetime) -> datetime:
    """Return when the carrier last said anything; what we concluded ourselves is no word of it."""
    return max((event.occurred_at for event in events if not is_ours(event)), default=since)


def is_ours(event: TrackingEvent) -> bool:
    """Return whether an event was concluded by us and is no word of its carrier."""
    return event.raw_code.startswith(_OWN)


def conclusions(
    events: Iterable[TrackingEvent],
    *,
    carrier: str,
    tracking_no: str,
    since: datetime,
    now: datetime,
    promised: date | None = None,
    zone: tzinfo = UTC,
) -> tuple[TrackingEvent, ...]:
    """Return what follows from what the carrier did not say, as events of our own.

    A passed day (the carrier's, else ``promised`` to the client) makes the shipment delayed; a silence, or
    the end of asking, is for a person. Concluded twice they are the same events, and merge into one.
    """
    told = tuple(events)
    at = stage(told)
    if at is Stage.DONE:
        return ()
    pace, last = PACES[at], _last_word(told, since)
    concluded: list[tuple[str, datetime, Meaning, str]] = []
    day = estimate(told) or promised
    if day is not None and now.astimezone(zone).date() > day:
        over = datetime.combine(day + timedelta(days=1), time(0), zone)
        concluded.append((LATE, over, Meaning(OrderStatus.DELAYED), day.isoformat()))
    for code, limit in ((SILENT, pace.silent_after), (GIVEN_UP, pace.ends_after)):
        if limit is not None and now - last >= limit:
            concluded.append((code, last + limit, Meaning(None, care=Care.FIRST), last.isoformat()))
    return tuple(
        TrackingEvent(
            carrier=carrier,
            tracking_no=tracking_no,
            status=meaning.status,
            raw_code=code,
            occurred_at=occurred_at.astimezone(UTC),
            care=meaning.care,
            event_id=f"{code} {about}",
        )
        for code, occurred_at, meaning, about in concluded
    )
