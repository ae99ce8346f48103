"""Audit records: the catalogue of what is recorded, and the envelope that says what, when, where and who."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

import orjson

from ordernotify.core.canonical import MAX_DEPTH, CanonicalError, canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias, Unpack

    Part: TypeAlias = Mapping[str, object]
    Envelope: TypeAlias = dict[str, object]

SCHEMA_VERSION: Final = 1


class AuditType(StrEnum):
    """Everything that is recorded. Stored for years: words may be added, never changed or reused."""

    INGEST_RECEIVED = "ingest.received"
    INGEST_REJECTED = "ingest.rejected"
    INGEST_ACCEPTED = "ingest.accepted"
    INGEST_DUPLICATE = "ingest.duplicate"
    VALIDATE_PASSED = "validate.passed"
    VALIDATE_FAILED = "validate.failed"
    LABEL_ASSIGNED = "label.assigned"
    LABEL_RAISED = "label.raised"
    LABEL_OVERRIDDEN = "label.overridden"

    POLICY_DECIDED = "policy.decided"
    POLICY_PROPOSED = "policy.proposed"
    POLICY_APPROVED = "policy.approved"
    POLICY_ACTIVATED = "policy.activated"
    POLICY_RETIRED = "policy.retired"

    RENDER_DONE = "render.done"
    RENDER_FAILED = "render.failed"
    GATE_PASSED = "gate.passed"
    GATE_HIT = "gate.hit"

    QUARANTINE_PLACED = "quarantine.placed"
    QUARANTINE_RELEASED = "quarantine.released"
    QUARANTINE_DESTROYED = "quarantine.destroyed"

    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_GRANTED = "approval.granted"
    APPROVAL_REFUSED = "approval.refused"

    ORDER_HELD = "order.held"  # nothing further of it is told
    ORDER_RELEASED = "order.released"

    DELIVERY_AUTHORIZED = "delivery.authorized"
    DELIVERY_ATTEMPTED = "delivery.attempted"
    DELIVERY_SENT = "delivery.sent"
    DELIVERY_DEFERRED = "delivery.deferred"
    DELIVERY_FAILED = "delivery.failed"
    DELIVERY_UNKNOWN = "delivery.unknown"  # nobody can say yet whether it left
    DELIVERY_RECEIPT = "delivery.receipt"
    DELIVERY_RECALLED = "delivery.recalled"
    DELIVERY_SUPPRESSED = "delivery.suppressed"
    DELIVERY_SUPERSEDED = "delivery.superseded"  # newer news overtook it

    CONSENT_GRANTED = "consent.granted"
    CONSENT_REVOKED = "consent.revoked"
    CONSENT_CONFIRMED = "consent.confirmed"

    RECIPIENT_CREATED = "recipient.created"
    RECIPIENT_CHANGED = "recipient.changed"
    RECIPIENT_VERIFIED = "recipient.verified"
    RECIPIENT_DEACTIVATED = "recipient.deactivated"

    CHANNEL_REGISTERED = "channel.registered"
    CHANNEL_CHANGED = "channel.changed"
    CHANNEL_SUSPENDED = "channel.suspended"
    CHANNEL_RESUMED = "channel.resumed"
    CHANNEL_RETIRED = "channel.retired"

    TEMPLATE_CREATED = "template.created"
    TEMPLATE_CHANGED = "template.changed"
    TEMPLATE_APPROVED = "template.approved"
    TEMPLATE_RETIRED = "template.retired"

    AUTHN_SUCCESS = "authn.success"
    AUTHN_FAIL = "authn.fail"
    AUTHN_LOGOUT = "authn.logout"
    AUTHN_LOCK = "authn.lock"
    AUTHN_MFA = "authn.mfa"
    AUTHZ_DENIED = "authz.denied"

    USER_CREATED = "user.created"
    USER_CHANGED = "user.changed"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    ROLE_GRANTED = "role.granted"
    ROLE_REVOKED = "role.revoked"
    SESSION_REVOKED = "session.revoked"

    CONFIG_CHANGED = "config.changed"
    APP_STARTED = "app.started"
    APP_STOPPED = "app.stopped"
    CATALOGUE_REVIEWED = "catalogue.reviewed"

    FLOW_RUN_SCHEDULED = "flow.run.scheduled"
    FLOW_RUN_STARTED = "flow.run.started"
    FLOW_RUN_COMPLETED = "flow.run.completed"
    FLOW_RUN_FAILED = "flow.run.failed"
    FLOW_RUN_CRASHED = "flow.run.crashed"
    FLOW_RUN_CANCELLED = "flow.run.cancelled"
    FLOW_RUN_RETRIED = "flow.run.retried"
    FLOW_DELETED = "flow.deleted"

    EXPORT_CREATED = "export.created"
    EXPORT_DOWNLOADED = "export.downloaded"

    AUDIT_VIEWED = "audit.viewed"
    AUDIT_EXPORTED = "audit.exported"
    AUDIT_VERIFIED = "audit.verified"
    AUDIT_VERIFY_FAILED = "audit.verify_failed"
    AUDIT_FAILURE = "audit.failure"
    AUDIT_RECOVERED = "audit.recovered"

    REVIEW_OPENED = "review.opened"
    REVIEW_FINDING = "review.finding"
    REVIEW_CLOSED = "review.closed"
    REVIEW_OVERDUE = "review.overdue"

    RETENTION_SCHEDULED = "retention.scheduled"
    RETENTION_PURGED = "retention.purged"
    HOLD_PLACED = "hold.placed"
    HOLD_LIFTED = "hold.lifted"
    PAYLOAD_SHREDDED = "payload.shredded"

    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    CHECKPOINT_SIGNED = "checkpoint.signed"
    CHECKPOINT_ANCHORED = "checkpoint.anchored"
    CLOCK_ANOMALY = "clock.anomaly"

    INCIDENT_OPENED = "incident.opened"
    INCIDENT_CHANGED = "incident.changed"
    INCIDENT_DECLARED = "incident.declared"
    INCIDENT_REPORTED = "incident.reported"
    INCIDENT_CLOSED = "incident.closed"


ACTOR_KINDS: Final = frozenset({"person", "service", "provider"})

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a person, a service or a provider, by opaque id."""

    kind: str
    id: str

    def __post_init__(self) -> None:
        if self.kind not in ACTOR_KINDS:
            raise ValueError(f"actor.kind: must be one of {', '.join(sorted(ACTOR_KINDS))}")
        if not self.id:
            raise ValueError("actor.id: must not be empty")

    def as_part(self) -> Part:
        """Return it as a part of the envelope."""
        return {"id": self.id, "kind": self.kind}


