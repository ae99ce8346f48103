"""The verifier against every way of tampering: what shows by itself, and what only an outside checkpoint shows."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.audit import Actor, AuditType, Object, Source, Stream, record_bytes
from ordernotify.core.checkpoint import LogSigner, sign_checkpoint
from ordernotify.core.merkle import EMPTY_ROOT, Frontier, chain_next, chain_start, leaf_hash
from ordernotify.core.verify import Check, Entry, Failure, verify

VECTORS = json.loads((Path(__file__).parents[1] / "fixtures" / "ledger_vectors.json").read_text("utf-8"))
ORIGIN = "audit.example.com/order-notify/test"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SIGNER = LogSigner.from_seed(ORIGIN, bytes(range(32)))
THIEF = LogSigner.from_seed(ORIGIN, bytes(32))
VKEY = str(SIGNER.verifier)

SIZE = 100
SIGNED = (10, 50, 100)
ANCHORED = (50, 100)


def body_of(number, stream="ord_1", version=None, status="success"):
    return record_bytes(
        event_id=f"01936000-0000-7000-8000-{number:012x}",
        type=AuditType.DELIVERY_SENT,
        occurred_at=NOON,
        recorded_at=NOON,
        where_host="node-a",
        component="dispatch",
        actor=Actor("service", "svc:dispatch"),
        source=Source("provider", "smtp-gov"),
        object=Object("delivery", f"dlv_{number}"),
        outcome={"status": status},
        stream=Stream(stream, version or number + 1),
    )


@dataclass
class Log:
    """A ledger in memory, open to every change that someone with the database could make."""

    entries: list[Entry] = field(default_factory=list)
    checkpoints: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, bodies, signed=SIGNED, signer=SIGNER):
        log = cls()
        frontier, chain = Frontier(), chain_start(ORIGIN)
        for seq, body in enumerate(bodies):
            leaf = leaf_hash(body)
            chain = chain_next(chain, leaf)
            frontier.append(leaf)
            log.entries.append(Entry(seq, body, leaf, chain))
            if frontier.size in signed:
                log.checkpoints[frontier.size] = sign_checkpoint(ORIGIN, frontier.size, frontier.root(), signer)
        return log

    @property
    def bodies(self):
        return [entry.body for entry in self.entries]

    def rebuilt(self, bodies):
        """Number and chain other bodies, beside the checkpoints that this log has."""
        return Log(Log.of(bodies).entries, self.checkpoints)

    def without_checkpoints_after(self, size):
        return {at: text for at, text in self.checkpoints.items() if at <= size}

    def verify(self, **options):
        return verify(self.entries, self.checkpoints.values(), [VKEY], origin=ORIGIN, **options)


def honest():
    return Log.of([body_of(number) for number in range(SIZE)])


ANCHORS = [honest().checkpoints[size] for size in ANCHORED]
FORGED = body_of(30, version=31, status="failure")


def edit_body(log):
    log.entries[30] = log.entries[30]._replace(body=FORGED)
    return log


def edit_body_and_leaf(log):
    log.entries[30] = log.entries[30]._replace(body=FORGED, leaf=leaf_hash(FORGED))
    return log


def edit_and_chain_again(log):
    return log.rebuilt([*log.bodies[:30], FORGED, *log.bodies[31:]])


def insert_and_chain_again(log):
    return log.rebuilt([*log.bodies[:30], FORGED, *log.bodies[30:]][:SIZE])


def delete_and_chain_again(log):
    return log.rebuilt(log.bodies[:30] + log.bodies[31:])


def delete_alone(log):
    del log.entries[30]
    return log


def swap_and_chain_again(log):
    bodies = log.bodies
    bodies[30], bodies[31] = bodies[31], bodies[30]
    return log.rebuilt(bodies)


def swap_alone(log):
    log.entries[30], log.entries[31] = log.entries[31], log.entries[30]
    return log


def renumber_one(log):
    log.entries[30] = log.entries[30]._replace(seq=31)
    return log


def break_chain_at_one(log):
    log.entries[30] = log.entries[30]._replace(chain=bytes(32))
    return log


def truncate_between_checkpoints(log):
    return Log(log.entries[:75], log.without_checkpoints_after(50))


def truncate_under_a_kept_checkpoint(log):
    return Log(log.entries[:75], log.checkpoints)


def truncate_at_a_checkpoint(log):
    return Log(log.entries[:50], log.without_checkpoints_after(50))


def erase_everything(_log):
    return Log()


def drop_checkpoints(log):
    return Log(log.entries)


def append_unsigned(log):
    return Log(log.rebuilt([*log.bodies, body_of(SIZE)]).entries, log.checkpoints)


def rewrite_with_the_stolen_key(log):
    return Log.of([*log.bodies[:30], FORGED, *log.bodies[31:]])


def rewrite_with_another_key(log):
    return Log.of([*log.bodies[:30], FORGED, *log.bodies[31:]], signer=THIEF)


def swap_checkpoints(log):
    texts = log.checkpoints
    return Log(log.entries, {10: texts[50], 50: texts[10], 100: texts[100]})


def edit_a_checkpoint(log):
    texts = dict(log.checkpoints)
    texts[50] = texts[50].replace("\n50\n", "\n51\n")
    return Log(log.entries, texts)


# attack; checks that fail without an anchor; whether an anchor fails; first record not vouched for, without
# and with an anchor. Stream versions are left out here: records of a whole ledger are told by its hashes.
MATRIX = [
    (edit_body, [Check.LEAF, Check.ROOT], True, 30),
    (edit_body_and_leaf, [Check.CHAIN, Check.ROOT], True, 30),
    (edit_and_chain_again, [Check.ROOT], True, 10),
    (insert_and_chain_again, [Check.ROOT], True, 10),
    (delete_and_chain_again, [Check.ROOT], True, 10),
    (delete_alone, [Check.SEQUENCE, Check.CHAIN, Check.ROOT], True, 30),
    (swap_and_chain_again, [Check.ROOT], True, 10),
    (swap_alone, [Check.SEQUENCE, Check.CHAIN, Check.ROOT], True, 30),
    (renumber_one, [Check.SEQUENCE], False, 30),
    (break_chain_at_one, [Check.CHAIN], False, 30),
    (truncate_between_checkpoints, [Check.TAIL], True, 50),
    (truncate_under_a_kept_checkpoint, [Check.ROOT], True, 75),
    (truncate_at_a_checkpoint, [], True, None),
    (erase_everything, [], True, None),
    (drop_checkpoints, [Check.TAIL], False, 0),
    (append_unsigned, [Check.TAIL], False, 100),
    (rewrite_with_the_stolen_key, [], True, None),
    (rewrite_with_another_key, [Check.NOTE, Check.TAIL], True, 0),
    (swap_checkpoints, [Check.NOTE], False, 50),
    (edit_a_checkpoint, [Check.NOTE], False, 10),
]
ATTACKS = [pytest.param(*row, id=row[0].__name__) for row in MATRIX]


def failed(report):
    return [failure.check for failure in report.failures]


@pytest.mark.parametrize(("attack", "checks", "anchor_fails", "seq"), ATTACKS)
def test_tampering_is_found_without_an_anchor_where_the_ledger_itself_can_tell(attack, checks, anchor_fails, seq):
    report = attack(honest()).verify(check_streams=False)
    assert failed(report) == checks
    assert report.ok == (not checks)
    assert report.failure == (report.failures[0] if checks else None)
    assert (report.failure.seq if report.failure else None) == seq


@pytest.mark.parametrize(("attack", "checks", "anchor_fails", "seq"), ATTACKS)
def test_all_tampering_is_found_with_an_anchor(attack, checks, anchor_fails, seq):
    report = attack(honest()).verify(anchors=ANCHORS, check_streams=False)
    assert failed(report) == checks + [Check.ANCHOR] * anchor_fails
    assert not report.ok


def test_an_untouched_ledger_passes_every_check():
    for log, anchors in ((honest(), ANCHORS), (honest(), ()), (Log(), ())):
        report = log.verify(anchors=anchors)
        assert report.ok
        assert report.failures == ()
    report = honest().verify(anchors=ANCHORS)
    assert (report.records, report.checkpoints, report.anchors, report.streams) == (100, 3, 2, 1)


def test_the_published_log_verifies():
    entries = [
        Entry(seq, vector["jcs"].encode(), bytes.fromhex(vector["leaf"]), bytes.fromhex(chain))
        for seq, (vector, chain) in enumerate(zip(VECTORS["records"], VECTORS["chain"][1:], strict=True))
    ]
    report = verify(
        iter(entries),
        iter([VECTORS["checkpoint3"], VECTORS["checkpoint"]]),
        [VECTORS["vkey"], VECTORS["witness_vkey"]],
        origin=VECTORS["origin"],
        anchors=[VECTORS["checkpoint"]],
    )
    assert report.ok
    assert report.root.hex() == VECTORS["roots"]["5"]
    assert report.streams == 2


@given(
    st.integers(0, SIZE - 1),
    st.sampled_from(["body", "leaf", "chain"]),
    st.data(),
)
def test_any_single_flipped_bit_in_any_record_is_found_at_that_record(seq, part, data):
    log = honest()
    value = bytearray(getattr(log.entries[seq], part))
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    log.entries[seq] = log.entries[seq]._replace(**{part: bytes(value)})
    report = log.verify()
    assert report.failure is not None
    assert report.failure.seq == seq


@given(st.integers(0, SIZE - 1), st.integers(1, SIZE))
def test_any_cut_out_run_of_records_is_found(start, length):
    log = honest()
    report = log.rebuilt(log.bodies[:start] + log.bodies[start + length :]).verify(anchors=ANCHORS)
    assert {Check.ROOT, Check.ANCHOR} <= set(failed(report))


@given(st.integers(0, SIZE))
def test_a_log_cut_anywhere_is_shorter_than_witnessed(size):
    log = honest()
    cut = Log(log.entries[:size], log.without_checkpoints_after(size))
    report = cut.verify(anchors=ANCHORS)
    assert report.ok == (size == SIZE)
    if size < SIZE:
        assert report.failures[-1].detail == f"log shorter than witnessed: {size} records, not 100"


@given(st.integers(0, SIZE))
def test_the_anchors_may_come_in_any_order_and_from_any_size(size):
    log = honest()
    more = Log.of(log.bodies, signed=range(1, SIZE + 1)).checkpoints
    anchors = [ANCHORS[1], more.get(size, ANCHORS[0]), ANCHORS[0]]
    assert log.verify(anchors=anchors).ok


def test_an_anchor_of_an_empty_log_holds_for_every_log():
    anchor = sign_checkpoint(ORIGIN, 0, EMPTY_ROOT, SIGNER)
    assert honest().verify(anchors=[anchor]).ok
    assert Log().verify(anchors=[anchor]).ok
    assert Log([], {0: anchor}).verify(anchors=[anchor]).ok


def test_an_anchor_that_cannot_be_trusted_is_a_failure_and_not_ignored():
    foreign = sign_checkpoint("other.example.com", 50, bytes(32), LogSigner.from_seed(ORIGIN, bytes(range(32))))
    report = honest().verify(anchors=[ANCHORS[0], foreign])
    assert report.failures == (Failure(Check.ANCHOR, 50, f"anchor 2: wrong_origin: must be a checkpoint of {ORIGIN}"),)


def test_a_split_view_of_one_size_is_found():
    log = honest()
    other = rewrite_with_the_stolen_key(honest()).checkpoints[50]
    texts = [log.checkpoints[10], log.checkpoints[50], other, log.checkpoints[100]]
    report = verify(log.entries, texts, [VKEY], origin=ORIGIN)
    assert failed(report) == [Check.ROOT]
    assert report.failure.seq == 50


def test_a_checkpoint_signed_twice_alike_is_no_failure():
    log = honest()
    texts = [log.checkpoints[size] for size in (10, 50, 50, 100)]
    assert verify(log.entries, texts, [VKEY], origin=ORIGIN).ok


def test_a_checkpoint_of_witnesses_alone_does_not_speak_for_the_log():
    entries = [
        Entry(seq, vector["jcs"].encode(), bytes.fromhex(vector["leaf"]), bytes.fromhex(chain))
        for seq, (vector, chain) in enumerate(zip(VECTORS["records"], VECTORS["chain"][1:], strict=True))
    ]
    report = verify(entries, [VECTORS["checkpoint"]], [VECTORS["witness_vkey"]], origin=VECTORS["origin"])
    assert failed(report) == [Check.NOTE, Check.TAIL]
    assert "only witnesses" in report.failure.detail


def test_every_failing_checkpoint_is_counted_and_the_first_is_named():
    report = rewrite_with_another_key(honest()).verify()
    assert report.checkpoints == 3
    assert report.failure.detail.startswith("checkpoint 1: unknown_keys")


def test_a_malformed_key_is_an_error_before_anything_is_verified():
    with pytest.raises(ValueError, match="vkey"):
        verify([], [honest().checkpoints[10]], ["nonsense"], origin=ORIGIN)


def streams(*named):
    bodies = [body_of(number, stream, version) for number, (stream, version) in enumerate(named)]
    return Log.of(bodies, signed=(len(bodies),)).verify()


def test_streams_may_interleave_and_their_neighbors_may_be_sealed_in_either_order():
    report = streams(("a", 1), ("b", 2), ("a", 3), ("b", 1), ("a", 4), ("a", 2), ("c", 1))
    assert report.ok
    assert report.streams == 3


@pytest.mark.parametrize(
    ("named", "seq", "detail"),
    [
        ([("a", 1), ("a", 3)], 1, "stream a lacks version 2"),
        ([("a", 1), ("b", 2), ("a", 3)], 1, "stream b lacks version 1"),
        ([("a", 1), ("a", 4), ("a", 2)], 1, "stream a lacks version 3"),
        ([("a", 1), ("a", 2), ("a", 1)], 2, "stream a already holds version 1"),
        ([("a", 3), ("a", 3)], 1, "stream a already holds version 3"),
    ],
)
def test_a_version_that_is_missing_or_repeated_in_a_stream_is_found(named, seq, detail):
    assert streams(*named).failures == (Failure(Check.STREAM, seq, detail),)


@given(st.permutations(range(1, 9)), st.integers(0, 7))
def test_a_stream_is_whole_in_any_order_and_broken_without_any_one_but_its_last(versions, missing):
    assert streams(*(("a", version) for version in versions)).ok
    rest = [version for version in versions if version != missing]
    assert streams(*(("a", version) for version in rest)).ok == (missing == 0)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"{}", b'{"stream":1}', b'{"stream":{"id":"a"}}'])
def test_a_record_that_names_no_stream_is_found(body):
    report = Log.of([body], signed=(1,)).verify()
    assert report.failures == (Failure(Check.STREAM, 0, "record names no stream and version"),)


@pytest.mark.parametrize("stream", ['{"id":1,"version":1}', '{"id":"a","version":true}', '{"id":["a"],"version":1}'])
def test_a_stream_of_the_wrong_types_is_found(stream):
    report = Log.of([b'{"stream":%s}' % stream.encode()], signed=(1,)).verify()
    assert failed(report) == [Check.STREAM]


def test_streams_that_were_not_checked_are_reported_as_such():
    report = Log.of([b"not even a record"], signed=(1,)).verify(check_streams=False)
    assert report.ok
    assert report.streams is None


def test_the_report_is_readable_by_machines():
    report = edit_body(honest()).verify(anchors=ANCHORS)
    read = json.loads(json.dumps(report.as_dict()))
    assert read == {
        "ok": False,
        "origin": ORIGIN,
        "records": 100,
        "checkpoints": 3,
        "anchors": 2,
        "root": report.root.hex(),
        "streams": 1,
        "failure": {"check": "leaf", "seq": 30, "detail": "stored leaf hash is not that of the stored bytes"},
        "failures": [
            {"check": "leaf", "seq": 30, "detail": "stored leaf hash is not that of the stored bytes"},
            {"check": "root", "seq": 10, "detail": "records do not hash to the root of checkpoint 2"},
            {"check": "anchor", "seq": 0, "detail": "log of 50 records is not the witnessed one"},
        ],
    }
    assert honest().verify().as_dict()["failure"] is None


def test_entries_and_checkpoints_are_read_once_and_as_they_come():
    log = honest()
    opened = []

    def entries():
        for entry in log.entries:
            assert len(opened) <= 1 + sum(size <= entry.seq for size in SIGNED)
            yield entry

    def checkpoints():
        for size, text in log.checkpoints.items():
            opened.append(size)
            yield text

    assert verify(entries(), checkpoints(), [VKEY], origin=ORIGIN).ok
    assert opened == list(SIGNED)
