"""WooCommerce: genuine webhooks, every row of its table, writing back, and everything that must be refused."""

from __future__ import annotations

import json
import re
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
from ordernotify.core.events import Admission, Line, OrderEvent, OrderState, OrderStatus, admit
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Reply
from ordernotify.platforms._woocommerce_events import SILENT, STATUS, stored_as
from ordernotify.platforms.woocommerce import PLATFORM, read_address
from ordernotify.sandbox._base import Fault, Request, Shelf
from ordernotify.sandbox._base import Reply as VendorReply
from ordernotify.sandbox.senders import woocommerce_ping, woocommerce_request
from ordernotify.sandbox.stories import story
from ordernotify.sandbox.vendors.woocommerce import VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECRET = "woo demo secret"
FIXTURES = Path(__file__).parents[2] / "fixtures" / "woocommerce"
S = OrderStatus
VALUES = {
    "base_url": "https://shop.example/",
    "webhook_secret": SECRET,
    "consumer_key": "ck_x",
    "consumer_secret": "cs_y",
    "status_map": "wc-awaiting-stock=backordered, In-Transit = shipped",
}
SETTINGS = PLATFORM.settings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW)
assert PLATFORM.webhook is not None
VERIFY, READ, HANDSHAKE = PLATFORM.webhook.verify, PLATFORM.webhook.read, PLATFORM.webhook.handshake
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.RECORD,
    to="1001",
    status=S.SHIPPED,
    language="en",
    text="Shipped, tracking 1Z999AA10123456784",
)


def recorded(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_bytes())
    return value


def inbound(headers: dict[str, str], body: bytes) -> Inbound:
    return Inbound("POST", "https://hooks.example/webhooks/woocommerce", headers, body)


def request(topic: str, payload: Any, *, secret: str = SECRET, sent_at: datetime = NOW) -> Inbound:
    return inbound(
        *woocommerce_request(topic, payload, secret=secret, shop_url="https://shop.example", sent_at=sent_at)
    )


def read(topic: str, payload: Any, settings: Any = SETTINGS) -> Received | Refusal:
    found = READ(request(topic, payload), settings, NOW)
    assert isinstance(found, Received | Refusal)
    return found


def event_of(payload: Any, settings: Any = SETTINGS) -> OrderEvent:
    found = read("order.updated", payload, settings)
    assert isinstance(found, Received), found
    (event,) = found.events
    return event


# ---- genuine or not ----


def test_the_published_vector_is_genuine_and_one_flipped_bit_is_not() -> None:
    body = b'{"id":727,"number":"727","status":"on-hold","date_modified_gmt":"2026-11-24T09:15:00"}'
    headers = {"x-wc-webhook-signature": "f4eiL3WfCosTLFqM/jhemlMYNLGSCs4HPLt+VtGHxAc="}
    assert VERIFY(inbound(headers, body), SETTINGS, NOW) is None
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        found = VERIFY(inbound(headers, bytes(changed)), SETTINGS, NOW)
        assert found is not None
        assert (found.status, found.field) == (401, "X-WC-Webhook-Signature")


@pytest.mark.parametrize("signature", ["", "\u00ff", "f4eiL3WfCosTLFqM"])
def test_a_wrong_signature_is_refused_by_name(signature: str) -> None:
    genuine = request("order.updated", recorded("order_created"))
    found = VERIFY(inbound({**genuine.headers, "x-wc-webhook-signature": signature}, genuine.body), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, "X-WC-Webhook-Signature")


def test_both_secrets_hold_while_one_is_replaced() -> None:
    settings = PLATFORM.settings.model_validate({**VALUES, "webhook_secret": "new,old"})
    for secret, genuine in (("new", True), ("old", True), (SECRET, False)):
        assert (VERIFY(request("order.updated", {}, secret=secret), settings, NOW) is None) == genuine


