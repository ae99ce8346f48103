"""Segments: how many parts an SMS is sent and billed as, and look-alike characters that make it fewer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Encoding(StrEnum):
    """How the characters of an SMS travel."""

    GSM7 = "GSM-7"  # 3GPP TS 23.038 default alphabet, units of 7 bits
    UCS2 = "UCS-2"  # everything else, units of 16 bits


@dataclass(frozen=True, slots=True)
class Segments:
    """The size of an SMS: ``units`` are septets in GSM-7 and UTF-16 code units in UCS-2."""

    encoding: Encoding
    segments: int
    units: int


_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")  # an escape before them: two septets
_GSM7 = _BASIC | _EXTENSION

_ALONE = {Encoding.GSM7: 160, Encoding.UCS2: 70}
_IN_PARTS = {Encoding.GSM7: 153, Encoding.UCS2: 67}  # the header that joins the parts takes the rest

_BEYOND_16_BITS = 0xFFFF


def count(text: str) -> Segments:
    """Return how ``text`` is sent as SMS. No text is no segment."""
    encoding = Encoding.GSM7 if _GSM7.issuperset(text) else Encoding.UCS2
    wide = _wide(text, encoding)
    units = len(text) + sum(wide)
    if units <= _ALONE[encoding]:
        return Segments(encoding, 1 if text else 0, units)
    room = _IN_PARTS[encoding]
    if units == len(text):
        return Segments(encoding, -(-units // room), units)
    # A character of two units is never cut: it moves to the next part and leaves one unit empty.
    segments, used = 1, 0
    for is_wide in wide:
        size = 2 if is_wide else 1
        if used + size > room:
            segments, used = segments + 1, 0
        used += size
    return Segments(encoding, segments, units)


def _wide(text: str, encoding: Encoding) -> list[bool]:
    if encoding is Encoding.GSM7:
        return [char in _EXTENSION for char in text]
    return [ord(char) > _BEYOND_16_BITS for char in text]


_LOOK_ALIKE: dict[str, str] = {
    "'": "`\u00b4\u02b9\u02bb\u02bc\u02c8\u2018\u2019\u201a\u201b\u2032\u2035\u2039\u203a\uff07\uff40",
    '"': "«»\u02ba\u201c\u201d\u201e\u201f\u2033\u2036\u275d\u275e\uff02",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d",
    " ": "\t\v\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
    "": "\u00ad\u200b\u2060\ufeff",
    "\n": "\u0085\u2028\u2029",
    "...": "\u2026",
    "*": "\u2022\u2217\u22c6",
    ".": "\u2024\u00b7",
    "/": "\u2044\u2215",
    ":": "\u2236\ua789",
    "~": "\u02dc\u223c",
    "|": "\u2223\u00a6",
    "x": "\u00d7",
    "<=": "≤",
    ">=": "≥",
    "->": "→",
}
_FULL_WIDTH = {0xFF00 + n: chr(0x20 + n) for n in range(0x01, 0x5F)}  # the ASCII of East Asian keyboards
_REPLACE = _FULL_WIDTH | {ord(char): plain for plain, chars in _LOOK_ALIKE.items() for char in chars}


def smart_encode(text: str) -> str:
    """Return ``text`` with look-alike characters, such as curly quotes, replaced by those of GSM-7.

    Unchanged where that saves nothing: when other characters need UCS-2 anyway, good typography stays.
    """
    if _GSM7.issuperset(text):
        return text
    plain = text.translate(_REPLACE)
    if not _GSM7.issuperset(plain) or count(plain).segments > count(text).segments:
        return text
    return plain
