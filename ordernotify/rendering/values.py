"""Values: every field a template may show, and how its plain text becomes fit to be shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date

from ordernotify.rendering.words import Words

# Characters that Python calls printable although nobody sees them: a reader would miss what they carry.
_UNSEEN = frozenset(
    {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\uffa0"}
    | {chr(code) for code in (0x180B, 0x180C, 0x180D, 0x180F)}
    | {chr(code) for code in range(0xFE00, 0xFE10)}
    | {chr(code) for code in range(0xE0100, 0xE01F0)}
)

# A link names its host and nothing that could hide another one: no user part, no quotes, no spaces.
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~:/?#\[\]!$&()*+,;=%@-]*)?")
_LONGEST_URL = 500
_LONGEST_NUMBER = 9


def clean(value: str) -> str:
    """Return ``value`` on one line, in NFC, without control, bidirectional or invisible characters."""
    if not (value.isascii() and value.isprintable()):
        seen = (char for char in value if char.isspace() or (char.isprintable() and char not in _UNSEEN))
        value = unicodedata.normalize("NFC", "".join(seen))
    return " ".join(value.split())


# A shower returns '' for what it cannot show; the caller then treats the field as not there.
Show = Callable[[str, Words], str]


def _text(longest: int) -> Show:
    def show(value: str, _: Words) -> str:
        text = clean(value)
        return text if len(text) <= longest else f"{text[: longest - 3].rstrip()}..."

    return show


def _identifier(longest: int) -> Show:
    def show(value: str, _: Words) -> str:
        text = clean(value)
        # Cut, it would name something else.
        return text if len(text) <= longest else ""

    return show


def _url(value: str, _: Words) -> str:
    return value if len(value) <= _LONGEST_URL and _URL.fullmatch(value) else ""


def _day(value: str, words: Words) -> str:
    try:
        return words.day(date.fromisoformat(value))
    except ValueError:
        return ""


def _number(value: str, _: Words) -> str:
    return value if value.isascii() and value.isdecimal() and len(value) <= _LONGEST_NUMBER else ""


def _status(value: str, words: Words) -> str:
    return value if value in words.status else ""


def _detail(value: str, words: Words) -> str:
    return words.details.get(value, "")


# The vocabulary: no template can use a field that is not here.
SHOW: dict[str, Show] = {
    "supplier_name": _text(60),
    "support_contact": _text(120),
    "portal_url": _url,
    "notice_ref": _identifier(32),
    "client_name": _text(120),
    "recipient_name": _text(120),
    "order_no": _identifier(64),
    "status": _status,
    "promised_date": _day,
    "carrier": _text(60),
    "tracking_no": _identifier(64),
    "tracking_url": _url,
    "detail": _detail,
    "lines": _text(400),
    "occurred_on": _day,
    "since": _day,
    "summary_day": _day,
    "open_orders": _number,
    "changed_orders": _number,
    "late_orders": _number,
    "more_orders": _number,
    "unnamed_orders": _number,
    "attachment_name": _identifier(80),
}

LINKS = frozenset(name for name, show in SHOW.items() if show is _url)

# What follows from a field and is shown under a name of its own.
DERIVED: dict[str, str] = {"status_word": "status", "progress": "status"}
