"""What chat platforms share about words: cutting to a limit, one line, and how people say stop or start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# The whole message, in the languages that the templates speak; a longer one is talk, for people to read.
KEYWORDS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("STOP", "STOPALL", "UNSUBSCRIBE", "QUIT", "BAJA", "PARAR"), False),
    **dict.fromkeys(("START", "UNSTOP", "SUBSCRIBE", "ALTA"), True),
}
_CUT: Final = "…"


def said(text: str) -> bool | None:
    """Return True where ``text`` says start, False where it says stop, None where it says anything else."""
    return KEYWORDS.get(text.strip().rstrip(".!").upper())


def cut(text: str, limit: int) -> str:
    """Return ``text`` within ``limit`` UTF-16 units, as these platforms count; never half a character."""
    units = text.encode("utf-16-le", "replace")
    if len(units) <= 2 * limit:
        return text
    return units[: 2 * (limit - len(_CUT))].decode("utf-16-le", "ignore") + _CUT


def squeezed(text: str) -> str:
    """Return ``text`` on one trimmed line with single spaces."""
    return " ".join(text.split())
