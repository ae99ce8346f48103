"""Policy: what may be said of an order, to whom and where, decided by the first of fourteen rules."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache

from ordernotify.core.channels import Channel, Level
from ordernotify.core.labels import (
    NO_TAGS,
    NOTICE_FIELDS,
    TELLING_FIELDS,
    Label,
    Tags,
    aggregate,
    field_label,
    join,
)
from ordernotify.core.recipients import Consent, ContactPoint, Recipient, UsPerson


class Verdict(StrEnum):
    """What may leave, most to least open."""

    ALLOW_FULL = "allow_full"  # the whole message
    ALLOW_REDACTED = "allow_redacted"  # the message without the fields above the channel's ceiling
    NOTICE_ONLY = "notice_only"  # that there is news in the portal, and nothing of the news
    DENY = "deny"  # nothing
    QUARANTINE = "quarantine"  # nothing, and a person must look


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    """What policy asks of an order. ``contract_id`` is '' where no contract is known."""

    label: Label
    tags: Tags = NO_TAGS
    government: bool = False
    contract_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFacts:
    """What a template shows: ``fields`` all that it can, ``required`` those it makes no sense without."""

    permits_notice: bool
    required: frozenset[str]
    fields: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What may leave and why, fit for the ledger: names of rules and fields, never values.

    ``rules`` starts with the rule that decided. ``label_before`` is the label of the whole message,
    ``label_after`` of what may leave. ``removed`` are the template's fields that must not be shown.
    """

    verdict: Verdict
    rules: tuple[str, ...]
    label_before: Label
    label_after: Label
    removed: tuple[str, ...]


# What a channel of each level may carry at most. CX carries nothing, which R2 says.
CEILING: dict[Level, Label] = {
    Level.CX: Label.PUBLIC,
    Level.C0: Label.PUBLIC,
    Level.C1: Label.INTERNAL,
    Level.C2: Label.FCI,
    Level.C3: Label.CUI_SP,
    Level.C4: Label.CUI_SP,
}

# Channels on which silence is not consent: texts to US numbers need it beforehand (47 CFR 64.1200).
NEEDS_CONSENT = frozenset({Channel.SMS})

# Where export-controlled information must not arrive (ISO 3166): 22 CFR 126.1(d)(1) and (d)(2). Country group
# D:5 (15 CFR 740, supplement 1) is the same list by its own words; 120.54 and 734.18 name Russia beside it.
# Hong Kong and Macau are China here. State of 2026-02, after Cambodia left both; counsel keeps it current.
# fmt: off
PROSCRIBED_COUNTRIES = frozenset({
    "AF", "BY", "CD", "CF", "CN", "CU", "CY", "ER", "ET", "HK", "HT", "IQ", "IR",
    "KP", "LB", "LY", "MM", "MO", "NI", "RU", "SD", "SO", "SS", "SY", "VE", "ZW",
})
# fmt: on

# A template is written for a status, so its fixed words give the status away where no field does.
_ALWAYS_TOLD = frozenset({"status"})


@dataclass(frozen=True, slots=True)
class _View:
    """A template's fields as one order and one channel level let them be seen."""

    label: Label  # of the whole message
    kept: frozenset[str]  # what stays below the ceiling, the status of the fixed words included
    kept_label: Label


@lru_cache(maxsize=4096)
def _view(fields: frozenset[str], label: Label, level: Level, *, government: bool) -> _View:
    told = fields | _ALWAYS_TOLD
    labels = {name: field_label(name, label, government=government) for name in told}

    def shown(names: frozenset[str]) -> Label:
        return aggregate(names, join(labels[name] for name in names), government=government)

    kept = frozenset(name for name in told if labels[name] <= CEILING[level])
    if shown(kept) > CEILING[level]:
        kept -= TELLING_FIELDS
    return _View(shown(told), kept, shown(kept))


