"""Results: what the library answers with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ordernotify.core.labels import Label
from ordernotify.core.policy import TemplateFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(TemplateFacts):
    """What policy asks of a template, with its title for people and its declared ceiling.

    ``rows``: the fields that stand for one of many orders.
    """

    title: str
    ceiling: Label
    rows: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The words of one message, plain and not yet escaped for a platform (``html`` is escaped HTML).

    ``facts`` are labelled values in their order; ``variables`` every value that was shown, by name.
    ``language`` is the one that was used; ``fallback`` says that it is not the one that was asked for.
    """

    subject: str
    text: str
    html: str
    facts: tuple[tuple[str, str], ...]
    variables: dict[str, str]
    template: str
    version: str
    language: str
    fallback: bool


class ProblemCode(StrEnum):
    """Why a message has no words."""

    NO_TEMPLATE = "no_template"  # nothing is told in this case
    MISSING_FIELD = "missing_field"  # a required field is not there
    BAD_VALUE = "bad_value"  # a required field is there and cannot be shown
    TOO_LONG = "too_long"  # the words are more than the channel holds


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderProblem:
    """A message that cannot be worded; names what is wrong and what would be right, never a value."""

    code: ProblemCode
    template: str
    field: str
    message: str
