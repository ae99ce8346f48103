"""Exceptions in a whole house: swept through Prefect, told once, held until compliance decides, through every kill."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.holds import HoldAnswer, HoldDecision, HoldReason
from ordernotify.core.people import Person, Role
from ordernotify.store import holds, people, sessions
from ordernotify.store.audit import Scribe
from ordernotify.store.database import connect
from ordernotify.store.sessions import Issued

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("house")]

PASSWORD = "maple-otter 41 canyon"
SCRIBE = Scribe("journey")
ADMIN = Actor(kind="person", id="root_admin")
TWO = "N00024-26-C-9999"
PASSED = "2026-11-05"


@asynccontextmanager
async def store(house):
    """The store as the portal has it."""
    pool = await connect(json.loads((house.state / "urls.json").read_text())["app"], size=1)
    try:
        yield pool
    finally:
        await pool.close()


async def person(house, name):
    async with store(house) as pool:
        made = await people.add_person(
            pool,
            SCRIBE,
            person_id=name,
            name="Quill",
            roles=[Role.COMPLIANCE],
            password=PASSWORD,
            actor=ADMIN,
            at=now(),
        )
    assert isinstance(made, Person)
    return made


async def code(house, name):
    async with store(house) as pool:
        issued = await sessions.issue_code(pool, SCRIBE, person_id=name, password=PASSWORD, ip="", at=now())
    assert isinstance(issued, Issued)
    return issued.code


async def started(prefect):
    """Start a sweep as "Run" in the UI does; returns its run."""
    deployment = (await prefect.client.get("/deployments/name/exception-sweep/exception-sweep")).json()["id"]
    answer = await prefect.client.post(f"/deployments/{deployment}/create_flow_run", json={})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def sweep(prefect):
    return await prefect.completed(await started(prefect))


async def run_of(house, hold_id):
    (row,) = await house.fetch("SELECT flow_run_id FROM hold WHERE id = $1", hold_id)
    return row["flow_run_id"]


async def asleep(house, prefect, run, key):
    """Wait until a hold's run sleeps over a question."""

    async def sleeps():
        found = (await prefect.client.get(f"/flow_runs/{run}")).json()
        assert found["state_type"] not in {"FAILED", "CRASHED", "COMPLETED"}, found["state"]
        return found["state_type"] == "PAUSED" and found["state"]["state_details"]["pause_key"] == key

    await house.until(sleeps, 40)


async def resume(house, prefect, run, given):
    """Fill in the form and press Resume."""
    form = {"decision": "release", "reason": "license_granted", "code": given}

    async def accepted():
        # The form follows the state by a moment.
        answer = await prefect.client.post(f"/flow_runs/{run}/resume", json={"run_input": form})
        return answer.json()["status"] == "ACCEPT"

    await house.until(accepted, 10)


async def held(house, client, order, **more):
    """Post an order that comes under review, and return its hold."""
    event = await house.post(client, order, "regulatory_hold", **more)
    await house.settled([event])
    (row,) = await house.fetch("SELECT id FROM hold WHERE event_id = $1", event)
    return row["id"]


async def exceptions_told(house, client):
    return await house.fetch(
        "SELECT id FROM event WHERE trigger = 'exception' AND content ->> 'client_ref' = $1", client
    )


async def test_a_sweep_tells_passed_promises_once_and_opens_what_a_person_must_see(house):
    await house.onboard("exc", twilio="+12025550161")
    late = await house.post("exc", "SO-EXC1", "processing", promised_date=PASSED)
    waiting = await house.post("exc", "SO-EXC2", "backordered")
    await house.settled([late, waiting])
    async with house.prefect() as prefect:
        await sweep(prefect)
        told = await exceptions_told(house, "exc")
        assert len(told) == 1
        await house.settled([row["id"] for row in told])
        await sweep(prefect)
    assert len(await exceptions_told(house, "exc")) == 1
    assert await house.taken("twilio", "+12025550161") == 3
    rows = await house.fetch(
        "SELECT kind FROM incident WHERE closed_at IS NULL AND order_id = (SELECT order_id FROM event WHERE id = $1)",
        waiting,
    )
    assert [row["kind"] for row in rows] == ["backorder"]


