"""Read thin events again at their source before they are believed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from ordernotify.clock import now
from ordernotify.core.events import OrderEvent
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Context
from ordernotify.runtime import Runtime
from ordernotify.store import thin
from ordernotify.wire import UnansweredError

log = structlog.get_logger(__name__)


async def read_thin_events(house: Runtime, event_ids: Sequence[UUID]) -> None:
    """Fill the thin events of a batch from their sources; one that cannot be read now stays thin.

    A thin event that stays thin is quarantined by validation, with an incident; releasing it asks again.
    """
    found = await thin.thin_events(house.pool, event_ids)
    if found:
        known = await house.known()
        await asyncio.gather(*(_read(house, event_id, event) for event_id, event in found if event.source in known))


async def _read(house: Runtime, event_id: UUID, event: OrderEvent) -> None:
    platform = PLATFORMS[event.source]
    if platform.reread is None:
        return
    try:
        context = await house.wire.prepare(platform, house.context(event.source))
        if not isinstance(context, Context):
            return
        answer = await house.wire.call(event.source, platform.reread.build(event, context))
    except UnansweredError as error:
        log.warning("source_unanswered", source=event.source, event_id=str(event_id), kind=error.kind)
        return
    told = platform.reread.read(answer, event, context)
    if told is None:
        await thin.dropped(house.pool, house.scribe, event_id, at=now())
    elif isinstance(told, OrderEvent):
        # The key under which it arrived stays: a repetition of the thin event is still the same event.
        whole = replace(told, dedupe_key=event.dedupe_key, thin=False)
        await thin.filled(house.pool, house.scribe, event_id, whole, at=now())
    else:
        log.warning("source_refused", source=event.source, event_id=str(event_id), code=told.code)
