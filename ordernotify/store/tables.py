"""The tables, and nothing but tables; who may write which is in the first migration."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field, SQLModel


def _moment(**more: Any) -> Any:
    return Field(sa_type=sa.DateTime(timezone=True), **more)


def _words(**more: Any) -> Any:
    return Field(
        sa_type=pg.ARRAY(sa.Text),
        default_factory=list,
        sa_column_kwargs={"server_default": "{}", "nullable": False},
        **more,
    )


def _json(default: str = "{}") -> Any:
    return Field(
        sa_type=pg.JSONB,
        sa_column_kwargs={"server_default": sa.text(f"'{default}'::jsonb"), "nullable": False},
    )


def _computed(kind: Any, expression: str, *, nullable: bool) -> Any:
    return Field(sa_column=sa.Column(kind, sa.Computed(expression, persisted=True), nullable=nullable))


class Client(SQLModel, table=True):
    """A customer organization whose people are told about its orders."""

    __tablename__ = "client"
    id: str = Field(primary_key=True)
    name: str
    language: str = Field(default="en", sa_column_kwargs={"server_default": "en"})
    time_zone: str = Field(default="UTC", sa_column_kwargs={"server_default": "UTC"})
    summary_at: str = Field(default="07:00", sa_column_kwargs={"server_default": "07:00"})
    created_at: datetime = _moment(sa_column_kwargs={"server_default": sa.func.now()})


class ClientAlias(SQLModel, table=True):
    """How a source names a client."""

    __tablename__ = "client_alias"
    source: str = Field(primary_key=True)
    ref: str = Field(primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)


class Recipient(SQLModel, table=True):
    """A person or desk to be told, with the attributes that policy asks for."""

    __tablename__ = "recipient"
    id: str = Field(primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    name: str
    language: str = Field(default="en", sa_column_kwargs={"server_default": "en"})
    time_zone: str = Field(default="UTC", sa_column_kwargs={"server_default": "UTC"})
    active: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    us_person: str = Field(default="unknown", sa_column_kwargs={"server_default": "unknown"})
    location_country: str = Field(default="", sa_column_kwargs={"server_default": ""})
    contracts: list[str] = _words()
    training_until: date | None = None
    agreement_until: date | None = None


class ContactPoint(SQLModel, table=True):
    """An address on a channel, with what its owner allowed."""

    __tablename__ = "contact_point"
    __table_args__ = (
        sa.UniqueConstraint("recipient_id", "platform", "address"),
        sa.Index("contact_point_address", "channel", "address"),
    )
    id: str = Field(primary_key=True)
    recipient_id: str = Field(foreign_key="recipient.id", index=True)
    channel: str
    platform: str
    address: str
    level: int | None = Field(default=None, sa_type=sa.SmallInteger)
    verified: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    position: int = Field(default=0, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "0"})
    statuses: list[str] = _words()
    consent: str = Field(default="none", sa_column_kwargs={"server_default": "none"})
    summary: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    active: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})


class OptOut(SQLModel, table=True):
    """An address whose owner said stop; asked when a message is about to leave."""

    __tablename__ = "opt_out"
    channel: str = Field(primary_key=True)
    address: str = Field(primary_key=True)
    code: str
    at: datetime = _moment()


class Part(SQLModel, table=True):
    """A part number that may be ordered, with its label and export jurisdiction."""

    __tablename__ = "part"
    sku: str = Field(primary_key=True)
    name: str
    label: str = Field(default="internal", sa_column_kwargs={"server_default": "internal"})
    jurisdiction: str = Field(default="NONE", sa_column_kwargs={"server_default": "NONE"})
    categories: list[str] = _words()


class Contract(SQLModel, table=True):
    """A government contract, with what it says about marking."""

    __tablename__ = "contract"
    id: str = Field(primary_key=True)
    label: str = Field(default="fci", sa_column_kwargs={"server_default": "fci"})
    categories: list[str] = _words()
    ldc: list[str] = _words()
    release_by_two: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})


class Channel(SQLModel, table=True):
    """A platform as a registered channel: how far it is trusted, until when, and whether it is stopped."""

    __tablename__ = "channel"
    platform: str = Field(primary_key=True)
    level: int = Field(sa_type=sa.SmallInteger)
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    evidence: str = Field(default="", sa_column_kwargs={"server_default": ""})
    expires_at: datetime | None = _moment(default=None)
    stopped_code: str = Field(default="", sa_column_kwargs={"server_default": ""})
    stopped_at: datetime | None = _moment(default=None)


class Order(SQLModel, table=True):
    """One client's order and what is known of it."""

    __tablename__ = "orders"
    __table_args__ = (sa.UniqueConstraint("client_id", "order_no"),)
    id: UUID = Field(primary_key=True)
    client_id: str = Field(foreign_key="client.id")
    order_no: str
    contract_id: str = Field(default="", sa_column_kwargs={"server_default": ""})
    label: str
    categories: list[str] = _words()
    ldc: list[str] = _words()
    jurisdiction: str = Field(default="NONE", sa_column_kwargs={"server_default": "NONE"})
    status: str
    status_at: datetime = _moment()
    carrier: str = Field(default="", sa_column_kwargs={"server_default": ""})
    tracking_no: str = Field(default="", sa_column_kwargs={"server_default": ""})
    promised_date: str = Field(default="", sa_column_kwargs={"server_default": ""})
    detail: str = Field(default="", sa_column_kwargs={"server_default": ""})
    lines: list[Any] = _json("[]")
    refs: dict[str, Any] = _json()
    version: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    created_at: datetime = _moment(sa_column_kwargs={"server_default": sa.func.now()})


