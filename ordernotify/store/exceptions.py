"""What the exception sweep asks of the store: passed promises, orders that wait for somebody, and work that is stuck.

Every statement here may be repeated: an incident that is open is not opened again, and one whose cause is gone closes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ordernotify.clock import first_id
from ordernotify.core.events import OrderState, OrderStatus
from ordernotify.core.exceptions import CAUSE_OF_DETAIL, CAUSE_OF_STATUS, DONE, SOURCE, Cause, Promise
from ordernotify.core.holds import ON_HOLD
from ordernotify.store.audit import Scribe
from ordernotify.store.database import Pool
from ordernotify.store.incidents import Incident, IncidentKind, close_incidents, open_incidents

_DONE = [status.value for status in DONE]
_CAUSES = [IncidentKind(cause.value) for cause in Cause]
# The earliest clocks on Earth are this far ahead.
_EARLIEST = timedelta(hours=14)
# A late notice is found by a sweep soon after; older ones were found by an earlier one.
_LOOKS_BACK = timedelta(days=2)
_AT_ONCE = 5_000


async def promises(pool: Pool, *, at: datetime) -> list[tuple[Promise, str]]:
    """Return orders whose promised date is over somewhere and was not told of, each with its client's time zone.

    An order with a tracking number is not among them: what follows from its shipments is concluded from those.
    """
    rows = await pool.fetch(
        "SELECT o.id, o.order_no, o.client_id, o.status, o.status_at, o.promised_date, o.detail, c.time_zone"
        " FROM orders o JOIN client c ON c.id = o.client_id WHERE o.promised_date <> '' AND o.version > 0"
        " AND o.promised_date < $1 AND o.tracking_no = '' AND o.status <> ALL($2)"
        " AND NOT EXISTS (SELECT 1 FROM hold h WHERE h.order_id = o.id AND h.ended_at IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM event e WHERE e.source = $3"
        "   AND e.dedupe_key = 'promised/' || o.id || '/' || o.promised_date)"
        " ORDER BY o.id LIMIT $4",
        (at + _EARLIEST).date().isoformat(),
        [*_DONE, OrderStatus.REGULATORY_HOLD.value],
        SOURCE,
        _AT_ONCE,
    )
    return [
        (
            Promise(
                order_id=str(row["id"]),
                order_no=row["order_no"],
                client_id=row["client_id"],
                state=OrderState(
                    status=OrderStatus(row["status"]),
                    status_at=row["status_at"],
                    promised_date=row["promised_date"],
                    detail=row["detail"],
                ),
            ),
            row["time_zone"],
        )
        for row in rows
    ]


_WAITING = (
    "SELECT o.id, coalesce(d.kind, s.kind) AS kind FROM orders o"
    " LEFT JOIN unnest($1::text[], $2::text[]) AS d(detail, kind) ON d.detail = o.detail"
    " LEFT JOIN unnest($3::text[], $4::text[]) AS s(status, kind) ON s.status = o.status"
    " WHERE o.status <> ALL($5) AND coalesce(d.kind, s.kind) IS NOT NULL"
)
_WAITING_VALUES = (
    list(CAUSE_OF_DETAIL),
    [cause.value for cause in CAUSE_OF_DETAIL.values()],
    [status.value for status in CAUSE_OF_STATUS],
    [cause.value for cause in CAUSE_OF_STATUS.values()],
    _DONE,
)


async def watch_orders(pool: Pool, scribe: Scribe, *, at: datetime) -> tuple[int, int]:
    """Open an incident for every order that waits for somebody, close those that moved on; returns both counts."""
    async with pool.acquire() as connection, connection.transaction():
        fresh = await connection.fetch(
            f"SELECT w.id, w.kind FROM ({_WAITING}) w WHERE NOT EXISTS (SELECT 1 FROM incident i"  # noqa: S608 - a literal above
            " WHERE i.kind = w.kind AND i.subject = w.id::text AND i.closed_at IS NULL)",
            *_WAITING_VALUES,
        )
        await open_incidents(
            connection,
            scribe,
            [Incident(IncidentKind(row["kind"]), str(row["id"]), order_id=row["id"]) for row in fresh],
            at=at,
        )
        over = await connection.fetch(
            f"SELECT i.kind, i.subject FROM incident i LEFT JOIN ({_WAITING}) w"  # noqa: S608 - a literal above
            " ON w.kind = i.kind AND w.id = i.order_id WHERE i.closed_at IS NULL AND i.kind = ANY($6) AND w.id IS NULL",
            *_WAITING_VALUES,
            [kind.value for kind in _CAUSES],
        )
        for kind in _CAUSES:
            subjects = [row["subject"] for row in over if row["kind"] == kind]
            await close_incidents(connection, scribe, [kind], subjects, at=at)
    return len(fresh), len(over)


async def watch_work(
    pool: Pool, scribe: Scribe, *, stuck_after: timedelta, given_up_after: timedelta, at: datetime
) -> int:
    """Open an incident for each platform and each stage where work does not get on; returns how many there are.

    One for each, however many messages: what a person mends is the platform or the stage. Messages that wait for a
    person already, and those of held orders, are where they should be.
    """
    async with pool.acquire() as connection, connection.transaction():
        deliveries = await connection.fetch(
            "SELECT d.platform AS subject, count(*) FROM delivery d JOIN event e ON e.id = d.event_id"
            " WHERE d.status IN ('planned', 'authorized', 'sending', 'deferred', 'unknown')"
            " AND d.next_attempt_at < 'infinity' AND d.code <> $2 AND e.received_at <= $1 GROUP BY 1",
            at - given_up_after,
            ON_HOLD,
        )
        stages = await connection.fetch(
            "SELECT 'event_' || state AS subject, count(*) FROM event"
            " WHERE state IN ('waiting', 'claimed', 'admitted', 'planned') AND received_at <= $1 GROUP BY 1"
            " UNION ALL SELECT 'batch', count(*) FROM batch WHERE finished_at IS NULL AND created_at <= $1"
            " HAVING count(*) > 0",
            at - stuck_after,
        )
        stuck = [
            Incident(kind, row["subject"], code=str(row["count"]))
            for kind, rows in ((IncidentKind.DELIVERIES_STUCK, deliveries), (IncidentKind.PIPELINE_STUCK, stages))
            for row in rows
        ]
        open_now = await connection.fetch(
            "SELECT kind, subject FROM incident WHERE closed_at IS NULL AND kind = ANY($1)",
            [IncidentKind.DELIVERIES_STUCK.value, IncidentKind.PIPELINE_STUCK.value],
        )
        known = {(row["kind"], row["subject"]) for row in open_now}
        await open_incidents(
            connection, scribe, [one for one in stuck if (one.kind.value, one.subject) not in known], at=at
        )
        for kind in (IncidentKind.DELIVERIES_STUCK, IncidentKind.PIPELINE_STUCK):
            still = {one.subject for one in stuck if one.kind is kind}
            over = [subject for of, subject in known if of == kind.value and subject not in still]
            await close_incidents(connection, scribe, [kind], over, at=at)
    return len(stuck)


async def note_late_notices(pool: Pool, scribe: Scribe, *, within: timedelta, at: datetime) -> int:
    """Open an incident, once, for every event of which somebody was told too late or is not told yet; how many.

    The time in which its order was held does not count against anybody.
    """
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "SELECT late.id, late.order_id, count(*) FROM (SELECT e.id, e.order_id, e.received_at,"
            "   CASE WHEN d.status IN ('sent', 'delivered', 'read')"
            "     THEN coalesce(told.sent_at, told.tried_at, d.status_at) ELSE $3 END AS told_at"
            "   FROM event e JOIN delivery d ON d.event_id = e.id"
            "   LEFT JOIN LATERAL (SELECT min(a.ended_at) FILTER (WHERE a.outcome = 'sent') AS sent_at,"
            "     max(a.ended_at) AS tried_at FROM attempt a WHERE a.delivery_id = d.id) told ON true"
            "   WHERE e.id >= $7 AND e.received_at BETWEEN $1 AND $2 AND d.next_attempt_at < 'infinity' AND d.status IN"
            "     ('planned', 'authorized', 'sending', 'deferred', 'unknown', 'sent', 'delivered', 'read')) late"
            " WHERE late.told_at - late.received_at > $4::interval"
            " AND NOT EXISTS (SELECT 1 FROM hold h WHERE h.order_id = late.order_id"
            "   AND h.opened_at <= late.told_at AND coalesce(h.ended_at, $3) >= late.received_at)"
            " AND NOT EXISTS (SELECT 1 FROM incident i WHERE i.kind = $5 AND i.subject = late.id::text)"
            " GROUP BY late.id, late.order_id ORDER BY late.id LIMIT $6",
            at - _LOOKS_BACK,
            at - within,
            at,
            within,
            IncidentKind.NOTICE_LATE.value,
            _AT_ONCE,
            # Ids sort by time: with this the key of the table finds the few that are recent.
            first_id(at - _LOOKS_BACK),
        )
        await open_incidents(
            connection,
            scribe,
            [
                Incident(
                    IncidentKind.NOTICE_LATE,
                    str(row["id"]),
                    code=str(row["count"]),
                    event_id=row["id"],
                    order_id=row["order_id"],
                )
                for row in rows
            ],
            at=at,
        )
    return len(rows)
