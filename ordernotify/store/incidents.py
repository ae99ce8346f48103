"""Incidents: what a person must look at, opened once for each cause and counted when it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from ordernotify.clock import new_id
from ordernotify.core.audit import AuditType
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import Connection, Pool


class IncidentKind(StrEnum):
    """Why a person must look."""

    QUARANTINED = "quarantined"  # an event that cannot be placed or may not be shown
    UNKNOWN_STATUS = "unknown_status"  # a word that no table maps
    IMPOSSIBLE_STATUS = "impossible_status"  # a status that cannot follow what is known
    PLATFORM_STOPPED = "platform_stopped"  # our credentials or set-up at a platform
    DELIVERY_FAILED = "delivery_failed"  # a message that will not arrive
    DELIVERY_UNKNOWN = "delivery_unknown"  # nobody can say whether it left
    CONTENT_STOPPED = "content_stopped"  # the content gate found what must not leave
    LEDGER_STOPPED = "ledger_stopped"  # the ledger was cut: nothing is sent
    EXTRACT_REFUSED = "extract_refused"  # an order extract that cannot be read
    EXTRACT_ROWS_HELD = "extract_rows_held"  # rows of an extract that broke a promise
    EXTRACT_DRIFTED = "extract_drifted"  # far more or far fewer rows than the day before
    CARRIER_STOPPED = "carrier_stopped"  # our credentials or set-up at a carrier
    SHIPMENT_ATTENTION = "shipment_attention"  # a carrier said, or did not say, what a person should look into
    NUMBER_REFUSED = "number_refused"  # a carrier does not take a tracking number
    SUMMARY_FAILED = "summary_failed"  # a client's daily summary could not be made
    RUN_FAILED = "run_failed"  # a flow run ended by surprise
    BACKORDER = "backorder"  # an order waits for stock
    CUSTOMS = "customs"  # an order waits at a border
    CARRIER_EXCEPTION = "carrier_exception"  # a carrier could not do what it should
    REGULATORY_CHECK = "regulatory_check"  # an order is held until compliance decides
    REGULATORY_HOLD_OVERDUE = "regulatory_hold_overdue"  # compliance has not decided in time
    DELIVERIES_STUCK = "deliveries_stuck"  # messages of a platform that do not get on
    PIPELINE_STUCK = "pipeline_stuck"  # events or batches that do not get on
    NOTICE_LATE = "notice_late"  # clients were told later than promised


@dataclass(frozen=True, slots=True)
class Incident:
    """One cause for a person to look; (kind, subject) is open at most once."""

    kind: IncidentKind
    subject: str
    code: str = ""
    event_id: UUID | None = None
    order_id: UUID | None = None
    delivery_id: UUID | None = None


async def close_incidents(
    connection: Connection, scribe: Scribe, kinds: Sequence[IncidentKind], subjects: Sequence[str], *, at: datetime
) -> None:
    """Close the open incidents of these kinds about these subjects, in the transaction that ended their cause."""
    rows = await connection.fetch(
        "UPDATE incident SET closed_at = $3 WHERE kind = ANY($1) AND subject = ANY($2) AND closed_at IS NULL"
        " RETURNING id, kind, times + level AS told",
        [kind.value for kind in kinds],
        subjects,
        at,
    )
    await emit(
        connection,
        [
            scribe.record(
                AuditType.INCIDENT_CLOSED,
                object_=("incident", str(row["id"])),
                stream=(str(row["id"]), row["told"] + 1),
                at=at,
                outcome={"status": "success", "kind": row["kind"]},
            )
            for row in rows
        ],
    )


async def open_incidents(
    connection: Connection, scribe: Scribe, incidents: Sequence[Incident], *, at: datetime
) -> None:
    """Open incidents in the transaction of what caused them; one already open is counted up."""
    if not incidents:
        return
    once = {(incident.kind, incident.subject): incident for incident in incidents}
    rows = await connection.fetch(
        "INSERT INTO incident (id, kind, subject, code, event_id, order_id, delivery_id, opened_at)"
        " SELECT *, $8 FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::uuid[],"
        " $7::uuid[]) ON CONFLICT (kind, subject) WHERE closed_at IS NULL"
        " DO UPDATE SET times = incident.times + 1, code = excluded.code"
        " RETURNING id, kind, code, times + level AS told",
        [new_id() for _ in once],
        [incident.kind.value for incident in once.values()],
        [incident.subject for incident in once.values()],
        [incident.code for incident in once.values()],
        [incident.event_id for incident in once.values()],
        [incident.order_id for incident in once.values()],
        [incident.delivery_id for incident in once.values()],
        at,
    )
    await emit(
        connection,
        [
            scribe.record(
                AuditType.INCIDENT_OPENED,
                object_=("incident", str(row["id"])),
                stream=(str(row["id"]), row["told"]),
                at=at,
                outcome={"status": "failure", "kind": row["kind"], "code": row["code"]},
            )
            for row in rows
        ],
    )


# After this many levels there is nobody left to tell.
_HIGHEST = 3


async def escalate(pool: Pool, scribe: Scribe, *, after: timedelta, at: datetime) -> int:
    """Raise by one level every open incident that nobody has ended within ``after`` of its last level."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "UPDATE incident SET level = level + 1 WHERE id IN (SELECT id FROM incident WHERE closed_at IS NULL"
            " AND level < $3 AND opened_at + (level + 1) * $1::interval <= $2 ORDER BY id FOR UPDATE SKIP LOCKED)"
            " RETURNING id, kind, code, level, times + level AS told",
            after,
            at,
            _HIGHEST,
        )
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.INCIDENT_CHANGED,
                    object_=("incident", str(row["id"])),
                    stream=(str(row["id"]), row["told"]),
                    at=at,
                    outcome={"status": "failure", "kind": row["kind"], "code": "escalated", "level": row["level"]},
                )
                for row in rows
            ],
        )
    return len(rows)
