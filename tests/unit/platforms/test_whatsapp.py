"""WhatsApp: templates as Meta approves them, every error code, signed statuses, and the loop with its simulation."""

from __future__ import annotations

import itertools
import json
import re
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
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Reply
from ordernotify.platforms._chat_words import KEYWORDS, cut, said
from ordernotify.platforms._meta import appsecret_proof, handshake, verify
from ordernotify.platforms._meta_templates import PARAMETERS, WORDS, body_of, parameters_of
from ordernotify.platforms._whatsapp_events import STATUSES
from ordernotify.platforms.whatsapp import (
    AMBIGUOUS,
    CODES,
    PLATFORM,
    WAITS,
    WhatsAppSettings,
    build,
    provision,
    read_address,
    read_answer,
)
from ordernotify.rendering import Library
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.whatsapp import LATE, STOPS, VENDOR
from ordernotify.sandbox.vendors.whatsapp import NOW as REFUSED_NOW

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "whatsapp"
VECTOR = json.loads((FIXTURES / "signature.json").read_text())
VALUES = {
    "access_token": "EAAGtest123",
    "app_secret": VECTOR["app_secret"],
    "verify_token": "my-verify-token",
    "phone_number_id": "106540352242922",
    "business_account_id": "102290129340398",
}
SETTINGS = WhatsAppSettings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url="https://notify.example.com/webhooks/whatsapp")
REFERENCE = "0123456789abcdef0123456789abcdef"
WAMID = "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBJCOTY3NDc0NDFDRUI3NTA0Q0UA"
MESSAGE = Message(
    delivery_id="d",
    reference=REFERENCE,
    channel=Channel.CHAT,
    to="+12025550123",
    status=OrderStatus.SHIPPED,
    language="en",
    text="Order ON-48213 has shipped.",
    subject="Order ON-48213 has shipped",
    variables={
        "order_no": "ON-48213",
        "status_word": "Shipped",
        "carrier": "UPS",
        "tracking_no": "1Z999AA10123456784",
        "promised_date": "25 Nov 2026",
        "client_name": "Harbor Systems",
    },
)
NOTICE = replace(MESSAGE, notice_only=True, text="There is news.\nReference N-7F3K.\n  https://portal.example.com/")
K, S = FailureKind, DeliveryStatus
URL = f"https://graph.facebook.com/v25.0/106540352242922/messages?appsecret_proof={VECTOR['appsecret_proof']}"
assert PLATFORM.webhook is not None
READ = PLATFORM.webhook.read


def call_of(message: Message, settings: WhatsAppSettings = SETTINGS) -> Call:
    call = build([message], replace(CONTEXT, settings=settings))
    assert isinstance(call, Call)
    return call


def template(message: Message, settings: WhatsAppSettings = SETTINGS) -> dict:
    return json.loads(call_of(message, settings).body)["template"]


def texts(message: Message) -> list[str]:
    return [entry["text"] for entry in template(message)["components"][0]["parameters"]]


def outcome(status: int, body: bytes = b"", **headers: str) -> Outcome:
    (one,) = read_answer(Answer(status, headers, body), [MESSAGE], CONTEXT)
    return one


def error(code: object, status: int = 400, **headers: str) -> Outcome:
    return outcome(status, json.dumps({"error": {"code": code, "message": "m"}}).encode(), **headers)


def hook(body: bytes) -> Inbound:
    return Inbound("POST", CONTEXT.webhook_url, {}, body)


def received(name: str) -> Received:
    found = READ(hook((FIXTURES / f"{name}.json").read_bytes()), SETTINGS, NOW)
    assert isinstance(found, Received), found
    return found


# ---- settings and addresses ----


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"phone_number_id": "+1555"}, "phone_number_id"),
        ({"business_account_id": "../me"}, "business_account_id"),
        ({"graph_version": "25"}, "graph_version"),
        ({"template_prefix": "Order-"}, "template_prefix"),
        ({"notice_template": ""}, "notice_template"),
        ({"languages": "en"}, "languages"),
        ({"languages": ""}, "languages"),
    ],
)
def test_wrong_settings_are_refused_by_name_without_their_values(values, named):
    with pytest.raises(ValidationError) as caught:
        WhatsAppSettings.model_validate({**VALUES, **values})
    assert named in str(caught.value)
    assert "EAAGtest123" not in str(caught.value)


