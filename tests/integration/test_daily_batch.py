"""The daily batch: bad rows are held and recorded, news goes through the pipeline, and nothing is told twice."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import sqlite3
import time
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.core.extracts import COLUMNS, Reason
from ordernotify.core.onboarding import ClientBody, PartBody
from ordernotify.settings import Settings
from ordernotify.store import directory, inbox
from ordernotify.store.inbox import Arrival
from ordernotify.store.setup import plain
from ordernotify.store.source_table import TableUnreadableError, write_down
from tasks import stages
from tasks.extracts import find_extracts, take_in
from tests.integration.bench import verified

pytestmark = pytest.mark.integration

PERSON = Actor(kind="person", id="test")
BEGAN = datetime(2026, 11, 2, 9, tzinfo=UTC)
# Twelve kinds of bad rows, each with its one reason.
BAD = {
    Reason.ORDER_NO_MISSING: {"order_no": ""},
    Reason.CLIENT_MISSING: {"client": "", "contact": ""},
    Reason.CLIENT_UNKNOWN: {"client": "nobody"},
    Reason.STATUS_UNKNOWN: {"status": "teleported"},
    Reason.CONTACT_UNKNOWN: {"contact": "stranger"},
    Reason.SKU_UNKNOWN: {"sku": "RAD-8"},
    Reason.QUANTITY_NOT_WHOLE: {"quantity": "two"},
    Reason.QUANTITY_NOT_POSITIVE: {"quantity": "-1"},
    Reason.CHANGED_AT_NOT_A_MOMENT: {"changed_at": "yesterday"},
    Reason.CHANGED_IN_THE_FUTURE: {"changed_at": "2090-01-01T00:00:00Z"},
    Reason.PROMISED_BEFORE_ORDERED: {"promised_date": "2026-09-30"},
    Reason.CHANGED_BEFORE_ORDERED: {"changed_at": "2026-09-20T10:00:00Z", "promised_date": ""},
}


def row(number=1, status="processing", **more):
    return {
        "order_no": f"SO-{number}", "client": "acme", "status": status, "changed_at": BEGAN.isoformat(),
        "ordered_on": "2026-10-01", "promised_date": "2026-12-01", "sku": "RAD-7", "quantity": "12",
        "carrier": "", "tracking_no": "", "detail": "", "contract": "", "label": "public", "contact": "acme-ann",
        **more,
    }  # fmt: skip


class Batch:
    """A house with a folder of extracts."""

    def __init__(self, house, urls):
        self.house, self.urls, self.pool = house, urls, house.pool
        self.folder = house.settings.state_dir / "extracts"
        self.folder.mkdir()

    async def onboard(self, client):
        contact = {"key": "mail", "channel": "email", "platform": "sendgrid", "address": f"ann@{client}.example",
                   "verified": True, "consent": "granted"}  # fmt: skip
        person = {"id": f"{client}-ann", "name": "Ann Lee", "contacts": [contact]}
        body = ClientBody.model_validate({"id": client, "name": client.title(), "recipients": [person]})
        await directory.put_client(self.pool, self.house.scribe, body, actor=PERSON, at=now())

    def write(self, *rows, day="2026-11-03", series="orders"):
        path = self.folder / f"{series}-{day}.csv"
        with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        path.with_suffix(".part").rename(path)
        return path

    async def run(self, on=None):
        """What the flow does: take in all that there is, oldest first; the counts of each."""
        return [await take_in.fn(extract_id) for extract_id in await find_extracts.fn(on)]

    async def pipeline(self):
        """Take what waits in the inbox up to planned deliveries."""
        while (claimed := await inbox.claim(self.pool, owner=self.house.owner, limit=2000, at=now())) is not None:
            await stages.validate.fn(claimed[0])
            await stages.plan.fn(claimed[0])
            async with self.pool.acquire() as connection:
                await inbox.finish(connection, claimed[0], at=now())

    async def announce(self, status, *, order="SO-1", at=BEGAN, **more):
        """An event about an order from its own source, taken through the pipeline."""
        event = OrderEvent(
            source="erp", dedupe_key=f"{order} {status} {at}", order_ref=order, order_no=order, client_ref="acme",
            status=OrderStatus(status), raw_status=status, occurred_at=at, label="public", **more,
        )  # fmt: skip
        arrival = Arrival(source="erp", headers={}, body=b"", events=(event,), remote="", at=now())
        await inbox.accept(self.pool, self.house.scribe, [arrival])
        await self.pipeline()

    async def told(self):
        return [
            (row["order_no"], row["status"])
            for row in await self.pool.fetch(
                "SELECT o.order_no, e.status FROM delivery d JOIN event e ON e.id = d.event_id"
                " JOIN orders o ON o.id = d.order_id ORDER BY d.event_at, d.id"
            )
        ]

    async def held(self):
        rows = await self.pool.fetch(
            "SELECT number, reasons FROM extract_row WHERE released_at IS NULL ORDER BY number"
        )
        return {row["number"]: row["reasons"] for row in rows}

    async def incidents(self):
        rows = await self.pool.fetch("SELECT kind, code FROM incident WHERE closed_at IS NULL ORDER BY kind")
        return [(row["kind"], row["code"]) for row in rows]

    async def ledger(self, type_):
        """Return the outcomes of one type, of a ledger that was verified."""
        bodies = await verified(self.house, self.urls)
        return [body["outcome"] for body in bodies if body["type"] == type_ and body["object"]["kind"] != "event"]


@pytest.fixture
async def batch(urls, tmp_path, monkeypatch):
    monkeypatch.setenv("ORDERNOTIFY_SENDGRID_API_KEY", "SG.test")
    monkeypatch.setenv("ORDERNOTIFY_SENDGRID_FROM_EMAIL", "orders@northgate.example")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    house = await runtime.build(
        Settings(state_dir=tmp_path, app_url=urls.app, sealer_url=urls.sealer, reader_url=urls.reader)
    )
    runtime.use(house)
    made = Batch(house, urls)
    await made.onboard("acme")
    await directory.put_parts(made.pool, house.scribe, [PartBody(sku="RAD-7")], actor=PERSON, at=now())
    await directory.put_channel(
        made.pool, house.scribe, platform="sendgrid", level=3, enabled=True, evidence="", expires_at=None,
        actor=PERSON, at=now(),
    )  # fmt: skip
    yield made
    runtime.use(None)
    await house.close()


async def test_of_ten_thousand_rows_the_bad_ones_are_held_the_rest_accepted_and_nothing_of_it_twice(batch):
    rows = [row(number) for number in range(1, 10_001)]
    numbers = random.Random(3).sample(range(1, 10_001), 300)  # noqa: S311 - the same rows each time
    expected = {}
    for index, number in enumerate(numbers):
        reason, spoil = list(BAD.items())[index % len(BAD)]
        rows[number - 1] |= spoil
        expected[number] = [reason.value]
    path = batch.write(*rows)
    began = time.monotonic()
    assert await batch.run() == [{"rows": 10_000, "accepted": 9_700, "unchanged": 0, "held": 300, "drifted": 0}]
    assert time.monotonic() - began < 60
    assert await batch.held() == dict(sorted(expected.items()))
    waiting = await batch.pool.fetch("SELECT content ->> 'order_no' AS no, trigger FROM event")
    assert {row["no"] for row in waiting} == {f"SO-{n}" for n in range(1, 10_001) if n not in expected}
    assert {row["trigger"] for row in waiting} == {"batch"}
    beside = [json.loads(line) for line in (batch.folder / "held" / f"{path.name}.jsonl").read_text().splitlines()]
    assert {entry["row"]: entry["reasons"] for entry in beside} == expected
    assert (batch.folder / "held" / f"{path.name}.jsonl").stat().st_mode & 0o077 == 0
    assert await batch.incidents() == [("extract_rows_held", "rows_held")]
    placed = await batch.ledger("quarantine.placed")
    assert sorted(outcome["code"] for outcome in placed) == sorted(why for (why,) in expected.values())

    # The same file again, by the schedule and by its day, before and under another name: nothing is new.
    assert await batch.run() == []
    again = {"rows": 10_000, "accepted": 0, "unchanged": 9_700, "held": 300, "drifted": 0}
    assert await batch.run(on=date(2026, 11, 3)) == [again]
    path.rename(batch.folder / "orders-2026-11-04.csv")
    assert await batch.run() == [again]
    assert await batch.pool.fetchval("SELECT count(*) FROM event") == 9_700
    assert len(await batch.ledger("quarantine.placed")) == 600  # the second file's rows are held too


async def test_only_what_no_event_announced_is_told(batch):
    await batch.announce("shipped", order="SO-1", detail="left the dock", tracking_no="1Z9")
    await batch.announce("processing", order="SO-2")
    later = (BEGAN + timedelta(hours=1)).isoformat()
    before = (BEGAN - timedelta(hours=1)).isoformat()
    batch.write(
        row(1, "shipped", changed_at=later, promised_date=""),  # the same, without its detail
        row(2, "received", changed_at=before),  # older than what is known
        row(3, "delayed", detail="customs"),  # news of an order nobody spoke of
    )
    assert await batch.run() == [{"rows": 3, "accepted": 1, "unchanged": 2, "held": 0, "drifted": 0}]
    await batch.pipeline()
    assert await batch.told() == [("SO-1", "shipped"), ("SO-2", "processing"), ("SO-3", "delayed")]
    # What the extract told, an event tells again: the same order, and no news.
    await batch.announce("delayed", order="SO-3", detail="customs")
    assert len(await batch.told()) == 3
    assert await batch.pool.fetchval("SELECT count(*) FROM orders") == 3


async def test_days_that_were_missed_are_caught_up_in_their_order(batch):
    for day, status in ((5, "shipped"), (3, "received"), (4, "processing")):
        changed = (BEGAN + timedelta(days=day)).isoformat()
        batch.write(row(1, status, changed_at=changed), day=f"2026-11-{day:02}")
    for counts in await batch.run():
        assert counts["accepted"] == 1
        await batch.pipeline()
    await batch.pipeline()
    assert [status for _, status in await batch.told()] == ["received", "processing", "shipped"]
    assert await batch.pool.fetchval("SELECT status FROM orders") == "shipped"


async def test_a_row_that_was_held_for_a_client_nobody_knew_is_let_go_when_its_day_is_taken_again(batch):
    batch.write(row(1, client="zenith", contact=""), row(2))
    await batch.run()
    assert await batch.held() == {1: ["client_unknown"]}
    await batch.onboard("zenith")
    assert [counts["accepted"] for counts in await batch.run(on=date(2026, 11, 3))] == [1]
    assert await batch.held() == {}
    assert await batch.incidents() == []
    assert await batch.ledger("quarantine.released") == [{"status": "success", "code": "passes_now"}]
    assert not list((batch.folder / "held").iterdir())


async def test_an_extract_that_shrank_overnight_goes_on_and_a_person_is_told(batch):
    batch.write(*(row(n) for n in range(20)))
    batch.write(*(row(n) for n in range(20, 24)), day="2026-11-04")
    batch.write(*(row(n) for n in range(30, 32)), day="2026-11-04", series="spares")
    counts = await batch.run()
    assert sorted((each["rows"], each["accepted"], each["drifted"]) for each in counts) == [
        (2, 2, 0),
        (4, 4, 1),
        (20, 20, 0),
    ]
    assert await batch.incidents() == [("extract_drifted", "row_count_drifted")]


async def test_a_file_that_is_no_extract_is_refused_once_and_its_correction_taken(batch):
    path = batch.folder / "orders-2026-11-03.csv"
    path.write_text("order;customer\n1;acme\n")
    assert await batch.run() == [{"refused": 1}]
    assert await batch.run() == []
    assert await batch.incidents() == [("extract_refused", "columns_missing")]
    assert await batch.ledger("validate.failed") == [{"status": "failure", "code": "columns_missing"}]
    batch.write(row(1))
    assert [counts["accepted"] for counts in await batch.run()] == [1]


async def test_links_hidden_files_and_files_being_written_are_no_extracts(batch, tmp_path):
    outside = tmp_path / "outside.csv"
    outside.write_text("order_no,client,status,changed_at\n")
    (batch.folder / "orders-2026-11-03.csv").symlink_to(outside)
    (batch.folder / ".orders.csv").write_text("x")
    (batch.folder / "orders-2026-11-04.part").write_text("x")
    os.mkfifo(batch.folder / "pipe.csv")
    assert await batch.run() == []


async def test_a_run_that_ends_in_the_middle_loses_and_repeats_nothing(batch):
    batch.write(*(row(n) for n in range(1, 5_001)))
    (extract_id,) = await find_extracts.fn(None)
    running = asyncio.create_task(take_in.fn(extract_id))
    async with asyncio.timeout(60):
        while not await batch.pool.fetchval("SELECT count(*) FROM event"):  # noqa: ASYNC110 - a table is asked
            await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    before = await batch.pool.fetchval("SELECT count(*) FROM event")
    assert 0 < before < 5_000
    (counts,) = await batch.run()
    assert (counts["accepted"], counts["unchanged"]) == (5_000 - before, before)
    assert await batch.pool.fetchval("SELECT count(*) FROM event") == 5_000


# ---- a table of a database ----


@pytest.fixture
async def erp(batch, cluster_url):
    """A database of somebody else's with a view of open orders; settings point at it."""
    name = f"erp_{batch.folder.parent.name.replace('-', '_')}"
    admin = await asyncpg.connect(plain(cluster_url))
    await admin.execute(f'CREATE DATABASE "{name}"')
    url = plain(cluster_url).replace("/postgres?", f"/{name}?")
    connection = await asyncpg.connect(url)
    await connection.execute(
        "CREATE SCHEMA sales; CREATE TABLE sales.orders (order_no text, client text, status text,"
        " changed_at timestamptz, promised_date date, quantity int, sku text, secret text);"
        " CREATE VIEW sales.open_orders AS SELECT * FROM sales.orders WHERE status <> 'delivered'"
    )
    batch.house.settings = batch.house.settings.model_copy(
        update={"extracts_sql_url": SecretStr(url), "extracts_sql_table": "sales.open_orders"}
    )
    yield connection
    await connection.close()
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