class OrderAlias(SQLModel, table=True):
    """A source's own key of an order: the same order may have one in each source."""

    __tablename__ = "order_alias"
    source: str = Field(primary_key=True)
    ref: str = Field(primary_key=True)
    order_id: UUID = Field(foreign_key="orders.id", index=True)


class RawRequest(SQLModel, table=True):
    """The exact bytes that a source sent, for as long as retention says."""

    __tablename__ = "raw_request"
    id: UUID = Field(primary_key=True)
    source: str
    received_at: datetime = _moment()
    headers: dict[str, Any] = _json()
    body: bytes


class Event(SQLModel, table=True):
    """The durable inbox: one row an order event, from its acceptance to its end."""

    __tablename__ = "event"
    __table_args__ = (
        sa.UniqueConstraint("source", "dedupe_key"),
        sa.Index("event_waiting", "id", postgresql_where=sa.text("waits")),
        sa.Index("event_quarantined", "held_for", postgresql_where=sa.text("held_for <> ''")),
        sa.Index("event_order", "order_id"),
    )
    id: UUID = Field(primary_key=True)
    raw_id: UUID | None = Field(default=None)
    source: str
    dedupe_key: str
    trigger: str
    received_at: datetime = _moment()
    occurred_at: datetime = _moment()
    content: dict[str, Any] = _json()
    state: str = Field(default="waiting", sa_column_kwargs={"server_default": "waiting"})
    reason: str = Field(default="", sa_column_kwargs={"server_default": ""})
    batch_id: UUID | None = None
    order_id: UUID | None = Field(default=None)
    status: str = Field(default="", sa_column_kwargs={"server_default": ""})
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    # What is searched by: an index on ``state`` itself would be written anew at every step of every event.
    waits: bool = _computed(sa.Boolean, "state = 'waiting'", nullable=False)
    held_for: str = _computed(sa.Text, "CASE WHEN state = 'quarantined' THEN reason ELSE '' END", nullable=False)


class Batch(SQLModel, table=True):
    """A group of events that one flow run takes through the pipeline, held under a lease."""

    __tablename__ = "batch"
    __table_args__ = (sa.Index("batch_open", "lease_until", postgresql_where=sa.text("finished_at IS NULL")),)
    id: UUID = Field(primary_key=True)
    kind: str
    event_ids: list[UUID] = Field(sa_type=pg.ARRAY(sa.Uuid), sa_column_kwargs={"nullable": False})
    created_at: datetime = _moment()
    owner: str = Field(default="", sa_column_kwargs={"server_default": ""})
    lease_until: datetime = _moment()
    flow_run_id: str = Field(default="", sa_column_kwargs={"server_default": ""})
    resend: str = Field(default="", sa_column_kwargs={"server_default": ""})
    tries: int = Field(default=0, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "0"})
    finished_at: datetime | None = _moment(default=None)


