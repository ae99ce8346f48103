"""Errors at the boundary to Prefect, which stores their text in clear: only codes pass."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import structlog

from ordernotify.clock import new_id
from ordernotify.store.sealer import LedgerStoppedError

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)


class SafeError(Exception):
    """A surprise, reduced to the kind of error and a reference that finds the details in our own log."""

    def __init__(self, kind: str, reference: str) -> None:
        super().__init__(f"{kind} (details in the worker's log under {reference})")


class UnfinishedError(Exception):
    """Some deliveries may be tried again within this run; Prefect's retry does it."""

    def __init__(self) -> None:
        super().__init__("UnfinishedError: some deliveries are due again shortly")


_PASS = (UnfinishedError, LedgerStoppedError)


def surprises_made_safe(work: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Let no text of an exception reach Prefect: it may hold an address or a message."""

    @functools.wraps(work)
    async def safely(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await work(*args, **kwargs)
        except _PASS:
            raise
        except Exception as error:
            reference = new_id().hex[-12:]
            log.exception("task_failed", reference=reference, kind=type(error).__name__)
            raise SafeError(type(error).__name__, reference) from None

    return safely
