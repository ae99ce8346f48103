"""Extract files into frames: CSV, JSON lines and Parquet, every cell text or nothing, every bad row kept apart."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from data_checks.order_extract import check
from data_checks.order_rows import event_of
from ordernotify.core.extracts import COLUMNS, REQUIRED, Examined, Fault, Held, Known, Reason, Row
from ordernotify.platforms._base import Refusal

if TYPE_CHECKING:
    from pandas import DataFrame

LARGEST: Final = 512 * 1024 * 1024

# A row of a file by column, or None where it is none.
_Read: TypeAlias = "list[dict[str, Any] | None]"

_DAYS: Final = frozenset({"ordered_on", "promised_date"})
# Columns whose words are ours in any case and spelling.
_WORDS: Final[Mapping[str, Callable[[str], str]]] = {
    "status": str.lower,
    "label": lambda word: word.lower().replace("-", "_").replace(" ", "_"),
    "client": lambda ref: ref.lower() if "@" in ref else ref,
}


def examine(path: Path, sha256: str, known: Known, *, at: datetime, docs: Path | None = None) -> Examined | Fault:
    """Read an extract whose bytes have this SHA-256 and check it, or say why it is refused as a whole.

    Imports pandas and Great Expectations, which takes seconds and a few hundred MiB.
    """
    read = _rows_of(path, sha256)
    if isinstance(read, Fault):
        return read
    rows = [None if row is None else _cleaned(row) for row in read]
    held = [
        Held(number, (Reason.ROW_UNREADABLE,), {})
        for number, row in enumerate(rows, 1)
        if row is None or not any(row.values())
    ]
    readable = {number: row for number, row in enumerate(rows, 1) if row is not None and any(row.values())}
    verdict = check(_frame(readable), known, at=at, docs=docs)
    good: list[tuple[int, Row]] = []
    for number, cells in readable.items():
        row = {name: text for name, text in cells.items() if text is not None}
        reasons = verdict.held.get(number, ())
        if not reasons and isinstance(event_of(row), Refusal):
            reasons = (Reason.NOT_AN_EVENT,)
        if reasons:
            held.append(Held(number, reasons, row))
        else:
            good.append((number, row))
    held.sort(key=lambda row: row.number)
    return Examined(len(rows), good, held, verdict.drifted)


def _rows_of(path: Path, sha256: str) -> _Read | Fault:
    try:
        if path.stat().st_size > LARGEST:
            return Fault.TOO_LARGE
        body = path.read_bytes()
    except FileNotFoundError:
        return Fault.NOT_THERE
    if hashlib.sha256(body).hexdigest() != sha256:
        return Fault.REPLACED
    return READERS[path.suffix.lower()](body)


def _csv(body: bytes) -> _Read | Fault:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Fault.NOT_UTF8
    head = text.split("\n", 1)[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        rows = [
            dict(zip(header, fields, strict=True)) if len(fields) == len(header) else None for fields in lines if fields
        ]
    except csv.Error:
        return Fault.NOT_READABLE
    return _fault_of(header) or rows


def _json_lines(body: bytes) -> _Read | Fault:
    rows: _Read = [_json_row(line) for line in body.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    # A key may be left out where there is nothing to say: what no row has is a column that is missing.
    return _fault_of({name for row in rows if row for name in row}) or rows


def _json_row(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return {name.strip().lower(): cell for name, cell in value.items()} if isinstance(value, dict) else None


def _parquet(body: bytes) -> _Read | Fault:
    import pandas as pd  # noqa: PLC0415 - takes a second

    try:
        frame = pd.read_parquet(io.BytesIO(body), dtype_backend="numpy_nullable")
    except ImportError:
        return Fault.PARQUET_NOT_INSTALLED
    except (ValueError, OSError):
        return Fault.NOT_READABLE
    header = [str(name).strip().lower() for name in frame.columns]
    frame.columns = pd.Index(header)
    return _fault_of(header) or [
        {str(name): None if cell is pd.NA or cell is pd.NaT else cell for name, cell in row.items()}
        for row in frame.astype(object).to_dict(orient="records")
    ]


READERS: Final[Mapping[str, Callable[[bytes], _Read | Fault]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}


def _fault_of(header: Iterable[str]) -> Fault | None:
    names = list(header)
    if not set(REQUIRED) <= set(names):
        return Fault.COLUMNS_MISSING
    return Fault.COLUMNS_REPEATED if len(names) != len(set(names)) else None


def _cleaned(row: Mapping[str, Any]) -> dict[str, str | None]:
    return {name: _text(row.get(name), name) for name in COLUMNS}


def _text(cell: object, column: str) -> str | None:
    """Return a cell as the text that a person would write, None for nothing."""
    match cell:
        case None:
            text = ""
        case str():
            text = cell.strip()
        case datetime() if column in _DAYS and cell.time() == time.min:
            text = cell.date().isoformat()
        case datetime() | date():
            text = cell.isoformat()
        case float() if cell.is_integer():
            text = str(int(cell))
        case _:
            # NaN is the only value that is not itself.
            text = "" if cell != cell else str(cell)  # noqa: PLR0124 - see above
    return _WORDS.get(column, str)(text) or None


def _frame(rows: Mapping[int, Mapping[str, str | None]]) -> DataFrame:
    import pandas as pd  # noqa: PLC0415 - takes a second

    columns = {name: [row[name] for row in rows.values()] for name in COLUMNS}
    return pd.DataFrame(columns, index=pd.Index(list(rows), dtype="int64"), dtype=object)
