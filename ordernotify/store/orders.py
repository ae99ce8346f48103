"""Orders: find the order an event speaks of, decide what the event means for it, and record both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from ordernotify.clock import new_id
from ordernotify.core.audit import AuditType
from ordernotify.core.events import Admission, OrderEvent, OrderState, OrderStatus, Trigger, admit, advance
from ordernotify.core.labels import Label, Tags, join
from ordernotify.store import shipments
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Connection, Pool
from ordernotify.store.holds import place_holds
from ordernotify.store.inbox import EventState
from ordernotify.store.incidents import Incident, IncidentKind, open_incidents
from ordernotify.store.quarantine import release_answered
from ordernotify.turns import in_turns

_STATE_AFTER = {
    Admission.NEWS: EventState.ADMITTED,
    Admission.SAME: EventState.NOTED,
    Admission.STALE: EventState.NOTED,
    Admission.REFUSED: EventState.NOTED,
    Admission.UNKNOWN: EventState.NOTED,
}
_INCIDENT_AFTER = {
    Admission.REFUSED: IncidentKind.IMPOSSIBLE_STATUS,
    Admission.UNKNOWN: IncidentKind.UNKNOWN_STATUS,
}


@dataclass(slots=True)
class _Order:
    """An order under lock: what is known, and whether this transaction changed it."""

    id: UUID
    client_id: str
    order_no: str
    label: Label = Label.INTERNAL
    categories: set[str] = field(default_factory=set)
    ldc: set[str] = field(default_factory=set)
    jurisdiction: str = "NONE"
    contract_id: str = ""
    lines: list[Any] = field(default_factory=list)
    refs: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    state: OrderState | None = None
    changed: bool = False
    # The event by which it came under regulatory review in this transaction.
    held_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class _Arrived:
    id: UUID
    version: int
    event: OrderEvent


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of claimed events: how many were admitted, noted or quarantined, and the events themselves."""

    counts: Counter[str]
    events: Mapping[UUID, OrderEvent]


async def admit_events(pool: Pool, scribe: Scribe, event_ids: Sequence[UUID], *, at: datetime) -> Admitted:
    """Take claimed events to their orders.

    Orders are locked in the order of their ids, so two runs with events of the same orders wait, never
    deadlock. Events that are not in state ``claimed`` are left alone: a rerun repeats nothing.
    """
    while True:
        try:
            return await _admitted(pool, scribe, event_ids, at=at)
        except _MadeByAnotherError:
            # Another run met the same order for the first time; now it is there for both.
            continue


class _MadeByAnotherError(Exception):
    """An order that was new to this transaction was made by another one meanwhile."""


async def _admitted(pool: Pool, scribe: Scribe, event_ids: Sequence[UUID], *, at: datetime) -> Admitted:
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "SELECT id, version, content FROM event WHERE id = ANY($1) AND state = 'claimed'"
            " ORDER BY occurred_at, id FOR UPDATE",
            event_ids,
        )
        if not rows:
            return Admitted(Counter(), {})
        arrived = await in_turns(
            lambda row: _Arrived(row["id"], row["version"], OrderEvent.from_dict(row["content"])), rows
        )
        counts = await _Admission(connection, scribe, at).run(arrived)
        return Admitted(counts, {item.id: item.event for item in arrived})


@dataclass(frozen=True, slots=True)
class _Marking:
    """What the catalogue and the contracts say about marking."""

    parts: dict[str, asyncpg.Record]
    contracts: dict[str, asyncpg.Record]


