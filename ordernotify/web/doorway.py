"""What every request of the web process works with: pool, intake, credentials, limits."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from ordernotify.credentials import load_credentials
from ordernotify.platforms._base import Call, PlatformSettings
from ordernotify.settings import Settings
from ordernotify.store.audit import Scribe
from ordernotify.store.database import Pool, connect
from ordernotify.store.place import read_urls
from ordernotify.web.intake import Intake
from ordernotify.wire import UnansweredError, Wire

_CREDENTIALS_LAST_S = 30.0
_ASK_AGAIN_S = 2.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Doorway:
    """The web process's resources, opened once."""

    settings: Settings
    pool: Pool
    scribe: Scribe
    intake: Intake
    wire: Wire
    public_url: str
    blocks: bool
    carriers: Mapping[str, PlatformSettings] = field(default_factory=dict)
    unsure: bool = False  # Prefect's server was away: what is not known may be configured all the same
    _known: Mapping[str, PlatformSettings] = field(default_factory=dict)
    _known_at: float = -1e9
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _later: set[asyncio.Task[None]] = field(default_factory=set)

    async def credentials(self) -> Mapping[str, PlatformSettings]:
        """Return the configured platforms' settings, read anew (with the carriers') every half minute."""
        clock = asyncio.get_running_loop().time()
        if clock - self._known_at > _CREDENTIALS_LAST_S:
            async with self._reading:
                if clock - self._known_at > _CREDENTIALS_LAST_S:
                    loaded = await load_credentials(blocks=self.blocks)
                    self.unsure = not loaded.complete
                    self._known = {**self._known, **loaded.settings} if self.unsure else loaded.settings
                    self.carriers = {**self.carriers, **loaded.carriers} if self.unsure else loaded.carriers
                    self._known_at = clock - (_CREDENTIALS_LAST_S - _ASK_AGAIN_S if self.unsure else 0.0)
        return self._known

    async def body_of(self, request: Request, *, limit: int | None = None) -> bytes | None:
        """Return a request's exact body, None when it is larger than ``limit`` or than the house takes."""
        most = self.settings.max_body_bytes if limit is None else limit
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            return None
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    def is_known_key(self, request: Request) -> bool:
        """Return whether the request shows one of the API keys (header ``X-API-Key`` or a bearer token)."""
        shown = request.headers.get("x-api-key", "")
        if not shown:
            scheme, _, value = request.headers.get("authorization", "").partition(" ")
            shown = value.strip() if scheme.lower() == "bearer" else ""
        keys = [key.strip() for key in self.settings.api_keys.split(",") if key.strip()]
        # Every key is compared, so that the time taken tells nothing about which one was near.
        same = [hmac.compare_digest(shown.encode(), key.encode()) for key in keys]
        return bool(shown) and True in same

    def confirm_later(self, platform: str, call: Call) -> None:
        """Make a call that a platform expects in return (a subscription to confirm), after answering it."""
        task = asyncio.create_task(self._confirm(platform, call))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _confirm(self, platform: str, call: Call) -> None:
        try:
            answer = await self.wire.call(platform, call)
        except UnansweredError as error:
            log.warning("confirmation_unanswered", platform=platform, kind=error.kind)
        else:
            log.info("confirmed", platform=platform, status=answer.status)


@asynccontextmanager
async def open_doorway(settings: Settings, *, blocks: bool) -> AsyncIterator[Doorway]:
    """Open the resources of a web process and close them after."""
    pool = await connect(read_urls(settings).app, size=8)
    scribe = Scribe("web")
    async with Wire(timeout_s=settings.http_timeout_s, connections=8) as wire:
        try:
            yield Doorway(
                settings=settings,
                pool=pool,
                scribe=scribe,
                intake=Intake(pool, scribe, max_waiting=settings.max_waiting),
                wire=wire,
                public_url=settings.public_url.rstrip("/"),
                blocks=blocks,
            )
        finally:
            await pool.close()


def too_large(doorway: Doorway) -> Response:
    """Return the answer to a body that is too large, saying how much would do."""
    limit = doorway.settings.max_body_bytes
    return JSONResponse(
        {"error": {"field": "body", "message": f"must be at most {limit} bytes"}},
        status_code=413,
        # The rest of the body is not read, so the connection cannot be used again.
        headers={"connection": "close"},
    )
