"""DHL: every code within its division, returns filed as deliveries, and times without a zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ordernotify.carriers.dhl import CARRIER
from ordernotify.core.delivery import Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care, merge

S = OrderStatus
N = "7777777770"
FIRST, ALSO, NOBODY = Care.FIRST, Care.ALSO, Care.NOBODY

CODES: list[tuple[str, S | None, str, Care, str]] = [
    ("express", S.PROCESSING, "", NOBODY, "104"),
    ("express", S.SHIPPED, "", NOBODY, "PU SA AF AR DF PL SM TR FD PO RR CR BR BN IC 102"),
    ("express", S.OUT_FOR_DELIVERY, "", NOBODY, "WC"),
    ("express", S.OUT_FOR_DELIVERY, "available_for_pickup", NOBODY, "CC"),
    ("express", S.DELIVERED, "", NOBODY, "OK 101"),
    ("express", S.DELIVERED, "", ALSO, "PD DD"),
    ("express", S.DELAYED, "", NOBODY, "NH ND MD BA CM OH SS MS MC HP CA"),
    ("express", S.DELAYED, "", ALSO, "103"),
    ("express", S.REGULATORY_HOLD, "customs", NOBODY, "CD"),
    ("express", S.DELAYED, "customs", NOBODY, "UD"),
    ("express", S.RETURNED, "returning", NOBODY, "RD"),
    ("express", S.RETURNED, "returned", NOBODY, "RT"),
    ("express", None, "", NOBODY, "AD CS SC PY"),
    ("express", S.DELAYED, "", FIRST, "DS"),
    ("express", None, "", FIRST, "TP"),
    ("parcel-de", S.SHIPPED, "", NOBODY, "ZO"),
    ("parcel-de", S.OUT_FOR_DELIVERY, "", NOBODY, "PO"),
    ("parcel-de", S.OUT_FOR_DELIVERY, "available_for_pickup", NOBODY, "LA ZF"),
    ("parcel-de", S.DELIVERED, "", NOBODY, "ZU"),
    ("parcel-de", S.DELAYED, "", NOBODY, "BV ZN"),
    ("parcel-de", None, "", NOBODY, "DD"),
    ("parcel-nl", S.OUT_FOR_DELIVERY, "", NOBODY, "OUT_FOR_DELIVERY LOAD_VEHICLE PARCEL_INTO_FALLBACK"),
    ("parcel-nl", S.REGULATORY_HOLD, "", FIRST, "SHIPMENT_INTERCEPT SHIPMENT_STOPPED DENIED_PARTIES"),
    ("parcel-nl", S.REGULATORY_HOLD, "", FIRST, "SHIPMENT_INSPECTION_REJECTED"),
    ("parcel-nl", S.DELAYED, "customs", NOBODY, "CLEARANCE_DELAY UNCONTROLLABLE_CLEARANCE_DELAY DUTY_INVOICE"),
    ("parcel-nl", S.DELAYED, "customs", NOBODY, "SHIPMENT_INSPECTION_ON_HOLD"),
    ("parcel-nl", S.RETURNED, "returning", NOBODY, "CUSTOMS_DATA_INCORRECT_RETURN_TO_SHIPPER"),
    ("parcel-nl", S.SHIPPED, "", NOBODY, "BONDED_LOCATION BREAK_BULK_SHIPMENT_PROCESSED_BY_CUSTOMS"),
    ("parcel-nl", S.SHIPPED, "", NOBODY, "BROKER_RELEASED CLEARANCE_RELEASE IN_CLEARANCE_PROCESS"),
    ("parcel-nl", S.SHIPPED, "", NOBODY, "PREPROCESS_HANDOVER_TO_EXPORT_CUSTOMS SHIPMENT_INSPECTION"),
    ("parcel-nl", S.SHIPPED, "", NOBODY, "PREPROCESS_HANDOVER_TO_IMPORT_CUSTOMS SHIPMENT_INSPECTION_RELEASED"),
    ("parcel-nl", S.SHIPPED, "", NOBODY, "VAT_AND_DUTY_PAYMENT_RECEIVED_BY_RECEIVER"),
    ("parcel-pl", S.SHIPPED, "", NOBODY, "EDB EDC EXA EXC SEC"),
    ("ecommerce", S.OUT_FOR_DELIVERY, "", NOBODY, "544 597 598"),
    ("ecommerce", S.REGULATORY_HOLD, "customs", NOBODY, "443 506 507 453"),
    ("ecommerce", S.DELAYED, "customs", NOBODY, "508 240 503"),
    ("ecommerce", S.DELAYED, "customs", ALSO, "448 107 608 588"),
    ("ecommerce", S.RETURNED, "returning", NOBODY, "108 602 800 802 804 806 808 810 811 813 815 816 817 818 820"),
    ("ecommerce", S.RETURNED, "returning", NOBODY, "821 849 853 854 855 856 857 858 859 862"),
    ("ecommerce", S.RETURNED, "returned", NOBODY, "860 863 864"),
    ("ecommerce", None, "", FIRST, "880 881 882 883 884 885 886 887"),
    ("ecommerce", S.SHIPPED, "", NOBODY, "441 442 447 449 452 463 464 501 502 509 241 504 242 805"),
    ("ecommerce", S.DELAYED, "", NOBODY, "844"),
    ("ecommerce", S.DELAYED, "", ALSO, "809"),
    ("ecommerce", None, "", NOBODY, "807 867 868 869 870 871 872"),
    ("ecommerce", S.DELAYED, "", FIRST, "825"),
    ("ecommerce-europe", S.SHIPPED, "", NOBODY, "130 133"),
    ("ecommerce-europe", S.RETURNED, "returning", NOBODY, "259"),
    ("ecommerce-ppl", S.OUT_FOR_DELIVERY, "available_for_pickup", NOBODY, "343"),
    ("ecommerce-ppl", S.DELIVERED, "", NOBODY, "450"),
    ("ecommerce-ppl", S.RETURNED, "returning", NOBODY, "464"),
    ("ecommerce-ppl", S.DELAYED, "", FIRST, "997"),
    ("ecommerce-ppl", None, "", FIRST, "999"),
    ("freight", S.OUT_FOR_DELIVERY, "", NOBODY, "24-501"),
    ("freight", S.REGULATORY_HOLD, "customs", NOBODY, "20-126"),
    ("freight", S.DELAYED, "customs", ALSO, "55-126"),
    ("freight", S.SHIPPED, "", NOBODY, "12-0"),
    ("dgf", S.OUT_FOR_DELIVERY, "", NOBODY, "OUT_FOR_DELIVERY"),
    ("dgf", S.REGULATORY_HOLD, "customs", NOBODY, "HELD_AT_CUSTOMS"),
    ("dgf", S.SHIPPED, "", NOBODY, "ARRIVED_AT_CUSTOMS CLEARED_BY_CUSTOMS"),
    ("svb", S.OUT_FOR_DELIVERY, "", NOBODY, "IN_DELIVERY"),
    ("svb", S.REGULATORY_HOLD, "customs", NOBODY, "HELD_BY_CUSTOMS"),
    ("svb", S.SHIPPED, "", NOBODY, "HANDOVER_CUSTOMS IP_CUSTOMS"),
    ("svb", S.RETURNED, "returning", NOBODY, "SENT_BACK SENT_BACK_ABROAD"),
    ("svb", S.RETURNED, "returned", NOBODY, "RETURNED_TO_SENDER"),
]
ROWS = [(service, code, *row) for service, *row, codes in CODES for code in codes.split()]


@pytest.fixture
def dhl(case: Callable[..., Any]) -> Any:
    return case(CARRIER)


def with_status(body: Any, *, service: str, status: str, common: str, words: str = "text") -> Any:
    shipment = body["shipments"][0]
    shipment["service"] = service
    said = {"status": status, "statusCode": common, "description": words}
    shipment["status"] |= said
    shipment["events"][0] |= said
    return body


def test_the_table_has_every_code_and_no_other() -> None:
    common = {"pre-transit", "transit", "delivered", "failure", "unknown"}
    assert {f"{row[0]}/{row[1]}" for row in ROWS} | common == set(CARRIER.statuses)


@pytest.mark.parametrize(("service", "code", "status", "detail", "care"), ROWS)
@pytest.mark.parametrize("common", ["transit", "delivered"])
def test_a_code_of_a_division_means_what_its_row_says(
    common: str, service: str, code: str, status: S | None, detail: str, care: Care, dhl: Any
) -> None:
    body = with_status(dhl.recorded("shipped"), service=service, status=code, common=common)
    *_, event = dhl.reading(body, N)
    assert (event.status, event.detail, event.care) == (status, detail, care)
    assert event.raw_code == f"{service}/{code}"


@pytest.mark.parametrize(
    ("common", "words", "status", "detail", "care"),
    [
        ("pre-transit", "text", S.PROCESSING, "", NOBODY),
        ("transit", "text", S.SHIPPED, "", NOBODY),
        ("delivered", "text", S.DELIVERED, "", NOBODY),
        ("delivered", "Returned to shipper", S.RETURNED, "returned", NOBODY),
        ("delivered", "Please return the form", S.DELIVERED, "", NOBODY),
        ("failure", "text", S.DELAYED, "", ALSO),
        ("failure", "Return initiated", S.RETURNED, "returning", ALSO),
        ("unknown", "text", None, "", NOBODY),
        ("lost-in-space", "text", S.UNKNOWN, "", FIRST),
    ],
)
@pytest.mark.parametrize(("service", "code"), [("dsc", "XYZ"), ("sameday", ""), ("ecommerce-europe", "258")])
def test_without_a_row_the_common_status_speaks(
    service: str, code: str, common: str, words: str, status: S | None, detail: str, care: Care, dhl: Any
) -> None:
    body = with_status(dhl.recorded("shipped"), service=service, status=code, common=common, words=words)
    *_, event = dhl.reading(body, N)
    assert (event.status, event.detail, event.care) == (status, detail, care)
    assert event.raw_code == f"{service}/{code or common}"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("processing", S.PROCESSING),
        ("shipped", S.SHIPPED),
        ("out_for_delivery", S.OUT_FOR_DELIVERY),
        ("pickup", S.OUT_FOR_DELIVERY),
        ("delivered", S.DELIVERED),
        ("delayed", S.DELAYED),
        ("regulatory_hold", S.REGULATORY_HOLD),
        ("clearance_delay", S.DELAYED),
        ("returned", S.RETURNED),
        ("returned_filed_as_delivered", S.RETURNED),
        ("held_filed_as_transit", S.REGULATORY_HOLD),
        ("return_in_words_only", S.RETURNED),
        ("number_as_number", S.OUT_FOR_DELIVERY),
    ],
)
def test_a_recorded_answer_is_a_story_in_order(name: str, status: S, dhl: Any) -> None:
    first, last = dhl.reading(dhl.recorded(name), N)
    assert first.status is S.SHIPPED
    assert last.occurred_at == datetime(2026, 11, 24, 7, 53, 47, tzinfo=UTC)
    assert (last.status, last.title, last.estimated_delivery) == (status, "DHL", date(2026, 11, 25))


def test_a_flight_over_the_date_line_does_not_turn_the_story_around(dhl: Any) -> None:
    events = dhl.reading(dhl.recorded("date_line"), N)
    assert [one.raw_code for one in events] == ["express/PU", "express/DF", "express/AR"]
    times = [one.occurred_at for one in events]
    assert times == sorted(set(times))
    assert times[-1] - dhl.now < timedelta(seconds=1)


def test_two_events_alone_keep_their_order_over_the_date_line(dhl: Any) -> None:
    body = dhl.recorded("date_line")
    del body["shipments"][0]["events"][2]
    assert [one.raw_code for one in dhl.reading(body, N)] == ["express/DF", "express/AR"]
    body["shipments"][0]["events"].reverse()
    assert [one.raw_code for one in dhl.reading(body, N)] == ["express/DF", "express/AR"]


def test_asked_again_later_it_is_the_same_story(dhl: Any) -> None:
    body = dhl.recorded("date_line")
    first = merge(dhl.reading(body, N))
    later = type(dhl)(dhl.carrier, dhl.values, dhl.now.replace(hour=20))
    assert merge(first, later.reading(body, N)) == first


def test_of_several_divisions_the_one_with_the_number_and_the_latest_word_speaks(dhl: Any) -> None:
    body, other = dhl.recorded("out_for_delivery"), dhl.recorded("delivered")["shipments"][0]
    other["id"], other["status"]["timestamp"] = "1111111111", "2026-11-24T09:00:00"
    body["shipments"].append(other)
    assert dhl.reading(body, N)[-1].status is S.OUT_FOR_DELIVERY
    other["id"] = int(N)
    assert dhl.reading(body, N)[-1].status is S.DELIVERED


def test_a_status_that_is_newer_than_the_events_is_told_too(dhl: Any) -> None:
    body = dhl.recorded("shipped")
    body["shipments"][0]["status"] |= {"timestamp": "2026-11-24T09:00:00", "status": "WC"}
    events = dhl.reading(body, N)
    assert [one.status for one in events] == [S.SHIPPED, S.SHIPPED, S.OUT_FOR_DELIVERY]


@pytest.mark.parametrize(
    ("status", "name", "expected"),
    [
        (404, "not_found", ()),
        (401, "error_key", Rejected(FailureKind.AUTH, "dhl_http_401")),
        (429, "error_key", Deferred(FailureKind.RATE, "dhl_http_429")),
        (500, "error_key", Deferred(FailureKind.TRANSIENT, "dhl_http_500")),
        (400, "error_key", Rejected(FailureKind.PERMANENT, "dhl_http_400")),
    ],
)
def test_an_error_is_what_its_status_says(status: int, name: str, expected: Any, dhl: Any) -> None:
    assert dhl.reading(dhl.recorded(name), N, status=status) == expected


def test_a_question_is_exact(case: Callable[..., Any]) -> None:
    dhl = case(CARRIER, api_key="key", service="express", requester_country="US")
    call = dhl.ask("77 7&7")
    assert (call.method, call.url) == (
        "GET",
        (
            "https://api-eu.dhl.com/track/shipments"
            "?trackingNumber=77+7%267&service=express&requesterCountryCode=US&language=en"
        ),
    )
    assert call.headers["dhl-api-key"] == "key"
    assert "service" not in case(CARRIER).ask(N).url


def test_its_quota_is_that_of_a_new_key() -> None:
    assert (250, 86_400) in [(one.calls, one.seconds) for one in CARRIER.quota]
