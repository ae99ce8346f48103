"""Find exceptions and act on each: clients are told of what passed, people of what waits, and nobody twice."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import orjson
from prefect import task
from prefect.cache_policies import NO_CACHE

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.exceptions import SOURCE, broken_promise
from ordernotify.store import exceptions, hold_questions, inbox, incidents
from ordernotify.store.inbox import Arrival
from tasks.errors import surprises_made_safe

# A restart of the database takes seconds, and every sweep may be repeated.
_WAITS_S = [1.0, 5.0, 15.0]


@task(name="passed promises", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def tell_passed_promises() -> dict[str, int]:
    """Accept an event for every order whose promised date has passed where its client is; the pipeline tells it."""
    house, at = await runtime.current(), now()
    found = await exceptions.promises(house.pool, at=at)
    broken = [
        event for promise, zone in found if (event := broken_promise(promise, zone=ZoneInfo(zone), at=at)) is not None
    ]
    if not broken:
        return {"promises_passed": 0}
    arrival = Arrival(
        source=SOURCE,
        headers={},
        body=b"\n".join(orjson.dumps(event.as_dict()) for event in broken),
        events=tuple(broken),
        remote="",
        at=at,
    )
    (taken,) = await inbox.accept(house.pool, house.scribe, [arrival])
    return {"promises_passed": len(taken.accepted)}


@task(name="waiting orders", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def watch_orders() -> dict[str, int]:
    """Open incidents for orders that wait for stock, a border or a carrier, and close those that moved on."""
    house = await runtime.current()
    opened, closed = await exceptions.watch_orders(house.pool, house.scribe, at=now())
    return {"orders_to_look_at": opened, "orders_moved_on": closed}


@task(name="stuck work", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def watch_work() -> dict[str, int]:
    """Open incidents where messages, events or batches do not get on, and close those where they do again."""
    house = await runtime.current()
    stuck = await exceptions.watch_work(
        house.pool,
        house.scribe,
        stuck_after=timedelta(minutes=house.settings.stuck_after_min),
        given_up_after=timedelta(hours=house.settings.stuck_after_h),
        at=now(),
    )
    return {"stuck": stuck}


@task(name="late notices", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def note_late_notices() -> dict[str, int]:
    """Open an incident for every event of which clients were told later than promised."""
    house = await runtime.current()
    within = timedelta(minutes=house.settings.notice_within_min)
    return {"late_notices": await exceptions.note_late_notices(house.pool, house.scribe, within=within, at=now())}


@task(name="overdue holds", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def ask_anew() -> dict[str, int]:
    """Ask compliance again about the holds on which it has not decided in time."""
    house = await runtime.current()
    lasts = timedelta(hours=house.settings.hold_lasts_h)
    return {"holds_overdue": await hold_questions.ask_anew(house.pool, house.scribe, lasts=lasts, at=now())}


@task(name="escalate", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def escalate() -> dict[str, int]:
    """Raise the level of incidents that nobody has ended in time."""
    house = await runtime.current()
    after = timedelta(hours=house.settings.answer_within_h)
    return {"escalated": await incidents.escalate(house.pool, house.scribe, after=after, at=now())}
