"""The policy's decisions: its published cases, and laws that hold in every state it can meet."""

import dataclasses
import itertools
import random
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core import policy
from ordernotify.core.channels import Channel, Level
from ordernotify.core.labels import FIELD_LABELS, NOTICE_FIELDS, Label, Tags
from ordernotify.core.policy import (
    CEILING,
    POLICY_VERSION,
    PROSCRIBED_COUNTRIES,
    RULES,
    OrderFacts,
    TemplateFacts,
    Verdict,
    decide,
    explain,
)
from ordernotify.core.recipients import Consent, ContactPoint, Recipient, UsPerson

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TODAY = NOW.date()
YESTERDAY = TODAY - timedelta(days=1)
CONTRACT = "W58RGZ-26-C-0001"

UPDATE = TemplateFacts(
    permits_notice=True,
    required=frozenset({"order_no", "status_word"}),
    fields=frozenset(
        {"supplier_name", "order_no", "status_word", "promised_date", "tracking_no", "lines", "portal_url"}
    ),
)
WITHOUT_PARTS = dataclasses.replace(UPDATE, fields=UPDATE.fields - {"lines"})

NOFORN = Tags(ldc=frozenset({"NOFORN"}))
EXPORT = Tags(jurisdiction="ITAR:VIII")
BOTH = Tags(ldc=frozenset({"NOFORN"}), categories=frozenset({"EXPT"}))

BUYER = Recipient(
    id="r1",
    client_id="k1",
    name="Jane Doe",
    us_person=UsPerson.VERIFIED,
    location_country="US",
    contracts=frozenset({CONTRACT}),
    training_until=TODAY,
    agreement_until=TODAY,
)
ADDRESS = ContactPoint(
    id="c1", channel=Channel.CHAT, platform="slack", address="U1", verified=True, consent=Consent.GRANTED
)


def order(label, tags=Tags(), *, contract=None):  # noqa: B008 - a frozen value is safe to share
    contract = (CONTRACT if label >= Label.FCI else "") if contract is None else contract
    return OrderFacts(label=label, tags=tags, government=bool(contract), contract_id=contract)


def ask(facts, level, *, template=UPDATE, now=NOW, channel=Channel.CHAT, contact=None, **recipient):
    return decide(
        order=facts,
        channel_level=level,
        contact=dataclasses.replace(ADDRESS, channel=channel, **(contact or {})),
        recipient=dataclasses.replace(BUYER, **recipient),
        template=template,
        now=now,
    )


def brief(decision):
    return decision.verdict, decision.rules[0]


# --- the published cases -----------------------------------------------------------------------------------


def test_a_commercial_order_is_a_notice_by_sms_and_whole_by_business_email():
    facts = order(Label.INTERNAL)
    text = ask(facts, Level.C0, channel=Channel.SMS)
    assert brief(text) == (Verdict.NOTICE_ONLY, "R13")
    assert text.label_after is Label.PUBLIC
    assert set(text.removed) == UPDATE.fields - NOTICE_FIELDS
    mail = ask(facts, Level.C1, channel=Channel.EMAIL)
    assert brief(mail) == (Verdict.ALLOW_FULL, "R11")
    assert (mail.label_before, mail.label_after, mail.removed) == (Label.INTERNAL, Label.INTERNAL, ())


@pytest.mark.parametrize("channel", Channel)
def test_a_commercial_order_released_as_public_is_whole_everywhere(channel):
    assert brief(ask(order(Label.PUBLIC), Level.C0, channel=channel)) == (Verdict.ALLOW_FULL, "R11")


def test_an_ordinary_client_without_any_papers_is_told_of_a_commercial_order():
    decision = ask(
        order(Label.INTERNAL),
        Level.C1,
        us_person=UsPerson.UNKNOWN,
        location_country="",
        contracts=frozenset(),
        training_until=None,
        agreement_until=None,
        contact={"consent": Consent.NONE},
    )
    assert brief(decision) == (Verdict.ALLOW_FULL, "R11")


def test_an_fci_order_is_whole_in_the_portal_and_a_notice_in_commercial_chat():
    assert brief(ask(order(Label.FCI), Level.C2)) == (Verdict.ALLOW_FULL, "R11")
    chat = ask(order(Label.FCI), Level.C1)
    assert brief(chat) == (Verdict.NOTICE_ONLY, "R13")
    assert {"order_no", "status_word", "promised_date", "tracking_no"} <= set(chat.removed)


