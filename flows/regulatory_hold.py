"""A regulatory hold: compliance is asked, in a form of Prefect's, whether an order may be told of again."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from prefect import flow
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field, ValidationError

from flows.pipeline import show
from ordernotify.core.holds import HoldAnswer, HoldDecision, HoldReason
from tasks.holds import pass_over, question, question_key, take_answer, time_to_answer


class HoldForm(RunInput):
    """What compliance is asked."""

    decision: HoldDecision = Field(description="Release: clients are told again. Keep: they are not.")
    reason: HoldReason = Field(description="It must fit the decision.")
    code: str = Field(
        description="Your own one-time code, from `ordernotify people code`; it says who decides.",
        max_length=40,
    )


@flow(
    name="regulatory-hold",
    persist_result=False,
    log_prints=False,
)
async def regulatory_hold(hold_id: UUID) -> dict[str, int]:
    """Sleep until somebody answers, record the answer, and ask again until the hold has ended.

    Woken, the run begins here again: the store knows which question is open. A hold that was decided elsewhere ends
    the run as well.
    """
    counts: Counter[str] = Counter()
    while (ask := await question(hold_id)) is not None:
        led_to = await _answered(hold_id, ask)
        counts[led_to.value] += 1
    await show(dict(counts))
    return dict(counts)


async def _answered(hold_id: UUID, ask: int) -> HoldAnswer:
    """Return what the answer to a question led to; where there is none yet, the run is suspended here."""
    lasts = await time_to_answer()
    try:
        given = await suspend_flow_run(
            wait_for_input=HoldForm.with_initial_data(description=f"Hold {hold_id}"),
            timeout=int(lasts.total_seconds()),
            key=question_key(ask),
        )
    except ValidationError:
        # Woken without an answer.
        await pass_over(hold_id, ask)
        return HoldAnswer.ENDED
    return await take_answer(hold_id, ask, code=given.code, decision=given.decision, reason=given.reason)
