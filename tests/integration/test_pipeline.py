"""The pipeline from inbox to outcome: what is sent, once, what is not and why, and what trouble leaves behind.

A real database under the house's own roles, real HTTP to simulated vendors, and the stages as a flow run calls them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import httpx
import pytest
from asgi_lifespan import LifespanManager

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange, DeliveryStatus, Receipt
from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.core.onboarding import ClientBody, ContractBody, PartBody
from ordernotify.core.resends import ResendReason
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Idempotency
from ordernotify.runtime import Runtime
from ordernotify.sandbox._base import Reply, Vendor
from ordernotify.sandbox.app import environment, serve
from ordernotify.sandbox.vendors import VENDORS
from ordernotify.settings import Settings
from ordernotify.store import directory, inbox, orders, quarantine, receipts, sending
from ordernotify.store.inbox import Arrival
from ordernotify.store.sealer import load_signer
from ordernotify.store.setup import plain
from ordernotify.store.verifying import verify_ledger
from ordernotify.web.app import create_app
from ordernotify.worker.dispatcher import Dispatcher
from tasks import batches, stages
from tasks.errors import UnfinishedError

pytestmark = pytest.mark.integration

BEGAN = datetime(2026, 11, 2, 9, tzinfo=UTC)
PHONE, MAIL = "+12025550123", "ann@acme.example"
USED = {name: VENDORS[name] for name in ("twilio", "sendgrid", "slack", "teams")}
PERSON = Actor(kind="person", id="test")


@pytest.fixture
async def sandbox():
    async with Running(USED) as url:
        yield url


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
        """Seal what is left, verify everything, and return the records in order."""
        await self.house.sealer.seal()
        settings = self.house.settings
        key = str(load_signer(settings.state_dir / "keys" / "ledger.key", settings.origin).verifier)
        report = await asyncio.to_thread(verify_ledger, self.urls.reader, origin=settings.origin, vkeys=[key])
        assert report.ok, report.failures
        connection = await asyncpg.connect(plain(self.urls.reader))
        try:
            return [
                json.loads(row["body"]) for row in await connection.fetch("SELECT body FROM audit.entry ORDER BY seq")
            ]
        finally:
            await connection.close()


async def first_true(ask, within_s=20):
    async with asyncio.timeout(within_s):
        while True:
            if answer := await ask():
                return answer
            await asyncio.sleep(0.02)


async def opened_house(urls, state_dir, **more):
    return await runtime.build(
        Settings(
            state_dir=state_dir,
            app_url=urls.app,
            sealer_url=urls.sealer,
            reader_url=urls.reader,
            # A vendor that calls back finds nobody: receipts are applied by the tests that are about them.
            public_url="http://127.0.0.1:9",
            http_timeout_s=5,
            http_connections=8,
            **more,
        )
    )


@pytest.fixture
async def line(urls, sandbox, tmp_path, monkeypatch):
    for name, value in environment(sandbox, USED).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    house = await opened_house(urls, tmp_path)
    runtime.use(house)
    async with httpx.AsyncClient(base_url=sandbox, trust_env=False) as client:
        yield Bench(house, urls, client)
    runtime.use(None)
    await house.close()


SMS = ("phone", "sms", "twilio", PHONE)
EMAIL = ("mail", "email", "sendgrid", MAIL)
CHAT = ("slack", "chat", "slack", "https://hooks.slack.com/services/T000TEST/B000TEST/xtestx")


# ---- what is told ----


async def test_an_event_is_told_on_every_channel_with_signed_records_before_each_message(line, urls):
    await line.onboard(SMS, EMAIL)
    event_id = await line.tell("shipped", carrier="UPS", tracking_no="1Z999AA10123456784")
    assert await line.statuses(event_id) == ["sent", "sent"]
    assert [await line.taken(name) for name in ("twilio", "sendgrid")] == [1, 1]
    assert "SO-1" in (await line.texts("twilio"))[0]
    assert dict(await line.event(event_id)) == {"state": "closed", "reason": "news"}
    records = await line.ledger()
    assert [record["type"] for record in records if record["object"]["id"] == str(event_id)] == [
        "ingest.accepted",
        "validate.passed",
        "policy.decided",
    ]
    for row in (await line.deliveries(event_id)).values():
        mine = [record["type"] for record in records if record["object"]["id"] == str(row["id"])]
        assert mine == ["delivery.authorized", "delivery.attempted", "delivery.sent"]
    connection = await asyncpg.connect(plain(urls.reader))
    unsigned = await connection.fetchval(
        "SELECT count(*) FROM attempt a JOIN audit.entry e"
        " ON convert_from(e.body, 'UTF8')::jsonb -> 'object' ->> 'id' = a.delivery_id::text"
        " AND convert_from(e.body, 'UTF8')::jsonb ->> 'type' = 'delivery.authorized'"
        " WHERE NOT EXISTS (SELECT 1 FROM audit.checkpoint c WHERE c.size > e.seq AND c.signed_at <= a.started_at)"
    )
    await connection.close()
    assert unsigned == 0


async def test_an_event_planned_twice_is_told_once(line):
    await line.onboard(SMS, EMAIL)
    event_id = await line.arrive()
    batch = await line.claim()
    await stages.validate.fn(batch)
    assert await stages.plan.fn(batch) == 2
    assert await stages.plan.fn(batch) == 0
    # As a crash between two transactions would leave it, were the plan not one.
    await line.pool.execute("UPDATE event SET state = 'admitted' WHERE id = $1", event_id)
    assert await stages.plan.fn(batch) == 0
    await line.run(batch)
    assert [await line.taken(name) for name in ("twilio", "sendgrid")] == [1, 1]


async def test_one_order_told_by_two_sources_is_one_order_and_its_news_is_told_once(line):
    await line.onboard(SMS)
    await line.tell("received", order="SO-7", source="shopify", order_ref="gid/7", order_no="SO-7")
    again = await line.tell("received", order="SO-7", source="sap", order_ref="0000047110", order_no="SO-7", hours=1)
    assert tuple(await line.event(again)) == ("noted", "same")
    # Each source goes on under its own key, and needs neither the number nor the client any more.
    await line.tell("shipped", source="sap", order_ref="0000047110", order_no="", client_ref="", hours=2)
    late = await line.tell("processing", source="shopify", order_ref="gid/7", order_no="", client_ref="", hours=1)
    assert tuple(await line.event(late)) == ("noted", "stale")
    assert await line.pool.fetchval("SELECT count(*) FROM orders") == 1
    assert await line.taken("twilio") == 2


async def test_an_older_event_is_noted_and_never_told(line):
    await line.onboard(SMS)
    await line.tell("received")
    await line.tell("delivered", hours=48)
    late = await line.tell("shipped", hours=24)
    assert dict(await line.event(late)) == {"state": "noted", "reason": "stale"}
    assert await line.statuses(late) == []
    assert await line.pool.fetchval("SELECT status FROM orders") == "delivered"
    assert await line.taken("twilio") == 2


async def test_events_of_one_batch_are_told_in_the_order_in_which_they_happened(line):
    await line.onboard(SMS)
    shipped = await line.arrive("shipped", hours=24)
    received = await line.arrive("received")
    await line.run()
    # The older one was news when it was read, and is overtaken when it is about to leave.
    assert await line.statuses(received) == ["superseded"]
    assert await line.statuses(shipped) == ["sent"]
    assert await line.taken("twilio") == 1


async def test_a_status_word_that_nobody_knows_opens_an_incident_and_tells_nothing(line):
    await line.onboard(SMS)
    await line.tell("received")
    event_id = await line.tell("unknown", hours=1, raw_status="teleported")
    assert dict(await line.event(event_id)) == {"state": "noted", "reason": "unknown"}
    assert await line.statuses(event_id) == []
    assert await line.incidents() == [("unknown_status", "")]
    assert await line.pool.fetchval("SELECT status FROM orders") == "received"


async def test_what_a_contract_says_of_marking_counts(line):
    body = ContractBody(id="K-1", label="cui", categories=["PROCURE"], ldc=["NOFORN"])
    await directory.put_contract(line.pool, line.house.scribe, body, actor=PERSON, at=now())
    await line.onboard(SMS, EMAIL, contracts=["K-1"])
    event_id = await line.tell("shipped", contract_id="K-1")
    order = await line.pool.fetchrow("SELECT label, categories, ldc FROM orders")
    assert tuple(order) == ("cui", ["PROCURE"], ["NOFORN"])
    assert await line.statuses(event_id) == []
    rules = await line.pool.fetch("SELECT rules FROM suppression")
    assert [row["rules"][0] for row in rules] == ["R5", "R5"]  # nobody knows whether Ann is a US person


@pytest.mark.parametrize("skus", [("ITAR-1", "EAR-1"), ("EAR-1", "ITAR-1")])
async def test_one_controlled_part_makes_the_whole_order_controlled(line, skus):
    bodies = [PartBody(sku="ITAR-1", jurisdiction="ITAR:XI"), PartBody(sku="EAR-1", jurisdiction="EAR99")]
    await directory.put_parts(line.pool, line.house.scribe, bodies, actor=PERSON, at=now())
    await line.onboard(SMS)
    await line.tell("received", lines=tuple(Line(sku, 1) for sku in skus))
    assert await line.pool.fetchval("SELECT jurisdiction FROM orders") == "ITAR:XI"


async def test_an_event_with_an_unknown_part_waits_until_the_part_is_known(line):
    await line.onboard(SMS)
    event_id = await line.tell("received", lines=(Line("RAD-7", 2),))
    assert dict(await line.event(event_id)) == {"state": "quarantined", "reason": "sku_unknown"}
    assert await line.incidents() == [("quarantined", "sku_unknown")]
    await line.parts("CBL-12")
    assert (await line.event(event_id))["state"] == "quarantined"
    await line.parts("RAD-7")
    await line.run()
    assert await line.statuses(event_id) == ["sent"]
    assert await line.incidents() == []
    await line.ledger()


async def test_an_event_of_an_unknown_client_waits_until_the_client_is_onboarded(line):
    event_id = await line.tell("received")
    assert dict(await line.event(event_id)) == {"state": "quarantined", "reason": "client_unknown"}
    await line.onboard(SMS)
    await line.run()
    assert await line.statuses(event_id) == ["sent"]
    assert await line.incidents() == []


async def test_an_event_that_came_before_its_order_is_told_when_the_order_comes(line):
    await line.onboard(SMS)
    early = await line.tell("shipped", hours=24, client_ref="")
    assert dict(await line.event(early)) == {"state": "quarantined", "reason": "order_unknown"}
    assert await line.incidents() == [("quarantined", "order_unknown")]
    await line.tell("received")
    await line.run()
    assert await line.statuses(early) == ["sent"]
    assert await line.incidents() == []
    types = [record["type"] for record in await line.ledger() if record["object"]["id"] == str(early)]
    assert types == [
        "ingest.accepted",
        "quarantine.placed",
        "quarantine.released",
        "validate.passed",
        "policy.decided",
    ]


async def test_an_event_held_while_its_order_was_made_elsewhere_is_found_again(line):
    await line.onboard(SMS)
    early = await line.tell("shipped", hours=24, client_ref="")
    await line.tell("received")
    # As two transactions leave it that did not see each other: the order is known, the event held all the same.
    await line.pool.execute("UPDATE event SET state = 'quarantined', reason = 'order_unknown' WHERE id = $1", early)
    assert await quarantine.sweep(line.pool, line.house.scribe, at=now()) == 1
    assert await quarantine.sweep(line.pool, line.house.scribe, at=now()) == 0
    await line.run()
    assert await line.statuses(early) == ["sent"]


async def test_a_quarantined_event_that_a_person_reruns_is_released_on_the_record(line):
    await line.onboard(SMS)
    event_id = await line.tell("received", lines=(Line("RAD-7", 2),))
    await line.pool.execute("INSERT INTO part (sku, name) VALUES ('RAD-7', 'Radar')")
    await line.requested(event_id)
    assert await line.statuses(event_id) == ["sent"]
    assert await line.incidents() == []
    assert "quarantine.released" in [record["type"] for record in await line.ledger()]


# ---- what may be said ----


async def test_a_government_order_is_a_notice_by_text_beside_a_full_mail_and_the_rules_say_why(line):
    contract = "N00024-26-C-1234"
    await line.onboard(
        SMS, EMAIL, us_person="verified", location_country="US", contracts=[contract],
        training_until="2099-01-01", agreement_until="2099-01-01",
    )  # fmt: skip
    await line.parts("RAD-7")
    await line.trust("sendgrid", 2)
    body = ContractBody(id=contract)
    await directory.put_contract(line.pool, line.house.scribe, body, actor=PERSON, at=now())
    event_id = await line.tell(
        "shipped", order="GOV-7001", contract_id=contract, label="", lines=(Line("RAD-7", 12),), carrier="UPS",
        tracking_no="1Z999AA10123456784",
    )  # fmt: skip
    found = await line.deliveries(event_id)
    assert (found["twilio"]["verdict"], found["twilio"]["rules"]) == ("notice_only", ["R13"])
    assert (found["sendgrid"]["verdict"], found["sendgrid"]["rules"]) == ("allow_full", ["R11"])
    (notice,), (mail,) = await line.texts("twilio"), await line.texts("sendgrid")
    assert found["twilio"]["notice_ref"] in notice
    for told in ("GOV-7001", "1Z999AA10123456784", "RAD-7", "shipped", "UPS"):
        assert told not in notice
        assert told in mail


async def test_the_ledger_names_nobody_and_repeats_nothing_of_the_order(line):
    secrets = {
        "order": "SO-CANARY-77", "tracking_no": "1ZCANARY99887766", "detail": "canary-weather",
        "promised_date": "2031-07-19",
    }  # fmt: skip
    await line.onboard(
        ("phone", "sms", "twilio", "+12025550188"), ("mail", "email", "sendgrid", "canary@acme.example"),
        name="Canaria Canary",
    )  # fmt: skip
    await line.fault("twilio", "permanent", times=1)
    await line.tell("received", **secrets, carrier="UPS")
    await line.tell("shipped", hours=1, **secrets)
    await line.tell("unknown", hours=2, **secrets, raw_status="canary-word")
    text = json.dumps(await line.ledger())
    personal = ("12025550188", "canary@acme", "Canaria", "Acme Air", "canary-word", *secrets.values())
    assert [value for value in personal if value in text] == []


# ---- what decides when a message is about to leave ----


async def test_a_stop_between_plan_and_send_is_obeyed(line):
    await line.onboard(SMS, EMAIL)
    event_id = await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    await stop_word(line, "SM1", granted=False)
    await line.send(batch)
    found = await line.deliveries(event_id)
    assert (found["twilio"]["status"], found["twilio"]["code"]) == ("suppressed", "opted_out")
    assert found["sendgrid"]["status"] == "sent"
    assert await line.taken("twilio") == 0
    await line.ledger()


async def stop_word(line, key, *, granted):
    change = ConsentChange(dedupe_key=key, channel=Channel.SMS, address=PHONE, granted=granted, code="twilio_word")
    await receipts.change_consent(line.pool, line.house.scribe, platform="twilio", changes=[change], at=now())


async def test_a_stop_word_repeated_by_its_vendor_counts_once_also_after_a_start(line):
    await line.onboard(SMS)
    await stop_word(line, "SM1", granted=False)
    await stop_word(line, "SM1", granted=False)
    await stop_word(line, "SM2", granted=True)
    await stop_word(line, "SM1", granted=False)
    event_id = await line.tell()
    assert await line.statuses(event_id) == ["sent"]
    await line.ledger()


async def test_news_overtaken_before_it_leaves_is_superseded(line):
    await line.onboard(SMS)
    first = await line.arrive("processing")
    slow = await line.claim()
    await line.prepare(slow)
    second = await line.tell("shipped", hours=1)
    await line.send(slow)
    found = (await line.deliveries(first))["twilio"]
    assert (found["status"], found["code"]) == ("superseded", "superseded")
    assert await line.statuses(second) == ["sent"]
    assert await line.taken("twilio") == 1


# ---- trouble at a platform ----


async def test_an_unanswered_call_that_arrived_is_found_and_not_repeated(line):
    await line.onboard(SMS)
    await line.fault("twilio", "no_answer", times=1)
    event_id = await line.tell()
    assert await line.statuses(event_id) == ["unknown"]
    await line.later()
    found = (await line.deliveries(event_id))["twilio"]
    assert (found["status"], found["code"], found["attempts"]) == ("sent", "twilio_found", 1)
    assert await line.taken("twilio") == 1
    await line.ledger()


async def test_an_unanswered_call_that_did_not_arrive_is_repeated_once(line):
    await line.onboard(SMS)
    await line.fault("twilio", "reset", times=1)
    event_id = await line.tell()
    assert await line.statuses(event_id) == ["unknown"]
    await line.later()
    found = (await line.deliveries(event_id))["twilio"]
    assert (found["status"], found["code"]) == ("deferred", "not_found_at_platform")
    assert found["next_attempt_at"] > now()
    await line.later()
    found = (await line.deliveries(event_id))["twilio"]
    assert (found["status"], found["attempts"]) == ("sent", 2)
    assert await line.taken("twilio") == 1


async def test_a_platform_that_fails_without_end_is_given_up_and_a_person_called(line):
    await line.onboard(SMS)
    await line.fault("twilio", "server_error", path=".*Messages.json")
    event_id = await line.tell()
    await line.mend("twilio")
    await line.pool.execute("UPDATE delivery SET attempts = 12")
    await line.pool.execute("UPDATE attempt SET number = 12")
    await line.later()
    found = (await line.deliveries(event_id))["twilio"]
    assert (found["status"], found["code"]) == ("rejected", "gave_up")
    assert await line.incidents() == [("delivery_failed", "gave_up")]


async def test_where_nobody_can_be_asked_the_message_stays_unknown_with_an_incident(line):
    await line.onboard(EMAIL)
    await line.fault("sendgrid", "no_answer", times=1)
    event_id = await line.tell()
    await line.later()
    assert await line.statuses(event_id) == ["unknown"]
    assert await line.incidents() == [("delivery_unknown", "unanswered")]
    assert await line.later() is None
    assert await line.taken("sendgrid") == 1
    await line.ledger()


async def test_at_least_once_repeats_what_nobody_can_be_asked_about(line, urls, tmp_path):
    await line.onboard(EMAIL)
    await line.house.close()
    line.house = await opened_house(urls, tmp_path, ambiguous="at_least_once")
    runtime.use(line.house)
    await line.fault("sendgrid", "no_answer", times=1)
    event_id = await line.tell()
    await line.later()
    assert await line.statuses(event_id) == ["deferred"]
    await line.later()
    assert await line.statuses(event_id) == ["sent"]
    assert await line.taken("sendgrid") == 2


async def test_refused_credentials_stop_the_platform_burn_no_message_and_all_are_sent_when_it_runs_again(line):
    await line.onboard(SMS, EMAIL)
    await line.fault("twilio", "auth")
    events = [await line.arrive(order=f"SO-{number}") for number in range(30)]
    batch = await line.claim()
    await line.prepare(batch)
    await line.send(batch)
    assert await line.pool.fetchval("SELECT stopped_code FROM channel WHERE platform = 'twilio'") == "twilio_20003"
    assert ("platform_stopped", "twilio_20003") in await line.incidents()
    tried = (await line.sandbox.get("/_control/counts")).json()["twilio"]["requests"]
    # What was on the wire when the first refusal came, and nothing since.
    assert tried <= line.house.settings.http_connections
    assert set(await line.statuses()) == {"sent", "authorized", "deferred"}
    assert await line.taken("sendgrid") == 30
    # A stopped platform is left alone: by retries of the run, by reruns, and by what is due.
    await stages.deliver.fn(batch, "twilio")
    assert await line.later() is None
    assert await stages.route(batch) == []
    assert (await line.sandbox.get("/_control/counts")).json()["twilio"]["requests"] == tried
    await line.mend("twilio")
    await line.trust("twilio", 0)
    await line.later()
    assert [await line.statuses(event_id) for event_id in events] == [["sent", "sent"]] * 30
    assert await line.taken("twilio") == 30
    await line.ledger()


async def test_a_message_that_waits_is_not_given_to_a_platform_nobody_configured(line):
    await line.onboard(SMS)
    await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    kept, line.house.credentials = line.house.credentials, {}
    await line.send(batch)
    assert await line.statuses() == ["authorized"]
    # Not looked at again every second for ever.
    assert await inbox.claim_due(line.pool, owner="o", limit=10, at=now() + timedelta(seconds=31)) is None
    line.house.credentials = kept
    await line.later()
    assert await line.statuses() == ["sent"]


async def test_a_platform_that_asks_to_wait_is_waited_for(line):
    await line.onboard(SMS)
    await line.fault("twilio", "rate", times=1)
    before = now()
    event_id = await line.tell()
    found = (await line.deliveries(event_id))["twilio"]
    assert (found["status"], found["code"]) == ("deferred", "twilio_20429")
    assert found["next_attempt_at"] - before >= timedelta(seconds=1)
    await line.later()
    assert await line.statuses(event_id) == ["sent"]
    assert await line.taken("twilio") == 1


async def test_an_opt_out_told_by_the_platform_holds_for_later_messages(line):
    await line.onboard(SMS)
    await line.fault("twilio", "opt_out", times=1)
    first = await line.tell("received")
    second = await line.tell("shipped", hours=1)
    assert await line.statuses(first) == ["rejected"]
    found = (await line.deliveries(second))["twilio"]
    assert (found["status"], found["code"]) == ("suppressed", "opted_out")
    assert await line.taken("twilio") == 0
    assert await line.incidents() == []


async def test_a_platform_with_shared_calls_never_has_more_begun_than_its_lane_carries(line):
    await line.onboard(EMAIL)
    await line.fault("sendgrid", "hang", hang_seconds=30)
    for number in range(40):
        await line.arrive(order=f"SO-{number}")  # each mail has words of its own, so each is a call
    running_run = asyncio.create_task(line.run())
    begun = await first_true(line.begun)
    assert begun <= line.house.settings.http_connections
    await line.sandbox.post("/_control/reset")
    await asyncio.wait_for(running_run, 30)
    await line.later()
    assert (await line.statuses()).count("unknown") <= line.house.settings.http_connections


async def test_mails_with_the_same_words_share_a_call(line):
    await line.onboard(EMAIL, client="acme")
    people = [
        {
            "id": f"p{number}",
            "name": "Receiving dock",
            "contacts": [
                {"key": "mail", "channel": "email", "platform": "sendgrid", "address": f"p{number}@acme.example",
                 "verified": True, "consent": "granted"}
            ],
        }
        for number in range(20)
    ]  # fmt: skip
    body = ClientBody.model_validate({"id": "acme", "name": "Acme Air", "recipients": people})
    await directory.put_client(line.pool, line.house.scribe, body, actor=PERSON, at=now())
    await line.tell("received")
    counts = (await line.sandbox.get("/_control/counts")).json()["sendgrid"]
    assert (counts["taken"], counts["requests"]) == (20, 1)


async def test_platforms_known_from_blocks_stay_known_while_prefect_is_away(line, urls, tmp_path, monkeypatch):
    for name in environment("http://127.0.0.1:9", {"twilio": USED["twilio"]}):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    line.house._read_at = -1e9  # noqa: SLF001 - the clock by which they would be read anew has come
    assert {"twilio", "sendgrid"} <= set(await line.house.known())
    with pytest.raises(runtime.CredentialsUnknownError):
        await opened_house(urls, tmp_path)
    house = Settings(state_dir=tmp_path, app_url=urls.app, sealer_url=urls.sealer, reader_url=urls.reader)
    app = create_app(house)
    door = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door")
    async with LifespanManager(app), door:
        assert (await door.post("/webhooks/twilio", content=b"MessageSid=SM1")).status_code == 503
        assert (await door.post("/webhooks/sendgrid", content=b"[]")).status_code == 401


async def test_an_answer_that_cannot_be_read_leaves_the_message_unknown_and_the_run_green(line, monkeypatch):
    def garbled(_request, _shelf):
        return Reply(201, b"this is not gzip", {"content-encoding": "gzip", "content-type": "application/json"})

    vendor = Vendor(
        name="twilio",
        routes={("POST", ".*"): garbled, ("GET", ".*"): garbled},
        settings={},
        refuse=lambda _: Reply(500),
    )
    await line.onboard(SMS)
    async with Running({"twilio": vendor}) as url:
        settings = line.house.credentials["twilio"]
        line.house.credentials = {
            **line.house.credentials,
            "twilio": settings.model_copy(update={"base_url": f"{url}/twilio"}),
        }
        event_id = await line.tell()
        assert await line.statuses(event_id) == ["unknown"]
        await line.later()
        assert await line.statuses(event_id) == ["unknown"]


async def test_a_surprise_in_an_adapter_turns_the_run_red_and_leaves_nothing_behind_in_sending(line):
    await line.onboard(SMS)
    event_id = await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    # Settings of another platform: the adapter fails with an AttributeError before any call is made.
    line.house.credentials = {**line.house.credentials, "twilio": line.house.credentials["sendgrid"]}
    with pytest.raises(Exception, match="AttributeError"):
        await stages.deliver.fn(batch, "twilio")
    assert await line.statuses(event_id) == ["unknown"]


# ---- receipts ----


async def test_receipts_are_applied_once_in_any_order_and_never_backwards(line):
    await line.onboard(SMS)
    event_id = await line.tell()
    row = (await line.deliveries(event_id))["twilio"]

    async def heard(word, status):
        receipt = Receipt(
            dedupe_key=f"{row['provider_ref']}:{word}", status=status, provider_ref=row["provider_ref"], code=word
        )
        return await receipts.apply(line.pool, line.house.scribe, platform="twilio", receipts=[receipt], at=now())

    assert await heard("delivered", DeliveryStatus.DELIVERED) == 1
    assert await heard("delivered", DeliveryStatus.DELIVERED) == 0
    assert await heard("sent", DeliveryStatus.SENT) == 0
    assert await line.statuses(event_id) == ["delivered"]
    assert await line.pool.fetchval("SELECT count(*) FROM receipt") == 2
    both = [
        Receipt(dedupe_key="other:read", status=DeliveryStatus.READ, reference=row["reference"]),
        Receipt(dedupe_key="other:sent", status=DeliveryStatus.SENT, reference=row["reference"]),
        Receipt(dedupe_key="stranger", status=DeliveryStatus.DELIVERED, reference="0" * 32),
    ]
    assert await receipts.apply(line.pool, line.house.scribe, platform="twilio", receipts=both, at=now()) == 1
    assert await line.statuses(event_id) == ["read"]
    await line.ledger()


async def test_an_id_that_many_messages_share_names_none_of_them(line):
    await line.onboard(EMAIL)
    first, second = await line.tell(order="SO-1"), await line.tell(order="SO-2")
    await line.pool.execute("UPDATE delivery SET provider_ref = 'one-call'")

    async def heard(key, **named):
        receipt = Receipt(dedupe_key=key, status=DeliveryStatus.BOUNCED, provider_ref="one-call", **named)
        return await receipts.apply(line.pool, line.house.scribe, platform="sendgrid", receipts=[receipt], at=now())

    assert await heard("a") == 0
    reference = (await line.deliveries(first))["sendgrid"]["reference"]
    assert await heard("b", reference=reference) == 1
    assert await line.statuses(first) == ["bounced"]
    assert await line.statuses(second) == ["sent"]
    stolen = Receipt(dedupe_key="c", status=DeliveryStatus.DELIVERED, reference=reference)
    assert await receipts.apply(line.pool, line.house.scribe, platform="slack", receipts=[stolen], at=now()) == 0


async def test_a_receipt_that_overtakes_the_answer_is_kept(line):
    await line.onboard(SMS)
    await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    (begun,) = await begin_all(line, batch)
    receipt = Receipt(dedupe_key="SM1:delivered", status=DeliveryStatus.DELIVERED, reference=begun.message.reference)
    await receipts.apply(line.pool, line.house.scribe, platform="twilio", receipts=[receipt], at=now())
    result = await line.house.wire.send(PLATFORMS["twilio"], [begun.message], line.house.context("twilio"))
    tried = sending.Tried(begun, result.outcomes[0], 201, now(), now())
    await sending.record_outcomes(line.pool, line.house.scribe, [tried], platform="twilio", corr="")
    assert await line.statuses() == ["delivered"]
    await line.ledger()


async def begin_all(line, batch, at=None):
    events = (await inbox.read_batch(line.pool, batch)).event_ids
    ids = await sending.to_send(line.pool, events, platform="twilio", at=now())
    return await sending.begin(line.pool, line.house.scribe, ids, platform="twilio", batch_id=batch, at=at or now())


# ---- reruns, resends, crashes ----


async def test_a_rerun_of_a_finished_batch_sends_nothing(line):
    await line.onboard(SMS, EMAIL)
    await line.arrive()
    batch = await line.claim()
    first = await line.run(batch)
    async with batches.opened(batch, [], resend=None, run_id=str(uuid4())) as held:
        assert held == batch
        assert await line.run(batch) == first
    assert [await line.taken(name) for name in ("twilio", "sendgrid")] == [1, 1]


async def test_events_named_by_a_person_are_finished_and_not_repeated(line):
    await line.onboard(SMS)
    event_id = await line.tell()
    waiting = await line.arrive(order="SO-2")
    await line.requested(event_id, waiting)
    assert await line.statuses() == ["sent", "sent"]
    assert await line.taken("twilio") == 2


async def test_a_resend_with_a_reason_sends_exactly_once_more_each_time(line):
    await line.onboard(SMS)
    event_id = await line.tell()
    first, second = str(uuid4()), str(uuid4())
    await line.requested(event_id, resend=ResendReason.CLIENT_ASKED, run_id=first)
    assert await line.taken("twilio") == 2
    await line.requested(event_id, resend=ResendReason.CLIENT_ASKED, run_id=first)  # a Retry of that run
    assert await line.taken("twilio") == 2
    await line.requested(event_id, resend=ResendReason.LOST_BY_PLATFORM, run_id=second)
    assert await line.taken("twilio") == 3
    await line.requested(event_id)
    assert await line.taken("twilio") == 3
    assert await line.statuses() == ["sent"] * 3
    await line.ledger()


async def test_a_resend_whose_run_died_before_it_planned_is_done_by_its_retry(line):
    await line.onboard(SMS)
    event_id = await line.tell()
    run = str(uuid4())
    async with batches.opened(None, [event_id], resend=ResendReason.CLIENT_ASKED, run_id=run) as batch:
        assert batch is not None
    await line.requested(event_id, resend=ResendReason.CLIENT_ASKED, run_id=run)
    assert await line.taken("twilio") == 2


async def test_a_crash_between_attempt_and_outcome_leaves_unknown_and_is_reconciled_from_when_it_began(line):
    await line.onboard(SMS)
    event_id = await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    long_ago = now() - timedelta(hours=3)
    (begun,) = await begin_all(line, batch, at=long_ago)
    # The call is made, and its worker dies before it can write the answer down.
    await line.house.wire.send(PLATFORMS["twilio"], [begun.message], line.house.context("twilio"))
    await line.pool.execute("UPDATE batch SET lease_until = now() - interval '1 second'")
    ((taken_over, _),) = await inbox.take_over(line.pool, owner="another:1:x", besides=[], at=now())
    assert taken_over == batch
    await line.send(batch)
    found = (await line.deliveries(event_id))["twilio"]
    assert (found["status"], found["code"]) == ("unknown", "worker_died")
    (doubtful,) = await sending.unknown_of(
        line.pool, [event_id], platform="twilio", at=now() + timedelta(seconds=4), limit=9
    )
    assert doubtful.started_at == long_ago
    await line.later()
    assert await line.statuses(event_id) == ["sent"]
    assert await line.taken("twilio") == 1
    await line.ledger()


async def test_an_attempt_whose_run_ended_without_writing_its_outcome_is_found_again(line):
    await line.onboard(SMS)
    event_id = await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    await begin_all(line, batch)
    await stages.record.fn(batch)
    assert await line.statuses(event_id) == ["sending"]
    await line.later()
    assert await line.statuses(event_id) == ["unknown"]
    await line.later()
    await line.later()
    assert await line.statuses(event_id) == ["sent"]
    assert await line.taken("twilio") == 1


async def test_what_another_live_run_has_on_the_wire_is_left_alone(line):
    await line.onboard(SMS)
    event_id = await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    await begin_all(line, batch)
    await line.requested(event_id)
    assert await line.statuses(event_id) == ["sending"]
    assert await line.taken("twilio") == 0


async def test_what_arrives_while_a_run_starts_goes_with_it_and_nothing_joins_a_rerun(line):
    await line.onboard(SMS)
    await line.arrive(order="SO-1")
    batch_id = await line.claim()
    during = await line.arrive(order="SO-2")
    async with batches.opened(batch_id, [], resend=None, run_id=str(uuid4())) as batch, batches.preparing(batch_id):
        await line.run(batch)
    assert (await line.event(during))["state"] == "closed"
    later = await line.arrive(order="SO-3")
    async with batches.opened(batch_id, [], resend=None, run_id=str(uuid4())) as batch, batches.preparing(batch_id):
        await line.run(batch)
    assert (await line.event(later))["state"] == "waiting"
    assert await line.taken("twilio") == 2


async def test_a_large_batch_takes_along_what_arrived_until_its_turn_came(line, monkeypatch):
    monkeypatch.setattr(batches, "_LARGE", 2)
    await line.onboard(SMS)
    first, second = await line.arrive(order="SO-1"), await line.arrive(order="SO-2")
    batch_id = await line.claim()
    async with line.house.preparing, line.house.preparing:
        turn = batches.preparing(batch_id)
        entering = asyncio.create_task(turn.__aenter__())
        await asyncio.sleep(0.2)
        assert not entering.done()
        late = await line.arrive(order="SO-3")
    await entering
    assert set((await inbox.read_batch(line.pool, batch_id)).event_ids) == {first, second, late}
    await turn.__aexit__(None, None, None)


async def test_what_one_stage_does_not_hand_to_the_next_is_read_from_the_store(line):
    await line.onboard(SMS, EMAIL)
    event_id = await line.arrive("shipped", carrier="UPS", tracking_no="1Z999AA10123456784")
    batch = await line.claim()
    said = []
    for stage in (stages.validate, stages.plan, stages.render, stages.seal):
        await stage.fn(batch)
        line.house.desks.clear()
    await line.send(batch)
    said.append(await line.texts("twilio"))
    await line.requested(event_id, resend=next(iter(ResendReason)))
    said.append((await line.texts("twilio"))[1:])
    assert said[0] == said[1] != []
    assert await line.statuses(event_id) == ["sent"] * 4
    await line.ledger()


async def test_a_run_leaves_nothing_of_its_work_in_memory(line):
    await line.onboard(SMS)
    await line.arrive()
    async with batches.opened(await line.claim(), [], resend=None, run_id=str(uuid4())) as batch:
        await line.prepare(batch)
        assert line.house.desks[batch].worded
        await line.send(batch)
    assert not line.house.desks


async def test_two_runs_that_meet_the_same_new_order_make_it_once(line, monkeypatch):
    await line.onboard(SMS)
    mine, other = await line.arrive("received"), await line.arrive("shipped", hours=1)
    admission, met = vars(orders)["_Admission"], []
    found_or_new = vars(admission)["_found_or_new"]

    async def meets_another(self, fresh):
        found = await found_or_new(self, fresh)
        if not met:
            met.append(True)
            await orders.admit_events(line.pool, line.house.scribe, [other], at=now())
        return found

    monkeypatch.setattr(admission, "_found_or_new", meets_another)
    await line.claim()
    await orders.admit_events(line.pool, line.house.scribe, [mine], at=now())
    assert met
    order = await line.pool.fetchrow("SELECT count(*) OVER () AS count, status, version FROM orders")
    assert dict(order) == {"count": 1, "status": "shipped", "version": 1}
    assert tuple(await line.event(other)) == ("admitted", "news")
    assert tuple(await line.event(mine)) == ("noted", "stale")
    await line.ledger()


class Interrupted:
    """A pool whose next statement after the first finds that somebody was quicker."""

    def __init__(self, pool, *meanwhile):
        self._pool, self._meanwhile = pool, meanwhile

    async def fetch(self, *arguments):
        rows = await self._pool.fetch(*arguments)
        if self._meanwhile:
            await self._pool.execute(*self._meanwhile)
            self._meanwhile = ()
        return rows


async def test_a_delivery_that_another_took_while_it_was_read_is_neither_sent_nor_recorded(line):
    await line.onboard(SMS)
    await line.arrive(order="SO-1")
    await line.arrive(order="SO-2")
    batch = await line.claim()
    await line.prepare(batch)
    taken, left = [row["id"] for row in await line.pool.fetch("SELECT id FROM delivery ORDER BY id")]
    begun = await sending.begin(
        Interrupted(line.pool, "UPDATE delivery SET version = version + 1 WHERE id = $1", taken),
        line.house.scribe, [taken, left], platform="twilio", batch_id=batch, at=now(),
    )  # fmt: skip
    assert [attempt.delivery_id for attempt in begun] == [left]
    assert sorted(await line.statuses()) == ["authorized", "sending"]
    records = [record for record in await line.ledger() if record["type"] == "delivery.attempted"]
    assert [record["object"]["id"] for record in records] == [str(left)]


async def test_one_process_works_on_a_batch_once_at_a_time(line):
    await line.arrive()
    batch = await line.claim()
    async with batches.opened(batch, [], resend=None, run_id=str(uuid4())) as first:
        assert first == batch
        assert batch in line.house.working
        async with batches.opened(batch, [], resend=None, run_id=str(uuid4())) as second:
            assert second is None
        assert batch in line.house.working
    assert batch not in line.house.working


async def test_a_lease_that_ran_out_under_a_working_run_is_not_taken_over_by_its_own_process(line):
    await line.arrive()
    batch = await line.claim()
    await line.pool.execute("UPDATE batch SET lease_until = now() - interval '1 minute'")
    assert await inbox.take_over(line.pool, owner=line.house.owner, besides=[batch], at=now()) == []
    assert await inbox.take_over(line.pool, owner="other:1:x", besides=[], at=now()) == [(batch, "")]


async def test_the_same_part_twice_in_one_request_leaves_the_ledger_whole(line):
    await line.parts("RAD-7", "RAD-7")
    await line.ledger()


async def test_a_platform_that_is_stopped_twice_within_a_second_leaves_the_ledger_whole(line):
    await line.onboard(SMS)
    await line.fault("twilio", "auth")
    event_id = await line.tell()
    for _ in range(2):
        await line.trust("twilio", 0)
        await line.later()
    assert await line.statuses(event_id) == ["deferred"]
    await line.ledger()


# ---- the dispatcher ----


class NoDeployment:
    """Runs of a Prefect server on which somebody deleted the deployment."""

    async def start(self, deployment, parameters, **_more):
        raise LookupError(f"no deployment {deployment} for {len(parameters)} parameters")


async def test_a_dispatcher_outlives_every_failure_lets_batches_rest_and_calls_a_person(line):
    await line.arrive()
    mark = line.house.settings.state_dir / "keys" / "ledger.mark"
    mark.write_text("00000000000000999999\n")  # sealing fails each time: more was signed than the ledger holds
    stop = asyncio.Event()
    working = asyncio.create_task(Dispatcher(line.house, NoDeployment()).run(stop))

    async def rested():
        # The waits between tries are over at once.
        await line.pool.execute("UPDATE batch SET lease_until = now() - interval '1 second' WHERE tries > 0")
        return await line.pool.fetchval("SELECT max(tries) FROM batch") or 0

    async def thrice():
        return await rested() >= 3

    await first_true(thrice)
    assert ("run_failed", "surprise") in await line.incidents()
    assert not working.done()
    stop.set()
    await working


# ---- every platform, in every trouble: the status, the retry, the record ----

EVERY = {name: platform for name, platform in PLATFORMS.items() if platform.sends}
HARMLESS = {Idempotency.NATIVE, Idempotency.OVERWRITE}


@pytest.fixture
async def wide(urls, tmp_path, monkeypatch):
    """A house connected to all vendors, with one client who wants everything everywhere."""
    async with Running(VENDORS) as url:
        for name, value in environment(url, VENDORS).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        house = await opened_house(urls, tmp_path)
        runtime.use(house)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            bench = Bench(house, urls, client)
            await bench.onboard(
                *(
                    (name.replace("_", "-"), platform.channel_for(platform.example).value, name, platform.example)
                    for name, platform in EVERY.items()
                )
            )
            for name, platform in EVERY.items():
                await house.wire.prepare(platform, house.context(name))
            yield bench
        runtime.use(None)
        await house.close()


async def _types(bench, deliveries):
    ids = {str(row["id"]): name for name, row in deliveries.items()}
    found = {name: [] for name in deliveries}
    for record in await bench.ledger():
        if record["object"]["id"] in ids:
            found[ids[record["object"]["id"]]].append(record["type"])
    return found


async def test_not_found_is_not_believed_before_a_platform_lists_what_it_took(wide):
    late = {name for name, platform in EVERY.items() if platform.lookup and platform.lookup.settles_after_s}
    assert late
    for name in late:
        await wide.fault(name, "server_error", times=50)
    await wide.tell("shipped")
    for name in late:
        await wide.mend(name)
    await wide.later()
    assert {(await wide.deliveries())[name]["status"] for name in late} == {"unknown"}
    assert [await wide.taken(name) for name in late] == [0] * len(late)
    await wide.pool.execute("UPDATE attempt SET started_at = started_at - interval '2 minutes'")
    for _ in range(2):
        await wide.later()
    assert {(await wide.deliveries())[name]["status"] for name in late} == {"sent"}
    assert [await wide.taken(name) for name in late] == [1] * len(late)


@pytest.mark.parametrize("fault", ["rate", "rate_bare", "server_error", "no_answer", "permanent", "auth"])
async def test_trouble_at_every_platform_is_recorded_and_tried_again_or_not_as_documented(wide, fault):
    for name in EVERY:
        await wide.fault(name, fault, times=50)
    await wide.tell("shipped", carrier="UPS", tracking_no="1Z999AA10123456784")
    first = await wide.deliveries()
    assert set(first) == set(EVERY)
    types = await _types(wide, first)
    stopped = {
        row["platform"] for row in await wide.pool.fetch("SELECT platform FROM channel WHERE stopped_code <> ''")
    }
    for name, row in first.items():
        assert types[name][:2] == ["delivery.authorized", "delivery.attempted"], name
        _check_first(name, fault, row, last=types[name][-1], stopped=name in stopped)
    for name in EVERY:
        await wide.mend(name)
        if fault == "auth":
            await wide.trust(name, 0)
    for _ in range(3):
        # Long enough ago for the platforms that list a message late.
        await wide.pool.execute("UPDATE attempt SET started_at = started_at - interval '2 minutes'")
        await wide.later()
    incidents = await wide.incidents()
    for name, row in (await wide.deliveries()).items():
        _check_end(name, row, incidents)


def _check_first(name, fault, row, *, last, stopped):
    said = (name, row["status"], row["code"])
    if fault in {"rate", "rate_bare"}:
        assert row["status"] == "deferred", said
        assert row["next_attempt_at"] > row["status_at"], said
    elif fault in {"server_error", "no_answer"}:
        harmless = EVERY[name].idempotency in HARMLESS
        assert row["status"] in ({"deferred"} if harmless else {"deferred", "unknown", "sent"}), said
    elif fault == "permanent":
        assert (row["status"], last) == ("rejected", "delivery.failed"), said
    elif row["status"] != "rejected":  # where the address is the credential, only this message is refused
        assert (row["status"], stopped) == ("deferred", True), said


def _check_end(name, row, incidents):
    if row["status"] == "rejected":
        assert ("delivery_failed", row["code"]) in incidents, name
    elif row["status"] == "unknown":
        # Nobody can say, and the platform cannot be asked: it is never sent again by itself.
        assert EVERY[name].lookup is None, name
        assert ("delivery_unknown", row["code"]) in incidents, name
    else:
        assert row["status"] == "sent", (name, row["status"], row["code"])
