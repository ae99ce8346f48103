"""Summary records: each client's day is told once, in one transaction with the records that allow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ordernotify.clock import new_id
from ordernotify.core.audit import AuditType
from ordernotify.core.delivery import DeliveryStatus, Message
from ordernotify.core.events import Trigger
from ordernotify.core.labels import Label
from ordernotify.core.planning import Suppressed, SuppressionReason
from ordernotify.core.policy import POLICY_VERSION
from ordernotify.core.summaries import SOURCE, Cut, dedupe_key
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Connection, Pool
from ordernotify.store.inbox import LEASE, BatchKind, EventState
from ordernotify.store.incidents import Incident, IncidentKind, open_incidents
from ordernotify.store.plans import IN_HAND
from ordernotify.store.summaries import DueClient
from ordernotify.store.wording import message_bytes, message_commitment

# A change that was on its way while the last summary was made is told by the next one; rather twice than never.
_SETTLES: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """A contact's summary, worded; without a message where it may not leave, for the reason in ``code``."""

    delivery_id: UUID
    reference: str
    cut: Cut
    template: str
    template_version: str
    notice_ref: str
    message: Message | None
    salt: bytes
    code: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """What is to be kept of one client's day: its words and what was held back; neither when there is nothing.

    ``failed`` names the kind of error that kept it from being made.
    """

    client: DueClient
    event_id: UUID
    summed: Sequence[Summed]
    suppressed: Sequence[Suppressed]
    label: Label
    failed: str = ""

    @property
    def says_something(self) -> bool:
        """Whether there was anything to tell, to whomever."""
        return bool(self.summed or self.suppressed)


async def record(
    pool: Pool, scribe: Scribe, made: Sequence[Made], *, batch_id: UUID, owner: str, run_id: str, at: datetime
) -> int:
    """Store summaries that nobody made meanwhile, signed for, as a batch that is ready to be sent.

    Returns how many clients have one. All of it is one transaction: either a client's day was told, or it is
    still due. A batch whose process dies is found by its lease, as every batch.
    """
    async with pool.acquire() as connection, connection.transaction():
        fresh = await connection.fetch(
            "INSERT INTO summary (client_id, day, event_id, covers_until) SELECT *, $4"
            " FROM unnest($1::text[], $2::date[], $3::uuid[]) ON CONFLICT DO NOTHING RETURNING client_id",
            [one.client.id for one in made],
            [one.client.day for one in made],
            [one.event_id if one.says_something else None for one in made],
            at - _SETTLES,
        )
        won = {row["client_id"] for row in fresh}
        mine = [one for one in made if one.client.id in won]
        told = [one for one in mine if one.says_something]
        if told:
            await _write_batch(connection, told, batch_id=batch_id, owner=owner, run_id=run_id, at=at)
            await _write_deliveries(connection, told, at=at)
        await emit(connection, [entry for one in told for entry in _records(scribe, one, batch_id=batch_id, at=at)])
        await open_incidents(connection, scribe, [cause for one in mine for cause in _causes(one)], at=at)
    return len(told)


async def _write_batch(
    connection: Connection, told: Sequence[Made], *, batch_id: UUID, owner: str, run_id: str, at: datetime
) -> None:
    await connection.execute(
        "INSERT INTO event (id, source, dedupe_key, trigger, received_at, occurred_at, content, state, reason,"
        " batch_id, status) SELECT id, $3, key, $4, $5, $5, '{}', $6, 'summary', $7, '' FROM unnest($1::uuid[],"
        " $2::text[]) AS e(id, key)",
        [one.event_id for one in told],
        [dedupe_key(one.client.id, one.client.day) for one in told],
        SOURCE,
        Trigger.BATCH.value,
        at,
        EventState.PLANNED.value,
        batch_id,
    )
    await connection.execute(
        "INSERT INTO batch (id, kind, event_ids, created_at, owner, lease_until, flow_run_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        batch_id,
        BatchKind.SUMMARY.value,
        [one.event_id for one in told],
        at,
        owner,
        at + LEASE,
        run_id,
    )


