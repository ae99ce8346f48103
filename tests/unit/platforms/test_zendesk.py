"""Zendesk: exact updates, every refusal of its table, genuine webhooks, and the loop with its simulation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal
from ordernotify.platforms._zendesk_events import SIGNATURE, TIMESTAMP, read, verify
from ordernotify.platforms._zendesk_setup import PUBLIC_SECRET, ZendeskSettings
from ordernotify.platforms.zendesk import BY_HTTP_STATUS, PLATFORM, WORDS, read_address
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.zendesk import VENDOR

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "zendesk"
S, K = OrderStatus, FailureKind
SECRET = "c2lnbmluZy1zZWNyZXQ="
VALUES: dict[str, Any] = {
    "base_url": "https://northgate.zendesk.com",
    "agent_email": "agent@northgate.example",
    "api_token": "tok",
    "status_field_id": 360001234567,
    "requester_email": "orders@client.example",
    "status_map": "solved=delivered",
    "webhook_secret": SECRET,
}
SETTINGS = ZendeskSettings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url="https://hooks.example/webhooks/zendesk")
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.RECORD,
    to="ticket:5158",
    status=S.SHIPPED,
    language="en",
    subject="Order SO-1001",
    text="Shipped <today> & {{ticket.id}}\nTracking 1Z999AA10123456784",
)
MARK = f"ordernotify_{MESSAGE.reference}"


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_bytes())


ERRORS = recorded("errors")


def answer(value: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, named, json.dumps(value).encode())


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


TICKET = answer(recorded("ticket"))


# ---- addresses and settings ----


@pytest.mark.parametrize("text", ["ticket:5158", "SO-1001", "#1001", "1001"])
def test_a_ticket_or_an_order_number_is_an_address(text):
    assert read_address(f" {text} ") == text


@pytest.mark.parametrize("text", ["", "ticket:", "ticket:0", "SO 1001", "a'b", 'a"b', "../x", "ticket:5&x", "x" * 65])
def test_anything_else_is_refused_by_name(text):
    found = read_address(text)
    assert isinstance(found, Refusal)
    assert found.field == "address"


@pytest.mark.parametrize(
    "change",
    [
        {"api_token": None},
        {"agent_email": ""},
        {"access_token": "x"},
        {"webhook_secret": PUBLIC_SECRET},
        {"webhook_secret": f"good,{PUBLIC_SECRET}"},
        {"requester_email": "nobody"},
        {"base_url": "northgate.zendesk.com"},
        {"status_map": "solved=nowhere"},
    ],
)
def test_settings_that_cannot_be_right_are_refused(change):
    with pytest.raises(ValidationError):
        ZendeskSettings.model_validate({**VALUES, **change})


def test_no_secret_shows_in_the_settings():
    assert "tok" not in repr(SETTINGS).replace("api_token", "").replace("access_token", "")
    assert SECRET not in repr(SETTINGS)


# ---- requests ----


@pytest.mark.parametrize("status", [one for one in S if one is not S.UNKNOWN])
def test_a_ticket_is_read_and_then_updated_as_it_was_read(status):
    (asked, written), outcome = play(replace(MESSAGE, status=status), TICKET, answer(recorded("updated")))
    assert (asked.method, asked.url) == ("GET", "https://northgate.zendesk.com/api/v2/tickets/5158.json")
    pair = base64.b64encode(b"agent@northgate.example/token:tok").decode()
    assert asked.headers["authorization"] == f"Basic {pair}"
    assert (written.method, written.url) == ("PUT", asked.url)
    assert json.loads(written.body) == {
        "ticket": {
            "comment": {
                "html_body": "<p>Shipped &lt;today&gt; &amp; &#123;&#123;ticket.id&#125;&#125;<br>"
                "Tracking 1Z999AA10123456784</p>",
                "public": True,
            },
            "tags": ["enterprise", "ordernotify", MARK],
            "custom_fields": [{"id": 360001234567, "value": status.value}],
            "safe_update": True,
            "updated_stamp": "2026-11-24T09:58:00Z",
        }
    }
    assert outcome == Accepted("2127301148", "zendesk_200")


def test_a_notice_is_written_with_nothing_but_its_text():
    notice = replace(MESSAGE, to="SO-1", notice_only=True)
    (_, made), _ = play(notice, answer({"tickets": []}), answer(recorded("updated"), 201))
    assert json.loads(made.body)["ticket"].keys() == {"comment", "tags", "requester", "external_id"}
    (_, written), _ = play(replace(notice, to="ticket:5158"), TICKET, answer(recorded("updated")))
    assert json.loads(written.body)["ticket"].keys() == {"comment", "tags", "safe_update", "updated_stamp"}


def test_an_order_without_a_ticket_gets_one_under_a_key_that_a_repetition_shares():
    (asked, made), outcome = play(
        replace(MESSAGE, to="#1001"), answer({"tickets": []}), answer(recorded("updated"), 201)
    )
    assert asked.url.endswith("/api/v2/tickets.json?external_id=%231001")
    assert (made.method, made.headers["idempotency-key"]) == ("POST", MESSAGE.reference)
    ticket = json.loads(made.body)["ticket"]
    assert (ticket["external_id"], ticket["subject"]) == ("#1001", "Order SO-1001")
    assert ticket["requester"]["email"] == "orders@client.example"
    assert outcome == Accepted("2127301148", "zendesk_201")


def test_without_a_requester_no_ticket_is_made():
    context = replace(CONTEXT, settings=SETTINGS.model_copy(update={"requester_email": ""}))
    calls, outcome = play(replace(MESSAGE, to="SO-1"), answer({"tickets": []}), context=context)
    assert len(calls) == 1
    assert outcome == Rejected(K.PERMANENT, "zendesk_no_ticket")


def test_a_closed_ticket_is_followed_up_for_its_own_requester():
    closed = recorded("ticket")["ticket"] | {"status": "closed"}
    (_, made), _ = play(MESSAGE, answer({"ticket": closed}), answer(recorded("updated"), 201))
    ticket = json.loads(made.body)["ticket"]
    assert (ticket["via_followup_source_id"], ticket["requester_id"]) == (5158, 20978392)
    assert made.headers["idempotency-key"] == f"{MESSAGE.reference}-5158"
    assert "safe_update" not in ticket


def test_the_newest_open_ticket_of_an_order_is_the_one():
    one = recorded("ticket")["ticket"]
    tickets = [one | {"id": 7}, one | {"id": 9, "status": "closed"}, one | {"id": 8}]
    (_, written), _ = play(replace(MESSAGE, to="SO-1"), answer({"tickets": tickets}), answer(recorded("updated")))
    assert written.url.endswith("/tickets/8.json")


def test_what_is_written_already_is_not_written_again():
    ticket = recorded("ticket")["ticket"] | {"tags": ["ordernotify", MARK]}
    assert play(MESSAGE, answer({"ticket": ticket}))[1] == Accepted("5158", "zendesk_found")


def test_a_collision_is_read_again_and_given_up_after_three():
    conflict = answer(ERRORS["conflict"], 409)
    calls, outcome = play(MESSAGE, TICKET, conflict, TICKET, answer(recorded("updated")))
    assert [call.method for call in calls] == ["GET", "PUT", "GET", "PUT"]
    assert isinstance(outcome, Accepted)
    _, outcome = play(MESSAGE, *[TICKET, conflict] * 3)
    assert outcome == Deferred(K.TRANSIENT, "zendesk_UpdateConflict")


def test_a_ticket_closed_between_reading_and_writing_is_followed_up():
    closed = recorded("ticket")["ticket"] | {"status": "closed"}
    calls, _ = play(
        MESSAGE,
        TICKET,
        answer(ERRORS["closed"], 422),
        answer({"ticket": closed}),
        answer(recorded("updated"), 201),
    )
    assert [call.method for call in calls] == ["GET", "PUT", "GET", "POST"]


def test_another_login_is_a_bearer_token():
    settings = ZendeskSettings.model_validate({**VALUES, "agent_email": "", "api_token": None, "access_token": "oa"})
    calls, _ = play(MESSAGE, answer(ERRORS["not_found"], 404), context=replace(CONTEXT, settings=settings))
    assert calls[0].headers["authorization"] == "Bearer oa"


# ---- answers ----


@pytest.mark.parametrize(
    ("given_answer", "outcome"),
    [
        (answer(ERRORS["suspended"], 422), Rejected(K.OPT_OUT, "zendesk_suspended")),
        (answer(ERRORS["invalid"], 422), Rejected(K.PERMANENT, "zendesk_RecordInvalid")),
        (answer(ERRORS["not_found"], 404), Rejected(K.PERMANENT, "zendesk_RecordNotFound")),
        (answer(ERRORS["unauthenticated"], 401), Rejected(K.AUTH, "zendesk_401")),
        (answer(ERRORS["forbidden"], 403), Rejected(K.AUTH, "zendesk_Forbidden")),
        (
            answer(ERRORS["idempotency"], 400),
            Deferred(K.TRANSIENT, "zendesk_IdempotentRequestError", ambiguous=True),
        ),
        (Answer(404, {}, b"<html>No help desk"), Rejected(K.CONFIG, "zendesk_404")),
        (answer({"error": "private text!"}, 400), Rejected(K.PERMANENT, "zendesk_400")),
        (answer({}, 413), Rejected(K.PERMANENT, "zendesk_413")),
        (answer({}, 418), Rejected(K.PERMANENT, "zendesk_418")),
        (answer({}, 429, retry_after="7"), Deferred(K.RATE, "zendesk_429", retry_after_s=7.0)),
        (answer({}, 429, ratelimit_reset="41"), Deferred(K.RATE, "zendesk_429", retry_after_s=41.0)),
        (
            answer({}, 429, retry_after="540", x_rate_limit_remaining="612"),
            Deferred(K.RATE, "zendesk_ticket_rate", retry_after_s=540.0),
        ),
        (answer({}, 500), Deferred(K.TRANSIENT, "zendesk_500", ambiguous=True)),
        (
            answer({"error": "ServiceUnavailable"}, 503, retry_after="3"),
            Deferred(K.TRANSIENT, "zendesk_ServiceUnavailable", retry_after_s=3.0, ambiguous=True),
        ),
        (Answer(200, {}, b"<html>"), Deferred(K.TRANSIENT, "zendesk_unreadable", ambiguous=True)),
        (answer({"audit": {}}), Deferred(K.TRANSIENT, "zendesk_unreadable", ambiguous=True)),
    ],
)
def test_every_answer_to_a_write_means_one_outcome(given_answer, outcome):
    assert play(MESSAGE, TICKET, given_answer)[1] == outcome


@pytest.mark.parametrize("word", sorted(WORDS))
def test_every_word_of_the_table_decides_before_the_status(word):
    outcome = play(MESSAGE, TICKET, answer({"error": word}, 400))[1]
    assert isinstance(outcome, Deferred | Rejected)
    assert (outcome.kind, outcome.code) == (WORDS[word], f"zendesk_{word}")


@pytest.mark.parametrize("status", sorted(set(BY_HTTP_STATUS) - {409}))
def test_every_status_of_the_table_decides_without_a_word(status):
    outcome = play(MESSAGE, TICKET, Answer(status))[1]
    assert isinstance(outcome, Deferred | Rejected)
    assert (outcome.kind, outcome.code) == (BY_HTTP_STATUS[status], f"zendesk_{status}")


@pytest.mark.parametrize("given_answer", [Answer(500), Answer(503), Answer(200, {}, b"{}"), answer({"tickets": [{}]})])
def test_a_read_that_failed_leaves_nothing_in_doubt(given_answer):
    outcome = play(MESSAGE, given_answer)[1]
    assert isinstance(outcome, Deferred)
    assert not outcome.ambiguous


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


def always(reply: Answer) -> Outcome:
    """Return the outcome of a message all of whose calls are answered the same."""
    conversation = PLATFORM.send([MESSAGE], CONTEXT)
    next(conversation)
    try:
        while True:
            conversation.send(reply)
    except StopIteration as end:
        (outcome,) = end.value
        return outcome


@given(JSON, st.sampled_from([200, 201, 301, 400, 404, 422, 429, 500]))
def test_random_answers_mean_an_outcome_and_never_raise(value, status):
    reply = answer(value, status)
    assert isinstance(always(reply), Accepted | Deferred | Rejected)
    assert PLATFORM.probe is not None
    assert PLATFORM.probe.read(reply, CONTEXT)


# ---- webhooks ----


def signed(body: bytes, *, secret: str = SECRET, at: datetime = NOW) -> Inbound:
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    proof = base64.b64encode(hmac.new(secret.encode(), stamp.encode() + body, hashlib.sha256).digest()).decode()
    headers = {SIGNATURE.lower(): proof, TIMESTAMP.lower(): stamp}
    return Inbound("POST", "https://hooks.example/webhooks/zendesk", headers, body)


def test_the_published_vector_is_genuine_and_one_flipped_byte_is_not():
    # The secret of the vector is the public one, which no settings take: only the proof is tried with it.
    settings = SETTINGS.model_copy(update={"webhook_secret": SecretStr(PUBLIC_SECRET)})
    body = b'{"type":"zen:event-type:ticket.status_changed","id":"evt-1","detail":{"id":"5158"}}'
    headers = {
        SIGNATURE.lower(): "1R/vpSfIWASEOlRvIC5aK+CZl2KWLa7Ot54CnSqiHSE=",
        TIMESTAMP.lower(): "2026-11-24T10:00:00Z",
    }
    assert verify(Inbound("POST", "", headers, body), settings, NOW) is None
    wrong = {**headers, SIGNATURE.lower(): "77B4mjo7TZiGhVzXKlgWo6v46ErFeoNw5TRF3hsU+hE="}
    assert verify(Inbound("POST", "", wrong, body), settings, NOW) is not None
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1
        found = verify(Inbound("POST", "", headers, bytes(changed)), settings, NOW)
        assert found is not None
        assert (found.status, found.field) == (401, SIGNATURE)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_genuine_webhook_of_another_time_is_refused(minutes):
    found = verify(signed(b"{}", at=NOW + timedelta(minutes=minutes)), SETTINGS, NOW)
    assert found is not None
    assert found.field == TIMESTAMP


def test_a_webhook_without_proof_or_without_a_secret_to_prove_it_is_refused():
    bare = Inbound("POST", "", {}, b"{}")
    unset = SETTINGS.model_copy(update={"webhook_secret": None})
    assert verify(bare, SETTINGS, NOW) == Refusal(401, SIGNATURE, "is missing: Zendesk signs every webhook")
    assert verify(signed(b"{}"), unset, NOW) is not None


def test_both_secrets_hold_while_one_is_replaced():
    settings = SETTINGS.model_copy(update={"webhook_secret": SecretStr("new,old")})
    for secret, genuine in (("new", True), ("old", True), ("other", False)):
        assert (verify(signed(b"{}", secret=secret), settings, NOW) is None) == genuine


def received(value: object, settings: ZendeskSettings = SETTINGS) -> Received | Refusal:
    return read(signed(json.dumps(value).encode()), settings, NOW)


@pytest.mark.parametrize("status", [one for one in S if one is not S.UNKNOWN])
def test_a_trigger_tells_every_status_in_any_spelling(status):
    found = received(recorded(f"notice_{status.value}"))
    assert isinstance(found, Received)
    (event,) = found.events
    assert (event.status, event.order_ref, event.order_no) == (status, "ticket:5158", "SO-1001")
    assert (event.client_ref, event.refs) == ("C-204", {"zendesk": "ticket:5158"})
    assert event.occurred_at == NOW
    assert received(recorded(f"notice_{status.value}")) == found


def test_a_word_that_nobody_maps_is_kept_for_a_person_and_an_empty_one_says_nothing():
    found = received({"ticket_id": 5158, "order_status": "On its way"})
    assert isinstance(found, Received)
    assert (found.events[0].status, found.events[0].raw_status) == (S.UNKNOWN, "On its way")
    mapped = ZendeskSettings.model_validate({**VALUES, "status_map": "On its way=shipped"})
    told = received({"ticket_id": 5158, "order_status": "On its way"}, mapped)
    assert isinstance(told, Received)
    assert told.events[0].status is S.SHIPPED
    assert received({"ticket_id": 5158, "order_status": ""}) == Received()


def test_a_ticket_s_own_status_speaks_of_the_order_only_by_the_table():
    payload = recorded("ticket_status_changed")
    found = received(payload)
    assert isinstance(found, Received)
    (event,) = found.events
    assert event == OrderEvent(
        source="zendesk",
        dedupe_key="cbe4028c-7239-495d-b020-f22348516046",
        order_ref="ticket:5158",
        order_no="SO-1001",
        status=S.DELIVERED,
        raw_status="SOLVED",
        occurred_at=datetime(2026, 11, 24, 9, 59, 20, 987654, tzinfo=UTC),
        client_ref="8447346622462",
        refs={"zendesk": "ticket:5158"},
    )
    assert received({**payload, "event": {"current": "OPEN", "previous": "NEW"}}) == Received()
    assert received({**payload, "type": "zen:event-type:ticket.priority_changed"}) == Received()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"order_status": "shipped"}, "ticket_id"),
        ({"ticket_id": "0", "order_status": "shipped"}, "ticket_id"),
        ({"ticket_id": True, "order_status": "shipped"}, "ticket_id"),
        ({"ticket_id": "5158"}, "order_status"),
        ({"ticket_id": "5158", "order_status": ["x"]}, "order_status"),
        ({"ticket_id": "5158", "order_status": "shipped", "updated_at": "2027-01-01T00:00:00Z"}, "updated_at"),
        ({"type": "zen:event-type:ticket.status_changed"}, "id"),
        ({**recorded("ticket_status_changed"), "time": "tomorrow"}, "time"),
        ({**recorded("ticket_status_changed"), "detail": {"id": "x"}}, "detail.id"),
        ([], "body"),
    ],
)
def test_a_wrong_field_is_refused_by_name(value, field):
    found = received(value)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[[[["])
def test_what_is_no_json_is_refused(body):
    assert isinstance(read(signed(body), SETTINGS, NOW), Refusal)


@given(JSON | st.dictionaries(st.sampled_from(["type", "ticket_id", "order_status", "event", "id", "time"]), JSON))
def test_random_payloads_are_read_or_refused_and_never_raise(value):
    found = received(value)
    assert isinstance(found, Received | Refusal)


# ---- against the simulated vendor ----


def test_the_simulation_takes_what_we_send_and_a_repetition_changes_nothing(loop):
    desk = loop(PLATFORM, VENDOR)
    (first,) = desk.send(MESSAGE)
    assert isinstance(first, Accepted)
    assert desk.send(MESSAGE) == [Accepted("5158", "zendesk_found")]
    (taken,) = desk.taken
    assert (taken.to, taken.reference, taken.text) == ("ticket:5158", MESSAGE.reference, MESSAGE.text)
    assert taken.provider_ref == first.provider_ref


def test_an_order_s_ticket_is_made_once_and_found_by_its_number(loop):
    desk = loop(PLATFORM, VENDOR)
    made = replace(MESSAGE, to="SO-1001")
    assert isinstance(desk.send(made)[0], Accepted)
    later = replace(made, reference="f" * 32, status=S.DELIVERED)
    assert isinstance(desk.send(later)[0], Accepted)
    assert desk.send(made)[0].code == "zendesk_found"
    assert [taken.reference for taken in desk.taken] == [MESSAGE.reference, "f" * 32]
    assert len(desk.shelf.kind("tickets")) == 1


def test_a_repeated_creation_is_answered_with_the_first_one(loop):
    desk = loop(PLATFORM, VENDOR)
    conversation = PLATFORM.send([replace(MESSAGE, to="SO-7")], desk.context)
    create = conversation.send(desk.call(next(conversation)))
    first, again = desk.call(create), desk.call(create)
    assert (first.body, again.headers["x-idempotency-lookup"]) == (again.body, "hit")
    other = desk.call(replace(create, body=create.body.replace(b"SO-7", b"SO-8")))
    assert other.json()["error"] == "IdempotentRequestError"


def test_a_ticket_takes_thirty_updates_in_ten_minutes(loop):
    desk = loop(PLATFORM, VENDOR)
    outcomes = [desk.send(replace(MESSAGE, reference=f"{number:032x}"))[0] for number in range(31)]
    assert all(isinstance(one, Accepted) for one in outcomes[:30])
    assert outcomes[30].code == "zendesk_ticket_rate"
    assert 500 < outcomes[30].retry_after_s <= 601
    assert isinstance(desk.send(replace(MESSAGE, to="ticket:6000"))[0], Accepted)


@pytest.mark.parametrize(
    ("ticket", "outcome"),
    [
        ("ticket:1404", Rejected(K.PERMANENT, "zendesk_RecordNotFound")),
        ("ticket:1403", Rejected(K.OPT_OUT, "zendesk_suspended")),
    ],
)
def test_the_simulation_s_special_tickets_are_refused(loop, ticket, outcome):
    assert loop(PLATFORM, VENDOR).send(replace(MESSAGE, to=ticket)) == [outcome]


def test_the_simulation_s_closed_ticket_is_followed_up(loop):
    desk = loop(PLATFORM, VENDOR)
    assert isinstance(desk.send(replace(MESSAGE, to="ticket:1422"))[0], Accepted)
    (ticket,) = desk.shelf.kind("tickets").values()
    assert ticket["via_followup_source_id"] == 1422


def test_a_changed_status_calls_back_genuinely(loop):
    desk = loop(PLATFORM, VENDOR, ticket_status="solved")
    desk.send(MESSAGE)
    (callback,) = desk.callbacks
    found = desk.receive(callback)
    assert isinstance(found, Received)
    assert (found.events[0].status, found.events[0].order_ref) == (S.DELIVERED, "ticket:5158")


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.RATE, Deferred(K.RATE, "zendesk_TooManyRequests", retry_after_s=1.0)),
        (Fault.RATE_BARE, Deferred(K.RATE, "zendesk_TooManyRequests")),
        (Fault.SERVER_ERROR, Deferred(K.TRANSIENT, "zendesk_InternalError", ambiguous=True)),
        (Fault.PERMANENT, Rejected(K.PERMANENT, "zendesk_RecordNotFound")),
        (Fault.AUTH, Rejected(K.AUTH, "zendesk_401")),
        (Fault.OPT_OUT, Rejected(K.OPT_OUT, "zendesk_suspended")),
    ],
)
def test_every_fault_of_the_vendor_is_understood(fault, outcome):
    refused = VENDOR.refuse(fault)
    assert play(MESSAGE, TICKET, Answer(refused.status, refused.headers, refused.body))[1] == outcome


def test_what_is_set_up_is_made_once_and_found_afterwards(loop):
    desk = loop(PLATFORM, VENDOR)
    steps = PLATFORM.provision(desk.context)
    assert len(steps) == 4
    for step in steps:
        assert not step.exists(desk.call(step.find))
        desk.call(step.make)
        assert step.exists(desk.call(step.find))
    probe = PLATFORM.probe
    assert all(finding.ok for finding in probe.read(desk.call(probe.build(desk.context)), desk.context))


def test_the_trigger_that_speaks_to_us_posts_what_we_read_and_is_silent_about_our_own_writing():
    context = replace(CONTEXT, settings=SETTINGS.model_copy(update={"webhook_id": "01G"}))
    trigger = json.loads(PLATFORM.provision(context)[-1].make.body)["trigger"]
    (action,) = trigger["actions"]
    body = json.loads(action["value"][1])
    assert body["order_status"] == "{{ticket.ticket_field_360001234567}}"
    assert isinstance(received({**body, "ticket_id": "5158", "order_status": "shipped"}), Received)
    assert {"field": "current_via_id", "operator": "is_not", "value": "5"} in trigger["conditions"]["all"]


def test_what_is_not_known_yet_is_asked_of_a_person():
    bare = ZendeskSettings.model_validate({**VALUES, "status_field_id": None})
    assert "webhook_id" in PLATFORM.provision(replace(CONTEXT, settings=bare))[-1].instruction
    assert "PUBLIC_URL" in PLATFORM.provision(replace(CONTEXT, webhook_url=""))[-1].instruction


def test_an_unknown_caller_is_told_so_although_zendesk_answers_200(loop):
    desk = loop(PLATFORM, VENDOR, api_token="wrong")
    findings = PLATFORM.probe.read(desk.call(PLATFORM.probe.build(desk.context)), desk.context)
    assert not findings[0].ok
