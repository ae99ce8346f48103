"""What a person or program may tell the house about clients, parts and contracts, field by field."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ordernotify.core.channels import Channel
from ordernotify.core.events import OrderStatus
from ordernotify.core.labels import Label
from ordernotify.core.recipients import Consent, Refused, UsPerson, read_email, read_phone

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", examples=["acme"])]
_ZONES = frozenset(available_timezones())
LevelWord = Literal["C0", "C1", "C2", "C3", "C4"]


_ADDRESS_READERS: dict[Channel | None, Callable[[str], str | Refused]] = {
    Channel.SMS: read_phone,
    Channel.EMAIL: read_email,
}


def _wrong(message: str) -> PydanticCustomError:
    """Return the error by which a field says what would be right."""
    return PydanticCustomError("rule", "{message}", {"message": message})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True)


class ContactBody(_Body):
    """An address on a platform."""

    key: Slug = Field(description="Unique within the recipient, such as `phone` or `mail`.")
    channel: Channel
    platform: Slug = Field(description="Which platform carries messages there; see `ordernotify platforms`.")
    address: str = Field(min_length=1, max_length=2_000, description="In the form that the platform takes.")
    level: LevelWord | None = Field(default=None, description="Trust in this address; at most the platform's.")
    verified: bool = Field(default=False, description="Whether its owner confirmed it.")
    consent: Consent = Field(default=Consent.NONE, description="What its owner allowed, with proof kept by you.")
    statuses: list[OrderStatus] = Field(default_factory=list, description="Only these; empty means all.")
    summary: bool | None = Field(default=None, description="Gets the daily summary; left out: if it is e-mail.")

    @field_validator("address")
    @classmethod
    def _address_fits(cls, address: str, info: ValidationInfo) -> str:
        reader = _ADDRESS_READERS.get(info.data.get("channel"))
        checked = address if reader is None else reader(address)
        if isinstance(checked, Refused):
            raise _wrong(checked.message)
        return checked

    @property
    def wants_summary(self) -> bool:
        """Whether the daily summary goes here too."""
        return self.channel is Channel.EMAIL if self.summary is None else self.summary


class RecipientBody(_Body):
    """A person or desk of the client."""

    id: Slug
    name: str = Field(min_length=1, max_length=200)
    language: str = Field(default="", pattern=r"^([a-z]{2})?$", description="Two letters; empty: the client's.")
    time_zone: str = Field(default="", description="IANA name; empty: the client's.")
    us_person: UsPerson = UsPerson.UNKNOWN
    location_country: str = Field(default="", pattern=r"^([A-Z]{2})?$", description="ISO 3166-1 alpha-2.")
    contracts: list[str] = Field(default_factory=list, description="Contracts this person may know about.")
    training_until: date | None = Field(default=None, description="CUI training valid until.")
    agreement_until: date | None = Field(default=None, description="Agreement valid until.")
    contacts: list[ContactBody] = Field(min_length=1, description="In the order in which they are preferred.")

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        return _zone(name)


class AliasBody(_Body):
    """How a source names this client."""

    source: Slug
    ref: str = Field(min_length=1, max_length=200)


class ClientBody(_Body):
    """A customer organization with the people who are told about its orders."""

    id: Slug
    name: str = Field(min_length=1, max_length=200)
    language: str = Field(default="en", pattern=r"^[a-z]{2}$")
    time_zone: str = Field(default="UTC", examples=["America/New_York"])
    summary_at: str = Field(
        default="07:00",
        pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$",
        description="When the daily summary goes out, by the client's own clock; empty: never.",
    )
    aliases: list[AliasBody] = Field(default_factory=list)
    recipients: list[RecipientBody] = Field(default_factory=list)

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        return _zone(name)


class _Labelled(_Body):
    label: str

    @field_validator("label")
    @classmethod
    def _label_is_known(cls, word: str) -> str:
        if Label.read(word) is Label.UNKNOWN:
            raise _wrong("must be public, internal, fci, cui or cui_sp")
        return Label.read(word).word


class PartBody(_Labelled):
    """A part number that may be ordered."""

    sku: str = Field(min_length=1, max_length=64)
    name: str = Field(default="", max_length=200)
    label: str = "internal"
    jurisdiction: str = Field(default="NONE", max_length=40, examples=["EAR99", "ITAR:XI"])
    categories: list[str] = Field(default_factory=list)


class ContractBody(_Labelled):
    """A government contract and what it says about marking."""

    id: str = Field(min_length=1, max_length=64)
    label: str = "fci"
    categories: list[str] = Field(default_factory=list)
    ldc: list[str] = Field(default_factory=list)
    release_by_two: bool = Field(
        default=False,
        description="Whether two persons must release its orders from a regulatory hold; where the label is CUI or"
        " above, or export rules bind, two must in any case.",
    )


class ChannelBody(_Body):
    """How far a platform may be trusted, and until when the evidence holds."""

    level: LevelWord
    enabled: bool = True
    evidence: str = Field(default="", max_length=500, description="Agreement or digest that supports the level.")
    expires_at: AwareDatetime | None = Field(default=None, description="After this only notices go there.")


def _zone(name: str) -> str:
    if name and name not in _ZONES:
        raise _wrong("must be an IANA time zone such as America/New_York")
    return name
