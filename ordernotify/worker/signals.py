"""Two signals: a run tells its starter that it has started, and the system tells the process to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any, Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

_on_started: ContextVar[Callable[[], object] | None] = ContextVar("ordernotify_on_started", default=None)


@contextmanager
def tell_when_started(tell: Callable[[], object]) -> Iterator[None]:
    """Have ``tell`` called, from any thread and maybe more than once, when the run executed inside starts."""
    token = _on_started.set(tell)
    try:
        yield
    finally:
        _on_started.reset(token)


def note_started() -> None:
    """Say that the current run has started; outside of `tell_when_started` nothing happens.

    Our runs say so by themselves once the server has accepted their state Running: a flow need not call this.
    """
    if tell := _on_started.get():
        tell()


def run_until_stopped(
    work: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run ``work`` with an event that SIGTERM and SIGINT set; call it in the main thread. Raises what it raises.

    The loop runs in a thread of its own. In the main thread Prefect's engine would, for the length of each
    flow run, replace the SIGTERM handler by one that raises in the middle of whatever the loop is doing, and
    so crash every run in flight.
    """
    told = threading.Event()
    listeners: list[Callable[[], object]] = []

    def tell(_signal: int, _frame: FrameType | None) -> None:
        told.set()
        for listener in listeners:
            listener()

    async def listen() -> None:
        stop = asyncio.Event()
        listeners.append(partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set))
        if told.is_set():
            stop.set()
        try:
            await work(stop)
        finally:
            listeners.clear()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(listen())

    previous = {each: signal.signal(each, tell) for each in STOPPING}
    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loop") as thread:
            thread.submit(run).result()
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