@pytest.mark.parametrize(
    ("stored", "key"),
    [
        ("plain1", "plain1"),
        ("a&amp;b&lt;&gt;", "a&b<>"),
        ("&quot;&#039;", "\"'"),
        ("&amp;lt;", "&lt;"),
        ("&copy;", "&copy;"),
    ],
)
def test_the_key_is_the_stored_secret_with_its_entities_decoded_once(stored: str, key: str) -> None:
    assert stored_as(stored) == key
    settings = PLATFORM.settings.model_validate({**VALUES, "webhook_secret": stored})
    assert VERIFY(request("order.updated", {}, secret=key), settings, NOW) is None


def test_the_unsigned_ping_of_a_new_webhook_is_answered_with_exactly_200() -> None:
    assert HANDSHAKE is not None
    found = HANDSHAKE(inbound(*woocommerce_ping(12)), SETTINGS)
    assert isinstance(found, Reply)
    assert found.status == 200


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json"}, b"webhook_id=12"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"webhook_id=12&x=1"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"webhook_id=12\n"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"webhook_id=x"),
        ({}, b"webhook_id=12"),
    ],
)
def test_what_only_looks_like_a_ping_is_none(headers: dict[str, str], body: bytes) -> None:
    assert HANDSHAKE is not None
    assert HANDSHAKE(inbound(headers, body), SETTINGS) is None


# ---- orders ----


def test_an_order_is_read_with_everything_we_use() -> None:
    event = event_of(recorded("order_updated_completed"))
    assert event.dedupe_key.startswith("1001 completed 2026-11-24T09:15:00+00:00 ")
    assert replace(event, dedupe_key="") == OrderEvent(
        source="woocommerce",
        dedupe_key="",
        order_ref="1001",
        order_no="1001",
        status=S.SHIPPED,
        raw_status="completed",
        occurred_at=datetime(2026, 11, 24, 9, 10, tzinfo=UTC),
        client_ref="204",
        carrier="UPS",
        tracking_no="1Z999AA10123456784",
        lines=(Line("RAD-7", 2), Line("CBL-12", 6)),
        refs={"woocommerce": "1001"},
    )


ROWS: list[tuple[str, OrderStatus]] = [
    ("pending", S.RECEIVED),
    ("on-hold", S.RECEIVED),
    ("processing", S.PROCESSING),
    ("completed", S.SHIPPED),
    ("cancelled", S.CANCELLED),
    ("failed", S.UNKNOWN),
    ("awaiting-stock", S.BACKORDERED),
    ("wc-awaiting-stock", S.BACKORDERED),
    ("in-transit", S.SHIPPED),
    ("never-heard-of", S.UNKNOWN),
    ("{{ config }}", S.UNKNOWN),
]


@pytest.mark.parametrize(("word", "status"), ROWS)
def test_every_status_is_mapped(word: str, status: OrderStatus) -> None:
    event = event_of({**recorded("order_created"), "status": word})
    assert (event.status, event.raw_status) == (status, word)


def test_no_status_of_the_table_is_left_untested() -> None:
    assert set(STATUS) <= {word for word, _ in ROWS}


@pytest.mark.parametrize("word", sorted(SILENT))
def test_a_silent_status_says_nothing_unless_the_shop_s_own_map_names_it(word: str) -> None:
    payload = {**recorded("order_created"), "status": word}
    assert read("order.updated", payload) == Received(reply=Reply())
    mapped = PLATFORM.settings.model_validate({**VALUES, "status_map": {word: "returned"}})
    assert event_of(payload, mapped).status is S.RETURNED


