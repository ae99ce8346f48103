"""Tracking: carriers are asked and listened to, an event counts once by whichever way it comes, and is told once.

A real database, real HTTP to every simulated carrier, and the tasks as a flow run calls them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from asgi_lifespan import LifespanManager

from ordernotify.carriers import CARRIERS
from ordernotify.carriers._base import Quota
from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.sandbox import aggregator_payloads, carrier_payloads
from ordernotify.sandbox._aggregator_vendors import WEBHOOK_SECRET
from ordernotify.sandbox._carrier_desks import API_KEY
from ordernotify.sandbox._carrier_vendors import FEDEX_TOKEN, UPS_CREDENTIAL, USPS_SECRET
from ordernotify.sandbox.carrier_senders import (
    aftership_request,
    easypost_request,
    fedex_request,
    seventeentrack_request,
    shippo_request,
    ups_request,
    usps_request,
)
from ordernotify.sandbox.carrier_stories import Happened, Step
from ordernotify.sandbox.carriers import CARRIER_VENDORS
from ordernotify.store import inbox, quotas, shipments
from ordernotify.store.inbox import Arrival
from ordernotify.web.app import create_app
from tasks import batches, stages
from tasks.concluding import conclude_shipments
from tasks.tracking import ask, ask_about, find_due, follow
from tests.integration.bench import EMAIL, connected, verified

pytestmark = pytest.mark.integration

PERSON = Actor(kind="person", id="test")
NUMBERS = {
    "ups": "1Z999AA10123456784",
    "fedex": "123456789012",
    "usps": "9400111899223197428490",
    "dhl": "JD014600003889700001",
    "easypost": "EZ1000000001",
    "shippo": "SHIPPO1000001",
    "aftership": "AS1000000001",
    "seventeentrack": "RR123456781CN",
}


def push_of(carrier, number, steps, *, sent_at=None):
    """Return headers and body of a push, as its carrier makes it."""
    at = sent_at or now()
    direct, services = carrier_payloads, aggregator_payloads
    makers = {
        "ups": lambda: ups_request(direct.ups_alert(number, steps), credential=UPS_CREDENTIAL),
        "fedex": lambda: fedex_request(direct.fedex_answer([direct.fedex_result(number, steps)]), token=FEDEX_TOKEN),
        "usps": lambda: usps_request(direct.usps_piece(number, steps), secret=USPS_SECRET, sent_at=at),
        "easypost": lambda: easypost_request(
            services.easypost_event(number, steps), secret=WEBHOOK_SECRET, sent_at=at, path="/webhooks/easypost"
        ),
        "shippo": lambda: shippo_request(services.shippo_event(number, steps), secret=WEBHOOK_SECRET, sent_at=at),
        "aftership": lambda: aftership_request(services.aftership_event(number, steps), secret=WEBHOOK_SECRET),
        "seventeentrack": lambda: seventeentrack_request(services.seventeentrack_event(number, steps), api_key=API_KEY),
    }
    return makers[carrier]()


def story(*steps, ago=timedelta(hours=2)):
    """Return what happened to a parcel, a minute apart, the first ``ago``."""
    began = (now() - ago).replace(microsecond=0)
    return [Happened(step, began + timedelta(minutes=place)) for place, step in enumerate(steps)]


class Dock:
    """A house of which a test turns the wheels, with every carrier in a sandbox and its own door."""

    def __init__(self, house, door, sandbox):
        self.house, self.pool, self.door, self.sandbox = house, house.pool, door, sandbox
        self.count = 0

    async def order(self, number, tracking_no, *, carrier="", status="processing", hours=24, **more):
        """Let an order system name a parcel, and take that through the pipeline."""
        self.count += 1
        event = OrderEvent(
            source="erp", dedupe_key=f"e{self.count}", order_ref=number, order_no=number, client_ref="acme",
            status=OrderStatus(status), raw_status=status, occurred_at=now() - timedelta(hours=hours), label="public",
            carrier=carrier, tracking_no=tracking_no, **more,
        )  # fmt: skip
        arrival = Arrival(source="erp", headers={}, body=b"", events=(event,), remote="", at=now())
        await inbox.accept(self.pool, self.house.scribe, [arrival])
        await self.pipeline()

    async def pipeline(self):
        """Take what waits in the inbox up to planned deliveries."""
        while (claimed := await inbox.claim(self.pool, owner=self.house.owner, limit=2000, at=now())) is not None:
            await self.plan(claimed[0])

    async def plan(self, batch_id):
        await stages.validate.fn(batch_id)
        await stages.plan.fn(batch_id)
        async with self.pool.acquire() as connection:
            await inbox.finish(connection, batch_id, at=now())

    async def poll(self):
        """What the flow does; the counts of all carriers together."""
        counts = Counter()
        for name in await find_due.fn():
            counts += Counter(await follow.fn(name)) + Counter(await ask.fn(name))
        await self.pipeline()
        return counts

    async def later(self):
        """Let every wait of shipments and quotas be over."""
        await self.pool.execute("UPDATE shipment SET next_question_at = now() WHERE next_question_at IS NOT NULL")
        await self.pool.execute("DELETE FROM carrier_use")

    async def push(self, carrier, headers, body):
        answer = await self.door.post(f"/webhooks/{carrier}", headers=headers, content=body)
        await self.pipeline()
        return answer

    async def told(self, order="SO-1"):
        """Return what the client is told of an order, oldest first."""
        rows = await self.pool.fetch(
            "SELECT e.status, e.content ->> 'detail' AS detail FROM delivery d JOIN event e ON e.id = d.event_id"
            " JOIN orders o ON o.id = d.order_id WHERE o.order_no = $1 AND e.source <> 'erp' ORDER BY d.event_at, d.id",
            order,
        )
        return [row["status"] + (f" {row['detail']}" if row["detail"] else "") for row in rows]

    async def events(self):
        return await self.pool.fetch("SELECT * FROM event WHERE source <> 'erp' ORDER BY id")

    async def incidents(self):
        rows = await self.pool.fetch("SELECT kind, code FROM incident WHERE closed_at IS NULL ORDER BY kind, code")
        return [(row["kind"], row["code"]) for row in rows]

    async def shipment(self, number):
        return await self.pool.fetchrow("SELECT * FROM shipment WHERE tracking_no = $1", number)

    async def requests(self, carrier):
        return (await self.sandbox.get("/_control/counts")).json()[carrier]["requests"]

    async def fault(self, carrier, fault, **more):
        answer = await self.sandbox.post(f"/_control/{carrier}/fault", json={"fault": fault, **more})
        assert answer.status_code == 200, answer.text

    async def mend(self, carrier):
        await self.sandbox.delete(f"/_control/{carrier}/fault")

    async def written(self):
        """Return how much the house remembers: events, what carriers said, the bytes of it, records."""
        counted = await self.pool.fetchrow(
            "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM tracking_event),"
            " (SELECT count(*) FROM raw_request)"
        )
        return (*counted, (await self.house.sealer.seal()).size)


@pytest.fixture
async def dock(urls, tmp_path, monkeypatch):
    monkeypatch.setenv("ORDERNOTIFY_SENDGRID_API_KEY", "SG.test")
    monkeypatch.setenv("ORDERNOTIFY_SENDGRID_FROM_EMAIL", "orders@northgate.example")
    async with connected(urls, tmp_path, monkeypatch, CARRIER_VENDORS, http_timeout_s=2) as line:
        await line.onboard(EMAIL)
        app = create_app(line.house.settings)
        async with (
            LifespanManager(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://hooks.example") as door,
        ):
            yield Dock(line.house, door, line.sandbox)
            await verified(line.house, urls)


# ---- asked ----


async def test_every_carrier_is_asked_until_the_parcel_has_arrived_and_each_step_is_told_once(dock):
    for name, number in NUMBERS.items():
        await dock.order(f"SO-{name}", number, carrier=CARRIERS[name].title)

    async def arrived():
        rows = await dock.pool.fetch("SELECT carrier FROM shipment WHERE status = 'delivered'")
        return {row["carrier"] for row in rows} == set(NUMBERS)

    async with asyncio.timeout(30):
        while not await arrived():
            await dock.poll()
            await dock.later()
            await asyncio.sleep(0.5)
    for name in NUMBERS:
        told = await dock.told(f"SO-{name}")
        assert told[-2:] == ["out_for_delivery", "delivered"], name
        assert len(told) == len(set(told)), name
        assert await dock.pool.fetchval("SELECT status FROM orders WHERE order_no = $1", f"SO-{name}") == "delivered"
    assert {row["trigger"] for row in await dock.events()} == {"tracking"}
    assert await dock.incidents() == []
    # Carriers correct themselves: each is asked once more a day later, then never again.
    await dock.pool.execute("UPDATE tracking_event SET occurred_at = occurred_at - interval '2 days'")
    await dock.later()
    await dock.poll()
    assert await dock.pool.fetchval("SELECT count(*) FROM shipment WHERE next_question_at IS NOT NULL") == 0


async def test_an_answer_without_anything_new_leaves_no_event_and_no_record(dock):
    await dock.order("SO-1", NUMBERS["ups"])
    for _ in range(5):
        await dock.poll()
        await dock.later()
    before = await dock.written()
    assert await dock.poll() == {"asked": 1, "unchanged": 1}
    assert await dock.written() == before
    assert (await dock.shipment(NUMBERS["ups"]))["asked_at"] > now() - timedelta(seconds=10)


async def test_a_shipment_is_asked_about_again_only_when_it_is_due(dock):
    await dock.order("SO-1", NUMBERS["fedex"], carrier="FedEx")
    assert (await dock.poll())["asked"] == 1
    asked = await dock.requests("fedex")
    assert await dock.poll() == {}
    assert await dock.requests("fedex") == asked
    due = (await dock.shipment(NUMBERS["fedex"]))["next_question_at"]
    assert timedelta(hours=4) < due - now() < timedelta(hours=8)  # a label is made, nothing more


async def test_thirty_numbers_of_a_carrier_that_takes_thirty_are_one_call(dock):
    for place in range(31):
        await dock.order(f"SO-{place}", f"1234567890{place:02}", carrier="FedEx")
    assert (await dock.poll())["asked"] == 31
    assert await dock.requests("fedex") == 3  # a token, thirty numbers, and one


async def test_two_runs_at_once_ask_about_no_shipment_twice(dock):
    for place in range(24):
        await dock.order(f"SO-{place}", f"1Z999AA101234567{place:02}", carrier="UPS")
    both = await asyncio.gather(ask.fn("ups"), ask.fn("ups"))
    assert sum(counts.get("asked", 0) for counts in both) == 24
    assert await dock.requests("ups") == 25


async def test_what_a_dead_run_held_is_asked_about_when_its_lease_ends(dock):
    await dock.order("SO-1", NUMBERS["ups"])
    share = shipments.Share(carrier="ups", rest=False, others=())
    lease = timedelta(minutes=2)
    assert len(await shipments.claim(dock.pool, share, limit=9, lease=lease, at=now())) == 1
    assert "asked" not in await dock.poll()
    assert await ask_about.fn((await dock.shipment(NUMBERS["ups"]))["id"]) == {"held_elsewhere": 1}
    await dock.pool.execute("UPDATE shipment SET lease_until = now() - interval '1 second'")
    assert (await dock.poll())["asked"] == 1


async def test_a_person_can_ask_about_a_shipment_before_it_is_due(dock):
    await dock.order("SO-1", NUMBERS["ups"])
    await dock.poll()
    counts = await ask_about.fn((await dock.shipment(NUMBERS["ups"]))["id"])
    await dock.pipeline()
    assert counts["asked"] == 1
    assert (await dock.told())[-1] == "shipped"
    assert await ask_about.fn(uuid4()) == {"held_elsewhere": 1}


async def test_a_quota_is_kept_by_all_together_and_one_that_is_used_up_postpones(dock):
    quota = (Quota(5, 60), Quota(100, 86_400))
    at = datetime(2026, 11, 2, 9, 0, 3, tzinfo=UTC)
    answers = await asyncio.gather(*(quotas.grant(dock.pool, "pigeon", quota, at=at) for _ in range(20)))
    assert answers.count(None) == 5
    assert {answer for answer in answers if answer} == {datetime(2026, 11, 2, 9, 0, 6, tzinfo=UTC)}
    # Whatever minute one looks at, no more than five calls were made in it.
    moments = [at + timedelta(seconds=3 * step) for step in range(60)]
    granted = [moment for moment in moments if await quotas.grant(dock.pool, "owl", quota, at=moment) is None]
    assert all(sum(one <= other < one + timedelta(seconds=60) for other in granted) <= 5 for one in granted)
    assert len(granted) >= 14
    for _ in range(61):
        await quotas.grant(dock.pool, "usps", CARRIERS["usps"].quota, at=now())
    await dock.order("SO-1", NUMBERS["usps"], carrier="USPS")
    assert await dock.poll() == {"postponed": 1}
    assert await dock.requests("usps") == 0
    row = await dock.shipment(NUMBERS["usps"])
    assert (row["tries"], row["lease_until"]) == (0, None)
    assert now() < row["next_question_at"] < now() + timedelta(minutes=7)
    assert await dock.incidents() == []


@pytest.mark.parametrize(
    ("fault", "more"), [("server_error", {}), ("rate", {}), ("reset", {}), ("hang", {"hang_seconds": 5})]
)
async def test_a_carrier_that_fails_is_asked_again_later_and_the_others_meanwhile(dock, fault, more):
    await dock.order("SO-1", NUMBERS["ups"])
    await dock.order("SO-2", NUMBERS["fedex"])
    await dock.fault("ups", fault, **more)
    counts = await dock.poll()
    assert counts["asked"] == 1
    row = await dock.shipment(NUMBERS["ups"])
    assert (row["tries"], row["asked_at"], row["lease_until"]) == (1, None, None)
    assert row["next_question_at"] > now() + timedelta(minutes=4)
    assert await dock.incidents() == []
    await dock.mend("ups")
    await dock.later()
    assert (await dock.poll())["asked"] == 2
    assert (await dock.shipment(NUMBERS["ups"]))["tries"] == 0


async def test_refused_credentials_are_an_incident_until_the_carrier_answers_again(dock):
    await dock.order("SO-1", NUMBERS["dhl"], carrier="DHL")
    await dock.fault("dhl", "auth")
    await dock.poll()
    assert [kind for kind, _ in await dock.incidents()] == ["carrier_stopped"]
    await dock.mend("dhl")
    await dock.later()
    assert (await dock.poll())["asked"] == 1
    assert await dock.incidents() == []


async def test_a_token_that_was_revoked_before_its_time_is_fetched_anew_and_nobody_is_troubled(dock):
    await dock.order("SO-1", NUMBERS["fedex"], carrier="FedEx")
    await dock.poll()
    await dock.later()
    await dock.fault("fedex", "auth", times=1)
    assert (await dock.poll())["asked"] == 1
    assert await dock.incidents() == []


async def test_a_carrier_whose_promise_to_report_ends_is_asked_for_it_anew(dock):
    await dock.order("SO-1", NUMBERS["ups"])
    assert (await dock.poll())["followed"] == 1
    again_at = (await dock.shipment(NUMBERS["ups"]))["follow_again_at"]
    assert timedelta(days=12) < again_at - now() <= timedelta(days=13)
    await dock.later()
    assert "followed" not in await dock.poll()
    await dock.pool.execute("UPDATE shipment SET follow_again_at = now() - interval '1 second'")
    await dock.later()
    assert (await dock.poll())["followed"] == 1


async def test_nobody_is_asked_about_a_parcel_whose_order_has_ended_by_its_source(dock):
    await dock.order("SO-1", NUMBERS["ups"])
    await dock.order("SO-1", "", status="delivered", hours=1)
    assert await dock.poll() == {}
    assert await dock.requests("ups") == 0
    assert await conclude_shipments.fn() == {}
    # What its carrier says by itself is heard all the same.
    returned = story(Step.LABEL, Step.PICKED_UP, Step.RETURNED, ago=timedelta(minutes=30))
    await dock.push("ups", *push_of("ups", NUMBERS["ups"], returned))
    assert await dock.told() == ["returned returned"]


async def test_a_number_that_a_carrier_refuses_is_an_incident_and_asked_about_a_day_later(dock):
    await dock.order("SO-1", NUMBERS["dhl"], carrier="DHL")
    await dock.fault("dhl", "permanent")
    await dock.poll()
    assert await dock.incidents() == [("number_refused", "dhl_http_400")]
    assert (await dock.shipment(NUMBERS["dhl"]))["next_question_at"] > now() + timedelta(hours=23)


async def test_a_parcel_of_a_carrier_nobody_knows_is_followed_by_the_service_that_takes_the_rest(dock):
    await dock.order("SO-1", "MYSTERY-0000001", carrier="Acme Trucks")
    assert await dock.poll() == {}
    dock.house.settings = dock.house.settings.model_copy(update={"track_with": "aftership"})
    counts = await dock.poll()
    assert (counts["followed"], counts["asked"]) == (1, 1)
    assert (await dock.shipment("MYSTERY-0000001"))["followed_by"] == "aftership"


# ---- told ----

PUSHING = [name for name, carrier in CARRIERS.items() if carrier.push]


@pytest.mark.parametrize("name", PUSHING)
async def test_a_push_is_told_once_whatever_is_redelivered_forged_or_broken(dock, name):
    number = NUMBERS[name]
    await dock.order("SO-1", number, carrier=CARRIERS[name].title)
    steps = story(Step.LABEL, Step.PICKED_UP, Step.OUT)
    headers, body = push_of(name, number, steps)
    answer = await dock.push(name, headers, body)
    assert answer.status_code == CARRIERS[name].push.status
    assert len(answer.json()["accepted"]) == 1
    assert await dock.told() == ["out_for_delivery"]
    again = await dock.push(name, headers, body)
    assert again.status_code == CARRIERS[name].push.status
    assert again.json()["accepted"] == []
    assert again.json()["duplicates"] >= 1
    forged = await dock.push(name, {name: value[:-2] + "xx" for name, value in headers.items()}, body)
    assert forged.status_code == 401
    assert forged.json()["error"]["field"]
    nothing = await dock.push(name, *push_of(name, "", steps))
    assert nothing.status_code == 422
    assert "racking" in nothing.json()["error"]["field"] or "number" in nothing.json()["error"]["field"]
    assert await dock.told() == ["out_for_delivery"]
    await dock.push(name, *push_of(name, number, [*steps, Happened(Step.DELIVERED, now().replace(microsecond=0))]))
    assert await dock.told() == ["out_for_delivery", "delivered"]


@pytest.mark.parametrize("name", ["ups", "fedex", "usps"])
async def test_the_same_event_by_poll_and_by_push_is_one(dock, name):
    number = NUMBERS[name]
    await dock.order("SO-1", number, carrier=CARRIERS[name].title)
    for _ in range(2):
        await dock.poll()
        await dock.later()
    events, told = await dock.events(), await dock.told()
    assert told[-1] == "shipped"
    rows = await dock.pool.fetch("SELECT DISTINCT occurred_at FROM tracking_event ORDER BY 1")
    steps = [Happened(step, row["occurred_at"]) for step, row in zip((Step.LABEL, Step.PICKED_UP), rows, strict=True)]
    answer = await dock.push(name, *push_of(name, number, steps))
    assert answer.json()["accepted"] == []
    assert len(await dock.events()) == len(events)
    # And the other way round: what was pushed is no news when it is asked for.
    await dock.order("SO-2", f"{number[:-2]}21", carrier=CARRIERS[name].title)
    await dock.poll()
    await dock.later()
    (label,) = await dock.pool.fetch(
        "SELECT occurred_at FROM tracking_event t JOIN shipment s ON s.id = t.shipment_id WHERE s.tracking_no = $1",
        f"{number[:-2]}21",
    )
    soon = (now() + timedelta(seconds=1)).replace(microsecond=0)
    await asyncio.sleep((soon - now()).total_seconds())
    steps = [Happened(Step.LABEL, label["occurred_at"]), Happened(Step.PICKED_UP, soon)]
    assert len((await dock.push(name, *push_of(name, f"{number[:-2]}21", steps))).json()["accepted"]) == 1
    before = await dock.told("SO-2")
    if now().replace(microsecond=0) == soon:
        await dock.poll()
        assert await dock.told("SO-2") == before


async def test_a_push_about_a_number_that_no_order_has_is_kept_until_the_order_comes(dock):
    headers, body = push_of("easypost", NUMBERS["ups"], story(Step.LABEL, Step.PICKED_UP))
    answer = await dock.push("easypost", headers, body)
    assert (answer.status_code, answer.json()) == (200, {"accepted": [], "duplicates": 0})
    assert (await dock.push("easypost", headers, body)).json() == {"accepted": [], "duplicates": 2}
    assert await dock.incidents() == []
    await dock.order("SO-1", NUMBERS["ups"])
    await find_due.fn()
    await dock.pipeline()
    assert await dock.told() == ["shipped"]
    assert await dock.pool.fetchval("SELECT count(*) FROM shipment") == 1
    assert (await dock.push("easypost", headers, body)).json()["accepted"] == []


async def test_an_unknown_word_is_an_incident_and_told_to_nobody(dock):
    await dock.order("SO-1", NUMBERS["easypost"], carrier="EasyPost")
    payload = aggregator_payloads.easypost_event(NUMBERS["easypost"], story(Step.LABEL, Step.PICKED_UP))
    payload["result"] |= {"status": "teleported", "status_detail": "teleported"}
    headers, body = easypost_request(payload, secret=WEBHOOK_SECRET)
    assert (await dock.push("easypost", headers, body)).status_code == 200
    assert [kind for kind, _ in await dock.incidents()] == ["unknown_status"]
    assert "unknown" not in await dock.told()


async def test_what_a_person_must_see_first_is_held_until_that_person_lets_it_go(dock):
    await dock.order("SO-1", NUMBERS["easypost"], carrier="EasyPost")
    payload = aggregator_payloads.easypost_event(NUMBERS["easypost"], story(Step.LABEL, Step.PICKED_UP))
    payload["result"] |= {"status": "failure", "status_detail": "lost"}
    headers, body = easypost_request(payload, secret=WEBHOOK_SECRET)
    (event_id,) = [
        row["id"]
        for row in (await dock.push("easypost", headers, body)).json()["accepted"] and await dock.events()
        if row["state"] == "quarantined"
    ]
    assert await dock.incidents() == [("quarantined", "person_first")]
    assert "delayed" not in await dock.told()
    async with batches.opened(None, [event_id], resend=None, run_id=str(uuid4())) as batch:
        await dock.plan(batch)
    assert (await dock.told())[-1] == "delayed"
    assert await dock.incidents() == []


async def test_an_order_of_two_parcels_is_delivered_when_both_are(dock):
    first, second = "1Z999AA10000000001", "1Z999AA10000000002"
    await dock.order("SO-1", first)
    await dock.order("SO-1", second, hours=23)
    assert await dock.pool.fetchval("SELECT count(*) FROM shipment") == 2
    whole = story(Step.LABEL, Step.PICKED_UP, Step.OUT, Step.DELIVERED, ago=timedelta(hours=5))
    await dock.push("ups", *push_of("ups", first, whole))
    assert await dock.told() == ["shipped partial"]
    # Both arrived at the same time, by two pushes at once: each must see the other.
    await asyncio.gather(
        dock.push("ups", *push_of("ups", first, whole)), dock.push("ups", *push_of("ups", second, whole))
    )
    assert (await dock.told())[-1] == "delivered"
    assert await dock.pool.fetchval("SELECT status FROM orders") == "delivered"


async def test_one_parcel_of_two_orders_is_asked_about_once_and_told_to_both(dock):
    for order in ("SO-1", "SO-2"):
        await dock.order(order, NUMBERS["ups"])
    for _ in range(2):
        await dock.poll()
        await dock.later()
    assert await dock.requests("ups") == 4  # a token, a subscription, and two questions
    assert await dock.told("SO-1") == await dock.told("SO-2") != []


# ---- silence ----


async def test_a_day_that_passed_is_told_once_and_a_silence_is_for_a_person(dock):
    yesterday = (now() - timedelta(days=2)).date().isoformat()
    await dock.order("SO-1", NUMBERS["ups"], hours=72, promised_date=yesterday)
    counts = await conclude_shipments.fn()
    assert (counts["late"], counts["events"]) == (1, 1)
    await dock.pipeline()
    assert await dock.told() == ["delayed"]
    assert await dock.pool.fetchval("SELECT promised_date FROM orders") == yesterday
    assert {row["trigger"] for row in await dock.events()} == {"exception"}
    assert await conclude_shipments.fn() == {"shipments": 1}
    assert await dock.incidents() == []
    await dock.pool.execute("UPDATE shipment SET since = since - interval '20 days'")
    # Whom nobody asked is not silent.
    assert await conclude_shipments.fn() == {"shipments": 1}
    await dock.pool.execute("UPDATE shipment SET asked_at = now()")
    counts = await conclude_shipments.fn()
    await dock.pipeline()
    assert (counts["silent"], counts.get("events", 0)) == (1, 0)
    assert await dock.told() == ["delayed"]
    assert ("shipment_attention", "ordernotify.silent") in await dock.incidents()
    await dock.pool.execute("UPDATE shipment SET since = since - interval '90 days', next_question_at = NULL")
    assert (await conclude_shipments.fn())["given_up"] == 1
    # Given up is the end of it.
    assert await conclude_shipments.fn() == {}
