"""Hold the batch that a run works on: the dispatcher's, or one made of the events that a person named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.resends import ResendReason
from ordernotify.runtime import Runtime
from ordernotify.store import inbox

# Smaller ones are prepared in a moment, and do not wait for others.
_LARGE = 250


@asynccontextmanager
async def opened(
    batch_id: UUID | None, event_ids: Sequence[UUID], *, resend: ResendReason | None, run_id: str
) -> AsyncIterator[UUID | None]:
    """Hold the batch to work on; None when another run holds it, here or in another live worker.

    While it is held this process renews its lease. A retry of a run that named events finds the batch it made
    the first time. Raises ValueError when neither a batch nor events are named.
    """
    house = await runtime.current()
    wanted = batch_id or UUID(run_id)
    if wanted in house.working:
        yield None
        return
    house.working.add(wanted)
    try:
        yield await _taken(house, batch_id, event_ids, resend=resend, run_id=run_id)
    finally:
        house.working.discard(wanted)
        house.desks.pop(wanted, None)


@asynccontextmanager
async def preparing(batch_id: UUID) -> AsyncIterator[None]:
    """Let few large batches at a time be prepared for sending, with all that arrived until their turn came.

    Side by side they would only be done later, all of them, and the first message would leave when all are ready.
    """
    house = await runtime.current()
    desk = house.desks[batch_id]
    desk.batch = await inbox.top_up(house.pool, batch_id)
    if len(desk.batch.event_ids) < _LARGE:
        yield
        return
    async with house.preparing:
        desk.batch = await inbox.top_up(house.pool, batch_id)
        yield


async def _taken(
    house: Runtime, batch_id: UUID | None, event_ids: Sequence[UUID], *, resend: ResendReason | None, run_id: str
) -> UUID | None:
    at = now()
    if batch_id is None:
        if not event_ids:
            raise ValueError("name a batch_id or at least one of event_ids")
        return await inbox.request(
            house.pool,
            house.scribe,
            event_ids,
            run_id=UUID(run_id),
            owner=house.owner,
            at=at,
            resend=resend.value if resend else "",
        )
    return batch_id if await inbox.open_batch(house.pool, batch_id, owner=house.owner, at=at) else None
