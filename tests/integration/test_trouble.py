"""Trouble at a platform: what becomes of the message, what is tried again, and what the records say.

The same house as in ``test_pipeline.py``; every platform meets every trouble that its vendor can make.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest
from asgi_lifespan import LifespanManager

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.onboarding import ClientBody
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Idempotency
from ordernotify.sandbox._base import Reply, Vendor
from ordernotify.sandbox.app import environment
from ordernotify.sandbox.vendors import VENDORS
from ordernotify.settings import Settings
from ordernotify.store import directory, inbox
from ordernotify.web.app import create_app
from tasks import stages
from tests.integration.bench import (
    EMAIL,
    PERSON,
    SMS,
    USED,
    Running,
    connected,
    first_true,
    opened_house,
)

pytestmark = pytest.mark.integration


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


# ---- every platform, in every trouble: the status, the retry, the record ----

EVERY = {name: platform for name, platform in PLATFORMS.items() if platform.sends}
HARMLESS = {Idempotency.NATIVE, Idempotency.OVERWRITE}


@pytest.fixture
async def wide(urls, tmp_path, monkeypatch):
    """A house connected to all vendors, with one client who wants everything everywhere."""
    async with connected(urls, tmp_path, monkeypatch, VENDORS) as bench:
        await bench.onboard(
            *(
                (name.replace("_", "-"), platform.channel_for(platform.example).value, name, platform.example)
                for name, platform in EVERY.items()
            )
        )
        for name, platform in EVERY.items():
            await bench.house.wire.prepare(platform, bench.house.context(name))
        yield bench


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