async def test_a_hold_is_released_by_two_in_prefects_form_though_the_worker_dies_between(house):
    phone = "+12025550162"
    house.private.add(phone)
    for name in ("ann_lee", "bo_lind"):
        await person(house, name)
    async with house.web() as web:
        contract = await web.put(f"/api/v1/contracts/{TWO}", json={"label": "fci", "release_by_two": True})
        phone_of = {"key": "twilio", "channel": "sms", "platform": "twilio", "address": phone, "verified": True,
                    "consent": "granted"}  # fmt: skip
        dock = {"id": "hld-person", "name": "Dock", "us_person": "verified", "location_country": "US",
                "contracts": [TWO], "training_until": "2099-01-01", "agreement_until": "2099-01-01",
                "contacts": [phone_of]}  # fmt: skip
        client = await web.put("/api/v1/clients/hld", json={"name": "Hld", "recipients": [dock]})
        assert (contract.status_code, client.status_code) == (204, 204), contract.text + client.text
    hold_id = await held(house, "hld", "SO-HLD1", contract=TWO)
    shipped = await house.post("hld", "SO-HLD1", "shipped", contract=TWO, occurred_at="2026-11-02T10:00:00Z")
    async with house.prefect() as prefect:
        await sweep(prefect)
        run = await run_of(house, hold_id)
        await asleep(house, prefect, run, "ask-1")
        # Killed between the question and its answer: the answer waits for the next worker.
        dead = house.kill("worker")
        await resume(house, prefect, run, await code(house, "ann_lee"))
        await house.back("worker", dead)
        await asleep(house, prefect, run, "ask-2")
        await resume(house, prefect, run, await code(house, "ann_lee"))
        await asleep(house, prefect, run, "ask-3")
        await resume(house, prefect, run, "ABCD-EFGH-JKLM")
        await asleep(house, prefect, run, "ask-4")
        assert await house.taken("twilio", phone) == 1
        (row,) = await house.fetch("SELECT ended_at FROM hold WHERE id = $1", hold_id)
        assert row["ended_at"] is None
        await sweep(prefect)
        assert await run_of(house, hold_id) == run
        await resume(house, prefect, run, await code(house, "bo_lind"))

        async def ended():
            return (await prefect.client.get(f"/flow_runs/{run}")).json()["state_type"] == "COMPLETED"

        await house.until(ended, 40)
    await house.settled([shipped])
    assert await house.taken("twilio", phone) == 2
    votes = await house.fetch("SELECT person_id, decision FROM hold_vote WHERE hold_id = $1 ORDER BY at", hold_id)
    assert [tuple(vote.values()) for vote in votes] == [("ann_lee", "release"), ("bo_lind", "release")]


async def test_a_hold_decided_elsewhere_ends_its_run_and_a_lost_run_is_replaced(house):
    await house.onboard("els", twilio="+12025550163")
    ann = await person(house, "cara_moss")
    hold_id = await held(house, "els", "SO-ELS1")
    async with house.prefect() as prefect:
        await sweep(prefect)
        lost = await run_of(house, hold_id)
        await asleep(house, prefect, lost, "ask-1")
        state = {"type": "CANCELLED", "name": "Cancelled"}
        await prefect.client.post(f"/flow_runs/{lost}/set_state", json={"state": state, "force": True})
        await sweep(prefect)
        run = await run_of(house, hold_id)
        assert run != lost
        await asleep(house, prefect, run, "ask-1")
        async with store(house) as pool:
            answer = await holds.decide(
                pool, SCRIBE, hold_id=hold_id, person=ann, decision=HoldDecision.RELEASE,
                reason=HoldReason.PLACED_IN_ERROR, at=now(),
            )  # fmt: skip
        assert answer is HoldAnswer.RELEASED
        await sweep(prefect)
        found = await prefect.completed(run, runs=2)
        assert found["state_type"] == "COMPLETED"
        await sweep(prefect)
        assert await run_of(house, hold_id) == ""


async def test_a_sweep_killed_in_the_middle_with_a_platform_down_loses_and_repeats_nothing(house):
    phone, orders = "+12025550164", 60
    await house.onboard("mid", twilio=phone)
    events = [await house.post("mid", f"SO-MID{n}", "processing", promised_date=PASSED) for n in range(orders)]
    await house.settled(events)
    async with httpx.AsyncClient(base_url=house.sandbox_url, trust_env=False) as sandbox:
        await sandbox.post("/_control/twilio/fault", json={"fault": "server_error"})
    async with house.prefect() as prefect:
        run = await started(prefect)

        async def at_work():
            return (await prefect.client.get(f"/flow_runs/{run}")).json()["state_type"] == "RUNNING"

        await house.until(at_work, 20)
        dead = house.kill("worker")
        await house.back("worker", dead)
        # Nobody reads of a run that goes on for ever: it ended with its process.
        assert (await prefect.client.get(f"/flow_runs/{run}")).json()["state_type"] == "CRASHED"
        await sweep(prefect)
        await house.hurry("twilio")
        told = await exceptions_told(house, "mid")
        assert len(told) == orders
        await house.settled([row["id"] for row in told], 90)
    references = await house.references("twilio")
    rows = await house.fetch("SELECT reference FROM delivery WHERE event_id = ANY($1)", [row["id"] for row in told])
    assert {references.get(row["reference"]) for row in rows} == {1}
    verified = await asyncio.to_thread(house.run, "ledger", "verify", "--json")
    assert verified.returncode == 0, verified.stdout
