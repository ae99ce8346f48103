"""Trigger 2: staff said what happened to an order, or to many."""

from __future__ import annotations

from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run

from flows.pipeline import show
from ordernotify.core.events import OrderStatus
from ordernotify.core.portal import UpdateReason
from tasks.portal import ask, take_rows


@flow(
    name="portal-request",
    persist_result=False,
    log_prints=False,
)
async def portal_request(
    request_id: UUID | None = None,
    order_id: UUID | None = None,
    status: OrderStatus | None = None,
    reason: UpdateReason | None = None,
    correction: bool = False,  # noqa: FBT001, FBT002 - a box of Prefect's form
) -> dict[str, int]:
    """Turn what staff asked for into order events; finishes what is unfinished, repeats nothing.

    Give ``request_id`` (what the portal does), or ``order_id``, ``status`` and ``reason`` to say it here and now. With
    ``correction`` it takes back what was last said about the order.
    """
    if request_id is None:
        if order_id is None or status is None or reason is None:
            raise ValueError("name a request_id, or an order_id with its status and the reason")
        # A retry of this run is the same request.
        request_id = UUID(str(flow_run.id))
        await ask(request_id, order_id, status, reason, correction)
    counts = await take_rows(request_id)
    await show(counts)
    return counts
