"""Freshdesk: exact replies and updates, every refusal of its tables, and the loop with its simulation."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal
from ordernotify.platforms._freshdesk_setup import TOKEN_HEADER, FreshdeskSettings
from ordernotify.platforms.freshdesk import BY_HTTP_STATUS, CODES, PLATFORM, read, verify
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox._base import Request as Asked
from ordernotify.sandbox.vendors.freshdesk import VENDOR

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "freshdesk"
S, K = OrderStatus, FailureKind
VALUES: dict[str, Any] = {
    "base_url": "https://northgate.freshdesk.com",
    "api_key": "key-abc",
    "webhook_secret": "rule-secret",
    "status_map": "On its way=shipped",
}
SETTINGS = FreshdeskSettings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url="https://hooks.example/webhooks/freshdesk")
UPDATING = replace(CONTEXT, settings=FreshdeskSettings.model_validate({**VALUES, "action": "update"}))
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.RECORD,
    to="ticket:1042",
    status=S.OUT_FOR_DELIVERY,
    language="en",
    subject="Order SO-1001",
    text="Out <today> & {{ticket.id}}\nTracking 1Z999AA10123456784",
)
ROOT = "https://northgate.freshdesk.com/api/v2"


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_bytes())


ERRORS = recorded("errors")


def answer(value: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, named, json.dumps(value).encode())


EMPTY, REPLIED, UPDATED = answer([]), answer(recorded("replied"), 201), answer(recorded("updated"))


def play(message: Message, *answers: Answer, context: Context = CONTEXT) -> tuple[list[Call], Outcome]:
    """Return the calls that a message makes when it is answered so, and its outcome."""
    conversation, calls, waiting = PLATFORM.send([message], context), [], list(answers)
    try:
        calls.append(next(conversation))
        while True:
            calls.append(conversation.send(waiting.pop(0)))
    except StopIteration as end:
        assert not waiting
        (outcome,) = end.value
        return calls, outcome


# ---- settings ----


@pytest.mark.parametrize(
    "change",
    [{"base_url": "northgate"}, {"action": "note"}, {"status_field": "status"}, {"status_map": "x"}, {"api_key": None}],
)
def test_settings_that_cannot_be_right_are_refused(change):
    with pytest.raises(ValidationError):
        FreshdeskSettings.model_validate({**VALUES, **change})


def test_no_secret_shows_in_the_settings():
    assert "key-abc" not in repr(SETTINGS)
    assert "rule-secret" not in repr(SETTINGS)


# ---- requests ----


def test_a_ticket_is_answered_after_its_conversation_was_read():
    (asked, replied), outcome = play(MESSAGE, EMPTY, REPLIED)
    assert (asked.method, asked.url) == ("GET", f"{ROOT}/tickets/1042/conversations?per_page=100&page=1")
    assert asked.headers["authorization"] == f"Basic {base64.b64encode(b'key-abc:X').decode()}"
    assert (replied.method, replied.url) == ("POST", f"{ROOT}/tickets/1042/reply")
    assert json.loads(replied.body) == {
        "body": "<p>Out &lt;today&gt; &amp; &#123;&#123;ticket.id&#125;&#125;<br>Tracking 1Z999AA10123456784<br>"
        f"[ordernotify {MESSAGE.reference}]</p>"
    }
    assert outcome == Accepted("5001", "freshdesk_201")


def test_a_reply_comes_from_the_address_that_is_set():
    context = replace(CONTEXT, settings=SETTINGS.model_copy(update={"from_email": "orders@northgate.example"}))
    (_, replied), _ = play(MESSAGE, EMPTY, REPLIED, context=context)
    assert json.loads(replied.body)["from_email"] == "orders@northgate.example"


def test_what_stands_in_the_conversation_is_not_written_again():
    other = {"id": 1, "body_text": "Hello"}
    ours = {"id": 2, "body_text": f"Out\n[ordernotify {MESSAGE.reference}]"}
    assert play(MESSAGE, answer([other, ours]))[1] == Accepted("2", "freshdesk_found")
    calls, outcome = play(MESSAGE, answer([other] * 100), answer([ours]))
    assert outcome == Accepted("2", "freshdesk_found")
    assert calls[1].url.endswith("page=2")


@pytest.mark.parametrize("status", [one for one in S if one is not S.UNKNOWN])
def test_an_update_sets_the_fields_that_start_the_automation(status):
    (updated,), outcome = play(replace(MESSAGE, status=status), UPDATED, context=UPDATING)
    assert (updated.method, updated.url) == ("PUT", f"{ROOT}/tickets/1042")
    assert json.loads(updated.body) == {
        "custom_fields": {
            "cf_order_status": status.value.replace("_", " ").capitalize(),
            "cf_notice": MESSAGE.text,
            "cf_notice_reference": MESSAGE.reference,
        }
    }
    assert outcome == Accepted("1042", "freshdesk_200")


def test_a_notice_is_written_with_nothing_but_its_text():
    (updated,), _ = play(replace(MESSAGE, notice_only=True), UPDATED, context=UPDATING)
    assert json.loads(updated.body)["custom_fields"].keys() == {"cf_notice", "cf_notice_reference"}


def test_an_order_number_is_searched_for_and_the_newest_open_ticket_taken():
    results = [{"id": 7, "status": 2}, {"id": 9, "status": 5}, {"id": 8, "status": 4}]
    calls, _ = play(
        replace(MESSAGE, to="#1001"), answer({"total": 3, "results": results}), EMPTY, REPLIED, context=CONTEXT
    )
    assert parse_qs(urlsplit(calls[0].url).query) == {"query": ["\"cf_order_no:'#1001'\""]}
    assert calls[1].url.startswith(f"{ROOT}/tickets/8/")


def test_an_order_without_a_ticket_is_refused():
    calls, outcome = play(replace(MESSAGE, to="SO-1"), answer({"total": 0, "results": []}))
    assert (len(calls), outcome) == (1, Rejected(K.PERMANENT, "freshdesk_no_ticket"))


def test_a_wrong_address_is_rejected_without_a_call():
    assert play(replace(MESSAGE, to="x' OR 'y")) == ([], Rejected(K.PERMANENT, "freshdesk_address"))


# ---- answers ----


@pytest.mark.parametrize(
    ("given_answer", "outcome"),
    [
        (answer(ERRORS["validation"], 400), Rejected(K.PERMANENT, "freshdesk_missing_field")),
        (answer(ERRORS["choice"], 400), Rejected(K.CONFIG, "freshdesk_invalid_value")),
        (answer(ERRORS["field"], 400), Rejected(K.CONFIG, "freshdesk_invalid_field")),
        (answer(ERRORS["login"], 401), Rejected(K.AUTH, "freshdesk_invalid_credentials")),
        (answer(ERRORS["denied"], 403), Rejected(K.AUTH, "freshdesk_access_denied")),
        (Answer(404), Rejected(K.PERMANENT, "freshdesk_404")),
        (answer({"code": "private text"}, 400), Rejected(K.PERMANENT, "freshdesk_400")),
        (answer({}, 418), Rejected(K.PERMANENT, "freshdesk_418")),
        (answer({}, 429, retry_after="7"), Deferred(K.RATE, "freshdesk_429", retry_after_s=7.0)),
        (answer({}, 500), Deferred(K.TRANSIENT, "freshdesk_500", ambiguous=True)),
        (Answer(503, {}, b"<html>"), Deferred(K.TRANSIENT, "freshdesk_503", ambiguous=True)),
        (Answer(201, {}, b"<html>"), Deferred(K.TRANSIENT, "freshdesk_unreadable", ambiguous=True)),
        (answer({"id": "1"}, 201), Deferred(K.TRANSIENT, "freshdesk_unreadable", ambiguous=True)),
    ],
)
def test_every_answer_to_a_write_means_one_outcome(given_answer, outcome):
    assert play(MESSAGE, EMPTY, given_answer)[1] == outcome
    assert play(MESSAGE, given_answer, context=UPDATING)[1] == outcome


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_the_table_decides_before_the_status(code):
    body = {"description": "x", "errors": [{"field": "f", "message": "private", "code": code}]}
    assert play(MESSAGE, EMPTY, answer(body, 409))[1] == Rejected(CODES[code], f"freshdesk_{code}")


@pytest.mark.parametrize("status", sorted(BY_HTTP_STATUS))
def test_every_status_of_the_table_decides_without_a_code(status):
    assert play(MESSAGE, EMPTY, Answer(status))[1] == Rejected(BY_HTTP_STATUS[status], f"freshdesk_{status}")


@pytest.mark.parametrize("given_answer", [Answer(500), Answer(200, {}, b"x"), answer({"results": 5})])
def test_a_read_that_failed_leaves_nothing_in_doubt(given_answer):
    for to in ("ticket:1042", "SO-1"):
        outcome = play(replace(MESSAGE, to=to), given_answer)[1]
        assert isinstance(outcome, Deferred)
        assert not outcome.ambiguous


def test_a_search_that_is_not_there_is_a_wrong_set_up():
    assert play(replace(MESSAGE, to="SO-1"), Answer(404))[1] == Rejected(K.CONFIG, "freshdesk_404")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


def always(reply: Answer, message: Message) -> Outcome:
    """Return the outcome of a message all of whose calls are answered the same."""
    conversation = PLATFORM.send([message], CONTEXT)
    next(conversation)
    try:
        while True:
            conversation.send(reply)
    except StopIteration as end:
        (outcome,) = end.value
        return outcome


@given(JSON, st.sampled_from([200, 201, 301, 400, 404, 429, 500]), st.sampled_from(["ticket:1", "SO-1"]))
def test_random_answers_mean_an_outcome_and_never_raise(value, status, to):
    reply = answer(value, status)
    assert isinstance(always(reply, replace(MESSAGE, to=to)), Accepted | Deferred | Rejected)
    assert PLATFORM.probe is not None
    assert PLATFORM.probe.read(reply, CONTEXT)


# ---- webhooks ----


def posted(value: object, proof: str = "rule-secret") -> Inbound:
    return Inbound("POST", "", {TOKEN_HEADER.lower(): proof} if proof else {}, json.dumps(value).encode())


@pytest.mark.parametrize(
    ("token", "genuine"), [("rule-secret", True), ("rule-secreT", False), ("", False), ("\u00ff", False)]
)
def test_only_our_own_secret_is_genuine(token, genuine):
    found = verify(posted({}, token), SETTINGS, NOW)
    assert (found is None) == genuine
    if found is not None:
        assert (found.status, found.field) == (401, TOKEN_HEADER)


def test_both_secrets_hold_while_one_is_replaced_and_none_holds_without_one():
    both = SETTINGS.model_copy(update={"webhook_secret": SecretStr("new, old")})
    assert verify(posted({}, "new"), both, NOW) is None
    assert verify(posted({}, "old"), both, NOW) is None
    assert verify(posted({}, "x"), SETTINGS.model_copy(update={"webhook_secret": None}), NOW) is not None


@pytest.mark.parametrize("status", [one for one in S if one is not S.UNKNOWN])
def test_an_automation_tells_every_status(status):
    found = read(posted(recorded(f"notice_{status.value}")), SETTINGS, NOW)
    assert isinstance(found, Received)
    (event,) = found.events
    assert (event.source, event.status, event.order_ref) == ("freshdesk", status, "ticket:1042")
    assert (event.order_no, event.client_ref) == ("SO-1001", "43000204")
    assert event.refs == {"freshdesk": "ticket:1042"}


def test_a_word_of_the_tenant_s_own_is_mapped_and_an_unknown_one_kept():
    mapped = read(posted({"ticket_id": 1, "order_status": "On its way"}), SETTINGS, NOW)
    unknown = read(posted({"ticket_id": 1, "order_status": "Lost"}), SETTINGS, NOW)
    assert isinstance(mapped, Received)
    assert isinstance(unknown, Received)
    assert mapped.events[0].status is S.SHIPPED
    assert (unknown.events[0].status, unknown.events[0].raw_status) == (S.UNKNOWN, "Lost")


@pytest.mark.parametrize(
    "body", [b"", b'{"ticket_id": 1042, "order_status": "Ship"ped"}', b"ticket_id=1", b"[]", b'{"ticket_id": 1.5}']
)
def test_a_body_that_a_placeholder_broke_is_refused(body):
    found = read(Inbound("POST", "", {}, body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert found.status == 422


# ---- against the simulated vendor ----


def test_the_simulation_takes_a_reply_once(loop):
    desk = loop(PLATFORM, VENDOR)
    (first,) = desk.send(MESSAGE)
    assert isinstance(first, Accepted)
    assert desk.send(MESSAGE) == [Accepted(first.provider_ref, "freshdesk_found")]
    (taken,) = desk.taken
    assert (taken.to, taken.reference, taken.text) == ("ticket:1042", MESSAGE.reference, MESSAGE.text)


def test_the_simulation_takes_an_update_once(loop):
    desk = loop(PLATFORM, VENDOR, action="update")
    found = replace(MESSAGE, to="SO-1042")
    assert desk.send(found) == [Accepted("1042", "freshdesk_200")]
    assert desk.send(found) == [Accepted("1042", "freshdesk_200")]
    (taken,) = desk.taken
    assert (taken.to, taken.reference, taken.text) == ("ticket:1042", MESSAGE.reference, MESSAGE.text)
    assert not desk.callbacks


def test_what_an_agent_sets_is_told_to_us_genuinely(loop):
    desk = loop(PLATFORM, VENDOR)
    body = json.dumps({"custom_fields": {"cf_order_status": "Delivered"}}).encode()
    _, replied = play(MESSAGE, EMPTY, REPLIED, context=desk.context)[0]
    endpoint = desk.desk.endpoint("PUT", "/api/v2/tickets/1042")
    reply = endpoint(Asked("PUT", "/api/v2/tickets/1042", {}, dict(replied.headers), body), desk.shelf)
    (callback,) = reply.callbacks
    found = desk.receive(callback)
    assert isinstance(found, Received)
    assert (found.events[0].status, found.events[0].order_no) == (S.DELIVERED, "SO-1042")


def test_the_simulation_refuses_what_freshdesk_refuses(loop):
    assert loop(PLATFORM, VENDOR, api_key="no").send(MESSAGE)[0].kind is K.AUTH
    assert loop(PLATFORM, VENDOR).send(replace(MESSAGE, to="ticket:1404"))[0].code == "freshdesk_404"
    assert loop(PLATFORM, VENDOR).send(replace(MESSAGE, to="PO-5"))[0].code == "freshdesk_no_ticket"
    odd = loop(PLATFORM, VENDOR, action="update", status_words="out_for_delivery=Somewhere")
    assert odd.send(MESSAGE)[0] == Rejected(K.CONFIG, "freshdesk_invalid_value")
    other = loop(PLATFORM, VENDOR, action="update", text_field="cf_other")
    assert other.send(MESSAGE)[0] == Rejected(K.CONFIG, "freshdesk_invalid_field")


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.RATE, Deferred(K.RATE, "freshdesk_429", retry_after_s=1.0)),
        (Fault.RATE_BARE, Deferred(K.RATE, "freshdesk_429")),
        (Fault.SERVER_ERROR, Deferred(K.TRANSIENT, "freshdesk_500", ambiguous=True)),
        (Fault.PERMANENT, Rejected(K.PERMANENT, "freshdesk_404")),
        (Fault.AUTH, Rejected(K.AUTH, "freshdesk_invalid_credentials")),
    ],
)
def test_every_fault_of_the_vendor_is_understood(fault, outcome):
    refused = VENDOR.refuse(fault)
    assert play(MESSAGE, EMPTY, Answer(refused.status, refused.headers, refused.body))[1] == outcome


def test_fields_are_made_once_and_found_afterwards_and_rules_are_for_a_person(loop):
    desk = loop(PLATFORM, VENDOR, action="update")
    steps = PLATFORM.provision(desk.context)
    made = [step for step in steps if step.make]
    assert len(made) == 4
    for step in made:
        assert not step.exists(desk.call(step.find))
        desk.call(step.make)
        assert step.exists(desk.call(step.find))
    mailing, telling = (step.instruction for step in steps if not step.make)
    assert "cf_notice_reference is changed" in mailing
    assert desk.context.webhook_url in telling
    assert desk.context.settings.webhook_secret.get_secret_value() not in telling
    assert len(PLATFORM.provision(CONTEXT)) == 3


def test_the_body_that_a_person_puts_into_the_rule_is_what_we_read():
    telling = PLATFORM.provision(CONTEXT)[-1].instruction
    body = json.loads(telling.partition("content: ")[2])
    assert body["order_status"] == "{{ticket.cf_order_status}}"
    assert isinstance(read(posted({**body, "ticket_id": "1042", "order_status": "Shipped"}), SETTINGS, NOW), Received)


def test_the_probe_says_what_is_wrong(loop):
    desk = loop(PLATFORM, VENDOR)
    probe = PLATFORM.probe
    assert all(finding.ok for finding in probe.read(desk.call(probe.build(desk.context)), desk.context))
    free = answer({"id": 1}, 200, x_ratelimit_total="0")
    assert [finding.ok for finding in probe.read(free, CONTEXT)] == [True, False, True]
    assert not probe.read(Answer(401), CONTEXT)[0].ok