class Delivery(SQLModel, table=True):
    """One message to one address by one platform, and where it stands."""

    __tablename__ = "delivery"
    __table_args__ = (
        sa.UniqueConstraint("reference"),
        sa.Index("delivery_event", "event_id"),
        sa.Index("delivery_order", "order_id"),
        sa.Index(
            "delivery_provider",
            "platform",
            "provider_ref",
            postgresql_where=sa.text("provider_ref <> ''"),
        ),
        sa.Index("delivery_due", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    )
    id: UUID = Field(primary_key=True)
    reference: str
    event_id: UUID
    order_id: UUID | None = None
    client_id: str
    recipient_id: str
    contact_id: str
    channel: str
    platform: str
    address: str
    language: str
    template: str
    template_version: str = Field(default="", sa_column_kwargs={"server_default": ""})
    notice_ref: str = Field(default="", sa_column_kwargs={"server_default": ""})
    verdict: str
    rules: list[str] = _words()
    label: str
    removed: list[str] = _words()
    status: str
    status_at: datetime = _moment()
    event_at: datetime = _moment()
    version: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    attempts: int = Field(default=0, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "0"})
    next_attempt_at: datetime = _moment()
    sender: str = Field(default="", sa_column_kwargs={"server_default": ""})
    corrects: UUID | None = Field(default=None)
    provider_ref: str = Field(default="", sa_column_kwargs={"server_default": ""})
    code: str = Field(default="", sa_column_kwargs={"server_default": ""})
    # When an unfinished delivery is looked at again; as with events, indexed instead of what it is made of.
    due_at: datetime | None = _computed(
        sa.DateTime(timezone=True),
        "CASE WHEN status IN ('planned', 'authorized', 'sending', 'deferred', 'unknown') THEN next_attempt_at END",
        nullable=True,
    )


class Message(SQLModel, table=True):
    """The words of a delivery as they were authorized, with the salt of their commitment in the ledger."""

    __tablename__ = "message"
    delivery_id: UUID = Field(primary_key=True)
    body: bytes
    salt: bytes


class Attempt(SQLModel, table=True):
    """One try of a delivery on the wire: when, how it ended, how long it took (milliseconds)."""

    __tablename__ = "attempt"
    delivery_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=sa.SmallInteger)
    started_at: datetime = _moment()
    ended_at: datetime = _moment()
    outcome: str
    code: str
    http_status: int = Field(sa_type=sa.SmallInteger)


class Suppression(SQLModel, table=True):
    """A delivery we chose not to make, with the reason and the rules that decided."""

    __tablename__ = "suppression"
    id: UUID = Field(primary_key=True)
    event_id: UUID = Field(index=True)
    order_id: UUID | None = None
    recipient_id: str
    contact_id: str
    platform: str
    reason: str
    rules: list[str] = _words()
    at: datetime = _moment()


class Receipt(SQLModel, table=True):
    """A platform's later word on a delivery, kept once."""

    __tablename__ = "receipt"
    platform: str = Field(primary_key=True)
    dedupe_key: str = Field(primary_key=True)
    delivery_id: UUID | None = Field(default=None, index=True)
    status: str
    code: str
    received_at: datetime = _moment()
    applied: bool


