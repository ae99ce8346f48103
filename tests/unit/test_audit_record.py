"""Audit records: the published envelopes byte for byte, and no record without what, when, where and who."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.audit import Actor, AuditType, Object, Source, Stream, record, record_bytes
from ordernotify.core.canonical import CanonicalError, canonical_bytes, commitment

VECTORS = json.loads((Path(__file__).parents[1] / "fixtures" / "ledger_vectors.json").read_text("utf-8"))
COMMIT = commitment(bytes.fromhex(VECTORS["payload_salt"]), json.loads(VECTORS["payload_jcs"]))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def at(**delta):
    return NOON + timedelta(**delta)


def id_of(number):
    return f"01936000-0000-7000-8000-{number:012}"


FIRST = {
    "event_id": id_of(1),
    "type": AuditType.INGEST_ACCEPTED,
    "occurred_at": NOON,
    "recorded_at": at(milliseconds=1),
    "where_host": "node-a",
    "component": "intake",
    "actor": Actor("service", "svc:erp-1"),
    "source": Source("webhook", "erp-1", "192.0.2.10"),
    "object": Object("order", "ord_7Q2"),
    "outcome": {"status": "success"},
    "stream": Stream("ord_7Q2", 1),
    "data": {"class": "FCI", "commit": COMMIT},
}

PUBLISHED = [
    FIRST,
    {
        "event_id": id_of(2),
        "type": AuditType.POLICY_DECIDED,
        "occurred_at": at(milliseconds=10),
        "recorded_at": at(milliseconds=11),
        "where_host": "node-a",
        "component": "policy",
        "actor": Actor("service", "svc:policy"),
        "source": Source("flow", "flow_run:8f0c"),
        "object": Object("message", "msg_01"),
        "outcome": {
            "status": "success",
            "rule": "R-FCI-1",
            "decision": "allow",
            "channels": ["email"],
            "denied": ["sms"],
        },
        "stream": Stream("ord_7Q2", 2),
    },
    {
        "event_id": id_of(3),
        "type": AuditType.DELIVERY_AUTHORIZED,
        "occurred_at": at(milliseconds=20),
        "recorded_at": at(milliseconds=21),
        "where_host": "node-a",
        "component": "dispatch",
        "actor": Actor("service", "svc:dispatch"),
        "source": Source("flow", "flow_run:8f0c"),
        "object": Object("delivery", "dlv_01"),
        "outcome": {"status": "success"},
        "stream": Stream("ord_7Q2", 3),
    },
    {
        "event_id": id_of(4),
        "type": AuditType.DELIVERY_SENT,
        "occurred_at": at(milliseconds=500),
        "recorded_at": at(milliseconds=501),
        "where_host": "node-b",
        "component": "dispatch",
        "actor": Actor("service", "svc:dispatch"),
        "source": Source("provider", "smtp-gov"),
        "object": Object("delivery", "dlv_01"),
        "outcome": {"status": "success", "provider_ref": "a1b2"},
        "stream": Stream("ord_7Q2", 4),
    },
    {
        "event_id": id_of(5),
        "type": AuditType.AUDIT_VIEWED,
        "occurred_at": at(minutes=5),
        "recorded_at": at(minutes=5, milliseconds=1),
        "where_host": "node-a",
        "component": "api",
        "actor": Actor("person", "usr_42"),
        "source": Source("http", "sess_9", "198.51.100.7"),
        "object": Object("audit", "msg_01"),
        "outcome": {"status": "success"},
        "stream": Stream("usr_42", 1),
    },
]

# What must be recorded at the least; a family given as "*" must have words, whichever.
MINIMUM = """
ingest: received rejected accepted duplicate
validate: passed failed
label: assigned raised overridden
policy: decided *
render: done failed
gate: passed hit
quarantine: placed released destroyed
approval: requested granted refused
delivery: authorized attempted sent deferred failed receipt recalled suppressed
consent: granted revoked confirmed
recipient: *
channel: *
template: *
authn: success fail logout lock mfa
authz: denied
user: *
role: *
session: revoked
config: changed
app: started stopped
flow.run: scheduled started completed failed crashed cancelled retried
flow: deleted
export: created downloaded
audit: viewed exported verified verify_failed failure recovered
review: opened finding closed overdue
retention: scheduled purged
hold: placed lifted
payload: shredded
key: created rotated revoked
checkpoint: signed anchored
clock: anomaly
incident: *
"""


@pytest.mark.parametrize(("number", "fields"), list(enumerate(PUBLISHED)))
def test_each_published_record_is_reproduced_byte_for_byte(number, fields):
    vector = VECTORS["records"][number]
    assert record_bytes(**fields) == vector["jcs"].encode()
    assert len(record_bytes(**fields)) == vector["len"]


def test_the_envelope_is_the_bytes_read_back():
    assert json.loads(record_bytes(**FIRST)) == record(**FIRST)


def test_optional_parts_are_written_where_given_and_left_out_where_not():
    given_parts = {
        "corr": {"flow_run_id": "8f0c"},
        "on_behalf_of": Actor("person", "usr_42"),
        "approval": {"digest": "sha256:00", "approver": "usr_43"},
        "release": "sha256:11",
    }
    full = record(**FIRST | given_parts)
    assert full["corr"] == {"flow_run_id": "8f0c"}
    assert full["on_behalf_of"] == {"kind": "person", "id": "usr_42"}
    assert full["approval"] == {"digest": "sha256:00", "approver": "usr_43"}
    assert full["where"] == {"host": "node-a", "component": "intake", "release": "sha256:11"}
    assert record(**FIRST | dict.fromkeys(given_parts)) == record(**FIRST)


def test_a_record_does_not_change_when_its_parts_do_afterwards():
    outcome = {"status": "success"}
    made = record(**FIRST | {"outcome": outcome})
    outcome["status"] = "failure"
    assert made["outcome"] == {"status": "success"}


@pytest.mark.parametrize("field", sorted(FIRST.keys() - {"data"}))
def test_no_record_lacks_a_field_that_says_what_when_where_or_who(field):
    with pytest.raises(TypeError, match=field):
        record(**{name: value for name, value in FIRST.items() if name != field})


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("where_host", "", "where"),
        ("component", "", "where"),
        ("outcome", {}, "outcome.status"),
        ("outcome", {"status": ""}, "outcome.status"),
        ("outcome", {"reason": "x"}, "outcome.status"),
        ("type", "ingest.invented", "ingest.invented"),
        ("occurred_at", datetime(2026, 11, 24, 12), "occurred_at"),  # noqa: DTZ001 - naive on purpose
        ("recorded_at", datetime(2026, 11, 24, 12), "recorded_at"),  # noqa: DTZ001 - naive on purpose
        ("event_id", "", "event_id"),
        ("event_id", "01936000-0000-4000-8000-000000000001", "event_id"),
        ("event_id", "01936000-0000-7000-c000-000000000001", "event_id"),
        ("event_id", "0193600000007000800000000000000a", "event_id"),
        ("event_id", "01936000-0000-7000-8000-00000000000A", "event_id"),
        ("event_id", "01936000-0000-7000-8000-000000000001\n", "event_id"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(field, value, named):
    with pytest.raises(ValueError, match=named):
        record(**FIRST | {field: value})


@pytest.mark.parametrize(
    ("kind", "arguments", "named"),
    [
        (Actor, ("", "x"), r"actor\.kind"),
        (Actor, ("robot", "x"), r"actor\.kind"),
        (Actor, ("person", ""), r"actor\.id"),
        (Source, ("", "x"), "source"),
        (Source, ("http", ""), "source"),
        (Object, ("", "x"), "object"),
        (Object, ("order", ""), "object"),
        (Stream, ("", 1), "stream"),
        (Stream, ("ord_1", 0), "stream"),
    ],
)
def test_nobody_and_nothing_is_no_answer(kind, arguments, named):
    with pytest.raises(ValueError, match=named):
        kind(*arguments)


def test_a_float_in_a_part_is_refused_by_its_path():
    with pytest.raises(CanonicalError) as refused:
        record_bytes(**FIRST | {"outcome": {"status": "success", "seconds": 0.5}})
    assert refused.value.path == "$.outcome.seconds"


@pytest.mark.parametrize(
    "zone",
    [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-3)), ZoneInfo("Europe/Paris")],
)
def test_times_of_any_zone_are_written_in_utc_with_six_decimals(zone):
    made = record(**FIRST | {"occurred_at": at(microseconds=7).astimezone(zone)})
    assert made["occurred_at"] == "2026-11-24T12:00:00.000007Z"


def test_the_hour_that_a_change_of_clocks_repeats_is_told_apart():
    zone = ZoneInfo("America/New_York")
    written = [
        record(**FIRST | {"occurred_at": datetime(2026, 11, 1, 1, 30, tzinfo=zone, fold=fold)})["occurred_at"]
        for fold in (0, 1)
    ]
    assert written == ["2026-11-01T05:30:00.000000Z", "2026-11-01T06:30:00.000000Z"]


@given(st.datetimes(min_value=datetime(1000, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 - bounds are naive by contract
def test_every_time_reads_back_as_the_same_instant(moment):
    aware = moment.replace(tzinfo=UTC)
    written = record(**FIRST | {"occurred_at": aware})["occurred_at"]
    assert len(written) == 27
    assert datetime.fromisoformat(written) == aware


def test_the_catalogue_holds_everything_that_must_be_recorded():
    known = {word.value for word in AuditType}
    for line in MINIMUM.split("\n"):
        family, _, words = line.partition(": ")
        for word in words.split():
            if word == "*":
                assert any(name.startswith(f"{family}.") for name in known), family
            else:
                assert f"{family}.{word}" in known


def test_each_word_of_the_catalogue_is_named_as_it_is_written():
    for word in AuditType:
        assert word.name == word.value.replace(".", "_").upper()
        assert canonical_bytes(record(**FIRST | {"type": word}))


_WORDS = st.text(max_size=12) | st.sampled_from(["e\u0301", "\ud800", "caf\u00e9", '"', "\\", "\n"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab_9Z", max_size=3), inner, max_size=3),
    max_leaves=8,
)
_PARTS = st.dictionaries(st.text("abc_9", min_size=1, max_size=3) | st.just("Bad key"), _VALUES, max_size=3)


@given(
    outcome=_PARTS,
    corr=st.none() | _PARTS,
    data=st.none() | _PARTS,
    ids=st.tuples(*[st.text(min_size=1, max_size=5) | st.just("msg_01")] * 5),
    ip=st.none() | st.just("192.0.2.10"),
    moved=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)),
)
def test_the_bytes_are_those_of_the_envelope_however_they_were_put_together(outcome, corr, data, ids, ip, moved):
    fields = FIRST | {
        "outcome": {"status": "success"} | outcome,
        "corr": corr,
        "data": data,
        "actor": Actor("person", ids[0]),
        "source": Source("http", ids[1], ip),
        "object": Object(ids[2], ids[3]),
        "stream": Stream(ids[4], 3),
        "occurred_at": NOON + moved,
        "where_host": ids[0],
    }
    assert _bytes_or_refusal(record_bytes, fields) == _bytes_or_refusal(
        lambda **given: canonical_bytes(record(**given)), fields
    )


def _bytes_or_refusal(make, fields):
    try:
        return make(**fields)
    except ValueError as refused:
        return type(refused), str(refused)