async def test_a_table_of_a_database_is_an_extract_once_a_day_by_the_same_checks(batch, erp):
    values = [("SO-1", "shipped", 12), ("SO-2", "teleported", 12), ("SO-3", "delivered", 1), ("SO-4", "received", -1)]
    await erp.executemany(
        "INSERT INTO sales.orders VALUES ($1, 'acme', $2, $4, '2026-12-01', $3, 'RAD-7', 'pin 4711')",
        [(*value, BEGAN) for value in values],
    )
    assert await batch.run() == [{"rows": 3, "accepted": 1, "unchanged": 0, "held": 2, "drifted": 0}]
    (path,) = batch.folder.glob("sales_open_orders-*.csv")
    assert "4711" not in path.read_text()
    # Later the same day: nothing is read again.
    await erp.execute("UPDATE sales.orders SET status = 'processing'")
    assert await batch.run() == []
    await batch.pipeline()
    assert await batch.told() == [("SO-1", "shipped")]


async def test_a_table_that_cannot_be_read_calls_a_person_and_keeps_no_file_waiting(batch, erp):
    await erp.execute("DROP VIEW sales.open_orders")
    batch.write(row(1))
    assert [counts["accepted"] for counts in await batch.run()] == [1]
    assert await batch.incidents() == [("extract_refused", "table_unreadable")]
    assert not list(batch.folder.glob("*.part"))
    await erp.execute("CREATE VIEW sales.open_orders AS SELECT * FROM sales.orders")
    await batch.run()
    assert await batch.incidents() == []


