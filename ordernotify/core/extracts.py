"""Order extracts: the columns of the daily file, why a row of it is held, and what makes two rows the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final, TypeAlias

from ordernotify.core.canonical import canonical_bytes

# Every event made of an extract comes from this source; clients may have aliases in it.
SOURCE: Final = "extract"

REQUIRED: Final = ("order_no", "client", "status", "changed_at")
# What a client can be told. `ordered_on` and `contact` are there to be checked, and are told to nobody.
_TOLD: Final = (
    *REQUIRED,
    "promised_date",
    "sku",
    "quantity",
    "carrier",
    "tracking_no",
    "detail",
    "contract",
    "label",
)
COLUMNS: Final = (*_TOLD, "ordered_on", "contact")

Row: TypeAlias = Mapping[str, str]

_DAY = re.compile(r"(?P<series>.*?)[-_.]?(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})(?![0-9])")


class Reason(StrEnum):
    """Why a row is held. Stored and recorded for years: words may be added, never changed or reused."""

    ROW_UNREADABLE = "row_unreadable"
    ORDER_NO_MISSING = "order_no_missing"
    CLIENT_MISSING = "client_missing"
    STATUS_MISSING = "status_missing"
    CHANGED_AT_MISSING = "changed_at_missing"
    ORDER_REPEATED = "order_repeated"
    TOO_LONG = "too_long"
    STATUS_UNKNOWN = "status_unknown"
    LABEL_UNKNOWN = "label_unknown"
    CLIENT_UNKNOWN = "client_unknown"
    CONTACT_UNKNOWN = "contact_unknown"
    SKU_UNKNOWN = "sku_unknown"
    SKU_MISSING = "sku_missing"
    QUANTITY_MISSING = "quantity_missing"
    QUANTITY_NOT_WHOLE = "quantity_not_whole"
    QUANTITY_NOT_POSITIVE = "quantity_not_positive"
    CHANGED_AT_NOT_A_MOMENT = "changed_at_not_a_moment"
    CHANGED_IN_THE_FUTURE = "changed_in_the_future"
    CHANGED_BEFORE_ORDERED = "changed_before_ordered"
    ORDERED_ON_NOT_A_DATE = "ordered_on_not_a_date"
    PROMISED_DATE_NOT_A_DATE = "promised_date_not_a_date"
    PROMISED_BEFORE_ORDERED = "promised_before_ordered"
    NOT_AN_EVENT = "not_an_event"  # what the door of single events refuses


class Fault(StrEnum):
    """Why a whole extract is refused."""

    NOT_THERE = "not_there"
    REPLACED = "replaced"  # by one that is taken in under its own id
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_READABLE = "not_readable"
    COLUMNS_MISSING = "columns_missing"
    COLUMNS_REPEATED = "columns_repeated"
    PARQUET_NOT_INSTALLED = "parquet_not_installed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the house knows, against which rows are checked.

    ``contacts``: per client, the ids of its recipients. ``yesterday``: rows of the series' last extract of an
    earlier day, None where there was none.
    """

    contacts: Mapping[str, AbstractSet[str]]
    skus: AbstractSet[str]
    yesterday: int | None


@dataclass(frozen=True, slots=True)
class Held:
    """A row that is held: its number in the extract (from 1), why, and what could be read of it."""

    number: int
    reasons: tuple[Reason, ...]
    content: Row


@dataclass(frozen=True, slots=True)
class Examined:
    """An extract after its check: rows in all, those that may go on, those held, and whether their number drifted."""

    rows: int
    good: list[tuple[int, Row]]
    held: list[Held]
    drifted: bool


def content_key(row: Row) -> str:
    """Return the key of what a row tells: the same again, in whatever file, has the same key."""
    told = {name: row[name] for name in _TOLD if row.get(name)}
    return f"row:{hashlib.sha256(canonical_bytes(told)).hexdigest()}"


def series_and_day(name: str, *, otherwise: date) -> tuple[str, date]:
    """Return the series that a file belongs to and its day, as ``orders-2026-11-24.csv`` says them.

    A name without a day belongs to the day ``otherwise``, and to a series of its own.
    """
    stem = name.rsplit(".", 1)[0]
    found = _DAY.search(stem)
    if found is not None:
        try:
            return found["series"], date.fromisoformat(found["day"])
        except ValueError:
            pass
    return stem, otherwise