@pytest.mark.parametrize(
    ("name", "topic", "status"),
    [
        ("order_created", "order.created", S.RECEIVED),
        ("order_updated_on_hold", "order.updated", S.RECEIVED),
        ("order_updated_processing", "order.updated", S.PROCESSING),
        ("order_updated_completed", "order.updated", S.SHIPPED),
        ("order_updated_cancelled", "order.updated", S.CANCELLED),
        ("order_updated_failed", "order.updated", S.UNKNOWN),
        ("order_updated_refunded", "order.updated", None),
        ("order_updated_trash", "order.updated", None),
        ("order_updated_custom_awaiting_stock", "order.updated", S.BACKORDERED),
        ("order_updated_guest", "order.updated", S.PROCESSING),
        ("order_restored", "order.restored", S.RECEIVED),
        ("order_deleted", "order.deleted", None),
        ("action_woocommerce_order_status_changed", "action.woocommerce_order_status_changed", S.UNKNOWN),
    ],
)
def test_every_recording_is_read(name: str, topic: str, status: OrderStatus | None) -> None:
    found = read(topic, recorded(name))
    assert isinstance(found, Received)
    assert [event.status for event in found.events] == ([] if status is None else [status])
    assert found.reply == Reply()


def test_no_recording_is_left_unread() -> None:
    source = Path(__file__).read_text()
    assert all(f'"{path.stem}"' in source for path in FIXTURES.glob("*.json"))


@pytest.mark.parametrize("topic", ["customer.updated", "product.created", "coupon.deleted", "order.deleted"])
def test_topics_that_say_nothing_are_answered_200(topic: str) -> None:
    assert read(topic, {"id": 727}) == Received(reply=Reply())


def test_a_guest_is_known_by_an_address_in_lower_case() -> None:
    assert event_of(recorded("order_updated_guest")).client_ref == "buyer@example.com"


def test_the_number_of_a_numbering_plugin_is_used() -> None:
    assert event_of({**recorded("order_created"), "number": "NG-2026-0007"}).order_no == "NG-2026-0007"
    assert event_of({**recorded("order_created"), "number": ""}).order_no == "1001"


def test_times_without_a_zone_are_utc() -> None:
    assert event_of(recorded("order_updated_on_hold")).occurred_at == datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


def test_a_repetition_has_the_same_key_and_an_edit_in_the_same_second_another() -> None:
    order = recorded("order_updated_on_hold")
    assert event_of(order).dedupe_key == event_of(order).dedupe_key
    assert event_of(order).dedupe_key != event_of({**order, "customer_note": "edited"}).dedupe_key


def test_an_edit_of_a_completed_order_does_not_make_it_shipped_again() -> None:
    edited = {**recorded("order_updated_completed"), "date_modified_gmt": "2026-11-26T00:00:00"}
    carrier_said = OrderState(status=S.OUT_FOR_DELIVERY, status_at=datetime(2026, 11, 25, tzinfo=UTC))
    assert admit(carrier_said, event_of(edited)) is Admission.STALE


def test_the_contract_comes_from_the_field_that_is_set() -> None:
    settings = PLATFORM.settings.model_validate({**VALUES, "contract_meta_key": "_po_number"})
    assert event_of(recorded("order_created"), settings).contract_id == "PO-77"
    assert event_of(recorded("order_created")).contract_id == ""


@pytest.mark.parametrize("value", [None, "1Z", [], [5], [{"tracking_number": 5}], {"a": []}])
def test_a_tracking_field_of_another_plugin_is_left_alone(value: object) -> None:
    order = {**recorded("order_created"), "meta_data": [{"key": "_wc_shipment_tracking_items", "value": value}]}
    assert event_of(order).tracking_no == ""


def test_an_action_says_only_which_order_and_a_later_one_is_another_event() -> None:
    action = recorded("action_woocommerce_order_status_changed")
    topic = "action.woocommerce_order_status_changed"
    found = READ(request(topic, action), SETTINGS, NOW)
    again = READ(request(topic, action), SETTINGS, NOW)
    later = READ(request(topic, action, sent_at=NOW + timedelta(seconds=1)), SETTINGS, NOW)
    assert isinstance(found, Received)
    assert isinstance(later, Received)
    assert found == again
    (event,) = found.events
    assert (event.thin, event.order_ref, event.status) == (True, "1001", S.UNKNOWN)
    assert later.events[0].dedupe_key != event.dedupe_key


