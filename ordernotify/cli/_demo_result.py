"""What the demo shows at its end: counts from the store, arrival times from the vendors themselves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import orjson

from ordernotify.house import Addresses
from ordernotify.store.setup import plain

_WAIT_S = 40.0
# Accepted, and not ended as delivered, refused, held or suppressed with a reason: what an event must never stay.
# What waits until compliance releases its order (or a person says whether it left) is where it should be.
_NOT_ENDED = (
    "SELECT (SELECT count(*) FROM event WHERE state IN ('waiting', 'claimed', 'admitted', 'planned'))"
    " + (SELECT count(*) FROM delivery WHERE status IN ('planned', 'authorized', 'sending')"
    " OR (status IN ('deferred', 'unknown') AND next_attempt_at < 'infinity'))"
)


@dataclass(slots=True)
class Driven:
    """What the demo's drivers did: when each event was posted, and what was answered."""

    posted: dict[str, float] = field(default_factory=dict)  # event id -> epoch milliseconds
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    government_order: str = ""
    tours: dict[str, float] = field(default_factory=dict)  # events that went to every platform


async def collect(url: str, addresses: Addresses, driven: Driven) -> dict[str, Any]:
    """Wait until nothing is open any more, then count."""
    connection = await asyncpg.connect(plain(url))
    try:
        await _settled(connection)
        arrived = await _arrivals(addresses)
        deliveries: dict[str, dict[str, int]] = {}
        for row in await connection.fetch(
            "SELECT platform, status, count(*) FROM delivery GROUP BY 1, 2 ORDER BY 1, 2"
        ):
            deliveries.setdefault(row["platform"], {})[row["status"]] = row["count"]
        suppressed = [
            dict(row)
            for row in await connection.fetch(
                "SELECT platform, reason, rules, count(*) FROM suppression GROUP BY 1, 2, 3"
                " UNION ALL SELECT platform, status, rules, count(*) FROM delivery"
                " WHERE status IN ('superseded', 'suppressed') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
            )
        ]
        triggers = await connection.fetch("SELECT trigger, count(*) FROM event GROUP BY 1")
        held = await connection.fetch(
            "SELECT source, reason, count(*) FROM event WHERE state = 'quarantined' GROUP BY 1, 2 ORDER BY 1, 2"
        )
        return {
            "events": {
                "accepted": driven.accepted,
                "duplicate": driven.duplicate,
                "rejected": driven.rejected,
                "quarantined": sum(row["count"] for row in held),
            },
            "quarantine": [dict(row) for row in held],
            "summaries": await connection.fetchval(
                "SELECT count(*) FROM delivery d JOIN event e ON e.id = d.event_id WHERE e.source = 'house'"
            ),
            "lost": await connection.fetchval(_NOT_ENDED),
            "triggers": {row["trigger"]: row["count"] for row in triggers},
            "deliveries": deliveries,
            "not_sent": [
                dict(row)
                for row in await connection.fetch(
                    "SELECT platform, status, code, count(*) FROM delivery"
                    " WHERE status NOT IN ('sent', 'delivered', 'read', 'superseded', 'suppressed')"
                    " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
                )
            ],
            "suppressed": suppressed,
            "duplicates_at_vendors": sum(vendor["duplicates"] for vendor in (await _counts(addresses)).values()),
            "latency_ms": await _latency(connection, driven, arrived),
            "fan_out": await _fan_out(connection, driven),
            "government_example": await _government(connection, driven.government_order),
            "urls": {
                "api": f"{addresses.web}/docs",
                "prefect": addresses.prefect,
                "sandbox": addresses.sandbox,
            },
        }
    finally:
        await connection.close()


async def _settled(connection: asyncpg.Connection) -> None:
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    while asyncio.get_running_loop().time() < deadline:
        open_rows = await connection.fetchval(_NOT_ENDED)
        # Receipts of the last messages are still on their way when the last outcome is written.
        await asyncio.sleep(0.7)
        if not open_rows:
            return


