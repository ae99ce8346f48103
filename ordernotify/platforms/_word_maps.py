"""Settings that translate between a tenant's own status words and ours: ``In Transit=shipped, Done=delivered``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from ordernotify.core.events import OrderStatus


def _pairs(value: object) -> object:
    """Read ``one=other, two=another``; an object is taken as it is, anything else left to be refused."""
    if not isinstance(value, str):
        return value
    pairs = [one.partition("=") for one in value.split(",") if one.strip()]
    if not all(word.strip() and between and other.strip() for word, between, other in pairs):
        raise ValueError("must be pairs such as In Transit=shipped, with commas between them")
    return {word.strip(): other.strip() for word, _, other in pairs}


# What a foreign word means. Exact match: a word that only looks alike is for a person to decide.
StatusMap = Annotated[dict[str, OrderStatus], BeforeValidator(_pairs)]

# What is written for a status of ours; without an entry, our own word.
StatusWords = Annotated[dict[OrderStatus, str], BeforeValidator(_pairs)]
