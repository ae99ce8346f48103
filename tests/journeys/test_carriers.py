"""Tracking in a whole house: by poll and by push, with carriers failing around it, and through a kill.

Clients are told by Slack alone, because the other journeys count what Twilio and SendGrid take.
"""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("house")]

SLACK = "https://hooks.slack.com/services/T000TRACK/B000{name}/track{name}00000000000000"
FEDEX, USPS, DHL = "123456789012", "9400111899223197428490", "JD014600003889700001"


class Tower:
    """A house as those who ask carriers see it."""

    def __init__(self, house):
        self.house = house

    async def order(self, client, number, tracking_no, carrier):
        """Post an order with a parcel, and return the shipment's id."""
        self.house.private.add(tracking_no)
        event = await self.house.post(client, number, "processing", carrier=carrier, tracking_no=tracking_no)
        await self.house.settled([event])
        (row,) = await self.house.fetch("SELECT id FROM shipment WHERE tracking_no = $1", tracking_no)
        return row["id"]

    async def control(self, method, path, **given):
        async with httpx.AsyncClient(base_url=self.house.sandbox_url, trust_env=False) as sandbox:
            answer = await sandbox.request(method, f"/_control/{path}", json=given)
            assert answer.is_success, answer.text

    async def run(self, **parameters):
        """Press "Run" on the deployment in Prefect's UI, and return the run's id."""
        async with self.house.prefect() as prefect:
            found = (await prefect.client.get("/deployments/name/tracking-poll/tracking-poll")).json()["id"]
            answer = await prefect.client.post(f"/deployments/{found}/create_flow_run", json={"parameters": parameters})
            assert answer.status_code == 201, answer.text
            return answer.json()["id"]

    async def polled(self, **parameters):
        run = await self.run(**parameters)
        async with self.house.prefect() as prefect:
            await prefect.completed(run)
            return run

    async def due(self):
        """Let every wait be over, and every lease, as some hours later."""
        await self.house.fetch(
            "UPDATE shipment SET next_question_at = now(), lease_until = NULL WHERE next_question_at IS NOT NULL"
            " RETURNING id",
            role="app",
        )

    async def requests(self, carrier):
        return (await self.house.counts(carrier))["requests"]

    async def told(self, number):
        """Return what was sent about an order besides its first event, each with its delivery's reference."""
        return await self.house.fetch(
            "SELECT e.status, d.reference, d.status AS delivery FROM delivery d JOIN event e ON e.id = d.event_id"
            " JOIN orders o ON o.id = d.order_id WHERE o.order_no = $1 AND e.trigger = 'tracking'"
            " ORDER BY e.occurred_at",
            number,
        )

    async def quiet(self):
        """Wait until everything that was accepted has ended."""

        async def ended():
            (row,) = await self.house.fetch(
                "SELECT (SELECT count(*) FROM event WHERE state IN ('waiting', 'claimed', 'admitted', 'planned'))"
                " + (SELECT count(*) FROM delivery WHERE status IN ('planned', 'authorized', 'sending', 'deferred'))"
                " AS open"
            )
            return row["open"] == 0

        await self.house.until(ended)


@pytest.fixture
def tower(house):
    return Tower(house)


