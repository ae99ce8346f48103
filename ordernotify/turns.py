"""Turns: long work on many items that lets others of the process go on in between, and work done by few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

# A millisecond or two of work: a sealing or an answer that waits longer holds up messages that are ready to leave.
_AT_ONCE = 32


async def in_turns(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> list[_Made]:
    """Return what ``make`` makes of every item, in order, with a pause for others after every few."""
    made: list[_Made] = []
    for count, item in enumerate(items, start=1):
        made.append(make(item))
        if count % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return made


class Line:
    """A line for work that is done by few at a time: whoever enters waits for a place, in order."""

    def __init__(self, places: int) -> None:
        self._turn = asyncio.Semaphore(places)
        self._waiting = 0
        self._moved = asyncio.Event()

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
            self._moved.set()

    async def __aexit__(self, *_details: object) -> None:
        self._turn.release()

    async def moved_up(self) -> None:
        """Return when nobody waits in the line; somebody may be at work."""
        while self._waiting:
            self._moved.clear()
            await self._moved.wait()
