"""Shopify: genuine webhooks, every row of its tables, writing back, and everything that must be refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Reply
from ordernotify.platforms._shopify_events import TOPICS
from ordernotify.platforms._shopify_payloads import HOLD, SHIPMENT
from ordernotify.platforms.shopify import PLATFORM, WRITTEN, read_address
from ordernotify.sandbox._base import Fault, Request, Shelf
from ordernotify.sandbox.senders import shopify_request
from ordernotify.sandbox.stories import story
from ordernotify.sandbox.vendors.shopify import VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SHOP = "northgate-demo.myshopify.com"
SECRET = "shpss_demo_secret"
FIXTURES = Path(__file__).parents[2] / "fixtures" / "shopify"
S = OrderStatus
VALUES = {
    "shop": f"{SHOP}, second.myshopify.com",
    "client_secret": SECRET,
    "admin_secret": "admin pages",
    "access_token": "shpat_x",
}
SETTINGS = PLATFORM.settings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url="https://hooks.example/webhooks/shopify")
assert PLATFORM.webhook is not None
assert PLATFORM.lookup is not None
assert PLATFORM.reread is not None
assert PLATFORM.probe is not None
assert PLATFORM.provision is not None
VERIFY, READ = PLATFORM.webhook.verify, PLATFORM.webhook.read
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.RECORD,
    to="4001",
    status=S.OUT_FOR_DELIVERY,
    language="en",
    text="Your order is out for delivery.",
    occurred_at=datetime(2026, 11, 24, 12, 13, tzinfo=UTC),
)


def recorded(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_bytes())
    return value


def inbound(headers: dict[str, str], body: bytes) -> Inbound:
    return Inbound("POST", "https://hooks.example/webhooks/shopify", headers, body)


def request(topic: str, payload: Any, **more: Any) -> Inbound:
    values = {"secret": SECRET, "shop": SHOP, "event_id": "evt-1", "triggered_at": NOW, **more}
    return inbound(*shopify_request(topic, payload, **values))


def read(topic: str, payload: Any, **more: Any) -> Received | Refusal:
    found = READ(request(topic, payload, **more), SETTINGS, NOW)
    assert isinstance(found, Received | Refusal)
    return found


def events(topic: str, payload: Any) -> tuple[OrderEvent, ...]:
    found = read(topic, payload)
    assert isinstance(found, Received), found
    return found.events


# ---- genuine or not ----


@pytest.mark.parametrize("prefix", ["x-shopify-", "shopify-"])
def test_the_published_vector_is_genuine_under_both_kinds_of_headers(prefix: str) -> None:
    body = b'{"id":4001,"order_id":9001,"status":"success","shipment_status":"out_for_delivery"}'
    headers = {
        f"{prefix}hmac-sha256": "u1s3OFvJ7kf1i/+LhcQZMr9yzoBWaFIsrQ5NzBaZ904=",
        f"{prefix}shop-domain": SHOP,
        f"{prefix}topic": "fulfillments/update",
        f"{prefix}webhook-id": "w-1",
    }
    genuine = inbound(headers, body)
    assert VERIFY(genuine, SETTINGS, NOW) is None
    found = READ(genuine, SETTINGS, NOW)
    assert isinstance(found, Received)
    (event,) = found.events
    assert (event.status, event.order_ref) == (S.OUT_FOR_DELIVERY, "9001")
    assert event.dedupe_key == f"{SHOP} w-1 fulfillments/update"
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        assert VERIFY(inbound(headers, bytes(changed)), SETTINGS, NOW) is not None


@pytest.mark.parametrize("secret", [SECRET, "admin pages"])
def test_webhooks_of_the_app_and_of_the_admin_pages_are_genuine(secret: str) -> None:
    assert VERIFY(request("orders/create", recorded("orders_create"), secret=secret), SETTINGS, NOW) is None


def test_both_secrets_hold_while_one_is_replaced() -> None:
    settings = PLATFORM.settings.model_validate({**VALUES, "client_secret": "new, old", "admin_secret": None})
    for secret, genuine in (("new", True), ("old", True), ("admin pages", False), ("new, old", False)):
        found = VERIFY(request("orders/create", {}, secret=secret), settings, NOW)
        assert (found is None) == genuine, secret


@pytest.mark.parametrize(
    ("header", "value", "field"),
    [
        ("x-shopify-hmac-sha256", "", "X-Shopify-Hmac-Sha256"),
        ("x-shopify-hmac-sha256", "\u00ff", "X-Shopify-Hmac-Sha256"),
        ("x-shopify-shop-domain", "stranger.myshopify.com", "X-Shopify-Shop-Domain"),
        ("x-shopify-shop-domain", "", "X-Shopify-Shop-Domain"),
    ],
)
def test_a_wrong_header_is_refused_by_name(header: str, value: str, field: str) -> None:
    genuine = request("orders/create", {})
    found = VERIFY(inbound({**genuine.headers, header: value}, genuine.body), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, field)


def test_a_retry_of_hours_ago_is_still_genuine() -> None:
    late = request("orders/create", recorded("orders_create"), triggered_at=NOW - timedelta(hours=4))
    assert VERIFY(late, SETTINGS, NOW) is None


# ---- orders ----


def test_a_new_order_is_received_with_everything_we_use() -> None:
    (event,) = events("orders/create", recorded("orders_create"))
    assert event == OrderEvent(
        source="shopify",
        dedupe_key=f"{SHOP} evt-1 orders/create",
        order_ref="5000000001001",
        order_no="#1001",
        status=S.RECEIVED,
        raw_status="created",
        occurred_at=datetime(2026, 11, 23, 13, 0, tzinfo=UTC),
        client_ref="6600000000204",
        lines=(Line("RAD-7", 2), Line("CBL-12", 6)),
        refs={"shopify": "gid://shopify/Order/5000000001001"},
    )


@pytest.mark.parametrize(
    ("name", "status", "at"),
    [
        ("orders_create", S.RECEIVED, "2026-11-23T13:00:00+00:00"),
        ("orders_paid", S.PROCESSING, "2026-11-23T14:15:00+00:00"),
        ("orders_updated", S.PROCESSING, "2026-11-23T14:20:00+00:00"),
        ("orders_cancelled", S.CANCELLED, "2026-11-23T16:00:00+00:00"),
        ("orders_partially_fulfilled", S.SHIPPED, "2026-11-23T15:30:02+00:00"),
        ("orders_fulfilled", S.SHIPPED, "2026-11-23T15:30:02+00:00"),
        ("fulfillments_create", S.SHIPPED, "2026-11-23T15:30:00+00:00"),
        ("fulfillments_update", S.OUT_FOR_DELIVERY, "2026-11-24T10:00:00+00:00"),
        ("fulfillment_events_create", S.SHIPPED, "2026-11-23T23:39:28+00:00"),
        ("fulfillment_orders_placed_on_hold", S.BACKORDERED, NOW.isoformat()),
        ("fulfillment_orders_hold_released", S.PROCESSING, NOW.isoformat()),
        ("returns_close", S.RETURNED, NOW.isoformat()),
    ],
)
def test_every_recorded_topic_is_read(name: str, status: OrderStatus, at: str) -> None:
    topic = next(one for one in TOPICS if one.replace("/", "_") == name)
    (event,) = events(topic, recorded(name))
    assert event.status is status
    assert event.occurred_at == datetime.fromisoformat(at)


def test_every_topic_of_the_table_has_a_recording() -> None:
    assert {topic.replace("/", "_") for topic in TOPICS} <= {path.stem for path in FIXTURES.glob("*.json")}


@pytest.mark.parametrize("topic", ["refunds/create", "customers/update", "products/create", "Order", "orders/delete"])
def test_topics_that_say_nothing_of_an_order_are_answered_200(topic: str) -> None:
    assert read(topic, recorded("refunds_create")) == Received(reply=Reply())


def test_a_topic_that_is_missing_is_refused() -> None:
    found = read("", {})
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "X-Shopify-Topic")


def test_without_any_id_of_the_delivery_it_is_refused() -> None:
    genuine = request("orders/create", recorded("orders_create"))
    headers = {name: value for name, value in genuine.headers.items() if not name.endswith("-id")}
    found = READ(inbound(headers, genuine.body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert found.field == "X-Shopify-Webhook-Id"


def test_an_order_created_as_cancelled_is_cancelled() -> None:
    payload = recorded("orders_cancelled")
    assert events("orders/create", payload)[0].status is S.CANCELLED
    assert events("orders/updated", payload) == events("orders/cancelled", payload)


def test_later_edits_of_a_paid_order_are_the_same_event_and_those_of_others_none() -> None:
    paid = recorded("orders_paid")
    later = {**paid, "updated_at": "2026-11-24T01:00:00-05:00", "note": "edited"}
    assert events("orders/updated", later)[0].dedupe_key == events("orders/paid", paid)[0].dedupe_key
    assert events("orders/updated", {**paid, "financial_status": "pending"}) == ()
    assert events("orders/updated", recorded("orders_fulfilled")) == ()


@pytest.mark.parametrize(
    ("change", "client"),
    [
        ({}, "6600000000204"),
        ({"customer": None}, "receiving@meridian.example"),
        ({"customer": {"id": None, "email": "A@B.example"}, "email": None}, "a@b.example"),
        ({"customer": None, "email": "Big@Mail.EXAMPLE"}, "big@mail.example"),
        ({"customer": None, "email": None}, ""),
    ],
)
def test_the_client_is_the_customer_or_else_an_address(change: dict[str, Any], client: str) -> None:
    assert events("orders/create", {**recorded("orders_create"), **change})[0].client_ref == client


@pytest.mark.parametrize(
    ("change", "number"),
    [({}, "#1001"), ({"name": ""}, "1001"), ({"name": None, "order_number": None}, "")],
)
def test_the_number_is_the_name_or_else_the_order_number(change: dict[str, Any], number: str) -> None:
    assert events("orders/create", {**recorded("orders_create"), **change})[0].order_no == number


@pytest.mark.parametrize(
    ("attribute", "contract"), [("", ""), ("program_office", "PMO-3"), ("po_number", "PO-77"), ("absent", "")]
)
def test_the_contract_comes_from_the_attribute_that_is_set(attribute: str, contract: str) -> None:
    settings = PLATFORM.settings.model_validate({**VALUES, "contract_attribute": attribute})
    found = READ(request("orders/create", recorded("orders_create")), settings, NOW)
    assert isinstance(found, Received)
    assert found.events[0].contract_id == contract


def test_numbers_beyond_the_exact_floats_stay_exact() -> None:
    order = {**recorded("orders_create"), "id": 2**63 - 1}
    assert events("orders/create", order)[0].order_ref == "9223372036854775807"


def test_lines_follow_what_is_left_after_edits_and_need_a_sku() -> None:
    lines = [
        {"sku": "RAD-7", "quantity": 3, "current_quantity": 1},
        {"sku": "CBL-12", "quantity": 3, "current_quantity": 0},
        {"sku": None, "quantity": 1},
        {"sku": " ANT-3\n", "quantity": 2},
    ]
    order = {**recorded("orders_create"), "line_items": lines}
    assert events("orders/create", order)[0].lines == (Line("RAD-7", 1), Line("ANT-3", 2))


def test_a_fulfilled_order_is_as_far_as_its_slowest_parcel() -> None:
    order = recorded("orders_fulfilled")
    parcel = order["fulfillments"][0]

    def of(*states: tuple[str, str | None]) -> OrderStatus:
        parcels = [
            {**parcel, "id": 1 + number, "status": status, "shipment_status": shipment}
            for number, (status, shipment) in enumerate(states)
        ]
        return events("orders/fulfilled", {**order, "fulfillments": parcels})[0].status

    assert of(("success", "delivered"), ("success", "delivered")) is S.DELIVERED
    assert of(("success", "delivered"), ("success", "delayed")) is S.DELAYED
    assert of(("success", "in_transit"), ("success", "out_for_delivery")) is S.OUT_FOR_DELIVERY
    assert of(("success", "delivered"), ("success", None)) is S.SHIPPED
    assert of(("cancelled", None), ("success", "delivered")) is S.DELIVERED
    assert of(("success", "beamed_up"), ("success", "delivered")) is S.UNKNOWN
    assert of() is S.SHIPPED


# ---- fulfillments ----


@pytest.mark.parametrize(
    ("status", "shipment", "tracking", "canonical"),
    [
        ("pending", None, None, S.PROCESSING),
        ("open", None, "1Z", S.PROCESSING),
        ("success", None, "1Z", S.SHIPPED),
        ("success", None, None, S.PROCESSING),
        ("cancelled", "delivered", "1Z", S.UNKNOWN),
        ("error", None, None, S.UNKNOWN),
        ("failure", None, None, S.UNKNOWN),
        ("quantum", None, None, S.UNKNOWN),
        ("success", "teleported", None, S.UNKNOWN),
        ("SUCCESS", "IN_TRANSIT", None, S.SHIPPED),
    ],
)
def test_every_fulfillment_status_is_mapped(
    status: str, shipment: str | None, tracking: str | None, canonical: OrderStatus
) -> None:
    payload = {
        **recorded("fulfillments_create"),
        "status": status,
        "shipment_status": shipment,
        "tracking_number": tracking,
    }
    assert events("fulfillments/update", payload)[0].status is canonical


SHIPMENTS = [
    ("label_printed", S.PROCESSING, ""),
    ("label_purchased", S.PROCESSING, ""),
    ("confirmed", S.PROCESSING, ""),
    ("carrier_picked_up", S.SHIPPED, ""),
    ("picked_up", S.SHIPPED, ""),
    ("in_transit", S.SHIPPED, ""),
    ("out_for_delivery", S.OUT_FOR_DELIVERY, ""),
    ("ready_for_pickup", S.OUT_FOR_DELIVERY, "available_for_pickup"),
    ("attempted_delivery", S.DELAYED, "delivery_attempted"),
    ("delayed", S.DELAYED, ""),
    ("failure", S.DELAYED, "delivery_failed"),
    ("delivered", S.DELIVERED, ""),
]


@pytest.mark.parametrize(("word", "status", "detail"), SHIPMENTS)
def test_every_shipment_status_is_mapped_in_both_topics(word: str, status: OrderStatus, detail: str) -> None:
    event = events("fulfillments/update", {**recorded("fulfillments_update"), "shipment_status": word})[0]
    step = events("fulfillment_events/create", {**recorded("fulfillment_events_create"), "status": word})[0]
    assert (event.status, event.detail, event.raw_status) == (status, detail, word)
    assert (step.status, step.detail, step.raw_status) == (status, detail, word)


def test_no_shipment_status_is_left_untested() -> None:
    assert {word for word, _, _ in SHIPMENTS} == set(SHIPMENT)


def test_a_failed_delivery_is_a_delay_for_the_client_and_an_alert_for_a_person() -> None:
    step = {**recorded("fulfillment_events_create"), "status": "failure"}
    delay, alert = events("fulfillment_events/create", step)
    assert (delay.status, alert.status) == (S.DELAYED, S.UNKNOWN)
    assert delay.dedupe_key != alert.dedupe_key


def test_a_fulfillment_carries_its_parcel_its_lines_and_both_ids() -> None:
    (event,) = events("fulfillments/create", recorded("fulfillments_create"))
    assert (event.order_ref, event.order_no) == ("5000000001001", "")
    assert (event.carrier, event.tracking_no) == ("UPS", "1Z999AA10123456784")
    assert event.lines == (Line("RAD-7", 2), Line("CBL-12", 6))
    assert event.refs == {
        "shopify": "gid://shopify/Order/5000000001001",
        "shopify_fulfillment": "gid://shopify/Fulfillment/4000000001001",
    }


def test_a_dirty_tracking_number_is_cleaned() -> None:
    (event,) = events("fulfillments/update", recorded("fulfillments_update_dirty_tracking"))
    assert event.tracking_no == "1Z999AA10123456784"


def test_an_estimate_is_told_only_with_a_delay_and_in_the_shop_s_own_day() -> None:
    estimate = {**recorded("fulfillment_events_create"), "estimated_delivery_at": "2026-11-29T23:00:00-05:00"}
    assert events("fulfillment_events/create", estimate)[0].promised_date == ""
    assert events("fulfillment_events/create", {**estimate, "status": "delayed"})[0].promised_date == "2026-11-29"
    wrong = {**estimate, "status": "delayed", "estimated_delivery_at": "soon"}
    assert events("fulfillment_events/create", wrong)[0].promised_date == ""


HOLDS = [
    ("inventory_out_of_stock", S.BACKORDERED),
    ("awaiting_payment", S.PROCESSING),
    ("incorrect_address", S.PROCESSING),
    ("high_risk_of_fraud", S.PROCESSING),
    ("unknown_delivery_date", S.PROCESSING),
    ("awaiting_return_items", S.PROCESSING),
    ("online_store_post_purchase_cross_sell", S.PROCESSING),
    ("other", S.PROCESSING),
]


@pytest.mark.parametrize(("reason", "status"), [*HOLDS, ("export_licence", S.UNKNOWN)])
def test_every_hold_reason_is_mapped_and_notes_are_not_read(reason: str, status: OrderStatus) -> None:
    payload = recorded("fulfillment_orders_placed_on_hold")
    payload["created_fulfillment_hold"] |= {"reason": reason.upper(), "reason_notes": "export regulatory hold"}
    (event,) = events("fulfillment_orders/placed_on_hold", payload)
    assert event.status is status
    assert event.thin
    assert event.refs == {"shopify_fulfillment_order": "gid://shopify/FulfillmentOrder/6000000001001"}


def test_no_hold_reason_is_left_untested() -> None:
    assert {reason for reason, _ in HOLDS} == set(HOLD)


def test_our_own_step_coming_back_is_not_told_again() -> None:
    step = recorded("fulfillment_events_create")
    ours = {**step, "message": f"On its way\n[ordernotify {MESSAGE.reference}]"}
    assert events("fulfillment_events/create", ours) == ()
    assert len(events("fulfillment_events/create", {**step, "message": "On its way [ordernotify]"})) == 1


# ---- hostile bodies ----


@pytest.mark.parametrize(
    ("topic", "name", "change", "field"),
    [
        ("orders/create", "orders_create", {"id": "1; DROP TABLE event"}, "id"),
        ("orders/create", "orders_create", {"id": 1.5}, "id"),
        ("orders/create", "orders_create", {"id": True}, "id"),
        ("orders/create", "orders_create", {"id": 0}, "id"),
        ("orders/create", "orders_create", {"id": 10**30}, "id"),
        ("orders/create", "orders_create", {"name": 1001}, "name"),
        ("orders/create", "orders_create", {"customer": []}, "customer"),
        ("orders/create", "orders_create", {"created_at": "yesterday"}, "created_at"),
        ("orders/create", "orders_create", {"created_at": 1795514400}, "created_at"),
        ("orders/create", "orders_create", {"created_at": "2026-11-23T08:00:00"}, "created_at"),
        ("orders/create", "orders_create", {"line_items": {}}, "line_items"),
        ("orders/create", "orders_create", {"line_items": [[]]}, "line_items[0]"),
        (
            "orders/create",
            "orders_create",
            {"line_items": [{"sku": "A", "quantity": -1}]},
            "line_items[0].quantity",
        ),
        (
            "orders/create",
            "orders_create",
            {"line_items": [{"sku": "A", "quantity": "2"}]},
            "line_items[0].quantity",
        ),
        ("orders/create", "orders_create", {"line_items": [{"sku": ["A"], "quantity": 2}]}, "line_items[0].sku"),
        ("orders/create", "orders_create", {"note_attributes": 5}, "note_attributes"),
        ("fulfillments/update", "fulfillments_update", {"order_id": None}, "order_id"),
        ("fulfillments/update", "fulfillments_update", {"shipment_status": {}}, "shipment_status"),
        ("fulfillments/update", "fulfillments_update", {"tracking_number": 5}, "tracking_number"),
        ("fulfillment_events/create", "fulfillment_events_create", {"happened_at": None}, "happened_at"),
        ("fulfillment_events/create", "fulfillment_events_create", {"message": 5}, "message"),
        (
            "fulfillment_orders/placed_on_hold",
            "fulfillment_orders_placed_on_hold",
            {"fulfillment_order": {"id": "gid://shopify/FulfillmentOrder/{{1}}"}},
            "fulfillment_order.id",
        ),
        ("returns/close", "returns_close", {"order_id": {}}, "order_id"),
    ],
)
def test_a_wrong_field_is_refused_by_name(topic: str, name: str, change: dict[str, Any], field: str) -> None:
    body = json.dumps({**recorded(name), **change}).encode()
    found = READ(inbound(request(topic, {}).headers, body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)
    assert "DROP" not in found.message


@pytest.mark.parametrize("body", [b"", b'{"id":', b'{"id":NaN}', b"[[[[", b"\xff\xfe"])
@pytest.mark.parametrize("topic", TOPICS)
def test_what_is_no_json_is_refused_under_every_topic(topic: str, body: bytes) -> None:
    genuine = request(topic, {})
    found = READ(inbound(genuine.headers, body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "body")


def test_metacharacters_stay_plain_data() -> None:
    hostile = "'; DROP TABLE event; -- {{ 7*7 }}"
    order = {**recorded("orders_create"), "name": hostile, "line_items": [{"sku": hostile, "quantity": 1}]}
    (event,) = events("orders/create", order)
    assert (event.order_no, event.lines[0].sku) == (hostile, hostile)


LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@given(
    st.sampled_from(sorted(TOPICS)),
    st.data(),
)
def test_random_payloads_are_read_or_refused_by_field_and_never_raise(topic: str, data: st.DataObject) -> None:
    base = recorded(topic.replace("/", "_"))
    change = data.draw(st.dictionaries(st.sampled_from(sorted(base)), JSON, max_size=3) | JSON)
    payload = {**base, **change} if isinstance(change, dict) else change
    genuine = request(topic, {})
    found = READ(inbound(genuine.headers, json.dumps(payload).encode()), SETTINGS, NOW)
    assert isinstance(found, Received | Refusal)
    if isinstance(found, Refusal):
        assert found.status == 422
        assert found.field
    else:
        for event in found.events:
            assert OrderEvent.from_dict(orjson.loads(orjson.dumps(event.as_dict()))) == event


# ---- settings and addresses ----


def test_the_root_of_the_api_is_built_from_the_first_shop() -> None:
    assert SETTINGS.base_url == f"https://{SHOP}"
    assert PLATFORM.settings.model_validate({**VALUES, "base_url": "http://127.0.0.1:1/x"}).base_url.endswith("/x")


@pytest.mark.parametrize("change", [{"shop": ""}, {"shop": "a b"}, {"shop": "https://x"}, {"api_version": "2026-13"}])
def test_settings_that_cannot_be_right_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        PLATFORM.settings.model_validate({**VALUES, **change})


def test_no_secret_shows_in_the_settings() -> None:
    assert SECRET not in repr(SETTINGS)
    assert "shpat_x" not in repr(SETTINGS)


@pytest.mark.parametrize("text", ["4001", " gid://shopify/Fulfillment/4001 "])
def test_an_address_is_a_number_or_a_gid(text: str) -> None:
    assert read_address(text) == "gid://shopify/Fulfillment/4001"


@pytest.mark.parametrize("text", ["", "0", "-1", "gid://shopify/Order/1", "4001'", "٤٠٠١", "9" * 20])
def test_what_is_no_fulfillment_is_refused(text: str) -> None:
    found = read_address(text)
    assert isinstance(found, Refusal)
    assert found.field == "address"


# ---- writing back ----


def send(message: Message, answer: Answer | None = None) -> tuple[Call | None, Outcome]:
    """Return the call a message makes, and the outcome that ``answer`` to it means."""
    conversation = PLATFORM.send([message], CONTEXT)
    try:
        call = next(conversation)
    except StopIteration as stop:
        return None, stop.value[0]
    with pytest.raises(StopIteration) as ended:
        conversation.send(answer or Answer(200, {}, b"{}"))
    return call, ended.value.value[0]


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, orjson.dumps(value))


def edited(**change: Any) -> Message:
    return replace(MESSAGE, **change)


def test_a_step_is_written_through_the_mutation() -> None:
    created = {"fulfillmentEventCreate": {"fulfillmentEvent": {"id": "gid://e/1", "status": "X"}, "userErrors": []}}
    call, outcome = send(MESSAGE, answer({"data": created}))
    assert outcome == Accepted("gid://e/1")
    assert call is not None
    assert call.url == f"https://{SHOP}/admin/api/2026-10/graphql.json"
    assert call.headers["x-shopify-access-token"] == "shpat_x"
    body = orjson.loads(call.body)
    assert body["variables"]["e"] == {
        "fulfillmentId": "gid://shopify/Fulfillment/4001",
        "status": "OUT_FOR_DELIVERY",
        "happenedAt": "2026-11-24T12:13:00Z",
        "message": f"{MESSAGE.text}\n[ordernotify {MESSAGE.reference}]",
    }
    assert "userErrors{field message}" in body["query"]


@pytest.mark.parametrize("status", list(OrderStatus))
def test_only_a_status_that_comes_back_as_itself_is_written(status: OrderStatus) -> None:
    call, outcome = send(edited(status=status))
    if status not in WRITTEN:
        assert call is None
        assert outcome == Rejected(FailureKind.PERMANENT, "no_such_step")
        return
    assert call is not None
    word = orjson.loads(call.body)["variables"]["e"]["status"]
    assert SHIPMENT[word.lower()] is status


def test_a_wrong_address_is_rejected_without_a_call() -> None:
    assert send(edited(to="gid://shopify/Order/1")) == (None, Rejected(FailureKind.PERMANENT, "bad_address"))


def errors(code: str | None, **more: Any) -> dict[str, Any]:
    extensions = {"extensions": {"code": code}} if code else {}
    return {"errors": [{"message": "private text", **extensions}], **more}


COST = {"requestedQueryCost": 110, "throttleStatus": {"currentlyAvailable": 10, "restoreRate": 40.0}}
USER_ERROR = {"field": ["fulfillmentEvent", "fulfillmentId"], "message": "private text"}


@pytest.mark.parametrize(
    ("given_answer", "outcome"),
    [
        (
            answer({"data": {"fulfillmentEventCreate": {"fulfillmentEvent": None, "userErrors": [USER_ERROR]}}}),
            Rejected(FailureKind.PERMANENT, "user_error_fulfillmentId"),
        ),
        (
            answer({"data": {"fulfillmentEventCreate": {"userErrors": [{"field": None, "message": "private text"}]}}}),
            Rejected(FailureKind.PERMANENT, "user_error"),
        ),
        (
            answer(errors("THROTTLED", extensions={"cost": COST})),
            Deferred(FailureKind.RATE, "THROTTLED", retry_after_s=3.0),
        ),
        (answer(errors("THROTTLED")), Deferred(FailureKind.RATE, "THROTTLED")),
        (answer(errors("ACCESS_DENIED")), Rejected(FailureKind.AUTH, "ACCESS_DENIED")),
        (answer(errors("SHOP_INACTIVE")), Rejected(FailureKind.CONFIG, "SHOP_INACTIVE")),
        (answer(errors("MAX_COST_EXCEEDED")), Rejected(FailureKind.CONFIG, "MAX_COST_EXCEEDED")),
        (
            answer(errors("INTERNAL_SERVER_ERROR", data={"fulfillmentEventCreate": None})),
            Deferred(FailureKind.TRANSIENT, "INTERNAL_SERVER_ERROR", ambiguous=True),
        ),
        (answer(errors("private text")), Deferred(FailureKind.TRANSIENT, "graphql_error", ambiguous=True)),
        (answer(errors(None)), Rejected(FailureKind.CONFIG, "query_refused")),
        (answer({"data": {}}), Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)),
        (answer([]), Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)),
        (Answer(200, {}, b"<html>"), Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)),
        (answer({"errors": "x"}, 400), Rejected(FailureKind.CONFIG, "http_400")),
        (answer({"errors": "x"}, 401), Rejected(FailureKind.AUTH, "http_401")),
        (answer({}, 402), Rejected(FailureKind.CONFIG, "http_402")),
        (answer({}, 403), Rejected(FailureKind.AUTH, "http_403")),
        (answer({}, 404), Rejected(FailureKind.CONFIG, "http_404")),
        (answer({}, 423), Rejected(FailureKind.CONFIG, "http_423")),
        (answer({}, 429, {"retry-after": "2.0"}), Deferred(FailureKind.RATE, "http_429", retry_after_s=2.0)),
        (answer({}, 430), Deferred(FailureKind.RATE, "http_430")),
        (answer({}, 503), Deferred(FailureKind.TRANSIENT, "http_503", ambiguous=True)),
        (answer({}, 418), Rejected(FailureKind.PERMANENT, "http_418")),
        (answer({}, 302), Rejected(FailureKind.PERMANENT, "http_302")),
    ],
)
def test_every_answer_means_one_outcome(given_answer: Answer, outcome: Outcome) -> None:
    assert send(MESSAGE, given_answer)[1] == outcome


@given(JSON, st.sampled_from([200, 400, 429, 500]))
def test_random_answers_mean_an_outcome_and_never_raise(value: object, status: int) -> None:
    reply = Answer(status, {}, json.dumps(value).encode())
    assert PLATFORM.lookup is not None
    assert PLATFORM.reread is not None
    assert PLATFORM.probe is not None
    assert isinstance(send(MESSAGE, reply)[1], Accepted | Deferred | Rejected)
    assert isinstance(PLATFORM.lookup.read(reply, MESSAGE), Accepted | Deferred | Rejected)
    assert PLATFORM.probe.read(reply, CONTEXT)


# ---- against the simulated vendor ----


def play(call: Call, shelf: Shelf) -> Answer:
    endpoint = next(iter(VENDOR.routes.values()))
    headers = {name.lower(): value for name, value in call.headers.items()}
    reply = endpoint(Request(call.method, "/admin/api/2026-10/graphql.json", {}, headers, call.body), shelf)
    return Answer(reply.status, reply.headers, reply.body)


def at_vendor() -> Context:
    settings = PLATFORM.settings.model_validate({**VENDOR.settings, "base_url": "http://127.0.0.1:9/shopify"})
    return Context(settings=settings, now=NOW, webhook_url="http://127.0.0.1:9/webhooks/shopify")


def test_a_lost_answer_is_found_by_our_mark_and_only_by_it() -> None:
    shelf, context = Shelf(), at_vendor()
    assert PLATFORM.lookup is not None
    lookup = PLATFORM.lookup
    call = lookup.build(MESSAGE, context, NOW)
    assert lookup.read(play(call, shelf), MESSAGE) == Rejected(FailureKind.PERMANENT, "not_found")
    play(next(PLATFORM.send([MESSAGE], context)), shelf)
    found = lookup.read(play(call, shelf), MESSAGE)
    assert isinstance(found, Accepted)
    other = edited(reference="f" * 32)
    assert lookup.read(play(call, shelf), other) == Rejected(FailureKind.PERMANENT, "not_found")


def test_a_step_whose_message_was_cut_is_found_by_status_and_second() -> None:
    assert PLATFORM.lookup is not None
    node = {
        "id": "gid://e/1",
        "status": "OUT_FOR_DELIVERY",
        "happenedAt": "2026-11-24T07:13:00-05:00",
        "message": "",
    }
    page = {"nodes": [node], "pageInfo": {"hasNextPage": False}}
    reply = answer({"data": {"fulfillment": {"events": page}}})
    assert PLATFORM.lookup.read(reply, MESSAGE) == Accepted("gid://e/1", code="found")
    other = edited(occurred_at=NOW)
    assert PLATFORM.lookup.read(reply, other) == Rejected(FailureKind.PERMANENT, "not_found")


def test_a_lookup_that_saw_only_a_part_cannot_say_no() -> None:
    assert PLATFORM.lookup is not None
    for reply in (
        answer({"data": {"fulfillment": {"events": {"nodes": [], "pageInfo": {"hasNextPage": True}}}}}),
        answer({"errors": [{"message": "x"}], "data": {"fulfillment": None}}),
        answer({}, 503),
        answer({}, 401),
    ):
        assert isinstance(PLATFORM.lookup.read(reply, MESSAGE), Deferred)


def test_a_hold_is_completed_by_asking_whose_it_is() -> None:
    assert PLATFORM.reread is not None
    shelf, context = Shelf(), at_vendor()
    held = next(
        sent
        for sent in story(7, source="shopify", start=NOW, secret=VENDOR.settings["client_secret"])
        if sent.headers["x-shopify-topic"] == "fulfillment_orders/placed_on_hold"
    )
    found = READ(inbound(held.headers, held.body), context.settings, NOW)
    assert isinstance(found, Received)
    (thin,) = found.events
    whole = PLATFORM.reread.read(play(PLATFORM.reread.build(thin, context), shelf), thin, context)
    assert isinstance(whole, OrderEvent)
    assert (whole.order_ref, whole.order_no, whole.client_ref) == ("5000000000007", "#1007", "6600000000204")
    assert (whole.status, whole.thin, whole.dedupe_key) == (S.BACKORDERED, False, thin.dedupe_key)
    gone = PLATFORM.reread.read(answer({"data": {"fulfillmentOrder": None}}), thin, context)
    assert gone == Rejected(FailureKind.PERMANENT, "not_found")


def test_webhooks_are_made_once_and_found_afterwards() -> None:
    assert PLATFORM.provision is not None
    shelf, context = Shelf(), at_vendor()
    steps = PLATFORM.provision(context)
    assert len(steps) == len(TOPICS) - 1  # refunds are told by nobody
    for step in steps:
        assert step.find is not None
        assert step.make is not None
        assert step.exists is not None
        assert not step.exists(play(step.find, shelf))
        play(step.make, shelf)
        assert step.exists(play(step.find, shelf))
    assert PLATFORM.provision(Context(settings=SETTINGS, now=NOW))[0].instruction


def test_the_probe_says_what_is_missing() -> None:
    assert PLATFORM.probe is not None
    context = at_vendor()
    fine = PLATFORM.probe.read(play(PLATFORM.probe.build(context), Shelf()), context)
    assert all(finding.ok for finding in fine)
    little = answer({"data": {"currentAppInstallation": {"accessScopes": [{"handle": "read_orders"}]}}})
    assert "write_fulfillments" in PLATFORM.probe.read(little, context)[1].advice
    assert not PLATFORM.probe.read(play(PLATFORM.probe.build(CONTEXT), Shelf()), CONTEXT)[0].ok


def test_the_vendor_s_own_webhook_of_our_step_is_genuine_and_says_nothing_new() -> None:
    shelf, context = Shelf(), at_vendor()
    shelf.webhooks["FULFILLMENT_EVENTS_CREATE"] = context.webhook_url
    endpoint = next(iter(VENDOR.routes.values()))
    call = next(PLATFORM.send([MESSAGE], context))
    reply = endpoint(Request("POST", "/x", {}, dict(call.headers), call.body), shelf)
    assert (reply.taken[0].reference, reply.taken[0].to) == (MESSAGE.reference, "gid://shopify/Fulfillment/4001")
    (callback,) = reply.callbacks
    back = inbound(dict(callback.headers), callback.body)
    assert VERIFY(back, context.settings, NOW) is None
    assert READ(back, context.settings, NOW) == Received(reply=Reply())


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.RATE, Deferred(FailureKind.RATE, "THROTTLED", retry_after_s=1.0)),
        (Fault.RATE_BARE, Deferred(FailureKind.RATE, "http_429")),
        (Fault.SERVER_ERROR, Deferred(FailureKind.TRANSIENT, "http_500", ambiguous=True)),
        (Fault.PERMANENT, Rejected(FailureKind.PERMANENT, "user_error_fulfillmentId")),
        (Fault.AUTH, Rejected(FailureKind.AUTH, "http_401")),
    ],
)
def test_every_fault_of_the_vendor_is_understood(fault: Fault, outcome: Outcome) -> None:
    refused = VENDOR.refuse(fault)
    assert send(MESSAGE, Answer(refused.status, refused.headers, refused.body))[1] == outcome


@pytest.mark.parametrize("n", [1, 5, 7, 35])
def test_a_story_is_genuine_deterministic_and_ends_delivered(n: int) -> None:
    secret = VENDOR.settings["client_secret"]
    told = list(story(n, source="shopify", start=NOW, secret=secret))
    assert told == list(story(n, source="shopify", start=NOW, secret=secret))
    settings = at_vendor().settings
    statuses = []
    for sent in told:
        assert VERIFY(inbound(sent.headers, sent.body), settings, NOW) is None
        found = READ(inbound(sent.headers, sent.body), settings, NOW)
        assert isinstance(found, Received)
        statuses += [event.status for event in found.events]
    assert statuses[:2] == [S.RECEIVED, S.PROCESSING]
    assert statuses[-1] is S.DELIVERED
    assert (S.DELAYED in statuses) == (n % 5 == 0)
    assert (S.BACKORDERED in statuses) == (n % 7 == 0)
