"""What an order extract promises, as a suite of Great Expectations, and the rows that break it.

The import takes seconds, so it happens inside the check; ``data_checks.apart`` runs that in a process of its own.
"""

from __future__ import annotations

import importlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from data_checks.data_docs import write_page
from ordernotify.core.events import OrderStatus
from ordernotify.core.extracts import REQUIRED, Known, Reason
from ordernotify.core.labels import Label
from ordernotify.platforms._events import AHEAD, MAX_QUANTITY
from ordernotify.platforms._reading import read_moment

if TYPE_CHECKING:
    from pandas import DataFrame, Series

# An extract with less than half or more than twice the rows of the last one is a matter for a person.
_DRIFT: Final = 2
_LONGEST: Final = {
    "order_no": 64,
    "client": 254,
    "sku": 64,
    "carrier": 64,
    "tracking_no": 64,
    "contract": 64,
    "detail": 500,
}
_MISSING: Final[Mapping[str, Reason]] = {name: Reason(f"{name}_missing") for name in REQUIRED}
_LONGEST_WHOLE: Final = 18
_IGNORED_EMPTY: Final = "either_value_is_missing"
_DRIFTED: Final = "drifted"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: reasons by number of row, and whether the number of rows drifted."""

    held: Mapping[int, tuple[Reason, ...]]
    drifted: bool


class CheckBrokenError(Exception):
    """A check could not be carried out; the message names the expectation, never a value."""


def check(frame: DataFrame, known: Known, *, at: datetime, docs: Path | None = None) -> Verdict:
    """Hold ``frame`` (text or None in each cell, rows numbered by its index) against the suite.

    The library's page of the check, which has no value of the data, is written to ``docs``.

    Raises CheckBrokenError when an expectation itself fails: a check that did not happen has not been passed.
    """
    # Read by the library when it is imported: nothing is reported to anybody.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx  # noqa: PLC0415 - takes seconds, see above
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415 - see above

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    whole = context.data_sources.add_pandas("extracts").add_dataframe_asset("orders")
    batch = whole.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": _derived(frame, known)})
    suite = gx.ExpectationSuite(name="order_extract", expectations=_expectations(known, at=at))
    found = batch.validate(suite, result_format={"result_format": "COMPLETE", "include_unexpected_rows": False})
    verdict = _verdict(found.results)
    if docs is not None:
        write_page(found, docs)
    return verdict


def _verdict(results: Sequence[Any]) -> Verdict:
    reasons: dict[int, list[Reason]] = defaultdict(list)
    drifted = False
    for result in results:
        reason = result.expectation_config.meta["reason"]
        if result.exception_info.get("raised_exception") is not False:
            raise CheckBrokenError(f"{reason} ({result.expectation_config.type}) could not be checked")
        if result.success:
            continue
        if reason == _DRIFTED:
            drifted = True
            continue
        for number in result.result["unexpected_index_list"]:
            reasons[int(number)].append(Reason(reason))
    order = list(Reason)
    return Verdict({number: tuple(sorted(set(why), key=order.index)) for number, why in reasons.items()}, drifted)


def _expectations(known: Known, *, at: datetime) -> list[Any]:
    """Return the suite: what is expected of each column, with the reason of a row that disappoints."""
    # It exports its expectations without saying so to type checkers.
    gxe: Any = importlib.import_module("great_expectations.expectations")

    def expect(kind: Callable[..., Any], reason: str, **what: Any) -> Any:
        return kind(**what, meta={"reason": str(reason)})

    def unread(column: str, reason: Reason) -> Any:
        return expect(gxe.ExpectColumnValuesToBeNull, reason, column=f"{column}_unread")

    def known_word(column: str, reason: Reason, words: Sequence[str]) -> Any:
        return expect(gxe.ExpectColumnValuesToBeInSet, reason, column=column, value_set=list(words))

    def in_order(later: str, earlier: str, reason: Reason) -> Any:
        return expect(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB,
            reason,
            column_A=later,
            column_B=earlier,
            or_equal=True,
            ignore_row_if=_IGNORED_EMPTY,
        )

    last = known.yesterday
    return [
        *(expect(gxe.ExpectColumnValuesToNotBeNull, why, column=name) for name, why in _MISSING.items()),
        *(
            expect(gxe.ExpectColumnValueLengthsToBeBetween, Reason.TOO_LONG, column=name, max_value=most)
            for name, most in _LONGEST.items()
        ),
        expect(
            gxe.ExpectCompoundColumnsToBeUnique,
            Reason.ORDER_REPEATED,
            column_list=["client", "order_no"],
            ignore_row_if="any_value_is_missing",
        ),
        known_word("status", Reason.STATUS_UNKNOWN, [word for word in OrderStatus if word is not OrderStatus.UNKNOWN]),
        known_word("label", Reason.LABEL_UNKNOWN, [label.word for label in Label if label is not Label.UNKNOWN]),
        known_word("client", Reason.CLIENT_UNKNOWN, sorted(known.contacts)),
        known_word("contact_known", Reason.CONTACT_UNKNOWN, ["yes"]),
        known_word("sku", Reason.SKU_UNKNOWN, sorted(known.skus)),
        known_word("sku_of_quantity", Reason.SKU_MISSING, ["given"]),
        known_word("quantity_of_sku", Reason.QUANTITY_MISSING, ["given"]),
        unread("quantity", Reason.QUANTITY_NOT_WHOLE),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            Reason.QUANTITY_NOT_POSITIVE,
            column="quantity_read",
            min_value=1,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            Reason.TOO_LONG,
            column="quantity_read",
            max_value=MAX_QUANTITY,
        ),
        unread("changed_at", Reason.CHANGED_AT_NOT_A_MOMENT),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            Reason.CHANGED_IN_THE_FUTURE,
            column="changed_at_read",
            max_value=(at + AHEAD).timestamp(),
        ),
        unread("ordered_on", Reason.ORDERED_ON_NOT_A_DATE),
        unread("promised_date", Reason.PROMISED_DATE_NOT_A_DATE),
        in_order("last_day_of_change", "ordered_on_read", Reason.CHANGED_BEFORE_ORDERED),
        in_order("promised_date_read", "ordered_on_read", Reason.PROMISED_BEFORE_ORDERED),
        *(
            []
            if last is None
            else [
                expect(
                    gxe.ExpectTableRowCountToBeBetween,
                    _DRIFTED,
                    min_value=-(-last // _DRIFT),
                    max_value=last * _DRIFT,
                )
            ]
        ),
    ]


def _derived(frame: DataFrame, known: Known) -> DataFrame:
    """Return the frame with what its text means beside it: numbers to compare, and the text that means nothing."""
    full = frame.copy()
    for column, read in (
        ("changed_at", _seconds),
        ("ordered_on", _day),
        ("promised_date", _day),
        ("quantity", _whole),
    ):
        meaning = [None if text is None else read(text) for text in frame[column]]
        full[f"{column}_read"] = _numbers(meaning, like=frame)
        full[f"{column}_unread"] = _texts(
            [text if value is None else None for text, value in zip(frame[column], meaning, strict=True)], like=frame
        )
    # The day of an order is its place's, the moment of a change is not: they may differ by a day.
    full["last_day_of_change"] = _numbers(
        [None if text is None else _utc_day_after(text) for text in frame["changed_at"]], like=frame
    )
    full["contact_known"] = _texts(
        [
            None
            if contact is None or client not in known.contacts
            else ("yes" if contact in known.contacts[client] else "no")
            for client, contact in zip(frame["client"], frame["contact"], strict=True)
        ],
        like=frame,
    )
    for present, other in (("quantity", "sku"), ("sku", "quantity")):
        full[f"{other}_of_{present}"] = _texts(
            [
                None if one is None else ("missing" if two is None else "given")
                for one, two in zip(frame[present], frame[other], strict=True)
            ],
            like=frame,
        )
    return full


def _seconds(text: str) -> float | None:
    moment = read_moment(text)
    return None if moment is None else moment.timestamp()


def _utc_day_after(text: str) -> int | None:
    moment = read_moment(text)
    return None if moment is None else moment.date().toordinal() + 1


def _day(text: str) -> int | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day.toordinal() if day.isoformat() == text else None


def _whole(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= _LONGEST_WHOLE else None


def _numbers(values: Sequence[float | None], *, like: DataFrame) -> Series[Any]:
    from pandas import Series  # noqa: PLC0415 - takes a second, see above

    return Series(values, index=like.index, dtype="float64")


def _texts(values: Sequence[str | None], *, like: DataFrame) -> Series[Any]:
    from pandas import Series  # noqa: PLC0415 - takes a second, see above

    return Series(values, index=like.index, dtype="object")
