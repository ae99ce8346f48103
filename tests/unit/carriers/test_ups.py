"""UPS: every status code, both faces of not found, alerts with their credential, and its errors."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pytest

from ordernotify.carriers._base import Pushed
from ordernotify.carriers.ups import CARRIER
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care
from ordernotify.platforms._base import Answer, Refusal, Token
from ordernotify.sandbox.carrier_senders import ups_request

S = OrderStatus
N = "1Z999AA10123456784"
FIRST, ALSO, NOBODY = Care.FIRST, Care.ALSO, Care.NOBODY

CODES: list[tuple[S | None, str, Care, str]] = [
    (S.PROCESSING, "", NOBODY, "3 79 80 157 166 77 44 45 65 131 135"),
    (S.SHIPPED, "", NOBODY, "38 160 167 168 169 5 10 25 39 47 57 71 73 74 75 87 94 137 158 159 164 165 16 138"),
    (S.SHIPPED, "", NOBODY, "12 92 14 84 134"),
    (S.OUT_FOR_DELIVERY, "", NOBODY, "6 21 37 72 78 89 91 146 162"),
    (S.OUT_FOR_DELIVERY, "available_for_pickup", NOBODY, "17 40 144 161"),
    (S.OUT_FOR_DELIVERY, "with_agent", ALSO, "143"),
    (S.DELIVERED, "", NOBODY, "11 26"),
    (S.DELAYED, "", NOBODY, "13 30 76 46 48 86 90 132 55 70 19 83 85 104 139"),
    (S.DELAYED, "weather", NOBODY, "32 51 52 53"),
    (S.DELAYED, "delivery_attempted", NOBODY, "22 23 24 60 61 62 66 145"),
    (S.DELAYED, "", ALSO, "29 49 59 68 69 93 127 128 129 130 140 142"),
    (S.DELAYED, "address_issue", ALSO, "50"),
    (S.REGULATORY_HOLD, "customs", NOBODY, "58 124 125 141 123 126"),
    (S.REGULATORY_HOLD, "", FIRST, "147 149"),
    (S.RETURNED, "returning", NOBODY, "64 35 36 117 118"),
    (S.RETURNED, "returned", NOBODY, "34 67 81"),
    (None, "", FIRST, "7 43"),
    (None, "", NOBODY, "18 20 27 28 33 41 42 54 56 63 82 133 136 153 154 155 156 0 88 148 163"),
    (None, "", NOBODY, " ".join(map(str, [*range(95, 104), *range(105, 117), *range(119, 123)]))),
]
ROWS = [(code.zfill(3), status, detail, care) for status, detail, care, row in CODES for code in row.split()]


@pytest.fixture
def ups(case: Callable[..., Any]) -> Any:
    return case(CARRIER)


def with_status(body: Any, status: dict[str, Any]) -> Any:
    package = body["trackResponse"]["shipment"][0]["package"][0]
    package["activity"][0]["status"] = status
    package["currentStatus"] = status
    return body


def test_the_table_has_every_published_code_and_no_other() -> None:
    assert {row[0] for row in ROWS} == set(CARRIER.statuses)
    assert len(ROWS) == len(CARRIER.statuses) == 160


@pytest.mark.parametrize(("code", "status", "detail", "care"), ROWS)
def test_a_code_means_what_its_row_says_asked_or_pushed(
    code: str, status: S | None, detail: str, care: Care, ups: Any
) -> None:
    said = {"type": "X", "code": "DP", "statusCode": code, "description": "text"}
    *_, newest = ups.reading(with_status(ups.recorded("shipped"), said), N)
    alert = ups.recorded("alert") | {"activityStatus": {"type": "X", "code": "DP", "descriptionCode": int(code)}}
    for event in (newest, ups.pushed(alert)):
        assert (event.status, event.detail, event.care, event.raw_code) == (status, detail, care, code)


@pytest.mark.parametrize(
    ("kind", "letters", "status", "care"),
    [
        ("D", "FS", S.DELIVERED, NOBODY),
        ("M", "MP", S.PROCESSING, NOBODY),
        ("MV", "VP", None, FIRST),
        ("X", "DP", S.DELAYED, NOBODY),
        ("I", "DP", S.SHIPPED, NOBODY),
        ("I", "OT", S.OUT_FOR_DELIVERY, NOBODY),
        ("I", "OF", S.OUT_FOR_DELIVERY, NOBODY),
        ("I", "OD", S.OUT_FOR_DELIVERY, NOBODY),
        ("X", "OT", S.DELAYED, NOBODY),
        ("P", "PU", S.SHIPPED, NOBODY),
        ("U", "XX", None, NOBODY),
        ("DO", "X", S.SHIPPED, NOBODY),
        ("DD", "X", S.SHIPPED, NOBODY),
        ("W", "X", S.SHIPPED, NOBODY),
        ("NA", "", None, NOBODY),
        ("ZZ", "X", S.UNKNOWN, FIRST),
    ],
)
def test_without_a_code_the_type_speaks(kind: str, letters: str, status: S | None, care: Care, ups: Any) -> None:
    said = {"type": kind, "code": letters, "description": "text"}
    *_, event = ups.reading(with_status(ups.recorded("shipped"), said), N)
    assert (event.status, event.care) == (status, care)
    assert event.raw_code == f"{kind}/{letters}".strip("/")


def test_an_unknown_code_is_for_a_person_and_keeps_its_word(ups: Any) -> None:
    said = {"type": "D", "code": "FS", "statusCode": "999"}
    *_, event = ups.reading(with_status(ups.recorded("delivered"), said), N)
    assert (event.status, event.care, event.raw_code) == (S.UNKNOWN, FIRST, "999")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("processing", S.PROCESSING),
        ("shipped", S.SHIPPED),
        ("clearance", S.SHIPPED),
        ("out_for_delivery", S.OUT_FOR_DELIVERY),
        ("pickup", S.OUT_FOR_DELIVERY),
        ("delivered", S.DELIVERED),
        ("delayed", S.DELAYED),
        ("attempted", S.DELAYED),
        ("regulatory_hold", S.REGULATORY_HOLD),
        ("seized", S.REGULATORY_HOLD),
        ("prohibited_departure", S.REGULATORY_HOLD),
        ("returned", S.RETURNED),
        ("voided", None),
    ],
)
def test_a_recorded_answer_is_a_story_in_order(name: str, status: S | None, ups: Any) -> None:
    first, last = ups.reading(ups.recorded(name), N)
    assert first.occurred_at == datetime(2026, 11, 20, 7, 47, tzinfo=UTC)  # written 74700
    assert last.occurred_at == datetime(2026, 11, 24, 12, 13, 56, tzinfo=UTC)
    assert (last.status, last.tracking_no, last.title) == (status, N, "UPS")


def test_the_put_off_day_counts_and_the_day_of_delivery_is_no_promise(ups: Any) -> None:
    assert ups.reading(ups.recorded("shipped"), N)[-1].estimated_delivery == date(2026, 11, 24)
    assert ups.reading(ups.recorded("delayed"), N)[-1].estimated_delivery == date(2026, 11, 26)
    assert ups.reading(ups.recorded("delivered"), N)[-1].estimated_delivery is None


def test_not_found_has_two_faces_and_neither_is_a_failure(ups: Any) -> None:
    assert ups.reading(ups.recorded("not_found"), N) == ()
    assert ups.reading({"response": {"errors": [{"code": "TW0001"}]}}, N, status=404) == ()


def test_of_several_packages_only_the_one_that_was_asked_for_speaks(ups: Any) -> None:
    body = ups.recorded("delivered")
    packages = body["trackResponse"]["shipment"][0]["package"]
    packages.append(ups.recorded("delayed")["trackResponse"]["shipment"][0]["package"][0])
    packages[1]["trackingNumber"] = "1Z999AA10000000001"
    assert ups.reading(body, N)[-1].status is S.DELIVERED
    assert ups.reading(body, "1Z999AA10000000001")[-1].status is S.DELAYED
    assert ups.reading(body, "MY-REFERENCE") == Rejected(FailureKind.PERMANENT, "ups_several_packages")


def test_a_question_is_exact(case: Callable[..., Any]) -> None:
    ups = case(CARRIER)
    call = ups.ask("1Z/9?A 1")
    assert call.method == "GET"
    assert call.url == (
        "https://onlinetools.ups.com/api/track/v1/details/1Z%2F9%3FA%201"
        "?locale=en_US&returnSignature=false&returnMilestones=false&returnPOD=false"
    )
    assert call.headers["authorization"] == "Bearer tok"
    assert call.headers["transactionSrc"] == "ordernotify"
    later = case(CARRIER)
    later.now += timedelta(seconds=1)
    assert call.headers["transId"] != later.ask("1Z/9?A 1").headers["transId"]


def test_ups_takes_only_numbers_of_its_length() -> None:
    assert CARRIER.takes.fullmatch(N)
    assert not CARRIER.takes.fullmatch("1Z9999")
    assert not CARRIER.takes.fullmatch("1" * 35)


def test_a_token_is_asked_for_with_basic_and_given_up_early(case: Callable[..., Any]) -> None:
    ups = case(CARRIER, client_id="id", client_secret="hush", merchant_id="A1B2C3")
    assert CARRIER.token is not None
    call = CARRIER.token.build(ups.context)
    assert (call.url, call.body) == (
        "https://onlinetools.ups.com/security/v1/oauth/token",
        b"grant_type=client_credentials",
    )
    assert call.headers["authorization"] == "Basic " + base64.b64encode(b"id:hush").decode()
    assert call.headers["x-merchant-id"] == "A1B2C3"
    token = CARRIER.token.read(Answer(200, {}, orjson.dumps(ups.recorded("token"))), ups.context)
    assert isinstance(token, Token)
    assert token.expires_at - ups.now == timedelta(seconds=14399) * 4 // 5
    refused = CARRIER.token.read(Answer(401, {}, b"{}"), ups.context)
    assert refused == Rejected(FailureKind.AUTH, "ups_token")
    assert CARRIER.token.read(Answer(503, {}, b""), ups.context) == Deferred(FailureKind.TRANSIENT, "ups_http_503")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "250002", Rejected(FailureKind.AUTH, "ups_250002")),
        (401, "251004", Rejected(FailureKind.AUTH, "ups_251004")),
        (401, "250003", Rejected(FailureKind.AUTH, "ups_250003")),
        (400, "TV1002", Rejected(FailureKind.PERMANENT, "ups_TV1002")),
        (429, "10429", Deferred(FailureKind.RATE, "ups_10429", retry_after_s=60.0)),
        (429, "", Deferred(FailureKind.RATE, "ups_http_429", retry_after_s=60.0)),
        (500, "other", Deferred(FailureKind.TRANSIENT, "ups_http_500")),
        (400, "other", Rejected(FailureKind.PERMANENT, "ups_http_400")),
    ],
)
def test_an_error_is_read_by_its_code_first(status: int, code: str, expected: Any, ups: Any) -> None:
    body = {"response": {"errors": [{"code": code, "message": "text"}]}}
    assert ups.reading(body, N, status=status) == expected


# ---- alerts ----


def test_an_alert_with_our_credential_is_genuine_and_any_other_is_not(ups: Any) -> None:
    headers, body = ups_request(ups.recorded("alert"), credential="one")
    both = type(ups)(CARRIER, {**ups.values, "push_credential": "one,two"})
    assert both.verify(ups.inbound(headers, body)) is None
    assert both.verify(ups.inbound({"x-api-key": "two"}, body)) is None
    for wrong in ("onf", "One", "one ", "", "\u00ff"):
        found = both.verify(ups.inbound({"credential": wrong}, body))
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (401, "credential")
    unset = type(ups)(CARRIER, {**ups.values, "push_credential": None})
    assert unset.verify(ups.inbound({"credential": "one"}, body)) is not None


def test_an_alert_and_an_answer_are_the_same_event(ups: Any) -> None:
    pushed = ups.pushed(ups.recorded("alert"))
    *_, asked = ups.reading(ups.recorded("out_for_delivery"), N)
    assert pushed.key == asked.key
    assert (pushed.status, pushed.estimated_delivery) == (S.OUT_FOR_DELIVERY, date(2026, 11, 24))


@pytest.mark.parametrize(
    ("status", "arrived", "expected"),
    [
        ({"type": "D", "code": "OT", "description": "Out for Delivery"}, "", S.OUT_FOR_DELIVERY),
        ({"type": "D", "code": "FS", "description": "Delivered"}, "", S.DELIVERED),
        ({"type": "D", "code": "FS", "description": "text"}, "20261124", S.DELIVERED),
        ({"type": "I", "code": "DP", "description": "text"}, "", S.SHIPPED),
        ({"type": "U", "code": "XX", "description": "text"}, "", None),
        ({"type": "D", "code": "FS", "description": "Delivered", "descriptionCode": "011"}, "", S.DELIVERED),
        ({"type": "D", "code": "FS", "description": "Delivered", "descriptionCode": 11}, "", S.DELIVERED),
    ],
)
def test_an_alert_of_type_d_is_a_delivery_only_when_it_is_one(
    status: dict[str, Any], arrived: str, expected: S | None, ups: Any
) -> None:
    body = ups.recorded("alert") | {"activityStatus": status, "actualDeliveryDate": arrived}
    assert ups.pushed(body).status is expected


def test_an_alert_needs_only_a_number_and_a_status(ups: Any) -> None:
    event = ups.pushed({"trackingNumber": N, "activityStatus": {"type": "I", "code": "DP", "description": "x"}})
    assert (event.status, event.occurred_at) == (S.SHIPPED, ups.now)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "trackingNumber"),
        ({"trackingNumber": "\u00e9\n"}, "trackingNumber"),
        ({"trackingNumber": N}, "activityStatus.type"),
        ({"trackingNumber": N, "activityStatus": "I"}, "activityStatus.type"),
    ],
)
def test_an_alert_that_lacks_them_is_refused_by_field(body: Any, field: str, ups: Any) -> None:
    found = ups.push(body)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


def test_subscriptions_name_only_packages_and_tell_which_were_taken(loop: Callable[..., Any]) -> None:
    one = loop(CARRIER)
    one.sign_in()
    found = one.follow(N, "T1234567890")
    assert found[N] == Accepted()
    assert found["T1234567890"] == Rejected(FailureKind.PERMANENT, "ups_not_subscribed")
    assert CARRIER.follow is not None
    assert CARRIER.follow.again_after is not None
    assert CARRIER.follow.again_after < timedelta(days=14)


def test_a_hostile_code_is_cleaned_before_it_is_kept(ups: Any) -> None:
    said = {"type": "I", "code": "<script>\n" + "A" * 500, "statusCode": ""}
    *_, event = ups.reading(with_status(ups.recorded("shipped"), said), N)
    assert len(event.raw_code) <= 100
    assert not set(event.raw_code) & set("<>\n")
    assert isinstance(ups.push(ups.recorded("alert")), Pushed)
