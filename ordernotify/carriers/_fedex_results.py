"""FedEx's track results: its two-letter codes, and how one result is read, asked for or pushed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from ordernotify.carriers._base import clean_code, meaning_of, table
from ordernotify.carriers._telling import (
    AVAILABLE,
    CUSTOMS,
    RETURNED,
    RETURNING,
    WEATHER,
    day_of,
    in_list_order,
    items_of,
    tell,
    text_of,
    when,
    with_day,
)
from ordernotify.core.events import OrderStatus as S
from ordernotify.core.tracking import Care, Meaning, TrackingEvent

NAME, TITLE = "fedex", "FedEx"

# OF is "at origin facility" here, unlike the same letters of other carriers.
STATUSES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(S.PROCESSING), "OC OX MD IN DS DR EP AP SH"),
        (Meaning(S.SHIPPED), "PU PX DO Ow AA AC AF AR AX DP IT IX FD LO OF PF PL PM SF TR EA EO AO AE CC CP CH"),
        (Meaning(S.SHIPPED), "BR TP"),
        (Meaning(S.SHIPPED, CUSTOMS), "CU"),
        (Meaning(S.OUT_FOR_DELIVERY), "OD ED AD"),
        (Meaning(S.OUT_FOR_DELIVERY, AVAILABLE), "HL HP"),
        (Meaning(S.DELIVERED), "DL"),
        (Meaning(S.DELAYED), "DE DD DY SE RL PD"),
        (Meaning(S.DELAYED, CUSTOMS), "CD"),
        (Meaning(S.RETURNED, RETURNING), "RS"),
        (Meaning(S.RETURNED, RETURNED), "RT"),
        (Meaning(None), "RR RM RC RP LP RG RD SP HA US"),
        (Meaning(None, care=Care.FIRST), "CA"),
    )
)
_LATER_DATE, _CLEARANCE, _CANCELLED = "US", "CD", "CA"

# A clearance delay is a hold where its reason names an authority, a licence or papers.
_HOLD = re.compile(r"\bagenc|\blicen[cs]|\bpermit|\bdocument|\bembargo|\bgovernment", re.IGNORECASE)
_CANCEL = re.compile(r"cancel|void", re.IGNORECASE)
_POSSESSION = re.compile(r"\bcarrier\b|possession", re.IGNORECASE)


def events_of(results: Sequence[Mapping[str, Any]], number: str, now: datetime) -> tuple[TrackingEvent, ...]:
    """Return the events of a number's newest result: numbers are used again, and old ones come first."""
    newest = max(results, key=_last_time, default={})
    scans = items_of(newest, "scanEvents")[::-1]  # newest first, whatever their zones make of it
    told = [_scan(scan, number, now) for scan in scans[:-1]]
    current = newest.get("latestStatusDetail")
    if isinstance(current, dict) or scans:
        told.append(_current(newest, scans[-1] if scans else {}, number, now))
    return with_day(in_list_order(told), _day(newest))


def _scan_time(scan: Mapping[str, Any]) -> datetime | None:
    return when(scan.get("date"))


def _last_time(result: Mapping[str, Any]) -> str:
    times = [_scan_time(scan) for scan in items_of(result, "scanEvents")]
    times += [when(one.get("dateTime")) for one in items_of(result, "dateAndTimes")]
    return max((time.isoformat() for time in times if time is not None), default="")


def _scan(scan: Mapping[str, Any], number: str, now: datetime) -> TrackingEvent:
    code = clean_code(text_of(scan, "eventType"))
    means = _refined(code, meaning_of(STATUSES, code), _words(scan))
    return _tell(scan, means, code, number, now)


def _current(result: Mapping[str, Any], scan: Mapping[str, Any], number: str, now: datetime) -> TrackingEvent:
    """Return the newest event: the code of the whole shipment speaks, at the time of the last scan."""
    detail = result.get("latestStatusDetail")
    code = clean_code(text_of(detail, "code")) or clean_code(text_of(scan, "eventType"))
    means = _refined(code, meaning_of(STATUSES, code), _words(scan) + _words(detail))
    delayed = text_of(detail, "delayDetail", "status") == "DELAYED"
    if (delayed and means.status is S.SHIPPED) or (code == _LATER_DATE and _is_later(result)):
        weather = text_of(detail, "delayDetail", "type") == "WEATHER"
        # The code alone stays the same when a delay begins: the event must not.
        return _tell(scan, Meaning(S.DELAYED, WEATHER if weather else ""), f"{code}+DELAYED", number, now)
    return _tell(scan, means, code, number, now)


def _tell(scan: Mapping[str, Any], means: Meaning, code: str, number: str, now: datetime) -> TrackingEvent:
    at = _scan_time(scan)
    known_by = text_of(scan, "date") if at else "without a time"
    return tell(NAME, number, means, code, at or now, now=now, title=TITLE, event_id=known_by)


_WORDS = ("eventDescription", "exceptionDescription", "description", "statusByLocale")
_REASONS = ("reasonDescription", "actionDescription")


def _words(value: object) -> str:
    words = [text_of(value, name) for name in _WORDS]
    words += [text_of(one, name) for one in items_of(value, "ancillaryDetails") for name in _REASONS]
    return " ".join(words)


def _refined(code: str, means: Meaning, words: str) -> Meaning:
    if code == _CLEARANCE and _HOLD.search(words):
        return Meaning(S.REGULATORY_HOLD, CUSTOMS)
    if code == _CANCELLED and _POSSESSION.search(words) and not _CANCEL.search(words):
        return Meaning(S.SHIPPED)  # of the other group that has these letters: in the carrier's possession
    return means


_PROMISED, _BEFORE = ("ESTIMATED_DELIVERY", "APPOINTMENT_DELIVERY", "COMMITMENT"), "COMMITMENT"


def _days(result: Mapping[str, Any]) -> Mapping[str, date | None]:
    return {text_of(one, "type"): day_of(one.get("dateTime")) for one in items_of(result, "dateAndTimes")}


def _day(result: Mapping[str, Any]) -> date | None:
    days = _days(result)
    return next((day for day in map(days.get, _PROMISED) if day is not None), None)


def _is_later(result: Mapping[str, Any]) -> bool:
    first, day = _days(result).get(_BEFORE), _day(result)
    return first is not None and day is not None and day > first
