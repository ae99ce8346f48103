"""A burst of 10,000 events to one platform, everything on this machine, beside bare loops against the same stub.

Three times, each in a new house. Prints deliveries per second, the ratio to a loop of the HTTP client alone and to one
of our wire, the CPU of each process per delivery, and the resident memory of web and worker afterwards, of the burst
whose ratio is the middle one.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport

from ordernotify.clock import now
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Message
from ordernotify.core.events import OrderStatus
from ordernotify.house import House
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Call, Context
from ordernotify.settings import Settings, platform_settings
from ordernotify.store.setup import plain
from ordernotify.supervisor import free_port, wait_http
from ordernotify.wire import Wire

EVENTS = 10_000
ROUNDS = 3
PER_POST = 500
CONNECTIONS = 96
KEY = "bench"
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the bench and print its figures as JSON."""
    port = free_port(8499)
    stub = subprocess.Popen([sys.executable, "-m", "benchmarks.stub", str(port)])
    try:
        wait_http(f"http://127.0.0.1:{port}/count", 10)
        rounds = []
        for number in range(ROUNDS):
            print(f"burst {number + 1} of {ROUNDS}", file=sys.stderr)
            rounds.append(_in_a_new_house(port, stub.pid))
        median = sorted(rounds, key=lambda result: result["ratio_to_bare"])[ROUNDS // 2]
        of_all = {
            name: [result[name] for result in rounds] for name in ("deliveries_per_s", "bare_per_s", "ratio_to_bare")
        }
        print(json.dumps(median | {"of_all": of_all}, indent=2))
    finally:
        stub.terminate()
        stub.wait()


def _in_a_new_house(port: int, stub_pid: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="ordernotify-bench-"))
    house = House(
        Settings(state_dir=folder, api_keys=KEY),
        say=lambda text: print(text, file=sys.stderr),
        extra_environment={
            "ORDERNOTIFY_API_KEYS": KEY,
            **_twilio(port),
            "ORDERNOTIFY_HTTP_CONNECTIONS": str(CONNECTIONS),
        },
    )
    try:
        house.start()
        asyncio.run(_onboard(house))
        before = _loops(port)
        result = asyncio.run(_burst(house, port, stub_pid))
        result["resident_mib"] = {name: _resident_mib(house.pids()[name]) for name in ("web", "worker")}
        # A machine that others share is not equally fast all the time: each burst stands between its own loops.
        for name, *rates in zip(("bare", "wire"), before, _loops(port), strict=True):
            rate = sum(rates) / 2
            result[f"{name}_per_s"] = round(rate)
            result[f"ratio_to_{name}"] = round(result["deliveries_per_s"] / rate, 2)
        return result
    finally:
        house.stop()
        house.forget()
        shutil.rmtree(folder, ignore_errors=True)


def _call(port: int) -> Call:
    """Return the request that every delivery makes."""
    platform = PLATFORMS["twilio"]
    configured = platform_settings(platform, _twilio(port))
    context = Context(settings=configured, now=now(), webhook_url="http://127.0.0.1:8420/webhooks/twilio")
    return next(platform.send([_message()], context))


async def _bare(port: int) -> float:
    """Return requests per second of the HTTP client alone: httpx over aiohttp's transport, as their pages show it."""
    call = _call(port)
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=30, trust_env=False) as client:
        return await _rate(lambda: client.request(call.method, call.url, headers=call.headers, content=call.body))


async def _through_the_wire(port: int) -> float:
    """Return requests per second of the same loop through our wire, which leaves out what no call of ours needs."""
    call = _call(port)
    async with Wire(timeout_s=30, connections=CONNECTIONS) as wire:
        return await _rate(lambda: wire.call("bare", call))


async def _rate(make: Callable[[], Awaitable[object]]) -> float:
    left = iter(range(EVENTS))

    async def one() -> None:
        for _ in left:
            await make()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return EVENTS / (time.perf_counter() - began)


