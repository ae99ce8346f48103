"""Signed tree heads as C2SP checkpoints: made with the log's key, opened strictly with known keys."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ordernotify.core.merkle import EMPTY_ROOT, HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_TEXT_CHARS: Final = 256 * 1024
MAX_SIGNATURES: Final = 64
MAX_SIZE: Final = 2**63 - 1

_KEY_ID_BYTES: Final = 4
_PUBLIC_KEY_BYTES: Final = 32
_TIME_BYTES: Final = 8
_MAX_TIME: Final = 2**63 - 1
_DASH: Final = "\u2014 "  # an em dash and a space open every signature line

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_VKEY = re.compile(r"(?P<name>[^+\s]+)\+(?P<key_id>[0-9a-f]{8})\+(?P<key>[A-Za-z0-9+/=]+)")
_LINE = re.compile(r"[^\x00-\x1f\ud800-\udfff]+")
_NAME_RULE: Final = "name: must be non-empty, without spaces, control characters or '+'"


class Refusal(StrEnum):
    """Why a text is not a checkpoint that we trust."""

    TOO_LONG = "too_long"
    NOT_UNICODE = "not_unicode"
    CARRIAGE_RETURN = "carriage_return"
    CONTROL_CHARACTER = "control_character"
    NO_BLANK_LINE = "no_blank_line"
    NO_FINAL_NEWLINE = "no_final_newline"
    NO_SIGNATURE = "no_signature"
    TOO_FEW_LINES = "too_few_lines"
    EXTENSION_LINES = "extension_lines"
    BAD_ORIGIN = "bad_origin"
    WRONG_ORIGIN = "wrong_origin"
    BAD_SIZE = "bad_size"
    BAD_ROOT = "bad_root"
    BAD_SIGNATURE_LINE = "bad_signature_line"
    BAD_BASE64 = "bad_base64"
    DUPLICATE_SIGNATURE = "duplicate_signature"
    TOO_MANY_SIGNATURES = "too_many_signatures"
    UNKNOWN_KEYS = "unknown_keys"
    BAD_SIGNATURE = "bad_signature"


_NOTE_RULES: Final = (
    (re.compile(r"\r"), Refusal.CARRIAGE_RETURN, "lines must end in a newline alone"),
    (re.compile(r"[\x00-\x09\x0b-\x1f]"), Refusal.CONTROL_CHARACTER, "none but the newline may occur"),
    (re.compile(r"[\ud800-\udfff]"), Refusal.NOT_UNICODE, "a lone surrogate occurs"),
    (re.compile(r"[^\n]\Z"), Refusal.NO_FINAL_NEWLINE, "the last line must end in a newline"),
)


class CheckpointRefusedError(ValueError):
    """The text is not a checkpoint that we trust, for the one ``reason``.

    An exception, although refusals are expected: a caller who forgets to look must not go on with a forgery.
    """

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SignatureType(IntEnum):
    """The signature types that we verify, by their C2SP byte."""

    ED25519 = 0x01  # the log's own signature over the note
    COSIGNATURE = 0x04  # a witness's timestamped signature over the note


_SIGNATURE_BYTES: Final = {SignatureType.ED25519: 64, SignatureType.COSIGNATURE: _TIME_BYTES + 64}


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key and the name under which it signs; ``str()`` gives its vkey."""

    name: str
    type: SignatureType
    public: bytes

    def __post_init__(self) -> None:
        if not _is_key_name(self.name):
            raise ValueError(_NAME_RULE)
        if len(self.public) != _PUBLIC_KEY_BYTES:
            raise ValueError(f"public: {len(self.public)} bytes; an Ed25519 key has {_PUBLIC_KEY_BYTES}")

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name, newline, type, public key)."""
        return sha256(self.name.encode() + b"\n" + self._typed()).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(self._typed()).decode()}"

    def _typed(self) -> bytes:
        return bytes((self.type,)) + self.public


@dataclass(frozen=True, slots=True)
class LogSigner:
    """The log's name and Ed25519 private key; its repr shows the name only."""

    name: str
    private: Ed25519PrivateKey = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _is_key_name(self.name):
            raise ValueError(_NAME_RULE)

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> LogSigner:
        """Return the signer whose private key is ``seed``: 32 secret bytes, ValueError otherwise."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def verifier(self) -> VerifierKey:
        """The public half; ``str(signer.verifier)`` is the vkey to publish."""
        return VerifierKey(self.name, SignatureType.ED25519, self.private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over ``message``."""
        return self.private.sign(message)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness saw the log grow consistently to this checkpoint, at ``time`` (POSIX seconds)."""

    name: str
    time: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified tree head: the log, its size in records, its root, and whose known keys vouch for it."""

    origin: str
    size: int
    root: bytes
    signers: tuple[str, ...]
    cosignatures: tuple[Cosignature, ...] = ()


