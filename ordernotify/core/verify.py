"""The verifier: reads a whole ledger once, and says whether and from where it can no longer be trusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from ordernotify.core.checkpoint import Checkpoint, CheckpointRefusedError, open_checkpoint
from ordernotify.core.merkle import EMPTY_ROOT, Frontier, chain_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    _Opener: TypeAlias = Callable[[str], Checkpoint]

_NEVER: Final = 2**63  # larger than any log


class Entry(NamedTuple):
    """One stored record: its number from 0, its exact bytes, and the leaf and chain hash stored beside it."""

    seq: int
    body: bytes
    leaf: bytes
    chain: bytes


class Check(StrEnum):
    """What is verified, in the order in which failures are reported."""

    NOTE = "note"  # every checkpoint is well formed, of this log, signed by its key, and not smaller
    LEAF = "leaf"  # the stored leaf hash is that of the stored bytes
    SEQUENCE = "sequence"  # records are numbered 0, 1, 2, ...
    CHAIN = "chain"  # each stored chain hash follows from the one before and the leaf
    ROOT = "root"  # the records under each checkpoint hash to its root
    TAIL = "tail"  # no record lies beyond the last checkpoint
    ANCHOR = "anchor"  # the log still contains every checkpoint that was kept elsewhere
    STREAM = "stream"  # each stream holds its versions 1..n, each once


@dataclass(frozen=True, slots=True)
class Failure:
    """A check that failed: ``seq`` is the first record that it no longer vouches for."""

    check: Check
    seq: int
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one pass over a ledger found; ``failures`` holds the first of each check, in order of checks."""

    origin: str
    records: int
    checkpoints: int
    anchors: int
    root: bytes
    streams: int | None  # None: stream versions were not checked
    failures: tuple[Failure, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check that was made passed."""
        return not self.failures

    @property
    def failure(self) -> Failure | None:
        """The failure of the first check that failed."""
        return self.failures[0] if self.failures else None

    def as_dict(self) -> dict[str, Any]:
        """Return the report in JSON types; hashes are hex."""
        report = asdict(self) | {"ok": self.ok, "root": self.root.hex()}
        return report | {"failure": report["failures"][0] if self.failures else None}


def verify(
    entries: Iterable[Entry],
    checkpoints: Iterable[str],
    vkeys: Iterable[str],
    *,
    origin: str,
    anchors: Sequence[str] = (),
    check_streams: bool = True,
) -> Report:
    """Verify a whole ledger: ``entries`` by number, ``checkpoints`` as signed texts by size, each read once.

    ``vkeys`` are the trusted keys of the log and its witnesses; a checkpoint must be signed by the log's.
    ``anchors`` are checkpoints kept out of reach of the log's operators: without any, a clean cut at an older
    checkpoint, or a rewrite with the log's own key, cannot be seen. Memory does not grow with the log, except
    by a small entry for each stream unless ``check_streams`` is False. Raises ValueError for a bad vkey.
    """
    opener = partial(open_checkpoint, vkeys=tuple(vkeys), origin=origin)
    findings = _Findings()
    heads = _Heads(checkpoints, opener, findings)
    witnessed = _Anchors(anchors, opener, findings)
    streams = _Streams(findings) if check_streams else None
    tree, chain_before, size = Frontier(), chain_start(origin), 0
    heads.meet(0, EMPTY_ROOT)
    witnessed.meet(0, EMPTY_ROOT)
    stop = min(heads.target, witnessed.target)
    for seq, body, leaf, chain in entries:
        # The tree is built from the bytes, the chain from what is stored: each kind of edit shows for itself.
        digest = sha256(b"\x00" + body).digest()
        if digest != leaf:
            findings.add(Check.LEAF, size, "stored leaf hash is not that of the stored bytes")
        if seq != size:
            findings.add(Check.SEQUENCE, size, f"record {size} is numbered {seq}")
        if sha256(b"\x02" + chain_before + leaf).digest() != chain:
            findings.add(Check.CHAIN, size, "stored chain hash does not follow from the one before")
        chain_before = chain
        tree.append(digest)
        if streams is not None:
            streams.take(size, body)
        size += 1
        if size == stop:
            root = tree.root()
            heads.meet(size, root)
            witnessed.meet(size, root)
            stop = min(heads.target, witnessed.target)
    heads.end(size)
    witnessed.end(size)
    if streams is not None:
        streams.end()
    return Report(
        origin=origin,
        records=size,
        checkpoints=heads.count,
        anchors=len(anchors),
        root=tree.root(),
        streams=None if streams is None else streams.count,
        failures=findings.in_order(),
    )


class _Findings:
    """The first failure of each check."""

    def __init__(self) -> None:
        self._first: dict[Check, Failure] = {}

    def add(self, check: Check, seq: int, detail: str) -> None:
        self._first.setdefault(check, Failure(check, seq, detail))

    def in_order(self) -> tuple[Failure, ...]:
        return tuple(self._first[check] for check in Check if check in self._first)


class _Heads:
    """The log's own checkpoints, opened one ahead of the records; ``target`` is the size of the next."""

    def __init__(self, texts: Iterable[str], opener: _Opener, findings: _Findings) -> None:
        self._texts = iter(texts)
        self._opener = opener
        self._findings = findings
        self._root = b""
        self._covered = 0  # the size of the last checkpoint whose root was right
        self._signed = 0  # the size of the last checkpoint that was signed, right or not
        self.count = 0
        self.target = 0
        self._advance()

    def meet(self, size: int, root: bytes) -> None:
        """Compare with every checkpoint of this ``size``."""
        while self.target == size:
            if self._root == root:
                self._covered = size
            else:
                self._findings.add(
                    Check.ROOT, self._covered, f"records do not hash to the root of checkpoint {self.count}"
                )
            self._advance()

    def end(self, size: int) -> None:
        """Open what is left when the log has ended at ``size``."""
        while self.target < _NEVER:
            self._findings.add(
                Check.ROOT, size, f"log ends at {size} records, checkpoint {self.count} says {self.target}"
            )
            self._advance()
        if size > self._signed:
            self._findings.add(Check.TAIL, self._signed, f"{size - self._signed} records are not signed for")

    def _advance(self) -> None:
        for text in self._texts:
            self.count += 1
            opened = self._open(text)
            if isinstance(opened, Checkpoint):
                self.target = self._signed = opened.size
                self._root = opened.root
                return
            self._findings.add(Check.NOTE, self._covered, f"checkpoint {self.count}: {opened}")
        self.target = _NEVER

    def _open(self, text: str) -> Checkpoint | str:
        try:
            opened = self._opener(text)
        except CheckpointRefusedError as refused:
            return str(refused)
        if not opened.signers:
            return "only witnesses have signed it, not the log"
        return opened if opened.size >= self._signed else "smaller than the one before"


class _Anchors:
    """Checkpoints kept elsewhere, by size; ``target`` is the size of the next."""

    def __init__(self, texts: Iterable[str], opener: _Opener, findings: _Findings) -> None:
        self._findings = findings
        self._covered = 0
        self._refused: list[str] = []
        opened: list[Checkpoint] = []
        for number, text in enumerate(texts, 1):
            try:
                opened.append(opener(text))
            except CheckpointRefusedError as refused:
                self._refused.append(f"anchor {number}: {refused}")
        # Largest first, so that the next is the last.
        self._waiting = sorted(opened, key=lambda anchor: anchor.size, reverse=True)
        self.target = 0
        self._aim()

    def meet(self, size: int, root: bytes) -> None:
        """Compare with every anchor of this ``size``."""
        while self.target == size:
            if self._waiting.pop().root == root:
                self._covered = size
            else:
                self._findings.add(Check.ANCHOR, self._covered, f"log of {size} records is not the witnessed one")
            self._aim()

    def end(self, size: int) -> None:
        """Report what the log, ended at ``size``, has not met, then what could not be read."""
        if self._waiting:
            self._findings.add(
                Check.ANCHOR, size, f"log shorter than witnessed: {size} records, not {self._waiting[0].size}"
            )
        for refused in self._refused:
            self._findings.add(Check.ANCHOR, self._covered, refused)

    def _aim(self) -> None:
        self.target = self._waiting[-1].size if self._waiting else _NEVER


class _Streams:
    """The versions seen of each stream. Neighbors may be sealed in either order; all must come, each once."""

    def __init__(self, findings: _Findings) -> None:
        self._findings = findings
        self._reached: dict[str, int] = {}  # stream -> n, versions 1..n have come
        self._early: dict[str, dict[int, int]] = {}  # stream -> version beyond n + 1 -> seq

    @property
    def count(self) -> int:
        return len(self._reached.keys() | self._early.keys())

    def take(self, seq: int, body: bytes) -> None:
        """Count the record's version."""
        try:
            stream = orjson.loads(body)["stream"]
            name, version = stream["id"], stream["version"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            name, version = None, None
        if type(name) is not str or type(version) is not int:
            self._findings.add(Check.STREAM, seq, "record names no stream and version")
            return
        reached = self._reached.get(name, 0)
        if version == reached + 1:
            self._reached[name] = version
            if name in self._early:
                self._catch_up(name)
        elif version <= reached or version in self._early.get(name, ()):
            self._findings.add(Check.STREAM, seq, f"stream {name} already holds version {version}")
        else:
            self._early.setdefault(name, {})[version] = seq

    def end(self) -> None:
        """Report the earliest record whose predecessor never came."""
        gaps = [(min(early.values()), name) for name, early in self._early.items()]
        if gaps:
            seq, name = min(gaps)
            self._findings.add(Check.STREAM, seq, f"stream {name} lacks version {self._reached.get(name, 0) + 1}")

    def _catch_up(self, name: str) -> None:
        early = self._early[name]
        while early.pop(self._reached[name] + 1, None) is not None:
            self._reached[name] += 1
        if not early:
            del self._early[name]