@dataclass(frozen=True, slots=True)
class Source:
    """Where it came from: the kind of door, its opaque id, and the address for people and webhooks."""

    kind: str
    id: str
    ip: str | None = None

    def __post_init__(self) -> None:
        if not (self.kind and self.id):
            raise ValueError("source: kind and id must not be empty")

    def as_part(self) -> Part:
        """Return it as a part of the envelope."""
        return {"id": self.id, "kind": self.kind} | ({} if self.ip is None else {"ip": self.ip})


@dataclass(frozen=True, slots=True)
class Object:
    """What it happened to, by kind and opaque id."""

    kind: str
    id: str

    def __post_init__(self) -> None:
        if not (self.kind and self.id):
            raise ValueError("object: kind and id must not be empty")


@dataclass(frozen=True, slots=True)
class Stream:
    """The order, message or person whose history this record continues, as number ``version`` from 1."""

    id: str
    version: int

    def __post_init__(self) -> None:
        if not self.id or self.version < 1:
            raise ValueError("stream: id must not be empty and version must be at least 1")


class RecordFields(TypedDict):
    """The keyword arguments of ``record``."""

    event_id: str
    type: AuditType
    occurred_at: datetime
    recorded_at: datetime
    where_host: str
    component: str
    actor: Actor
    source: Source
    object: Object
    outcome: Part
    stream: Stream
    corr: NotRequired[Part | None]
    data: NotRequired[Part | None]
    on_behalf_of: NotRequired[Actor | None]
    approval: NotRequired[Part | None]
    release: NotRequired[str | None]


