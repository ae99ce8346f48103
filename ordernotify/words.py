"""Words: from a planned delivery to the message that may leave, or to why it may not."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from ordernotify.clock import noise
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Message
from ordernotify.core.gate import scan
from ordernotify.core.labels import Label
from ordernotify.core.planning import CORRECTION_TEMPLATE, NOTICE_TEMPLATE
from ordernotify.platforms import PLATFORMS
from ordernotify.rendering import Library, RenderProblem
from ordernotify.settings import Settings
from ordernotify.store.wording import Stopped, ToWord, Worded

# What a notice is made of: ours, and public.
_OURS = ("notice_ref", "portal_url", "supplier_name", "support_contact")
# Fields whose values make a message of the order.
_SEALED = ("order_no", "tracking_no", "promised_date", "lines", "client_name", "recipient_name")


def word(item: ToWord, *, library: Library, settings: Settings) -> Worded | Stopped:
    """Return the message of a delivery, cut to what policy left of it and scanned by the content gate."""
    everything = _fields(item, settings)
    # A notice is a projection of its own: it is given nothing of the order, so it can tell nothing.
    allowed = (
        {name: everything[name] for name in _OURS}
        if item.template == NOTICE_TEMPLATE
        else {name: value for name, value in everything.items() if name not in item.removed}
    )
    rendered = library.render(template=item.template, channel=item.channel, language=item.language, fields=allowed)
    if isinstance(rendered, RenderProblem):
        return Stopped(item, f"template_{rendered.code}")
    hits = scan(
        (rendered.subject, rendered.text, rendered.html),
        sealed=_sealed(everything, allowed),
        ceiling=Label.read(item.label),
        links_allowed=[urlsplit(settings.portal_url).hostname or ""],
        public=[everything[name] for name in _OURS],
    )
    if hits:
        return Stopped(item, f"gate_{hits[0].kind}_{hits[0].rule}")
    message = Message(
        delivery_id=str(item.delivery_id),
        reference=item.reference,
        channel=item.channel,
        to=address_of(item),
        status=item.status,
        language=rendered.language,
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        facts=rendered.facts,
        variables=rendered.variables,
        # The order's keys in other systems go only where records are kept, never into a message to a person.
        refs=dict(item.told.refs) if item.channel is Channel.RECORD else {},
        notice_only=item.notice_only,
        edit_of=_edit_of(item),
        occurred_at=item.occurred_at,
    )
    return Worded(item, message, rendered.version, noise(32))


def address_of(item: ToWord) -> str:
    """Return where a delivery goes: ``order`` stands for the order's own record at the platform."""
    if item.address == "order":
        return item.told.refs.get(item.platform, item.order_no)
    return item.address


def _edit_of(item: ToWord) -> str:
    """Return what a correction replaces. An edit rings no bell, so a notice, which says nothing itself, comes anew."""
    corrects = item.template == CORRECTION_TEMPLATE and PLATFORMS[item.platform].edits
    return item.corrected_ref if corrects else ""


def _fields(item: ToWord, settings: Settings) -> dict[str, str]:
    return {
        "supplier_name": settings.supplier_name,
        "support_contact": settings.support_contact,
        "portal_url": settings.portal_url,
        "notice_ref": item.notice_ref,
        "client_name": item.client_name,
        "recipient_name": item.recipient_name,
        "order_no": item.order_no,
        "status": item.status.value,
        "promised_date": item.told.promised_date,
        "carrier": item.told.carrier,
        "tracking_no": item.told.tracking_no,
        "detail": item.told.detail,
        "lines": "; ".join(f"{quantity} \N{MULTIPLICATION SIGN} {sku}" for sku, quantity in item.told.lines),
        "occurred_on": item.occurred_at.date().isoformat(),
    }


def _sealed(everything: dict[str, str], allowed: dict[str, str]) -> Iterable[str]:
    return [everything[name] for name in _SEALED if everything[name] and name not in allowed]
