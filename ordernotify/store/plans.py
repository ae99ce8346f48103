"""Plans: what planning needs to know of admitted events, and the deliveries and suppressions it decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from ordernotify.clock import new_id, noise
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
from ordernotify.store.wording import Told, ToWord, told_of
from ordernotify.turns import in_turns

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
    order_no: str
    client_name: str
    told: Told


@dataclass(frozen=True, slots=True)
class EventPlan:
    """What was decided for one event."""

    item: ToPlan
    rows: Sequence[Planned | Suppressed]


async def to_plan(
    pool: Pool, event_ids: Sequence[UUID], *, again: bool = False, known: Mapping[UUID, OrderEvent] | None = None
) -> list[ToPlan]:
    """Return the admitted events among ``event_ids``; with ``again`` also those planned before (a resend).

    ``known``: events that need not be read again.
    """
    known = known or {}
    rows = await pool.fetch(
        "SELECT e.id, e.version, CASE WHEN $3 THEN NULL ELSE e.content END AS content,"
        " o.id AS order_id, o.client_id, o.label, o.categories, o.ldc, o.jurisdiction, o.contract_id,"
        " o.order_no, o.carrier, o.tracking_no, o.promised_date, o.lines, o.refs,"
        " c.name AS client_name FROM event e JOIN orders o ON o.id = e.order_id JOIN client c ON c.id = o.client_id"
        " WHERE e.id = ANY($1) AND e.state = ANY($2) ORDER BY e.occurred_at, e.id",
        event_ids,
        ["admitted", "planned", "closed"] if again else ["admitted"],
        known.keys() >= set(event_ids),
    )
    return await in_turns(
        lambda row: _to_plan_of(row, known.get(row["id"]) or OrderEvent.from_dict(row["content"])), rows
    )


def _to_plan_of(row: asyncpg.Record, event: OrderEvent) -> ToPlan:
    return ToPlan(
        event_id=row["id"],
        version=row["version"],
        event=event,
        order_id=row["order_id"],
        client_id=row["client_id"],
        facts=facts_of(row),
        order_no=row["order_no"],
        client_name=row["client_name"],
        told=told_of(event, row),
    )


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
) -> list[ToWord]:
    """Store deliveries, suppressions and the decisions' records; returns the new deliveries, ready to be worded.

    A delivery whose reference exists is not made twice: a plan repeated after a crash adds nothing. Corrections are
    left out: their words depend on what became of the message that they take back.
    """
    made = [Made(new_id(), _reference_of(row), plan, row) for plan, row in _planned(plans)]
    async with pool.acquire() as connection, connection.transaction():
        held = await connection.fetch(
            "SELECT id, version FROM event WHERE id = ANY($1) AND (state = 'admitted' OR $2) ORDER BY id FOR UPDATE",
            [plan.item.event_id for plan in plans],
            again,
        )
        versions = {row["id"]: row["version"] for row in held}
        made = [entry for entry in made if entry.plan.item.event_id in versions]
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
        ids = {id(entry.row): entry.delivery_id for entry in made if entry.delivery_id in fresh}

        def recorded(plan: EventPlan) -> Record:
            version = versions[plan.item.event_id] + 1
            return _decided(scribe, plan, ids, corrected, version=version, batch_id=batch_id, at=at)

        mine = [plan for plan in plans if plan.item.event_id in versions]
        await emit(connection, await in_turns(recorded, mine))
        await open_incidents(connection, scribe, _causes(plans, versions), at=at)
    return [to_word_of(entry) for entry in made if entry.delivery_id in fresh and entry.delivery_id not in corrected]


class Made(NamedTuple):
    """A delivery that is made, with the reference that a notice shows ('' for other messages)."""

    delivery_id: UUID
    notice_ref: str
    plan: EventPlan
    row: Planned


def _planned(plans: Sequence[EventPlan]) -> Iterator[tuple[EventPlan, Planned]]:
    return ((plan, row) for plan in plans for row in plan.rows if isinstance(row, Planned))


def _reference_of(row: Planned) -> str:
    return notice_reference(noise(8)) if row.decision.verdict is Verdict.NOTICE_ONLY else ""


def to_word_of(made: Made) -> ToWord:
    """Return a new delivery as it is worded, of the facts that were decided on."""
    item, row = made.plan.item, made.row
    return ToWord(
        delivery_id=made.delivery_id,
        reference=row.reference,
        event_id=item.event_id,
        order_id=item.order_id,
        version=0,
        channel=row.contact.channel,
        platform=row.contact.platform,
        address=row.contact.address,
        language=row.recipient.language,
        template=row.template,
        notice_ref=made.notice_ref,
        label=row.decision.label_after.word,
        order_label=item.facts.label.word,
        government=item.facts.government,
        removed=row.decision.removed,
        notice_only=bool(made.notice_ref),
        status=item.event.status,
        occurred_at=item.event.occurred_at,
        order_no=item.order_no,
        client_name=item.client_name,
        recipient_name=row.recipient.name,
        told=item.told,
    )


async def _insert_deliveries(connection: Connection, made: Sequence[Made], *, at: datetime) -> set[UUID]:
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
        [entry.delivery_id for entry in made],
        [entry.row.reference for entry in made],
        [entry.plan.item.event_id for entry in made],
        [entry.plan.item.order_id for entry in made],
        [entry.plan.item.client_id for entry in made],
        [entry.row.recipient.id for entry in made],
        [entry.row.contact.id for entry in made],
        [entry.row.contact.channel.value for entry in made],
        [entry.row.contact.platform for entry in made],
        [entry.row.contact.address for entry in made],
        [entry.row.recipient.language for entry in made],
        [entry.row.template for entry in made],
        [entry.notice_ref for entry in made],
        [entry.row.decision.verdict.value for entry in made],
        [" ".join(entry.row.decision.rules) for entry in made],
        [entry.row.decision.label_after.word for entry in made],
        [" ".join(entry.row.decision.removed) for entry in made],
        at,
        at + IN_HAND,
        [entry.plan.item.event.occurred_at for entry in made],
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
