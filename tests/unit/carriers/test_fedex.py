"""FedEx: every code, failures inside a success, numbers used again, and signed pushes with or without a wrapper."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from ordernotify.carriers._base import Pushed
from ordernotify.carriers.fedex import CARRIER
from ordernotify.core.delivery import Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care, latest, merge
from ordernotify.platforms._base import Refusal
from ordernotify.sandbox.carrier_senders import fedex_request

S = OrderStatus
N = "123456789012"
FIRST, NOBODY = Care.FIRST, Care.NOBODY

CODES: list[tuple[S | None, str, Care, str]] = [
    (S.PROCESSING, "", NOBODY, "OC OX MD IN DS DR EP AP SH"),
    (S.SHIPPED, "", NOBODY, "PU PX DO Ow AA AC AF AR AX DP IT IX FD LO OF PF PL PM SF TR EA EO AO AE CC CP CH BR TP"),
    (S.SHIPPED, "customs", NOBODY, "CU"),
    (S.OUT_FOR_DELIVERY, "", NOBODY, "OD ED AD"),
    (S.OUT_FOR_DELIVERY, "available_for_pickup", NOBODY, "HL HP"),
    (S.DELIVERED, "", NOBODY, "DL"),
    (S.DELAYED, "", NOBODY, "DE DD DY SE RL PD"),
    (S.DELAYED, "customs", NOBODY, "CD"),
    (S.RETURNED, "returning", NOBODY, "RS"),
    (S.RETURNED, "returned", NOBODY, "RT"),
    (None, "", NOBODY, "RR RM RC RP LP RG RD SP HA US"),
    (None, "", FIRST, "CA"),
    (S.UNKNOWN, "", FIRST, "ZZ ow"),
]
ROWS = [(code, status, detail, care) for status, detail, care, row in CODES for code in row.split()]


@pytest.fixture
def fedex(case: Callable[..., Any]) -> Any:
    return case(CARRIER)


def result_of(body: Any) -> Any:
    return body["output"]["completeTrackResults"][0]["trackResults"][-1]


def test_the_table_has_every_code_and_no_other() -> None:
    assert {row[0] for row in ROWS} - {"ZZ", "ow"} == set(CARRIER.statuses)


@pytest.mark.parametrize(("code", "status", "detail", "care"), ROWS)
def test_a_code_means_what_its_row_says(code: str, status: S | None, detail: str, care: Care, fedex: Any) -> None:
    body = fedex.recorded("shipped")
    result = result_of(body)
    result["latestStatusDetail"] |= {"code": code, "description": "", "statusByLocale": ""}
    result["scanEvents"][0] |= {"eventType": "PU", "eventDescription": ""}
    *_, event = fedex.reading(body, N)
    assert (event.status, event.detail, event.care, event.raw_code) == (status, detail, care, code)
    del result["latestStatusDetail"]
    result["scanEvents"][0]["eventType"] = code
    *_, event = fedex.reading(body, N)
    assert (event.status, event.raw_code) == (status, code)


@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [
        ("processing", S.PROCESSING, ""),
        ("shipped", S.SHIPPED, ""),
        ("origin_facility", S.SHIPPED, ""),
        ("out_for_delivery", S.OUT_FOR_DELIVERY, ""),
        ("pickup", S.OUT_FOR_DELIVERY, "available_for_pickup"),
        ("delivered", S.DELIVERED, ""),
        ("delayed", S.DELAYED, ""),
        ("delay_on_the_way", S.DELAYED, "weather"),
        ("early", S.SHIPPED, ""),
        ("clearance_delay", S.DELAYED, "customs"),
        ("regulatory_hold", S.REGULATORY_HOLD, "customs"),
        ("returned", S.RETURNED, "returning"),
        ("cancelled", None, ""),
        ("later_date", S.DELAYED, ""),
        ("number_used_before", S.SHIPPED, ""),
    ],
)
def test_a_recorded_answer_is_a_story_in_order(name: str, status: S | None, detail: str, fedex: Any) -> None:
    first, last = fedex.reading(fedex.recorded(name), N)
    assert (first.status, first.occurred_at) == (S.SHIPPED, datetime(2026, 11, 22, 23, 2, tzinfo=UTC))
    assert last.occurred_at == datetime(2026, 11, 24, 12, 13, tzinfo=UTC)
    assert (last.status, last.detail, last.title) == (status, detail, "FedEx")


@pytest.mark.parametrize("reason", ["License required", "FDA agency review", "Documents are missing", "Embargo"])
def test_a_clearance_delay_that_names_an_authority_or_papers_is_a_hold(reason: str, fedex: Any) -> None:
    body = fedex.recorded("clearance_delay")
    result_of(body)["scanEvents"][0]["exceptionDescription"] = reason
    assert fedex.reading(body, N)[-1].status is S.REGULATORY_HOLD


def test_ca_is_cancelled_unless_its_text_is_that_of_the_other_group(fedex: Any) -> None:
    body = fedex.recorded("cancelled")
    assert fedex.reading(body, N)[-1].care is FIRST
    words = {"description": "In carrier possession", "statusByLocale": "Carrier"}
    result_of(body)["latestStatusDetail"] |= words
    result_of(body)["scanEvents"][0]["eventDescription"] = ""
    assert fedex.reading(body, N)[-1].status is S.SHIPPED
    result_of(body)["latestStatusDetail"]["description"] = "Cancelled by carrier"
    assert fedex.reading(body, N)[-1].care is FIRST


def test_a_delay_that_begins_later_is_an_event_of_its_own(fedex: Any) -> None:
    before = fedex.recorded("delay_on_the_way")
    del result_of(before)["latestStatusDetail"]["delayDetail"]
    known = merge(fedex.reading(before, N))
    after = merge(known, fedex.reading(fedex.recorded("delay_on_the_way"), N))
    assert len(after) == len(known) + 1
    newest = latest(after)
    assert newest is not None
    assert newest.status is S.DELAYED


def test_an_update_without_a_later_day_changes_nothing(fedex: Any) -> None:
    body = fedex.recorded("later_date")
    result_of(body)["dateAndTimes"][1]["dateTime"] = "2026-11-24T00:00:00"
    assert fedex.reading(body, N)[-1].status is None


def test_days_are_read_from_times_with_and_without_a_zone(fedex: Any) -> None:
    assert fedex.reading(fedex.recorded("shipped"), N)[-1].estimated_delivery == date(2026, 11, 24)
    assert fedex.reading(fedex.recorded("later_date"), N)[-1].estimated_delivery == date(2026, 11, 27)


def test_thirty_numbers_are_asked_for_at_once_and_each_has_its_own_reading(fedex: Any) -> None:
    assert CARRIER.batch == 30
    call = fedex.ask(N, "123456789013", "123456789014", "123456789015")
    assert (call.method, call.url) == ("POST", "https://apis.fedex.com/track/v1/trackingnumbers")
    asked = json.loads(call.body)
    assert asked["includeDetailedScans"] is True
    numbers = [one["trackingNumberInfo"]["trackingNumber"] for one in asked["trackingInfo"]]
    assert numbers == [N, "123456789013", "123456789014", "123456789015"]
    body = fedex.recorded("shipped")
    results = body["output"]["completeTrackResults"]
    results += fedex.recorded("not_found")["output"]["completeTrackResults"]
    results[1]["trackingNumber"] = "123456789013"
    results.append({"trackingNumber": "123456789014", "trackResults": [{"error": {"code": "NOT.KNOWN"}}]})
    found = fedex.readings(body, N, "123456789013", "123456789014", "123456789015")
    assert len(found[N]) == 2
    assert found["123456789013"] == found["123456789015"] == ()
    assert found["123456789014"] == Rejected(FailureKind.PERMANENT, "fedex_http_200")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "NOT.AUTHORIZED.ERROR", Rejected(FailureKind.AUTH, "fedex_NOT.AUTHORIZED.ERROR")),
        (403, "FORBIDDEN.ERROR", Rejected(FailureKind.CONFIG, "fedex_FORBIDDEN.ERROR")),
        (404, "TRACKING.TRACKINGNUMBER.NOTFOUND", ()),
        (404, "TRACKING.DATA.NOTFOUND", ()),
        (400, "TRACKING.TRACKINGNUMBER.EMPTY", Rejected(FailureKind.PERMANENT, "fedex_TRACKING.TRACKINGNUMBER.EMPTY")),
        (500, "INTERNAL.SERVER.ERROR", Deferred(FailureKind.TRANSIENT, "fedex_INTERNAL.SERVER.ERROR")),
        (503, "SERVICE.UNAVAILABLE.ERROR", Deferred(FailureKind.TRANSIENT, "fedex_SERVICE.UNAVAILABLE.ERROR")),
        (429, "", Deferred(FailureKind.RATE, "fedex_http_429")),
        (403, "", Rejected(FailureKind.AUTH, "fedex_http_403")),
    ],
)
def test_an_error_is_read_by_its_code_first(status: int, code: str, expected: Any, fedex: Any) -> None:
    assert fedex.reading({"errors": [{"code": code, "message": "x"}]}, N, status=status) == expected


def test_a_token_is_asked_for_with_a_form(case: Callable[..., Any]) -> None:
    fedex = case(CARRIER, client_id="l7 x", client_secret="h&sh")
    assert CARRIER.token is not None
    call = CARRIER.token.build(fedex.context)
    assert call.url == "https://apis.fedex.com/oauth/token"
    assert call.body == b"grant_type=client_credentials&client_id=l7+x&client_secret=h%26sh"


# ---- pushes ----


def test_the_vector_is_genuine_and_one_flipped_bit_is_not(case: Callable[..., Any]) -> None:
    fedex = case(CARRIER, push_token="FedexSecurityToken0000000001")
    body = b'{"output":{"trackingNumber":"123456789012"}}'
    headers = {"fdx-signature": "FZg2xBWhHzN8IsdBNey9XCtjtP6MmVUDzCbVXi5sCl8="}
    assert fedex.verify(fedex.inbound(headers, body)) is None
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        found = fedex.verify(fedex.inbound(headers, bytes(changed)))
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (401, "fdx-signature")


def test_a_push_is_read_with_and_without_its_wrapper(fedex: Any) -> None:
    body = fedex.recorded("out_for_delivery")
    complete = body["output"]["completeTrackResults"][0]
    result = complete["trackResults"][0]
    asked = fedex.reading(body, N)
    for pushed in (body, {"output": complete}, complete, {"output": result}, result):
        found = fedex.push(pushed)
        assert isinstance(found, Pushed), pushed
        assert found.events == asked


def test_fedex_takes_only_200_or_202_for_success() -> None:
    assert CARRIER.push is not None
    assert CARRIER.push.status in {200, 202}


def test_a_push_signed_by_the_sandbox_is_genuine_under_either_secret(case: Callable[..., Any]) -> None:
    fedex = case(CARRIER, push_token="new,old")
    for token in ("new", "old"):
        headers, body = fedex_request(fedex.recorded("shipped"), token=token)
        assert fedex.verify(fedex.inbound(headers, body)) is None


@pytest.mark.parametrize(
    "body",
    [
        {"output": 7},
        {"output": {"completeTrackResults": []}},
        {"output": {"completeTrackResults": [{"trackResults": [{}]}]}},
    ],
)
def test_a_push_without_a_number_is_refused_by_field(body: Any, fedex: Any) -> None:
    found = fedex.push(body)
    assert isinstance(found, Refusal)
    assert found.field in {"output", "trackingNumber"}


def test_scans_without_a_zone_keep_the_order_in_which_they_are_listed(fedex: Any) -> None:
    body = fedex.recorded("out_for_delivery")
    newest, older = result_of(body)["scanEvents"]
    older["date"], newest["date"] = "2026-11-24T07:12:00-05:00", "2026-11-24T07:13:00"
    first, last = fedex.reading(body, N)
    assert (first.status, last.status) == (S.SHIPPED, S.OUT_FOR_DELIVERY)
    assert first.occurred_at < last.occurred_at
    assert latest(merge([last, first])) == last
