"""Conclude from what carriers did not say: a day that passed, a silence, an end of asking."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE

from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.events import Trigger
from ordernotify.core.following import conclusions, is_ours
from ordernotify.core.tracking import TrackingEvent
from ordernotify.runtime import Runtime
from ordernotify.store import hearing, shipments, stories
from ordernotify.store.hearing import Speech
from tasks.errors import surprises_made_safe

# A restart of the database takes seconds, and what was concluded before is not concluded again.
_WAITS_S = [2.0, 10.0, 30.0]
# Shipments in one transaction: few enough that carriers' answers are not kept waiting behind it.
_CHUNK = 200
_SOURCE = "house"
_NOBODY = "unknown"  # the carrier of a parcel whose carrier we cannot tell


@task(name="conclude shipments", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def conclude_shipments() -> dict[str, int]:
    """Tell of shipments that are late, and let a person look at those that are silent or given up.

    Each cause counts once: a day that passed is told again only when another day was promised and passed too.
    """
    house = await runtime.current()
    counts: Counter[str] = Counter()
    after: UUID | None = None
    while ids := await shipments.still_open(house.pool, after=after, limit=_CHUNK):
        counts += await _conclude(house, ids, at=now())
        after = ids[-1]
    return dict(counts)


async def _conclude(house: Runtime, ids: list[UUID], *, at: datetime) -> Counter[str]:
    async with house.pool.acquire() as connection, connection.transaction():
        told: dict[UUID, list[TrackingEvent]] = {}
        for shipment_id, shipment in (await stories.read(connection, ids)).items():
            before = {event.key for event in shipment.events}
            concluded = conclusions(
                shipment.events,
                carrier=shipment.row["carrier"] or _NOBODY,
                tracking_no=shipment.row["tracking_no"],
                since=shipment.row["since"],
                now=at,
                promised=_day(shipment.row["promised_date"]),
                zone=shipment.zone,
            )
            # Whom nobody asked, and who said nothing, is not silent.
            spoke = shipment.row["asked_at"] or not all(is_ours(event) for event in shipment.events)
            new = [event for event in concluded if event.key not in before and (spoke or event.status is not None)]
            if new and shipment_id in ids:
                told[shipment_id] = new
        if not told:
            return Counter({"shipments": len(ids)})
        speech = Speech(source=_SOURCE, at=at, trigger=Trigger.EXCEPTION)
        written = await hearing.write(connection, house.scribe, told, speech)
    kinds = Counter(event.raw_code.removeprefix("ordernotify.") for events in told.values() for event in events)
    return Counter({"shipments": len(ids), "events": len(written.accepted)}) + kinds


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
