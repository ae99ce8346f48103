"""USPS: categories and codes, its two kinds of time, its errors, and updates that sign two fields."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pytest

from ordernotify.carriers.usps import CARRIER, CATEGORIES, CODES
from ordernotify.core.delivery import Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care
from ordernotify.platforms._base import Answer, Refusal, Token
from ordernotify.sandbox.carrier_senders import usps_request

S = OrderStatus
N = "9400100000000000000000"
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def usps(case: Callable[..., Any]) -> Any:
    return case(CARRIER)


@pytest.mark.parametrize(
    ("category", "status", "detail"),
    [
        ("Pre-Shipment", S.PROCESSING, ""),
        ("Accepted", S.SHIPPED, ""),
        ("In Transit", S.SHIPPED, ""),
        ("Out for Delivery", S.OUT_FOR_DELIVERY, ""),
        ("Available for Pickup", S.OUT_FOR_DELIVERY, "available_for_pickup"),
        ("Delivered to Agent", S.OUT_FOR_DELIVERY, "with_agent"),
        ("Delivered", S.DELIVERED, ""),
        ("Delivery Attempt", S.DELAYED, "delivery_attempted"),
        ("Alert", S.DELAYED, ""),
        ("Teleported", S.UNKNOWN, ""),
    ],
)
def test_the_category_says_where_a_piece_is(category: str, status: S, detail: str, usps: Any) -> None:
    body = usps.recorded("shipped") | {"statusCategory": category}
    *_, event = usps.reading(body, N)
    assert (event.status, event.detail) == (status, detail)
    assert event.care is (Care.FIRST if status is S.UNKNOWN else Care.NOBODY)
    assert event.raw_code == f"{category.replace(' ', '')}/T1"


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        ("GX", S.PROCESSING, ""),
        ("MA", S.PROCESSING, ""),
        ("03", S.SHIPPED, ""),
        ("SF", S.SHIPPED, ""),
        ("10", S.SHIPPED, ""),
        ("T1", S.SHIPPED, ""),
        ("TL", S.SHIPPED, ""),
        ("A1", S.SHIPPED, ""),
        ("07", S.SHIPPED, ""),
        ("OF", S.OUT_FOR_DELIVERY, ""),
        ("14", S.OUT_FOR_DELIVERY, "available_for_pickup"),
        ("01", S.DELIVERED, ""),
        ("02", S.DELAYED, "delivery_attempted"),
        ("05", S.DELAYED, ""),
        ("04", S.RETURNED, "returning"),
        ("09", S.RETURNED, "returning"),
        ("21", S.RETURNED, "returning"),
    ],
)
def test_a_code_says_what_a_scan_was(code: str, status: S, detail: str, usps: Any) -> None:
    body = usps.recorded("delivered")
    body["trackingEvents"][1]["eventCode"] = code
    _, event, _ = usps.reading(body, N)
    assert (event.status, event.detail, event.raw_code) == (status, detail, code)
    del body["statusCategory"]
    body["trackingEvents"][0]["eventCode"] = code
    assert usps.reading(body, N)[-1].status is status


def test_the_tables_are_all_tested() -> None:
    assert set(CARRIER.statuses) == set(CATEGORIES) | set(CODES)
    assert (len(CATEGORIES), len(CODES)) == (9, 17)


def test_an_old_scan_of_an_unknown_kind_is_a_sign_of_life_and_nothing_more(usps: Any) -> None:
    body = usps.recorded("delivered")
    body["trackingEvents"][1]["eventCode"] = "ZZ"
    _, event, _ = usps.reading(body, N)
    assert (event.status, event.care) == (None, Care.NOBODY)
    del body["statusCategory"]
    body["trackingEvents"][0]["eventCode"] = "ZZ"
    assert usps.reading(body, N)[-1].status is S.UNKNOWN


@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [
        ("processing", S.PROCESSING, ""),
        ("accepted", S.SHIPPED, ""),
        ("shipped", S.SHIPPED, ""),
        ("out_for_delivery", S.OUT_FOR_DELIVERY, ""),
        ("pickup", S.OUT_FOR_DELIVERY, "available_for_pickup"),
        ("to_agent", S.OUT_FOR_DELIVERY, "with_agent"),
        ("delivered", S.DELIVERED, ""),
        ("attempted", S.DELAYED, "delivery_attempted"),
        ("delayed", S.DELAYED, ""),
        ("returned", S.RETURNED, "returning"),
        ("regulatory_hold", S.REGULATORY_HOLD, "customs"),
    ],
)
def test_a_recorded_answer_is_a_story_in_order(name: str, status: S, detail: str, usps: Any) -> None:
    label, accepted, last = usps.reading(usps.recorded(name), N)
    assert (label.status, accepted.status) == (S.PROCESSING, S.SHIPPED)
    assert last.occurred_at == datetime(2026, 11, 22, 18, 58, 40, tzinfo=UTC)  # not the local 13:58
    assert (last.status, last.detail, last.title) == (status, detail, "USPS")
    assert last.estimated_delivery == date(2026, 11, 24)


def test_a_piece_that_is_back_is_returned(usps: Any) -> None:
    body = usps.recorded("returned") | {"status": "Returned to Sender"}
    assert usps.reading(body, N)[-1].detail == "returned"


def test_customs_alone_is_no_hold(usps: Any) -> None:
    body = usps.recorded("regulatory_hold") | {"status": "Customs clearance", "statusSummary": "In progress"}
    body["trackingEvents"][0]["eventType"] = "Customs clearance"
    assert usps.reading(body, N)[-1].status is S.DELAYED


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("code", ["150001", "150007", "150013"])
def test_not_yet_available_is_no_failure(status: int, code: str, usps: Any) -> None:
    body = usps.recorded("not_yet")
    body["error"]["errors"][0]["code"] = code
    assert usps.reading(body, N, status=status) == ()


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (401, {"error": "insufficient_scope"}, {}, Rejected(FailureKind.AUTH, "usps_insufficient_scope")),
        (401, {"error": "invalid_token"}, {}, Rejected(FailureKind.AUTH, "usps_invalid_token")),
        (401, {"error": {"code": "401"}}, {}, Rejected(FailureKind.AUTH, "usps_http_401")),
        (
            429,
            {"error": {"code": "429"}},
            {"retry-after": "90"},
            Deferred(FailureKind.RATE, "usps_http_429", retry_after_s=90.0),
        ),
        (503, {}, {"retry-after": "5"}, Deferred(FailureKind.TRANSIENT, "usps_http_503", retry_after_s=5.0)),
        (400, {"error": {"errors": [{"code": "150014"}]}}, {}, Rejected(FailureKind.PERMANENT, "usps_http_400")),
    ],
)
def test_an_error_is_read_by_its_code_first(
    status: int, body: Any, headers: dict[str, str], expected: Any, usps: Any
) -> None:
    assert usps.reading(body, N, status=status, headers=headers) == expected


def test_a_question_and_a_token_are_exact(case: Callable[..., Any]) -> None:
    usps = case(CARRIER, client_id="id", client_secret="hush")
    call = usps.ask(N)
    assert (call.method, call.url) == (
        "GET",
        f"https://apis.usps.com/tracking/v3/tracking/{N}?expand=DETAIL",
    )
    assert CARRIER.token is not None
    call = CARRIER.token.build(usps.context)
    assert call.url == "https://apis.usps.com/oauth2/v3/token"
    assert json.loads(call.body) == {
        "grant_type": "client_credentials",
        "client_id": "id",
        "client_secret": "hush",
        "scope": "tracking",
    }
    token = CARRIER.token.read(Answer(200, {}, orjson.dumps(usps.recorded("token"))), usps.context)
    assert isinstance(token, Token)
    assert token.expires_at == usps.now + timedelta(seconds=28799) * 4 // 5


def test_its_quota_is_that_of_a_new_application() -> None:
    assert [(one.calls, one.seconds) for one in CARRIER.quota] == [(60, 3600)]
    assert CARRIER.at_least >= timedelta(hours=6)


# ---- pushes ----

VECTOR = (
    rb'{"subscriptionId":"a1","subscriptionType":"TRACKING","timestamp":"2026-11-24T10:00:00Z",'
    rb'"payload":"{\"trackingNumber\":\"9400100000000000000000\",\"statusCategory\":\"Delivered\"}"}'
)
SIGNATURE = "1gllSGhhouxiy1Dw7fcLc9uCeds3IT5DH0f/nKJBL9c="


@pytest.mark.parametrize("header", ["X-HMAC", "hmac-header"])
def test_the_vector_is_genuine_and_one_flipped_byte_of_what_is_signed_is_not(header: str, usps: Any) -> None:
    headers = {header: SIGNATURE}
    assert usps.verify(usps.inbound(headers, VECTOR)) is None
    for changed in (
        VECTOR.replace(b"10:00:00Z", b"10:00:01Z"),
        VECTOR.replace(b"Delivered", b"delivered"),
        VECTOR.replace(b"9400100000000000000000", b"9400100000000000000001"),
    ):
        found = usps.verify(usps.inbound(headers, changed))
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (401, "X-HMAC")
    # Only the two fields are signed, so other bytes may differ.
    assert usps.verify(usps.inbound(headers, VECTOR.replace(b'"a1"', b'"a2"'))) is None


def test_every_bit_of_the_signed_fields_counts(usps: Any) -> None:
    start, end = VECTOR.index(b"2026-11-24"), VECTOR.index(b'Z","payload')
    for position in range(start, end):
        changed = bytearray(VECTOR)
        changed[position] ^= 1
        assert usps.verify(usps.inbound({"X-HMAC": SIGNATURE}, bytes(changed))) is not None


def test_an_unsigned_space_is_signed_too(usps: Any) -> None:
    signed = base64.b64encode(hmac.new(SECRET.encode(), b' t {"a":1} ', hashlib.sha256).digest()).decode()
    body = orjson.dumps({"timestamp": " t ", "payload": '{"a":1} '})
    assert usps.verify(usps.inbound({"X-HMAC": signed}, body)) is None


def test_an_update_is_an_event_at_the_time_of_its_sending_unless_it_has_scans(usps: Any) -> None:
    event = usps.pushed(VECTOR)
    assert (event.status, event.tracking_no) == (S.DELIVERED, N)
    assert event.occurred_at == datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
    _, body = usps_request(usps.recorded("out_for_delivery"), secret=SECRET, sent_at=usps.now)
    assert usps.push(body).events == usps.reading(usps.recorded("out_for_delivery"), N)


def test_an_update_signed_by_the_sandbox_is_genuine(usps: Any) -> None:
    headers, body = usps_request({"trackingNumber": N, "status": "\u00e9"}, secret=SECRET, sent_at=usps.now)
    assert usps.verify(usps.inbound(headers, body)) is None


@pytest.mark.parametrize(
    ("payload", "field"),
    [("", "payload"), ("{", "payload"), ("[]", "payload.trackingNumber"), ("{}", "payload.trackingNumber")],
)
def test_an_update_without_a_number_is_refused_by_field(payload: str, field: str, usps: Any) -> None:
    found = usps.push({"timestamp": "2026-11-24T10:00:00Z", "payload": payload})
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)
