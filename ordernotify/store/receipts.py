"""Receipts and consents: a platform's later word, applied once and in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from ordernotify.core.audit import AuditType, Source
from ordernotify.core.delivery import ConsentChange, DeliveryStatus, Receipt, can_become
from ordernotify.core.planning import LINK
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Connection, Pool


async def apply(pool: Pool, scribe: Scribe, *, platform: str, receipts: Sequence[Receipt], at: datetime) -> int:
    """Apply receipts to the deliveries they speak of; returns how many moved one.

    A receipt known already changes nothing; one that cannot follow what is known is kept and ignored; one
    about a delivery we never made is kept without it.
    """
    if not receipts:
        return 0
    async with pool.acquire() as connection, connection.transaction():
        known = await connection.fetch(
            "SELECT dedupe_key FROM receipt WHERE platform = $1 AND dedupe_key = ANY($2)",
            platform,
            [receipt.dedupe_key for receipt in receipts],
        )
        seen = {row["dedupe_key"] for row in known}
        fresh = {receipt.dedupe_key: receipt for receipt in receipts if receipt.dedupe_key not in seen}
        deliveries = await _held(connection, platform, list(fresh.values()))
        moves: dict[UUID, tuple[DeliveryStatus, int, str]] = {}
        records: list[Record] = []
        rows = []
        for receipt in fresh.values():
            row = deliveries.get(receipt.reference) or deliveries.get(receipt.provider_ref)
            applied = row is not None and _apply(moves, records, scribe, platform, row, receipt, at=at)
            rows.append(
                (
                    platform,
                    receipt.dedupe_key,
                    row["id"] if row else None,
                    receipt.status.value if receipt.status else "",
                    receipt.code,
                    at,
                    applied,
                )
            )
            if receipt.opt_out and row is not None:
                await _opt_out(connection, row["channel"], row["address"], receipt.code, at=at)
        await connection.executemany(
            "INSERT INTO receipt (platform, dedupe_key, delivery_id, status, code, received_at, applied)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            rows,
        )
        await connection.execute(
            "UPDATE delivery SET status = m.status, version = m.version, status_at = $4,"
            " provider_ref = CASE WHEN delivery.provider_ref = '' THEN m.provider_ref"
            " ELSE delivery.provider_ref END"
            " FROM unnest($1::uuid[], $2::text[], $3::int[], $5::text[]) AS m(id, status, version, provider_ref)"
            " WHERE delivery.id = m.id",
            list(moves),
            [status.value for status, _, _ in moves.values()],
            [version for _, version, _ in moves.values()],
            at,
            [ref for _, _, ref in moves.values()],
        )
        await emit(connection, records)
    return len(moves)


async def _held(connection: Connection, platform: str, receipts: Sequence[Receipt]) -> dict[str, asyncpg.Record]:
    """Return the deliveries that receipts speak of, locked, by our reference and by theirs."""
    rows = await connection.fetch(
        "SELECT id, reference, provider_ref, status, version, channel, address FROM delivery"
        " WHERE platform = $2 AND (reference = ANY($1) OR provider_ref = ANY($3)) ORDER BY id FOR UPDATE",
        [receipt.reference for receipt in receipts if receipt.reference],
        platform,
        [receipt.provider_ref for receipt in receipts if receipt.provider_ref],
    )
    found = {row["reference"]: row for row in rows}
    # Where one call carried many messages they share the platform's id: alone it names none of them.
    shared = Counter(row["provider_ref"] for row in rows)
    return found | {
        row["provider_ref"]: row for row in rows if row["provider_ref"] and shared[row["provider_ref"]] == 1
    }


def _apply(
    moves: dict[UUID, tuple[DeliveryStatus, int, str]],
    records: list[Record],
    scribe: Scribe,
    platform: str,
    row: asyncpg.Record,
    receipt: Receipt,
    *,
    at: datetime,
) -> bool:
    status, version, _ = moves.get(row["id"], (DeliveryStatus(row["status"]), row["version"], ""))
    if receipt.status is None or not can_become(status, receipt.status):
        return False
    moves[row["id"]] = (receipt.status, version + 1, receipt.provider_ref)
    records.append(
        scribe.record(
            AuditType.DELIVERY_RECEIPT,
            object_=("delivery", str(row["id"])),
            stream=(str(row["id"]), version + 1),
            at=at,
            occurred_at=receipt.occurred_at,
            source=Source(kind="provider", id=platform),
            outcome={"status": "success", "delivery_status": receipt.status.value, "code": receipt.code},
        )
    )
    return True


async def _opt_out(connection: Connection, channel: str, address: str, code: str, *, at: datetime) -> None:
    await connection.execute(
        "INSERT INTO opt_out (channel, address, code, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        channel,
        address,
        code,
        at,
    )


async def tie(pool: Pool, scribe: Scribe, *, platform: str, links: Sequence[tuple[str, str]], at: datetime) -> int:
    """Give contacts that wait for a link the address of whoever opened it; each code works once."""
    tied = 0
    for code, address in links:
        async with pool.acquire() as connection, connection.transaction():
            contacts = await connection.fetch(
                "UPDATE contact_point SET address = $3, verified = true, consent = 'granted'"
                " WHERE platform = $1 AND address = $2 AND active RETURNING id",
                platform,
                f"{LINK}{code}",
                address,
            )
            tied += len(contacts)
            await emit(
                connection,
                [
                    scribe.record(
                        AuditType.RECIPIENT_VERIFIED,
                        object_=("contact", row["id"]),
                        stream=(f"link:{row['id']}:{at.isoformat()}", 1),
                        at=at,
                        source=Source(kind="provider", id=platform),
                        outcome={"status": "success", "code": "linked"},
                    )
                    for row in contacts
                ],
            )
    return tied


async def change_consent(
    pool: Pool, scribe: Scribe, *, platform: str, changes: Sequence[ConsentChange], at: datetime
) -> None:
    """Apply what people said about being written to, at once and for every contact with that address.

    A word known already changes nothing: repeated by its vendor after a later one, it would undo that.
    """
    if not changes:
        return
    async with pool.acquire() as connection, connection.transaction():
        for change in changes:
            fresh = await connection.fetchval(
                "INSERT INTO receipt (platform, dedupe_key, status, code, received_at, applied)"
                " VALUES ($1, $2, $3, $4, $5, true) ON CONFLICT DO NOTHING RETURNING true",
                platform,
                change.dedupe_key,
                "granted" if change.granted else "revoked",
                change.code,
                at,
            )
            if not fresh:
                continue
            if change.granted:
                await connection.execute(
                    "DELETE FROM opt_out WHERE channel = $1 AND address = $2",
                    change.channel.value,
                    change.address,
                )
            else:
                await _opt_out(connection, change.channel.value, change.address, change.code, at=at)
            contacts = await connection.fetch(
                "UPDATE contact_point SET consent = $3 WHERE channel = $1 AND address = $2 RETURNING id",
                change.channel.value,
                change.address,
                "granted" if change.granted else "revoked",
            )
            await emit(
                connection,
                [
                    scribe.record(
                        AuditType.CONSENT_GRANTED if change.granted else AuditType.CONSENT_REVOKED,
                        object_=("contact", row["id"]),
                        stream=(f"consent:{row['id']}:{change.dedupe_key}", 1),
                        at=at,
                        source=Source(kind="provider", id=platform),
                        outcome={"status": "success", "code": change.code},
                    )
                    for row in contacts
                ],
            )
