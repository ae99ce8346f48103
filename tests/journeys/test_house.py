"""A whole house: webhooks in, messages out once, through the Prefect UI, the command line and every kill.

The tests share one house and run in this order; the last one ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from uuid import UUID, uuid4

import httpx
import pytest

from ordernotify.credentials import load_credentials
from ordernotify.store import cluster

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("house")]

LINUX = sys.platform == "linux"


async def test_signed_webhooks_reach_each_platform_once_and_a_redelivery_is_a_duplicate(house):
    await house.onboard("acme", twilio="+12025550101", sendgrid="ann@acme-journey.example")
    before = {platform: await house.counts(platform) for platform in ("twilio", "sendgrid")}
    async with house.web() as web:
        answers = [
            await house.webhook(web, "acme", f"SO-A{number}", "received", message_id=f"m{number}")
            for number in range(20)
        ]
        assert [answer.status_code for answer in answers] == [202] * 20
        again = await house.webhook(web, "acme", "SO-A0", "received", message_id="m0")
        assert (again.status_code, again.json()) == (200, {"accepted": [], "duplicates": 1})
        forged = await web.post("/webhooks/standard_webhooks", headers={"webhook-id": "x"}, content=b"{}")
        assert forged.status_code == 401
        await house.settled(UUID(answer.json()["accepted"][0]) for answer in answers)
        (history,) = (await web.get("/api/v1/orders/SO-A0")).json()
        assert [event["state"] for event in history["events"]] == ["closed"]
        assert sorted(delivery["platform"] for delivery in history["deliveries"]) == ["sendgrid", "twilio"]
    for platform, earlier in before.items():
        counts = await house.counts(platform)
        assert (counts["taken"] - earlier["taken"], counts["duplicates"]) == (20, 0)

    async def receipts_applied():
        rows = await house.fetch(
            "SELECT count(*) FROM delivery WHERE platform = 'twilio' AND status = 'delivered' AND client_id = 'acme'"
        )
        return rows[0]["count"] == 20

    await house.until(receipts_applied)


async def test_runs_and_retries_from_the_prefect_ui_execute_warm_and_send_nothing_twice(house):
    phone = "+12025550102"
    await house.onboard("boreal", twilio=phone)
    event = await house.post("boreal", "SO-B1")
    await house.settled([event])
    (row,) = await house.fetch("SELECT batch_id FROM event WHERE id = $1", event)
    async with house.prefect() as prefect:
        by_batch = await prefect.create(batch_id=str(row["batch_id"]))
        by_event = await prefect.create(event_ids=[str(event)])
        for run in (by_batch, by_event):
            found = await prefect.completed(run)
            # Picked up by the pool's worker, not by a process of its own.
            assert found["work_pool_name"] == "notifications"
            await prefect.retry(run)
            await prefect.completed(run, runs=2)
        assert await house.taken("twilio", phone) == 1
        resend = await prefect.create(event_ids=[str(event)], resend="client_asked")
        await prefect.completed(resend)
        assert await house.taken("twilio", phone) == 2
        await prefect.retry(resend)
        await prefect.completed(resend, runs=2)
        assert await house.taken("twilio", phone) == 2
        # The run that the dispatcher made can be retried in the UI as well.
        (batch,) = await house.fetch("SELECT flow_run_id FROM batch WHERE id = $1", row["batch_id"])
        await prefect.retry(batch["flow_run_id"])
        await prefect.completed(batch["flow_run_id"], runs=2)
    assert await house.taken("twilio", phone) == 2
    reasons = await house.fetch("SELECT resend FROM batch WHERE $1 = ANY(event_ids) AND resend <> ''", event)
    assert [entry["resend"] for entry in reasons] == ["client_asked"]


async def test_one_notice_can_be_sent_from_the_command_line(house):
    address = "+12025550123"
    house.private.add(address)
    done = await asyncio.to_thread(house.run, "send", "twilio", "--to", address, "--status", "shipped", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] in {"sent", "delivered"}
    assert await house.taken("twilio", address) == 1


async def test_runs_stand_by_and_those_that_somebody_deletes_lose_nothing(house):
    phone = "+12025550104"
    await house.onboard("dune", twilio=phone)
    async with house.prefect() as prefect:
        standing = await house.until(prefect.standing)
        event = await house.post("dune", "SO-D1")
        await house.settled([event])
        (batch,) = await house.fetch(
            "SELECT flow_run_id FROM batch WHERE id = (SELECT batch_id FROM event WHERE id = $1)", event
        )
        assert batch["flow_run_id"] in standing
        for run in await house.until(prefect.standing):
            assert (await prefect.client.delete(f"/flow_runs/{run}")).status_code == 204
        await house.settled([await house.post("dune", "SO-D2")])
    assert await house.taken("twilio", phone) == 2


async def test_a_block_saved_in_prefects_ui_is_found_by_its_name(house, monkeypatch):
    secret = "canary-of-a-block"
    twilio = {"account_sid": f"AC{'0' * 32}", "auth_token": secret, "from_number": "+12025550100"}
    house.private.add(secret)
    monkeypatch.setenv("PREFECT_API_URL", f"{house.prefect_url}/api")
    async with house.prefect() as prefect:
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", prefect.login)
        assert not {"twilio", "telegram"} & set((await load_credentials()).settings)
        for platform, name, data in (
            ("twilio", "ordernotify", twilio),
            ("telegram", "ordernotify", {"bot_token": "no token at all"}),
            ("slack", "another", {"webhook_url": "https://hooks.slack.com/services/T0/B0/x"}),
        ):
            await prefect.save_block(f"ordernotify-{platform}", name, data)
        found = await load_credentials()
        assert found.complete
        assert found.settings["twilio"].auth_token.get_secret_value() == secret
        assert not {"telegram", "slack"} & set(found.settings)
        # Whoever has another password learns nothing, and takes nobody for unconfigured.
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ordernotify:wrong")
        assert not (await load_credentials()).complete


VICTIMS = ("worker", "web", "prefect", "postgres")
BURST = 500
PAUSE_S = 0.03


async def test_nothing_is_lost_or_repeated_when_every_part_is_killed_in_mid_burst(house):
    await house.onboard("cobalt", twilio="+12025550103", sendgrid="cy@cobalt-journey.example")
    platforms = ("twilio", "sendgrid")
    for platform in platforms:
        await house.slow_down(platform, 0.4)
    share = BURST // len(VICTIMS)

    async def on_the_wire():
        rows = await house.fetch("SELECT count(*) FROM delivery WHERE status = 'sending'")
        return rows[0]["count"] > 0

    async with house.web() as web, asyncio.TaskGroup() as posts:
        for turn, victim in enumerate(VICTIMS):
            for number in range(turn * share, (turn + 1) * share):
                posts.create_task(insistently(house, web, f"SO-C{number}", f"c{number}"))
                await asyncio.sleep(PAUSE_S)
                if number == turn * share + share // 2:
                    await house.until(on_the_wire)
                    dead = house.kill(victim)
            await house.back(victim, dead)
    for platform in platforms:
        await house.hurry(platform)

    async def drained():
        rows = await house.fetch(
            "SELECT (SELECT count(*) FROM event WHERE state NOT IN ('closed', 'noted', 'quarantined'))"
            " + (SELECT count(*) FROM delivery WHERE status IN ('planned', 'authorized', 'sending', 'deferred')"
            "    OR (status = 'unknown' AND next_attempt_at < 'infinity')) AS open"
        )
        return rows[0]["open"] == 0

    await house.until(drained, 90)
    events = await house.fetch(
        "SELECT id, state FROM event WHERE dedupe_key LIKE 'c%' AND source = $1", "standard_webhooks"
    )
    assert len(events) == BURST
    assert {row["state"] for row in events} == {"closed"}
    deliveries = await house.fetch(
        "SELECT id, reference, platform, status FROM delivery WHERE event_id = ANY($1)", [row["id"] for row in events]
    )
    assert len(deliveries) == 2 * BURST
    doubted = {
        row["id"]
        for row in await house.fetch(
            "SELECT (convert_from(body, 'UTF8')::jsonb -> 'object' ->> 'id') AS id FROM audit.entry"
            " WHERE convert_from(body, 'UTF8')::jsonb ->> 'type' = 'delivery.unknown'"
        )
    }
    seen = {platform: await house.references(platform) for platform in platforms}
    for row in deliveries:
        times = seen[row["platform"]].get(row["reference"], 0)
        # Sent once; more or less only where the ledger says that nobody could know.
        assert row["status"] in {"sent", "delivered", "read", "unknown"}, dict(row)
        assert times == 1 or str(row["id"]) in doubted, (times, dict(row))
        assert times >= 1 or row["status"] == "unknown", dict(row)
    # What a crash leaves in doubt is what was on the wire, not a batch.
    assert len(doubted) < 200
    verified = await asyncio.to_thread(house.run, "ledger", "verify", "--json")
    assert verified.returncode == 0, verified.stdout
    assert json.loads(verified.stdout)["ok"]


async def insistently(house, web, order, message_id):
    """Post an event as a vendor does: again and again until somebody says that it is stored."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = await house.webhook(web, "cobalt", order, "received", message_id=message_id)
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.is_success:
            return
        assert answer is None or answer.status_code == 503, answer.text
        await asyncio.sleep(0.3)
    raise TimeoutError(f"{message_id} was not taken within a minute")