async def test_a_parcel_is_told_of_by_push_and_by_poll_each_step_once(house, tower):
    await house.onboard("golf", slack=SLACK.format(name="GOLF"))
    await tower.control("PUT", "ups/webhooks", events=f"{house.web_url}/webhooks/ups")
    await tower.order("golf", "SO-T1", "1Z999AA10123456784", "UPS")
    asked = await tower.order("golf", "SO-T2", FEDEX, "FedEx")
    await tower.polled()

    async def arrived():
        rows = await house.fetch("SELECT order_no FROM orders WHERE status = 'delivered'")
        return "SO-T1" in {row["order_no"] for row in rows}

    # UPS was asked to report the parcel, and does so by signed calls, a step a second.
    await house.until(arrived)
    await tower.quiet()
    told = [row["status"] for row in await tower.told("SO-T1")]
    assert told[-2:] == ["out_for_delivery", "delivered"]
    assert len(told) == len(set(told))
    listed = await asyncio.to_thread(house.run, "shipments", "SO-T2", "--json")
    assert [row["id"] for row in json.loads(listed.stdout)["shipments"]] == [str(asked)]
    # A person asks about one shipment now; a moment later the answer is Prefect's, and nobody is asked.
    before = await tower.requests("fedex")
    for _ in range(2):
        await tower.polled(shipment_ids=[str(asked)])
        assert await tower.requests("fedex") == before + 1
    await tower.quiet()
    assert [row["status"] for row in await tower.told("SO-T2")][-1] == "shipped"
    assert {row["delivery"] for row in await tower.told("SO-T2")} <= {"sent", "delivered", "superseded"}


async def test_carriers_that_fail_hold_up_nobody_and_are_asked_again(house, tower):
    await house.onboard("hotel", slack=SLACK.format(name="HOTEL"))
    await tower.control("PUT", "ups/webhooks")
    numbers = {"UPS": "1Z999AA10123456700", "FedEx": "123456789020", "USPS": USPS, "DHL": DHL}
    for carrier, number in numbers.items():
        await tower.order("hotel", f"SO-H{carrier}", number, carrier)
    await tower.control("POST", "ups/fault", fault="server_error")
    await tower.control("POST", "fedex/fault", fault="rate")
    await tower.control("POST", "dhl/fault", fault="hang", hang_seconds=8)
    await tower.polled()

    async def facts():
        rows = await house.fetch(
            "SELECT o.order_no, s.tries, s.asked_at FROM shipment s JOIN orders o ON o.id = s.order_id"
            " WHERE o.order_no LIKE 'SO-H%'"
        )
        return {row["order_no"].removeprefix("SO-H"): (row["tries"], row["asked_at"] is not None) for row in rows}

    assert await facts() == {"UPS": (1, False), "FedEx": (1, False), "USPS": (0, True), "DHL": (0, True)}
    for carrier in ("ups", "fedex", "dhl"):
        await tower.control("DELETE", f"{carrier}/fault")
    for _ in range(2):
        await tower.due()
        await tower.polled()
    await tower.quiet()
    assert {"UPS": (0, True), "FedEx": (0, True)}.items() <= (await facts()).items()
    for carrier in ("UPS", "FedEx"):
        assert [row["status"] for row in await tower.told(f"SO-H{carrier}")][-1] == "shipped"


async def test_a_worker_killed_while_it_asks_loses_nothing_and_tells_nothing_twice(house, tower):
    address = SLACK.format(name="INDIA")
    await house.onboard("india", slack=address)
    orders = [f"SO-I{place}" for place in range(24)]
    await asyncio.gather(
        *(tower.order("india", order, f"1Z999AA1012345{place:03}0", "UPS") for place, order in enumerate(orders))
    )
    await tower.polled()
    await tower.due()
    await tower.quiet()
    before = await tower.requests("ups")
    await tower.control("POST", "ups/fault", fault="hang", hang_seconds=0.4)
    await tower.run()

    async def some_are_written():
        return await tower.requests("ups") - before > 9

    await house.until(some_are_written)
    dead = house.kill("worker")
    await house.back("worker", dead)
    await tower.control("DELETE", "ups/fault")
    await tower.due()
    await tower.polled()
    await tower.quiet()
    seen = await house.references("slack")
    for order in orders:
        told = await tower.told(order)
        assert "shipped" in {row["status"] for row in told}, order
        assert all(seen.get(row["reference"], 0) <= 1 for row in told)
        assert {row["delivery"] for row in told} <= {"sent", "delivered", "read", "superseded", "unknown"}
    assert (await house.counts("slack"))["duplicates"] == 0
