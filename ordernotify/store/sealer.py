"""The sealer: moves accepted records into the ledger in order, and signs the tree's head.

The only code that holds the signing key, under a role that can do nothing else. Many callers may ask at once:
one transaction serves all whose records were committed before it began.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from ordernotify.clock import now
from ordernotify.core.checkpoint import LogSigner, sign_checkpoint
from ordernotify.core.merkle import Frontier, chain_next, chain_start, leaf_hash
from ordernotify.store.database import Connection, Pool

# Records sealed in one transaction, in whole groups: more would hold the lock longer without sealing faster.
GROUP = 2_000
_LOCK = 0x6F6E_7365_616C  # "onseal": one sealer at a time, whichever machine it runs on


class LedgerStoppedError(Exception):
    """The ledger cannot be continued; nothing leaves until a person has looked. The message says why."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one sealing did: records moved, and the size of the ledger since."""

    moved: int
    size: int
    last: int = 0  # the number of the last group of records that it moved


class Sealer:
    """Seals on request; ``seal`` returns when everything committed before the call is signed."""

    def __init__(self, pool: Pool, signer: LogSigner, *, origin: str, mark: Path) -> None:
        self._pool = pool
        self._signer = signer
        self._origin = origin
        self._mark = mark
        self._next: asyncio.Task[Sealed] | None = None
        self._running: asyncio.Task[Sealed] | None = None

    async def seal(self) -> Sealed:
        """Seal all that is committed by now; callers who ask while one sealing runs share the next.

        Raises LedgerStoppedError when the ledger is shorter than what was signed before.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        return await asyncio.shield(self._next)

    async def _after(self, running: asyncio.Task[Sealed] | None) -> Sealed:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        # In a burst records come as fast as they are sealed: whoever asks waits for those that were there, no longer.
        enough = await self._pool.fetchval("SELECT max(id) FROM audit.intake") or 0
        moved = 0
        while True:
            sealed = await self._once()
            moved += sealed.moved
            if not sealed.moved or sealed.last >= enough:
                return Sealed(moved, sealed.size, sealed.last)

    async def _once(self) -> Sealed:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            size, chain, frontier = await self._head(connection)
            self._check_mark(size)
            # Delete-and-return, not "greater than the last seen": a number is drawn before its commit, so a
            # lower one may appear later and would be skipped for ever.
            groups = await connection.fetch(
                "DELETE FROM audit.intake WHERE id IN (SELECT id FROM (SELECT id,"
                " sum(cardinality(event_ids)) OVER (ORDER BY id) - cardinality(event_ids) AS before"
                " FROM (SELECT id, event_ids FROM audit.intake ORDER BY id LIMIT $1) first) counted"
                " WHERE before < $1) RETURNING id, event_ids, bodies",
                GROUP,
            )
            if not groups:
                return Sealed(0, size)
            groups.sort(key=_by_id)
            entries: list[tuple[int, UUID, bytes, bytes, bytes]] = []
            for group in groups:
                for event_id, body in zip(group["event_ids"], group["bodies"], strict=True):
                    leaf = leaf_hash(body)
                    chain = chain_next(chain, leaf)
                    frontier.append(leaf)
                    entries.append((size + len(entries), event_id, body, leaf, chain))
            new_size = size + len(entries)
            root = frontier.root()
            note = sign_checkpoint(self._origin, new_size, root, self._signer)
            await connection.copy_records_to_table(
                "entry",
                schema_name="audit",
                columns=("seq", "event_id", "body", "leaf", "chain"),
                records=entries,
            )
            await connection.execute(
                "INSERT INTO audit.checkpoint (size, root, note, signed_at) VALUES ($1, $2, $3, $4)",
                new_size,
                root,
                note,
                now(),
            )
            swapped = await connection.execute(
                "UPDATE audit.head SET size = $1, chain = $2, frontier = $3 WHERE size = $4",
                new_size,
                chain,
                frontier.to_bytes(),
                size,
            )
            if swapped != "UPDATE 1":
                raise LedgerStoppedError("another sealer moved the ledger's head; nothing was written")
        # After the commit: a mark ahead of the database would forbid signing for ever.
        self._write_mark(new_size)
        return Sealed(len(entries), new_size, groups[-1]["id"])

    async def _head(self, connection: Connection) -> tuple[int, bytes, Frontier]:
        head = await connection.fetchrow("SELECT size, chain, frontier FROM audit.head")
        if head is not None:
            return head["size"], head["chain"], Frontier.from_bytes(head["size"], head["frontier"])
        start = chain_start(self._origin)
        await connection.execute("INSERT INTO audit.head (size, chain, frontier) VALUES (0, $1, $2)", start, b"")
        return 0, start, Frontier()

    def _check_mark(self, size: int) -> None:
        try:
            marked = int(self._mark.read_text("ascii").split()[0])
        except FileNotFoundError:
            return
        if size < marked:
            raise LedgerStoppedError(
                f"the ledger holds {size} records but {marked} were signed before: it was cut, or an old"
                f" backup was restored. Nothing is sent until it is whole again (high-water mark: {self._mark})"
            )

    def _write_mark(self, size: int) -> None:
        handle = os.open(self._mark, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(handle, f"{size:020d}\n".encode("ascii"), 0)
        finally:
            os.close(handle)


def load_signer(path: Path, name: str) -> LogSigner:
    """Return the ledger's signing key from ``path``; the first call draws it (32 bytes, mode 0600)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return LogSigner.from_seed(name, bytes.fromhex(path.read_text("ascii").strip()))
    with os.fdopen(handle, "w", encoding="ascii") as file:
        seed = secrets.token_bytes(32)
        file.write(seed.hex())
    return LogSigner.from_seed(name, seed)


def _by_id(row: asyncpg.Record) -> int:
    number: int = row["id"]
    return number
