"""Reads foreign JSON into values: exact numbers, clean text, aware times, refusals that name a field."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from ordernotify.platforms._base import Refusal

MAX_ID = 2**63 - 1
TRACKING_MAX = 64
_YEARS = range(2000, 2100)
_UNPROCESSABLE = 422

Model = TypeVar("Model", bound=BaseModel)


class Foreign(BaseModel):
    """Base of what others send: only the fields we use are read, every other one is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


def read_json(model: type[Model], body: bytes, *, within: str = "") -> Model | Refusal:
    """Return the JSON ``body`` as ``model``, or a 422 naming the field; ``within`` is put before its name."""
    value = parse(body, within=within)
    return value if isinstance(value, Refusal) else read_value(model, value, within=within)


def parse(body: bytes, *, within: str = "") -> Any:
    """Return the JSON value of ``body``, or a Refusal where it is none (NaN and Infinity are no JSON)."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return Refusal(_UNPROCESSABLE, within or "body", "must be JSON in UTF-8, without NaN or Infinity")


def read_value(model: type[Model], value: object, *, within: str = "") -> Model | Refusal:
    """Return a parsed JSON value as ``model``, or a 422 naming the field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        return refusal_of(error, within=within)


def refusal_of(error: ValidationError, *, within: str = "") -> Refusal:
    """Return the first fault of a validation as a 422: which field, what would be right, what kind came.

    Never the value: it may be somebody's data. ``within`` is put before the field's name.
    """
    detail = error.errors(include_url=False)[0]
    return Refusal(_UNPROCESSABLE, _path(within, detail["loc"]), _advice(detail))


def _path(within: str, location: tuple[int | str, ...]) -> str:
    path = within
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            # A key that the sender invented is the sender's text: shown only while it looks like a name.
            name = part if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", part) else "(a field)"
            path += f".{name}" if path else name
    return path or "body"


def _advice(detail: ErrorDetails) -> str:
    wording = _ADVICE.get(detail["type"])
    context: Mapping[str, Any] = detail.get("ctx", {})
    if wording is not None:
        rule = wording.format_map({"max_length": "", "min_length": "", "ge": "", "le": "", **context})
    else:
        rule = detail["msg"] if detail["type"] == _RULE else "is not what it should be"
    return rule if detail["type"] in _WITHOUT_KIND else f"{rule}; got {_kind(detail['input'])}"


_RULE = "rule"
_ADVICE = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of an order event",
    "string_type": "must be text",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "greater_than_equal": "must be a whole number from {ge}",
    "less_than_equal": "must be a whole number up to {le}",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "too_long": "must have at most {max_length} entries",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_WITHOUT_KIND = frozenset({"missing", "extra_forbidden", "string_too_long", "string_too_short", "too_long"})
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number with a fraction"),
    (str, "text"),
    (list, "a list"),
    (dict, "an object"),
)


def _kind(value: object) -> str:
    return next((word for kind, word in _KINDS if isinstance(value, kind)), "null")


def rule(message: str) -> PydanticCustomError:
    """Return the error by which a validator of ours says what would be right."""
    return PydanticCustomError(_RULE, "{message}", {"message": message})


def whole(low: int, high: int) -> Callable[[object], int]:
    """Return a validator of whole numbers from ``low`` to ``high``; true, 1.0 and "1" are none."""

    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise rule(f"must be a whole number from {low} to {high}")

    return check


def filled(value: str) -> str:
    """Validate cleaned text of which something must be left."""
    if not value:
        raise rule("must not be empty")
    return value


def one_line(text: str, *, limit: int) -> str:
    """Return ``text`` in NFC on one trimmed line without invisible characters, cut to ``limit``."""
    spaced = "".join(" " if mark.isspace() else mark for mark in unicodedata.normalize("NFC", text))
    visible = "".join(mark for mark in spaced if not unicodedata.category(mark).startswith("C"))
    return " ".join(visible.split())[:limit].rstrip()


def tracking_number(text: str) -> str:
    """Return a tracking number's visible ASCII characters, at most 64: carriers know no others."""
    normal = unicodedata.normalize("NFC", text)
    return "".join(mark for mark in normal if "!" <= mark <= "~")[:TRACKING_MAX]


def moment(value: object) -> datetime:
    """Validate an ISO 8601 date and time with a zone; return it in UTC."""
    found = _timestamp(value)
    if found is None or found.tzinfo is None:
        raise rule("must be a date and time with a time zone, such as 2026-11-24T10:00:00Z")
    return _utc(found)


def gmt_moment(value: object) -> datetime:
    """Validate an ISO 8601 date and time that is UTC even where it does not say so; return it aware."""
    found = _timestamp(value)
    if found is None:
        raise rule("must be a date and time in UTC, such as 2026-11-24T10:00:00")
    return _utc(found if found.tzinfo else found.replace(tzinfo=UTC))


def read_moment(text: str) -> datetime | None:
    """Return an ISO 8601 time with a zone in UTC, None where ``text`` is none: for optional headers."""
    try:
        return moment(text)
    except PydanticCustomError:
        return None


def _timestamp(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or "T" not in value.upper().replace(" ", "T"):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _utc(value: datetime) -> datetime:
    # A year far away is an error or an attack: it would make every later event stale, or be stale itself.
    if value.year not in _YEARS:
        raise rule(f"must lie between the years {_YEARS.start} and {_YEARS.stop - 1}")
    return value.astimezone(UTC)


def _or_empty(value: object) -> object:
    return "" if value is None else value


_NAME_LENGTH = 200

Id = Annotated[int, BeforeValidator(whole(1, MAX_ID))]
Count = Annotated[int, BeforeValidator(whole(0, 1_000_000_000))]
Moment = Annotated[datetime, BeforeValidator(moment)]
GmtMoment = Annotated[datetime, BeforeValidator(gmt_moment)]
Word = Annotated[
    str, BeforeValidator(_or_empty), AfterValidator(partial(one_line, limit=_NAME_LENGTH)), Field(strict=True)
]
Filled = Annotated[Word, AfterValidator(filled)]
Tracking = Annotated[str, BeforeValidator(_or_empty), AfterValidator(tracking_number), Field(strict=True)]


# ---- our mark in what we write to a system that speaks back ----

_MARK = re.compile(r"\[ordernotify ([A-Za-z0-9_-]{1,64})\]")


def marked(text: str, reference: str) -> str:
    """Return ``text`` with our reference at its end, by which our own writing is known when it comes back."""
    return f"{text}\n[ordernotify {reference}]"


def mark_of(text: str) -> str:
    """Return the reference that ``marked`` put into ``text``, '' in anybody else's text."""
    found = _MARK.search(text)
    return found.group(1) if found else ""
