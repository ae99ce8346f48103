"""Grammar: what a template may do, checked in its syntax tree before it is ever rendered.

A template shows values, leaves words out where a value is not there, lists the facts, and fills the blocks of
its layout. Everything else that Jinja can do is refused, so that reading a template is knowing what it says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from jinja2 import nodes

from ordernotify.rendering.tables import FACTS, SURE, Columns
from ordernotify.rendering.values import DERIVED, LINKS, SHOW

_ALLOWED = (
    "a template may only show a value, ask whether one `is defined`, list `label, value in facts` and fill the"
    " blocks of its layout"
)
# What may stand inside a tag, and after which words: a link, a width, a colour, each of our own making.
_IN_TAGS: Mapping[str, AbstractSet[str]] = {
    'href="': LINKS,
    'width="': frozenset({"share"}),
    'bgcolor="': frozenset({"tone"}),
}

# What would load something from elsewhere, run, or ask for input when an e-mail is opened.
_ACTIVE_HTML = re.compile(
    r"<\s*(script|img|iframe|link|object|embed|form|base|svg)\b|\bsrc\s*=|\bon\w+\s*=|url\s*\(|@import",
    re.IGNORECASE,
)
_OUTSIDE_LINK = re.compile(r"\b(https?:|mailto:|javascript:|data:\w)", re.IGNORECASE)
_CONSTANT_BLOCK = re.compile(r"[#\w ]*")

SAY = "say_"  # a phrase of the language, by its key


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a template, and what would be right."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The names a template may use: ``bare`` anywhere, ``guarded`` inside ``is defined`` only.

    ``tables`` may be listed, each by its columns.
    """

    bare: AbstractSet[str]
    guarded: AbstractSet[str]
    tables: Mapping[str, Columns] = field(default_factory=lambda: FACTS)


@dataclass(slots=True)
class Reading:
    """What one template was found to do. ``in_tag`` are its blocks that stand inside an HTML tag."""

    faults: list[Fault] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    blocks: set[str] = field(default_factory=set)
    in_tag: set[str] = field(default_factory=set)


def read(tree: nodes.Template, *, part: str, scope: Scope, layout: Reading | None = None) -> Reading:
    """Return what the template ``tree`` of ``part`` does and where it breaks the rules.

    ``layout`` is what the layout it extends was found to do; None for a layout itself and where there is none.
    """
    reader = _Reader(part=part, scope=scope, layout=layout, html=".html." in part)
    for node in tree.body:
        reader.visit(node, frozenset())
    return reader.found


