"""Previewing: every message that an event would make, planned and worded by what sends, and sent to nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from ordernotify.clock import new_id
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Message
from ordernotify.core.events import OrderEvent
from ordernotify.core.planning import Planned, Suppressed, SuppressionReason
from ordernotify.core.planning import plan as plan_event
from ordernotify.core.policy import Verdict
from ordernotify.core.segments import count as count_segments
from ordernotify.rendering import Library
from ordernotify.settings import Settings
from ordernotify.store import corrections, plans
from ordernotify.store.database import Pool
from ordernotify.store.wording import Stopped, Worded, told_of
from ordernotify.words import word

# What a notice's random reference looks like; the one that is sent is drawn when it is planned.
_NOTICE_REF = "N-XXXX-XXXX-XXXX"


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """What one contact would get: a message, or none and why."""

    recipient: str
    platform: str
    channel: Channel
    language: str
    rules: tuple[str, ...]
    message: Message | None = None
    notice_only: bool = False
    withheld: tuple[str, ...] = ()
    reason: str = ""

    @property
    def segments(self) -> int:
        """How many SMS the message is, 0 on other channels."""
        return count_segments(self.message.text).segments if self.message and self.channel is Channel.SMS else 0


async def preview(
    pool: Pool,
    event: OrderEvent,
    order_id: UUID,
    *,
    library: Library,
    settings: Settings,
    configured: Sequence[str],
    at: datetime,
) -> list[Previewed]:
    """Return what each contact of the order's client would get if ``event`` happened to the order now."""
    order = await pool.fetchrow(
        "SELECT o.*, c.name AS client_name FROM orders o JOIN client c ON c.id = o.client_id WHERE o.id = $1", order_id
    )
    if order is None:
        return []
    item = plans.ToPlan(
        event_id=new_id(),
        version=1,
        event=event,
        order_id=order_id,
        client_id=order["client_id"],
        facts=plans.facts_of(order),
        order_no=order["order_no"],
        client_name=order["client_name"],
        told=told_of(event, order),
    )
    recipients = (await plans.recipients_of(pool, [item.client_id])).get(item.client_id, [])
    rows = plan_event(
        event,
        event_id=str(item.event_id),
        order=item.facts,
        recipients=recipients,
        registry=await plans.registry(pool, configured, at=at),
        template_facts=library.facts,
        now=at,
        told=(await corrections.told_before(pool, [(item.event_id, order_id, event)])).get(item.event_id),
    )
    stopped = await _opted_out(pool, rows)
    edits = await _replaced(pool, event)
    return [
        _suppressed(row, row.reason.value)
        if isinstance(row, Suppressed)
        else _suppressed(row, SuppressionReason.OPTED_OUT.value)
        if (row.contact.channel.value, row.contact.address) in stopped
        else _worded(row, item, edits, library=library, settings=settings)
        for row in rows
    ]


def _suppressed(row: Planned | Suppressed, reason: str) -> Previewed:
    return Previewed(
        recipient=row.recipient.name,
        platform=row.contact.platform,
        channel=row.contact.channel,
        language=row.recipient.language,
        rules=row.rules if isinstance(row, Suppressed) else row.decision.rules,
        reason=reason,
    )


def _worded(
    row: Planned,
    item: plans.ToPlan,
    edits: Mapping[str, str],
    *,
    library: Library,
    settings: Settings,
) -> Previewed:
    notice = row.decision.verdict is Verdict.NOTICE_ONLY
    made = plans.Made(new_id(), _NOTICE_REF if notice else "", plans.EventPlan(item, [row]), row)
    to_word = replace(plans.to_word_of(made), corrected_ref=edits.get(row.contact.id, ""))
    worded = word(to_word, library=library, settings=settings)
    match worded:
        case Stopped(code=code):
            return _suppressed(row, code)
        case Worded(message=message):
            return Previewed(
                recipient=row.recipient.name,
                platform=row.contact.platform,
                channel=row.contact.channel,
                language=message.language,
                rules=row.decision.rules,
                message=message,
                notice_only=notice,
                withheld=() if notice else row.decision.removed,
            )


async def _opted_out(pool: Pool, rows: Sequence[Planned | Suppressed]) -> set[tuple[str, str]]:
    found = await pool.fetch(
        "SELECT channel, address FROM opt_out WHERE address = ANY($1)", [row.contact.address for row in rows]
    )
    return {(row["channel"], row["address"]) for row in found}


async def _replaced(pool: Pool, event: OrderEvent) -> dict[str, str]:
    """Return the platform's id of what a correction takes back, by contact."""
    if not event.corrects:
        return {}
    rows = await pool.fetch(
        "SELECT d.contact_id, d.provider_ref FROM delivery d JOIN contact_point p ON p.id = d.contact_id"
        " AND p.platform = d.platform AND p.address = d.address WHERE d.event_id = $1 AND d.provider_ref <> ''"
        " AND d.status IN ('sent', 'delivered', 'read') ORDER BY d.id",
        UUID(event.corrects),
    )
    return {row["contact_id"]: row["provider_ref"] for row in rows}
