"""Wording: planned deliveries with the facts of their orders, and the messages that were authorized."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from ordernotify.core.audit import AuditType
from ordernotify.core.canonical import commitment
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Attachment, DeliveryStatus, Message
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Pool
from ordernotify.store.incidents import Incident, IncidentKind, open_incidents
from ordernotify.turns import in_turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a message may tell of an order."""

    carrier: str
    tracking_no: str
    promised_date: str
    detail: str
    lines: tuple[tuple[str, int], ...]
    refs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToWord:
    """A planned delivery with everything its words may be made of, before anything is removed."""

    delivery_id: UUID
    reference: str
    event_id: UUID
    order_id: UUID
    version: int
    channel: Channel
    platform: str
    address: str
    language: str
    template: str
    notice_ref: str
    label: str
    order_label: str
    government: bool
    removed: tuple[str, ...]
    notice_only: bool
    status: OrderStatus
    occurred_at: datetime
    order_no: str
    told: Told
    client_name: str
    recipient_name: str
    corrects: UUID | None = None  # the delivery that this one takes back, and the platform's id of it where it arrived
    corrected_ref: str = ""


@dataclass(frozen=True, slots=True)
class Worded:
    """A message ready to be authorized, with the version of its template and the salt of its commitment."""

    item: ToWord
    message: Message
    template_version: str
    salt: bytes


@dataclass(frozen=True, slots=True)
class Stopped:
    """A message that may not leave: the code says what the gate or the template found."""

    item: ToWord
    code: str


async def to_word(pool: Pool, event_ids: Sequence[UUID]) -> list[ToWord]:
    """Return the planned deliveries of ``event_ids``, in the order they were made."""
    rows = await pool.fetch(
        "SELECT d.id, d.reference, d.event_id, d.order_id, d.version, d.channel, d.platform, d.address,"
        " d.language, d.template, d.notice_ref, d.verdict, d.label, d.removed, d.event_at, e.content,"
        " o.order_no, o.carrier, o.tracking_no, o.promised_date, o.lines, o.refs, o.label AS order_label,"
        " o.contract_id, c.name AS client_name, r.name AS recipient_name, d.corrects,"
        " coalesce(old.provider_ref, '') AS corrected_ref"
        " FROM delivery d JOIN event e ON e.id = d.event_id JOIN orders o ON o.id = d.order_id"
        " JOIN client c ON c.id = d.client_id JOIN recipient r ON r.id = d.recipient_id"
        " LEFT JOIN delivery old ON old.id = d.corrects AND old.platform = d.platform AND old.address = d.address"
        " AND old.status IN ('sent', 'delivered', 'read')"
        " WHERE d.event_id = ANY($1) AND d.status = 'planned' ORDER BY d.id",
        event_ids,
    )
    return await in_turns(_to_word_of, rows)


def _to_word_of(row: asyncpg.Record) -> ToWord:
    event = OrderEvent.from_dict(row["content"])
    return ToWord(
        delivery_id=row["id"],
        reference=row["reference"],
        event_id=row["event_id"],
        order_id=row["order_id"],
        version=row["version"],
        channel=Channel(row["channel"]),
        platform=row["platform"],
        address=row["address"],
        language=row["language"],
        template=row["template"],
        notice_ref=row["notice_ref"],
        label=row["label"],
        order_label=row["order_label"],
        government=bool(row["contract_id"]),
        removed=tuple(row["removed"]),
        notice_only=bool(row["notice_ref"]),
        status=event.status,
        occurred_at=row["event_at"],
        order_no=row["order_no"],
        told=told_of(event, row),
        client_name=row["client_name"],
        recipient_name=row["recipient_name"],
        corrects=row["corrects"],
        corrected_ref=row["corrected_ref"],
    )


def told_of(event: OrderEvent, order: asyncpg.Record) -> Told:
    """Return what is told: what the event said, and what it left out as it is known of the order."""
    late = event.status is OrderStatus.DELAYED
    return Told(
        carrier=event.carrier or order["carrier"],
        tracking_no=event.tracking_no or order["tracking_no"],
        # A delay that names no new date is not told with the old one.
        promised_date=event.promised_date or ("" if late else order["promised_date"]),
        detail=event.detail,
        lines=tuple((str(sku), int(quantity)) for sku, quantity in order["lines"]),
        refs={**order["refs"], **event.refs},
    )


