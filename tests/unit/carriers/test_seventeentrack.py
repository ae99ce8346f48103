"""17TRACK: every status, answers that take and refuse at once, its digest, and events without a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from ordernotify.carriers._base import Pushed
from ordernotify.carriers.seventeentrack import CARRIER
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care
from ordernotify.platforms._base import Answer, Refusal
from ordernotify.sandbox.carrier_senders import seventeentrack_request

S = OrderStatus
N = "RR123456789CN"
FIRST, ALSO, NOBODY = Care.FIRST, Care.ALSO, Care.NOBODY
AUTH, PERMANENT, QUOTA = FailureKind.AUTH, FailureKind.PERMANENT, FailureKind.QUOTA

CODES: list[tuple[str, S | None, str, Care, str]] = [
    ("NotFound", None, "", NOBODY, "NotFound NotFound_Other NotFound_Tomorrow"),
    ("NotFound", None, "", FIRST, "NotFound_InvalidCode"),
    ("InfoReceived", S.PROCESSING, "", NOBODY, "InfoReceived"),
    ("InTransit", S.SHIPPED, "", NOBODY, "InTransit InTransit_PickedUp InTransit_Departure InTransit_Arrival"),
    ("InTransit", S.SHIPPED, "", NOBODY, "InTransit_Other InTransit_CustomsProcessing InTransit_Tomorrow"),
    ("InTransit", S.SHIPPED, "", NOBODY, "InTransit_CustomsReleased"),
    ("InTransit", S.REGULATORY_HOLD, "customs", NOBODY, "InTransit_CustomsRequiringInformation"),
    ("OutForDelivery", S.OUT_FOR_DELIVERY, "", NOBODY, "OutForDelivery OutForDelivery_Other"),
    (
        "AvailableForPickup",
        S.OUT_FOR_DELIVERY,
        "available_for_pickup",
        NOBODY,
        "AvailableForPickup AvailableForPickup_Other",
    ),
    ("DeliveryFailure", S.DELAYED, "delivery_attempted", NOBODY, "DeliveryFailure_Other DeliveryFailure_NoBody"),
    ("DeliveryFailure", S.DELAYED, "address_issue", NOBODY, "DeliveryFailure_InvalidAddress"),
    ("DeliveryFailure", S.DELAYED, "", ALSO, "DeliveryFailure_Security"),
    ("DeliveryFailure", S.RETURNED, "returning", NOBODY, "DeliveryFailure_Rejected"),
    ("DeliveryFailure", S.UNKNOWN, "", FIRST, "DeliveryFailure_Tomorrow"),
    ("Delivered", S.DELIVERED, "", NOBODY, "Delivered Delivered_Other"),
    ("Exception", S.RETURNED, "returning", NOBODY, "Exception_Returning Exception_Rejected"),
    ("Exception", S.RETURNED, "returned", NOBODY, "Exception_Returned"),
    ("Exception", S.DELAYED, "", NOBODY, "Exception_Delayed Exception_NoBody Exception_Other"),
    ("Exception", S.DELAYED, "", FIRST, "Exception_Lost Exception_Damage Exception_Destroyed Exception_Security"),
    ("Exception", None, "", FIRST, "Exception_Cancel"),
    ("Exception", S.UNKNOWN, "", FIRST, "Exception Exception_Tomorrow"),
    ("Expired", None, "", FIRST, "Expired Expired_Other"),
    ("Dissolved", S.UNKNOWN, "", FIRST, "Dissolved_Other"),
]
ROWS = [(status, sub, *row) for status, *row, subs in CODES for sub in subs.split()]


@pytest.fixture
def track17(case: Callable[..., Any]) -> Any:
    return case(CARRIER)


def test_every_row_of_the_table_is_tested() -> None:
    assert set(CARRIER.statuses) <= {row[1] for row in ROWS}


@pytest.mark.parametrize(("status", "sub", "expected", "detail", "care"), ROWS)
def test_a_status_means_what_its_row_says(
    status: str, sub: str, expected: S | None, detail: str, care: Care, track17: Any
) -> None:
    body = track17.recorded("shipped")
    sub_status = "" if sub == status else sub
    body["data"]["track_info"]["latest_status"] = {"status": status, "sub_status": sub_status}
    event = track17.pushed(body)
    assert (event.status, event.detail, event.care, event.raw_code) == (expected, detail, care, sub)


@pytest.mark.parametrize(
    ("name", "status", "care"),
    [
        ("not_found", None, NOBODY),
        ("processing", S.PROCESSING, NOBODY),
        ("shipped", S.SHIPPED, NOBODY),
        ("out_for_delivery", S.OUT_FOR_DELIVERY, NOBODY),
        ("pickup", S.OUT_FOR_DELIVERY, NOBODY),
        ("attempted", S.DELAYED, NOBODY),
        ("delivered", S.DELIVERED, NOBODY),
        ("delayed", S.DELAYED, NOBODY),
        ("regulatory_hold", S.REGULATORY_HOLD, NOBODY),
        ("returned", S.RETURNED, NOBODY),
        ("lost", S.DELAYED, FIRST),
    ],
)
def test_a_recorded_webhook_is_one_event(name: str, status: S | None, care: Care, track17: Any) -> None:
    event = track17.pushed(track17.recorded(name))
    assert (event.status, event.care, event.tracking_no) == (status, care, N)
    assert event.occurred_at == datetime(2026, 11, 24, 12, 13, tzinfo=UTC)
    assert event.estimated_delivery == date(2026, 11, 25)


def test_an_event_without_an_exact_time_is_known_by_what_is_written(track17: Any) -> None:
    body = track17.recorded("delivered_without_a_time")
    event = track17.pushed(body)
    assert (event.status, event.event_id) == (S.DELIVERED, "2026-11-24 07:13:00")
    assert event.occurred_at == datetime(2026, 11, 24, 7, 13, tzinfo=UTC)
    body["data"]["track_info"]["latest_event"] = None
    event = track17.pushed(body)
    assert (event.occurred_at, event.event_id) == (track17.now, "without a time")


def test_a_local_time_with_its_zone_is_exact(track17: Any) -> None:
    body = track17.recorded("delivered_without_a_time")
    body["data"]["track_info"]["latest_event"]["time_raw"]["timezone"] = "-05:00"
    assert track17.pushed(body).occurred_at == datetime(2026, 11, 24, 12, 13, tzinfo=UTC)


def test_the_end_of_tracking_is_a_reason_to_ask(track17: Any) -> None:
    assert track17.push(track17.recorded("stopped")) == Pushed(ask=(N,))


def test_other_events_and_empty_ones_say_nothing(track17: Any) -> None:
    assert track17.push(track17.recorded("shipped") | {"event": "SOMETHING_NEW"}) == Pushed()
    assert track17.push({"event": "TRACKING_UPDATED", "data": {"number": N}}) == Pushed()


@pytest.mark.parametrize("data", [None, [], {}, {"number": " "}])
def test_a_webhook_without_a_number_is_refused_by_field(data: Any, track17: Any) -> None:
    found = track17.push({"event": "TRACKING_UPDATED", "data": data})
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "data.number")


# ---- its digest ----


def test_the_vector_is_genuine_and_one_flipped_bit_is_not(case: Callable[..., Any]) -> None:
    vector = case(CARRIER).recorded("signature")
    track17 = case(CARRIER, api_key=vector["api_key"])
    body, headers = vector["body"].encode(), {"sign": vector["signature"]}
    assert track17.verify(track17.inbound(headers, body)) is None
    assert track17.verify(track17.inbound({"sign": vector["signature"].upper()}, body)) is None
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        found = track17.verify(track17.inbound(headers, bytes(changed)))
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (401, "sign")


def test_both_keys_hold_while_one_is_replaced_and_the_first_is_used(case: Callable[..., Any]) -> None:
    track17 = case(CARRIER, api_key="new,old")
    for key, genuine in (("new", True), ("old", True), ("other", False), ("", False)):
        headers, body = seventeentrack_request({"a": 1}, api_key=key)
        assert (track17.verify(track17.inbound(headers, body)) is None) == genuine
    assert track17.ask(N).headers["17token"] == "new"


def test_without_a_key_nothing_is_genuine(case: Callable[..., Any]) -> None:
    track17 = case(CARRIER, api_key="")
    for suffix in (b"/", b""):
        signed = hashlib.sha256(b"{}" + suffix).hexdigest()
        assert track17.verify(track17.inbound({"sign": signed}, b"{}")) is not None


# ---- asked ----


def test_questions_are_exact(case: Callable[..., Any]) -> None:
    track17 = case(CARRIER, api_key="key")
    call = track17.ask(N, "B2")
    assert (call.method, call.url) == ("POST", "https://api.17track.net/track/v2.4/gettrackinfo")
    assert json.loads(call.body) == [{"number": N}, {"number": "B2"}]
    assert CARRIER.follow is not None
    assert CARRIER.follow.build([N], track17.context).url == "https://api.17track.net/track/v2.4/register"
    assert CARRIER.batch == CARRIER.follow.batch == 40


def test_one_answer_takes_and_refuses_at_once(track17: Any) -> None:
    assert CARRIER.follow is not None
    answer = Answer(200, {}, json.dumps(track17.recorded("registered")).encode())
    found = CARRIER.follow.read(answer, [N, "RR000000000CN", "X", "LEFT-OUT"], track17.context)
    assert found[N] == found["RR000000000CN"] == Accepted()
    assert found["X"] == Rejected(PERMANENT, "seventeentrack_-18019903")
    assert found["LEFT-OUT"] == Deferred(FailureKind.TRANSIENT, "seventeentrack_unreadable")


def test_pushed_and_asked_for_it_is_the_same_event(track17: Any) -> None:
    body = track17.recorded("delivered")
    item = body["data"] | {"carrier": "3011"}
    rejected = [{"number": "NEW", "carrier": "0", "error": {"code": -18019909, "message": "no information yet"}}]
    found = track17.readings({"code": 0, "data": {"accepted": [item], "rejected": rejected}}, N, "NEW")
    assert found[N] == track17.push(body).events
    assert found["NEW"] == ()


@pytest.mark.parametrize("where", ["top", "errors", "item"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-18010001, AUTH),
        (-18010002, AUTH),
        (-18010003, FailureKind.TRANSIENT),
        (-18010004, AUTH),
        (-18010005, AUTH),
        *[(code, PERMANENT) for code in range(-18010015, -18010009)],
        *[(code, PERMANENT) for code in range(-18010022, -18010017)],
        (-18019902, PERMANENT),
        (-18019903, PERMANENT),
        (-18019904, PERMANENT),
        (-18019905, PERMANENT),
        (-18019906, PERMANENT),
        (-18019907, QUOTA),
        (-18019908, QUOTA),
        (-18019910, PERMANENT),
        (-18019911, PERMANENT),
    ],
)
def test_an_error_is_read_wherever_it_stands(where: str, code: int, kind: FailureKind, track17: Any) -> None:
    body: Any = {
        "top": {"code": code, "data": {}},
        "errors": {"code": 0, "data": {"errors": [{"code": code, "message": "x"}]}},
        "item": {"code": 0, "data": {"accepted": [], "rejected": [{"number": N, "error": {"code": code}}]}},
    }[where]
    found = track17.reading(body, N)
    assert (found.kind, found.code) == (kind, f"seventeentrack_{code}")


def test_a_rate_limit_without_a_body_is_a_rate_limit(track17: Any) -> None:
    assert track17.reading(b"", N, status=429) == Deferred(FailureKind.RATE, "seventeentrack_http_429")
