"""Make daily summaries: find whose are due, read how their orders stand, word them, and record them as a batch.

What is recorded is sent by the stages that send everything. A client's day is told once: what a dead run did not
record is still due, and what it recorded is a batch that another worker finishes.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from ordernotify import runtime
from ordernotify.clock import new_id, now
from ordernotify.core.labels import join
from ordernotify.core.planning import SUMMARY_TEMPLATE, Registered, Suppressed
from ordernotify.core.recipients import Recipient
from ordernotify.core.summaries import Cut, cut, wanted
from ordernotify.runtime import Runtime
from ordernotify.store import plans, summaries, summary_records
from ordernotify.store.summaries import DueClient
from ordernotify.store.summary_records import Made
from ordernotify.summary_words import summed
from tasks.errors import surprises_made_safe

# A restart of the database takes seconds, and every part of a task may be repeated.
_WAITS_S: Final = [0.5, 2.0, 5.0, 10.0]
# Clients whose orders are in memory together: some thousands of orders, and a few megabytes of words.
_CLIENTS: Final = 50

log = structlog.get_logger(__name__)


@task(name="find due summaries", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def count_due(part: int, of: int, early: bool) -> int:  # noqa: FBT001 - as a person gives it to the run
    """Return how many clients of a range have a summary due; ``early`` counts those of later today as well."""
    house = await runtime.current()
    return len(_range(await summaries.due_clients(house.pool, at=now(), early=early), part, of))


@task(name="make summaries", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def make(part: int, of: int, early: bool) -> UUID | None:  # noqa: FBT001 - as a person gives it to the run
    """Make the next summaries of a range of clients; returns the batch that sends them, None when none is left."""
    house = await runtime.current()
    async with house.summing:
        while True:
            at = now()
            clients = _range(await summaries.due_clients(house.pool, at=at, early=early), part, of)[:_CLIENTS]
            if not clients:
                return None
            batch_id = new_id()
            if await make_for(house, clients, batch_id=batch_id, run_id=str(flow_run.id or ""), at=at):
                return batch_id


async def make_for(house: Runtime, clients: Sequence[DueClient], *, batch_id: UUID, run_id: str, at: datetime) -> int:
    """Make and record the summaries of these clients as one batch; returns how many have something to tell."""
    orders = await summaries.orders_of(house.pool, clients, at=at)
    recipients = await plans.recipients_of(house.pool, [client.id for client in clients])
    registry = await plans.registry(house.pool, list(await house.known()), at=at)

    def all_made() -> list[Made]:
        return [
            _surely_made(house, client, orders.get(client.id, []), recipients.get(client.id, []), registry, at=at)
            for client in clients
        ]

    # In a thread: events of the moment are not kept waiting for pages of orders.
    made = await asyncio.to_thread(all_made)
    return await summary_records.record(
        house.pool, house.scribe, made, batch_id=batch_id, owner=house.owner, run_id=run_id, at=at
    )


def _range(clients: Sequence[DueClient], part: int, of: int) -> list[DueClient]:
    return [client for client in clients if zlib.crc32(client.id.encode()) % of == part]


def _surely_made(
    house: Runtime,
    client: DueClient,
    rows: Sequence[asyncpg.Record],
    recipients: Sequence[Recipient],
    registry: dict[str, Registered],
    *,
    at: datetime,
) -> Made:
    try:
        return _made(house, client, rows, recipients, registry, at=at)
    except Exception as error:  # one client's surprise must not keep the others' summaries back; a person is called
        event_id = new_id()
        log.exception("summary_failed", event_id=str(event_id), kind=type(error).__name__)
        return Made(client, event_id, (), (), join(()), failed=type(error).__name__)


def _made(
    house: Runtime,
    client: DueClient,
    rows: Sequence[asyncpg.Record],
    recipients: Sequence[Recipient],
    registry: dict[str, Registered],
    *,
    at: datetime,
) -> Made:
    orders = summaries.standings(rows, client.zone)
    event_id = new_id()
    facts = house.library.facts(SUMMARY_TEMPLATE)
    decided = [
        cut(
            orders,
            recipient=recipient,
            contact=contact,
            registered=registry.get(contact.platform),
            template=facts,
            rows=facts.rows,
            now=at,
        )
        for recipient in recipients
        for contact in recipient.contacts
        if orders and wanted(contact)
    ]
    return Made(
        client,
        event_id,
        [
            summed(
                one,
                delivery_id=new_id(),
                event_id=event_id,
                client_name=client.name,
                day=client.day,
                at=at,
                library=house.library,
                settings=house.settings,
            )
            for one in decided
            if isinstance(one, Cut)
        ],
        [one for one in decided if isinstance(one, Suppressed)],
        join(standing.facts.label for standing in orders),
    )
