"""The directory: clients, recipients and contact points, parts and contracts; what onboarding writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ordernotify.core.audit import Actor, AuditType
from ordernotify.core.onboarding import ClientBody, ContractBody, PartBody
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import Connection, Pool
from ordernotify.store.incidents import IncidentKind, close_incidents
from ordernotify.store.quarantine import release_answered


async def put_client(pool: Pool, scribe: Scribe, client: ClientBody, *, actor: Actor, at: datetime) -> None:
    """Write a client with its aliases, recipients and contacts as given.

    Recipients and contacts that are not given any more are made inactive, never deleted: the ledger speaks of
    them. A contact's consent is only ever taken from the client on its first appearance; later changes come
    from its owner. Events held because their client was unknown get another chance.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO client (id, name, language, time_zone, summary_at) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (id) DO UPDATE SET name = $2, language = $3, time_zone = $4, summary_at = $5",
            client.id,
            client.name,
            client.language,
            client.time_zone,
            client.summary_at,
        )
        await connection.execute("DELETE FROM client_alias WHERE client_id = $1", client.id)
        await connection.executemany(
            "INSERT INTO client_alias (source, ref, client_id) VALUES ($1, $2, $3)"
            " ON CONFLICT (source, ref) DO UPDATE SET client_id = $3",
            [(alias.source, alias.ref, client.id) for alias in client.aliases],
        )
        await _put_recipients(connection, client)
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.RECIPIENT_CHANGED,
                    object_=("client", client.id),
                    stream=(f"client:{client.id}:{at.isoformat()}", 1),
                    at=at,
                    actor=actor,
                    outcome={
                        "status": "success",
                        "recipients": len(client.recipients),
                        "contacts": sum(len(recipient.contacts) for recipient in client.recipients),
                    },
                )
            ],
        )
        await release_answered(connection, scribe, "client_unknown", at=at)


async def _put_recipients(connection: Connection, client: ClientBody) -> None:
    await connection.execute(
        "UPDATE recipient SET active = false WHERE client_id = $1 AND id <> ALL($2)",
        client.id,
        [recipient.id for recipient in client.recipients],
    )
    for recipient in client.recipients:
        await connection.execute(
            "INSERT INTO recipient (id, client_id, name, language, time_zone, active, us_person,"
            " location_country, contracts, training_until, agreement_until)"
            " VALUES ($1, $2, $3, $4, $5, true, $6, $7, $8, $9, $10)"
            " ON CONFLICT (id) DO UPDATE SET name = $3, language = $4, time_zone = $5, active = true,"
            " us_person = $6, location_country = $7, contracts = $8, training_until = $9,"
            " agreement_until = $10 WHERE recipient.client_id = $2",
            recipient.id,
            client.id,
            recipient.name,
            recipient.language or client.language,
            recipient.time_zone or client.time_zone,
            recipient.us_person.value,
            recipient.location_country,
            recipient.contracts,
            recipient.training_until,
            recipient.agreement_until,
        )
        await connection.execute(
            "UPDATE contact_point SET active = false WHERE recipient_id = $1 AND id <> ALL($2)",
            recipient.id,
            [f"{recipient.id}.{contact.key}" for contact in recipient.contacts],
        )
        await connection.executemany(
            "INSERT INTO contact_point (id, recipient_id, channel, platform, address, level, verified,"
            " position, statuses, consent, summary, active) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, true)"
            " ON CONFLICT (id) DO UPDATE SET channel = $3, platform = $4, address = $5, level = $6,"
            " verified = $7, position = $8, statuses = $9, summary = $11, active = true,"
            " consent = CASE WHEN contact_point.address = $5 THEN contact_point.consent ELSE $10 END",
            [
                (
                    f"{recipient.id}.{contact.key}",
                    recipient.id,
                    contact.channel.value,
                    contact.platform,
                    contact.address,
                    None if contact.level is None else int(contact.level[1]),
                    contact.verified,
                    position,
                    [status.value for status in contact.statuses],
                    contact.consent.value,
                    contact.wants_summary,
                )
                for position, contact in enumerate(recipient.contacts)
            ],
        )


