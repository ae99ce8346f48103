"""Our own vocabulary: what is read, what is refused and how the refusal is worded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Refusal
from ordernotify.platforms._events import EventBody, event_key, read_body, status_of, too_far_ahead
from ordernotify.platforms._reading import mark_of, marked, one_line, read_json, tracking_number

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SMALLEST = {"order_id": "SO-1", "status": "shipped"}
FULL = {
    "order_id": "SO-1001",
    "order_no": "1001",
    "client": "Buyer@Example.com",
    "status": "delayed",
    "occurred_at": "2026-11-24T05:00:00-05:00",
    "detail": "customs",
    "contract": "N00024-26-C-1234",
    "label": "FCI",
    "carrier": "UPS",
    "tracking_no": "1Z999AA10123456784",
    "promised_date": "2026-12-01",
    "lines": [{"sku": "RAD-7", "quantity": 12}],
    "correction": True,
}


def event_of(data: object) -> OrderEvent:
    body = read_body(data)
    assert isinstance(body, EventBody)
    return body.to_event(source="api", dedupe_key="k", default_time=NOW)


def refused(data: object, *, within: str = "data") -> Refusal:
    found = read_body(data, within=within)
    assert isinstance(found, Refusal)
    assert found.status == 422
    return found


def test_a_full_body_becomes_an_event_with_every_field() -> None:
    event = event_of(FULL)
    assert event == OrderEvent(
        source="api",
        dedupe_key="k",
        order_ref="SO-1001",
        order_no="1001",
        status=OrderStatus.DELAYED,
        raw_status="delayed",
        occurred_at=datetime(2026, 11, 24, 10, 0, tzinfo=UTC),
        client_ref="buyer@example.com",
        contract_id="N00024-26-C-1234",
        label="FCI",
        detail="customs",
        carrier="UPS",
        tracking_no="1Z999AA10123456784",
        promised_date="2026-12-01",
        lines=(Line("RAD-7", 12),),
        correction=True,
    )
    assert OrderEvent.from_dict(orjson.loads(orjson.dumps(event.as_dict()))) == event


def test_the_smallest_body_takes_the_default_time_and_its_id_as_number() -> None:
    event = event_of(SMALLEST)
    assert (event.order_no, event.occurred_at) == ("SO-1", NOW)


def test_time_is_read_as_occurred_at() -> None:
    assert event_of({**SMALLEST, "time": "2026-11-24T10:00:00Z"}).occurred_at == NOW - timedelta(hours=2)


def test_both_names_of_the_time_are_refused() -> None:
    both = {**SMALLEST, "time": "2026-11-24T10:00:00Z", "occurred_at": "2026-11-24T10:00:00Z"}
    assert refused(both).field == "data.time"


@pytest.mark.parametrize("status", [one for one in OrderStatus if one is not OrderStatus.UNKNOWN])
def test_every_word_of_ours_is_read_in_any_case(status: OrderStatus) -> None:
    assert event_of({**SMALLEST, "status": f" {status.value.upper()} "}).status is status


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("exploded", "exploded"),
        ("unknown", "unknown"),
        ("  on\u0000 the\nmoon\u202e ", "on the moon"),
        ("x" * 100, "x" * 60),
        ("{{ config }}", "{{ config }}"),
    ],
)
def test_a_foreign_word_is_kept_for_a_person_and_never_guessed(word: str, kept: str) -> None:
    event = event_of({**SMALLEST, "status": word})
    assert (event.status, event.raw_status) == (OrderStatus.UNKNOWN, kept)


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"status": None}, "data.status", "must be text; got null"),
        ({"status": ""}, "data.status", "must not be empty"),
        ({"status": " \t"}, "data.status", "must not be empty; got text"),
        ({"status": 7}, "data.status", "must be text; got a whole number"),
        ({"order_id": 1001}, "data.order_id", "must be text; got a whole number"),
        ({"order_id": "x" * 129}, "data.order_id", "must have at most 128 characters"),
        ({"surprise": 1}, "data.surprise", "is not a field of an order event"),
        ({"{{7*7}}": 1}, "data.(a field)", "is not a field of an order event"),
        ({"lines": {}}, "data.lines", "must be a list; got an object"),
        ({"lines": [1]}, "data.lines[0]", "must be an object; got a whole number"),
        ({"lines": [[]]}, "data.lines[0]", "must be an object; got a list"),
        ({"lines": [{"sku": "A"}]}, "data.lines[0].quantity", "is missing"),
        (
            {"lines": [{"sku": "A", "quantity": "12"}]},
            "data.lines[0].quantity",
            "must be a whole number from 1 to 1000000000; got text",
        ),
        (
            {"lines": [{"sku": "A", "quantity": 1.0}]},
            "data.lines[0].quantity",
            "must be a whole number from 1 to 1000000000; got a number with a fraction",
        ),
        (
            {"lines": [{"sku": "A", "quantity": True}]},
            "data.lines[0].quantity",
            "must be a whole number from 1 to 1000000000; got true or false",
        ),
        ({"lines": [{"sku": "A", "quantity": 0}]}, "data.lines[0].quantity", "must be a whole number from 1"),
        ({"lines": [{"sku": "A", "quantity": 10**9 + 1}]}, "data.lines[0].quantity", "must be a whole number"),
        ({"lines": [{"sku": "A", "quantity": 10**40}]}, "data.lines[0].quantity", "must be a whole number"),
        ({"lines": [{"sku": "\u200b", "quantity": 1}]}, "data.lines[0].sku", "must not be empty; got text"),
        ({"lines": [{"sku": "A", "quantity": 1}] * 501}, "data.lines", "must have at most 500 entries"),
        ({"correction": 1}, "data.correction", "must be true or false; got a whole number"),
        ({"promised_date": "2026-13-01"}, "data.promised_date", "must be a date such as 2026-11-24"),
        ({"promised_date": "2026-W49-2"}, "data.promised_date", "must be a date"),
        ({"promised_date": 20261201}, "data.promised_date", "must be a date"),
        ({"occurred_at": "2026-11-24T10:00:00"}, "data.occurred_at", "must be a date and time with a time zone"),
        ({"occurred_at": 1795514400}, "data.occurred_at", "must be a date and time with a time zone"),
        ({"occurred_at": "0001-01-01T00:00:00Z"}, "data.occurred_at", "must lie between the years 2000 and 2099"),
        ({"occurred_at": "9999-12-31T23:59:59-23:59"}, "data.occurred_at", "must lie between the years"),
    ],
)
def test_a_refusal_names_the_field_and_what_would_be_right(change: dict, field: str, says: str) -> None:
    found = refused({**SMALLEST, **change})
    assert found.field == field
    assert found.message.startswith(says)


@pytest.mark.parametrize(
    ("data", "field", "says"),
    [
        (None, "data", "must be an object; got null"),
        ([], "data", "must be an object; got a list"),
        ("{}", "data", "must be an object; got text"),
        ({"order_id": "SO-1"}, "data.status", "is missing"),
        ({"status": "shipped"}, "data.order_id", "is missing"),
    ],
)
def test_what_is_no_event_is_refused(data: object, field: str, says: str) -> None:
    found = refused(data)
    assert (found.field, found.message) == (field, says)


def test_a_refusal_never_repeats_the_value() -> None:
    secret = "N00024-26-C-9999"
    changes = ({"lines": secret}, {"occurred_at": secret}, {"promised_date": secret}, {"correction": secret})
    for change in changes:
        found = refused({**SMALLEST, **change})
        assert secret not in found.field + found.message


def test_metacharacters_stay_plain_data() -> None:
    hostile = "'; DROP TABLE event; -- {{ 7*7 }} <script>"
    event = event_of({**SMALLEST, "detail": hostile, "order_id": hostile, "lines": [{"sku": "{% x %}", "quantity": 1}]})
    assert (event.detail, event.order_ref, event.lines[0].sku) == (hostile, hostile, "{% x %}")


@pytest.mark.parametrize("body", [b"", b"{", b'{"status": NaN}', b"[" * 5000, b"\xff\xfe", b'{"a":"\\ud800"}'])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    found = read_json(EventBody, body)
    assert found == Refusal(422, "body", "must be JSON in UTF-8, without NaN or Infinity")


def test_the_type_of_the_envelope_stands_in_for_the_status() -> None:
    body = read_body({"order_id": "SO-1"}, type_word="order.delivered")
    assert isinstance(body, EventBody)
    assert body.status == "delivered"


def test_a_type_that_contradicts_the_status_is_refused() -> None:
    found = read_body(SMALLEST, type_word="order.delivered", within="data")
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "data.status")


def test_a_foreign_type_says_nothing_about_the_status() -> None:
    assert isinstance(read_body(SMALLEST, type_word="com.example.order.status.v1"), EventBody)
    assert refused({"order_id": "SO-1"}, within="").field == "status"


def test_an_event_from_the_future_is_refused_beyond_ten_minutes() -> None:
    ahead = event_of({**SMALLEST, "occurred_at": "2026-11-24T12:10:00Z"})
    assert too_far_ahead(ahead, now=NOW, field="data.occurred_at") is None
    found = too_far_ahead(ahead, now=NOW - timedelta(seconds=1), field="data.occurred_at")
    assert found is not None
    assert found.field == "data.occurred_at"


def test_the_schema_describes_every_field_with_examples() -> None:
    schema = EventBody.model_json_schema()
    assert schema["required"] == ["order_id", "status"]
    for name, field in schema["properties"].items():
        assert field["description"], name
    assert schema["$defs"]["LineBody"]["properties"]["quantity"]["maximum"] == 10**9
    EventBody.model_validate(schema["examples"][0])


def test_the_body_is_frozen_and_hides_its_input_in_errors() -> None:
    with pytest.raises(ValidationError) as caught:
        EventBody.model_validate({**SMALLEST, "lines": "N00024"})
    assert "N00024" not in str(caught.value)


def test_different_parts_never_share_a_key() -> None:
    assert event_key("a", "b c") != event_key("a b", "c")
    assert event_key("", "ab") != event_key("a", "b")
    assert len(event_key("s" * 1000, "i" * 500)) <= 200
    assert event_key("//erp", "A-1") == "//erp A-1"


@given(st.lists(st.text(max_size=8), max_size=4), st.lists(st.text(max_size=8), max_size=4))
def test_keys_are_equal_only_for_equal_parts(one: list[str], other: list[str]) -> None:
    assert (event_key(*one) == event_key(*other)) == (one == other)


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("  1Z999\u200bÄÖ AA1\n0123456784\n", "1Z999AA10123456784"),
        ("9400 1000 0000", "940010000000"),
        ("{{7*7}}'\"<>", "{{7*7}}'\"<>"),
        ("x" * 100, "x" * 64),
        ("日本", ""),
    ],
)
def test_tracking_numbers_are_cleaned(dirty: str, clean: str) -> None:
    assert tracking_number(dirty) == clean


@given(st.text())
def test_one_line_is_short_printable_and_stays_as_it_is(text: str) -> None:
    line = one_line(text, limit=60)
    assert len(line) <= 60
    assert line.isprintable()
    assert one_line(line, limit=60) == line


@given(st.text(max_size=50))
def test_our_mark_is_found_behind_any_text(text: str) -> None:
    if "[ordernotify " not in text:
        assert mark_of(text) == ""
        assert mark_of(marked(text, "0123456789abcdef0123456789abcdef")) == "0123456789abcdef0123456789abcdef"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(st.sampled_from([*FULL, "time", "sku"]), JSON, max_size=6)


@given(JSON | FIELDS | FIELDS.map(lambda change: {**FULL, **change}))
def test_random_json_is_read_or_refused_by_field_and_never_raises(data: object) -> None:
    found = read_body(data, within="data")
    if isinstance(found, Refusal):
        assert found.status == 422
        assert found.field.startswith("data")
        assert found.message
    else:
        event = found.to_event(source="api", dedupe_key="k", default_time=NOW)
        assert event.occurred_at.tzinfo is not None
        assert status_of(event.raw_status) in {event.status, OrderStatus.UNKNOWN}