class _Admission:
    """One transaction that admits a group of events; every question is asked once for the whole group."""

    def __init__(self, connection: Connection, scribe: Scribe, at: datetime) -> None:
        self._connection = connection
        self._scribe = scribe
        self._at = at
        self._records: list[Record] = []
        self._changes: list[tuple[UUID, str, str, UUID | None]] = []
        self._incidents: list[Incident] = []
        self._aliases: list[tuple[str, str, UUID]] = []
        self._parcels: list[shipments.Parcel] = []
        self._new: dict[UUID, _Order] = {}
        self._counts: Counter[str] = Counter()

    async def run(self, arrived: Sequence[_Arrived]) -> Counter[str]:
        parts = await self._parts(arrived)
        contracts = await self._contracts(arrived)
        known, arrived = await self._held_back(arrived, parts)
        orders = await self._locked(known)
        marking = _Marking(parts, contracts)
        await in_turns(lambda item: self._admit(item, orders[known[item.id]], marking), arrived)
        await self._write(orders)
        return self._counts

    async def _parts(self, arrived: Sequence[_Arrived]) -> dict[str, asyncpg.Record]:
        skus = {line.sku for item in arrived for line in item.event.lines}
        if not skus:
            return {}
        rows = await self._connection.fetch(
            "SELECT sku, label, jurisdiction, categories FROM part WHERE sku = ANY($1)", list(skus)
        )
        return {row["sku"]: row for row in rows}

    async def _contracts(self, arrived: Sequence[_Arrived]) -> dict[str, asyncpg.Record]:
        named = {item.event.contract_id for item in arrived if item.event.contract_id}
        if not named:
            return {}
        rows = await self._connection.fetch(
            "SELECT id, label, categories, ldc FROM contract WHERE id = ANY($1)", list(named)
        )
        return {row["id"]: row for row in rows}

    async def _held_back(
        self, arrived: Sequence[_Arrived], parts: dict[str, asyncpg.Record]
    ) -> tuple[dict[UUID, UUID], list[_Arrived]]:
        """Quarantine what cannot be placed; return the order of every other event."""
        aliases = await self._alias_ids(arrived)
        clients = await self._client_ids(arrived)
        placed: dict[UUID, UUID] = {}
        fresh: dict[tuple[str, str], tuple[_Arrived, str]] = {}
        waiting: dict[UUID, tuple[str, str]] = {}
        for item in arrived:
            event = item.event
            if any(line.sku not in parts for line in event.lines):
                self._quarantine(item, "sku_unknown")
            elif event.thin:
                self._quarantine(item, "thin_event")
            elif (order_id := aliases.get((event.source, event.order_ref))) is not None:
                placed[item.id] = order_id
            elif not event.client_ref:
                self._quarantine(item, "order_unknown")
            elif (client_id := clients.get((event.source, event.client_ref))) is None:
                self._quarantine(item, "client_unknown")
            else:
                key = (client_id, event.order_no or event.order_ref)
                fresh.setdefault(key, (item, client_id))
                waiting[item.id] = key
        found = await self._found_or_new(fresh)
        for item in arrived:
            if item.id in waiting:
                placed[item.id] = found[waiting[item.id]]
                self._aliases.append((item.event.source, item.event.order_ref, placed[item.id]))
        return placed, [item for item in arrived if item.id in placed]

    async def _alias_ids(self, arrived: Iterable[_Arrived]) -> dict[tuple[str, str], UUID]:
        keys = {(item.event.source, item.event.order_ref) for item in arrived}
        rows = await self._connection.fetch(
            "SELECT source, ref, order_id FROM order_alias JOIN unnest($1::text[], $2::text[])"
            " AS wanted(source, ref) USING (source, ref)",
            [source for source, _ in keys],
            [ref for _, ref in keys],
        )
        return {(row["source"], row["ref"]): row["order_id"] for row in rows}

    async def _client_ids(self, arrived: Iterable[_Arrived]) -> dict[tuple[str, str], str]:
        keys = {(item.event.source, item.event.client_ref) for item in arrived if item.event.client_ref}
        rows = await self._connection.fetch(
            "SELECT wanted.source, wanted.ref, coalesce(a.client_id, c.id) AS client_id"
            " FROM unnest($1::text[], $2::text[]) AS wanted(source, ref)"
            " LEFT JOIN client_alias a ON a.source = wanted.source AND a.ref = wanted.ref"
            " LEFT JOIN client c ON c.id = wanted.ref",
            [source for source, _ in keys],
            [ref for _, ref in keys],
        )
        return {(row["source"], row["ref"]): row["client_id"] for row in rows if row["client_id"]}

    async def _found_or_new(self, fresh: dict[tuple[str, str], tuple[_Arrived, str]]) -> dict[tuple[str, str], UUID]:
        """Return the order of every (client, number); one that nobody knows yet is written with all the others."""
        if not fresh:
            return {}
        keys = sorted(fresh)
        rows = await self._connection.fetch(
            "SELECT id, client_id, order_no FROM orders JOIN unnest($1::text[], $2::text[])"
            " AS wanted(client_id, order_no) USING (client_id, order_no)",
            [client for client, _ in keys],
            [number for _, number in keys],
        )
        found = {(row["client_id"], row["order_no"]): row["id"] for row in rows}
        for client_id, order_no in keys:
            if (client_id, order_no) not in found:
                order = _Order(new_id(), client_id, order_no)
                self._new[order.id] = order
                found[client_id, order_no] = order.id
        return found

    async def _locked(self, known: dict[UUID, UUID]) -> dict[UUID, _Order]:
        there = set(known.values()) - self._new.keys()
        rows = await self._connection.fetch("SELECT * FROM orders WHERE id = ANY($1) ORDER BY id FOR UPDATE", there)
        return self._new | {order.id: order for order in await in_turns(_read, rows)}

    def _admit(self, item: _Arrived, order: _Order, marking: _Marking) -> None:
        admission = admit(order.state, item.event)
        if admission in {Admission.NEWS, Admission.SAME}:
            was = order.state.status if order.state else None
            order.state = advance(order.state, item.event)
            if order.state.status is OrderStatus.REGULATORY_HOLD and was is not OrderStatus.REGULATORY_HOLD:
                order.held_by = item.id
            order.version += 1
            order.changed = True
            _mark(order, item.event, marking)
        if item.event.tracking_no and item.event.trigger is not Trigger.TRACKING:
            # Also of an event that is no news: an order of several parcels names each of them only once.
            self._parcels.append(shipments.Parcel(order.id, item.event.tracking_no, item.event.carrier))
        if (kind := _INCIDENT_AFTER.get(admission)) is not None:
            self._incidents.append(Incident(kind, subject=str(item.id), event_id=item.id, order_id=order.id))
        self._settle(item, _STATE_AFTER[admission], admission.value, order)

    def _quarantine(self, item: _Arrived, reason: str) -> None:
        self._incidents.append(Incident(IncidentKind.QUARANTINED, subject=str(item.id), code=reason, event_id=item.id))
        self._settle(item, EventState.QUARANTINED, reason, None)

    def _settle(self, item: _Arrived, state: EventState, reason: str, order: _Order | None) -> None:
        held = state is EventState.QUARANTINED
        self._changes.append((item.id, state.value, reason, order.id if order else None))
        self._counts[reason if held else state.value] += 1
        outcome: dict[str, Any] = {"status": "failure" if held else "success", "code": reason}
        if order is not None:
            outcome |= {"order": str(order.id), "order_version": order.version}
        self._records.append(
            self._scribe.record(
                AuditType.QUARANTINE_PLACED if held else AuditType.VALIDATE_PASSED,
                object_=("event", str(item.id)),
                stream=(str(item.id), item.version + 1),
                at=self._at,
                outcome=outcome,
            )
        )

    async def _write(self, orders: dict[UUID, _Order]) -> None:
        await self._write_orders([order for order in orders.values() if order.changed or order.id in self._new])
        if self._aliases:
            await self._connection.execute(
                "INSERT INTO order_alias (source, ref, order_id)"
                " SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]) ON CONFLICT DO NOTHING",
                *map(list, zip(*self._aliases, strict=True)),
            )
        await self._connection.execute(
            "UPDATE event SET state = change.state, reason = change.reason, order_id = change.order_id,"
            " version = version + 1"
            " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS change(id, state, reason, order_id)"
            " WHERE event.id = change.id",
            *map(list, zip(*self._changes, strict=True)),
        )
        await shipments.make(self._connection, self._parcels, at=self._at)
        await open_incidents(self._connection, self._scribe, self._incidents, at=self._at)
        await emit(self._connection, self._records)
        held = {order.id: order.held_by for order in orders.values() if order.held_by is not None}
        if held:
            await place_holds(self._connection, self._scribe, held, at=self._at)
        if self._aliases:
            # Out of order is normal: what came before its order is let go when the order comes.
            await release_answered(self._connection, self._scribe, "order_unknown", at=self._at)

    async def _write_orders(self, written: Sequence[_Order]) -> None:
        if not written:
            return
        # In one order, as everybody writes them: who waits for a new one of another run holds none that it waits for.
        written = sorted(written, key=lambda order: (order.client_id, order.order_no))
        states = [order.state or OrderState(status=OrderStatus.RECEIVED, status_at=self._at) for order in written]
        kept = await self._connection.fetch(
            "INSERT INTO orders (id, client_id, order_no, status, status_at, carrier, tracking_no, promised_date,"
            " detail, label, jurisdiction, contract_id, categories, ldc, lines, refs, version)"
            " SELECT id, client_id, order_no, status, status_at, carrier, tracking_no, promised_date, detail, label,"
            " jurisdiction, contract_id, string_to_array(categories, chr(31)), string_to_array(ldc, chr(31)),"
            " lines::jsonb, refs::jsonb, version FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[],"
            " $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],"
            " $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::int[]) AS c(id, client_id,"
            " order_no, status, status_at, carrier, tracking_no, promised_date, detail, label, jurisdiction,"
            " contract_id, categories, ldc, lines, refs, version)"
            " ON CONFLICT (client_id, order_no) DO UPDATE SET status = excluded.status,"
            " status_at = excluded.status_at, carrier = excluded.carrier, tracking_no = excluded.tracking_no,"
            " promised_date = excluded.promised_date, detail = excluded.detail, label = excluded.label,"
            " jurisdiction = excluded.jurisdiction, contract_id = excluded.contract_id,"
            " categories = excluded.categories, ldc = excluded.ldc, lines = excluded.lines, refs = excluded.refs,"
            " version = excluded.version WHERE orders.id = excluded.id RETURNING 1",
            [order.id for order in written],
            [order.client_id for order in written],
            [order.order_no for order in written],
            [state.status.value for state in states],
            [state.status_at for state in states],
            [state.carrier for state in states],
            [state.tracking_no for state in states],
            [state.promised_date for state in states],
            [state.detail for state in states],
            [order.label.word for order in written],
            [order.jurisdiction for order in written],
            [order.contract_id for order in written],
            ["\x1f".join(sorted(order.categories)) for order in written],
            ["\x1f".join(sorted(order.ldc)) for order in written],
            [orjson.dumps(order.lines).decode() for order in written],
            [orjson.dumps(order.refs).decode() for order in written],
            [order.version for order in written],
        )
        if len(kept) < len(written):
            raise _MadeByAnotherError


