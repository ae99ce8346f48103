"""Order extracts: which were found, what became of each, and the rows of them that are held."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from ordernotify.clock import new_id
from ordernotify.core.audit import AuditType
from ordernotify.core.events import OrderEvent, OrderState
from ordernotify.core.extracts import SOURCE, Examined, Fault, Held, Known
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import Connection, Pool
from ordernotify.store.incidents import Incident, IncidentKind, close_incidents, open_incidents
from ordernotify.store.orders import state_of


class ExtractState(StrEnum):
    """Where an extract stands."""

    FOUND = "found"
    TAKEN = "taken"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What tells, without reading a file, that it is the one that was read: name, size in bytes, last change."""

    name: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file in the folder of extracts that was read: its stamp, its hash, and what its name says."""

    stamp: Stamp
    sha256: str
    series: str
    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """An extract to take in."""

    id: UUID
    name: str
    sha256: str
    series: str
    day: date


async def unknown_stamps(pool: Pool, stamps: Sequence[Stamp]) -> list[Stamp]:
    """Return the files among ``stamps`` that were not registered as they are now."""
    rows = await pool.fetch(
        "SELECT name, size, modified_at FROM extract WHERE name = ANY($1)", [stamp.name for stamp in stamps]
    )
    known = {(row["name"], row["size"], row["modified_at"]) for row in rows}
    return [stamp for stamp in stamps if (stamp.name, stamp.size, stamp.modified_at) not in known]


async def register(pool: Pool, scribe: Scribe, found: Sequence[Found], *, at: datetime) -> None:
    """Remember files with the hash of their content; one known by both is only stamped anew."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "INSERT INTO extract (id, name, series, day, sha256, size, modified_at, found_at)"
            " SELECT *, $8 FROM unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::text[], $6::bigint[],"
            " $7::timestamptz[]) ON CONFLICT (name, sha256) DO UPDATE SET modified_at = excluded.modified_at"
            " RETURNING id, sha256, size, xmax = 0 AS new",
            [new_id() for _ in found],
            [file.stamp.name for file in found],
            [file.series for file in found],
            [file.day for file in found],
            [file.sha256 for file in found],
            [file.stamp.size for file in found],
            [file.stamp.modified_at for file in found],
            at,
        )
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.INGEST_RECEIVED,
                    object_=("extract", str(row["id"])),
                    stream=(str(row["id"]), 1),
                    at=at,
                    outcome={"status": "success", "code": "extract_found"},
                    data={"sha256": row["sha256"], "bytes": row["size"]},
                )
                for row in rows
                if row["new"]
            ],
        )


async def to_take(pool: Pool, *, on: date | None) -> list[UUID]:
    """Return the extracts to take in, oldest day first: those of the day ``on``, else all that were not yet.

    Naming a day takes its extracts again: what was accepted is known, what was held gets another chance.
    """
    rows = await pool.fetch(
        "SELECT id FROM extract WHERE CASE WHEN $1::date IS NULL THEN state = 'found'"
        " ELSE day = $1 AND code <> $2 END ORDER BY day, found_at, id",
        on,
        Fault.REPLACED.value,
    )
    return [row["id"] for row in rows]


async def read(pool: Pool, extract_id: UUID) -> Extract:
    """Return an extract; raises LookupError for an id that is none."""
    row = await pool.fetchrow("SELECT id, name, sha256, series, day FROM extract WHERE id = $1", extract_id)
    if row is None:
        raise LookupError("extract_id must be the id of an extract that was found")
    return Extract(**row)


async def known(pool: Pool, extract: Extract) -> Known:
    """Return what the rows of an extract are checked against."""
    contacts: dict[str, set[str]] = defaultdict(set)
    for row in await pool.fetch(
        "SELECT names.ref, r.id FROM (SELECT id AS ref, id AS client_id FROM client"
        " UNION SELECT ref, client_id FROM client_alias WHERE source = $1) names"
        " LEFT JOIN recipient r USING (client_id)",
        SOURCE,
    ):
        contacts[row["ref"]] |= {row["id"]} - {None}
    skus = {row["sku"] for row in await pool.fetch("SELECT sku FROM part")}
    yesterday = await pool.fetchval(
        "SELECT rows FROM extract WHERE series = $1 AND day < $2 AND state = 'taken'"
        " ORDER BY day DESC, found_at DESC LIMIT 1",
        extract.series,
        extract.day,
    )
    return Known(contacts=contacts, skus=skus, yesterday=yesterday)


async def fresh(pool: Pool, events: Sequence[OrderEvent]) -> list[OrderEvent]:
    """Return the events that were never accepted before."""
    rows = await pool.fetch(
        "SELECT dedupe_key FROM event WHERE source = $1 AND dedupe_key = ANY($2)",
        SOURCE,
        [event.dedupe_key for event in events],
    )
    before = {row["dedupe_key"] for row in rows}
    return [event for event in events if event.dedupe_key not in before]


async def states(pool: Pool, events: Sequence[OrderEvent]) -> dict[str, OrderState]:
    """Return what is known of the orders of ``events``, from whatever source, by ``order_ref``."""
    rows = await pool.fetch(
        "SELECT wanted.ref, o.status, o.status_at, o.carrier, o.tracking_no, o.promised_date, o.detail"
        " FROM unnest($2::text[], $3::text[], $4::text[]) AS wanted(ref, client, number)"
        " LEFT JOIN client_alias a ON a.source = $1 AND a.ref = wanted.client"
        " JOIN orders o ON o.client_id = coalesce(a.client_id, wanted.client) AND o.order_no = wanted.number"
        " WHERE o.version > 0",
        SOURCE,
        [event.order_ref for event in events],
        [event.client_ref for event in events],
        [event.order_no for event in events],
    )
    return {row["ref"]: state_of(row) for row in rows}


