"""Prefect's times in PostgreSQL: written our way, they are what the driver itself writes and reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from zoneinfo import ZoneInfo

import pendulum
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from ordernotify.worker.server_times import write_times_plainly

pytestmark = pytest.mark.integration

MOMENTS = [
    datetime(1, 1, 3, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2000, 1, 1, tzinfo=UTC),
    # Either side of the end of summer in New York, where the clock says the same twice.
    datetime(2026, 11, 1, 5, 30, tzinfo=UTC),
    datetime(2026, 11, 1, 6, 30, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 29, 23, 59, 59, 999_999, tzinfo=UTC),
]
ZONES = [UTC, timezone(timedelta(hours=5, minutes=45)), ZoneInfo("America/New_York"), ZoneInfo("Pacific/Apia")]
ASK = sa.text("SELECT CAST(:time AS timestamptz) AS time, CAST(:time AS timestamptz)::text AS text")


@pytest.fixture
async def engines(urls):
    url = urls.app.replace("postgresql://", "postgresql+asyncpg://")
    plain, ours = create_async_engine(url), create_async_engine(url)
    write_times_plainly(ours.sync_engine)
    yield plain, ours
    await plain.dispose()
    await ours.dispose()


async def test_a_time_written_plainly_is_the_time_that_the_driver_writes(engines):
    plain, ours = engines
    async with plain.begin() as expected, ours.begin() as found:
        for moment, zone, of in product(MOMENTS, ZONES, (lambda time: time, pendulum.instance)):
            time = of(moment.astimezone(zone))
            row = (await found.execute(ASK, {"time": time})).one()
            assert (row.time, row.time.tzinfo) == (moment, UTC)
            # Of a time of pendulum's that is far from now the driver itself loses the last microsecond.
            assert row.text == (await expected.execute(ASK, {"time": moment})).one().text


async def test_no_time_stays_none(engines):
    async with engines[1].connect() as connection:
        assert (await connection.execute(sa.text("SELECT CAST(:time AS timestamptz)"), {"time": None})).scalar() is None
