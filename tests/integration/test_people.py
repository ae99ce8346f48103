"""Accounts, sign-in, sessions and codes, each against a real database with their records."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ordernotify.core.audit import Actor
from ordernotify.core.people import CODE_LASTS, LOCKED_FOR, SESSION_IDLE, SESSION_LASTS, Person, Role
from ordernotify.core.recipients import Refused
from ordernotify.store import people, sessions
from ordernotify.store.audit import Scribe
from ordernotify.store.passwords import SignInFault, SignInRefused
from ordernotify.store.sessions import Issued, SignedIn
from ordernotify.store.setup import plain

pytestmark = pytest.mark.integration

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)
ADMIN = Actor(kind="person", id="root_admin")
RIGHT, WRONG, NEW = "maple-otter 41 canyon", "maple-otter 42 canyon", "violet+gravel 17 tide"
SCRIBE = Scribe("test")


class Desk:
    """What a sign-in page does."""

    def __init__(self, pool, urls):
        self.pool, self.urls = pool, urls

    async def add(self, person="ann_lee", *roles):
        return await people.add_person(
            self.pool, SCRIBE, person_id=person, name="Nora Quill", roles=roles or (Role.COMPLIANCE,), password=RIGHT,
            actor=ADMIN, at=AT,
        )  # fmt: skip

    async def sign_in(self, password=RIGHT, *, person="ann_lee", at=AT):
        return await sessions.sign_in(
            self.pool, SCRIBE, person_id=person, password=password, ip="127.0.0.1", at=at
        )  # fmt: skip

    async def redeem(self, code, *, at=AT):
        async with self.pool.acquire() as connection, connection.transaction():
            return await sessions.redeem_code(connection, SCRIBE, code=code, at=at)

    async def records(self):
        connection = await asyncpg.connect(plain(self.urls.reader))
        try:
            rows = await connection.fetch("SELECT body FROM audit.intake ORDER BY id")
        finally:
            await connection.close()
        return [json.loads(row["body"]) for row in rows]

    async def types(self):
        return [record["type"] for record in await self.records()]


@pytest.fixture
async def desk(pool, urls):
    opened = Desk(pool, urls)
    await opened.add()
    return opened


async def test_the_right_password_opens_a_session_that_says_who(desk):
    signed = await desk.sign_in()
    assert isinstance(signed, SignedIn)
    person = await sessions.person_of_session(desk.pool, signed.token, at=AT)
    assert person == Person(id="ann_lee", name="Nora Quill", roles=frozenset({Role.COMPLIANCE}))
    session = await sessions.session_of(desk.pool, signed.token, at=AT)
    assert session.csrf == signed.csrf
    assert await sessions.session_of(desk.pool, signed.csrf, at=AT) is None
    assert await desk.types() == ["user.created", "authn.success"]
    kept = str(await desk.pool.fetch("SELECT token, csrf FROM session")) + str(await desk.records())
    assert signed.token not in kept
    assert RIGHT not in kept


async def test_an_id_is_taken_once_and_a_weak_password_never(desk):
    assert await desk.add() == Refused("person", "exists already")
    refused = await people.add_person(
        desk.pool, SCRIBE, person_id="bo", name="Bo", roles=[Role.STAFF], password="x" * 20, actor=ADMIN, at=AT
    )
    assert isinstance(refused, Refused)
    assert [account.person.id for account in await people.accounts(desk.pool)] == ["ann_lee"]


async def test_six_wrong_passwords_in_a_row_lock_even_the_right_one_out_for_half_an_hour(desk):
    for _ in range(5):
        assert await desk.sign_in(WRONG) == SignInRefused(SignInFault.WRONG)
    assert await desk.sign_in(WRONG) == SignInRefused(SignInFault.LOCKED, AT + LOCKED_FOR)
    assert await desk.sign_in() == SignInRefused(SignInFault.LOCKED, AT + LOCKED_FOR)
    assert (await desk.types())[1:] == ["authn.fail"] * 6 + ["authn.lock", "authn.fail"]
    later = AT + LOCKED_FOR
    assert await desk.sign_in(WRONG, at=later) == SignInRefused(SignInFault.WRONG)
    assert isinstance(await desk.sign_in(at=later), SignedIn)


async def test_a_right_password_begins_a_new_row(desk):
    for _ in range(5):
        await desk.sign_in(WRONG)
    assert isinstance(await desk.sign_in(), SignedIn)
    for _ in range(5):
        assert await desk.sign_in(WRONG) == SignInRefused(SignInFault.WRONG)


async def test_wrong_passwords_at_the_same_time_are_counted_exactly(desk):
    answers = await asyncio.gather(*(desk.sign_in(WRONG) for _ in range(12)))
    assert [answer.fault for answer in answers].count(SignInFault.WRONG) == 5
    assert (await desk.types()).count("authn.lock") == 1
    versions = [record["stream"]["version"] for record in await desk.records()]
    assert sorted(versions) == list(range(1, 15))


async def test_an_unknown_name_is_answered_as_a_wrong_password_and_not_written_down(desk):
    assert await desk.sign_in(person=RIGHT) == SignInRefused(SignInFault.WRONG)
    last = (await desk.records())[-1]
    assert (last["type"], last["outcome"]["code"]) == ("authn.fail", "unknown")
    assert RIGHT not in json.dumps(last)


async def test_a_session_ends_by_disuse_by_age_and_when_its_person_signs_out(desk):
    signed = await desk.sign_in()
    at, seen = AT, []
    while at < AT + SESSION_LASTS:
        seen.append(await sessions.person_of_session(desk.pool, signed.token, at=at))
        at += SESSION_IDLE - timedelta(minutes=1)
    assert all(seen)
    assert await sessions.person_of_session(desk.pool, signed.token, at=AT + SESSION_LASTS) is None
    idle = await desk.sign_in()
    assert await sessions.person_of_session(desk.pool, idle.token, at=AT + SESSION_IDLE) is None
    out = await desk.sign_in()
    for _ in range(2):
        await sessions.sign_out(desk.pool, SCRIBE, token=out.token, ip="", at=AT)
    assert await sessions.person_of_session(desk.pool, out.token, at=AT) is None
    assert (await desk.types()).count("authn.logout") == 1


@pytest.mark.parametrize("how", ["disable", "password"])
async def test_a_disabled_person_and_a_new_password_end_sessions_and_codes_at_once(desk, how):
    signed, issued = await desk.sign_in(), await _issue(desk)
    if how == "disable":
        await people.disable(desk.pool, SCRIBE, person_id="ann_lee", actor=ADMIN, at=AT)
        assert await desk.sign_in() == SignInRefused(SignInFault.WRONG)
        await people.enable(desk.pool, SCRIBE, person_id="ann_lee", actor=ADMIN, at=AT)
        assert isinstance(await desk.sign_in(), SignedIn)
    else:
        await people.set_password(desk.pool, SCRIBE, person_id="ann_lee", password=NEW, actor=ADMIN, at=AT)
        assert await desk.sign_in() == SignInRefused(SignInFault.WRONG)
        assert isinstance(await desk.sign_in(NEW), SignedIn)
    assert await sessions.person_of_session(desk.pool, signed.token, at=AT) is None
    assert await desk.redeem(issued.code) is None
    assert "session.revoked" in await desk.types()


async def _issue(desk, at=AT):
    issued = await sessions.issue_code(desk.pool, SCRIBE, person_id="ann_lee", password=RIGHT, ip="", at=at)
    assert isinstance(issued, Issued)
    return issued


async def test_a_code_says_who_once_and_for_ten_minutes(desk):
    first, second = await _issue(desk), await _issue(desk)
    assert (await desk.redeem(first.code.lower().replace("-", " "))).id == "ann_lee"
    assert await desk.redeem(first.code) is None
    assert await desk.redeem(second.code, at=AT + CODE_LASTS) is None
    assert await desk.redeem("") is None
    answers = await asyncio.gather(*(desk.redeem(second.code) for _ in range(5)))
    assert [answer.id for answer in answers if answer] == ["ann_lee"]
    assert second.code not in str(await desk.records())


async def test_a_code_asks_the_password_and_counts_a_wrong_one(desk):
    for _ in range(6):
        refused = await sessions.issue_code(desk.pool, SCRIBE, person_id="ann_lee", password=WRONG, ip="", at=AT)
    assert refused == SignInRefused(SignInFault.LOCKED, AT + LOCKED_FOR)


def test_the_command_line_makes_shows_disables_and_lets_in(urls, tmp_path):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ORDERNOTIFY_")},
        "ORDERNOTIFY_STATE_DIR": str(tmp_path),
        "ORDERNOTIFY_APP_URL": urls.app,
        "ORDERNOTIFY_SEALER_URL": urls.sealer,
        "ORDERNOTIFY_READER_URL": urls.reader,
        "COLUMNS": "200",
    }

    def run(*arguments, given=""):
        return subprocess.run(
            [sys.executable, "-m", "ordernotify", "people", *arguments],
            env=environment, input=given, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    weak = run("add", "bo_lind", "--name", "Bo Lind", "--role", "compliance", given="bo\n")
    assert (weak.returncode, "16 to 256" in weak.stderr) == (1, True)
    made = run("add", "bo_lind", "--name", "Bo Lind", "--role", "compliance", given=f"{RIGHT}\n")
    assert made.returncode == 0, made.stderr
    issued = run("code", "bo_lind", given=f"{RIGHT}\n")
    assert len(issued.stdout.strip()) == 14
    assert run("code", "bo_lind", given="wrong\n").returncode == 1
    assert run("disable", "bo_lind").returncode == 0
    (row,) = json.loads(run("list", "--json").stdout)["people"]
    assert row == {"id": "bo_lind", "name": "Bo Lind", "roles": ["compliance"], "state": "disabled"}
    assert run("disable", "nobody").returncode == 1
