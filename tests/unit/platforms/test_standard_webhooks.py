"""Standard Webhooks: the published vector, rotation, time, and everything that must be refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook as Reference

from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Inbound, Received, Refusal
from ordernotify.platforms._standard import signing_key
from ordernotify.platforms.standard_webhooks import PLATFORM
from ordernotify.sandbox.senders import signed_headers, standard_webhooks_request

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
NOW = datetime.fromtimestamp(1795514400, UTC)
VECTOR_BODY = b'{"type":"order.shipped","timestamp":"2026-11-24T10:00:00Z","data":{"order_id":"SO-1001"}}'
VECTOR = {
    "webhook-id": "msg_2demo0001",
    "webhook-timestamp": "1795514400",
    "webhook-signature": "v1,zlovkW/8vSmsCcWy78umZ0/7tmwjxrMIpSKV3l9/gp8=",
}
FIXTURES = Path(__file__).parents[2] / "fixtures" / "standard_webhooks"
SETTINGS = PLATFORM.settings.model_validate({"webhook_secret": SECRET})
assert PLATFORM.webhook is not None
VERIFY, READ = PLATFORM.webhook.verify, PLATFORM.webhook.read


def inbound(headers: dict[str, str], body: bytes) -> Inbound:
    return Inbound("POST", "https://hooks.example/webhooks/standard_webhooks", headers, body)


def signed(value: object, *, secret: str = SECRET) -> Inbound:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return inbound(signed_headers(body, secret=secret, message_id="msg_1", sent_at=NOW), body)


def read(value: object) -> Received | Refusal:
    request = signed(value)
    assert VERIFY(request, SETTINGS, NOW) is None
    found = READ(request, SETTINGS, NOW)
    assert isinstance(found, Received | Refusal)
    return found


def test_the_published_vector_is_genuine() -> None:
    assert VERIFY(inbound(VECTOR, VECTOR_BODY), SETTINGS, NOW) is None
    Reference(SECRET)  # the reference library accepts the same secret


@pytest.mark.parametrize("position", range(0, len(VECTOR_BODY), 7))
def test_one_flipped_bit_of_the_body_is_refused(position: int) -> None:
    changed = bytearray(VECTOR_BODY)
    changed[position] ^= 1
    found = VERIFY(inbound(VECTOR, bytes(changed)), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, "webhook-signature")


@pytest.mark.parametrize(
    ("header", "value", "field"),
    [
        ("webhook-id", "msg_2demo0002", "webhook-signature"),
        ("webhook-id", "", "webhook-id"),
        ("webhook-id", "m" * 257, "webhook-id"),
        ("webhook-timestamp", "1795514401", "webhook-signature"),
        ("webhook-timestamp", "", "webhook-timestamp"),
        ("webhook-timestamp", "1795514400.0", "webhook-timestamp"),
        ("webhook-timestamp", "1_795514400", "webhook-timestamp"),
        ("webhook-timestamp", "-1795514400", "webhook-timestamp"),
        ("webhook-timestamp", "١٧٩٥٥١٤٤٠٠", "webhook-timestamp"),
        ("webhook-timestamp", "99999999999999999999", "webhook-timestamp"),
        ("webhook-signature", "", "webhook-signature"),
        ("webhook-signature", "v1a,zlovkW/8vSmsCcWy78umZ0/7tmwjxrMIpSKV3l9/gp8=", "webhook-signature"),
        ("webhook-signature", "v1,", "webhook-signature"),
        ("webhook-signature", "v1,ZLOVKW/8vSmsCcWy78umZ0/7tmwjxrMIpSKV3l9/gp8=", "webhook-signature"),
        ("webhook-signature", "v1,\u00e4", "webhook-signature"),
    ],
)
def test_a_changed_header_is_refused_by_name(header: str, value: str, field: str) -> None:
    found = VERIFY(inbound({**VECTOR, header: value}, VECTOR_BODY), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, field)


@pytest.mark.parametrize(("offset", "genuine"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_the_timestamp_holds_for_five_minutes_either_way(offset: int, genuine: bool) -> None:
    found = VERIFY(inbound(VECTOR, VECTOR_BODY), SETTINGS, NOW + timedelta(seconds=offset))
    assert (found is None) == genuine


def test_signatures_of_unknown_versions_are_skipped() -> None:
    several = f"v1a,AAAA v9,BBBB {VECTOR['webhook-signature']}"
    assert VERIFY(inbound({**VECTOR, "webhook-signature": several}, VECTOR_BODY), SETTINGS, NOW) is None


def test_any_active_secret_proves_a_request_while_one_is_replaced() -> None:
    both = PLATFORM.settings.model_validate({"webhook_secret": f"{OTHER}, {SECRET}"})
    assert VERIFY(inbound(VECTOR, VECTOR_BODY), both, NOW) is None
    assert VERIFY(signed(VECTOR_BODY, secret=OTHER), both, NOW) is None
    assert VERIFY(signed(VECTOR_BODY, secret=OTHER), SETTINGS, NOW) is not None


def test_the_older_header_names_are_read_too() -> None:
    older = {name.replace("webhook-", "svix-"): value for name, value in VECTOR.items()}
    request = inbound(older, VECTOR_BODY)
    assert VERIFY(request, SETTINGS, NOW) is None
    found = READ(request, SETTINGS, NOW)
    assert isinstance(found, Received)
    assert found.events[0].dedupe_key == "msg_2demo0001"


def test_our_sender_signs_as_the_reference_library_verifies() -> None:
    now = datetime.now(UTC)
    headers, body = standard_webhooks_request(
        "order.shipped", {"order_id": "SO-1"}, secret=SECRET, message_id="msg_9", occurred_at=now, sent_at=now
    )
    assert Reference(SECRET).verify(body, headers) == json.loads(body)


@pytest.mark.parametrize("secret", ["", ",", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", f"{SECRET},plain"])
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PLATFORM.settings.model_validate({"webhook_secret": secret})
    assert "c2hvcnQ" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(signing_key(SECRET)) == 32


@pytest.mark.parametrize("status", [one for one in OrderStatus if one is not OrderStatus.UNKNOWN])
def test_every_recorded_status_is_read_from_the_type(status: OrderStatus) -> None:
    found = read((FIXTURES / f"{status.value}.json").read_bytes())
    assert isinstance(found, Received)
    (event,) = found.events
    assert event.status is status
    assert (event.source, event.dedupe_key, event.order_ref) == ("standard_webhooks", "msg_1", "SO-1001")
    assert event.occurred_at.minute == 30
    assert event.lines[0].sku == "RAD-7"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"type":"order.shipped"', "body"),
        (b'{"type":"order.shipped","data":{"order_id":"a","lines":[{"sku":"A","quantity":NaN}]}}', "body"),
        ({"data": {"order_id": "a", "status": "shipped"}}, "type"),
        ({"type": "invoice.paid", "data": {"order_id": "a"}}, "data.status"),
        ({"type": "order.exploded", "data": {"order_id": "a"}}, "data.status"),
        ({"type": "order.shipped", "data": {"order_id": "a", "status": "delivered"}}, "data.status"),
        ({"type": "order.shipped"}, "data"),
        ({"type": "order.shipped", "data": [[[]]]}, "data"),
        ({"type": "order.shipped", "timestamp": 5, "data": {"order_id": "a"}}, "timestamp"),
        ({"type": "order.shipped", "timestamp": "2026-11-24T12:00:00Z", "data": {"order_id": "a"}}, "timestamp"),
        ({"type": "order.shipped", "data": {"order_id": "a", "time": "2027-01-01T00:00:00Z"}}, "data.occurred_at"),
        ([], "body"),
    ],
)
def test_a_malformed_body_is_refused_by_field(body: object, field: str) -> None:
    found = read(body)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


def test_a_foreign_status_is_taken_for_a_person_to_see() -> None:
    found = read({"type": "x", "data": {"order_id": "a", "status": "teleported"}})
    assert isinstance(found, Received)
    assert (found.events[0].status, found.events[0].raw_status) == (OrderStatus.UNKNOWN, "teleported")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_never_raise(body: bytes) -> None:
    assert isinstance(read(body), Refusal)


@given(st.dictionaries(st.sampled_from(sorted(VECTOR)), st.text(max_size=40)))
def test_random_headers_never_raise(headers: dict[str, str]) -> None:
    assert isinstance(VERIFY(inbound({**VECTOR, **headers}, VECTOR_BODY), SETTINGS, NOW), Refusal | None)
