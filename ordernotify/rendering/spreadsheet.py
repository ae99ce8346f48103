"""Spreadsheet: many orders as a CSV file that people open, one row an order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Final

from ordernotify.rendering.values import clean
from ordernotify.rendering.words import Words

COLUMNS: Final = ("order_no", "status", "since", "promised_date", "carrier", "tracking_no")
_HEADINGS: Final[Mapping[str, str]] = {"status": "status_word"}
_NAMES: Final = frozenset({"order_no", "tracking_no"})
# At these a spreadsheet takes a cell for a formula.
_FORMULA: Final = ("=", "+", "-", "@")


def spreadsheet(rows: Iterable[Mapping[str, str]], words: Words) -> bytes:
    """Return ``rows`` as CSV in UTF-8, with headings and statuses in words; days stay as ISO 8601 has them.

    No cell starts a formula, and no cell holds what is not seen.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow([words.labels[_HEADINGS.get(name, name)] for name in COLUMNS])
    for row in rows:
        status = row.get("status", "")
        shown = {**row, "status": words.status.get(status, "")}
        writer.writerow([_cell(shown.get(name, "")) for name in COLUMNS])
    # By this mark spreadsheets know that it is UTF-8.
    return b"\xef\xbb\xbf" + file.getvalue().encode()


def cells(content: bytes) -> tuple[set[str], set[str]]:
    """Return what stands in a file that ``spreadsheet`` made: the numbers that name orders, and all other words."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    numbers = {
        cell.removeprefix("'") for row in rows[1:] for name, cell in zip(COLUMNS, row, strict=True) if name in _NAMES
    }
    words = {cell for row in rows for name, cell in zip(COLUMNS, row, strict=True) if name not in _NAMES}
    return numbers, words


def _cell(value: str) -> str:
    text = clean(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