async def test_a_name_that_is_no_tables_is_never_asked_for(batch, erp, tmp_path):
    for name in ("orders; DROP TABLE sales.orders", 'sales."orders"', "sales.orders o", "a.b.c", ""):
        with pytest.raises(TableUnreadableError):
            await write_down("postgresql://nobody@127.0.0.1:1/none", name, tmp_path / "x.csv")
    url = batch.house.settings.extracts_sql_url.get_secret_value()
    await erp.execute("CREATE TABLE plain (order_no text, client text)")
    with pytest.raises(TableUnreadableError, match="must have the columns"):
        await write_down(url, "plain", tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


async def test_a_table_of_another_dialect_is_written_down_by_the_same_words(tmp_path):
    with sqlite3.connect(tmp_path / "erp.db") as made:
        made.execute('CREATE TABLE "order" (Order_No, client, status, changed_at, pin)')
        made.execute("""INSERT INTO "order" VALUES ('SO-1', 'acme', 'say "hi", ok', NULL, '4711')""")
    made.close()
    assert await write_down(f"sqlite:///{tmp_path / 'erp.db'}", "order", tmp_path / "x.csv") == 1
    with (tmp_path / "x.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["order_no", "client", "status", "changed_at"], ["SO-1", "acme", 'say "hi", ok', ""],
        ]  # fmt: skip


async def test_the_page_of_a_check_is_kept_for_its_days_and_holds_no_value_of_the_data(batch):
    await batch.pool.execute("INSERT INTO client_alias VALUES ('extract', 'ann.lee@acme.example', 'acme')")
    batch.write(row(1), row(2, "teleported", tracking_no="1Z-SECRET"), row(3, quantity="-471177"))
    docs = batch.house.settings.state_dir / "data_docs"
    (docs / "2020-01-01").mkdir(parents=True)
    (docs / "not a day").mkdir()
    await batch.run()
    page = (docs / "2026-11-03" / "orders-2026-11-03.csv.html").read_text()
    assert "Expectation" in page
    assert not [word for word in ("teleported", "1Z-SECRET", "SO-1", "471177", "ann.lee", "acme") if word in page]
    assert not [one for one in ("<link", "<img", 'src="http') if one in page]
    assert (docs / "2026-11-03").stat().st_mode & 0o077 == 0
    assert sorted(one.name for one in docs.iterdir()) == ["2026-11-03", "not a day"]
