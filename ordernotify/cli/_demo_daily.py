"""What the demo shows of the daily batch: an extract with a bad row in it, and the day's summaries."""

from __future__ import annotations

import asyncio
import csv
from datetime import timedelta
from pathlib import Path

import httpx

from ordernotify.cli._demo_input import API_KEY
from ordernotify.cli._demo_prefect import run_deployment
from ordernotify.cli._demo_result import Driven
from ordernotify.clock import now
from ordernotify.core.extracts import COLUMNS
from ordernotify.house import Addresses

_WAIT_S = 60.0
# Order, client, status: what no event announced. Nobody knows the last row's client: it is held, with its reason.
_ROWS = (
    ("EXT-1", "client-201", "processing"),
    ("EXT-2", "client-202", "shipped"),
    ("EXT-3", "client-204", "delayed"),
    ("EXT-4", "client-204", "received"),
    ("EXT-5", "client-999", "received"),
)


async def run_daily(addresses: Addresses, state_dir: Path, driven: Driven) -> None:
    """Put an extract where the house finds it, and run the day's batch and summaries as a person does."""
    await asyncio.to_thread(_write_extract, state_dir / "extracts")
    await run_deployment(addresses, state_dir, "daily-batch/daily-batch")
    async with asyncio.timeout(_WAIT_S):
        # A summary tells what is in the store, not what is on its way.
        driven.accepted += await _closed(addresses, [order for order, client, _ in _ROWS if client != _ROWS[-1][1]])
    await run_deployment(addresses, state_dir, "daily-summary/daily-summary", early=True)


def _write_extract(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    changed = now() - timedelta(hours=1)
    path = folder / f"orders-{changed.date().isoformat()}.csv"
    with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(
            {
                "order_no": order,
                "client": client,
                "status": status,
                "changed_at": changed.isoformat(timespec="seconds"),
                "promised_date": (changed + timedelta(days=9)).date().isoformat(),
                "sku": "RAD-7",
                "quantity": "2",
            }
            for order, client, status in _ROWS
        )
    # Found only when it is complete.
    path.with_suffix(".part").rename(path)


async def _closed(addresses: Addresses, orders: list[str]) -> int:
    """Wait until the events of these orders are closed; returns how many there are."""
    async with httpx.AsyncClient(base_url=addresses.web, trust_env=False, timeout=20) as client:
        for order in orders:
            while True:
                answer = await client.get(f"/api/v1/orders/{order}", headers={"x-api-key": API_KEY})
                events = [event for one in (answer.json() if answer.is_success else []) for event in one["events"]]
                if events and all(event["state"] == "closed" for event in events):
                    break
                await asyncio.sleep(0.2)
    return len(orders)
