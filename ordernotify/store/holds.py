"""Regulatory holds: placed with the change of the order, ended only by the people whom compliance names for it.

While an order is held, messages about it wait, except the word that it is under review; `leaving.begin` sees to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import asyncpg

from ordernotify.clock import new_id
from ordernotify.core.audit import Actor, AuditType
from ordernotify.core.holds import ON_HOLD, REASONS, HoldAnswer, HoldDecision, HoldReason, people_needed
from ordernotify.core.labels import Label, Tags
from ordernotify.core.people import Act, Person
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Connection, Pool
from ordernotify.store.incidents import Incident, IncidentKind, close_incidents, open_incidents
from ordernotify.store.sessions import redeem_code


async def place_holds(connection: Connection, scribe: Scribe, held: Mapping[UUID, UUID], *, at: datetime) -> None:
    """Place a hold on every order of ``held``, by the event that brought it; one that is held stays as it is.

    Call it in the transaction of the orders' change.
    """
    rows = await connection.fetch(
        "INSERT INTO hold (id, order_id, event_id, opened_at, asked_at, version)"
        " SELECT *, $4, $4, 2 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])"
        " ON CONFLICT (order_id) WHERE ended_at IS NULL DO NOTHING RETURNING id, order_id, event_id",
        [new_id() for _ in held],
        list(held),
        list(held.values()),
        at,
    )
    about = {row["id"]: {"order": str(row["order_id"]), "event": str(row["event_id"])} for row in rows}
    await emit(
        connection,
        [
            scribe.record(
                type_,
                object_=("hold", str(hold_id)),
                stream=(f"hold:{hold_id}", version),
                at=at,
                outcome={"status": "success", **facts},
            )
            for hold_id, facts in about.items()
            for version, type_ in ((1, AuditType.ORDER_HELD), (2, AuditType.APPROVAL_REQUESTED))
        ],
    )
    await open_incidents(
        connection,
        scribe,
        [
            Incident(IncidentKind.REGULATORY_CHECK, str(row["order_id"]), event_id=row["event_id"],
                     order_id=row["order_id"])
            for row in rows
        ],
        at=at,
    )  # fmt: skip


async def decide(
    pool: Pool,
    scribe: Scribe,
    *,
    hold_id: UUID,
    person: Person,
    decision: HoldDecision,
    reason: HoldReason,
    at: datetime,
) -> HoldAnswer:
    """Record what a person decides of a hold, and end it when enough persons have released the order.

    Where two are needed the second must be another one, in the same round: a decision to keep it, or too long a
    wait, begins a new round.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = await _locked(connection, hold_id)
        if row is None:
            return HoldAnswer.UNKNOWN
        return await _Decision(connection, scribe, row, at).by(person, decision, reason)


