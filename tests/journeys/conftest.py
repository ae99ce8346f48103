"""One real house for the journeys: started as a person starts it, watched and hurt from outside."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import pytest

from ordernotify.clock import now
from ordernotify.sandbox.app import environment
from ordernotify.sandbox.senders import standard_webhooks_request
from ordernotify.store import cluster
from ordernotify.store.setup import plain
from ordernotify.supervisor import free_port
from ordernotify.worker.standing_by import AHEAD

ROOT = Path(__file__).resolve().parents[2]
KEY = {"x-api-key": "journey"}
SECRET = f"whsec_{base64.b64encode(b'a secret of the journeys, 32 byte').decode()}"
ENDED = ("sent", "delivered", "read")
BEGAN = datetime(2026, 11, 2, 9, tzinfo=UTC)


async def first_true(ask, within_s=60.0):
    """Return the first answer that is true; fails after ``within_s`` seconds with the last one."""
    deadline = time.monotonic() + within_s
    while True:
        answer = await ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within_s} s: {ask.__qualname__} said {answer!r}"
        await asyncio.sleep(0.1)


class RunningHouse:
    """A house in a child process, with its state below a folder of its own (with a space in its name)."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state of the house"
        self.ports = {name: free_port(0) for name in ("PORT", "PREFECT_PORT", "SANDBOX_PORT")}
        self.web_url, self.prefect_url, self.sandbox_url = (f"http://127.0.0.1:{port}" for port in self.ports.values())
        self.process = None
        # Every value that must never be seen outside the store and the vendors; tests add theirs.
        self.private = set()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ORDERNOTIFY_", "PREFECT_"))},
            **{f"ORDERNOTIFY_{name}": str(port) for name, port in self.ports.items()},
            "ORDERNOTIFY_STATE_DIR": str(self.state),
            "ORDERNOTIFY_API_KEYS": KEY["x-api-key"],
            "ORDERNOTIFY_STANDARD_WEBHOOKS_WEBHOOK_SECRET": SECRET,
            # Few, so that more than a handful of summaries is cut into runs of the work pool.
            "ORDERNOTIFY_SUMMARY_CLIENTS_A_RUN": "4",
            "NO_COLOR": "1",
        }

    until = staticmethod(first_true)

    # ---- life ----

    def start(self):
        with (self.folder / "serve.log").open("ab") as log:
            seen = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ordernotify", "serve", "--sandbox"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while "ready " not in self.said(seen):
            assert self.process.poll() is None, self.said(seen)
            assert time.monotonic() < deadline, self.said(seen)
            time.sleep(0.1)

    def said(self, since=0):
        return (self.folder / "serve.log").read_bytes()[since:].decode("utf-8", "replace")

    def stop(self, number=signal.SIGTERM, within_s=60):
        """Signal the house itself and wait for its end; returns its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(within_s)
        self.process = None
        return code

    def pid(self, part):
        if part == "postgres":
            running = cluster.status(self.state / "database")
            return running.pid if running else None
        children = json.loads((self.state / "services" / "supervisor.json").read_text())["children"]
        return {child["name"]: child["pid"] for child in children}.get(part)

    def kill(self, part):
        """Kill -9 one process of the house; returns its id."""
        pid = self.pid(part)
        assert pid is not None, f"{part} does not run"
        os.kill(pid, signal.SIGKILL)
        return pid

    async def back(self, part, dead):
        """Wait until a killed part works again, under another id."""

        async def reborn():
            with suppress(FileNotFoundError, json.JSONDecodeError):
                return self.pid(part) not in {None, dead} and await self.works(part)

        await first_true(reborn)

    async def works(self, part):
        """Return whether a part does its work."""
        if part == "worker":
            ready = self.state / "worker.ready"
            return ready.exists() and ready.read_text() == str(self.pid("worker"))
        with suppress(OSError, httpx.TransportError, asyncpg.PostgresError):
            if part == "postgres":
                return bool(await self.fetch("SELECT 1"))
            url = {"web": f"{self.web_url}/readyz", "prefect": f"{self.prefect_url}/api/health"}[part]
            password = (self.state / "keys" / "prefect.password").read_text().strip()
            async with httpx.AsyncClient(auth=("ordernotify", password), trust_env=False, timeout=5) as client:
                return (await client.get(url)).status_code == 200
        return False

    def processes(self):
        """Return what runs with this house's folder in its command or environment (Linux)."""
        mine = str(self.state).encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if mine in command or mine in (entry / "environ").read_bytes():
                    found[int(entry.name)] = command.replace(b"\0", b" ").decode("utf-8", "replace")
        found.pop(os.getpid(), None)
        return found

    def shared_memory(self):
        """Return the files by which PostgreSQL shares memory between its processes (Linux)."""
        maps = Path(f"/proc/{self.pid('postgres')}/maps")
        lines = maps.read_text().splitlines() if maps.exists() else []
        return {Path(line.split()[-1]) for line in lines if "/dev/shm/" in line}  # noqa: S108 - looked at, not used

    def logs(self):
        """Return every log of the house by name, PostgreSQL's own included."""
        home = cluster.status(self.state / "database").home
        files = [*(self.state / "logs").iterdir(), *home.glob("server.log*"), self.folder / "serve.log"]
        return {file.name: file.read_text("utf-8", "replace") for file in files}

    # ---- what a person or a vendor does ----

    def web(self):
        return httpx.AsyncClient(base_url=self.web_url, headers=KEY, trust_env=False, timeout=15)

    def prefect(self):
        return Prefect(self)

    async def onboard(self, client, *, summary_at="", **contacts):
        """Make a client of one person with ``platform=address``; both become private values."""
        channels = {"twilio": "sms", "sendgrid": "email", "slack": "chat"}
        person = {
            "id": f"{client}-person",
            "name": f"Person Of {client.title()}",
            "contacts": [
                {"key": name, "channel": channels[name], "platform": name, "address": address, "verified": True,
                 "consent": "granted"}
                for name, address in contacts.items()
            ],
        }  # fmt: skip
        self.private |= {*contacts.values(), person["name"]}
        body = {"name": client.title(), "summary_at": summary_at, "recipients": [person]}
        async with self.web() as web:
            answer = await web.put(f"/api/v1/clients/{client}", json=body)
            assert answer.status_code == 204, answer.text

    async def post(self, client, order, status="received", **more):
        """Post one event to the JSON API and return its id."""
        event = {"id": f"{order}/{status}", "order_id": order, "client": client, "status": status, "label": "public",
                 "occurred_at": "2026-11-02T09:00:00Z", **more}  # fmt: skip
        self.private.add(order)
        async with self.web() as web:
            answer = await web.post("/api/v1/events", json=event)
            assert answer.status_code == 202, answer.text
            return uuid.UUID(answer.json()["accepted"][0])

    async def webhook(self, web, client, order, status, *, message_id):
        """Post one signed webhook as a shop does; returns the answer."""
        self.private.add(order)
        data = {"order_id": order, "client": client, "status": status, "label": "public"}
        headers, body = standard_webhooks_request(
            f"order.{status}", data, secret=SECRET, message_id=message_id, occurred_at=BEGAN, sent_at=now()
        )
        return await web.post("/webhooks/standard_webhooks", headers=headers, content=body)

    async def slow_down(self, platform, seconds):
        """Let a vendor take its time over every answer, so that messages are on the wire when something is killed."""
        async with httpx.AsyncClient(base_url=self.sandbox_url, trust_env=False) as sandbox:
            order = {"fault": "hang", "hang_seconds": seconds}
            assert (await sandbox.post(f"/_control/{platform}/fault", json=order)).is_success

    async def hurry(self, platform):
        """Let a vendor answer at once again."""
        async with httpx.AsyncClient(base_url=self.sandbox_url, trust_env=False) as sandbox:
            await sandbox.delete(f"/_control/{platform}/fault")

    async def counts(self, platform):
        async with httpx.AsyncClient(base_url=self.sandbox_url, trust_env=False) as sandbox:
            return (await sandbox.get("/_control/counts")).json()[platform]

    async def references(self, platform):
        async with httpx.AsyncClient(base_url=self.sandbox_url, trust_env=False, timeout=15) as sandbox:
            return (await sandbox.get(f"/_control/{platform}/references")).json()

    async def taken(self, platform, to):
        async with httpx.AsyncClient(base_url=self.sandbox_url, trust_env=False) as sandbox:
            return len((await sandbox.get(f"/_control/{platform}/taken", params={"to": to, "limit": 1000})).json())

    # ---- what the store says ----

    async def fetch(self, query, *values, role="reader"):
        urls = json.loads((self.state / "urls.json").read_text())
        connection = await asyncpg.connect(plain(urls[role]))
        try:
            return await connection.fetch(query, *values)
        finally:
            await connection.close()

    async def settled(self, event_ids, within_s=60.0):
        """Wait until the events are closed and every delivery of them has ended well."""
        wanted = list(event_ids)

        async def ended():
            (row,) = await self.fetch(
                "SELECT (SELECT count(*) FROM event WHERE id = ANY($1) AND state <> 'closed')"
                " + (SELECT count(*) FROM delivery WHERE event_id = ANY($1) AND status <> ALL($2)) AS open",
                wanted,
                ENDED,
            )
            return row["open"] == 0

        await first_true(ended, within_s)

    def run(self, *arguments):
        """Run a command of ours beside the house, and return how it ended."""
        return subprocess.run(
            [sys.executable, "-m", "ordernotify", *arguments],
            cwd=ROOT,
            env=self.environment | environment(self.sandbox_url),
            capture_output=True,
            text=True,
            timeout=120,
        )


