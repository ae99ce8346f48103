"""The portal: who comes in, what a form may do, and that what is previewed is what is sent, once, and in the record.

The pages as a browser asks for them, a real database, real HTTP to simulated vendors, and the stages as flow runs call
them.
"""

from __future__ import annotations

import asyncio
import csv
import html
import io
import json
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from asgi_lifespan import LifespanManager

from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.core.onboarding import ClientBody
from ordernotify.core.people import Role
from ordernotify.core.portal import UpdateReason
from ordernotify.sandbox.vendors import VENDORS
from ordernotify.store import directory, inbox, people, portal, portal_work
from ordernotify.store.inbox import Arrival
from ordernotify.web.app import create_app
from tasks import stages
from tasks.portal import ask, take_rows
from tests.integration.bench import connected, verified

pytestmark = pytest.mark.integration

BEGAN = datetime(2026, 11, 2, 9, tzinfo=UTC)
USED = {name: VENDORS[name] for name in ("twilio", "sendgrid", "slack", "telegram")}
PERSON = Actor(kind="person", id="test")
PASSWORD = "correct marmot under 9 ladders"
CONTACTS = {
    "phone": ("sms", "twilio", "+12025550123"),
    "mail": ("email", "sendgrid", "ann@acme.example"),
    "slack": ("chat", "slack", "C0ACME0001"),
    "telegram": ("chat", "telegram", "123456789"),
}
REASON = {"reason": "carrier_told", "note": ""}


class Desk:
    """A house with its web app, and a browser in front of it."""

    def __init__(self, line, browser, app):
        self.house, self.urls, self.sandbox, self.pool = line.house, line.urls, line.sandbox, line.pool
        self.browser, self.app = browser, app
        self.numbers = iter(range(10**6))

    def another_browser(self):
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://desk")

    # ---- people ----

    async def hire(self, person="ann_lee", *roles):
        await people.add_person(
            self.pool, self.house.scribe, person_id=person, name=person.title(), roles=roles or [Role.STAFF],
            password=PASSWORD, actor=PERSON, at=now(),
        )  # fmt: skip

    async def sign_in(self, person="ann_lee", password=PASSWORD):
        return await self.submit("/portal/sign-in", {"person": person, "password": password})

    async def submit(self, path, fields, *, form=None, **more):
        """Open a page and post a form of it, with what the page hides in it."""
        page = await self.browser.get(form or path)
        assert page.status_code == 200, page.text
        (token,) = set(re.findall(r'name="csrf" value="([^"]+)"', page.text))
        return await self.browser.post(path, data={"csrf": token, **fields}, **more)

    # ---- orders ----

    async def onboard(self, client="acme", **statuses):
        given = [
            {"key": key, "channel": channel, "platform": platform, "address": address, "verified": True,
             "consent": "granted", "statuses": statuses.get(key, [])}
            for key, (channel, platform, address) in CONTACTS.items()
        ]  # fmt: skip
        person = {"id": f"{client}-ann", "name": "Ann <Lee>", "contacts": given}
        body = ClientBody.model_validate({"id": client, "name": client.title(), "recipients": [person]})
        await directory.put_client(self.pool, self.house.scribe, body, actor=PERSON, at=now())

    async def announce(self, *orders, status="received", client="acme", hours=0):
        events = tuple(
            OrderEvent(
                source="erp", dedupe_key=f"e{next(self.numbers)}", order_ref=order, order_no=order, client_ref=client,
                status=OrderStatus(status), raw_status=status, label="public",
                occurred_at=BEGAN + timedelta(hours=hours),
            )
            for order in orders
        )  # fmt: skip
        await inbox.accept(
            self.pool, self.house.scribe,
            [Arrival(source="erp", headers={}, body=b"", events=events, remote="", at=now())],
        )  # fmt: skip
        await self.pipeline()
        return await self.pool.fetchval("SELECT id FROM orders WHERE order_no = $1", orders[0])

    async def work(self):
        """Do what the worker does: take the posted requests, then what waits in the inbox."""
        counts = [
            await take_rows.fn(request_id)
            for request_id, _ in await portal_work.claim(self.pool, owner=self.house.owner, besides=[], at=now())
        ]
        await self.pipeline()
        return counts

    async def pipeline(self):
        while (claimed := await inbox.claim(self.pool, owner=self.house.owner, limit=2000, at=now())) is not None:
            batch = claimed[0]
            for stage in (stages.validate, stages.plan, stages.render, stages.seal):
                await stage.fn(batch)
            for platform in await stages.route(batch):
                await stages.deliver.fn(batch, platform)
            await stages.record.fn(batch)

    async def deliveries(self, status):
        rows = await self.pool.fetch(
            "SELECT d.*, m.body FROM delivery d JOIN event e ON e.id = d.event_id"
            " JOIN message m ON m.delivery_id = d.id WHERE e.status = $1 AND e.source = 'portal'",
            status,
        )
        return {row["platform"]: row for row in rows}

    async def taken(self, platform):
        answer = await self.sandbox.get(f"/_control/{platform}/taken", params={"limit": 1000})
        return [entry["text"] for entry in answer.json()]

    async def ledger(self):
        return await verified(self.house, self.urls)