async def answer(
    pool: Pool,
    scribe: Scribe,
    *,
    hold_id: UUID,
    ask: int,
    code: str,
    decision: HoldDecision,
    reason: HoldReason,
    at: datetime,
) -> HoldAnswer:
    """Record the answer to question number ``ask``, by whoever the one-time code belongs to.

    The same answer read again, after a crash, finds its question closed and changes nothing.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = await _locked(connection, hold_id)
        if row is None:
            return HoldAnswer.UNKNOWN
        if row["ended_at"] is not None or row["asks"] != ask:
            return HoldAnswer.ENDED
        person = await redeem_code(connection, scribe, code=code, at=at)
        if person is not None:
            return await _Decision(connection, scribe, row, at).by(person, decision, reason)
        await _Decision(connection, scribe, row, at).refuse(HoldAnswer.CODE_REFUSED, None)
        return HoldAnswer.CODE_REFUSED


async def let_go(connection: Connection | Pool, *, at: datetime) -> int:
    """Let the messages go that wait for the end of a hold that has ended; what is overtaken ends when it leaves.

    Called when a hold ends, and again by the dispatcher: a message may have begun to wait in the same moment.
    """
    done = await connection.execute(
        "UPDATE delivery d SET next_attempt_at = $1 WHERE d.status = 'deferred' AND d.next_attempt_at = 'infinity'"
        " AND d.code = $2 AND NOT EXISTS (SELECT 1 FROM hold h WHERE h.order_id = d.order_id AND h.ended_at IS NULL)",
        at,
        ON_HOLD,
    )
    return int(done.split()[-1])


async def _locked(connection: Connection, hold_id: UUID) -> asyncpg.Record | None:
    return await connection.fetchrow(
        "SELECT h.*, o.label, o.categories, o.ldc, o.jurisdiction, coalesce(c.release_by_two, false) AS by_contract"
        " FROM hold h JOIN orders o ON o.id = h.order_id LEFT JOIN contract c ON c.id = o.contract_id"
        " WHERE h.id = $1 FOR UPDATE OF h",
        hold_id,
    )


def needed_by(row: asyncpg.Record) -> int:
    """Return how many persons must release the order of ``row``, which has its marking and ``by_contract``."""
    return people_needed(
        by_contract=row["by_contract"],
        label=Label.read(row["label"]),
        tags=Tags(categories=frozenset(row["categories"]), ldc=frozenset(row["ldc"]), jurisdiction=row["jurisdiction"]),
    )


class _Decision:
    """One transaction in which a person's decision of a hold, whose row is locked, is recorded."""

    def __init__(self, connection: Connection, scribe: Scribe, hold: asyncpg.Record, at: datetime) -> None:
        self._connection = connection
        self._scribe = scribe
        self._hold = hold
        self._at = at

    async def by(self, person: Person, decision: HoldDecision, reason: HoldReason) -> HoldAnswer:
        if self._hold["ended_at"] is not None:
            return HoldAnswer.ENDED
        if not person.may(Act.DECIDE_HOLD):
            return await self.refuse(HoldAnswer.NOT_ALLOWED, person)
        if reason not in REASONS[decision]:
            return await self.refuse(HoldAnswer.REASON_DOES_NOT_FIT, person)
        if not await self._first_vote(person, decision, reason):
            return await self.refuse(HoldAnswer.SAME_PERSON, person)
        if decision is HoldDecision.KEEP:
            return await self._keep(person, reason)
        return await self._release(person, reason)

    async def refuse(self, why: HoldAnswer, person: Person | None) -> HoldAnswer:
        """Record a decision that does not count; the question is asked again."""
        await self._move(
            "UPDATE hold SET asks = asks + 1, version = version + 1 WHERE id = $1 RETURNING version",
            [(AuditType.APPROVAL_REFUSED, person, {"status": "failure", "code": why.value})],
        )
        return why

    async def _first_vote(self, person: Person, decision: HoldDecision, reason: HoldReason) -> bool:
        made = await self._connection.fetchval(
            "INSERT INTO hold_vote (hold_id, round, person_id, decision, reason, at)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true",
            self._hold["id"],
            self._hold["round"],
            person.id,
            decision.value,
            reason.value,
            self._at,
        )
        return bool(made)

    async def _keep(self, person: Person, reason: HoldReason) -> HoldAnswer:
        await self._move(
            "UPDATE hold SET asks = asks + 1, round = round + 1, asked_at = $2, version = version + 1 WHERE id = $1"
            " RETURNING version",
            [(AuditType.APPROVAL_REFUSED, person, {"status": "success", "code": "kept", "reason": reason.value})],
            self._at,
        )
        await self._close(IncidentKind.REGULATORY_HOLD_OVERDUE)
        return HoldAnswer.KEPT

    async def _release(self, person: Person, reason: HoldReason) -> HoldAnswer:
        votes = await self._connection.fetch(
            "SELECT person_id FROM hold_vote WHERE hold_id = $1 AND round = $2 AND decision = 'release' ORDER BY at",
            self._hold["id"],
            self._hold["round"],
        )
        people = [row["person_id"] for row in votes]
        needed = needed_by(self._hold)
        granted = {"status": "success", "reason": reason.value, "released_by": len(people), "needed": needed}
        if len(people) < needed:
            await self._move(
                "UPDATE hold SET asks = asks + 1, version = version + 1 WHERE id = $1 RETURNING version",
                [(AuditType.APPROVAL_GRANTED, person, granted)],
            )
            return HoldAnswer.NEEDS_SECOND
        await self._move(
            "UPDATE hold SET asks = asks + 1, ended_at = $2, version = version + 2 WHERE id = $1 RETURNING version",
            [
                (AuditType.APPROVAL_GRANTED, person, granted),
                (AuditType.ORDER_RELEASED, person, {"status": "success", "released_by": people}),
            ],
            self._at,
        )
        await self._close(IncidentKind.REGULATORY_HOLD_OVERDUE, IncidentKind.REGULATORY_CHECK)
        await let_go(self._connection, at=self._at)
        return HoldAnswer.RELEASED

    async def _move(
        self, change: str, told: list[tuple[AuditType, Person | None, Mapping[str, object]]], *values: datetime
    ) -> None:
        """Change the hold and record it, one record for each version that the change adds."""
        version = await self._connection.fetchval(change, self._hold["id"], *values)
        first = version - len(told) + 1
        await emit(self._connection, [self._record(first + number, *what) for number, what in enumerate(told)])

    def _record(self, version: int, type_: AuditType, person: Person | None, outcome: Mapping[str, object]) -> Record:
        return self._scribe.record(
            type_,
            object_=("hold", str(self._hold["id"])),
            stream=(f"hold:{self._hold['id']}", version),
            at=self._at,
            actor=Actor(kind="person", id=person.id if person else "unknown"),
            outcome={**outcome, "order": str(self._hold["order_id"]), "round": self._hold["round"]},
        )

    async def _close(self, *kinds: IncidentKind) -> None:
        await close_incidents(self._connection, self._scribe, kinds, [str(self._hold["order_id"])], at=self._at)
