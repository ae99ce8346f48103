"""Ask carriers: about shipments that are due, batch by batch, and to report shipments to us."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from ordernotify.carriers import CARRIERS
from ordernotify.carriers._base import Carrier, Freshness, Reading
from ordernotify.clock import now
from ordernotify.core.delivery import STOPS_PLATFORM, Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.tracking import TrackingEvent
from ordernotify.lanes import LaneFullError
from ordernotify.platforms._base import Answer
from ordernotify.runtime import Runtime
from ordernotify.store import hearing, quotas, shipments
from ordernotify.store.hearing import Speech
from ordernotify.store.incidents import IncidentKind
from ordernotify.store.shipments import Due, Share

log = structlog.get_logger(__name__)

# Calls to one carrier at the same time; what a crash leaves asked but unwritten is no more than these.
_CALLS = 8
_PATIENCE_S = 5.0
# A quota of seconds is waited for; one of minutes or more is left to the next run.
_WORTH_WAITING_FOR = timedelta(seconds=2)
# A run ends before the next one is due; what is left is the next one's.
_RUN = timedelta(minutes=4)
# A question without facts is asked again after so long, twice as long each time.
_AGAIN, _AGAIN_AT_MOST = timedelta(minutes=5), timedelta(hours=24)
_STOPPED = timedelta(hours=1)
_FOLLOW_AT_MOST = 500


def share_of(house: Runtime, name: str) -> Share:
    """Return which shipments a carrier is asked about in this house."""
    carrier = CARRIERS[name]
    return Share(
        carrier=name,
        rest=name == house.settings.track_with,
        others=tuple(other for other in house.carriers if other != name),
        # A service that reports by itself knows only the shipments that it was told of.
        followed_first=carrier.freshness is Freshness.PUSH and carrier.follow is not None,
    )


def asker_of(house: Runtime, carrier: str) -> str:
    """Return who is asked about the shipments of ``carrier``, '' for nobody."""
    rest = house.settings.track_with if house.settings.track_with in house.carriers else ""
    return carrier if carrier in house.carriers else rest


class Asking:
    """The questions of one run to one carrier; no outcome of a carrier's is an exception."""

    def __init__(self, house: Runtime, name: str) -> None:
        self._house = house
        self._carrier: Carrier = CARRIERS[name]
        self._lane = house.lanes[name]
        self._share = share_of(house, name)
        # Longer than the longest a question may take: its token, its answer, and the wait for its turn.
        self.lease = timedelta(seconds=3 * house.settings.http_timeout_s + 120)
        self._stopped_until: datetime | None = None
        self.tally: Counter[str] = Counter()

    # ---- questions ----

    async def run(self) -> Counter[str]:
        """Ask about every shipment that is due, a few batches at a time; counts by outcome."""
        end = now() + _RUN
        while self._stopped_until is None and now() < end:
            claimed = await shipments.claim(
                self._house.pool,
                self._share,
                limit=_CALLS * self._carrier.batch,
                lease=self.lease,
                at=now(),
            )
            if not claimed:
                break
            await self.ask(claimed)
        return self.tally

    async def ask(self, claimed: Sequence[Due]) -> None:
        """Ask about shipments that are held under a lease, and write down what is answered."""
        refused = [due for due in claimed if not self._carrier.takes.fullmatch(due.tracking_no)]
        if refused:
            await self._unanswered(refused, Rejected(FailureKind.PERMANENT, "number_not_taken"))
        by_number: dict[str, list[Due]] = {}
        for due in claimed:
            if due not in refused:
                by_number.setdefault(due.tracking_no, []).append(due)
        numbers, size = list(by_number), self._carrier.batch
        batches = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        ended = await asyncio.gather(
            *(self._ask({number: by_number[number] for number in batch}) for batch in batches), return_exceptions=True
        )
        for surprise in ended:
            # Raised when all answers are written down: what the others asked is not asked again for it.
            if surprise is not None:
                raise surprise

    async def _ask(self, batch: Mapping[str, Sequence[Due]]) -> None:
        members = [due for dues in batch.values() for due in dues]
        later = await self._turn()
        if later is not None:
            await shipments.postpone(self._house.pool, {due.id: later for due in members}, tried=False)
            self.tally["postponed"] += len(members)
            return
        numbers = tuple(batch)
        try:
            got = await self._house.wire.ask(
                self._carrier,
                lambda context: self._carrier.build(numbers, context),
                self._house.context(self._carrier.name),
            )
        finally:
            self._lane.give_back(1)
        if isinstance(got, Accepted | Deferred | Rejected):
            readings: Mapping[str, Reading] = dict.fromkeys(numbers, _as_reading(got))
            answer = Answer(0)
        else:
            answer, context = got
            readings = self._carrier.read(answer, numbers, context)
        self._note(readings)
        told = {
            due.id: reading
            for number, dues in batch.items()
            for due in dues
            if isinstance(reading := readings[number], tuple)
        }
        if told:
            await self._write(told, answer)
        for number, dues in batch.items():
            reading = readings[number]
            if not isinstance(reading, tuple):
                await self._unanswered(dues, reading)

    async def _turn(self) -> datetime | None:
        """Wait for a place on the wire and for a call of the quota; returns when to come back if there is none."""
        if self._stopped_until is not None:
            return self._stopped_until
        resting = self._lane.resting_s()
        if resting > 0:
            return now() + timedelta(seconds=resting)
        try:
            await self._lane.take(1, patience_s=_PATIENCE_S)
        except LaneFullError:
            return now() + timedelta(seconds=_PATIENCE_S)
        later: datetime | None = now()
        try:
            later = await self._granted()
        finally:
            if later is not None:
                self._lane.give_back(1)
        return later

    async def _granted(self) -> datetime | None:
        while later := await quotas.grant(self._house.pool, self._carrier.name, self._carrier.quota, at=now()):
            wait = later - now()
            if wait > _WORTH_WAITING_FOR:
                return later
            await asyncio.sleep(max(0.0, wait.total_seconds()))
        return None

    def _note(self, readings: Mapping[str, Reading]) -> None:
        """Let the breaker know how the call as a whole went."""
        first = next(iter(readings.values()))
        self._lane.note(Accepted() if isinstance(first, tuple) else first)

    async def _write(self, told: Mapping[UUID, Sequence[TrackingEvent]], answer: Answer) -> None:
        name = self._carrier.name
        speech = Speech(
            source=f"carrier:{name}", at=now(), body=answer.body, answers=True, at_least=self._carrier.at_least
        )
        async with self._house.pool.acquire() as connection, connection.transaction():
            written = await hearing.write(connection, self._house.scribe, told, speech)
            await shipments.note_answered(connection, self._house.scribe, name, at=speech.at)
        self.tally["asked"] += len(told)
        self.tally["unchanged"] += len(told) - written.spoken_of
        self.tally["events"] += len(written.accepted)
        self.tally["held"] += len(written.held)

    async def _unanswered(self, members: Sequence[Due], why: Deferred | Rejected) -> None:
        """Ask again later: soon at first, then more and more rarely; a refusal of ours is a person's to mend."""
        at = now()
        if why.kind in STOPS_PLATFORM:
            self._stopped_until = at + _STOPPED
            await self._incident(IncidentKind.CARRIER_STOPPED, {self._carrier.name: why.code}, at)
        elif isinstance(why, Rejected):
            await self._incident(IncidentKind.NUMBER_REFUSED, {str(due.id): why.code for due in members}, at)
        await shipments.postpone(self._house.pool, {due.id: at + _wait(why, due.tries) for due in members}, tried=True)
        self.tally[f"refused {why.code}" if isinstance(why, Rejected) else "unanswered"] += len(members)
        log.warning("carrier_gave_no_facts", carrier=self._carrier.name, code=why.code, shipments=len(members))

    async def _incident(self, kind: IncidentKind, subjects: Mapping[str, str], at: datetime) -> None:
        await shipments.note_refused(self._house.pool, self._house.scribe, kind, subjects, at=at)

    # ---- being told ----

    async def follow(self) -> Counter[str]:
        """Ask the carrier to report the shipments that it does not report yet, or soon will not any more."""
        follow = self._carrier.follow
        if follow is None:
            return self.tally
        waiting = await shipments.to_follow(self._house.pool, self._share, limit=_FOLLOW_AT_MOST, at=now())
        for start in range(0, len(waiting), follow.batch):
            batch = waiting[start : start + follow.batch]
            if await self._turn() is not None:
                break
            numbers = tuple(dict.fromkeys(number for _, number in batch))
            try:
                got = await self._house.wire.ask(
                    self._carrier,
                    lambda context, numbers=numbers: follow.build(numbers, context),  # type: ignore[misc]
                    self._house.context(self._carrier.name),
                )
            finally:
                self._lane.give_back(1)
            outcomes = (
                dict.fromkeys(numbers, got) if not isinstance(got, tuple) else follow.read(got[0], numbers, got[1])
            )
            await self._note_followed(batch, outcomes, follow.again_after)
        return self.tally

    async def _note_followed(
        self,
        batch: Sequence[tuple[UUID, str]],
        outcomes: Mapping[str, Accepted | Deferred | Rejected],
        again_after: timedelta | None,
    ) -> None:
        """Remember who is reported, and who never will be; all else is asked for by the next run."""
        at = now()
        again_at: dict[UUID, datetime | None] = {}
        for shipment_id, number in batch:
            match outcomes[number]:
                case Accepted():
                    again_at[shipment_id] = at + again_after if again_after else None
                case Rejected(kind=FailureKind.PERMANENT):
                    again_at[shipment_id] = None
        await shipments.note_followed(self._house.pool, self._carrier.name, again_at)
        self.tally["followed"] += sum(isinstance(outcomes[number], Accepted) for _, number in batch)
        stopping = [one for one in outcomes.values() if isinstance(one, Rejected) and one.kind in STOPS_PLATFORM]
        if stopping:
            await self._incident(IncidentKind.CARRIER_STOPPED, {self._carrier.name: stopping[0].code}, at)


def _as_reading(outcome: Accepted | Deferred | Rejected) -> Reading:
    """Return what a question without an answer means; a token's own answer is never facts about a shipment."""
    return Deferred(FailureKind.TRANSIENT, outcome.code) if isinstance(outcome, Accepted) else outcome


def _wait(why: Deferred | Rejected, tries: int) -> timedelta:
    if why.kind in STOPS_PLATFORM:
        return _STOPPED
    if isinstance(why, Rejected):
        return _AGAIN_AT_MOST
    asked_for = timedelta(seconds=why.retry_after_s or 0)
    doubled: timedelta = _AGAIN * 2**tries
    return max(asked_for, min(doubled, _AGAIN_AT_MOST))