async def authorize(
    pool: Pool, scribe: Scribe, worded: Sequence[Worded], stopped: Sequence[Stopped], *, at: datetime
) -> None:
    """Store the words of deliveries with the record that authorizes each, and quarantine what was stopped."""
    async with pool.acquire() as connection, connection.transaction():
        held = await connection.fetch(
            "SELECT id FROM delivery WHERE id = ANY($1) AND status = 'planned' ORDER BY id FOR UPDATE",
            [entry.item.delivery_id for entry in worded] + [entry.item.delivery_id for entry in stopped],
        )
        mine = {row["id"] for row in held}
        ready = [entry for entry in worded if entry.item.delivery_id in mine]
        refused = [entry for entry in stopped if entry.item.delivery_id in mine]
        await connection.copy_records_to_table(
            "message",
            columns=("delivery_id", "body", "salt"),
            records=await in_turns(
                lambda entry: (entry.item.delivery_id, message_bytes(entry.message), entry.salt), ready
            ),
        )
        await connection.execute(
            "UPDATE delivery SET status = w.status, status_at = $6, version = delivery.version + 1,"
            " template_version = w.template_version, code = w.code"
            " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS w(id, status, template_version,"
            " code) WHERE delivery.id = w.id AND delivery.id = ANY($5)",
            [entry.item.delivery_id for entry in ready] + [entry.item.delivery_id for entry in refused],
            [DeliveryStatus.AUTHORIZED.value] * len(ready) + [DeliveryStatus.QUARANTINED.value] * len(refused),
            [entry.template_version for entry in ready] + [""] * len(refused),
            [""] * len(ready) + [entry.code for entry in refused],
            list(mine),
            at,
        )
        await emit(
            connection,
            await in_turns(partial(_authorized, scribe, at=at), ready)
            + [_gate_hit(scribe, entry, at=at) for entry in refused],
        )
        await open_incidents(
            connection,
            scribe,
            [
                Incident(
                    IncidentKind.CONTENT_STOPPED,
                    str(entry.item.delivery_id),
                    code=entry.code,
                    event_id=entry.item.event_id,
                    order_id=entry.item.order_id,
                    delivery_id=entry.item.delivery_id,
                )
                for entry in refused
            ],
            at=at,
        )


def _authorized(scribe: Scribe, entry: Worded, *, at: datetime) -> Record:
    item = entry.item
    return scribe.record(
        AuditType.DELIVERY_AUTHORIZED,
        object_=("delivery", str(item.delivery_id)),
        stream=(str(item.delivery_id), item.version + 1),
        at=at,
        outcome={
            "status": "success",
            "channel": item.channel.value,
            "platform": item.platform,
            "template": item.template,
            "template_version": entry.template_version,
            "gate": "passed",
            **({"edits": True} if entry.message.edit_of else {}),
        },
        corr={"event_id": str(item.event_id)} | ({"corrects": str(item.corrects)} if item.corrects else {}),
        data={"label": item.label, "commit": message_commitment(entry.message, entry.salt)},
    )


def _gate_hit(scribe: Scribe, entry: Stopped, *, at: datetime) -> Record:
    return scribe.record(
        AuditType.GATE_HIT,
        object_=("delivery", str(entry.item.delivery_id)),
        stream=(str(entry.item.delivery_id), entry.item.version + 1),
        at=at,
        outcome={"status": "failure", "code": entry.code, "platform": entry.item.platform},
        corr={"event_id": str(entry.item.event_id)},
    )


def message_bytes(message: Message) -> bytes:
    """Return a message as the bytes that are stored; ``read_message`` is the inverse."""
    return orjson.dumps(_as_dict(message))


def message_commitment(message: Message, salt: bytes) -> str:
    """Return the keyed commitment of what is said to whom, so that the ledger proves it without holding it."""
    said: dict[str, Any] = {
        "to": message.to,
        "subject": message.subject,
        "text": message.text,
        "html": message.html,
        "facts": [[name, value] for name, value in message.facts],
    }
    if message.attachments:
        said["attachments"] = [[one.name, hashlib.sha256(one.content).hexdigest()] for one in message.attachments]
    return commitment(salt, said)


def read_message(body: bytes) -> Message:
    """Return the message that ``message_bytes`` stored."""
    values: dict[str, Any] = orjson.loads(body)
    occurred_at = values["occurred_at"]
    return Message(
        delivery_id=values["delivery_id"],
        reference=values["reference"],
        channel=Channel(values["channel"]),
        to=values["to"],
        status=OrderStatus(values["status"]),
        language=values["language"],
        text=values["text"],
        subject=values["subject"],
        html=values["html"],
        facts=tuple((name, value) for name, value in values["facts"]),
        variables=values["variables"],
        refs=values["refs"],
        attachments=tuple(
            Attachment(name, kind, base64.b64decode(content)) for name, kind, content in values.get("attachments", ())
        ),
        notice_only=values["notice_only"],
        edit_of=values["edit_of"],
        occurred_at=datetime.fromisoformat(occurred_at) if occurred_at else None,
    )


def _as_dict(message: Message) -> dict[str, Any]:
    return {
        "delivery_id": message.delivery_id,
        "reference": message.reference,
        "channel": message.channel.value,
        "to": message.to,
        "status": message.status.value,
        "language": message.language,
        "text": message.text,
        "subject": message.subject,
        "html": message.html,
        "facts": message.facts,
        "variables": message.variables,
        "refs": message.refs,
        "attachments": [
            (one.name, one.content_type, base64.b64encode(one.content).decode("ascii")) for one in message.attachments
        ],
        "notice_only": message.notice_only,
        "edit_of": message.edit_of,
        "occurred_at": message.occurred_at.isoformat() if message.occurred_at else "",
    }