def _mark(order: _Order, event: OrderEvent, marking: _Marking) -> None:
    """Raise the order's label and tags by what the event, its contract and its parts say; nothing lowers them."""
    order.contract_id = event.contract_id or order.contract_id
    order.refs |= event.refs
    if event.lines:
        order.lines = [[line.sku, line.quantity] for line in event.lines]
    labels = [order.label] if order.version > 1 else []
    if event.label:
        labels.append(Label.read(event.label))
    if order.contract_id:
        labels.append(Label.FCI)
    if contract := marking.contracts.get(event.contract_id):
        labels.append(Label.read(contract["label"]))
        order.categories |= set(contract["categories"])
        order.ldc |= set(contract["ldc"])
    for part in (marking.parts[line.sku] for line in event.lines):
        labels.append(Label.read(part["label"]))
        order.categories |= set(part["categories"])
        order.jurisdiction = _stricter(order.jurisdiction, part["jurisdiction"])
    # Without a word from anybody an order is company business.
    said = bool(event.label) or order.version > 1
    order.label = join(labels if said else [Label.INTERNAL, *labels])


def _stricter(known: str, told: str) -> str:
    """Return the jurisdiction that binds more: one controlled part makes the whole order controlled."""
    return told if not Tags(jurisdiction=known).export and told not in {"", "NONE"} else known


def state_of(row: asyncpg.Record) -> OrderState:
    """Return what is known of an order, of the columns of its table."""
    return OrderState(
        status=OrderStatus(row["status"]),
        status_at=row["status_at"],
        carrier=row["carrier"],
        tracking_no=row["tracking_no"],
        promised_date=row["promised_date"],
        detail=row["detail"],
    )


def _read(row: asyncpg.Record) -> _Order:
    return _Order(
        id=row["id"],
        client_id=row["client_id"],
        order_no=row["order_no"],
        label=Label.read(row["label"]),
        categories=set(row["categories"]),
        ldc=set(row["ldc"]),
        jurisdiction=row["jurisdiction"],
        contract_id=row["contract_id"],
        lines=row["lines"],
        refs=row["refs"],
        version=row["version"],
        state=state_of(row) if row["version"] else None,
    )
