"""Portal requests: what staff ask for about orders, read row by row, and judged against what is known."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from ordernotify.core.events import Admission, OrderEvent, OrderState, OrderStatus, Trigger, admit

SOURCE: Final = "portal"
MOST_ROWS: Final = 10_000
MOST_NOTE: Final = 500
COLUMNS: Final = ("order_no", "client", "status", "detail", "carrier", "tracking_no", "promised_date", "correction")
NEEDED: Final = ("order_no", "status")
# What staff can say: every status but the one that means that nobody understood a word.
STATUSES: Final = tuple(status for status in OrderStatus if status is not OrderStatus.UNKNOWN)
# The details that the templates have words for.
DETAILS: Final = (
    "available_for_pickup",
    "delivery_attempted",
    "customs",
    "returning",
    "returned",
    "partial",
    "address_issue",
    "weather",
    "with_agent",
    "delivery_failed",
)


class UpdateReason(StrEnum):
    """Why a person speaks for the order systems."""

    SOURCE_SILENT = "source_silent"
    CARRIER_TOLD = "carrier_told"
    WAREHOUSE_TOLD = "warehouse_told"
    CLIENT_TOLD = "client_told"
    ENTERED_WRONG = "entered_wrong"
    SOURCE_WRONG = "source_wrong"
    OTHER = "other"


REASONS: Final[Mapping[UpdateReason, str]] = {
    UpdateReason.SOURCE_SILENT: "The order system did not report it",
    UpdateReason.CARRIER_TOLD: "The carrier told us",
    UpdateReason.WAREHOUSE_TOLD: "The warehouse told us",
    UpdateReason.CLIENT_TOLD: "The client told us",
    UpdateReason.ENTERED_WRONG: "It was entered wrong",
    UpdateReason.SOURCE_WRONG: "A system reported it wrong",
    UpdateReason.OTHER: "Another reason (see note)",
}


class Problem(StrEnum):
    """Why a row is refused. Stored: words may be added, never changed."""

    MISSING = "missing"
    TOO_LONG = "too_long"
    NOT_A_STATUS = "not_a_status"
    NOT_A_DETAIL = "not_a_detail"
    NOT_A_DATE = "not_a_date"
    NOT_PRINTABLE = "not_printable"
    NOT_YES_OR_NO = "not_yes_or_no"
    TOO_MANY_CELLS = "too_many_cells"
    ORDER_UNKNOWN = "order_unknown"
    CLIENT_NEEDED = "client_needed"
    NAMED_TWICE = "named_twice"
    CANNOT_FOLLOW = "cannot_follow"
    NOTHING_NEW = "nothing_new"
    NOTHING_TO_CORRECT = "nothing_to_correct"


_SENTENCES: Final[Mapping[Problem, str]] = {
    Problem.MISSING: "{field} must not be empty.",
    Problem.TOO_LONG: "{field} is too long.",
    Problem.NOT_A_STATUS: "status must be one of: " + ", ".join(STATUSES) + ".",
    Problem.NOT_A_DETAIL: "detail must be empty or one of: " + ", ".join(DETAILS) + ".",
    Problem.NOT_A_DATE: "promised_date must be a day such as 2026-11-24.",
    Problem.NOT_PRINTABLE: "{field} must be plain text on one line.",
    Problem.NOT_YES_OR_NO: "correction must be yes, no or empty.",
    Problem.TOO_MANY_CELLS: "The row has more cells than the table has columns.",
    Problem.ORDER_UNKNOWN: "No order has this order_no (with this client).",
    Problem.CLIENT_NEEDED: "Several clients have an order of this number: add the client.",
    Problem.NAMED_TWICE: "An earlier row is about the same order; one update an order.",
    Problem.CANNOT_FOLLOW: "This order is {now}; to change that, make a correction.",
    Problem.NOTHING_NEW: "This is what is known already; nobody would be told anything.",
    Problem.NOTHING_TO_CORRECT: "Nothing was said about this order that could be corrected.",
}


def explain(problem: Problem, *, field: str = "", now: str = "further on") -> str:
    """Return the sentence that tells a person what is wrong, and what would be right."""
    return _SENTENCES[problem].format(field=field, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one row says about one order."""

    order_no: str
    status: OrderStatus
    client: str = ""
    detail: str = ""
    carrier: str = ""
    tracking_no: str = ""
    promised_date: str = ""
    correction: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a row is not taken, and the field at fault ('' where the row as a whole is)."""

    problem: Problem
    field: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was given: the cells of each row by column, rows with too many cells among them."""

    rows: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a whole table is refused, in words for the person who gave it."""

    message: str


# A row with more cells than columns keeps the rest under this name, as csv does.
REST: Final = ""


def read_table(content: bytes) -> Table | Unreadable:
    """Return the rows of a CSV table (comma, semicolon or tab; UTF-8), or why it is none."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Unreadable(f"The file must be UTF-8 text; byte {error.start} is not. Save it as CSV UTF-8.")
    if "\0" in text:
        return Unreadable("The file must be a CSV table, not a spreadsheet or another binary file.")
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        if (fault := _wrong_columns(columns)) is not None:
            return fault
        cells = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        return Unreadable(f"The file must be a CSV table: line {reader.line_num}: {error}.")
    if not 0 < len(cells) <= MOST_ROWS:
        return Unreadable(f"The file must have 1 to {MOST_ROWS:,} rows below its heading; it has {len(cells):,}.")
    return Table(tuple(_named(columns, row) for row in cells))


