"""The portal as staff meet it: a real browser without scripts, a real house, vendors in trouble, and every kill."""

from __future__ import annotations

import json
import re
import shutil
from uuid import UUID

import httpx
import pytest
from playwright.async_api import async_playwright

from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.people import Person, Role
from ordernotify.store import people
from ordernotify.store.audit import Scribe
from ordernotify.store.database import connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PASSWORD = "herons wade through 7 marshes"

pytestmark = [
    pytest.mark.journey,
    pytest.mark.xdist_group("house"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is in PATH"),
]


@pytest.fixture
async def tab():
    """A tab of a new browser in which no script runs: the portal must not need one."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        context = await browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
        page = await context.new_page()
        page.set_default_timeout(30_000)
        yield page
        await browser.close()


async def hire(house, person):
    urls = json.loads((house.state / "urls.json").read_text())
    pool = await connect(urls["app"], size=1)
    try:
        made = await people.add_person(
            pool, Scribe("cli"), person_id=person, name="Robin Oduya", roles=[Role.STAFF], password=PASSWORD,
            actor=Actor(kind="person", id="cli"), at=now(),
        )  # fmt: skip
    finally:
        await pool.close()
    assert isinstance(made, Person)
    house.private |= {PASSWORD, "Robin Oduya"}


async def sign_in(house, tab, person, password=PASSWORD):
    await tab.goto(f"{house.web_url}/portal/")
    await tab.get_by_label("Name").fill(person)
    await tab.get_by_label("Password").fill(password)
    await tab.get_by_role("button", name="Sign in").click()


async def find(tab, order):
    await tab.get_by_role("link", name="Orders", exact=True).first.click()
    await tab.get_by_label("Order number, client or tracking number").fill(order)
    await tab.get_by_role("button", name="Find").click()
    await tab.get_by_role("link", name=order).click()


async def outcomes(tab):
    """Wait until nothing is on its way any more, reloading as the page asks to, and return the outcomes shown."""
    for _ in range(60):
        if not await tab.get_by_text("on their way").count():
            break
        await tab.wait_for_timeout(500)
        await tab.reload()
    rows = await tab.locator("td[data-label=Outcome]").all_inner_texts()
    platforms = await tab.locator("td[data-label=Platform]").all_inner_texts()
    return dict(zip(platforms, rows, strict=True))


async def request_of(house, tab):
    """Return the events of the request that a tab shows."""
    request = UUID(re.search(r"/requests/([0-9a-f-]{36})", tab.url)[1])
    rows = await house.fetch("SELECT event_id FROM portal_row WHERE request_id = $1 AND event_id IS NOT NULL", request)
    return [row["event_id"] for row in rows]


async def test_staff_sign_in_find_an_order_preview_post_and_see_the_result_with_a_platform_failing(house, tab):
    await hire(house, "robin_o")
    await house.onboard("desk", twilio="+12025550151", sendgrid="ann@desk-journey.example", slack="C0DESK0001")
    await house.settled([await house.post("desk", "SO-DESK-1")])
    await sign_in(house, tab, "robin_o")
    await find(tab, "SO-DESK-1")
    assert "Received" in await tab.locator("h1").inner_text()

    await tab.get_by_role("link", name="Post an update").click()
    await tab.get_by_label("New status").select_option("delivered")
    await tab.get_by_label("Reason").select_option("carrier_told")
    await tab.get_by_role("button", name="Preview the messages").click()
    previewed = await tab.locator(".message .text").all_inner_texts()
    assert len(previewed) == 3
    before = {name: (await house.counts(name))["taken"] for name in ("twilio", "sendgrid", "slack")}

    async with httpx.AsyncClient(base_url=house.sandbox_url, trust_env=False) as sandbox:
        assert (await sandbox.post("/_control/slack/fault", json={"fault": "permanent"})).is_success
        await tab.get_by_role("button", name="Post this update").click()
        shown = await outcomes(tab)
        await sandbox.delete("/_control/slack/fault")
    assert shown["Slack"] == "Rejected"
    assert {shown["Twilio SMS"], shown["SendGrid"]} <= {"Sent", "Delivered"}
    rows = await house.fetch(
        "SELECT m.body FROM message m JOIN delivery d ON d.id = m.delivery_id WHERE d.event_id = ANY($1)",
        await request_of(house, tab),
    )
    assert sorted(" ".join(json.loads(row["body"])["text"].split()) for row in rows) == sorted(
        " ".join(text.split()) for text in previewed
    )
    for name in ("twilio", "sendgrid"):
        assert (await house.counts(name))["taken"] == before[name] + 1
    assert (await house.counts("slack"))["taken"] == before["slack"]

    # It was not delivered after all; the form says how to say so.
    await find(tab, "SO-DESK-1")
    await tab.get_by_role("link", name="Post an update").click()
    await tab.get_by_label("New status").select_option("shipped")
    await tab.get_by_label("Reason").select_option("entered_wrong")
    await tab.get_by_role("button", name="Preview the messages").click()
    assert await tab.get_by_text("This order is Delivered; to change that, make a correction.").count() == 1
    await tab.get_by_role("link", name="Make a correction").click()
    await tab.get_by_label("Right status").select_option("shipped")
    await tab.get_by_label("Reason").select_option("entered_wrong")
    await tab.get_by_role("button", name="Preview the messages").click()
    await tab.get_by_role("button", name="Post this update").click()
    await outcomes(tab)
    # Slack was never told that it was delivered: it gets the news, and nothing to apologize for.
    rows = await house.fetch(
        "SELECT platform, template FROM delivery WHERE event_id = ANY($1)", await request_of(house, tab)
    )
    assert {row["platform"]: row["template"] for row in rows} == {
        "twilio": "correction",
        "sendgrid": "correction",
        "slack": "shipped",
    }


async def test_six_wrong_passwords_lock_and_a_forged_form_is_refused(house, tab):
    await hire(house, "robin_l")
    await hire(house, "robin_f")
    await sign_in(house, tab, "robin_f")
    await tab.get_by_role("link", name="Upload").click()

    async def forge(route):
        data = re.sub(r'(name="csrf"\r\n\r\n)[^\r]+', r"\1forged", route.request.post_data or "")
        await route.continue_(post_data=data)

    await tab.route(
        "**/portal/upload", lambda route: forge(route) if route.request.method == "POST" else route.continue_()
    )
    await tab.get_by_label("CSV file").set_input_files(
        [{"name": "u.csv", "mimeType": "text/csv", "buffer": b"order_no,status\nSO-DESK-1,delivered\n"}]
    )
    await tab.get_by_label("Reason").select_option("carrier_told")
    await tab.get_by_role("button", name="Check the rows").click()
    assert await tab.get_by_role("heading", name="This form was not ours").count() == 1
    await tab.unroute_all()
    await tab.get_by_role("button", name="Sign out").click()

    for number in range(6):
        await sign_in(house, tab, "robin_l", f"wrong password {number}")
        assert await tab.get_by_role("alert").count() == 1
    await sign_in(house, tab, "robin_l")
    assert await tab.get_by_role("alert").count() == 1
    assert await tab.get_by_role("heading", name="Orders").count() == 0
    (row,) = await house.fetch("SELECT locked_until > now() AS locked FROM person WHERE id = 'robin_l'")
    assert row["locked"]


async def test_the_same_flow_runs_from_prefects_form_and_a_retry_tells_nobody_twice(house):
    await house.onboard("formdesk", twilio="+12025550153")
    await house.settled([await house.post("formdesk", "SO-FORM-1")])
    (order,) = await house.fetch("SELECT id FROM orders WHERE order_no = 'SO-FORM-1'")
    before = await house.taken("twilio", "+12025550153")
    async with house.prefect() as prefect:
        deployment = (await prefect.client.get("/deployments/name/portal-request/portal-request")).json()["id"]
        form = {"order_id": str(order["id"]), "status": "shipped", "reason": "carrier_told"}
        answer = await prefect.client.post(f"/deployments/{deployment}/create_flow_run", json={"parameters": form})
        assert answer.status_code == 201, answer.text
        run = answer.json()["id"]
        await prefect.completed(run)
        await prefect.retry(run)
        await prefect.completed(run, runs=2)
    rows = await house.fetch("SELECT event_id FROM portal_row WHERE request_id = $1", UUID(run))
    await house.settled([row["event_id"] for row in rows])
    assert await house.taken("twilio", "+12025550153") == before + 1


async def test_of_many_updates_none_is_lost_or_repeated_when_worker_and_web_are_killed(house, tab):
    await hire(house, "robin_k")
    await house.onboard("bulkdesk", sendgrid="ann@bulkdesk-journey.example")
    orders = [f"SO-BULK-{number}" for number in range(150)]
    async with house.web() as web:
        events = [
            {"id": f"{order}/received", "order_id": order, "client": "bulkdesk", "status": "received",
             "label": "public", "occurred_at": "2026-11-02T09:00:00Z"}
            for order in orders
        ]  # fmt: skip
        taken = await web.post("/api/v1/events", json=events)
    house.private |= set(orders)
    await house.settled([UUID(event) for event in taken.json()["accepted"]])

    await sign_in(house, tab, "robin_k")
    await tab.get_by_role("link", name="Upload").click()
    rows = "\n".join(f"{order},shipped" for order in [*orders, "SO-NONE"])
    await tab.get_by_label("CSV file").set_input_files(
        [{"name": "u.csv", "mimeType": "text/csv", "buffer": f"order_no,status\n{rows}\n".encode()}]
    )
    await tab.get_by_label("Reason").select_option("warehouse_told")
    await tab.get_by_role("button", name="Check the rows").click()
    assert await tab.get_by_text("No order has this order_no").count() == 1
    dead = {"worker": house.kill("worker")}
    await tab.get_by_role("button", name="Post 150 updates").click()
    # Posted while no worker lives: it is durable, and no Prefect is needed for that.
    assert await tab.get_by_role("heading", name="151 rows posted").count() == 1
    await house.slow_down("sendgrid", 1)
    await house.back("worker", dead["worker"])
    mine = (
        "SELECT d.reference, d.status, d.next_attempt_at = 'infinity' AS left FROM portal_row w"
        " JOIN portal_request r ON r.id = w.request_id JOIN delivery d ON d.event_id = w.event_id"
        " WHERE r.actor_id = 'robin_k'"
    )

    async def on_the_wire():
        return any(row["status"] == "sending" for row in await house.fetch(mine))

    await house.until(on_the_wire)
    dead = {part: house.kill(part) for part in ("worker", "web")}
    for part, pid in dead.items():
        await house.back(part, pid)
    await house.hurry("sendgrid")

    async def ended():
        rows = await house.fetch(mine)
        over = [row for row in rows if row["status"] == "sent" or (row["status"] == "unknown" and row["left"])]
        return rows if len(over) == len(orders) else None

    seen = {}
    for row in await house.until(ended):
        seen = seen or await house.references("sendgrid")
        times = seen.get(row["reference"], 0)
        # Once; not at all only where a person is told that nobody can know.
        assert times == 1 or (times == 0 and row["status"] == "unknown"), (times, dict(row))
    await tab.reload()
    assert await tab.get_by_role("link", name="Accepted 150").count() == 1
    assert await tab.get_by_role("link", name="Refused 1").count() == 1