def _twilio(port: int) -> dict[str, str]:
    return {
        "ORDERNOTIFY_TWILIO_BASE_URL": f"http://127.0.0.1:{port}",
        "ORDERNOTIFY_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "ORDERNOTIFY_TWILIO_AUTH_TOKEN": "bench",
        "ORDERNOTIFY_TWILIO_FROM_NUMBER": "+12025550100",
    }


def _message() -> Message:
    return Message(
        delivery_id="0",
        reference="0" * 32,
        channel=Channel.SMS,
        to="+12025550123",
        status=OrderStatus.RECEIVED,
        language="en",
        text="Northgate Defense: we have received order SO-1000. https://portal.example.com/ Reply STOP to opt out.",
    )


def _loops(port: int) -> tuple[float, float]:
    return uvloop.run(_bare(port)), uvloop.run(_through_the_wire(port))


def _client(house: House) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=house.addresses.web, headers={"x-api-key": KEY}, timeout=60, trust_env=False)


async def _onboard(house: House) -> None:
    contact = {
        "key": "phone",
        "channel": "sms",
        "platform": "twilio",
        "address": "+12025550123",
        "verified": True,
        "consent": "granted",
    }
    body = {"name": "Acme", "recipients": [{"id": "ann", "name": "Ann", "contacts": [contact]}]}
    async with _client(house) as client:
        (await client.put("/api/v1/parts", json=[{"sku": "RAD-7"}])).raise_for_status()
        (await client.put("/api/v1/clients/acme", json=body)).raise_for_status()
        (await client.post("/api/v1/events", json=_event("warm"))).raise_for_status()
    await asyncio.sleep(3)


async def _burst(house: House, port: int, stub_pid: int) -> dict[str, Any]:
    groups = [
        json.dumps([_event(str(n)) for n in range(first, first + PER_POST)]) for first in range(0, EVENTS, PER_POST)
    ]
    pids = {**house.pids(), "stub": stub_pid}
    async with _client(house) as client:
        await client.post(f"http://127.0.0.1:{port}/reset")
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        began = time.perf_counter()
        for group in groups:
            (await client.post("/api/v1/events", content=group)).raise_for_status()
        accepted_s = time.perf_counter() - began
        while int((await client.get(f"http://127.0.0.1:{port}/count")).text.split()[0]) < EVENTS:
            if time.perf_counter() - began > 120:
                break
            await asyncio.sleep(0.05)
        sent_s = time.perf_counter() - began
        seen, distinct = (await client.get(f"http://127.0.0.1:{port}/count")).text.split()
    connection = await asyncpg.connect(plain(house.urls.app))
    while await connection.fetchval("SELECT count(*) FROM delivery WHERE status = 'sending'"):
        await asyncio.sleep(0.1)
    recorded_s = time.perf_counter() - began
    await connection.close()
    after = {name: cpu_s(pid) for name, pid in pids.items()}
    return {
        "when": now().isoformat(timespec="seconds"),
        "events": EVENTS,
        "accepted_s": round(accepted_s, 2),
        "all_sent_s": round(sent_s, 2),
        "all_recorded_s": round(recorded_s, 2),
        "deliveries_per_s": round(EVENTS / sent_s),
        "requests_at_stub": int(seen),
        "distinct_at_stub": int(distinct),
        "cpu_ms_per_delivery": {name: round((after[name] - before[name]) * 1000 / EVENTS, 3) for name in pids},
    }


def _event(name: str) -> dict[str, object]:
    return {
        "id": f"e-{name}",
        "order_id": f"SO-{name}",
        "client": "acme",
        "status": "received",
        "label": "PUBLIC",
        "occurred_at": "2026-01-01T00:00:00Z",
    }


def cpu_s(pid: int) -> float:
    """Return user and system seconds of a process and, for PostgreSQL, of its children."""
    total = 0.0
    for each in (pid, *_children(pid)):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _resident_mib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return 0


if __name__ == "__main__":
    main()
