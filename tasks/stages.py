"""The pipeline's stages as Prefect tasks: each loads by id, decides, acts, and records in one transaction.

A stage repeated finds nothing left to do, so a rerun or a retry of a run repeats only what is unfinished.
Nothing is persisted or cached by Prefect: the store is the memory, and only ids and counts pass between tasks.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from datetime import timedelta
from functools import cache, partial
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run, task_run
from prefect.tasks import Task

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.planning import plan as plan_event
from ordernotify.delivering import Fanout
from ordernotify.runtime import Desk, Runtime
from ordernotify.store import corrections, inbox, orders, plans, sending, wording
from ordernotify.store.inbox import Batch
from ordernotify.store.leaving import Authorized
from ordernotify.store.sealer import LedgerStoppedError
from ordernotify.store.wording import Stopped, ToWord, Worded
from ordernotify.turns import in_turns
from ordernotify.words import word
from tasks.errors import UnfinishedError, surprises_made_safe
from tasks.reread import read_thin_events

# A restart of the database takes seconds, and every stage may be repeated.
_SHORT = [0.5, 2.0, 5.0, 10.0]
# Deliveries whose platform lost its settings after they were planned are looked at again after this.
_UNCONFIGURED = timedelta(minutes=1)


def _is_unfinished(_task: Task, _run: TaskRun, state: State) -> bool:
    """Retry only what asked for it: a surprise must turn the run red at once."""
    return "UnfinishedError" in (state.message or "")


@task(name="validate", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_SHORT)
@surprises_made_safe
async def validate(batch_id: UUID) -> dict[str, int]:
    """Take the batch's events to their orders: admitted, noted, or quarantined with a reason."""
    house = await runtime.current()
    event_ids = (await _batch(house, batch_id)).event_ids
    await read_thin_events(house, event_ids)
    admitted = await orders.admit_events(house.pool, house.scribe, event_ids, at=now())
    house.desks[batch_id].events = admitted.events
    return dict(admitted.counts)


@task(name="plan", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_SHORT)
@surprises_made_safe
async def plan(batch_id: UUID) -> int:
    """Decide who is told what, on which channels, or why not; returns the number of new deliveries."""
    house = await runtime.current()
    batch = await _batch(house, batch_id)
    at = now()
    known = house.desks[batch_id].events
    items = await plans.to_plan(house.pool, batch.event_ids, again=bool(batch.resend), known=known)
    if not items:
        return 0
    recipients = await plans.recipients_of(house.pool, [item.client_id for item in items])
    registry = await plans.registry(house.pool, list(await house.known()), at=at)
    resends = await plans.resends(house.pool, batch_id) if batch.resend else {}
    told = await corrections.told_before(house.pool, [(item.event_id, item.order_id, item.event) for item in items])

    def decide(item: plans.ToPlan) -> plans.EventPlan:
        rows = plan_event(
            item.event,
            event_id=str(item.event_id),
            order=item.facts,
            recipients=recipients.get(item.client_id, []),
            registry=registry,
            template_facts=house.library.facts,
            now=at,
            resend=resends.get(item.event_id, 0),
            told=told.get(item.event_id),
        )
        return plans.EventPlan(item, rows)

    decided = await in_turns(decide, items)
    made = await plans.record_plan(
        house.pool, house.scribe, decided, batch_id=batch_id, at=at, again=bool(batch.resend)
    )
    house.desks[batch_id].planned = made
    return len(made)


@task(name="render", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_SHORT)
@surprises_made_safe
async def render(batch_id: UUID) -> int:
    """Word every planned delivery, scan it, and write the record that authorizes it.

    What this run planned is worded of the very facts that were decided on; what another run left is read.
    """
    house = await runtime.current()
    desk = house.desks[batch_id]
    planned, desk.planned = desk.planned, []
    count = await _word(house, desk, planned)
    left = await wording.to_word(house.pool, (await _batch(house, batch_id)).event_ids)
    return count + await _word(house, desk, left)


