"""The exception sweep against a real database: each cause is told once, closes when it is gone, and escalates."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.exceptions import broken_promise
from ordernotify.core.onboarding import ClientBody
from ordernotify.store import directory, exceptions, holds, inbox, incidents
from tasks import exceptions as sweeps
from tests.integration.bench import BEGAN, EMAIL, SMS

pytestmark = pytest.mark.integration

PASSED = "2026-11-05"


async def sweep(line):
    """What the flow does, besides asking Prefect; returns the counts that are not zero."""
    counts = {}
    for one in (
        sweeps.tell_passed_promises, sweeps.watch_orders, sweeps.watch_work, sweeps.note_late_notices,
        sweeps.ask_anew, sweeps.escalate,
    ):  # fmt: skip
        counts |= await one.fn()
    while (claimed := await inbox.claim(line.pool, owner=line.house.owner, limit=100, at=now())) is not None:
        await line.run(claimed[0])
    return {what: count for what, count in counts.items() if count}


async def age(line, hours):
    """Let time pass for everything that an incident or the inbox remembers."""
    passed = timedelta(hours=hours)
    await line.pool.execute("UPDATE incident SET opened_at = opened_at - $1::interval", passed)
    await line.pool.execute("UPDATE event SET received_at = received_at - $1::interval", passed)
    await line.pool.execute(
        "UPDATE attempt SET started_at = started_at - $1::interval, ended_at = ended_at - $1::interval", passed
    )
    await line.pool.execute("UPDATE batch SET created_at = created_at - $1::interval", passed)


async def levels(line):
    rows = await line.pool.fetch("SELECT kind, level FROM incident WHERE closed_at IS NULL ORDER BY kind")
    return {row["kind"]: row["level"] for row in rows}


async def told(line):
    rows = await line.pool.fetch(
        "SELECT e.trigger, e.source, e.status, e.state FROM event e WHERE e.trigger = 'exception' ORDER BY e.id"
    )
    return [tuple(row.values()) for row in rows]


async def test_a_passed_promise_is_told_once_whatever_the_number_of_sweeps(line):
    await line.onboard(SMS, EMAIL)
    await line.tell("processing", promised_date=PASSED)
    assert await sweep(line) == {"promises_passed": 1}
    assert await sweep(line) == {}
    assert await told(line) == [("exception", "house", "delayed", "closed")]
    text = (await line.texts("twilio"))[0]
    assert "The promised date has passed" in text
    assert "New date" not in text
    assert [await line.taken(name) for name in ("twilio", "sendgrid")] == [2, 2]
    assert await line.pool.fetchval("SELECT status FROM orders") == "delayed"
    types = [record["type"] for record in await line.ledger()]
    assert "ingest.duplicate" not in types


async def test_a_new_promised_date_is_told_and_makes_a_new_cause(line):
    await line.onboard(SMS)
    await line.tell("processing", promised_date=PASSED)
    await sweep(line)
    since = await line.pool.fetchval("SELECT status_at FROM orders")
    late = int((since - BEGAN).total_seconds() // 3600) + 1
    await line.tell("delayed", hours=late, promised_date="2026-11-10")
    assert "New date: 10 Nov 2026" in (await line.texts("twilio"))[0]
    assert await sweep(line) == {"promises_passed": 1}
    assert await sweep(line) == {}
    assert len(await told(line)) == 2
    assert "The promised date has passed" in (await line.texts("twilio"))[0]


@pytest.mark.parametrize(
    ("status", "more"),
    [
        ("delivered", {}),
        ("cancelled", {}),
        ("shipped", {"tracking_no": "1Z999AA10123456784"}),
        ("regulatory_hold", {}),
        ("delayed", {"hours": 24 * 9}),
    ],
)
async def test_a_promise_is_not_told_of_an_order_that_is_done_held_followed_or_known_to_be_late(line, status, more):
    await line.onboard(SMS)
    await line.tell(status, promised_date=PASSED, **more)
    assert "promises_passed" not in await sweep(line)


async def test_a_promise_passes_at_midnight_where_the_client_is(line):
    for client, zone in (("tokyo", "Asia/Tokyo"), ("hawaii", "Pacific/Honolulu")):
        contact = {"key": "mail", "channel": "email", "platform": "sendgrid", "address": f"a@{client}.example",
                   "verified": True, "consent": "granted"}  # fmt: skip
        body = {"id": client, "name": client, "time_zone": zone,
                "recipients": [{"id": f"{client}-a", "name": "A", "contacts": [contact]}]}  # fmt: skip
        await directory.put_client(
            line.pool, line.house.scribe, ClientBody.model_validate(body), actor=Actor(kind="person", id="test"),
            at=now(),
        )  # fmt: skip
        await line.tell("processing", order=f"SO-{client}", client_ref=client, promised_date=PASSED)
    # Noon of the 6th in Tokyo is still the evening of the 5th in Hawaii: SQL offers both, the rule tells one.
    at = BEGAN.replace(day=6, hour=3)
    offered = [promise.client_id for promise, _ in await exceptions.promises(line.pool, at=at)]
    assert sorted(offered) == ["hawaii", "tokyo"]
    late = [
        promise.client_id
        for promise, zone in await exceptions.promises(line.pool, at=at)
        if broken_promise(promise, zone=ZoneInfo(zone), at=at)
    ]
    assert late == ["tokyo"]


@pytest.mark.parametrize(
    ("status", "detail", "kind"),
    [
        ("backordered", "", "backorder"),
        ("delayed", "customs", "customs"),
        ("delayed", "address_issue", "carrier_exception"),
    ],
)
async def test_an_order_that_waits_has_one_incident_that_escalates_and_closes_when_it_moves_on(
    line, status, detail, kind
):
    await line.onboard(SMS)
    await line.tell(status, detail=detail)
    assert await sweep(line) == {"orders_to_look_at": 1}
    assert await sweep(line) == {}
    assert await levels(line) == {kind: 0}
    for level in (1, 2, 3):
        await age(line, 25)
        assert (await sweep(line))["escalated"] == 1
        assert "escalated" not in await sweep(line)
        assert (await levels(line))[kind] == level
    await age(line, 200)
    assert "escalated" not in await sweep(line)
    await line.tell("processing", hours=1)
    assert (await sweep(line))["orders_moved_on"] == 1
    assert kind not in await levels(line)
    types = [record["type"] for record in await line.ledger() if record["object"]["kind"] == "incident"]
    assert types.count("incident.changed") == 3


async def test_an_order_that_waits_for_a_border_and_then_for_stock_changes_its_incident(line):
    await line.onboard(SMS)
    await line.tell("delayed", detail="customs")
    await sweep(line)
    await line.tell("backordered", hours=1)
    assert await sweep(line) == {"orders_to_look_at": 1, "orders_moved_on": 1}
    assert await levels(line) == {"backorder": 0}


async def test_a_platform_whose_messages_do_not_get_through_is_one_incident_until_they_do(line):
    await line.onboard(SMS)
    await line.fault("twilio", "server_error")
    for order in ("SO-1", "SO-2", "SO-3"):
        await line.tell(order=order)
    assert await sweep(line) == {}
    await age(line, 5)
    await line.pool.execute("UPDATE delivery SET next_attempt_at = now() + interval '1 hour'")
    assert (await sweep(line))["stuck"] == 1
    assert (await sweep(line))["stuck"] == 1
    rows = await line.pool.fetch("SELECT subject, code, times FROM incident WHERE kind = 'deliveries_stuck'")
    assert [tuple(row.values()) for row in rows] == [("twilio", "3", 1)]
    await line.mend("twilio")
    async with asyncio.timeout(30):
        # The platform rests for a moment after so many failures.
        while set(await line.statuses()) != {"sent"}:
            await line.later()
            await asyncio.sleep(0.2)
    await sweep(line)
    assert "deliveries_stuck" not in await levels(line)


async def test_an_event_and_a_batch_that_nobody_takes_on_are_found_and_let_go(line):
    await line.onboard(SMS)
    await line.arrive()
    batch = await line.claim()
    await age(line, 1)
    counts = await sweep(line)
    assert counts["stuck"] == 2
    rows = await line.pool.fetch("SELECT subject FROM incident WHERE kind = 'pipeline_stuck' ORDER BY 1")
    assert [row["subject"] for row in rows] == ["batch", "event_claimed"]
    await line.run(batch)
    await sweep(line)
    assert "pipeline_stuck" not in await levels(line)


async def test_a_notice_that_comes_too_late_is_an_incident_once(line):
    await line.onboard(SMS)
    event_id = await line.arrive()
    await age(line, 1)
    await line.run()
    assert await line.statuses(event_id) == ["sent"]
    assert await sweep(line) == {"late_notices": 1}
    assert await sweep(line) == {}
    await line.pool.execute("UPDATE incident SET closed_at = now() WHERE kind = 'notice_late'")
    assert await sweep(line) == {}


async def test_a_notice_in_time_is_none_and_one_that_does_not_get_out_is(line):
    await line.onboard(SMS)
    await line.tell()
    assert await sweep(line) == {}
    await line.fault("twilio", "server_error")
    stuck = await line.tell(order="SO-2")
    await line.pool.execute("UPDATE event SET received_at = received_at - interval '1 hour' WHERE id = $1", stuck)
    assert (await sweep(line))["late_notices"] == 1
    row = await line.pool.fetchrow("SELECT subject, event_id FROM incident WHERE kind = 'notice_late'")
    assert (row["subject"], row["event_id"]) == (str(stuck), stuck)


async def test_a_doubtful_notice_that_a_receipt_confirms_is_not_late_and_neither_is_one_that_a_hold_kept(line):
    await line.onboard(SMS)
    confirmed = await line.tell()
    # As a reset leaves it: the attempt is in doubt, a receipt said later that it had arrived.
    await line.pool.execute("UPDATE attempt SET outcome = 'unknown'")
    await line.pool.execute("UPDATE delivery SET status = 'delivered', status_at = now() + interval '1 hour'")
    await line.tell("regulatory_hold", order="SO-2")
    kept = await line.tell("shipped", order="SO-2", hours=1)
    await line.pool.execute("UPDATE hold SET opened_at = opened_at - interval '2 hours', ended_at = now()")
    await line.pool.execute("UPDATE event SET received_at = received_at - interval '1 hour' WHERE id = ANY($1)", [kept])
    await holds.let_go(line.pool, at=now())
    await line.later()
    assert await line.statuses(kept) == ["sent"]
    assert await line.statuses(confirmed) == ["delivered"]
    assert "late_notices" not in await sweep(line)


async def test_escalation_leaves_alone_what_was_opened_just_now_or_is_closed(line):
    await line.onboard(SMS)
    await line.tell("unknown", raw_status="teleported")
    assert await incidents.escalate(line.pool, line.house.scribe, after=timedelta(hours=24), at=now()) == 0
    day, later = timedelta(hours=24), now() + timedelta(hours=24)
    assert await incidents.escalate(line.pool, line.house.scribe, after=day, at=later) == 1
    await line.pool.execute("UPDATE incident SET closed_at = now()")
    assert await incidents.escalate(line.pool, line.house.scribe, after=day, at=later + 9 * day) == 0
