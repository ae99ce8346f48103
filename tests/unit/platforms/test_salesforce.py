"""Salesforce: logins, writes alone and together, outbound messages, and everything that must be refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify import clock
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Token
from ordernotify.platforms._salesforce_access import id18
from ordernotify.platforms._salesforce_errors import AMBIGUOUS, BY_HTTP_STATUS, CODES
from ordernotify.platforms._salesforce_events import ACK, STATUS
from ordernotify.platforms._salesforce_package import package
from ordernotify.platforms.salesforce import MAX_SUBREQUESTS, PLATFORM, read_address
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors._salesforce_outbound import outbound_callback, outbound_message
from ordernotify.sandbox.vendors.salesforce import VENDOR, record_id

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "salesforce"
ROOT = "https://northgate.my.salesforce.com"
OURS = "https://hooks.example/webhooks/salesforce"
VALUES: dict[str, Any] = {
    "base_url": ROOT,
    "client_id": "3MVG9demo",
    "client_secret": "consumer secret",
    "organization_ids": "00D000000000001, 00D000000000002EAA",
    "webhook_secret": "new, old",
    "status_map": "Shipped=shipped",
    "carrier_field": "Carrier__c",
    "tracking_field": "Tracking__c",
}
SETTINGS = PLATFORM.settings.model_validate(VALUES)
OLD = Token("session", NOW + timedelta(minutes=20), {"instance_url": "https://eu1.my.salesforce.com"})
NEW = Token("session", NOW + timedelta(hours=1), {"instance_url": ROOT})
CONTEXT = Context(settings=SETTINGS, now=NOW, token=OLD, webhook_url=OURS)
K = FailureKind
S = OrderStatus
assert PLATFORM.webhook is not None
assert PLATFORM.token is not None
assert PLATFORM.reread is not None
assert PLATFORM.probe is not None
assert PLATFORM.provision is not None
TOKEN, REREAD, PROBE, PROVISION = PLATFORM.token, PLATFORM.reread, PLATFORM.probe, PLATFORM.provision
VERIFY, READ = PLATFORM.webhook.verify, PLATFORM.webhook.read
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.RECORD,
    to="SO-1001",
    status=S.SHIPPED,
    language="en",
    text='Order 1001 is on its way: {!$Record.Id} <b>"1Z"</b>',
    occurred_at=NOW,
)


def recorded(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, orjson.dumps(value))


def send(messages: list[Message], reply: Answer | None = None, context: Context = CONTEXT) -> tuple[Any, Any]:
    """Return the call that messages make (None for none), and the outcomes that ``reply`` means."""
    conversation = PLATFORM.send(messages, context)
    try:
        call = next(conversation)
    except StopIteration as end:
        return None, end.value
    with pytest.raises(StopIteration) as ended:
        conversation.send(reply or Answer(204))
    return call, ended.value.value


def inbound(body: bytes, *, key: str = "new") -> Inbound:
    headers = {"content-type": "text/xml; charset=utf-8", "soapaction": '""'}
    return Inbound("POST", f"{OURS}?key={key}", headers, body, {"key": key})


def events(body: bytes) -> tuple[OrderEvent, ...]:
    found = READ(inbound(body), SETTINGS, NOW)
    assert isinstance(found, Received), found
    return found.events


def tree_of(text: str) -> ET.Element:
    return ET.fromstring(text.encode())  # noqa: S314 - our own text


@cache
def key_pair() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


# ---- ids and addresses ----


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("00D000000000001", "00D000000000001EAA"),
        ("00D000000000001EAA", "00D000000000001EAA"),
        ("0018a00001rBqb8", "0018a00001rBqb8AAC"),
        ("001R00000064wdt", "001R00000064wdtIAA"),
        ("00D000000000001AAA", None),
        ("00D00000000000", None),
        ("00D00000000000\u0661", None),
        ("", None),
    ],
)
def test_ids_of_15_and_18_characters_are_one(text: str, found: str | None) -> None:
    assert id18(text) == found


@pytest.mark.parametrize("text", ["SO-1001", " a/b ", "801000000000009AAA", "Auftrag \u00e4 7"])
def test_an_external_id_is_an_address(text: str) -> None:
    assert read_address(text) == text.strip()


@pytest.mark.parametrize("text", ["", " ", ".", "..", "a\nb", "x" * 256, "\x00"])
def test_what_cannot_name_an_order_is_refused(text: str) -> None:
    found = read_address(text)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "address")


# ---- writing ----


@pytest.mark.parametrize("status", [status for status in S if status is not S.UNKNOWN])
def test_a_notice_is_written_into_the_order_of_that_number(status: OrderStatus) -> None:
    call, outcomes = send([replace(MESSAGE, status=status)])
    assert outcomes == [Accepted("", "salesforce_204")]
    assert (call.method, call.url) == (
        "PATCH",
        "https://eu1.my.salesforce.com/services/data/v68.0/sobjects/Order/Ext_Id__c/SO-1001?updateOnly=true",
    )
    assert call.headers == {
        "accept": "application/json",
        "authorization": "Bearer session",
        "content-type": "application/json",
    }
    assert orjson.loads(call.body) == {
        "Notice_Status__c": status.value,
        "Notice_Text__c": MESSAGE.text,
        "Notice_Reference__c": MESSAGE.reference,
    }


def test_a_notice_that_may_say_nothing_more_is_written_without_its_status() -> None:
    call, _ = send([replace(MESSAGE, notice_only=True, status=S.REGULATORY_HOLD, subject="Hold", facts=(("a", "b"),))])
    assert orjson.loads(call.body) == {
        "Notice_Text__c": MESSAGE.text,
        "Notice_Reference__c": MESSAGE.reference,
    }


def test_the_org_s_own_word_is_written_where_it_has_one() -> None:
    settings = PLATFORM.settings.model_validate(
        {**VALUES, "status_field": "Status", "status_words": "shipped=Sent Out"}
    )
    call, _ = send([MESSAGE], context=replace(CONTEXT, settings=settings))
    assert orjson.loads(call.body)["Status"] == "Sent Out"


@pytest.mark.parametrize(
    ("to", "path"),
    [
        ("801000000000009AAA", "801000000000009AAA"),
        ("801000000000009", "Ext_Id__c/801000000000009?updateOnly=true"),
        ("801000000000009EAA", "Ext_Id__c/801000000000009EAA?updateOnly=true"),
        ("a/../b c%", "Ext_Id__c/a%2F..%2Fb%20c%25?updateOnly=true"),
        ("x?y=1#z", "Ext_Id__c/x%3Fy%3D1%23z?updateOnly=true"),
    ],
)
def test_an_address_stays_one_segment_of_the_path(to: str, path: str) -> None:
    call, _ = send([replace(MESSAGE, to=to)])
    assert call.url.removeprefix("https://eu1.my.salesforce.com/services/data/v68.0/sobjects/Order/") == path


def test_an_address_that_is_none_is_rejected_alone() -> None:
    bad = Rejected(K.PERMANENT, "salesforce_address")
    assert send([replace(MESSAGE, to="..")]) == (None, [bad])
    call, outcomes = send([replace(MESSAGE, to=""), MESSAGE])
    assert call.method == "PATCH"
    assert outcomes == [bad, Accepted("", "salesforce_204")]


def test_several_notices_are_one_composite_request_in_their_order() -> None:
    messages = [replace(MESSAGE, to=f"SO-{n}", reference=f"{n:032x}") for n in range(3)]
    result = [
        {"body": {"id": "801000000000009AAA"}, "httpHeaders": {}, "httpStatusCode": 200, "referenceId": "m2"},
        {"body": json.loads(recorded("errors.json"))["unknown_order"][1], "httpStatusCode": 404, "referenceId": "m0"},
    ]
    call, outcomes = send(messages, answer({"compositeResponse": result}))
    assert call.url == "https://eu1.my.salesforce.com/services/data/v68.0/composite"
    body = orjson.loads(call.body)
    assert (body["allOrNone"], body["collateSubrequests"]) == (False, False)
    assert [part["referenceId"] for part in body["compositeRequest"]] == ["m0", "m1", "m2"]
    assert body["compositeRequest"][1] == {
        "method": "PATCH",
        "url": "/services/data/v68.0/sobjects/Order/Ext_Id__c/SO-1?updateOnly=true",
        "referenceId": "m1",
        "body": {
            "Notice_Status__c": "shipped",
            "Notice_Text__c": MESSAGE.text,
            "Notice_Reference__c": f"{1:032x}",
        },
    }
    assert outcomes == [
        Rejected(K.PERMANENT, "salesforce_NOT_FOUND"),
        Deferred(K.TRANSIENT, "salesforce_unreadable", ambiguous=True),
        Accepted("801000000000009AAA", "salesforce_200"),
    ]


def test_a_composite_request_that_is_refused_is_refused_for_all() -> None:
    status, body = json.loads(recorded("errors.json"))["daily_limit"]
    _, outcomes = send([MESSAGE, replace(MESSAGE, to="SO-2")], answer(body, status))
    assert outcomes == [Rejected(K.QUOTA, "salesforce_REQUEST_LIMIT_EXCEEDED")] * 2


# ---- what refusals mean ----


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("expired_session", Deferred(K.TRANSIENT, "salesforce_INVALID_SESSION_ID", retry_after_s=0.0)),
        ("daily_limit", Rejected(K.QUOTA, "salesforce_REQUEST_LIMIT_EXCEEDED")),
        ("concurrent_limit", Deferred(K.RATE, "salesforce_REQUEST_LIMIT_EXCEEDED")),
        ("unknown_order", Rejected(K.PERMANENT, "salesforce_NOT_FOUND")),
        ("unknown_external_id_field", Rejected(K.CONFIG, "salesforce_external_id_field")),
        ("unknown_field", Rejected(K.CONFIG, "salesforce_INVALID_FIELD")),
        ("locked_row", Deferred(K.TRANSIENT, "salesforce_UNABLE_TO_LOCK_ROW")),
        ("validation_rule", Rejected(K.PERMANENT, "salesforce_FIELD_CUSTOM_VALIDATION_EXCEPTION")),
        ("failed_flow", Rejected(K.PERMANENT, "salesforce_CANNOT_EXECUTE_FLOW_TRIGGER")),
        ("api_disabled", Rejected(K.AUTH, "salesforce_API_DISABLED_FOR_ORG")),
        ("server", Deferred(K.TRANSIENT, "salesforce_UNKNOWN_EXCEPTION", ambiguous=True)),
        ("unavailable", Deferred(K.TRANSIENT, "salesforce_SERVER_UNAVAILABLE", ambiguous=True)),
    ],
)
def test_every_recorded_refusal_means_one_outcome(name: str, outcome: Outcome) -> None:
    status, body = json.loads(recorded("errors.json"))[name]
    assert send([MESSAGE], answer(body, status))[1] == [outcome]


@pytest.mark.parametrize(("code", "kind"), sorted(CODES.items()))
def test_every_code_of_the_table_keeps_its_kind_under_any_status(code: str, kind: FailureKind) -> None:
    context = replace(CONTEXT, token=NEW)
    for status in (400, 403, 500):
        (outcome,) = send([MESSAGE], answer([{"errorCode": code, "message": "private"}], status), context)[1]
        assert (outcome.kind, outcome.code) == (kind, f"salesforce_{code}")
        assert getattr(outcome, "ambiguous", False) == (code in AMBIGUOUS)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Answer(401), Rejected(K.AUTH, "salesforce_401")),
        (Answer(403), Rejected(K.AUTH, "salesforce_403")),
        (Answer(405), Rejected(K.CONFIG, "salesforce_405")),
        (answer(["/a", "/b"], 300), Rejected(K.PERMANENT, "salesforce_300")),
        (Answer(418), Rejected(K.PERMANENT, "salesforce_418")),
        (Answer(429, {"retry-after": "7"}), Deferred(K.RATE, "salesforce_429", retry_after_s=7.0)),
        (Answer(502, {}, b"<html>"), Deferred(K.TRANSIENT, "salesforce_502", ambiguous=True)),
        (answer([{"errorCode": "NEVER_SEEN"}], 400), Rejected(K.PERMANENT, "salesforce_NEVER_SEEN")),
        (answer([{"errorCode": "NEVER_SEEN"}], 503), Deferred(K.TRANSIENT, "salesforce_NEVER_SEEN", ambiguous=True)),
        (answer([{"errorCode": "a b; DROP"}], 400), Rejected(K.PERMANENT, "salesforce_400")),
        (answer({"id": "801000000000009"}, 201), Accepted("801000000000009AAA", "salesforce_201")),
        (answer({"id": 5}), Accepted("", "salesforce_200")),
    ],
)
def test_without_a_known_code_the_status_decides(reply: Answer, outcome: Outcome) -> None:
    assert send([MESSAGE], reply)[1] == [outcome]


def test_a_session_that_was_opened_just_now_and_is_refused_is_for_a_person() -> None:
    status, body = json.loads(recorded("errors.json"))["expired_session"]
    for token in (NEW, None):
        outcomes = send([MESSAGE], answer(body, status), replace(CONTEXT, token=token))[1]
        assert outcomes == [Rejected(K.AUTH, "salesforce_INVALID_SESSION_ID")]


def test_statuses_of_the_table_are_not_those_of_success() -> None:
    assert not BY_HTTP_STATUS.keys() & {200, 201, 204, 429, 500, 503}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["errorCode", "compositeResponse", "referenceId", "httpStatusCode", "httpHeaders", "body", "id"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON, st.sampled_from([200, 204, 300, 400, 401, 404, 429, 500]))
def test_random_answers_mean_an_outcome_and_never_raise(value: object, status: int) -> None:
    reply = answer(value, status)
    for messages in ([MESSAGE], [MESSAGE, MESSAGE]):
        outcomes = send(messages, reply)[1]
        assert len(outcomes) == len(messages)
        assert all(isinstance(outcome, Accepted | Deferred | Rejected) for outcome in outcomes)
    assert isinstance(TOKEN.read(reply, CONTEXT), Token | Deferred | Rejected)
    assert PROBE.read(reply, CONTEXT)
    (thin,) = events(recorded("outbound_thin.xml"))
    assert isinstance(REREAD.read(reply, thin, CONTEXT), OrderEvent | Deferred | Rejected)


# ---- logins ----


def test_the_app_logs_in_with_its_own_credentials() -> None:
    call = TOKEN.build(replace(CONTEXT, token=None))
    assert (call.method, call.url) == ("POST", f"{ROOT}/services/oauth2/token")
    pair = base64.b64decode(call.headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == "3MVG9demo:consumer secret"
    assert call.body == b"grant_type=client_credentials"


def signed(**more: Any) -> Context:
    values = {**VALUES, "client_secret": None, "username": "integration@example.com", "private_key": key_pair()[0]}
    return Context(settings=PLATFORM.settings.model_validate({**values, **more}), now=NOW)


def test_a_signed_login_matches_the_published_signing_input() -> None:
    vector = json.loads(recorded("assertion.json"))
    context = replace(
        signed(audience=vector["aud"]), now=datetime.fromtimestamp(vector["exp"], UTC) - timedelta(seconds=120)
    )
    form = parse_qs(TOKEN.build(context).body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert form["assertion"][0].rpartition(".")[0] == vector["unsigned"]


def test_the_key_may_come_on_one_line() -> None:
    settings = signed(private_key=key_pair()[0].replace("\n", "\\n")).settings
    assert TOKEN.build(Context(settings=settings, now=NOW)).body


def test_a_token_lasts_as_long_as_is_set_and_knows_where_the_org_lives() -> None:
    token = TOKEN.read(answer(json.loads(recorded("token.json"))), CONTEXT)
    assert isinstance(token, Token)
    assert token == Token("00Dxx!AQEAQ", NOW + timedelta(hours=1), {"instance_url": ROOT})
    assert "00Dxx" not in repr(token)


@pytest.mark.parametrize(
    ("instance", "trusted"),
    [
        (ROOT, True),
        ("https://eu1.my.salesforce.com", True),
        ("https://agency.my.salesforce.mil", True),
        ("https://salesforce.com.evil.example", False),
        ("https://evilsalesforce.com", False),
        ("http://eu1.my.salesforce.com", False),
        ("https://northgate.my.salesforce.com@evil.example", False),
        ("", False),
    ],
)
def test_a_token_does_not_travel_to_a_host_nobody_knows(instance: str, trusted: bool) -> None:
    found = TOKEN.read(answer({"access_token": "t", "instance_url": instance}), CONTEXT)
    assert isinstance(found, Token) == trusted
    assert trusted or found == Rejected(K.CONFIG, "salesforce_instance_url")


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        ("invalid_grant", 400, Rejected(K.AUTH, "salesforce_invalid_grant")),
        ("invalid_client", 400, Rejected(K.AUTH, "salesforce_invalid_client")),
        ("inactive_user", 400, Rejected(K.AUTH, "salesforce_inactive_user")),
        ("app_not_found", 400, Rejected(K.CONFIG, "salesforce_app_not_found")),
        ("unsupported_grant_type", 400, Rejected(K.CONFIG, "salesforce_unsupported_grant_type")),
        ("rate_limit_exceeded", 429, Deferred(K.RATE, "salesforce_rate_limit_exceeded")),
        ("unknown_error", 500, Deferred(K.TRANSIENT, "salesforce_unknown_error")),
        ("never_seen", 400, Rejected(K.AUTH, "salesforce_token_400")),
        (None, 503, Deferred(K.TRANSIENT, "salesforce_token_503")),
    ],
)
def test_every_refused_login_means_one_outcome(error: str | None, status: int, outcome: Outcome) -> None:
    reply = answer({"error": error, "error_description": "private text"}, status)
    assert TOKEN.read(reply, CONTEXT) == outcome


@pytest.mark.parametrize(
    "change",
    [
        {"client_secret": None},
        {"username": "x@example.com"},
        {"private_key": "key"},
        {"client_secret": None, "private_key": "no key", "username": "x@example.com"},
        {"base_url": "northgate.my.salesforce.com"},
        {"base_url": f"{ROOT}/"},
        {"organization_ids": "00D1"},
        {"organization_ids": "001000000000001"},
        {"status_field": "Status'; --"},
        {"status_map": "Shipped"},
        {"status_map": "Shipped=sent"},
        {"status_words": "sent=Sent"},
        {"api_version": "68"},
    ],
)
def test_settings_that_cannot_be_right_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        PLATFORM.settings.model_validate({**VALUES, **change})
    assert "consumer secret" not in str(refused.value)


def test_no_secret_shows_in_the_settings() -> None:
    shown = repr(signed().settings) + repr(SETTINGS)
    assert "PRIVATE KEY" not in shown
    assert "consumer secret" not in shown


# ---- outbound messages: genuine or not ----


@pytest.mark.parametrize("key", ["new", "old"])
def test_a_message_of_our_org_with_a_secret_in_use_is_genuine(key: str) -> None:
    assert VERIFY(inbound(recorded("outbound_draft.xml"), key=key), SETTINGS, NOW) is None


@pytest.mark.parametrize("key", ["", "new, old", "nev", "new ", "n\u00e9w"])
def test_a_wrong_secret_is_refused_before_anything_is_parsed(key: str) -> None:
    found = VERIFY(inbound(b"<!DOCTYPE x>", key=key), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, "key")


def test_without_a_secret_nothing_is_taken() -> None:
    settings = PLATFORM.settings.model_validate({**VALUES, "webhook_secret": None})
    found = VERIFY(inbound(recorded("outbound_draft.xml"), key=""), settings, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, "key")


@pytest.mark.parametrize("organization", ["00D000000000009EAA", "00D000000000001AAA", "", "x"])
def test_another_org_is_refused(organization: str) -> None:
    body = recorded("outbound_draft.xml").replace(b"00D000000000001EAA", organization.encode())
    found = VERIFY(inbound(body), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, "OrganizationId")


def test_an_org_is_known_by_its_short_id_too() -> None:
    body = recorded("outbound_draft.xml").replace(b"00D000000000001EAA", b"00D000000000001")
    assert VERIFY(inbound(body), SETTINGS, NOW) is None


BILLION = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>&b;'
    b"</soapenv:Body></soapenv:Envelope>"
)


@pytest.mark.parametrize(
    "body",
    [
        BILLION,
        BILLION.decode().encode("utf-16"),
        b'<?xml version="1.0"?><!doctype x SYSTEM "file:///etc/passwd"><x/>',
        b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE x+AD4-<x/>',
        b"",
        b"<a>",
        b"\xff\xfe",
        b"\x00",
        b'{"id":1}',
        b"<x/>",
        b'<E xmlns="http://schemas.xmlsoap.org/soap/envelope/"/>',
        b'<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>&undefined;</Body></Envelope>',
    ],
)
def test_xml_that_is_hostile_or_none_is_refused(body: bytes) -> None:
    for found in (VERIFY(inbound(body), SETTINGS, NOW), READ(inbound(body), SETTINGS, NOW)):
        assert isinstance(found, Refusal)
        assert found.status == 422
        assert found.field in {"body", "notifications"}


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_never_raise(noise: bytes) -> None:
    assert isinstance(READ(inbound(noise), SETTINGS, NOW), Refusal)


@given(st.integers(0, 2000), st.binary(max_size=4))
def test_a_damaged_message_is_read_or_refused_and_never_raises(at: int, noise: bytes) -> None:
    body = recorded("outbound_two.xml")
    assert isinstance(READ(inbound(body[:at] + noise + body[at + 1 :]), SETTINGS, NOW), Received | Refusal)


# ---- outbound messages: what they say ----


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("draft", S.RECEIVED),
        ("activated", S.PROCESSING),
        ("shipped", S.SHIPPED),
        ("canceled", S.CANCELLED),
        ("expired", S.UNKNOWN),
    ],
)
def test_every_status_is_mapped(name: str, status: OrderStatus) -> None:
    (event,) = events(recorded(f"outbound_{name}.xml"))
    assert event.status is status
    assert event.raw_status.lower() == name
    assert not event.thin


def test_no_category_is_left_unrecorded() -> None:
    assert {word.lower() for word in STATUS} <= {path.stem.removeprefix("outbound_") for path in FIXTURES.glob("*.xml")}


def test_an_event_carries_everything_that_was_selected() -> None:
    assert events(recorded("outbound_shipped.xml")) == (
        OrderEvent(
            source="salesforce",
            dedupe_key="04l000000000003AAA",
            order_ref="801000000000003AAA",
            order_no="00000103",
            status=S.SHIPPED,
            raw_status="Shipped",
            occurred_at=datetime(2026, 11, 24, 10, 3, tzinfo=UTC),
            client_ref="001000000000204AAA",
            carrier="UPS",
            tracking_no="1Z999AA10123456784",
            refs={"salesforce": "801000000000003AAA"},
        ),
    )


def test_a_label_that_nobody_mapped_is_for_a_person_whatever_its_category() -> None:
    body = recorded("outbound_shipped.xml").replace(b"<sf:Status>Shipped<", b"<sf:Status>Beamed Up<")
    (event,) = events(body)
    assert (event.status, event.raw_status) == (S.UNKNOWN, "Beamed Up")


def test_a_category_stands_in_for_a_label_that_was_not_selected() -> None:
    body = recorded("outbound_shipped.xml").replace(b"<sf:Status>Shipped</sf:Status>", b"")
    assert events(body)[0].status is S.PROCESSING


def test_one_answer_acknowledges_every_notification() -> None:
    found = READ(inbound(recorded("outbound_two.xml")), SETTINGS, NOW)
    assert isinstance(found, Received)
    assert [event.order_ref for event in found.events] == ["801000000000001AAA", "801000000000002AAA"]
    assert found.reply is not None
    assert (found.reply.status, found.reply.body) == (200, ACK)
    assert found.reply.content_type == "text/xml; charset=utf-8"
    (ack,) = tree_of(ACK.decode()).iter("{http://soap.sforce.com/2005/09/outbound}Ack")
    assert ack.text == "true"


@pytest.mark.parametrize(("count", "taken"), [(1, True), (100, True), (101, False), (0, False)])
def test_up_to_a_hundred_notifications_are_taken(count: int, taken: bool) -> None:
    orders = {
        f"04l{n:012d}AAA": {"Id": f"801{n:012d}AAA", "OrderNumber": str(n), "Status": "Draft"} for n in range(count)
    }
    found = READ(inbound(outbound_message(orders)), SETTINGS, NOW)
    assert isinstance(found, Received) == taken
    if isinstance(found, Received):
        assert len({event.dedupe_key for event in found.events}) == count
    else:
        assert found.field == "Notification"


def test_a_session_id_is_refused_because_it_would_be_stored() -> None:
    body = outbound_message({"04l000000000001AAA": {"Id": "801000000000001AAA"}}, session="00D!credential")
    found = READ(inbound(body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "SessionId")
    assert "credential" not in found.message


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        (b"<Id>04l000000000012AAA</Id>", b"<Id>'; DROP TABLE event</Id>", "Notification[1].Id"),
        (b"<Id>04l000000000012AAA</Id>", b"", "Notification[1].Id"),
        (b"<sf:Id>801000000000002</sf:Id>", b"", "Notification[1].sObject.Id"),
        (b"<sf:Id>801000000000002</sf:Id>", b'<sf:Id xsi:nil="true"/>', "Notification[1].sObject.Id"),
        (b'xsi:type="sf:Order"', b'xsi:type="sf:Account"', "Notification[0].sObject"),
        (b"sObject", b"sOther", "Notification[0].sObject"),
    ],
)
def test_one_notification_that_cannot_be_read_refuses_the_message(before: bytes, after: bytes, field: str) -> None:
    found = READ(inbound(recorded("outbound_two.xml").replace(before, after)), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)
    assert "DROP" not in found.message


def test_markup_and_metacharacters_stay_plain_data() -> None:
    hostile = "'; DROP TABLE event; -- {{ 7*7 }} <script>"
    fields = {"Id": "801000000000001AAA", "OrderNumber": hostile, "Status": hostile}
    (event,) = events(outbound_message({"04l000000000001AAA": fields}))
    assert (event.order_no, event.raw_status, event.status) == (hostile, hostile, S.UNKNOWN)


def test_a_thin_event_is_completed_from_the_order() -> None:
    (thin,) = events(recorded("outbound_thin.xml"))
    assert (thin.thin, thin.status, thin.order_no) == (True, S.UNKNOWN, "")
    call = REREAD.build(thin, CONTEXT)
    assert call.url.endswith(
        "/sobjects/Order/801000000000009AAA"
        "?fields=AccountId,Id,LastModifiedDate,OrderNumber,Status,StatusCode,Carrier__c,Tracking__c"
    )
    whole = REREAD.read(answer(json.loads(recorded("order.json"))), thin, CONTEXT)
    assert isinstance(whole, OrderEvent)
    assert (whole.status, whole.order_no, whole.thin) == (S.PROCESSING, "00000109", False)
    assert (whole.dedupe_key, whole.client_ref) == (thin.dedupe_key, "001000000000204AAA")
    assert whole.occurred_at == datetime(2026, 11, 24, 10, 9, 30, tzinfo=UTC)
    gone = json.loads(recorded("errors.json"))["unknown_order"][1]
    assert REREAD.read(answer(gone, 404), thin, CONTEXT) == Rejected(K.PERMANENT, "not_found")
    other = {**json.loads(recorded("order.json")), "Id": "801000000000001AAA"}
    assert isinstance(REREAD.read(answer(other), thin, CONTEXT), Deferred)


# ---- setting up ----


def test_the_probe_says_what_is_wrong() -> None:
    fine = PROBE.read(answer({"DailyApiRequests": {"Max": 1000, "Remaining": 900}}), CONTEXT)
    assert all(finding.ok for finding in fine)
    little = PROBE.read(answer({"DailyApiRequests": {"Max": 1000, "Remaining": 50}}), CONTEXT)
    assert [finding.ok for finding in little] == [True, False, True]
    (broken,) = PROBE.read(answer(json.loads(recorded("errors.json"))["api_disabled"][1], 403), CONTEXT)
    assert "salesforce_API_DISABLED_FOR_ORG" in broken.advice
    deaf = replace(CONTEXT, settings=PLATFORM.settings.model_validate({**VALUES, "webhook_secret": None}))
    assert not PROBE.read(answer({}), deaf)[-1].ok


METADATA = "{http://soap.sforce.com/2006/04/metadata}"


def test_every_file_of_the_package_is_well_formed_and_listed() -> None:
    files = package(CONTEXT)
    trees = {name: tree_of(text) for name, text in files.items()}
    members = {member.text for member in trees["package.xml"].iter(f"{METADATA}members")}
    assert members == {"OrderNotify_Send", "OrderNotify_Tell", "OrderNotify", "Order.OrderNotify_Status"}
    for name in ("OrderNotify_Send", "OrderNotify_Tell"):
        flow = trees[f"flows/{name}.flow"]
        assert flow.findtext(f"{METADATA}status") == "Active"
        assert flow.findtext(f"{METADATA}start/{METADATA}object") == "Order"
    send_start = trees["flows/OrderNotify_Send.flow"].find(f"{METADATA}start")
    assert send_start is not None
    assert send_start.findtext(f"{METADATA}filters/{METADATA}field") == "Notice_Reference__c"
    assert send_start.findtext(f"{METADATA}filters/{METADATA}operator") == "IsChanged"


def test_the_outbound_message_carries_what_we_read_and_no_secret() -> None:
    text = package(CONTEXT)["workflows/Order.workflow"]
    tree = tree_of(text)
    fields = {field.text for field in tree.iter(f"{METADATA}fields")}
    assert {"Id", "OrderNumber", "Status", "StatusCode", "LastModifiedDate", "Carrier__c"} <= fields
    assert tree.findtext(f".//{METADATA}includeSessionId") == "false"
    assert tree.findtext(f".//{METADATA}endpointUrl") == f"{OURS}?key=PUT-WEBHOOK-SECRET-HERE"
    assert "consumer secret" not in text


def test_without_an_address_of_ours_nothing_is_asked_to_tell_us() -> None:
    files = package(replace(CONTEXT, webhook_url=""))
    assert set(files) == {"package.xml", "flows/OrderNotify_Send.flow", "permissionsets/OrderNotify.permissionset"}
    assert "OrderNotify_Tell" not in files["package.xml"]


def test_steps_hand_over_each_file_and_standard_fields_are_not_made() -> None:
    settings = PLATFORM.settings.model_validate({**VALUES, "status_field": "Status"})
    steps = PROVISION(replace(CONTEXT, settings=settings))
    assert not any(step.title == "Field Status of Order" for step in steps)
    for name, text in package(CONTEXT).items():
        (step,) = (one for one in PROVISION(CONTEXT) if one.title == f"File {name}")
        assert step.instruction.endswith(f":\n{text}")
        assert step.make is None


# ---- against the simulated vendor ----


def login(spoken: Any) -> None:
    token = TOKEN.read(spoken.call(TOKEN.build(spoken.context)), spoken.context)
    assert isinstance(token, Token), token
    spoken.context = replace(spoken.context, token=token)


def test_a_notice_arrives_once_however_often_it_is_written(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    assert spoken.send(MESSAGE) == [Accepted(record_id("SO-1001"), "salesforce_200")]
    assert spoken.send(MESSAGE) == [Accepted(record_id("SO-1001"), "salesforce_200")]
    (taken,) = spoken.taken
    assert (taken.to, taken.reference, taken.text) == ("SO-1001", MESSAGE.reference, MESSAGE.text)
    again = replace(MESSAGE, reference="f" * 32)
    assert spoken.send(replace(again, to=record_id("SO-1001"))) == [Accepted("", "salesforce_204")]
    assert len(spoken.taken) == 2


def test_a_batch_fails_only_for_those_that_fail(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    addresses = ["SO-1", "NONE-2", "TWICE-3", "LOCKED-4", "..", "SO-5 a/b"]
    messages = [replace(MESSAGE, to=to, reference=f"{n:032x}") for n, to in enumerate(addresses)]
    assert spoken.send(*messages) == [
        Accepted(record_id("SO-1"), "salesforce_200"),
        Rejected(K.PERMANENT, "salesforce_NOT_FOUND"),
        Rejected(K.PERMANENT, "salesforce_300"),
        Deferred(K.TRANSIENT, "salesforce_UNABLE_TO_LOCK_ROW"),
        Rejected(K.PERMANENT, "salesforce_address"),
        Accepted(record_id("SO-5 a/b"), "salesforce_200"),
    ]
    assert [taken.to for taken in spoken.taken] == ["SO-1", "SO-5 a/b"]
    full = [replace(MESSAGE, to=f"SO-{n}", reference=f"{n:x}") for n in range(MAX_SUBREQUESTS)]
    assert all(isinstance(outcome, Accepted) for outcome in spoken.send(*full))
    assert PLATFORM.batch == MAX_SUBREQUESTS


def test_without_a_login_the_vendor_refuses(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    assert spoken.send(MESSAGE) == [Rejected(K.AUTH, "salesforce_INVALID_SESSION_ID")]
    assert spoken.taken == []


def test_a_field_that_the_org_lacks_stops_the_platform(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR, text_field="Missing__c")
    login(spoken)
    assert spoken.send(MESSAGE) == [Rejected(K.CONFIG, "salesforce_INVALID_FIELD")]
    spoken = loop(PLATFORM, VENDOR, external_id_field="Missing__c")
    login(spoken)
    assert spoken.send(MESSAGE) == [Rejected(K.CONFIG, "salesforce_external_id_field")]


def test_a_wrong_secret_opens_no_session(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR, client_secret="wrong")
    found = TOKEN.read(spoken.call(TOKEN.build(spoken.context)), spoken.context)
    assert found == Rejected(K.AUTH, "salesforce_invalid_client")


def test_the_vendor_checks_a_signed_login(loop: Callable[..., Any]) -> None:
    private, public = key_pair()
    spoken = loop(PLATFORM, VENDOR)
    values = {name: value for name, value in VENDOR.settings.items() if name != "client_secret"}
    root = spoken.context.settings.base_url
    settings = PLATFORM.settings.model_validate(
        {**values, "base_url": root, "private_key": private, "username": "integration@example.com"}
    )
    spoken.context = replace(spoken.context, settings=settings)
    unknown = TOKEN.read(spoken.call(TOKEN.build(spoken.context)), spoken.context)
    assert unknown == Rejected(K.AUTH, "salesforce_invalid_client_id")
    spoken.shelf.kind("certificates")[settings.client_id] = public
    stale = replace(spoken.context, now=clock.now() - timedelta(hours=1))
    assert TOKEN.read(spoken.call(TOKEN.build(stale)), stale) == Rejected(K.AUTH, "salesforce_invalid_grant")
    login(spoken)
    assert spoken.context.token.extra["instance_url"] == root
    call: Call = TOKEN.build(spoken.context)
    forged = replace(call, body=call.body[:-20] + b"A" * 20)
    assert TOKEN.read(spoken.call(forged), spoken.context) == Rejected(K.AUTH, "salesforce_invalid_grant")


def test_a_status_that_we_write_comes_back_as_a_genuine_message(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR, status_field="Status", status_words="shipped=Shipped")
    login(spoken)
    spoken.send(MESSAGE)
    (callback,) = spoken.callbacks
    found = spoken.receive(callback)
    assert isinstance(found, Received)
    (event,) = found.events
    assert (event.status, event.order_ref) == (S.SHIPPED, record_id("SO-1001"))
    assert found.reply is not None
    assert found.reply.body == ACK
    stranger = outbound_callback(callback.url.replace("key=", "kez="), callback.body)
    assert isinstance(spoken.receive(replace(stranger, url=callback.url[:-1])), Refusal)


def test_a_thin_event_is_completed_at_the_vendor(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    (thin,) = events(recorded("outbound_thin.xml"))
    whole = REREAD.read(spoken.call(REREAD.build(thin, spoken.context)), thin, spoken.context)
    assert isinstance(whole, OrderEvent)
    assert (whole.status, whole.order_no) == (S.RECEIVED, "00000100")
    missing = replace(thin, order_ref="801999000000001AAA")
    gone = REREAD.read(spoken.call(REREAD.build(missing, spoken.context)), missing, spoken.context)
    assert gone == Rejected(K.PERMANENT, "not_found")


def test_fields_are_made_once_and_found_afterwards(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    made = 0
    for step in PROVISION(spoken.context):
        if step.find is None:
            assert step.instruction
            continue
        assert step.make is not None
        assert step.exists is not None
        assert not step.exists(spoken.call(step.find))
        assert spoken.call(step.make).status == 201
        assert step.exists(spoken.call(step.find))
        made += 1
    assert made == 4
    assert all(finding.ok for finding in PROBE.read(spoken.call(PROBE.build(spoken.context)), spoken.context))


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.RATE, Deferred(K.RATE, "salesforce_TOO_MANY_REQUESTS", retry_after_s=1.0)),
        (Fault.RATE_BARE, Deferred(K.RATE, "salesforce_REQUEST_LIMIT_EXCEEDED")),
        (Fault.SERVER_ERROR, Deferred(K.TRANSIENT, "salesforce_UNKNOWN_EXCEPTION", ambiguous=True)),
        (Fault.PERMANENT, Rejected(K.PERMANENT, "salesforce_FIELD_CUSTOM_VALIDATION_EXCEPTION")),
        (Fault.AUTH, Rejected(K.AUTH, "salesforce_INVALID_SESSION_ID")),
        (Fault.OPT_OUT, Rejected(K.PERMANENT, "salesforce_FIELD_CUSTOM_VALIDATION_EXCEPTION")),
    ],
)
def test_every_fault_of_the_vendor_is_understood(fault: Fault, outcome: Outcome) -> None:
    refused = VENDOR.refuse(fault)
    reply = Answer(refused.status, refused.headers, refused.body)
    context = replace(CONTEXT, token=NEW)
    assert send([MESSAGE], reply, context)[1] == [outcome]
    assert send([MESSAGE, MESSAGE], reply, context)[1] == [outcome, outcome]
    at_login = TOKEN.read(reply, replace(CONTEXT, token=None))
    assert at_login == (replace(outcome, ambiguous=False) if isinstance(outcome, Deferred) else outcome)
