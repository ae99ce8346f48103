"""The pipeline from inbox to outcome: what is sent, once, what is not and why, and what trouble leaves behind.

A real database under the house's own roles, real HTTP to simulated vendors, and the stages as a flow run calls them.
"""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from ordernotify.clock import now
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import ConsentChange, DeliveryStatus, Receipt
from ordernotify.core.events import Line
from ordernotify.core.onboarding import ContractBody, PartBody
from ordernotify.platforms import PLATFORMS
from ordernotify.store import directory, quarantine, receipts, sending
from ordernotify.store.setup import plain
from ordernotify.worker.dispatcher import Dispatcher
from tasks import stages
from tests.integration.bench import (
    EMAIL,
    PERSON,
    PHONE,
    SMS,
    begin_all,
    first_true,
)

pytestmark = pytest.mark.integration


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
