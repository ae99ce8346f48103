"""Intercom: contact, attributes and event in one conversation; webhooks; and everything that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, ConsentChange, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Reply
from ordernotify.platforms._intercom_api import CODES
from ordernotify.platforms.intercom import MAX_TEXT, METADATA, PLATFORM, SPREAD_S, metadata_of, read_address, second_of
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.intercom import VENDOR, contact_id, signed_callback

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HAPPENED = datetime(2026, 11, 24, 11, 59, 30, 500_000, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "intercom"
OURS = "https://hooks.example/webhooks/intercom"
SECRET = "example-client-secret"
VALUES: dict[str, Any] = {"access_token": "dG9rOnRlc3Q=", "client_secret": f"new, {SECRET}", "app_id": "a86dr8yl"}
SETTINGS = PLATFORM.settings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url=OURS)
CONTACT = "5ba682d23d7cf92bef87bfd4"
K = FailureKind
S = OrderStatus
assert PLATFORM.webhook is not None
assert PLATFORM.webhook.handshake is not None
assert PLATFORM.probe is not None
assert PLATFORM.provision is not None
PROBE, PROVISION = PLATFORM.probe, PLATFORM.provision
VERIFY, READ, HANDSHAKE = PLATFORM.webhook.verify, PLATFORM.webhook.read, PLATFORM.webhook.handshake
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.CHAT,
    to="jane@example.com",
    status=S.SHIPPED,
    language="en",
    text="Order 1001 is on its way.",
    variables={"order_no": "1001", "carrier": "UPS", "promised_date": "2026-12-01", "supplier_name": "x", "detail": ""},
    occurred_at=HAPPENED,
)
FOUND = Answer(200, {}, (FIXTURES / "found.json").read_bytes())
UPDATED = Answer(200, {}, (FIXTURES / "contact.json").read_bytes())
RECORDED = Answer(202)


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_bytes())


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, orjson.dumps(value))


def talk(message: Message, *replies: Answer, context: Context = CONTEXT) -> tuple[list[Call], Outcome]:
    """Return the calls of a conversation with these answers, and how it ended."""
    conversation, calls, left = PLATFORM.send([message], context), [], list(replies)
    try:
        calls.append(next(conversation))
        while True:
            calls.append(conversation.send(left.pop(0)))
    except StopIteration as end:
        assert not left, "the conversation ended before its last answer"
        return calls, end.value[0]


def with_settings(**more: Any) -> Context:
    return replace(CONTEXT, settings=PLATFORM.settings.model_validate({**VALUES, **more}))


def inbound(value: Any, *, secret: str = SECRET) -> Inbound:
    sent = signed_callback(OURS, value, secret=secret)
    return Inbound("POST", OURS, dict(sent.headers), sent.body)


def heard(value: Any) -> Received:
    found = READ(inbound(value), SETTINGS, NOW)
    assert isinstance(found, Received), found
    return found


# ---- addresses ----


@pytest.mark.parametrize(
    ("text", "address"), [(" Jane@Example.com ", "jane@example.com"), ("C-204", "C-204"), (CONTACT, CONTACT)]
)
def test_an_address_is_an_email_an_external_id_or_an_id(text: str, address: str) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize("text", ["", " ", "a\nb", "@", "jane@", "x" * 256, "a@b@c"])
def test_what_names_no_contact_is_refused(text: str) -> None:
    found = read_address(text)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "address")


# ---- the conversation ----


@pytest.mark.parametrize("status", [status for status in S if status is not S.UNKNOWN])
def test_a_message_finds_its_contact_updates_it_and_records_the_event(status: OrderStatus) -> None:
    message = replace(MESSAGE, status=status)
    calls, outcome = talk(message, FOUND, UPDATED, RECORDED)
    second = second_of(message, NOW)
    assert outcome == Accepted(f"{CONTACT}:{second}", "intercom_202")
    assert [(call.method, call.url.removeprefix("https://api.intercom.io")) for call in calls] == [
        ("POST", "/contacts/search"),
        ("PUT", f"/contacts/{CONTACT}"),
        ("POST", "/events"),
    ]
    assert all(
        call.headers
        == {
            "accept": "application/json",
            "authorization": "Bearer dG9rOnRlc3Q=",
            "content-type": "application/json",
            "intercom-version": "2.16",
        }
        for call in calls
    )
    find, update, event = (orjson.loads(call.body) for call in calls)
    assert find["query"] == {"field": "email", "operator": "=", "value": "jane@example.com"}
    assert update == {
        "custom_attributes": {
            "order_notice_status": status.value,
            "order_notice_text": MESSAGE.text,
            "order_notice_reference": MESSAGE.reference,
        }
    }
    assert event == {
        "event_name": "order-notice",
        "created_at": second,
        "id": CONTACT,
        "metadata": {
            "reference": MESSAGE.reference,
            "text": MESSAGE.text,
            "status": status.value,
            "order_no": "1001",
            "carrier": "UPS",
            "promised_on": "2026-12-01",
        },
    }


def test_a_notice_that_may_say_nothing_more_sets_and_carries_its_words_alone() -> None:
    calls, _ = talk(replace(MESSAGE, notice_only=True), FOUND, UPDATED, RECORDED)
    assert orjson.loads(calls[1].body)["custom_attributes"].keys() == {"order_notice_text", "order_notice_reference"}
    assert orjson.loads(calls[2].body)["metadata"].keys() == {"reference", "text"}


@pytest.mark.parametrize(
    ("to", "method", "path", "query"),
    [
        (CONTACT, "GET", f"/contacts/{CONTACT}", None),
        ("C-204", "POST", "/contacts/search", {"field": "external_id", "operator": "=", "value": "C-204"}),
        ('x" OR 1', "POST", "/contacts/search", {"field": "external_id", "operator": "=", "value": 'x" OR 1'}),
    ],
)
def test_each_kind_of_address_is_looked_for_in_its_field(to: str, method: str, path: str, query: Any) -> None:
    call = next(PLATFORM.send([replace(MESSAGE, to=to)], CONTEXT))
    assert (call.method, call.url) == (method, f"https://api.intercom.io{path}")
    assert query is None or orjson.loads(call.body)["query"] == query


def test_an_event_never_has_more_values_than_intercom_keeps_nor_a_name_that_means_a_time() -> None:
    everything = replace(MESSAGE, variables=dict.fromkeys(METADATA, "x" * 300))
    values = metadata_of(everything)
    assert len(values) <= 10
    assert not any(name.endswith("_date") for name in values)
    assert all(len(value) <= MAX_TEXT for value in values.values())


def test_long_words_are_cut_to_what_an_attribute_holds() -> None:
    calls, _ = talk(replace(MESSAGE, text="\u00e4" * 2_000), FOUND, UPDATED, RECORDED)
    text = orjson.loads(calls[1].body)["custom_attributes"]["order_notice_text"]
    assert len(text) == MAX_TEXT
    assert text.endswith("…")


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 10**6))
def test_every_attempt_of_a_message_has_the_same_second_soon_before_it_happened(reference: str, later_s: int) -> None:
    message = replace(MESSAGE, reference=reference)
    second = second_of(message, NOW)
    assert second == second_of(message, NOW + timedelta(seconds=later_s))
    assert 0 <= int(HAPPENED.timestamp()) - second < SPREAD_S


def test_two_messages_of_one_second_are_rarely_one_event() -> None:
    seconds = {second_of(replace(MESSAGE, reference=f"{n * 7919:032x}"), NOW) for n in range(20)}
    assert len(seconds) > 15


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"data": []}, Rejected(K.PERMANENT, "intercom_no_contact")),
        (
            {"data": [{"id": "a", "role": "user"}, {"id": "b", "role": "user"}]},
            Rejected(K.PERMANENT, "intercom_several_contacts"),
        ),
        ({"data": [{"id": "../me"}]}, Rejected(K.PERMANENT, "intercom_several_contacts")),
        ({"data": [{"id": 5}]}, Deferred(K.TRANSIENT, "intercom_unreadable")),
        ({"data": {}}, Deferred(K.TRANSIENT, "intercom_unreadable")),
        (
            {"data": [{"id": "a", "unsubscribed_from_emails": True}]},
            Rejected(K.OPT_OUT, "intercom_unsubscribed_from_emails"),
        ),
        ({"data": [{"id": "a", "marked_email_as_spam": True}]}, Rejected(K.OPT_OUT, "intercom_marked_email_as_spam")),
        ({"data": [{"id": "a", "has_hard_bounced": True}]}, Rejected(K.PERMANENT, "intercom_has_hard_bounced")),
    ],
)
def test_who_cannot_be_written_to_is_not(change: Any, outcome: Outcome) -> None:
    calls, ended = talk(MESSAGE, answer(change))
    assert (len(calls), ended) == (1, outcome)


def test_a_lead_beside_the_user_is_left_alone() -> None:
    both = answer({"data": [{"id": "lead", "role": "lead"}, {"id": CONTACT, "role": "user"}]})
    calls, _ = talk(MESSAGE, both, UPDATED, RECORDED)
    assert calls[1].url.endswith(f"/contacts/{CONTACT}")


def test_who_unsubscribed_from_emails_still_reads_the_messenger() -> None:
    found = answer({"data": [{"id": CONTACT, "unsubscribed_from_emails": True}]})
    assert isinstance(talk(MESSAGE, found, UPDATED, RECORDED, context=with_settings(sends_email=False))[1], Accepted)


# ---- what refusals mean ----


@pytest.mark.parametrize("code", sorted(recorded("errors")))
@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_recorded_refusal_keeps_its_kind_at_every_step(code: str, place: int) -> None:
    status, body = recorded("errors")[code]
    replies = [FOUND, UPDATED][:place]
    calls, outcome = talk(MESSAGE, *replies, answer(body, status))
    assert len(calls) == place + 1
    assert isinstance(outcome, Rejected | Deferred)
    assert (outcome.kind, outcome.code) == (CODES[code], f"intercom_{code}")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Answer(401), Rejected(K.AUTH, "intercom_401")),
        (Answer(403), Rejected(K.AUTH, "intercom_403")),
        (Answer(405), Rejected(K.CONFIG, "intercom_405")),
        (Answer(406), Rejected(K.CONFIG, "intercom_406")),
        (Answer(408), Deferred(K.TRANSIENT, "intercom_408", ambiguous=True)),
        (Answer(418), Rejected(K.PERMANENT, "intercom_418")),
        (Answer(429), Deferred(K.RATE, "intercom_429")),
        (Answer(429, {"x-ratelimit-reset": "1795521607"}), Deferred(K.RATE, "intercom_429", retry_after_s=7.0)),
        (Answer(429, {"x-ratelimit-reset": "\u00b2"}), Deferred(K.RATE, "intercom_429")),
        (Answer(502, {}, b"<html>"), Deferred(K.TRANSIENT, "intercom_502", ambiguous=True)),
        (answer({"errors": [{"code": "never_seen"}]}, 400), Rejected(K.PERMANENT, "intercom_400")),
    ],
)
def test_without_a_known_code_the_status_decides(reply: Answer, outcome: Outcome) -> None:
    assert NOW.timestamp() == 1795521600
    assert talk(MESSAGE, FOUND, UPDATED, reply)[1] == outcome


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["errors", "code", "data", "id", "role", "topic", "item", "author", "body", "source"]),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON, st.sampled_from([200, 202, 400, 401, 404, 429, 500]))
def test_random_answers_mean_an_outcome_and_never_raise(value: object, status: int) -> None:
    reply = answer(value, status)
    for before in ([], [FOUND]) if status != 200 else ():
        assert isinstance(talk(MESSAGE, *before, reply)[1], Deferred | Rejected)
    assert isinstance(talk(MESSAGE, FOUND, UPDATED, reply)[1], Accepted | Deferred | Rejected)
    assert PROBE.read(reply, CONTEXT)


# ---- webhooks ----


def test_the_published_vector_is_genuine_and_every_flipped_byte_is_not() -> None:
    vector = recorded("signature")
    body, headers = vector["body"].encode(), {"x-hub-signature": vector["header"]}
    assert VERIFY(Inbound("POST", OURS, headers, body), SETTINGS, NOW) is None
    for position in range(len(body)):
        flipped = bytearray(body)
        flipped[position] ^= 1
        found = VERIFY(Inbound("POST", OURS, headers, bytes(flipped)), SETTINGS, NOW)
        assert found is not None
        assert (found.status, found.field) == (401, "X-Hub-Signature")


@pytest.mark.parametrize("header", ["", "sha1=", "\u00ff", "3268812adc1bfccb2f20061073bc5fb6ba0ce797", "sha256=x"])
def test_a_wrong_signature_is_refused(header: str) -> None:
    found = VERIFY(Inbound("POST", OURS, {"x-hub-signature": header}, b"{}"), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, "X-Hub-Signature")


def test_both_secrets_hold_while_one_is_replaced_and_none_lets_nothing_in() -> None:
    for secret, genuine in (("new", True), (SECRET, True), ("other", False)):
        assert (VERIFY(inbound({}, secret=secret), SETTINGS, NOW) is None) == genuine
    assert VERIFY(inbound({}), with_settings(client_secret=None).settings, NOW) is not None


def test_what_intercom_tries_an_address_with_is_answered() -> None:
    assert HANDSHAKE(Inbound("HEAD", OURS, {}, b""), SETTINGS) == Reply()
    ping = Inbound("POST", OURS, {}, json.dumps(recorded("ping")).encode())
    assert HANDSHAKE(ping, SETTINGS) == Reply()
    assert READ(inbound(recorded("ping")), SETTINGS, NOW) == Received(reply=Reply())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"topic":"pong"}', b'{"topic":["ping"]}', b" " * 5_000])
def test_nothing_else_gets_past_the_signature(body: bytes) -> None:
    assert HANDSHAKE(Inbound("POST", OURS, {}, body), SETTINGS) is None
    assert HANDSHAKE(Inbound("GET", OURS, {}, b'{"topic":"ping"}'), SETTINGS) is None


def test_who_unsubscribed_is_known_under_every_form_of_the_address() -> None:
    found = heard(recorded("contact_unsubscribed"))
    assert found.consents == tuple(
        ConsentChange(
            dedupe_key=f"notif_1:{address}",
            channel=Channel.CHAT,
            address=address,
            granted=False,
            code="intercom_unsubscribed",
        )
        for address in (CONTACT, "C-204", "jane@example.com")
    )


@pytest.mark.parametrize(
    ("name", "granted", "code"),
    [
        ("conversation_created_stop", False, "intercom_stop"),
        ("conversation_replied_start", True, "intercom_start"),
    ],
)
def test_stop_and_start_are_heard(name: str, granted: bool, code: str) -> None:
    consents = heard(recorded(name)).consents
    assert [(one.address, one.granted, one.code) for one in consents] == [
        (CONTACT, granted, code),
        ("jane@example.com", granted, code),
    ]


@pytest.mark.parametrize("name", ["conversation_replied_question", "contact_email_updated", "ping"])
def test_everything_else_says_nothing_about_consent(name: str) -> None:
    assert heard(recorded(name)) == Received(reply=Reply())


def test_notifications_without_an_id_do_not_share_a_key() -> None:
    one = {**recorded("contact_unsubscribed"), "id": None}
    other = {**one, "created_at": 1}
    keys = {heard(value).consents[0].dedupe_key for value in (one, one, other)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"topic": None}, "topic"),
        ({"topic": {}}, "topic"),
        ({"app_id": "other"}, "app_id"),
        ({"data": None}, "data.item"),
        ({"data": {"item": []}}, "data.item"),
        ({"data": {"item": {}}}, "data.item.id"),
        ({"data": {"item": {"id": 5, "email": {}}}}, "data.item.id"),
        ({"topic": "conversation.user.created"}, "data.item"),
        ({"topic": "conversation.user.replied", "data": {"item": {"conversation_parts": []}}}, "data.item"),
        ({"topic": "conversation.user.created", "data": {"item": {"source": {"body": "stop"}}}}, "author"),
    ],
)
def test_a_wrong_field_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    found = READ(inbound({**recorded("contact_unsubscribed"), **change}), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


@given(st.binary(max_size=60) | JSON.map(orjson.dumps))
def test_random_bodies_are_read_or_refused_and_never_raise(body: bytes) -> None:
    request = Inbound("POST", OURS, {}, body)
    assert isinstance(READ(request, SETTINGS, NOW), Received | Refusal)
    assert isinstance(HANDSHAKE(request, SETTINGS), Reply | None)


# ---- settings and setting up ----


@pytest.mark.parametrize(
    "change", [{"access_token": None}, {"api_version": "latest"}, {"event_name": ""}, {"text_attribute": "a b"}]
)
def test_settings_that_cannot_be_right_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PLATFORM.settings.model_validate({**VALUES, **change})


def test_no_secret_shows_in_the_settings() -> None:
    assert "dG9rOnRlc3Q=" not in repr(SETTINGS)
    assert SECRET not in repr(SETTINGS)


def test_the_probe_says_what_is_wrong() -> None:
    assert all(finding.ok for finding in PROBE.read(answer(recorded("me")), CONTEXT))
    other = PROBE.read(answer(recorded("me")), with_settings(app_id="other"))
    assert [finding.ok for finding in other] == [True, False, True]
    deaf = PROBE.read(answer(recorded("me")), with_settings(client_secret=None))
    assert [finding.ok for finding in deaf] == [True, True, False]
    status, body = recorded("errors")["token_revoked"]
    (broken,) = PROBE.read(answer(body, status), CONTEXT)
    assert "intercom_token_revoked" in broken.advice


def test_the_checklist_names_what_a_person_must_type() -> None:
    instructions = " ".join(step.instruction for step in PROVISION(CONTEXT))
    for word in (OURS, "order-notice", "order_notice_text", "contact.unsubscribed", "conversation.user.replied"):
        assert word in instructions


# ---- against the simulated vendor ----


def test_a_message_arrives_once_however_often_it_is_sent(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    for _ in range(2):
        assert spoken.send(MESSAGE) == [Accepted(f"{contact_id(MESSAGE.to)}:{second_of(MESSAGE, NOW)}", "intercom_202")]
    (taken,) = spoken.taken
    assert (taken.to, taken.reference, taken.text) == (MESSAGE.to, MESSAGE.reference, MESSAGE.text)
    assert isinstance(spoken.send(replace(MESSAGE, to=contact_id(MESSAGE.to), reference="f" * 32))[0], Accepted)
    assert len(spoken.taken) == 2


@pytest.mark.parametrize(
    ("to", "outcome"),
    [
        ("nobody", Rejected(K.PERMANENT, "intercom_no_contact")),
        ("twice", Rejected(K.PERMANENT, "intercom_several_contacts")),
        ("unsubscribed@example.com", Rejected(K.OPT_OUT, "intercom_unsubscribed_from_emails")),
        ("spam@example.com", Rejected(K.OPT_OUT, "intercom_marked_email_as_spam")),
        ("bounced@example.com", Rejected(K.PERMANENT, "intercom_has_hard_bounced")),
        ("0" * 24, Rejected(K.PERMANENT, "intercom_not_found")),
    ],
)
def test_the_vendor_s_contacts_decide_who_is_written_to(loop: Callable[..., Any], to: str, outcome: Outcome) -> None:
    spoken = loop(PLATFORM, VENDOR)
    assert spoken.send(replace(MESSAGE, to=to)) == [outcome]
    assert spoken.taken == []


def test_the_vendor_refuses_strangers_and_attributes_it_does_not_know(loop: Callable[..., Any]) -> None:
    assert loop(PLATFORM, VENDOR, access_token="x").send(MESSAGE) == [Rejected(K.AUTH, "intercom_unauthorized")]
    spoken = loop(PLATFORM, VENDOR, text_attribute="words")
    assert spoken.send(MESSAGE) == [Rejected(K.PERMANENT, "intercom_parameter_invalid")]
    assert spoken.taken == []


def test_an_unsubscription_comes_back_as_a_genuine_notification(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    spoken.send(replace(MESSAGE, to="stop@example.com"))
    (callback,) = spoken.callbacks
    found = spoken.receive(callback)
    assert isinstance(found, Received)
    assert {change.address for change in found.consents} == {"stop@example.com", contact_id("stop@example.com")}
    assert isinstance(spoken.receive(replace(callback, body=callback.body + b" ")), Refusal)


def test_attributes_are_made_once_and_found_afterwards(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    made = 0
    for step in PROVISION(spoken.context):
        if step.find is None:
            assert step.instruction
            continue
        assert step.make is not None
        assert step.exists is not None
        assert not step.exists(spoken.call(step.find))
        assert spoken.call(step.make).status == 200
        assert step.exists(spoken.call(step.find))
        made += 1
    assert made == 3
    assert all(finding.ok for finding in PROBE.read(spoken.call(PROBE.build(spoken.context)), spoken.context))


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (Fault.RATE, K.RATE, "rate_limit_exceeded"),
        (Fault.RATE_BARE, K.RATE, "rate_limit_exceeded"),
        (Fault.SERVER_ERROR, K.TRANSIENT, "server_error"),
        (Fault.PERMANENT, K.PERMANENT, "data_invalid"),
        (Fault.AUTH, K.AUTH, "unauthorized"),
        (Fault.OPT_OUT, K.PERMANENT, "unprocessable_entity"),
    ],
)
def test_every_fault_of_the_vendor_is_understood(fault: Fault, kind: FailureKind, code: str) -> None:
    refused = VENDOR.refuse(fault)
    outcome = talk(MESSAGE, Answer(refused.status, refused.headers, refused.body))[1]
    assert isinstance(outcome, Rejected | Deferred)
    assert (outcome.kind, outcome.code) == (kind, f"intercom_{code}")
    if fault is Fault.RATE:
        assert isinstance(outcome, Deferred)
        assert outcome.retry_after_s is not None