# ---- hostile bodies ----


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "727"}, "id"),
        ({"id": 727.0}, "id"),
        ({"id": -1}, "id"),
        ({"id": 10**30}, "id"),
        ({"number": 727}, "number"),
        ({"status": None}, "status"),
        ({"status": " \u0000 "}, "status"),
        ({"status": ["completed"]}, "status"),
        ({"customer_id": "26"}, "customer_id"),
        ({"billing": []}, "billing"),
        ({"billing": {"email": {}}}, "billing.email"),
        ({"date_modified_gmt": "tomorrow"}, "date_modified_gmt"),
        ({"date_modified_gmt": "2026-11-24"}, "date_modified_gmt"),
        ({"date_modified_gmt": "1970-01-01T00:00:00"}, "date_modified_gmt"),
        ({"date_modified_gmt": 5}, "date_modified_gmt"),
        ({"line_items": "RAD-7"}, "line_items"),
        ({"line_items": [{"sku": "RAD-7", "quantity": 1.5}]}, "line_items[0].quantity"),
        ({"line_items": [{"sku": "RAD-7", "quantity": 10**18}]}, "line_items[0].quantity"),
        ({"meta_data": [[]]}, "meta_data[0]"),
    ],
)
def test_a_wrong_field_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    body = json.dumps({**recorded("order_created"), **change}).encode()
    found = READ(inbound(request("order.updated", {}).headers, body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"action": "x"}, "arg"),
        ({"action": "x", "arg": [1]}, "arg"),
        ({"action": "", "arg": 1}, "action"),
        ([], "body"),
    ],
)
def test_a_wrong_action_is_refused_by_name(value: object, field: str) -> None:
    found = read("action.x", value)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


