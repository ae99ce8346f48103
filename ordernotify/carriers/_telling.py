"""Makes tracking events of what carriers say: clean codes, times that can be compared, names for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar

from ordernotify.carriers._base import clean_code
from ordernotify.core.tracking import Meaning, TrackingEvent, normal_number
from ordernotify.platforms._reading import one_line, read_moment

Item = TypeVar("Item")

AVAILABLE: Final = "available_for_pickup"
ATTEMPTED: Final = "delivery_attempted"
CUSTOMS: Final = "customs"
RETURNING: Final = "returning"
RETURNED: Final = "returned"
ADDRESS: Final = "address_issue"
WEATHER: Final = "weather"
WITH_AGENT: Final = "with_agent"  # handed to somebody who delivers it, which is not a delivery

_TITLES = (("ups", "UPS"), ("fedex", "FedEx"), ("usps", "USPS"), ("dhl", "DHL"))
_TITLE_MAX = 40
_ID_MAX = 120
_AFTER = timedelta(microseconds=1)


def tell(
    carrier: str,
    number: str,
    meaning: Meaning,
    code: str,
    at: datetime,
    *,
    now: datetime,
    title: str = "",
    day: date | None = None,
    event_id: str = "",
) -> TrackingEvent:
    """Return one event of a carrier.

    Nothing happened after we heard of it: a time ahead of ours, as local times without a zone are, becomes
    ``now``. The event stays known by the time that the carrier wrote, or by ``event_id``.
    """
    known_by = event_id or at.astimezone(UTC).isoformat()
    return TrackingEvent(
        carrier=carrier,
        tracking_no=normal_number(number),
        status=meaning.status,
        raw_code=clean_code(code),
        occurred_at=min(at.astimezone(UTC), now),
        detail=meaning.detail,
        estimated_delivery=day,
        care=meaning.care,
        event_id=one_line(known_by, limit=_ID_MAX),
        title=title,
    )


def name_for_people(slug: object) -> str:
    """Return what people call the carrier that an aggregator names by a slug or code, '' where it names none."""
    if not isinstance(slug, str):
        return ""
    word = "".join(mark for mark in slug.lower() if mark.isalnum())
    known = next((title for start, title in _TITLES if word.startswith(start)), "")
    return known or re.sub(r"[^A-Za-z0-9 .&-]", " ", one_line(slug, limit=_TITLE_MAX)).strip()


def when(text: object) -> datetime | None:
    """Return an ISO 8601 time in UTC, one without a zone as if it were UTC; None where ``text`` is none."""
    if not isinstance(text, str):
        return None
    written = text.strip().replace(" ", "T", 1)
    return read_moment(written) or read_moment(f"{written}+00:00")


def day_of(text: object) -> date | None:
    """Return the day of a date or of a time, as it is written there, None where ``text`` is neither."""
    if not isinstance(text, str):
        return None
    try:
        found = date.fromisoformat(text.strip()[:10])
    except ValueError:
        return None
    return found if read_moment(f"{found.isoformat()}T00:00:00Z") else None


def oldest_first(items: Sequence[Item], at: Callable[[Item], datetime | None]) -> Sequence[Item]:
    """Return ``items`` oldest first, whichever of the two orders they came in."""
    times = [time for time in map(at, items) if time is not None]
    return list(reversed(items)) if times and times[0] > times[-1] else items


def in_list_order(events: Iterable[TrackingEvent]) -> tuple[TrackingEvent, ...]:
    """Return events (oldest first) each of which lies after the one that it follows.

    For carriers whose times have no zone: a flight over the date line must not turn the story around. It is
    the later ones that are moved, because what came before may have been told already.
    """
    found: list[TrackingEvent] = []
    for event in events:
        earliest = found[-1].occurred_at + _AFTER if found else event.occurred_at
        found.append(replace(event, occurred_at=max(event.occurred_at, earliest)))
    return tuple(found)


def with_day(events: Sequence[TrackingEvent], day: date | None) -> tuple[TrackingEvent, ...]:
    """Return events (oldest first) with the promised day on the newest, which is what was said with it."""
    if not events or day is None:
        return tuple(events)
    return (*events[:-1], replace(events[-1], estimated_delivery=day))


def items_of(value: object, *names: str) -> list[dict[str, Any]]:
    """Return the objects of the list under ``names`` in nested objects, [] where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(value: object, *names: str) -> str:
    """Return the text or whole number under ``names`` in nested objects, '' where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""
