"""Connections: one bounded pool a process and role, and the listener that wakes whoever waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from ordernotify.store.setup import plain

Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"
Pool: TypeAlias = "asyncpg.Pool"

INBOX = "ordernotify_inbox"
PORTAL = "ordernotify_portal"

# What a connection raises while its server is away or starting; everything else is a fault of ours.
DATABASE_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)


async def connect(url: str, *, size: int = 8) -> Pool:
    """Open a pool of at most ``size`` connections; JSON columns read and write Python values."""
    pool: Pool = await asyncpg.create_pool(plain(url), min_size=1, max_size=size, init=_prepare, reset=_leave)
    return pool


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )


async def _leave(_connection: asyncpg.Connection) -> None:
    """Leave a connection as it is between two users.

    Nothing of ours changes a session outside a transaction, and four statements a use would undo nothing.
    """


@asynccontextmanager
async def listening(url: str, channel: str, wake: Callable[[], None]) -> AsyncIterator[asyncio.Event]:
    """Call ``wake`` for every notification on ``channel``, on a connection of its own.

    Yields an event that is set when the connection is lost; whoever listens must then open it anew (a slow
    poll is the safety net meanwhile).
    """
    connection = await asyncpg.connect(plain(url))
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _connection: lost.set())
    await connection.add_listener(channel, lambda *_details: wake())
    try:
        yield lost
    finally:
        await connection.close(timeout=2)
