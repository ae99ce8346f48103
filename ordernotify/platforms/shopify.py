"""Shopify: order events by webhook, and shipment steps written back to the order through GraphQL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.platforms import _shopify_events as topics
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
    Received,
    Refusal,
    Reread,
    Step,
    Webhook,
)
from ordernotify.platforms._reading import mark_of, marked, one_line, read_moment
from ordernotify.platforms._shopify_graphql import Settings, at, data, query
from ordernotify.platforms._shopify_payloads import FULFILLMENT_GID, ORDER_GID
from ordernotify.platforms._signing import active, is_signed

SCOPES: Final = frozenset({"read_orders", "read_fulfillments", "write_fulfillments"})

_CLASSIC, _EVENTS = "X-Shopify-", "shopify-"
_OK, _UNAUTHORIZED, _UNPROCESSABLE = 200, 401, 422
_ADDRESS = re.compile(rf"(?:{re.escape(FULFILLMENT_GID)})?([1-9][0-9]{{0,18}})")

# Only words that come back as the same status: what we write is sent to us again as a webhook, and a hold
# written as a delay would be told to the client as a delay.
WRITTEN: Mapping[OrderStatus, str] = {
    OrderStatus.PROCESSING: "CONFIRMED",
    OrderStatus.SHIPPED: "IN_TRANSIT",
    OrderStatus.OUT_FOR_DELIVERY: "OUT_FOR_DELIVERY",
    OrderStatus.DELIVERED: "DELIVERED",
    OrderStatus.DELAYED: "DELAYED",
}

_CREATE = (
    "mutation($e: FulfillmentEventInput!){fulfillmentEventCreate(fulfillmentEvent:$e)"
    "{fulfillmentEvent{id status} userErrors{field message}}}"
)
_LIST = (
    "query($id: ID!){fulfillment(id:$id){events(first:100,sortKey:ID,reverse:true)"
    "{nodes{id status happenedAt message} pageInfo{hasNextPage}}}}"
)
_WHOSE = "query($id: ID!){fulfillmentOrder(id:$id){order{legacyResourceId name customer{legacyResourceId}}}}"
_RIGHTS = "query{currentAppInstallation{accessScopes{handle}}}"
_SUBSCRIBED = (
    "query($topics: [WebhookSubscriptionTopic!]){webhookSubscriptions(first:100,topics:$topics){nodes{topic uri}}}"
)
_SUBSCRIBE = (
    "mutation($topic: WebhookSubscriptionTopic!,$sub: WebhookSubscriptionInput!)"
    "{webhookSubscriptionCreate(topic:$topic,webhookSubscription:$sub)"
    "{webhookSubscription{id} userErrors{field message}}}"
)


# ---- in ----


def _prefix(inbound: Inbound) -> str:
    """Return the prefix of the request's headers: the newer kind of webhook has none of the X-."""
    return _EVENTS if inbound.header(f"{_EVENTS}hmac-sha256") else _CLASSIC


def _verify(inbound: Inbound, settings: Settings, _now: datetime) -> Refusal | None:
    # No time is checked: the one that Shopify sends is not signed, and a repetition may be hours old.
    prefix = _prefix(inbound)
    name = f"{prefix}Hmac-Sha256"
    signature = inbound.header(name)
    if not signature:
        return Refusal(_UNAUTHORIZED, name, "is missing: every webhook of Shopify is signed")
    keys = [one.encode() for one in (*active(settings.client_secret), *active(settings.admin_secret))]
    if not is_signed([signature], inbound.body, keys):
        return Refusal(_UNAUTHORIZED, name, "must match the exact bytes of the body")
    if inbound.header(f"{prefix}shop-domain").lower() not in settings.shops:
        return Refusal(_UNAUTHORIZED, f"{prefix}Shop-Domain", "must be a shop that is configured here")
    return None


def _read(inbound: Inbound, settings: Settings, now: datetime) -> Received | Refusal:
    return topics.read(inbound, prefix=_prefix(inbound), now=now, contract_attribute=settings.contract_attribute)


# ---- out ----


def read_address(text: str) -> str | Refusal:
    """Return a fulfillment's gid from its gid or its number, or why it is none."""
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        return Refusal(_UNPROCESSABLE, "address", "must be a fulfillment id: its number or its gid")
    return f"{FULFILLMENT_GID}{found.group(1)}"


def _send(messages: Sequence[Message], context: Context) -> Conversation:
    (message,) = messages
    fulfillment = read_address(message.to)
    if isinstance(fulfillment, Refusal):
        return [Rejected(FailureKind.PERMANENT, "bad_address")]
    status = WRITTEN.get(message.status)
    if status is None:
        return [Rejected(FailureKind.PERMANENT, "no_such_step")]
    step = {
        "fulfillmentId": fulfillment,
        "status": status,
        "message": marked(message.text, message.reference),
    }
    if message.occurred_at is not None:
        step["happenedAt"] = _iso(message.occurred_at)
    answer = yield query(context, _CREATE, {"e": step})
    return [_written(answer, context.now)]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _written(answer: Answer, now: datetime) -> Outcome:
    """Read the answer to the mutation: HTTP 200 alone says nothing."""
    found = data(answer, now)
    if not isinstance(found, dict):
        return found
    payload = at(found, "fulfillmentEventCreate")
    reference = at(payload, "fulfillmentEvent", "id")
    if isinstance(reference, str) and reference:
        return Accepted(one_line(reference, limit=200))
    errors = at(payload, "userErrors")
    if isinstance(errors, list) and errors:
        return Rejected(FailureKind.PERMANENT, _user_error(errors[0]))
    return Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)


