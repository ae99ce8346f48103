"""NetSuite: both logins against their vectors, every status of an order, exact writes, and the loop."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote
from xml.etree import ElementTree as ET

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Rejected
from ordernotify.core.events import Line, OrderEvent, OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Token
from ordernotify.platforms._netsuite_access import BY_HTTP_STATUS, CODES, NetSuiteSettings, assertion, oauth_signature
from ordernotify.platforms._netsuite_events import STATUS, WORDS, letter, read
from ordernotify.platforms._netsuite_sdf import project
from ordernotify.platforms.netsuite import PLATFORM, build, read_address, read_answer
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox._base import Request as Asked
from ordernotify.sandbox.senders import signed_headers
from ordernotify.sandbox.vendors.netsuite import TBA, VENDOR

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "netsuite"
S, K = OrderStatus, FailureKind
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


RSA = rsa.generate_private_key(65537, 3072)
EC = ec.generate_private_key(ec.SECP256R1())
MACHINE: dict[str, Any] = {
    "account": "1234567_SB1",
    "client_id": "ci_demo",
    "certificate_id": "certDemo1",
    "private_key": pem(RSA),
    "webhook_secret": SECRET,
}
TOKENS: dict[str, Any] = {
    "account": "1234567_SB1",
    "consumer_key": "ck_demo",
    "consumer_secret": "cs_demo",
    "token_id": "tk_demo",
    "token_secret": "ts_demo",
    "webhook_secret": SECRET,
}
SETTINGS = NetSuiteSettings.model_validate(MACHINE)
CONTEXT = Context(
    settings=SETTINGS,
    now=NOW,
    token=Token("tok", NOW + timedelta(hours=1), {"issued_at": NOW.isoformat()}),
    webhook_url="https://hooks.example/webhooks/netsuite",
)
SIGNING = replace(CONTEXT, settings=NetSuiteSettings.model_validate(TOKENS), token=None)
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.RECORD,
    to="id:1234",
    status=S.SHIPPED,
    language="en",
    subject="Order SO1001",
    text='Shipped "today" & <tomorrow>\nTracking 1Z999AA10123456784',
)
ROOT = "https://1234567-sb1.suitetalk.api.netsuite.com/services/rest"


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_bytes())


ERRORS = recorded("errors")


def answer(value: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, named, json.dumps(value).encode())


# ---- settings and addresses ----


def test_an_account_lives_at_its_own_host_unless_a_setting_says_otherwise():
    assert SETTINGS.base_url == "https://1234567-sb1.suitetalk.api.netsuite.com"
    assert SETTINGS.token_url == f"{ROOT}/auth/oauth2/v1/token"
    other = NetSuiteSettings.model_validate({**MACHINE, "base_url": "http://127.0.0.1:1/ns"})
    assert other.token_url == "http://127.0.0.1:1/ns/services/rest/auth/oauth2/v1/token"


@pytest.mark.parametrize(
    "change",
    [
        {"account": "../x"},
        {"certificate_id": ""},
        {"private_key": None},
        {"private_key": "no key"},
        {"private_key": pem(rsa.generate_private_key(65537, 2048))},
        {"private_key": pem(ec.generate_private_key(ec.SECP384R1()))},
        {"consumer_key": "half"},
        {**TOKENS},
        {"status_field": "memo"},
        {"webhook_secret": "short"},
    ],
)
def test_settings_that_cannot_be_right_are_refused(change):
    with pytest.raises(ValidationError) as error:
        NetSuiteSettings.model_validate({**MACHINE, **change})
    assert "PRIVATE KEY" not in str(error.value)


def test_no_secret_shows_in_the_settings():
    assert not re.search("PRIVATE KEY|AAECAwQF", repr(SETTINGS))
    assert not re.search("cs_demo|ts_demo", repr(SIGNING.settings))


@pytest.mark.parametrize(
    ("text", "address"),
    [("id:1234", "id:1234"), ("eid:SO-1001", "eid:SO-1001"), ("SO-1001", "eid:SO-1001"), (" 1234 ", "eid:1234")],
)
def test_an_order_is_addressed_by_either_id(text, address):
    assert read_address(text) == address
    assert read_address(address) == address


@pytest.mark.parametrize("text", ["", "id:", "id:0", "id:1/2", "#1001", "eid:", "eid:a b", "1?x", "x" * 65])
def test_anything_else_is_refused_by_name(text):
    found = read_address(text)
    assert isinstance(found, Refusal)
    assert found.field == "address"


# ---- logging in ----


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def token_call(context: Context) -> Call:
    assert PLATFORM.token is not None
    return PLATFORM.token.build(context)


@pytest.mark.parametrize("key", [RSA, EC])
def test_a_machine_logs_in_with_a_signed_statement(key):
    settings = NetSuiteSettings.model_validate({**MACHINE, "private_key": pem(key).replace("\n", "\\n")})
    call = token_call(replace(CONTEXT, settings=settings))
    assert (call.method, call.url) == ("POST", f"{ROOT}/auth/oauth2/v1/token")
    form = dict(parse_qsl(call.body.decode()))
    signed = form.pop("client_assertion")
    assert form == {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    head, claims, signature = signed.split(".")
    algorithm = "PS256" if key is RSA else "ES256"
    assert json.loads(decoded(head)) == {"typ": "JWT", "alg": algorithm, "kid": "certDemo1"}
    assert json.loads(decoded(claims)) == {
        "iss": "ci_demo",
        "scope": ["rest_webservices"],
        "iat": 1795514400,
        "exp": 1795514700,
        "aud": f"{ROOT}/auth/oauth2/v1/token",
    }
    proof, text = decoded(signature), f"{head}.{claims}".encode()
    if key is RSA:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        RSA.public_key().verify(proof, text, pss, hashes.SHA256())
        with pytest.raises(InvalidSignature):
            RSA.public_key().verify(proof, text + b"x", pss, hashes.SHA256())
    else:
        assert len(proof) == 64
        numbers = encode_dss_signature(int.from_bytes(proof[:32], "big"), int.from_bytes(proof[32:], "big"))
        EC.public_key().verify(numbers, text, ec.ECDSA(hashes.SHA256()))


def test_the_statement_begins_as_the_known_vector_does():
    signed = assertion(SETTINGS, RSA, NOW)
    assert signed.startswith("eyJ0eXAiOiJKV1QiLCJhbGciOiJQUzI1NiIsImtpZCI6ImNlcnREZW1vMSJ9.eyJpc3MiOiJjaV9kZW1vIi")


@pytest.mark.parametrize(
    ("given_answer", "found"),
    [
        (
            answer({"access_token": "t", "expires_in": "3600"}),
            Token("t", NOW + timedelta(hours=1), {"issued_at": NOW.isoformat()}),
        ),
        (
            answer({"access_token": "t", "expires_in": 60}),
            Token("t", NOW + timedelta(minutes=1), {"issued_at": NOW.isoformat()}),
        ),
        (
            answer(ERRORS["restlet_busy"], 400),
            Deferred(K.RATE, "netsuite_SSS_REQUEST_LIMIT_EXCEEDED"),
        ),
        (answer({"access_token": "t"}), Deferred(K.TRANSIENT, "netsuite_token_unreadable")),
        (answer({"error": "invalid_client"}, 400), Rejected(K.AUTH, "netsuite_invalid_client")),
        (answer({"error": "private text!"}, 401), Rejected(K.AUTH, "netsuite_token_401")),
        (answer({}, 429, retry_after="5"), Deferred(K.RATE, "netsuite_token_429", retry_after_s=5.0)),
        (answer([], 503), Deferred(K.TRANSIENT, "netsuite_token_503")),
    ],
)
def test_every_answer_of_the_token_service_is_understood(given_answer, found):
    assert PLATFORM.token is not None
    assert PLATFORM.token.read(given_answer, CONTEXT) == found


def test_a_signature_is_that_of_another_library():
    vector = recorded("oauth1")
    parameters = [
        ("oauth_consumer_key", vector["consumer_key"]),
        ("oauth_token", vector["token_id"]),
        ("oauth_signature_method", "HMAC-SHA256"),
        ("oauth_timestamp", vector["timestamp"]),
        ("oauth_nonce", vector["nonce"]),
        ("oauth_version", "1.0"),
    ]
    secrets = {"consumer_secret": vector["consumer_secret"], "token_secret": vector["token_secret"]}
    assert oauth_signature("GET", vector["url"], parameters, **secrets) == vector["signature"]
    for changed in (vector["url"].replace("limit=1", "limit=2"), vector["url"].replace("SO1001", "SO1002")):
        assert oauth_signature("GET", changed, parameters, **secrets) != vector["signature"]
    assert oauth_signature("PATCH", vector["url"], parameters, **secrets) != vector["signature"]


def test_with_tokens_every_request_is_signed_anew_and_the_first_one_proves_the_keys():
    proving = token_call(SIGNING)
    assert (proving.method, proving.url) == ("GET", f"{ROOT}/record/v1/salesOrder?limit=1")
    assert PLATFORM.token is not None
    assert PLATFORM.token.read(answer({"items": []}), SIGNING) == Token("", NOW + timedelta(days=1))
    assert PLATFORM.token.read(answer(ERRORS["login"], 401), SIGNING) == Rejected(K.AUTH, "netsuite_INVALID_LOGIN")
    call = build([MESSAGE], SIGNING)
    assert isinstance(call, Call)
    said = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', call.headers["authorization"])}
    assert said.pop("realm") == "1234567_SB1"
    signature = said.pop("oauth_signature")
    secrets = {"consumer_secret": "cs_demo", "token_secret": "ts_demo"}
    assert oauth_signature("PATCH", call.url, list(said.items()), **secrets) == signature
    later = build([MESSAGE], replace(SIGNING, now=NOW + timedelta(microseconds=1)))
    assert isinstance(later, Call)
    assert later.headers["authorization"] != call.headers["authorization"]


# ---- writing ----


@pytest.mark.parametrize("status", [one for one in S if one is not S.UNKNOWN])
def test_a_notice_is_written_into_the_order_s_fields(status):
    call = build([replace(MESSAGE, status=status)], CONTEXT)
    assert isinstance(call, Call)
    assert (call.method, call.url) == ("PATCH", f"{ROOT}/record/v1/salesOrder/1234")
    assert call.headers["authorization"] == "Bearer tok"
    assert json.loads(call.body) == {
        "custbody_on_status": status.value,
        "custbody_on_notice": MESSAGE.text,
        "custbody_on_reference": MESSAGE.reference,
    }


def test_an_order_is_found_by_its_external_id_and_words_are_the_tenant_s_own():
    settings = NetSuiteSettings.model_validate({**MACHINE, "status_words": "shipped=On its way"})
    call = build([replace(MESSAGE, to="SO-1001")], replace(CONTEXT, settings=settings))
    assert isinstance(call, Call)
    assert call.url.endswith("/salesOrder/eid:SO-1001")
    assert json.loads(call.body)["custbody_on_status"] == "On its way"


def test_a_notice_is_written_with_nothing_but_its_text():
    call = build([replace(MESSAGE, notice_only=True)], CONTEXT)
    assert isinstance(call, Call)
    assert json.loads(call.body).keys() == {"custbody_on_notice", "custbody_on_reference"}


def test_a_wrong_address_is_rejected_without_a_call():
    assert build([replace(MESSAGE, to="#1001")], CONTEXT) == Rejected(K.PERMANENT, "netsuite_address")


@pytest.mark.parametrize(
    ("given_answer", "outcome"),
    [
        (Answer(204, {"location": f"{ROOT}/record/v1/salesOrder/1234"}), Accepted("1234", "netsuite_204")),
        (Answer(204), Accepted("", "netsuite_204")),
        (answer(ERRORS["not_found"], 404), Rejected(K.PERMANENT, "netsuite_NONEXISTENT_ID")),
        (answer(ERRORS["field"], 400), Rejected(K.CONFIG, "netsuite_INVALID_CONTENT")),
        (answer(ERRORS["content"], 400), Rejected(K.PERMANENT, "netsuite_INVALID_CONTENT")),
        (answer(ERRORS["login"], 401), Rejected(K.AUTH, "netsuite_INVALID_LOGIN")),
        (answer(ERRORS["restlet_busy"], 400), Deferred(K.RATE, "netsuite_SSS_REQUEST_LIMIT_EXCEEDED")),
        (answer(ERRORS["changed"], 400), Deferred(K.TRANSIENT, "netsuite_RCRD_HAS_BEEN_CHANGED")),
        (answer({"o:errorDetails": [{"o:errorCode": "private text"}]}, 400), Rejected(K.PERMANENT, "netsuite_400")),
        (answer({}, 429, retry_after="7"), Deferred(K.RATE, "netsuite_429", retry_after_s=7.0)),
        (answer({}, 500), Deferred(K.TRANSIENT, "netsuite_500", ambiguous=True)),
        (Answer(503, {}, b"<html>"), Deferred(K.TRANSIENT, "netsuite_503", ambiguous=True)),
        (Answer(301), Rejected(K.PERMANENT, "netsuite_301")),
    ],
)
def test_every_answer_means_one_outcome(given_answer, outcome):
    assert read_answer(given_answer, [MESSAGE], CONTEXT) == [outcome]


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_the_table_decides_before_the_status(code):
    (outcome,) = read_answer(answer({"o:errorDetails": [{"o:errorCode": code}]}, 400), [MESSAGE], CONTEXT)
    assert isinstance(outcome, Deferred | Rejected)
    assert (outcome.kind, outcome.code) == (CODES[code], f"netsuite_{code}")


@pytest.mark.parametrize("status", sorted(BY_HTTP_STATUS))
def test_every_status_of_the_table_decides_without_a_code(status):
    (outcome,) = read_answer(Answer(status), [MESSAGE], CONTEXT)
    assert isinstance(outcome, Deferred | Rejected)
    assert (outcome.kind, outcome.code) == (BY_HTTP_STATUS[status], f"netsuite_{status}")


def test_a_token_that_was_withdrawn_is_had_anew_and_a_new_one_refused_is_for_a_person():
    refused, old = answer(ERRORS["login"], 401), replace(CONTEXT, now=NOW + timedelta(minutes=30))
    code = "netsuite_INVALID_LOGIN"
    assert read_answer(refused, [MESSAGE], old) == [Deferred(K.TRANSIENT, code, retry_after_s=0.0)]
    assert read_answer(refused, [MESSAGE], CONTEXT) == [Rejected(K.AUTH, code)]
    assert read_answer(refused, [MESSAGE], replace(SIGNING, now=old.now)) == [Rejected(K.AUTH, code)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(JSON | st.dictionaries(st.sampled_from(["o:errorDetails", "error"]), JSON), st.sampled_from([200, 400, 500]))
def test_random_answers_mean_an_outcome_and_never_raise(value, status):
    (outcome,) = read_answer(answer(value, status), [MESSAGE], CONTEXT)
    assert isinstance(outcome, Accepted | Deferred | Rejected)
    assert PLATFORM.probe is not None
    assert PLATFORM.probe.read(answer(value, status), CONTEXT)


# ---- posts of the script ----


def posted(value: object, *, at: datetime = NOW) -> Inbound:
    body = json.dumps(value).encode()
    headers = signed_headers(body, secret=SECRET, message_id="ns-so-1234", sent_at=at)
    return Inbound("POST", CONTEXT.webhook_url, headers, body)


ROWS = [
    ("received", S.RECEIVED, ""),
    ("processing", S.PROCESSING, ""),
    ("backordered", S.BACKORDERED, ""),
    ("cancelled", S.CANCELLED, ""),
    ("partly_picked", S.PROCESSING, ""),
    ("partly_shipped", S.SHIPPED, "partial"),
    ("partly_billed", S.SHIPPED, "partial"),
    ("shipped", S.SHIPPED, ""),
    ("billed", S.SHIPPED, ""),
    ("closed_unshipped", S.CANCELLED, ""),
]


@pytest.mark.parametrize(("name", "status", "detail"), ROWS)
def test_a_post_tells_its_order(name, status, detail):
    found = read(posted(recorded(name)), SETTINGS, NOW)
    assert isinstance(found, Received)
    (event,) = found.events
    assert (event.status, event.detail, event.raw_status) == (status, detail, recorded(name)["status_text"])
    assert (event.order_ref, event.order_no, event.client_ref) == ("1234", "SO1001", "204")
    assert (event.dedupe_key, event.refs) == ("ns-so-1234-20261124T100000Z", {"netsuite": "id:1234"})
    assert (event.lines, event.occurred_at) == ((Line("RAD-7", 2),), NOW)
    assert event.tracking_no == ("1Z999AA10123456784" if status is S.SHIPPED else "")


def test_an_order_closed_after_it_was_shipped_says_nothing():
    assert read(posted(recorded("closed_shipped")), SETTINGS, NOW) == Received()
    assert read(posted({**recorded("closed_shipped"), "lines": []}), SETTINGS, NOW) == Received()


@pytest.mark.parametrize("code", sorted(STATUS))
def test_a_status_is_read_in_each_of_its_forms(code):
    text = next(word for word, known in WORDS.items() if known == code)
    forms = (f"SalesOrd:{code}", code, code.lower(), text.title(), {"id": code}, {"refName": text})
    assert {letter(form, WORDS) for form in forms} == {code}


@pytest.mark.parametrize("value", ["", "SalesOrd:Z", "On Fire", 5, None, [], {"id": 5}])
def test_an_unknown_status_is_for_a_person(value):
    found = read(posted({**recorded("shipped"), "status_code": value, "status_text": "On Fire"}), SETTINGS, NOW)
    assert isinstance(found, Received)
    assert (found.events[0].status, found.events[0].raw_status) == (S.UNKNOWN, "On Fire")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"occurred_at": "today"}, "occurred_at"),
        ({"occurred_at": "2027-11-24T10:00:00Z"}, "occurred_at"),
        ({"account": "7654321"}, "account"),
        ({"internal_id": "1/2"}, "internal_id"),
        ({"internal_id": 1.5}, "internal_id"),
        ({"lines": [{"sku": "RAD-7", "quantity": 1.5}]}, "lines[0].quantity"),
        ({"lines": {}}, "lines"),
        ({"fulfillments": [{"tracking": "1Z"}]}, "fulfillments[0].tracking"),
    ],
)
def test_a_wrong_field_is_refused_by_name(change, field):
    found = read(posted({**recorded("shipped"), **change}), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


def test_only_what_the_script_signed_is_genuine():
    assert PLATFORM.webhook is not None
    verify = PLATFORM.webhook.verify
    genuine = posted(recorded("shipped"))
    assert verify(genuine, SETTINGS, NOW) is None
    assert verify(genuine, SETTINGS, NOW + timedelta(minutes=6)) is not None
    for position in range(0, len(genuine.body), 7):
        changed = bytearray(genuine.body)
        changed[position] ^= 1
        found = verify(replace(genuine, body=bytes(changed)), SETTINGS, NOW)
        assert found is not None
        assert (found.status, found.field) == (401, "webhook-signature")


@given(JSON | st.dictionaries(st.sampled_from(sorted(recorded("shipped"))), JSON, max_size=4))
def test_random_posts_are_read_or_refused_and_never_raise(value):
    whole = {**recorded("shipped"), **value} if isinstance(value, dict) else value
    found = read(posted(whole), SETTINGS, NOW)
    assert isinstance(found, Received | Refusal)
    if isinstance(found, Received):
        for event in found.events:
            assert OrderEvent.from_dict(json.loads(json.dumps(event.as_dict()))) == event


# ---- against the simulated vendor ----


def logged_in(desk: Any) -> Any:
    """Fetch a token at the simulation, as the wire does before the first call."""
    token = PLATFORM.token.read(desk.call(PLATFORM.token.build(desk.context)), desk.context)
    assert isinstance(token, Token)
    desk.context = replace(desk.context, token=token)
    return desk


NO_MACHINE: dict[str, Any] = {"client_id": "", "certificate_id": "", "private_key": None}


@pytest.mark.parametrize("more", [{}, {**NO_MACHINE, **TBA}])
@pytest.mark.parametrize("to", ["id:1234", "eid:SO-1001"])
def test_the_simulation_takes_a_notice_once_by_either_login(loop, more, to):
    desk = logged_in(loop(PLATFORM, VENDOR, **more))
    message = replace(MESSAGE, to=to)
    (first,) = desk.send(message)
    desk.context = replace(desk.context, now=desk.context.now + timedelta(seconds=1))
    (again,) = desk.send(message)
    assert isinstance(first, Accepted)
    assert first == again
    (taken,) = desk.taken
    assert (taken.to, taken.reference, taken.text) == (to, MESSAGE.reference, MESSAGE.text)


def test_the_simulation_refuses_what_netsuite_refuses(loop):
    wrong = loop(PLATFORM, VENDOR, client_id="other")
    read_token = PLATFORM.token.read
    assert read_token(wrong.call(token_call(wrong.context)), wrong.context) == Rejected(
        K.AUTH, "netsuite_invalid_client"
    )
    forged = loop(PLATFORM, VENDOR, **{**NO_MACHINE, **TBA, "token_secret": "no"})
    assert forged.send(MESSAGE)[0] == Rejected(K.AUTH, "netsuite_INVALID_LOGIN")
    assert loop(PLATFORM, VENDOR).send(MESSAGE)[0].kind is K.AUTH
    desk = logged_in(loop(PLATFORM, VENDOR))
    assert desk.send(replace(MESSAGE, to="id:1404"))[0] == Rejected(K.PERMANENT, "netsuite_NONEXISTENT_ID")
    other = logged_in(loop(PLATFORM, VENDOR, text_field="custbody_other"))
    assert other.send(MESSAGE)[0] == Rejected(K.CONFIG, "netsuite_INVALID_CONTENT")
    assert desk.send(replace(MESSAGE, text="x" * 4001))[0].code == "netsuite_EXCEEDED_MAX_FIELD_LENGTH"


def test_the_script_is_silent_about_our_writing_and_tells_what_others_change(loop):
    desk = logged_in(loop(PLATFORM, VENDOR))
    desk.send(MESSAGE)
    assert not desk.callbacks
    path = "/services/rest/record/v1/salesOrder/1234"
    headers = {"authorization": f"Bearer {desk.context.token.value}"}
    reply = desk.desk.endpoint("PATCH", path)(Asked("PATCH", path, {}, headers, b'{"orderStatus": "B"}'), desk.shelf)
    (callback,) = reply.callbacks
    found = desk.receive(callback)
    assert isinstance(found, Received)
    assert (found.events[0].status, found.events[0].order_ref) == (S.PROCESSING, "1234")


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.RATE, Deferred(K.RATE, "netsuite_CONCURRENCY_LIMIT_EXCEEDED", retry_after_s=1.0)),
        (Fault.RATE_BARE, Deferred(K.RATE, "netsuite_SSS_REQUEST_LIMIT_EXCEEDED")),
        (Fault.SERVER_ERROR, Deferred(K.TRANSIENT, "netsuite_UNEXPECTED_ERROR", ambiguous=True)),
        (Fault.PERMANENT, Rejected(K.PERMANENT, "netsuite_NONEXISTENT_ID")),
        (Fault.AUTH, Rejected(K.AUTH, "netsuite_INVALID_LOGIN")),
    ],
)
def test_every_fault_of_the_vendor_is_understood(fault, outcome):
    refused = VENDOR.refuse(fault)
    assert read_answer(Answer(refused.status, refused.headers, refused.body), [MESSAGE], CONTEXT) == [outcome]


# ---- set up ----


def test_the_project_is_whole_well_formed_and_holds_no_secret():
    files = project(SETTINGS, CONTEXT.webhook_url)
    objects = {path: ET.fromstring(text) for path, text in files.items() if path.endswith(".xml")}  # noqa: S314 - our own files
    fields = {root.get("scriptid") for root in objects.values() if root.tag == "transactionbodycustomfield"}
    assert fields == SETTINGS.fields
    script = objects["src/Objects/customscript_on_order_event.xml"]
    assert {one.text for one in script.iter("recordtype")} == {"SALESORDER", "ITEMFULFILLMENT"}
    path = str(script.findtext("scriptfile")).strip("[]")
    code = files[f"src/FileCabinet{path}"]
    assert f'const URL = "{CONTEXT.webhook_url}";' in code
    assert "@NScriptType UserEventScript" in code
    assert "$" not in code
    assert all(code.count(one) == code.count(other) for one, other in ("{}", "()", "[]"))
    assert not any(secret in text for text in files.values() for secret in ("whsec_", "PRIVATE KEY", "AAECAwQF"))


def test_a_url_cannot_end_the_string_that_it_stands_in():
    code = project(SETTINGS, "https://x.example/'\"</script>\n")[
        "src/FileCabinet/SuiteScripts/ordernotify/order_event.js"
    ]
    assert 'const URL = "https://x.example/\'\\"</script>\\n";' in code


def test_what_the_script_posts_is_what_we_read():
    code = project(SETTINGS, CONTEXT.webhook_url)["src/FileCabinet/SuiteScripts/ordernotify/order_event.js"]
    for name in (
        "event_id",
        "occurred_at",
        "account",
        "internal_id",
        "tran_id",
        "client",
        "status_text",
        "backordered",
    ):
        assert f"{name}:" in code
    for header in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert f"'{header}'" in code


def test_a_person_is_told_every_step():
    steps = PLATFORM.provision(CONTEXT)
    titles = [step.title for step in steps]
    assert titles[0] == "Secret of the script"
    assert [title for title in titles if title.startswith("File ")] == [
        f"File {path}" for path in project(SETTINGS, CONTEXT.webhook_url)
    ]
    text = {step.title: step.instruction for step in steps}
    assert "custbody_on_reference is not empty" in text["Workflow that mails"]
    assert "{custbody_on_notice}" in text["Workflow that mails"]
    assert "Machine to Machine" in text["Login"]
    assert "Token-Based" in {one.title: one.instruction for one in PLATFORM.provision(SIGNING)}["Login"]
    assert len(PLATFORM.provision(replace(CONTEXT, webhook_url=""))) == 1


def test_the_probe_says_what_is_wrong(loop):
    desk = logged_in(loop(PLATFORM, VENDOR))
    probe = PLATFORM.probe
    assert parse_qs(probe.build(desk.context).url.partition("?")[2]) == {"limit": ["1"]}
    assert all(finding.ok for finding in probe.read(desk.call(probe.build(desk.context)), desk.context))
    (finding,) = probe.read(answer(ERRORS["login"], 401), CONTEXT)
    assert not finding.ok
    assert "netsuite_INVALID_LOGIN" in finding.advice
