"""Group commit at the door: requests that arrive together share one transaction, and each waits for it."""

from __future__ import annotations

import asyncio

from ordernotify.store import inbox
from ordernotify.store.audit import Scribe
from ordernotify.store.database import DATABASE_AWAY, Pool
from ordernotify.store.inbox import Acceptance, Arrival

_GROUP = 500
_COUNT_EVERY_S = 1.0


class OverloadedError(Exception):
    """The inbox cannot take more now; the sender should come back after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Intake:
    """Accepts arrivals; ``accept`` returns after the commit that makes a 2xx true."""

    def __init__(self, pool: Pool, scribe: Scribe, *, max_waiting: int) -> None:
        self._pool = pool
        self._scribe = scribe
        self._max_waiting = max_waiting
        self._queue: list[tuple[Arrival, asyncio.Future[Acceptance]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._waiting = 0
        self._counted_at = 0.0

    async def accept(self, arrival: Arrival) -> Acceptance:
        """Store an arrival durably.

        Raises OverloadedError when too much waits already or the database is away: nothing was stored, and
        the sender must repeat.
        """
        if not arrival.events:
            return Acceptance((), 0)
        await self.check_room()
        done: asyncio.Future[Acceptance] = asyncio.get_running_loop().create_future()
        self._queue.append((arrival, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await done

    async def _write(self) -> None:
        while self._queue:
            group, self._queue = self._queue[:_GROUP], self._queue[_GROUP:]
            try:
                verdicts = await inbox.accept(self._pool, self._scribe, [arrival for arrival, _ in group])
            except DATABASE_AWAY:
                for _, done in group:
                    if not done.done():
                        done.set_exception(OverloadedError(5))
                continue
            except BaseException as error:
                for _, done in group:
                    if not done.done():
                        done.set_exception(error)
                raise
            for (_, done), verdict in zip(group, verdicts, strict=True):
                if not done.done():
                    done.set_result(verdict)

    async def check_room(self) -> None:
        """Raise OverloadedError when too much waits already, or when the database cannot say."""
        clock = asyncio.get_running_loop().time()
        if clock - self._counted_at > _COUNT_EVERY_S:
            self._counted_at = clock
            try:
                self._waiting = await inbox.waiting(self._pool)
            except DATABASE_AWAY:
                raise OverloadedError(5) from None
        if self._waiting >= self._max_waiting:
            raise OverloadedError(30)
