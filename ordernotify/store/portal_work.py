"""Taking portal requests: leases of the workers that do it, and what became of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from ordernotify.core.audit import AuditType
from ordernotify.core.portal import SOURCE, Refused
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import Pool
from ordernotify.store.incidents import Incident, IncidentKind, close_incidents, open_incidents
from ordernotify.store.portal import RowState, dedupe_key, tally

# A run renews its request while it works; one that is silent this long is taken for dead.
LEASE = timedelta(seconds=15)
_TRIES_UNTIL_SEEN = 3


async def claim(pool: Pool, *, owner: str, besides: Sequence[UUID], at: datetime) -> list[tuple[UUID, str]]:
    """Take the posted requests that nobody works on; returns each with the flow run that died over it, or ''."""
    rows = await pool.fetch(
        "UPDATE portal_request r SET owner = $1, lease_until = $2 FROM (SELECT id, flow_run_id FROM portal_request"
        " WHERE state = 'posted' AND lease_until <= $3 AND id <> ALL($4) ORDER BY posted_at, id LIMIT 20"
        " FOR UPDATE SKIP LOCKED) open WHERE r.id = open.id RETURNING r.id, open.flow_run_id",
        owner,
        at + LEASE,
        at,
        list(besides),
    )
    return [(row["id"], row["flow_run_id"]) for row in rows]


async def owners(pool: Pool) -> list[str]:
    """Return the processes that hold posted requests."""
    return [
        row["owner"]
        for row in await pool.fetch("SELECT DISTINCT owner FROM portal_request WHERE state = 'posted' AND owner <> ''")
    ]


async def hand_back(pool: Pool, *, owner: str, at: datetime) -> None:
    """End the leases of a process that is no more, so that the next one takes its requests at once."""
    await pool.execute("UPDATE portal_request SET lease_until = $2 WHERE owner = $1 AND state = 'posted'", owner, at)


async def renew(pool: Pool, request_ids: Sequence[UUID], *, at: datetime) -> None:
    """Renew the leases of requests that this process works on."""
    await pool.execute(
        "UPDATE portal_request SET lease_until = $2 WHERE id = ANY($1) AND state = 'posted'",
        list(request_ids),
        at + LEASE,
    )


async def note_run(pool: Pool, request_id: UUID, *, flow_run_id: str) -> None:
    """Remember which flow run takes a request, so that a dead one can be marked."""
    await pool.execute("UPDATE portal_request SET flow_run_id = $2 WHERE id = $1", request_id, flow_run_id)


async def note_failed(pool: Pool, scribe: Scribe, request_id: UUID, *, code: str, at: datetime) -> None:
    """Let a request whose run failed rest, longer each time; a person is told when it goes on failing."""
    async with pool.acquire() as connection, connection.transaction():
        tries = await connection.fetchval(
            "UPDATE portal_request SET tries = tries + 1,"
            " lease_until = $2::timestamptz + interval '1 second' * power(2, least(tries, 8))"
            " WHERE id = $1 AND state = 'posted' RETURNING tries",
            request_id,
            at,
        )
        if tries is not None and tries >= _TRIES_UNTIL_SEEN:
            await open_incidents(
                connection, scribe, [Incident(IncidentKind.RUN_FAILED, str(request_id), code=code)], at=at
            )


async def accepted_before(pool: Pool, request_id: UUID, numbers: Sequence[int]) -> dict[int, UUID]:
    """Return the events that these rows became already, in this run or in one that died."""
    keys = {dedupe_key(request_id, number): number for number in numbers}
    rows = await pool.fetch(
        "SELECT id, dedupe_key FROM event WHERE source = $1 AND dedupe_key = ANY($2)", SOURCE, list(keys)
    )
    return {keys[row["dedupe_key"]]: row["id"] for row in rows}


async def settle(
    pool: Pool,
    scribe: Scribe,
    request_id: UUID,
    *,
    accepted: Mapping[int, UUID],
    refused: Mapping[int, tuple[Refused, str]],
    at: datetime,
) -> None:
    """Write what became of rows; a row that was refused while it was taken is recorded one by one."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE portal_row SET state = t.state, problem = t.problem, field = t.field, known = t.known,"
            " event_id = t.event_id FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[])"
            " AS t(number, state, problem, field, known, event_id)"
            " WHERE portal_row.request_id = $1 AND portal_row.number = t.number AND portal_row.state = 'open'",
            request_id,
            [*accepted, *refused],
            [RowState.ACCEPTED.value] * len(accepted) + [RowState.REFUSED.value] * len(refused),
            [""] * len(accepted) + [why.problem.value for why, _ in refused.values()],
            [""] * len(accepted) + [why.field for why, _ in refused.values()],
            [""] * len(accepted) + [known for _, known in refused.values()],
            [*accepted.values(), *[None] * len(refused)],
        )
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.VALIDATE_FAILED,
                    object_=("portal_row", dedupe_key(request_id, number)),
                    stream=(dedupe_key(request_id, number), 1),
                    at=at,
                    outcome={"status": "failure", "code": why.problem.value},
                )
                for number, (why, _) in refused.items()
            ],
        )


async def finish(pool: Pool, scribe: Scribe, request_id: UUID, *, at: datetime) -> dict[str, int]:
    """Close a request whose rows have their results, with a record of the counts; returns them."""
    counts = await tally(pool, request_id)
    async with pool.acquire() as connection, connection.transaction():
        version = await connection.fetchval(
            "UPDATE portal_request SET state = 'done', finished_at = $2, version = version + 1"
            " WHERE id = $1 AND state = 'posted' RETURNING version",
            request_id,
            at,
        )
        if version is not None:
            await emit(
                connection,
                [
                    scribe.record(
                        AuditType.VALIDATE_PASSED,
                        object_=("portal_request", str(request_id)),
                        stream=(str(request_id), version),
                        at=at,
                        outcome={"status": "success", "code": "portal_done"},
                        data=dict(counts),
                    )
                ],
            )
            await close_incidents(connection, scribe, [IncidentKind.RUN_FAILED], [str(request_id)], at=at)
    return counts
