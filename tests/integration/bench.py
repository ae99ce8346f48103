"""A house of which tests turn the wheels, and the simulated vendors that it talks to."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import httpx

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.core.onboarding import ClientBody, PartBody
from ordernotify.runtime import Runtime
from ordernotify.sandbox.app import environment, serve
from ordernotify.sandbox.vendors import VENDORS
from ordernotify.settings import Settings
from ordernotify.store import directory, inbox, leaving, sending
from ordernotify.store.inbox import Arrival
from ordernotify.store.sealer import load_signer
from ordernotify.store.setup import plain
from ordernotify.store.verifying import verify_ledger
from tasks import batches, stages
from tasks.errors import UnfinishedError

BEGAN = datetime(2026, 11, 2, 9, tzinfo=UTC)
PHONE, MAIL = "+12025550123", "ann@acme.example"
USED = {name: VENDORS[name] for name in ("twilio", "sendgrid", "slack", "teams")}
PERSON = Actor(kind="person", id="test")
SMS = ("phone", "sms", "twilio", PHONE)
EMAIL = ("mail", "email", "sendgrid", MAIL)
CHAT = ("slack", "chat", "slack", "https://hooks.slack.com/services/T000TEST/B000TEST/xtestx")


class Running:
    """The sandbox on a free port, in this loop."""

    def __init__(self, vendors):
        self.vendors, self.stop = vendors, asyncio.Event()

    async def __aenter__(self):
        ready = asyncio.get_running_loop().create_future()
        self.server = asyncio.create_task(serve(port=0, vendors=self.vendors, ready=ready.set_result, stop=self.stop))
        return await ready

    async def __aexit__(self, *_details):
        self.stop.set()
        await self.server


@dataclass
class Bench:
    """A house of which a test turns the wheels."""

    house: Runtime
    urls: object
    sandbox: httpx.AsyncClient
    numbers: itertools.count = field(default_factory=itertools.count)

    @property
    def pool(self):
        return self.house.pool

    async def onboard(self, *contacts, client="acme", **recipient):
        """Make a client with one person; contacts are (key, channel, platform, address)."""
        given = [
            {"key": key, "channel": channel, "platform": platform, "address": address, "verified": True,
             "consent": "granted"}
            for key, channel, platform, address in contacts
        ]  # fmt: skip
        person = {"id": f"{client}-ann", "name": "Ann Lee", "contacts": given, **recipient}
        body = ClientBody.model_validate({"id": client, "name": "Acme Air", "recipients": [person]})
        await directory.put_client(self.pool, self.house.scribe, body, actor=PERSON, at=now())

    async def parts(self, *skus):
        bodies = [PartBody(sku=sku) for sku in skus]
        await directory.put_parts(self.pool, self.house.scribe, bodies, actor=PERSON, at=now())

    async def trust(self, platform, level):
        await directory.put_channel(
            self.pool, self.house.scribe, platform=platform, level=level, enabled=True, evidence="", expires_at=None,
            actor=PERSON, at=now(),
        )  # fmt: skip

    async def arrive(self, status="received", *, order="SO-1", hours=0, **more):
        """Put an event into the inbox and return its id."""
        facts = {
            "source": "erp", "dedupe_key": f"e{next(self.numbers)}", "order_ref": order, "order_no": order,
            "status": OrderStatus(status), "raw_status": status, "occurred_at": BEGAN + timedelta(hours=hours),
            "client_ref": "acme", "label": "public", **more,
        }  # fmt: skip
        arrival = Arrival(source="erp", headers={}, body=b"", events=(OrderEvent(**facts),), remote="", at=now())
        (taken,) = await inbox.accept(self.pool, self.house.scribe, [arrival])
        return taken.accepted[0]

    async def claim(self):
        claimed = await inbox.claim(self.pool, owner=self.house.owner, limit=1000, at=now())
        assert claimed is not None
        return claimed[0]

    async def prepare(self, batch_id):
        """Take a batch up to signed, unsent deliveries."""
        await stages.validate.fn(batch_id)
        await stages.plan.fn(batch_id)
        await stages.render.fn(batch_id)
        await stages.seal.fn(batch_id)

    async def send(self, batch_id):
        """Deliver what is due and close the batch; what Prefect would retry in this run is left."""
        for platform in await stages.route(batch_id):
            try:
                await stages.deliver.fn(batch_id, platform)
            except UnfinishedError:
                continue
        return await stages.record.fn(batch_id)

    async def run(self, batch_id=None):
        batch_id = batch_id or await self.claim()
        await self.prepare(batch_id)
        return await self.send(batch_id)

    async def tell(self, status="received", **more):
        """Take one event through the whole pipeline, and return its id."""
        event_id = await self.arrive(status, **more)
        await self.run()
        return event_id

    async def later(self):
        """Let the waits of deliveries be over, and run what is due then; None when nothing is."""
        await self.pool.execute(
            "UPDATE delivery SET next_attempt_at = now() - interval '1 second' WHERE next_attempt_at < 'infinity'"
        )
        due = await inbox.claim_due(self.pool, owner=self.house.owner, limit=1000, at=now())
        return None if due is None else await self.run(due[0])

    async def requested(self, *event_ids, resend=None, run_id=None):
        """Run events that a person names, as a flow run of its own."""
        async with batches.opened(None, list(event_ids), resend=resend, run_id=run_id or str(uuid4())) as batch:
            assert batch is not None
            return await self.run(batch)

    async def deliveries(self, event_id=None):
        rows = await self.pool.fetch(
            "SELECT * FROM delivery WHERE $1::uuid IS NULL OR event_id = $1 ORDER BY platform, id", event_id
        )
        return {row["platform"]: row for row in rows}

    async def statuses(self, event_id=None):
        rows = await self.pool.fetch(
            "SELECT status FROM delivery WHERE $1::uuid IS NULL OR event_id = $1 ORDER BY platform, id", event_id
        )
        return [row["status"] for row in rows]

    async def begun(self):
        return (await self.statuses()).count("sending")

    async def event(self, event_id):
        return await self.pool.fetchrow("SELECT state, reason FROM event WHERE id = $1", event_id)

    async def incidents(self):
        rows = await self.pool.fetch("SELECT kind, code FROM incident WHERE closed_at IS NULL ORDER BY kind, code")
        return [(row["kind"], row["code"]) for row in rows]

    async def taken(self, platform):
        return (await self.sandbox.get("/_control/counts")).json()[platform]["taken"]

    async def texts(self, platform):
        return [entry["text"] for entry in (await self.sandbox.get(f"/_control/{platform}/taken")).json()]

    async def fault(self, platform, fault, **more):
        answer = await self.sandbox.post(f"/_control/{platform}/fault", json={"fault": fault, **more})
        assert answer.status_code == 200, answer.text

    async def mend(self, platform):
        await self.sandbox.delete(f"/_control/{platform}/fault")

    async def ledger(self):
        return await verified(self.house, self.urls)


async def verified(house, urls):
    """Seal what is left, verify the ledger from its first record to its last, and return the records in order."""
    await house.sealer.seal()
    settings = house.settings
    key = str(load_signer(settings.state_dir / "keys" / "ledger.key", settings.origin).verifier)
    report = await asyncio.to_thread(verify_ledger, urls.reader, origin=settings.origin, vkeys=[key])
    assert report.ok, report.failures
    connection = await asyncpg.connect(plain(urls.reader))
    try:
        return [json.loads(row["body"]) for row in await connection.fetch("SELECT body FROM audit.entry ORDER BY seq")]
    finally:
        await connection.close()


async def first_true(ask, within_s=20):
    async with asyncio.timeout(within_s):
        while True:
            if answer := await ask():
                return answer
            await asyncio.sleep(0.02)


async def begin_all(line, batch, at=None):
    events = (await inbox.read_batch(line.pool, batch)).event_ids
    ids = await sending.to_send(line.pool, events, platform="twilio", at=now())
    return await leaving.begin(line.pool, line.house.scribe, ids, platform="twilio", batch_id=batch, at=at or now())


async def opened_house(urls, state_dir, **more):
    given = {
        # A vendor that calls back finds nobody: receipts are applied by the tests that are about them.
        "public_url": "http://127.0.0.1:9",
        "http_timeout_s": 5,
        "http_connections": 8,
        **more,
    }
    return await runtime.build(
        Settings(state_dir=state_dir, app_url=urls.app, sealer_url=urls.sealer, reader_url=urls.reader, **given)
    )


@asynccontextmanager
async def connected(urls, state_dir, monkeypatch, vendors, kind=Bench, **settings):
    """Open a house that is connected to these vendors, as a bench of this kind; close both in the end."""
    async with Running(vendors) as url:
        for name, value in environment(url, vendors).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        house = await opened_house(urls, state_dir, **settings)
        runtime.use(house)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield kind(house, urls, client)
        runtime.use(None)
        await house.close()
