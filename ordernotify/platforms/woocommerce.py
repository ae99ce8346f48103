"""WooCommerce: order events by webhook, and notes written back to the order through its REST API."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderEvent
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Finding,
    Gives,
    Idempotency,
    Inbound,
    Lookup,
    Platform,
    Probe,
    Refusal,
    Reply,
    Reread,
    Step,
    Webhook,
    by_status,
    json_body,
)
from ordernotify.platforms._reading import mark_of, marked
from ordernotify.platforms._signing import active, is_signed
from ordernotify.platforms._woocommerce_events import (
    WHOLE_ORDER,
    Settings,
    id_of,
    ping,
    read,
    read_order,
    stored_as,
)

_OK, _MOVED, _CLIENT_ERROR = 200, 300, 400
_UNAUTHORIZED, _UNPROCESSABLE = 401, 422
_SIGNATURE = "X-WC-Webhook-Signature"
_ADDRESS = re.compile(r"[1-9][0-9]{0,18}")
_NO_ORDER = frozenset(
    {
        "woocommerce_rest_order_invalid_id",
        "woocommerce_rest_shop_order_invalid_id",
        "woocommerce_rest_invalid_id",
    }
)
_CODES: Mapping[str, FailureKind] = {
    **dict.fromkeys(_NO_ORDER, FailureKind.PERMANENT),
    "rest_invalid_param": FailureKind.PERMANENT,
    "woocommerce_rest_authentication_error": FailureKind.AUTH,
    "woocommerce_rest_cannot_create": FailureKind.AUTH,
    "woocommerce_rest_cannot_view": FailureKind.AUTH,
    "woocommerce_rest_cannot_edit": FailureKind.AUTH,
    "rest_forbidden": FailureKind.AUTH,
    "rest_cookie_invalid_nonce": FailureKind.AUTH,
    "rest_no_route": FailureKind.CONFIG,  # WooCommerce is off, or its permalinks are plain
    "rest_missing_callback_param": FailureKind.CONFIG,
    "rest_disabled": FailureKind.CONFIG,
}
_HTTP: Mapping[int, FailureKind] = {
    401: FailureKind.AUTH,
    403: FailureKind.AUTH,  # a firewall before the shop answers without a code
    404: FailureKind.CONFIG,
    410: FailureKind.CONFIG,
}


# ---- in ----


def _verify(inbound: Inbound, settings: Settings, _now: datetime) -> Refusal | None:
    # No time is checked: none is signed. An old state sent again is stale by the order's own times.
    signature = inbound.header(_SIGNATURE)
    if not signature:
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "is missing: give the webhook a secret")
    keys = [stored_as(one).encode() for one in active(settings.webhook_secret)]
    if not is_signed([signature], inbound.body, keys):
        return Refusal(_UNAUTHORIZED, _SIGNATURE, "must match the exact bytes of the body")
    return None


def _handshake(inbound: Inbound, _settings: Settings) -> Reply | Refusal | None:
    return ping(inbound)


# ---- out ----


def read_address(text: str) -> str | Refusal:
    """Return an order's id, or why the text is none."""
    address = text.strip()
    if _ADDRESS.fullmatch(address):
        return address
    return Refusal(_UNPROCESSABLE, "address", "must be an order id, which is a whole number")


def _call(context: Context, method: Literal["GET", "POST"], path: str, value: Any = None) -> Call:
    settings: Settings = context.settings
    pair = f"{settings.consumer_key.get_secret_value()}:{settings.consumer_secret.get_secret_value()}"
    headers = {
        "authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}",
        "accept": "application/json",
    }
    if value is not None:
        headers["content-type"] = "application/json"
    body = b"" if value is None else json_body(value)
    return Call(method, f"{settings.base_url.rstrip('/')}/wp-json/wc/v3/{path}", headers, body)


def _send(messages: Sequence[Message], context: Context) -> Conversation:
    (message,) = messages
    order = read_address(message.to)
    if isinstance(order, Refusal):
        return [Rejected(FailureKind.PERMANENT, "bad_address")]
    settings: Settings = context.settings
    note = {
        "note": marked(message.text, message.reference),
        "customer_note": settings.customer_note,
        "added_by_user": False,
    }
    answer = yield _call(context, "POST", f"orders/{order}/notes", note)
    return [_noted(answer, context.now)]


def _noted(answer: Answer, now: datetime) -> Outcome:
    failure = _failure(answer, now)
    if failure is not None:
        return failure
    note = id_of(answer.body)
    return Accepted(note) if note else Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)


