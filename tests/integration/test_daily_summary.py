"""Daily summaries: each client has one a day at its hour, saying what it may, whatever crashes on the way."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from ordernotify.clock import new_id, now
from ordernotify.core.audit import Actor
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.core.onboarding import ClientBody, ContractBody
from ordernotify.sandbox.vendors import VENDORS
from ordernotify.store import directory, inbox, receipts, summaries
from ordernotify.store.inbox import Arrival
from ordernotify.store.wording import read_message
from tasks import stages
from tasks.errors import UnfinishedError
from tasks.summaries import make_for
from tests.integration.bench import connected, verified

pytestmark = pytest.mark.integration

PERSON = Actor(kind="person", id="test")
MAILERS = ("sendgrid", "mailgun", "gmail", "outlook")
USED = {name: VENDORS[name] for name in (*MAILERS, "twilio")}
# When clients came and their orders changed: before every morning of these tests.
BEGAN = datetime(2026, 2, 2, 9, tzinfo=UTC)
MORNING = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)


class Mornings:
    """A house whose clock a test turns."""

    def __init__(self, house, urls, sandbox):
        self.house, self.urls, self.sandbox, self.pool = house, urls, sandbox, house.pool

    async def onboard(self, client="acme", *contacts, **more):
        """Make a client of one person; contacts are (key, channel, platform, address) or whole bodies."""
        given = [
            {"verified": True, "consent": "granted"}
            | (one if isinstance(one, dict) else dict(zip(("key", "channel", "platform", "address"), one, strict=True)))
            for one in contacts or [("mail", "email", "sendgrid", f"ann@{client}.example")]
        ]
        person = {"id": f"{client}-ann", "name": "Ann Lee", "contacts": given, **more.pop("person", {})}
        body = ClientBody.model_validate({"id": client, "name": client.title(), "recipients": [person], **more})
        await directory.put_client(self.pool, self.house.scribe, body, actor=PERSON, at=now())
        await self.pool.execute("UPDATE client SET created_at = $2 WHERE id = $1", client, BEGAN)

    async def trust(self, **levels):
        for platform, level in levels.items():
            await directory.put_channel(
                self.pool, self.house.scribe, platform=platform, level=level, enabled=True, evidence="",
                expires_at=None, actor=PERSON, at=now(),
            )  # fmt: skip

    async def order(self, number, status="processing", *, client="acme", at=BEGAN, received=None, **more):
        """Bring an order to a status by an event that arrived at ``received`` (an hour after it happened)."""
        facts = {"label": "public", "promised_date": "2026-12-01", "carrier": "", "tracking_no": ""} | more
        event = OrderEvent(
            source="erp", dedupe_key=f"{client} {number} {status} {at}", order_ref=f"{client} {number}",
            order_no=number, client_ref=client, status=OrderStatus(status), raw_status=status, occurred_at=at, **facts,
        )  # fmt: skip
        arrival = Arrival(
            source="erp", headers={}, body=b"", events=(event,), remote="", at=received or at + timedelta(hours=1)
        )
        (taken,) = await inbox.accept(self.pool, self.house.scribe, [arrival])
        claimed = await inbox.claim(self.pool, owner=self.house.owner, limit=1000, at=now())
        await stages.validate.fn(claimed[0])
        # Only the summary is watched here.
        await self.pool.execute("UPDATE event SET state = 'planned' WHERE id = ANY($1)", list(taken.accepted))
        async with self.pool.acquire() as connection:
            await inbox.finish(connection, claimed[0], at=now())

    async def make(self, at, *, early=False):
        """Make what is due at ``at`` as the flow does; returns the batch and how many clients have one."""
        clients = await summaries.due_clients(self.pool, at=at, early=early)
        batch_id = new_id()
        made = await make_for(self.house, clients, batch_id=batch_id, run_id="", at=at) if clients else 0
        return batch_id, made

    async def send(self, batch_id):
        for platform in await stages.seal.fn(batch_id):
            try:
                await stages.deliver.fn(batch_id, platform)
            except UnfinishedError:
                continue
        return await stages.record.fn(batch_id)

    async def run(self, at, **more):
        batch_id, made = await self.make(at, **more)
        if made:
            await self.send(batch_id)
        return made

    async def messages(self):
        rows = await self.pool.fetch(
            "SELECT m.body FROM delivery d JOIN message m ON m.delivery_id = d.id ORDER BY d.event_at, d.id"
        )
        return [read_message(row["body"]) for row in rows]

    async def days(self, client="acme"):
        rows = await self.pool.fetch(
            "SELECT s.day FROM summary s JOIN event e ON e.id = s.event_id WHERE s.client_id = $1 ORDER BY 1", client
        )
        return [row["day"].isoformat() for row in rows]

    async def taken(self, platform):
        return (await self.sandbox.get(f"/_control/{platform}/taken")).json()

    async def whole(self):
        await verified(self.house, self.urls)


@pytest.fixture
async def mornings(urls, tmp_path, monkeypatch):
    async with connected(urls, tmp_path, monkeypatch, USED, Mornings) as made:
        yield made


# ---- when ----

# Madrid's clock is put forward over 02:30 on 29 March, and Lord Howe's shows 01:45 twice on 5 April.
CLOCKS = {
    "America/New_York": time(7), "Asia/Kolkata": time(7, 30), "Australia/Lord_Howe": time(1, 45),
    "Europe/Madrid": time(2, 30), "America/St_Johns": time(6, 15),
}  # fmt: skip


async def test_over_a_change_of_clocks_each_client_has_one_summary_a_day_at_its_own_hour(mornings):
    names = {zone: zone.split("/")[1].lower().replace("_", "-") for zone in CLOCKS}
    for zone, hour in CLOCKS.items():
        await mornings.onboard(names[zone], time_zone=zone, summary_at=f"{hour:%H:%M}")
        await mornings.order("SO-1", client=names[zone])
    began = datetime(2026, 3, 27, tzinfo=UTC)
    for quarter in range(12 * 24 * 4):
        await mornings.make(began + timedelta(minutes=15) * quarter)
    for zone, hour in CLOCKS.items():
        rows = await mornings.pool.fetch(
            "SELECT s.day, e.occurred_at FROM summary s JOIN event e ON e.id = s.event_id WHERE s.client_id = $1"
            " ORDER BY 1",
            names[zone],
        )
        # The first one catches the day before up; then there is one for each day, without a gap.
        days = [row["day"] for row in rows]
        assert days == [days[0] + timedelta(days=number) for number in range(len(days))]
        assert len(days) >= 12
        for row in rows[1:]:
            local = row["occurred_at"].astimezone(ZoneInfo(zone))
            forward = zone == "Europe/Madrid" and row["day"].isoformat() == "2026-03-29"
            assert (local.date(), local.time(), local.fold) == (row["day"], time(3) if forward else hour, 0)
    sent_to = await mornings.pool.fetch("SELECT address, count(*) FROM delivery GROUP BY 1")
    assert {row["address"] for row in sent_to} == {f"ann@{name}.example" for name in names.values()}


async def test_a_day_that_was_missed_is_caught_up_once_with_all_that_changed_since(mornings):
    await mornings.onboard()
    await mornings.order("SO-1")
    assert await mornings.run(MORNING) == 1
    await mornings.order("SO-2", "received", received=MORNING + timedelta(hours=1))
    await mornings.order(
        "SO-1", "delivered", at=BEGAN + timedelta(days=1), received=MORNING + timedelta(days=1, hours=1)
    )
    assert await mornings.run(MORNING + timedelta(days=3)) == 1
    assert await mornings.run(MORNING + timedelta(days=3, minutes=15)) == 0
    assert await mornings.days() == ["2026-03-02", "2026-03-05"]
    latest = (await mornings.messages())[-1]
    assert latest.variables["changed_orders"] == "2"
    assert ("SO-2: Received" in latest.text, "SO-1: Delivered" in latest.text) == (True, True)


async def test_who_has_no_open_order_and_no_change_hears_nothing(mornings):
    await mornings.onboard()
    assert await mornings.run(MORNING) == 0
    await mornings.order("SO-1", "delivered", received=MORNING + timedelta(hours=1))
    # Not at once, but at tomorrow's hour.
    assert await mornings.run(MORNING + timedelta(hours=2)) == 0
    assert await mornings.run(MORNING + timedelta(days=1)) == 1
    assert await mornings.run(MORNING + timedelta(days=2)) == 0
    assert await mornings.days() == ["2026-03-03"]


async def test_early_sends_todays_before_its_hour_and_the_hour_adds_none(mornings):
    await mornings.onboard(summary_at="18:00")
    await mornings.onboard("never", summary_at="")
    await mornings.order("SO-1")
    await mornings.run(MORNING - timedelta(days=1))  # yesterday's, caught up
    assert await mornings.run(MORNING, early=True) == 1
    assert await mornings.run(MORNING + timedelta(hours=8)) == 0
    assert await mornings.days("never") == []


# ---- what ----


async def test_a_summary_says_first_what_is_late_then_what_changed_and_has_every_order_attached(mornings):
    await mornings.onboard("acme", person={"language": "es"})
    await mornings.order("SO-OTHER", received=BEGAN - timedelta(days=1))
    await mornings.order("SO-LATE", "processing", promised_date="2026-02-20")
    await mornings.order("SO-HELD", "regulatory_hold")
    await mornings.order("SO-SHIPPED", "shipped", carrier="=cmd()", tracking_no="1Z999AA10123456784")
    assert await mornings.run(MORNING) == 1
    (message,) = await mornings.messages()
    places = [message.text.index(number) for number in ("SO-HELD", "SO-SHIPPED", "SO-OTHER")]
    assert places == sorted(places)
    assert message.text.index("SO-LATE") < places[1]
    assert message.subject == "Sus pedidos al 2 mar 2026: 4 abiertos, 2 con retraso o detenidos"
    assert all(word in message.html for word in ("En proceso", "Enviado", "En espera de un examen requerido"))
    (file,) = message.attachments
    rows = list(csv.DictReader(io.StringIO(file.content.decode("utf-8-sig"))))
    assert {row["Pedido"] for row in rows} == {"SO-OTHER", "SO-LATE", "SO-HELD", "SO-SHIPPED"}
    (shipped,) = [row for row in rows if row["Pedido"] == "SO-SHIPPED"]
    assert shipped["Transportista"] == "'=cmd()"
    assert shipped["Desde"] == "2026-02-02"


async def test_a_large_client_reads_fifty_orders_and_finds_the_rest_attached(mornings):
    await mornings.onboard()
    await mornings.order("SO-1")
    await mornings.pool.execute(
        "INSERT INTO orders (id, client_id, order_no, label, status, status_at, version)"
        " SELECT gen_random_uuid(), 'acme', 'N-' || n, 'public', 'processing', $1, 1 FROM generate_series(1, 199) n",
        BEGAN,
    )
    assert await mornings.run(MORNING) == 1
    (message,) = await mornings.messages()
    assert message.html.count("<b>N-") + message.html.count("<b>SO-") == 50
    assert "150 more in the attached file: orders-2026-03-02.csv" in message.text
    assert len(message.attachments[0].content.splitlines()) == 201
    assert len(message.html) < 100_000


async def test_an_order_that_a_channel_may_not_carry_is_counted_and_one_the_reader_may_not_know_of_is_not(mornings):
    contract = ContractBody(id="N1", label="cui")
    await directory.put_contract(mornings.pool, mornings.house.scribe, contract, actor=PERSON, at=now())
    papers = {"us_person": "verified", "location_country": "US", "training_until": "2099-01-01",
              "agreement_until": "2099-01-01"}  # fmt: skip
    await mornings.trust(sendgrid=1)
    await mornings.onboard("acme", person={"contracts": ["N1"], **papers})
    await mornings.onboard("other", person=papers)
    for client in ("acme", "other"):
        await mornings.order("SO-OPEN-1", client=client, label="internal")
        await mornings.order("GOV-7001", client=client, label="cui", contract_id="N1", tracking_no="1Z999AA10123456784")
    assert await mornings.run(MORNING) == 2
    acme, other = sorted(await mornings.messages(), key=lambda message: message.to)
    assert "1 only in the portal" in acme.text
    assert "only in the portal" not in other.text
    for message in (acme, other):
        everything = message.text + message.html + message.attachments[0].content.decode()
        assert "SO-OPEN-1" in everything
        assert "GOV-7001" not in everything
        assert "1Z999AA10123456784" not in everything
    rows = await mornings.pool.fetch("SELECT label, verdict FROM delivery")
    assert {(row["label"], row["verdict"]) for row in rows} == {("internal", "allow_full")}
    await mornings.whole()


async def test_an_order_on_hold_is_under_review_in_the_summary_whatever_came_after(mornings):
    await mornings.onboard()
    await mornings.order("SO-1", "regulatory_hold")
    parcel = {"carrier": "ups", "tracking_no": "1Z999AA10123456784"}
    await mornings.order("SO-1", "shipped", at=BEGAN + timedelta(hours=1), **parcel)
    assert await mornings.run(MORNING) == 1
    (mail,) = await mornings.messages()
    table = mail.attachments[0].content.decode()
    assert "SO-1,In review," in table
    assert parcel["tracking_no"] not in table + mail.text + mail.html


async def test_on_a_channel_for_public_things_only_a_summary_is_a_notice(mornings):
    await mornings.onboard()
    await mornings.order("SO-1", label="internal")
    assert await mornings.run(MORNING) == 1
    (message,) = await mornings.messages()
    assert message.notice_only
    assert "SO-1" not in message.text + message.html
    assert message.attachments == ()


async def test_a_text_message_says_the_numbers_and_who_said_stop_hears_nothing(mornings):
    phone = {"key": "phone", "channel": "sms", "platform": "twilio", "address": "+12025550123", "summary": True}
    silent = {"key": "other", "channel": "sms", "platform": "twilio", "address": "+12025550145"}
    await mornings.onboard("acme", phone, silent)
    await mornings.order("SO-1", "delayed")
    batch_id, made = await mornings.make(MORNING)
    assert made == 1
    (message,) = await mornings.messages()
    assert message.text.startswith("Northgate Defense: orders on 2 Mar 2026. 1 open. 1 changed. 1 late or on hold.")
    stop = ConsentChange(dedupe_key="s1", channel=Channel.SMS, address="+12025550123", granted=False, code="stop")
    await receipts.change_consent(mornings.pool, mornings.house.scribe, platform="twilio", changes=[stop], at=now())
    # Said after the words were made, and before they left.
    await mornings.send(batch_id)
    assert await mornings.taken("twilio") == []
    assert await mornings.run(MORNING + timedelta(days=1)) == 1
    row = await mornings.pool.fetchrow("SELECT reason, rules FROM suppression")
    assert (row["reason"], row["rules"]) == ("policy", ["R3"])


async def test_every_mail_vendor_takes_the_attachment(mornings):
    contacts = [(name, "email", name, f"{name}@acme.example") for name in MAILERS]
    await mornings.onboard("acme", *contacts)
    await mornings.order("SO-1", "shipped", carrier="Señor Paquetería", tracking_no="1Z999AA10123456784")
    assert await mornings.run(MORNING) == 1
    (content,) = {message.attachments[0].content for message in await mornings.messages()}
    for name in MAILERS:
        (mail,) = await mornings.taken(name)
        assert mail["files"] == [["orders-2026-03-02.csv", hashlib.sha256(content).hexdigest()]], name
        assert "SO-1: Shipped" in mail["text"] or "SO-1" in mail["text"]


# ---- whatever crashes ----


async def test_two_workers_at_once_make_each_summary_once(mornings):
    for number in range(6):
        await mornings.onboard(f"c{number}")
        await mornings.order("SO-1", client=f"c{number}")
    batches = await asyncio.gather(*(mornings.make(MORNING) for _ in range(3)))
    for batch_id, made in batches:
        if made:
            await mornings.send(batch_id)
    assert sum(made for _, made in batches) == 6
    assert len({mail["to"] for mail in await mornings.taken("sendgrid")}) == len(await mornings.taken("sendgrid")) == 6


@pytest.mark.parametrize("steps", range(4))
async def test_a_worker_that_dies_after_any_step_leaves_a_batch_that_another_one_finishes(mornings, steps):
    await mornings.onboard()
    await mornings.order("SO-1")
    batch_id, made = await mornings.make(MORNING)
    assert made == 1
    done = [stages.seal.fn, lambda batch: stages.deliver.fn(batch, "sendgrid"), stages.record.fn]
    for step in done[:steps]:
        await step(batch_id)
    # It is dead now, and its lease runs out; the next schedule comes, and another worker looks after what it left.
    assert await mornings.run(MORNING + timedelta(minutes=15)) == 0
    lost = await inbox.take_over(mornings.pool, owner="other", besides=[], at=now() + timedelta(hours=1))
    assert [batch for batch, _ in lost] == ([] if steps == len(done) else [batch_id])
    for batch, _ in lost:
        # As the dispatcher runs it: the whole pipeline, in which only what is left is done.
        await stages.validate.fn(batch)
        await stages.plan.fn(batch)
        await stages.render.fn(batch)
        await mornings.send(batch)
    assert len(await mornings.taken("sendgrid")) == 1
    rows = await mornings.pool.fetch("SELECT status FROM delivery")
    assert [row["status"] for row in rows] == ["sent"]
    await mornings.whole()


async def test_a_worker_that_dies_before_its_commit_has_told_nothing_and_the_summary_is_still_due(mornings):
    await mornings.onboard()
    await mornings.order("SO-1")
    making = asyncio.create_task(mornings.make(MORNING))
    async with mornings.pool.acquire() as connection, connection.transaction():
        # The summary cannot be written while its day is held.
        await connection.execute("LOCK TABLE summary IN SHARE MODE")
        await asyncio.sleep(0.5)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
    assert await mornings.days() == []
    assert await mornings.run(MORNING) == 1


async def test_a_mail_vendor_that_is_down_gets_the_summary_once_when_it_is_back(mornings):
    await mornings.onboard()
    await mornings.order("SO-1")
    await mornings.sandbox.post("/_control/sendgrid/fault", json={"fault": "rate"})
    batch_id, _ = await mornings.make(MORNING)
    await mornings.send(batch_id)
    assert await mornings.taken("sendgrid") == []
    await mornings.sandbox.delete("/_control/sendgrid/fault")
    await mornings.pool.execute("UPDATE delivery SET next_attempt_at = now() - interval '1 second'")
    due, _ = await inbox.claim_due(mornings.pool, owner=mornings.house.owner, limit=10, at=now())
    await mornings.send(due)
    assert len(await mornings.taken("sendgrid")) == 1


async def test_one_client_whose_summary_cannot_be_made_keeps_no_other_waiting(mornings):
    await mornings.onboard("broken")
    await mornings.onboard("whole")
    for client in ("broken", "whole"):
        await mornings.order("SO-1", client=client)
    # A word that no release of ours ever wrote there.
    await mornings.pool.execute("UPDATE orders SET status = 'lost' WHERE client_id = 'broken'")
    assert await mornings.run(MORNING) == 1
    assert await mornings.days("whole") == ["2026-03-02"]


async def test_no_summary_leaves_before_the_record_that_allows_it_is_signed(mornings):
    await mornings.onboard()
    await mornings.order("SO-1")
    await mornings.run(MORNING)
    await mornings.whole()
    connection = await asyncpg.connect(mornings.urls.reader.replace("postgresql+asyncpg://", "postgresql://"))
    types = await connection.fetch(
        "SELECT convert_from(body, 'UTF8')::jsonb ->> 'type' AS type FROM audit.entry ORDER BY seq DESC LIMIT 4"
    )
    unsigned = await connection.fetchval(
        "SELECT count(*) FROM attempt a JOIN audit.entry e"
        " ON convert_from(e.body, 'UTF8')::jsonb -> 'object' ->> 'id' = a.delivery_id::text"
        " AND convert_from(e.body, 'UTF8')::jsonb ->> 'type' = 'delivery.authorized'"
        " WHERE NOT EXISTS (SELECT 1 FROM audit.checkpoint c WHERE c.size > e.seq AND c.signed_at <= a.started_at)"
    )
    await connection.close()
    assert [row["type"] for row in reversed(types)] == [
        "policy.decided", "delivery.authorized", "delivery.attempted", "delivery.sent",
    ]  # fmt: skip
    assert unsigned == 0
