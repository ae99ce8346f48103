"""Tables: what a template may list, row by row: the facts of one order, or many orders and their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from jinja2 import StrictUndefined

from ordernotify.core.events import OrderStatus
from ordernotify.rendering.values import SHOW
from ordernotify.rendering.words import Words

Columns: TypeAlias = tuple[str, ...]

FACTS: Final[Mapping[str, Columns]] = {"facts": ("label", "value")}
_ORDER: Final[Columns] = ("order_no", "status_word", "since", "promised_date", "carrier", "tracking_no")
# A table's columns stand in a template as they stand here: `for tone, share, count, word in bar`.
TABLES: Final[Mapping[str, Columns]] = {
    **FACTS,
    "bar": ("tone", "share", "count", "word"),
    "attention": _ORDER,
    "changed": _ORDER,
    "others": _ORDER,
}
# Columns that every row fills; the others are shown inside `is defined`.
SURE: Final = frozenset({*FACTS["facts"], *TABLES["bar"], "order_no", "status_word"})

# White can be read on each of them.
TONES: Final[Mapping[OrderStatus, str]] = {
    OrderStatus.RECEIVED: "#64748b",
    OrderStatus.PROCESSING: "#334155",
    OrderStatus.SHIPPED: "#1f4e79",
    OrderStatus.OUT_FOR_DELIVERY: "#0f766e",
    OrderStatus.DELIVERED: "#166534",
    OrderStatus.DELAYED: "#b45309",
    OrderStatus.BACKORDERED: "#92400e",
    OrderStatus.REGULATORY_HOLD: "#6d28d9",
    OrderStatus.CANCELLED: "#7f1d1d",
    OrderStatus.RETURNED: "#7f1d1d",
}
_NARROWEST: Final = 6  # per cent: what a number of three digits needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Many orders for one message: how many of each status, and those that it names, by table.

    A row holds only what may be shown of its order, as ``fields`` of a message do.
    """

    counts: Mapping[OrderStatus, int] = field(default_factory=dict)
    rows: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)


def listed(listing: Listing, words: Words) -> dict[str, list[tuple[object, ...]]]:
    """Return the tables of a listing as templates read them, none of them empty.

    A row without number or status, in a form that can be shown, is left out.
    """
    tables = {name: list(_rows(rows, TABLES[name], words)) for name, rows in listing.rows.items()}
    tables["bar"] = list(_bar(listing.counts, words))
    return {name: rows for name, rows in tables.items() if rows}


def _rows(rows: Sequence[Mapping[str, str]], columns: Columns, words: Words) -> Iterator[tuple[object, ...]]:
    for row in rows:
        shown = {name: SHOW[name](value, words) for name, value in row.items() if value}
        if shown.get("status"):
            shown["status_word"] = words.status[shown["status"]]
        if all(shown.get(name) for name in SURE.intersection(columns)):
            yield tuple(shown.get(name) or StrictUndefined(name=name) for name in columns)


def _bar(counts: Mapping[OrderStatus, int], words: Words) -> Iterator[tuple[object, ...]]:
    present = [(status, counts[status]) for status in TONES if counts.get(status)]
    widths = [max(_NARROWEST, 100 * count // sum(counts.values())) for _, count in present]
    for (status, count), width in zip(present, widths, strict=True):
        yield TONES[status], str(width * 100 // sum(widths)), str(count), words.status[status]
