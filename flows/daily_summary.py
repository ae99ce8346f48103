"""Trigger 4, its other half: every client's summary of the day, at the client's own hour."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

from prefect import flow
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.deployments import run_deployment
from prefect.runtime import flow_run

from flows.pipeline import send, show
from ordernotify.settings import settings
from tasks.batches import opened
from tasks.summaries import count_due, make

DEPLOYMENT = "daily-summary/daily-summary"
# Batches that are sent while the next one is made.
_AT_A_TIME = 2


@flow(
    name="daily-summary",
    persist_result=False,
    log_prints=False,
)
async def daily_summary(part: int | None = None, of: int = 1, early: bool = False) -> dict[str, int]:  # noqa: FBT001, FBT002 - a run's parameters
    """Send every client whose hour has come its summary, once a day; what was missed is caught up.

    Without ``part`` this run finds out how many there are; when they are more than one run should make, it cuts
    the clients into ``of`` ranges and starts a run for each, which any worker may take. With ``early`` today's
    summaries go out now, before their hour.
    """
    whole = part is None
    total = await count_due(part or 0, of, early)
    ranges = -(-total // settings().summary_clients_a_run)
    if whole and ranges > 1:
        for number in range(ranges):
            await run_deployment(
                DEPLOYMENT,
                parameters={"part": number, "of": ranges, "early": early},
                timeout=0,
                as_subflow=False,
                # A retry of this run starts none of them twice.
                idempotency_key=f"{flow_run.id} {number}",
            )
        counts = {"clients": total, "runs": ranges}
    else:
        counts = await _send_all(part or 0, of, early=early, total=total)
    await show(counts)
    return counts


async def _send_all(part: int, of: int, *, early: bool, total: int) -> dict[str, int]:
    """Make the summaries of a range, some clients at a time, and send each batch while the next one is made."""
    if not total:
        return {"clients": 0}
    progress = await acreate_progress_artifact(progress=0.0, key="summaries", description=f"{total} clients")
    places, sends, counts = asyncio.Semaphore(_AT_A_TIME), list[asyncio.Task[None]](), Counter[str]()

    async def one(batch_id: UUID) -> None:
        try:
            counts.update(await _send(batch_id))
            done = sum(number for what, number in counts.items() if what.startswith("event "))
            await aupdate_progress_artifact(progress, progress=min(100.0, 100.0 * done / total))
        finally:
            places.release()

    try:
        while True:
            await places.acquire()
            batch_id = await make(part, of, early)
            if batch_id is None:
                break
            sends.append(asyncio.create_task(one(batch_id)))
    finally:
        # A surprise in one batch must not keep the others from being recorded; it turns the run red after.
        ended = await asyncio.gather(*sends, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    await aupdate_progress_artifact(progress, progress=100.0)
    return {"clients": total, **counts}


async def _send(batch_id: UUID) -> dict[str, int]:
    async with opened(batch_id, [], resend=None, run_id=str(flow_run.id or "")) as batch:
        # Held elsewhere: it will be finished there, once.
        return {"held_elsewhere": 1} if batch is None else await send(batch)
