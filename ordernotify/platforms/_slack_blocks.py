"""A message as Slack shows it: text and blocks, cut and escaped as Slack asks."""

from __future__ import annotations

import re
from typing import Any

from ordernotify.core.delivery import Message

# Slack cuts or refuses what is longer; the figures are its own, in characters.
_HEADER, _SECTION, _FIELD, _FIELDS, _TEXT = 150, 3000, 2000, 10, 4000
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_TORN_ESCAPE = re.compile(r"&[a-z]{0,3}$")


def words(message: Message) -> dict[str, Any]:
    """Return text and blocks; facts stand in plain_text, where Slack finds no markup in anybody's data."""
    blocks: list[dict[str, Any]] = []
    if message.subject:
        blocks.append({"type": "header", "text": _plain(message.subject, _HEADER)})
    blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": escape(message.text, _SECTION)}})
    for start in range(0, len(message.facts), _FIELDS):
        facts = message.facts[start : start + _FIELDS]
        fields = [_plain(f"{label}\n{value}", _FIELD) for label, value in facts]
        blocks.append({"type": "section", "fields": fields})
    # A block's id is the only place where an incoming webhook keeps a mark of ours.
    blocks[0]["block_id"] = message.reference
    return {"text": escape(message.text, _TEXT), "blocks": blocks}


def _plain(text: str, limit: int) -> dict[str, Any]:
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return {"type": "plain_text", "text": cut, "emoji": False}


def escape(text: str, limit: int) -> str:
    """Return ``text`` escaped as Slack asks, at most ``limit`` characters, never cut inside an escape."""
    escaped = text.translate(_ESCAPES)
    return escaped if len(escaped) <= limit else f"{_TORN_ESCAPE.sub('', escaped[: limit - 1])}…"
