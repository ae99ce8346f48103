"""Shippo: every substatus, its signature or secret URL, and tests that no client may see."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ordernotify.carriers._base import Pushed
from ordernotify.carriers.shippo import CARRIER
from ordernotify.core.delivery import Accepted, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care
from ordernotify.platforms._base import Answer, Refusal
from ordernotify.sandbox.carrier_senders import shippo_request

S = OrderStatus
N = "1Z999AA10123456784"
ALSO, NOBODY = Care.ALSO, Care.NOBODY

CODES: list[tuple[str, S | None, str, Care, str]] = [
    ("UNKNOWN", None, "", NOBODY, "other"),
    ("PRE_TRANSIT", S.PROCESSING, "", NOBODY, "information_received"),
    ("TRANSIT", S.SHIPPED, "", NOBODY, "package_accepted package_arrived package_departed package_processed"),
    ("TRANSIT", S.SHIPPED, "", NOBODY, "package_processing package_forwarded delivery_scheduled"),
    ("TRANSIT", S.OUT_FOR_DELIVERY, "", NOBODY, "out_for_delivery"),
    ("TRANSIT", S.OUT_FOR_DELIVERY, "available_for_pickup", NOBODY, "pickup_available"),
    ("TRANSIT", S.DELAYED, "", NOBODY, "delayed delivery_rescheduled reschedule_delivery location_inaccessible"),
    ("TRANSIT", S.DELAYED, "", NOBODY, "contact_carrier package_held package_damaged"),
    ("TRANSIT", S.DELAYED, "delivery_attempted", NOBODY, "delivery_attempted notice_left"),
    ("TRANSIT", S.DELAYED, "address_issue", NOBODY, "address_issue"),
    ("DELIVERED", S.DELIVERED, "", NOBODY, "delivered"),
    ("RETURNED", S.RETURNED, "returning", NOBODY, "return_to_sender package_unclaimed"),
    ("FAILURE", S.DELAYED, "", ALSO, "package_undeliverable package_disposed package_lost"),
]
ROWS = [(status, code, *row) for status, *row, codes in CODES for code in codes.split()]


@pytest.fixture
def shippo(case: Callable[..., Any]) -> Any:
    return case(CARRIER)


def with_status(body: Any, status: str, substatus: Any) -> Any:
    body["data"]["tracking_status"] |= {"status": status, "substatus": substatus}
    return body


def test_every_row_of_the_table_is_tested() -> None:
    pairs = {f"{status}/{code}" for status, code, *_ in ROWS}
    assert pairs | {status for status, *_ in ROWS} == set(CARRIER.statuses)


@pytest.mark.parametrize(("status", "code", "expected", "detail", "care"), ROWS)
def test_a_substatus_means_what_its_row_says(
    status: str, code: str, expected: S | None, detail: str, care: Care, shippo: Any
) -> None:
    body = with_status(shippo.recorded("shipped"), status, {"code": code, "action_required": False})
    event = shippo.pushed(body)
    assert (event.status, event.detail, event.care) == (expected, detail, care)
    assert event.raw_code == f"{status}/{code}"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("UNKNOWN", None),
        ("PRE_TRANSIT", S.PROCESSING),
        ("TRANSIT", S.SHIPPED),
        ("DELIVERED", S.DELIVERED),
        ("RETURNED", S.RETURNED),
        ("FAILURE", S.DELAYED),
        ("VANISHED", S.UNKNOWN),
    ],
)
@pytest.mark.parametrize("substatus", [None, {}, {"code": None}, {"code": "a_word_of_tomorrow"}])
def test_without_a_known_substatus_the_status_speaks(
    substatus: Any, status: str, expected: S | None, shippo: Any
) -> None:
    assert shippo.pushed(with_status(shippo.recorded("shipped"), status, substatus)).status is expected


@pytest.mark.parametrize(
    ("name", "status", "care"),
    [
        ("processing", S.PROCESSING, NOBODY),
        ("shipped", S.SHIPPED, NOBODY),
        ("out_for_delivery", S.OUT_FOR_DELIVERY, NOBODY),
        ("pickup", S.OUT_FOR_DELIVERY, NOBODY),
        ("delayed", S.DELAYED, NOBODY),
        ("delivered", S.DELIVERED, NOBODY),
        ("returned", S.RETURNED, NOBODY),
        ("failure", S.DELAYED, ALSO),
        ("unknown", None, NOBODY),
        ("without_substatus", S.SHIPPED, NOBODY),
        ("action_required", S.DELAYED, ALSO),
    ],
)
def test_a_recorded_webhook_is_one_event(name: str, status: S | None, care: Care, shippo: Any) -> None:
    event = shippo.pushed(shippo.recorded(name))
    assert (event.status, event.care, event.title) == (status, care, "UPS")
    assert event.occurred_at == datetime(2026, 11, 24, 7, 13, tzinfo=UTC)
    assert event.estimated_delivery == date(2026, 11, 24)


def test_a_required_action_does_not_change_a_code_that_is_known(shippo: Any) -> None:
    body = with_status(shippo.recorded("shipped"), "DELIVERED", {"code": "delivered", "action_required": True})
    assert shippo.pushed(body).status is S.DELIVERED


@pytest.mark.parametrize("test", [True, None, "false", 0])
def test_a_test_never_reaches_a_client(test: Any, shippo: Any, case: Callable[..., Any]) -> None:
    body = shippo.recorded("test_event") | {"test": test}
    assert shippo.push(body) == Pushed()
    assert case(CARRIER, take_test=True).pushed(body).status is S.DELIVERED


def test_nothing_known_and_other_events_say_nothing(shippo: Any) -> None:
    assert shippo.push(shippo.recorded("nothing_known")) == Pushed()
    assert shippo.push(shippo.recorded("shipped") | {"event": "transaction_created"}) == Pushed()


def test_the_same_status_in_the_history_is_the_same_event(shippo: Any) -> None:
    body = shippo.recorded("shipped")
    body["data"]["tracking_history"] = [body["data"]["tracking_status"]]
    found = shippo.push(body)
    assert len({one.key for one in found.events}) == 1


def test_a_track_without_a_number_is_refused_by_field(shippo: Any) -> None:
    for data in (None, [], {}, {"tracking_number": "\n"}):
        found = shippo.push({"event": "track_updated", "test": False, "data": data})
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (422, "data.tracking_number")


# ---- proofs ----


def test_the_vector_is_genuine_and_one_flipped_bit_is_not(case: Callable[..., Any]) -> None:
    vector = case(CARRIER).recorded("signature")
    shippo = case(CARRIER, hmac_secret=vector["secret"])
    sent_at = datetime.fromtimestamp(vector["time"], UTC)
    body = vector["body"].encode()
    signed = f"t={vector['time']},v1={vector['signature']}"
    assert shippo.verify(shippo.inbound({"Shippo-Auth-Signature": signed}, body), now=sent_at) is None
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        inbound = shippo.inbound({"Shippo-Auth-Signature": signed}, bytes(changed))
        assert shippo.verify(inbound, now=sent_at) is not None
    moved = signed.replace(str(vector["time"]), str(vector["time"] + 1))
    assert shippo.verify(shippo.inbound({"Shippo-Auth-Signature": moved}, body), now=sent_at) is not None


@pytest.mark.parametrize(("seconds", "genuine"), [(0, True), (3600, True), (3601, False), (-3601, False)])
def test_an_old_signature_is_refused(seconds: int, genuine: bool, case: Callable[..., Any]) -> None:
    shippo = case(CARRIER, hmac_secret="one")
    headers, body = shippo_request({"a": 1}, secret="one", sent_at=shippo.now)
    found = shippo.verify(shippo.inbound(headers, body), now=shippo.now + timedelta(seconds=seconds))
    assert (found is None) == genuine


@pytest.mark.parametrize(
    "signature",
    ["", "t=1", "v1=00", f"t=x,v1={'0' * 64}", f"t={'9' * 30},v1={'0' * 64}", f"t=99999999999,v1={'0' * 64}"],
)
def test_a_signature_that_is_none_is_refused_by_name(signature: str, shippo: Any) -> None:
    found = shippo.verify(shippo.inbound({"Shippo-Auth-Signature": signature}, b"{}"))
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (401, "Shippo-Auth-Signature")


def test_a_secret_in_the_url_is_for_accounts_without_a_signature(case: Callable[..., Any]) -> None:
    shippo = case(CARRIER, hmac_secret=None, url_token="one,two")
    for token, genuine in (("one", True), ("two", True), ("three", False), ("", False)):
        assert (shippo.verify(shippo.inbound({}, b"{}", {"token": token})) is None) == genuine
    both = case(CARRIER, hmac_secret="key", url_token="one")
    assert both.verify(both.inbound({}, b"{}", {"token": "one"})) is not None
    none = case(CARRIER, hmac_secret=None)
    assert none.verify(none.inbound({}, b"{}", {"token": ""})) is not None


# ---- asked ----


@pytest.mark.parametrize(
    ("number", "carrier"),
    [
        (N, "ups"),
        ("9400100000000000000000", "usps"),
        ("123456789012", "fedex"),
        ("7777777770", "dhl_express"),
        ("SHIPPO_TRANSIT", "shippo"),
    ],
)
def test_the_carrier_is_guessed_from_the_number_unless_it_is_set(
    number: str, carrier: str, shippo: Any, case: Callable[..., Any]
) -> None:
    assert shippo.ask(number).url == f"https://api.goshippo.com/tracks/{carrier}/{number}"
    assert case(CARRIER, carrier="canada_post").ask(number).url.endswith(f"/tracks/canada_post/{number}")


def test_questions_are_exact(case: Callable[..., Any]) -> None:
    shippo = case(CARRIER, token="shippo_live_x")
    call = shippo.ask("1Z/9")
    assert call.url.endswith("/1Z%2F9")
    assert call.headers == {"authorization": "ShippoToken shippo_live_x", "shippo-api-version": "2018-02-08"}
    assert CARRIER.follow is not None
    call = CARRIER.follow.build([N], shippo.context)
    assert (call.method, call.url) == ("POST", "https://api.goshippo.com/tracks")
    assert json.loads(call.body) == {"carrier": "ups", "tracking_number": N}


def test_pushed_and_asked_for_it_is_the_same_event(shippo: Any) -> None:
    body = shippo.recorded("out_for_delivery")
    assert shippo.push(body).events == shippo.reading(body["data"], N)
    assert shippo.reading({}, N, status=404) == ()


def test_following_tells_what_came_of_it(case: Callable[..., Any], loop: Callable[..., Any]) -> None:
    assert loop(CARRIER).follow(N)[N] == Accepted()
    assert CARRIER.follow is not None
    found = CARRIER.follow.read(Answer(400, {}, b"{}"), [N], case(CARRIER).context)
    assert found[N] == Rejected(FailureKind.PERMANENT, "shippo_http_400")
