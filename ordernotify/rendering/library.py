"""Library: the loaded templates; one call makes the words of one message."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, Template

from ordernotify.core import segments
from ordernotify.core.channels import LIMITS, Channel
from ordernotify.core.events import OrderStatus
from ordernotify.core.labels import Label
from ordernotify.rendering.loading import read_tree
from ordernotify.rendering.results import Facts, ProblemCode, Rendered, RenderProblem
from ordernotify.rendering.tables import TABLES, Listing, listed
from ordernotify.rendering.tree import (
    FALLBACK,
    LAYOUT,
    PARTS,
    SPEC,
    WORDS,
    Need,
    Problem,
    Spec,
    TemplateError,
    Tree,
    default_root,
    environment,
)
from ordernotify.rendering.values import SHOW, Show
from ordernotify.rendering.words import SEE_PORTAL, Words


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    show: Show
    required: bool
    marked: bool


@dataclass(frozen=True, slots=True)
class _Sheet:
    """One channel's compiled parts in one language."""

    text: Template
    subject: Template | None
    html: Template | None
    version: str


@dataclass(frozen=True, slots=True)
class _Entry:
    facts: Facts
    shown: tuple[str, ...]
    fields: tuple[_Field, ...]
    samples: Mapping[str, str]
    sheets: Mapping[tuple[Channel, str], _Sheet]


