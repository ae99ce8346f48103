"""Trigger 1: an event was received from an order system, or a person names events to finish or resend."""

from __future__ import annotations

from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run

from flows.pipeline import notify, show
from ordernotify.core.resends import ResendReason
from tasks.batches import opened


@flow(
    name="order-event",
    persist_result=False,
    log_prints=False,
)
async def order_event(
    batch_id: UUID | None = None,
    event_ids: list[UUID] | None = None,
    resend: ResendReason | None = None,
) -> dict[str, int]:
    """Tell the recipients of a batch of events what happened; finishes what is unfinished, repeats nothing.

    Give ``batch_id`` (what the dispatcher does) or ``event_ids`` (what a person does). Messages that went out
    are sent again only with ``resend``, which names the reason and is recorded.
    """
    async with opened(batch_id, event_ids or [], resend=resend, run_id=str(flow_run.id or "")) as batch:
        if batch is None:
            # Another live run has this batch: it will be finished there, once.
            return {"held_elsewhere": 1}
        counts = await notify(batch)
    await show(counts)
    return counts
