"""Write audit records in the transaction of the change they record: commit means accepted."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from ordernotify.clock import new_id
from ordernotify.core.audit import Actor, AuditType, Object, Source, Stream, record_bytes
from ordernotify.store.database import Connection


@dataclass(frozen=True, slots=True)
class Record:
    """One audit record, ready to be stored: its id and its exact bytes."""

    event_id: UUID
    body: bytes


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes records on behalf of one component of one process."""

    component: str
    host: str = platform.node()
    _itself: Actor = field(init=False, repr=False)
    _from_itself: Source = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_itself", Actor(kind="service", id=f"svc:{self.component}"))
        object.__setattr__(self, "_from_itself", Source(kind="service", id=self.component))

    def record(
        self,
        type_: AuditType,
        *,
        object_: tuple[str, str],
        stream: tuple[str, int],
        at: datetime,
        outcome: Mapping[str, Any],
        occurred_at: datetime | None = None,
        source: Source | None = None,
        actor: Actor | None = None,
        corr: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Record:
        """Return the record of one fact about ``object_`` (kind, id), the n-th of its ``stream`` (id, n)."""
        event_id = new_id()
        body = record_bytes(
            event_id=str(event_id),
            type=type_,
            occurred_at=occurred_at or at,
            recorded_at=at,
            where_host=self.host,
            component=self.component,
            actor=actor or self._itself,
            source=source or self._from_itself,
            object=Object(kind=object_[0], id=object_[1]),
            outcome=outcome,
            stream=Stream(id=stream[0], version=stream[1]),
            corr=corr,
            data=data,
        )
        return Record(event_id, body)


async def emit(connection: Connection, records: Sequence[Record]) -> None:
    """Store ``records`` as one group in the intake of the ledger; call it inside the transaction of the change."""
    if records:
        await connection.execute(
            "INSERT INTO audit.intake (event_ids, bodies) VALUES ($1, $2)",
            [record.event_id for record in records],
            [record.body for record in records],
        )


def recording(ids: str, event_ids: str, bodies: str) -> str:
    """Return the part of a statement that records what its part ``moved (id)`` moved, and nothing of what it did not.

    For the hottest statements: the change and its records are one statement, so the transaction is one round trip.
    The arguments are its parameters: the ids that may be moved, and of each its record's id and bytes.
    """
    return (
        "recorded AS (INSERT INTO audit.intake (event_ids, bodies)"  # noqa: S608 - parameters' numbers
        " SELECT array_agg(r.event_id ORDER BY r.place), array_agg(r.body ORDER BY r.place)"
        f" FROM unnest({ids}::uuid[], {event_ids}::uuid[], {bodies}::bytea[]) WITH ORDINALITY"
        " AS r(id, event_id, body, place) JOIN moved ON moved.id = r.id HAVING count(*) > 0)"
    )
