"""Open the batch that a run works on: the dispatcher's, or one made of the events that a person named."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.resends import ResendReason
from ordernotify.store import inbox


async def open_or_make(
    batch_id: UUID | None, event_ids: Sequence[UUID], *, resend: ResendReason | None, run_id: str
) -> UUID | None:
    """Return the batch to work on, held by this worker; None when another one holds it.

    A retry of a run that named events finds the batch it made the first time. Raises ValueError when neither
    a batch nor events are named.
    """
    house = await runtime.current()
    at = now()
    if batch_id is None:
        if not event_ids:
            raise ValueError("name a batch_id or at least one of event_ids")
        return await inbox.request(
            house.pool,
            event_ids,
            run_id=UUID(run_id),
            owner=house.owner,
            at=at,
            resend=resend.value if resend else "",
        )
    held = await inbox.open_batch(house.pool, batch_id, owner=house.owner, at=at)
    return batch_id if held is not None else None
