"""A simulated WooCommerce shop: orders, their notes, and webhooks, over its REST API."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply
from ordernotify.sandbox.senders import woocommerce_ping, woocommerce_request
from ordernotify.sandbox.stories import SHOP_URL, WOOCOMMERCE_STATUSES, recording

CONSUMER_KEY: Final = "ck_sandbox"
CONSUMER_SECRET: Final = "cs_sandbox"  # noqa: S105 - of the sandbox, which guards nothing
WEBHOOK_SECRET: Final = "WooSandboxSecret1"  # noqa: S105 - likewise

# The shop is as if it had every order up to this id; what was never made here looks as it was recorded.
_LAST_ORDER = 999_999_999
_STATUSES = frozenset(
    {"pending", "on-hold", "processing", "completed", "cancelled", "refunded", "failed", "trash"}
    | {pair.partition("=")[0] for pair in WOOCOMMERCE_STATUSES.split(",")}
)
_TOPICS = frozenset({"order.created", "order.updated", "order.deleted", "order.restored"})
_ORDER = re.compile(r"/wp-json/wc/v3/orders/(\d+)(?:/notes)?")
_REFERENCE = re.compile(r"\[ordernotify ([A-Za-z0-9_-]{1,64})\]")
_EXPECTED = "Basic " + base64.b64encode(f"{CONSUMER_KEY}:{CONSUMER_SECRET}".encode()).decode()

_Endpoint = Callable[[Request, Shelf], Reply]


def _error(status: int, code: str, message: str, **data: Any) -> Reply:
    return json_reply(status, {"code": code, "message": message, "data": {"status": status, **data}})


def _invalid(param: str, message: str) -> Reply:
    return _error(400, "rest_invalid_param", f"Invalid parameter(s): {param}", params={param: message})


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        if request.headers.get("authorization") != _EXPECTED:
            return _error(401, "woocommerce_rest_authentication_error", "Consumer key is invalid.")
        return endpoint(request, shelf)

    return check


def _order_id(request: Request) -> int:
    found = _ORDER.fullmatch(request.path)
    return int(found.group(1)) if found else 0


def _no_order() -> Reply:
    return _error(404, "woocommerce_rest_order_invalid_id", "Invalid ID.")


def _order_of(shelf: Shelf, number: int) -> dict[str, Any] | None:
    if not 0 < number <= _LAST_ORDER:
        return None
    made: dict[str, Any] | None = shelf.kind("orders").get(str(number))
    return made or recording("woocommerce_order") | {"id": number, "number": str(number)}


def _note(request: Request, shelf: Shelf) -> Reply:
    number, given = _order_id(request), request.json()
    order = _order_of(shelf, number)
    if order is None:
        return _no_order()
    if not isinstance(given, dict) or "note" not in given:
        return _error(400, "rest_missing_callback_param", "Missing parameter(s): note", params=["note"])
    text = given["note"]
    if not isinstance(text, str):
        return _invalid("note", "note is not of type string.")
    for flag in ("customer_note", "added_by_user"):
        if not isinstance(given.get(flag, False), bool):
            return _invalid(flag, f"{flag} is not of type boolean.")
    at = _now()
    note = {
        "id": shelf.next_serial(),
        "author": "WooCommerce",
        "date_created": at,
        "date_created_gmt": at,
        "note": text,
        "customer_note": given.get("customer_note", False),
    }
    shelf.kind("notes").setdefault(str(number), []).append(note)
    found = _REFERENCE.search(text)
    taken = Taken(str(number), found.group(1) if found else "", text, str(note["id"]))
    return json_reply(201, note, taken=(taken,), callbacks=_updated(shelf, number))


def _notes(request: Request, shelf: Shelf) -> Reply:
    number = _order_id(request)
    if _order_of(shelf, number) is None:
        return _no_order()
    return json_reply(200, list(reversed(shelf.kind("notes").get(str(number), []))))


def _get_order(request: Request, shelf: Shelf) -> Reply:
    order = _order_of(shelf, _order_id(request))
    return _no_order() if order is None else json_reply(200, order)


def _create_order(request: Request, shelf: Shelf) -> Reply:
    given = request.json()
    if not isinstance(given, dict):
        return _invalid("status", "must be an object")
    number = shelf.next_serial()
    return _store(shelf, number, given, topic="order.created", status=201)


def _update_order(request: Request, shelf: Shelf) -> Reply:
    number, given = _order_id(request), request.json()
    if _order_of(shelf, number) is None:
        return _no_order()
    if not isinstance(given, dict):
        return _invalid("status", "must be an object")
    return _store(shelf, number, given, topic="order.updated", status=200)


def _store(shelf: Shelf, number: int, given: Mapping[str, Any], *, topic: str, status: int) -> Reply:
    order = dict(_order_of(shelf, number) or {})
    word = given.get("status", order.get("status"))
    if word not in _STATUSES:
        return _invalid("status", f"status is not one of {', '.join(sorted(_STATUSES))}.")
    at = _now()
    completed = {"date_completed": at, "date_completed_gmt": at} if word == "completed" else {}
    changed = {name: given[name] for name in ("customer_id", "billing", "line_items") if name in given}
    order |= {"status": word, "date_modified": at, "date_modified_gmt": at, **changed, **completed}
    shelf.kind("orders")[str(number)] = order
    return json_reply(status, order, callbacks=_fired(shelf, topic, order))


def _updated(shelf: Shelf, number: int) -> tuple[Callback, ...]:
    """Return what a note fires: an update of its order. Orders that were never made here have no state."""
    order = shelf.kind("orders").get(str(number))
    return _fired(shelf, "order.updated", order) if order else ()


def _fired(shelf: Shelf, topic: str, order: Mapping[str, Any]) -> tuple[Callback, ...]:
    url = shelf.webhooks.get(topic)
    if not url:
        return ()
    secret = shelf.kind("secrets").get(topic, WEBHOOK_SECRET)
    headers, body = woocommerce_request(topic, order, secret=secret, shop_url=SHOP_URL, sent_at=clock.now())
    return (Callback(url, headers, body),)


def _create_webhook(request: Request, shelf: Shelf) -> Reply:
    given = request.json()
    values = given if isinstance(given, dict) else {}
    topic, url = values.get("topic"), values.get("delivery_url")
    if topic not in _TOPICS and not str(topic).startswith("action."):
        return _error(400, "woocommerce_rest_webhook_invalid_topic", "Webhook topic is required and must be valid.")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return _error(
            400,
            "woocommerce_rest_webhook_invalid_delivery_url",
            "Webhook delivery URL must be a valid URL starting with http:// or https://.",
        )
    hook = {
        "id": shelf.next_serial(),
        "name": str(values.get("name", "")),
        "status": str(values.get("status", "active")),
        "topic": topic,
        "delivery_url": url,
    }
    shelf.kind("webhooks")[str(hook["id"])] = hook
    shelf.webhooks[str(topic)] = url
    shelf.kind("secrets")[str(topic)] = str(values.get("secret", ""))
    headers, body = woocommerce_ping(shelf.serial)
    return json_reply(201, hook, callbacks=(Callback(url, headers, body),))


def _webhooks(_: Request, shelf: Shelf) -> Reply:
    return json_reply(200, list(shelf.kind("webhooks").values()))


def _now() -> str:
    return clock.now().strftime("%Y-%m-%dT%H:%M:%S")


def _refuse(fault: Fault) -> Reply:
    refusals = {
        Fault.RATE: json_reply(
            429, {"code": "too_many_requests", "message": "Slow down."}, headers={"retry-after": "1"}
        ),
        Fault.RATE_BARE: json_reply(429, {"code": "too_many_requests", "message": "Slow down."}),
        Fault.AUTH: _error(401, "woocommerce_rest_cannot_create", "Sorry, you are not allowed to do that."),
        Fault.SERVER_ERROR: _error(500, "internal_server_error", "There has been a critical error."),
    }
    # A shop knows no opt-out: what it will not take, it will not take for anybody.
    return refusals.get(fault, _no_order())


_ROOT = "/wp-json/wc/v3"

VENDOR = Vendor(
    name="woocommerce",
    routes={
        ("POST", rf"{_ROOT}/orders"): _guarded(_create_order),
        ("GET", rf"{_ROOT}/orders/\d+"): _guarded(_get_order),
        ("PUT", rf"{_ROOT}/orders/\d+"): _guarded(_update_order),
        ("POST", rf"{_ROOT}/orders/\d+/notes"): _guarded(_note),
        ("GET", rf"{_ROOT}/orders/\d+/notes"): _guarded(_notes),
        ("POST", rf"{_ROOT}/webhooks"): _guarded(_create_webhook),
        ("GET", rf"{_ROOT}/webhooks"): _guarded(_webhooks),
    },
    settings={
        "webhook_secret": WEBHOOK_SECRET,
        "consumer_key": CONSUMER_KEY,
        "consumer_secret": CONSUMER_SECRET,
        "status_map": WOOCOMMERCE_STATUSES,
    },
    refuse=_refuse,
)