@dataclass(frozen=True, slots=True)
class _SignatureLine:
    name: str
    key_id: bytes
    blob: bytes


@lru_cache(maxsize=256)
def parse_vkey(text: str) -> VerifierKey:
    """Return the key written as ``name+keyid+base64(type, key)``; ValueError says what is wrong with it."""
    found = _VKEY.fullmatch(text)
    typed = decode_base64(found["key"]) if found else None
    if not (found and typed and typed[0] in _SIGNATURE_BYTES):
        raise ValueError("vkey: must be name+keyid+key, the key in base64 and of type 0x01 or 0x04")
    key = VerifierKey(found["name"], SignatureType(typed[0]), typed[1:])
    if key.key_id.hex() != found["key_id"]:
        raise ValueError(f"vkey of {key.name}: key id must be {key.key_id.hex()}")
    return key


def sign_checkpoint(origin: str, size: int, root: bytes, signer: LogSigner) -> str:
    """Return the signed checkpoint of a log of ``size`` records under ``root``; ValueError if none can be.

    Signing makes a promise that cannot be taken back: the caller sees to it that the log only ever grows.
    """
    if _LINE.fullmatch(origin) is None:
        raise ValueError("origin: must be one non-empty line without control characters")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"size: {size} is not between 0 and 2^63-1")
    if len(root) != HASH_BYTES or (size == 0 and root != EMPTY_ROOT):
        raise ValueError("root: must be 32 bytes, and for an empty log the hash of nothing")
    note = f"{origin}\n{size}\n{b64encode(root).decode()}\n"
    blob = signer.verifier.key_id + signer.sign(note.encode())
    return f"{note}\n{_DASH}{signer.name} {b64encode(blob).decode()}\n"


def open_checkpoint(text: str, vkeys: Iterable[str], *, origin: str | None = None) -> Checkpoint:
    """Return the checkpoint in ``text``, vouched for by at least one of the keys in ``vkeys``.

    Signatures of other keys are ignored; one of a known key that does not verify refuses the whole text.
    With ``origin``, a checkpoint of any other log is refused. Raises CheckpointRefusedError with the reason,
    ValueError for a malformed vkey.
    """
    known = {(key.name, key.key_id): key for key in map(parse_vkey, vkeys)}
    _require_note(text)
    # The last empty line parts note and signatures; an earlier one would lie inside the note.
    end = text.rfind("\n\n")
    if end < 0:
        raise CheckpointRefusedError(Refusal.NO_BLANK_LINE, "no empty line between note and signatures")
    note = text[: end + 1]
    signed_origin, size, root = _read_note(note)
    if origin is not None and signed_origin != origin:
        raise CheckpointRefusedError(Refusal.WRONG_ORIGIN, f"must be a checkpoint of {origin}")
    lines = _read_signatures(text[end + 2 :])
    ours = [(known[line.name, line.key_id], line.blob) for line in lines if (line.name, line.key_id) in known]
    if not ours:
        raise CheckpointRefusedError(Refusal.UNKNOWN_KEYS, f"none of {len(lines)} signatures is by a known key")
    message = note.encode()
    times = [(key, _verify(key, blob, message)) for key, blob in ours]
    return Checkpoint(
        signed_origin,
        size,
        root,
        tuple(key.name for key, _ in times if key.type is SignatureType.ED25519),
        tuple(Cosignature(key.name, time) for key, time in times if key.type is SignatureType.COSIGNATURE),
    )


