"""The warm worker: a Prefect worker type that loads each flow once and executes runs in its own process."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Final, cast

import anyio
import anyio.abc
import httpx
import structlog
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import AsyncClientContext
from prefect.exceptions import Abort, Pause
from prefect.filesystems import LocalFileSystem
from prefect.flow_engine import run_flow
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import get_current_settings
from prefect.states import Cancelled
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from ordernotify.worker.warm_client import warm_clients

WORKER_TYPE: Final = "ordernotify"
# The tag of deployments whose runs people may suspend from the UI in the middle of the work.
SUSPENDS: Final = "suspends"
ENTRYPOINT: Final = re.compile(r"flows(\.[a-z][a-z0-9_]*){2}")

log = structlog.get_logger(__name__)


class FlowNotLoadableError(Exception):
    """A deployment names an entrypoint that this worker does not execute; the message says what would do."""


class FlowCache:
    """Flows by dotted entrypoint, each imported once for the life of the process."""

    def __init__(self) -> None:
        self._flows: dict[str, Flow[..., Any]] = {}
        self._loading = asyncio.Lock()

    async def load(self, entrypoint: str | None) -> Flow[..., Any]:
        """Return the flow at ``entrypoint``, such as ``flows.order_event.order_event``.

        Raises FlowNotLoadableError for anything but a dotted name in ``flows``: a path or another module
        would run code that is not part of this release.
        """
        if entrypoint is None or not ENTRYPOINT.fullmatch(entrypoint):
            raise FlowNotLoadableError(
                f"entrypoint {entrypoint!r} is not accepted: it must be flows.<module>.<function>, "
                "as in flows.order_event.order_event"
            )
        async with self._loading:
            if entrypoint not in self._flows:
                # An import takes up to seconds; the loop has events to serve meanwhile.
                self._flows[entrypoint] = await asyncio.to_thread(_loaded, entrypoint)
        return self._flows[entrypoint]


def _loaded(entrypoint: str) -> Flow[..., Any]:
    flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    results = get_current_settings().results
    if flow.result_storage is None and results.default_storage_block is None:
        # Otherwise each run would ask the server for a default, by a call that blocks our event loop.
        flow.result_storage = LocalFileSystem(basepath=str(results.local_storage_path))
    return flow


FLOWS: Final = FlowCache()


async def execute(flow_run: FlowRun, *, flow: Flow[..., Any], keep_deployment: bool) -> State[Any]:
    """Execute ``flow_run`` in this process and return the state in which it ended.

    For a run of a deployment the engine watches for suspension in a thread, and waits for that thread with
    blocking calls inside our event loop, up to 250 ms a run. Only flows that people may suspend while they
    run pay for it (``keep_deployment``); others get a copy of the run without its deployment. The server's
    record of the run keeps it.
    """
    handed = flow_run if keep_deployment else flow_run.model_copy(update={"deployment_id": None})
    try:
        state = await _run(flow, handed)
    except (Abort, Pause):
        # The server has refused or suspended the run, so its state is the server's to tell.
        return await _recorded_state(flow_run)
    if state.type is StateType.CANCELLING:
        # Somebody cancelled it while it ran. It has stopped now, and there is nothing else to tear down.
        async with AsyncClientContext.get_or_create() as clients:
            await clients.client.set_flow_run_state(flow_run.id, Cancelled(), force=True)
        return await _recorded_state(flow_run)
    return state


async def _run(flow: Flow[..., Any], flow_run: FlowRun) -> State[Any]:
    start = partial(run_flow, flow, flow_run=flow_run, return_type="state")
    # One function of Prefect's runs both kinds, and its type cannot say which answer belongs to which.
    if flow.isasync:
        return await cast("Coroutine[Any, Any, State[Any]]", start())
    return cast("State[Any]", await asyncio.to_thread(start))


async def _recorded_state(flow_run: FlowRun) -> State[Any]:
    async with AsyncClientContext.get_or_create() as clients:
        recorded = await clients.client.read_flow_run(flow_run.id)
    if recorded.state is None:
        raise RuntimeError(f"flow run {flow_run.id} has no state")
    return recorded.state


def where_we_are() -> str:
    """Return what a run's record says of the process that executes it: machine and process id."""
    return f"{platform.node()}:{os.getpid()}"