@pytest.mark.parametrize("body", [b"", b'{"id":', b'{"id":NaN}', b"[[[[", b"\xff\xfe"])
@pytest.mark.parametrize("topic", ["order.created", "order.updated", "order.restored", "action.x"])
def test_what_is_no_json_is_refused(topic: str, body: bytes) -> None:
    found = READ(inbound(request(topic, {}).headers, body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "body")


def test_a_topic_that_is_missing_is_refused() -> None:
    found = READ(inbound({}, b"{}"), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert found.field == "X-WC-Webhook-Topic"


LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
NAMES = st.sampled_from(sorted(recorded("order_created")))


@given(
    st.sampled_from(["order.created", "order.updated", "action.x"]),
    JSON | st.dictionaries(NAMES, JSON, max_size=4).map(lambda change: {**recorded("order_created"), **change}),
)
def test_random_payloads_are_read_or_refused_by_field_and_never_raise(topic: str, payload: object) -> None:
    found = READ(inbound(request(topic, {}).headers, json.dumps(payload).encode()), SETTINGS, NOW)
    assert isinstance(found, Received | Refusal)
    if isinstance(found, Refusal):
        assert found.status == 422
        assert found.field
    else:
        for event in found.events:
            assert OrderEvent.from_dict(orjson.loads(orjson.dumps(event.as_dict()))) == event


# ---- settings and addresses ----


@pytest.mark.parametrize(
    "change", [{"status_map": "a=nowhere"}, {"status_map": "a"}, {"status_map": 5}, {"base_url": None}]
)
def test_settings_that_cannot_be_right_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PLATFORM.settings.model_validate({**VALUES, **change})


def test_no_secret_shows_in_the_settings() -> None:
    assert not re.search("woo demo|ck_x|cs_y", repr(SETTINGS))


@pytest.mark.parametrize("text", ["", "0", "-1", "1/../2", "1?x", "٧٢٧", "9" * 20])
def test_what_is_no_order_is_refused(text: str) -> None:
    found = read_address(text)
    assert isinstance(found, Refusal)
    assert found.field == "address"


# ---- writing back ----


def answer(value: object, status: int = 201, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, orjson.dumps(value))


def send(message: Message, given_answer: Answer, context: Context = CONTEXT) -> tuple[Call | None, Outcome]:
    """Return the call a message makes, and the outcome that the answer to it means."""
    conversation = PLATFORM.send([message], context)
    try:
        call = next(conversation)
    except StopIteration as stop:
        return None, stop.value[0]
    with pytest.raises(StopIteration) as ended:
        conversation.send(given_answer)
    return call, ended.value.value[0]


@pytest.mark.parametrize(("wanted", "flag"), [("false", False), ("true", True)])
def test_a_note_is_written_and_shown_to_the_buyer_only_where_that_is_set(wanted: str, flag: bool) -> None:
    context = replace(CONTEXT, settings=PLATFORM.settings.model_validate({**VALUES, "customer_note": wanted}))
    call, outcome = send(MESSAGE, answer({"id": 281}), context)
    assert outcome == Accepted("281")
    assert call is not None
    assert (call.method, call.url) == ("POST", "https://shop.example/wp-json/wc/v3/orders/1001/notes")
    assert call.headers["authorization"] == "Basic Y2tfeDpjc195"
    assert orjson.loads(call.body) == {
        "note": f"{MESSAGE.text}\n[ordernotify {MESSAGE.reference}]",
        "customer_note": flag,
        "added_by_user": False,
    }


def test_notes_are_hidden_from_the_buyer_by_default() -> None:
    assert SETTINGS.customer_note is False


def test_a_wrong_address_is_rejected_without_a_call() -> None:
    wrong = replace(MESSAGE, to="1/../2")
    assert send(wrong, answer({})) == (None, Rejected(FailureKind.PERMANENT, "bad_address"))


def wrong(code: str) -> dict[str, object]:
    return {"code": code, "message": "private text", "data": {"status": 400, "params": {"note": "private text"}}}


@pytest.mark.parametrize(
    ("given_answer", "outcome"),
    [
        (
            answer(wrong("woocommerce_rest_order_invalid_id"), 404),
            Rejected(FailureKind.PERMANENT, "woocommerce_rest_order_invalid_id"),
        ),
        (answer(wrong("rest_invalid_param"), 400), Rejected(FailureKind.PERMANENT, "rest_invalid_param")),
        (answer(wrong("rest_no_route"), 404), Rejected(FailureKind.CONFIG, "rest_no_route")),
        (
            answer(wrong("rest_missing_callback_param"), 400),
            Rejected(FailureKind.CONFIG, "rest_missing_callback_param"),
        ),
        (
            answer(wrong("woocommerce_rest_cannot_create"), 401),
            Rejected(FailureKind.AUTH, "woocommerce_rest_cannot_create"),
        ),
        (
            answer(wrong("woocommerce_rest_authentication_error"), 401),
            Rejected(FailureKind.AUTH, "woocommerce_rest_authentication_error"),
        ),
        (answer(wrong("private text"), 401), Rejected(FailureKind.AUTH, "http_401")),
        (Answer(403, {}, b"<html>firewall"), Rejected(FailureKind.AUTH, "http_403")),
        (Answer(404, {}, b"<html>"), Rejected(FailureKind.CONFIG, "http_404")),
        (Answer(301, {}, b""), Rejected(FailureKind.CONFIG, "redirected")),
        (answer(wrong("x"), 418), Rejected(FailureKind.PERMANENT, "http_418")),
        (answer({}, 429, {"retry-after": "7"}), Deferred(FailureKind.RATE, "http_429", retry_after_s=7.0)),
        (
            answer(wrong("internal_server_error"), 500),
            Deferred(FailureKind.TRANSIENT, "http_500", ambiguous=True),
        ),
        (Answer(503, {}, b"maintenance"), Deferred(FailureKind.TRANSIENT, "http_503", ambiguous=True)),
        (Answer(201, {}, b"<html>"), Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)),
        (answer({"id": "1"}), Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)),
        (answer([]), Deferred(FailureKind.TRANSIENT, "unreadable", ambiguous=True)),
    ],
)
def test_every_answer_means_one_outcome(given_answer: Answer, outcome: Outcome) -> None:
    assert send(MESSAGE, given_answer)[1] == outcome


