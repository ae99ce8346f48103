"""SMS segments are counted as the network bills them, and look-alikes save parts without losing words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.segments import Encoding, Segments, count, smart_encode

GSM7, UCS2 = Encoding.GSM7, Encoding.UCS2


@pytest.mark.parametrize(
    ("text", "encoding", "segments"),
    [
        ("", GSM7, 0),
        ("a" * 160, GSM7, 1),
        ("a" * 161, GSM7, 2),
        ("a" * 306, GSM7, 2),
        ("a" * 307, GSM7, 3),
        ("€" * 80, GSM7, 1),
        ("€" * 81, GSM7, 2),
        ("ж" * 70, UCS2, 1),
        ("ж" * 71, UCS2, 2),
        ("ж" * 134, UCS2, 2),
        ("ж" * 135, UCS2, 3),
        ("😀" * 35, UCS2, 1),
        ("😀" * 36, UCS2, 2),
        ("It\u2019s here", UCS2, 1),
        ("\there", UCS2, 1),
        ("`x`", UCS2, 1),
        ("ça", UCS2, 1),
        ("Ça", GSM7, 1),
    ],
)
def test_a_text_is_billed_as(text, encoding, segments):
    counted = count(text)
    assert (counted.encoding, counted.segments) == (encoding, segments)


def test_an_extension_character_is_never_cut_in_two():
    # 152 letters leave one septet of the first part; the euro sign needs two and starts the next.
    assert count("a" * 152 + "€" + "a" * 151) == Segments(GSM7, 2, 305)
    assert count("a" * 152 + "€" + "a" * 152) == Segments(GSM7, 3, 306)


def test_a_surrogate_pair_is_never_cut_in_two():
    assert count("ж" * 66 + "😀" + "ж" * 65) == Segments(UCS2, 2, 133)
    assert count("ж" * 66 + "😀" + "ж" * 66) == Segments(UCS2, 3, 134)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("It\u2019s here", "It's here"),
        ("\u201cshipped\u201d \u2013 today\u2026", '"shipped" - today...'),
        ("a\tb\u00a0c", "a b c"),
        ("`x`", "'x'"),
        ("ＡＢ－１２", "AB-12"),  # noqa: RUF001 - full-width letters are the case
        ("ça \u2013 va", "ça \u2013 va"),
        ("10 € [net]", "10 € [net]"),
    ],
)
def test_look_alikes_are_replaced_where_that_saves_the_encoding(written, sent):
    assert smart_encode(written) == sent


def test_a_replacement_that_would_cost_a_part_is_not_made():
    ellipses = "\u2026" * 70
    assert count(ellipses).segments == 1
    assert smart_encode(ellipses) == ellipses


@given(st.text(alphabet=st.sampled_from("a €[ж😀\u2019\u2026\t\u2013ç\u200b"), max_size=400))
def test_encoding_smartly_never_costs_a_part_and_is_done_once(text):
    sent = smart_encode(text)
    assert count(sent).segments <= count(text).segments
    assert smart_encode(sent) == sent


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_longer_text_never_has_fewer_parts(first, second):
    assert count(first + second).segments >= count(first).segments


@given(st.text(max_size=500))
def test_the_parts_hold_all_units(text):
    counted = count(text)
    room = {GSM7: 160, UCS2: 70} if counted.segments <= 1 else {GSM7: 153, UCS2: 67}
    assert counted.units <= counted.segments * room[counted.encoding]
    assert counted.units > (counted.segments - 1) * (room[counted.encoding] - 1)
