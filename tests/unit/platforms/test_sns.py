"""SNS: signed requests, batches that fail in part, every error code, signed notifications, and the simulation."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateBuilder, Name
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
from ordernotify.platforms._sns_api import FORM, SnsSettings, members, read_xml, signed_headers, text_of
from ordernotify.platforms._sns_notifications import FAILURES, read, verify
from ordernotify.platforms.sns import (
    AMBIGUOUS,
    BY_HTTP_STATUS,
    CODES,
    PLATFORM,
    SMS_BYTES,
    TOPIC_BYTES,
    build,
    converse,
    fit,
    group,
    provision,
    read_address,
    read_answer,
    subject_of,
)
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors._sns_signing import callback
from ordernotify.sandbox.vendors.sns import FAILURES as SIMULATED_FAILURES
from ordernotify.sandbox.vendors.sns import TOPIC as SIMULATED_TOPIC
from ordernotify.sandbox.vendors.sns import VENDOR

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "sns"
SIGV4 = json.loads((FIXTURES / "sigv4.json").read_text())
SIGNED = json.loads((FIXTURES / "messages.json").read_text())
CERTIFICATE = (FIXTURES / "certificate.pem").read_text()
TOPIC = "arn:aws:sns:us-east-1:123456789012:parcel-events"
VALUES = {
    "access_key_id": "AKIDEXAMPLE000000000",
    "secret_access_key": SIGV4["secret_key"],
    "notification_topics": TOPIC,
    "signing_certificate": CERTIFICATE,
}
SETTINGS = SnsSettings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url="https://notify.example.com/webhooks/sns")
REFERENCE = "0123456789abcdef0123456789abcdef"
SMS = Message(
    delivery_id="d",
    reference=REFERENCE,
    channel=Channel.SMS,
    to="+12025550123",
    status=OrderStatus.SHIPPED,
    language="en",
    text="Hi & bye é",
)
NEWS = replace(SMS, to=TOPIC, channel=Channel.EMAIL, subject="Order ON-48213 has shipped", text="It has shipped.")
NOTICE = replace(NEWS, notice_only=True, text="An update is available.")
K, S = FailureKind, DeliveryStatus
FALSE = Answer(200, body=(FIXTURES / "opted_out_false.xml").read_bytes())
PUBLISHED = Answer(200, body=(FIXTURES / "published.xml").read_bytes())


def with_settings(**values: object) -> Context:
    return replace(CONTEXT, settings=SnsSettings.model_validate({**VALUES, **values}))


def call_of(*messages: Message, context: Context = CONTEXT) -> Call:
    call = build(messages, context)
    assert isinstance(call, Call)
    return call


def fields(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.body.decode() or urlsplit(call.url).query, keep_blank_values=True, strict_parsing=True))


def outcome(status: int, body: bytes = b"", **headers: str) -> Outcome:
    (one,) = read_answer(Answer(status, headers, body), [SMS], CONTEXT)
    return one


def error(code: str) -> bytes:
    return f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>".encode()


def talk(message: Message, *answers: Answer, context: Context = CONTEXT) -> tuple[list[Call], Sequence[Outcome]]:
    """Hold a conversation with these answers; return its calls and what it made of them."""
    conversation = converse([message], context)
    calls = [next(conversation)]
    for answer in answers[:-1]:
        calls.append(conversation.send(answer))  # noqa: PERF401 - each call needs the answer before
    with pytest.raises(StopIteration) as end:
        conversation.send(answers[-1])
    return calls, end.value.value


def hook(value: object) -> Inbound:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Inbound("POST", CONTEXT.webhook_url, {"content-type": "text/plain; charset=UTF-8"}, body)


def notified(message: str) -> Received | Refusal:
    return read(hook({**SIGNED[1], "Message": message}), SETTINGS, NOW)


# ---- settings and addresses ----


def another_certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    made = CertificateBuilder(Name([]), Name([]), key.public_key(), 1, NOW, NOW + timedelta(days=1))
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"access_key_id": "secret-key"}, "access_key_id"),
        ({"region": "us-east-1.evil.example"}, "region"),
        ({"sender_id": "123"}, "sender_id"),
        ({"sender_id": "TWELVELETTER"}, "sender_id"),
        ({"max_price_usd": "cheap"}, "max_price_usd"),
        ({"origination_number": "12"}, "origination_number"),
        ({"notification_topics": "my-topic"}, "notification_topics"),
        ({"signing_certificate": "secret-key"}, "signing_certificate"),
        ({"signing_certificate": another_certificate()}, "signing_certificate"),
    ],
)
def test_wrong_settings_are_refused_by_name_without_their_values(values, named):
    with pytest.raises(ValidationError) as caught:
        SnsSettings.model_validate({**VALUES, **values})
    assert named in str(caught.value)
    assert "secret-key" not in str(caught.value)
    assert SIGV4["secret_key"] not in str(caught.value)


def test_a_certificate_on_one_line_is_read_too():
    settings = SnsSettings.model_validate({**VALUES, "signing_certificate": CERTIFICATE.replace("\n", "\\n")})
    assert verify(hook(SIGNED[1]), settings, NOW) is None


@pytest.mark.parametrize(
    ("values", "endpoint"),
    [
        ({}, "https://sns.us-east-1.amazonaws.com"),
        ({"region": "us-gov-west-1"}, "https://sns.us-gov-west-1.amazonaws.com"),
        ({"region": "cn-north-1"}, "https://sns.cn-north-1.amazonaws.com.cn"),
        ({"base_url": "http://127.0.0.1:1/sns"}, "http://127.0.0.1:1/sns"),
    ],
)
def test_the_endpoint_is_the_regions_unless_it_is_set(values, endpoint):
    assert SnsSettings.model_validate({**VALUES, **values}).endpoint == endpoint


def test_an_address_is_a_number_or_a_topic():
    assert read_address(" +1 (202) 555-0123 ") == "+12025550123"
    assert read_address(f" {TOPIC} ") == TOPIC
    assert read_address(f"{TOPIC}.fifo") == f"{TOPIC}.fifo"
    for wrong in ("202-555-0123", "arn:aws:sqs:us-east-1:123456789012:q", f"{TOPIC}:uuid", f"{TOPIC}&x=1", ""):
        refusal = read_address(wrong)
        assert isinstance(refusal, Refusal)
        assert refusal.field == "address"


# ---- signatures of requests ----


def test_the_published_request_has_the_published_signature():
    settings = SETTINGS.model_copy(update={"access_key_id": SIGV4["access_key"]})
    headers = signed_headers(
        "POST", f"https://{SIGV4['host']}/", SIGV4["body"].encode(), settings=settings, now=NOW, content_type=FORM
    )
    assert headers["x-amz-date"] == SIGV4["x_amz_date"]
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/us-east-1/sns/aws4_request, "
        f"SignedHeaders=content-type;host;x-amz-date, Signature={SIGV4['signature']}"
    )


def test_every_byte_of_body_url_and_time_is_signed():
    def signature(url: str, body: bytes, now: datetime) -> str:
        return signed_headers("POST", url, body, settings=SETTINGS, now=now)["authorization"]

    first = signature("https://sns.us-east-1.amazonaws.com/", b"a=b", NOW)
    assert first != signature("https://sns.us-east-1.amazonaws.com/", b"a=c", NOW)
    assert first != signature("https://sns.us-east-1.amazonaws.com/x", b"a=b", NOW)
    assert first != signature("https://sns.us-east-2.amazonaws.com/", b"a=b", NOW)
    assert first != signature("https://sns.us-east-1.amazonaws.com/", b"a=b", NOW + timedelta(seconds=1))


def test_a_session_token_is_sent_and_signed():
    call = call_of(SMS, context=with_settings(session_token="temporary"))
    assert call.headers["x-amz-security-token"] == "temporary"
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token," in call.headers["authorization"]


def test_no_credential_is_seen_in_the_text_of_settings():
    assert SIGV4["secret_key"] not in repr(SETTINGS)
    assert SIGV4["secret_key"] not in str(call_of(SMS).headers)


# ---- requests ----


def test_an_sms_is_exactly_the_form_that_aws_documents():
    call = call_of(
        SMS, context=with_settings(sender_id="ACME", max_price_usd="0.50", origination_number="+12025550111")
    )
    assert (call.method, call.url) == ("POST", "https://sns.us-east-1.amazonaws.com/")
    assert call.headers["content-type"] == "application/x-www-form-urlencoded; charset=utf-8"
    assert call.body.startswith(b"Action=Publish&PhoneNumber=%2B12025550123&Message=Hi+%26+bye+%C3%A9&")
    root = "MessageAttributes.entry."
    assert fields(call) == {
        "Action": "Publish",
        "PhoneNumber": "+12025550123",
        "Message": "Hi & bye é",
        f"{root}1.Name": "AWS.SNS.SMS.SMSType",
        f"{root}1.Value.DataType": "String",
        f"{root}1.Value.StringValue": "Transactional",
        f"{root}2.Name": "AWS.SNS.SMS.SenderID",
        f"{root}2.Value.DataType": "String",
        f"{root}2.Value.StringValue": "ACME",
        f"{root}3.Name": "AWS.SNS.SMS.MaxPrice",
        f"{root}3.Value.DataType": "Number",
        f"{root}3.Value.StringValue": "0.50",
        f"{root}4.Name": "AWS.MM.SMS.OriginationNumber",
        f"{root}4.Value.DataType": "String",
        f"{root}4.Value.StringValue": "+12025550111",
        "Version": "2010-03-31",
    }


@pytest.mark.parametrize("status", [status for status in OrderStatus if status is not OrderStatus.UNKNOWN])
def test_a_topic_is_told_each_status_with_marks_to_filter_by(status):
    assert fields(call_of(replace(NEWS, status=status))) == {
        "Action": "Publish",
        "TopicArn": TOPIC,
        "Message": "It has shipped.",
        "Subject": "Order ON-48213 has shipped",
        "MessageAttributes.entry.1.Name": "reference",
        "MessageAttributes.entry.1.Value.DataType": "String",
        "MessageAttributes.entry.1.Value.StringValue": REFERENCE,
        "MessageAttributes.entry.2.Name": "status",
        "MessageAttributes.entry.2.Value.DataType": "String",
        "MessageAttributes.entry.2.Value.StringValue": status.value,
        "Version": "2010-03-31",
    }


def test_a_notice_is_sent_with_nothing_but_its_text():
    assert fields(call_of(NOTICE)) == {
        "Action": "Publish",
        "TopicArn": TOPIC,
        "Message": "An update is available.",
        "Version": "2010-03-31",
    }


def test_a_fifo_topic_drops_repetitions_of_our_reference():
    sent = fields(call_of(replace(NOTICE, to=f"{TOPIC}.fifo")))
    assert (sent["MessageGroupId"], sent["MessageDeduplicationId"]) == ("ordernotify", REFERENCE)


def test_messages_of_one_topic_share_a_call():
    messages = [replace(NEWS, reference=f"r{place}", text=f"m{place}") for place in range(10)]
    sent = fields(call_of(*messages))
    root = "PublishBatchRequestEntries.member."
    assert (sent["Action"], sent["TopicArn"]) == ("PublishBatch", TOPIC)
    for place in range(10):
        assert sent[f"{root}{place + 1}.Id"] == str(place)
        assert sent[f"{root}{place + 1}.Message"] == f"m{place}"
        assert sent[f"{root}{place + 1}.MessageAttributes.entry.1.Value.StringValue"] == f"r{place}"
    assert PLATFORM.batch == 10


def test_ten_messages_of_any_length_fit_into_one_batch():
    long = replace(NEWS, text="\N{ROCKET}" * 50_000, subject="x" * 200)
    assert sum(len(value.encode()) for value in fields(call_of(*[long] * 10)).values()) < 262_144


def test_topics_are_grouped_and_phone_numbers_go_one_by_one():
    assert group(NEWS, SETTINGS) == group(replace(NEWS, reference="other"), SETTINGS) == TOPIC
    assert group(SMS, SETTINGS) != group(replace(SMS, reference="other"), SETTINGS)


def test_a_topic_of_another_region_is_refused_before_any_call():
    other = replace(NEWS, to=TOPIC.replace("us-east-1", "eu-west-1"))
    assert build([other], CONTEXT) == Rejected(K.PERMANENT, "sns_other_region")
    with pytest.raises(StopIteration) as end:
        next(converse([other], CONTEXT))
    assert end.value.value == [Rejected(K.PERMANENT, "sns_other_region")]


WHOLE = st.text(max_size=900).filter(lambda text: not re.search("[\ud800-\udfff]", text))


@given(WHOLE)
def test_a_text_is_cut_by_bytes_and_never_inside_a_character(text):
    text *= 3
    cut = fit(text, SMS_BYTES)
    assert len(cut.encode()) <= SMS_BYTES
    assert cut == text or (text.startswith(cut[:-3]) and cut.endswith("..."))
    assert fit(text, TOPIC_BYTES) == text


@given(WHOLE)
def test_a_subject_is_what_sns_takes(text):
    assert re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{0,99}", subject_of(text))


# ---- opt-outs ----


def test_before_an_sms_the_person_is_looked_up_by_a_question_that_changes_nothing():
    calls, found = talk(SMS, FALSE, PUBLISHED)
    assert [call.method for call in calls] == ["GET", "POST"]
    assert calls[0].url == (
        "https://sns.us-east-1.amazonaws.com/"
        "?Action=CheckIfPhoneNumberIsOptedOut&Version=2010-03-31&phoneNumber=%2B12025550123"
    )
    assert "SignedHeaders=host;x-amz-date" in calls[0].headers["authorization"]
    assert found == [Accepted("94f20ce6-13c5-43a0-9a9e-ca52d816e90b", "sns_200")]


def test_who_opted_out_is_not_written_to():
    calls, found = talk(SMS, Answer(200, body=(FIXTURES / "opted_out_true.xml").read_bytes()))
    assert len(calls) == 1
    assert found == [Rejected(K.OPT_OUT, "sns_opted_out")]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, body=b"<html>"), Deferred(K.TRANSIENT, "sns_unreadable")),
        (Answer(500), Deferred(K.TRANSIENT, "sns_500")),
        (Answer(500, body=error("InternalError")), Deferred(K.TRANSIENT, "sns_InternalError")),
        (Answer(400, body=error("Throttling")), Deferred(K.RATE, "sns_Throttling")),
        (Answer(403, body=error("AuthorizationError")), Rejected(K.AUTH, "sns_AuthorizationError")),
    ],
)
def test_a_question_without_an_answer_means_that_nothing_was_sent(answer, expected):
    calls, found = talk(SMS, answer)
    assert len(calls) == 1
    assert found == [expected]


def test_topics_and_accounts_that_do_not_ask_take_one_call():
    assert [call.method for call in talk(NEWS, PUBLISHED)[0]] == ["POST"]
    assert [call.method for call in talk(SMS, PUBLISHED, context=with_settings(check_opt_outs=False))[0]] == ["POST"]


# ---- answers ----


def test_each_message_of_a_batch_has_its_own_outcome():
    answer = Answer(200, body=(FIXTURES / "batch_partial.xml").read_bytes())
    assert read_answer(answer, [NEWS] * 6, CONTEXT) == [
        Accepted("94f20ce6-0000-0000-0000-000000000000", "sns_200"),
        Rejected(K.PERMANENT, "sns_InvalidParameter"),
        Deferred(K.TRANSIENT, "sns_InternalError"),
        Deferred(K.TRANSIENT, "sns_SomethingNew"),
        Rejected(K.PERMANENT, "sns_SomethingNew"),
        Deferred(K.TRANSIENT, "sns_unreadable", ambiguous=True),
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"<x/>", b"<PublishResponse/>", b"\xff\xfe<", b"<a>&nbsp;</a>"])
def test_a_success_without_an_id_may_have_been_sent(body):
    assert outcome(200, body) == Deferred(K.TRANSIENT, "sns_unreadable", ambiguous=True)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "x"><!ENTITY c SYSTEM "file:///etc/hostname">]>'
    "<PublishResponse><PublishResult><MessageId>&c;</MessageId></PublishResult></PublishResponse>"
)


@pytest.mark.parametrize(
    "body",
    [
        BOMB.encode(),
        BOMB.replace("DOCTYPE", "doctype").encode(),
        BOMB.encode("utf-16"),
        b"\xef\xbb\xbf" + BOMB.encode(),
    ],
)
def test_an_answer_that_declares_entities_is_not_even_parsed(body):
    assert read_xml(Answer(200, body=body)) is None
    assert outcome(200, body) == Deferred(K.TRANSIENT, "sns_unreadable", ambiguous=True)


@given(st.binary(max_size=80))
def test_hostile_bytes_never_raise(body):
    for text in (body, b"<a>" + body + b"</a>"):
        root = read_xml(Answer(200, body=text))
        assert text_of(root, "b") == ""
        assert members(root, "b") == []


EXPECTED = {
    K.AUTH: "AuthorizationError AccessDenied AccessDeniedException InvalidSecurity InvalidClientTokenId "
    "SignatureDoesNotMatch ExpiredToken RequestExpired IncompleteSignature MissingAuthenticationToken OptInRequired "
    "UnrecognizedClientException",
    K.CONFIG: "KMSDisabled KMSInvalidState KMSNotFound KMSOptInRequired KMSAccessDenied InvalidAction",
    K.RATE: "Throttling ThrottlingException Throttled KMSThrottling RequestLimitExceeded TooManyRequests",
    K.TRANSIENT: "InternalError InternalFailure InternalServiceError ServiceUnavailable",
    K.PERMANENT: "InvalidParameter ParameterValueInvalid InvalidParameterValue ValidationException ValidationError "
    "NotFound EndpointDisabled PlatformApplicationDisabled TooManyEntriesInBatchRequest EmptyBatchRequest "
    "BatchEntryIdsNotDistinct InvalidBatchEntryId BatchRequestTooLong InvalidState",
    K.OPT_OUT: "OptedOut",
    K.QUOTA: "MonthlySpendLimitReached",
}
ROWS = [(code, kind) for kind, codes in EXPECTED.items() for code in codes.split()]


def test_the_table_of_codes_has_no_row_that_is_not_tested():
    assert dict(ROWS) == CODES


@pytest.mark.parametrize(("code", "kind"), ROWS)
def test_each_code_decides_whatever_the_http_status(code, kind):
    for status in (400, 403, 500):
        found = outcome(status, error(code), **{"retry-after": "7"})
        if kind in {K.RATE, K.TRANSIENT}:
            unclear = code in AMBIGUOUS
            assert found == Deferred(kind, f"sns_{code}", retry_after_s=7.0, ambiguous=unclear)
        else:
            assert found == Rejected(kind, f"sns_{code}")


def test_the_recorded_throttling_is_waited_out():
    body = (FIXTURES / "error_throttling.xml").read_bytes()
    assert outcome(400, body) == Deferred(K.RATE, "sns_Throttling")


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"{}", error("x y")])
def test_without_a_code_the_http_status_decides(body):
    assert outcome(400, body) == Rejected(K.PERMANENT, "sns_400")
    for status, kind in BY_HTTP_STATUS.items():
        assert outcome(status, body) == Rejected(kind, f"sns_{status}")
    assert outcome(429, body, **{"retry-after": "3"}) == Deferred(K.RATE, "sns_429", retry_after_s=3.0)
    assert outcome(503, body) == Deferred(K.TRANSIENT, "sns_503", ambiguous=True)


def test_an_unknown_code_of_a_refusal_is_permanent():
    assert outcome(400, error("SomethingNew")) == Rejected(K.PERMANENT, "sns_SomethingNew")


# ---- notifications ----


@pytest.mark.parametrize("number", range(len(SIGNED)))
def test_genuine_notifications_of_both_versions_pass(number):
    assert verify(hook(SIGNED[number]), SETTINGS, NOW) is None


def test_there_is_a_vector_for_each_type_version_and_subject():
    seen = {(one["Type"], one["SignatureVersion"], "Subject" in one) for one in SIGNED}
    expected = {("Notification", version, subject) for version in "12" for subject in (True, False)}
    assert seen == expected | {("SubscriptionConfirmation", version, False) for version in "12"}


@pytest.mark.parametrize("number", range(len(SIGNED)))
def test_one_changed_character_of_any_signed_field_fails(number):
    genuine = SIGNED[number]
    unsigned = {"SignatureVersion", "SigningCertURL", "UnsubscribeURL", "Signature"}
    for name in genuine.keys() - unsigned:
        value = genuine[name]
        refusal = verify(hook({**genuine, name: chr(ord(value[0]) ^ 1) + value[1:]}), SETTINGS, NOW)
        assert refusal is not None
        assert refusal.status == 401
    signature = bytearray(base64.b64decode(genuine["Signature"]))
    for place in range(0, len(signature), 16):
        changed = signature.copy()
        changed[place] ^= 1
        refusal = verify(hook({**genuine, "Signature": base64.b64encode(changed).decode()}), SETTINGS, NOW)
        assert refusal == Refusal(401, "Signature", "must be that of the fields, by the signing_certificate")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"Type": "Something"}, "Type"),
        ({"TopicArn": "arn:aws:sns:us-east-1:999999999999:parcel-events"}, "TopicArn"),
        ({"SigningCertURL": "http://sns.us-east-1.amazonaws.com/a.pem"}, "SigningCertURL"),
        ({"SigningCertURL": "https://sns.us-east-1.amazonaws.com.evil.example/a.pem"}, "SigningCertURL"),
        ({"SigningCertURL": "https://sns.us-east-1.amazonaws.com@evil.example/a.pem"}, "SigningCertURL"),
        ({"SigningCertURL": "https://evil.example/sns.us-east-1.amazonaws.com/a.pem"}, "SigningCertURL"),
        ({"SigningCertURL": "https://s3.us-east-1.amazonaws.com/a.pem"}, "SigningCertURL"),
        ({"SigningCertURL": "https://sns.us-east-1.amazonaws.com:444/a.pem"}, "SigningCertURL"),
        ({"SigningCertURL": "https://sns.us-east-1.amazonaws.com/a.php"}, "SigningCertURL"),
        ({"SigningCertURL": "https://[sns.us-east-1.amazonaws.com/a.pem"}, "SigningCertURL"),
        ({"SignatureVersion": "3"}, "SignatureVersion"),
        ({"SignatureVersion": "1"}, "Signature"),
        ({"Timestamp": "yesterday"}, "Timestamp"),
        ({"Signature": "no base64!"}, "Signature"),
        ({"Signature": "é"}, "Signature"),
        ({"Signature": ""}, "Signature"),
        ({"Subject": None}, "Signature"),
    ],
)
def test_what_is_not_from_a_topic_of_ours_is_refused_by_the_name_of_its_field(changes, field):
    refusal = verify(hook({**SIGNED[1], **changes}), SETTINGS, NOW)
    assert refusal is not None
    assert (refusal.status, refusal.field) == (401, field)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"Type":1}', b"<xml/>"])
def test_what_is_no_notification_is_refused(body):
    refusal = verify(hook(body), SETTINGS, NOW)
    assert refusal is not None
    assert refusal.status == 401
    assert isinstance(read(hook(body), SETTINGS, NOW), Refusal)


@pytest.mark.parametrize(("later", "passes"), [(timedelta(hours=1), True), (timedelta(hours=3), False)])
def test_a_notification_is_believed_for_as_long_as_sns_repeats_it(later, passes):
    for now in (NOW + later, NOW - later):
        refusal = verify(hook(SIGNED[1]), SETTINGS, now)
        assert (refusal is None) is passes
        assert refusal is None or refusal.field == "Timestamp"


def test_an_expired_certificate_proves_nothing():
    at = datetime(2046, 6, 1, tzinfo=UTC)
    late = {**SIGNED[1], "Timestamp": at.isoformat()}
    refusal = verify(hook(late), SETTINGS, at)
    assert refusal is not None
    assert refusal.field == "Signature"


def test_two_certificates_hold_while_aws_replaces_one():
    pem = VENDOR.settings["signing_certificate"] + CERTIFICATE
    settings = SnsSettings.model_validate({**VALUES, "signing_certificate": pem})
    assert verify(hook(SIGNED[1]), settings, NOW) is None
    alone = SnsSettings.model_validate({**VALUES, "signing_certificate": VENDOR.settings["signing_certificate"]})
    assert verify(hook(SIGNED[1]), alone, NOW) is not None


@pytest.mark.parametrize("missing", ["signing_certificate", "notification_topics"])
def test_nothing_is_believed_without_a_certificate_and_a_list_of_topics(missing):
    settings = SnsSettings.model_validate({**VALUES, missing: ""})
    refusal = verify(hook(SIGNED[1]), settings, NOW)
    assert refusal is not None
    assert missing in refusal.message


def test_a_subscription_is_confirmed_at_our_own_endpoint():
    found = read(hook(SIGNED[5]), SETTINGS, NOW)
    assert isinstance(found, Received)
    (call,) = found.confirm
    assert (call.method, call.secrets) == ("GET", ("2336412f37",))
    assert call.url.startswith("https://sns.us-east-1.amazonaws.com/?")
    assert fields(call) == {
        "Action": "ConfirmSubscription",
        "TopicArn": TOPIC,
        "Token": "2336412f37",
        "Version": "2010-03-31",
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"SubscribeURL": "https://169.254.169.254/latest/meta-data"}, "SubscribeURL"),
        ({"SubscribeURL": "http://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription"}, "SubscribeURL"),
        ({"SubscribeURL": None}, "SubscribeURL"),
        ({"Token": "a&Action=DeleteTopic"}, "Token"),
        ({"Token": None}, "Token"),
    ],
)
def test_a_subscription_that_points_elsewhere_is_not_confirmed(changes, field):
    refusal = read(hook({**SIGNED[5], **changes}), SETTINGS, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.field) == (422, field)


def test_an_unsubscription_is_not_undone():
    found = read(hook({**SIGNED[5], "Type": "UnsubscribeConfirmation"}), SETTINGS, NOW)
    assert found == Received(reply=Reply())


@pytest.mark.parametrize(
    ("name", "status", "code", "opt_out"),
    [
        ("sms_delivered", S.DELIVERED, "sns_delivered", False),
        ("sms_accepted_by_carrier", S.SENT, "sns_accepted_by_carrier", False),
        ("sms_opted_out", S.REJECTED, "sns_opted_out", True),
        ("sms_unreachable", S.FAILED, "sns_phone_unreachable", False),
    ],
)
def test_a_line_of_the_log_becomes_one_receipt(name, status, code, opt_out):
    found = notified((FIXTURES / f"{name}.json").read_text())
    assert isinstance(found, Received)
    (receipt,) = found.receipts
    assert (receipt.status, receipt.code, receipt.opt_out) == (status, code, opt_out)
    assert receipt.provider_ref == "34d9b400-c6dd-5444-820d-fbeb0f1f54cf"
    assert receipt.dedupe_key == f"{receipt.provider_ref}:{code.removeprefix('sns_')}"
    assert receipt.occurred_at == NOW


@pytest.mark.parametrize("words", FAILURES)
def test_each_failure_that_sns_names_has_its_own_code(words):
    report = {"notification": {"messageId": "m"}, "delivery": {"providerResponse": words}, "status": "FAILURE"}
    found = notified(json.dumps(report))
    assert isinstance(found, Received)
    (receipt,) = found.receipts
    assert (receipt.status, receipt.code) == (FAILURES[words][0], f"sns_{FAILURES[words][1]}")
    assert receipt.opt_out is (words == "Phone number is opted out")
    assert len({word for _, word in FAILURES.values()}) == len(FAILURES)


def test_an_unlisted_failure_is_for_a_person_and_its_words_go_nowhere():
    report = {"notification": {"messageId": "m"}, "delivery": {"providerResponse": "Ana"}, "status": "FAILURE"}
    found = notified(json.dumps(report))
    assert isinstance(found, Received)
    assert (found.receipts[0].status, found.receipts[0].code) == (S.FAILED, "sns_unlisted")
    unknown = notified(json.dumps({**report, "status": "WHATEVER"}))
    assert isinstance(unknown, Received)
    assert unknown.receipts[0].status is None


def test_receipts_lead_to_the_same_status_in_any_order():
    for order in itertools.permutations((S.SENT, S.DELIVERED, S.FAILED)):
        status = S.SENT
        for then in order:
            status = then if can_become(status, then) else status
        assert status is S.DELIVERED


def test_who_answers_stop_is_heard_under_the_number_it_came_from():
    found = notified((FIXTURES / "two_way_stop.json").read_text())
    assert isinstance(found, Received)
    (change,) = found.consents
    assert (change.channel, change.address, change.granted) == (Channel.SMS, "+14255550182", False)
    assert change.dedupe_key == "cae173d2-66b9-564c-8309-21f858e9fb84"


@pytest.mark.parametrize(
    "message",
    ["Line 1", "", "[]", "7", '{"a":1}', '{"originationNumber":"+14255550182","messageBody":"When?"}', "null"],
)
def test_other_words_to_a_topic_of_ours_change_nothing(message):
    assert notified(message) == Received(reply=Reply()) or isinstance(notified(message), Refusal)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ('{"notification":{},"delivery":{}}', "Message.notification.messageId"),
        ('{"notification":7,"delivery":{}}', "Message.notification"),
        ('{"originationNumber":7}', "Message.originationNumber"),
    ],
)
def test_a_malformed_report_is_refused_by_the_name_of_its_field(message, field):
    refusal = notified(message)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.field) == (422, field)


# ---- the loop with the simulation ----


def test_an_sms_arrives_and_is_reported(loop):
    one = loop(PLATFORM, VENDOR)
    (sent,) = one.send(SMS)
    assert isinstance(sent, Accepted)
    (taken,) = one.taken
    assert (taken.to, taken.text, taken.provider_ref) == (SMS.to, SMS.text, sent.provider_ref)
    (receipt,) = one.receive(one.callbacks[0]).receipts
    assert (receipt.status, receipt.provider_ref) == (S.DELIVERED, sent.provider_ref)


@pytest.mark.parametrize("ending", SIMULATED_FAILURES)
def test_an_sms_that_does_not_arrive_is_reported_by_its_reason(loop, ending):
    one = loop(PLATFORM, VENDOR, check_opt_outs="false")
    assert isinstance(one.send(replace(SMS, to=f"+1202555{ending}"))[0], Accepted)
    (receipt,) = one.receive(one.callbacks[0]).receipts
    status, word = FAILURES[SIMULATED_FAILURES[ending]]
    assert (receipt.status, receipt.code) == (status, f"sns_{word}")


def test_who_opted_out_takes_nothing(loop):
    one = loop(PLATFORM, VENDOR)
    assert one.send(replace(SMS, to="+12025550100")) == [Rejected(K.OPT_OUT, "sns_opted_out")]
    assert one.taken == []


def test_an_answer_of_stop_comes_back_signed_with_the_second_version(loop):
    one = loop(PLATFORM, VENDOR)
    one.send(replace(SMS, to="+12025550199"))
    (change,) = one.receive(one.callbacks[-1]).consents
    assert (change.address, change.granted) == ("+12025550199", False)


def test_a_batch_arrives_but_for_its_bad_ones(loop):
    one = loop(PLATFORM, VENDOR)
    texts = ("one", "poison", "three", "hiccup", "five")
    found = one.send(*(replace(NEWS, reference=f"r{text}", text=text) for text in texts))
    assert [type(outcome) for outcome in found] == [Accepted, Rejected, Accepted, Deferred, Accepted]
    assert [(taken.reference, taken.text.splitlines()[-1]) for taken in one.taken] == [
        ("rone", "one"),
        ("rthree", "three"),
        ("rfive", "five"),
    ]
    taken = {taken.provider_ref for taken in one.taken}
    assert {outcome.provider_ref for outcome in found if isinstance(outcome, Accepted)} == taken


@pytest.mark.parametrize("message", [NEWS, NOTICE, replace(NOTICE, to=f"{TOPIC}.fifo")])
def test_a_topic_takes_news_and_notices(loop, message):
    one = loop(PLATFORM, VENDOR)
    assert isinstance(one.send(message)[0], Accepted)
    assert one.taken[0].to == message.to


def test_the_simulation_refuses_what_sns_refuses(loop):
    wrong = loop(PLATFORM, VENDOR, secret_access_key="wrong")
    assert wrong.send(NEWS) == [Rejected(K.AUTH, "sns_SignatureDoesNotMatch")]
    assert wrong.send(SMS) == [Rejected(K.AUTH, "sns_SignatureDoesNotMatch")]
    stranger = loop(PLATFORM, VENDOR, access_key_id="AKIASOMEBODYELSE0000")
    assert stranger.send(NEWS) == [Rejected(K.AUTH, "sns_InvalidClientTokenId")]
    gone = replace(NEWS, to="arn:aws:sns:us-east-1:123456789012:gone-topic")
    assert loop(PLATFORM, VENDOR).send(gone) == [Rejected(K.PERMANENT, "sns_NotFound")]
    assert loop(PLATFORM, VENDOR).send(replace(NEWS, text="")) == [Rejected(K.PERMANENT, "sns_InvalidParameter")]


def test_a_request_signed_long_ago_is_refused(loop):
    one = loop(PLATFORM, VENDOR)
    one.context = replace(one.context, now=one.context.now - timedelta(hours=1))
    assert one.send(NEWS) == [Rejected(K.AUTH, "sns_RequestExpired")]


def test_setting_up_subscribes_confirms_and_changes_nothing_the_second_time(loop):
    one = loop(PLATFORM, VENDOR)
    for made in (2, 0):
        count = 0
        for step in provision(one.context):
            if step.find is None or step.exists is None or step.make is None:
                continue
            if not step.exists(one.call(step.find)):
                assert one.call(step.make).status == 200
                count += 1
                for hello in one.replies[-1].callbacks:
                    (confirm,) = one.receive(hello).confirm
                    assert one.call(confirm).status == 200
            assert step.exists(one.call(step.find))
        assert count == made


def test_a_subscription_that_is_not_confirmed_does_not_count(loop):
    one = loop(PLATFORM, VENDOR)
    step = provision(one.context)[-1]
    assert step.find is not None
    assert step.make is not None
    assert step.exists is not None
    one.call(step.make)
    assert not step.exists(one.call(step.find))


def test_what_a_person_must_do_is_exact():
    policy, reports, *_ = provision(CONTEXT)
    statement = json.loads(policy.instruction.partition("\n")[2])["Statement"][0]
    assert "sns:Publish" in statement["Action"]
    assert "sns:CheckIfPhoneNumberIsOptedOut" in statement["Action"]
    code = reports.instruction.partition("\n\n")[2]
    compile(code, "lambda", "exec")


def test_the_doctor_names_what_is_wrong(loop):
    assert PLATFORM.probe is not None
    good = loop(PLATFORM, VENDOR)
    findings = PLATFORM.probe.read(good.call(PLATFORM.probe.build(good.context)), good.context)
    assert all(finding.ok and not finding.advice for finding in findings)
    bad = loop(PLATFORM, VENDOR, secret_access_key="wrong", signing_certificate="")
    findings = PLATFORM.probe.read(bad.call(PLATFORM.probe.build(bad.context)), bad.context)
    assert {finding.check for finding in findings if not finding.ok} == {"credentials", "receipts"}
    assert "SignatureDoesNotMatch" in findings[0].advice
    boxed = (
        b"<R><GetSMSSandboxAccountStatusResult><IsInSandbox>true</IsInSandbox></GetSMSSandboxAccountStatusResult></R>"
    )
    findings = PLATFORM.probe.read(Answer(200, body=boxed), CONTEXT)
    assert [finding.check for finding in findings if not finding.ok] == ["SMS sandbox"]


def test_the_simulation_signs_as_sns_does_in_both_versions(loop):
    one = loop(PLATFORM, VENDOR)
    for version in "12":
        hello = callback(
            CONTEXT.webhook_url, SIMULATED_TOPIC, {"Type": "Notification", "Message": "{}"}, version=version
        )
        assert one.receive(hello) == Received(reply=Reply())


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
    found = outcome(reply.status, reply.body, **reply.headers)
    assert not isinstance(found, Accepted)
    assert found.kind is kind