def test_an_address_is_a_number_in_e164():
    assert read_address(" +1 (202) 555-0123 ") == "+12025550123"
    refusal = read_address("202-555-0123")
    assert isinstance(refusal, Refusal)
    assert refusal.field == "address"
    assert "202-555-0123" not in refusal.message


# ---- requests ----


def test_a_message_is_exactly_the_template_that_meta_documents():
    call = call_of(MESSAGE)
    assert (call.method, call.url) == ("POST", URL)
    assert call.headers == {"authorization": "Bearer EAAGtest123", "content-type": "application/json"}
    assert json.loads(call.body) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "12025550123",
        "type": "template",
        "biz_opaque_callback_data": REFERENCE,
        "template": {
            "name": "order_shipped",
            "language": {"code": "en_US"},
            "components": [
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "text": "ON-48213"},
                        {"type": "text", "text": "Shipped"},
                        {"type": "text", "text": "UPS"},
                        {"type": "text", "text": "1Z999AA10123456784"},
                        {"type": "text", "text": "25 Nov 2026"},
                        {"type": "text", "text": "-"},
                    ],
                }
            ],
        },
    }


ORDER = {
    "received": "order_no status_word promised_date",
    "processing": "order_no status_word promised_date detail",
    "shipped": "order_no status_word carrier tracking_no promised_date detail",
    "out_for_delivery": "order_no status_word carrier tracking_no detail",
    "delivered": "order_no status_word detail",
    "delayed": "order_no status_word promised_date detail",
    "backordered": "order_no status_word promised_date detail",
    "regulatory_hold": "order_no status_word",
    "cancelled": "order_no status_word detail",
    "returned": "order_no status_word detail",
}


@pytest.mark.parametrize("status", PARAMETERS)
def test_each_status_has_its_template_and_its_values_in_the_agreed_order(status):
    rendered = Library.load().samples(status.value)
    message = replace(MESSAGE, status=status, variables={**rendered, "status_word": "word"})
    assert template(message)["name"] == f"order_{status.value}"
    named = ORDER[status.value].split()
    assert texts(message) == [message.variables.get(name, "-") for name in named]


def test_every_status_that_is_told_has_a_template():
    assert {status.value for status in PARAMETERS} == set(ORDER)
    assert set(PARAMETERS) == set(OrderStatus) - {OrderStatus.UNKNOWN}


def test_a_status_that_no_template_tells_is_refused_before_any_call():
    assert build([replace(MESSAGE, status=OrderStatus.UNKNOWN)], CONTEXT) == Rejected(
        K.PERMANENT, "whatsapp_no_template"
    )


def test_a_notice_goes_by_its_own_template_with_nothing_but_its_text():
    assert template(NOTICE)["name"] == "order_notice"
    assert texts(NOTICE) == ["There is news. Reference N-7F3K. https://portal.example.com/"]
    assert b"ON-48213" not in call_of(NOTICE).body
    assert b"shipped" not in call_of(NOTICE).body


@pytest.mark.parametrize(
    ("language", "code"), [("en", "en_US"), ("es", "es"), ("es-MX", "es"), ("ES_mx", "es"), ("fr", "en_US")]
)
def test_a_language_is_mapped_to_metas_code(language, code):
    assert template(replace(MESSAGE, language=language))["language"] == {"code": code}


def test_the_map_of_languages_and_the_prefix_are_settings():
    settings = WhatsAppSettings.model_validate(
        {**VALUES, "languages": "pt-BR=pt_BR, en=en_GB", "template_prefix": "v2_", "graph_version": "v26.0"}
    )
    assert template(replace(MESSAGE, language="pt-br"), settings)["language"] == {"code": "pt_BR"}
    assert template(replace(MESSAGE, language="en"), settings)["language"] == {"code": "en_GB"}
    assert template(MESSAGE, settings)["name"] == "v2_shipped"
    assert "/v26.0/" in call_of(MESSAGE, settings).url


@given(st.text(max_size=1500).filter(lambda text: not re.search("[\ud800-\udfff]", text)))
def test_a_parameter_is_one_line_never_empty_and_never_too_long(text):
    for message in (replace(NOTICE, text=text), replace(MESSAGE, variables={"order_no": text})):
        for entry in parameters_of(message):
            value = entry["text"]
            assert value
            assert not re.search(r"[\n\t\r]| {2,}", value)
            assert value == value.strip()
            assert len(value.encode("utf-16-le")) <= 1600


def test_whitespace_becomes_single_spaces():
    message = replace(MESSAGE, variables={"order_no": "Line 1\n\tLine 2      end "})
    assert texts(message)[0] == "Line 1 Line 2 end"


