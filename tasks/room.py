"""Leave room: what brings thousands of events at once does not fill the inbox for events of the moment."""

from __future__ import annotations

import asyncio

from ordernotify.runtime import Runtime
from ordernotify.store import inbox

# An extract or a table of updates leaves this part of the inbox to others.
_ITS_SHARE = 2
_PAUSE_S = 1.0


async def room_for_many(house: Runtime) -> None:
    """Return when the inbox has room for another part of something large."""
    while await inbox.waiting(house.pool) > house.settings.max_waiting // _ITS_SHARE:  # noqa: ASYNC110 - a table is asked
        await asyncio.sleep(_PAUSE_S)
