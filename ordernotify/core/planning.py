"""Planning: who is told about an event, on which channels, with how much; or why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ordernotify.core.channels import Level
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.core.ids import delivery_reference
from ordernotify.core.policy import Decision, OrderFacts, TemplateFacts, Verdict, decide
from ordernotify.core.recipients import ContactPoint, Recipient


class SuppressionReason(StrEnum):
    """Why a delivery is not made, besides a policy denial (whose rules say why)."""

    POLICY = "policy"
    NOT_CHOSEN = "not_chosen"  # the recipient did not choose this status on this contact
    NOT_CONFIGURED = "platform_not_configured"
    NOT_LINKED = "not_linked"  # nobody has tied an account to this contact yet
    QUARANTINED = "quarantined"
    OPTED_OUT = "opted_out"
    ALREADY_TOLD = "already_told"  # a correction to what this contact was told last


@dataclass(frozen=True, slots=True)
class Told:
    """What a contact was last told of an order, and whether it was told what is being corrected."""

    status: OrderStatus
    corrected: bool


@dataclass(frozen=True, slots=True)
class Registered:
    """A platform as a channel: its level in force and whether it may be used at all."""

    level: Level
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One delivery to make: what was decided, and the key under which it exists once."""

    reference: str
    recipient: Recipient
    contact: ContactPoint
    template: str
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressed:
    """One delivery that is not made, with its reason and the rules that decided."""

    recipient: Recipient
    contact: ContactPoint
    reason: SuppressionReason
    rules: tuple[str, ...]


NOTICE_TEMPLATE = "notice"
# An address that is not known yet: who opens the platform's deep link with this code becomes the contact.
LINK = "link:"
CORRECTION_TEMPLATE = "correction"
SUMMARY_TEMPLATE = "summary"


def plan(
    event: OrderEvent,
    *,
    event_id: str,
    order: OrderFacts,
    recipients: Sequence[Recipient],
    registry: Mapping[str, Registered],
    template_facts: Callable[[str], TemplateFacts],
    now: datetime,
    resend: int = 0,
    told: Mapping[str, Told] | None = None,
) -> list[Planned | Suppressed]:
    """Return every delivery and suppression of one event, in a fixed order; the same event gives the same keys.

    ``registry`` holds the configured platforms. A recipient without an active contact has no row: there is
    nothing that could have been done. ``told`` says, by contact, what was told of the order before an event that
    corrects another.
    """
    return [
        _settle(
            event,
            event_id=event_id,
            order=order,
            recipient=recipient,
            contact=contact,
            registered=registry.get(contact.platform),
            template_facts=template_facts,
            now=now,
            resend=resend,
            told=(told or {}).get(contact.id),
        )
        for recipient in recipients
        for contact in sorted(recipient.contacts, key=lambda point: (point.position, point.id))
    ]


def _settle(
    event: OrderEvent,
    *,
    event_id: str,
    order: OrderFacts,
    recipient: Recipient,
    contact: ContactPoint,
    registered: Registered | None,
    template_facts: Callable[[str], TemplateFacts],
    now: datetime,
    resend: int,
    told: Told | None,
) -> Planned | Suppressed:
    # Who was told what is taken back is told so, whatever they chose. Who was not has nothing to be corrected: to them
    # it is news, or nothing.
    corrected = told is not None and told.corrected
    template = CORRECTION_TEMPLATE if event.correction and (corrected or not event.corrects) else event.status.value
    if event.corrects and not corrected and told is not None and told.status is event.status:
        return Suppressed(recipient=recipient, contact=contact, reason=SuppressionReason.ALREADY_TOLD, rules=())
    if contact.statuses and event.status not in contact.statuses and not corrected:
        return Suppressed(recipient=recipient, contact=contact, reason=SuppressionReason.NOT_CHOSEN, rules=())
    if contact.address.startswith(LINK):
        return Suppressed(recipient=recipient, contact=contact, reason=SuppressionReason.NOT_LINKED, rules=())
    if registered is None:
        return Suppressed(recipient=recipient, contact=contact, reason=SuppressionReason.NOT_CONFIGURED, rules=())
    level = registered.level if contact.level is None else min(contact.level, registered.level)
    decision = decide(
        order=order,
        channel_level=level if registered.enabled else Level.CX,
        contact=contact,
        recipient=recipient,
        template=template_facts(template),
        now=now,
    )
    if decision.verdict in {Verdict.DENY, Verdict.QUARANTINE}:
        reason = SuppressionReason.QUARANTINED if decision.verdict is Verdict.QUARANTINE else SuppressionReason.POLICY
        return Suppressed(recipient=recipient, contact=contact, reason=reason, rules=decision.rules)
    notice = decision.verdict is Verdict.NOTICE_ONLY
    return Planned(
        # The key does not depend on the wording chosen: a change of policy between two plans of one event
        # must not tell a person twice.
        reference=delivery_reference(event_id=event_id, contact_id=contact.id, template=template, resend=resend),
        recipient=recipient,
        contact=contact,
        template=NOTICE_TEMPLATE if notice else template,
        decision=decision,
    )
