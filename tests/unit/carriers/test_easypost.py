"""EasyPost: every status, both versions of its signature, and what is not for clients."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ordernotify.carriers._base import Pushed
from ordernotify.carriers.easypost import CARRIER
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care
from ordernotify.platforms._base import Refusal
from ordernotify.sandbox.carrier_senders import easypost_request

S = OrderStatus
N = "9400100000000000000000"
FIRST, ALSO, NOBODY = Care.FIRST, Care.ALSO, Care.NOBODY

ROWS: list[tuple[str, str, S | None, str, Care]] = [
    ("unknown", "unknown", None, "", NOBODY),
    ("pre_transit", "label_created", S.PROCESSING, "", NOBODY),
    ("in_transit", "in_transit", S.SHIPPED, "", NOBODY),
    ("in_transit", "arrived_at_facility", S.SHIPPED, "", NOBODY),
    ("in_transit", "a_word_of_tomorrow", S.SHIPPED, "", NOBODY),
    ("in_transit", "", S.SHIPPED, "", NOBODY),
    *[
        ("in_transit", detail, S.DELAYED, "", NOBODY)
        for detail in (
            "delayed",
            "delivery_exception",
            "transit_exception",
            "missorted",
            "awaiting_information",
            "held",
            "expired",
        )
    ],
    ("in_transit", "weather_delay", S.DELAYED, "weather", NOBODY),
    ("in_transit", "address_correction", S.DELAYED, "address_issue", NOBODY),
    ("out_for_delivery", "out_for_delivery", S.OUT_FOR_DELIVERY, "", NOBODY),
    ("available_for_pickup", "available_for_pickup", S.OUT_FOR_DELIVERY, "available_for_pickup", NOBODY),
    ("delivered", "arrived_at_destination", S.DELIVERED, "", NOBODY),
    ("return_to_sender", "return", S.RETURNED, "returned", NOBODY),
    ("failure", "failure", S.DELAYED, "", ALSO),
    ("failure", "refused", S.RETURNED, "returning", ALSO),
    ("failure", "return", S.RETURNED, "returning", ALSO),
    ("failure", "damaged", S.DELAYED, "", FIRST),
    ("failure", "lost", S.DELAYED, "", FIRST),
    ("cancelled", "cancelled", None, "", FIRST),
    ("error", "error", None, "", FIRST),
    ("abducted", "by_aliens", S.UNKNOWN, "", FIRST),
]


@pytest.fixture
def easypost(case: Callable[..., Any]) -> Any:
    return case(CARRIER)


def test_every_row_of_the_table_is_tested() -> None:
    tested = {f"{status}/{detail}" for status, detail, *_ in ROWS} | {status for status, *_ in ROWS}
    assert set(CARRIER.statuses) <= tested


@pytest.mark.parametrize(("status", "detail", "expected", "word", "care"), ROWS)
def test_a_status_means_what_its_row_says(
    status: str, detail: str, expected: S | None, word: str, care: Care, easypost: Any
) -> None:
    body = easypost.recorded("shipped")
    body["result"] |= {"status": status, "status_detail": detail}
    event = easypost.pushed(body)
    assert (event.status, event.detail, event.care) == (expected, word, care)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("processing", S.PROCESSING),
        ("shipped", S.SHIPPED),
        ("delayed", S.DELAYED),
        ("out_for_delivery", S.OUT_FOR_DELIVERY),
        ("pickup", S.OUT_FOR_DELIVERY),
        ("delivered", S.DELIVERED),
        ("returned", S.RETURNED),
        ("failure", S.DELAYED),
        ("refused", S.RETURNED),
        ("lost", S.DELAYED),
        ("cancelled", None),
        ("unknown", None),
    ],
)
def test_a_recorded_event_is_a_story_in_order(name: str, status: S | None, easypost: Any) -> None:
    found = easypost.push(easypost.recorded(name))
    assert isinstance(found, Pushed)
    first, last = found.events
    assert (first.status, first.occurred_at) == (S.SHIPPED, datetime(2026, 11, 22, 16, 0, tzinfo=UTC))
    assert last.occurred_at == datetime(2026, 11, 24, 7, 13, tzinfo=UTC)
    assert (last.status, last.title, last.tracking_no) == (status, "USPS", N)
    assert last.estimated_delivery == date(2026, 11, 24)


def test_held_by_customs_is_proposed_to_a_person(easypost: Any) -> None:
    event = easypost.pushed(easypost.recorded("held_by_customs"))
    assert (event.status, event.detail, event.care) == (S.REGULATORY_HOLD, "customs", FIRST)


def test_a_tracker_without_details_is_told_at_the_time_of_its_update(easypost: Any) -> None:
    body = easypost.recorded("processing")
    body["result"]["tracking_details"] = []
    event = easypost.pushed(body)
    assert (event.status, event.occurred_at) == (S.PROCESSING, datetime(2026, 11, 24, 9, 59, 30, tzinfo=UTC))


@pytest.mark.parametrize("name", ["of_test_mode", "of_a_batch"])
def test_what_is_no_news_of_a_real_shipment_is_taken_and_says_nothing(name: str, easypost: Any) -> None:
    assert easypost.push(easypost.recorded(name)) == Pushed()


def test_test_mode_can_be_taken_for_real(case: Callable[..., Any]) -> None:
    easypost = case(CARRIER, take_test=True)
    assert easypost.pushed(easypost.recorded("of_test_mode")).status is S.DELIVERED


def test_a_tracker_without_a_number_is_refused_by_field(easypost: Any) -> None:
    for result in (None, 7, {}, {"tracking_code": ""}):
        found = easypost.push({"description": "tracker.updated", "result": result})
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (422, "result.tracking_code")


# ---- signatures ----


def test_the_first_vector_is_genuine_and_one_flipped_bit_is_not(case: Callable[..., Any]) -> None:
    vector = case(CARRIER).recorded("signatures")
    easypost = case(CARRIER, webhook_secret=vector["secret"])
    body = vector["body"].encode()
    headers = {"X-Hmac-Signature": f"hmac-sha256-hex={vector['v1']}"}
    assert easypost.verify(easypost.inbound(headers, body)) is None
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        found = easypost.verify(easypost.inbound(headers, bytes(changed)))
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (401, "X-Hmac-Signature")


def test_the_secret_is_decomposed_however_it_was_typed(case: Callable[..., Any]) -> None:
    vector = case(CARRIER).recorded("signatures")
    body = vector["body"].encode()
    genuine = {"X-Hmac-Signature": f"hmac-sha256-hex={vector['v1']}"}
    naive = {"X-Hmac-Signature": f"hmac-sha256-hex={vector['v1_of_a_secret_that_is_not_decomposed']}"}
    for form in ("NFC", "NFD"):
        easypost = case(CARRIER, webhook_secret=unicodedata.normalize(form, vector["secret"]))
        assert easypost.verify(easypost.inbound(genuine, body)) is None
        assert easypost.verify(easypost.inbound(naive, body)) is not None


def second(vector: dict[str, str], **more: str) -> dict[str, str]:
    return {
        "X-Hmac-Signature-V2": f"hmac-sha256-hex={vector['signature']}",
        "X-Timestamp": vector["timestamp"],
        "X-Path": vector["path"],
        **more,
    }


def test_the_second_vector_is_genuine_while_it_is_fresh(case: Callable[..., Any]) -> None:
    recorded = case(CARRIER).recorded("signatures")
    vector, body = recorded["v2"], recorded["body"].encode()
    easypost = case(CARRIER, webhook_secret=vector["secret"])
    sent_at = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
    genuine = easypost.inbound(second(vector), body)
    for seconds in (-300, 0, 300):
        assert easypost.verify(genuine, now=sent_at + timedelta(seconds=seconds)) is None
    for seconds in (-301, 301):
        found = easypost.verify(genuine, now=sent_at + timedelta(seconds=seconds))
        assert found == Refusal(401, "X-Timestamp", "must be a time at most five minutes from ours")
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        assert easypost.verify(easypost.inbound(second(vector), bytes(changed)), now=sent_at) is not None
    for header, value in (("X-Path", "/hooks/other"), ("X-Timestamp", "Tue, 24 Nov 2026 10:00:01 -0000")):
        found = easypost.verify(easypost.inbound(second(vector, **{header: value}), body), now=sent_at)
        assert found is not None
        assert found.field == "X-Hmac-Signature-V2"


@pytest.mark.parametrize("stamp", ["", "yesterday", "1795514400", "Tue, 99 Nov 2026 10:00:00 -0000"])
def test_a_second_signature_without_a_time_is_refused(stamp: str, case: Callable[..., Any]) -> None:
    easypost = case(CARRIER)
    found = easypost.verify(easypost.inbound({"X-Hmac-Signature-V2": "x", "X-Timestamp": stamp}, b"{}"))
    assert found is not None
    assert found.field == "X-Timestamp"


def test_a_wrong_second_signature_is_not_saved_by_a_right_first_one(case: Callable[..., Any]) -> None:
    easypost = case(CARRIER, webhook_secret="one")
    headers, body = easypost_request({"a": 1}, secret="one", sent_at=easypost.now)
    assert easypost.verify(easypost.inbound(headers, body)) is None
    headers["x-hmac-signature-v2"] = headers["x-hmac-signature"]
    assert easypost.verify(easypost.inbound(headers, body)) is not None


def test_the_older_signature_alone_can_be_ruled_out(case: Callable[..., Any]) -> None:
    headers, body = easypost_request({"a": 1}, secret="one")
    assert case(CARRIER, webhook_secret="one").verify(case(CARRIER).inbound(headers, body)) is None
    strict = case(CARRIER, webhook_secret="one", only_v2=True)
    found = strict.verify(strict.inbound(headers, body))
    assert found is not None
    assert found.field == "X-Hmac-Signature-V2"


def test_both_secrets_hold_while_one_is_replaced(case: Callable[..., Any]) -> None:
    easypost = case(CARRIER, webhook_secret="new,old")
    for secret, genuine in (("new", True), ("old", True), ("other", False), ("new,old", False)):
        headers, body = easypost_request({"a": 1}, secret=secret)
        assert (easypost.verify(easypost.inbound(headers, body)) is None) == genuine
    plain = hmac.new(b"new", b"{}", hashlib.sha256).hexdigest()
    assert easypost.verify(easypost.inbound({"X-Hmac-Signature": plain}, b"{}")) is not None


# ---- asked ----


def test_questions_are_exact(case: Callable[..., Any]) -> None:
    easypost = case(CARRIER, api_key="EZAK", carrier="USPS")
    call = easypost.ask("94 00")
    assert (call.method, call.url) == ("GET", "https://api.easypost.com/v2/trackers?tracking_code=94+00")
    assert call.headers["authorization"] == "Basic " + base64.b64encode(b"EZAK:").decode()
    assert CARRIER.follow is not None
    call = CARRIER.follow.build([N], easypost.context)
    assert (call.method, call.url) == ("POST", "https://api.easypost.com/v2/trackers")
    assert json.loads(call.body) == {"tracker": {"tracking_code": N, "carrier": "USPS"}}


def test_of_several_trackers_the_newest_of_the_number_speaks(easypost: Any) -> None:
    old, new = easypost.recorded("shipped")["result"], easypost.recorded("delivered")["result"]
    old["updated_at"] = "2025-01-01T00:00:00Z"
    other = easypost.recorded("returned")["result"] | {"tracking_code": "X", "updated_at": "2027-01-01T00:00:00Z"}
    assert easypost.reading({"trackers": [old, new, other]}, N)[-1].status is S.DELIVERED
    assert easypost.reading({"trackers": []}, N) == ()


def test_pushed_and_asked_for_it_is_the_same_event(easypost: Any) -> None:
    body = easypost.recorded("delivered")
    assert easypost.push(body).events == easypost.reading({"trackers": [body["result"]]}, N)


def test_following_tells_what_came_of_it(easypost: Any, loop: Callable[..., Any]) -> None:
    one = loop(CARRIER)
    found = one.follow(N)[N]
    assert isinstance(found, Accepted)
    assert found.provider_ref.startswith("trk_")
    refused = {"error": {"code": "RATE_LIMITED", "message": "x"}}
    assert easypost.reading(refused, N, status=429) == Deferred(FailureKind.RATE, "easypost_RATE_LIMITED")
    assert easypost.reading({}, N, status=422) == Rejected(FailureKind.PERMANENT, "easypost_http_422")
