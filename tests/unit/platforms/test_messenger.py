"""Messenger: texts, utility templates after 24 hours, every error code, webhooks, and the simulation."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import (
    Accepted,
    Deferred,
    DeliveryStatus,
    FailureKind,
    Message,
    Outcome,
    Rejected,
    can_become,
)
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Context, Inbound, Received, Refusal, Reply
from ordernotify.platforms._meta import appsecret_proof
from ordernotify.platforms._meta_templates import PARAMETERS
from ordernotify.platforms.messenger import (
    AMBIGUOUS,
    CODES,
    FIELDS,
    OUTSIDE_WINDOW,
    PLATFORM,
    MessengerSettings,
    build,
    build_utility,
    converse,
    provision,
    read_address,
    read_answer,
)
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.messenger import VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "messenger"
SECRET = "test_app_secret_0123456789abcdef"
VALUES = {
    "access_token": "EAAGtest123",
    "app_secret": SECRET,
    "verify_token": "my-verify-token",
    "page_id": "204190129340777",
}
SETTINGS = MessengerSettings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url="https://notify.example.com/webhooks/messenger")
REFERENCE = "0123456789abcdef0123456789abcdef"
PSID = "6489123456789012"
MID = "m_AG5Hz2Uq7tuwNEhXfYYKj8mJEM_QPpz5jdCK48PnKAjSdjfipqxqMvK8ma6AC8fplwlqLP_5cgXIbu7I3rBN0P"
MESSAGE = Message(
    delivery_id="d",
    reference=REFERENCE,
    channel=Channel.CHAT,
    to=PSID,
    status=OrderStatus.DELAYED,
    language="es",
    text="El pedido ON-48213 se retrasa.",
    variables={"order_no": "ON-48213", "status_word": "Retrasado", "promised_date": "25 nov 2026"},
)
NOTICE = replace(MESSAGE, notice_only=True, text="Hay novedades.\nReferencia N-7F3K.")
K, S = FailureKind, DeliveryStatus
URL = (
    "https://graph.facebook.com/v25.0/204190129340777/messages"
    "?appsecret_proof=106e1f9355bf9b7eab915dbbedc87d098cba9a797db16204ef62988f3c5074fa"
)
assert PLATFORM.webhook is not None
VERIFY, READ = PLATFORM.webhook.verify, PLATFORM.webhook.read


def outcome(status: int, body: bytes = b"", **headers: str) -> Outcome:
    (one,) = read_answer(Answer(status, headers, body), [MESSAGE], CONTEXT)
    return one


def refusal_of(code: object, subcode: object = None, status: int = 400) -> Answer:
    error = {"message": "m", "type": "OAuthException", "code": code}
    if subcode is not None:
        error["error_subcode"] = subcode
    return Answer(status, body=json.dumps({"error": error}).encode())


def outcome_of(answer: Answer) -> Outcome:
    return read_answer(answer, [MESSAGE], CONTEXT)[0]


def hook(body: bytes, **headers: str) -> Inbound:
    return Inbound("POST", CONTEXT.webhook_url, headers, body)


def received(name: str) -> Received:
    found = READ(hook((FIXTURES / f"{name}.json").read_bytes()), SETTINGS, NOW)
    assert isinstance(found, Received), found
    assert found.reply == Reply(status=200)
    return found


# ---- settings and addresses ----


@pytest.mark.parametrize(
    ("values", "named"),
    [({"page_id": "me"}, "page_id"), ({"template_prefix": "Ä"}, "template_prefix"), ({"languages": "es"}, "languages")],
)
def test_wrong_settings_are_refused_by_name_without_their_values(values, named):
    with pytest.raises(ValidationError) as caught:
        MessengerSettings.model_validate({**VALUES, **values})
    assert named in str(caught.value)
    assert "EAAGtest123" not in str(caught.value)


def test_an_address_is_a_page_scoped_id():
    assert read_address(f" {PSID} ") == PSID
    for wrong in ("", "me", "+12025550123", "12", "٣٤٥٦٧٨٩", "1" * 26):
        refusal = read_address(wrong)
        assert isinstance(refusal, Refusal)
        assert refusal.field == "address"


# ---- requests ----


def test_a_message_is_exactly_the_text_that_meta_documents():
    call = build([MESSAGE], CONTEXT)
    assert (call.method, call.url) == ("POST", URL)
    assert call.headers == {"authorization": "Bearer EAAGtest123", "content-type": "application/json"}
    assert json.loads(call.body) == {
        "recipient": {"id": PSID},
        "messaging_type": "UPDATE",
        "message": {"text": "El pedido ON-48213 se retrasa.", "metadata": REFERENCE},
    }
    assert call.secrets == (appsecret_proof(SECRET, "EAAGtest123"),)


@pytest.mark.parametrize("status", PARAMETERS)
def test_each_status_has_its_utility_template(status):
    call = build_utility(replace(MESSAGE, status=status), CONTEXT)
    assert call is not None
    assert call.url == URL
    body = json.loads(call.body)
    assert (body["messaging_type"], body["recipient"]) == ("UTILITY", {"id": PSID})
    assert body["message"]["template"]["name"] == f"order_{status.value}"
    assert body["message"]["template"]["language"] == {"code": "es"}
    (component,) = body["message"]["template"]["components"]
    assert component["type"] == "body"
    assert len(component["parameters"]) == len(PARAMETERS[status])


def test_a_notice_is_sent_with_nothing_but_its_text():
    assert json.loads(build([NOTICE], CONTEXT).body)["message"] == {"text": NOTICE.text, "metadata": REFERENCE}
    utility = build_utility(NOTICE, CONTEXT)
    assert utility is not None
    assert json.loads(utility.body)["message"]["template"] == {
        "name": "order_notice",
        "language": {"code": "es"},
        "components": [{"type": "body", "parameters": [{"type": "text", "text": "Hay novedades. Referencia N-7F3K."}]}],
    }
    for call in (build([NOTICE], CONTEXT), utility):
        assert b"ON-48213" not in call.body
        assert b"delayed" not in call.body


def test_a_text_is_cut_to_what_messenger_holds():
    text = json.loads(build([replace(MESSAGE, text="\N{ROCKET}" * 1500)], CONTEXT).body)["message"]["text"]
    assert text == "\N{ROCKET}" * 999 + "…"


# ---- the 24 hours ----


def test_a_text_outside_the_24_hours_is_sent_once_more_as_a_template():
    conversation = converse([MESSAGE], CONTEXT)
    assert json.loads(next(conversation).body)["messaging_type"] == "UPDATE"
    late = Answer(403, body=(FIXTURES / "error_outside_window.json").read_bytes())
    assert json.loads(conversation.send(late).body)["messaging_type"] == "UTILITY"
    with pytest.raises(StopIteration) as end:
        conversation.send(Answer(200, body=(FIXTURES / "sent.json").read_bytes()))
    assert end.value.value == [Accepted(MID, "messenger_200")]


@pytest.mark.parametrize(("code", "subcode"), OUTSIDE_WINDOW)
def test_without_templates_a_message_outside_the_24_hours_is_refused(code, subcode):
    settings = MessengerSettings.model_validate({**VALUES, "template_prefix": ""})
    conversation = converse([MESSAGE], replace(CONTEXT, settings=settings))
    next(conversation)
    with pytest.raises(StopIteration) as end:
        conversation.send(refusal_of(code, subcode))
    assert end.value.value == [Rejected(K.PERMANENT, f"messenger_{code}_{subcode}")]


@pytest.mark.parametrize(
    "answer",
    [Answer(200, body=b'{"message_id":"m_1"}'), refusal_of(10, 2018108), refusal_of(4), Answer(500), Answer(200)],
)
def test_nothing_but_the_closed_window_makes_a_second_call(answer):
    conversation = converse([MESSAGE], CONTEXT)
    next(conversation)
    with pytest.raises(StopIteration):
        conversation.send(answer)


# ---- answers ----

EXPECTED = {
    K.TRANSIENT: "1/0 1/99 1/1357046 2/0 1200/0",
    K.RATE: "4/0 4/2018354 613/0 613/2534040 613/2018338",
    K.AUTH: "10/0 10/1893063 190/0 200/0 200/2018028",
    K.CONFIG: "100/33 2022/0",
    K.OPT_OUT: "10/2018108 10/1893015 551/0 551/1545041 200/1545041",
    K.PERMANENT: "10/2018278 10/2018065 10/2534022 100/0 100/2018001 100/2018008 100/2018047 100/2018109 100/2018294 "
    "2018300/0",
}
ROWS = [
    (int(code), int(subcode), kind)
    for kind, keys in EXPECTED.items()
    for code, subcode in (key.split("/") for key in keys.split())
]


def test_the_table_of_codes_has_no_row_that_is_not_tested():
    assert {(code, subcode): kind for code, subcode, kind in ROWS} == CODES


@pytest.mark.parametrize(("code", "subcode", "kind"), ROWS)
def test_each_pair_of_codes_decides_whatever_the_http_status(code, subcode, kind):
    word = f"messenger_{code}_{subcode}" if subcode else f"messenger_{code}"
    for status in (400, 403, 500):
        found = outcome_of(refusal_of(code, subcode or None, status))
        if kind in {K.RATE, K.TRANSIENT}:
            assert found == Deferred(kind, word, ambiguous=(code, subcode) in AMBIGUOUS)
        else:
            assert found == Rejected(kind, word)


@pytest.mark.parametrize(
    ("code", "subcode", "expected"),
    [
        (190, 463, Rejected(K.AUTH, "messenger_190_463")),
        (100, 999, Rejected(K.PERMANENT, "messenger_100_999")),
        (551, 7, Rejected(K.OPT_OUT, "messenger_551_7")),
        (987654, None, Rejected(K.PERMANENT, "messenger_987654")),
    ],
)
def test_an_unknown_subcode_leaves_it_to_the_code(code, subcode, expected):
    assert outcome_of(refusal_of(code, subcode)) == expected


def test_a_taken_message_is_accepted_under_its_id():
    assert outcome(200, (FIXTURES / "sent.json").read_bytes()) == Accepted(MID, "messenger_200")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"message_id":""}', b'{"message_id":7}'])
def test_a_success_without_an_id_may_have_been_sent(body):
    assert outcome(200, body) == Deferred(K.TRANSIENT, "messenger_unreadable", ambiguous=True)


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b'{"error":{"code":"x"}}'])
def test_without_a_code_the_http_status_decides(body):
    assert outcome(400, body) == Rejected(K.PERMANENT, "messenger_400")
    assert outcome(429, body, **{"retry-after": "3"}) == Deferred(K.RATE, "messenger_429", retry_after_s=3.0)
    assert outcome(502, body) == Deferred(K.TRANSIENT, "messenger_502", ambiguous=True)


# ---- webhook ----


def test_a_genuine_signature_passes_and_one_changed_byte_fails():
    body = (FIXTURES / "delivery.json").read_bytes()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={digest}"}
    assert VERIFY(hook(body, **headers), SETTINGS, NOW) is None
    for place in range(0, len(body), 3):
        changed = bytearray(body)
        changed[place] ^= 1
        refusal = VERIFY(hook(bytes(changed), **headers), SETTINGS, NOW)
        assert refusal is not None
        assert (refusal.status, refusal.field) == (401, "X-Hub-Signature-256")


def test_the_challenge_is_answered():
    assert PLATFORM.webhook is not None
    assert PLATFORM.webhook.handshake is not None
    query = {"hub.mode": "subscribe", "hub.verify_token": "my-verify-token", "hub.challenge": "42"}
    found = PLATFORM.webhook.handshake(Inbound("GET", CONTEXT.webhook_url, {}, b"", query), SETTINGS)
    assert found == Reply(body=b"42")


def test_a_delivery_is_a_receipt_for_each_message_it_names():
    receipts = received("delivery").receipts
    assert [(one.provider_ref, one.status, one.dedupe_key) for one in receipts] == [
        (MID, S.DELIVERED, f"{MID}:delivered"),
        ("m_second", S.DELIVERED, "m_second:delivered"),
    ]
    assert receipts[0].occurred_at == datetime(2025, 11, 24, 16, 0, tzinfo=UTC)


@pytest.mark.parametrize("name", ["read", "delivery_without_mids", "echo_of_a_person", "message_talk"])
def test_what_names_no_message_of_ours_is_taken_and_changes_nothing(name):
    assert received(name) == Received(reply=Reply())


def test_the_echo_of_a_message_settles_what_was_never_answered():
    found = received("echo")
    (receipt,) = found.receipts
    assert (receipt.reference, receipt.provider_ref, receipt.status) == (REFERENCE, MID, S.SENT)
    assert can_become(S.UNKNOWN, S.SENT)
    assert found.consents == ()  # the word stop in a text of ours is not the person's


@pytest.mark.parametrize(("name", "granted"), [("message_stop", False), ("optin_stop", False), ("optin_resume", True)])
def test_what_people_say_or_press_changes_consent(name, granted):
    (change,) = received(name).consents
    assert (change.channel, change.address, change.granted) == (Channel.CHAT, PSID, granted)
    assert change.dedupe_key


@pytest.mark.parametrize("name", ["referral", "postback_referral"])
def test_the_code_of_a_link_ties_a_person_to_a_contact(name):
    assert received(name).links == (("c0de-42", PSID),)


def test_a_code_that_is_none_of_ours_ties_nobody():
    body = (FIXTURES / "referral.json").read_bytes().replace(b"c0de-42", b"<script>")
    found = READ(hook(body), SETTINGS, NOW)
    assert isinstance(found, Received)
    assert found.links == ()


def test_what_happens_at_another_page_of_the_app_is_not_for_us():
    body = (FIXTURES / "message_stop.json").read_bytes().replace(b'"204190129340777"', b'"999999999999999"')
    assert READ(hook(body), SETTINGS, NOW) == Received(reply=Reply())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b'{"object":"instagram","entry":[]}', "object"),
        (b'{"object":"page"}', "entry"),
        (b'{"object":"page","entry":[{"id":"204190129340777","messaging":[1]}]}', "entry[0].messaging[0]"),
        (
            b'{"object":"page","entry":[{"id":"204190129340777","messaging":[{"delivery":{"mids":[1]}}]}]}',
            "entry[0].messaging[0].delivery.mids[0]",
        ),
    ],
)
def test_a_malformed_webhook_is_refused_by_the_name_of_its_field(body, field):
    refusal = READ(hook(body), SETTINGS, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.field) == (422, field)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(st.sampled_from(["sender", "id", "message", "mid", "delivery", "mids", "timestamp"]), part)
    ),
    max_leaves=10,
)


@given(JSON)
def test_hostile_json_never_raises(value):
    envelope = {"object": "page", "entry": [{"id": "204190129340777", "messaging": [value]}]}
    for body in (envelope, value):
        assert isinstance(READ(hook(json.dumps(body).encode()), SETTINGS, NOW), Received | Refusal)


# ---- the loop with the simulation ----


def test_a_text_arrives_is_echoed_and_delivered(loop):
    one = loop(PLATFORM, VENDOR)
    (sent,) = one.send(MESSAGE)
    assert isinstance(sent, Accepted)
    (taken,) = one.taken
    assert (taken.to, taken.reference, taken.text, taken.provider_ref) == (
        PSID,
        REFERENCE,
        MESSAGE.text,
        sent.provider_ref,
    )
    found = [one.receive(callback) for callback in one.callbacks]
    assert [[(one.status, one.provider_ref) for one in each.receipts] for each in found] == [
        [(S.SENT, sent.provider_ref)],
        [(S.DELIVERED, sent.provider_ref)],
        [],
    ]


@pytest.mark.parametrize("status", PARAMETERS)
def test_who_wrote_long_ago_gets_the_template_of_each_status(loop, status):
    one = loop(PLATFORM, VENDOR)
    for step in provision(one.context):
        if step.make is not None:
            one.call(step.make)
    (sent,) = one.send(replace(MESSAGE, to="648900000024", status=status))
    assert isinstance(sent, Accepted)
    (taken,) = one.taken
    assert "Novedades de su pedido ON-48213: Retrasado." in taken.text


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("648900000551", Rejected(K.OPT_OUT, "messenger_551_1545041")),
        ("648900000001", Rejected(K.PERMANENT, "messenger_100_2018001")),
    ],
)
def test_people_who_cannot_be_reached_take_nothing(loop, to, expected):
    one = loop(PLATFORM, VENDOR)
    assert one.send(replace(MESSAGE, to=to)) == [expected]
    assert one.taken == []


def test_who_answers_stop_is_heard(loop):
    one = loop(PLATFORM, VENDOR)
    one.send(replace(MESSAGE, to="648900000199"))
    (change,) = one.receive(one.callbacks[-1]).consents
    assert (change.address, change.granted) == ("648900000199", False)


def test_the_simulation_refuses_what_messenger_refuses(loop):
    assert loop(PLATFORM, VENDOR, access_token="wrong").send(MESSAGE) == [Rejected(K.AUTH, "messenger_190")]
    assert loop(PLATFORM, VENDOR, app_secret="wrong").send(MESSAGE) == [Rejected(K.PERMANENT, "messenger_100")]
    assert loop(PLATFORM, VENDOR).send(replace(MESSAGE, text="")) == [Rejected(K.PERMANENT, "messenger_100")]


def test_setting_up_twice_changes_nothing_the_second_time(loop):
    one = loop(PLATFORM, VENDOR)
    for made in (23, 0):
        count = 0
        for step in provision(one.context):
            if step.find is not None and step.exists is not None and step.make is not None:
                if not step.exists(one.call(step.find)):
                    assert one.call(step.make).status == 200
                    count += 1
                assert step.exists(one.call(step.find))
        assert count == made


def test_what_a_person_must_do_names_every_field_and_the_link():
    steps = provision(replace(CONTEXT, settings=MessengerSettings.model_validate({**VALUES, "template_prefix": ""})))
    words = " ".join(step.instruction for step in steps)
    assert all(field in words for field in FIELDS)
    assert "https://m.me/<page>?ref=<code>" in words
    assert CONTEXT.webhook_url in words
    assert not any("Template" in step.title for step in steps)


def test_the_doctor_names_what_is_wrong(loop):
    assert PLATFORM.probe is not None
    good = loop(PLATFORM, VENDOR)
    findings = PLATFORM.probe.read(good.call(PLATFORM.probe.build(good.context)), good.context)
    assert all(finding.ok and not finding.advice for finding in findings)
    bad = loop(PLATFORM, VENDOR, access_token="wrong", verify_token="")
    findings = PLATFORM.probe.read(bad.call(PLATFORM.probe.build(bad.context)), bad.context)
    assert {finding.check for finding in findings if not finding.ok} == {"credentials", "receipts"}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.RATE, K.RATE),
        (Fault.RATE_BARE, K.RATE),
        (Fault.SERVER_ERROR, K.TRANSIENT),
        (Fault.PERMANENT, K.PERMANENT),
        (Fault.AUTH, K.AUTH),
        (Fault.OPT_OUT, K.OPT_OUT),
    ],
)
def test_each_fault_is_understood(fault, kind):
    reply = VENDOR.refuse(fault)
    found = outcome_of(Answer(reply.status, dict(reply.headers), reply.body))
    assert not isinstance(found, Accepted)
    assert found.kind is kind