def record(  # noqa: PLR0913 - one argument for each field of the envelope
    *,
    event_id: str,
    type: AuditType,  # noqa: A002 - the envelope's own word
    occurred_at: datetime,
    recorded_at: datetime,
    where_host: str,
    component: str,
    actor: Actor,
    source: Source,
    object: Object,  # noqa: A002 - the envelope's own word
    outcome: Part,
    stream: Stream,
    corr: Part | None = None,
    data: Part | None = None,
    on_behalf_of: Actor | None = None,
    approval: Part | None = None,
    release: str | None = None,
) -> Envelope:
    """Return the envelope of one audit record, ready for ``canonical_bytes``.

    ``event_id`` is a lower-case UUIDv7; the times are aware and are written in UTC with microseconds;
    ``outcome`` holds at least ``status``; ``release`` is the digest of the running code. No field may hold
    personal data or free text from outside. Optional parts that are None are left out.
    Raises ValueError naming the field that is missing or wrong.
    """
    _check(event_id, where_host, component, outcome)
    where = {"component": component, "host": where_host}
    if release is not None:
        where["release"] = release
    envelope: Envelope = {
        "actor": actor.as_part(),
        "event_id": event_id,
        "object": {"id": object.id, "kind": object.kind},
        "occurred_at": _rfc3339(occurred_at, "occurred_at"),
        "outcome": dict(outcome),
        "recorded_at": _rfc3339(recorded_at, "recorded_at"),
        "source": source.as_part(),
        "stream": {"id": stream.id, "version": stream.version},
        "type": AuditType(type).value,
        "v": SCHEMA_VERSION,
        "where": where,
    }
    if on_behalf_of is not None:
        envelope["on_behalf_of"] = on_behalf_of.as_part()
    for name, part in (("approval", approval), ("corr", corr), ("data", data)):
        if part is not None:
            envelope[name] = dict(part)
    return envelope


def record_bytes(**fields: Unpack[RecordFields]) -> bytes:
    """Return the bytes to store and hash for the record of these fields; see ``record``.

    Raises ValueError as ``record`` does, CanonicalError if a part holds a value outside the profile.
    """
    if fields.keys() <= _USUAL:
        try:
            usual = _usual_bytes(fields)
        except (CanonicalError, orjson.JSONEncodeError):
            usual = _NOT_ASCII  # refused below, where the path of the value is known
        if usual.isascii():
            return usual
    return canonical_bytes(record(**fields))


_USUAL: Final = RecordFields.__required_keys__ | {"corr", "data"}
_NOT_ASCII: Final = b"\xff"


def _usual_bytes(fields: RecordFields) -> bytes:
    """Return the record's bytes, put together of parts most of which are the same from record to record.

    Several records are written for every message, so this is the hottest code of all. Right only where all of it
    turns out to be ASCII.
    """
    event_id, object_, stream = fields["event_id"], fields["object"], fields["stream"]
    _check(event_id, fields["where_host"], fields["component"], fields["outcome"])
    return b"".join(
        (
            b'{"actor":',
            _encoded(fields["actor"]),
            _named(b',"corr":', fields.get("corr")),
            _named(b',"data":', fields.get("data")),
            b',"event_id":"',
            event_id.encode(),
            b'","object":{"id":',
            orjson.dumps(object_.id),
            b',"kind":',
            orjson.dumps(object_.kind),
            b'},"occurred_at":"',
            _rfc3339(fields["occurred_at"], "occurred_at").encode(),
            _named(b'","outcome":', fields["outcome"]),
            b',"recorded_at":"',
            _rfc3339(fields["recorded_at"], "recorded_at").encode(),
            b'","source":',
            _encoded(fields["source"]),
            b',"stream":{"id":',
            orjson.dumps(stream.id),
            b',"version":%d},"type":"' % stream.version,
            fields["type"].value.encode(),
            b'","v":%d,"where":' % SCHEMA_VERSION,
            _place(fields["component"], fields["where_host"]),
            b"}",
        )
    )


def _named(name: bytes, part: Part | None) -> bytes:
    return b"" if part is None else name + canonical_bytes(part, levels=MAX_DEPTH - 1)


@lru_cache(maxsize=1024)
def _encoded(part: Actor | Source) -> bytes:
    return orjson.dumps(part.as_part(), option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=64)
def _place(component: str, host: str) -> bytes:
    return orjson.dumps({"component": component, "host": host})


def _check(event_id: str, where_host: str, component: str, outcome: Part) -> None:
    if _UUID7.fullmatch(event_id) is None:
        raise ValueError("event_id: must be a lower-case UUID of version 7")
    if not (where_host and component):
        raise ValueError("where: host and component must not be empty")
    if not outcome.get("status"):
        raise ValueError("outcome.status: must say how it ended")


def _rfc3339(moment: datetime, field: str) -> str:
    if moment.tzinfo is UTC:
        return _written(moment)
    if moment.utcoffset() is None:
        raise ValueError(f"{field}: must be an aware datetime")
    return _written(moment.astimezone(UTC))


# Records of one transaction share their times.
@lru_cache(maxsize=256)
def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