@pytest.mark.parametrize("channel", [Channel.CHAT, Channel.SMS])
def test_an_fci_order_is_a_notice_on_consumer_channels(channel):
    assert brief(ask(order(Label.FCI), Level.C0, channel=channel)) == (Verdict.NOTICE_ONLY, "R13")


def test_a_cui_order_is_whole_in_an_authorized_tenant_and_a_notice_by_ordinary_email():
    facts = order(Label.CUI, Tags(categories=frozenset({"PROCURE"})))
    teams = ask(facts, Level.C3)
    assert brief(teams) == (Verdict.ALLOW_FULL, "R11")
    assert (teams.label_before, teams.removed) == (Label.CUI, ())
    assert brief(ask(facts, Level.C1, channel=Channel.EMAIL)) == (Verdict.NOTICE_ONLY, "R13")


@pytest.mark.parametrize("level", [Level.C0, Level.C1, Level.C2, Level.C3, Level.C4])
@pytest.mark.parametrize("paper", ["training_until", "agreement_until"])
@pytest.mark.parametrize("until", [YESTERDAY, None])
def test_a_cui_order_is_a_notice_everywhere_once_a_paper_has_expired(level, paper, until):
    assert brief(ask(order(Label.CUI), level, **{paper: until})) == (Verdict.NOTICE_ONLY, "R10")


def test_a_technical_order_is_redacted_where_the_channel_carries_fci():
    decision = ask(order(Label.CUI_SP, Tags(categories=frozenset({"CTI"}))), Level.C2)
    assert brief(decision) == (Verdict.ALLOW_REDACTED, "R12")
    assert (decision.label_before, decision.label_after) == (Label.CUI_SP, Label.FCI)
    assert decision.removed == ("lines",)


def test_an_export_controlled_order_is_a_notice_below_c4_and_whole_at_c4():
    assert brief(ask(order(Label.CUI_SP, BOTH), Level.C3)) == (Verdict.NOTICE_ONLY, "R9")
    assert brief(ask(order(Label.CUI_SP, BOTH), Level.C4)) == (Verdict.ALLOW_FULL, "R11")


@pytest.mark.parametrize("us_person", [UsPerson.UNKNOWN, UsPerson.FOREIGN])
def test_an_itar_order_is_not_told_to_anybody_but_verified_us_persons(us_person):
    assert brief(ask(order(Label.CUI_SP, EXPORT), Level.C4, us_person=us_person)) == (Verdict.DENY, "R5")


@pytest.mark.parametrize("country", [*sorted(PROSCRIBED_COUNTRIES), "ru", "", "XX", "ZZ", "Russia", "U", "U1"])
def test_an_itar_order_is_not_told_to_a_us_person_in(country):
    decision = ask(order(Label.CUI_SP, EXPORT), Level.C4, location_country=country)
    assert brief(decision) == (Verdict.DENY, "R6")


def test_an_ear99_part_is_told_to_a_foreign_distributor():
    decision = ask(
        order(Label.INTERNAL, Tags(jurisdiction="EAR99")),
        Level.C1,
        us_person=UsPerson.FOREIGN,
        location_country="DE",
    )
    assert brief(decision) == (Verdict.ALLOW_FULL, "R11")


def test_a_noforn_order_is_not_told_to_the_foreign_person_on_a_list():
    assert brief(ask(order(Label.FCI, NOFORN), Level.C2, us_person=UsPerson.FOREIGN)) == (Verdict.DENY, "R5")
    assert brief(ask(order(Label.FCI, NOFORN), Level.C2)) == (Verdict.ALLOW_FULL, "R11")


def test_an_order_without_a_label_waits_for_one():
    assert brief(ask(order(Label.read(""), contract=""), Level.C3)) == (Verdict.QUARANTINE, "R1")


@pytest.mark.parametrize("level", Level)
def test_a_classified_order_stops_everything(level):
    assert brief(ask(order(Label.CLASSIFIED), level, active=False)) == (Verdict.QUARANTINE, "R0")


@pytest.mark.parametrize("label", [Label.PUBLIC, Label.INTERNAL, Label.CUI])
def test_a_person_who_said_stop_is_told_nothing(label):
    assert brief(ask(order(label), Level.C4, contact={"consent": Consent.REVOKED})) == (Verdict.DENY, "R3")


