"""What carriers said of shipments: read under a lock, and kept once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from ordernotify.core.events import OrderStatus
from ordernotify.core.hearing import Heard
from ordernotify.core.tracking import Care, TrackingEvent
from ordernotify.store.database import Connection


@dataclass(slots=True)
class Followed:
    """A shipment under lock with its order, what was known of it, and what was heard now."""

    row: asyncpg.Record
    events: list[TrackingEvent]
    status: OrderStatus | None
    status_at: datetime | None
    heard: Heard | None = None

    @property
    def fresh(self) -> Sequence[TrackingEvent]:
        """What of it was never heard before."""
        return self.heard.fresh if self.heard else ()

    @property
    def order_id(self) -> UUID | None:
        """The order that the parcel is of, None while none is known to have it."""
        order_id: UUID | None = self.row["order_id"]
        return order_id

    @property
    def zone(self) -> ZoneInfo:
        """The client's time zone, as that of the destination."""
        return ZoneInfo(self.row["time_zone"] or "UTC")


async def read(connection: Connection, shipment_ids: Sequence[UUID]) -> dict[UUID, Followed]:
    """Lock shipments, with all others of their orders, and return them with what is known of them."""
    rows = await connection.fetch(
        "SELECT s.*, o.order_no, o.status AS ordered, o.promised_date, c.time_zone FROM shipment s"
        " LEFT JOIN orders o ON o.id = s.order_id LEFT JOIN client c ON c.id = o.client_id"
        " WHERE s.id = ANY($1) OR s.order_id IN (SELECT order_id FROM shipment WHERE id = ANY($1))"
        " ORDER BY s.id FOR UPDATE OF s",
        shipment_ids,
    )
    found = {
        row["id"]: Followed(row, [], OrderStatus(row["status"]) if row["status"] else None, row["status_at"])
        for row in rows
    }
    for row in await connection.fetch(
        "SELECT t.*, s.tracking_no FROM tracking_event t JOIN shipment s ON s.id = t.shipment_id"
        " WHERE shipment_id = ANY($1)",
        list(found),
    ):
        found[row["shipment_id"]].events.append(
            TrackingEvent(
                carrier=row["carrier"],
                tracking_no=row["tracking_no"],
                status=OrderStatus(row["status"]) if row["status"] else None,
                raw_code=row["raw_code"],
                occurred_at=row["occurred_at"],
                detail=row["detail"],
                estimated_delivery=row["estimated_delivery"],
                care=Care(row["care"]),
                event_id=row["event_id"],
                title=row["title"],
            )
        )
    return found


async def keep(connection: Connection, shipments: Iterable[Followed]) -> None:
    """Keep what was heard for the first time, and the days of delivery that were put off."""
    fresh = [(shipment.row["id"], event) for shipment in shipments for event in shipment.fresh]
    if not fresh:
        return
    await connection.execute(
        "INSERT INTO tracking_event (shipment_id, carrier, known_by, raw_code, status, occurred_at, detail,"
        " estimated_delivery, care, event_id, title)"
        " SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],"
        " $7::text[], $8::date[], $9::text[], $10::text[], $11::text[])"
        " ON CONFLICT (shipment_id, carrier, known_by, raw_code)"
        " DO UPDATE SET estimated_delivery = excluded.estimated_delivery",
        [shipment_id for shipment_id, _ in fresh],
        [event.carrier for _, event in fresh],
        [event.key[2] for _, event in fresh],
        [event.raw_code for _, event in fresh],
        [event.status.value if event.status else "" for _, event in fresh],
        [event.occurred_at for _, event in fresh],
        [event.detail for _, event in fresh],
        [event.estimated_delivery for _, event in fresh],
        [event.care.value for _, event in fresh],
        [event.event_id for _, event in fresh],
        [event.title for _, event in fresh],
    )
