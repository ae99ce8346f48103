"""Believable journeys of parcels: the last digit of a number tells its story, each question its next step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ordernotify.sandbox._base import Shelf


class Step(StrEnum):
    """What can happen to a parcel."""

    LABEL = "label"
    PICKED_UP = "picked_up"
    MOVING = "moving"
    WEATHER = "weather"
    HELD = "held"  # by an authority, which wants papers
    CLEARED = "cleared"
    OUT = "out"
    ATTEMPTED = "attempted"
    DELIVERED = "delivered"
    RETURNING = "returning"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Happened:
    """One step and its time, in whole seconds as carriers write it."""

    step: Step
    at: datetime


_BEGINNING = (Step.LABEL, Step.PICKED_UP, Step.MOVING)
_END = (Step.OUT, Step.DELIVERED)

STRAIGHT: Final = (*_BEGINNING, *_END)
STORIES: Final[Mapping[str, tuple[Step, ...]]] = {
    "5": (*_BEGINNING, Step.WEATHER, *_END),
    "6": (*_BEGINNING, Step.HELD, Step.CLEARED, *_END),
    "7": (*_BEGINNING, Step.OUT, Step.ATTEMPTED, *_END),
    "8": (*_BEGINNING, Step.OUT, Step.ATTEMPTED, Step.RETURNING, Step.RETURNED),
    "9": (),  # a number that the carrier knows nothing of
}
_LABEL_MADE = timedelta(hours=3)  # before the first question


def story_of(number: str) -> tuple[Step, ...]:
    """Return the whole story of a tracking number; those that end in 9 have none."""
    return STORIES.get(number[-1:], STRAIGHT)


def ask(shelf: Shelf, number: str, now: datetime) -> tuple[Happened, ...]:
    """Return what happened to a parcel so far; each question lets one more thing happen, if nothing else does."""
    if number in shelf.kind("unfolding"):
        return so_far(shelf, number, now)
    told: list[Happened] = shelf.kind("parcels").setdefault(number, [])
    story = story_of(number)
    if len(told) < len(story):
        second = now.replace(microsecond=0)
        at = max(second, told[-1].at + timedelta(seconds=1)) if told else second - _LABEL_MADE
        told.append(Happened(story[len(told)], at))
    return tuple(told)


def unfold(shelf: Shelf, number: str, now: datetime) -> tuple[Happened, ...]:
    """Return the whole story of a parcel that is reported rather than asked for: a step a second from now."""
    second = now.replace(microsecond=0)
    if number not in shelf.kind("parcels"):
        shelf.kind("unfolding")[number] = True
    told: list[Happened] = shelf.kind("parcels").setdefault(
        number, [Happened(step, second + timedelta(seconds=place)) for place, step in enumerate(story_of(number))]
    )
    return tuple(told)


def so_far(shelf: Shelf, number: str, now: datetime) -> tuple[Happened, ...]:
    """Return what of an unfolding story has happened by now."""
    told: list[Happened] = shelf.kind("parcels").get(number, [])
    return tuple(one for one in told if one.at <= now)
