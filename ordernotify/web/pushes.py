"""What carriers push to us: the shipments they speak of, and what of it is news, in one transaction."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from uuid import UUID

import orjson
from fastapi import Response

from ordernotify.carriers import CARRIERS
from ordernotify.carriers._base import Carrier, Push, Pushed
from ordernotify.clock import new_id, now
from ordernotify.core.audit import AuditType, Source
from ordernotify.core.tracking import TrackingEvent
from ordernotify.platforms._base import Inbound, Refusal
from ordernotify.store import hearing, shipments
from ordernotify.store.audit import Record, emit
from ordernotify.store.hearing import Speech, Written
from ordernotify.web.doorway import Doorway

_KEPT_HEADERS = ("content-type", "user-agent", "as-webhook-version")


async def read(doorway: Doorway, source: str, inbound: Inbound) -> tuple[Push, Pushed] | Refusal:
    """Return what a carrier's call says, once it is known to be genuine; a refusal names the field at fault."""
    carrier: Carrier | None = CARRIERS.get(source)
    if carrier is None or carrier.push is None:
        known = ", ".join(sorted(name for name, entry in CARRIERS.items() if entry.push))
        return Refusal(404, "source", f"is not a known source; carriers that can push are: {known}")
    await doorway.credentials()
    settings = doorway.carriers.get(source)
    if settings is None and doorway.unsure:
        return Refusal(503, "source", "cannot be looked up now: nothing was stored, please repeat")
    if settings is None:
        return Refusal(404, "source", "is not configured here: set its credentials")
    if inbound.method != "POST":
        return Refusal(405, "method", "must be POST")
    at = now()
    said = carrier.push.verify(inbound, settings, at) or carrier.push.read(inbound, settings, at)
    return said if isinstance(said, Refusal) else (carrier.push, said)


async def take(doorway: Doorway, source: str, inbound: Inbound, pushed: Pushed, *, remote: str, push: Push) -> Response:
    """Write a push down and answer as its carrier wants; what no order has yet is kept until an order names it.

    Raises what a database that is away raises, and OverloadedError when too much waits: nothing was stored.
    """
    await doorway.intake.check_room()
    at = now()
    speech = Speech(
        source=f"carrier:{source}",
        at=at,
        body=inbound.body,
        headers={name: inbound.header(name) for name in _KEPT_HEADERS if inbound.header(name)},
        remote=remote,
        at_least=CARRIERS[source].at_least,
    )
    written = await _write(doorway, source, pushed, speech)
    body = {
        "accepted": [str(event_id) for event_id in (*written.accepted, *written.held)],
        "duplicates": written.known if not written.fresh else 0,
    }
    return Response(orjson.dumps(body), push.status, media_type="application/json")


async def _write(doorway: Doorway, source: str, pushed: Pushed, speech: Speech) -> Written:
    by_number: dict[str, list[TrackingEvent]] = defaultdict(list)
    for event in pushed.events:
        by_number[event.tracking_no].append(event)
    async with doorway.pool.acquire() as connection, connection.transaction():
        if pushed.ask:
            await shipments.ask_now(connection, pushed.ask, at=speech.at)
        if not by_number:
            return Written()
        found: dict[str, list[UUID]] = {}
        while missing := sorted(by_number.keys() - found.keys()):
            await shipments.keep_unplaced(connection, missing, carrier=source, at=speech.at)
            found |= await shipments.of_numbers(connection, missing)
        told = {shipment_id: by_number[number] for number, ids in found.items() for shipment_id in ids}
        written = await hearing.write(connection, doorway.scribe, told, speech)
        if not written.fresh:
            await emit(connection, [_known(doorway, speech, at=speech.at)])
        return written


def _known(doorway: Doorway, speech: Speech, *, at: datetime) -> Record:
    request = str(new_id())
    return doorway.scribe.record(
        AuditType.INGEST_DUPLICATE,
        object_=("request", request),
        stream=(request, 1),
        at=at,
        source=Source(kind="carrier", id=speech.source, ip=speech.remote or None),
        outcome={"status": "success", "code": "known_already"},
    )