def _failure(answer: Answer, now: datetime) -> Outcome | None:
    """Return what a failure means, None for a success; its code decides before its status does."""
    if _OK <= answer.status < _MOVED:
        return None
    if answer.status < _CLIENT_ERROR:
        return Rejected(FailureKind.CONFIG, "redirected")  # base_url is not where the shop lives
    code = _code(answer)
    if code in _CODES:
        return Rejected(_CODES[code], code)
    if answer.status in _HTTP:
        return Rejected(_HTTP[answer.status], f"http_{answer.status}")
    return by_status(answer, now) or Rejected(FailureKind.PERMANENT, f"http_{answer.status}")


def _code(answer: Answer) -> str:
    body = answer.json()
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) else ""


# ---- asked, when an answer was lost or an event said too little ----


def _ask(message: Message, context: Context, _began: datetime) -> Call:
    return _call(context, "GET", f"orders/{_segment(message.to)}/notes")


def _segment(text: str) -> str:
    address = read_address(text)
    return "0" if isinstance(address, Refusal) else address


def _answered(answer: Answer, message: Message) -> Outcome:
    notes = answer.json()
    if answer.status == _OK and isinstance(notes, list):
        for note in notes:
            if isinstance(note, dict) and mark_of(str(note.get("note"))) == message.reference:
                return Accepted(str(note.get("id", "")), code="found")
        return Rejected(FailureKind.PERMANENT, "not_found")
    if _code(answer) in _NO_ORDER:
        return Rejected(FailureKind.PERMANENT, "not_found")
    return Deferred(FailureKind.TRANSIENT, "lookup_unclear", ambiguous=True)


def _ask_order(event: OrderEvent, context: Context) -> Call:
    return _call(context, "GET", f"orders/{_segment(event.order_ref)}")


def _told_order(answer: Answer, event: OrderEvent, context: Context) -> OrderEvent | Outcome | None:
    failure = _failure(answer, context.now)
    if failure is not None:
        return failure
    order = read_order(answer.body, context.settings, key=event.dedupe_key, now=event.occurred_at)
    if isinstance(order, Refusal):
        return Deferred(FailureKind.TRANSIENT, "unreadable")
    return order


# ---- set up ----


def _list_webhooks(context: Context) -> Call:
    return _call(context, "GET", "webhooks?per_page=100")


def _is_active(answer: Answer, *, topic: str, url: str) -> bool:
    # A disabled webhook sends nothing, and nothing is sent again: a new one takes its place.
    hooks = answer.json()
    return isinstance(hooks, list) and any(
        isinstance(one, dict)
        and (one.get("topic"), one.get("delivery_url"), one.get("status")) == (topic, url, "active")
        for one in hooks
    )


def _provision(context: Context) -> Sequence[Step]:
    url = context.webhook_url
    if not url:
        return (Step(title="Webhooks", instruction="Set ORDERNOTIFY_PUBLIC_URL, then provision again."),)
    settings: Settings = context.settings
    secret = next(iter(active(settings.webhook_secret)), "")
    return tuple(
        Step(
            title=f"Webhook {topic}",
            find=_list_webhooks(context),
            exists=partial(_is_active, topic=topic, url=url),
            make=_call(
                context,
                "POST",
                "webhooks",
                {
                    "name": f"ordernotify {topic}",
                    "topic": topic,
                    "delivery_url": url,
                    "secret": secret,
                    "status": "active",
                },
            ),
        )
        for topic in WHOLE_ORDER
    )


def _findings(answer: Answer, context: Context) -> Sequence[Finding]:
    failure = _failure(answer, context.now)
    if failure is not None:
        advice = f"the shop answers {failure.code}: check base_url, consumer_key and consumer_secret"
        return (Finding("access", ok=False, advice=advice),)
    silent = [
        topic
        for topic in WHOLE_ORDER
        if context.webhook_url and not _is_active(answer, topic=topic, url=context.webhook_url)
    ]
    advice = f"provision again: no active webhook for {', '.join(silent)}" if silent else ""
    return (Finding("access", ok=True), Finding("webhooks", ok=not silent, advice=advice))


PLATFORM = Platform(
    name="woocommerce",
    title="WooCommerce",
    settings=Settings,
    channels=frozenset({Channel.RECORD}),
    address="order id",
    example="727",
    read_address=read_address,
    converse=_send,
    idempotency=Idempotency.LOOKUP,
    idempotency_note="The order's notes are read and searched for our reference.",
    lookup=Lookup(build=_ask, read=_answered),
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=_verify,
        read=read,
        handshake=_handshake,
        signature="X-WC-Webhook-Signature: base64 HMAC-SHA256 over the body under the webhook's secret",
    ),
    reread=Reread(build=_ask_order, read=_told_order),
    probe=Probe(build=_list_webhooks, read=_findings),
    provision=_provision,
)