def test_without_an_app_secret_no_proof_is_sent():
    settings = WhatsAppSettings.model_validate({**VALUES, "app_secret": None})
    assert call_of(MESSAGE, settings).url == "https://graph.facebook.com/v25.0/106540352242922/messages"


def test_the_proof_of_the_app_secret_is_the_published_vector_and_is_kept_out_of_logs():
    assert appsecret_proof(VECTOR["app_secret"], VECTOR["access_token"]) == VECTOR["appsecret_proof"]
    assert VECTOR["appsecret_proof"] in call_of(MESSAGE).secrets


def test_no_credential_is_seen_in_the_text_of_settings():
    assert "EAAGtest123" not in repr(SETTINGS)
    assert VECTOR["app_secret"] not in repr(SETTINGS)


# ---- answers ----


def test_a_taken_message_is_accepted_under_its_id():
    assert outcome(200, (FIXTURES / "sent.json").read_bytes()) == Accepted(WAMID, "whatsapp_accepted")


@pytest.mark.parametrize("word", ["held_for_quality_assessment", "paused"])
def test_a_held_message_is_accepted_by_that_name(word):
    body = json.dumps({"messages": [{"id": "wamid.1", "message_status": word}]}).encode()
    assert outcome(200, body) == Accepted("wamid.1", f"whatsapp_{word}")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"messages":[]}', b'{"messages":[{"id":1}]}'])
def test_a_success_without_an_id_may_have_been_sent(body):
    assert outcome(200, body) == Deferred(K.TRANSIENT, "whatsapp_unreadable", ambiguous=True)


EXPECTED = {
    K.AUTH: f"0 3 10 190 {' '.join(map(str, range(200, 300)))} 368 130497 131005 131031",
    K.TRANSIENT: "1 2 131000 131016 131057 133004 134101",
    K.RATE: "4 80007 130429 131056 132069",
    K.CONFIG: "33 131030 131037 131045 131048 131055 131063 131064 133010 134100 134102 132001 132007 132015 "
    "132016 132068",
    K.QUOTA: "131042",
    K.OPT_OUT: "131050",
    K.PERMANENT: "100 130403 130472 131008 131009 131021 131026 131047 131049 131051 131052 131053 131062 132000 "
    "132005 132008 132012 132018 135000 137000",
}
ROWS = [(int(code), kind) for kind, codes in EXPECTED.items() for code in codes.split()]


def test_the_table_of_codes_has_no_row_that_is_not_tested():
    assert dict(ROWS) == CODES


@pytest.mark.parametrize(("code", "kind"), ROWS)
def test_each_code_decides_whatever_the_http_status(code, kind):
    word = f"whatsapp_{code}"
    for status in (400, 403, 429, 500):
        if kind in {K.RATE, K.TRANSIENT}:
            wait, unclear = WAITS.get(code), code in AMBIGUOUS
            assert error(code, status) == Deferred(kind, word, retry_after_s=wait, ambiguous=unclear)
        else:
            assert error(code, status) == Rejected(kind, word)


def test_the_recorded_rate_limit_is_waited_out():
    body = (FIXTURES / "error_130429.json").read_bytes()
    assert outcome(400, body, **{"retry-after": "7"}) == Deferred(K.RATE, "whatsapp_130429", retry_after_s=7.0)


def test_an_unknown_code_is_permanent_unless_the_status_says_busy():
    assert error(999999) == Rejected(K.PERMANENT, "whatsapp_999999")
    assert error(999999, 503) == Deferred(K.TRANSIENT, "whatsapp_999999", ambiguous=True)


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b'{"error":"x"}', b'{"error":{"code":"x"}}'])
def test_without_a_code_the_http_status_decides(body):
    assert outcome(400, body) == Rejected(K.PERMANENT, "whatsapp_400")
    assert outcome(429, body, **{"retry-after": "3"}) == Deferred(K.RATE, "whatsapp_429", retry_after_s=3.0)
    assert outcome(502, body) == Deferred(K.TRANSIENT, "whatsapp_502", ambiguous=True)


# ---- webhook ----


