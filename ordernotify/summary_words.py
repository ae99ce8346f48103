"""Summary words: from what a contact may be told of a client's orders to the message that may leave, or why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from ordernotify.clock import noise
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Attachment, Message
from ordernotify.core.events import OrderStatus
from ordernotify.core.gate import scan
from ordernotify.core.ids import delivery_reference, notice_reference
from ordernotify.core.planning import NOTICE_TEMPLATE, SUMMARY_TEMPLATE
from ordernotify.core.summaries import Cut, Group, Named, group
from ordernotify.platforms import PLATFORMS
from ordernotify.rendering import Library, RenderProblem
from ordernotify.rendering.spreadsheet import cells, spreadsheet
from ordernotify.rendering.tables import Listing
from ordernotify.settings import Settings
from ordernotify.store.summary_records import Summed

# Orders that a message names itself: more would be cut off by mail programs, which show some 100 KB of a mail.
_NAMED_AT_MOST: Final = 50
_FIRST: Final = (Group.ATTENTION, Group.CHANGED, Group.OTHERS)


def summed(
    cut: Cut,
    *,
    delivery_id: UUID,
    event_id: UUID,
    client_name: str,
    day: date,
    at: datetime,
    library: Library,
    settings: Settings,
) -> Summed:
    """Return the summary of ``day`` for one contact, scanned by the content gate."""
    contact = cut.contact
    ours = {
        "supplier_name": settings.supplier_name,
        "support_contact": settings.support_contact,
        "portal_url": settings.portal_url,
    }
    rows = _by_group(cut, day)
    notice_ref, attachment, listing = "", None, Listing()
    if cut.notice_only:
        template, notice_ref = NOTICE_TEMPLATE, notice_reference(noise(8))
        fields = {**ours, "notice_ref": notice_ref}
    else:
        template, attachment = SUMMARY_TEMPLATE, _attachment(rows, cut, day=day, library=library)
        listing, more = _listing(cut, rows)
        numbers = _numbers(cut, rows, more=more)
        about = {"client_name": client_name, "recipient_name": cut.recipient.name, "summary_day": day.isoformat()}
        fields = {**ours, **about, **numbers, "attachment_name": attachment.name if attachment else ""}
        fields = {name: value for name, value in fields.items() if name not in cut.decision.removed}
    rendered = library.render(
        template=template, channel=contact.channel, language=cut.recipient.language, fields=fields, listing=listing
    )
    made = Summed(
        delivery_id=delivery_id,
        reference=delivery_reference(event_id=str(event_id), contact_id=contact.id, template=SUMMARY_TEMPLATE),
        cut=cut,
        template=template,
        template_version="" if isinstance(rendered, RenderProblem) else rendered.version,
        notice_ref=notice_ref,
        message=None,
        salt=noise(32),
    )
    if isinstance(rendered, RenderProblem):
        return replace(made, code=f"template_{rendered.code}")
    # One order's number may be the beginning of another's, which is shown.
    numbered = ("order_no", "tracking_no")
    public = [*ours.values(), *(row[name] for row in _shown(listing) for name in numbered if row.get(name))]
    code = _gate((rendered.subject, rendered.text, rendered.html), attachment, cut, public=public, settings=settings)
    if code:
        return replace(made, code=code)
    message = Message(
        delivery_id=str(delivery_id),
        reference=made.reference,
        channel=contact.channel,
        to=contact.address,
        # It is about orders of any status.
        status=OrderStatus.UNKNOWN,
        language=rendered.language,
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        facts=rendered.facts,
        variables=rendered.variables,
        attachments=(attachment,) if attachment else (),
        notice_only=cut.notice_only,
        occurred_at=at,
    )
    return replace(made, message=message)


def _by_group(cut: Cut, day: date) -> dict[Group, list[Named]]:
    rows: dict[Group, list[Named]] = {part: [] for part in _FIRST}
    for one in sorted(cut.named, key=lambda named: (named.standing.since, named.standing.order_no)):
        rows[group(one.standing, day=day)].append(one)
    return rows


def _listing(cut: Cut, rows: Mapping[Group, Sequence[Named]]) -> tuple[Listing, int]:
    """Return the picture's numbers and the orders that the message names itself, and how many it does not."""
    counts = Counter(one.standing.status for one in cut.named)
    if cut.contact.channel is not Channel.EMAIL:
        return Listing(counts=counts), 0
    chosen: dict[str, list[dict[str, str]]] = {}
    room = _NAMED_AT_MOST
    for part in _FIRST:
        chosen[part.value] = [_row(one) for one in rows[part][:room]]
        room -= len(chosen[part.value])
    return Listing(counts=counts, rows=chosen), len(cut.named) - (_NAMED_AT_MOST - room)


def _numbers(cut: Cut, rows: Mapping[Group, Sequence[Named]], *, more: int) -> dict[str, str]:
    """Return the numbers of a summary; of those that are none it says nothing."""
    numbers = {
        "changed_orders": sum(one.standing.changed for one in cut.named),
        "late_orders": len(rows[Group.ATTENTION]),
        "more_orders": more,
        "unnamed_orders": cut.unnamed,
    }
    shown = {name: str(number) if number else "" for name, number in numbers.items()}
    return {"open_orders": str(sum(one.standing.is_open for one in cut.named)) if cut.named else "", **shown}


def _shown(listing: Listing) -> list[Mapping[str, str]]:
    return [row for rows in listing.rows.values() for row in rows]


def _row(one: Named) -> dict[str, str]:
    standing = one.standing
    values = {
        "order_no": standing.order_no,
        "status": standing.status.value,
        "since": standing.since.isoformat(),
        "promised_date": standing.promised_date,
        "carrier": standing.carrier,
        "tracking_no": standing.tracking_no,
    }
    return {name: value for name, value in values.items() if name not in one.removed} if one.removed else values


def _attachment(rows: Mapping[Group, Sequence[Named]], cut: Cut, *, day: date, library: Library) -> Attachment | None:
    """Return all named orders as a file, where the platform takes one of this size."""
    takes = PLATFORMS[cut.contact.platform].attachment_bytes
    if not takes or not cut.named or cut.contact.channel is not Channel.EMAIL:
        return None
    content = spreadsheet((_row(one) for part in _FIRST for one in rows[part]), library.words(cut.recipient.language))
    return Attachment(f"orders-{day.isoformat()}.csv", "text/csv", content) if len(content) <= takes else None


def _gate(
    parts: Iterable[str], attachment: Attachment | None, cut: Cut, *, public: Iterable[str], settings: Settings
) -> str:
    """Return the code of what must not leave, '' when all may."""
    links = [urlsplit(settings.portal_url).hostname or ""]
    hits = scan(parts, sealed=cut.withheld, ceiling=cut.label, links_allowed=links, public=public)
    if attachment is not None and not hits:
        numbers, words = cells(attachment.content)
        if not numbers.isdisjoint(cut.withheld):
            return "gate_sealed_attachment"
        hits = scan(("\n".join(words),), sealed=cut.withheld, ceiling=cut.label, links_allowed=links)
    return f"gate_{hits[0].kind}_{hits[0].rule}" if hits else ""
