"""Outlook: exact JSON, MIME and batches, every code, the search of Sent Items, and the loop with its simulation."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Token
from ordernotify.platforms._outlook_setup import OutlookSettings
from ordernotify.platforms.outlook import BY_HTTP_STATUS, CODES, PLATFORM, REFERENCE, converse, group
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.outlook import ERRORS, VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "outlook"
VALUES = {
    "tenant": "shop.example",
    "client_id": "app-1",
    "client_secret": "the-secret",
    "sender": "orders@shop.example",
}
TOKEN = Token("eyJ0", NOW + timedelta(hours=1), {"issued_at": NOW.isoformat()})
OURS = "0123456789abcdef0123456789abcdef"
MESSAGE = Message(
    delivery_id="d",
    reference=OURS,
    channel=Channel.EMAIL,
    to="buyer@example.com",
    status=OrderStatus.SHIPPED,
    language="en",
    subject="Order A-1001 has shipped",
    text="Order A-1001 has shipped.",
)
RICH = replace(MESSAGE, html="<p>Order A-1001 has shipped.</p>")
USERS = "https://graph.microsoft.com/v1.0/users/orders@shop.example"
REQUEST_ID = str(uuid.uuid5(uuid.NAMESPACE_OID, OURS))
K = FailureKind


def with_settings(**values: object) -> Context:
    return Context(settings=OutlookSettings.model_validate({**VALUES, **values}), now=NOW, token=TOKEN)


CONTEXT = with_settings()


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def only_call(*messages: Message, context: Context = CONTEXT) -> Call:
    return next(converse(messages, context))


def answered(*messages: Message, answer: Answer, context: Context = CONTEXT) -> list[Outcome]:
    talk = converse(messages, context)
    next(talk)
    with pytest.raises(StopIteration) as end:
        talk.send(answer)
    return list(end.value.value)


def outcome(status: int, value: object = None, context: Context = CONTEXT, **headers: str) -> Outcome:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    (one,) = answered(MESSAGE, answer=Answer(status, named, json.dumps(value).encode()), context=context)
    return one


def graph(code: object) -> dict:
    return {"error": {"code": code, "message": "m"}}


# ---- settings and tokens ----


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tenant": "a/b"}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"client_id": "a&b"}, "client_id"),
        ({"sender": "nobody"}, "sender"),
        ({"reply_to": "a@b.example, c@d.example"}, "reply_to"),
    ],
)
def test_wrong_settings_are_refused_by_name(values, named):
    with pytest.raises(ValidationError) as caught:
        with_settings(**values)
    assert [error["loc"][0] for error in caught.value.errors()] == [named]
    assert "the-secret" not in str(caught.value)


def test_a_token_is_asked_for_by_the_app_itself():
    call = PLATFORM.token.build(CONTEXT)
    assert call.url == "https://login.microsoftonline.com/shop.example/oauth2/v2.0/token"
    assert dict(parse_qsl(call.body.decode())) == {
        "client_id": "app-1",
        "client_secret": "the-secret",
        "scope": "https://graph.microsoft.com/.default",
        "grant_type": "client_credentials",
    }


def test_a_token_is_read_and_each_refusal_is_what_it_is():
    token = PLATFORM.token.read(Answer(200, body=(FIXTURES / "token.json").read_bytes()), CONTEXT)
    assert isinstance(token, Token)
    for word, (status, value) in recorded("token_errors").items():
        found = PLATFORM.token.read(Answer(status, body=json.dumps(value).encode()), CONTEXT)
        expected = Deferred(K.TRANSIENT, f"outlook_{word}") if status == 503 else Rejected(K.AUTH, f"outlook_{word}")
        assert found == expected


# ---- requests ----


def test_a_text_is_exactly_the_json_that_graph_documents():
    call = only_call(MESSAGE, context=with_settings(reply_to="help@shop.example"))
    assert (call.method, call.url) == ("POST", f"{USERS}/sendMail")
    assert call.headers == {
        "Content-Type": "application/json",
        "client-request-id": REQUEST_ID,
        "authorization": "Bearer eyJ0",
    }
    assert json.loads(call.body) == {
        "message": {
            "subject": "Order A-1001 has shipped",
            "body": {"contentType": "Text", "content": "Order A-1001 has shipped."},
            "toRecipients": [{"emailAddress": {"address": "buyer@example.com"}}],
            "internetMessageHeaders": [{"name": REFERENCE, "value": OURS}],
            "replyTo": [{"emailAddress": {"address": "help@shop.example"}}],
        },
        "saveToSentItems": True,
    }


def test_text_and_html_go_together_as_mime_in_base64():
    call = only_call(RICH)
    assert call.url == f"{USERS}/sendMail"
    assert call.headers["Content-Type"] == "text/plain"
    mail = message_from_bytes(base64.b64decode(call.body, validate=True), policy=SMTP)
    assert (str(mail["From"]), str(mail["To"])) == ("orders@shop.example", "buyer@example.com")
    assert (str(mail["Subject"]), mail[REFERENCE]) == (RICH.subject, OURS)
    assert str(mail["Message-ID"]) == f"<{OURS}@shop.example>"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("status", list(OrderStatus))
def test_each_status_is_sent_in_its_own_words(status):
    subject, text = f"Order A-1001: {status.value}", f"Your order is {status.value}."
    sent = json.loads(only_call(replace(MESSAGE, status=status, subject=subject, text=text)).body)["message"]
    assert (sent["subject"], sent["body"]["content"]) == (subject, text)


@pytest.mark.parametrize("values", [{"both_parts": False}, {"save_to_sent_items": False}])
def test_html_goes_alone_as_json_where_the_settings_say_so(values):
    context = with_settings(**values)
    sent = json.loads(only_call(RICH, context=context).body)
    assert sent["message"]["body"] == {"contentType": "HTML", "content": RICH.html}
    assert sent["saveToSentItems"] is values.get("save_to_sent_items", True)
    assert group(RICH, context.settings) == "json"


def test_a_notice_is_nothing_but_its_text():
    sent = json.loads(only_call(replace(RICH, notice_only=True)).body)["message"]
    assert sent["body"] == {"contentType": "Text", "content": RICH.text}


def test_mime_mails_share_no_request_and_json_mails_do():
    assert group(RICH, CONTEXT.settings) != group(replace(RICH, reference="b"), CONTEXT.settings)
    assert group(MESSAGE, CONTEXT.settings) == group(replace(MESSAGE, text="b"), CONTEXT.settings)
    assert PLATFORM.batch == 20


def test_many_go_in_one_batch_each_by_its_own_request():
    people = [replace(MESSAGE, to=f"p{number}@example.com", reference=f"r{number}") for number in range(20)]
    call = only_call(*people)
    assert (call.method, call.url) == ("POST", "https://graph.microsoft.com/v1.0/$batch")
    assert call.headers == {"content-type": "application/json", "authorization": "Bearer eyJ0"}
    requests = json.loads(call.body)["requests"]
    assert [one["id"] for one in requests] == [str(number) for number in range(20)]
    assert {one["method"] for one in requests} == {"POST"}
    assert {one["url"] for one in requests} == {"/users/orders@shop.example/sendMail"}
    assert requests[7]["headers"]["Content-Type"] == "application/json"
    assert requests[7]["body"]["message"]["toRecipients"] == [{"emailAddress": {"address": "p7@example.com"}}]
    assert "eyJ0" not in call.body.decode()


@pytest.mark.parametrize("message", [MESSAGE, RICH])
@pytest.mark.parametrize(
    ("changes", "code"),
    [({"subject": "a\r\nBcc: x@y.example"}, "outlook_subject"), ({"to": "a@b.example, c@d.example"}, "outlook_to")],
)
def test_what_no_mail_can_hold_is_refused_before_any_call(message, changes, code):
    talk = converse([replace(message, **changes)], CONTEXT)
    with pytest.raises(StopIteration) as end:
        next(talk)
    assert end.value.value == [Rejected(K.PERMANENT, code)]


def test_another_base_url_takes_the_requests():
    call = only_call(MESSAGE, context=with_settings(base_url="https://graph.microsoft.us"))
    assert call.url == "https://graph.microsoft.us/v1.0/users/orders@shop.example/sendMail"


# ---- answers ----


def test_a_202_is_accepted_even_with_a_retry_after():
    assert outcome(202, None, request_id="rid", retry_after="9") == Accepted("rid", "outlook_202")


EXPECTED = {
    K.PERMANENT: "ErrorInvalidRecipients InvalidInternetMessageHeader InvalidInternetMessageHeaderCollection "
    "ErrorMimeContentInvalid ErrorMimeContentInvalidBase64String ErrorMessageSizeExceeded",
    K.AUTH: "InvalidAuthenticationToken ErrorAccessDenied ErrorSendAsDenied Authorization_RequestDenied",
    K.CONFIG: "ErrorInvalidUser MailboxNotEnabledForRESTAPI",
    K.QUOTA: "ErrorExceededMessageLimit ErrorSubmissionQuotaExceeded ErrorQuotaExceeded",
    K.RATE: "ApplicationThrottled TooManyRequests",
    K.TRANSIENT: "ErrorServerBusy ErrorTimeoutExpired ErrorInternalServerError UnknownError",
}
ROWS = [(code, kind) for kind, codes in EXPECTED.items() for code in codes.split()]


def test_the_table_of_codes_has_no_row_that_is_not_tested():
    assert dict(ROWS) == CODES


@pytest.mark.parametrize(("code", "kind"), ROWS)
@pytest.mark.parametrize("status", [400, 500])
def test_each_code_decides_whatever_the_http_status(code, kind, status):
    found = outcome(status, graph(code), retry_after="7")
    if kind in {K.RATE, K.TRANSIENT}:
        assert found == Deferred(kind, f"outlook_{code}", retry_after_s=7.0, ambiguous=status == 500)
    else:
        assert found == Rejected(kind, f"outlook_{code}")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Rejected(K.PERMANENT, "outlook_200")),
        (400, Rejected(K.PERMANENT, "outlook_400")),
        (401, Rejected(K.AUTH, "outlook_401")),
        (403, Rejected(K.AUTH, "outlook_403")),
        (404, Rejected(K.CONFIG, "outlook_404")),
        (409, Deferred(K.TRANSIENT, "outlook_409", retry_after_s=3.0)),
        (413, Rejected(K.PERMANENT, "outlook_413")),
        (423, Deferred(K.TRANSIENT, "outlook_423", retry_after_s=3.0)),
        (429, Deferred(K.RATE, "outlook_429", retry_after_s=3.0)),
        (500, Deferred(K.TRANSIENT, "outlook_500", retry_after_s=3.0, ambiguous=True)),
        (503, Deferred(K.TRANSIENT, "outlook_503", retry_after_s=3.0, ambiguous=True)),
        (504, Deferred(K.TRANSIENT, "outlook_504", retry_after_s=3.0, ambiguous=True)),
        (507, Rejected(K.QUOTA, "outlook_507")),
        (509, Rejected(K.QUOTA, "outlook_509")),
    ],
)
@pytest.mark.parametrize("value", [None, [], {"error": "x"}, graph(7), graph("new\r\ncode"), graph("NewCode")])
def test_without_a_known_code_the_http_status_decides(status, expected, value):
    assert outcome(status, value, retry_after="3") == expected


def test_every_row_by_status_is_tested():
    assert set(BY_HTTP_STATUS) == {400, 403, 404, 409, 413, 423, 507, 509}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bad_recipient", Rejected(K.PERMANENT, "outlook_ErrorInvalidRecipients")),
        ("bad_token", Rejected(K.AUTH, "outlook_InvalidAuthenticationToken")),
        ("denied", Rejected(K.AUTH, "outlook_ErrorAccessDenied")),
        ("throttled", Deferred(K.RATE, "outlook_ApplicationThrottled")),
        ("internal", Deferred(K.TRANSIENT, "outlook_ErrorInternalServerError", ambiguous=True)),
    ],
)
def test_recorded_errors_are_read_as_what_they_are(name, expected):
    status, value = recorded("errors")[name]
    assert outcome(status, value) == expected


def test_an_old_token_that_is_refused_is_had_anew():
    later = replace(CONTEXT, now=NOW + timedelta(minutes=30))
    assert outcome(401, None, later) == Deferred(K.TRANSIENT, "outlook_401", retry_after_s=0.0)


def test_each_message_of_a_batch_has_its_own_outcome_in_any_order():
    answer = Answer(200, body=(FIXTURES / "batch.json").read_bytes())
    assert answered(MESSAGE, MESSAGE, MESSAGE, answer=answer) == [
        Accepted("5a4db0c5-0000-4000-8000-00000000000a", "outlook_202"),
        Deferred(K.RATE, "outlook_ApplicationThrottled", retry_after_s=7.0),
        Rejected(K.PERMANENT, "outlook_ErrorInvalidRecipients"),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"responses":7}', b'{"responses":[{"id":"0","status":"x"}]}', b'{"responses":[7,{}]}']
)
def test_a_batch_that_does_not_say_may_have_been_sent(body):
    unclear = Deferred(K.TRANSIENT, "outlook_unreadable", ambiguous=True)
    assert answered(MESSAGE, MESSAGE, answer=Answer(200, body=body)) == [unclear, unclear]


def test_a_batch_that_is_refused_as_a_whole_is_refused_for_each():
    throttled = Deferred(K.RATE, "outlook_429", retry_after_s=5.0)
    assert answered(MESSAGE, MESSAGE, answer=Answer(429, {"retry-after": "5"})) == [throttled, throttled]


def test_a_faulty_message_does_not_keep_the_others_of_a_batch():
    bad = replace(MESSAGE, subject="a\nb")
    answer = Answer(200, body=b'{"responses":[{"id":"1","status":202},{"id":"2","status":202}]}')
    assert answered(bad, MESSAGE, MESSAGE, answer=answer) == [
        Rejected(K.PERMANENT, "outlook_subject"),
        Accepted("", "outlook_202"),
        Accepted("", "outlook_202"),
    ]


# ---- lookup ----


def found(answer: Answer, message: Message = MESSAGE) -> Outcome:
    return PLATFORM.lookup.read(answer, message)


def test_a_lookup_asks_for_what_was_sent_since_just_before_the_attempt():
    call = PLATFORM.lookup.build(MESSAGE, CONTEXT, NOW)
    url = urlsplit(call.url)
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{USERS}/mailFolders/sentitems/messages"
    assert parse_qs(url.query) == {
        "$filter": ["sentDateTime ge 2026-11-24T11:59:00Z"],
        "$select": ["id,subject,toRecipients,internetMessageId,internetMessageHeaders"],
        "$top": ["100"],
    }


LISTED = recorded("sent_items")


def listed(**changes: object) -> Answer:
    return Answer(200, body=json.dumps({**LISTED, "value": [{**LISTED["value"][0], **changes}]}).encode())


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, True),
        ({"subject": "changed", "toRecipients": []}, True),
        ({"internetMessageHeaders": [{"name": "X-OrderNotify-Reference", "value": "another"}]}, False),
        ({"internetMessageHeaders": None}, True),
        ({"internetMessageHeaders": None, "subject": "another"}, False),
        ({"internetMessageHeaders": None, "toRecipients": None}, False),
        ({"internetMessageHeaders": 7, "toRecipients": 7}, False),
        ({"internetMessageHeaders": [], "toRecipients": [], "internetMessageId": f"<{OURS}@shop.example>"}, True),
    ],
)
def test_our_header_decides_and_else_the_person_and_the_subject(changes, ours):
    assert found(listed(**changes)) == (
        Accepted("AAMkAGI1=", "outlook_found") if ours else Rejected(K.PERMANENT, "not_found")
    )


def test_a_notice_is_known_by_its_header_alone():
    notice = replace(MESSAGE, notice_only=True)
    assert isinstance(found(listed(), notice), Accepted)
    assert found(listed(internetMessageHeaders=None), notice) == Rejected(K.PERMANENT, "not_found")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503),
        Answer(403, body=b"{}"),
        Answer(200, body=b"[]"),
        Answer(200, body=b'{"value":[],"@odata.nextLink":"https://graph.microsoft.com/next"}'),
    ],
)
def test_a_lookup_that_cannot_tell_says_so(answer):
    assert isinstance(found(answer), Deferred)


# ---- setting up ----


def test_an_administrator_is_told_exactly_what_to_run():
    (step,) = PLATFORM.provision(CONTEXT)
    assert (step.find, step.make) == (None, None)
    assert "\"PrimarySmtpAddress -eq 'orders@shop.example'\"" in step.instruction
    assert '-App "app-1" -Role "Application Mail.Send"' in step.instruction
    assert "the-secret" not in step.instruction


def test_the_probe_says_what_to_grant():
    refused = PLATFORM.probe.read(Answer(403, body=json.dumps(graph("ErrorAccessDenied")).encode()), CONTEXT)
    assert [finding.ok for finding in refused] == [False, True]
    assert "HTTP 403 ErrorAccessDenied" in refused[0].advice
    unkept = PLATFORM.probe.read(Answer(200), with_settings(save_to_sent_items=False))
    assert [finding.ok for finding in unkept] == [True, False]


# ---- the loop with the simulation ----


def sign_in(bench):
    token = PLATFORM.token.read(bench.call(PLATFORM.token.build(bench.context)), bench.context)
    if isinstance(token, Token):
        bench.context = replace(bench.context, token=token)
    return token


@pytest.mark.parametrize("message", [MESSAGE, replace(RICH, text="Größe\n.\nEnde")])
def test_a_message_goes_through_the_loop_as_json_and_as_mime(loop, message):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    (accepted,) = bench.send(message)
    (taken,) = bench.taken
    assert accepted == Accepted(taken.provider_ref, "outlook_202")
    assert (taken.to, taken.reference, taken.text) == (message.to, OURS, f"{message.subject}\n{message.text}")


def test_a_batch_goes_through_the_loop_and_one_refusal_harms_nobody_else(loop):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    names = ["a", "refused", "b", "busy", *(f"p{number}" for number in range(16))]
    people = [replace(MESSAGE, to=f"{name}@example.com", reference=f"r-{name}") for name in names]
    outcomes = bench.send(*people)
    assert outcomes[1] == Rejected(K.PERMANENT, "outlook_ErrorInvalidRecipients")
    assert outcomes[3] == Deferred(K.RATE, "outlook_ApplicationThrottled", retry_after_s=7.0)
    sent = {taken.reference: taken.provider_ref for taken in bench.taken}
    assert set(sent) == {f"r-{name}" for name in names} - {"r-refused", "r-busy"}
    for message, one in zip(people, outcomes, strict=True):
        if message.reference in sent:
            assert one == Accepted(sent[message.reference], "outlook_202")


def test_mime_and_json_in_one_conversation_are_all_sent(loop):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    several = [replace(RICH, reference="a"), replace(MESSAGE, reference="b"), replace(MESSAGE, reference="c")]
    assert all(isinstance(one, Accepted) for one in bench.send(*several))
    assert sorted(taken.reference for taken in bench.taken) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"client_secret": "wrong"}, "outlook_invalid_client"),
        ({"client_id": "wrong"}, "outlook_unauthorized_client"),
        ({"scope": "wrong"}, "outlook_invalid_scope"),
    ],
)
def test_wrong_credentials_get_no_token(loop, values, code):
    vendor = replace(VENDOR, settings={**VENDOR.settings, **values})
    assert sign_in(loop(PLATFORM, vendor)) == Rejected(K.AUTH, code)


def test_without_a_token_nothing_is_taken(loop):
    bench = loop(PLATFORM, VENDOR)
    assert bench.send(MESSAGE) == [Rejected(K.AUTH, "outlook_InvalidAuthenticationToken")]
    assert bench.send(MESSAGE, MESSAGE) == [Rejected(K.AUTH, "outlook_InvalidAuthenticationToken")] * 2
    assert bench.taken == []


def test_another_mailbox_is_none_of_the_simulation(loop):
    bench = loop(PLATFORM, VENDOR, sender="b@northgate.example")
    sign_in(bench)
    assert bench.send(MESSAGE) == [Rejected(K.CONFIG, "outlook_ErrorInvalidUser")]


@pytest.mark.parametrize("message", [MESSAGE, RICH])
def test_a_message_whose_answer_was_lost_is_found_and_another_is_not(loop, message):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    bench.send(message)
    answer = bench.call(PLATFORM.lookup.build(message, bench.context, bench.context.now))
    assert isinstance(found(answer, message), Accepted)
    other = replace(message, reference="another", subject="Order A-1002")
    assert found(answer, other) == Rejected(K.PERMANENT, "not_found")
    later = bench.context.now + timedelta(hours=1)
    answer = bench.call(PLATFORM.lookup.build(message, bench.context, later))
    assert found(answer, message) == Rejected(K.PERMANENT, "not_found")


def test_a_mailbox_that_keeps_nothing_never_says_that_nothing_was_sent(loop):
    bench = loop(PLATFORM, VENDOR, save_to_sent_items="false")
    sign_in(bench)
    bench.send(MESSAGE)
    answer = bench.call(PLATFORM.lookup.build(MESSAGE, bench.context, bench.context.now))
    assert found(answer) == Deferred(K.TRANSIENT, "outlook_200")


def test_the_probe_passes_at_the_simulation(loop):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    findings = PLATFORM.probe.read(bench.call(PLATFORM.probe.build(bench.context)), bench.context)
    assert [finding.ok for finding in findings] == [True, True]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.RATE, K.RATE),
        (Fault.RATE_BARE, K.RATE),
        (Fault.SERVER_ERROR, K.TRANSIENT),
        (Fault.PERMANENT, K.PERMANENT),
        (Fault.AUTH, K.AUTH),
        (Fault.OPT_OUT, K.PERMANENT),
    ],
)
def test_each_fault_of_the_simulation_is_read_as_what_it_is(fault, kind):
    reply = VENDOR.refuse(fault)
    headers = {name.lower(): value for name, value in reply.headers.items()}
    (one,) = answered(MESSAGE, answer=Answer(reply.status, headers, reply.body))
    assert one.kind is kind


def test_the_simulation_refuses_with_codes_that_the_adapter_knows():
    assert set(ERRORS) - {"BadRequest"} <= set(CODES)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"toRecipients": []}, "ErrorInvalidRecipients"),
        ({"body": {"contentType": "Markdown", "content": ""}}, "BadRequest"),
        ({"internetMessageHeaders": []}, "InvalidInternetMessageHeaderCollection"),
        ({"internetMessageHeaders": [{"name": "x-a", "value": ""}] * 6}, "InvalidInternetMessageHeaderCollection"),
        ({"internetMessageHeaders": [{"name": "List-Unsubscribe", "value": ""}]}, "InvalidInternetMessageHeader"),
    ],
)
def test_the_simulation_checks_what_graph_checks(loop, changes, code):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    call = only_call(MESSAGE, context=bench.context)
    body = json.loads(call.body)
    body["message"] |= changes
    assert bench.call(replace(call, body=json.dumps(body).encode())).json()["error"]["code"] == code


def test_the_simulation_takes_at_most_20_in_a_batch_and_no_mime_that_is_none(loop):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    call = only_call(*[MESSAGE] * 21, context=bench.context)
    assert bench.call(call).json()["error"]["code"] == "BadRequest"
    mime = replace(only_call(RICH, context=bench.context), body=b"*")
    assert bench.call(mime).json()["error"]["code"] == "ErrorMimeContentInvalidBase64String"