class Extract(SQLModel, table=True):
    """One order extract, known by its name and exact content, and what became of its rows."""

    __tablename__ = "extract"
    __table_args__ = (
        sa.UniqueConstraint("name", "sha256"),
        sa.Index("extract_series", "series", "day"),
    )
    id: UUID = Field(primary_key=True)
    name: str
    series: str
    day: date
    sha256: str
    size: int = Field(sa_type=sa.BigInteger)
    modified_at: datetime = _moment()
    found_at: datetime = _moment()
    state: str = Field(default="found", sa_column_kwargs={"server_default": "found"})
    code: str = Field(default="", sa_column_kwargs={"server_default": ""})
    rows: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class ExtractRow(SQLModel, table=True):
    """A row of an extract that is held, with every reason; released when a later check of it finds none."""

    __tablename__ = "extract_row"
    __table_args__ = (sa.UniqueConstraint("extract_id", "number"),)
    id: UUID = Field(primary_key=True)
    extract_id: UUID = Field(foreign_key="extract.id")
    number: int
    reasons: list[str] = _words()
    content: dict[str, Any] = _json()
    held_at: datetime = _moment()
    released_at: datetime | None = _moment(default=None)
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class Shipment(SQLModel, table=True):
    """A parcel of an order that its carrier is asked about; without an order while none is known to have it."""

    __tablename__ = "shipment"
    __table_args__ = (
        sa.UniqueConstraint("order_id", "tracking_no"),
        sa.Index("shipment_number", "tracking_no"),
        sa.Index("shipment_unplaced", "tracking_no", unique=True, postgresql_where=sa.text("order_id IS NULL")),
        sa.Index("shipment_due", "next_question_at", postgresql_where=sa.text("next_question_at IS NOT NULL")),
    )
    id: UUID = Field(primary_key=True)
    order_id: UUID | None = Field(default=None, foreign_key="orders.id")
    tracking_no: str
    carrier: str = Field(default="", sa_column_kwargs={"server_default": ""})
    since: datetime = _moment()
    asked_at: datetime | None = _moment(default=None)
    next_question_at: datetime | None = _moment(default=None)
    lease_until: datetime | None = _moment(default=None)
    tries: int = Field(default=0, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "0"})
    followed_by: str = Field(default="", sa_column_kwargs={"server_default": ""})
    follow_again_at: datetime | None = _moment(default=None)
    stage: str = Field(default="label", sa_column_kwargs={"server_default": "label"})
    status: str = Field(default="", sa_column_kwargs={"server_default": ""})
    status_at: datetime | None = _moment(default=None)
    version: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


class TrackingEvent(SQLModel, table=True):
    """One thing that a carrier said of a shipment, kept once however often it is said."""

    __tablename__ = "tracking_event"
    shipment_id: UUID = Field(primary_key=True, foreign_key="shipment.id")
    carrier: str = Field(primary_key=True)
    known_by: str = Field(primary_key=True)
    raw_code: str = Field(primary_key=True)
    status: str = Field(default="", sa_column_kwargs={"server_default": ""})
    occurred_at: datetime = _moment()
    detail: str = Field(default="", sa_column_kwargs={"server_default": ""})
    estimated_delivery: date | None = None
    care: str
    event_id: str = Field(default="", sa_column_kwargs={"server_default": ""})
    title: str = Field(default="", sa_column_kwargs={"server_default": ""})


class CarrierUse(SQLModel, table=True):
    """How many calls a carrier got in a short time, for the quotas that all machines share."""

    __tablename__ = "carrier_use"
    carrier: str = Field(primary_key=True)
    seconds: int = Field(primary_key=True)
    slot: datetime = _moment(primary_key=True)
    calls: int


class PortalRequest(SQLModel, table=True):
    """What a person asked for about one order or many: a draft until it is posted, then done by a flow run."""

    __tablename__ = "portal_request"
    __table_args__ = (
        sa.Index("portal_request_open", "lease_until", postgresql_where=sa.text("state = 'posted'")),
        sa.Index("portal_request_created", "created_at"),
    )
    id: UUID = Field(primary_key=True)
    actor_kind: str
    actor_id: str
    door: str
    remote: str = Field(default="", sa_column_kwargs={"server_default": ""})
    reason: str
    note: str = Field(default="", sa_column_kwargs={"server_default": ""})
    state: str = Field(default="draft", sa_column_kwargs={"server_default": "draft"})
    created_at: datetime = _moment()
    posted_at: datetime | None = _moment(default=None)
    finished_at: datetime | None = _moment(default=None)
    owner: str = Field(default="", sa_column_kwargs={"server_default": ""})
    lease_until: datetime = _moment()
    flow_run_id: str = Field(default="", sa_column_kwargs={"server_default": ""})
    tries: int = Field(default=0, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "0"})
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class PortalRow(SQLModel, table=True):
    """One row of a request as it was given, and what became of it."""

    __tablename__ = "portal_row"
    request_id: UUID = Field(
        sa_column=sa.Column(sa.ForeignKey("portal_request.id", ondelete="CASCADE"), primary_key=True)
    )
    number: int = Field(primary_key=True)
    content: dict[str, Any] = _json()
    order_id: UUID | None = None
    state: str
    problem: str = Field(default="", sa_column_kwargs={"server_default": ""})
    field: str = Field(default="", sa_column_kwargs={"server_default": ""})
    known: str = Field(default="", sa_column_kwargs={"server_default": ""})
    event_id: UUID | None = None


