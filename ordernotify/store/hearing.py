"""Write down what carriers say of shipments, and put what it means for their orders into the inbox, at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ordernotify.core.audit import AuditType, Source
from ordernotify.core.events import OrderEvent, OrderStatus, Trigger
from ordernotify.core.following import next_question, stage
from ordernotify.core.hearing import hear, spoken
from ordernotify.core.tracking import Care, Overall, TrackingEvent, latest, overall, to_order_event
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Connection
from ordernotify.store.inbox import Arrival, take
from ordernotify.store.incidents import Incident, IncidentKind, open_incidents
from ordernotify.store.quarantine import hold
from ordernotify.store.stories import Followed, keep, read

# Why an event is held whose carrier says what a client should hear from a person, or not at all.
PERSON_FIRST: Final = "person_first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """Who spoke and how: the exact bytes, and whether it answers a question of ours (then ``at_least`` counts)."""

    source: str
    at: datetime
    trigger: Trigger = Trigger.TRACKING
    body: bytes = b""
    headers: Mapping[str, str] | None = None
    remote: str = ""
    answers: bool = False
    at_least: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a speech.

    ``accepted`` are events for orders and ``held`` those that a person must release; ``fresh`` and ``known`` count
    what was told, ``spoken_of`` the shipments of which anything was fresh.
    """

    accepted: tuple[UUID, ...] = ()
    held: tuple[UUID, ...] = ()
    fresh: int = 0
    known: int = 0
    spoken_of: int = 0


async def write(
    connection: Connection, scribe: Scribe, told: Mapping[UUID, Sequence[TrackingEvent]], speech: Speech
) -> Written:
    """Write what was told of shipments, by their ids, and accept what is news; call it in a transaction.

    All shipments of an order are locked together, because its status follows from all of them.
    """
    known = await read(connection, list(told))
    for shipment_id, shipment in known.items():
        if shipment_id in told:
            shipment.heard = hear(shipment.events, told[shipment_id])
            newest = latest(spoken(shipment.heard.events))
            shipment.status = newest.status if newest else None
            shipment.status_at = newest.occurred_at if newest else None
    heard = {shipment.row["id"]: shipment for shipment in known.values() if shipment.heard is not None}
    await keep(connection, heard.values())
    await _write_shipments(connection, heard.values(), speech)
    fresh = sum(len(shipment.fresh) for shipment in heard.values())
    if fresh:
        await emit(connection, [_received(scribe, one, speech) for one in heard.values() if one.fresh])
    accepted, held = await _accept(connection, scribe, list(known.values()), speech)
    await open_incidents(
        connection, scribe, [incident for shipment in heard.values() for incident in _incidents(shipment)], at=speech.at
    )
    spoken_of = sum(bool(shipment.fresh) for shipment in heard.values())
    return Written(accepted, held, fresh, sum(map(len, told.values())) - fresh, spoken_of)


async def _write_shipments(connection: Connection, shipments: Iterable[Followed], speech: Speech) -> None:
    """Write where shipments are and when to ask again; an answer without anything new changes only the latter."""
    told = [(shipment, shipment.heard.events) for shipment in shipments if shipment.heard is not None]
    await connection.execute(
        "UPDATE shipment SET status = new.status, status_at = new.status_at, stage = new.stage,"
        " version = shipment.version + new.fresh, next_question_at = new.next,"
        " asked_at = CASE WHEN $7 THEN $8 ELSE asked_at END, tries = CASE WHEN $7 THEN 0 ELSE tries END,"
        " lease_until = CASE WHEN $7 THEN NULL ELSE lease_until END"
        " FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::int[], $6::timestamptz[])"
        " AS new(id, status, status_at, stage, fresh, next) WHERE shipment.id = new.id",
        [shipment.row["id"] for shipment, _ in told],
        [shipment.status.value if shipment.status else "" for shipment, _ in told],
        [shipment.status_at for shipment, _ in told],
        [stage(events).value for _, events in told],
        [int(bool(shipment.fresh)) for shipment, _ in told],
        [_next(shipment, events, speech) for shipment, events in told],
        speech.answers,
        speech.at,
    )


