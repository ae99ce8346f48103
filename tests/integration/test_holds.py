"""Regulatory holds: what clients are told while one lasts, who may end it, and what the record shows."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.events import Line
from ordernotify.core.holds import HoldAnswer, HoldDecision, HoldReason
from ordernotify.core.onboarding import ContractBody, PartBody
from ordernotify.core.people import Role
from ordernotify.store import directory, hold_questions, holds, people, sessions
from ordernotify.store.sessions import Issued
from tests.integration.bench import EMAIL, SMS, USED, Bench, connected

pytestmark = pytest.mark.integration

PASSWORD = "maple-otter 41 canyon"
ADMIN = Actor(kind="person", id="root_admin")
TWO = "N00024-26-C-1234"
LASTS = timedelta(hours=72)


class Hold(Bench):
    """A house with people of compliance."""

    async def person(self, name, *roles):
        made = await people.add_person(
            self.pool, self.house.scribe, person_id=name, name="Quill", roles=roles or (Role.COMPLIANCE,),
            password=PASSWORD, actor=ADMIN, at=now(),
        )  # fmt: skip
        assert made.id == name
        return made

    async def contract(self, *, by_two):
        body = ContractBody(id=TWO, label="fci", release_by_two=by_two)
        await directory.put_contract(self.pool, self.house.scribe, body, actor=ADMIN, at=now())

    async def held(self, **more):
        """An order that comes under review; returns its hold."""
        await self.tell("regulatory_hold", **more)
        return await self.pool.fetchval("SELECT id FROM hold WHERE ended_at IS NULL")

    async def decide(self, hold_id, person, *, decision="release", reason="license_granted"):
        return await holds.decide(
            self.pool, self.house.scribe, hold_id=hold_id, person=person, decision=HoldDecision(decision),
            reason=HoldReason(reason), at=now(),
        )  # fmt: skip

    async def answer(self, hold_id, code, *, ask=None, at=None):
        ask = ask or (await hold_questions.asked(self.pool, hold_id)).ask
        return await holds.answer(
            self.pool, self.house.scribe, hold_id=hold_id, ask=ask, code=code, decision=HoldDecision.RELEASE,
            reason=HoldReason.SCREENING_CLEARED, at=at or now(),
        )  # fmt: skip

    async def code(self, person):
        issued = await sessions.issue_code(
            self.pool, self.house.scribe, person_id=person.id, password=PASSWORD, ip="", at=now()
        )
        assert isinstance(issued, Issued)
        return issued.code

    async def history(self, hold_id):
        """What the ledger says of a hold: type, who, and the code or count."""
        return [
            (record["type"], record["actor"]["id"])
            for record in await self.ledger()
            if record["object"] == {"kind": "hold", "id": str(hold_id)}
        ]


@pytest.fixture
async def line(urls, tmp_path, monkeypatch):
    async with connected(urls, tmp_path, monkeypatch, USED, Hold) as bench:
        yield bench


async def test_while_an_order_is_held_only_the_review_is_told_and_the_newest_news_goes_on_release(line):
    await line.onboard(SMS)
    ann = await line.person("ann_lee")
    await line.tell("received")
    hold_id = await line.held(hours=1)
    assert await line.taken("twilio") == 2
    processing = await line.tell("processing", hours=2)
    shipped = await line.tell("shipped", hours=3)
    assert await line.taken("twilio") == 2
    rows = await line.pool.fetch("SELECT status, code FROM delivery WHERE event_id = ANY($1)", [processing, shipped])
    assert [tuple(row.values()) for row in rows] == [("deferred", "on_hold")] * 2
    # Nothing is due while the hold lasts, also not in the eyes of the dispatcher.
    assert await holds.let_go(line.pool, at=now()) == 0
    assert [shown["waiting"] for shown in await hold_questions.open_holds(line.pool)] == [2]
    assert await line.decide(hold_id, ann) is HoldAnswer.RELEASED
    assert await hold_questions.open_holds(line.pool) == []
    await line.later()
    assert await line.statuses(shipped) == ["sent"]
    assert await line.statuses(processing) == ["superseded"]
    assert await line.taken("twilio") == 3
    await line.tell("delivered", hours=4)
    assert await line.taken("twilio") == 4
    assert await line.incidents() == []


async def test_a_hold_is_placed_with_the_order_by_whatever_door_and_only_once(line):
    await line.onboard(SMS)
    hold_id = await line.held()
    await line.tell("processing", hours=1)
    again = await line.tell("regulatory_hold", hours=2)
    assert await line.pool.fetchval("SELECT count(*) FROM hold") == 1
    assert await line.incidents() == [("regulatory_check", "")]
    # The order is under review still, and its reader hears so again.
    assert await line.statuses(again) == ["sent"]
    assert await line.history(hold_id) == [("order.held", "svc:worker"), ("approval.requested", "svc:worker")]


async def test_a_message_that_failed_before_the_hold_waits_as_well_and_a_review_notice_is_not_overtaken(line):
    await line.onboard(SMS)
    await line.fault("twilio", "server_error")
    notice = await line.tell("regulatory_hold")
    await line.tell("processing", hours=1)
    await line.mend("twilio")
    async with asyncio.timeout(30):
        while await line.statuses(notice) != ["sent"]:
            await line.pool.execute("UPDATE delivery SET next_attempt_at = now() WHERE next_attempt_at < 'infinity'")
            await line.later()
            await asyncio.sleep(0.2)
    assert await line.taken("twilio") == 1


@pytest.mark.parametrize("why", ["contract", "export", "label"])
async def test_released_by_one_of_two_it_stays_held_and_the_record_shows_who_and_when(line, why):
    await line.onboard(EMAIL)
    ann, bo = await line.person("ann_lee"), await line.person("bo_lind")
    facts = {"contract": {"contract_id": TWO, "label": "fci"}, "export": {"lines": (Line("RAD-7", 1),)},
             "label": {"label": "cui"}}[why]  # fmt: skip
    await line.contract(by_two=True)
    part = PartBody(sku="RAD-7", jurisdiction="ITAR:XI", label="internal")
    await directory.put_parts(line.pool, line.house.scribe, [part], actor=ADMIN, at=now())
    hold_id = await line.held(**facts)
    shipped = await line.tell("shipped", hours=1, **facts)
    assert await line.decide(hold_id, ann) is HoldAnswer.NEEDS_SECOND
    assert await line.decide(hold_id, ann, reason="screening_cleared") is HoldAnswer.SAME_PERSON
    (shown,) = await hold_questions.open_holds(line.pool)
    assert (shown["released_by"], shown["needed"]) == (["ann_lee"], 2)
    await line.later()
    assert "sent" not in await line.statuses(shipped)
    before = now()
    assert await line.decide(hold_id, bo) is HoldAnswer.RELEASED
    records = [record for record in await line.ledger() if record["object"]["id"] == str(hold_id)]
    assert [(record["type"], record["actor"]["id"]) for record in records] == [
        ("order.held", "svc:worker"),
        ("approval.requested", "svc:worker"),
        ("approval.granted", "ann_lee"),
        ("approval.refused", "ann_lee"),
        ("approval.granted", "bo_lind"),
        ("order.released", "bo_lind"),
    ]
    assert [record["outcome"].get("released_by") for record in records[-2:]] == [2, ["ann_lee", "bo_lind"]]
    assert records[2]["occurred_at"] < before.isoformat() <= records[-1]["occurred_at"].replace("Z", "+00:00")


async def test_where_the_contract_asks_for_one_one_is_enough(line):
    await line.onboard(EMAIL)
    ann = await line.person("ann_lee")
    await line.contract(by_two=False)
    hold_id = await line.held(contract_id=TWO, label="fci")
    assert await line.decide(hold_id, ann) is HoldAnswer.RELEASED
    assert await line.decide(hold_id, ann) is HoldAnswer.ENDED


async def test_two_who_release_at_the_same_time_release_once_and_one_twice_does_not(line):
    await line.onboard(EMAIL)
    ann, bo = await line.person("ann_lee"), await line.person("bo_lind")
    await line.contract(by_two=True)
    hold_id = await line.held(contract_id=TWO, label="fci")
    alone = await asyncio.gather(*(line.decide(hold_id, ann) for _ in range(5)))
    assert sorted(alone) == [HoldAnswer.NEEDS_SECOND, *[HoldAnswer.SAME_PERSON] * 4]
    together = await asyncio.gather(*(line.decide(hold_id, person) for person in (bo, bo, ann)))
    assert together.count(HoldAnswer.RELEASED) == 1
    assert [what for what, _ in await line.history(hold_id)].count("order.released") == 1


async def test_who_may_not_decide_and_a_reason_that_does_not_fit_are_refused_and_recorded(line):
    await line.onboard(EMAIL)
    staff, ann = await line.person("cy_moss", Role.STAFF, Role.ADMIN), await line.person("ann_lee")
    hold_id = await line.held()
    assert await line.decide(hold_id, staff) is HoldAnswer.NOT_ALLOWED
    assert await line.decide(hold_id, ann, reason="license_pending") is HoldAnswer.REASON_DOES_NOT_FIT
    assert (await line.history(hold_id))[2:] == [("approval.refused", "cy_moss"), ("approval.refused", "ann_lee")]
    assert await line.pool.fetchval("SELECT ended_at FROM hold") is None


async def test_a_decision_to_keep_begins_a_new_round_in_which_an_earlier_release_counts_no_more(line):
    await line.onboard(EMAIL)
    ann, bo = await line.person("ann_lee"), await line.person("bo_lind")
    await line.contract(by_two=True)
    hold_id = await line.held(contract_id=TWO, label="fci")
    assert await line.decide(hold_id, ann) is HoldAnswer.NEEDS_SECOND
    assert await line.decide(hold_id, bo, decision="keep", reason="license_pending") is HoldAnswer.KEPT
    assert await line.decide(hold_id, bo) is HoldAnswer.NEEDS_SECOND
    assert await line.decide(hold_id, ann) is HoldAnswer.RELEASED


async def test_a_hold_without_a_decision_stays_closed_is_asked_anew_and_escalates(line):
    await line.onboard(EMAIL)
    ann, bo = await line.person("ann_lee"), await line.person("bo_lind")
    await line.contract(by_two=True)
    hold_id = await line.held(contract_id=TWO, label="fci")
    shipped = await line.tell("shipped", hours=1, contract_id=TWO, label="fci")
    assert await line.decide(hold_id, ann) is HoldAnswer.NEEDS_SECOND
    at = now() + LASTS
    asked = await hold_questions.asked(line.pool, hold_id)
    assert await hold_questions.ask_anew(line.pool, line.house.scribe, lasts=LASTS, at=at) == 1
    assert await hold_questions.ask_anew(line.pool, line.house.scribe, lasts=LASTS, at=at) == 0
    assert (await hold_questions.asked(line.pool, hold_id)).ask == asked.ask + 1
    assert [kind for kind, _ in await line.incidents()] == ["regulatory_check", "regulatory_hold_overdue"]
    await line.later()
    assert "sent" not in await line.statuses(shipped)
    # What one of two had released before counts no more.
    assert await line.decide(hold_id, bo) is HoldAnswer.NEEDS_SECOND
    assert await line.decide(hold_id, ann) is HoldAnswer.RELEASED
    assert await line.incidents() == []
    assert (await line.history(hold_id))[3] == ("approval.requested", "svc:worker")


async def test_a_code_decides_once_and_the_same_answer_read_again_changes_nothing(line):
    await line.onboard(EMAIL)
    ann = await line.person("ann_lee")
    hold_id = await line.held()
    assert await line.answer(hold_id, "ABCD-EFGH-JKLM") is HoldAnswer.CODE_REFUSED
    old = await line.code(ann)
    assert await line.answer(hold_id, old, at=now() + timedelta(minutes=11)) is HoldAnswer.CODE_REFUSED
    asked = await hold_questions.asked(line.pool, hold_id)
    assert await line.answer(hold_id, await line.code(ann), ask=asked.ask) is HoldAnswer.RELEASED
    assert await line.answer(hold_id, await line.code(ann), ask=asked.ask) is HoldAnswer.ENDED
    history = await line.history(hold_id)
    assert history[2:] == [
        ("approval.refused", "unknown"),
        ("approval.refused", "unknown"),
        ("approval.granted", "ann_lee"),
        ("order.released", "ann_lee"),
    ]


async def test_a_message_that_begins_to_wait_as_its_hold_ends_is_let_go_by_the_dispatcher(line):
    await line.onboard(SMS)
    ann = await line.person("ann_lee")
    hold_id = await line.held()
    shipped = await line.tell("shipped", hours=1)
    await line.decide(hold_id, ann)
    # As a transaction leaves it that saw the hold, and committed after the release.
    await line.pool.execute("UPDATE delivery SET next_attempt_at = 'infinity' WHERE event_id = $1", shipped)
    assert await holds.let_go(line.pool, at=now()) == 1
    await line.later()
    assert await line.statuses(shipped) == ["sent"]
