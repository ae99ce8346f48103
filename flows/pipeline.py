"""The pipeline that all triggers share: validate, plan, render, seal, deliver, record."""

from __future__ import annotations

import asyncio
from uuid import UUID

from prefect.artifacts import create_table_artifact

from tasks.batches import preparing
from tasks.stages import deliver_to, plan, record, render, seal, validate


async def notify(batch_id: UUID) -> dict[str, int]:
    """Take a batch from the inbox to recorded outcomes; returns counts. Repeating it repeats nothing done."""
    async with preparing(batch_id):
        await validate(batch_id)
        await plan(batch_id)
        await render(batch_id)
    return await send(batch_id)


async def send(batch_id: UUID) -> dict[str, int]:
    """Take a batch whose messages are worded to recorded outcomes; returns counts."""
    # Sign before send: a message leaves only when the record that authorizes it is signed.
    platforms = await seal(batch_id)
    ended = await asyncio.gather(
        *(deliver_to(platform)(batch_id, platform, return_state=True) for platform in platforms)
    )
    counts = await record(batch_id)
    for state in ended:
        # One platform's surprise must not keep the others from being recorded; it turns the run red after.
        await state.aresult()
    return counts


async def show(counts: dict[str, int]) -> None:
    """Leave the run's counts on the page of the run."""
    # Without a key: under one, all runs would be versions of the same artifact and write the same row.
    await create_table_artifact(table=[{"what": name, "count": count} for name, count in sorted(counts.items())])
