"""Order extracts: what is held and why, in every format, by the real suite in the process that it has for itself."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from data_checks.apart import CheckEndedError, examine_apart
from data_checks.extract_files import examine
from data_checks.order_rows import event_of
from ordernotify.core.events import OrderStatus, Trigger
from ordernotify.core.extracts import COLUMNS, Examined, Fault, Known, Reason

AT = datetime(2026, 11, 24, 6, tzinfo=UTC)
KNOWN = Known(
    contacts={"acme": frozenset({"ann", "bob"}), "zenith": frozenset({"zoe"})},
    skus=frozenset({"RAD-7", "BOLT-1"}),
    yesterday=None,
)
# A row and what spoils it: twelve kinds, each with its one reason.
BAD = {
    Reason.ORDER_NO_MISSING: {"order_no": ""},
    Reason.CLIENT_UNKNOWN: {"client": "nobody"},
    Reason.STATUS_MISSING: {"status": "  "},
    Reason.STATUS_UNKNOWN: {"status": "teleported"},
    Reason.CONTACT_UNKNOWN: {"contact": "stranger"},
    Reason.SKU_UNKNOWN: {"sku": "RAD-8"},
    Reason.QUANTITY_NOT_WHOLE: {"quantity": "1.5"},
    Reason.QUANTITY_NOT_POSITIVE: {"quantity": "0"},
    Reason.CHANGED_AT_NOT_A_MOMENT: {"changed_at": "2026-11-20T10:00:00"},
    Reason.CHANGED_IN_THE_FUTURE: {"changed_at": (AT + timedelta(hours=1)).isoformat()},
    Reason.PROMISED_BEFORE_ORDERED: {"promised_date": "2026-10-31"},
    Reason.CHANGED_BEFORE_ORDERED: {"changed_at": "2026-10-20T10:00:00Z", "promised_date": ""},
}


def row(number=1, **more):
    return {
        "order_no": f"SO-{number}", "client": "acme", "status": "processing", "changed_at": "2026-11-20T10:00:00Z",
        "ordered_on": "2026-11-01", "promised_date": "2026-12-01", "sku": "RAD-7", "quantity": "12",
        "carrier": "", "tracking_no": "", "detail": "", "contract": "", "label": "internal", "contact": "ann", **more,
    }  # fmt: skip


def written(folder, rows, name="orders-2026-11-24.csv"):
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def examined(path, known=KNOWN):
    found = examine(path, hashlib.sha256(path.read_bytes()).hexdigest(), known, at=AT)
    assert isinstance(found, Examined), found
    return found


def spoiled(count, *, each):
    """Rows of an extract of which ``each`` per kind are bad; returns the rows and the reasons by number."""
    rows = [row(number) for number in range(1, count + 1)]
    numbers = random.Random(7).sample(  # noqa: S311 - the same rows each time
        range(1, count + 1), each * len(BAD)
    )
    expected = {}
    for kind, (reason, spoil) in enumerate(BAD.items()):
        for number in numbers[kind * each : (kind + 1) * each]:
            rows[number - 1] |= spoil
            expected[number] = (reason,)
    return rows, expected


async def test_of_ten_thousand_rows_exactly_the_bad_ones_are_held_each_for_its_reason(tmp_path):
    rows, expected = spoiled(10_000, each=25)
    path = written(tmp_path, rows)
    found = await examine_apart(path, hashlib.sha256(path.read_bytes()).hexdigest(), KNOWN, at=AT)
    assert found.rows == 10_000
    assert {held.number: held.reasons for held in found.held} == expected
    assert len(expected) == 300
    assert [number for number, _ in found.good] == [n for n in range(1, 10_001) if n not in expected]


def test_the_suite_passes_a_perfect_extract_and_an_empty_one(tmp_path):
    assert (examined(written(tmp_path, [row(1), row(2, client="zenith", contact="zoe")]))).held == []
    nothing = examined(written(tmp_path, []))
    assert (nothing.rows, nothing.good, nothing.held, nothing.drifted) == (0, [], [], False)


@pytest.mark.parametrize(
    ("spoil", "reasons"),
    [
        ({"order_no": "X" * 65}, (Reason.TOO_LONG,)),
        ({"changed_at": ""}, (Reason.CHANGED_AT_MISSING,)),
        ({"client": ""}, (Reason.CLIENT_MISSING,)),
        ({"label": "private"}, (Reason.LABEL_UNKNOWN,)),
        ({"sku": ""}, (Reason.SKU_MISSING,)),
        ({"quantity": ""}, (Reason.QUANTITY_MISSING,)),
        ({"quantity": "-3"}, (Reason.QUANTITY_NOT_POSITIVE,)),
        ({"quantity": "9" * 15}, (Reason.TOO_LONG,)),
        ({"ordered_on": "01.11.2026"}, (Reason.ORDERED_ON_NOT_A_DATE,)),
        ({"promised_date": "2026-02-30"}, (Reason.PROMISED_DATE_NOT_A_DATE,)),
        ({"order_no": "\u200b"}, (Reason.NOT_AN_EVENT,)),
        ({"contact": "zoe"}, (Reason.CONTACT_UNKNOWN,)),
        ({"status": "lost", "quantity": "0"}, (Reason.STATUS_UNKNOWN, Reason.QUANTITY_NOT_POSITIVE)),
    ],
)
def test_a_row_is_held_with_all_its_reasons(tmp_path, spoil, reasons):
    found = examined(written(tmp_path, [row(1), row(2, **spoil)]))
    assert [(held.number, held.reasons) for held in found.held] == [(2, reasons)]
    assert [number for number, _ in found.good] == [1]


def test_of_an_order_told_twice_nobody_knows_which_is_right_and_both_are_held(tmp_path):
    rows = [row(1), row(2), row(1, status="shipped"), row(1, client="zenith", contact="zoe")]
    found = examined(written(tmp_path, rows))
    assert [(held.number, held.reasons) for held in found.held] == [
        (1, (Reason.ORDER_REPEATED,)),
        (3, (Reason.ORDER_REPEATED,)),
    ]


def test_a_line_that_is_cut_or_has_a_field_too_many_is_held_alone(tmp_path):
    path = written(tmp_path, [row(1)])
    path.write_text(path.read_text() + "SO-2,acme\n" + path.read_text().splitlines()[1].replace("SO-1", "SO-3") + ",x")
    found = examined(path)
    assert [(held.number, held.reasons) for held in found.held] == [
        (2, (Reason.ROW_UNREADABLE,)),
        (3, (Reason.ROW_UNREADABLE,)),
    ]


@pytest.mark.parametrize(("yesterday", "drifted"), [(None, False), (20, False), (21, True), (5, False), (4, True)])
def test_half_or_twice_the_rows_of_yesterday_pass_and_more_is_drift(tmp_path, yesterday, drifted):
    known = Known(contacts=KNOWN.contacts, skus=KNOWN.skus, yesterday=yesterday)
    found = examined(written(tmp_path, [row(n) for n in range(10)]), known)
    assert (found.drifted, len(found.good)) == (drifted, 10)


def test_json_lines_say_the_same_as_csv(tmp_path):
    path = tmp_path / "orders-2026-11-24.jsonl"
    said = {**row(1), "quantity": 12, "note": "a column of theirs"}
    bare = {"order_no": "SO-2", "client": "acme", "status": "Processing", "changed_at": "2026-11-20T10:00:00+01:00"}
    lines = [json.dumps(said), "{", "[]", json.dumps(bare), json.dumps({**row(5), "quantity": 1.5})]
    path.write_text("\n".join(lines))
    found = examined(path)
    from_csv = (examined(written(tmp_path, [row(1)]))).good[0][1]
    assert found.good == [(1, from_csv), (4, {**bare, "status": "processing"})]
    assert [(held.number, held.reasons) for held in found.held] == [
        (2, (Reason.ROW_UNREADABLE,)),
        (3, (Reason.ROW_UNREADABLE,)),
        (5, (Reason.QUANTITY_NOT_WHOLE,)),
    ]


def test_parquet_says_the_same_as_csv(tmp_path):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "orders-2026-11-24.parquet"
    typed = {
        "changed_at": pandas.Timestamp("2026-11-20T10:00:00Z"), "ordered_on": pandas.Timestamp("2026-11-01"),
        "promised_date": date(2026, 12, 1), "quantity": 12,
    }  # fmt: skip
    pandas.DataFrame([{**row(1), **typed}, {**row(2), **typed, "quantity": None, "sku": None}]).to_parquet(path)
    found = examined(path)
    assert [event_of(said).lines for _, said in found.good] == [event_of(row(1)).lines, ()]
    assert event_of(found.good[0][1]) == event_of({**row(1), "changed_at": "2026-11-20T10:00:00+00:00"})


@pytest.mark.parametrize(
    ("name", "body", "fault"),
    [
        ("a.csv", b"order_no,client,status\nSO-1,acme,shipped\n", Fault.COLUMNS_MISSING),
        ("a.csv", b"", Fault.COLUMNS_MISSING),
        ("a.csv", b"order_no,client,status,changed_at,Status\n", Fault.COLUMNS_REPEATED),
        ("a.csv", "order_no,client,status,changed_at\nSO-1,münchen,".encode("latin-1"), Fault.NOT_UTF8),
        ("a.jsonl", b"\n", Fault.COLUMNS_MISSING),
    ],
)
def test_a_file_that_is_no_extract_is_refused_as_a_whole(tmp_path, name, body, fault):
    path = tmp_path / name
    path.write_bytes(body)
    assert examine(path, hashlib.sha256(body).hexdigest(), KNOWN, at=AT) is fault


async def test_a_file_that_is_gone_or_another_is_not_checked_in_its_place(tmp_path):
    assert await examine_apart(tmp_path / "a.csv", "0" * 64, KNOWN, at=AT) is Fault.NOT_THERE
    assert examine(written(tmp_path, [row()]), "0" * 64, KNOWN, at=AT) is Fault.REPLACED


async def test_a_check_that_breaks_is_no_pass_and_shows_no_value(tmp_path):
    path = tmp_path / "secret.xls"
    path.write_bytes(b"private")
    with pytest.raises(CheckEndedError) as broken:
        await examine_apart(path, hashlib.sha256(b"private").hexdigest(), KNOWN, at=AT)
    assert "KeyError" in str(broken.value)
    assert "private" not in str(broken.value)


def test_a_row_becomes_an_event_of_the_batch_with_an_order_key_of_its_client():
    event = event_of(row(1, status="shipped", carrier="UPS", tracking_no="1Z9"))
    assert (event.trigger, event.status, event.source) == (Trigger.BATCH, OrderStatus.SHIPPED, "extract")
    assert (event.client_ref, event.order_no, event.tracking_no) == ("acme", "SO-1", "1Z9")
    assert event.order_ref != event_of(row(1, client="zenith")).order_ref
    assert (
        event.dedupe_key
        == event_of(row(1, status="shipped", carrier="UPS", tracking_no="1Z9", contact="bob")).dedupe_key
    )
    assert event.dedupe_key != event_of(row(1, status="shipped", carrier="UPS", tracking_no="1Z8")).dedupe_key


def test_nobody_who_asks_for_a_check_imports_what_takes_seconds():
    asked = "import sys, flows.daily_batch; sys.exit('great_expectations' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], cwd=Path(__file__).parents[2]).returncode == 0
