"""Hearing: what follows from a carrier's words about one shipment: what is told, what is held, what a person sees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care, TrackingEvent, estimate, latest, merge, news


@dataclass(frozen=True, slots=True)
class Heard:
    """What a shipment's carrier said, sorted by what must be done about it.

    ``events`` is the whole story, oldest first, and ``fresh`` what of it is to be written down. ``tell`` goes to
    the order at once, ``hold`` when a person says so; ``look`` is for a person alone.
    """

    events: tuple[TrackingEvent, ...]
    fresh: tuple[TrackingEvent, ...]
    tell: tuple[TrackingEvent, ...]
    hold: tuple[TrackingEvent, ...]
    look: tuple[TrackingEvent, ...]


def hear(known: Iterable[TrackingEvent], fresh: Iterable[TrackingEvent]) -> Heard:
    """Return what ``fresh`` means for a shipment of which ``known`` was heard before.

    What was heard before, and what does not change what the client knows of the shipment, is not told again.
    """
    before = merge(known)
    after = merge(before, fresh)
    said = {event.key: event for event in before}
    new = tuple(event for event in after if said.get(event.key) != event)
    first_heard = tuple(event for event in new if event.key not in said)
    usual = news(spoken(before), spoken(after))
    newest = latest(spoken(after))
    changed = _told_of(before) != _told_of(after)
    unmapped = tuple(event for event in first_heard if event.status is OrderStatus.UNKNOWN)
    reserved = tuple(event for event in first_heard if event.care is Care.FIRST and event not in unmapped)
    return Heard(
        events=after,
        fresh=new,
        tell=(*unmapped, *(event for event in usual if newest is not None and event.key == newest.key and changed)),
        hold=tuple(event for event in reserved if event.status is not None),
        look=(
            *(event for event in first_heard if event.care is Care.ALSO),
            *(event for event in reserved if event.status is None),
        ),
    )


def spoken(events: Iterable[TrackingEvent]) -> tuple[TrackingEvent, ...]:
    """Return the events that clients may hear of without a person's word."""
    return tuple(event for event in events if event.care is not Care.FIRST)


def _told_of(events: Iterable[TrackingEvent]) -> tuple[object, ...]:
    """Return what a client knows of a shipment: a scan at one more place changes nothing of it."""
    usual = spoken(events)
    newest = latest(usual)
    return (newest.status, newest.detail, estimate(usual)) if newest else ()
