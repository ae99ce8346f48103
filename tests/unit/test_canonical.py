"""Canonical bytes: one spelling for one record, and a precise refusal for everything outside the profile."""

import json
from collections import OrderedDict
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from unicodedata import normalize

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.canonical import (
    MAX_DEPTH,
    MAX_INTEGER,
    CanonicalError,
    canonical_bytes,
    commitment,
)

VECTORS = json.loads((Path(__file__).parents[1] / "fixtures" / "ledger_vectors.json").read_text("utf-8"))
SALT = bytes.fromhex(VECTORS["payload_salt"])

keys = st.text("abcxyz019_", min_size=1, max_size=6)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(lambda text: normalize("NFC", text))
scalars = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
records = st.dictionaries(keys, values, max_size=6)


class Word(StrEnum):
    ALLOW = "allow"


class Count(IntEnum):
    ONE = 1


class Shouted(str):
    __slots__ = ()


def nested(levels):
    record = {"a": 1}
    for _ in range(levels - 1):
        record = {"a": record}
    return record


@given(records)
def test_the_bytes_are_those_of_rfc_8785_and_of_sorted_compact_json(record):
    plain = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    assert canonical_bytes(record) == rfc8785.dumps(record) == plain.encode()


@given(records)
def test_the_bytes_read_back_as_the_record_they_were_made_from(record):
    assert json.loads(canonical_bytes(record)) == record


@given(records)
def test_the_order_of_keys_does_not_matter(record):
    assert canonical_bytes(dict(reversed(record.items()))) == canonical_bytes(record)


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda vector: vector["len"])
def test_each_published_record_keeps_its_bytes(vector):
    assert canonical_bytes(json.loads(vector["jcs"])) == vector["jcs"].encode()


def test_control_characters_are_escaped_as_rfc_8785_escapes_them():
    record = {"a": "".join(map(chr, range(0x20))) + '"\\/\x7f'}
    assert canonical_bytes(record) == rfc8785.dumps(record)


def test_letters_beyond_the_basic_plane_are_kept_as_utf_8():
    assert canonical_bytes({"a": "é\U0001f4e6"}) == '{"a":"é\U0001f4e6"}'.encode()


def test_words_tuples_and_other_mappings_are_written_as_their_plain_counterparts():
    record = MappingProxyType({"a": Word.ALLOW, "b": (1, Word.ALLOW), "c": [Word.ALLOW]})
    assert canonical_bytes(record) == b'{"a":"allow","b":[1,"allow"],"c":["allow"]}'


def test_the_largest_integers_of_the_profile_are_exact():
    record = {"a": MAX_INTEGER, "b": -MAX_INTEGER}
    assert canonical_bytes(record) == b'{"a":9007199254740991,"b":-9007199254740991}'


def test_a_record_may_be_nested_to_the_limit_and_no_deeper():
    assert canonical_bytes(nested(MAX_DEPTH))
    with pytest.raises(CanonicalError, match="nested deeper"):
        canonical_bytes(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("record", "path", "rule"),
    [
        ({"a": 1.0}, "$.a", "float"),
        ({"a": float("nan")}, "$.a", "float"),
        ({"a": float("inf")}, "$.a", "float"),
        ({"a": -0.0}, "$.a", "decimal string"),
        ({"a": Decimal("4.50")}, "$.a", "decimal string"),
        ({"a": [1, {"b": ["x", 2.5]}]}, "$.a[1].b[1]", "float"),
        ({"a": MAX_INTEGER + 1}, "$.a", "2^53-1"),
        ({"a": -MAX_INTEGER - 1}, "$.a", "2^53-1"),
        ({"a": 2**70}, "$.a", "2^53-1"),
        ({"a": ["x", 10**5000]}, "$.a[1]", "2^53-1"),
        ({"a": "cafe\u0301"}, "$.a", "NFC"),
        ({"a": {"b": ["\u212b"]}}, "$.a.b[0]", "NFC"),
        ({"a": "x\ud800"}, "$.a", "surrogate"),
        ({"a": ["\udfff"]}, "$.a[0]", "surrogate"),
        ({"a": b"bytes"}, "$.a", "hex or base64"),
        ({"a": datetime(2026, 11, 24, tzinfo=UTC)}, "$.a", "RFC 3339"),
        ({"a": date(2026, 11, 24)}, "$.a", "RFC 3339"),
        ({"a": {1, 2}}, "$.a", "set"),
        ({"a": Count.ONE}, "$.a", "Count"),
        ({"a": Shouted("x")}, "$.a", "Shouted"),
        ({"a": OrderedDict(b=1)}, "$.a", "OrderedDict"),
        ({"Order": 1}, "$", "key number 0"),
        ({"a": 1, "b-c": 1}, "$", "key number 1"),
        ({"a": {"": 1}}, "$.a", "key number 0"),
        ({"a": {"é": 1}}, "$.a", "key number 0"),
        ({"a": {"b\n": 1}}, "$.a", "key number 0"),
        ({"a": {1: "x"}}, "$.a", "key number 0"),
        ({"a": {None: "x"}}, "$.a", "key number 0"),
        ({"é": "x", "a": 1.5}, "$", "key number 0"),
    ],
)
def test_what_lies_outside_the_profile_is_refused_by_its_path(record, path, rule):
    with pytest.raises(CanonicalError) as refused:
        canonical_bytes(record)
    assert refused.value.path == path
    assert rule in refused.value.rule


def test_a_record_that_holds_itself_is_refused():
    record = {}
    record["a"] = record
    with pytest.raises(CanonicalError, match="nested deeper"):
        canonical_bytes(record)


def test_a_refusal_repeats_neither_the_value_nor_a_foreign_key():
    for record in ({"a": "Zoe\u0308 +12025550123"}, {"Zoe +12025550123": 1}):
        with pytest.raises(CanonicalError) as refused:
            canonical_bytes(record)
        assert "2025550123" not in str(refused.value)


@given(records, st.sampled_from([0.5, 2**60, "e\u0301", "\ud800", b"", {"B": 1}]))
def test_one_foreign_value_anywhere_refuses_the_whole_record(record, foreign):
    for spoiled in (
        {**record, "z": foreign},
        {**record, "z": [{"y": foreign}]},
        {"a": {"b": record, "c": foreign}},
    ):
        with pytest.raises(CanonicalError):
            canonical_bytes({"outer": spoiled})


def test_the_commitment_to_the_published_payload_is_reproduced():
    payload = json.loads(VECTORS["payload_jcs"])
    assert canonical_bytes(payload) == VECTORS["payload_jcs"].encode()
    assert commitment(SALT, payload) == "hmac-sha256:" + VECTORS["payload_commit"]


def test_a_commitment_depends_on_every_byte_of_salt_and_payload():
    seen = {
        commitment(SALT, {"to": "+12025550123"}),
        commitment(SALT, {"to": "+12025550124"}),
        commitment(SALT[::-1], {"to": "+12025550123"}),
    }
    assert len(seen) == 3


def test_a_salt_short_enough_to_guess_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        commitment(SALT[:31], {"a": 1})