@dataclass(slots=True)
class _Reader:
    part: str
    scope: Scope
    layout: Reading | None
    html: bool
    extends: bool = False
    block: str = ""
    written: str = ""  # the text so far, to know whether a value stands in a tag
    columns: frozenset[str] = frozenset()  # of the table that is being listed
    found: Reading = field(default_factory=Reading)

    def visit(self, node: nodes.Node, known: frozenset[str]) -> None:
        match node:
            case nodes.Output():
                for child in node.nodes:
                    self._output(child, known)
            case nodes.If():
                self._if(node, known)
            case nodes.For():
                self._table(node, known)
            case nodes.Extends():
                self._extends(node)
            case nodes.Block():
                self._block(node, known)
            case _:
                self._refuse(node)

    def _fault(self, node: nodes.Node, message: str) -> None:
        self.found.faults.append(Fault(node.lineno, message))

    def _refuse(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Filter):
            self._fault(node, f"filter {node.name!r} is unknown: there are none, values arrive ready to show")
        else:
            self._fault(node, f"{type(node).__name__} is not allowed: {_ALLOWED}")

    def _output(self, node: nodes.Node, known: frozenset[str]) -> None:
        if isinstance(node, nodes.TemplateData):
            self._text(node)
        elif isinstance(node, nodes.Name):
            self._value(node, known)
            self.written += "x"
        else:
            self._refuse(node)

    def _text(self, node: nodes.TemplateData) -> None:
        text = node.data
        if self.extends and not self.block and (lost := re.search(r"\S", text)):
            self._fault_in(node, lost, "text outside every block is never shown: put it into a block of the layout")
        if link := _OUTSIDE_LINK.search(text):
            self._fault_in(node, link, "a link may only come from portal_url or tracking_url: remove the fixed address")
        if self.html and (active := _ACTIVE_HTML.search(text)):
            self._fault_in(node, active, f"{active.group()!r} is not allowed: an e-mail loads and runs nothing")
        if self._fills_a_tag() and not _CONSTANT_BLOCK.fullmatch(text.strip()):
            self._fault(node, f"block {self.block!r} stands in a tag: give one plain word such as #1f4e79")
        self.written += text

    def _fault_in(self, node: nodes.TemplateData, found: re.Match[str], message: str) -> None:
        self.found.faults.append(Fault(node.lineno + node.data.count("\n", 0, found.start()), message))

    def _value(self, node: nodes.Name, known: frozenset[str]) -> None:
        name = node.name
        self.found.used.add(DERIVED.get(name, name))
        if name not in self.scope.bare and name not in known:
            self._fault(node, self._why_not(name))
        if self.html and not name.startswith(SAY):
            in_tag = self.written.rfind("<") > self.written.rfind(">") or self._fills_a_tag()
            if in_tag and not any(name in may and self.written.endswith(start) for start, may in _IN_TAGS.items()):
                self._fault(node, f'{name} stands in a tag: only href="..." with a link field may hold a value')

    def _fills_a_tag(self) -> bool:
        return self.layout is not None and self.block in self.layout.in_tag

    def _why_not(self, name: str) -> str:
        if name in self.scope.guarded or name in self.columns:
            return f"field {name!r} may be absent: show it inside `{{% if {name} is defined %}}`"
        if name.startswith(SAY):
            return f"phrase {name!r} is unknown: add {name.removeprefix(SAY)!r} to [phrases] of every language"
        if name in SHOW or name in DERIVED:
            return f"field {DERIVED.get(name, name)!r} is not declared: add it to [fields] of template.toml"
        return f"field {name!r} is unknown: there are {', '.join(sorted(SHOW | DERIVED))}"

    def _if(self, node: nodes.If, known: frozenset[str]) -> None:
        for branch in (node, *node.elif_):
            asked = self._asked(branch.test)
            for child in branch.body:
                self.visit(child, known | asked)
        for child in node.else_:
            self.visit(child, known)

    def _asked(self, test: nodes.Node) -> frozenset[str]:
        match test:
            case nodes.And(left=left, right=right):
                return self._asked(left) | self._asked(right)
            case nodes.Test(name="defined", node=nodes.Name(name=name)):
                if not (name in self.scope.guarded or name in self.scope.bare or name in self.columns):
                    self._fault(test, self._why_not(name))
                return frozenset({name})
            case nodes.Test(name=word):
                self._fault(test, f"test {word!r} is not allowed: {_ALLOWED}")
            case _:
                self._refuse(test)
        return frozenset()

    def _table(self, node: nodes.For, known: frozenset[str]) -> None:
        columns = self.scope.tables.get(node.iter.name) if isinstance(node.iter, nodes.Name) else None
        plain = (
            columns is not None
            and isinstance(node.target, nodes.Tuple)
            and tuple(item.name for item in node.target.items if isinstance(item, nodes.Name)) == columns
            and node.test is None
            and not node.else_
            and not self.columns
        )
        if columns is None or not plain:
            self._refuse(node)
            return
        self.columns = frozenset(columns)
        for child in node.body:
            self.visit(child, known | (self.columns & SURE))
        self.columns = frozenset()

    def _extends(self, node: nodes.Extends) -> None:
        self.extends = True
        right = f"_layout/{self.part}"
        if self.layout is None or not isinstance(node.template, nodes.Const) or node.template.value != right:
            self._fault(node, f"only {right!r} may be extended, and only where that layout exists")

    def _block(self, node: nodes.Block, known: frozenset[str]) -> None:
        self.found.blocks.add(node.name)
        if self.html and self.written.rfind("<") > self.written.rfind(">"):
            self.found.in_tag.add(node.name)
        if self.extends and self.layout is not None and node.name not in self.layout.blocks:
            blocks = ", ".join(sorted(self.layout.blocks))
            self._fault(node, f"block {node.name!r} is not in the layout: there are {blocks}")
        outer, self.block = self.block, node.name
        for child in node.body:
            self.visit(child, known)
        self.block = outer