@given(JSON, st.sampled_from([200, 201, 301, 400, 404, 429, 500]))
def test_random_answers_mean_an_outcome_and_never_raise(value: object, status: int) -> None:
    reply = Answer(status, {}, json.dumps(value).encode())
    assert PLATFORM.lookup is not None
    assert PLATFORM.probe is not None
    assert isinstance(send(MESSAGE, reply)[1], Accepted | Deferred | Rejected)
    assert isinstance(PLATFORM.lookup.read(reply, MESSAGE), Accepted | Deferred | Rejected)
    assert PLATFORM.probe.read(reply, CONTEXT)


# ---- against the simulated vendor ----

ROOT = "http://127.0.0.1:9/woocommerce"


def ask(call: Call, shelf: Shelf) -> VendorReply:
    path, _, query = call.url.removeprefix(ROOT).partition("?")
    endpoint = next(
        one for (method, pattern), one in VENDOR.routes.items() if method == call.method and re.fullmatch(pattern, path)
    )
    return endpoint(Request(call.method, path, {"q": query}, dict(call.headers), call.body), shelf)


def play(call: Call | None, shelf: Shelf) -> Answer:
    assert call is not None
    reply = ask(call, shelf)
    return Answer(reply.status, reply.headers, reply.body)


def at_vendor() -> Context:
    settings = PLATFORM.settings.model_validate({**VENDOR.settings, "base_url": ROOT})
    return Context(settings=settings, now=NOW, webhook_url="http://127.0.0.1:9/webhooks/woocommerce")


def test_a_lost_answer_is_found_by_our_mark_and_only_by_it() -> None:
    assert PLATFORM.lookup is not None
    shelf, context = Shelf(), at_vendor()
    call = PLATFORM.lookup.build(MESSAGE, context, NOW)
    assert PLATFORM.lookup.read(play(call, shelf), MESSAGE) == Rejected(FailureKind.PERMANENT, "not_found")
    reply = ask(next(PLATFORM.send([MESSAGE], context)), shelf)
    assert (reply.taken[0].to, reply.taken[0].reference) == ("1001", MESSAGE.reference)
    assert PLATFORM.lookup.read(play(call, shelf), MESSAGE) == Accepted("1", code="found")
    other = replace(MESSAGE, reference="f" * 32)
    assert PLATFORM.lookup.read(play(call, shelf), other) == Rejected(FailureKind.PERMANENT, "not_found")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Answer(503), Deferred),
        (Answer(401), Deferred),
        (answer({}, 200), Deferred),
        (answer(wrong("woocommerce_rest_order_invalid_id"), 404), Rejected),
        (answer([5, {"note": None}], 200), Rejected),
    ],
)
def test_a_lookup_says_no_only_when_it_knows(reply: Answer, kind: type) -> None:
    assert PLATFORM.lookup is not None
    assert isinstance(PLATFORM.lookup.read(reply, MESSAGE), kind)


def test_a_thin_event_is_completed_by_fetching_its_order() -> None:
    assert PLATFORM.reread is not None
    shelf, context = Shelf(), at_vendor()
    found = READ(request("action.x", {"action": "x", "arg": 1001}), context.settings, NOW)
    assert isinstance(found, Received)
    (thin,) = found.events
    whole = PLATFORM.reread.read(play(PLATFORM.reread.build(thin, context), shelf), thin, context)
    assert isinstance(whole, OrderEvent)
    assert (whole.status, whole.client_ref, whole.thin) == (S.RECEIVED, "204", False)
    assert whole.dedupe_key == thin.dedupe_key
    silent = answer({**recorded("order_created"), "status": "draft"}, 200)
    assert PLATFORM.reread.read(silent, thin, context) is None
    assert PLATFORM.reread.read(answer({"id": 1}, 200), thin, context) == Deferred(FailureKind.TRANSIENT, "unreadable")
    gone = PLATFORM.reread.read(answer(wrong("woocommerce_rest_order_invalid_id"), 404), thin, context)
    assert isinstance(gone, Rejected)


