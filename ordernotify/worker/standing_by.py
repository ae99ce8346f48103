"""Flow runs that stand by: created before anything waits, because creating one is the dearest call of all."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import httpx
import structlog
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from ordernotify.clock import new_id, now
from ordernotify.worker.runs import Runs

# One for the batch of the moment, and one for that which follows while its successor is still being created.
AHEAD: Final = 2
# A run that stood by longer would look late in the UI.
LASTS: Final = timedelta(minutes=5)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Standing:
    """A batch whose id is drawn, and the run for it as soon as somebody began to create one."""

    batch_id: UUID = field(default_factory=new_id)
    since: datetime | None = None
    creating: asyncio.Task[FlowRun] | None = None

    def created(self) -> FlowRun | None:
        """Return the run, None while there is none."""
        task = self.creating
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()


class StandingBy:
    """The runs of the next batches, whose ids are drawn in advance; a few for each worker."""

    def __init__(self, runs: Runs, deployment: str) -> None:
        self._runs = runs
        self._deployment = deployment
        self._standing = deque(_Standing() for _ in range(AHEAD))

    @property
    def batch_id(self) -> UUID:
        """The id of the next batch."""
        return self._standing[0].batch_id

    @property
    def run_id(self) -> str:
        """The id of the next batch's run, '' while there is none."""
        created = self._standing[0].created()
        return "" if created is None else str(created.id)

    def prepare(self) -> None:
        """Begin to create the runs that are not there yet."""
        for standing in self._standing:
            if standing.creating is None:
                self._create(standing)

    async def take(self) -> FlowRun:
        """Return the run for the batch of `batch_id`, and draw another id. Raises what its creation raises."""
        standing = self._standing.popleft()
        self._standing.append(_Standing())
        creating = standing.creating
        if creating is None or (creating.done() and standing.created() is None):
            creating = self._create(standing)
        return await creating

    async def renew(self) -> None:
        """Replace runs that stood by for long or whose creation failed, and remove what dead workers left."""
        since = self._standing[0].since
        if since is None or now() - since < LASTS:
            return
        await self.dismiss()
        await self._runs.remove_standing(before=now() - 2 * LASTS)
        self.prepare()

    async def dismiss(self) -> None:
        """Remove the runs: nothing more will be given to them."""
        dismissed, self._standing = self._standing, deque(_Standing() for _ in range(AHEAD))
        creating = [standing.creating for standing in dismissed if standing.creating is not None]
        if creating:
            await asyncio.wait(creating)
        for created in filter(None, (standing.created() for standing in dismissed)):
            try:
                await self._runs.remove(created.id)
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                # A later worker removes it.
                log.warning("standing_run_left", kind=type(error).__name__)

    def _create(self, standing: _Standing) -> asyncio.Task[FlowRun]:
        standing.since = now()
        standing.creating = asyncio.create_task(
            self._runs.start(
                self._deployment,
                {"batch_id": str(standing.batch_id)},
                name=f"{self._deployment.partition('/')[0]} {standing.batch_id}",
                standing_by=True,
            )
        )
        return standing.creating
