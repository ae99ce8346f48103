"""The ledger in the database: who may do what, and what the sealer promises."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime

import asyncpg
import pytest

from ordernotify.core.audit import AuditType
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import connect
from ordernotify.store.sealer import GROUP, LedgerStoppedError, Sealer, load_signer
from ordernotify.store.setup import plain
from ordernotify.store.verifying import verify_ledger

pytestmark = pytest.mark.integration

ORIGIN = "test.example/log"
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
DENIED = asyncpg.InsufficientPrivilegeError


def _record(scribe, number):
    return scribe.record(
        AuditType.INGEST_ACCEPTED,
        object_=("event", f"e{number}"),
        stream=(f"e{number}", 1),
        at=AT,
        outcome={"status": "success"},
    )


@pytest.fixture
async def sealer(urls, tmp_path):
    pool = await connect(urls.sealer, size=3)
    yield Sealer(pool, load_signer(tmp_path / "key", ORIGIN), origin=ORIGIN, mark=tmp_path / "mark")
    await pool.close()


async def _emit(pool, count, start=0):
    scribe = Scribe("test")
    async with pool.acquire() as connection, connection.transaction():
        await emit(connection, [_record(scribe, start + number) for number in range(count)])


async def _report(urls, tmp_path, anchors=()):
    key = str(load_signer(tmp_path / "key", ORIGIN).verifier)
    return await asyncio.to_thread(verify_ledger, urls.reader, origin=ORIGIN, anchors=anchors, vkeys=[key])


async def test_what_is_sealed_verifies(urls, pool, sealer, tmp_path):
    await _emit(pool, 2500)
    sealed = await sealer.seal()
    assert (sealed.moved, sealed.size) == (2500, 2500)
    report = await _report(urls, tmp_path)
    assert report.ok
    assert report.records == 2500


async def test_callers_who_ask_together_share_a_sealing_and_miss_nothing(urls, pool, sealer, tmp_path):
    async def emit_and_seal(number):
        await _emit(pool, 1, number)
        return await sealer.seal()

    sizes = [sealed.size for sealed in await asyncio.gather(*(emit_and_seal(number) for number in range(40)))]
    assert max(sizes) == 40
    report = await _report(urls, tmp_path)
    assert report.ok
    assert report.checkpoints < 40


async def test_who_asks_waits_for_the_records_that_were_there_not_for_those_that_keep_coming(
    urls, pool, sealer, tmp_path, monkeypatch
):
    """In a burst records come faster than they are sealed; messages must not wait for its end."""
    once, times = sealer._once, itertools.count(1)  # noqa: SLF001 - more comes at the worst moment

    async def busy():
        number = next(times)
        assert number < 6, "it waits for records that came after it was asked"
        sealed = await once()
        await _emit(pool, GROUP, number * 10_000)
        return sealed

    monkeypatch.setattr(sealer, "_once", busy)
    await _emit(pool, GROUP + 10)
    await _emit(pool, 10, GROUP + 10)
    sealed = await sealer.seal()
    assert sealed.moved >= GROUP + 20
    assert next(times) <= 4
    assert (await _report(urls, tmp_path)).ok


async def test_a_record_rolled_back_with_its_change_never_reaches_the_ledger(pool, sealer):
    async def change_that_fails():
        async with pool.acquire() as connection, connection.transaction():
            await emit(connection, [_record(Scribe("test"), 1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change_that_fails()
    assert (await sealer.seal()).size == 0


async def test_a_late_commit_with_a_lower_number_is_not_skipped(pool, sealer):
    scribe = Scribe("test")
    async with pool.acquire() as slow, pool.acquire() as fast:
        waiting = slow.transaction()
        await waiting.start()
        await emit(slow, [_record(scribe, 1)])
        await emit(fast, [_record(scribe, 2)])
        assert (await sealer.seal()).moved == 1
        await waiting.commit()
    assert (await sealer.seal()).moved == 1


async def test_a_cut_ledger_is_not_continued(urls, pool, sealer, tmp_path):
    await _emit(pool, 5)
    await sealer.seal()
    (tmp_path / "mark").write_text("00000000000000000009\n")
    await _emit(pool, 1, 9)
    with pytest.raises(LedgerStoppedError, match="5 records but 9 were signed"):
        await sealer.seal()


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("app", "SELECT * FROM audit.entry"),
        ("app", "SELECT * FROM audit.intake"),
        ("app", "DELETE FROM audit.intake"),
        ("app", "UPDATE audit.head SET size = 0"),
        ("app", "INSERT INTO audit.checkpoint VALUES (1, '', '', now())"),
        ("app", "TRUNCATE audit.entry"),
        ("app", "ALTER TABLE audit.entry DISABLE TRIGGER ALL"),
        ("app", "SET session_replication_role = replica"),
        ("sealer", "UPDATE audit.entry SET body = ''"),
        ("sealer", "DELETE FROM audit.entry"),
        ("sealer", "TRUNCATE audit.checkpoint"),
        ("sealer", "UPDATE audit.checkpoint SET note = ''"),
        ("sealer", "DELETE FROM audit.head"),
        ("sealer", "INSERT INTO audit.intake (event_ids, bodies) VALUES ('{}', '{}')"),
        ("sealer", "SELECT * FROM public.delivery"),
        ("reader", "INSERT INTO audit.intake (event_ids, bodies) VALUES ('{}', '{}')"),
        ("reader", "DELETE FROM audit.intake"),
        ("reader", "UPDATE delivery SET status = 'sent'"),
        ("reader", "DELETE FROM audit.entry"),
    ],
)
async def test_no_role_can_do_more_than_its_part(urls, role, statement):
    connection = await asyncpg.connect(plain(getattr(urls, role)))
    try:
        with pytest.raises(DENIED):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit.entry SET body = ''",
        "DELETE FROM audit.entry",
        "TRUNCATE audit.entry",
        "UPDATE audit.head SET size = size - 1",
        "DELETE FROM audit.checkpoint",
    ],
)
async def test_even_the_superuser_is_stopped_by_the_triggers(cluster_url, urls, pool, sealer, statement):
    await _emit(pool, 3)
    await sealer.seal()
    database = urls.app.split("?")[0].rsplit("/", 1)[1]
    connection = await asyncpg.connect(plain(cluster_url).replace("/postgres?", f"/{database}?"))
    try:
        await connection.execute("SET session_replication_role = replica")
        with pytest.raises(DENIED, match=r"append-only|never shrinks"):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_row_edited_by_the_owner_is_found(cluster_url, urls, pool, sealer, tmp_path):
    await _emit(pool, 30)
    await sealer.seal()
    database = urls.app.split("?")[0].rsplit("/", 1)[1]
    connection = await asyncpg.connect(plain(cluster_url).replace("/postgres?", f"/{database}?"))
    await connection.execute("ALTER TABLE audit.entry DISABLE TRIGGER ALL")
    await connection.execute("UPDATE audit.entry SET body = set_byte(body, 20, 65) WHERE seq = 7")
    await connection.close()
    report = await _report(urls, tmp_path)
    assert not report.ok
    assert report.failure.seq == 7