async def _write_deliveries(connection: Connection, told: Sequence[Made], *, at: datetime) -> None:
    summed = [(one, each) for one in told for each in one.summed]
    await connection.copy_records_to_table(
        "delivery",
        columns=(
            *("id", "reference", "event_id", "client_id", "recipient_id", "contact_id", "channel", "platform"),
            *("address", "language", "template", "template_version", "notice_ref", "verdict", "rules", "label"),
            *("removed", "status", "code", "version", "status_at", "event_at", "next_attempt_at"),
        ),
        records=[_delivery(one, each, at=at) for one, each in summed],
    )
    await connection.copy_records_to_table(
        "message",
        columns=("delivery_id", "body", "salt"),
        records=[
            (each.delivery_id, message_bytes(each.message), each.salt) for _, each in summed if each.message is not None
        ],
    )
    await connection.copy_records_to_table(
        "suppression",
        columns=("id", "event_id", "recipient_id", "contact_id", "platform", "reason", "rules", "at"),
        records=[
            (new_id(), one.event_id, row.recipient.id, row.contact.id, row.contact.platform, row.reason.value,
             list(row.rules), at)
            for one in told for row in one.suppressed
        ],
    )  # fmt: skip


def _delivery(one: Made, each: Summed, *, at: datetime) -> tuple[object, ...]:
    cut, contact = each.cut, each.cut.contact
    status = DeliveryStatus.QUARANTINED if each.message is None else DeliveryStatus.AUTHORIZED
    return (
        *(each.delivery_id, each.reference, one.event_id, one.client.id, cut.recipient.id, contact.id),
        *(contact.channel.value, contact.platform, contact.address, cut.recipient.language, each.template),
        *(each.template_version, each.notice_ref, cut.decision.verdict.value, list(cut.decision.rules)),
        *(cut.label.word, list(cut.decision.removed), status.value, each.code, 1, at, at, at + IN_HAND),
    )


def _records(scribe: Scribe, one: Made, *, batch_id: UUID, at: datetime) -> list[Record]:
    decided = scribe.record(
        AuditType.POLICY_DECIDED,
        object_=("event", str(one.event_id)),
        stream=(str(one.event_id), 1),
        at=at,
        outcome={
            "status": "success",
            "policy": POLICY_VERSION,
            "label": one.label.word,
            "decisions": [_decision(each) for each in one.summed]
            + [
                {"contact": row.contact.id, "decision": row.reason.value, "rules": list(row.rules)}
                for row in one.suppressed
            ],
        },
        corr={"batch_id": str(batch_id)},
    )
    return [decided, *(_worded(scribe, one, each, at=at) for each in one.summed)]


def _decision(each: Summed) -> dict[str, object]:
    cut = each.cut
    return {
        "contact": cut.contact.id,
        "decision": cut.decision.verdict.value,
        "rules": list(cut.decision.rules),
        "removed": list(cut.decision.removed),
        "delivery": str(each.delivery_id),
        "orders": {"named": len(cut.named), "unnamed": cut.unnamed, "denied": cut.denied},
    }


def _worded(scribe: Scribe, one: Made, each: Summed, *, at: datetime) -> Record:
    contact = each.cut.contact
    common = {"channel": contact.channel.value, "platform": contact.platform}
    if each.message is None:
        return scribe.record(
            AuditType.GATE_HIT,
            object_=("delivery", str(each.delivery_id)),
            stream=(str(each.delivery_id), 1),
            at=at,
            outcome={"status": "failure", "code": each.code, **common},
            corr={"event_id": str(one.event_id)},
        )
    version = {"template": each.template, "template_version": each.template_version}
    return scribe.record(
        AuditType.DELIVERY_AUTHORIZED,
        object_=("delivery", str(each.delivery_id)),
        stream=(str(each.delivery_id), 1),
        at=at,
        outcome={"status": "success", **common, **version, "gate": "passed"},
        corr={"event_id": str(one.event_id)},
        data={"label": each.cut.label.word, "commit": message_commitment(each.message, each.salt)},
    )


def _causes(one: Made) -> list[Incident]:
    if one.failed:
        return [Incident(IncidentKind.SUMMARY_FAILED, dedupe_key(one.client.id, one.client.day), code=one.failed)]
    stopped = [
        Incident(
            IncidentKind.CONTENT_STOPPED,
            str(each.delivery_id),
            code=each.code,
            event_id=one.event_id,
            delivery_id=each.delivery_id,
        )
        for each in one.summed
        if each.message is None
    ]
    missing = {row.contact.platform for row in one.suppressed if row.reason is SuppressionReason.NOT_CONFIGURED}
    code = SuppressionReason.NOT_CONFIGURED.value
    return stopped + [Incident(IncidentKind.PLATFORM_STOPPED, name, code=code) for name in sorted(missing)]
