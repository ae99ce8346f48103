"""Ask compliance about regulatory holds: one suspended run for each, started, woken and replaced as its hold needs."""

from __future__ import annotations

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.context import AsyncClientContext
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Scheduled

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.holds import HoldAnswer, HoldDecision, HoldReason
from ordernotify.runtime import Runtime
from ordernotify.store import hold_questions, holds
from ordernotify.store.hold_questions import Attended
from tasks.errors import surprises_made_safe

DEPLOYMENT: Final = "regulatory-hold/regulatory-hold"
# A restart of the database or of Prefect takes seconds, and attending may be repeated.
_WAITS_S = [1.0, 5.0, 15.0]
# A run works for seconds and then sleeps: one that works longer has lost its process.
_DEAD_AFTER: Final = timedelta(minutes=2)
# A question outlives the time to answer it, because the sweep that asks anew may be late.
_MARGIN: Final = timedelta(days=1)


@task(name="attend to holds", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def attend_to_holds() -> dict[str, int]:
    """See to it that every open hold has a run that asks about it, and that no run asks about one that has ended."""
    house = await runtime.current()
    attended = await hold_questions.to_attend(house.pool)
    if not attended:
        return {"holds_open": 0, "holds_asked": 0}
    async with AsyncClientContext.get_or_create() as clients:
        started = [await _attend(house, clients.client, hold) for hold in attended]
    return {"holds_open": sum(not hold.ended for hold in attended), "holds_asked": sum(started)}


async def _attend(house: Runtime, client: PrefectClient, hold: Attended) -> bool:
    """Return whether a run was started for this hold."""
    if await _runs(house, client, hold, at=now()):
        return False
    if hold.ended:
        await hold_questions.note_hold_run(house.pool, hold.hold_id, flow_run_id="", runs=hold.runs)
        return False
    deployment = await client.read_deployment_by_name(DEPLOYMENT)
    run = await client.create_flow_run_from_deployment(
        deployment.id,
        parameters={"hold_id": str(hold.hold_id)},
        name=f"regulatory-hold {hold.hold_id}",
        # Killed before the next line, the sweep finds this very run again.
        idempotency_key=f"hold {hold.hold_id} {hold.runs}",
    )
    await hold_questions.note_hold_run(house.pool, hold.hold_id, flow_run_id=str(run.id), runs=hold.runs + 1)
    return True


async def _runs(house: Runtime, client: PrefectClient, hold: Attended, *, at: datetime) -> bool:
    """Return whether the hold's run is alive; one that sleeps over a question that was closed is woken."""
    if not hold.flow_run_id:
        return False
    try:
        run = await client.read_flow_run(UUID(hold.flow_run_id))
    except ObjectNotFound:
        return False
    state = run.state
    if state is None or state.is_final():
        return False
    old = at - state.timestamp > _DEAD_AFTER
    if not state.is_paused():
        wakes = old and not state.is_scheduled()
    elif old and not await _has_form(client, run):
        # Killed after it had gone to sleep and before it had left the form.
        await hold_questions.pass_over(house.pool, hold.hold_id, ask=hold.ask)
        wakes = True
    else:
        wakes = hold.ended or state.state_details.pause_key != question_key(hold.ask)
    if wakes:
        # It finds by itself what there is to do, an answer that its dead process left unread too. Forced, because
        # an unforced waking waits for an answer.
        await client.set_flow_run_state(run.id, Scheduled(), force=True)
    return True


async def _has_form(client: PrefectClient, run: FlowRun) -> bool:
    keys = run.state.state_details.run_input_keyset if run.state else None
    if not keys:
        return False
    try:
        return bool(await client.read_flow_run_input(run.id, keys["schema"]))
    except PrefectHTTPStatusError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise
    return False


def question_key(ask: int) -> str:
    """Return the key under which a run sleeps over question number ``ask``."""
    return f"ask-{ask}"


async def time_to_answer() -> timedelta:
    """Return how long a question may be answered; the sweep asks anew before that."""
    house = await runtime.current()
    return timedelta(hours=house.settings.hold_lasts_h) + _MARGIN


@task(name="question", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def question(hold_id: UUID) -> int | None:
    """Return the number of the hold's open question, None when the hold has ended."""
    house = await runtime.current()
    asked = await hold_questions.asked(house.pool, hold_id)
    return None if asked.ended else asked.ask


# Not a task: a task's parameters are for ids, and the code is a secret until it is used.
@surprises_made_safe
async def take_answer(hold_id: UUID, ask: int, *, code: str, decision: HoldDecision, reason: HoldReason) -> HoldAnswer:
    """Record an answer, by whoever its code belongs to, and return what it led to."""
    house = await runtime.current()
    answer = await holds.answer(
        house.pool,
        house.scribe,
        hold_id=hold_id,
        ask=ask,
        code=code,
        decision=decision,
        reason=reason,
        at=now(),
    )
    await house.sealer.seal()
    return answer


@surprises_made_safe
async def pass_over(hold_id: UUID, ask: int) -> None:
    """Close a question that was woken without an answer."""
    house = await runtime.current()
    await hold_questions.pass_over(house.pool, hold_id, ask=ask)
