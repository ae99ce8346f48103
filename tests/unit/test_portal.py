"""Rows of the portal: what is read of them, what is refused by name, and what a person's word may not do unsaid."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.channels import Channel, Level
from ordernotify.core.events import FOLLOWS, Admission, OrderEvent, OrderState, OrderStatus, admit
from ordernotify.core.labels import Label
from ordernotify.core.planning import Planned, Registered, SuppressionReason, Told, plan
from ordernotify.core.policy import OrderFacts, TemplateFacts
from ordernotify.core.portal import (
    COLUMNS,
    DETAILS,
    MOST_ROWS,
    REASONS,
    STATUSES,
    Placed,
    Problem,
    Refused,
    Table,
    Unreadable,
    Update,
    UpdateReason,
    event_of,
    explain,
    judge,
    named_twice,
    read_table,
    read_update,
)
from ordernotify.core.recipients import Consent, ContactPoint, Recipient
from ordernotify.rendering import Library

AT = datetime(2026, 11, 24, 10, tzinfo=UTC)
EVENT = UUID(int=7)


def placed(status=OrderStatus.SHIPPED, *, hours=-1, last_event=EVENT, **facts):
    state = OrderState(status=status, status_at=AT + timedelta(hours=hours), **facts)
    return Placed(order_id=UUID(int=1), client_id="acme", order_no="SO-1", state=state, last_event=last_event)


def update(status=OrderStatus.DELIVERED, **more):
    return Update(order_no="SO-1", status=status, **more)


def test_a_row_is_read_with_its_words_in_any_case_and_with_spaces():
    row = {"order_no": " SO-1 ", "status": "Out for delivery", "detail": "CUSTOMS", "correction": "Yes"}
    assert read_update(row) == update(OrderStatus.OUT_FOR_DELIVERY, detail="customs", correction=True)


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ({"order_no": ""}, Refused(Problem.MISSING, "order_no")),
        ({"status": ""}, Refused(Problem.MISSING, "status")),
        ({"status": "unknown"}, Refused(Problem.NOT_A_STATUS, "status")),
        ({"order_no": "x" * 65}, Refused(Problem.TOO_LONG, "order_no")),
        ({"tracking_no": "1\u202e2"}, Refused(Problem.NOT_PRINTABLE, "tracking_no")),
        ({"carrier": "U\0PS"}, Refused(Problem.NOT_PRINTABLE, "carrier")),
        ({"detail": "lost {{ it }}"}, Refused(Problem.NOT_A_DETAIL, "detail")),
        ({"promised_date": "2026-02-30"}, Refused(Problem.NOT_A_DATE, "promised_date")),
        ({"promised_date": "24.11.2026"}, Refused(Problem.NOT_A_DATE, "promised_date")),
        ({"correction": "maybe"}, Refused(Problem.NOT_YES_OR_NO, "correction")),
    ],
)
def test_a_wrong_cell_is_refused_by_its_name(row, refused):
    assert read_update({"order_no": "SO-1", "status": "shipped", **row}) == refused


@given(st.dictionaries(st.sampled_from(COLUMNS), st.text(max_size=80)))
def test_whatever_is_in_a_row_it_is_an_update_or_a_refusal_with_a_sentence(row):
    read = read_update(row)
    if isinstance(read, Refused):
        assert read.field in COLUMNS
        assert explain(read.problem, field=read.field).endswith(".")
    else:
        assert read.status in STATUSES


@given(st.binary(max_size=300))
def test_whatever_is_in_a_file_it_is_a_table_or_refused_in_words(content):
    assert isinstance(read_table(content), (Table, Unreadable))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=9)


@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=9),
    st.sampled_from(",;\t"),
)  # fmt: skip
def test_a_table_keeps_every_cell_whatever_separates_them(rows, delimiter):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["order_no", "status", "carrier"], *rows])
    kept = [row for row in rows if any(cell.strip() for cell in row)]
    table = read_table(out.getvalue().encode("utf-8-sig"))
    if not kept:
        assert isinstance(table, Unreadable)
        return
    assert [list(row.values()) for row in table.rows] == [[cell.strip() for cell in row] for row in kept]


def test_a_row_with_more_cells_than_columns_is_refused_alone():
    table = read_table(b"order_no,status\nSO-1,shipped\nSO-2,shipped,UPS\n")
    assert [type(read_update(row)) for row in table.rows] == [Update, Refused]


def test_a_table_with_too_many_rows_is_refused():
    assert isinstance(read_table(b"order_no,status\n" + b"1,shipped\n" * (MOST_ROWS + 1)), Unreadable)


@pytest.mark.parametrize("known", STATUSES)
@pytest.mark.parametrize("told", STATUSES)
def test_a_persons_word_follows_the_same_table_as_every_source(known, told):
    order = placed(known)
    problem = judge(event_of(update(told), order, dedupe_key="k", at=AT), order)
    if told is known:
        assert problem is Problem.NOTHING_NEW
    else:
        assert problem is (None if told in FOLLOWS[known] else Problem.CANNOT_FOLLOW)
    correction = judge(event_of(update(told, correction=True), order, dedupe_key="k", at=AT), order)
    assert correction is (Problem.NOTHING_NEW if told is known else None)


def test_the_refusal_says_what_the_order_is_and_what_to_do():
    sentence = explain(Problem.CANNOT_FOLLOW, now="delivered")
    assert sentence == "This order is delivered; to change that, make a correction."


def test_a_correction_of_nothing_is_refused_and_one_of_something_names_it():
    nothing = placed(last_event=None)
    event = event_of(update(correction=True), nothing, dedupe_key="k", at=AT)
    assert judge(event, nothing) is Problem.NOTHING_TO_CORRECT
    assert event_of(update(correction=True), placed(), dedupe_key="k", at=AT).corrects == str(EVENT)
    assert event_of(update(), placed(), dedupe_key="k", at=AT).corrects == ""


def test_who_speaks_last_is_not_older_than_what_is_known():
    ahead = placed(hours=1)
    event = event_of(update(), ahead, dedupe_key="k", at=AT)
    assert admit(ahead.state, event) is Admission.NEWS


def test_a_request_survives_being_stored_as_an_event():
    event = event_of(update(correction=True), placed(), dedupe_key="k", at=AT)
    assert OrderEvent.from_dict(event.as_dict()) == event
    old = {name: value for name, value in event.as_dict().items() if name != "corrects"}
    assert OrderEvent.from_dict(old).corrects == ""


def test_of_rows_about_one_order_only_the_first_counts():
    one, two = UUID(int=1), UUID(int=2)
    assert named_twice([one, None, two, one, None]) == [False, False, False, True, False]


def test_every_reason_and_problem_has_its_words_and_every_detail_is_one_of_the_templates():
    assert set(REASONS) == set(UpdateReason)
    assert all(explain(problem) for problem in Problem)
    language = Library.load()
    for detail in DETAILS:
        fields = {**language.samples("shipped"), "detail": detail}
        rendered = language.render(template="shipped", channel=Channel.EMAIL, language="en", fields=fields)
        without = language.render(
            template="shipped", channel=Channel.EMAIL, language="en", fields={**fields, "detail": ""}
        )
        assert rendered.text != without.text, detail


# ---- who is told of a correction ----

FACTS = TemplateFacts(permits_notice=True, required=frozenset({"order_no"}), fields=frozenset({"order_no", "status"}))


def planned(told, *, statuses=(), corrects=str(EVENT)):
    contact = ContactPoint(
        id="c", channel=Channel.EMAIL, platform="sendgrid", address="a@b.example", level=None, verified=True,
        position=0, statuses=frozenset(statuses), consent=Consent.GRANTED,
    )  # fmt: skip
    recipient = Recipient(id="r", client_id="acme", name="Ann", contacts=(contact,))
    event = OrderEvent(
        source="portal", dedupe_key="k", order_ref="1", order_no="1", status=OrderStatus.SHIPPED, raw_status="shipped",
        occurred_at=AT, correction=True, corrects=corrects,
    )  # fmt: skip
    (row,) = plan(
        event, event_id="e", order=OrderFacts(label=Label.PUBLIC), recipients=[recipient],
        registry={"sendgrid": Registered(Level.C2, enabled=True)}, template_facts=lambda _name: FACTS, now=AT,
        told={} if told is None else {"c": told},
    )  # fmt: skip
    return row.template if isinstance(row, Planned) else row.reason


def test_a_correction_reaches_whoever_was_told_what_is_wrong_whatever_they_chose():
    wrong = Told(OrderStatus.DELIVERED, corrected=True)
    assert planned(wrong) == "correction"
    assert planned(wrong, statuses=[OrderStatus.DELIVERED]) == "correction"


def test_whoever_was_not_told_it_gets_the_news_or_nothing():
    assert planned(None) == "shipped"
    assert planned(None, statuses=[OrderStatus.DELIVERED]) is SuppressionReason.NOT_CHOSEN
    assert planned(Told(OrderStatus.PROCESSING, corrected=False)) == "shipped"
    assert planned(Told(OrderStatus.SHIPPED, corrected=False)) is SuppressionReason.ALREADY_TOLD


def test_a_source_that_names_no_event_corrects_for_everybody_who_chose_it():
    assert planned(None, corrects="") == "correction"
    assert planned(None, corrects="", statuses=[OrderStatus.DELIVERED]) is SuppressionReason.NOT_CHOSEN
