"""Verify the ledger where it lies: read in one pass under the reader's role, checked while it is read."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence

import asyncpg

from ordernotify.core.verify import Entry, Report, verify
from ordernotify.store.setup import plain

_CHUNK = 5_000


def verify_ledger(url: str, *, origin: str, vkeys: Sequence[str], anchors: Sequence[str] = ()) -> Report:
    """Verify the ledger at ``url`` in one pass, reading while checking; memory stays small."""
    found: queue.Queue[_Read] = queue.Queue(maxsize=4)

    def produce() -> None:
        try:
            asyncio.run(_read(url, found))
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            found.put(error)
        else:
            found.put(None)

    threading.Thread(target=produce, daemon=True).start()
    notes = [row["note"] for row in _got(found) or []]
    return verify(_entries(found), notes, vkeys, origin=origin, anchors=anchors)


_Read = list[asyncpg.Record] | None | BaseException


def _got(found: queue.Queue[_Read]) -> list[asyncpg.Record] | None:
    item = found.get()
    if isinstance(item, BaseException):
        raise item
    return item


def _entries(found: queue.Queue[_Read]) -> Iterator[Entry]:
    while (rows := _got(found)) is not None:
        for row in rows:
            yield Entry(row["seq"], row["body"], row["leaf"], row["chain"])


async def _read(url: str, found: queue.Queue[_Read]) -> None:
    """Read checkpoints, then entries, of one moment: the house may go on sealing meanwhile."""
    connection = await asyncpg.connect(plain(url))
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found.put(await connection.fetch("SELECT note FROM audit.checkpoint ORDER BY size"))
            after = -1
            while rows := await connection.fetch(
                "SELECT seq, body, leaf, chain FROM audit.entry WHERE seq > $1 ORDER BY seq LIMIT $2",
                after,
                _CHUNK,
            ):
                found.put(rows)
                after = rows[-1]["seq"]
    finally:
        await connection.close()