def _next(shipment: Followed, events: Sequence[TrackingEvent], speech: Speech) -> datetime | None:
    row = shipment.row
    if not speech.answers and not (row["asked_at"] and shipment.fresh):
        kept: datetime | None = row["next_question_at"]
        return kept
    return next_question(
        events,
        tracking_no=row["tracking_no"],
        since=row["since"],
        asked_at=speech.at if speech.answers else row["asked_at"],
        zone=shipment.zone,
        at_least=speech.at_least,
    )


# ---- what it means for orders ----


async def _accept(
    connection: Connection, scribe: Scribe, shipments: Sequence[Followed], speech: Speech
) -> tuple[tuple[UUID, ...], tuple[UUID, ...]]:
    usual: list[OrderEvent] = []
    reserved: list[OrderEvent] = []
    for shipment in shipments:
        if shipment.heard is None or shipment.order_id is None:
            continue
        order = _overall(shipment, shipments)
        usual += [_as_order_event(event, shipment, order) for event in shipment.heard.tell]
        reserved += [_as_order_event(replace(event, care=Care.NOBODY), shipment) for event in shipment.heard.hold]
    events = [replace(event, trigger=speech.trigger) for event in (*usual, *reserved)]
    if not events:
        return (), ()
    # In the order in which admission locks orders, so that the two wait for each other, never both.
    await connection.execute(
        "INSERT INTO order_alias (source, ref, order_id) SELECT source, ref, ref::uuid"
        " FROM unnest($1::text[], $2::text[]) AS new(source, ref) ORDER BY ref::uuid ON CONFLICT DO NOTHING",
        [event.source for event in events],
        [event.order_ref for event in events],
    )
    told = await _taken(connection, scribe, events[: len(usual)], speech)
    held = await _taken(connection, scribe, events[len(usual) :], speech)
    await hold(connection, scribe, held, reason=PERSON_FIRST, at=speech.at)
    return told, held


async def _taken(
    connection: Connection, scribe: Scribe, events: Sequence[OrderEvent], speech: Speech
) -> tuple[UUID, ...]:
    if not events:
        return ()
    arrival = Arrival(
        source=speech.source,
        headers=speech.headers or {},
        body=speech.body,
        events=tuple(events),
        remote=speech.remote,
        at=speech.at,
    )
    (taken,) = await take(connection, scribe, [arrival])
    return taken.accepted


def _overall(shipment: Followed, shipments: Sequence[Followed]) -> tuple[Overall, datetime] | None:
    """Return the status of an order of several shipments and since when it holds; None for an order of one.

    A parcel that moves although its order was cancelled speaks for itself: it is refused, and a person sees it.
    """
    parts = [one for one in shipments if one.order_id == shipment.order_id]
    ordered = OrderStatus(shipment.row["ordered"])
    if len(parts) == 1 or ordered is OrderStatus.CANCELLED:
        return None
    since = max((one.status_at for one in parts if one.status_at is not None), default=shipment.row["since"])
    return overall([one.status for one in parts], ordered=ordered), since


def _as_order_event(
    event: TrackingEvent, shipment: Followed, order: tuple[Overall, datetime] | None = None
) -> OrderEvent:
    told = to_order_event(
        event,
        order_ref=str(shipment.order_id),
        order_no=shipment.row["order_no"],
        order=order[0] if order else None,
    )
    if told is None:
        raise ValueError("only an event with a status is told")
    # Of several parcels the last one's time is that of the whole: what it says is not older than the others.
    return replace(told, occurred_at=max(told.occurred_at, order[1])) if order else told


def _incidents(shipment: Followed) -> list[Incident]:
    events = shipment.heard.look if shipment.heard and shipment.order_id else ()
    return [
        Incident(
            IncidentKind.SHIPMENT_ATTENTION,
            f"{shipment.row['id']} {event.raw_code}",
            code=event.raw_code,
            order_id=shipment.order_id,
        )
        for event in events
    ]


def _received(scribe: Scribe, shipment: Followed, speech: Speech) -> Record:
    return scribe.record(
        AuditType.INGEST_RECEIVED,
        object_=("shipment", str(shipment.row["id"])),
        stream=(str(shipment.row["id"]), shipment.row["version"] + 1),
        at=speech.at,
        source=Source(kind="carrier", id=speech.source, ip=speech.remote or None),
        outcome={
            "status": "success",
            "code": "carrier_spoke" if shipment.order_id else "order_unknown",
            "events": len(shipment.fresh),
        },
        corr={"order_id": str(shipment.order_id)} if shipment.order_id else None,
    )