@dataclass(slots=True)
class _Case:
    """Everything the rules look at; ``label`` is the higher of the order's and the message's."""

    order: OrderFacts
    level: Level
    contact: ContactPoint
    recipient: Recipient
    template: TemplateFacts
    today: date
    view: _View
    label: Label
    export: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the published policy."""

    id: str
    sentence: str
    applies: Callable[[_Case], bool]
    verdict: Verdict


def _unwilling(case: _Case) -> bool:
    consent = case.contact.consent
    return (
        not case.recipient.active
        or consent is Consent.REVOKED
        or (case.contact.channel in NEEDS_CONSENT and consent is not Consent.GRANTED)
    )


def _no_need_to_know(case: _Case) -> bool:
    contract = case.order.contract_id
    if not contract:
        return case.order.government
    return contract not in case.recipient.contracts


def _not_us_person(case: _Case) -> bool:
    return (case.export or case.order.tags.noforn) and case.recipient.us_person is not UsPerson.VERIFIED


def _proscribed_place(case: _Case) -> bool:
    return case.export and not _may_receive_exports(case.recipient.location_country)


@lru_cache(maxsize=512)
def _may_receive_exports(country: str) -> bool:
    code = country.upper()
    is_code = len(code) == len("US") and code.isascii() and code.isalpha() and code not in {"XX", "ZZ"}
    return is_code and code not in PROSCRIBED_COUNTRIES


def _papers_expired(case: _Case) -> bool:
    if case.label < Label.CUI:
        return False
    training, agreement = case.recipient.training_until, case.recipient.agreement_until
    return training is None or training < case.today or agreement is None or agreement < case.today


def _redaction_makes_sense(case: _Case) -> bool:
    return (case.template.required | _ALWAYS_TOLD) <= case.view.kept


# The first rule that applies decides. Every rule that denies stands before every rule that leaves a notice:
# mixed, losing a qualification could turn a denial into a notice.
RULES: tuple[Rule, ...] = (
    Rule(
        "R0",
        "Anything classified stops everything about the order, and security is called.",
        lambda case: case.label is Label.CLASSIFIED,
        Verdict.QUARANTINE,
    ),
    Rule(
        "R1",
        "An order whose label is missing or unreadable waits until a person labels it.",
        lambda case: case.label is Label.UNKNOWN,
        Verdict.QUARANTINE,
    ),
    Rule(
        "R2",
        "A forbidden channel or an unacceptable destination receives nothing.",
        lambda case: case.level is Level.CX,
        Verdict.DENY,
    ),
    Rule(
        "R3",
        "A person who is inactive, has withdrawn consent, or never gave it where the channel needs it, "
        "receives nothing.",
        _unwilling,
        Verdict.DENY,
    ),
    Rule(
        "R4",
        "A person who is not on the order's contract is not told that the order exists; without a known "
        "contract nobody is on a government order's.",
        _no_need_to_know,
        Verdict.DENY,
    ),
    Rule(
        "R5",
        "What is NOFORN or export controlled goes to verified US persons only.",
        _not_us_person,
        Verdict.DENY,
    ),
    Rule(
        "R6",
        "What is export controlled goes to nobody in a proscribed or unknown country.",
        _proscribed_place,
        Verdict.DENY,
    ),
    Rule(
        "R7",
        "An address that its owner has not confirmed receives nothing about orders above FCI.",
        lambda case: not case.contact.verified and case.label > Label.FCI,
        Verdict.DENY,
    ),
    Rule(
        "R8",
        "An address that its owner has not confirmed receives a notice at most.",
        lambda case: not case.contact.verified,
        Verdict.NOTICE_ONLY,
    ),
    Rule(
        "R9",
        "What is export controlled is told on C4 channels only; others carry a notice.",
        lambda case: case.export and case.level < Level.C4,
        Verdict.NOTICE_ONLY,
    ),
    Rule(
        "R10",
        "Without current CUI training and a current agreement, CUI is a notice.",
        _papers_expired,
        Verdict.NOTICE_ONLY,
    ),
    Rule(
        "R11",
        "A message whose label the channel may carry is sent whole.",
        lambda case: case.view.label <= CEILING[case.level],
        Verdict.ALLOW_FULL,
    ),
    Rule(
        "R12",
        "A message that makes sense without the fields above the channel's ceiling is sent without them.",
        _redaction_makes_sense,
        Verdict.ALLOW_REDACTED,
    ),
    Rule("R13", "Whatever is left is a notice.", lambda _: True, Verdict.NOTICE_ONLY),
)

_NO_NOTICE = ("N0", "A notice that the template does not permit is not sent at all.")
_DEFAULT = ("D0", "What no rule decides is denied.")

_SENTENCES: dict[str, str] = {rule.id: rule.sentence for rule in RULES} | dict([_NO_NOTICE, _DEFAULT])

# Names the published rules in every record, so that an old decision is read with the rules of its day.
POLICY_VERSION = hashlib.sha256(
    "".join(f"{rule_id}\t{sentence}\n" for rule_id, sentence in _SENTENCES.items()).encode()
).hexdigest()[:16]


def explain(rule_id: str) -> str:
    """Return the sentence of a rule that a decision names."""
    return _SENTENCES.get(rule_id, f"Policy {POLICY_VERSION} has no rule of this name.")


def decide(
    *,
    order: OrderFacts,
    channel_level: Level,
    contact: ContactPoint,
    recipient: Recipient,
    template: TemplateFacts,
    now: datetime,
) -> Decision:
    """Return what ``template`` may say of ``order`` to ``recipient`` at ``contact``.

    ``channel_level`` is what the platform is trusted with today (CX where it or the destination is not
    acceptable); the contact may lower it, never raise it. ``now`` is aware. Same values, same decision.
    """
    if now.tzinfo is None:
        raise ValueError("now must be an aware time, such as datetime.now(UTC)")
    level = channel_level if contact.level is None else min(channel_level, contact.level)
    government = order.government or order.label >= Label.FCI
    view = _view(template.fields, order.label, level, government=government)
    case = _Case(
        order=order,
        level=level,
        contact=contact,
        recipient=recipient,
        template=template,
        today=now.astimezone(UTC).date(),
        view=view,
        label=join((order.label, view.label)),
        export=order.tags.export,
    )
    for rule in RULES:
        if rule.applies(case):
            return _conclude(case, rule.id, rule.verdict)
    return _conclude(case, _DEFAULT[0], Verdict.DENY)


def _conclude(case: _Case, rule_id: str, verdict: Verdict) -> Decision:
    fields = case.template.fields
    rules: tuple[str, ...] = (rule_id,)
    if verdict is Verdict.NOTICE_ONLY and not case.template.permits_notice:
        verdict, rules = Verdict.DENY, (rule_id, _NO_NOTICE[0])
    label_after, kept = Label.PUBLIC, frozenset[str]()
    if verdict is Verdict.ALLOW_FULL:
        label_after, kept = case.view.label, fields
    elif verdict is Verdict.ALLOW_REDACTED:
        label_after, kept = case.view.kept_label, case.view.kept
    elif verdict is Verdict.NOTICE_ONLY:
        kept = NOTICE_FIELDS
    return Decision(
        verdict=verdict,
        rules=rules,
        label_before=case.view.label,
        label_after=label_after,
        removed=tuple(sorted(fields - kept)),
    )
