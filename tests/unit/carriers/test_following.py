"""Following shipments: asked at the pace of their state, and a silence or a passed day has consequences."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.events import OrderStatus
from ordernotify.core.following import GIVEN_UP, LATE, PACES, SILENT, Stage, conclusions, next_question, stage
from ordernotify.core.tracking import Care, TrackingEvent, latest, merge

S = OrderStatus
T0 = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
NUMBER = "1Z999AA10123456784"
NEW_YORK = ZoneInfo("America/New_York")


def event(status: S | None, at: datetime = T0, day: date | None = None) -> TrackingEvent:
    return TrackingEvent(
        carrier="ups",
        tracking_no=NUMBER,
        status=status,
        raw_code=status.value if status else "photo",
        occurred_at=at,
        estimated_delivery=day,
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (S.PROCESSING, Stage.LABEL),
        (S.SHIPPED, Stage.MOVING),
        (S.OUT_FOR_DELIVERY, Stage.OUT),
        (S.DELAYED, Stage.HELD),
        (S.REGULATORY_HOLD, Stage.HELD),
        (S.DELIVERED, Stage.DONE),
        (S.RETURNED, Stage.DONE),
    ],
)
def test_a_status_has_its_stage(status: S, expected: Stage) -> None:
    assert stage([event(status)]) is expected


def test_a_shipment_of_which_nothing_is_known_is_a_label() -> None:
    assert stage([]) is Stage.LABEL
    assert stage([event(None), event(S.UNKNOWN)]) is Stage.LABEL


def asked(status: S, asked_at: datetime, **more: object) -> datetime | None:
    values = {"tracking_no": NUMBER, "since": T0 - timedelta(days=1), "asked_at": asked_at, **more}
    return next_question([event(status)], **values)  # type: ignore[arg-type]


def test_a_new_shipment_is_asked_for_at_once() -> None:
    assert next_question([], tracking_no=NUMBER, since=T0, asked_at=None) == T0


@pytest.mark.parametrize("status", [S.PROCESSING, S.SHIPPED, S.OUT_FOR_DELIVERY, S.DELAYED, S.REGULATORY_HOLD])
@given(number=st.text("0123456789", min_size=8, max_size=20))
def test_the_interval_is_that_of_the_stage_give_or_take_a_fifth(status: S, number: str) -> None:
    found = asked(status, T0, tracking_no=number)
    every = PACES[stage([event(status)])].every
    assert found is not None
    assert every * 4 // 5 <= found - T0 <= every * 6 // 5
    assert found == asked(status, T0, tracking_no=number)


def test_many_shipments_do_not_stay_in_step() -> None:
    found = {asked(S.SHIPPED, T0, tracking_no=f"1Z{number:016d}") for number in range(200)}
    assert len(found) > 30


def test_the_quota_of_a_carrier_is_a_floor() -> None:
    found = asked(S.SHIPPED, T0, at_least=timedelta(hours=6))
    assert found == T0 + timedelta(hours=6)


def test_a_done_shipment_is_asked_for_once_more_after_a_day_and_then_never() -> None:
    assert asked(S.DELIVERED, T0 + timedelta(hours=1)) == T0 + timedelta(hours=24)
    assert asked(S.DELIVERED, T0 + timedelta(hours=24)) is None
    assert asked(S.RETURNED, T0 + timedelta(days=9)) is None
    late = asked(S.DELIVERED, T0 + timedelta(hours=23), at_least=timedelta(hours=6))
    assert late == T0 + timedelta(hours=29)


@pytest.mark.parametrize(("status", "days"), [(S.PROCESSING, 14), (S.DELAYED, 30), (S.SHIPPED, 90)])
def test_nobody_is_asked_for_ever(status: S, days: int) -> None:
    assert asked(status, T0 + timedelta(days=days, seconds=-1)) is not None
    assert asked(status, T0 + timedelta(days=days)) is None


@pytest.mark.parametrize(
    ("asked_at", "expected"),
    [
        (datetime(2026, 11, 24, 20, 0, tzinfo=NEW_YORK), datetime(2026, 11, 25, 8, 0, tzinfo=NEW_YORK)),
        (datetime(2026, 11, 24, 3, 0, tzinfo=NEW_YORK), datetime(2026, 11, 24, 8, 0, tzinfo=NEW_YORK)),
    ],
)
def test_out_for_delivery_is_asked_for_by_day_at_the_destination(asked_at: datetime, expected: datetime) -> None:
    found = asked(S.OUT_FOR_DELIVERY, asked_at.astimezone(UTC), zone=NEW_YORK)
    assert found == expected
    assert asked(S.SHIPPED, asked_at.astimezone(UTC), zone=NEW_YORK) != expected


# ---- silence and passed days ----


def concluded(events: list[TrackingEvent], now: datetime, **more: object) -> tuple[TrackingEvent, ...]:
    values = {"carrier": "ups", "tracking_no": NUMBER, "since": T0, "now": now, **more}
    return conclusions(events, **values)  # type: ignore[arg-type]


def test_a_passed_day_makes_the_shipment_delayed_from_its_first_minute() -> None:
    events = [event(S.SHIPPED, day=date(2026, 11, 25))]
    on_the_day = datetime(2026, 11, 25, 23, 59, tzinfo=NEW_YORK)
    assert concluded(events, on_the_day, zone=NEW_YORK) == ()
    (late,) = concluded(events, on_the_day + timedelta(minutes=2), zone=NEW_YORK)
    assert (late.status, late.raw_code, late.care) == (S.DELAYED, LATE, Care.NOBODY)
    assert late.occurred_at == datetime(2026, 11, 26, 0, 0, tzinfo=NEW_YORK)


def test_the_day_promised_to_the_client_counts_where_the_carrier_promised_none() -> None:
    now = T0 + timedelta(days=2)
    assert concluded([event(S.SHIPPED)], now) == ()
    found = concluded([event(S.SHIPPED)], now, promised=date(2026, 11, 25))
    assert [one.raw_code for one in found] == [LATE]
    found = concluded([event(S.SHIPPED, day=date(2026, 11, 30))], now, promised=date(2026, 11, 25))
    assert found == ()


def test_concluded_again_it_is_the_same_event() -> None:
    events = [event(S.SHIPPED, day=date(2026, 11, 25))]
    first = concluded(events, T0 + timedelta(days=2))
    again = concluded(list(merge(events, first)), T0 + timedelta(days=2, hours=5))
    assert merge(events, first) == merge(merge(events, first), again)


def test_a_late_shipment_that_moves_again_is_no_longer_delayed() -> None:
    events = [event(S.SHIPPED, day=date(2026, 11, 25))]
    late = concluded(events, T0 + timedelta(days=2))
    newest = latest(merge([*events, *late, event(S.OUT_FOR_DELIVERY, T0 + timedelta(days=2, hours=1))]))
    assert newest is not None
    assert newest.status is S.OUT_FOR_DELIVERY


@pytest.mark.parametrize(
    ("status", "hours"), [(S.PROCESSING, 120), (S.SHIPPED, 72), (S.OUT_FOR_DELIVERY, 24), (S.DELAYED, 72)]
)
def test_a_silent_carrier_is_for_a_person_once(status: S, hours: int) -> None:
    assert concluded([event(status)], T0 + timedelta(hours=hours, seconds=-1)) == ()
    (silent,) = concluded([event(status)], T0 + timedelta(hours=hours))
    assert (silent.status, silent.raw_code, silent.care) == (None, SILENT, Care.FIRST)
    (again,) = concluded([event(status), silent], T0 + timedelta(hours=hours + 9))
    assert again.key == silent.key


def test_any_word_of_the_carrier_ends_its_silence() -> None:
    events = [event(S.SHIPPED), event(None, T0 + timedelta(hours=70))]
    assert concluded(events, T0 + timedelta(hours=80)) == ()


def test_a_label_that_is_never_scanned_is_given_up_to_a_person() -> None:
    found = concluded([], T0 + timedelta(days=14))
    assert [one.raw_code for one in found] == [SILENT, GIVEN_UP]
    assert all(one.care is Care.FIRST for one in found)


def test_a_done_shipment_is_neither_late_nor_silent() -> None:
    assert concluded([event(S.DELIVERED, day=date(2026, 11, 20))], T0 + timedelta(days=99)) == ()
