"""Twilio: exact requests, every row of its tables, signed callbacks, and the loop with its simulation."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

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
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal
from ordernotify.platforms._twilio_sdk import TwilioSettings
from ordernotify.platforms.twilio import (
    AMBIGUOUS,
    CODES,
    KEYWORDS,
    PLATFORM,
    STATUSES,
    build,
    fit,
    provision,
    read,
    read_address,
    read_answer,
    verify,
)
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.twilio import ERRORS, LATE_CODES, MAGIC, VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "twilio"
VECTORS = json.loads((FIXTURES / "signatures.json").read_text())
ACCOUNT, SERVICE = "AC00000000000000000000000000000001", "MG00000000000000000000000000000009"
VALUES = {"account_sid": ACCOUNT, "auth_token": "token", "from_number": "+15017122661"}
SETTINGS = TwilioSettings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url="https://notify.example.com/hooks/twilio")
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.SMS,
    to="+12025550123",
    status=OrderStatus.SHIPPED,
    language="en",
    text="Order A-1001 has shipped.",
)
K, S = FailureKind, DeliveryStatus
MESSAGES_URL = f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages.json"


def with_settings(**values: object) -> Context:
    return replace(CONTEXT, settings=TwilioSettings.model_validate({**VALUES, **values}))


def fields(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.body.decode(), keep_blank_values=True))


def callback(name: str, url: str = "https://notify.example.com/hooks/twilio?d=ref") -> Inbound:
    return Inbound("POST", url, {}, (FIXTURES / f"{name}.form").read_bytes(), dict(parse_qsl(urlsplit(url).query)))


def outcome(status: int, body: bytes = b"", **headers: str) -> Outcome:
    (one,) = read_answer(Answer(status, headers, body), [MESSAGE], CONTEXT)
    return one


# ---- settings and addresses ----


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"from_number": ""}, "messaging_service_sid"),
        ({"account_sid": "SK123"}, "account_sid"),
        ({"messaging_service_sid": "MG1"}, "messaging_service_sid"),
        ({"api_key_sid": "SK1"}, "api_key_secret"),
        ({"api_key_secret": "secret"}, "api_key_sid"),
    ],
)
def test_wrong_settings_are_refused_by_name_without_their_values(values, named):
    with pytest.raises(ValidationError) as caught:
        TwilioSettings.model_validate({**VALUES, **values})
    assert named in str(caught.value)
    assert "token" not in str(caught.value).replace("auth_token", "")


def test_an_address_is_a_number_in_e164():
    assert read_address(" +1 (202) 555-0123 ") == "+12025550123"
    refusal = read_address("202-555-0199")
    assert isinstance(refusal, Refusal)
    assert refusal.field == "address"
    assert "0199" not in refusal.message


# ---- requests ----


def test_a_message_is_exactly_the_form_that_twilio_documents():
    call = build([MESSAGE], CONTEXT)
    assert (call.method, call.url) == ("POST", MESSAGES_URL)
    assert call.headers["content-type"] == "application/x-www-form-urlencoded"
    assert call.headers["authorization"] == "Basic QUMwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMTp0b2tlbg=="
    asked = "https://notify.example.com/hooks/twilio?d=0123456789abcdef0123456789abcdef#rc=5&rp=all"
    assert fields(call) == {
        "To": "+12025550123",
        "From": "+15017122661",
        "Body": "Order A-1001 has shipped.",
        "SmartEncoded": "true",
        "StatusCallback": asked,
    }


@given(st.text(min_size=1, max_size=200))
def test_any_text_is_read_back_as_it_was_from_a_form_of_plain_letters(text):
    call = build([replace(MESSAGE, text=text)], CONTEXT)
    assert call.body.isascii()
    assert not set(call.body) & set(b' "<>\r\n\0#')
    assert dict(parse_qsl(call.body.decode(), keep_blank_values=True))["Body"] == text
    assert fields(call)["To"] == MESSAGE.to


def test_a_messaging_service_and_an_api_key_take_the_place_of_number_and_token():
    context = with_settings(from_number="", messaging_service_sid=SERVICE, api_key_sid="SK1", api_key_secret="s")
    call = build([MESSAGE], context)
    assert fields(call)["MessagingServiceSid"] == SERVICE
    assert "From" not in fields(call)
    assert call.url == MESSAGES_URL
    assert call.headers["authorization"] == "Basic U0sxOnM="


@pytest.mark.parametrize(
    "context",
    [replace(CONTEXT, webhook_url=""), with_settings(status_callbacks=False)],
    ids=["no URL", "turned off"],
)
def test_no_receipts_are_asked_for_where_none_can_come(context):
    assert "StatusCallback" not in fields(build([MESSAGE], context))


def test_a_webhook_url_with_a_query_keeps_it():
    sent = fields(build([MESSAGE], replace(CONTEXT, webhook_url="https://n.example/h?t=1")))
    assert sent["StatusCallback"].startswith("https://n.example/h?t=1&d=0123")


def test_another_base_url_takes_the_requests_and_the_environment_does_not(monkeypatch):
    monkeypatch.setenv("TWILIO_EDGE", "dublin")
    monkeypatch.setenv("TWILIO_REGION", "ie1")
    assert build([MESSAGE], with_settings(auth_token="another")).url == MESSAGES_URL
    context = with_settings(base_url="http://127.0.0.1:1/twilio")
    assert build([MESSAGE], context).url.startswith("http://127.0.0.1:1/twilio/2010-04-01/")


def test_no_credential_is_seen_in_the_text_of_a_call_or_of_settings():
    assert "secret-token" not in repr(with_settings(auth_token="secret-token"))
    assert "secret-token" not in build([MESSAGE], with_settings(auth_token="secret-token")).url


@given(st.text(max_size=2000).filter(lambda text: not any("\ud800" <= mark <= "\udfff" for mark in text)))
def test_a_body_never_exceeds_1600_units_and_short_ones_stay_as_they_are(text):
    cut = fit(text)
    assert len(cut.encode("utf-16-le")) <= 3200
    assert cut == text if len(text.encode("utf-16-le")) <= 3200 else text.startswith(cut[:-3])


def test_a_long_body_ends_in_dots_and_never_in_half_an_emoji():
    assert fit("a" * 1601) == "a" * 1597 + "..."
    assert fit("x" + "\N{ROCKET}" * 900) == "x" + "\N{ROCKET}" * 798 + "..."


# ---- answers ----


def test_a_created_message_is_accepted_under_its_sid():
    body = (FIXTURES / "created.json").read_bytes()
    assert outcome(201, body) == Accepted("SM00000000000000000000000000000001", "twilio_201")


def test_a_success_without_a_sid_may_have_been_sent():
    assert outcome(201, b"<html>") == Deferred(K.TRANSIENT, "twilio_unreadable", ambiguous=True)


EXPECTED = {
    K.AUTH: "20003 20005 20403 30002",
    K.CONFIG: "20404 21603 21606 21212 21609 21655 21656 21701 21703 35118 30018 30024 30032 30034 30035",
    K.RATE: "20429 21611 35125 60728 63017 63018 30001 30022 30023 30027",
    K.TRANSIENT: "20500 20503 30003 30008 30017 30410 30450",
    K.OPT_OUT: "21610",
    K.PERMANENT: "21211 21214 21408 21602 21604 21608 21612 21614 21617 21620 21623 21635 35111 35114 35115 35117 "
    "35126 30004 30005 30006 30007 30010 30019 63016 63024",
}
ROWS = [(int(code), kind) for kind, codes in EXPECTED.items() for code in codes.split()]


def test_the_table_of_codes_has_no_row_that_is_not_tested():
    assert dict(ROWS) == CODES


@pytest.mark.parametrize(("code", "kind"), ROWS)
def test_each_code_decides_whatever_the_http_status(code, kind):
    body = json.dumps({"code": code, "message": "m", "status": 400}).encode()
    word = f"twilio_{code}"
    if kind in {K.RATE, K.TRANSIENT}:
        assert outcome(400, body, **{"retry-after": "7"}) == Deferred(
            kind, word, retry_after_s=7.0, ambiguous=code in AMBIGUOUS
        )
    else:
        assert outcome(500, body) == Rejected(kind, word)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Rejected(K.PERMANENT, "twilio_400")),
        (401, Rejected(K.AUTH, "twilio_401")),
        (403, Rejected(K.AUTH, "twilio_403")),
        (404, Rejected(K.CONFIG, "twilio_404")),
        (418, Rejected(K.PERMANENT, "twilio_418")),
        (429, Deferred(K.RATE, "twilio_429", retry_after_s=3.0)),
        (500, Deferred(K.TRANSIENT, "twilio_500", retry_after_s=3.0, ambiguous=True)),
        (503, Deferred(K.TRANSIENT, "twilio_503", retry_after_s=3.0, ambiguous=True)),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b'{"code":"x"}'])
def test_without_a_code_the_http_status_decides(status, expected, body):
    assert outcome(status, body, **{"retry-after": "3"}) == expected


def test_an_unknown_code_of_a_refusal_is_permanent():
    assert outcome(400, b'{"code":29999}') == Rejected(K.PERMANENT, "twilio_29999")


# ---- lookup ----


def found(answer: Answer, message: Message = MESSAGE) -> Outcome:
    assert PLATFORM.lookup is not None
    return PLATFORM.lookup.read(answer, message)


def test_a_lookup_asks_for_the_number_since_just_before_the_attempt():
    assert PLATFORM.lookup is not None
    call = PLATFORM.lookup.build(MESSAGE, CONTEXT, NOW)
    assert call.method == "GET"
    assert call.url.startswith(MESSAGES_URL)
    query = parse_qs(urlsplit(call.url).query)
    assert query == {"To": ["+12025550123"], "DateSent>": ["2026-11-24T11:59:50Z"], "PageSize": ["100"]}


LISTED = json.loads((FIXTURES / "listed.json").read_text())


def listed(**changes: object) -> Answer:
    return Answer(200, body=json.dumps({**LISTED, "messages": [{**LISTED["messages"][0], **changes}]}).encode())


def test_a_message_on_the_list_was_accepted_even_with_its_quotes_replaced():
    assert found(listed()) == Accepted("SM00000000000000000000000000000001", "twilio_found")
    curly = replace(MESSAGE, text="It\u2019s \u201chere\u201d \u2013 A-1001")
    assert isinstance(found(listed(body='It\'s "here" - A-1001'), curly), Accepted)


@pytest.mark.parametrize("changes", [{"body": "Order A-1002 has shipped."}, {"direction": "inbound"}, {"to": "+1"}])
def test_another_message_on_the_list_is_not_ours(changes):
    assert found(listed(**changes)) == Rejected(K.PERMANENT, "not_found")


def test_a_lookup_that_cannot_tell_says_so():
    more = json.dumps({"messages": [], "next_page_uri": "/2010-04-01/next"}).encode()
    for answer in (Answer(200, body=more), Answer(503), Answer(401, body=b"{}"), Answer(200, body=b"[]")):
        assert isinstance(found(answer), Deferred)


# ---- webhook ----


@pytest.mark.parametrize("name", ["status_callback_form", "status_callback_form_sharedkey_sha256", "json_body"])
def test_genuine_signatures_pass_and_one_changed_byte_fails(name):
    vector = VECTORS[name]
    secret = (
        {"auth_token": vector["auth_token"]} if "auth_token" in vector else {"webhook_shared_key": vector["secret"]}
    )
    settings = with_settings(**secret).settings
    json_type = {"content-type": "application/json"} if name == "json_body" else {}
    key = {"x-twilio-webhooks-signature-settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
    headers = {
        "x-twilio-signature": vector["X-Twilio-Signature"],
        **json_type,
        **(key if "secret" in vector else {}),
    }
    inbound = Inbound("POST", vector["url"], headers, vector["body"].encode())
    assert verify(inbound, settings, NOW) is None
    for place in range(0, len(inbound.body), 7):
        changed = bytearray(inbound.body)
        changed[place] ^= 1
        refusal = verify(replace(inbound, body=bytes(changed)), settings, NOW)
        assert refusal is not None
        assert (refusal.status, refusal.field) == (401, "X-Twilio-Signature")
    assert verify(replace(inbound, url=inbound.url.replace("https", "http")), settings, NOW) is not None


def test_the_vector_of_the_official_sdk_passes_with_a_field_given_twice():
    vector = VECTORS["sdk_official"]
    settings = with_settings(auth_token=vector["auth_token"]).settings
    body = urlencode(vector["params"]).encode()
    inbound = Inbound("POST", vector["url"], {"x-twilio-signature": vector["X-Twilio-Signature"]}, body)
    assert verify(inbound, settings, NOW) is None
    twice = b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234"
    headers = {"x-twilio-signature": "IK+Dwps556ElfBT0I3Rgjkr1wJU="}
    assert verify(replace(inbound, body=twice, headers=headers), settings, NOW) is None


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({}, "X-Twilio-Signature"),
        ({"x-twilio-signature": "x"}, "X-Twilio-Signature"),
        ({"x-twilio-signature": "x", "content-type": "application/json"}, "bodySHA256"),
        (
            {"x-twilio-signature": "x", "x-twilio-webhooks-signature-settings": "algorithm=HMAC_SHA256"},
            "X-Twilio-Webhooks-Signature-Settings",
        ),
    ],
)
def test_a_request_without_a_usable_signature_is_refused_by_the_name_of_what_is_missing(headers, field):
    refusal = verify(Inbound("POST", "https://n.example/h", headers, b"a=b"), SETTINGS, NOW)
    assert refusal is not None
    assert (refusal.status, refusal.field) == (401, field)


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("accepted", S.SENT, "twilio_accepted"),
        ("scheduled", S.SENT, "twilio_scheduled"),
        ("queued", S.SENT, "twilio_queued"),
        ("sending", S.SENT, "twilio_sending"),
        ("sent", S.SENT, "twilio_sent"),
        ("delivered", S.DELIVERED, "twilio_delivered"),
        ("read", S.READ, "twilio_read"),
        ("undelivered", S.BOUNCED, "twilio_30005"),
        ("failed", S.REJECTED, "twilio_30007"),
        ("canceled", S.FAILED, "twilio_canceled"),
        ("partially_delivered", S.FAILED, "twilio_partially_delivered"),
        ("receiving", None, "twilio_unlisted"),
    ],
)
def test_each_status_becomes_one_receipt(word, status, code):
    received = read(callback(f"status_{word}"), SETTINGS, NOW)
    assert isinstance(received, Received)
    (receipt,) = received.receipts
    assert (receipt.status, receipt.code, receipt.reference) == (status, code, "ref")
    assert receipt.dedupe_key == f"SM00000000000000000000000000000001:{word}"
    assert receipt.provider_ref == "SM00000000000000000000000000000001"


def test_receipts_lead_to_the_same_status_in_any_order():
    words = ("queued", "sent", "delivered", "read")
    for order in itertools.permutations(words):
        status = S.SENT
        for word in order:
            then = STATUSES[word]
            status = then if can_become(status, then) else status
        assert status is S.READ


@pytest.mark.parametrize(
    ("code", "status", "opt_out"),
    [
        ("30003", S.FAILED, False),
        ("30034", S.FAILED, False),
        ("30006", S.BOUNCED, False),
        ("21610", S.BOUNCED, True),
    ],
)
def test_a_late_error_code_says_whether_another_try_may_pass(code, status, opt_out):
    body = f"MessageSid=SM1&MessageStatus=undelivered&ErrorCode={code}".encode()
    received = read(Inbound("POST", "https://n.example/h", {}, body), SETTINGS, NOW)
    assert isinstance(received, Received)
    (receipt,) = received.receipts
    assert (receipt.status, receipt.code, receipt.opt_out) == (status, f"twilio_{code}", opt_out)


@pytest.mark.parametrize("word", [*KEYWORDS, "stop", " Stop. "])
def test_each_keyword_changes_consent_of_the_number_it_came_from(word):
    body = urlencode({"MessageSid": "SM2", "From": "+12025550123", "Body": word}).encode()
    received = read(Inbound("POST", "https://n.example/h", {}, body), SETTINGS, NOW)
    assert isinstance(received, Received)
    (change,) = received.consents
    assert change.granted is KEYWORDS[word.strip(" .").upper()]
    assert (change.dedupe_key, change.channel, change.address) == ("SM2", Channel.SMS, "+12025550123")
    assert received.reply is not None
    assert received.reply.body == b"<Response/>"


def test_recorded_messages_of_people_change_consent_only_where_they_say_so():
    for name, granted in (("inbound_stop", [False]), ("inbound_advanced_stop", [False]), ("inbound_question", [])):
        received = read(callback(name), SETTINGS, NOW)
        assert isinstance(received, Received)
        assert [change.granted for change in received.consents] == granted
        assert received.receipts == ()


@pytest.mark.parametrize(
    ("body", "field"),
    [(b"", "MessageSid"), (b"MessageStatus=sent", "MessageSid"), (b"MessageSid=SM1", "MessageStatus")],
)
def test_what_is_neither_status_nor_message_is_refused_by_field(body, field):
    refusal = read(Inbound("POST", "https://n.example/h", {}, body), SETTINGS, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.field) == (422, field)


# ---- the loop with the simulation ----


def test_a_message_goes_through_the_loop_and_its_receipts_come_back(loop):
    bench = loop(PLATFORM, VENDOR)
    (accepted,) = bench.send(MESSAGE)
    (taken,) = bench.taken
    assert accepted == Accepted(taken.provider_ref, "twilio_201")
    assert (taken.to, taken.reference, taken.text) == (MESSAGE.to, MESSAGE.reference, MESSAGE.text)
    receipts = [receipt for callback in bench.callbacks for receipt in bench.receive(callback).receipts]
    assert [receipt.status for receipt in receipts] == [S.SENT, S.DELIVERED]
    assert {(receipt.reference, receipt.provider_ref) for receipt in receipts} == {
        (MESSAGE.reference, taken.provider_ref)
    }
    forged = replace(bench.callbacks[0], body=bench.callbacks[0].body + b"&x=1")
    assert isinstance(bench.receive(forged), Refusal)


@pytest.mark.parametrize(("number", "code"), [*MAGIC.items(), ("+12025221610", 21610)])
def test_each_magic_number_is_refused_as_twilio_would(loop, number, code):
    bench = loop(PLATFORM, VENDOR)
    assert bench.send(replace(MESSAGE, to=number)) == [Rejected(CODES[code], f"twilio_{code}")]
    assert bench.taken == []


@pytest.mark.parametrize("code", sorted(LATE_CODES))
def test_each_late_code_comes_back_as_undelivered(loop, code):
    bench = loop(PLATFORM, VENDOR)
    bench.send(replace(MESSAGE, to=f"+120255{code}"))
    (receipt,) = bench.receive(bench.callbacks[-1]).receipts
    assert receipt.code == f"twilio_{code}"
    assert receipt.status in {S.BOUNCED, S.FAILED}


def test_a_message_whose_answer_was_lost_is_found_and_another_is_not(loop):
    bench = loop(PLATFORM, VENDOR)
    bench.send(MESSAGE)
    began = bench.context.now - timedelta(seconds=1)
    asked = bench.call(PLATFORM.lookup.build(MESSAGE, bench.context, began))
    assert found(asked) == Accepted(bench.taken[0].provider_ref, "twilio_found")
    assert found(asked, replace(MESSAGE, text="other words")) == Rejected(K.PERMANENT, "not_found")
    later = bench.call(PLATFORM.lookup.build(MESSAGE, bench.context, bench.context.now + timedelta(hours=1)))
    assert found(later) == Rejected(K.PERMANENT, "not_found")


def test_wrong_credentials_stop_the_platform_and_the_probe_says_what_to_do(loop):
    bench = loop(PLATFORM, VENDOR, auth_token="wrong")
    assert bench.send(MESSAGE) == [Rejected(K.AUTH, "twilio_20003")]
    findings = PLATFORM.probe.read(bench.call(PLATFORM.probe.build(bench.context)), bench.context)
    assert [finding.ok for finding in findings] == [False, True]
    good = loop(PLATFORM, VENDOR)
    findings = PLATFORM.probe.read(good.call(PLATFORM.probe.build(good.context)), good.context)
    assert all(finding.ok for finding in findings)


def test_provisioning_a_messaging_service_is_done_once(loop):
    bench = loop(PLATFORM, VENDOR, messaging_service_sid=SERVICE)
    (step,) = provision(bench.context)
    assert not step.exists(bench.call(step.find))
    assert bench.call(step.make).status == 200
    assert step.exists(bench.call(step.find))


def test_a_number_alone_is_provisioned_by_a_person():
    (step,) = provision(CONTEXT)
    assert step.make is None
    assert CONTEXT.webhook_url in step.instruction


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
def test_each_fault_of_the_simulation_is_read_as_what_it_is(fault, kind):
    reply = VENDOR.refuse(fault)
    assert outcome(reply.status, reply.body, **reply.headers).kind is kind


def test_the_simulation_refuses_with_codes_that_the_adapter_knows():
    assert set(ERRORS) <= set(CODES)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"To": ""}, 21604),
        ({"From": ""}, 21603),
        ({"Body": ""}, 21602),
        ({"Body": "a" * 1601}, 21617),
        ({"StatusCallback": "ftp://n.example"}, 21609),
        ({"StatusCallback": "https://a_b.example"}, 21609),
        ({"To": "0202"}, 21211),
    ],
)
def test_the_simulation_checks_what_twilio_checks(loop, changes, code):
    bench = loop(PLATFORM, VENDOR)
    call = build([MESSAGE], bench.context)
    answer = bench.call(replace(call, body=urlencode({**fields(call), **changes}).encode()))
    assert answer.json()["code"] == code