async def _counts(addresses: Addresses) -> dict[str, dict[str, int]]:
    async with httpx.AsyncClient(trust_env=False) as client:
        counts: dict[str, dict[str, int]] = (await client.get(f"{addresses.sandbox}/_control/counts")).json()
    return counts


async def _arrivals(addresses: Addresses) -> dict[str, float]:
    """Return when each of our references arrived at a vendor, as the vendor says (epoch milliseconds)."""
    found: dict[str, float] = {}
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        for vendor in (await client.get(f"{addresses.sandbox}/_control/counts")).json():
            answer = await client.get(f"{addresses.sandbox}/_control/{vendor}/taken", params={"limit": 5000})
            for entry in answer.json():
                if entry["reference"]:
                    found.setdefault(entry["reference"], float(entry["received_at_ms"]))
    return found


async def _latency(connection: asyncpg.Connection, driven: Driven, arrived: dict[str, float]) -> dict[str, float]:
    """Return percentiles, in milliseconds, from posting a webhook to its last message's arrival at a vendor."""
    rows = await connection.fetch("SELECT event_id, reference FROM delivery")
    last: dict[str, float] = {}
    for row in rows:
        at = arrived.get(row["reference"])
        if at is not None:
            event = str(row["event_id"])
            last[event] = max(last.get(event, 0.0), at)
    waits = sorted(last[event] - at for event, at in driven.posted.items() if event in last)
    if not waits:
        return {"p50": 0.0, "p99": 0.0, "events": 0}
    return {
        "p50": round(waits[len(waits) // 2], 1),
        "p99": round(waits[min(len(waits) - 1, len(waits) * 99 // 100)], 1),
        "events": len(waits),
    }


async def _fan_out(connection: asyncpg.Connection, driven: Driven) -> dict[str, Any]:
    """Return, for the events that went to every platform, how each fared and when the last one was called."""
    rows = await connection.fetch(
        "SELECT d.event_id::text, d.platform, d.status, d.code, extract(epoch FROM a.started_at) * 1000 AS at"
        " FROM delivery d LEFT JOIN attempt a ON a.delivery_id = d.id AND a.number = 1"
        " WHERE d.event_id::text = ANY($1) ORDER BY d.platform",
        list(driven.tours),
    )
    last: dict[str, float] = {}
    grid: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = grid.setdefault(row["platform"], {"platform": row["platform"], "outcomes": {}, "codes": [], "ms": []})
        entry["outcomes"][row["status"]] = entry["outcomes"].get(row["status"], 0) + 1
        entry["codes"] = sorted({*entry["codes"], row["code"]})
        if row["at"] is not None:
            wait = float(row["at"]) - driven.tours[row["event_id"]]
            entry["ms"].append(round(wait))
            last[row["event_id"]] = max(last.get(row["event_id"], 0.0), wait)
    waits = sorted(last.values())
    return {
        "platforms": len(grid),
        "p50_ms_to_last_platform": round(waits[len(waits) // 2]) if waits else 0,
        "grid": list(grid.values()),
    }


async def _government(connection: asyncpg.Connection, order_no: str) -> list[dict[str, Any]]:
    rows = await connection.fetch(
        "SELECT d.platform, d.channel, d.verdict, d.rules, d.removed, d.status, m.body FROM delivery d"
        " JOIN message m ON m.delivery_id = d.id JOIN orders o ON o.id = d.order_id WHERE o.order_no = $1"
        " ORDER BY d.event_id, d.platform LIMIT 2",
        order_no,
    )
    shown = []
    for row in rows:
        message = orjson.loads(row["body"])
        text = "\n".join(part for part in (message["subject"], message["text"]) if part)
        shown.append({**{name: row[name] for name in ("platform", "channel", "verdict", "rules", "removed")},
                      "text": text})  # fmt: skip
    return shown