def test_the_published_signature_passes_and_one_changed_byte_fails():
    headers = {"x-hub-signature-256": VECTOR["X-Hub-Signature-256"]}
    genuine = Inbound("POST", "https://n.example/h", headers, VECTOR["body"].encode())
    assert verify(genuine, SETTINGS, NOW) is None
    for place in range(len(genuine.body)):
        changed = bytearray(genuine.body)
        changed[place] ^= 1
        refusal = verify(replace(genuine, body=bytes(changed)), SETTINGS, NOW)
        assert refusal is not None
        assert (refusal.status, refusal.field) == (401, "X-Hub-Signature-256")


def test_the_same_json_with_its_characters_unescaped_is_not_what_was_signed():
    body = json.dumps(json.loads(VECTOR["body"]), ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"x-hub-signature-256": VECTOR["X-Hub-Signature-256"]}
    assert verify(Inbound("POST", "https://n.example/h", headers, body), SETTINGS, NOW) is not None


@pytest.mark.parametrize("signature", ["", "sha256=", "\u00ff", VECTOR["X-Hub-Signature-256"][7:]])
def test_a_request_without_its_signature_is_refused_by_name(signature):
    inbound = Inbound("POST", "https://n.example/h", {"x-hub-signature-256": signature}, VECTOR["body"].encode())
    refusal = verify(inbound, SETTINGS, NOW)
    assert refusal is not None
    assert (refusal.status, refusal.field) == (401, "X-Hub-Signature-256")


def test_both_secrets_hold_while_one_is_replaced_and_the_new_one_proves_calls():
    settings = WhatsAppSettings.model_validate({**VALUES, "app_secret": f"new, {VECTOR['app_secret']}"})
    headers = {"x-hub-signature-256": VECTOR["X-Hub-Signature-256"]}
    assert verify(Inbound("POST", "https://n.example/h", headers, VECTOR["body"].encode()), settings, NOW) is None
    assert call_of(MESSAGE, settings).url.endswith(appsecret_proof("new", "EAAGtest123"))


def test_nothing_is_believed_without_an_app_secret():
    settings = WhatsAppSettings.model_validate({**VALUES, "app_secret": None})
    refusal = verify(hook(b"{}"), settings, NOW)
    assert refusal is not None
    assert "app_secret" in refusal.message


def challenge(**query: str) -> Inbound:
    named = {f"hub.{name}": value for name, value in query.items()}
    return Inbound("GET", CONTEXT.webhook_url, {}, b"", named)


def test_the_challenge_is_sent_back_as_it_came():
    asked = challenge(mode="subscribe", verify_token="my-verify-token", challenge="1158201444")
    assert handshake(asked, SETTINGS) == Reply(body=b"1158201444")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "hub.mode"),
        ({"mode": "subscribe"}, "hub.verify_token"),
        ({"mode": "subscribe", "verify_token": "my-verify-tokeN", "challenge": "1"}, "hub.verify_token"),
        ({"mode": "unsubscribe", "verify_token": "my-verify-token", "challenge": "1"}, "hub.mode"),
    ],
)
def test_a_wrong_challenge_is_refused_with_403(query, field):
    refusal = handshake(challenge(**query), SETTINGS)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.field) == (403, field)


def test_a_challenge_cannot_pass_where_no_token_is_set():
    settings = WhatsAppSettings.model_validate({**VALUES, "verify_token": None})
    assert isinstance(handshake(challenge(mode="subscribe", verify_token=""), settings), Refusal)
    assert handshake(hook(b"{}"), settings) is None


@pytest.mark.parametrize(
    ("name", "status", "code", "opt_out"),
    [
        ("sent", S.SENT, "whatsapp_sent", False),
        ("delivered", S.DELIVERED, "whatsapp_delivered", False),
        ("read", S.READ, "whatsapp_read", False),
        ("played", S.READ, "whatsapp_played", False),
        ("failed_131026", S.REJECTED, "whatsapp_131026", False),
        ("failed_131050", S.REJECTED, "whatsapp_131050", True),
        ("failed_131016", S.FAILED, "whatsapp_131016", False),
        ("failed_131042", S.FAILED, "whatsapp_131042", False),
    ],
)
def test_each_status_becomes_one_receipt(name, status, code, opt_out):
    found = received(f"status_{name}")
    (receipt,) = found.receipts
    assert (receipt.status, receipt.code, receipt.opt_out) == (status, code, opt_out)
    assert (receipt.reference, receipt.provider_ref) == (REFERENCE, WAMID)
    assert receipt.dedupe_key == f"{WAMID}:{name.partition('_')[0]}"
    assert receipt.occurred_at == datetime(2025, 11, 24, 16, 0, tzinfo=UTC)
    assert found.reply == Reply(status=200)