def test_webhooks_are_made_once_and_found_afterwards_and_a_disabled_one_is_none() -> None:
    assert PLATFORM.provision is not None
    assert PLATFORM.probe is not None
    shelf, context = Shelf(), at_vendor()
    probe = PLATFORM.probe.build(context)
    assert not PLATFORM.probe.read(play(probe, shelf), context)[1].ok
    for step in PLATFORM.provision(context):
        assert step.exists is not None
        assert step.find is not None
        assert not step.exists(play(step.find, shelf))
        assert step.make is not None
        made = ask(step.make, shelf)
        assert made.callbacks[0].body == f"webhook_id={orjson.loads(made.body)['id']}".encode()
        assert step.exists(play(step.find, shelf))
    assert all(finding.ok for finding in PLATFORM.probe.read(play(probe, shelf), context))
    for hook in shelf.kind("webhooks").values():
        hook["status"] = "disabled"
    assert not PLATFORM.probe.read(play(probe, shelf), context)[1].ok
    assert PLATFORM.provision(CONTEXT)[0].instruction


def test_the_webhook_that_our_note_fires_is_genuine_and_says_nothing_new() -> None:
    shelf, context = Shelf(), at_vendor()
    assert PLATFORM.provision is not None
    for step in PLATFORM.provision(context):
        play(step.make, shelf)
    changed = Request("PUT", "/wp-json/wc/v3/orders/1001", {}, {}, b'{"status":"processing"}')
    headers = dict(next(PLATFORM.send([MESSAGE], context)).headers)
    told = VENDOR.routes["PUT", r"/wp-json/wc/v3/orders/\d+"](replace(changed, headers=headers), shelf)
    (first,) = told.callbacks
    (echo,) = ask(next(PLATFORM.send([MESSAGE], context)), shelf).callbacks
    read_both = []
    for callback in (first, echo):
        back = inbound(dict(callback.headers), callback.body)
        assert VERIFY(back, context.settings, NOW) is None
        found = READ(back, context.settings, NOW)
        assert isinstance(found, Received)
        read_both += found.events
    news, again = read_both
    state = OrderState(status=news.status, status_at=news.occurred_at)
    assert admit(state, again) is Admission.SAME


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.RATE, Deferred(FailureKind.RATE, "http_429", retry_after_s=1.0)),
        (Fault.RATE_BARE, Deferred(FailureKind.RATE, "http_429")),
        (Fault.SERVER_ERROR, Deferred(FailureKind.TRANSIENT, "http_500", ambiguous=True)),
        (Fault.PERMANENT, Rejected(FailureKind.PERMANENT, "woocommerce_rest_order_invalid_id")),
        (Fault.AUTH, Rejected(FailureKind.AUTH, "woocommerce_rest_cannot_create")),
    ],
)
def test_every_fault_of_the_vendor_is_understood(fault: Fault, outcome: Outcome) -> None:
    refused = VENDOR.refuse(fault)
    assert send(MESSAGE, Answer(refused.status, refused.headers, refused.body))[1] == outcome


@pytest.mark.parametrize("n", [1, 5, 7, 35])
def test_a_story_is_genuine_deterministic_and_ends_delivered(n: int) -> None:
    secret = VENDOR.settings["webhook_secret"]
    told = list(story(n, source="woocommerce", start=NOW, secret=secret))
    assert told == list(story(n, source="woocommerce", start=NOW, secret=secret))
    statuses = []
    for sent in told:
        assert VERIFY(inbound(sent.headers, sent.body), at_vendor().settings, NOW) is None
        found = READ(inbound(sent.headers, sent.body), at_vendor().settings, NOW)
        assert isinstance(found, Received)
        statuses += [event.status for event in found.events]
    assert statuses[:2] == [S.RECEIVED, S.PROCESSING]
    assert statuses[-1] is S.DELIVERED
    assert (S.DELAYED in statuses) == (n % 5 == 0)
    assert (S.BACKORDERED in statuses) == (n % 7 == 0)
