"""Proofs that one record is in the log, as c2sp.org/tlog-proof@v1 text that anyone can verify offline."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from ordernotify.core.checkpoint import Checkpoint, CheckpointRefusedError, decode_base64, open_checkpoint
from ordernotify.core.merkle import HASH_BYTES, verify_inclusion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_TEXT_CHARS: Final = 512 * 1024
MAX_PATH: Final = 63  # a log holds fewer than 2^63 records

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


class ProofRefusal(StrEnum):
    """Why a text does not prove that the record is in the log."""

    TOO_LONG = "too_long"
    WRONG_HEADER = "wrong_header"
    NO_BLANK_LINE = "no_blank_line"
    BAD_EXTRA = "bad_extra"
    BAD_INDEX = "bad_index"
    BAD_HASH = "bad_hash"
    BAD_CHECKPOINT = "bad_checkpoint"
    INDEX_BEYOND_SIZE = "index_beyond_size"
    NOT_INCLUDED = "not_included"


class ProofRefusedError(ValueError):
    """The text proves nothing, for the one ``reason``; a caller who forgets to look must not go on."""

    def __init__(self, reason: ProofRefusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Proof:
    """A verified proof: the record is number ``index`` (from 0) of the log at ``checkpoint``.

    ``extra`` travelled with it and is vouched for by nobody.
    """

    index: int
    checkpoint: Checkpoint
    extra: bytes = b""


@dataclass(frozen=True, slots=True)
class _Text:
    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes


def make_proof(*, index: int, path: Sequence[bytes], checkpoint: str, extra: bytes = b"") -> str:
    """Return the proof text for record ``index``: ``path`` is its inclusion proof at ``checkpoint``'s size.

    ``checkpoint`` is the signed text with any cosignatures, kept verbatim. Raises ValueError if ``index`` is
    negative or a hash is not 32 bytes.
    """
    if index < 0:
        raise ValueError(f"index: {index} is negative")
    if len(path) > MAX_PATH or any(len(item) != HASH_BYTES for item in path):
        raise ValueError(f"path: must be at most {MAX_PATH} hashes of {HASH_BYTES} bytes")
    lines = [HEADER]
    if extra:
        lines.append(f"extra {b64encode(extra).decode()}")
    lines.append(f"index {index}")
    lines.extend(b64encode(item).decode() for item in path)
    return "\n".join(lines) + "\n\n" + checkpoint


def open_proof(text: str, *, leaf: bytes, vkeys: Iterable[str], origin: str | None = None) -> Proof:
    """Return the proof in ``text`` if it shows the record with leaf hash ``leaf`` to be in the log.

    The checkpoint inside must be vouched for by a key in ``vkeys`` and, if given, be of the log ``origin``.
    Raises ProofRefusedError with the reason, ValueError for a malformed vkey.
    """
    read = _read(text)
    try:
        checkpoint = open_checkpoint(read.checkpoint, vkeys, origin=origin)
    except CheckpointRefusedError as error:
        raise ProofRefusedError(ProofRefusal.BAD_CHECKPOINT, str(error)) from error
    if read.index >= checkpoint.size:
        raise ProofRefusedError(ProofRefusal.INDEX_BEYOND_SIZE, f"record {read.index} of a log of {checkpoint.size}")
    if not verify_inclusion(leaf=leaf, index=read.index, size=checkpoint.size, proof=read.path, root=checkpoint.root):
        raise ProofRefusedError(ProofRefusal.NOT_INCLUDED, "the hashes do not lead from the record to the root")
    return Proof(read.index, checkpoint, read.extra)


def _read(text: str) -> _Text:
    """Take the text apart; nothing in it is trusted yet."""
    if len(text) > MAX_TEXT_CHARS:
        raise ProofRefusedError(ProofRefusal.TOO_LONG, f"at most {MAX_TEXT_CHARS} characters are read")
    head, blank, checkpoint = text.partition("\n\n")
    header, *lines = head.split("\n")
    if header != HEADER:
        raise ProofRefusedError(ProofRefusal.WRONG_HEADER, f"the first line must be {HEADER}")
    if not blank:
        raise ProofRefusedError(ProofRefusal.NO_BLANK_LINE, "an empty line must precede the checkpoint")
    extra: bytes | None = b""
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "))
    if extra is None:
        raise ProofRefusedError(ProofRefusal.BAD_EXTRA, "must be canonical base64")
    index = _INDEX.fullmatch(lines[0]) if lines else None
    if index is None:
        raise ProofRefusedError(ProofRefusal.BAD_INDEX, "must be 'index' and a decimal without leading zeros")
    return _Text(int(index[1]), _read_path(lines[1:]), checkpoint, extra)


def _read_path(lines: Sequence[str]) -> tuple[bytes, ...]:
    path = tuple(item for item in map(decode_base64, lines) if item and len(item) == HASH_BYTES)
    if len(path) < len(lines) or len(path) > MAX_PATH:
        raise ProofRefusedError(
            ProofRefusal.BAD_HASH,
            f"must be at most {MAX_PATH} lines of {HASH_BYTES} bytes in canonical base64",
        )
    return path