def test_receipts_lead_to_the_same_status_in_any_order():
    for order in itertools.permutations(("sent", "delivered", "read", "failed")):
        status = S.SENT
        for word in order:
            then = STATUSES[word]
            status = then if can_become(status, then) else status
        assert status is S.READ


def test_a_status_of_a_kind_that_meta_added_since_changes_nothing():
    body = (FIXTURES / "status_sent.json").read_bytes().replace(b'"sent"', b'"warning"')
    found = READ(hook(body), SETTINGS, NOW)
    assert isinstance(found, Received)
    assert [(one.status, one.code) for one in found.receipts] == [(None, "whatsapp_unlisted")]


@pytest.mark.parametrize(
    ("name", "granted"),
    [
        ("inbound_stop", [False]),
        ("inbound_button_stop", [False]),
        ("inbound_talk", []),
        ("inbound_stop_without_number", []),
        ("user_preferences_stop", [False]),
        ("user_preferences_resume", [True]),
        ("template_status", []),
    ],
)
def test_what_people_say_changes_consent_only_where_they_say_so(name, granted):
    found = received(name)
    assert [change.granted for change in found.consents] == granted
    assert all((one.channel, one.address) == (Channel.CHAT, "+16505551234") for one in found.consents)
    assert len({one.dedupe_key for one in found.consents}) == len(granted)
    assert found.receipts == ()
    assert found.reply == Reply(status=200)


def test_what_is_said_to_another_number_of_the_app_is_not_for_us():
    body = (FIXTURES / "inbound_stop.json").read_bytes().replace(b"106540352242922", b"106540352242999")
    assert READ(hook(body), SETTINGS, NOW) == Received(reply=Reply())


@pytest.mark.parametrize("word", KEYWORDS)
def test_each_keyword_is_understood_in_any_case_and_nothing_longer_is(word):
    assert said(f" {word.title()}.") is KEYWORDS[word]
    assert said(f"{word} it") is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b'{"entry":1}', "entry"),
        (b'{"object":"page","entry":[]}', "object"),
        (b'{"object":"whatsapp_business_account","entry":[{"changes":[7]}]}', "entry[0].changes[0]"),
        (
            b'{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages","value":[]}]}]}',
            "entry[0].changes[0].value",
        ),
        (
            (
                b'{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages",'
                b'"value":{"statuses":[{"status":"sent"}]}}]}]}'
            ),
            "entry[0].changes[0].value.statuses[0].id",
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
        | st.dictionaries(st.sampled_from(["id", "status", "errors", "code", "text", "body", "from"]), part)
    ),
    max_leaves=10,
)


@given(JSON)
def test_hostile_json_never_raises(value):
    change = {"field": "messages", "value": {"statuses": [value], "messages": value, "metadata": {}}}
    envelope = {"object": "whatsapp_business_account", "entry": [{"changes": [change]}]}
    for body in (envelope, {"object": "whatsapp_business_account", "entry": value}, value):
        assert isinstance(READ(hook(json.dumps(body).encode()), SETTINGS, NOW), Received | Refusal)


# ---- setting up ----


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("status", [*PARAMETERS, None])
def test_a_template_body_follows_metas_rules(language, status):
    text, examples = body_of(status, language)
    places = [int(place) for place in re.findall(r"\{\{(\d+)\}\}", text)]
    assert places == list(range(1, len(examples) + 1))
    assert not text.startswith("{{")
    assert not re.search(r"\}\}\W*$", text)
    assert len(text) + sum(len(example) for example in examples) < 1024


def test_templates_in_a_language_without_words_of_ours_are_left_to_a_person_with_the_exact_order():
    settings = WhatsAppSettings.model_validate({**VALUES, "languages": "de=de"})
    *_, last = provision(replace(CONTEXT, settings=settings))
    assert "order_shipped: order_no, status_word, carrier, tracking_no, promised_date, detail" in last.instruction


def test_without_an_account_the_set_up_says_what_is_missing():
    settings = WhatsAppSettings.model_validate({**VALUES, "business_account_id": ""})
    assert "business_account_id" in provision(replace(CONTEXT, settings=settings))[-1].instruction


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


