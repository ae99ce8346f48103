"""The dispatcher: turns what waits in the inbox into flow runs, many in flight, one starting at a time.

Group commit for flow runs: it claims all that waits into a batch, starts one run, and takes the next batch as
soon as that run has started. One event on a quiet day has its own run at once; the heavier the load, the larger
the groups. The inbox, not Prefect, guarantees that nothing is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from uuid import UUID

import httpx
import structlog
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from ordernotify.clock import now
from ordernotify.runtime import Runtime
from ordernotify.store import holds, inbox, quarantine
from ordernotify.store.database import DATABASE_AWAY, INBOX, listening
from ordernotify.store.incidents import Incident, IncidentKind, open_incidents
from ordernotify.store.place import read_urls
from ordernotify.worker.runs import Runs
from ordernotify.worker.standing_by import StandingBy

DEPLOYMENT = "order-event/order-event"

_DUE_GROUP = 500
# Generous, because a slow platform keeps its runs in flight; a small one was felt by every other platform.
_IN_FLIGHT = 256
_CROWDED = 8
_GAP_WHEN_CROWDED_S = 0.1
_POLL_S = 1.0
_RENEW_S = 4.0
_SWEEP_S = 5.0
_WAIT_AFTER_ERROR_S = 1.0
_DISMISS_S = 2.0

# A run that stood by may have been deleted by a person.
_AWAY = (*DATABASE_AWAY, httpx.HTTPError, PrefectHTTPStatusError, ObjectNotFound)

log = structlog.get_logger(__name__)


class Dispatcher:
    """Starts a run for whatever waits; ``run`` works until ``stop`` is set, then lets runs in flight finish."""

    def __init__(self, house: Runtime, runs: Runs) -> None:
        self._house = house
        self._runs = runs
        self._next = StandingBy(runs, DEPLOYMENT)
        self._wake = asyncio.Event()
        self._in_flight: dict[UUID, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()

    async def run(self, stop: asyncio.Event, *, grace_s: float = 20.0) -> None:
        """Dispatch until ``stop``; runs still going after ``grace_s`` seconds are left to the next worker."""
        loops = [
            asyncio.create_task(self._forever(stop, self._listen, 0.5)),
            asyncio.create_task(self._forever(stop, self._dispatch, 0.0)),
            asyncio.create_task(self._forever(stop, self._look_after, _POLL_S)),
            asyncio.create_task(self._forever(stop, self._sweep, _SWEEP_S)),
            asyncio.create_task(self._forever(stop, self._house.keep_known, _SWEEP_S)),
            asyncio.create_task(self._forever(stop, self._renew, _RENEW_S)),
        ]
        await stop.wait()
        self._wake.set()
        for loop in loops[:-1]:
            loop.cancel()
        if self._in_flight:
            await asyncio.wait(set(self._in_flight.values()), timeout=grace_s)
        loops[-1].cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        for task in self._in_flight.values():
            task.cancel()
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
        await inbox.hand_back(self._house.pool, owner=self._house.owner, at=now())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._next.dismiss(), _DISMISS_S)

    async def _forever(self, stop: asyncio.Event, work: Callable[[], Awaitable[None]], pause_s: float) -> None:
        """Repeat ``work``; an outage of the database or of Prefect is waited out, never the end."""
        while not stop.is_set():
            try:
                await work()
            except _AWAY as error:
                log.warning("waiting_out", what=work.__name__.strip("_"), kind=type(error).__name__)
                await asyncio.sleep(_WAIT_AFTER_ERROR_S)
            except Exception as error:  # a loop that ended would leave events waiting, and nobody would see it
                log.exception("loop_failed", what=work.__name__.strip("_"), kind=type(error).__name__)
                await asyncio.sleep(_WAIT_AFTER_ERROR_S)
            else:
                await asyncio.sleep(pause_s)

    async def _listen(self) -> None:
        async with listening(read_urls(self._house.settings).app, INBOX, self._wake.set) as lost:
            self._wake.set()
            await lost.wait()

    async def _dispatch(self) -> None:
        self._wake.clear()
        while True:
            await self._room()
            # What is claimed now would only stand in line; waiting in the inbox it makes fewer, larger batches.
            await self._house.preparing.moved_up()
            claimed = await inbox.claim(
                self._house.pool,
                owner=self._house.owner,
                at=now(),
                batch_id=self._next.batch_id,
                flow_run_id=self._next.run_id,
            )
            if claimed is None:
                break
            await self._start(claimed[0])
        self._next.prepare()
        try:
            await asyncio.wait_for(self._wake.wait(), _POLL_S)
        except TimeoutError:
            return

    async def _room(self) -> None:
        while len(self._in_flight) >= _IN_FLIGHT:
            self._ended.clear()
            await self._ended.wait()
        if len(self._in_flight) >= _CROWDED:
            await asyncio.sleep(_GAP_WHEN_CROWDED_S)

    async def _start(self, batch_id: UUID) -> None:
        """Start the run of a batch and return when it is Running; the work goes on in the background."""
        started = asyncio.Event()
        task = asyncio.create_task(self._execute(batch_id, started))
        self._in_flight[batch_id] = task
        task.add_done_callback(lambda _task: self._forget(batch_id))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self._next.prepare()

    def _forget(self, batch_id: UUID) -> None:
        self._in_flight.pop(batch_id, None)
        self._ended.set()

    async def _execute(self, batch_id: UUID, started: asyncio.Event) -> None:
        try:
            flow_run = await self._created(batch_id)
            state = await self._runs.execute(flow_run, started)
        except _AWAY as error:
            log.warning("run_not_started", batch_id=str(batch_id), kind=type(error).__name__)
            await self._rest(batch_id, "away")
            return
        except Exception as error:  # whatever it was, the batch must rest, be tried again, and be seen
            log.exception("run_surprised", batch_id=str(batch_id), kind=type(error).__name__)
            await self._rest(batch_id, "surprise")
            return
        if not state.is_completed():
            log.warning("run_failed", batch_id=str(batch_id), state=state.type.value)
            await self._rest(batch_id, state.type.value.lower())

    async def _created(self, batch_id: UUID) -> FlowRun:
        if batch_id == self._next.batch_id:
            known = self._next.run_id
            flow_run = await self._next.take()
            if known:
                return flow_run
        else:
            flow_run = await self._runs.start(DEPLOYMENT, {"batch_id": str(batch_id)}, name=f"order-event {batch_id}")
        await inbox.note_run(self._house.pool, batch_id, flow_run_id=str(flow_run.id))
        return flow_run

    async def _rest(self, batch_id: UUID, code: str) -> None:
        """Leave a batch whose run failed for a while; the store finds it again when its lease ends."""
        while True:
            try:
                async with self._house.pool.acquire() as connection, connection.transaction():
                    tries = await inbox.note_failed(connection, batch_id, at=now())
                    if tries >= 3:  # noqa: PLR2004 - twice may be an outage
                        await open_incidents(
                            connection,
                            self._house.scribe,
                            [Incident(IncidentKind.RUN_FAILED, str(batch_id), code=code)],
                            at=now(),
                        )
            except DATABASE_AWAY:
                await asyncio.sleep(_WAIT_AFTER_ERROR_S)
            else:
                return

    async def _look_after(self) -> None:
        """Find what a dead worker left, what is due again, and records that no run has sealed."""
        lost = await inbox.take_over(self._house.pool, owner=self._house.owner, besides=self._held(), at=now())
        for batch_id, dead_run in lost:
            if dead_run:
                await self._runs.mark_crashed(UUID(dead_run), "worker_lost")
            await self._room()
            await self._start(batch_id)
        due = await inbox.claim_due(self._house.pool, owner=self._house.owner, limit=_DUE_GROUP, at=now())
        if due is not None:
            await self._room()
            await self._start(due[0])
        await self._house.sealer.seal()

    async def _renew(self) -> None:
        await inbox.renew(self._house.pool, self._held(), owner=self._house.owner, at=now())

    async def _sweep(self) -> None:
        await self._next.renew()
        await quarantine.sweep(self._house.pool, self._house.scribe, at=now())
        await holds.let_go(self._house.pool, at=now())

    def _held(self) -> list[UUID]:
        """Return the batches of our own runs and of those that people started in this process."""
        return list(self._in_flight.keys() | self._house.working)