class Prefect:
    """Prefect's API as its UI speaks it."""

    def __init__(self, house):
        user, password = "ordernotify", (house.state / "keys" / "prefect.password").read_text().strip()
        self.login = f"{user}:{password}"
        self.client = httpx.AsyncClient(
            base_url=f"{house.prefect_url}/api", auth=(user, password), trust_env=False, timeout=30
        )

    async def __aenter__(self):
        name = str(uuid.uuid4())
        token = (await self.client.get("/csrf-token", params={"client": name})).json()["token"]
        self.client.headers.update({"prefect-csrf-client": name, "prefect-csrf-token": token})
        return self

    async def __aexit__(self, *_details):
        await self.client.aclose()

    async def create(self, **parameters):
        """Create a run of the order-event deployment, as "Run" in the UI does; returns its id."""
        deployment = (await self.client.get("/deployments/name/order-event/order-event")).json()["id"]
        answer = await self.client.post(f"/deployments/{deployment}/create_flow_run", json={"parameters": parameters})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def save_block(self, slug, name, data):
        """Save a Block as the form of its type does."""
        kind = (await self.client.get(f"/block_types/slug/{slug}")).json()["id"]
        of_kind = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
        schema = (await self.client.post("/block_schemas/filter", json=of_kind)).json()[0]["id"]
        block = {"name": name, "data": data, "block_type_id": kind, "block_schema_id": schema}
        answer = await self.client.post("/block_documents/", json=block)
        assert answer.status_code == 201, answer.text

    async def retry(self, run):
        """Press Retry."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
        answer = await self.client.post(f"/flow_runs/{run}/set_state", json={"state": state})
        assert answer.json()["status"] == "ACCEPT", answer.text

    async def standing(self):
        """Return the ids of the runs that stand by, once all do."""
        named = {"flow_runs": {"state": {"name": {"any_": ["StandingBy"]}}}}
        found = [run["id"] for run in (await self.client.post("/flow_runs/filter", json=named)).json()]
        return found if len(found) == AHEAD else None

    async def completed(self, run, *, runs=1):
        """Wait until a run is completed for the ``runs``-th time, and return it."""

        async def done():
            found = (await self.client.get(f"/flow_runs/{run}")).json()
            return found if found["run_count"] == runs and found["state_type"] == "COMPLETED" else None

        return await first_true(done, 40)


def pytest_collection_modifyitems(items):
    """Put last the file whose last test ends the house."""
    items.sort(key=lambda item: "journeys/test_house.py" in item.nodeid)


@pytest.fixture(scope="session")
def house():
    folder = Path(tempfile.mkdtemp(prefix="ordernotify journey "))
    running = RunningHouse(folder)
    try:
        running.start()
        yield running
    finally:
        try:
            running.stop()
        finally:
            if running.process is not None:
                running.stop(signal.SIGKILL)
            cluster.destroy(running.state / "database")
            shutil.rmtree(folder, ignore_errors=True)