def test_the_doctor_names_what_is_wrong(loop):
    assert PLATFORM.probe is not None
    good = loop(PLATFORM, VENDOR)
    findings = PLATFORM.probe.read(good.call(PLATFORM.probe.build(good.context)), good.context)
    assert all(finding.ok and not finding.advice for finding in findings)
    bad = loop(PLATFORM, VENDOR, access_token="wrong", verify_token="")
    findings = PLATFORM.probe.read(bad.call(PLATFORM.probe.build(bad.context)), bad.context)
    assert {finding.check for finding in findings if not finding.ok} == {"credentials", "receipts"}
    assert "190" in findings[0].advice


# ---- the loop with the simulation ----


@pytest.mark.parametrize("status", PARAMETERS)
def test_each_status_arrives_with_its_words_and_is_read(loop, status):
    one = loop(PLATFORM, VENDOR)
    for step in provision(one.context):
        if step.make is not None:
            one.call(step.make)
    (sent,) = one.send(replace(MESSAGE, status=status))
    assert isinstance(sent, Accepted)
    (taken,) = one.taken
    assert (taken.to, taken.reference, taken.provider_ref) == (MESSAGE.to, REFERENCE, sent.provider_ref)
    assert "Update on your order ON-48213: Shipped." in taken.text
    receipts = [one.receive(callback).receipts[0] for callback in one.callbacks]
    assert [receipt.status for receipt in receipts] == [S.SENT, S.DELIVERED, S.READ]
    assert {(receipt.reference, receipt.provider_ref) for receipt in receipts} == {(REFERENCE, sent.provider_ref)}
    assert len({receipt.dedupe_key for receipt in receipts}) == 3


def test_a_notice_arrives_with_nothing_but_its_text(loop):
    one = loop(PLATFORM, VENDOR)
    assert isinstance(one.send(NOTICE)[0], Accepted)
    assert one.taken[0].text == "order_notice: There is news. Reference N-7F3K. https://portal.example.com/"


@pytest.mark.parametrize("code", REFUSED_NOW)
def test_a_number_that_is_refused_at_once_takes_nothing(loop, code):
    one = loop(PLATFORM, VENDOR)
    (refused,) = one.send(replace(MESSAGE, to=f"+12025{code}"))
    assert refused.code == f"whatsapp_{code}"
    assert one.taken == []


@pytest.mark.parametrize("code", sorted(LATE))
def test_a_failure_after_acceptance_comes_back_by_webhook(loop, code):
    one = loop(PLATFORM, VENDOR)
    assert isinstance(one.send(replace(MESSAGE, to=f"+12025{code}"))[0], Accepted)
    receipt = one.receive(one.callbacks[-1]).receipts[0]
    assert (receipt.status, receipt.code) == (S.REJECTED, f"whatsapp_{code}")
    assert receipt.opt_out is (code == "131050")


def test_who_answers_stop_is_heard(loop):
    one = loop(PLATFORM, VENDOR)
    one.send(replace(MESSAGE, to=f"+{STOPS}"))
    (change,) = one.receive(one.callbacks[-1]).consents
    assert (change.address, change.granted) == (f"+{STOPS}", False)


def test_the_simulation_refuses_what_whatsapp_refuses(loop):
    assert loop(PLATFORM, VENDOR, access_token="wrong").send(MESSAGE)[0] == Rejected(K.AUTH, "whatsapp_190")
    assert loop(PLATFORM, VENDOR, app_secret="wrong").send(MESSAGE)[0] == Rejected(K.PERMANENT, "whatsapp_100")
    missing = loop(PLATFORM, VENDOR, template_prefix="missing_")
    assert missing.send(MESSAGE)[0] == Rejected(K.CONFIG, "whatsapp_132001")


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in {"hang", "reset", "no_answer"}])
def test_each_fault_is_understood(fault):
    reply = VENDOR.refuse(fault)
    (found,) = read_answer(Answer(reply.status, dict(reply.headers), reply.body), [MESSAGE], CONTEXT)
    kinds = {
        Fault.RATE: K.RATE,
        Fault.RATE_BARE: K.RATE,
        Fault.SERVER_ERROR: K.TRANSIENT,
        Fault.PERMANENT: K.PERMANENT,
        Fault.AUTH: K.AUTH,
        Fault.OPT_OUT: K.OPT_OUT,
    }
    assert not isinstance(found, Accepted)
    assert found.kind is kinds[fault]


@given(st.text(max_size=60).filter(lambda text: not re.search("[\ud800-\udfff]", text)), st.integers(2, 40))
def test_cutting_keeps_whole_characters_within_the_limit(text, limit):
    short = cut(text, limit)
    assert len(short.encode("utf-16-le")) <= 2 * limit
    assert short == text or text.startswith(short[:-1])
