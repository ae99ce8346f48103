"""AfterShip: every tag and subtag, its signature, and scans whose times have no zone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from ordernotify.carriers._base import Pushed
from ordernotify.carriers.aftership import CARRIER
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care
from ordernotify.platforms._base import Answer, Refusal
from ordernotify.sandbox.carrier_senders import aftership_request

S = OrderStatus
N = "1Z999AA10123456784"
FIRST, NOBODY = Care.FIRST, Care.NOBODY
SAID_AT = datetime.fromtimestamp(1_795_514_400, UTC)

CODES: list[tuple[str, S | None, str, Care, str]] = [
    ("Pending", None, "", NOBODY, "Pending Pending_001 Pending_006"),
    ("InfoReceived", S.PROCESSING, "", NOBODY, "InfoReceived InfoReceived_001"),
    ("InTransit", S.SHIPPED, "", NOBODY, "InTransit InTransit_001 InTransit_010 InTransit_011 InTransit_013"),
    ("OutForDelivery", S.OUT_FOR_DELIVERY, "", NOBODY, "OutForDelivery OutForDelivery_001 OutForDelivery_004"),
    ("AvailableForPickup", S.OUT_FOR_DELIVERY, "available_for_pickup", NOBODY, "AvailableForPickup"),
    ("AttemptFail", S.DELAYED, "delivery_attempted", NOBODY, "AttemptFail AttemptFail_003"),
    ("Delivered", S.DELIVERED, "", NOBODY, "Delivered Delivered_001 Delivered_002 Delivered_003 Delivered_004"),
    ("Delivered", S.DELIVERED, "", NOBODY, "Delivered_005"),
    ("Exception", S.REGULATORY_HOLD, "customs", NOBODY, "Exception_018"),
    ("Exception", S.DELAYED, "customs", NOBODY, "Exception_004"),
    ("Exception", S.RETURNED, "returning", NOBODY, "Exception_003 Exception_010"),
    ("Exception", S.RETURNED, "returned", NOBODY, "Exception_011"),
    ("Exception", S.DELAYED, "", FIRST, "Exception_012 Exception_013"),
    ("Exception", S.DELAYED, "", NOBODY, "Exception_001 Exception_002 Exception_005 Exception_006 Exception_008"),
    ("Exception", S.DELAYED, "", NOBODY, "Exception_009 Exception_016"),
    ("Exception", S.DELAYED, "address_issue", NOBODY, "Exception_007"),
    ("Exception", S.DELAYED, "weather", NOBODY, "Exception_017"),
    ("Exception", None, "", FIRST, "Exception Exception_019 Exception_020 Exception_021 Exception_099"),
    ("Expired", None, "", FIRST, "Expired Expired_001"),
    ("Beamed", S.UNKNOWN, "", FIRST, "Beamed_001"),
]
ROWS = [(tag, subtag, *row) for tag, *row, subtags in CODES for subtag in subtags.split()]


@pytest.fixture
def aftership(case: Callable[..., Any]) -> Any:
    return case(CARRIER)


def test_every_row_of_the_table_is_tested() -> None:
    assert set(CARRIER.statuses) <= {row[1] for row in ROWS}


@pytest.mark.parametrize(("tag", "subtag", "status", "detail", "care"), ROWS)
def test_a_tag_means_what_its_row_says(
    tag: str, subtag: str, status: S | None, detail: str, care: Care, aftership: Any
) -> None:
    body = aftership.recorded("shipped")
    body["msg"] |= {"tag": tag, "subtag": "" if subtag == tag else subtag}
    event = aftership.pushed(body)
    assert (event.status, event.detail, event.care, event.raw_code) == (status, detail, care, subtag)


@pytest.mark.parametrize(
    ("name", "status", "care"),
    [
        ("pending", None, NOBODY),
        ("processing", S.PROCESSING, NOBODY),
        ("shipped", S.SHIPPED, NOBODY),
        ("out_for_delivery", S.OUT_FOR_DELIVERY, NOBODY),
        ("pickup", S.OUT_FOR_DELIVERY, NOBODY),
        ("attempted", S.DELAYED, NOBODY),
        ("delivered", S.DELIVERED, NOBODY),
        ("delivered_back_to_sender", S.RETURNED, NOBODY),
        ("delayed", S.DELAYED, NOBODY),
        ("customs_delay", S.DELAYED, NOBODY),
        ("regulatory_hold", S.REGULATORY_HOLD, NOBODY),
        ("returned", S.RETURNED, NOBODY),
        ("lost", S.DELAYED, FIRST),
        ("expired", None, FIRST),
    ],
)
def test_a_recorded_webhook_is_one_event(name: str, status: S | None, care: Care, aftership: Any) -> None:
    event = aftership.pushed(aftership.recorded(name))
    assert (event.status, event.care, event.title, event.tracking_no) == (status, care, "UPS", N)
    assert event.occurred_at == datetime(2026, 11, 24, 12, 13, tzinfo=UTC)
    assert event.estimated_delivery == date(2026, 11, 25)


def test_a_scan_without_a_zone_happened_when_it_was_said(aftership: Any) -> None:
    body = aftership.recorded("without_a_zone")
    first = aftership.pushed(body)
    assert first.occurred_at == SAID_AT
    again = aftership.pushed(body | {"ts": 1_795_514_460})
    assert again.key == first.key


def test_without_a_scan_a_state_is_known_by_its_tag(aftership: Any) -> None:
    body = aftership.recorded("pending")
    body["msg"]["checkpoints"] = None
    event = aftership.pushed(body)
    assert (event.occurred_at, event.event_id) == (SAID_AT, "Pending without a scan")


def test_other_events_say_nothing(aftership: Any) -> None:
    assert aftership.push(aftership.recorded("new_date")) == Pushed()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"msg": None}, "msg.tracking_number"),
        ({"msg": {}}, "msg.tracking_number"),
        ({"ts": "1795514400"}, "ts"),
        ({"ts": True}, "ts"),
        ({"ts": 2**62}, "ts"),
        ({"ts": -1}, "ts"),
        ({"ts": 1795514400.5}, "ts"),
    ],
)
def test_a_webhook_that_lacks_something_is_refused_by_field(change: dict[str, Any], field: str, aftership: Any) -> None:
    found = aftership.push(aftership.recorded("shipped") | change)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


def test_the_vector_is_genuine_and_one_flipped_bit_is_not(case: Callable[..., Any]) -> None:
    vector = case(CARRIER).recorded("signature")
    aftership = case(CARRIER, webhook_secret=vector["secret"])
    body, headers = vector["body"].encode(), {"aftership-hmac-sha256": vector["signature"]}
    assert aftership.verify(aftership.inbound(headers, body)) is None
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        found = aftership.verify(aftership.inbound(headers, bytes(changed)))
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (401, "aftership-hmac-sha256")


def test_the_header_of_another_product_is_no_proof(case: Callable[..., Any]) -> None:
    aftership = case(CARRIER, webhook_secret="new,old")
    headers, body = aftership_request({"a": 1}, secret="old")
    assert aftership.verify(aftership.inbound(headers, body)) is None
    other = {"as-signature-hmac-sha256": headers["aftership-hmac-sha256"]}
    assert aftership.verify(aftership.inbound(other, body)) is not None


# ---- asked ----


def test_questions_are_exact(case: Callable[..., Any]) -> None:
    aftership = case(CARRIER, api_key="asat_x", slug="ups")
    call = aftership.ask(N, "B&2")
    root = "https://api.aftership.com/tracking/2026-07/trackings"
    assert (call.method, call.url) == ("GET", f"{root}?tracking_numbers={N}%2CB%262")
    assert call.headers["as-api-key"] == "asat_x"
    assert CARRIER.follow is not None
    call = CARRIER.follow.build([N], aftership.context)
    assert (call.method, call.url) == ("POST", root)
    assert json.loads(call.body) == {"tracking_number": N, "slug": "ups"}


def test_each_number_has_its_own_reading_and_the_newest_tracking_speaks(aftership: Any) -> None:
    old, new = aftership.recorded("shipped")["msg"], aftership.recorded("delivered")["msg"]
    old["updated_at"] = "2025-01-01T00:00:00+00:00"
    found = aftership.readings({"meta": {"code": 200}, "data": {"trackings": [new, old]}}, N, "OTHER")
    assert [one.status for one in found[N]] == [S.DELIVERED]
    assert found["OTHER"] == ()


def test_pushed_and_asked_for_it_is_the_same_event(aftership: Any) -> None:
    body = aftership.recorded("without_a_zone")
    (asked,) = aftership.reading({"meta": {"code": 200}, "data": {"trackings": [body["msg"]]}}, N)
    assert asked.key == aftership.pushed(body).key


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, 4003, Accepted(code="exists")),
        (404, 4004, Rejected(FailureKind.PERMANENT, "aftership_4004")),
        (400, 4005, Rejected(FailureKind.PERMANENT, "aftership_4005")),
        (400, 4010, Rejected(FailureKind.PERMANENT, "aftership_4010")),
        (400, 4012, Rejected(FailureKind.PERMANENT, "aftership_4012")),
        (400, 4013, Rejected(FailureKind.PERMANENT, "aftership_4013")),
        (400, 4016, Rejected(FailureKind.PERMANENT, "aftership_4016")),
        (400, 4017, Rejected(FailureKind.PERMANENT, "aftership_4017")),
        (401, 401, Rejected(FailureKind.AUTH, "aftership_http_401")),
        (429, 429, Deferred(FailureKind.RATE, "aftership_http_429")),
        (500, 500, Deferred(FailureKind.TRANSIENT, "aftership_http_500")),
    ],
)
def test_an_error_is_read_by_its_code_first(status: int, code: int, expected: Any, aftership: Any) -> None:
    assert CARRIER.follow is not None
    body = json.dumps({"meta": {"code": code, "message": "x"}, "data": {}}).encode()
    assert CARRIER.follow.read(Answer(status, {}, body), [N], aftership.context)[N] == expected
