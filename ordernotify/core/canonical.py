"""One byte string for one record: a restricted profile of RFC 8785 (JCS), and commitments over it."""

from __future__ import annotations

import hmac
import re
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from unicodedata import is_normalized

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 32

COMMITMENT_PREFIX: Final = "hmac-sha256:"
MIN_SALT_BYTES: Final = 32

_KEY = re.compile(r"[a-z0-9_]+")
_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

_SCALARS: Final = frozenset({str, bool, type(None)})
_ALLOWED: Final = "use str, bool, None, int, list or dict"
_ADVICE: Final[dict[type, str]] = {
    float: "write it as a decimal string",
    Decimal: "write it as a decimal string",
    bytes: "write it as hex or base64",
    date: "write it as an RFC 3339 string",
    datetime: "write it as an RFC 3339 string in UTC",
}


class CanonicalError(ValueError):
    """A value lies outside the profile; ``path`` says where, as in ``$.outcome.channels[2]``."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path = path
        self.rule = rule


def canonical_bytes(record: Mapping[str, object], *, levels: int = MAX_DEPTH) -> bytes:
    """Return the canonical UTF-8 JSON of ``record``.

    Keys are ``[a-z0-9_]+``; values are NFC strings without lone surrogates (or words of a StrEnum),
    booleans, None, integers within ±(2^53-1), and lists, tuples or dicts of these, at most ``levels`` deep.
    Raises CanonicalError naming the path of the first value that is anything else.
    """
    plain: dict[str, object] = record if type(record) is dict else dict(record)
    try:
        encoded = orjson.dumps(plain, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        _check(plain, "$", levels)
        raise CanonicalError("$", str(error)) from error
    # ASCII bytes mean ASCII strings, which are always NFC: then only keys, types and ranges are left to see.
    if not (encoded.isascii() and _is_plain(plain, levels)):
        _check(plain, "$", levels)
    return encoded


def commitment(salt: bytes, payload: Mapping[str, object]) -> str:
    """Return ``hmac-sha256:<hex>`` over the canonical payload, keyed by ``salt`` (at least 32 bytes).

    A plain hash of guessable values can be searched; this one can be checked only by who holds the salt,
    and destroying the salt ends that. Raises CanonicalError for the payload, ValueError for the salt.
    """
    if len(salt) < MIN_SALT_BYTES:
        raise ValueError(f"salt: {len(salt)} bytes; at least {MIN_SALT_BYTES} random bytes are needed")
    return COMMITMENT_PREFIX + hmac.digest(salt, canonical_bytes(payload), "sha256").hex()


@lru_cache(maxsize=4096)
def _is_key(key: object) -> bool:
    return type(key) is str and _KEY.fullmatch(key) is not None


def _is_plain(value: dict[str, Any], levels: int) -> bool:
    """Return True only where ``_check`` would surely pass, given that every string is ASCII."""
    return levels > 0 and all(map(_is_key, value)) and _are_plain(value.values(), levels - 1)


def _are_plain(items: Iterable[Any], levels: int) -> bool:
    for item in items:
        kind = type(item)
        if kind in _SCALARS or (kind is int and -MAX_INTEGER <= item <= MAX_INTEGER):
            continue
        if kind is dict:
            plain = _is_plain(item, levels)
        elif kind is list or kind is tuple:
            plain = levels > 0 and _are_plain(item, levels - 1)
        else:
            plain = isinstance(item, StrEnum)
        if not plain:
            return False
    return True


def _check(value: Any, path: str, levels: int) -> None:
    """Raise CanonicalError for the first thing at or below ``value`` that lies outside the profile."""
    kind = type(value)
    if kind is dict or kind is list or kind is tuple:
        if not levels:
            raise CanonicalError(path, f"nested deeper than {MAX_DEPTH} levels")
        parts = _fields(value, path) if kind is dict else _elements(value, path)
        for name, part in parts:
            _check(part, name, levels - 1)
    elif kind is str or isinstance(value, StrEnum):
        _check_text(value, path)
    elif kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise CanonicalError(path, "integer outside ±(2^53-1); write it as a string")
    elif kind not in _SCALARS:
        raise CanonicalError(path, f"{kind.__name__} is not in the profile; {_ADVICE.get(kind, _ALLOWED)}")


def _fields(value: dict[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    for position, (key, item) in enumerate(value.items()):
        if not _is_key(key):
            # By position: a key that breaks the rule came from outside and may itself be personal data.
            raise CanonicalError(path, f"key number {position} is not a string of [a-z0-9_]+")
        yield f"{path}.{key}", item


def _elements(value: Sequence[Any], path: str) -> Iterator[tuple[str, Any]]:
    for position, item in enumerate(value):
        yield f"{path}[{position}]", item


def _check_text(text: str, path: str) -> None:
    if text.isascii():
        return
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise CanonicalError(path, "string holds a lone surrogate")
    if not is_normalized("NFC", text):
        raise CanonicalError(path, "string is not in Unicode normal form C (NFC)")
