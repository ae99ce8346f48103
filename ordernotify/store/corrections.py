"""Corrections: who was told what is taken back, and the tie between a correction and what it corrects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.core.planning import Told
from ordernotify.store.database import Connection, Pool

# In these states a message has reached somebody, or may have.
_TOLD: Final = ["sent", "delivered", "read", "unknown", "sending"]


async def told_before(pool: Pool, events: Sequence[tuple[UUID, UUID, OrderEvent]]) -> dict[UUID, dict[str, Told]]:
    """Return what each contact was told of the order, for each event (id, order, event) that corrects another."""
    corrections = [entry for entry in events if entry[2].corrects]
    if not corrections:
        return {}
    rows = await pool.fetch(
        "SELECT w.id, d.contact_id, bool_or(d.event_id = w.corrects) AS corrected,"
        " (array_agg(e.status ORDER BY d.event_at DESC, d.id DESC))[1] AS status"
        " FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w(id, order_id, corrects)"
        " JOIN delivery d ON d.order_id = w.order_id AND d.event_id <> w.id AND d.status = ANY($4)"
        " JOIN event e ON e.id = d.event_id GROUP BY 1, 2",
        [event_id for event_id, _, _ in corrections],
        [order_id for _, order_id, _ in corrections],
        [UUID(event.corrects) for _, _, event in corrections],
        _TOLD,
    )
    found: dict[UUID, dict[str, Told]] = {event_id: {} for event_id, _, _ in corrections}
    for row in rows:
        found[row["id"]][row["contact_id"]] = Told(OrderStatus(row["status"]), row["corrected"])
    return found


async def link(connection: Connection, corrects: Mapping[UUID, str]) -> dict[UUID, UUID]:
    """Tie each delivery of these events to the one that it corrects, by what each event corrects; returns the ties."""
    if not corrects:
        return {}
    rows = await connection.fetch(
        "UPDATE delivery SET corrects = old.id FROM unnest($1::uuid[], $2::uuid[]) AS w(id, corrects),"
        " LATERAL (SELECT DISTINCT ON (contact_id) id, contact_id FROM delivery o WHERE o.event_id = w.corrects"
        " AND o.status = ANY($3) ORDER BY contact_id, id DESC) old"
        " WHERE delivery.event_id = w.id AND delivery.contact_id = old.contact_id RETURNING delivery.id, old.id AS old",
        list(corrects),
        [UUID(event_id) for event_id in corrects.values()],
        _TOLD,
    )
    return {row["id"]: row["old"] for row in rows}