def _wrong_columns(columns: Sequence[str]) -> Unreadable | None:
    for name in columns:
        if name not in COLUMNS:
            return Unreadable(f"Column {name[:40]!r} is not known; the columns are: {', '.join(COLUMNS)}.")
        if columns.count(name) > 1:
            return Unreadable(f"Column {name!r} is there twice.")
    for name in NEEDED:
        if name not in columns:
            return Unreadable(f"Column {name!r} is missing; the first line must name the columns.")
    return None


def _named(columns: Sequence[str], row: Sequence[str]) -> Mapping[str, str]:
    named = {column: cell.strip() for column, cell in zip(columns, row, strict=False)}
    if len(row) > len(columns):
        named[REST] = "more"
    return named


_WORDS: Final[Mapping[str, bool]] = {"": False, "no": False, "false": False, "yes": True, "true": True}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _is_day(text: str) -> bool:
    if not _DAY.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _fits(limit: int) -> Callable[[str], bool]:
    return lambda text: len(text) <= limit


# What each cell must be, in the order in which a person is told.
_RULES: Final[Sequence[tuple[str, Callable[[str], bool], Problem]]] = (
    ("order_no", bool, Problem.MISSING),
    ("status", bool, Problem.MISSING),
    *((name, _fits(limit), Problem.TOO_LONG) for name, limit in (("order_no", 64), ("client", 254), ("carrier", 64))),
    ("tracking_no", _fits(64), Problem.TOO_LONG),
    *((name, str.isprintable, Problem.NOT_PRINTABLE) for name in ("order_no", "client", "carrier", "tracking_no")),
    ("status", lambda text: text in STATUSES, Problem.NOT_A_STATUS),
    ("detail", lambda text: text in {"", *DETAILS}, Problem.NOT_A_DETAIL),
    ("promised_date", lambda text: not text or _is_day(text), Problem.NOT_A_DATE),
    ("correction", lambda text: text in _WORDS, Problem.NOT_YES_OR_NO),
)
_OUR_WORDS: Final = frozenset({"status", "detail", "correction"})


def read_update(values: Mapping[str, str]) -> Update | Refused:
    """Return what a row says, or the first field that is wrong."""
    if REST in values:
        return Refused(Problem.TOO_MANY_CELLS)
    given = {name: values.get(name, "").strip() for name in COLUMNS}
    # People write our own words in any case, and with spaces.
    given |= {name: given[name].lower().replace(" ", "_") for name in _OUR_WORDS}
    for name, is_right, problem in _RULES:
        if not is_right(given[name]):
            return Refused(problem, name)
    return Update(
        order_no=given["order_no"],
        status=OrderStatus(given["status"]),
        client=given["client"],
        detail=given["detail"],
        carrier=given["carrier"],
        tracking_no=given["tracking_no"],
        promised_date=given["promised_date"],
        correction=_WORDS[given["correction"]],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The order that a row is about, what is known of it, and the event that a correction would correct."""

    order_id: UUID
    client_id: str
    order_no: str
    state: OrderState
    last_event: UUID | None = None


def event_of(update: Update, placed: Placed, *, dedupe_key: str, at: datetime) -> OrderEvent:
    """Return a row as an order event; it is never older than what is known, because its speaker knows that."""
    return OrderEvent(
        source=SOURCE,
        dedupe_key=dedupe_key,
        order_ref=str(placed.order_id),
        order_no=placed.order_no,
        status=update.status,
        raw_status=update.status.value,
        occurred_at=max(at, placed.state.status_at),
        trigger=Trigger.PORTAL,
        client_ref=placed.client_id,
        detail=update.detail,
        carrier=update.carrier,
        tracking_no=update.tracking_no,
        promised_date=update.promised_date,
        correction=update.correction,
        corrects=str(placed.last_event) if update.correction and placed.last_event else "",
    )


_PROBLEM_AFTER: Final[Mapping[Admission, Problem]] = {
    Admission.SAME: Problem.NOTHING_NEW,
    Admission.STALE: Problem.CANNOT_FOLLOW,
    Admission.REFUSED: Problem.CANNOT_FOLLOW,
    Admission.UNKNOWN: Problem.NOT_A_STATUS,
}


def judge(event: OrderEvent, placed: Placed) -> Problem | None:
    """Return why clients may not be told this, None when they may. A person's word does not go backwards unsaid."""
    if event.correction and not event.corrects:
        return Problem.NOTHING_TO_CORRECT
    return _PROBLEM_AFTER.get(admit(placed.state, event))


def named_twice(order_ids: Iterable[UUID | None]) -> list[bool]:
    """Return for each row whether an earlier one is about the same order."""
    seen: set[UUID] = set()
    twice = []
    for order_id in order_ids:
        twice.append(order_id in seen)
        if order_id is not None:
            seen.add(order_id)
    return twice