async def hold(pool: Pool, scribe: Scribe, extract_id: UUID, held: Sequence[Held], *, at: datetime) -> None:
    """Hold these rows of an extract and let go those that were held and are not among them.

    A row held for the same reasons as before leaves no second record.
    """
    async with pool.acquire() as connection, connection.transaction():
        placed = await connection.fetch(
            "INSERT INTO extract_row (id, extract_id, number, reasons, content, held_at)"
            " SELECT id, $5, number, string_to_array(reasons, ' '), content, $6"
            " FROM unnest($1::uuid[], $2::int[], $3::text[], $4::jsonb[]) AS new(id, number, reasons, content)"
            " ON CONFLICT (extract_id, number) DO UPDATE SET reasons = excluded.reasons, held_at = excluded.held_at,"
            " released_at = NULL, version = extract_row.version + 1"
            " WHERE extract_row.released_at IS NOT NULL OR extract_row.reasons <> excluded.reasons"
            " RETURNING id, version, reasons",
            [new_id() for _ in held],
            [row.number for row in held],
            [" ".join(row.reasons) for row in held],
            [dict(row.content) for row in held],
            extract_id,
            at,
        )
        released = await connection.fetch(
            "UPDATE extract_row SET released_at = $3, version = version + 1"
            " WHERE extract_id = $1 AND released_at IS NULL AND number <> ALL($2) RETURNING id, version",
            extract_id,
            [row.number for row in held],
            at,
        )
        about = {"extract_id": str(extract_id)}
        records = [
            scribe.record(
                AuditType.QUARANTINE_PLACED,
                object_=("extract_row", str(row["id"])),
                stream=(str(row["id"]), row["version"]),
                at=at,
                outcome={"status": "failure", "code": row["reasons"][0], "reasons": row["reasons"]},
                corr=about,
            )
            for row in placed
        ]
        records += [
            scribe.record(
                AuditType.QUARANTINE_RELEASED,
                object_=("extract_row", str(row["id"])),
                stream=(str(row["id"]), row["version"]),
                at=at,
                outcome={"status": "success", "code": "passes_now"},
                corr=about,
            )
            for row in released
        ]
        await emit(connection, records)


async def finish(
    pool: Pool, scribe: Scribe, extract: Extract, examined: Examined, *, accepted: int, unchanged: int, at: datetime
) -> None:
    """Note that an extract was taken in, with its counts; what a person must look at becomes an incident."""
    subject = str(extract.id)
    causes = {
        IncidentKind.EXTRACT_ROWS_HELD: "rows_held" if examined.held else "",
        IncidentKind.EXTRACT_DRIFTED: "row_count_drifted" if examined.drifted else "",
        IncidentKind.EXTRACT_REFUSED: "",
    }
    counts = {
        "rows": examined.rows,
        "accepted": accepted,
        "unchanged": unchanged,
        "held": len(examined.held),
    }
    async with pool.acquire() as connection, connection.transaction():
        gone = [kind for kind, code in causes.items() if not code]
        await close_incidents(connection, scribe, gone, [subject], at=at)
        await open_incidents(
            connection, scribe, [Incident(kind, subject, code=code) for kind, code in causes.items() if code], at=at
        )
        await _settle(connection, scribe, extract.id, ExtractState.TAKEN, counts=counts, at=at)


async def refuse(pool: Pool, scribe: Scribe, extract: Extract, fault: Fault, *, at: datetime) -> None:
    """Note that an extract is refused as a whole; it is not tried again unless a person names its day."""
    cause = Incident(IncidentKind.EXTRACT_REFUSED, str(extract.id), code=fault.value)
    async with pool.acquire() as connection, connection.transaction():
        await open_incidents(connection, scribe, [cause], at=at)
        await _settle(connection, scribe, extract.id, ExtractState.REFUSED, code=fault.value, counts={}, at=at)


async def note_table(pool: Pool, scribe: Scribe, table: str, *, readable: bool, at: datetime) -> None:
    """Call a person for a table that could not be read as an extract, until it is."""
    subject = f"table:{table}"
    async with pool.acquire() as connection, connection.transaction():
        if readable:
            await close_incidents(connection, scribe, [IncidentKind.EXTRACT_REFUSED], [subject], at=at)
        else:
            cause = Incident(IncidentKind.EXTRACT_REFUSED, subject, code="table_unreadable")
            await open_incidents(connection, scribe, [cause], at=at)


async def _settle(
    connection: Connection,
    scribe: Scribe,
    extract_id: UUID,
    state: ExtractState,
    *,
    code: str = "",
    counts: Mapping[str, int],
    at: datetime,
) -> None:
    version = await connection.fetchval(
        "UPDATE extract SET state = $2, code = $3, rows = $4, version = version + 1 WHERE id = $1 RETURNING version",
        extract_id,
        state.value,
        code,
        counts.get("rows", 0),
    )
    taken = state is ExtractState.TAKEN
    await emit(
        connection,
        [
            scribe.record(
                AuditType.VALIDATE_PASSED if taken else AuditType.VALIDATE_FAILED,
                object_=("extract", str(extract_id)),
                stream=(str(extract_id), version),
                at=at,
                outcome={
                    "status": "success" if taken else "failure",
                    "code": "extract_taken" if taken else code,
                    **counts,
                },
            )
        ],
    )
