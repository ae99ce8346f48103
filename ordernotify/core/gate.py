"""Content gate: looks through the words of a message, after they are made and before they may leave.

The strongest scan knows no patterns: the values that were removed from a message must not stand in it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote

from ordernotify.core.labels import Label


class HitKind(StrEnum):
    """What the gate looks for."""

    MARKING = "marking"  # a marking above the channel's ceiling
    CREDENTIAL = "credential"  # a key, token or password
    SEALED = "sealed"  # a value that was removed from this message
    CHARACTER = "character"  # something that hides or reorders what is read
    LINK = "link"  # an address that is not on the list


@dataclass(frozen=True, slots=True)
class Hit:
    """One finding: its kind and the name of what was recognised, never the text that was."""

    kind: HitKind
    rule: str


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One recogniser. It is tried only where a trigger stands in the text: finding a word costs a tenth."""

    label: Label | None  # of a marking; None for a credential, which no channel may carry
    rule: str
    triggers: tuple[str, ...]
    regex: re.Pattern[str]


def _pattern(label: Label | None, rule: str, triggers: str, regex: str) -> _Pattern:
    return _Pattern(label, rule, tuple(triggers.split("|")), re.compile(regex, re.MULTILINE))


# Markings that are also everyday words count in capitals only; keys are told apart by their case.
_AS_WRITTEN: tuple[_Pattern, ...] = (
    _pattern(Label.CLASSIFIED, "classification", "SECRET", r"\bSECRET\b"),
    _pattern(Label.CLASSIFIED, "confidential", "CONFIDENTIAL", r"\bCONFIDENTIAL//|^\s*CONFIDENTIAL\s*$"),
    _pattern(Label.CLASSIFIED, "portion-mark", "(TS|(S|(C/|TS//", r"^\s*\((?:TS|S)\)|\((?:TS|S|C)//|\bTS//"),
    _pattern(Label.CUI_SP, "cui-specified", "CUI//SP-", r"\bCUI//SP-"),
    _pattern(Label.CUI, "cui", "CUI", r"\bCUI\b"),
    _pattern(Label.CUI, "controlled", "CONTROLLED", r"\bCONTROLLED//|^\s*CONTROLLED\s*$"),
    _pattern(Label.CUI, "fouo", "FOUO", r"\bFOUO\b"),
    _pattern(Label.CUI_SP, "itar", "ITAR", r"\bITAR\b"),
    _pattern(None, "private-key", "-----BEGIN", r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    _pattern(None, "aws-key", "AKIA|ASIA", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    _pattern(None, "slack-token", "xox", r"\bxox[abeprs]-[\w-]{10,}"),
    _pattern(None, "slack-webhook", "hooks.slack.com", r"hooks\.slack\.com/services/"),
    _pattern(
        None,
        "github-token",
        "ghp_|gho_|ghu_|ghs_|ghr_|github_pat_",
        r"\bgh[opsur]_\w{20}|\bgithub_pat_\w{20}",
    ),
    _pattern(None, "sendgrid-key", "SG.", r"\bSG\.[\w-]{16,}\.[\w-]{16,}"),
    _pattern(None, "twilio-key", "SK", r"\bSK[0-9a-f]{32}\b"),
    _pattern(None, "google-key", "AIza", r"\bAIza[\w-]{35}"),
    _pattern(None, "live-key", "k_live_", r"\b[rs]k_live_\w{10}"),
    _pattern(None, "json-web-token", "eyJ", r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}"),
)
_IN_ANY_CASE: tuple[_Pattern, ...] = (
    _pattern(Label.CLASSIFIED, "classification", "top secret|secret//", r"\btop secret\b|\bsecret//"),
    _pattern(
        Label.CLASSIFIED,
        "classification-block",
        "classified by|derived from|declassify on",
        r"\b(?:classified by|derived from|declassify on)\s*:",
    ),
    _pattern(Label.CUI_SP, "noforn", "noforn|not releasable to", r"\bnoforn\b|\bnot releasable to foreign\b"),
    _pattern(Label.CUI, "cui", "controlled unclassified", r"\bcontrolled unclassified information\b"),
    _pattern(Label.CUI, "fouo", "official use only", r"\bfor official use only\b"),
    _pattern(Label.CUI, "distribution", "distribution st|distro", r"\bdistr(?:ibution statement|o)\s+[b-f]\b"),
    _pattern(Label.CUI_SP, "itar", "traffic in arms", r"\binternational traffic in arms\b"),
    _pattern(Label.CUI_SP, "ear", "export administration", r"\bexport administration regulations\b"),
    _pattern(Label.CUI_SP, "export-controlled", "export", r"\bexport[\s-]+controlled\b"),
    _pattern(Label.CUI_SP, "eccn", "eccn", r"\beccn\b\W{0,3}\d[a-e]\d{3}\b"),
    _pattern(Label.CUI_SP, "usml", "usml", r"\busml\b"),
    _pattern(Label.FCI, "fci", "federal contract", r"\bfederal contract information\b"),
    _pattern(None, "bearer", "bearer ", r"\bbearer [\w.~+/-]{16}"),
    _pattern(None, "password", "password|passwd|passphrase", r"\bpass(?:word|wd|phrase)\s*[=:]\s*\S{4}"),
    _pattern(
        None,
        "assignment",
        "api_key|api-key|apikey|secret|token",
        r"\b(?:api[_-]?key|secret|token)\s*[=:]\s*[\w.~+/-]{12}",
    ),
)


def _triggers(patterns: tuple[_Pattern, ...]) -> tuple[tuple[str, _Pattern], ...]:
    return tuple((trigger, pattern) for pattern in patterns for trigger in pattern.triggers)


_TRIGGERS_AS_WRITTEN = _triggers(_AS_WRITTEN)
_TRIGGERS_IN_ANY_CASE = _triggers(_IN_ANY_CASE)

# Line ends and tabs are text. The joiners U+200C and U+200D stay: emoji and several scripts need them.
_UNPRINTED: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("control", re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")),
    ("bidi", re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")),
    ("invisible", re.compile("[\u00ad\u034f\u180e\u200b\u2060-\u2064\ufeff\U000e0000-\U000e007f]")),
)

# Spaces, dashes and what is not seen: writing a number with more or fewer of them does not make it another.
_DASHES = r"\-\u058a\u2010-\u2015\u2212\ufe58"
_UNSEEN = re.compile(f"[{_DASHES}\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")

# Shorter values stand in other words by chance; they count where nothing of a word or number touches them.
_LONG_ENOUGH = 4
_BEFORE_WORD = f"(?<![\\w{_DASHES}])(?<!\\d[.,:/])"
_AFTER_WORD = f"(?![\\w{_DASHES}])(?![.,:/]\\d)"

_URL = re.compile(r"""(?:\b([a-z][a-z0-9+.-]*):|["'=(])//([^\s/?#\\"<>]*)""")
_BARE = re.compile(
    r"(?<![\w.@/-])(?:(www\.[\w.-]+)|((?:[\w-]+\.)+(?:app|biz|cn|co|com|dev|gl|gov|info|io|link|ly|me|mil|net|"
    r"org|ru|shop|site|top|us|xyz))/)"
)
_HOST = re.compile(r"[\w.-]*")
_ACTIVE = re.compile(r"\b(?:javascript:|vbscript:|data:\w+/)")


def scan(
    text_parts: Iterable[str],
    *,
    sealed: Iterable[str],
    ceiling: Label,
    links_allowed: Iterable[str],
    public: Iterable[str] = (),
) -> tuple[Hit, ...]:
    """Return what in ``text_parts`` must not leave; nothing means that the message may.

    ``sealed`` are the values, as they would be shown, that this message must not hold; where one is part of a
    value in ``public`` (the supplier's name in the client's), it may be shown as that part. Markings up to
    ``ceiling`` are in place. ``links_allowed`` are the host names a link may lead to. HTML entities and
    percent-encoding are read through.
    """
    written = "\n".join(text_parts)
    if "&" in written:
        written = html.unescape(written)
    text = _read(written)
    folded = text.casefold()
    hits = [
        *_unprinted(written),
        *_recognised(_TRIGGERS_AS_WRITTEN, text, ceiling),
        *_recognised(_TRIGGERS_IN_ANY_CASE, folded, ceiling),
        *_unsealed(folded, sealed, public),
        *_links(written.lower(), links_allowed),
    ]
    if text != written:
        # Both readings count: decoding can turn an allowed host into another, and the other way round.
        hits += [*_unprinted(text), *_links(folded, links_allowed)]
    return tuple(dict.fromkeys(hits)) if hits else ()


def _read(text: str) -> str:
    """Return ``text`` with percent-encoding and compatibility forms (full-width letters) resolved."""
    if "%" in text:
        text = unquote(text)
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text).replace("\u200c", "").replace("\u200d", "")


def _compact(folded: str) -> str:
    compact = "".join(folded.split()).replace("-", "")
    return compact if compact.isascii() else _UNSEEN.sub("", compact)


def _unprinted(text: str) -> Iterator[Hit]:
    if text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return
    for rule, regex in _UNPRINTED:
        if regex.search(text):
            yield Hit(HitKind.CHARACTER, rule)


def _recognised(triggers: tuple[tuple[str, _Pattern], ...], text: str, ceiling: Label) -> Iterator[Hit]:
    for trigger, pattern in triggers:
        if trigger not in text or (pattern.label is not None and pattern.label <= ceiling):
            continue
        if pattern.regex.search(text):
            yield Hit(HitKind.CREDENTIAL if pattern.label is None else HitKind.MARKING, pattern.rule)


def _unsealed(folded: str, sealed: Iterable[str], public: Iterable[str]) -> Iterator[Hit]:
    compact = _compact(folded)
    for value in sealed:
        wanted = _compact(_fold(value))
        if wanted and wanted in compact and _stands_alone(wanted, folded, compact, public):
            yield Hit(HitKind.SEALED, "sealed-value")
            return


def _fold(value: str) -> str:
    return _read(html.unescape(value) if "&" in value else value).casefold()


def _stands_alone(wanted: str, folded: str, compact: str, public: Iterable[str]) -> bool:
    """Return whether ``wanted`` stands anywhere in the text but inside a public value."""
    shown_as = [_fold(value) for value in public]
    if len(wanted) < _LONG_ENOUGH:
        found = [match.span() for match in re.finditer(_word(wanted), folded)]
        shown = [span for value in shown_as for span in _spans(value, folded)]
    else:
        found = list(_spans(wanted, compact))
        shown = [span for value in shown_as for span in _spans(_compact(value), compact)]
    return any(not any(start <= first and last <= end for start, end in shown) for first, last in found)


def _word(wanted: str) -> str:
    before = _BEFORE_WORD if wanted[0].isalnum() else ""
    after = _AFTER_WORD if wanted[-1].isalnum() else ""
    return before + f"[{_DASHES}]*".join(map(re.escape, wanted)) + after


def _spans(value: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(value) if value else -1
    while start >= 0:
        yield start, start + len(value)
        start = text.find(value, start + 1)


def _links(lowered: str, links_allowed: Iterable[str]) -> Iterator[Hit]:
    allowed: frozenset[str] | None = None
    # A page of HTML says the same few words over and over.
    for word in dict.fromkeys(lowered.split()):
        if "/" not in word and "www." not in word and ":" not in word:
            continue
        active, hosts = _leads_to(word)
        if active:
            yield Hit(HitKind.LINK, "scheme")
        for host in hosts:
            if allowed is None:
                allowed = frozenset(name.lower() for name in links_allowed)
            if host not in allowed:
                yield Hit(HitKind.LINK, "host")


# The same few links stand in most messages.
@lru_cache(maxsize=512)
def _leads_to(word: str) -> tuple[bool, tuple[str, ...]]:
    return _ACTIVE.search(word) is not None, tuple(_hosts(word))


def _hosts(word: str) -> Iterator[str]:
    for match in _URL.finditer(word):
        scheme, authority = match.groups()
        # A name before an @ makes a link look like another's; whole, it is on no list, like other schemes.
        plain = scheme in {None, "http", "https"} and "@" not in authority
        yield _host(authority) if plain else match[0]
    for match in _BARE.finditer(word):
        yield _host(match[1] or match[2])


def _host(authority: str) -> str:
    found = _HOST.match(authority)
    return found[0].rstrip(".") if found else ""
