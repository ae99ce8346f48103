"""One platform hangs 30 s on every call while 20 events arrive each second for a minute: what the others feel.

Prints, for each other platform, p50 and p99 from the webhook to the platform's arrival as the vendor saw it where
it can name the message, and that nothing was lost once the platform answers again.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx

from ordernotify.house import House
from ordernotify.settings import Settings
from ordernotify.store.setup import plain

KEY = "bench"
PER_SECOND = 20
SECONDS = 60
HUNG = "twilio"
PLATFORMS = {
    "twilio": ("sms", "+12025550123"),
    "sendgrid": ("email", "ann@acme.example"),
    "slack": ("chat", "https://hooks.slack.com/services/T000DEMO/B000BENCH/0123456789abcdef01234567"),
    "teams": (
        "chat",
        (
            "https://prod.01.environment.api.powerplatform.com/powerautomate/automations/direct/workflows/"
            "0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke?api-version=1"
            "&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=bench"
        ),
    ),
}


def main() -> None:
    """Run the bench and print its figures as JSON."""
    folder = Path(tempfile.mkdtemp(prefix="ordernotify-bench-"))
    house = House(
        Settings(state_dir=folder, api_keys=KEY),
        say=lambda text: print(text, file=sys.stderr),
        with_sandbox=True,
        extra_environment={"ORDERNOTIFY_API_KEYS": KEY},
    )
    try:
        house.start()
        print(json.dumps(asyncio.run(_measure(house)), indent=2))
    finally:
        house.stop()
        house.forget()
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(house: House) -> dict[str, object]:
    headers = {"x-api-key": KEY}
    sandbox = httpx.AsyncClient(base_url=house.addresses.sandbox, trust_env=False, timeout=30)
    async with (
        httpx.AsyncClient(base_url=house.addresses.web, headers=headers, trust_env=False, timeout=30) as web,
        sandbox,
    ):
        contacts = [
            {"key": name, "channel": channel, "platform": name, "address": address, "verified": True,
             "consent": "granted"}
            for name, (channel, address) in PLATFORMS.items()
        ]  # fmt: skip
        recipient = {"id": "ann", "name": "Ann", "contacts": contacts}
        answer = await web.put("/api/v1/clients/acme", json={"name": "Acme", "recipients": [recipient]})
        answer.raise_for_status()
        await web.post("/api/v1/events", json=_event("warm"))
        await asyncio.sleep(3)
        await sandbox.post("/_control/reset")
        await sandbox.post(f"/_control/{HUNG}/fault", json={"fault": "hang", "hang_seconds": 30})
        total = PER_SECOND * SECONDS
        began = time.perf_counter()
        for number in range(total):
            (await web.post("/api/v1/events", json=_event(str(number)))).raise_for_status()
            if number % (PER_SECOND * 10) == 0:
                print(f"{number} of {total} events sent", file=sys.stderr)
            await asyncio.sleep(max(0.0, began + (number + 1) / PER_SECOND - time.perf_counter()))
        await asyncio.sleep(5)
        felt = await _felt(house)
        await sandbox.request("DELETE", f"/_control/{HUNG}/fault")
        left = await _drained(house, total)
        counts = (await sandbox.get("/_control/counts")).json()
    return {
        "events": total,
        "hung": HUNG,
        "others": felt,
        "open_after_recovery": left,
        "at_vendors": {
            name: {"taken": counts[name]["taken"], "duplicates": counts[name]["duplicates"]} for name in PLATFORMS
        },
    }


async def _felt(house: House) -> dict[str, dict[str, float]]:
    connection = await asyncpg.connect(plain(house.urls.reader))
    rows = await connection.fetch(
        "SELECT d.platform, extract(epoch FROM a.started_at - e.received_at) * 1000 AS ms FROM delivery d"
        " JOIN attempt a ON a.delivery_id = d.id AND a.number = 1 JOIN event e ON e.id = d.event_id"
        " WHERE d.platform <> $1 AND e.dedupe_key <> 'e-warm' ORDER BY 1, 2",
        HUNG,
    )
    await connection.close()
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["platform"], []).append(float(row["ms"]))
    return {
        name: {
            "deliveries": len(waits),
            "p50_ms": round(waits[len(waits) // 2]),
            "p99_ms": round(waits[len(waits) * 99 // 100]),
        }
        for name, waits in found.items()
    }


async def _drained(house: House, total: int) -> int:
    connection = await asyncpg.connect(plain(house.urls.reader))
    deadline = time.perf_counter() + 120
    left = total
    while left and time.perf_counter() < deadline:
        left = await connection.fetchval(
            "SELECT count(*) FROM delivery WHERE status NOT IN ('sent', 'delivered', 'read')"
        )
        await asyncio.sleep(0.5)
    await connection.close()
    return left


def _event(name: str) -> dict[str, object]:
    return {
        "id": f"e-{name}",
        "order_id": f"SO-{name}",
        "client": "acme",
        "status": "received",
        "label": "PUBLIC",
        "occurred_at": "2026-01-01T00:00:00Z",
    }


if __name__ == "__main__":
    main()
