"""A flow run that stands by: created before anything waits, because creating it is the dearest call of all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import structlog
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from ordernotify.clock import new_id, now
from ordernotify.worker.runs import Runs

# A run that stood by longer would look late in the UI.
LASTS: Final = timedelta(minutes=5)

log = structlog.get_logger(__name__)


class StandingBy:
    """The run of the next batch, whose id is drawn in advance; one at a time for each worker."""

    def __init__(self, runs: Runs, deployment: str) -> None:
        self._runs = runs
        self._deployment = deployment
        self._since: datetime | None = None
        self._creating: asyncio.Task[FlowRun] | None = None
        self.batch_id: UUID = new_id()

    def prepare(self) -> None:
        """Begin to create the run of the next batch, if there is none."""
        if self._creating is None:
            self._since = now()
            self._creating = asyncio.create_task(self._create())

    @property
    def run_id(self) -> str:
        """The run's id, '' while there is none."""
        task = self._creating
        ready = task is not None and task.done() and not task.cancelled() and task.exception() is None
        return str(task.result().id) if task is not None and ready else ""

    async def take(self) -> FlowRun:
        """Return the run for the batch of `batch_id`, and draw the id of the next. Raises what its creation raises."""
        creating = self._creating
        if creating is None or (creating.done() and creating.exception() is not None):
            creating = asyncio.create_task(self._create())
        self._creating, self.batch_id = None, new_id()
        return await creating

    async def renew(self) -> None:
        """Replace a run that stood by for long or whose creation failed, and remove what dead workers left."""
        if self._since is None or now() - self._since < LASTS:
            return
        await self.dismiss()
        await self._runs.remove_standing(before=now() - 2 * LASTS)
        self.prepare()

    async def dismiss(self) -> None:
        """Remove the run: nothing more will be given to it."""
        creating, self._creating, self.batch_id = self._creating, None, new_id()
        if creating is None:
            return
        await asyncio.wait([creating])
        if creating.cancelled() or creating.exception() is not None:
            return
        try:
            await self._runs.remove(creating.result().id)
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            # A later worker removes it.
            log.warning("standing_run_left", kind=type(error).__name__)

    def _create(self) -> Coroutine[Any, Any, FlowRun]:
        # The id of now: by the time the call is made, `batch_id` may be the next one's.
        return self._runs.start(
            self._deployment,
            {"batch_id": str(self.batch_id)},
            name=f"{self._deployment.partition('/')[0]} {self.batch_id}",
            standing_by=True,
        )
