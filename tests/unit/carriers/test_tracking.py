"""Tracking events: merged in any order they are one story, of which only what is new is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.events import Admission, OrderEvent, OrderState, OrderStatus, Trigger, admit, advance
from ordernotify.core.tracking import (
    Care,
    Overall,
    TrackingEvent,
    estimate,
    latest,
    merge,
    news,
    overall,
    to_order_event,
)

S = OrderStatus
T0 = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


def event(status: S | None, hours: int = 0, code: str = "", **more: object) -> TrackingEvent:
    values = {
        "carrier": "ups",
        "tracking_no": "1Z999AA10123456784",
        "status": status,
        "raw_code": code or (status.value if status else "photo"),
        "occurred_at": T0 + timedelta(hours=hours),
        **more,
    }
    return TrackingEvent(**values)  # type: ignore[arg-type]


EVENTS = st.builds(
    TrackingEvent,
    carrier=st.just("ups"),
    tracking_no=st.sampled_from(["1Z1", "1z 1", "1Z2"]),
    status=st.sampled_from([None, *S]),
    raw_code=st.sampled_from(["005", "011", "021"]),
    occurred_at=st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 3)).map(  # noqa: DTZ001 - made aware below
        lambda naive: naive.replace(minute=0, second=0, microsecond=0, tzinfo=timezone(timedelta(hours=-5)))
    ),
    event_id=st.sampled_from(["", "a", "b"]),
    estimated_delivery=st.none() | st.dates(date(2026, 11, 1), date(2026, 11, 9)),
)
STORY = st.lists(EVENTS, max_size=12)


# ---- the laws of merging ----


@given(STORY)
def test_merging_is_in_order_in_one_form_and_has_each_event_once(events: list[TrackingEvent]) -> None:
    merged = merge(events)
    assert [one.occurred_at for one in merged] == sorted(one.occurred_at for one in merged)
    assert len({one.key for one in merged}) == len(merged)
    assert {one.tracking_no for one in merged} <= {"1Z1", "1Z2"}
    assert all(one.occurred_at.tzinfo is UTC for one in merged)


@given(STORY)
def test_merging_again_changes_nothing(events: list[TrackingEvent]) -> None:
    merged = merge(events)
    assert merge(merged) == merged
    assert merge(merged, events) == merged
    assert merge(merged, merged) == merged


@given(STORY, STORY, STORY)
def test_it_does_not_matter_how_answers_are_grouped(
    one: list[TrackingEvent], two: list[TrackingEvent], three: list[TrackingEvent]
) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(st.lists(EVENTS, max_size=8, unique_by=lambda one: merge([one])[0].key), st.randoms())
def test_it_does_not_matter_in_which_order_they_arrive(events: list[TrackingEvent], random: object) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merge(shuffled) == merge(events)


@given(STORY, STORY)
def test_what_was_told_once_is_no_news_again(known: list[TrackingEvent], fresh: list[TrackingEvent]) -> None:
    assert news(merge(known, fresh), fresh) == ()
    assert news(known, known) == ()


@given(STORY)
def test_the_status_follows_from_the_newest_event_that_moves(events: list[TrackingEvent]) -> None:
    newest = latest(events)
    moving = [one for one in events if one.status not in {None, S.UNKNOWN}]
    assert (newest is None) == (not moving)
    if newest is not None:
        assert newest.occurred_at == max(one.occurred_at for one in moving)


# ---- merging, by example ----


def test_of_two_events_at_one_time_the_further_one_is_the_later() -> None:
    steps = [event(S.SHIPPED), event(S.OUT_FOR_DELIVERY), event(S.DELIVERED)]
    for order in permutations(steps):
        assert merge(order) == tuple(steps)
        assert latest(order) == steps[-1]


def test_an_event_heard_again_stays_as_first_heard_but_its_day_may_move() -> None:
    first = event(S.SHIPPED, estimated_delivery=date(2026, 11, 25), event_id="x")
    again = replace(first, occurred_at=T0 + timedelta(hours=2), estimated_delivery=date(2026, 11, 27))
    (merged,) = merge([first], [again])
    assert merged.occurred_at == first.occurred_at
    assert merged.estimated_delivery == date(2026, 11, 27)
    (merged,) = merge([merged], [replace(again, estimated_delivery=None)])
    assert merged.estimated_delivery == date(2026, 11, 27)


def test_an_unknown_word_never_hides_what_is_known() -> None:
    events = [event(S.SHIPPED), event(S.UNKNOWN, 1, "XYZ", care=Care.FIRST), event(None, 2)]
    newest = latest(events)
    assert newest is not None
    assert newest.status is S.SHIPPED


def test_the_promised_day_is_the_last_one_told() -> None:
    events = [
        event(S.PROCESSING, 0, estimated_delivery=date(2026, 11, 25)),
        event(None, 5, "154", estimated_delivery=date(2026, 11, 28)),
        event(S.SHIPPED, 2, estimated_delivery=date(2026, 11, 26)),
    ]
    assert estimate(events) == date(2026, 11, 28)
    assert estimate([event(S.SHIPPED)]) is None


def test_a_history_told_at_once_is_not_announced_step_by_step() -> None:
    history = [event(S.PROCESSING), event(S.SHIPPED, 1), event(S.OUT_FOR_DELIVERY, 2)]
    assert [one.status for one in news([], history)] == [S.OUT_FOR_DELIVERY]


def test_every_new_event_for_a_person_is_told_and_an_old_status_is_not() -> None:
    known = [event(S.DELIVERED, 9)]
    fresh = [event(S.SHIPPED, 1), event(S.UNKNOWN, 2, "XYZ", care=Care.FIRST), event(S.DELAYED, 3, care=Care.ALSO)]
    assert [one.raw_code for one in news(known, fresh)] == ["XYZ", "delayed"]


def test_a_day_that_moves_without_an_event_is_news() -> None:
    known = [event(S.SHIPPED, estimated_delivery=date(2026, 11, 25))]
    (told,) = news(known, [event(S.SHIPPED, estimated_delivery=date(2026, 11, 28))])
    assert told.estimated_delivery == date(2026, 11, 28)
    (told,) = news(known, [event(None, 3, "154", estimated_delivery=date(2026, 11, 29))])
    assert (told.status, told.estimated_delivery) == (S.SHIPPED, date(2026, 11, 29))


# ---- an order of several shipments ----


P, H, R, D, L, V, W = (
    S.SHIPPED,
    S.REGULATORY_HOLD,
    S.RETURNED,
    S.DELAYED,
    S.DELIVERED,
    S.OUT_FOR_DELIVERY,
    S.PROCESSING,
)


@pytest.mark.parametrize(
    ("shipments", "status", "partial"),
    [
        ([L], L, False),
        ([L, L], L, False),
        ([L, H], H, True),
        ([H, D, V, P], H, True),
        ([D, V, P, L], D, True),
        ([D, D], D, False),
        ([V, P], V, True),
        ([P, P], P, False),
        ([P, L], P, True),
        ([L, W], P, True),
        ([L, None], P, True),
        ([R], R, False),
        ([R, R], R, False),
        ([R, L], L, True),
        ([R, P], P, True),
        ([R, H], H, True),
        ([None], W, False),
        ([W, None], W, False),
        ([], S.RECEIVED, False),
    ],
)
def test_an_order_is_where_its_gravest_shipment_is(shipments: list[S | None], status: S, partial: bool) -> None:
    for order in permutations(shipments):
        assert overall(order, ordered=S.RECEIVED) == Overall(status, partial)


@pytest.mark.parametrize(
    ("shipments", "waiting", "expected"),
    [
        ([L], False, Overall(S.SHIPPED, partial=True)),
        ([L], True, Overall(S.SHIPPED, partial=True)),
        ([P], True, Overall(S.SHIPPED, partial=True)),
        ([], True, Overall(S.BACKORDERED)),
        ([R], False, Overall(S.PROCESSING, partial=True)),
        ([W], True, Overall(S.BACKORDERED, partial=True)),
    ],
)
def test_an_order_with_open_lines_is_not_done(shipments: list[S], waiting: bool, expected: Overall) -> None:
    assert overall(shipments, ordered=S.PROCESSING, lines_open=True, lines_waiting=waiting) == expected


def test_only_the_order_source_cancels() -> None:
    assert overall([P, L], ordered=S.CANCELLED) == Overall(S.CANCELLED)


# ---- what it means for the order ----


def told(one: TrackingEvent, order: Overall | None = None, order_ref: str = "5001") -> OrderEvent | None:
    return to_order_event(one, order_ref=order_ref, order_no="SO-1", order=order, client_ref="C-1", label="INTERNAL")


def test_an_event_of_a_shipment_becomes_an_event_of_its_order() -> None:
    one = event(S.DELAYED, 3, "053", detail="weather", title="UPS", estimated_delivery=date(2026, 11, 27))
    found = told(one)
    assert found is not None
    assert (found.source, found.trigger) == ("carrier:ups", Trigger.TRACKING)
    assert (found.order_ref, found.order_no, found.client_ref, found.label) == ("5001", "SO-1", "C-1", "INTERNAL")
    assert (found.status, found.raw_status, found.detail) == (S.DELAYED, "053", "weather")
    assert (found.carrier, found.tracking_no, found.promised_date) == ("UPS", "1Z999AA10123456784", "2026-11-27")
    assert found.occurred_at == one.occurred_at


def test_the_same_event_is_the_same_event_and_another_order_or_day_is_not() -> None:
    one = event(S.SHIPPED)
    keys = [
        told(one),
        told(one, Overall(S.DELAYED)),
        told(one, order_ref="5002"),
        told(replace(one, estimated_delivery=date(2026, 11, 27))),
        told(replace(one, raw_code="other")),
    ]
    found = [key.dedupe_key for key in keys if key is not None]
    assert found[0] == found[1]
    assert len(set(found)) == 4


@pytest.mark.parametrize("status", [S.UNKNOWN, S.REGULATORY_HOLD, None])
def test_what_a_person_must_see_first_reaches_no_client(status: S | None) -> None:
    found = told(event(status, 1, "147", care=Care.FIRST), Overall(S.SHIPPED))
    assert found is not None
    assert found.status is S.UNKNOWN
    assert admit(OrderState(status=S.SHIPPED, status_at=T0), found) is Admission.UNKNOWN


def test_what_changes_nothing_is_not_told() -> None:
    assert told(event(None)) is None
    assert told(event(None), Overall(S.SHIPPED)) is None


def test_a_new_day_alone_is_told_with_the_status_of_the_order() -> None:
    one = event(None, 2, "154", estimated_delivery=date(2026, 11, 28))
    assert told(one) is None
    found = told(one, Overall(S.SHIPPED, partial=True))
    assert found is not None
    assert (found.status, found.promised_date, found.detail) == (S.SHIPPED, "2026-11-28", "partial")


def test_a_whole_story_is_admitted_by_its_order_and_a_late_arrival_is_stale() -> None:
    state: OrderState | None = OrderState(status=S.PROCESSING, status_at=T0 - timedelta(hours=1))
    steps = [S.SHIPPED, S.DELAYED, S.SHIPPED, S.OUT_FOR_DELIVERY, S.DELIVERED]
    for hours, status in enumerate(steps):
        found = told(event(status, hours))
        assert found is not None
        assert admit(state, found) is Admission.NEWS
        state = advance(state, found)
    late = told(event(S.DELAYED, 1, "late"))
    assert late is not None
    assert admit(state, late) is Admission.STALE
