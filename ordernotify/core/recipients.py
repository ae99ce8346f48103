"""Recipients: the people clients named to be told, their addresses, and how an address is read."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

import phonenumbers

from ordernotify.core.channels import Channel, Level
from ordernotify.core.events import OrderStatus


class Consent(StrEnum):
    """What the person said about messages to one address."""

    GRANTED = "granted"
    REVOKED = "revoked"
    NONE = "none"  # never asked, or no answer


class UsPerson(StrEnum):
    """Whether somebody is a US person in the sense of 22 CFR 120.62, and how we know."""

    VERIFIED = "verified"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPoint:
    """One address of one person. ``position`` is its place in the fallback order, lowest first.

    ``level`` lowers what the platform is trusted with for this address; None leaves it as it is.
    ``statuses`` are those the person wants to hear of here; empty means all. ``summary``: wants the daily
    summary here. ``topic`` is what ``consent`` was asked for.
    """

    id: str
    channel: Channel
    platform: str
    address: str = field(repr=False)
    level: Level | None = None
    verified: bool
    position: int = 0
    statuses: frozenset[OrderStatus] = frozenset()
    summary: bool = False
    consent: Consent = Consent.NONE
    topic: str = "order_status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A person who is told about a client's orders, with what policy asks of them.

    ``language`` is a BCP 47 tag, ``time_zone`` an IANA name, ``location_country`` two letters of ISO 3166
    ('' unknown). ``contracts`` are those the person needs to know about. ``training_until`` and
    ``agreement_until`` are the last days on which they hold.
    """

    id: str
    client_id: str
    name: str = field(repr=False)
    language: str = "en"
    time_zone: str = "UTC"
    active: bool = True
    us_person: UsPerson = UsPerson.UNKNOWN
    location_country: str = ""
    contracts: frozenset[str] = frozenset()
    training_until: date | None = None
    agreement_until: date | None = None
    contacts: tuple[ContactPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A value that cannot be taken: its field and what would be right. Never repeats the value."""

    field: str
    message: str


_PHONE_EXAMPLE = "+12025550123"
# The library would find a number inside a sentence; an address is a number and nothing else.
_PHONE_SHAPE = re.compile(r"[+\uff0b]?[\d\s().\-\u2010-\u2015/]{3,40}")
_COSTS_EXTRA = frozenset({phonenumbers.PhoneNumberType.PREMIUM_RATE, phonenumbers.PhoneNumberType.SHARED_COST})


def read_phone(text: str, default_region: str | None = None) -> str | Refused:
    """Return the number in E.164, or why it is none.

    ``default_region`` (ISO 3166, two letters) is where a number without country code is from. Numbers that
    bill whoever calls them are refused: they are how messages are turned into somebody's income.
    """
    text = text.strip()
    if not _PHONE_SHAPE.fullmatch(text):
        return Refused("phone", f"must be one phone number such as {_PHONE_EXAMPLE}")
    try:
        number = phonenumbers.parse(text, default_region)
    except phonenumbers.NumberParseException:
        return Refused("phone", f"must start with + and the country code, such as {_PHONE_EXAMPLE}")
    if not phonenumbers.is_valid_number(number):
        return Refused("phone", f"must be a number that its country gives out, such as {_PHONE_EXAMPLE}")
    if phonenumbers.number_type(number) in _COSTS_EXTRA:
        return Refused("phone", f"must not be a premium-rate number; an ordinary one is {_PHONE_EXAMPLE}")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


_EMAIL_EXAMPLE = "name@example.com"
_EMAIL_LENGTH = 254  # RFC 5321: a path of 256 without its angle brackets
_LOCAL_LENGTH = 64
_DOMAIN_LENGTH = 253
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_PART = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_PART}\.)+(?!\d+$){_PART}")
# The two versions of IDNA make different domains of these: the message could go to somebody else's.
_AMBIGUOUS_IN_DOMAINS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")


def read_email(text: str) -> str | Refused:
    """Return the address with its domain in ASCII lower case, or why it is none.

    Takes the addresses that mail systems deliver to: no comments, no quoted local parts, no IP literals.
    """
    text = unicodedata.normalize("NFC", text.strip())
    if any(unicodedata.category(char)[0] in "CZ" for char in text):
        return Refused("email", f"must have no spaces or control characters: {_EMAIL_EXAMPLE}")
    local, at, domain = text.rpartition("@")
    if not at or "@" in local:
        return Refused("email", f"must have one @: {_EMAIL_EXAMPLE}")
    if len(local) > _LOCAL_LENGTH or not _LOCAL.fullmatch(local):
        return Refused("email", f"must have letters, digits and single dots before the @: {_EMAIL_EXAMPLE}")
    ascii_domain = _ascii_domain(domain)
    if ascii_domain is None or len(local) + 1 + len(ascii_domain) > _EMAIL_LENGTH:
        return Refused("email", f"must have a domain after the @, in xn-- form if in doubt: {_EMAIL_EXAMPLE}")
    return f"{local}@{ascii_domain}"


def _ascii_domain(domain: str) -> str | None:
    if not _AMBIGUOUS_IN_DOMAINS.isdisjoint(domain):
        return None
    try:
        name = domain.encode("idna").decode("ascii").lower()
    except UnicodeError:  # an empty or too long part, or characters that no domain has
        return None
    return name if len(name) <= _DOMAIN_LENGTH and _DOMAIN.fullmatch(name) else None
