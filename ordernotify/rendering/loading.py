"""Loading: reads the folder of templates and refuses it as a whole, naming every problem, unless all is right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jinja2 import TemplateSyntaxError
from pydantic import BaseModel, ValidationError

from ordernotify.core.labels import FIELD_LABELS, Label, field_label
from ordernotify.core.planning import NOTICE_TEMPLATE
from ordernotify.rendering import grammar
from ordernotify.rendering.tables import TABLES
from ordernotify.rendering.tree import (
    FALLBACK,
    FILES,
    LAYOUT,
    SPEC,
    TEMPLATES,
    WORDS,
    Need,
    Problem,
    Spec,
    TemplateError,
    Tree,
    environment,
)
from ordernotify.rendering.values import DERIVED, SHOW
from ordernotify.rendering.words import SEE_PORTAL, TOLD, Words

_LAYOUTS = ("email.html.j2", "email.text.j2")
_TAG = re.compile(r"\{%.*?%\}")


def read_tree(root: Path) -> Tree:
    """Return the templates under ``root``; raises TemplateError with every problem found."""
    if not root.is_dir():
        raise TemplateError([Problem(str(root), 0, "is no folder: give the folder that holds the templates")])
    check = _Check({})
    for path in sorted((*root.rglob("*.j2"), *root.rglob("*.toml"))):
        file = path.relative_to(root).as_posix()
        try:
            check.files[file] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            check.files[file] = ""
            check.problems.append(Problem(file, 1, "is not UTF-8: save it as UTF-8"))
    return check.tree()


_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(slots=True)
class _Check:
    files: dict[str, str]
    problems: list[Problem] = field(default_factory=list)

    def tree(self) -> Tree:
        words, specs = self._words(), self._specs()
        for file in sorted(self.files):
            self._expected(file, words, specs)
        layouts = self._layouts(words, specs)
        for name, spec in specs.items():
            self._spec(name, spec, words)
            self._parts(name, spec, words, layouts)
        if self.problems:
            raise TemplateError(self.problems)
        return Tree(self.files, words, specs)

    def _wrong(self, file: str, message: str, *, key: str = "", line: int = 1) -> None:
        if key:
            found = re.search(
                rf"^[ \t]*(\[{re.escape(key)}\]|{re.escape(key)}[ \t]*=)", self.files.get(file, ""), re.MULTILINE
            )
            line = self.files[file].count("\n", 0, found.end()) + 1 if found else line
        self.problems.append(Problem(file, line, message))

    def _toml(self, file: str, model: type[_Model]) -> _Model | None:
        try:
            return model.model_validate(tomllib.loads(self.files[file]))
        except tomllib.TOMLDecodeError as error:
            at = re.search(r"line (\d+)", str(error))
            self._wrong(file, f"is not TOML: {error}", line=int(at[1]) if at else 1)
        except ValidationError as error:
            for fault in error.errors():
                place = [str(step) for step in fault["loc"]]
                self._wrong(file, f"{'.'.join(place)}: {fault['msg']}", key=place[-1])
        return None

    def _words(self) -> dict[str, Words]:
        found: dict[str, Words] = {}
        for file in self.files:
            if file.startswith(f"{WORDS}/") and file.endswith(".toml"):
                words = self._toml(file, Words)
                if words is not None:
                    found[Path(file).stem] = words
        pattern = found.get(FALLBACK)
        if pattern is None:
            self._wrong(f"{WORDS}/{FALLBACK}.toml", "is missing or wrong: it is the fallback of every language")
            return found
        for language, words in found.items():
            file = f"{WORDS}/{language}.toml"
            self._same_keys(file, "status", set(words.status), set(TOLD))
            for table in ("labels", "details", "phrases"):
                self._same_keys(file, table, set(getattr(words, table)), set(getattr(pattern, table)))
            for code in sorted(words.replaces_status - set(words.details)):
                self._wrong(file, f"replaces_status: {code!r} is not in [details]", key="replaces_status")
            if SEE_PORTAL not in words.phrases:
                self._wrong(file, f"[phrases] needs {SEE_PORTAL!r}: it stands for fields that are withheld")
        return found

    def _same_keys(self, file: str, table: str, has: set[str], needs: set[str]) -> None:
        for key in sorted(needs - has):
            self._wrong(file, f"[{table}] lacks {key!r}")
        for key in sorted(has - needs):
            self._wrong(file, f"[{table}] has {key!r}, which is not in {FALLBACK} or is no such word", key=key)

    def _specs(self) -> dict[str, Spec]:
        found: dict[str, Spec] = {}
        folders = {file.split("/")[0] for file in self.files if "/" in file and not file.startswith("_")}
        for name in sorted(TEMPLATES | folders):
            file = f"{name}/{SPEC}"
            if name not in TEMPLATES:
                self._wrong(file, f"{name!r} is no message: there are {', '.join(sorted(TEMPLATES))}")
            elif file not in self.files:
                self._wrong(file, "is missing: every message declares its fields and ceiling")
            elif (spec := self._toml(file, Spec)) is not None:
                found[name] = spec
        return found

    def _expected(self, file: str, words: Mapping[str, Words], specs: Mapping[str, Spec]) -> None:
        match file.split("/"):
            case ["_words", _]:
                return
            case ["_layout", part] if part in _LAYOUTS:
                return
            case [name, "template.toml"] if name in TEMPLATES:
                return
            case [name, language, part] if name in specs and language in words and part in FILES:
                return
            case [name, *_] if name not in specs and not name.startswith("_"):
                return  # said already of its template.toml
        self._wrong(file, f"is not used: parts are {', '.join(sorted(FILES))}, languages {', '.join(words)}")

    def _layouts(self, words: Mapping[str, Words], specs: Mapping[str, Spec]) -> dict[str, grammar.Reading]:
        required = [spec.having(Need.REQUIRED) for spec in specs.values()]
        shared = frozenset.intersection(*required) if required else frozenset[str]()
        scope = grammar.Scope(shared | _said(words), frozenset(SHOW) | frozenset(DERIVED))
        found: dict[str, grammar.Reading] = {}
        for part in _LAYOUTS:
            file = f"{LAYOUT}/{part}"
            if file not in self.files:
                self._wrong(file, "is missing: e-mails extend it")
            elif (reading := self._read(file, part, scope, None)) is not None:
                found[part] = reading
        return found

    def _read(
        self, file: str, part: str, scope: grammar.Scope, layout: grammar.Reading | None
    ) -> grammar.Reading | None:
        try:
            tree = environment(self.files, {}).parse(self.files[file], name=file)
        except TemplateSyntaxError as error:
            self._wrong(file, f"is not a template: {error.message}", line=error.lineno)
            return None
        if ".text." in part:
            self._line_ends(file)
        reading = grammar.read(tree, part=part, scope=scope, layout=layout)
        for fault in reading.faults:
            self._wrong(file, fault.message, line=fault.line)
        return reading

    def _line_ends(self, file: str) -> None:
        for number, line in enumerate(self.files[file].splitlines(), start=1):
            if line.endswith("%}") and not line.endswith("+%}") and _TAG.sub("", line).strip():
                self._wrong(file, "a tag at the end swallows the line break: close it with +%}", line=number)

    def _parts(
        self,
        name: str,
        spec: Spec,
        words: Mapping[str, Words],
        layouts: Mapping[str, grammar.Reading],
    ) -> None:
        scope = _scope(spec, _said(words))
        used = {DERIVED.get(fact, fact) for fact in spec.facts}
        for layout in layouts.values():
            used |= layout.used
        for language in words:
            for part in sorted(FILES):
                file = f"{name}/{language}/{part}"
                if file not in self.files:
                    self._wrong(file, "is missing: every message has every part in every language")
                elif (reading := self._read(file, part, scope, layouts.get(part))) is not None:
                    used |= reading.used
        for field_name in sorted(set(spec.fields) - used):
            self._wrong(
                f"{name}/{SPEC}", f"field {field_name!r} is declared and never shown: remove it", key=field_name
            )

    def _spec(self, name: str, spec: Spec, words: Mapping[str, Words]) -> None:
        file = f"{name}/{SPEC}"
        ceiling = Label[spec.ceiling]
        for stray in sorted(spec.rows - spec.fields.keys()):
            self._wrong(file, f"rows: {stray!r} is not among [fields]", key="rows")
        for declared in spec.fields:
            if declared not in SHOW or declared not in FIELD_LABELS:
                known = ", ".join(sorted(SHOW.keys() & FIELD_LABELS.keys()))
                self._wrong(file, f"field {declared!r} has no label: there are {known}", key=declared)
            elif (label := field_label(declared, Label.CUI_SP, government=True)) > ceiling:
                self._wrong(
                    file,
                    f"field {declared!r} can be {label.name}, above the ceiling {ceiling.name}:"
                    " raise the ceiling or remove the field",
                    key=declared,
                )
        if name == NOTICE_TEMPLATE and ceiling is not Label.PUBLIC:
            self._wrong(file, "a notice goes where nothing else may: its ceiling is PUBLIC", key="ceiling")
        self._facts_and_samples(file, spec, words)

    def _facts_and_samples(self, file: str, spec: Spec, words: Mapping[str, Words]) -> None:
        for fact in spec.facts:
            if DERIVED.get(fact, fact) not in spec.fields:
                self._wrong(file, f"fact {fact!r} is not among [fields]", key="facts")
            elif any(fact not in one.labels for one in words.values()):
                self._wrong(file, f"fact {fact!r} has no word: add it to [labels] of every language", key="facts")
        for missing in sorted(spec.fields.keys() - spec.samples.keys()):
            self._wrong(file, f"field {missing!r} has no sample: add it to [samples]", key="samples")
        for extra in sorted(spec.samples.keys() - spec.fields.keys()):
            self._wrong(file, f"sample {extra!r} is of no field of this template: remove it", key=extra)
        for language in sorted(words.keys() - spec.sms_segments.keys()):
            self._wrong(file, f"sms_segments lacks {language!r}", key="sms_segments")


def _said(words: Mapping[str, Words]) -> frozenset[str]:
    keys = [frozenset(one.phrases) for one in words.values()]
    return frozenset(f"{grammar.SAY}{key}" for key in frozenset[str]().union(*keys))


def _scope(spec: Spec, said: frozenset[str]) -> grammar.Scope:
    bare = spec.having(Need.REQUIRED) - spec.rows
    guarded = frozenset(spec.fields) - bare - spec.rows
    if spec.rows:
        return grammar.Scope(bare | said, guarded | TABLES.keys(), TABLES)
    if "status" in bare:
        # A status always has a word; an order off the straight way has no progress.
        return grammar.Scope(bare | said | {"status_word"}, guarded | {"progress"})
    if "status" in guarded:
        guarded |= DERIVED.keys()
    return grammar.Scope(bare | said, guarded)
