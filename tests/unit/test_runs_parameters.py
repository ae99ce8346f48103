"""What may travel through Prefect as parameter, name or tag of a run, and what is refused before it gets there."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.events import OrderStatus, Trigger
from ordernotify.worker.runs import checked_labels, checked_parameters
from ordernotify.worker.server import MAX_PARAMETER_BYTES

PERSONAL = [
    "dana.whitfield@example.com",
    "+15551234567",
    "15551234567",
    "Dana Whitfield",
    "Whitfield",
    "4500012345",
    "PO-4500012345",
    "N-7F3K-Q2WM-81TX",
    "2026-11-24",
    "FA8615-20-C-0001",
    "https://example.com/?token=abc",
    "delayed by customs in rotterdam",
    "",
    " ",
    "shipped\n",
    "eyJhbGciOiJIUzI1NiJ9.e30.abc",
]


@given(st.uuids())
def test_an_id_of_ours_travels(identifier: uuid.UUID):
    assert checked_parameters({"batch_id": str(identifier)}) == {"batch_id": str(identifier)}
    assert checked_parameters({"delivery": identifier.hex}) == {"delivery": identifier.hex}


@pytest.mark.parametrize("word", [*OrderStatus, *Trigger])
def test_a_word_of_our_tables_travels(word: OrderStatus | Trigger):
    assert checked_parameters({"status": word.value}) == {"status": word.value}


@pytest.mark.parametrize("number", [0, 1, -1, 2**31 - 1])
def test_a_number_travels(number: int):
    assert checked_parameters({"limit": number}) == {"limit": number}


def test_a_list_of_ids_travels_in_its_order():
    identifiers = [str(uuid.UUID(int=number)) for number in (3, 1, 2)]
    assert checked_parameters({"event_ids": identifiers}) == {"event_ids": identifiers}


@pytest.mark.parametrize("text", PERSONAL)
def test_text_that_could_tell_something_is_refused_and_not_repeated(text: str):
    for value in (text, [str(uuid.UUID(int=1)), text]):
        with pytest.raises(ValueError, match="'batch_id' must be an id") as refused:
            checked_parameters({"batch_id": value})
        assert not text.strip() or text not in str(refused.value)


@given(st.text(alphabet="0123456789+-(). ", min_size=1, max_size=20))
def test_no_phone_number_in_any_writing_travels(text: str):
    with pytest.raises(ValueError, match="must be an id"):
        checked_parameters({"batch_id": text})


@pytest.mark.parametrize(
    "value", [True, False, None, 1.5, 15551234567, -(2**31) - 1, {}, {"a": 1}, [1], [[]], b"a", uuid.UUID(int=1)]
)
def test_a_value_of_another_kind_is_refused(value):
    with pytest.raises(ValueError, match="'batch_id' must be an id"):
        checked_parameters({"batch_id": value})


@pytest.mark.parametrize("name", ["", "Batch", "batch id", "dana@example.com", "a" * 33, "1st"])
def test_a_parameter_name_carries_nothing_either(name: str):
    with pytest.raises(ValueError, match="a parameter's name must be") as refused:
        checked_parameters({name: 1})
    assert not name or name not in str(refused.value)


@given(st.integers(min_value=0, max_value=400))
def test_what_passes_always_fits_prefects_limit_and_what_does_not_is_told_to_use_a_batch(count: int):
    identifiers = [str(uuid.UUID(int=number)) for number in range(count)]
    fits = len(str({"event_ids": identifiers})) <= MAX_PARAMETER_BYTES
    if fits:
        assert checked_parameters({"event_ids": identifiers})
    else:
        with pytest.raises(ValueError, match="pass the id of a batch"):
            checked_parameters({"event_ids": identifiers})


@pytest.mark.parametrize(
    "labels",
    [["order-event", "0199c1de-0000-7000-8000-000000000001"], ["batch", "12", "of", "40"], ["pipeline"], []],
)
def test_a_run_may_be_named_by_words_ids_and_small_numbers(labels: list[str]):
    assert checked_labels(labels, what="a run's name") == labels


@pytest.mark.parametrize("text", PERSONAL)
def test_a_run_may_not_be_named_after_a_person_an_order_or_a_date(text: str):
    with pytest.raises(ValueError, match="a run's tags must be made of") as refused:
        checked_labels([text], what="a run's tags")
    assert not text.strip() or text not in str(refused.value)
