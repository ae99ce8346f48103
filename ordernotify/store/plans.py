"""Plans: what planning needs to know of admitted events, and the deliveries and suppressions it decided."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from ordernotify.clock import new_id
from ordernotify.core.audit import AuditType
from ordernotify.core.channels import Channel, Level
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.core.ids import notice_reference
from ordernotify.core.labels import Label, Tags
from ordernotify.core.planning import Planned, Registered, Suppressed, SuppressionReason
from ordernotify.core.policy import POLICY_VERSION, OrderFacts, Verdict
from ordernotify.core.recipients import Consent, ContactPoint, Recipient, UsPerson
from ordernotify.platforms import PLATFORMS
from ordernotify.store import corrections
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Connection, Pool
from ordernotify.store.incidents import Incident, IncidentKind, open_incidents

# A delivery is in its run's hands this long before the search for due deliveries may find it.
IN_HAND = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class ToPlan:
    """An admitted event with its order as policy sees it."""

    event_id: UUID
    version: int
    event: OrderEvent
    order_id: UUID
    client_id: str
    facts: OrderFacts


@dataclass(frozen=True, slots=True)
class EventPlan:
    """What was decided for one event."""

    item: ToPlan
    rows: Sequence[Planned | Suppressed]


async def to_plan(pool: Pool, event_ids: Sequence[UUID], *, again: bool = False) -> list[ToPlan]:
    """Return the admitted events among ``event_ids``; with ``again`` also those planned before (a resend)."""
    rows = await pool.fetch(
        "SELECT e.id, e.version, e.content, o.id AS order_id, o.client_id, o.label, o.categories, o.ldc,"
        " o.jurisdiction, o.contract_id FROM event e JOIN orders o ON o.id = e.order_id"
        " WHERE e.id = ANY($1) AND e.state = ANY($2) ORDER BY e.occurred_at, e.id",
        event_ids,
        ["admitted", "planned", "closed"] if again else ["admitted"],
    )
    return [
        ToPlan(
            event_id=row["id"],
            version=row["version"],
            event=OrderEvent.from_dict(row["content"]),
            order_id=row["order_id"],
            client_id=row["client_id"],
            facts=facts_of(row),
        )
        for row in rows
    ]


def facts_of(row: asyncpg.Record) -> OrderFacts:
    """Return an order as policy sees it, of the columns of its table."""
    return OrderFacts(
        label=Label.read(row["label"]),
        tags=Tags(categories=frozenset(row["categories"]), ldc=frozenset(row["ldc"]), jurisdiction=row["jurisdiction"]),
        government=bool(row["contract_id"]),
        contract_id=row["contract_id"],
    )


async def recipients_of(pool: Pool, client_ids: Sequence[str]) -> dict[str, list[Recipient]]:
    """Return the recipients of every client, with their active contacts."""
    rows = await pool.fetch(
        "SELECT r.*, p.id AS contact_id, p.channel, p.platform, p.address, p.level, p.verified, p.position,"
        " p.statuses, p.consent, p.summary FROM recipient r JOIN contact_point p ON p.recipient_id = r.id AND p.active"
        " WHERE r.client_id = ANY($1) ORDER BY r.id, p.position, p.id",
        list(set(client_ids)),
    )
    contacts: dict[str, list[ContactPoint]] = {}
    owners: dict[str, asyncpg.Record] = {}
    for row in rows:
        owners[row["id"]] = row
        contacts.setdefault(row["id"], []).append(_contact(row))
    found: dict[str, list[Recipient]] = {}
    for recipient_id, row in owners.items():
        found.setdefault(row["client_id"], []).append(_recipient(row, tuple(contacts[recipient_id])))
    return found


async def registry(pool: Pool, configured: Sequence[str], *, at: datetime) -> dict[str, Registered]:
    """Return every configured platform as a channel, with the level in force at ``at``.

    A platform nobody registered has its declaration's cautious default; expired evidence means C0.
    """
    rows = await pool.fetch("SELECT platform, level, enabled, expires_at FROM channel")
    known = {row["platform"]: row for row in rows}
    found = {}
    for name in configured:
        row = known.get(name)
        if row is None:
            found[name] = Registered(level=PLATFORMS[name].level, enabled=True)
            continue
        expired = row["expires_at"] is not None and row["expires_at"] <= at
        level = min(Level(row["level"]), Level.C0) if expired else Level(row["level"])
        found[name] = Registered(level=level, enabled=row["enabled"])
    return found


async def resends(pool: Pool, batch_id: UUID) -> dict[UUID, int]:
    """Return the number that a batch's deliberate resend of each of its events has: 1 for the first.

    It stays the same whenever it is asked, so that a retry of the run makes the same deliveries.
    """
    rows = await pool.fetch(
        "SELECT e.id, count(b.id) FROM batch mine CROSS JOIN unnest(mine.event_ids) AS e(id)"
        " JOIN batch b ON b.resend <> '' AND e.id = ANY(b.event_ids)"
        " AND (b.created_at, b.id) <= (mine.created_at, mine.id) WHERE mine.id = $1 GROUP BY e.id",
        batch_id,
    )
    return {row["id"]: row["count"] for row in rows}


async def record_plan(
    pool: Pool,
    scribe: Scribe,
    plans: Sequence[EventPlan],
    *,
    batch_id: UUID,
    at: datetime,
    again: bool = False,
) -> int:
    """Store deliveries, suppressions and the decisions' records; returns how many deliveries are new.

    A delivery whose reference exists is not made twice: a plan repeated after a crash adds nothing.
    """
    made: list[tuple[UUID, EventPlan, Planned]] = [
        (new_id(), plan, row) for plan in plans for row in plan.rows if isinstance(row, Planned)
    ]
    async with pool.acquire() as connection, connection.transaction():
        held = await connection.fetch(
            "SELECT id, version FROM event WHERE id = ANY($1) AND (state = 'admitted' OR $2) ORDER BY id FOR UPDATE",
            [plan.item.event_id for plan in plans],
            again,
        )
        versions = {row["id"]: row["version"] for row in held}
        made = [entry for entry in made if entry[1].item.event_id in versions]
        fresh = await _insert_deliveries(connection, made, at=at)
        corrected = await corrections.link(
            connection,
            {
                plan.item.event_id: plan.item.event.corrects
                for plan in plans
                if plan.item.event.corrects and plan.item.event_id in versions
            },
        )
        await _insert_suppressions(connection, plans, versions, at=at)
        await connection.execute(
            "UPDATE event SET state = 'planned', version = version + 1 WHERE id = ANY($1)", list(versions)
        )
        ids = {id(row): delivery_id for delivery_id, _, row in made if delivery_id in fresh}
        await emit(
            connection,
            [
                _decided(
                    scribe,
                    plan,
                    ids,
                    corrected,
                    version=versions[plan.item.event_id] + 1,
                    batch_id=batch_id,
                    at=at,
                )
                for plan in plans
                if plan.item.event_id in versions
            ],
        )
        await open_incidents(connection, scribe, _causes(plans, versions), at=at)
    return len(fresh)


async def _insert_deliveries(
    connection: Connection, made: Sequence[tuple[UUID, EventPlan, Planned]], *, at: datetime
) -> set[UUID]:
    if not made:
        return set()
    columns = (
        "id, reference, event_id, order_id, client_id, recipient_id, contact_id, channel, platform, address,"
        " language, template, notice_ref, verdict, rules, label, removed, status, status_at, event_at,"
        " next_attempt_at"
    )
    rows = await connection.fetch(
        f"INSERT INTO delivery ({columns}) SELECT id, reference, event_id, order_id, client_id,"  # noqa: S608 - columns are the literal above
        " recipient_id, contact_id, channel, platform, address, language, template, notice_ref, verdict,"
        " string_to_array(rules, ' '), label, string_to_array(removed, ' '), 'planned', $18, event_at, $19"
        " FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],"
        " $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],"
        " $15::text[], $16::text[], $17::text[], $20::timestamptz[]) AS d(id, reference, event_id, order_id,"
        " client_id, recipient_id, contact_id, channel, platform, address, language, template, notice_ref,"
        " verdict, rules, label, removed, event_at) ON CONFLICT (reference) DO NOTHING RETURNING id",
        [delivery_id for delivery_id, _, _ in made],
        [row.reference for _, _, row in made],
        [plan.item.event_id for _, plan, _ in made],
        [plan.item.order_id for _, plan, _ in made],
        [plan.item.client_id for _, plan, _ in made],
        [row.recipient.id for _, _, row in made],
        [row.contact.id for _, _, row in made],
        [row.contact.channel.value for _, _, row in made],
        [row.contact.platform for _, _, row in made],
        [row.contact.address for _, _, row in made],
        [row.recipient.language for _, _, row in made],
        [row.template for _, _, row in made],
        [notice_reference(os.urandom(8)) if row.decision.verdict is Verdict.NOTICE_ONLY else "" for _, _, row in made],
        [row.decision.verdict.value for _, _, row in made],
        [" ".join(row.decision.rules) for _, _, row in made],
        [row.decision.label_after.word for _, _, row in made],
        [" ".join(row.decision.removed) for _, _, row in made],
        at,
        at + IN_HAND,
        [plan.item.event.occurred_at for _, plan, _ in made],
    )
    return {row["id"] for row in rows}


async def _insert_suppressions(
    connection: Connection, plans: Sequence[EventPlan], versions: Mapping[UUID, int], *, at: datetime
) -> None:
    rows = [
        (
            new_id(),
            plan.item.event_id,
            plan.item.order_id,
            row.recipient.id,
            row.contact.id,
            row.contact.platform,
            row.reason.value,
            list(row.rules),
            at,
        )
        for plan in plans
        if plan.item.event_id in versions
        for row in plan.rows
        if isinstance(row, Suppressed)
    ]
    if rows:
        await connection.copy_records_to_table(
            "suppression",
            columns=(
                "id",
                "event_id",
                "order_id",
                "recipient_id",
                "contact_id",
                "platform",
                "reason",
                "rules",
                "at",
            ),
            records=rows,
        )


def _decided(
    scribe: Scribe,
    plan: EventPlan,
    ids: Mapping[int, UUID],
    corrected: Mapping[UUID, UUID],
    *,
    version: int,
    batch_id: UUID,
    at: datetime,
) -> Record:
    decisions: list[dict[str, object]] = []
    for row in plan.rows:
        decision: dict[str, object]
        if isinstance(row, Planned):
            delivery_id = ids.get(id(row))
            decision = {
                "contact": row.contact.id,
                "decision": row.decision.verdict.value,
                "rules": list(row.decision.rules),
                "removed": list(row.decision.removed),
                "delivery": str(delivery_id or ""),
            }
            if delivery_id is not None and delivery_id in corrected:
                decision["corrects"] = str(corrected[delivery_id])
        else:
            decision = {
                "contact": row.contact.id,
                "decision": row.reason.value,
                "rules": list(row.rules),
            }
        decisions.append(decision)
    return scribe.record(
        AuditType.POLICY_DECIDED,
        object_=("event", str(plan.item.event_id)),
        stream=(str(plan.item.event_id), version),
        at=at,
        outcome={
            "status": "success",
            "policy": POLICY_VERSION,
            "label": plan.item.facts.label.word,
            "decisions": decisions,
        },
        corr={"batch_id": str(batch_id)},
    )


def _causes(plans: Sequence[EventPlan], versions: Mapping[UUID, int]) -> list[Incident]:
    found = []
    for plan in plans:
        if plan.item.event_id not in versions:
            continue
        for row in plan.rows:
            if not isinstance(row, Suppressed):
                continue
            if row.reason is SuppressionReason.NOT_CONFIGURED:
                found.append(Incident(IncidentKind.PLATFORM_STOPPED, row.contact.platform, code=row.reason.value))
            elif row.reason is SuppressionReason.QUARANTINED:
                found.append(
                    Incident(
                        IncidentKind.QUARANTINED,
                        str(plan.item.event_id),
                        code=" ".join(row.rules),
                        event_id=plan.item.event_id,
                        order_id=plan.item.order_id,
                    )
                )
    return found


def _contact(row: asyncpg.Record) -> ContactPoint:
    return ContactPoint(
        id=row["contact_id"],
        channel=Channel(row["channel"]),
        platform=row["platform"],
        address=row["address"],
        level=None if row["level"] is None else Level(row["level"]),
        verified=row["verified"],
        position=row["position"],
        statuses=frozenset(OrderStatus(word) for word in row["statuses"]),
        consent=Consent(row["consent"]),
        summary=row["summary"],
    )


def _recipient(row: asyncpg.Record, contacts: tuple[ContactPoint, ...]) -> Recipient:
    return Recipient(
        id=row["id"],
        client_id=row["client_id"],
        name=row["name"],
        language=row["language"],
        time_zone=row["time_zone"],
        active=row["active"],
        us_person=UsPerson(row["us_person"]),
        location_country=row["location_country"],
        contracts=frozenset(row["contracts"]),
        training_until=row["training_until"],
        agreement_until=row["agreement_until"],
        contacts=contacts,
    )
