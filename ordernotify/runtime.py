"""Process-wide resources of a worker, built once on first use: connections, words, wire, credentials, sealer."""

from __future__ import annotations

import asyncio
import os
import platform
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from ordernotify.clock import new_id, now
from ordernotify.core.events import OrderEvent
from ordernotify.credentials import load_credentials
from ordernotify.lanes import Lanes
from ordernotify.platforms._base import Context, PlatformSettings
from ordernotify.rendering import Library, shipped
from ordernotify.settings import Settings, settings
from ordernotify.store.audit import Scribe
from ordernotify.store.database import Pool, connect
from ordernotify.store.inbox import Batch
from ordernotify.store.leaving import Authorized
from ordernotify.store.place import read_urls
from ordernotify.store.sealer import Sealer, load_signer
from ordernotify.store.wording import ToWord
from ordernotify.turns import Line
from ordernotify.wire import Wire

# New credentials (a Block that somebody saved) are found after this long, without a restart.
_CREDENTIALS_LAST = timedelta(seconds=30)


class CredentialsUnknownError(Exception):
    """Prefect's server did not say which platforms its Blocks configure."""

    def __init__(self) -> None:
        super().__init__("Prefect's server does not answer at PREFECT_API_URL, or not to PREFECT_API_AUTH_STRING")


@dataclass(slots=True)
class Desk:
    """What the stages of one run hand on to each other.

    All of it is in the store too, and whoever does not find it here reads it there: another process, a retry, a
    person's rerun.
    """

    batch: Batch | None = None
    events: Mapping[UUID, OrderEvent] = field(default_factory=dict)  # admitted
    planned: list[ToWord] = field(default_factory=list)  # not yet worded
    ready: dict[UUID, Authorized] = field(default_factory=dict)  # by delivery; small ones only


@dataclass(slots=True)
class Runtime:
    """What every task of this process works with."""

    settings: Settings
    pool: Pool
    sealer: Sealer
    scribe: Scribe
    library: Library
    wire: Wire
    lanes: Lanes
    owner: str
    credentials: Mapping[str, PlatformSettings]
    carriers: Mapping[str, PlatformSettings]
    # The batches that runs of this process work on, whoever started them: their leases are renewed.
    working: set[UUID] = field(default_factory=set)
    # By batch: what its run at work here knows already.
    desks: defaultdict[UUID, Desk] = field(default_factory=lambda: defaultdict(Desk))
    # Large batches are prepared for sending two at a time: one has the database at work, the other this process.
    preparing: Line = field(default_factory=lambda: Line(2))
    # Pages of orders are worded one batch at a time: side by side they would only be done later, all of them.
    summing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _read_at: float = 0.0
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def known(self) -> Mapping[str, PlatformSettings]:
        """Return the configured platforms' settings, read anew (with the carriers') when they may have changed."""
        await self._read_when_older(_CREDENTIALS_LAST)
        return self.credentials

    async def keep_known(self) -> None:
        """Read the settings anew before `known` has to: no message waits for it then."""
        await self._read_when_older(_CREDENTIALS_LAST / 2)

    async def _read_when_older(self, lasts: timedelta) -> None:
        if self._age() <= lasts:
            return
        async with self._reading:
            if self._age() <= lasts:
                return
            loaded = await load_credentials(blocks=_prefect_is_known())
            # While Prefect's server is away, what it said last holds.
            self.credentials = loaded.settings if loaded.complete else {**self.credentials, **loaded.settings}
            self.carriers = loaded.carriers if loaded.complete else {**self.carriers, **loaded.carriers}
            self._read_at = asyncio.get_running_loop().time()

    def _age(self) -> timedelta:
        return timedelta(seconds=asyncio.get_running_loop().time() - self._read_at)

    def context(self, name: str) -> Context:
        """Return what the adapter of a configured platform or carrier may know besides the message."""
        base = self.settings.public_url.rstrip("/")
        return Context(
            settings=self.credentials[name] if name in self.credentials else self.carriers[name],
            now=now(),
            webhook_url=f"{base}/webhooks/{name}" if base else "",
        )

    async def close(self) -> None:
        """Close every connection; whatever is in flight should have ended before."""
        await self._stack.aclose()


_current: Runtime | None = None
_building: asyncio.Lock | None = None


async def current() -> Runtime:
    """Return this process's runtime, building it on first use."""
    global _current, _building  # noqa: PLW0603 - one runtime a process is this module's whole purpose
    if _current is not None:
        return _current
    _building = _building or asyncio.Lock()
    async with _building:
        if _current is None:
            _current = await build()
    return _current


async def build(house: Settings | None = None) -> Runtime:
    """Open a runtime: pools under the roles of the application and the sealer, templates, wire.

    Raises CredentialsUnknownError when Prefect's server cannot be asked for its Blocks: without an answer,
    events would be planned as if their platforms were not configured.
    """
    chosen = house or settings()
    urls = read_urls(chosen)
    loaded = await load_credentials(blocks=_prefect_is_known())
    if not loaded.complete:
        raise CredentialsUnknownError
    stack = AsyncExitStack()
    pool = await connect(urls.app, size=16)
    stack.push_async_callback(pool.close)
    sealing = await connect(urls.sealer, size=2)
    stack.push_async_callback(sealing.close)
    key = chosen.signing_key_file or chosen.state_dir / "keys" / "ledger.key"
    wire = await stack.enter_async_context(Wire(timeout_s=chosen.http_timeout_s, connections=chosen.http_connections))
    return Runtime(
        settings=chosen,
        pool=pool,
        sealer=Sealer(
            sealing,
            load_signer(key, chosen.origin),
            origin=chosen.origin,
            mark=key.with_suffix(".mark"),
        ),
        scribe=Scribe("worker"),
        library=shipped(),
        wire=wire,
        lanes=Lanes(chosen.http_connections),
        owner=f"{platform.node()}:{os.getpid()}:{new_id().hex[-8:]}",
        credentials=loaded.settings,
        carriers=loaded.carriers,
        _read_at=asyncio.get_running_loop().time(),
        _stack=stack,
    )


def use(house: Runtime | None) -> None:
    """Make ``house`` this process's runtime: for a program that builds its own with ``build``, and closes it."""
    global _current  # noqa: PLW0603 - one runtime a process is this module's whole purpose
    _current = house


async def close() -> None:
    """Close this process's runtime, if one was built."""
    global _current
    if _current is not None:
        house, _current = _current, None
        await house.close()


def _prefect_is_known() -> bool:
    return bool(os.environ.get("PREFECT_API_URL"))