def test_a_destination_that_is_not_acceptable_receives_nothing():
    assert brief(ask(order(Label.PUBLIC), Level.CX)) == (Verdict.DENY, "R2")


def test_a_channel_whose_evidence_expired_carries_a_notice():
    assert brief(ask(order(Label.CUI), Level.C0)) == (Verdict.NOTICE_ONLY, "R13")


# --- single rules ------------------------------------------------------------------------------------------


def test_a_text_needs_consent_given_beforehand():
    never_asked = {"consent": Consent.NONE}
    facts = order(Label.PUBLIC)
    assert brief(ask(facts, Level.C1, channel=Channel.SMS, contact=never_asked)) == (Verdict.DENY, "R3")
    for channel in set(Channel) - {Channel.SMS}:
        assert ask(facts, Level.C1, channel=channel, contact=never_asked).verdict is Verdict.ALLOW_FULL


def test_a_person_who_is_not_on_the_contract_does_not_learn_of_the_order():
    decision = ask(order(Label.FCI), Level.C4, contracts=frozenset({"another"}))
    assert brief(decision) == (Verdict.DENY, "R4")


def test_a_government_order_without_a_known_contract_is_told_to_nobody():
    facts = OrderFacts(label=Label.FCI, government=True, contract_id="")
    assert brief(ask(facts, Level.C4, contracts=frozenset({""}))) == (Verdict.DENY, "R4")


def test_an_unconfirmed_address_receives_a_notice_and_nothing_above_fci():
    unconfirmed = {"verified": False}
    for label in (Label.PUBLIC, Label.INTERNAL, Label.FCI):
        assert brief(ask(order(label), Level.C4, contact=unconfirmed)) == (Verdict.NOTICE_ONLY, "R8")
    for label in (Label.CUI, Label.CUI_SP):
        assert brief(ask(order(label), Level.C4, contact=unconfirmed)) == (Verdict.DENY, "R7")


def test_papers_hold_through_their_last_day_in_utc():
    last_minute = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)
    assert ask(order(Label.CUI), Level.C3, now=last_minute).verdict is Verdict.ALLOW_FULL
    tokyo = timezone(timedelta(hours=9))
    assert ask(order(Label.CUI), Level.C3, now=last_minute.astimezone(tokyo)).verdict is Verdict.ALLOW_FULL
    assert ask(order(Label.CUI), Level.C3, now=last_minute + timedelta(minutes=1)).rules == ("R10",)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="aware"):
        ask(order(Label.CUI), Level.C3, now=NOW.replace(tzinfo=None))


def test_a_template_without_a_notice_says_nothing_where_only_a_notice_may_go():
    no_notice = dataclasses.replace(UPDATE, permits_notice=False)
    decision = ask(order(Label.INTERNAL), Level.C0, template=no_notice)
    assert (decision.verdict, decision.rules) == (Verdict.DENY, ("R13", "N0"))
    assert set(decision.removed) == UPDATE.fields


def test_a_contact_can_lower_the_channels_level_and_never_raise_it():
    facts = order(Label.FCI)
    assert ask(facts, Level.C2, contact={"level": Level.C1}).verdict is Verdict.NOTICE_ONLY
    assert ask(facts, Level.C1, contact={"level": Level.C4}).verdict is Verdict.NOTICE_ONLY
    assert ask(facts, Level.C2, contact={"level": Level.CX}).verdict is Verdict.DENY


def test_words_fixed_for_a_status_are_not_public_though_they_show_no_field():
    fixed = TemplateFacts(permits_notice=True, required=frozenset(), fields=frozenset({"supplier_name"}))
    assert brief(ask(order(Label.INTERNAL), Level.C0, template=fixed)) == (Verdict.NOTICE_ONLY, "R13")
    assert brief(ask(order(Label.INTERNAL), Level.C1, template=fixed)) == (Verdict.ALLOW_FULL, "R11")


def test_a_message_of_an_order_is_judged_by_what_it_shows():
    assert brief(ask(order(Label.CUI), Level.C2, template=WITHOUT_PARTS)) == (Verdict.ALLOW_FULL, "R11")


