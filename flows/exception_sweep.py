"""Trigger 5: what did not happen. Every few minutes, for what no source will ever send an event about."""

from __future__ import annotations

from collections import Counter

from prefect import flow

from flows.pipeline import show
from tasks.concluding import conclude_shipments
from tasks.exceptions import ask_anew, escalate, note_late_notices, tell_passed_promises, watch_orders, watch_work
from tasks.holds import attend_to_holds

# In this order: holds that were asked about anew are attended to, and what was opened just now does not escalate yet.
SWEEPS = (
    # Orders without a parcel, and those whose parcels say for themselves.
    tell_passed_promises,
    conclude_shipments,
    watch_orders,
    watch_work,
    note_late_notices,
    ask_anew,
    attend_to_holds,
    escalate,
)


@flow(
    name="exception-sweep",
    persist_result=False,
    log_prints=False,
)
async def exception_sweep() -> dict[str, int]:
    """Look for every kind of exception and act on it; a sweep repeated tells and opens nothing twice.

    Clients are told by events of our own, which take the same pipeline as any other; people by incidents.
    """
    states = [await sweep(return_state=True) for sweep in SWEEPS]
    counts: Counter[str] = Counter()
    for state in states:
        if state.is_completed():
            counts.update(await state.aresult())
    await show(dict(counts))
    for state in states:
        # One surprise must not keep the other sweeps from their work; it turns the run red after.
        await state.aresult()
    return dict(counts)
