"""Rows of a portal request examined: read, placed at their orders, and judged against what is known now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ordernotify.core.portal import (
    COLUMNS,
    Placed,
    Problem,
    Refused,
    Update,
    event_of,
    judge,
    named_twice,
    read_update,
)
from ordernotify.store.database import Pool
from ordernotify.store.finding import place
from ordernotify.store.portal import NewRow

# What is kept of a cell that is refused: enough to find it again.
_KEPT = 500


async def examine(pool: Pool, given: Sequence[Mapping[str, str]], *, at: datetime) -> list[NewRow]:
    """Return every row as it will be stored: with its order, or refused with the reason; numbered from 1."""
    # Thousands of rows take a while, in which the loop has others to answer.
    read = await asyncio.to_thread(lambda: [read_update(values) for values in given])
    places = await place(pool, [update for update in read if isinstance(update, Update)])
    return await asyncio.to_thread(_judged_all, given, read, places, at=at)


def _judged_all(
    given: Sequence[Mapping[str, str]],
    read: Sequence[Update | Refused],
    places: Sequence[Placed | Refused],
    *,
    at: datetime,
) -> list[NewRow]:
    rows = [
        NewRow(number=index + 1, content=_kept(values), refused=update if isinstance(update, Refused) else None)
        for index, (values, update) in enumerate(zip(given, read, strict=True))
    ]
    twice = named_twice(found.order_id if isinstance(found, Placed) else None for found in places)
    updates = [(index, update) for index, update in enumerate(read) if isinstance(update, Update)]
    for (index, update), found, again in zip(updates, places, twice, strict=True):
        rows[index] = _judged(rows[index], update, found, again=again, at=at)
    return rows


def _judged(row: NewRow, update: Update, found: Placed | Refused, *, again: bool, at: datetime) -> NewRow:
    if isinstance(found, Refused):
        return replace(row, refused=found)
    placed = replace(row, order_id=found.order_id, known=found.state.status.value)
    if again:
        return replace(placed, refused=Refused(Problem.NAMED_TWICE, "order_no"))
    problem = judge(event_of(update, found, dedupe_key="", at=at), found)
    return placed if problem is None else replace(placed, refused=Refused(problem, "status"))


def _kept(values: Mapping[str, str]) -> dict[str, str]:
    """Return the known cells of a row as the database can hold them, none longer than it is worth."""
    return {name: values[name].replace("\0", "")[:_KEPT] for name in COLUMNS if values.get(name)}
