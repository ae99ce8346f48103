"""People of the supplier: what roles allow, which passwords are taken, when an account locks and a session ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.people import (
    LOCKED_FOR,
    ROLE_MAY,
    SESSION_IDLE,
    SESSION_LASTS,
    WRONG_IN_A_ROW,
    Act,
    Person,
    Role,
    after_wrong,
    read_password,
    read_person_id,
    session_is_over,
)
from ordernotify.core.recipients import Refused
from ordernotify.worker.runs import checked_parameters

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)
GOOD = "maple-otter 41 canyon"


def _person(*roles):
    return Person(id="ann_lee", name="Ann Lee", roles=frozenset(roles))


def test_only_compliance_decides_holds_and_only_staff_posts():
    assert [role for role in Role if _person(role).may(Act.DECIDE_HOLD)] == [Role.COMPLIANCE]
    assert [role for role in Role if _person(role).may(Act.POST_UPDATE)] == [Role.STAFF]
    assert not any(_person().may(act) for act in Act)
    assert set(ROLE_MAY) == set(Role)


@pytest.mark.parametrize("text", ["ann_lee", "ann", "ann-marie_lee"])
def test_an_id_is_a_word_that_may_travel_through_prefect(text):
    assert read_person_id(text) == text
    assert checked_parameters({"person": text})


@pytest.mark.parametrize("text", ["", "Ann", "ann lee", "ann@acme.example", "ann1", "a" * 41, "ann_lee\n"])
def test_an_id_that_is_no_word_is_refused(text):
    assert isinstance(read_person_id(text), Refused)


def test_a_long_password_of_ones_own_is_taken():
    assert read_password(GOOD, person_id="ann_lee", name="Ann Lee") == GOOD


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("short", "16 to 256"),
        ("x" * 257, "16 to 256"),
        ("aaaaaaaaaaaaaaaaaaaa", "few characters"),
        ("Password123456Password", "everybody"),
        ("passwordpassword1", "everybody"),
        ("correct horse battery staple", "everybody"),
        ("annie likes LEE ways", "your name"),
    ],
)
def test_a_password_that_is_guessed_early_is_refused_by_its_rule(password, rule):
    refused = read_password(password, person_id="ann_lee", name="Ann Lee")
    assert isinstance(refused, Refused)
    assert rule in refused.message
    assert password not in refused.message


@given(st.integers(1, 30))
def test_every_sixth_wrong_password_in_a_row_locks_and_the_wait_begins_a_new_row(tries):
    wrong, until, at, locks = 0, None, AT, 0
    for _ in range(tries):
        wrong, until = after_wrong(wrong, until, at=at)
        locks += until is not None
        at = until or at
    assert locks == tries // WRONG_IN_A_ROW
    assert until is None or until - LOCKED_FOR >= AT


@given(st.timedeltas(timedelta(0), timedelta(days=2)), st.timedeltas(timedelta(0), timedelta(days=2)))
def test_a_session_ends_when_it_is_unused_or_old(age, unused):
    over = session_is_over(created_at=AT - age, last_seen_at=AT - unused, at=AT)
    assert over == (age >= SESSION_LASTS or unused >= SESSION_IDLE)
