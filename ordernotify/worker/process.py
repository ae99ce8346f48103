"""The worker's process: one event loop for the dispatcher, the work pool's runs, and everything they send."""

from __future__ import annotations

import asyncio
import importlib
import os
import platform
import sys
from pathlib import Path

import uvloop
from prefect.client.orchestration import PrefectClient

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.collector import spare_the_collector
from ordernotify.logs import configure_logs
from ordernotify.platforms import PLATFORMS
from ordernotify.store import inbox
from ordernotify.worker.deployments import register
from ordernotify.worker.dispatcher import DEPLOYMENT, Dispatcher
from ordernotify.worker.requests import PORTAL_REQUEST, Requests, release_dead
from ordernotify.worker.runs import Runs
from ordernotify.worker.signals import run_until_stopped
from ordernotify.worker.warm import serve_pool
from ordernotify.worker.warm_client import warm_clients

POOL = "notifications"


async def work(stop: asyncio.Event) -> None:
    """Work until ``stop``; what is in flight is finished or handed back."""
    checkout = Path(os.environ.get("ORDERNOTIFY_CHECKOUT", "."))
    house = await runtime.current()
    try:
        async with warm_clients() as client:
            await register(checkout / "prefect.yaml", pool=POOL)
            await register_blocks(client)
            runs = Runs(client)
            await runs.prepare(DEPLOYMENT)
            await runs.prepare(PORTAL_REQUEST)
            await inbox.release_dead(house.pool, host=platform.node(), alive=_is_alive, at=now())
            await release_dead(house, host=platform.node(), alive=_is_alive)
            await runs.end_dead(host=platform.node(), alive=_is_alive)
            for name in house.credentials:
                if (load := PLATFORMS[name].load) is not None:
                    load()
            spare_the_collector()
            await asyncio.gather(
                Dispatcher(house, runs).run(stop),
                Requests(house, runs).run(stop),
                serve_pool(POOL, stop=stop, on_ready=_ready),
            )
    finally:
        await runtime.close()


async def register_blocks(client: PrefectClient) -> None:
    """Make the platforms' Block types known to Prefect's UI; loaded by dotted name, as the flows are."""
    blocks = importlib.import_module("blocks.platforms").BLOCKS
    for block in blocks.values():
        await block.register_type_and_schema(client=client)


def _ready() -> None:
    """Say to the supervisor, by a file it names, that runs are taken now."""
    if (path := _ready_file()) is not None:
        path.write_text(str(os.getpid()), "ascii")


def _ready_file() -> Path | None:
    path = os.environ.get("ORDERNOTIFY_READY_FILE")
    return Path(path) if path else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main() -> int:
    """Run the worker's process; the exit code is 0 after a stop that was asked for."""
    configure_logs()
    if (path := _ready_file()) is not None:
        # Left by a predecessor that was killed; we are not ready yet.
        path.unlink(missing_ok=True)
    # The flows are the checkout's: the worker loads them by dotted name from where it was started.
    sys.path.insert(0, os.environ.get("ORDERNOTIFY_CHECKOUT", str(Path.cwd())))
    run_until_stopped(work, loop_factory=uvloop.new_event_loop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