async def test_no_personal_value_and_nothing_of_an_order_is_in_prefect_or_in_a_log(house):
    phone, mail = "+12025550199", "canary@canary-journey.example"
    await house.onboard("canary", twilio=phone, sendgrid=mail)
    house.private |= {"1ZCANARY0099887766", "canary-detail", "RAD-CANARY-9"}
    facts = {"tracking_no": "1ZCANARY0099887766", "carrier": "UPS", "detail": "canary-detail"}
    async with httpx.AsyncClient(base_url=house.sandbox_url, trust_env=False) as sandbox:
        await sandbox.post("/_control/twilio/fault", json={"fault": "permanent", "times": 1})
    told = await house.post("canary", "SO-CANARY-1", "shipped", **facts)
    held = await house.post("canary", "SO-CANARY-2", lines=[{"sku": "RAD-CANARY-9", "quantity": 1}])
    async with house.web() as web:
        answer = await web.post("/api/v1/events", json={"id": "SO-CANARY-3", "order_id": ["SO-CANARY-3"]})
        assert answer.status_code == 422
        assert (await web.post("/webhooks/twilio", content=f"From={phone}")).status_code == 401

    async def written_down():
        (row,) = await house.fetch(
            "SELECT bool_and(finished_at IS NOT NULL) AS all FROM batch WHERE event_ids && $1", [told, held]
        )
        return row["all"]

    await house.until(written_down)
    (batch,) = await house.fetch("SELECT id::text, flow_run_id FROM batch WHERE $1 = ANY(event_ids)", told)

    async def heard_by_prefect():
        rows = await house.fetch(
            "SELECT count(*) FROM events WHERE resource_id = $1 AND event = 'prefect.flow-run.Completed'",
            f"prefect.flow-run.{batch['flow_run_id']}",
            role="prefect",
        )
        return rows[0]["count"] > 0

    await house.until(heard_by_prefect)
    tables = await house.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", role="prefect")
    # Where a word is not found, no longer one with it inside is.
    words = {word for word in house.private if not any(other in word for other in house.private - {word})}
    found = []
    for table in (row["tablename"] for row in tables):
        rows = await house.fetch(
            f'WITH shown AS MATERIALIZED (SELECT t::text AS content FROM "{table}" t)'  # noqa: S608 - a name that PostgreSQL gave
            " SELECT DISTINCT word FROM shown, unnest($1::text[]) AS word WHERE position(word IN content) > 0",
            [*sorted(words), batch["id"]],
            role="prefect",
        )
        found += [(table, row["word"]) for row in rows]
    # Ids travel: that this one is found shows that the search finds.
    assert ("flow_run", batch["id"]) in found
    found = [(table, word) for table, word in found if word != batch["id"]]
    logs = house.logs()
    assert {"web.log", "worker.log", "prefect.log", "server.log"} <= set(logs)
    found += [(name, word) for name, text in logs.items() for word in words if word in text]
    assert found == []


async def test_a_killed_house_starts_again_and_a_stopped_one_leaves_nothing_behind(house):
    waiting = uuid4()
    house.stop(signal.SIGKILL)
    house.start()
    await house.onboard("delta", twilio="+12025550104")
    event = await house.post("delta", f"SO-D{waiting.hex[:6]}")
    await house.settled([event])
    running = cluster.status(house.state / "database")
    shared = house.shared_memory()
    assert house.stop() == 0
    assert not running.socket_dir.exists()
    assert not any(path.exists() for path in shared)
    if LINUX:
        assert house.processes() == {}
    assert cluster.status(house.state / "database") is None
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)
