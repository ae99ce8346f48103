"""Quotas: how many calls a carrier allows in a time, counted for all machines together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ordernotify.carriers._base import Quota
from ordernotify.store.database import Pool

# Each period is counted in so many slots; the one that is running out counts whole, so that no window is exceeded.
_SLOTS: Final = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def grant(pool: Pool, carrier: str, quota: Sequence[Quota], *, at: datetime) -> datetime | None:
    """Count one call to ``carrier`` and return None, or return when one may be possible again.

    Machines that ask at the same time wait for each other, so that together they stay within the quota.
    """
    if not quota:
        return None
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"quota {carrier}")
        for one in quota:
            slot = timedelta(seconds=one.seconds) / _SLOTS
            begin = _slot_of(at, slot) - timedelta(seconds=one.seconds)
            used = await connection.fetchval(
                "SELECT coalesce(sum(calls), 0) FROM carrier_use WHERE carrier = $1 AND seconds = $2 AND slot >= $3",
                carrier,
                one.seconds,
                begin,
            )
            if used >= one.calls:
                return _slot_of(at, slot) + slot
        for one in quota:
            slot = timedelta(seconds=one.seconds) / _SLOTS
            await connection.execute(
                "INSERT INTO carrier_use (carrier, seconds, slot, calls) VALUES ($1, $2, $3, 1)"
                " ON CONFLICT (carrier, seconds, slot) DO UPDATE SET calls = carrier_use.calls + 1",
                carrier,
                one.seconds,
                _slot_of(at, slot),
            )
        # What is older than its period is of no use any more.
        await connection.execute(
            "DELETE FROM carrier_use WHERE carrier = $1"
            " AND slot < $2::timestamptz - make_interval(secs => 2 * seconds)",
            carrier,
            at,
        )
    return None


def _slot_of(at: datetime, slot: timedelta) -> datetime:
    return _EPOCH + (at - _EPOCH) // slot * slot
