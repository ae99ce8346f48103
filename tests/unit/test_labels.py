"""Labels only ever go up, and what is not known is treated as the worst that may be."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.labels import (
    FIELD_LABELS,
    NOTICE_FIELDS,
    Label,
    Tags,
    aggregate,
    field_label,
    join,
)

labels = st.sampled_from(Label)
ORDER_FIELDS = sorted(set(FIELD_LABELS) - NOTICE_FIELDS)


def test_labels_are_ordered_by_what_they_protect():
    assert Label.PUBLIC < Label.INTERNAL < Label.FCI < Label.CUI < Label.CUI_SP < Label.UNKNOWN < Label.CLASSIFIED


@pytest.mark.parametrize("label", Label)
def test_a_label_is_read_as_it_is_stored(label):
    assert Label.read(label.word) is label


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("fci", Label.FCI),
        (" Public ", Label.PUBLIC),
        ("CUI-SP", Label.CUI_SP),
        ("cui sp", Label.CUI_SP),
        ("Top Secret", Label.CLASSIFIED),
        ("SECRET", Label.CLASSIFIED),
        ("", Label.UNKNOWN),
        ("3", Label.UNKNOWN),
        ("releasable", Label.UNKNOWN),
        ("CUI//SP-CTI//NOFORN", Label.UNKNOWN),
    ],
)
def test_a_word_from_outside_names(word, label):
    assert Label.read(word) is label


@given(st.text(max_size=20))
def test_no_word_is_read_as_public_but_the_word_itself(word):
    if word.strip().upper() != "PUBLIC":
        assert Label.read(word) is not Label.PUBLIC


@given(st.lists(labels), st.lists(labels))
def test_joining_is_the_highest_of_all_in_any_order(first, second):
    together = join([*first, *second])
    assert together is join([*second, *first]) is join([join(first), join(second)])
    assert all(together >= label for label in [*first, *second])


def test_nothing_joined_is_public():
    assert join([]) is Label.PUBLIC


@pytest.mark.parametrize("field", ORDER_FIELDS)
@pytest.mark.parametrize("government", [False, True])
def test_every_field_of_a_public_order_is_public(field, government):
    assert field_label(field, Label.PUBLIC, government=government) is Label.PUBLIC


@pytest.mark.parametrize("field", sorted(NOTICE_FIELDS))
@pytest.mark.parametrize("label", Label)
def test_what_a_notice_says_is_public_on_every_order(field, label):
    assert field_label(field, label, government=True) is Label.PUBLIC


@pytest.mark.parametrize("field", ORDER_FIELDS)
def test_a_commercial_order_has_internal_fields(field):
    assert field_label(field, Label.INTERNAL, government=False) is Label.INTERNAL


@pytest.mark.parametrize("field", ["order_no", "promised_date", "tracking_no", "carrier", "tracking_url", "detail"])
@pytest.mark.parametrize("label", [Label.INTERNAL, Label.FCI, Label.CUI, Label.CUI_SP])
def test_the_facts_of_a_government_order_are_fci(field, label):
    assert field_label(field, label, government=True) is Label.FCI


@pytest.mark.parametrize("field", ["lines", "part_no", "quantity"])
def test_what_is_ordered_has_the_orders_own_label_from_cui_on(field):
    assert field_label(field, Label.FCI, government=True) is Label.FCI
    assert field_label(field, Label.CUI, government=True) is Label.CUI
    assert field_label(field, Label.CUI_SP, government=True) is Label.CUI_SP


@pytest.mark.parametrize("field", ORDER_FIELDS)
@pytest.mark.parametrize("label", [Label.UNKNOWN, Label.CLASSIFIED])
def test_no_order_field_is_below_a_label_that_stops_everything(field, label):
    assert field_label(field, label, government=False) is label


@pytest.mark.parametrize("label", Label)
def test_a_field_nobody_declared_is_unknown(label):
    assert field_label("drawing_scan", label, government=False) is Label.UNKNOWN


def test_a_label_that_exists_only_under_a_contract_makes_an_order_a_governments():
    assert field_label("order_no", Label.FCI, government=False) is Label.FCI


@pytest.mark.parametrize("field", [*FIELD_LABELS, "drawing_scan"])
def test_no_field_gets_more_open_when_its_order_gets_less(field):
    for lower, higher in itertools.pairwise(Label):
        for government in (False, True):
            assert field_label(field, lower, government=government) <= field_label(field, higher, government=government)
        assert field_label(field, lower, government=False) <= field_label(field, lower, government=True)


def test_three_telling_facts_of_a_government_order_are_fci():
    assert aggregate(["lines", "promised_date"], Label.PUBLIC, government=True) is Label.FCI
    assert aggregate(["part_no", "quantity", "ship_to"], Label.PUBLIC, government=True) is Label.FCI


def test_two_telling_facts_are_no_more_than_each():
    assert aggregate(["lines", "order_no", "status"], Label.PUBLIC, government=True) is Label.PUBLIC
    assert aggregate(["part_no", "lines"], Label.PUBLIC, government=True) is Label.PUBLIC


def test_a_commercial_order_shows_all_its_facts_as_they_are():
    assert aggregate(ORDER_FIELDS, Label.INTERNAL, government=False) is Label.INTERNAL
    assert aggregate(ORDER_FIELDS, Label.PUBLIC, government=False) is Label.PUBLIC


@given(st.lists(st.sampled_from(sorted(FIELD_LABELS))), labels, st.booleans())
def test_aggregating_never_lowers(fields, base, government):
    assert aggregate(fields, base, government=government) >= base


@pytest.mark.parametrize(
    ("tags", "export"),
    [
        (Tags(), False),
        (Tags(jurisdiction="EAR99"), False),
        (Tags(jurisdiction="EAR:9A610"), True),
        (Tags(jurisdiction="ITAR:VIII"), True),
        (Tags(jurisdiction=""), True),
        (Tags(categories=frozenset({"EXPT"})), True),
        (Tags(categories=frozenset({"CTI"})), False),
    ],
)
def test_export_rules_bind(tags, export):
    assert tags.export is export


def test_noforn_is_a_dissemination_limit():
    assert Tags(ldc=frozenset({"NOFORN", "FEDCON"})).noforn
    assert not Tags(ldc=frozenset({"FEDCON"})).noforn