class Incident(SQLModel, table=True):
    """Something that a person must look at."""

    __tablename__ = "incident"
    __table_args__ = (
        sa.Index("incident_once", "kind", "subject", unique=True, postgresql_where=sa.text("closed_at IS NULL")),
    )
    id: UUID = Field(primary_key=True)
    kind: str
    subject: str
    code: str = Field(default="", sa_column_kwargs={"server_default": ""})
    event_id: UUID | None = None
    order_id: UUID | None = None
    delivery_id: UUID | None = None
    opened_at: datetime = _moment()
    closed_at: datetime | None = _moment(default=None)
    times: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    level: int = Field(default=0, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "0"})


class Person(SQLModel, table=True):
    """An account of the supplier's staff."""

    __tablename__ = "person"
    id: str = Field(primary_key=True)
    name: str
    roles: list[str] = _words()
    password_hash: str
    active: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    failed_attempts: int = Field(default=0, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "0"})
    locked_until: datetime | None = _moment(default=None)
    password_changed_at: datetime = _moment()
    created_at: datetime = _moment()
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class Session(SQLModel, table=True):
    """A person signed in somewhere; the token itself is only with that person."""

    __tablename__ = "session"
    token: bytes = Field(primary_key=True)
    person_id: str = Field(foreign_key="person.id", index=True)
    csrf: str
    created_at: datetime = _moment()
    last_seen_at: datetime = _moment()
    expires_at: datetime = _moment()
    revoked_at: datetime | None = _moment(default=None)


class ApprovalCode(SQLModel, table=True):
    """A code that proves, once and for minutes, who decides in another place."""

    __tablename__ = "approval_code"
    sha256: bytes = Field(primary_key=True)
    person_id: str = Field(foreign_key="person.id", index=True)
    expires_at: datetime = _moment()
    used_at: datetime | None = _moment(default=None)


class Hold(SQLModel, table=True):
    """An order of which clients are told no more until compliance releases it."""

    __tablename__ = "hold"
    __table_args__ = (sa.Index("hold_open", "order_id", unique=True, postgresql_where=sa.text("ended_at IS NULL")),)
    id: UUID = Field(primary_key=True)
    order_id: UUID = Field(foreign_key="orders.id")
    event_id: UUID
    opened_at: datetime = _moment()
    asked_at: datetime = _moment()
    round: int = Field(default=1, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "1"})
    asks: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    flow_run_id: str = Field(default="", sa_column_kwargs={"server_default": ""})
    runs: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    ended_at: datetime | None = _moment(default=None)
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class HoldVote(SQLModel, table=True):
    """What one person decided of a hold, once in each round."""

    __tablename__ = "hold_vote"
    hold_id: UUID = Field(primary_key=True, foreign_key="hold.id")
    round: int = Field(primary_key=True, sa_type=sa.SmallInteger)
    person_id: str = Field(primary_key=True, foreign_key="person.id")
    decision: str
    reason: str
    at: datetime = _moment()


class Summary(SQLModel, table=True):
    """A client's summary of one of its days: made once, or found to have nothing to say."""

    __tablename__ = "summary"
    client_id: str = Field(primary_key=True, foreign_key="client.id")
    day: date = Field(primary_key=True)
    event_id: UUID | None = None
    covers_until: datetime = _moment()
