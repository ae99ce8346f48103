"""Hearing: what a shipment's carrier says is told once, held for a person, or shown to one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.events import OrderStatus
from ordernotify.core.hearing import hear
from ordernotify.core.tracking import Care, TrackingEvent, merge

BEGAN = datetime(2026, 11, 24, 9, tzinfo=UTC)
S = OrderStatus


def event(status, minutes, *, code="", **more):
    return TrackingEvent(
        carrier="ups", tracking_no="1Z9", status=status, raw_code=code or str(status),
        occurred_at=BEGAN + timedelta(minutes=minutes), **more,
    )  # fmt: skip


EVENTS = st.builds(
    event,
    st.sampled_from([S.PROCESSING, S.SHIPPED, S.DELAYED, S.OUT_FOR_DELIVERY, S.DELIVERED, S.RETURNED, S.UNKNOWN, None]),
    st.integers(0, 9),
    code=st.sampled_from(["a", "b", "c"]),
    care=st.sampled_from(Care),
    estimated_delivery=st.sampled_from([None, date(2026, 11, 27), date(2026, 11, 28)]),
)
STORIES = st.lists(EVENTS, max_size=8)


@given(STORIES, STORIES)
def test_what_was_heard_before_is_neither_written_nor_told_again(known, fresh):
    once = hear(known, fresh)
    again = hear(once.events, merge(fresh))
    assert (again.tell, again.hold, again.look) == ((), (), ())
    assert {one.key for one in again.fresh} <= {one.key for one in once.events}
    assert hear(once.events, ()).fresh == ()


@given(STORIES, STORIES)
def test_what_is_for_a_person_first_is_never_told(known, fresh):
    heard = hear(known, fresh)
    assert all(one.care is not Care.FIRST or one.status is S.UNKNOWN for one in heard.tell)
    assert all(one.care is Care.FIRST and one.moves for one in heard.hold)


@given(STORIES, STORIES)
def test_nothing_new_that_a_person_must_see_is_passed_over(known, fresh):
    heard = hear(known, fresh)
    before = {one.key for one in merge(known)}
    must = {one.key for one in merge(known, fresh) if one.care is not Care.NOBODY and one.key not in before}
    assert must <= {one.key for one in (*heard.tell, *heard.hold, *heard.look)}


@given(STORIES)
def test_of_a_whole_history_at_most_one_status_is_told(story):
    usual = [one for one in hear((), story).tell if one.status is not S.UNKNOWN]
    assert len(usual) <= 1


def test_a_scan_at_one_more_place_is_written_and_not_told():
    known = [event(S.SHIPPED, 0, estimated_delivery=date(2026, 11, 27))]
    heard = hear(known, [event(S.SHIPPED, 60, code="next place")])
    assert (len(heard.fresh), heard.tell) == (1, ())


def test_another_day_of_delivery_is_told_although_nothing_else_changed():
    scan = event(S.SHIPPED, 0, estimated_delivery=date(2026, 11, 27))
    (told,) = hear([scan], [replace(scan, estimated_delivery=date(2026, 11, 30))]).tell
    assert told.estimated_delivery == date(2026, 11, 30)


def test_a_parcel_that_moves_again_after_a_loss_was_reported_is_told_by_its_own_word():
    lost = event(S.DELAYED, 10, code="lost", care=Care.FIRST)
    heard = hear([event(S.SHIPPED, 0)], [lost])
    assert (heard.tell, heard.hold) == ((), (lost,))
    assert [one.status for one in hear(heard.events, [event(S.OUT_FOR_DELIVERY, 20)]).tell] == [S.OUT_FOR_DELIVERY]