async def put_parts(pool: Pool, scribe: Scribe, parts: Sequence[PartBody], *, actor: Actor, at: datetime) -> None:
    """Write parts of the catalogue; events held because their part was unknown get another chance."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.executemany(
            "INSERT INTO part (sku, name, label, jurisdiction, categories) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (sku) DO UPDATE SET name = $2, label = $3, jurisdiction = $4, categories = $5",
            [(part.sku, part.name, part.label, part.jurisdiction, part.categories) for part in parts],
        )
        await _changed(connection, scribe, "part", [part.sku for part in parts], actor=actor, at=at)
        await release_answered(connection, scribe, "sku_unknown", at=at)


async def put_contract(pool: Pool, scribe: Scribe, contract: ContractBody, *, actor: Actor, at: datetime) -> None:
    """Write what a contract says about marking, and about who releases its orders."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO contract (id, label, categories, ldc, release_by_two) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (id) DO UPDATE SET label = $2, categories = $3, ldc = $4, release_by_two = $5",
            contract.id,
            contract.label,
            contract.categories,
            contract.ldc,
            contract.release_by_two,
        )
        await _changed(connection, scribe, "contract", [contract.id], actor=actor, at=at)


async def put_channel(
    pool: Pool,
    scribe: Scribe,
    *,
    platform: str,
    level: int,
    enabled: bool,
    evidence: str,
    expires_at: datetime | None,
    actor: Actor,
    at: datetime,
) -> None:
    """Register a platform as a channel of a level, with its evidence, and let it run again if it was stopped."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO channel (platform, level, enabled, evidence, expires_at) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (platform) DO UPDATE SET level = $2, enabled = $3, evidence = $4, expires_at = $5,"
            " stopped_code = '', stopped_at = NULL",
            platform,
            level,
            enabled,
            evidence,
            expires_at,
        )
        await close_incidents(connection, scribe, [IncidentKind.PLATFORM_STOPPED], [platform], at=at)
        await _changed(connection, scribe, "channel", [platform], actor=actor, at=at)


async def _changed(
    connection: Connection, scribe: Scribe, kind: str, ids: Sequence[str], *, actor: Actor, at: datetime
) -> None:
    await emit(
        connection,
        [
            scribe.record(
                AuditType.CONFIG_CHANGED,
                object_=(kind, identity),
                stream=(f"{kind}:{identity}:{at.isoformat()}", 1),
                at=at,
                actor=actor,
                outcome={"status": "success"},
            )
            for identity in dict.fromkeys(ids)
        ],
    )


async def order_history(pool: Pool, order_no: str, *, client_id: str | None = None) -> list[dict[str, Any]]:
    """Return every order with a number, with its events, deliveries and suppressions, oldest first."""
    orders = await pool.fetch(
        "SELECT id, client_id, order_no, status, status_at, label, contract_id FROM orders"
        " WHERE order_no = $1 AND ($2::text IS NULL OR client_id = $2) ORDER BY client_id",
        order_no,
        client_id,
    )
    found = []
    for order in orders:
        events = await pool.fetch(
            "SELECT id, source, trigger, status, state, reason, occurred_at, received_at FROM event"
            " WHERE order_id = $1 ORDER BY occurred_at, id",
            order["id"],
        )
        deliveries = await pool.fetch(
            "SELECT id, event_id, recipient_id, platform, channel, template, verdict, rules, status,"
            " status_at, attempts, code FROM delivery WHERE order_id = $1 ORDER BY id",
            order["id"],
        )
        suppressions = await pool.fetch(
            "SELECT event_id, recipient_id, platform, reason, rules, at FROM suppression"
            " WHERE order_id = $1 ORDER BY at, id",
            order["id"],
        )
        found.append(
            {
                **dict(order),
                "events": [dict(row) for row in events],
                "deliveries": [dict(row) for row in deliveries],
                "suppressions": [dict(row) for row in suppressions],
            }
        )
    return found
