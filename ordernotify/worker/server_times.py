"""How Prefect's server writes times to its database: as plain numbers, whatever class of time it holds.

Prefect's times are pendulum's, whose difference of two is an object of many parts. The driver asks for one with every
time it writes, for a tenth of all that the server does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine.interfaces import AdaptedConnection

# What PostgreSQL counts a time from, and in.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_UNIT: Final = timedelta(microseconds=1)


def write_times_plainly(pools: object) -> None:
    """Do so on every connection to come of ``pools``: SQLAlchemy's class for all, or an engine over asyncpg."""
    event.listen(pools, "connect", _instruct)


def _instruct(connection: AdaptedConnection, _record: object) -> None:
    connection.run_async(
        lambda driver: driver.set_type_codec(
            "timestamptz", schema="pg_catalog", format="tuple", encoder=_written, decoder=_read
        )
    )


def _written(time: datetime) -> tuple[int]:
    return (datetime.__sub__(time, _EPOCH) // _UNIT,)


def _read(written: tuple[int]) -> datetime:
    return _EPOCH + timedelta(microseconds=written[0])
