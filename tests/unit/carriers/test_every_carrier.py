"""What every carrier promises: calls that fit, readings for every number, refusals instead of exceptions."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from ordernotify import clock
from ordernotify.carriers import CARRIERS, carrier_of
from ordernotify.carriers._base import Carrier, Freshness, Pushed, table
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.core.tracking import Care, Meaning, TrackingEvent, normal_number
from ordernotify.platforms._base import Answer, Refusal
from ordernotify.sandbox._base import Fault, Shelf
from ordernotify.sandbox.carrier_stories import STORIES, STRAIGHT, Step, ask
from ordernotify.sandbox.carriers import CARRIER_VENDORS

S = OrderStatus
EVERY = pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
PUSHING = pytest.mark.parametrize(
    "carrier", [one for one in CARRIERS.values() if one.push], ids=[one.name for one in CARRIERS.values() if one.push]
)
NUMBERS = {
    "ups": "1Z999AA10123456784",
    "fedex": "123456789012",
    "usps": "9400100000000000000000",
    "dhl": "7777777770",
}
WORDS = frozenset(
    {
        "",
        "available_for_pickup",
        "delivery_attempted",
        "customs",
        "returning",
        "returned",
        "address_issue",
        "weather",
        "with_agent",
    }
)
# What the steps of the simulated stories are in our words, with every carrier.
TOLD = {
    Step.LABEL: {S.PROCESSING},
    Step.PICKED_UP: {S.SHIPPED},
    Step.MOVING: {S.SHIPPED},
    Step.WEATHER: {S.DELAYED},
    Step.HELD: {S.REGULATORY_HOLD, S.DELAYED},  # some carriers have no word for it
    Step.CLEARED: {S.SHIPPED},
    Step.OUT: {S.OUT_FOR_DELIVERY},
    Step.ATTEMPTED: {S.DELAYED},
    Step.DELIVERED: {S.DELIVERED},
    Step.RETURNING: {S.RETURNED},
    Step.RETURNED: {S.RETURNED},
}


def test_all_eight_carriers_are_found() -> None:
    assert set(CARRIERS) == set(CARRIER_VENDORS)
    assert len(CARRIERS) == 8


@EVERY
def test_a_carrier_says_only_what_a_carrier_can_know(carrier: Carrier) -> None:
    impossible = {S.RECEIVED, S.BACKORDERED, S.CANCELLED, S.UNKNOWN}
    assert not {code: one for code, one in carrier.statuses.items() if one.status in impossible}


@EVERY
def test_details_are_words_of_ours_and_a_hold_is_never_left_to_chance(carrier: Carrier) -> None:
    assert {one.detail for one in carrier.statuses.values()} <= WORDS
    for code, one in carrier.statuses.items():
        assert one.status is not S.DELIVERED or one.care is not Care.FIRST, code


@EVERY
def test_settings_have_urls_of_the_carrier_and_describe_every_field(carrier: Carrier) -> None:
    for name, one in carrier.settings.model_fields.items():
        assert one.description, name
        if name.endswith("_url"):
            assert str(one.default).startswith("https://"), name
        if any(word in name for word in ("secret", "key", "push_token", "credential")):
            assert SecretStr.__name__ in str(one.annotation), name


@EVERY
def test_those_that_push_can_be_told_what_to_push_and_poll_only_to_be_sure(carrier: Carrier) -> None:
    if carrier.freshness is Freshness.PUSH:
        assert carrier.push
        assert carrier.follow
        assert carrier.at_least.total_seconds() >= 12 * 3600


@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_a_number_is_known_by_its_form(name: str, number: str) -> None:
    found = carrier_of(f" {number[:4]} {number[4:]} ")
    assert found is CARRIERS[name]


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ("UPS", "ups"),
        ("UPS\u00ae Ground", "ups"),
        ("United Parcel Service", "ups"),
        ("FedEx Express", "fedex"),
        ("Federal Express", "fedex"),
        ("usps", "usps"),
        ("U.S. Postal Service", "usps"),
        ("DHL Express", "dhl"),
        ("Deutsche Post", "dhl"),
        ("17TRACK", "seventeentrack"),
    ],
)
def test_the_name_that_a_source_uses_decides(named: str, name: str) -> None:
    assert carrier_of("123456789012", named=named) is CARRIERS[name]


@pytest.mark.parametrize(("number", "named"), [("RR123456789CN", ""), ("", ""), ("7777777770", "Bob's Vans")])
def test_what_cannot_be_told_for_certain_is_not_guessed(number: str, named: str) -> None:
    assert carrier_of(number, named=named) is None


def test_a_code_with_two_meanings_is_an_error_of_the_table() -> None:
    with pytest.raises(ValueError, match="01: has two meanings"):
        table(((Meaning(S.SHIPPED), "01 02"), (Meaning(S.DELAYED), "01")))


# ---- what goes wrong ----


@EVERY
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 418, 429, 500, 503])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"error":1}', b'{"response":{"errors":[1]}}'])
def test_every_number_of_a_failed_call_has_an_outcome_with_a_code_of_the_carrier(
    carrier: Carrier, status: int, body: bytes, case: Any
) -> None:
    numbers = ("AAAA000001", "AAAA000002")[: carrier.batch]
    found = case(carrier).readings(body, *numbers, status=status)
    assert set(found) == set(numbers)
    for one in found.values():
        if one == ():
            assert status == 404
            continue
        assert isinstance(one, Deferred | Rejected)
        assert one.code.startswith(f"{carrier.name}_")
        expected = {401: FailureKind.AUTH, 403: FailureKind.AUTH, 429: FailureKind.RATE, 500: FailureKind.TRANSIENT}
        assert one.kind is expected.get(status, one.kind)


@EVERY
def test_an_answer_that_is_no_answer_is_asked_for_again(carrier: Carrier, case: Any) -> None:
    for body in (b"", b"<html>maintenance</html>", b"[]", b"{}", b"null", b'"text"', b"7"):
        found = case(carrier).reading(body, "AAAA000001")
        # An empty object is a mail piece, or a track, of which nothing is known yet.
        assert found == () or found == Deferred(FailureKind.TRANSIENT, f"{carrier.name}_unreadable")
    assert case(carrier).reading(b"<html>", "AAAA000001") != ()


@EVERY
def test_a_carrier_that_says_how_long_to_wait_is_heard(carrier: Carrier, case: Any) -> None:
    found = case(carrier).reading(b"{}", "AAAA000001", status=429, headers={"retry-after": "17"})
    assert found.kind is FailureKind.RATE
    assert found.retry_after_s == 17


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "trackResponse",
                    "shipment",
                    "package",
                    "activity",
                    "status",
                    "statusCode",
                    "type",
                    "code",
                    "output",
                    "completeTrackResults",
                    "trackResults",
                    "scanEvents",
                    "date",
                    "dateAndTimes",
                    "latestStatusDetail",
                    "trackingEvents",
                    "statusCategory",
                    "shipments",
                    "events",
                    "timestamp",
                    "result",
                    "tracking_details",
                    "tracking_code",
                    "description",
                    "data",
                    "tracking_status",
                    "substatus",
                    "tracking_history",
                    "msg",
                    "ts",
                    "checkpoints",
                    "event",
                    "number",
                    "track_info",
                    "latest_status",
                    "latest_event",
                    "trackers",
                    "trackings",
                    "accepted",
                    "rejected",
                    "trackingNumber",
                    "activityStatus",
                    "payload",
                    "error",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@EVERY
@given(value=JSON)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_nothing_that_a_carrier_answers_or_pushes_raises(carrier: Carrier, value: Any, case: Any) -> None:
    one, body = case(carrier), orjson.dumps(value)
    (reading,) = one.readings(body, "AAAA000001").values()
    assert isinstance(reading, tuple | Deferred | Rejected)
    if carrier.push is not None:
        assert isinstance(one.push(body), Pushed | Refusal)


@PUSHING
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"{" * 2000, b'{"a":NaN}'])
def test_a_hostile_push_is_refused_by_a_field(carrier: Carrier, body: bytes, case: Any) -> None:
    found = case(carrier).push(body)
    assert isinstance(found, Refusal)
    assert found.status == 422
    assert found.field
    assert found.message


@PUSHING
def test_a_push_without_proof_is_refused_by_name_and_never_by_an_empty_secret(carrier: Carrier, case: Any) -> None:
    one = case(carrier)
    found = one.verify(one.inbound({}, b'{"timestamp":"","payload":""}'))
    assert isinstance(found, Refusal)
    assert found.status == 401


# ---- with the simulated carriers ----


@pytest.mark.parametrize("name", ["ups", "fedex", "usps", "dhl"])
@pytest.mark.parametrize("digit", "05678")
def test_a_story_that_is_asked_for_ends_as_it_is_told(name: str, digit: str, loop: Any) -> None:
    number = f"1Z999AA1000000000{digit}"
    one, story = loop(CARRIERS[name]), STORIES.get(digit, STRAIGHT)
    one.sign_in()
    for place, step in enumerate(story):
        events = one.track(number)[number]
        assert len(events) == place + 1
        assert events[-1].status in TOLD[step], step
        assert {event.tracking_no for event in events} == {number}
    assert events[-1].title == CARRIERS[name].title


@pytest.mark.parametrize("name", ["ups", "fedex", "usps", "dhl"])
def test_a_number_that_the_carrier_does_not_know_has_no_events(name: str, loop: Any) -> None:
    one = loop(CARRIERS[name])
    one.sign_in()
    assert one.track("1Z999AA10000000009") == {"1Z999AA10000000009": ()}


@pytest.mark.parametrize("name", ["ups", "easypost", "shippo", "aftership", "seventeentrack"])
@pytest.mark.parametrize("digit", "05678")
def test_a_story_that_is_followed_is_pushed_step_by_step(name: str, digit: str, loop: Any) -> None:
    number = f"1Z999AA1000000000{digit}"
    one, story = loop(CARRIERS[name]), STORIES.get(digit, STRAIGHT)
    one.sign_in()
    assert isinstance(one.follow(number)[number], Accepted)
    steps = one.desk.shelf.kind("parcels")[number]
    assert [happened.step for happened in steps] == list(story)
    for callback, happened in zip(one.callbacks, steps, strict=True):
        found = one.receive(callback, now=happened.at)
        assert isinstance(found, Pushed), found
        newest: TrackingEvent = found.events[-1]
        assert newest.status in TOLD[happened.step], happened.step
        assert newest.tracking_no == number
        assert newest.occurred_at == happened.at


@pytest.mark.parametrize("name", ["easypost", "shippo", "aftership", "seventeentrack"])
def test_what_was_pushed_is_also_answered_when_asked(name: str, loop: Any) -> None:
    number = "1Z999AA10000000000"
    one = loop(CARRIERS[name])
    assert not isinstance(one.follow(number)[number], Rejected)
    (event, *_) = one.track(number)[number]
    assert event.status is S.PROCESSING


@pytest.mark.parametrize("name", ["aftership", "seventeentrack"])
def test_following_twice_is_no_failure(name: str, loop: Any) -> None:
    one = loop(CARRIERS[name])
    for _ in range(2):
        assert isinstance(one.follow("1Z999AA10000000000")["1Z999AA10000000000"], Accepted)


@EVERY
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.RATE, FailureKind.RATE),
        (Fault.RATE_BARE, FailureKind.RATE),
        (Fault.SERVER_ERROR, FailureKind.TRANSIENT),
        (Fault.AUTH, FailureKind.AUTH),
        (Fault.PERMANENT, FailureKind.PERMANENT),
        (Fault.OPT_OUT, FailureKind.PERMANENT),
    ],
)
def test_every_fault_of_a_simulated_carrier_is_what_it_says(
    carrier: Carrier, fault: Fault, kind: FailureKind, case: Any
) -> None:
    reply = CARRIER_VENDORS[carrier.name].refuse(fault)
    answer = Answer(reply.status, dict(reply.headers), reply.body)
    found = carrier.read(answer, ("AAAA000001",), case(carrier).context)["AAAA000001"]
    assert found.kind is kind


@EVERY
def test_wrong_credentials_are_refused_by_the_simulated_carrier(carrier: Carrier, loop: Any, case: Any) -> None:
    one = loop(carrier)
    call = carrier.build(("AAAA000001",), case(carrier, base_url=f"http://127.0.0.1:8430/{carrier.name}").context)
    bare = type(call)(call.method, call.url, {}, call.body)
    assert one.call(bare).status == 401


def test_a_quota_is_counted_and_refused_beyond(loop: Any) -> None:
    one = loop(CARRIERS["usps"])
    one.sign_in()
    found = [one.track("9400100000000000000000")["9400100000000000000000"] for _ in range(61)]
    assert isinstance(found[59], tuple)
    assert found[60] == Deferred(FailureKind.RATE, "usps_http_429", retry_after_s=60)


def test_each_question_lets_one_more_thing_happen() -> None:
    shelf = Shelf()
    told = [len(ask(shelf, "1Z999AA10000000000", clock.now())) for _ in range(7)]
    assert told == [1, 2, 3, 4, 5, 5, 5]


@given(st.text(max_size=100))
def test_a_normal_number_stays_as_it_is(text: str) -> None:
    once = normal_number(text)
    assert normal_number(once) == once
    assert re.fullmatch(r"[!-~]{0,64}", once)
