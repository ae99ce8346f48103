"""A simulated Shopify: its Admin GraphQL API, as far as shipment steps and webhooks need it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ordernotify import clock
from ordernotify.platforms._shopify_payloads import FULFILLMENT_GID, FULFILLMENT_ORDER_GID
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply
from ordernotify.sandbox.senders import shopify_request
from ordernotify.sandbox.stories import (
    SHOP,
    SHOPIFY_FULFILLMENT,
    SHOPIFY_FULFILLMENT_ORDER,
    SHOPIFY_ORDER,
    client_ref,
    order_no,
    recording,
)

CLIENT_SECRET: Final = "shpss_sandbox_client_secret"  # noqa: S105 - of the sandbox, which guards nothing
ACCESS_TOKEN: Final = "shpat_sandbox_access_token"  # noqa: S105 - likewise

_STATUSES = frozenset(
    {
        "ATTEMPTED_DELIVERY",
        "CARRIER_PICKED_UP",
        "CONFIRMED",
        "DELAYED",
        "DELIVERED",
        "FAILURE",
        "IN_TRANSIT",
        "LABEL_PRINTED",
        "LABEL_PURCHASED",
        "OUT_FOR_DELIVERY",
        "PICKED_UP",
        "READY_FOR_PICKUP",
    }
)
_SCOPES = ("read_orders", "read_fulfillments", "write_fulfillments")
_GID = re.compile(rf"{re.escape(FULFILLMENT_GID)}[1-9][0-9]{{0,18}}")
_REFERENCE = re.compile(r"\[ordernotify ([A-Za-z0-9_-]{1,64})\]")
_CREATED_TOPIC = "FULFILLMENT_EVENTS_CREATE"
_PAGE = 100
_COST = {"requestedQueryCost": 10, "actualQueryCost": 10}
_BUCKET = {"maximumAvailable": 2000.0, "restoreRate": 100.0}


def _graphql(request: Request, shelf: Shelf) -> Reply:
    if request.headers.get("x-shopify-access-token") != ACCESS_TOKEN:
        return _unauthorized()
    body = request.json()
    query = body.get("query") if isinstance(body, dict) else None
    variables = body.get("variables") if isinstance(body, dict) else None
    if not isinstance(query, str) or not isinstance(variables, dict):
        return json_reply(400, {"errors": "Required parameter missing or invalid"})
    answer = next((resolve for field, resolve in _FIELDS.items() if f"{{{field}" in query), None)
    if answer is None:
        message = "Field doesn't exist on type 'QueryRoot'"
        return json_reply(200, {"errors": [{"message": message, "extensions": {"code": "undefinedField"}}]})
    return answer(variables, shelf)


def _data(value: dict[str, Any], **more: Any) -> Reply:
    cost = _COST | {"throttleStatus": _BUCKET | {"currentlyAvailable": 1990.0}}
    return json_reply(200, {"data": value, "extensions": {"cost": cost}}, **more)


def _user_errors(field: str, *errors: tuple[list[str], str]) -> Reply:
    entity = {"fulfillmentEventCreate": "fulfillmentEvent"}.get(field, "webhookSubscription")
    found = [{"field": path, "message": message} for path, message in errors]
    return _data({field: {entity: None, "userErrors": found}})


def _create(variables: Mapping[str, Any], shelf: Shelf) -> Reply:
    step = variables.get("e")
    if not isinstance(step, dict) or not isinstance(step.get("status"), str):
        return _invalid_variable("FulfillmentEventInput!")
    unknown = step.keys() - {"fulfillmentId", "status", "happenedAt", "estimatedDeliveryAt", "message"}
    if unknown or step["status"] not in _STATUSES or not _is_moment(step.get("happenedAt")):
        return _invalid_variable("FulfillmentEventInput!")
    fulfillment = step.get("fulfillmentId")
    if not isinstance(fulfillment, str) or not _GID.fullmatch(fulfillment):
        errors = (["fulfillmentEvent", "fulfillmentId"], "Fulfillment does not exist.")
        return _user_errors("fulfillmentEventCreate", errors)
    number = 95_000_000_000_000 + shelf.next_serial()
    text = str(step.get("message") or "")
    node = {
        "id": f"gid://shopify/FulfillmentEvent/{number}",
        "status": step["status"],
        "happenedAt": step.get("happenedAt") or _zulu(clock.now()),
        "message": text,
    }
    shelf.kind("events").setdefault(fulfillment, []).append(node)
    found = _REFERENCE.search(text)
    taken = Taken(to=fulfillment, reference=found.group(1) if found else "", text=text, provider_ref=str(node["id"]))
    event = {"id": node["id"], "status": node["status"]}
    return _data(
        {"fulfillmentEventCreate": {"fulfillmentEvent": event, "userErrors": []}},
        taken=(taken,),
        callbacks=_told_back(shelf, number, fulfillment, node),
    )


def _told_back(shelf: Shelf, number: int, fulfillment: str, node: Mapping[str, Any]) -> tuple[Callback, ...]:
    """Return the webhook that a new step makes, whoever wrote it."""
    url = shelf.webhooks.get(_CREATED_TOPIC)
    if not url:
        return ()
    n = int(fulfillment.removeprefix(FULFILLMENT_GID)) - SHOPIFY_FULFILLMENT
    payload = recording("shopify_fulfillment_event") | {
        "id": number,
        "admin_graphql_api_id": node["id"],
        "fulfillment_id": SHOPIFY_FULFILLMENT + n,
        "order_id": max(1, SHOPIFY_ORDER + n),
        "status": str(node["status"]).lower(),
        "message": node["message"],
        "happened_at": node["happenedAt"],
    }
    headers, body = shopify_request(
        "fulfillment_events/create",
        payload,
        secret=CLIENT_SECRET,
        shop=SHOP,
        event_id=f"sandbox-{number}",
        triggered_at=clock.now(),
    )
    return (Callback(url, headers, body),)


def _fulfillment(variables: Mapping[str, Any], shelf: Shelf) -> Reply:
    fulfillment = variables.get("id")
    if not isinstance(fulfillment, str) or not _GID.fullmatch(fulfillment):
        return _data({"fulfillment": None})
    nodes = list(reversed(shelf.kind("events").get(fulfillment, [])))
    return _data({"fulfillment": {"events": {"nodes": nodes[:_PAGE], "pageInfo": {"hasNextPage": len(nodes) > _PAGE}}}})


def _fulfillment_order(variables: Mapping[str, Any], _: Shelf) -> Reply:
    number = str(variables.get("id", "")).removeprefix(FULFILLMENT_ORDER_GID)
    n = int(number) - SHOPIFY_FULFILLMENT_ORDER if number.isdecimal() else 0
    if n < 1:
        return _data({"fulfillmentOrder": None})
    order = {
        "legacyResourceId": str(SHOPIFY_ORDER + n),
        "name": order_no(n, "shopify"),
        "customer": {"legacyResourceId": client_ref(n, "shopify")},
    }
    return _data({"fulfillmentOrder": {"order": order}})


def _subscribe(variables: Mapping[str, Any], shelf: Shelf) -> Reply:
    topic, subscription = variables.get("topic"), variables.get("sub")
    uri = subscription.get("uri") if isinstance(subscription, dict) else None
    if not isinstance(topic, str) or not re.fullmatch(r"[A-Z]+(?:_[A-Z]+)+", topic) or not isinstance(uri, str):
        return _invalid_variable("WebhookSubscriptionInput!")
    if shelf.webhooks.get(topic) == uri:
        errors = (["webhookSubscription", "uri"], "Address for this topic has already been taken")
        return _user_errors("webhookSubscriptionCreate", errors)
    shelf.webhooks[topic] = uri
    made = {"id": f"gid://shopify/WebhookSubscription/{shelf.next_serial()}"}
    return _data({"webhookSubscriptionCreate": {"webhookSubscription": made, "userErrors": []}})


def _subscriptions(variables: Mapping[str, Any], shelf: Shelf) -> Reply:
    topics = variables.get("topics")
    nodes = [
        {"topic": topic, "uri": uri}
        for topic, uri in shelf.webhooks.items()
        if not isinstance(topics, list) or topic in topics
    ]
    return _data({"webhookSubscriptions": {"nodes": nodes}})


def _installation(_: Mapping[str, Any], __: Shelf) -> Reply:
    return _data({"currentAppInstallation": {"accessScopes": [{"handle": one} for one in _SCOPES]}})


# By the first field of the operation; the longer name of two that begin alike stands first.
_FIELDS: Mapping[str, Callable[[Mapping[str, Any], Shelf], Reply]] = {
    "fulfillmentEventCreate(": _create,
    "fulfillmentOrder(": _fulfillment_order,
    "fulfillment(": _fulfillment,
    "webhookSubscriptionCreate(": _subscribe,
    "webhookSubscriptions(": _subscriptions,
    "currentAppInstallation": _installation,
}


def _is_moment(value: object) -> bool:
    if value is None:
        return True
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return found.tzinfo is not None and found < clock.now() + timedelta(days=3650)


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _invalid_variable(kind: str) -> Reply:
    error = {
        "message": f"Variable of type {kind} was provided invalid value",
        "extensions": {"code": "INVALID_VARIABLE"},
    }
    return json_reply(200, {"errors": [error]})


def _unauthorized() -> Reply:
    message = "[API] Invalid API key or access token (unrecognized login or wrong password)"
    return json_reply(401, {"errors": message})


def _throttled() -> Reply:
    cost: dict[str, Any] = {"requestedQueryCost": 110, "actualQueryCost": None}
    error = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
    cost |= {"throttleStatus": _BUCKET | {"currentlyAvailable": 10.0}}  # one second until there is enough
    return json_reply(200, {"errors": [error], "extensions": {"cost": cost}})


def _refuse(fault: Fault) -> Reply:
    refusals: dict[Fault, Reply] = {
        Fault.RATE: _throttled(),
        Fault.RATE_BARE: json_reply(429, {"errors": "Exceeded rate limit for api client."}),
        Fault.AUTH: _unauthorized(),
        Fault.SERVER_ERROR: json_reply(500, {"errors": "Internal Server Error"}),
    }
    # A shop knows no opt-out: what it will not take, it will not take for anybody.
    refused = _user_errors(
        "fulfillmentEventCreate", (["fulfillmentEvent", "fulfillmentId"], "Fulfillment does not exist.")
    )
    return refusals.get(fault, refused)


VENDOR = Vendor(
    name="shopify",
    routes={("POST", r"/admin/api/\d{4}-\d{2}/graphql\.json"): _graphql},
    settings={"shop": SHOP, "client_secret": CLIENT_SECRET, "access_token": ACCESS_TOKEN},
    refuse=_refuse,
)
