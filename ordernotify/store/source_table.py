"""Source table: an order extract that lies in a table of another database, written down as the day's file."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import tempfile
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from ordernotify.core.extracts import COLUMNS, REQUIRED

_NAME: Final = re.compile(r"(?:(?P<schema>[A-Za-z_]\w{0,62})\.)?(?P<table>[A-Za-z_]\w{0,62})", re.ASCII)
_AT_A_TIME: Final = 2_000
# By the words in front of a URL, what speaks to it without blocking.
_DRIVERS: Final[Mapping[str, str]] = {
    "postgresql://": "postgresql+asyncpg://",
    "postgres://": "postgresql+asyncpg://",
    "sqlite://": "sqlite+aiosqlite://",
}


class TableUnreadableError(Exception):
    """The table cannot be read as an extract; the message says what would be right, never a value."""


def file_of(table: str, day: date) -> str:
    """Return the name of the file that holds a table as it was on a day."""
    return f"{table.replace('.', '_')}-{day.isoformat()}.csv"


async def write_down(url: str, table: str, path: Path) -> int:
    """Write the table or view ``table`` (``name`` or ``schema.name``) to ``path`` as CSV; returns the rows.

    It is read in one transaction that changes nothing, row by row, and only in the columns of an extract. The
    file is there complete or not at all. Raises TableUnreadableError for a name that is none and for missing
    columns, and what the database raises.
    """
    found = _NAME.fullmatch(table)
    if found is None:
        raise TableUnreadableError("extracts_sql_table must be a name such as orders or erp.open_orders")
    for plain, driver in _DRIVERS.items():
        if url.startswith(plain):
            url = driver + url.removeprefix(plain)
    # As names, which the dialect quotes; never as text of a statement.
    chosen: sa.Select[Any] = sa.select(sa.literal_column("*")).select_from(
        sa.table(found["table"], schema=found["schema"])
    )
    engine = create_async_engine(url)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
            async with engine.connect() as connection:
                if engine.dialect.name == "postgresql":
                    await connection.execute(sa.text("SET TRANSACTION READ ONLY"))
                async with connection.stream(chosen) as rows:
                    names = {key.lower(): key for key in rows.keys() if key.lower() in COLUMNS}  # noqa: SIM118 - of a result
                    if not set(REQUIRED) <= names.keys():
                        raise TableUnreadableError(f"the table must have the columns {', '.join(REQUIRED)}")
                    writer = csv.writer(file)
                    writer.writerow(names)
                    count = 0
                    async for some in rows.mappings().partitions(_AT_A_TIME):
                        writer.writerows([_cell(row[key]) for key in names.values()] for row in some)
                        count += len(some)
        os.replace(name, path)  # noqa: PTH105 - a moment's work
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - likewise
        await engine.dispose()
    return count


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime() | date():
            return value.isoformat()
        case _:
            return str(value)