def test_public_facts_of_a_government_order_are_not_shown_all_together():
    facts = order(Label.PUBLIC, contract=CONTRACT)
    decision = ask(facts, Level.C0)
    assert brief(decision) == (Verdict.ALLOW_REDACTED, "R12")
    assert (decision.label_before, decision.label_after) == (Label.FCI, Label.PUBLIC)
    assert decision.removed == ("lines", "promised_date")
    assert ask(facts, Level.C2).verdict is Verdict.ALLOW_FULL
    assert ask(order(Label.PUBLIC), Level.C0).verdict is Verdict.ALLOW_FULL


def test_a_template_with_a_field_nobody_declared_is_quarantined():
    typo = dataclasses.replace(UPDATE, fields=UPDATE.fields | {"drawing_scan"})
    assert brief(ask(order(Label.INTERNAL), Level.C4, template=typo)) == (Verdict.QUARANTINE, "R1")


# --- the published policy ----------------------------------------------------------------------------------


def test_the_rules_are_published_in_their_order():
    assert [rule.id for rule in RULES] == [f"R{n}" for n in range(14)]
    for rule in RULES:
        assert explain(rule.id) == rule.sentence
    assert explain("N0") != explain("D0")
    assert POLICY_VERSION in explain("R99")


def test_every_denial_stands_before_every_notice():
    strictness = [list(Verdict)[::-1].index(rule.verdict) for rule in RULES[:11]]
    assert strictness == sorted(strictness)


def test_the_version_is_a_digest():
    assert len(POLICY_VERSION) == 16
    int(POLICY_VERSION, 16)


# --- every state ---------------------------------------------------------------------------------------------
# Each axis lists its values from most to least open, so that a step along any axis must never open anything.
# Values that no rule tells apart (FOREIGN and UNKNOWN, proscribed and unknown countries) stand for each other;
# the cases above show that they are equal.

LABELS = tuple(Label)
TAGS = (Tags(), NOFORN, EXPORT, BOTH)
DEALS = (  # government, contract, the recipient's contracts
    (False, "", frozenset()),
    (False, CONTRACT, frozenset({CONTRACT})),
    (True, CONTRACT, frozenset({CONTRACT})),
    (True, CONTRACT, frozenset()),
    (True, "", frozenset({CONTRACT})),
)
LEVELS = tuple(sorted(Level, reverse=True))
REACH = ((True, Consent.GRANTED), (True, Consent.NONE), (True, Consent.REVOKED), (False, Consent.GRANTED))
US_PERSONS = (UsPerson.VERIFIED, UsPerson.UNKNOWN)
COUNTRIES = ("US", "RU")
VERIFIED = (True, False)
DATES = (date(2027, 1, 1), None)
NOTICES = (True, False)
FIELDS = (UPDATE, dataclasses.replace(UPDATE, required=UPDATE.required | {"lines"}))

ORDER_AXES = (LABELS, TAGS, DEALS)
PERSON_AXES = (REACH, US_PERSONS, COUNTRIES, VERIFIED, DATES, DATES)
TEMPLATE_AXES = (FIELDS, NOTICES)
AXES = (LABELS, TAGS, DEALS, LEVELS, *PERSON_AXES, *TEMPLATE_AXES)
# NOFORN and export are each more than nothing and less than both; neither is more than the other.
STEPS = {1: ((0, 1), (0, 2), (1, 3), (2, 3))}

OPENNESS = {verdict: place for place, verdict in enumerate(reversed(Verdict))}
FIELD_BITS = {name: 1 << place for place, name in enumerate(sorted(UPDATE.fields))}
ALL_FIELDS = sum(FIELD_BITS.values())


def states():
    """Yield the arguments of every state, the last axis moving fastest."""
    people = [
        (
            dataclasses.replace(ADDRESS, channel=Channel.SMS, consent=consent, verified=verified),
            dataclasses.replace(
                BUYER,
                active=active,
                us_person=us_person,
                location_country=country,
                training_until=training,
                agreement_until=agreement,
            ),
        )
        for (active, consent), us_person, country, verified, training, agreement in itertools.product(*PERSON_AXES)
    ]
    templates = [
        dataclasses.replace(fields, permits_notice=notice) for fields, notice in itertools.product(*TEMPLATE_AXES)
    ]
    knowing = {deal[2]: [(c, dataclasses.replace(r, contracts=deal[2])) for c, r in people] for deal in DEALS}
    for label, tags, (government, contract, contracts) in itertools.product(*ORDER_AXES):
        facts = OrderFacts(label=label, tags=tags, government=government, contract_id=contract)
        for level in LEVELS:
            for contact, recipient in knowing[contracts]:
                for template in templates:
                    yield facts, level, contact, recipient, template