class WarmConfiguration(BaseJobConfiguration):
    """Nothing: there is no job to configure, a run is executed in the worker's process."""


class WarmVariables(BaseVariables):
    """Nothing that a deployment or a run could set."""


class WarmResult(BaseWorkerResult):
    """The run was executed; how it ended is its state, not this."""


class WarmWorker(BaseWorker[WarmConfiguration, WarmVariables, WarmResult]):
    """Picks up the runs that people, schedules and automations create, and executes them in its process."""

    type: str = WORKER_TYPE
    job_configuration = WarmConfiguration
    job_configuration_variables = WarmVariables
    _description = "Executes flow runs inside a warm process that has every flow loaded."

    grace: ClassVar[timedelta] = timedelta(seconds=60)
    flows: ClassVar[FlowCache] = FLOWS

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """Return a template without variables, so that the UI offers nothing that would have no effect."""
        # Prefect refuses an empty job configuration; these are the labels of no job.
        return {
            "job_configuration": {"labels": {}},
            "variables": {"type": "object", "properties": {}},
        }

    async def setup(self) -> None:
        """Open the shared clients before anything of the worker uses one."""
        await self._exit_stack.enter_async_context(warm_clients())
        await super().setup()

    async def teardown(self, *exc_info: Any) -> None:
        """Stop taking runs and give those in flight ``grace`` to finish; after that they are crashed."""
        if self._runs_task_group is not None:
            self._runs_task_group.cancel_scope.deadline = anyio.current_time() + self.grace.total_seconds()
        await super().teardown(*exc_info)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: WarmConfiguration,  # noqa: ARG002  # the base class's signature; nothing is configured
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> WarmResult:
        """Execute a run that this worker was handed.

        Raises FlowNotLoadableError before the run is reported as started; the base class records a crash.
        """
        if flow_run.deployment_id is None:
            raise FlowNotLoadableError("the run has no deployment, which alone says what to execute")
        deployment = await self.client.read_deployment(flow_run.deployment_id)
        flow = await self.flows.load(deployment.entrypoint)
        # What a worker is handed has no state, and the engine relies on one.
        current = await self.client.read_flow_run(flow_run.id)
        # Before anything is done: should this process die, its successor knows the run by it.
        await self.client.update_flow_run(flow_run.id, infrastructure_pid=where_we_are())
        if task_status is not None:
            # The base class writes down whatever it is told, as text.
            cast("anyio.abc.TaskStatus[str]", task_status).started(where_we_are())
        await execute(current, flow=flow, keep_deployment=SUSPENDS in current.tags)
        return WarmResult(identifier=where_we_are(), status_code=0)


async def serve_pool(pool: str, *, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Execute the runs of a work pool until ``stop`` is set, then let runs in flight finish.

    ``on_ready`` is called once the worker is known to the server. An outage of the server is waited out.
    """
    every = get_current_settings().worker
    async with (
        WarmWorker(work_pool_name=pool, name=socket.gethostname()) as worker,
        anyio.create_task_group() as loops,
    ):
        loops.start_soon(_repeat, worker.get_and_submit_flow_runs, timedelta(seconds=every.query_seconds))
        loops.start_soon(_repeat, worker.sync_with_backend, timedelta(seconds=every.heartbeat_seconds))
        on_ready()
        await stop.wait()
        loops.cancel_scope.cancel()


async def _repeat(work: Callable[[], Awaitable[object]], pause: timedelta) -> None:
    # Prefect's own loop gives up after a minute of errors; an outage may last longer than that. There is no
    # backing off here, because the client has tried for half a minute before it raises.
    while True:
        try:
            await work()
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            log.warning("waiting_out", what="prefect", kind=type(error).__name__)
        await anyio.sleep(pause.total_seconds())
