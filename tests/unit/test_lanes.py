"""Lanes: how many calls are on the wire, and what a platform that does not answer may hold."""

from __future__ import annotations

import asyncio

import pytest

from ordernotify import lanes
from ordernotify.core.delivery import Accepted, Deferred, FailureKind
from ordernotify.lanes import Lane, LaneFullError

UNANSWERED = Deferred(FailureKind.TRANSIENT, "wire_timeout", ambiguous=True)


async def test_a_platform_that_has_not_answered_yet_is_tried_with_a_few_calls():
    lane = Lane(96)
    assert await lane.take(96, patience_s=1) == 32
    with pytest.raises(LaneFullError):
        await lane.take(1, patience_s=0.05)


async def test_while_answers_come_all_places_are_there():
    lane = Lane(96)
    await lane.take(32, patience_s=1)
    lane.note(Accepted())
    assert await lane.take(96, patience_s=1) == 64


async def test_a_platform_that_falls_silent_gets_no_more_than_it_holds(monkeypatch):
    monkeypatch.setattr(lanes, "_SILENT_S", 0.05)
    lane = Lane(96)
    lane.note(Accepted())
    assert await lane.take(40, patience_s=1) == 40
    await asyncio.sleep(0.06)
    lane.note(UNANSWERED)
    with pytest.raises(LaneFullError):
        await lane.take(1, patience_s=0.05)
    lane.give_back(10)
    assert await lane.take(32, patience_s=1) == 2


async def test_a_small_lane_is_no_larger_than_it_is():
    lane = Lane(8)
    assert await lane.take(32, patience_s=1) == 8


class Watched(asyncio.Event):
    """Counts who begins to wait."""

    waits = 0

    async def wait(self):
        self.waits += 1
        return await super().wait()


async def test_whoever_waits_for_a_place_is_not_woken_in_vain():
    freed = Watched()
    lane = Lane(8, _freed=freed)
    await lane.take(8, patience_s=1)
    taking = asyncio.create_task(lane.take(4, patience_s=5, at_least=4))
    await asyncio.sleep(0.2)
    lane.give_back(1)
    assert await taking == 1
    # Once for several places, and once more for any.
    assert freed.waits == 2