def decode_base64(text: str) -> bytes | None:
    """Return the bytes of padded standard base64 in its one canonical spelling, None for anything else."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return None
    return data if data and b64encode(data).decode() == text else None


def _is_key_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() or char < " " for char in name)


def _require_note(text: str) -> None:
    """Refuse what is not the text of any signed note."""
    if len(text) > MAX_TEXT_CHARS:
        raise CheckpointRefusedError(Refusal.TOO_LONG, f"at most {MAX_TEXT_CHARS} characters are read")
    for pattern, reason, rule in _NOTE_RULES:
        if pattern.search(text):
            raise CheckpointRefusedError(reason, rule)


def _read_note(note: str) -> tuple[str, int, bytes]:
    """Return origin, size and root: the three lines that are the whole of ``note``."""
    origin, *rest = note[:-1].split("\n")
    if not origin:
        raise CheckpointRefusedError(Refusal.BAD_ORIGIN, "the first line must name the log")
    if len(rest) != 2:  # noqa: PLR2004 - size and root
        reason = Refusal.EXTENSION_LINES if rest[2:] else Refusal.TOO_FEW_LINES
        raise CheckpointRefusedError(reason, "exactly origin, size and root are needed")
    size, root = rest
    if _SIZE.fullmatch(size) is None or int(size) > MAX_SIZE:
        raise CheckpointRefusedError(Refusal.BAD_SIZE, "must be a decimal below 2^63 without leading zeros")
    digest = decode_base64(root)
    if digest is None:
        raise CheckpointRefusedError(Refusal.BAD_BASE64, "root: not canonical base64")
    if len(digest) != HASH_BYTES or (size == "0" and digest != EMPTY_ROOT):
        raise CheckpointRefusedError(Refusal.BAD_ROOT, "must be 32 bytes, and for no records SHA-256 of nothing")
    return origin, int(size), digest


def _read_signatures(text: str) -> list[_SignatureLine]:
    """Return the signature lines, known or not, each name and key id once."""
    if not text:
        raise CheckpointRefusedError(Refusal.NO_SIGNATURE, "no signature line follows the empty line")
    texts = text[:-1].split("\n")
    if len(texts) > MAX_SIGNATURES:
        raise CheckpointRefusedError(Refusal.TOO_MANY_SIGNATURES, f"at most {MAX_SIGNATURES} are read")
    lines = [_read_signature(line) for line in texts]
    if len({(line.name, line.key_id) for line in lines}) < len(lines):
        raise CheckpointRefusedError(Refusal.DUPLICATE_SIGNATURE, "one key has signed twice")
    return lines


def _read_signature(line: str) -> _SignatureLine:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not (line.startswith(_DASH) and space and _is_key_name(name)):
        raise CheckpointRefusedError(Refusal.BAD_SIGNATURE_LINE, "must be an em dash, a name and a signature")
    blob = decode_base64(encoded)
    if blob is None:
        raise CheckpointRefusedError(Refusal.BAD_BASE64, f"signature of {name}: not canonical base64")
    if len(blob) <= _KEY_ID_BYTES:
        raise CheckpointRefusedError(Refusal.BAD_SIGNATURE_LINE, f"signature of {name}: ends after the key id")
    return _SignatureLine(name, blob[:_KEY_ID_BYTES], blob[_KEY_ID_BYTES:])


def _verify(key: VerifierKey, blob: bytes, message: bytes) -> int:
    """Return the time a known key signed at (0 for the log's own, which has none), or refuse the note."""
    if len(blob) != _SIGNATURE_BYTES[key.type]:
        raise CheckpointRefusedError(Refusal.BAD_SIGNATURE, f"{key.name}: wrong length")
    time = 0
    if key.type is SignatureType.COSIGNATURE:
        time = int.from_bytes(blob[:_TIME_BYTES])
        if time > _MAX_TIME:
            raise CheckpointRefusedError(Refusal.BAD_SIGNATURE, f"{key.name}: time beyond 2^63-1")
        blob, message = blob[_TIME_BYTES:], b"cosignature/v1\ntime %d\n" % time + message
    try:
        _public_key(key.public).verify(blob, message)
    except InvalidSignature as error:
        raise CheckpointRefusedError(Refusal.BAD_SIGNATURE, f"{key.name}: does not verify") from error
    return time


@lru_cache(maxsize=256)
def _public_key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)
