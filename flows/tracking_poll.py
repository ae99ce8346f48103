"""Trigger 3: carriers are asked about shipments that are due, or that a person names."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

from prefect import State, flow

from flows.pipeline import show
from tasks.tracking import ask, ask_about, find_due, follow


@flow(
    name="tracking-poll",
    persist_result=False,
    log_prints=False,
)
async def tracking_poll(shipment_ids: list[UUID] | None = None) -> dict[str, int]:
    """Ask every carrier about its shipments that are due; with ``shipment_ids``, about these now.

    What is news goes through the same pipeline as any event. Asked again within two minutes, a shipment that a
    person named has the answer of the first time.
    """
    if shipment_ids:
        ended = await asyncio.gather(*(ask_about(one, return_state=True) for one in dict.fromkeys(shipment_ids)))
    else:
        found = await asyncio.gather(*(_one(carrier) for carrier in await find_due()))
        ended = [state for states in found for state in states]
    counts: Counter[str] = Counter()
    for state in ended:
        if state.is_completed():
            counts += Counter(await state.aresult())
    await show(dict(counts))
    for state in ended:
        # One carrier's surprise must not keep the others from being asked; it turns the run red after.
        await state.aresult()
    return dict(counts)


async def _one(carrier: str) -> list[State[dict[str, int]]]:
    """Ask one carrier: first to report by itself what it can, then about what is due."""
    return [
        await follow.with_options(name=f"follow {carrier}")(carrier, return_state=True),
        await ask.with_options(name=f"ask {carrier}")(carrier, return_state=True),
    ]