@dataclass(frozen=True, slots=True)
class Library:
    """All templates, checked and compiled. Immutable, so it may be shared by every thread and run.

    ``versions`` names the content of each (template, channel, language): 12 hexadecimal characters of the
    SHA-256 of everything its words come from.
    """

    versions: Mapping[tuple[str, Channel, str], str]
    _entries: Mapping[str, _Entry] = field(repr=False)
    _words: Mapping[str, Words] = field(repr=False)

    @classmethod
    def load(cls, root: Path | None = None) -> Library:
        """Return the templates under ``root``, by default those of the installed package or the checkout.

        Raises TemplateError with every problem found: nothing that loads can fail for its template's sake.
        """
        tree = read_tree(root or default_root(Path(__file__).parent.parent))
        environments = {language: environment(tree.files, words.phrases) for language, words in tree.words.items()}
        entries = {name: _entry(name, spec, tree, environments) for name, spec in tree.specs.items()}
        library = cls(
            versions={
                (name, channel, language): sheet.version
                for name, entry in entries.items()
                for (channel, language), sheet in entry.sheets.items()
            },
            _entries=entries,
            _words=tree.words,
        )
        problems = [problem for name, spec in tree.specs.items() for problem in _try_samples(library, name, spec)]
        if problems:
            raise TemplateError(problems)
        return library

    @property
    def templates(self) -> tuple[str, ...]:
        """The names of all messages."""
        return tuple(self._entries)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages in which every message exists."""
        return tuple(self._words)

    def facts(self, template: str) -> Facts:
        """Return what ``template`` shows and needs; raises KeyError for a name that is no template."""
        return self._entries[template].facts

    def words(self, language: str) -> Words:
        """Return the words of a language, or of the one that stands in for it."""
        return self._words[self._language(language)[0]]

    def samples(self, template: str) -> Mapping[str, str]:
        """Return a typical value for each field of ``template``, for previews and tests."""
        return dict(self._entries[template].samples)

    def render(
        self,
        *,
        template: str,
        channel: Channel,
        language: str,
        fields: Mapping[str, str],
        listing: Listing | None = None,
    ) -> Rendered | RenderProblem:
        """Return the words of one message, or why there are none.

        ``fields`` holds only what may be shown on this channel to this person: a field that is not there is
        withheld, one that is '' is not known. Dates are ISO 8601, ``status`` and ``detail`` codes of ours;
        they come out as words of the language, which is ``language``, its main language (``es`` of ``es-MX``)
        or English. ``listing`` is for a template that lists many orders.
        """
        entry = self._entries.get(template)
        if entry is None:
            names = ", ".join(self._entries)
            return _problem(ProblemCode.NO_TEMPLATE, template, "template", f"there are {names}")
        used, fallback = self._language(language)
        words = self._words[used]
        values = _values(template, entry.fields, fields, words)
        if isinstance(values, RenderProblem):
            return values
        facts = tuple((words.labels[name], values[name]) for name in entry.shown if name in values)
        context: dict[str, object] = {**values, "facts": facts}
        if listing is not None:
            context |= listed(listing, words)
        sheet = entry.sheets[channel, used]
        text = sheet.text.render(context).strip()
        if channel is Channel.SMS:
            text = segments.smart_encode(text)
        # An encoded word would be decoded by the reader's program, unseen by those who check what leaves.
        subject = sheet.subject.render(context).strip().replace("=?", "= ?") if sheet.subject else ""
        limits = LIMITS[channel]
        for part, size, limit in (("subject", len(subject), limits.subject), ("text", len(text), limits.text)):
            if size > limit:
                return _problem(ProblemCode.TOO_LONG, template, part, f"{channel} holds {limit} characters")
        return Rendered(
            subject=subject,
            text=text,
            html=sheet.html.render(context) if sheet.html else "",
            facts=facts,
            variables=values,
            template=template,
            version=sheet.version,
            language=used,
            fallback=fallback,
        )

    def _language(self, asked: str) -> tuple[str, bool]:
        language = asked.replace("_", "-").lower()
        for candidate in (language, language.partition("-")[0]):
            if candidate in self._words:
                return candidate, False
        return FALLBACK, True


def _values(
    template: str, wanted: Iterable[_Field], fields: Mapping[str, str], words: Words
) -> dict[str, str] | RenderProblem:
    values: dict[str, str] = {}
    for one in wanted:
        given = fields.get(one.name)
        shown = one.show(given, words) if given else ""
        if shown:
            values[one.name] = shown
        elif one.required:
            code = ProblemCode.BAD_VALUE if given else ProblemCode.MISSING_FIELD
            return _problem(code, template, one.name, f"{one.name} is required, in a form that can be shown")
        elif one.marked and given is None:
            values[one.name] = words.phrases[SEE_PORTAL]
    status = values.get("status")
    if status is not None:
        if "detail" in values and fields["detail"] in words.replaces_status:
            # What really happens takes the place of the status and of a line that would contradict it.
            values["status_word"] = values.pop("detail")
        else:
            values["status_word"] = words.status[status]
            if progress := words.progress(status):
                values["progress"] = progress
    return values


def _problem(code: ProblemCode, template: str, field_name: str, message: str) -> RenderProblem:
    return RenderProblem(code=code, template=template, field=field_name, message=message)


def _entry(name: str, spec: Spec, tree: Tree, environments: Mapping[str, Environment]) -> _Entry:
    required, marked = spec.having(Need.REQUIRED), spec.having(Need.MARKED)
    return _Entry(
        facts=Facts(
            title=spec.title,
            permits_notice=spec.permits_notice,
            required=required,
            fields=frozenset(spec.fields),
            ceiling=Label[spec.ceiling],
            rows=spec.rows,
        ),
        shown=spec.facts,
        fields=tuple(
            _Field(one, SHOW[one], one in required, one in marked) for one in spec.fields if one not in spec.rows
        ),
        samples=spec.samples,
        sheets={
            (channel, language): _sheet(name, channel, language, tree, env)
            for channel in Channel
            for language, env in environments.items()
        },
    )


def _sheet(name: str, channel: Channel, language: str, tree: Tree, env: Environment) -> _Sheet:
    parts = PARTS[channel]

    def compiled(part: str) -> Template:
        template = env.get_template(f"{name}/{language}/{part}")
        # Jinja's own chain of maps is walked entry by entry at every rendering; nothing is added to it any more.
        template.globals = dict(template.globals)
        return template

    names = [f"{name}/{language}/{part}" for part in (parts.text, parts.subject, parts.html) if part]
    names += [f"{name}/{SPEC}", f"{WORDS}/{language}.toml"]
    names += [file for file in tree.files if channel is Channel.EMAIL and file.startswith(f"{LAYOUT}/")]
    digest = hashlib.sha256()
    for file in sorted(names):
        content = tree.files[file].encode()
        digest.update(f"{file}\n{len(content)}\n".encode())
        digest.update(content)
    return _Sheet(
        text=compiled(parts.text),
        subject=compiled(parts.subject) if parts.subject else None,
        html=compiled(parts.html) if parts.html else None,
        version=digest.hexdigest()[:12],
    )


@cache
def shipped() -> Library:
    """Return the templates of the installed package or the checkout, read and checked once a process."""
    return Library.load()


def _sample_listing(spec: Spec) -> Listing | None:
    """Return a listing of one typical order for a template that lists orders."""
    if not spec.rows:
        return None
    row = {name: spec.samples[name] for name in spec.rows}
    return Listing(
        counts={OrderStatus(row["status"]): 1},
        rows={name: [row] for name in TABLES if "order_no" in TABLES[name]},
    )


def _try_samples(library: Library, name: str, spec: Spec) -> list[Problem]:
    """Return what is wrong with the words that a template's samples make."""
    problems: list[Problem] = []
    for language in library.languages:
        for channel in Channel:
            made = library.render(
                template=name, channel=channel, language=language, fields=spec.samples, listing=_sample_listing(spec)
            )
            if isinstance(made, RenderProblem):
                problems.append(Problem(f"{name}/{SPEC}", 1, f"samples.{made.field}: {made.message}"))
                continue
            if not made.text:
                problems.append(Problem(f"{name}/{language}/{PARTS[channel].text}", 1, "says nothing: write it"))
            size, budget = segments.count(made.text).segments, spec.sms_segments[language]
            if channel is Channel.SMS and size > budget:
                problems.append(
                    Problem(
                        f"{name}/{language}/{PARTS[channel].text}",
                        1,
                        f"its samples take {size} segments of {segments.count(made.text).encoding}, the budget"
                        f" is {budget}: shorten it, or raise sms_segments in {SPEC}",
                    )
                )
    return problems
