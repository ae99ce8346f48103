"""All daily summaries at once: 100,000 open orders of 2,000 clients, everything on this machine.

Prints the seconds until every summary is at the stub, how many they were, and the largest memory of each process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx

from benchmarks.burst import cpu_s
from ordernotify.clock import now
from ordernotify.house import House
from ordernotify.settings import Settings
from ordernotify.store.setup import plain
from ordernotify.supervisor import free_port, wait_http

ORDERS, CLIENTS = 100_000, 2_000
STATUSES = ("received", "processing", "processing", "shipped", "out_for_delivery", "delayed", "backordered")
ZONES = ("America/New_York", "Europe/Madrid", "Asia/Kolkata", "Australia/Lord_Howe", "UTC")
DEPLOYMENT = "daily-summary/daily-summary"


def main() -> None:
    """Run the bench and print its figures as JSON."""
    port = free_port(8499)
    stub = subprocess.Popen([sys.executable, "-m", "benchmarks.stub", str(port)])
    folder = Path(tempfile.mkdtemp(prefix="ordernotify-bench-"))
    house = House(
        Settings(state_dir=folder),
        say=lambda text: print(text, file=sys.stderr),
        extra_environment={
            "ORDERNOTIFY_SENDGRID_BASE_URL": f"http://127.0.0.1:{port}",
            "ORDERNOTIFY_SENDGRID_API_KEY": "SG.bench",
            "ORDERNOTIFY_SENDGRID_FROM_EMAIL": "orders@northgate.example",
        },
    )
    try:
        wait_http(f"http://127.0.0.1:{port}/count", 10)
        house.start()
        print(json.dumps(asyncio.run(_daily(house, port, stub.pid)), indent=2))
    finally:
        house.stop()
        house.forget()
        shutil.rmtree(folder, ignore_errors=True)
        stub.terminate()
        stub.wait()


async def _daily(house: House, port: int, stub_pid: int) -> dict[str, object]:
    connection = await asyncpg.connect(plain(house.urls.app))
    print(f"writing {ORDERS} orders of {CLIENTS} clients", file=sys.stderr)
    await _fill(connection)
    pids = {**house.pids(), "stub": stub_pid}
    largest: Counter[str] = Counter()
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    began = time.perf_counter()
    await _start(house)
    async with httpx.AsyncClient(trust_env=False) as client:
        arrived, told = 0, 0.0
        while arrived < CLIENTS and time.perf_counter() - began < 180:
            await asyncio.sleep(0.1)
            arrived = int((await client.get(f"http://127.0.0.1:{port}/count")).text.split()[0])
            largest |= Counter({name: _resident_mib(pid) for name, pid in pids.items()})
            if time.perf_counter() - told > 2:
                told = time.perf_counter()
                print(f"{told - began:5.1f} s: {arrived} of {CLIENTS} summaries sent", file=sys.stderr)
        sent_s = time.perf_counter() - began
        distinct = int((await client.get(f"http://127.0.0.1:{port}/count")).text.split()[1])
    while await connection.fetchval("SELECT count(*) FROM delivery WHERE status <> 'sent'"):
        await asyncio.sleep(0.1)
    after = {name: cpu_s(pid) for name, pid in pids.items()}
    recorded_s = time.perf_counter() - began
    size = await connection.fetchval("SELECT avg(length(body))::int FROM message")
    await connection.close()
    return {
        "when": now().isoformat(timespec="seconds"),
        "orders": ORDERS,
        "clients": CLIENTS,
        "all_sent_s": round(sent_s, 1),
        "all_recorded_s": round(recorded_s, 1),
        "messages_at_stub": arrived,
        "distinct_at_stub": distinct,
        "bytes_a_message": size,
        "cpu_s": {name: round(after[name] - before[name], 1) for name in pids},
        "largest_resident_mib": dict(largest),
        "largest_resident_mib_of_all": sum(largest.values()),
    }


async def _fill(connection: asyncpg.Connection) -> None:
    """Write clients, their people and their open orders, in one transaction: the house's schedule sees all or none."""
    came = now() - timedelta(days=30)
    clients = [f"client-{number:04}" for number in range(CLIENTS)]
    async with connection.transaction():
        await connection.execute("INSERT INTO channel (platform, level) VALUES ('sendgrid', 1)")
        await connection.copy_records_to_table(
            "client",
            columns=("id", "name", "language", "time_zone", "summary_at", "created_at"),
            records=[
                (name, name.title(), ("en", "es")[n % 2], ZONES[n % len(ZONES)], "00:00", came)
                for n, name in enumerate(clients)
            ],
        )
        await connection.copy_records_to_table(
            "recipient",
            columns=("id", "client_id", "name", "language"),
            records=[(f"{name}.ann", name, "Ann Lee", ("en", "es")[n % 2]) for n, name in enumerate(clients)],
        )
        await connection.copy_records_to_table(
            "contact_point",
            columns=("id", "recipient_id", "channel", "platform", "address", "verified", "consent", "summary"),
            records=[
                (f"{name}.mail", f"{name}.ann", "email", "sendgrid", f"ann@{name}.example", True, "granted", True)
                for name in clients
            ],
        )
        await connection.copy_records_to_table(
            "orders",
            columns=(
                *("id", "client_id", "order_no", "label", "status", "status_at", "carrier", "tracking_no"),
                *("promised_date", "version"),
            ),
            records=[_order(number, clients[number % CLIENTS]) for number in range(ORDERS)],
        )
    await connection.execute("ANALYZE")


def _order(number: int, client: str) -> tuple[object, ...]:
    status = STATUSES[number // CLIENTS % len(STATUSES)]
    changed = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=number % 20_000)
    carrier, tracking = ("UPS", f"1Z999AA1{number:010}") if status in {"shipped", "out_for_delivery"} else ("", "")
    promised = (changed + timedelta(days=number % 60)).date().isoformat()
    return uuid.uuid4(), client, f"SO-{number:06}", "internal", status, changed, carrier, tracking, promised, 1


async def _start(house: House) -> None:
    """Start the run that finds who is due, as a person does in Prefect's UI."""
    password = (house.settings.state_dir / "keys" / "prefect.password").read_text().strip()
    async with httpx.AsyncClient(
        base_url=f"{house.addresses.prefect}/api", auth=("ordernotify", password), trust_env=False, timeout=30
    ) as client:
        name = str(uuid.uuid4())
        token = (await client.get("/csrf-token", params={"client": name})).json()["token"]
        headers = {"prefect-csrf-client": name, "prefect-csrf-token": token}
        deployment = (await client.get(f"/deployments/name/{DEPLOYMENT}")).json()["id"]
        answer = await client.post(f"/deployments/{deployment}/create_flow_run", json={}, headers=headers)
        answer.raise_for_status()


def _resident_mib(pid: int) -> int:
    """Return the memory of a process and its children; what several share counts in parts."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0
    total = 0
    for each in (pid, *children):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total // 1024


if __name__ == "__main__":
    main()
