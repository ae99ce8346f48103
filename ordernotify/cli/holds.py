"""The command that shows which orders are held, since when, and who has released them so far."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from ordernotify.cli._console import fail, out, print_json
from ordernotify.settings import settings
from ordernotify.store.database import connect
from ordernotify.store.hold_questions import open_holds
from ordernotify.store.place import NoHouseError, read_urls


def holds(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False) -> None:
    """Show the orders of which clients are told no more until compliance releases them."""
    try:
        url = read_urls(settings()).app
    except NoHouseError as error:
        fail(str(error))
    found = asyncio.run(_found(url))
    if as_json:
        print_json({"holds": found})
        return
    table = Table("hold", "order", "client", "held since", "released by", "needed", "messages waiting")
    for row in found:
        table.add_row(
            str(row["hold"]),
            row["order_no"],
            row["client"],
            f"{row['held_since']:%d %b %H:%M} UTC",
            " ".join(row["released_by"]),
            str(row["needed"]),
            str(row["waiting"]),
        )
    out.print(table)


async def _found(url: str) -> list[dict[str, Any]]:
    pool = await connect(url, size=1)
    try:
        return await open_holds(pool)
    finally:
        await pool.close()
