"""Summaries: when one is due by any clock, which orders stand in it, and what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordernotify.clock import new_id
from ordernotify.core.channels import Channel, Level
from ordernotify.core.events import OrderStatus
from ordernotify.core.labels import Label
from ordernotify.core.planning import Registered, Suppressed
from ordernotify.core.policy import OrderFacts
from ordernotify.core.recipients import Consent, ContactPoint, Recipient, UsPerson
from ordernotify.core.summaries import Cut, Group, Standing, cut, due, group, moment
from ordernotify.rendering import Library, Rendered
from ordernotify.rendering.spreadsheet import spreadsheet
from ordernotify.rendering.tables import TABLES, Listing
from ordernotify.settings import Settings
from ordernotify.summary_words import summed

LIBRARY = Library.load()
FACTS = LIBRARY.facts("summary")
LONG_AGO = datetime(1980, 1, 1, tzinfo=UTC)
CLOCKS = (
    "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca",
    "America/Sao_Paulo", "Asia/Beirut", "Pacific/Chatham", "UTC",
)  # fmt: skip
zones = st.sampled_from(CLOCKS).map(ZoneInfo)
hours = st.times().map(lambda hour: hour.replace(second=0, microsecond=0))
moments = st.datetimes(datetime(2005, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - its zone is given


# ---- when ----


@pytest.mark.parametrize(
    ("zone", "day", "hour", "expected"),
    [
        ("America/New_York", "2026-11-24", "07:00", "2026-11-24T12:00Z"),
        ("Asia/Kolkata", "2026-11-24", "07:00", "2026-11-24T01:30Z"),
        ("Australia/Lord_Howe", "2026-11-24", "07:00", "2026-11-23T20:00Z"),
        ("America/St_Johns", "2026-11-24", "07:00", "2026-11-24T10:30Z"),
        # Does not come: the clock is put forward from 02:00 to 03:00.
        ("America/New_York", "2026-03-08", "02:30", "2026-03-08T07:00Z"),
        ("Australia/Lord_Howe", "2026-10-04", "02:15", "2026-10-03T15:30Z"),
        # Comes twice: the first time counts.
        ("America/New_York", "2026-11-01", "01:30", "2026-11-01T05:30Z"),
        ("Australia/Lord_Howe", "2026-04-05", "01:45", "2026-04-04T14:45Z"),
        # Midnight itself is left out.
        ("Asia/Beirut", "2021-03-28", "00:30", "2021-03-27T22:00Z"),
    ],
)
def test_a_clock_first_shows_an_hour(zone, day, hour, expected):
    found = moment(ZoneInfo(zone), date.fromisoformat(day), time.fromisoformat(hour))
    assert found == datetime.fromisoformat(expected)


def test_a_day_that_a_zone_left_out_has_no_hour():
    apia = ZoneInfo("Pacific/Apia")
    assert moment(apia, date(2011, 12, 30), time(7)) is None
    assert moment(apia, date(2011, 12, 31), time(7)) == datetime(2011, 12, 30, 17, tzinfo=UTC)


def test_the_hour_has_to_have_come():
    zone, hour = ZoneInfo("Europe/Madrid"), time(7)
    before, at = datetime(2026, 11, 24, 5, 59, tzinfo=UTC), datetime(2026, 11, 24, 6, tzinfo=UTC)
    yesterday = date(2026, 11, 23)
    assert due(zone, before, hour, yesterday, since=LONG_AGO) is None
    assert due(zone, at, hour, yesterday, since=LONG_AGO) == date(2026, 11, 24)
    assert due(zone, at, hour, date(2026, 11, 24), since=LONG_AGO) is None


def test_of_days_that_were_missed_the_newest_is_due_and_no_other():
    zone, at = ZoneInfo("Europe/Madrid"), datetime(2026, 11, 24, 5, tzinfo=UTC)
    assert due(zone, at, time(7), date(2026, 11, 19), since=LONG_AGO) == date(2026, 11, 23)


def test_a_client_that_came_after_todays_hour_waits_for_tomorrows():
    zone, hour, came = ZoneInfo("UTC"), time(7), datetime(2026, 11, 24, 9, tzinfo=UTC)
    assert due(zone, came + timedelta(hours=1), hour, None, since=came) is None
    assert due(zone, came + timedelta(hours=22), hour, None, since=came) == date(2026, 11, 25)


@given(zone=zones, hour=hours, checks=st.lists(moments, min_size=1, max_size=40))
def test_whenever_it_is_asked_no_day_is_given_twice_or_before_its_hour(zone, hour, checks):
    last, seen = None, []
    for at in sorted(checks):
        day = due(zone, at, hour, last, since=LONG_AGO)
        if day is not None:
            assert moment(zone, day, hour) <= at
            seen.append(day)
            last = day
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen)


@settings(max_examples=60, deadline=None)
@given(zone=zones, hour=hours, began=moments, step=st.integers(5, 180))
def test_asked_often_enough_every_day_that_has_the_hour_is_given_exactly_once(zone, hour, began, step):
    last, seen = None, []
    checks = [began + timedelta(minutes=step) * number for number in range(10 * 24 * 60 // step)]
    for at in checks:
        day = due(zone, at, hour, last, since=began)
        if day is not None:
            seen.append(day)
            last = day
    first = began.astimezone(zone).date() - timedelta(days=1)
    days = [first + timedelta(days=number) for number in range(14)]
    told = {day: moment(zone, day, hour) for day in days}
    assert seen == [day for day, at in told.items() if at is not None and began < at <= checks[-1]]


@given(zone=zones, hour=hours, day=st.dates(date(2005, 1, 1), date(2030, 1, 1)))
def test_nothing_before_the_moment_of_an_hour_shows_it_on_that_day(zone, hour, day):
    found = moment(zone, day, hour)
    if found is None:
        return
    local = found.astimezone(zone)
    assert (local.date(), local.time()) >= (day, hour)
    for earlier in (timedelta(seconds=1), timedelta(minutes=30), timedelta(hours=1), timedelta(hours=5)):
        before = (found - earlier).astimezone(zone)
        assert (before.date(), before.time()) < (day, hour)


# ---- what ----

DAY = date(2026, 11, 24)


def standing(number="SO-1001", status="processing", *, label="public", changed=False, promised="", **facts):
    return Standing(
        order_no=number, status=OrderStatus(status), since=date(2026, 11, 20), promised_date=promised, carrier="UPS",
        tracking_no=f"1Z{number}", changed=changed, facts=OrderFacts(label=Label.read(label), **facts),
    )  # fmt: skip


def contact(**more):
    return ContactPoint(**{
        "id": "ann.mail", "channel": Channel.EMAIL, "platform": "sendgrid", "summary": True,
        "address": "ann@acme.example", "verified": True, "consent": Consent.GRANTED, **more,
    })  # fmt: skip


def told(*orders, level=Level.C1, registered=True, point=None, **recipient):
    person = Recipient(
        id="ann", client_id="acme", name="Ann", us_person=UsPerson.VERIFIED, location_country="US",
        training_until=date(2099, 1, 1), agreement_until=date(2099, 1, 1), **recipient,
    )  # fmt: skip
    return cut(
        orders, recipient=person, contact=point or contact(),
        registered=Registered(level=level, enabled=True) if registered else None,
        template=FACTS, rows=FACTS.rows, now=datetime(2026, 11, 24, 12, tzinfo=UTC),
    )  # fmt: skip


def government(number="GOV-7001"):
    return standing(number, label="fci", government=True, contract_id="N1")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (standing(status="delayed"), Group.ATTENTION),
        (standing(status="regulatory_hold", changed=True), Group.ATTENTION),
        (standing(promised="2026-11-23"), Group.ATTENTION),
        (standing(promised="2026-11-24"), Group.OTHERS),
        (standing(promised="soon", changed=True), Group.CHANGED),
        (standing(status="delivered", promised="2026-11-01", changed=True), Group.CHANGED),
    ],
)
def test_what_is_late_or_on_hold_comes_first_and_then_what_changed(order, expected):
    assert group(order, day=DAY) is expected


def test_its_label_is_that_of_all_it_shows():
    assert told(standing(), standing("SO-1002")).label is Label.PUBLIC
    assert told(standing(), standing("SO-1002", label="internal")).label is Label.INTERNAL


def test_an_order_that_only_a_notice_may_tell_of_is_counted_and_its_values_are_withheld():
    found = told(standing(), government(), contracts=frozenset({"N1"}))
    assert [one.standing.order_no for one in found.named] == ["SO-1001"]
    assert (found.unnamed, found.denied, found.label) == (1, 0, Label.INTERNAL)
    assert found.withheld == {"GOV-7001", "1ZGOV-7001"}


def test_an_order_that_a_person_may_not_know_of_is_in_no_number():
    found = told(standing(), government())
    assert (len(found.named), found.unnamed, found.denied) == (1, 0, 1)
    assert "GOV-7001" in found.withheld


def test_where_nothing_may_be_told_there_is_no_summary():
    found = told(government())
    assert isinstance(found, Suppressed)
    assert (found.reason, found.rules) == ("policy", ("R4",))
    assert told(standing(), registered=False).reason == "platform_not_configured"
    assert told(standing(), point=contact(address="link:abc")).reason == "not_linked"
    assert told(standing(), point=contact(consent=Consent.REVOKED)).rules == ("R3",)
    assert told(standing(label="classified")).reason == "policy"


def test_on_a_channel_for_public_things_company_business_becomes_a_notice():
    found = told(standing(label="internal"), level=Level.C0)
    assert isinstance(found, Cut)
    assert found.notice_only
    assert found.named == ()
    assert found.label is Label.PUBLIC
    assert not told(standing(), level=Level.C0).notice_only


# ---- words ----


def words(channel, language, listing=None, **fields):
    known = {name: value for name, value in LIBRARY.samples("summary").items() if name not in FACTS.rows} | fields
    made = LIBRARY.render(template="summary", channel=channel, language=language, fields=known, listing=listing)
    assert isinstance(made, Rendered), made
    return made


ROW = {"order_no": "SO-1001", "status": "shipped", "since": "2026-11-20"}


@pytest.mark.parametrize("language", LIBRARY.languages)
def test_the_picture_is_made_of_cells_with_words_and_loads_nothing(language):
    counts = {OrderStatus.SHIPPED: 900, OrderStatus.DELAYED: 1, OrderStatus.PROCESSING: 99}
    made = words(Channel.EMAIL, language, Listing(counts=counts, rows={"others": [ROW]}))
    names = LIBRARY.words(language).status
    for status, count in counts.items():
        assert f">{count}</td>" in made.html
        assert f">{names[status]}</td>" in made.html
        assert f"- {names[status]}: {count}" in made.text
    cells = [part.split('"')[0] for part in made.html.split('<td width="')[1:]]
    widths = [int(width.removesuffix("%")) for width in cells if width.endswith("%")]
    assert len(widths) == 3
    assert min(widths) >= 5
    assert sum(widths) <= 100
    assert not any(word in made.html.lower() for word in ("<img", "<script", "src=", "url("))


@pytest.mark.parametrize("language", LIBRARY.languages)
@pytest.mark.parametrize("channel", Channel)
def test_without_anything_optional_a_summary_still_reads_well(channel, language):
    gone = dict.fromkeys(FACTS.fields - FACTS.required - FACTS.rows, "")
    made = words(channel, language, Listing(), **gone)
    whole = f"{made.subject}\n{made.text}\n{made.html}"
    assert not any(mark in whole for mark in ("{{", "{%", "None", "Undefined", "say_"))
    assert "https://portal.example.com/" in made.text


def test_a_row_without_a_carrier_leaves_no_gap_and_one_without_a_number_is_left_out():
    rows = {"changed": [ROW, {"status": "shipped"}, {**ROW, "order_no": "SO-2", "carrier": "<b>UPS</b>"}]}
    made = words(Channel.EMAIL, "en", Listing(rows=rows))
    assert "- SO-1001: Shipped since 20 Nov 2026\n" in made.text
    assert "- SO-2: Shipped since 20 Nov 2026, <b>UPS</b>\n" in made.text
    assert "&lt;b&gt;UPS&lt;/b&gt;" in made.html
    assert made.text.count("Shipped since") == 2


def test_every_group_of_orders_has_its_table():
    assert {name for name, columns in TABLES.items() if "order_no" in columns} == {part.value for part in Group}


def words_of(found):
    return summed(
        found, delivery_id=new_id(), event_id=new_id(), client_name="Acme", day=DAY, library=LIBRARY,
        at=datetime(2026, 11, 24, 12, tzinfo=UTC), settings=Settings(),
    )  # fmt: skip


def test_an_order_whose_number_begins_a_shown_one_is_withheld_without_stopping_the_summary():
    shown = [standing(f"SO-10{number}") for number in range(60)]
    made = words_of(told(government("SO-10"), *shown, contracts=frozenset({"N1"})))
    assert made.message is not None, made.code
    assert made.message.variables["unnamed_orders"] == "1"
    assert made.message.variables["more_orders"] == "10"
    assert ">SO-10<" not in made.message.html


def test_a_withheld_value_that_stands_in_the_words_stops_the_summary():
    secret = government("GOV-7001")
    leak = replace(standing(), carrier="UPS re GOV-7001")
    made = words_of(told(leak, secret, contracts=frozenset({"N1"})))
    assert (made.message, made.code) == (None, "gate_sealed_sealed-value")
    # Also where only the file names the order.
    many = [standing(f"SO-20{number}") for number in range(60)]
    made = words_of(told(*many, replace(leak, since=date(2026, 11, 23)), secret, contracts=frozenset({"N1"})))
    assert (made.message, made.code) == (None, "gate_sealed_sealed-value")
    marked = words_of(told(replace(standing(), carrier="CUI//SP-CTI")))
    assert marked.message is None
    assert marked.code.startswith("gate_marking_")


def test_a_file_that_is_too_large_for_the_platform_stays_behind_and_the_words_say_so():
    many = [standing(f"SO-{number:06}") for number in range(40_000)]
    made = words_of(told(*many, point=contact(platform="outlook")))
    assert made.message.attachments == ()
    assert "39950 more in the portal" in made.message.text
    kept = words_of(told(*many))
    assert "39950 more in the attached file: orders-2026-11-24.csv" in kept.message.text
    assert kept.message.attachments[0].content.count(b"\r\n") == 40_001


@given(st.text(max_size=30))
def test_no_cell_of_the_file_starts_a_formula(text):
    content = spreadsheet([{"order_no": text, "status": "shipped"}], LIBRARY.words("en")).decode("utf-8-sig")
    assert not content.split("\r\n")[1].strip('"').startswith(("=", "+", "-", "@", "\t"))
