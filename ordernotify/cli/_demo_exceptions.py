"""What the demo shows of exceptions: a promise that passed, an order that waits for stock, one that is held."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from ordernotify.cli._demo_input import API_KEY
from ordernotify.cli._demo_prefect import run_deployment
from ordernotify.cli._demo_result import Driven
from ordernotify.clock import now
from ordernotify.house import Addresses

_CLIENT = "client-202"
_DEPLOYMENT = "exception-sweep/exception-sweep"
_WAIT_S = 40.0


async def sweep_exceptions(addresses: Addresses, state_dir: Path, driven: Driven) -> None:
    """Post three orders that need attention, and run the exception sweep as a person does from Prefect's UI."""
    ids = await _post_orders(addresses, driven)
    await _closed(addresses, ids)
    await run_deployment(addresses, state_dir, _DEPLOYMENT)


async def _post_orders(addresses: Addresses, driven: Driven) -> list[str]:
    today = now()
    orders: list[dict[str, Any]] = [
        {"order_id": "EXC-1", "status": "processing", "promised_date": (today - timedelta(days=2)).date().isoformat()},
        {"order_id": "EXC-2", "status": "backordered"},
        {"order_id": "EXC-3", "status": "regulatory_hold"},
        # Held: this is told when compliance has released the order, and not before.
        {"order_id": "EXC-3", "status": "processing"},
    ]
    taken: list[str] = []
    async with httpx.AsyncClient(base_url=addresses.web, trust_env=False, timeout=20) as client:
        for number, order in enumerate(orders):
            event = {
                "id": f"exception-{number}",
                "client": _CLIENT,
                "label": "internal",
                "occurred_at": (today - timedelta(days=3) + timedelta(minutes=number)).isoformat(),
                **order,
            }
            answer = await client.post("/api/v1/events", json=event, headers={"x-api-key": API_KEY})
            driven.accepted += len(answer.json()["accepted"])
            taken += answer.json()["accepted"]
    return taken


async def _closed(addresses: Addresses, ids: list[str]) -> None:
    """Wait until the orders are known: a sweep sees what is in the store, not what is on its way."""
    async with (
        httpx.AsyncClient(base_url=addresses.web, trust_env=False, timeout=20) as client,
        asyncio.timeout(_WAIT_S),
    ):
        waiting = set(ids)
        while waiting:
            for order in ("EXC-1", "EXC-2", "EXC-3"):
                answer = await client.get(f"/api/v1/orders/{order}", headers={"x-api-key": API_KEY})
                found = answer.json() if answer.is_success else []
                waiting -= {event["id"] for one in found for event in one["events"] if event["state"] == "closed"}
            await asyncio.sleep(0.2)
