"""CloudEvents: the three modes, their headers, the handshake, and everything that must be refused."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.platforms._base import Inbound, Received, Refusal, Reply
from ordernotify.platforms.cloudevents import PLATFORM, header_value
from ordernotify.sandbox.senders import CloudEventsMode, cloudevents_request, signed_headers
from ordernotify.sandbox.stories import CATALOGUE, story

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "cloudevents"
SETTINGS = PLATFORM.settings.model_validate({"webhook_secret": SECRET})
assert PLATFORM.webhook is not None
VERIFY, READ, HANDSHAKE = PLATFORM.webhook.verify, PLATFORM.webhook.read, PLATFORM.webhook.handshake
STATUSES = [one for one in OrderStatus if one is not OrderStatus.UNKNOWN]
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "A-1",
    "source": "//erp.example/orders",
    "type": "com.example.order.status.v1",
    "time": "2026-11-24T10:00:00Z",
    "data": {"order_id": "SO-1001", "status": "shipped"},
}


def inbound(headers: dict[str, str], body: bytes, method: str = "POST") -> Inbound:
    return Inbound(method, "https://hooks.example/webhooks/cloudevents", headers, body)


def recorded(status: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((FIXTURES / f"{status}.json").read_bytes())
    return value


def sent(events: list[dict[str, Any]], mode: CloudEventsMode = "structured") -> Inbound:
    return inbound(*cloudevents_request(events, mode=mode, secret=SECRET, sent_at=NOW))


def taken(request: Inbound) -> tuple[OrderEvent, ...]:
    assert VERIFY(request, SETTINGS, NOW) is None
    found = READ(request, SETTINGS, NOW)
    assert isinstance(found, Received), found
    return found.events


def refused(request: Inbound) -> Refusal:
    found = READ(request, SETTINGS, NOW)
    assert isinstance(found, Refusal), found
    return found


def raw(content_type: str, body: bytes, **headers: str) -> Inbound:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return inbound({"content-type": content_type, **named}, body)


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("status", STATUSES)
def test_every_recorded_status_is_read_alike_in_both_modes(status: OrderStatus, mode: CloudEventsMode) -> None:
    (event,) = taken(sent([recorded(status.value)], mode))
    number = STATUSES.index(status)
    assert event.status is status
    assert event.dedupe_key == f"//erp.example/orders A-{number + 1}"
    assert event.occurred_at == datetime(2026, 11, 24, number, 30, tzinfo=UTC)
    assert (event.source, event.client_ref, event.contract_id) == ("cloudevents", "C-204", "N00024-26-C-1234")


def test_a_batch_is_read_whole_and_in_order() -> None:
    events = taken(sent([recorded(status.value) for status in STATUSES], "batch"))
    assert [event.status for event in events] == STATUSES


def test_an_empty_batch_is_legal_and_says_nothing() -> None:
    assert taken(sent([], "batch")) == ()


def test_one_wrong_event_refuses_its_whole_batch_and_is_named() -> None:
    wrong = {
        **EVENT,
        "id": "A-2",
        "data": {"order_id": "SO-1", "status": "x", "lines": [{"sku": "A", "quantity": 0}]},
    }
    found = refused(sent([EVENT, wrong], "batch"))
    assert (found.status, found.field) == (422, "[1].data.lines[0].quantity")


def test_a_batch_of_too_many_is_refused() -> None:
    assert refused(sent([EVENT] * 1001, "batch")).field == "body"


def test_one_flipped_bit_is_refused_in_every_mode() -> None:
    modes: tuple[CloudEventsMode, ...] = ("binary", "structured", "batch")
    for mode in modes:
        headers, body = cloudevents_request([EVENT], mode=mode, secret=SECRET, sent_at=NOW)
        changed = bytearray(body)
        changed[len(body) // 2] ^= 1
        found = VERIFY(inbound(headers, bytes(changed)), SETTINGS, NOW)
        assert found is not None
        assert (found.status, found.field) == (401, "webhook-signature")


def test_a_request_without_a_signature_is_refused() -> None:
    found = VERIFY(raw("application/cloudevents+json", orjson.dumps(EVENT)), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, "webhook-id")


@pytest.mark.parametrize(
    ("authorization", "genuine"),
    [("Bearer old", True), ("bearer new", True), ("Bearer other", False), ("Basic new", False), ("", False)],
)
def test_a_bearer_token_is_asked_for_where_it_is_set(authorization: str, genuine: bool) -> None:
    settings = PLATFORM.settings.model_validate({"webhook_secret": SECRET, "bearer_token": "old,new"})
    request = sent([EVENT])
    guarded = inbound({**request.headers, "authorization": authorization}, request.body)
    found = VERIFY(guarded, settings, NOW)
    assert (found is None) == genuine
    assert found is None or (found.status, found.field) == (401, "Authorization")


def test_a_bearer_token_alone_proves_nothing() -> None:
    settings = PLATFORM.settings.model_validate({"webhook_secret": SECRET, "bearer_token": "t"})
    request = raw("application/cloudevents+json", orjson.dumps(EVENT), authorization="Bearer t")
    assert VERIFY(request, settings, NOW) is not None


@pytest.mark.parametrize(
    ("sent_value", "value"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \u20ac \U0001f600"),
        ('"Euro%20%E2%82%AC"', "Euro \u20ac"),
        (r'"a\"b"', 'a"b'),
        ("100%2525", "100%25"),
        ("%C0%A0", None),
        ("plain", "plain"),
    ],
)
def test_header_values_are_unquoted_and_decoded_once(sent_value: str, value: str | None) -> None:
    assert header_value(sent_value) == value


@pytest.mark.parametrize(
    ("content_type", "status", "field"),
    [
        ("application/cloudevents+avro", 415, "Content-Type"),
        ("application/cloudevents-batch+avro", 415, "Content-Type"),
        ("application/cloudevents", 415, "Content-Type"),
        ("text/plain", 415, "Content-Type"),
        ("APPLICATION/CLOUDEVENTS-BATCH+JSON; charset=UTF-8", 422, "body"),
    ],
)
def test_the_mode_follows_the_content_type(content_type: str, status: int, field: str) -> None:
    found = refused(raw(content_type, orjson.dumps(EVENT)))
    assert (found.status, found.field) == (status, field)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "", "application/vnd.example.v1+json"])
def test_binary_mode_takes_json_under_any_of_its_names(content_type: str) -> None:
    request = raw(
        content_type, orjson.dumps(EVENT["data"]), ce_specversion="1.0", ce_id="A-1", ce_source="/s", ce_type="t"
    )
    found = READ(request, SETTINGS, NOW)
    assert isinstance(found, Received)
    assert found.events[0].occurred_at == NOW


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ce-id": ""}, "ce-id"),
        ({"ce-source": ""}, "ce-source"),
        ({"ce-type": ""}, "ce-type"),
        ({"ce-specversion": "0.3"}, "ce-specversion"),
        ({"ce-time": "yesterday"}, "ce-time"),
        ({"ce-time": "2026-11-25T00:00:00Z"}, "ce-time"),
        ({"ce-type": "%C0%A0"}, "ce-type"),
        ({"ce-datacontenttype": "application/json"}, "ce-datacontenttype"),
    ],
)
def test_a_wrong_attribute_header_is_refused_by_name(change: dict[str, str], field: str) -> None:
    headers, body = cloudevents_request([EVENT], mode="binary", secret=SECRET, sent_at=NOW)
    found = refused(inbound({**headers, **change}, body))
    assert (found.status, found.field) == (422, field)


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"specversion": "1.1"}, 422, "specversion"),
        ({"specversion": 1}, 422, "specversion"),
        ({"id": ""}, 422, "id"),
        ({"id": 7}, 422, "id"),
        ({"source": None}, 422, "source"),
        ({"type": []}, 422, "type"),
        ({"time": 5}, 422, "time"),
        ({"data": "{}"}, 422, "data"),
        ({"data": None}, 422, "data"),
        ({"data": {"order_id": "SO-1"}}, 422, "data.status"),
        ({"data": {"order_id": "SO-1", "status": "shipped", "x": 1}}, 422, "data.x"),
        ({"data_base64": "e30="}, 422, "data_base64"),
        ({"datacontenttype": "text/xml"}, 415, "datacontenttype"),
        ({"datacontenttype": 5}, 415, "datacontenttype"),
    ],
)
def test_a_wrong_attribute_is_refused_by_name(change: dict[str, Any], status: int, field: str) -> None:
    found = refused(raw("application/cloudevents+json", orjson.dumps({**EVENT, **change})))
    assert (found.status, found.field) == (status, field)


@pytest.mark.parametrize("value", ["!!!", "eyJ4", 5, None, ["e30="], "äöü"])
def test_data_in_wrong_base64_is_refused(value: object) -> None:
    event = {name: entry for name, entry in EVENT.items() if name != "data"} | {"data_base64": value}
    assert refused(raw("application/cloudevents+json", orjson.dumps(event))).field == "data_base64"


def test_data_in_base64_is_read() -> None:
    event = {name: entry for name, entry in EVENT.items() if name != "data"}
    event["data_base64"] = base64.b64encode(orjson.dumps(EVENT["data"])).decode()
    assert taken(sent([event]))[0].status is OrderStatus.SHIPPED


def test_the_same_id_of_two_sources_is_two_events() -> None:
    (one,) = taken(sent([EVENT]))
    (other,) = taken(sent([{**EVENT, "source": "//other"}]))
    assert one.dedupe_key != other.dedupe_key


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        (
            {"webhook-request-origin": "eventemitter.example.com", "webhook-request-rate": "120"},
            {"webhook-allowed-origin": "eventemitter.example.com", "webhook-allowed-rate": "120", "allow": "POST"},
        ),
        (
            {"webhook-request-origin": "eventemitter.example.com", "webhook-request-rate": "1\r\nx: y"},
            {"webhook-allowed-origin": "eventemitter.example.com", "webhook-allowed-rate": "*", "allow": "POST"},
        ),
    ],
)
def test_the_handshake_is_granted_by_header(headers: dict[str, str], answer: dict[str, str]) -> None:
    assert HANDSHAKE is not None
    found = HANDSHAKE(inbound(headers, b"", "OPTIONS"), SETTINGS)
    assert isinstance(found, Reply)
    assert (found.status, dict(found.headers)) == (200, answer)


def test_the_handshake_is_refused_to_a_stranger_and_without_an_origin() -> None:
    assert HANDSHAKE is not None
    settings = PLATFORM.settings.model_validate({"webhook_secret": SECRET, "allowed_origins": "a.example, b.example"})
    known = HANDSHAKE(inbound({"webhook-request-origin": "B.example"}, b"", "OPTIONS"), settings)
    stranger = HANDSHAKE(inbound({"webhook-request-origin": "c.example"}, b"", "OPTIONS"), settings)
    nobody = HANDSHAKE(inbound({}, b"", "OPTIONS"), settings)
    injected = HANDSHAKE(inbound({"webhook-request-origin": "a\r\nb"}, b"", "OPTIONS"), SETTINGS)
    assert isinstance(known, Reply)
    for found, status in ((stranger, 403), (nobody, 400), (injected, 400)):
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (status, "WebHook-Request-Origin")


def test_an_ordinary_request_is_no_handshake() -> None:
    assert HANDSHAKE is not None
    assert HANDSHAKE(sent([EVENT]), SETTINGS) is None


@pytest.mark.parametrize("body", [b"", b"{", b'{"id":NaN}', b"[[[[", b"\xff"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    for content_type in ("application/cloudevents+json", "application/cloudevents-batch+json"):
        assert refused(raw(content_type, body)).field == "body"


LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
NAMES = st.sampled_from([*EVENT, "data_base64", "datacontenttype"])


@given(
    JSON | st.dictionaries(NAMES, JSON, max_size=5).map(lambda change: {**EVENT, **change}),
    st.sampled_from(["application/cloudevents+json", "application/cloudevents-batch+json", "application/json"]),
    st.dictionaries(
        st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-time", "ce-specversion"]), st.text(max_size=12)
    ),
)
def test_random_requests_are_read_or_refused_and_never_raise(value: object, kind: str, headers: dict[str, str]) -> None:
    body = json.dumps(value).encode()
    headers = {**headers, "content-type": kind, **signed_headers(body, secret=SECRET, message_id="m", sent_at=NOW)}
    found = READ(inbound(headers, body), SETTINGS, NOW)
    assert isinstance(found, Received | Refusal)
    assert not isinstance(found, Refusal) or (found.field and found.message)


@pytest.mark.parametrize("n", [1, 4, 5, 7])
def test_a_story_is_genuine_deterministic_and_holds_every_fourth_order_for_a_licence(n: int) -> None:
    told = list(story(n, source="cloudevents", start=NOW - timedelta(days=9), secret=SECRET, sent_at=NOW))
    assert told == list(story(n, source="cloudevents", start=NOW - timedelta(days=9), secret=SECRET, sent_at=NOW))
    statuses = [event.status for sent in told for event in taken(inbound(sent.headers, sent.body))]
    assert (OrderStatus.REGULATORY_HOLD in statuses) == (n % 4 == 0)
    assert (OrderStatus.DELAYED in statuses) == (n % 5 == 0)
    assert (OrderStatus.BACKORDERED in statuses) == (n % 7 == 0)
    assert statuses[-1] is OrderStatus.DELIVERED


def test_a_story_has_only_parts_of_the_catalogue_unless_another_is_asked_for() -> None:
    for unknown in (False, True):
        skus = {
            line.sku
            for n in range(1, 9)
            for sent in story(
                n,
                source="cloudevents",
                start=NOW - timedelta(days=9),
                secret=SECRET,
                sent_at=NOW,
                unknown_sku=unknown,
            )
            for event in taken(inbound(sent.headers, sent.body))
            for line in event.lines
        }
        assert (skus <= set(CATALOGUE)) is not unknown
