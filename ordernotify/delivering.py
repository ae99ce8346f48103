"""Deliver: one run's fan-out to one platform; attempts written before calls, outcomes as answers come."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from ordernotify.clock import now
from ordernotify.core.delivery import STOPS_PLATFORM, Accepted, Deferred, FailureKind, Outcome, Rejected
from ordernotify.core.retries import MAX_ATTEMPTS, next_attempt
from ordernotify.lanes import Lane, LaneFullError
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Context, Idempotency, Lookup, Platform
from ordernotify.runtime import Desk, Runtime
from ordernotify.store import leaving, sending
from ordernotify.store.database import DATABASE_AWAY
from ordernotify.store.leaving import ToSend
from ordernotify.store.sending import Tried
from ordernotify.wire import Result, UnansweredError

# Attempts are written in groups of this size: what a crash leaves unknown is never more than a few of them.
_GROUP = 32
_PATIENCE_S = 5.0
_GATHER_S = 0.01
_DATABASE_WAITS_S = (0.1, 0.3, 1, 2, 3, 5, 5, 5, 10, 10, 10, 10)
_ASK_AFTER = timedelta(seconds=3)
_POSTPONED = timedelta(seconds=5)


class Fanout:
    """Sends what a run has for one platform; ``run`` returns when nothing is left for now."""

    def __init__(self, house: Runtime, platform: str, event_ids: Sequence[UUID], *, batch_id: UUID, corr: str) -> None:
        self._house = house
        self._batch_id = batch_id
        self._platform: Platform = PLATFORMS[platform]
        self._event_ids = event_ids
        self._corr = corr
        self._lane: Lane = house.lanes[platform]
        self._desk = house.desks.get(batch_id) or Desk()
        self._ended: list[Tried] = []
        self._recording: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._refused = False
        self._surprise: Exception | None = None
        self.tally: Counter[str] = Counter()

    async def run(self) -> Counter[str]:
        """Send every delivery that is due, then settle the doubtful ones; counts by outcome.

        Raises what an adapter raised, after every outcome is written down.
        """
        waiting = deque(await self._calls_to_make())
        try:
            while waiting and await self._next_group(waiting):
                pass
        finally:
            # Also when this run is cancelled: answers on their way must still be written down.
            await asyncio.shield(self._drain())
        if self._surprise is not None:
            raise self._surprise
        await self._settle_unknown()
        return self.tally

    async def _calls_to_make(self) -> list[list[UUID]]:
        """Put the deliveries that are due and may share a request together, at most ``batch`` of them."""
        ready = await sending.to_send(self._house.pool, self._event_ids, platform=self._platform.name, at=now())
        size, grouped = self._platform.batch, self._platform.group
        if size == 1 or not ready:
            return [[delivery_id] for delivery_id in ready]
        settings = self._house.credentials[self._platform.name]
        messages = await sending.messages(self._house.pool, ready)
        shelves: dict[str, list[UUID]] = {}
        for delivery_id in ready:
            key = grouped(messages[delivery_id], settings) if grouped else ""
            shelves.setdefault(key, []).append(delivery_id)
        return [shelf[i : i + size] for shelf in shelves.values() for i in range(0, len(shelf), size)]

    async def _next_group(self, waiting: deque[list[UUID]]) -> bool:
        """Send the next few of ``waiting``; False when the rest must wait for another batch."""
        if (resting := self._lane.resting_s()) > 0:
            await self._postpone(timedelta(seconds=resting))
            return False
        try:
            places = await self._lane.take(_GROUP, patience_s=_PATIENCE_S, at_least=min(_GROUP // 2, len(waiting)))
        except LaneFullError:
            await self._postpone(_POSTPONED)
            return False
        if self._refused:
            # The platform is being stopped, and would refuse the rest as well.
            self._lane.give_back(places)
            return False
        chosen = [waiting.popleft() for _ in range(min(places, len(waiting)))]
        calls: list[list[ToSend]] = []
        try:
            calls = await self._begun(chosen)
        finally:
            self._lane.give_back(places - len(calls))
        context = self._house.context(self._platform.name)
        for members in calls:
            task = asyncio.create_task(self._call(members, context))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        return True

    async def _begun(self, chosen: Sequence[Sequence[UUID]]) -> list[list[ToSend]]:
        """Write the attempts of these calls down, and return the calls with what may still leave."""
        attempts = await leaving.begin(
            self._house.pool,
            self._house.scribe,
            [delivery_id for call in chosen for delivery_id in call],
            platform=self._platform.name,
            batch_id=self._batch_id,
            at=now(),
            known=self._desk.ready,
        )
        begun = {attempt.delivery_id: attempt for attempt in attempts}
        for delivery_id in begun:
            self._desk.ready.pop(delivery_id, None)
        calls = [[begun[delivery_id] for delivery_id in call if delivery_id in begun] for call in chosen]
        return [call for call in calls if call]

    async def _call(self, members: Sequence[ToSend], context: Context) -> None:
        try:
            result = await self._sent(members, context)
        except Exception as error:  # noqa: BLE001 - whatever an adapter stumbles over, the attempt must be ended
            self._surprise = self._surprise or error
            result = Result([Deferred(FailureKind.TRANSIENT, "surprise", ambiguous=True)] * len(members), 0)
        finally:
            self._lane.give_back(1)
        ended_at = now()
        for attempt, outcome in zip(members, result.outcomes, strict=True):
            self._lane.note(outcome)
            self._refused = self._refused or (isinstance(outcome, Rejected) and outcome.kind in STOPS_PLATFORM)
            self._ended.append(self._tried(attempt, outcome, result.http_status, ended_at))
        if self._recording is None or self._recording.done():
            self._recording = asyncio.create_task(self._record())

    async def _sent(self, members: Sequence[ToSend], context: Context) -> Result:
        messages = [attempt.message for attempt in members]
        result = await self._house.wire.send(self._platform, messages, context)
        if len(result.outcomes) != len(members):
            raise ValueError(f"{self._platform.name}: {len(result.outcomes)} outcomes of {len(members)} messages")
        return result

    def _tried(self, attempt: ToSend, outcome: Outcome, http_status: int, ended_at: datetime) -> Tried:
        if isinstance(outcome, Accepted):
            return Tried(attempt, outcome, http_status, ended_at, ended_at)
        outcome = self._judged(attempt, outcome)
        wait = None
        if isinstance(outcome, Deferred):
            wait = _ASK_AFTER.total_seconds() if outcome.ambiguous else outcome.retry_after_s
        return Tried(
            attempt,
            outcome,
            http_status,
            ended_at,
            next_attempt(ended_at=ended_at, number=attempt.number, retry_after_s=wait, noise=random.random()),  # noqa: S311 - spreads retries, keeps no secret
        )

    def _judged(self, attempt: ToSend, outcome: Outcome) -> Outcome:
        """Return the outcome in the light of what the platform guarantees and of how often it was tried."""
        harmless = self._platform.idempotency in {Idempotency.NATIVE, Idempotency.OVERWRITE}
        if isinstance(outcome, Deferred) and outcome.ambiguous and harmless:
            outcome = replace(outcome, ambiguous=False)
        if isinstance(outcome, Deferred) and not outcome.ambiguous and attempt.number >= MAX_ATTEMPTS:
            return Rejected(FailureKind.PERMANENT, "gave_up")
        return outcome

    async def _record(self) -> None:
        """Write down what has ended; while one group is written the next one gathers."""
        while self._ended:
            if len(self._ended) < _GROUP and len(self._calls) > _GROUP:
                # Many are about to end: a moment's wait writes them down together.
                await asyncio.sleep(_GATHER_S)
            tried, self._ended = self._ended, []
            await self._record_surely(tried)
            for entry in tried:
                self.tally[sending.status_after(entry.outcome).value] += 1

    async def _record_surely(self, tried: Sequence[Tried]) -> None:
        """Write outcomes down, also through a restart of the database: they exist nowhere else."""
        for wait_s in (*_DATABASE_WAITS_S, None):
            try:
                await sending.record_outcomes(
                    self._house.pool,
                    self._house.scribe,
                    tried,
                    platform=self._platform.name,
                    corr=self._corr,
                )
            except DATABASE_AWAY:
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)
            else:
                return

    async def _drain(self) -> None:
        while self._calls:
            await asyncio.wait(set(self._calls))
        if self._recording is not None:
            await self._recording
        await self._record()

    async def _postpone(self, wait: timedelta) -> None:
        await sending.postpone(self._house.pool, self._event_ids, platform=self._platform.name, until=now() + wait)
        self.tally["postponed"] += 1

    async def _settle_unknown(self) -> None:
        """Ask the platform about unanswered calls; where it cannot be asked, the house's policy decides."""
        doubtful = await sending.unknown_of(
            self._house.pool, self._event_ids, platform=self._platform.name, at=now(), limit=500
        )
        if not doubtful:
            return
        if self._platform.lookup is not None:
            await self._ask_about(doubtful, self._platform.lookup)
        elif self._house.settings.ambiguous == "at_least_once":
            again = Deferred(FailureKind.TRANSIENT, "unanswered")
            self._ended.extend(self._tried(attempt, again, 0, now()) for attempt in doubtful)
        else:
            ids = [attempt.delivery_id for attempt in doubtful]
            await sending.leave_unknown(self._house.pool, self._house.scribe, ids, code="unanswered", at=now())
        await self._drain()

    async def _ask_about(self, doubtful: Sequence[ToSend], lookup: Lookup) -> None:
        at = now()
        # First, so that no other run asks too. The older the doubt, the longer until it is looked into again.
        waits = {entry.delivery_id: at + max(_POSTPONED, (at - entry.started_at) / 4) for entry in doubtful}
        await sending.postpone_unknown(self._house.pool, waits)
        await asyncio.gather(*(self._ask(attempt, lookup) for attempt in doubtful))

    async def _ask(self, attempt: ToSend, lookup: Lookup) -> None:
        # Some platforms list a message a while after they took it; until then "not found" proves nothing.
        settled = now() >= attempt.started_at + timedelta(seconds=lookup.settles_after_s)
        try:
            context = await self._house.wire.prepare(self._platform, self._house.context(self._platform.name))
            if not isinstance(context, Context):
                return
            places = await self._lane.take(1, patience_s=_PATIENCE_S)
            try:
                answer = await self._house.wire.call(
                    self._platform.name, lookup.build(attempt.message, context, attempt.started_at)
                )
            finally:
                self._lane.give_back(places)
        except (UnansweredError, LaneFullError):
            return
        match lookup.read(answer, attempt.message):
            case Accepted() as found:
                self._ended.append(self._tried(attempt, found, answer.status, now()))
            case Rejected(kind=FailureKind.PERMANENT) if settled:
                # It surely has not got it: as harmless as any other refusal for now, and given up as they are.
                again = Deferred(FailureKind.TRANSIENT, "not_found_at_platform")
                self._ended.append(self._tried(attempt, again, answer.status, now()))
            case _:
                return