async def _word(house: Runtime, desk: Desk, items: Sequence[ToWord]) -> int:
    if not items:
        return 0
    done = await in_turns(partial(word, library=house.library, settings=house.settings), items)
    worded = [entry for entry in done if isinstance(entry, Worded)]
    stopped = [entry for entry in done if isinstance(entry, Stopped)]
    await wording.authorize(house.pool, house.scribe, worded, stopped, at=now())
    # Pages and files of many messages would fill the memory; they are read again when they leave.
    desk.ready |= {
        entry.item.delivery_id: Authorized(entry.item.version + 1, entry.message)
        for entry in worded
        if not entry.message.html and not entry.message.attachments
    }
    return len(done)


# The ledger may be busy or its database restarting; egress waits, because nothing leaves unsigned.
@task(
    name="seal",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=_SHORT,
    retry_condition_fn=lambda _task, _run, state: "LedgerStopped" not in (state.message or ""),
)
@surprises_made_safe
async def seal(batch_id: UUID) -> list[str]:
    """Sign everything recorded so far; returns the platforms that may be sent something now.

    Raises when the ledger must not go on: then nothing leaves.
    """
    house = await runtime.current()
    try:
        await house.sealer.seal()
    except LedgerStoppedError as error:
        await sending.note_ledger_stopped(house.pool, house.scribe, at=now())
        raise LedgerStoppedError(str(error)) from None
    return await route(batch_id)


async def route(batch_id: UUID) -> list[str]:
    """Return the platforms with something left to send, after settling what a dead worker left behind."""
    house = await runtime.current()
    event_ids = (await _batch(house, batch_id)).event_ids
    at = now()
    await sending.note_abandoned(house.pool, house.scribe, event_ids, batch_id=batch_id, at=at)
    known = await house.known()
    waiting = await sending.platforms_to_send(house.pool, event_ids)
    for name in waiting:
        if name not in known:
            await sending.note_unconfigured(
                house.pool, house.scribe, event_ids, platform=name, at=at, until=at + _UNCONFIGURED
            )
    return [name for name in waiting if name in known]


# Seconds to minutes: most refusals of a platform that is only busy are over by then. What is not is the
# store's to retry, for hours.
@task(
    name="deliver",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(_SHORT),
    retry_delay_seconds=_SHORT,
    retry_jitter_factor=0.5,
    retry_condition_fn=_is_unfinished,
)
@surprises_made_safe
async def deliver(batch_id: UUID, platform: str) -> dict[str, int]:
    """Send the batch's messages of one platform, and record each outcome as it arrives."""
    house = await runtime.current()
    event_ids = (await _batch(house, batch_id)).event_ids
    tally = await Fanout(house, platform, event_ids, batch_id=batch_id, corr=str(flow_run.id or "")).run()
    due = await sending.next_due(house.pool, event_ids, platform=platform)
    soon = due is not None and due <= now() + timedelta(seconds=house.settings.retry_budget_s)
    if soon and "postponed" not in tally and task_run.run_count <= len(_SHORT):
        raise UnfinishedError
    return dict(tally)


@cache
def deliver_to(platform: str) -> Task[[UUID, str], Coroutine[Any, Any, dict[str, int]]]:
    """Return `deliver` under the name of its platform; made once, because Prefect reads a task's source each time."""
    return deliver.with_options(name=f"deliver {platform}")


@task(name="record", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_SHORT)
@surprises_made_safe
async def record(batch_id: UUID) -> dict[str, int]:
    """Close the batch, sign what happened since, and return the counts that the run's artifact shows."""
    house = await runtime.current()
    async with house.pool.acquire() as connection, connection.transaction():
        await inbox.finish(connection, batch_id, at=now())
    await house.sealer.seal()
    return await inbox.counts(house.pool, batch_id)


async def _batch(house: Runtime, batch_id: UUID) -> Batch:
    desk = house.desks.get(batch_id)
    return desk.batch if desk and desk.batch else await inbox.read_batch(house.pool, batch_id)
