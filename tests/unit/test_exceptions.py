"""The rules of exceptions and holds: when a promise is broken, what a person must look at, who must agree."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.events import Admission, OrderState, OrderStatus, Trigger, admit, advance
from ordernotify.core.exceptions import (
    DONE,
    PROMISE_PASSED,
    Cause,
    Promise,
    broken_promise,
    cause_of,
)
from ordernotify.core.holds import REASONS, HoldDecision, HoldReason, people_needed
from ordernotify.core.labels import Label, Tags
from ordernotify.rendering import Library
from ordernotify.store.incidents import IncidentKind

DAY = date(2026, 11, 20)
PROMISED = DAY.isoformat()
NEW_YORK, TOKYO = ZoneInfo("America/New_York"), ZoneInfo("Asia/Tokyo")
BEFORE = datetime(2026, 11, 10, 9, tzinfo=UTC)


def promise(status="processing", *, promised=PROMISED, since=BEFORE, **more):
    state = OrderState(status=OrderStatus(status), status_at=since, promised_date=promised, **more)
    return Promise(order_id="o-1", order_no="SO-1", client_id="acme", state=state)


def midnight_after(day, zone):
    return datetime.combine(day + timedelta(days=1), time(0), zone).astimezone(UTC)


@pytest.mark.parametrize("zone", [UTC, NEW_YORK, TOKYO])
def test_a_promise_is_broken_when_its_day_is_over_where_the_client_is(zone):
    over = midnight_after(DAY, zone)
    assert broken_promise(promise(), zone=zone, at=over - timedelta(seconds=1)) is None
    event = broken_promise(promise(), zone=zone, at=over)
    assert (event.status, event.detail, event.promised_date) == (OrderStatus.DELAYED, PROMISE_PASSED, "")
    assert (event.trigger, event.occurred_at) == (Trigger.EXCEPTION, over)


@given(
    st.sampled_from([s for s in OrderStatus if s not in {*DONE, OrderStatus.UNKNOWN, OrderStatus.REGULATORY_HOLD}]),
    st.timedeltas(timedelta(days=-20), timedelta(days=30)).map(BEFORE.__add__),
    st.sampled_from([UTC, NEW_YORK, TOKYO]),
)
def test_a_broken_promise_is_news_once_and_a_new_date_makes_a_new_cause(status, since, zone):
    at = datetime(2026, 12, 24, tzinfo=UTC)
    told = promise(status, since=since)
    event = broken_promise(told, zone=zone, at=at)
    if event is None:
        # The source called it late when the date was over already.
        assert status is OrderStatus.DELAYED
        assert since >= midnight_after(DAY, zone)
        return
    assert admit(told.state, event) is Admission.NEWS
    after = advance(told.state, event)
    assert admit(after, event) is Admission.SAME
    # Told, and the date is still the same: there is nothing more to say.
    assert broken_promise(promise("delayed", since=after.status_at), zone=zone, at=at) is None
    new = promise("delayed", since=after.status_at, promised="2026-12-22")
    again = broken_promise(new, zone=zone, at=at)
    assert again is not None
    assert again.dedupe_key != event.dedupe_key
    assert admit(new.state, again) is Admission.NEWS


@pytest.mark.parametrize("status", [*sorted(DONE), "regulatory_hold"])
def test_nothing_is_late_that_has_ended_or_is_held(status):
    assert broken_promise(promise(status), zone=UTC, at=datetime(2027, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("promised", ["", "soon", "2026-13-01"])
def test_what_is_no_date_cannot_pass(promised):
    assert broken_promise(promise(promised=promised), zone=UTC, at=datetime(2027, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_reason_of_a_broken_promise_has_words_in_every_language(language):
    library = Library.load()
    fields = library.samples("delayed") | {"detail": PROMISE_PASSED}
    del fields["promised_date"]
    fields = {name: value for name, value in fields.items() if name != "tracking_url"}
    made = library.render(template="delayed", channel="sms", language=language, fields=fields)
    assert {"en": "The promised date has passed", "es": "Fecha prometida vencida"}[language] in made.text


def test_a_person_looks_at_what_waits_for_stock_a_border_or_a_carrier():
    assert cause_of(OrderStatus.BACKORDERED, "") is Cause.BACKORDER
    assert cause_of(OrderStatus.DELAYED, "customs") is Cause.CUSTOMS
    assert cause_of(OrderStatus.SHIPPED, "address_issue") is Cause.CARRIER_EXCEPTION
    assert cause_of(OrderStatus.PROCESSING, "") is None
    assert all(cause_of(status, "customs") is None for status in DONE)
    assert all(IncidentKind(cause.value) for cause in Cause)


@pytest.mark.parametrize(("contract", "label", "jurisdiction"), list(product(
    [False, True], [Label.PUBLIC, Label.FCI, Label.CUI, Label.CUI_SP], ["NONE", "EAR99", "EAR:3A001", "ITAR:XI"]
)))  # fmt: skip
def test_two_must_release_where_the_contract_the_label_or_export_rules_say_so(contract, label, jurisdiction):
    needed = people_needed(by_contract=contract, label=label, tags=Tags(jurisdiction=jurisdiction))
    strict = contract or label >= Label.CUI or jurisdiction in {"EAR:3A001", "ITAR:XI"}
    assert needed == (2 if strict else 1)


def test_every_reason_belongs_to_one_decision():
    assert sorted(REASONS[HoldDecision.RELEASE] | REASONS[HoldDecision.KEEP]) == sorted(HoldReason)
    assert not REASONS[HoldDecision.RELEASE] & REASONS[HoldDecision.KEEP]
