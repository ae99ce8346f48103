"""HubSpot's single send: one e-mail of a template kept there, at most once for each of our references."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Final

from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import Answer, Call, Context, failure, json_body
from ordernotify.platforms._hubspot_access import HubSpotSettings, call, refusal, safe_code

_OK, _NOT_FOUND = 200, 404
_K = FailureKind

TAKEN: Final = frozenset({"SENT", "QUEUED"})
# Our reference was used before: the first send decided, and this one changed nothing.
REPEATED: Final = frozenset({"IDEMPOTENT_IGNORE", "IDEMPOTENT_FAIL"})
SEND_RESULTS: Final[Mapping[str, FailureKind]] = {
    word: kind
    for kind, words in {
        _K.TRANSIENT: "ATTACHMENT_DOWNLOAD_QUEUE_FULL",
        _K.RATE: "THROTTLED",
        _K.QUOTA: "PORTAL_OVER_LIMIT HUBL_LIMIT_EXCEEDED",
        _K.OPT_OUT: "ADDRESS_OPTED_OUT PREVIOUSLY_UNSUBSCRIBED_MESSAGE PREVIOUSLY_UNSUBSCRIBED_PORTAL "
        "PREVIOUSLY_UNSUBSCRIBED_BRAND PREVIOUSLY_UNSUBSCRIBED_BUSINESS_UNIT PREVIOUS_SPAM PREVIOUSLY_BOUNCED "
        "QUARANTINED_ADDRESS BLOCKED_ADDRESS GRAYMAIL_SUPPRESSED RECIPIENT_FATIGUE_SUPPRESSED "
        "BRAND_RECIPIENT_FATIGUE_SUPPRESSED NON_MARKETABLE_CONTACT GDPR_DOI_ENABLED EMAIL_UNCONFIRMED "
        "ADDRESS_LIST_BOMBED LOW_CONTACT_QUALITY_SCORE",
        _K.PERMANENT: "INVALID_TO_ADDRESS BLOCKED_DOMAIN UNDELIVERABLE TOO_MANY_RECIPIENTS CORRUPT_INPUT "
        "VALIDATION_FAILED MISSING_CONTENT MISSING_REQUIRED_PARAMETER MISSING_TEMPLATE_PROPERTIES "
        "TEMPLATE_RENDER_EXCEPTION MTA_IGNORE CAMPAIGN_CANCELLED",
        _K.CONFIG: "INVALID_FROM_ADDRESS UNCONFIGURED_SENDING_DOMAIN EMAIL_DISABLED INVALID_APP_ID_ATTRIBUTION "
        "UBB_GOVERNANCE_MISSING ADDRESS_ONLY_ACCEPTED_ON_PROD MARKETING_ACTIVATION_DISALLOWED",
        _K.AUTH: "PORTAL_SUSPENDED PORTAL_EXPIRED PORTAL_AUTHENTICATION_FAILURE PORTAL_MISSING_MARKETING_SCOPE "
        "PORTAL_NOT_AUTHORIZED_FOR_APPLICATION CONTACT_VIEW_PERMISSION CANCELLED_ABUSE",
    }.items()
    for word in words.split()
}


def mail(message: Message, context: Context) -> Call | Rejected:
    """Return the single send of a message; its ``sendId`` makes HubSpot drop a repetition."""
    settings: HubSpotSettings = context.settings
    if not settings.email_id:
        return Rejected(_K.CONFIG, "hubspot_no_email_id")
    addressed: dict[str, Any] = {"to": message.to, "sendId": message.reference, "replyTo": [], "cc": [], "bcc": []}
    if settings.from_address:
        addressed["from"] = settings.from_address
    body = {
        "emailId": settings.email_id,
        "message": addressed,
        "contactProperties": {},
        "customProperties": custom_properties(message),
    }
    return call(context, "POST", settings.email_path, json_body(body))


def custom_properties(message: Message) -> dict[str, str]:
    """Return what the template may use, escaped for HTML because HubSpot inserts it as it is."""
    values = {} if message.notice_only else dict(message.variables)
    values |= {"subject": message.subject, "text": message.text}
    escaped = {name: html.escape(value) for name, value in values.items()}
    return {**escaped, "html": message.html or escaped["text"].replace("\n", "<br>")}


def mailed(answer: Answer, context: Context) -> Outcome:
    """Return what became of a single send; that HubSpot answers 200 does not yet mean that it was sent."""
    if answer.status == _NOT_FOUND:
        return Rejected(_K.CONFIG, "hubspot_email_not_found")  # the e-mail or the path, never the person
    if answer.status != _OK:
        return refusal(answer, context)
    body = answer.json()
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    result, status, reference = said.get("sendResult"), said.get("status"), said.get("statusId")
    if isinstance(result, str) and result not in TAKEN | REPEATED:
        return failure(SEND_RESULTS.get(result, _K.PERMANENT), safe_code(result))
    if status == "CANCELED" and result is None:
        return Rejected(_K.PERMANENT, "hubspot_CANCELED")
    if not isinstance(reference, str) or not reference:
        return Deferred(_K.TRANSIENT, "hubspot_unreadable", ambiguous=True)
    return Accepted(reference[:200], safe_code(str(result or status or "")))