def decide_state(state):
    facts, level, contact, recipient, template = state
    return decide(order=facts, channel_level=level, contact=contact, recipient=recipient, template=template, now=NOW)


@pytest.fixture(scope="module")
def enumerated():
    """Every state's openness and shown fields as arrays over the axes, and some states of every rule."""
    shape = tuple(len(axis) for axis in AXES)
    openness, shown = bytearray(), bytearray()
    masks, samples = {}, {}
    for state in states():
        decision = decide_state(state)
        openness.append(OPENNESS[decision.verdict])
        mask = masks.get(decision.removed)
        if mask is None:
            mask = masks[decision.removed] = ALL_FIELDS - sum(FIELD_BITS[name] for name in decision.removed)
        shown.append(mask)
        kept = samples.setdefault(decision.rules[0], [])
        if len(kept) < 50 or not len(openness) % 97:
            kept.append(state)
    return np.frombuffer(openness, np.uint8).reshape(shape), np.frombuffer(shown, np.uint8).reshape(shape), samples


def test_every_state_has_a_decision(enumerated):
    openness, _, _ = enumerated
    assert openness.size == np.prod([len(axis) for axis in AXES])
    assert set(np.unique(openness)) == set(OPENNESS.values())


@pytest.mark.parametrize("axis", range(len(AXES)))
def test_nothing_opens_when_one_thing_gets_stricter(enumerated, axis):
    openness, shown, _ = enumerated
    for looser, stricter in STEPS.get(axis, itertools.pairwise(range(len(AXES[axis])))):
        assert (openness.take(stricter, axis) <= openness.take(looser, axis)).all()
        assert not (shown.take(stricter, axis) & ~shown.take(looser, axis)).any()


def test_every_rule_is_reached(enumerated):
    *_, samples = enumerated
    assert set(samples) == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_no_rule_can_be_left_out(enumerated, rule, monkeypatch):
    *_, samples = enumerated
    decided = [(state, decide_state(state)) for state in samples[rule.id]]
    monkeypatch.setattr(policy, "RULES", tuple(other for other in RULES if other is not rule))
    changed = [state for state, before in decided if decide_state(state).verdict is not before.verdict]
    assert changed


def test_what_no_rule_decides_is_denied(monkeypatch):
    monkeypatch.setattr(policy, "RULES", RULES[:-1])
    assert ask(order(Label.INTERNAL), Level.C0).rules == ("D0",)
    assert ask(order(Label.INTERNAL), Level.C0).verdict is Verdict.DENY


def test_the_same_state_is_decided_the_same_way_each_time(enumerated):
    *_, samples = enumerated
    drawn = [state for kept in samples.values() for state in kept][:10_000]
    first = [decide_state(state) for state in drawn]
    again = list(zip(drawn, first, strict=True))
    random.Random(7).shuffle(again)  # noqa: S311 - another order, not a secret
    assert all(decide_state(state) == decision for state, decision in again)


# --- any template --------------------------------------------------------------------------------------------

some_fields = st.frozensets(st.sampled_from(sorted(FIELD_LABELS)))


@given(
    st.sampled_from(Label),
    st.sampled_from(TAGS),
    st.sampled_from(Level),
    st.booleans(),
    st.builds(TemplateFacts, permits_notice=st.booleans(), required=some_fields, fields=some_fields),
)
def test_nothing_above_the_ceiling_leaves_and_nothing_required_is_cut(label, tags, level, government, template):
    facts = OrderFacts(label=label, tags=tags, government=government, contract_id=CONTRACT if government else "")
    decision = ask(facts, level, template=template)
    assert decision.rules[0] in {rule.id for rule in RULES}
    assert set(decision.removed) <= template.fields
    assert decision.label_after <= CEILING[level]
    if decision.verdict is Verdict.ALLOW_REDACTED:
        assert decision.removed
        assert template.required.isdisjoint(decision.removed)
    if decision.verdict is Verdict.ALLOW_FULL:
        assert decision.removed == ()
        assert decision.label_before is decision.label_after
    if decision.verdict is Verdict.NOTICE_ONLY:
        assert template.fields - set(decision.removed) <= NOTICE_FIELDS
    if decision.verdict in {Verdict.DENY, Verdict.QUARANTINE}:
        assert set(decision.removed) == template.fields
