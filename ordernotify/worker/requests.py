"""Portal requests that were posted, each turned into a flow run of its own as soon as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import httpx
import structlog
from prefect.exceptions import PrefectHTTPStatusError

from ordernotify.clock import now
from ordernotify.runtime import Runtime
from ordernotify.store import portal_work
from ordernotify.store.database import DATABASE_AWAY, PORTAL, listening
from ordernotify.store.place import read_urls
from ordernotify.worker.runs import Runs

PORTAL_REQUEST = "portal-request/portal-request"

# The web process does not depend on Prefect: it stores and notifies, and what it stored is found here, at the latest
# after this long.
_POLL_S = 1.0
_RENEW_S = 4.0
_WAIT_AFTER_ERROR_S = 1.0
_AWAY = (*DATABASE_AWAY, httpx.HTTPError, PrefectHTTPStatusError)

log = structlog.get_logger(__name__)


class Requests:
    """Starts a run for each posted request; ``run`` works until ``stop`` is set, then lets runs in flight finish."""

    def __init__(self, house: Runtime, runs: Runs) -> None:
        self._house = house
        self._runs = runs
        self._wake = asyncio.Event()
        self._in_flight: dict[UUID, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event, *, grace_s: float = 20.0) -> None:
        """Take requests until ``stop``; runs still going after ``grace_s`` seconds are left to the next worker."""
        loops = [asyncio.create_task(work(stop)) for work in (self._listen, self._take, self._renew)]
        await stop.wait()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        if self._in_flight:
            await asyncio.wait(set(self._in_flight.values()), timeout=grace_s)
        for task in self._in_flight.values():
            task.cancel()
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
        await portal_work.hand_back(self._house.pool, owner=self._house.owner, at=now())

    async def _listen(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(*DATABASE_AWAY):
                async with listening(read_urls(self._house.settings).app, PORTAL, self._wake.set) as lost:
                    self._wake.set()
                    await lost.wait()
            await asyncio.sleep(_WAIT_AFTER_ERROR_S)

    async def _take(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._wake.clear()
            try:
                taken = await portal_work.claim(
                    self._house.pool, owner=self._house.owner, besides=list(self._in_flight), at=now()
                )
                for request_id, dead_run in taken:
                    await self._start(request_id, dead_run)
            except _AWAY as error:
                log.warning("waiting_out", what="portal_requests", kind=type(error).__name__)
                await asyncio.sleep(_WAIT_AFTER_ERROR_S)
            except Exception as error:  # a loop that ended would leave requests waiting, and nobody would see it
                log.exception("loop_failed", what="portal_requests", kind=type(error).__name__)
                await asyncio.sleep(_WAIT_AFTER_ERROR_S)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _POLL_S)

    async def _renew(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(_RENEW_S)
            with suppress(*DATABASE_AWAY):
                await portal_work.renew(self._house.pool, list(self._in_flight), at=now())

    async def _start(self, request_id: UUID, dead_run: str) -> None:
        """Start the run of a request and return when it is Running; the work goes on in the background."""
        if dead_run:
            await self._runs.mark_crashed(UUID(dead_run), "worker_lost")
        started = asyncio.Event()
        task = asyncio.create_task(self._execute(request_id, started))
        self._in_flight[request_id] = task
        task.add_done_callback(lambda _task: self._in_flight.pop(request_id, None))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _execute(self, request_id: UUID, started: asyncio.Event) -> None:
        code = "surprise"
        try:
            flow_run = await self._runs.start(
                PORTAL_REQUEST, {"request_id": str(request_id)}, name=f"portal-request {request_id}"
            )
            await portal_work.note_run(self._house.pool, request_id, flow_run_id=str(flow_run.id))
            state = await self._runs.execute(flow_run, started)
            if state.is_completed():
                return
            code = state.type.value.lower()
        except _AWAY as error:
            code = "away"
            log.warning("run_not_started", request_id=str(request_id), kind=type(error).__name__)
        except Exception as error:  # whatever it was, the request must rest, be tried again, and be seen
            log.exception("run_surprised", request_id=str(request_id), kind=type(error).__name__)
        await self._rest(request_id, code)

    async def _rest(self, request_id: UUID, code: str) -> None:
        while True:
            try:
                await portal_work.note_failed(self._house.pool, self._house.scribe, request_id, code=code, at=now())
            except DATABASE_AWAY:
                await asyncio.sleep(_WAIT_AFTER_ERROR_S)
            else:
                return


async def release_dead(house: Runtime, *, alive: Callable[[int], bool], host: str) -> None:
    """End the leases of processes of this machine that are no more, instead of waiting for them to run out."""
    for owner in await portal_work.owners(house.pool):
        name, pid, _ = owner.rsplit(":", 2)
        if name == host and not alive(int(pid)):
            await portal_work.hand_back(house.pool, owner=owner, at=now())
