"""Tree: what a folder of templates consists of, and the sandbox its files are compiled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from jinja2 import DictLoader, Environment, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field

from ordernotify.core.channels import Channel
from ordernotify.core.planning import CORRECTION_TEMPLATE, NOTICE_TEMPLATE, SUMMARY_TEMPLATE
from ordernotify.rendering.grammar import SAY
from ordernotify.rendering.words import TOLD, Words

FALLBACK = "en"  # the language of a person whose own is not there, and the one that others are compared with

TEMPLATES = frozenset({*TOLD, CORRECTION_TEMPLATE, NOTICE_TEMPLATE, SUMMARY_TEMPLATE})


@dataclass(frozen=True, slots=True)
class Parts:
    """The files that make one channel's message; '' where it has no such part."""

    text: str
    subject: str = ""
    html: str = ""


PARTS: dict[Channel, Parts] = {
    Channel.SMS: Parts(text="sms.j2"),
    Channel.EMAIL: Parts(text="email.text.j2", subject="email.subject.j2", html="email.html.j2"),
    Channel.CHAT: Parts(text="chat.text.j2", subject="chat.subject.j2"),
    # A ticket or note is headed by the same line as a card.
    Channel.RECORD: Parts(text="record.text.j2", subject="chat.subject.j2"),
}
FILES = frozenset(part for parts in PARTS.values() for part in (parts.text, parts.subject, parts.html) if part)
LAYOUT, WORDS, SPEC = "_layout", "_words", "template.toml"


class Need(StrEnum):
    """What happens where a field is not there; the package says it in full."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    MARKED = "marked"


class Spec(BaseModel):
    """One ``template.toml``: what a template shows and how sensitive that can be at most.

    ``rows``: the fields that stand for one of many orders, in the rows of its tables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(min_length=1)
    ceiling: Literal["PUBLIC", "INTERNAL", "FCI", "CUI", "CUI_SP"]
    permits_notice: bool
    sms_segments: dict[str, int]
    facts: tuple[str, ...]
    rows: frozenset[str] = frozenset()
    fields: dict[str, Need]
    samples: dict[str, str]

    def having(self, need: Need) -> frozenset[str]:
        """Return the fields of one need."""
        return frozenset(name for name, needed in self.fields.items() if needed is need)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what would be right."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class TemplateError(Exception):
    """The templates cannot be used; ``problems`` are all there are, in the order of files and lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.file, problem.line, problem.message))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Tree:
    """The folder of templates as it was read: texts by relative path, and what the TOML files say."""

    files: Mapping[str, str]
    words: Mapping[str, Words]
    specs: Mapping[str, Spec]


def environment(files: Mapping[str, str], phrases: Mapping[str, str]) -> Environment:
    """Return a sandbox for one language that knows its phrases and nothing else of Jinja's globals."""
    made = ImmutableSandboxedEnvironment(
        loader=DictLoader(files),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    made.globals.clear()
    made.globals.update({f"{SAY}{key}": phrase for key, phrase in phrases.items()})
    made.filters.clear()
    return made


def default_root(package: Path) -> Path:
    """Return where the templates are: inside ``package`` when installed, beside it in a checkout."""
    packaged = package / "_templates"
    return packaged if packaged.is_dir() else package.parent / "templates"
