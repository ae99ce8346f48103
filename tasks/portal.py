"""Take what staff asked for: each row of a request becomes an order event, or is refused with its reason.

What is accepted is an event like any other: the pipeline tells clients of it. Repeated, after a crash or on purpose, a
row that became an event stays that event.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import orjson
from prefect import task
from prefect.cache_policies import NO_CACHE

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.core.portal import SOURCE, Problem, Refused, Update, UpdateReason, event_of, judge, read_update
from ordernotify.runtime import Runtime
from ordernotify.store import finding, inbox, portal, portal_rows, portal_work
from ordernotify.store.inbox import Arrival
from ordernotify.store.portal import Request, RequestState, Row, RowState
from tasks.errors import surprises_made_safe
from tasks.room import room_for_many

# A restart of the database takes seconds, and every part of the task may be repeated.
_WAITS_S = [0.5, 2.0, 10.0]
# Rows in one transaction: few enough that events of the moment are not kept waiting behind it.
_CHUNK = 500
# Who asks through Prefect, whose one login is shared.
_PREFECT = Actor(kind="service", id="svc:prefect-form")


@task(name="ask", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def ask(
    request_id: UUID,
    order_id: UUID,
    status: OrderStatus,
    reason: UpdateReason,
    correction: bool,  # noqa: FBT001 - a field of Prefect's form
) -> None:
    """Store what a person asked for in Prefect's form as a request of one row; a retry finds it there."""
    house = await runtime.current()
    placed = (await finding.orders_by_id(house.pool, [order_id])).get(order_id)
    content = {
        "order_no": placed.order_no if placed else str(order_id),
        "client": placed.client_id if placed else "",
        "status": status.value,
        "correction": "yes" if correction else "",
    }
    await portal.draft(
        house.pool,
        house.scribe,
        request_id=request_id,
        actor=_PREFECT,
        door="prefect",
        remote="",
        reason=reason,
        note="",
        rows=await portal_rows.examine(house.pool, [content], at=now()),
        at=now(),
        post=True,
    )


@task(name="take rows", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def take_rows(request_id: UUID) -> dict[str, int]:
    """Turn the rows of a posted request into events, and return how many were accepted and refused."""
    house = await runtime.current()
    request = await portal.read(house.pool, request_id)
    if request is None or request.state is RequestState.DRAFT:
        # A draft is its author's to post, whoever knows its id.
        return {"not_posted": 1}
    while rows := await portal.rows_of(house.pool, request_id, state=RowState.OPEN, limit=_CHUNK):
        await room_for_many(house)
        await _take(house, request, rows)
    return await portal_work.finish(house.pool, house.scribe, request_id, at=now())


async def _take(house: Runtime, request: Request, rows: Sequence[Row]) -> None:
    at = request.posted_at or request.created_at
    before = await portal_work.accepted_before(house.pool, request.id, [row.number for row in rows])
    orders = await finding.orders_by_id(house.pool, [row.order_id for row in rows if row.order_id])
    refused: dict[int, tuple[Refused, str]] = {}
    events: list[OrderEvent] = []
    for row in rows:
        if row.number in before:
            continue
        update, placed = read_update(row.content), orders.get(row.order_id) if row.order_id else None
        if placed is None or not isinstance(update, Update):
            refused[row.number] = Refused(Problem.ORDER_UNKNOWN, "order_no"), ""
            continue
        event = event_of(update, placed, dedupe_key=portal.dedupe_key(request.id, row.number), at=at)
        # The order may have moved on since the request was looked at.
        if (problem := judge(event, placed)) is not None:
            refused[row.number] = Refused(problem, "status"), placed.state.status.value
        else:
            events.append(event)
    if events:
        await inbox.accept(house.pool, house.scribe, [_arrival(request, rows, events)])
    accepted = await portal_work.accepted_before(house.pool, request.id, [row.number for row in rows])
    await portal_work.settle(house.pool, house.scribe, request.id, accepted=accepted, refused=refused, at=now())


def _arrival(request: Request, rows: Sequence[Row], events: Sequence[OrderEvent]) -> Arrival:
    return Arrival(
        source=SOURCE,
        headers={"request": str(request.id), "rows": f"{rows[0].number}-{rows[-1].number}"},
        body=b"\n".join(orjson.dumps(row.content) for row in rows),
        events=tuple(events),
        remote=request.remote,
        at=now(),
        actor=request.actor,
        corr={"portal_request": str(request.id)},
    )
