"""Prefect's client for runs that this process creates and executes at once: it asks nothing that it was just told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import OrchestrationResult
from prefect.context import AsyncClientContext, SyncClientContext
from prefect.settings import get_current_settings, temporary_settings

R = TypeVar("R")

# What the engine writes down of each run that it begins.
_WRITTEN_DOWN: Final = frozenset({"flow_version", "empirical_policy"})


class WarmClient(PrefectClient):
    """A client that leaves out two of the four calls with which the engine surrounds each run.

    They are on the way of every message, and a tenth of what a run costs the server: the engine writes down how
    often it would try the flow again, and it reads the run once more after starting it. A run inside `knowing` was
    created by this process a moment ago, for a flow that is never tried again by itself, and nobody else executes it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known: dict[UUID, FlowRun] = {}

    @contextmanager
    def knowing(self, flow_run: FlowRun) -> Iterator[None]:
        """Take ``flow_run`` for what the server has recorded, until it was read once."""
        self._known[flow_run.id] = flow_run
        try:
            yield
        finally:
            self._known.pop(flow_run.id, None)

    async def update_flow_run(self, flow_run_id: UUID, *args: Any, **changed: Any) -> httpx.Response:
        """Update a run; that a known one is not tried again by itself need not be written down."""
        if flow_run_id in self._known and changed.keys() == _WRITTEN_DOWN and not changed["empirical_policy"].retries:
            return httpx.Response(httpx.codes.NO_CONTENT)
        return await super().update_flow_run(flow_run_id, *args, **changed)

    async def set_flow_run_state(
        self, flow_run_id: UUID | str, state: State[R], *args: Any, **more: Any
    ) -> OrchestrationResult[R]:
        """Propose a state, and remember the one in which a known run is now."""
        result = await super().set_flow_run_state(flow_run_id, state, *args, **more)
        known = self._known.get(UUID(str(flow_run_id)))
        if known is not None and result.state is not None:
            started = {"run_count": known.run_count + 1, "start_time": result.state.timestamp}
            changed = {"state": result.state, **(started if result.state.is_running() else {})}
            self._known[known.id] = known.model_copy(update=changed)
        return result

    async def read_flow_run(self, flow_run_id: UUID) -> FlowRun:
        """Return a run; a known one is asked about from the second time on."""
        known = self._known.pop(flow_run_id, None)
        return known if known is not None else await super().read_flow_run(flow_run_id)


@asynccontextmanager
async def warm_clients() -> AsyncIterator[WarmClient]:
    """Keep one asynchronous and one synchronous client open for everything that starts inside.

    Without them each flow run builds its own client, connections and TLS context: about 80 ms a run.
    """
    around = AsyncClientContext.get()
    client = around.client if around is not None else None
    if isinstance(client, WarmClient) and client.loop is asyncio.get_running_loop():
        yield client
        return
    # Otherwise each run had a thread that only says every few minutes that the run lives. Ours are known by leases.
    with temporary_settings({"flows.heartbeat_frequency": None}), SyncClientContext.get_or_create():
        clients, api = AsyncClientContext(), get_current_settings().api
        auth = api.auth_string.get_secret_value() if api.auth_string is not None else None
        clients.client = client = WarmClient(api.url or "", auth_string=auth)
        async with clients:
            yield client