@pytest.fixture
async def desk(urls, tmp_path, monkeypatch):
    async with connected(urls, tmp_path, monkeypatch, USED, api_keys="k") as line:
        app = create_app(line.house.settings)
        async with (
            LifespanManager(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://desk") as browser,
        ):
            for platform in USED:
                await line.trust(platform, 2)
            made = Desk(line, browser, app)
            await made.onboard()
            await made.hire()
            yield made


def where(answer):
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def said(page):
    """What a person reads of a page: words without tags, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


# ---- coming in ----


async def test_signing_in_gives_a_guarded_cookie_and_signing_out_ends_it(desk):
    assert where(await desk.browser.get("/portal/")) == "/portal/sign-in"
    answer = await desk.sign_in()
    assert where(answer) == "/portal/"
    (cookie,) = [value for value in answer.headers.get_list("set-cookie") if value.startswith("ordernotify=")]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # loopback http
    page = await desk.browser.get("/portal/")
    assert page.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    old = desk.browser.cookies["ordernotify"]
    assert where(await desk.submit("/portal/sign-out", {}, form="/portal/")) == "/portal/sign-in"
    desk.browser.cookies.set("ordernotify", old)
    assert where(await desk.browser.get("/portal/")) == "/portal/sign-in"


async def test_over_https_the_cookie_is_bound_to_this_host(desk, urls, tmp_path):
    settings = desk.house.settings.model_copy(update={"public_url": "https://updates.example.com"})
    app = create_app(settings)
    async with (
        LifespanManager(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://updates.example.com") as browser,
    ):
        desk.browser = browser
        answer = await desk.sign_in()
        (cookie,) = [
            value for value in answer.headers.get_list("set-cookie") if value.startswith("__Host-ordernotify=")
        ]
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie


async def test_a_new_sign_in_ends_the_session_before_it(desk):
    await desk.sign_in()
    first = desk.browser.cookies["ordernotify"]
    form = {"csrf": desk.browser.cookies["ordernotify-form"], "person": "ann_lee", "password": PASSWORD}
    assert where(await desk.browser.post("/portal/sign-in", data=form)) == "/portal/"
    assert desk.browser.cookies["ordernotify"] != first
    async with desk.another_browser() as other:
        other.cookies.set("ordernotify", first)
        assert where(await other.get("/portal/")) == "/portal/sign-in"


async def test_a_wrong_name_and_a_wrong_password_read_the_same_and_six_lock(desk):
    strange = await desk.sign_in("nobody_here", "wrong")
    wrong = [await desk.sign_in(password=f"wrong {n}") for n in range(6)]
    assert {answer.status_code for answer in (strange, *wrong)} == {401}
    assert len({said(answer) for answer in (strange, *wrong)}) == 1
    assert (await desk.sign_in()).status_code == 401  # the right one now comes too late
    types = [record["type"] for record in await desk.ledger()]
    assert types.count("authn.lock") == 1
    assert types.count("authn.success") == 0


@pytest.mark.parametrize("spoil", ["token", "origin", "fetch_site"])
async def test_a_forged_form_is_refused_and_recorded(desk, spoil):
    order = await desk.announce("SO-1")
    await desk.sign_in()
    path = f"/portal/orders/{order}/update"
    token = {"csrf": "forged"} if spoil == "token" else {}
    headers = {"origin": {"origin": "https://evil.example"}, "fetch_site": {"sec-fetch-site": "cross-site"}}.get(
        spoil, {}
    )
    answer = await desk.submit(path, {"status": "shipped", **REASON, **token}, headers=headers)
    assert answer.status_code == 403
    assert "not ours" in said(answer)
    assert await desk.pool.fetchval("SELECT count(*) FROM portal_request") == 0
    denied = [record for record in await desk.ledger() if record["type"] == "authz.denied"]
    assert [(record["actor"]["id"], record["outcome"]["code"]) for record in denied] == [("ann_lee", "forged_form")]


async def test_a_forged_sign_in_is_refused(desk):
    answer = await desk.browser.post("/portal/sign-in", data={"person": "ann_lee", "password": PASSWORD, "csrf": "x"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("role", "paths"),
    [
        (Role.COMPLIANCE, {"/portal/": 200, "/portal/orders/{order}": 200, "/portal/orders/{order}/update": 403,
                           "/portal/upload": 403}),
        (Role.ADMIN, {"/portal/": 403, "/portal/orders/{order}": 403, "/portal/queue": 403}),
        (Role.STAFF, {"/portal/upload": 200, "/portal/queue": 200, "/portal/requests": 200,
                      f"/portal/orders/{UUID(int=1)}": 404, "/portal/orders/1'--": 404, "/portal/requests/x": 404}),
    ],
)  # fmt: skip
async def test_each_role_sees_its_own_and_what_is_denied_is_recorded(desk, role, paths):
    order = await desk.announce("SO-1")
    await desk.hire("some_body", role)
    await desk.sign_in("some_body")
    for path, status in paths.items():
        assert (await desk.browser.get(path.format(order=order))).status_code == status, path
    denied = [record for record in await desk.ledger() if record["type"] == "authz.denied"]
    assert len(denied) == list(paths.values()).count(403)


async def test_while_the_database_is_away_a_page_says_so(desk):
    await desk.sign_in()
    await desk.app.state.doorway.pool.close()
    answer = await desk.browser.get("/portal/")
    assert answer.status_code == 503
    assert "Back in a moment" in said(answer)
    assert answer.headers["cache-control"] == "no-store"
    body = {"reason": "carrier_told", "updates": [{"order_no": "SO-1", "status": "shipped"}]}
    answer = await desk.browser.post("/api/v1/portal/requests", headers={"x-api-key": "k"}, json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


# ---- one order ----


async def test_orders_are_found_by_number_client_tracking_number_and_status(desk):
    await desk.onboard("zenith")
    await desk.announce("SO-1", "SO-12")
    await desk.announce("ZZ-9_%", client="zenith", status="delayed")
    await desk.sign_in()

    async def found(**query):
        return re.findall(
            r'data-label="Order"><a [^>]+>([^<]+)', (await desk.browser.get("/portal/", params=query)).text
        )

    assert await found(q="SO-1") == ["SO-1", "SO-12"]
    assert await found(q="zenith") == ["ZZ-9_%"]
    assert await found(q="_%") == ["ZZ-9_%"]
    assert await found(status="delayed") == ["ZZ-9_%"]
    assert await found(q="nothing like it") == []


async def test_what_is_previewed_is_what_is_sent_and_posting_again_sends_nothing(desk):
    order = await desk.announce("SO-1")
    await desk.sign_in()
    fields = {"status": "shipped", "carrier": "UPS", "tracking_no": "1Z999", "promised_date": "2026-12-01", **REASON}
    draft = where(await desk.submit(f"/portal/orders/{order}/update", fields))
    page = await desk.browser.get(draft)
    shown = dict(re.findall(r"<h3>([^<]+?) <span.*?</h3>.*?<p class=\"text\">(.*?)</p>", page.text, re.DOTALL))
    assert set(shown) == {"Twilio SMS", "SendGrid", "Slack", "Telegram"}
    assert "Ann <Lee>" in said(page)
    assert await desk.pool.fetchval("SELECT count(*) FROM event WHERE source = 'portal'") == 0

    for _ in range(3):
        assert where(await desk.submit(f"{draft}/post", {}, form="/portal/")) == draft
    assert await desk.work() == [{"accepted": 1}]
    assert await desk.work() == []
    sent = await desk.deliveries("shipped")
    titles = {"twilio": "Twilio SMS", "sendgrid": "SendGrid", "slack": "Slack", "telegram": "Telegram"}
    assert {titles[name]: html.escape(json.loads(row["body"])["text"], quote=True) for name, row in sent.items()} == {
        name: words.replace("&#34;", "&quot;").replace("&#39;", "&#x27;") for name, words in shown.items()
    }
    assert {row["status"] for row in sent.values()} == {"sent"}
    result = said(await desk.browser.get(draft))
    assert "Update posted Done" in result
    assert result.count("Sent") >= 4

    records = await desk.ledger()
    (posted,) = [record for record in records if record["outcome"].get("code") == "portal_posted"]
    assert posted["actor"] == {"kind": "person", "id": "ann_lee"}
    (accepted,) = [record for record in records if record.get("corr", {}).get("portal_request")]
    assert accepted["type"] == "ingest.accepted"
    assert accepted["actor"] == {"kind": "person", "id": "ann_lee"}
    assert accepted["outcome"]["trigger"] == "portal"


WRONG = [
    ({"status": "processing"}, "This order is Delivered; to change that, make a correction."),
    ({"status": "delivered"}, "This is what is known already"),
    ({"status": ""}, "Status must not be empty"),
    ({"status": "unknown"}, "status must be one of"),
    ({"status": "returned", "promised_date": "soon"}, "promised_date must be a day"),
    ({"status": "returned", "tracking_no": "1\n2"}, "Tracking no must be plain text"),
    ({"status": "returned", "carrier": "x" * 65}, "Carrier is too long"),
    ({"status": "returned", "reason": ""}, "Choose a reason"),
    ({"status": "returned", "reason": "other"}, "Say in the note"),
    ({"status": "returned", "note": "x" * 501}, "at most 500"),
]


async def test_what_cannot_be_is_refused_in_the_form_and_the_field_is_named(desk):
    order = await desk.announce("SO-1", status="delivered")
    await desk.sign_in()
    for fields, words in WRONG:
        answer = await desk.submit(f"/portal/orders/{order}/update", {**REASON, **fields})
        assert answer.status_code == 422, fields
        assert words in said(answer)
        assert 'aria-invalid="true"' in answer.text
    assert await desk.pool.fetchval("SELECT count(*) FROM portal_request") == 0


async def test_an_order_that_moved_on_after_the_preview_refuses_the_row(desk):
    order = await desk.announce("SO-1")
    await desk.sign_in()
    draft = where(await desk.submit(f"/portal/orders/{order}/update", {"status": "processing", **REASON}))
    await desk.announce("SO-1", status="delivered", hours=1)
    await desk.submit(f"{draft}/post", {}, form=draft)
    assert await desk.work() == [{"refused": 1}]
    assert "This order is Delivered" in said(await desk.browser.get(draft))
    assert [r["outcome"]["code"] for r in await desk.ledger() if r["type"] == "validate.failed"] == ["cannot_follow"]


async def test_a_draft_is_its_authors_to_post_and_a_flow_leaves_it_alone(desk):
    order = await desk.announce("SO-1")
    await desk.sign_in()
    draft = where(await desk.submit(f"/portal/orders/{order}/update", {"status": "shipped", **REASON}))
    assert await take_rows.fn(UUID(draft.rsplit("/", 1)[1])) == {"not_posted": 1}
    await desk.hire("bob_ray")
    desk.browser.cookies.clear()
    await desk.sign_in("bob_ray")
    assert (await desk.submit(f"{draft}/post", {}, form="/portal/")).status_code == 403
    assert await desk.work() == []


# ---- corrections ----


async def test_a_correction_edits_in_place_where_it_can_and_both_are_tied_in_the_record(desk):
    # The phone asked for `delivered` only; it was told wrongly, and is told so. The mail asked for `shipped` only.
    await desk.onboard(phone=["delivered"], mail=["shipped"])
    await desk.announce("SO-1", status="shipped")
    order = await desk.announce("SO-1", status="delivered", hours=1)
    await desk.sign_in()
    refused = await desk.submit(f"/portal/orders/{order}/update", {"status": "shipped", **REASON})
    assert refused.status_code == 422
    assert "correction=1" in refused.text
    draft = where(
        await desk.submit(
            f"/portal/orders/{order}/update",
            {"status": "shipped", "correction": "yes", "reason": "entered_wrong", "note": ""},
        )
    )
    page = said(await desk.browser.get(draft))
    assert page.count("replaces the earlier message in place") == 2
    await desk.submit(f"{draft}/post", {}, form=draft)
    await desk.work()

    sent = await desk.deliveries("shipped")
    assert {name: row["template"] for name, row in sent.items()} == dict.fromkeys(
        ("twilio", "slack", "telegram"), "correction"
    )
    first = {
        row["platform"]: row
        for row in await desk.pool.fetch(
            "SELECT d.* FROM delivery d JOIN event e ON e.id = d.event_id WHERE e.status = 'delivered'"
        )
    }
    assert {name: row["corrects"] for name, row in sent.items()} == {name: first[name]["id"] for name in sent}
    # In place: the vendor keeps one message of the two, under the first one's id.
    for platform in ("slack", "telegram"):
        assert sent[platform]["provider_ref"] == first[platform]["provider_ref"]
    assert sent["twilio"]["provider_ref"] != first["twilio"]["provider_ref"]
    assert any("correction" in words for words in await desk.taken("twilio"))
    assert await desk.pool.fetchval(
        "SELECT reason FROM suppression WHERE platform = 'sendgrid' ORDER BY at DESC LIMIT 1"
    ) == ("already_told")
    assert await desk.pool.fetchval("SELECT status FROM orders") == "shipped"

    records = await desk.ledger()
    authorized = {
        record["corr"]["corrects"]: record["outcome"].get("edits", False)
        for record in records
        if record["type"] == "delivery.authorized" and "corrects" in record.get("corr", {})
    }
    assert authorized == {str(first[name]["id"]): name != "twilio" for name in sent}
    wrong = await desk.pool.fetchval("SELECT id FROM event WHERE status = 'delivered'")
    (told,) = [
        record for record in records if record["type"] == "ingest.accepted" and "corrects" in record.get("corr", {})
    ]
    assert told["corr"]["corrects"] == str(wrong)


async def test_an_edit_that_the_platform_refuses_is_told_anew(desk):
    await desk.announce("SO-1", status="delivered")
    await desk.pool.execute("UPDATE delivery SET provider_ref = 'C0ACME0001:1.2' WHERE platform = 'slack'")
    await desk.pool.execute("UPDATE delivery SET provider_ref = '123456789:999' WHERE platform = 'telegram'")
    body = {"reason": "source_wrong", "updates": [{"order_no": "SO-1", "status": "delayed", "correction": True}]}
    assert (
        await desk.browser.post("/api/v1/portal/requests", headers={"x-api-key": "k"}, json=body)
    ).status_code == 202
    await desk.work()
    sent = await desk.deliveries("delayed")
    assert {row["status"] for row in sent.values()} == {"sent"}
    assert "C0ACME0001:1.2" != sent["slack"]["provider_ref"] != ""
    assert "123456789:999" != sent["telegram"]["provider_ref"] != ""


async def test_who_was_not_told_the_wrong_thing_gets_the_news_and_no_apology(desk):
    await desk.onboard(mail=["delayed"])
    await desk.announce("SO-1", status="delivered")
    body = {"reason": "source_wrong", "updates": [{"order_no": "SO-1", "status": "delayed", "correction": True}]}
    await desk.browser.post("/api/v1/portal/requests", headers={"x-api-key": "k"}, json=body)
    await desk.work()
    sent = await desk.deliveries("delayed")
    assert (sent["sendgrid"]["template"], sent["sendgrid"]["corrects"]) == ("delayed", None)
    assert sent["twilio"]["template"] == "correction"


# ---- many orders ----


async def test_of_three_thousand_rows_the_bad_ones_are_named_and_the_rest_is_told_once(desk):
    numbers = [f"SO-{number}" for number in range(1, 3001)]
    # Their clients have no contact, so that the test is about rows.
    body = ClientBody.model_validate({"id": "bulk", "name": "Bulk", "recipients": []})
    await directory.put_client(desk.pool, desk.house.scribe, body, actor=PERSON, at=now())
    await desk.announce(*numbers, client="bulk")
    rows = [[number, "shipped", ""] for number in numbers]
    rows[9][0], rows[19][1], rows[29][2], rows[39][1] = "SO-NONE", "teleported", "soon", "received"
    rows[49] = ["SO-1", "delayed", ""]
    rows[59] = ["", "shipped", ""]
    table = io.StringIO()
    csv.writer(table).writerows([["order_no", "status", "promised_date"], *rows])
    await desk.sign_in()
    draft = where(
        await desk.submit("/portal/upload", REASON, files={"table": ("u.csv", table.getvalue().encode(), "text/csv")})
    )
    page = said(await desk.browser.get(draft))
    assert "2994 of 3000 rows" in page
    await desk.submit(f"{draft}/post", {}, form=draft)
    assert await desk.work() == [{"accepted": 2994, "refused": 6}]

    results = (await desk.browser.get(f"{draft}/results.csv")).text.removeprefix("\ufeff")
    told = {int(row["row"]): row for row in csv.DictReader(io.StringIO(results))}
    assert len(told) == 3000
    assert {number: (row["field"], row["why"][:24]) for number, row in told.items() if row["result"] == "refused"} == {
        10: ("order_no", "No order has this order_"),
        20: ("status", "status must be one of: r"),
        30: ("promised_date", "promised_date must be a "),
        40: ("status", "This is what is known al"),
        50: ("order_no", "An earlier row is about "),
        60: ("order_no", "order_no must not be emp"),
    }
    assert await desk.pool.fetchval("SELECT count(*) FROM orders WHERE status = 'shipped'") == 2994
    assert await desk.pool.fetchval("SELECT count(*) FROM event WHERE trigger = 'portal'") == 2994
    assert "Refused 6" in said(await desk.browser.get(f"{draft}?show=refused"))


async def test_a_run_that_dies_in_the_middle_repeats_and_loses_nothing(desk):
    numbers = [f"SO-{number}" for number in range(1, 1201)]
    body = ClientBody.model_validate({"id": "bulk", "name": "Bulk", "recipients": []})
    await directory.put_client(desk.pool, desk.house.scribe, body, actor=PERSON, at=now())
    await desk.announce(*numbers, client="bulk")
    updates = [{"order_no": number, "status": "shipped"} for number in numbers]
    answer = await desk.browser.post(
        "/api/v1/portal/requests", headers={"x-api-key": "k"}, json={"reason": "carrier_told", "updates": updates}
    )
    request_id = UUID(answer.json()["id"])
    running = asyncio.create_task(take_rows.fn(request_id))
    async with asyncio.timeout(30):
        while not await desk.pool.fetchval("SELECT count(*) FROM event WHERE source = 'portal'"):  # noqa: ASYNC110 - a table is asked
            await asyncio.sleep(0.002)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    before = await desk.pool.fetchval("SELECT count(*) FROM event WHERE source = 'portal'")
    assert 0 < before < 1200
    # What became an event is known to be one, though its order has changed meanwhile.
    await desk.pipeline()
    assert await take_rows.fn(request_id) == {"accepted": 1200}
    assert await take_rows.fn(request_id) == {"accepted": 1200}
    assert await desk.pool.fetchval("SELECT count(*) FROM event WHERE source = 'portal'") == 1200


NO_TABLES = [
    (b"", "Choose a CSV file"),
    (b"order_no,color\n1,red\n", "Column 'color' is not known"),
    (b"order_no\n1\n", "Column 'status' is missing"),
    (b"order_no,status\n", "1 to 10,000 rows"),
    (b"order_no,status\n\xff\xfe\n", "must be UTF-8"),
    (b"PK\x03\x04\x00\x00", "not a spreadsheet"),
]


async def test_a_file_that_is_no_table_is_refused_in_words(desk):
    await desk.sign_in()
    for content, words in NO_TABLES:
        answer = await desk.submit("/portal/upload", REASON, files={"table": ("u.csv", content, "text/csv")})
        assert answer.status_code == 422
        assert words in said(answer)


async def test_a_form_that_is_too_large_is_refused_unread(desk):
    await desk.sign_in()
    big = b"x" * (desk.house.settings.max_upload_bytes + 1)
    answer = await desk.submit("/portal/upload", REASON, files={"table": ("u.csv", big, "text/csv")})
    assert answer.status_code == 413


def test_no_cell_of_a_result_is_a_formula():
    from ordernotify.web.portal.requests import results_table

    row = portal.Row(
        number=1, content={"order_no": "=cmd|' /C calc'!A0", "status": "+1"}, order_id=None, field="", known="",
        state=portal.RowState.REFUSED, problem="order_unknown", event_id=None,
    )  # fmt: skip
    (cells,) = csv.DictReader(io.StringIO(results_table([row])))
    assert cells["order_no"].startswith("'=")
    assert cells["status"] == "'+1"


# ---- the API, and Prefect's form ----


async def test_the_api_gives_each_row_its_result_and_a_repeated_request_does_nothing_again(desk):
    await desk.announce("SO-1", "SO-2")
    request = {
        "id": str(uuid4()),
        "reason": "warehouse_told",
        "updates": [{"order_no": "SO-1", "status": "shipped"}, {"order_no": "SO-3", "status": "shipped"}],
    }
    first = await desk.browser.post("/api/v1/portal/requests", headers={"x-api-key": "k"}, json=request)
    assert first.status_code == 202
    assert [row["result"] for row in first.json()["rows"]] == ["open", "refused"]
    assert first.json()["rows"][1]["error"]["field"] == "order_no"
    await desk.work()
    again = await desk.browser.post("/api/v1/portal/requests", headers={"x-api-key": "k"}, json=request)
    assert again.status_code == 200
    assert [row["result"] for row in again.json()["rows"]] == ["accepted", "refused"]
    assert again.json()["state"] == "done"
    assert await desk.work() == []
    assert await desk.pool.fetchval("SELECT count(*) FROM event WHERE source = 'portal'") == 1


BAD_BODIES = [
    ("{", "body"),
    ({"updates": [{"order_no": "1", "status": "shipped"}]}, "reason"),
    ({"reason": "other", "updates": []}, "updates"),
    ({"reason": "other", "updates": [{"order_no": 1, "status": "shipped"}]}, "updates[0].order_no"),
    ({"reason": "other", "updates": [{"order_no": "1", "status": "shipped", "x": 1}]}, "updates[0].x"),
]


async def test_the_api_names_the_field_at_fault(desk):
    for body, field in BAD_BODIES:
        content = body if isinstance(body, str) else json.dumps(body)
        answer = await desk.browser.post("/api/v1/portal/requests", headers={"x-api-key": "k"}, content=content)
        assert answer.status_code == 422
        assert answer.json()["error"]["field"] == field


async def test_the_api_takes_a_key_or_a_session_with_its_token(desk):
    body = {"reason": "carrier_told", "updates": [{"order_no": "SO-1", "status": "shipped"}]}
    assert (await desk.browser.post("/api/v1/portal/requests", json=body)).status_code == 401
    await desk.sign_in()
    assert (await desk.browser.post("/api/v1/portal/requests", json=body)).status_code == 403
    page = await desk.browser.get("/portal/")
    (token,) = set(re.findall(r'name="csrf" value="([^"]+)"', page.text))
    answer = await desk.browser.post("/api/v1/portal/requests", json=body, headers={"x-csrf-token": token})
    assert answer.status_code == 202


async def test_prefects_form_says_it_of_one_order_once(desk):
    order, run = await desk.announce("SO-1"), uuid4()
    for _ in range(2):
        await ask.fn(run, order, OrderStatus.SHIPPED, UpdateReason.CARRIER_TOLD, correction=False)
        assert await take_rows.fn(run) == {"accepted": 1}
    assert await desk.pool.fetchval("SELECT count(*) FROM event WHERE source = 'portal'") == 1
    unknown = uuid4()
    await ask.fn(unknown, uuid4(), OrderStatus.SHIPPED, UpdateReason.CARRIER_TOLD, correction=False)
    assert await take_rows.fn(unknown) == {"refused": 1}


async def test_a_dead_workers_requests_are_taken_at_once_and_a_live_ones_are_not(desk):
    await desk.announce("SO-1")
    body = {"reason": "carrier_told", "updates": [{"order_no": "SO-1", "status": "shipped"}]}
    await desk.browser.post("/api/v1/portal/requests", headers={"x-api-key": "k"}, json=body)
    ((request_id, _),) = await portal_work.claim(desk.pool, owner="host:1:x", besides=[], at=now())
    assert await portal_work.claim(desk.pool, owner="other", besides=[], at=now()) == []
    await portal_work.hand_back(desk.pool, owner="host:1:x", at=now())
    assert [found for found, _ in await portal_work.claim(desk.pool, owner="other", besides=[], at=now())] == [
        request_id
    ]
    for _ in range(3):
        await portal_work.note_failed(desk.pool, desk.house.scribe, request_id, code="surprise", at=now())
    await desk.sign_in()
    assert "Run failed" in said(await desk.browser.get("/portal/queue"))
    await take_rows.fn(request_id)
    assert "Nothing waits for a person" in said(await desk.browser.get("/portal/queue"))
