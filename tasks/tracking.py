"""Ask carriers about shipments: those that are due, and those that a person names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.context import TaskRunContext

from ordernotify import runtime
from ordernotify.asking import Asking, asker_of
from ordernotify.carriers import CARRIERS
from ordernotify.clock import now
from ordernotify.runtime import Runtime
from ordernotify.store import hearing, shipments, stories
from ordernotify.store.hearing import Speech
from tasks.errors import surprises_made_safe

# A restart of the database takes seconds, and every part of a task may be repeated: what is asked is held under a
# lease, and what was heard before is not told again.
_WAITS_S = [2.0, 10.0, 30.0]
# A person who presses Run again, or Retry, is given the answer of a moment ago: a quota is not spent on impatience.
_ANSWER_LASTS: Final = timedelta(minutes=2)


@task(name="find due", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def find_due() -> list[str]:
    """Return whom to ask now, after giving to orders what was told of their shipments before they were known."""
    house = await runtime.current()
    await _place(house)
    await house.known()
    waiting = await shipments.carriers_due(house.pool, at=now())
    return sorted({asker for carrier in waiting if (asker := asker_of(house, carrier))})


@task(name="follow", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def follow(carrier: str) -> dict[str, int]:
    """Ask a carrier that reports by itself to report the shipments that it was not told of yet."""
    return dict(await Asking(await runtime.current(), carrier).follow())


@task(name="ask", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def ask(carrier: str) -> dict[str, int]:
    """Ask one carrier about its shipments that are due, and accept what is news; counts by outcome."""
    return dict(await Asking(await runtime.current(), carrier).run())


def _by_shipment(_context: TaskRunContext, parameters: Mapping[str, Any]) -> str:
    # The id stands for order, carrier and tracking number, none of which may be seen in a key.
    return f"tracking answer {parameters['shipment_id']}"


@task(
    name="ask about one",
    cache_policy=CachePolicy.from_cache_key_fn(_by_shipment),
    cache_expiration=_ANSWER_LASTS,
    persist_result=True,
    result_serializer="json",
    retries=3,
    retry_delay_seconds=_WAITS_S,
)
@surprises_made_safe
async def ask_about(shipment_id: UUID) -> dict[str, int]:
    """Ask about one shipment now, due or not; counts by outcome, which is all that Prefect keeps."""
    house = await runtime.current()
    await house.known()
    lease = timedelta(seconds=3 * house.settings.http_timeout_s + 120)
    claimed = await shipments.claim_named(house.pool, shipment_id, lease=lease, at=now())
    if claimed is None:
        return {"held_elsewhere": 1}
    due, carrier = claimed
    asker = asker_of(house, carrier)
    if asker not in CARRIERS:
        await shipments.release(house.pool, [due.id])
        return {"nobody_to_ask": 1}
    asking = Asking(house, asker)
    await asking.ask([due])
    return dict(asking.tally)


async def _place(house: Runtime) -> None:
    """Give what was told of numbers that no order had to the orders that name them now."""
    while pairs := await shipments.unplaced_that_are_named(house.pool):
        for kept, shipment_id in pairs:
            async with house.pool.acquire() as connection, connection.transaction():
                found = await stories.read(connection, [kept, shipment_id])
                if kept not in found:
                    continue
                events = found[kept].events
                speech = Speech(source=f"carrier:{events[0].carrier}" if events else "carrier", at=now())
                await hearing.write(connection, house.scribe, {shipment_id: events}, speech)
                if (kept, shipment_id) == [pair for pair in pairs if pair[0] == kept][-1]:
                    await shipments.drop_unplaced(connection, [kept])