def _user_error(error: object) -> str:
    """Return a code of ours with the field at fault; the message beside it may be anybody's text."""
    path = at(error, "field")
    field = path[-1] if isinstance(path, list) and path else ""
    known = isinstance(field, str) and re.fullmatch(r"[A-Za-z]{1,40}", field)
    return f"user_error_{field}" if known else "user_error"


# ---- asked, when an answer was lost ----


def _ask(message: Message, context: Context, _began: datetime) -> Call:
    fulfillment = read_address(message.to)
    # An address that is none was refused before anything was sent; asked all the same, it is not found.
    return query(context, _LIST, {"id": message.to if isinstance(fulfillment, Refusal) else fulfillment})


def _answered(answer: Answer, message: Message) -> Outcome:
    unclear = Deferred(FailureKind.TRANSIENT, "lookup_unclear", ambiguous=True)
    body = answer.json()
    if answer.status != _OK or at(body, "errors"):
        return unclear
    found = at(body, "data")
    if not isinstance(found, dict) or "fulfillment" not in found:
        return unclear
    if found["fulfillment"] is None:
        return Rejected(FailureKind.PERMANENT, "not_found")
    events = at(found, "fulfillment", "events", "nodes")
    if not isinstance(events, list):
        return unclear
    for event in events:
        if _is_ours(event, message):
            return Accepted(one_line(str(at(event, "id")), limit=200), code="found")
    more = at(found, "fulfillment", "events", "pageInfo", "hasNextPage")
    return unclear if more is not False else Rejected(FailureKind.PERMANENT, "not_found")


def _is_ours(event: object, message: Message) -> bool:
    """Return whether a step is this message: by our mark, else by its status and exact second."""
    mark = mark_of(str(at(event, "message") or ""))
    if mark or message.occurred_at is None:
        return mark == message.reference
    happened = read_moment(str(at(event, "happenedAt")))
    second = message.occurred_at.astimezone(UTC).replace(microsecond=0)
    return at(event, "status") == WRITTEN.get(message.status) and happened == second


def _ask_whose(event: OrderEvent, context: Context) -> Call:
    return query(context, _WHOSE, {"id": event.refs.get("shopify_fulfillment_order", event.order_ref)})


def _told_whose(answer: Answer, event: OrderEvent, context: Context) -> OrderEvent | Outcome | None:
    found = data(answer, context.now)
    if not isinstance(found, dict):
        return found
    order = at(found, "fulfillmentOrder", "order")
    number = str(at(order, "legacyResourceId") or "")
    if not re.fullmatch(r"[0-9]{1,19}", number):
        return Rejected(FailureKind.PERMANENT, "not_found")
    customer = str(at(order, "customer", "legacyResourceId") or "")
    return replace(
        event,
        order_ref=number,
        order_no=one_line(str(at(order, "name") or ""), limit=64),
        client_ref=one_line(customer, limit=64),
        refs={**event.refs, "shopify": f"{ORDER_GID}{number}"},
        thin=False,
    )


# ---- set up ----


def _rights(answer: Answer, context: Context) -> Sequence[Finding]:
    found = data(answer, context.now)
    if not isinstance(found, dict):
        advice = f"Shopify answers {found.code}: check shop, access_token and api_version"
        return (Finding("access", ok=False, advice=advice),)
    granted = at(found, "currentAppInstallation", "accessScopes")
    held = {at(one, "handle") for one in granted} if isinstance(granted, list) else set()
    missing = sorted(SCOPES - held)
    advice = f"grant the app {', '.join(missing)}" if missing else ""
    return (Finding("access", ok=True), Finding("scopes", ok=not missing, advice=advice))


def _provision(context: Context) -> Sequence[Step]:
    url = context.webhook_url
    if not url:
        return (Step(title="Webhooks", instruction="Set ORDERNOTIFY_PUBLIC_URL, then provision again."),)
    return tuple(
        _subscription(context, topic.upper().replace("/", "_"), url)
        for topic, reader in topics.TOPICS.items()
        if reader is not topics.nothing
    )


def _subscription(context: Context, topic: str, url: str) -> Step:
    return Step(
        title=f"Webhook {topic}",
        find=query(context, _SUBSCRIBED, {"topics": [topic]}),
        exists=partial(_is_subscribed, url=url),
        make=query(context, _SUBSCRIBE, {"topic": topic, "sub": {"uri": url, "format": "JSON"}}),
    )


def _is_subscribed(answer: Answer, *, url: str) -> bool:
    nodes = at(answer.json(), "data", "webhookSubscriptions", "nodes")
    return isinstance(nodes, list) and any(at(node, "uri") == url for node in nodes)


PLATFORM = Platform(
    name="shopify",
    title="Shopify",
    settings=Settings,
    channels=frozenset({Channel.RECORD}),
    address="fulfillment id: its number or its gid",
    example="gid://shopify/Fulfillment/4001",
    read_address=read_address,
    converse=_send,
    idempotency=Idempotency.LOOKUP,
    idempotency_note="The fulfillment's events are read and searched for our reference.",
    lookup=Lookup(build=_ask, read=_answered),
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=_verify,
        read=_read,
        signature="X-Shopify-Hmac-Sha256: base64 HMAC-SHA256 over the body under the app's client secret",
    ),
    reread=Reread(build=_ask_whose, read=_told_whose),
    probe=Probe(build=lambda context: query(context, _RIGHTS, {}), read=_rights),
    provision=_provision,
    per_second=10.0,  # 100 points a second on the smallest plan, 10 for a mutation
)
