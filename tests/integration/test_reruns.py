"""Work that is done again: reruns, resends, what a crash left, and what two runs meet; nothing is sent twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from ordernotify.clock import now
from ordernotify.core.resends import ResendReason
from ordernotify.platforms import PLATFORMS
from ordernotify.store import inbox, leaving, orders, sending
from tasks import batches, stages
from tests.integration.bench import (
    EMAIL,
    SMS,
    begin_all,
)

pytestmark = pytest.mark.integration


async def test_a_rerun_of_a_finished_batch_sends_nothing(line):
    await line.onboard(SMS, EMAIL)
    await line.arrive()
    batch = await line.claim()
    first = await line.run(batch)
    async with batches.opened(batch, [], resend=None, run_id=str(uuid4())) as held:
        assert held == batch
        assert await line.run(batch) == first
    assert [await line.taken(name) for name in ("twilio", "sendgrid")] == [1, 1]


async def test_events_named_by_a_person_are_finished_and_not_repeated(line):
    await line.onboard(SMS)
    event_id = await line.tell()
    waiting = await line.arrive(order="SO-2")
    await line.requested(event_id, waiting)
    assert await line.statuses() == ["sent", "sent"]
    assert await line.taken("twilio") == 2


async def test_a_resend_with_a_reason_sends_exactly_once_more_each_time(line):
    await line.onboard(SMS)
    event_id = await line.tell()
    first, second = str(uuid4()), str(uuid4())
    await line.requested(event_id, resend=ResendReason.CLIENT_ASKED, run_id=first)
    assert await line.taken("twilio") == 2
    await line.requested(event_id, resend=ResendReason.CLIENT_ASKED, run_id=first)  # a Retry of that run
    assert await line.taken("twilio") == 2
    await line.requested(event_id, resend=ResendReason.LOST_BY_PLATFORM, run_id=second)
    assert await line.taken("twilio") == 3
    await line.requested(event_id)
    assert await line.taken("twilio") == 3
    assert await line.statuses() == ["sent"] * 3
    await line.ledger()


async def test_a_resend_whose_run_died_before_it_planned_is_done_by_its_retry(line):
    await line.onboard(SMS)
    event_id = await line.tell()
    run = str(uuid4())
    async with batches.opened(None, [event_id], resend=ResendReason.CLIENT_ASKED, run_id=run) as batch:
        assert batch is not None
    await line.requested(event_id, resend=ResendReason.CLIENT_ASKED, run_id=run)
    assert await line.taken("twilio") == 2


async def test_a_crash_between_attempt_and_outcome_leaves_unknown_and_is_reconciled_from_when_it_began(line):
    await line.onboard(SMS)
    event_id = await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    long_ago = now() - timedelta(hours=3)
    (begun,) = await begin_all(line, batch, at=long_ago)
    # The call is made, and its worker dies before it can write the answer down.
    await line.house.wire.send(PLATFORMS["twilio"], [begun.message], line.house.context("twilio"))
    await line.pool.execute("UPDATE batch SET lease_until = now() - interval '1 second'")
    ((taken_over, _),) = await inbox.take_over(line.pool, owner="another:1:x", besides=[], at=now())
    assert taken_over == batch
    await line.send(batch)
    found = (await line.deliveries(event_id))["twilio"]
    assert (found["status"], found["code"]) == ("unknown", "worker_died")
    (doubtful,) = await sending.unknown_of(
        line.pool, [event_id], platform="twilio", at=now() + timedelta(seconds=4), limit=9
    )
    assert doubtful.started_at == long_ago
    await line.later()
    assert await line.statuses(event_id) == ["sent"]
    assert await line.taken("twilio") == 1
    await line.ledger()


async def test_an_attempt_whose_run_ended_without_writing_its_outcome_is_found_again(line):
    await line.onboard(SMS)
    event_id = await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    await begin_all(line, batch)
    await stages.record.fn(batch)
    assert await line.statuses(event_id) == ["sending"]
    await line.later()
    assert await line.statuses(event_id) == ["unknown"]
    await line.later()
    await line.later()
    assert await line.statuses(event_id) == ["sent"]
    assert await line.taken("twilio") == 1


async def test_what_another_live_run_has_on_the_wire_is_left_alone(line):
    await line.onboard(SMS)
    event_id = await line.arrive()
    batch = await line.claim()
    await line.prepare(batch)
    await begin_all(line, batch)
    await line.requested(event_id)
    assert await line.statuses(event_id) == ["sending"]
    assert await line.taken("twilio") == 0


async def test_what_arrives_while_a_run_starts_goes_with_it_and_nothing_joins_a_rerun(line):
    await line.onboard(SMS)
    await line.arrive(order="SO-1")
    batch_id = await line.claim()
    during = await line.arrive(order="SO-2")
    async with batches.opened(batch_id, [], resend=None, run_id=str(uuid4())) as batch, batches.preparing(batch_id):
        await line.run(batch)
    assert (await line.event(during))["state"] == "closed"
    later = await line.arrive(order="SO-3")
    async with batches.opened(batch_id, [], resend=None, run_id=str(uuid4())) as batch, batches.preparing(batch_id):
        await line.run(batch)
    assert (await line.event(later))["state"] == "waiting"
    assert await line.taken("twilio") == 2


async def test_a_large_batch_takes_along_what_arrived_until_its_turn_came(line, monkeypatch):
    monkeypatch.setattr(batches, "_LARGE", 2)
    await line.onboard(SMS)
    first, second = await line.arrive(order="SO-1"), await line.arrive(order="SO-2")
    batch_id = await line.claim()
    async with line.house.preparing, line.house.preparing:
        turn = batches.preparing(batch_id)
        entering = asyncio.create_task(turn.__aenter__())
        await asyncio.sleep(0.2)
        assert not entering.done()
        late = await line.arrive(order="SO-3")
    await entering
    assert set((await inbox.read_batch(line.pool, batch_id)).event_ids) == {first, second, late}
    await turn.__aexit__(None, None, None)


async def test_what_one_stage_does_not_hand_to_the_next_is_read_from_the_store(line):
    await line.onboard(SMS, EMAIL)
    event_id = await line.arrive("shipped", carrier="UPS", tracking_no="1Z999AA10123456784")
    batch = await line.claim()
    said = []
    for stage in (stages.validate, stages.plan, stages.render, stages.seal):
        await stage.fn(batch)
        line.house.desks.clear()
    await line.send(batch)
    said.append(await line.texts("twilio"))
    await line.requested(event_id, resend=next(iter(ResendReason)))
    said.append((await line.texts("twilio"))[1:])
    assert said[0] == said[1] != []
    assert await line.statuses(event_id) == ["sent"] * 4
    await line.ledger()


async def test_a_run_leaves_nothing_of_its_work_in_memory(line):
    await line.onboard(SMS)
    await line.arrive()
    async with batches.opened(await line.claim(), [], resend=None, run_id=str(uuid4())) as batch:
        await line.prepare(batch)
        assert line.house.desks[batch].ready
        await line.send(batch)
    assert not line.house.desks


async def test_two_runs_that_meet_the_same_new_order_make_it_once(line, monkeypatch):
    await line.onboard(SMS)
    mine, other = await line.arrive("received"), await line.arrive("shipped", hours=1)
    admission, met = vars(orders)["_Admission"], []
    found_or_new = vars(admission)["_found_or_new"]

    async def meets_another(self, fresh):
        found = await found_or_new(self, fresh)
        if not met:
            met.append(True)
            await orders.admit_events(line.pool, line.house.scribe, [other], at=now())
        return found

    monkeypatch.setattr(admission, "_found_or_new", meets_another)
    await line.claim()
    await orders.admit_events(line.pool, line.house.scribe, [mine], at=now())
    assert met
    order = await line.pool.fetchrow("SELECT count(*) OVER () AS count, status, version FROM orders")
    assert dict(order) == {"count": 1, "status": "shipped", "version": 1}
    assert tuple(await line.event(other)) == ("admitted", "news")
    assert tuple(await line.event(mine)) == ("noted", "stale")
    await line.ledger()


class Interrupted:
    """A pool whose next statement after the first finds that somebody was quicker."""

    def __init__(self, pool, *meanwhile):
        self._pool, self._meanwhile = pool, meanwhile

    async def fetch(self, *arguments):
        rows = await self._pool.fetch(*arguments)
        if self._meanwhile:
            await self._pool.execute(*self._meanwhile)
            self._meanwhile = ()
        return rows


async def test_a_delivery_that_another_took_while_it_was_read_is_neither_sent_nor_recorded(line):
    await line.onboard(SMS)
    await line.arrive(order="SO-1")
    await line.arrive(order="SO-2")
    batch = await line.claim()
    await line.prepare(batch)
    taken, left = [row["id"] for row in await line.pool.fetch("SELECT id FROM delivery ORDER BY id")]
    begun = await leaving.begin(
        Interrupted(line.pool, "UPDATE delivery SET version = version + 1 WHERE id = $1", taken),
        line.house.scribe, [taken, left], platform="twilio", batch_id=batch, at=now(),
    )  # fmt: skip
    assert [attempt.delivery_id for attempt in begun] == [left]
    assert sorted(await line.statuses()) == ["authorized", "sending"]
    records = [record for record in await line.ledger() if record["type"] == "delivery.attempted"]
    assert [record["object"]["id"] for record in records] == [str(left)]


async def test_one_process_works_on_a_batch_once_at_a_time(line):
    await line.arrive()
    batch = await line.claim()
    async with batches.opened(batch, [], resend=None, run_id=str(uuid4())) as first:
        assert first == batch
        assert batch in line.house.working
        async with batches.opened(batch, [], resend=None, run_id=str(uuid4())) as second:
            assert second is None
        assert batch in line.house.working
    assert batch not in line.house.working


async def test_a_lease_that_ran_out_under_a_working_run_is_not_taken_over_by_its_own_process(line):
    await line.arrive()
    batch = await line.claim()
    await line.pool.execute("UPDATE batch SET lease_until = now() - interval '1 minute'")
    assert await inbox.take_over(line.pool, owner=line.house.owner, besides=[batch], at=now()) == []
    assert await inbox.take_over(line.pool, owner="other:1:x", besides=[], at=now()) == [(batch, "")]


async def test_the_same_part_twice_in_one_request_leaves_the_ledger_whole(line):
    await line.parts("RAD-7", "RAD-7")
    await line.ledger()


async def test_a_platform_that_is_stopped_twice_within_a_second_leaves_the_ledger_whole(line):
    await line.onboard(SMS)
    await line.fault("twilio", "auth")
    event_id = await line.tell()
    for _ in range(2):
        await line.trust("twilio", 0)
        await line.later()
    assert await line.statuses(event_id) == ["deferred"]
    await line.ledger()
