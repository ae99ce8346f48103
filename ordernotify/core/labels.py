"""Labels: how sensitive an order and each of its fields are, and what several of them are together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Label(IntEnum):
    """Sensitivity, lowest first; of two that meet the higher holds. Stored as ``word``, never by number."""

    PUBLIC = 0  # released to anyone
    INTERNAL = 1  # the company's own business data
    FCI = 2  # provided by or made for the government under a contract (FAR 4.1901)
    CUI = 3  # controlled unclassified information, basic
    CUI_SP = 4  # the same, specified: a law says how it is handled
    UNKNOWN = 5  # missing, unreadable or contradictory: nothing leaves until a person decides
    CLASSIFIED = 6  # never processed: everything stops and security is called

    @property
    def word(self) -> str:
        """The label as it is stored and shown; ``read`` is its inverse."""
        return self.name.lower()

    @classmethod
    def read(cls, word: str) -> Label:
        """Return the label that ``word`` names, in any case; every word that is no label is UNKNOWN.

        A banner such as ``CUI//SP-CTI//NOFORN`` is UNKNOWN too: reading only its first part would lose the
        limits that follow it. Sources hand over banner parts as a label and as ``Tags``.
        """
        return _WORDS.get(word.strip().upper().replace("-", "_").replace(" ", "_"), cls.UNKNOWN)


_WORDS: dict[str, Label] = {
    **{label.name: label for label in Label},
    "CONFIDENTIAL": Label.CLASSIFIED,
    "SECRET": Label.CLASSIFIED,
    "TOP_SECRET": Label.CLASSIFIED,
}


def join(labels: Iterable[Label]) -> Label:
    """Return the label of things that are shown together; nothing at all is PUBLIC."""
    return max(labels, default=Label.PUBLIC)


@dataclass(frozen=True, slots=True)
class Tags:
    """What a label does not say: CUI categories, dissemination limits, and the export jurisdiction.

    ``jurisdiction`` is ``NONE``, ``EAR99``, ``EAR:<ECCN>`` or ``ITAR:<category>``.
    """

    categories: frozenset[str] = frozenset()
    ldc: frozenset[str] = frozenset()
    jurisdiction: str = "NONE"

    @property
    def export(self) -> bool:
        """Whether export rules bind it; a jurisdiction that cannot be read binds."""
        return self.jurisdiction not in _FREE_OF_EXPORT_RULES or "EXPT" in self.categories

    @property
    def noforn(self) -> bool:
        """Whether it may go to US persons only."""
        return "NOFORN" in self.ldc


_FREE_OF_EXPORT_RULES = frozenset({"NONE", "EAR99"})
NO_TAGS = Tags()


@dataclass(frozen=True, slots=True)
class FieldLabels:
    """A field's label on a commercial and on a government order.

    ``controlled``: on an order labelled CUI or above the field is what the label is about.
    ``tells``: what the field gives away of item, quantity, destination, date and programme.
    """

    commercial: Label
    government: Label
    controlled: bool = False
    tells: frozenset[str] = frozenset()


def _business(*tells: str, controlled: bool = False) -> FieldLabels:
    return FieldLabels(Label.INTERNAL, Label.FCI, controlled=controlled, tells=frozenset(tells))


_PUBLIC = FieldLabels(Label.PUBLIC, Label.PUBLIC)
_INTERNAL = FieldLabels(Label.INTERNAL, Label.INTERNAL)

# A field that is not here cannot be shown: its label is UNKNOWN.
FIELD_LABELS: dict[str, FieldLabels] = {
    "notice_ref": _PUBLIC,
    "portal_url": _PUBLIC,
    "supplier_name": _PUBLIC,
    "support_contact": _PUBLIC,
    "status_word": _INTERNAL,
    "status": _INTERNAL,
    "language": _INTERNAL,
    "client_name": _INTERNAL,
    "recipient_name": _INTERNAL,
    "order_no": _business(),
    "promised_date": _business("date"),
    "carrier": _business(),
    "tracking_no": _business(),
    "tracking_url": _business(),
    "detail": _business(),
    "since": _business(),
    "summary_day": _INTERNAL,
    "open_orders": _INTERNAL,
    "changed_orders": _INTERNAL,
    "late_orders": _INTERNAL,
    "more_orders": _INTERNAL,
    "unnamed_orders": _INTERNAL,
    "attachment_name": _INTERNAL,
    "lines": _business("item", "quantity", controlled=True),
    "part_no": _business("item", controlled=True),
    "quantity": _business("quantity", controlled=True),
    "ship_to": _business("destination", controlled=True),
    "programme": _business("programme", controlled=True),
}

# What a notice may say, whatever the order is.
NOTICE_FIELDS = frozenset(name for name, labels in FIELD_LABELS.items() if labels == _PUBLIC)

# Fields that say little alone and more together.
TELLING_FIELDS = frozenset(name for name, labels in FIELD_LABELS.items() if labels.tells)

_TELLS_TOO_MUCH = 3


def field_label(field: str, order_label: Label, *, government: bool) -> Label:
    """Return the label of ``field`` on an order labelled ``order_label``; of an unknown field, UNKNOWN."""
    labels = FIELD_LABELS.get(field)
    if labels is None:
        return Label.UNKNOWN
    if field in NOTICE_FIELDS or order_label is Label.PUBLIC:
        return Label.PUBLIC
    if order_label >= Label.UNKNOWN or (labels.controlled and order_label >= Label.CUI):
        return order_label
    # FCI and above exist only under a contract, whatever else the source says of the order.
    return labels.government if government or order_label >= Label.FCI else labels.commercial


def aggregate(fields_rendered: Iterable[str], base: Label, *, government: bool) -> Label:
    """Return the label of ``fields_rendered`` shown together, whose single labels join to ``base``.

    On a government order, three of item, quantity, destination, date and programme are at least FCI: a
    reader can put together from them what none of them says.
    """
    if not government:
        return base
    told: set[str] = set()
    for name in fields_rendered:
        labels = FIELD_LABELS.get(name)
        if labels is not None:
            told |= labels.tells
    return join([base, Label.FCI]) if len(told) >= _TELLS_TOO_MUCH else base
