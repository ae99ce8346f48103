"""Gmail: exact mails and assertions, every reason, the search for lost answers, and the loop with its simulation."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Token
from ordernotify.platforms._gmail_access import SCOPES, GmailSettings
from ordernotify.platforms.gmail import BY_HTTP_STATUS, PLATFORM, REASONS, build, provision, read_answer
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.gmail import CLIENT_ID, CLIENT_SECRET, ERRORS, MAILBOX, REFRESH_TOKEN, VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "gmail"
KEY_FILE = VENDOR.settings["service_account"]
CONSENT = {"client_id": "c", "client_secret": "the-secret", "refresh_token": "the-refresh-token"}
VALUES = {"from_email": "orders@shop.example", "from_name": "Northgate"}
TOKEN = Token("ya29.a", NOW + timedelta(hours=1), {"issued_at": NOW.isoformat()})
REFERENCE = "0123456789abcdef0123456789abcdef"
MESSAGE = Message(
    delivery_id="d",
    reference=REFERENCE,
    channel=Channel.EMAIL,
    to="buyer@example.com",
    status=OrderStatus.SHIPPED,
    language="en",
    subject="Order A-1001 has shipped",
    text="Order A-1001 has shipped.",
    html="<p>Order A-1001 has shipped.</p>",
)
K = FailureKind


def with_settings(**values: object) -> Context:
    settings = GmailSettings.model_validate({**VALUES, **CONSENT, **values})
    return Context(settings=settings, now=NOW, token=TOKEN)


CONTEXT = with_settings()


def recorded(name: str) -> dict:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def mail(message: Message, context: Context = CONTEXT):
    call = build([message], context)
    assert isinstance(call, Call)
    return message_from_bytes(base64.urlsafe_b64decode(json.loads(call.body)["raw"]), policy=SMTP)


def outcome(status: int, value: object = None, context: Context = CONTEXT, **headers: str) -> Outcome:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    (one,) = read_answer(Answer(status, named, json.dumps(value).encode()), [MESSAGE], context)
    return one


def google(reason: str, message: str = "m") -> dict:
    return {"error": {"code": 400, "message": message, "errors": [{"domain": "global", "reason": reason}]}}


# ---- settings ----


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"from_email": "nobody"}, "from_email"),
        ({"from_name": "a\r\nBcc: x@y.example"}, "from_name"),
        ({"reply_to": "a@b.example, c@d.example"}, "reply_to"),
        ({"mailbox": "nobody"}, "mailbox"),
        ({"headers": "no JSON"}, "headers"),
        ({"headers": '{"X-A\\r\\nBcc": "b"}'}, "headers"),
        ({"headers": '{"Bcc": "x@y.example"}'}, "headers"),
        ({"headers": '{"X-A": "b\\r\\nBcc: x@y.example"}'}, "headers"),
        ({"service_account": "{}"}, "service_account"),
        ({"service_account": KEY_FILE.replace("MII", "XXX", 1)}, "service_account"),
    ],
)
def test_wrong_settings_are_refused_by_name(values, named):
    with pytest.raises(ValidationError) as caught:
        with_settings(**values)
    assert named in {error["loc"][0] for error in caught.value.errors() if error["loc"]}
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [VALUES, {**VALUES, "client_id": "c"}, {**VALUES, **CONSENT, "service_account": KEY_FILE}],
    ids=["none", "half", "both"],
)
def test_there_is_exactly_one_way_in(values):
    with pytest.raises(ValidationError, match="set service_account, or client_id"):
        GmailSettings.model_validate(values)


def test_no_credential_is_seen_in_the_text_of_settings():
    text = repr(with_settings().settings) + repr(GmailSettings.model_validate({**VALUES, "service_account": KEY_FILE}))
    assert "the-secret" not in text
    assert "the-refresh-token" not in text
    assert "PRIVATE KEY" not in text


# ---- tokens ----


def test_a_refresh_token_is_changed_for_an_access_token():
    call = PLATFORM.token.build(CONTEXT)
    assert (call.method, call.url) == ("POST", "https://oauth2.googleapis.com/token")
    assert dict(parse_qsl(call.body.decode())) == {"grant_type": "refresh_token", **CONSENT}


def _assertion(context: Context) -> tuple[dict, dict, bytes, bytes]:
    form = dict(parse_qsl(PLATFORM.token.build(context).body.decode()))
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, claims, proof = form["assertion"].split(".")
    plain = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (head, claims, proof)]
    return json.loads(plain[0]), json.loads(plain[1]), f"{head}.{claims}".encode(), plain[2]


def test_a_service_account_signs_for_its_mailbox():
    values = {**VALUES, "service_account": KEY_FILE, "mailbox": "mail@shop.example"}
    context = Context(settings=GmailSettings.model_validate(values), now=NOW)
    header, claims, signed, proof = _assertion(context)
    account = json.loads(KEY_FILE)
    assert header == {"alg": "RS256", "typ": "JWT", "kid": account["private_key_id"]}
    assert claims == {
        "iss": account["client_email"],
        "sub": "mail@shop.example",
        "scope": " ".join(SCOPES),
        "aud": "https://oauth2.googleapis.com/token",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 3600,
    }
    public = context.settings.delegate.key().public_key()
    public.verify(proof, signed, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(proof, signed[:-1] + b"x", padding.PKCS1v15(), hashes.SHA256())


def test_a_token_is_read_and_each_refusal_is_what_it_is():
    token = PLATFORM.token.read(Answer(200, body=(FIXTURES / "token.json").read_bytes()), CONTEXT)
    assert isinstance(token, Token)
    for word, (status, value) in recorded("token_errors").items():
        found = PLATFORM.token.read(Answer(status, body=json.dumps(value).encode()), CONTEXT)
        expected = Deferred(K.TRANSIENT, f"gmail_{word}") if status == 500 else Rejected(K.AUTH, f"gmail_{word}")
        assert found == expected


# ---- requests ----


def test_a_message_is_exactly_the_mail_that_gmail_documents():
    call = build([MESSAGE], with_settings(reply_to="help@shop.example", headers='{"Organization": "Northgate"}'))
    assert isinstance(call, Call)
    assert (call.method, call.url) == ("POST", "https://gmail.googleapis.com/gmail/v1/users/me/messages/send")
    assert call.headers == {"content-type": "application/json", "authorization": "Bearer ya29.a"}
    assert list(json.loads(call.body)) == ["raw"]
    sent = mail(MESSAGE, with_settings(reply_to="help@shop.example", headers='{"Organization": "Northgate"}'))
    assert {name: str(sent[name]) for name in sent if not name.lower().startswith("content-")} == {
        "From": "Northgate <orders@shop.example>",
        "To": "buyer@example.com",
        "Reply-To": "help@shop.example",
        "Subject": "Order A-1001 has shipped",
        "Date": "Tue, 24 Nov 2026 12:00:00 +0000",
        "Message-ID": f"<{REFERENCE}@shop.example>",
        "Auto-Submitted": "auto-generated",
        "Organization": "Northgate",
        "MIME-Version": "1.0",
    }
    assert [part.get_content_type() for part in sent.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("status", list(OrderStatus))
def test_each_status_is_sent_in_its_own_words(status):
    subject, text = f"Order A-1001: {status.value}", f"Your order is {status.value}."
    sent = mail(replace(MESSAGE, status=status, subject=subject, text=text))
    assert str(sent["Subject"]) == subject
    assert sent.get_body(("plain",)).get_content() == f"{text}\r\n"


def test_a_notice_is_nothing_but_its_text():
    sent = mail(replace(MESSAGE, notice_only=True))
    assert sent.get_content_type() == "text/plain"
    assert sent.get_content() == f"{MESSAGE.text}\r\n"


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"subject": "a\r\nBcc: x@y.example"}, "gmail_subject"), ({"to": "a@b.example\nBcc: x@y.example"}, "gmail_to")],
)
def test_what_would_start_another_header_line_is_refused_before_any_call(changes, code):
    assert build([replace(MESSAGE, **changes)], CONTEXT) == Rejected(K.PERMANENT, code)


def test_another_base_url_takes_the_requests():
    call = build([MESSAGE], with_settings(base_url="http://127.0.0.1:1/gmail"))
    assert isinstance(call, Call)
    assert call.url == "http://127.0.0.1:1/gmail/gmail/v1/users/me/messages/send"


# ---- answers ----


def test_a_sent_message_is_accepted_under_its_id():
    assert outcome(200, recorded("sent")) == Accepted("18c0ffee5a4db0c5", "gmail_200")


@pytest.mark.parametrize("value", [None, [], {}, {"id": 7}, {"id": ""}])
def test_a_success_without_an_id_may_have_been_sent(value):
    assert outcome(200, value) == Deferred(K.TRANSIENT, "gmail_unreadable", ambiguous=True)


EXPECTED = {
    K.RATE: "rateLimitExceeded userRateLimitExceeded concurrentLimitExceeded",
    K.QUOTA: "dailyLimitExceeded quotaExceeded",
    K.AUTH: "authError insufficientPermissions domainPolicy",
    K.CONFIG: "failedPrecondition accessNotConfigured",
    K.PERMANENT: "invalidArgument uploadTooLarge",
    K.TRANSIENT: "backendError internalError",
}
ROWS = [(reason, kind) for kind, reasons in EXPECTED.items() for reason in reasons.split()]


def test_the_table_of_reasons_has_no_row_that_is_not_tested():
    assert dict(ROWS) == REASONS


@pytest.mark.parametrize(("reason", "kind"), ROWS)
def test_each_reason_decides_whatever_the_http_status(reason, kind):
    found = outcome(403, google(reason), retry_after="7")
    if kind in {K.RATE, K.TRANSIENT}:
        assert found == Deferred(kind, f"gmail_{reason}", retry_after_s=7.0)
    else:
        assert found == Rejected(kind, f"gmail_{reason}")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Rejected(K.PERMANENT, "gmail_400")),
        (401, Rejected(K.AUTH, "gmail_401")),
        (403, Rejected(K.AUTH, "gmail_403")),
        (404, Rejected(K.CONFIG, "gmail_404")),
        (413, Rejected(K.PERMANENT, "gmail_413")),
        (418, Rejected(K.PERMANENT, "gmail_418")),
        (429, Deferred(K.RATE, "gmail_429", retry_after_s=3.0)),
        (500, Deferred(K.TRANSIENT, "gmail_500", retry_after_s=3.0, ambiguous=True)),
        (503, Deferred(K.TRANSIENT, "gmail_503", retry_after_s=3.0, ambiguous=True)),
    ],
)
@pytest.mark.parametrize("value", [None, [], {"error": "x"}, {"error": {"errors": 7}}, google("newReason")])
def test_without_a_known_reason_the_http_status_decides(status, expected, value):
    assert outcome(status, value, retry_after="3") == expected


def test_every_row_by_status_is_tested():
    assert set(BY_HTTP_STATUS) == {400, 401, 403, 404, 413}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_recipient", Rejected(K.PERMANENT, "gmail_invalidArgument")),
        ("bad_recipient", Rejected(K.PERMANENT, "gmail_invalidArgument")),
        ("no_mailbox", Rejected(K.CONFIG, "gmail_failedPrecondition")),
        ("bad_token", Rejected(K.AUTH, "gmail_authError")),
        ("no_scope", Rejected(K.AUTH, "gmail_insufficientPermissions")),
        ("daily", Rejected(K.QUOTA, "gmail_dailyLimitExceeded")),
        ("rate", Deferred(K.RATE, "gmail_userRateLimitExceeded")),
        ("sending_limit", Deferred(K.RATE, "gmail_rateLimitExceeded", retry_after_s=10_800.0)),
        ("backend", Deferred(K.TRANSIENT, "gmail_backendError", ambiguous=True)),
    ],
)
def test_recorded_errors_are_read_as_what_they_are(name, expected):
    value = recorded("errors")[name]
    assert outcome(value["error"]["code"], value) == expected


def test_a_time_in_the_text_that_is_none_is_not_waited_for():
    value = google("rateLimitExceeded", "Retry after 2026-99-99T15:00:00.000Z (Mail sending)")
    assert outcome(429, value) == Deferred(K.RATE, "gmail_rateLimitExceeded")


def test_an_old_token_that_is_refused_is_had_anew():
    later = replace(CONTEXT, now=NOW + timedelta(minutes=30))
    assert outcome(401, google("authError"), later) == Deferred(K.TRANSIENT, "gmail_authError", retry_after_s=0.0)


# ---- lookup ----


def asked(message: Message = MESSAGE) -> Call:
    return PLATFORM.lookup.build(message, CONTEXT, NOW)


def found(answer: Answer) -> Outcome:
    return PLATFORM.lookup.read(answer, MESSAGE)


def test_a_lookup_searches_our_message_id_and_else_what_this_person_was_sent_since_just_before():
    call = asked()
    assert call.method == "GET"
    url = urlsplit(call.url)
    assert f"{url.scheme}://{url.netloc}{url.path}" == "https://gmail.googleapis.com/gmail/v1/users/me/messages"
    since = int(NOW.timestamp()) - 10
    words = f'(in:sent to:buyer@example.com subject:"Order A-1001 has shipped" after:{since})'
    assert parse_qs(url.query) == {"q": [f"{{rfc822msgid:{REFERENCE}@shop.example {words}}}"], "maxResults": ["1"]}
    assert call.secrets == (url.query,)


def test_a_notice_is_searched_by_its_id_alone():
    query = parse_qs(urlsplit(asked(replace(MESSAGE, notice_only=True)).url).query)
    assert query["q"] == [f"rfc822msgid:{REFERENCE}@shop.example"]


def test_a_subject_cannot_change_the_search():
    query = parse_qs(urlsplit(asked(replace(MESSAGE, subject='a" OR {in:inbox} (b)')).url).query)
    assert 'subject:"a OR in:inbox b"' in query["q"][0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("listed", Accepted("18c0ffee5a4db0c5", "gmail_found")), ("listed_none", Rejected(K.PERMANENT, "not_found"))],
)
def test_a_search_finds_the_message_or_surely_not(name, expected):
    assert found(Answer(200, body=(FIXTURES / f"{name}.json").read_bytes())) == expected


@pytest.mark.parametrize(
    "answer", [Answer(503), Answer(403, body=b"{}"), Answer(200, body=b"<html>"), Answer(200, body=b'{"messages":7}')]
)
def test_a_search_that_cannot_tell_says_so(answer):
    assert isinstance(found(answer), Deferred)


# ---- setting up ----


def test_a_person_is_told_exactly_what_to_allow():
    settings = GmailSettings.model_validate({**VALUES, "service_account": KEY_FILE})
    steps = provision(replace(CONTEXT, settings=settings))
    assert all(step.make is None and step.find is None for step in steps)
    assert "Client ID: 101500000000000000001" in steps[1].instruction
    assert ",".join(SCOPES) in steps[1].instruction
    consent = provision(CONTEXT)[1].instruction
    assert "orders@shop.example" in consent
    assert "the-secret" not in consent


def test_the_probe_tells_a_wrong_mailbox_from_wrong_credentials():
    read = PLATFORM.probe.read
    same = read(Answer(200, body=(FIXTURES / "profile.json").read_bytes()), CONTEXT)
    assert [finding.ok for finding in same] == [True, True]
    other = read(Answer(200, body=b'{"emailAddress":"b@shop.example"}'), CONTEXT)
    assert [finding.ok for finding in other] == [True, False]
    refused = read(Answer(403, body=json.dumps(recorded("errors")["no_scope"]).encode()), CONTEXT)
    assert [finding.ok for finding in refused] == [False]
    assert "gmail_insufficientPermissions" in refused[0].advice


# ---- the loop with the simulation ----


def sign_in(bench):
    token = PLATFORM.token.read(bench.call(PLATFORM.token.build(bench.context)), bench.context)
    if isinstance(token, Token):
        bench.context = replace(bench.context, token=token)
    return token


def by_consent(**changes: str):
    settings = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "refresh_token": REFRESH_TOKEN, **changes}
    return replace(VENDOR, settings={"from_email": MAILBOX, **settings})


def test_a_message_goes_through_the_loop(loop):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    (accepted,) = bench.send(replace(MESSAGE, text="Größe\n.\nEnde"))
    (taken,) = bench.taken
    assert accepted == Accepted(taken.provider_ref, "gmail_200")
    assert (taken.to, taken.reference) == (MESSAGE.to, REFERENCE)
    assert taken.text == "Order A-1001 has shipped\nGröße\n.\nEnde"


def test_a_refresh_token_opens_the_simulation_too(loop):
    bench = loop(PLATFORM, by_consent())
    assert isinstance(sign_in(bench), Token)
    assert isinstance(bench.send(MESSAGE)[0], Accepted)


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"client_secret": "wrong"}, "gmail_invalid_client"), ({"refresh_token": "wrong"}, "gmail_invalid_grant")],
)
def test_wrong_consent_gets_no_token(loop, changes, code):
    assert sign_in(loop(PLATFORM, by_consent(**changes))) == Rejected(K.AUTH, code)


@pytest.mark.parametrize("more", [{"mailbox": "b@northgate.example"}, {"token_url": "elsewhere"}, {"now": "late"}])
def test_a_wrong_assertion_gets_no_token(loop, more):
    bench = loop(PLATFORM, VENDOR, **{name: value for name, value in more.items() if name == "mailbox"})
    if "now" in more:
        bench.context = replace(bench.context, now=bench.context.now - timedelta(hours=2))
    call = PLATFORM.token.build(bench.context)
    if "token_url" in more:
        settings = bench.context.settings.model_copy(update={"token_url": "https://elsewhere.example/other"})
        call = replace(call, body=PLATFORM.token.build(replace(bench.context, settings=settings)).body)
    found = PLATFORM.token.read(bench.call(call), bench.context)
    assert found == Rejected(K.AUTH, "gmail_invalid_grant")


def test_a_forged_assertion_gets_no_token(loop):
    bench = loop(PLATFORM, VENDOR)
    call = PLATFORM.token.build(bench.context)
    place = len(call.body) - 20
    forged = call.body[:place] + (b"A" if call.body[place : place + 1] != b"A" else b"B") + call.body[place + 1 :]
    assert bench.call(replace(call, body=forged)).json()["error"] == "invalid_grant"


def test_without_a_token_nothing_is_taken(loop):
    bench = loop(PLATFORM, VENDOR)
    assert bench.send(MESSAGE) == [Rejected(K.AUTH, "gmail_authError")]
    assert bench.taken == []


def test_a_mailbox_at_its_limit_names_the_hour(loop):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    (deferred,) = bench.send(replace(MESSAGE, to="limit@example.com"))
    assert isinstance(deferred, Deferred)
    assert (deferred.kind, deferred.ambiguous) == (K.RATE, False)
    # The vendor names the hour by its own clock, read a moment after ours.
    assert deferred.retry_after_s == pytest.approx(3600, abs=60)


def test_a_message_whose_answer_was_lost_is_found_and_another_is_not(loop):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    bench.send(MESSAGE)
    began = bench.context.now

    def lookup(message: Message, since: datetime = began) -> Outcome:
        return found(bench.call(PLATFORM.lookup.build(message, bench.context, since)))

    expected = Accepted(bench.taken[0].provider_ref, "gmail_found")
    assert lookup(MESSAGE) == expected
    assert lookup(replace(MESSAGE, notice_only=True)) == expected
    other = replace(MESSAGE, reference="another")
    assert lookup(other) == expected  # Gmail may have replaced the id: the words are the same
    assert lookup(other, began + timedelta(hours=1)) == Rejected(K.PERMANENT, "not_found")
    assert lookup(replace(other, subject="Order A-1002")) == Rejected(K.PERMANENT, "not_found")
    assert lookup(replace(other, notice_only=True)) == Rejected(K.PERMANENT, "not_found")


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
    (one,) = read_answer(Answer(reply.status, reply.headers, reply.body), [MESSAGE], CONTEXT)
    assert one.kind is kind


def test_the_simulation_refuses_with_reasons_that_the_adapter_knows():
    assert set(ERRORS) - {"notFound"} <= set(REASONS)


@pytest.mark.parametrize(
    ("raw", "text"),
    [("*", "Invalid value for ByteString"), ("", "Recipient address required"), ("To: x\r\n\r\n", "Invalid To header")],
)
def test_the_simulation_checks_what_gmail_checks(loop, raw, text):
    bench = loop(PLATFORM, VENDOR)
    sign_in(bench)
    call = build([MESSAGE], bench.context)
    coded = raw if raw == "*" else base64.urlsafe_b64encode(raw.encode()).decode()
    answer = bench.call(replace(call, body=json.dumps({"raw": coded}).encode()))
    assert answer.json()["error"]["message"] == text
