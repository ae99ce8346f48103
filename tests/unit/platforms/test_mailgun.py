"""Mailgun: exact mails, refused batches cut until the bad address stands alone, signed events, and the loop."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

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
from ordernotify.platforms._base import Answer, Context, Inbound, Received, Refusal
from ordernotify.platforms._mailgun_events import REASONS, STATUSES, read, verify
from ordernotify.platforms._mailgun_setup import WEBHOOKS, MailgunSettings
from ordernotify.platforms.mailgun import BY_HTTP_STATUS, PLATFORM, TEXTS, build, converse, group
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.mailgun import ENDINGS, VENDOR, signed

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SIGNED_AT = datetime.fromtimestamp(1_764_000_000, UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "mailgun"
VALUES = {"domain": "mg.shop.example", "api_key": "key-1", "from_email": "orders@mg.shop.example"}
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
K, S = FailureKind, DeliveryStatus


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


VECTOR = recorded("signature")


def with_settings(**values: object) -> Context:
    settings = {**VALUES, "webhook_signing_key": VECTOR["key"], **values}
    return Context(
        settings=MailgunSettings.model_validate(settings), now=NOW, webhook_url="https://n.example/hooks/mailgun"
    )


CONTEXT = with_settings()


def form(*messages: Message, context: Context = CONTEXT) -> dict[str, list[str]]:
    return parse_qs(build(messages, context).body.decode(), keep_blank_values=True)


def to(name: str, reference: str = "") -> Message:
    return replace(MESSAGE, to=f"{name}@example.com", reference=reference or f"r-{name}")


def talk(messages: list[Message], answers, context: Context = CONTEXT) -> tuple[list[list[str]], list[Outcome]]:
    """Hold a conversation; ``answers`` maps the people of a call to its answer."""
    calls: list[list[str]] = []
    conversation = converse(messages, context)
    try:
        call = next(conversation)
        while True:
            people = parse_qs(call.body.decode())["to"]
            calls.append(people)
            call = conversation.send(answers(people))
    except StopIteration as end:
        return calls, list(end.value)


def outcome(status: int, value: object = None, **headers: str) -> Outcome:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    _, (one,) = talk([MESSAGE], lambda _: Answer(status, named, body))
    return one


def event(name: str) -> Inbound:
    return Inbound("POST", CONTEXT.webhook_url, {}, (FIXTURES / f"event_{name}.json").read_bytes())


def changed(name: str, **data: object) -> Inbound:
    body = json.loads(event(name).body)
    body["event-data"] |= data
    return replace(event(name), body=json.dumps(body).encode())


# ---- settings ----


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"domain": "a/b"}, "domain"),
        ({"from_email": "nobody"}, "from_email"),
        ({"from_name": "a\r\nBcc: x@y.example"}, "from_name"),
        ({"reply_to": "a@b.example, c@d.example"}, "reply_to"),
        ({"tags": "a,b,c,d"}, "tags"),
        ({"tags": "größe"}, "tags"),
        ({"tags": "x" * 129}, "tags"),
    ],
)
def test_wrong_settings_are_refused_by_name(values, named):
    with pytest.raises(ValidationError) as caught:
        with_settings(**values)
    assert [error["loc"][0] for error in caught.value.errors()] == [named]
    assert "key-1" not in str(caught.value)


# ---- requests ----


def test_a_mail_is_exactly_the_form_that_mailgun_documents():
    context = with_settings(
        from_name="Jörg, Northgate", reply_to="help@shop.example", tags="orders, status", test_mode=True
    )
    call = build([MESSAGE], context)
    assert (call.method, call.url) == ("POST", "https://api.mailgun.net/v3/mg.shop.example/messages")
    assert call.headers == {
        "content-type": "application/x-www-form-urlencoded",
        "authorization": "Basic YXBpOmtleS0x",
    }
    assert form(MESSAGE, context=context) == {
        "from": ['"Jörg, Northgate" <orders@mg.shop.example>'],
        "to": ["buyer@example.com"],
        "subject": ["Order A-1001 has shipped"],
        "text": ["Order A-1001 has shipped."],
        "html": ["<p>Order A-1001 has shipped.</p>"],
        "recipient-variables": [f'{{"buyer@example.com":{{"reference":"{REFERENCE}"}}}}'],
        "v:reference": ["%recipient.reference%"],
        "h:Auto-Submitted": ["auto-generated"],
        "h:Reply-To": ["help@shop.example"],
        "o:tag": ["orders", "status"],
        "o:tracking": ["no"],
        "o:require-tls": ["yes"],
        "o:testmode": ["yes"],
    }


@pytest.mark.parametrize("status", list(OrderStatus))
def test_each_status_is_sent_in_its_own_words(status):
    subject, text = f"Order A-1001: {status.value}", f"Your order is {status.value}."
    sent = form(replace(MESSAGE, status=status, subject=subject, text=text))
    assert (sent["subject"], sent["text"]) == ([subject], [text])


def test_many_share_a_call_and_nobody_sees_anothers_reference():
    sent = form(to("a"), to("b"))
    assert sent["to"] == ["a@example.com", "b@example.com"]
    assert json.loads(sent["recipient-variables"][0]) == {
        "a@example.com": {"reference": "r-a"},
        "b@example.com": {"reference": "r-b"},
    }


def test_a_notice_is_nothing_but_its_text():
    sent = form(replace(MESSAGE, notice_only=True))
    assert "html" not in sent
    assert sent["text"] == [MESSAGE.text]


def test_the_eu_has_its_own_root():
    call = build([MESSAGE], with_settings(base_url="https://api.eu.mailgun.net"))
    assert call.url.startswith("https://api.eu.mailgun.net/v3/")


def test_only_the_very_same_words_share_a_call():
    settings = CONTEXT.settings
    same = group(MESSAGE, settings)
    assert group(to("b"), settings) == same
    for changes in ({"subject": "x"}, {"text": "x"}, {"html": "x"}, {"notice_only": True}):
        assert group(replace(MESSAGE, **changes), settings) != same


@pytest.mark.parametrize(
    "words", ["%recipient.reference%", "%RECIPIENT%", "%unsubscribe_url%", "%tag_unsubscribe_url%", "%recipient_fname%"]
)
def test_words_of_ours_are_never_taken_for_mailguns_placeholders(words):
    sent = form(replace(MESSAGE, subject=words, text=words, html=f"<p>{words}</p>"))
    assert sent["subject"] == sent["text"] == [f"%\u2060{words[1:]}"]
    assert sent["html"] == [f"<p>&#37;{words[1:]}</p>"]


@pytest.mark.parametrize("words", ["100% sure, 5% off", "https://n.example/%C3%A9t%C3%A9", "%recipient"])
def test_other_percent_signs_stay_as_they_are(words):
    sent = form(replace(MESSAGE, subject=words, text=words, html=words))
    assert sent["subject"] == sent["text"] == sent["html"] == [words]


def test_a_line_break_in_a_subject_is_refused_before_any_call():
    bad = replace(MESSAGE, subject="a\r\nBcc: x@y.example")
    assert talk([bad, bad], None) == ([], [Rejected(K.PERMANENT, "mailgun_subject")] * 2)


# ---- answers ----


def test_a_queued_mail_is_accepted_under_its_id_without_brackets():
    assert outcome(200, recorded("sent")) == Accepted("20251124160000.a1b2c3d4e5f60718@mg.shop.example", "mailgun_200")


@pytest.mark.parametrize("value", [None, [], {}, {"id": 7}, {"id": ""}, b"<html>"])
def test_a_success_without_an_id_may_have_been_sent(value):
    assert outcome(200, value) == Deferred(K.TRANSIENT, "mailgun_unreadable", ambiguous=True)


def test_a_greeting_instead_of_an_answer_means_a_wrong_url():
    assert outcome(200, b"Mailgun Magnificent API") == Rejected(K.CONFIG, "mailgun_wrong_url")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bad_recipient", Rejected(K.PERMANENT, "mailgun_400")),
        ("bad_sender", Rejected(K.CONFIG, "mailgun_from")),
        ("not_allowed", Rejected(K.CONFIG, "mailgun_domain_not_allowed")),
        ("test_domain", Rejected(K.CONFIG, "mailgun_domain_not_allowed")),
        ("free_account", Rejected(K.CONFIG, "mailgun_test_domain")),
        ("forbidden", Rejected(K.AUTH, "mailgun_401")),
        ("payment", Rejected(K.QUOTA, "mailgun_402")),
        ("not_on_list", Rejected(K.AUTH, "mailgun_403")),
        ("domain_not_found", Rejected(K.CONFIG, "mailgun_domain_not_found")),
        ("too_large", Rejected(K.PERMANENT, "mailgun_413")),
        ("limit_seconds", Deferred(K.RATE, "mailgun_limit_exceeded", retry_after_s=37.0)),
        ("limit_date", Deferred(K.RATE, "mailgun_limit_exceeded", retry_after_s=3600.0)),
        ("server", Deferred(K.TRANSIENT, "mailgun_500", ambiguous=True)),
    ],
)
def test_recorded_errors_are_read_as_what_they_are(name, expected):
    status, value = recorded("errors")[name]
    assert outcome(status, value) == expected


@pytest.mark.parametrize(("part", "kind", "word"), TEXTS)
def test_each_text_decides_whatever_the_http_status(part, kind, word):
    found = outcome(400, {"message": f"Oh: {part.upper()}!"})
    assert found == (Deferred(kind, f"mailgun_{word}") if kind is K.RATE else Rejected(kind, f"mailgun_{word}"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Rejected(K.PERMANENT, "mailgun_400")),
        (401, Rejected(K.AUTH, "mailgun_401")),
        (402, Rejected(K.QUOTA, "mailgun_402")),
        (403, Rejected(K.AUTH, "mailgun_403")),
        (404, Rejected(K.CONFIG, "mailgun_404")),
        (405, Rejected(K.CONFIG, "mailgun_405")),
        (413, Rejected(K.PERMANENT, "mailgun_413")),
        (418, Rejected(K.PERMANENT, "mailgun_418")),
        (429, Deferred(K.RATE, "mailgun_429", retry_after_s=3.0)),
        (500, Deferred(K.TRANSIENT, "mailgun_500", retry_after_s=3.0, ambiguous=True)),
        (503, Deferred(K.TRANSIENT, "mailgun_503", retry_after_s=3.0, ambiguous=True)),
    ],
)
@pytest.mark.parametrize("value", [None, "Forbidden", b"Forbidden", {"message": None}, {"message": "new"}])
def test_without_a_known_text_the_http_status_decides(status, expected, value):
    assert outcome(status, value, retry_after="3") == expected


def test_every_row_by_status_is_tested():
    assert set(BY_HTTP_STATUS) == {400, 401, 402, 403, 404, 405, 413}


@pytest.mark.parametrize("text", ["try again after", "try again after (soon)", "try again after a while, please"])
def test_a_delay_that_cannot_be_read_is_left_open(text):
    assert outcome(429, {"message": f"limit exceeded, {text}"}) == Deferred(K.RATE, "mailgun_limit_exceeded")


# ---- batches ----

OK = Answer(200, body=b'{"id":"<1@mg.shop.example>","message":"Queued. Thank you."}')
BAD = Answer(400, body=b'{"message":"\'to\' parameter is not a valid address. please check documentation"}')


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=4))
def test_every_bad_address_is_found_and_everybody_else_is_sent_to_once(count, bad):
    messages = [to(f"p{number}") for number in range(count)]
    wrong = {f"p{number}@example.com" for number in bad}
    sent: list[str] = []

    def answers(people: list[str]) -> Answer:
        if wrong.intersection(people):
            return BAD
        sent.extend(people)
        return OK

    _, outcomes = talk(messages, answers)
    assert sorted(sent) == sorted({message.to for message in messages} - wrong)
    for message, one in zip(messages, outcomes, strict=True):
        expected = (
            Rejected(K.PERMANENT, "mailgun_400")
            if message.to in wrong
            else Accepted("1@mg.shop.example", "mailgun_200")
        )
        assert one == expected


def test_a_conversation_ends_after_64_calls_and_what_is_left_was_surely_not_sent():
    messages = [to(f"p{number}") for number in range(1000)]
    calls, outcomes = talk(messages, lambda _: BAD)
    assert len(calls) == 64
    assert set(outcomes) == {
        Rejected(K.PERMANENT, "mailgun_400"),
        Deferred(K.TRANSIENT, "mailgun_spared", retry_after_s=0.0),
    }


def test_two_messages_to_one_address_go_in_two_calls_for_it_has_one_set_of_variables():
    messages = [to("a", "r1"), to("b", "r2"), to("a", "r3"), replace(to("a", "r4"), to="A@example.com")]
    calls, outcomes = talk(messages, lambda _: OK)
    assert calls == [["a@example.com", "b@example.com"], ["a@example.com"], ["A@example.com"]]
    assert len(outcomes) == 4


@pytest.mark.parametrize(
    ("answer", "first", "rest"),
    [
        (
            Answer(503),
            Deferred(K.TRANSIENT, "mailgun_503", ambiguous=True),
            Deferred(K.TRANSIENT, "mailgun_503", ambiguous=False),
        ),
        (
            Answer(429, {"retry-after": "9"}),
            Deferred(K.RATE, "mailgun_429", retry_after_s=9.0),
            Deferred(K.RATE, "mailgun_429", retry_after_s=9.0),
        ),
        (Answer(401), Rejected(K.AUTH, "mailgun_401"), Rejected(K.AUTH, "mailgun_401")),
    ],
)
def test_what_would_fare_no_better_is_not_sent_at_all(answer, first, rest):
    calls, outcomes = talk([to("a", "r1"), to("a", "r2")], lambda _: answer)
    assert len(calls) == 1
    assert outcomes == [first, rest]


def test_a_batch_that_is_too_fast_is_not_cut():
    calls, outcomes = talk([to("a"), to("b")], lambda _: Answer(400, body=b'{"message":"limit exceeded"}'))
    assert len(calls) == 1
    assert outcomes == [Deferred(K.RATE, "mailgun_limit_exceeded")] * 2


# ---- lookup ----


def found(answer: Answer, message: Message = MESSAGE) -> Outcome:
    return PLATFORM.lookup.read(answer, message)


def test_a_lookup_asks_for_the_events_of_the_address_since_just_before_the_attempt():
    call = PLATFORM.lookup.build(MESSAGE, CONTEXT, NOW)
    url = urlsplit(call.url)
    assert (call.method, url.path) == ("GET", "/v3/mg.shop.example/events")
    assert parse_qs(url.query) == {
        "begin": [str(int(NOW.timestamp()) - 60)],
        "ascending": ["yes"],
        "limit": ["300"],
        "recipient": ["buyer@example.com"],
    }
    assert call.secrets == (url.query,)
    assert PLATFORM.lookup.settles_after_s > 0


def test_a_message_among_the_events_was_accepted_and_another_was_not():
    answer = Answer(200, body=(FIXTURES / "listed.json").read_bytes())
    assert found(answer) == Accepted("20251124160000.a1b2c3d4e5f60718@mg.shop.example", "mailgun_found")
    assert found(answer, to("b")) == Rejected(K.PERMANENT, "not_found")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503),
        Answer(401, body=b"Forbidden"),
        Answer(200, body=b"[]"),
        Answer(200, body=json.dumps({"items": [7] * 300}).encode()),
    ],
)
def test_a_lookup_that_cannot_tell_says_so(answer):
    assert isinstance(found(answer), Deferred)


# ---- webhook ----


def test_the_official_vector_passes_and_one_changed_character_fails():
    def body(**changes: str) -> bytes:
        proof = {name: VECTOR[name] for name in ("timestamp", "token", "signature")}
        return json.dumps({"signature": {**proof, **changes}}).encode()

    inbound = Inbound("POST", "https://n.example/h", {}, body())
    assert verify(inbound, CONTEXT.settings, SIGNED_AT) is None
    for name in ("timestamp", "token", "signature"):
        for place in range(0, len(VECTOR[name]), 7):
            text = VECTOR[name]
            flipped = text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :]
            refusal = verify(replace(inbound, body=body(**{name: flipped})), CONTEXT.settings, SIGNED_AT)
            assert refusal is not None
            assert refusal.status == 401
    other = with_settings(webhook_signing_key="another")
    assert verify(inbound, other.settings, SIGNED_AT) is not None
    both = with_settings(webhook_signing_key=f"another, {VECTOR['key']}")
    assert verify(inbound, both.settings, SIGNED_AT) is None


@pytest.mark.parametrize("age", [timedelta(hours=13), timedelta(hours=-13)])
def test_an_old_signature_is_refused(age):
    refusal = verify(event("delivered"), CONTEXT.settings, SIGNED_AT + age)
    assert refusal is not None
    assert refusal.field == "signature.timestamp"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"\xff", "body"),
        (b"[]", "body"),
        (b"{}", "signature"),
        (b'{"signature":null}', "signature"),
        (b'{"signature":{"timestamp":"1","token":"t"}}', "signature.signature"),
        (b'{"signature":{"timestamp":1764000000,"token":"t","signature":"s"}}', "signature.timestamp"),
        ('{"signature":{"timestamp":"\u0661","token":"t","signature":"s"}}'.encode(), "signature.timestamp"),
        ('{"signature":{"timestamp":"1764000000","token":"t","signature":"\u00e4"}}'.encode(), "signature.signature"),
    ],
)
def test_a_request_without_a_usable_signature_is_refused_by_field(body, field):
    refusal = verify(Inbound("POST", "https://n.example/h", {}, body), CONTEXT.settings, SIGNED_AT)
    assert refusal is not None
    assert (refusal.status, refusal.field) == (401, field)


def test_without_a_key_nothing_can_be_believed():
    context = with_settings(webhook_signing_key=None)
    refusal = verify(event("delivered"), context.settings, SIGNED_AT)
    assert refusal is not None
    assert "webhook_signing_key" in refusal.message


@pytest.mark.parametrize(
    ("name", "status", "code", "opt_out"),
    [
        ("accepted", S.SENT, "mailgun_accepted", False),
        ("rejected", S.REJECTED, "mailgun_rejected", False),
        ("delivered", S.DELIVERED, "mailgun_delivered", False),
        ("failed_temporary", S.SENT, "mailgun_failed_temporary", False),
        ("failed_permanent", S.BOUNCED, "mailgun_bounce", False),
        ("failed_delayed_bounce", S.BOUNCED, "mailgun_generic", False),
        ("failed_espblock", S.BOUNCED, "mailgun_espblock", False),
        ("failed_old", S.BOUNCED, "mailgun_old", False),
        ("failed_suppress_bounce", S.REJECTED, "mailgun_suppress-bounce", False),
        ("failed_suppress_unsubscribe", S.REJECTED, "mailgun_suppress-unsubscribe", True),
        ("failed_suppress_complaint", S.REJECTED, "mailgun_suppress-complaint", True),
        ("complained", S.COMPLAINED, "mailgun_complained", True),
        ("unsubscribed", None, "mailgun_unsubscribed", True),
        ("opened", None, "mailgun_opened", False),
        ("clicked", None, "mailgun_clicked", False),
        ("stored", None, "mailgun_stored", False),
    ],
)
def test_each_event_is_genuine_and_becomes_one_receipt(name, status, code, opt_out):
    inbound = event(name)
    assert verify(inbound, CONTEXT.settings, SIGNED_AT) is None
    received = read(inbound, CONTEXT.settings, SIGNED_AT)
    assert isinstance(received, Received)
    (receipt,) = received.receipts
    assert (receipt.status, receipt.code, receipt.opt_out) == (status, code, opt_out)
    assert (receipt.reference, receipt.provider_ref) == (REFERENCE, "")
    assert receipt.occurred_at == SIGNED_AT + timedelta(milliseconds=125)
    assert [change.granted for change in received.consents] == ([False] if name == "unsubscribed" else [])


def test_the_fixtures_cover_every_row_of_the_tables():
    codes = set()
    for path in FIXTURES.glob("event_*.json"):
        received = read(event(path.stem.removeprefix("event_")), CONTEXT.settings, NOW)
        codes |= {receipt.code.removeprefix("mailgun_") for receipt in received.receipts}
    assert codes == (set(STATUSES) | set(REASONS)) - {"failed_permanent"}


def test_one_signature_carries_one_event_however_the_rest_of_the_body_is_changed():
    genuine = read(event("delivered"), CONTEXT.settings, NOW)
    replayed = read(changed("delivered", event="complained", id="another"), CONTEXT.settings, NOW)
    assert genuine.receipts[0].dedupe_key == replayed.receipts[0].dedupe_key
    assert genuine.receipts[0].dedupe_key == json.loads(event("delivered").body)["signature"]["token"]


def test_somebody_who_unsubscribes_is_known_by_the_address():
    received = read(event("unsubscribed"), CONTEXT.settings, NOW)
    (change,) = received.consents
    assert (change.channel, change.address, change.code) == (Channel.EMAIL, "buyer@example.com", "mailgun_unsubscribed")


def test_receipts_lead_to_the_same_status_in_any_order():
    names = ("accepted", "failed_temporary", "delivered", "opened", "complained")
    receipts = [read(event(name), CONTEXT.settings, NOW).receipts[0] for name in names]
    for order in itertools.permutations(receipts[:4]):
        status = S.SENT
        for receipt in (*order, receipts[4]):
            if receipt.status is not None and can_become(status, receipt.status):
                status = receipt.status
        assert status is S.COMPLAINED


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        ({"event": "list_member_uploaded"}, None, "mailgun_unlisted"),
        ({"event": "failed", "severity": None}, None, "mailgun_unlisted"),
        ({"event": "failed", "severity": "permanent", "reason": "new\nreason"}, S.BOUNCED, "mailgun_failed_permanent"),
    ],
)
def test_unknown_words_are_counted_and_never_repeated(data, status, code):
    received = read(changed("delivered", **data), CONTEXT.settings, NOW)
    assert [(receipt.status, receipt.code) for receipt in received.receipts] == [(status, code)]


@pytest.mark.parametrize(
    "variables", [None, [], "x", {}, {"reference": 7}, {"reference": "a b"}, {"reference": "x" * 65}]
)
def test_an_event_of_somebody_elses_mail_has_no_reference(variables):
    received = read(changed("delivered", **{"user-variables": variables}), CONTEXT.settings, NOW)
    assert received.receipts[0].reference == ""


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"event": None}, None),
        ({"event": 7}, "event-data.event"),
        ({"timestamp": "now"}, "event-data.timestamp"),
        ({"timestamp": -1}, "event-data.timestamp"),
        ({"timestamp": 1e300}, "event-data.timestamp"),
        ({"timestamp": True}, "event-data.timestamp"),
        ({"reason": {}}, "event-data.reason"),
        ({"event": "unsubscribed", "recipient": "nobody"}, "event-data.recipient"),
    ],
)
def test_a_hostile_event_is_refused_by_field_or_counted(data, field):
    found = read(changed("delivered", **data), CONTEXT.settings, NOW)
    if field is None:
        assert found.receipts[0].code == "mailgun_unlisted"
    else:
        assert isinstance(found, Refusal)
        assert (found.status, found.field) == (422, field)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda s: (
            st.lists(s)
            | st.dictionaries(
                st.sampled_from(["signature", "event-data", "event", "timestamp", "token", "user-variables"]), s
            )
        ),
        max_leaves=8,
    )
)
def test_no_json_makes_the_reader_raise(value):
    inbound = Inbound("POST", "https://n.example/h", {}, json.dumps(value).encode())
    assert isinstance(verify(inbound, CONTEXT.settings, NOW), Refusal)
    assert isinstance(read(inbound, CONTEXT.settings, NOW), Refusal | Received)


# ---- the loop with the simulation ----

WORD_ENDINGS = {
    "buyer": [S.DELIVERED],
    "bounce": [S.BOUNCED],
    "blocked": [S.SENT, S.DELIVERED],
    "unsubscribed": [S.REJECTED],
    "leaves": [S.DELIVERED, None],
    "spam": [S.DELIVERED, S.COMPLAINED],
}


def test_many_go_through_the_loop_and_their_receipts_come_back(loop):
    bench = loop(PLATFORM, VENDOR)
    messages = [to(name) for name in WORD_ENDINGS]
    outcomes = bench.send(*messages)
    (number,) = {taken.provider_ref for taken in bench.taken}
    assert outcomes == [Accepted(number, "mailgun_200")] * len(messages)
    assert {taken.to: taken.reference for taken in bench.taken} == {one.to: one.reference for one in messages}
    assert {taken.text for taken in bench.taken} == {f"{MESSAGE.subject}\n{MESSAGE.text}"}
    statuses: dict[str, list[DeliveryStatus | None]] = {}
    for callback in bench.callbacks:
        (receipt,) = bench.receive(callback).receipts
        statuses.setdefault(receipt.reference, []).append(receipt.status)
    assert statuses == {f"r-{name}": expected for name, expected in WORD_ENDINGS.items()}
    assert set(ENDINGS) < set(WORD_ENDINGS)
    assert bench.receive(bench.callbacks[0]) == bench.receive(bench.callbacks[0])


def test_a_forged_callback_is_refused_and_each_has_a_token_of_its_own(loop):
    bench = loop(PLATFORM, VENDOR)
    bench.send(MESSAGE, to("b"))
    body = json.loads(bench.callbacks[0].body)
    body["signature"]["token"] = body["signature"]["token"][::-1]
    assert isinstance(bench.receive(replace(bench.callbacks[0], body=json.dumps(body).encode())), Refusal)
    assert len({bench.receive(callback).receipts[0].dedupe_key for callback in bench.callbacks}) == 2


def test_one_bad_address_does_not_keep_the_others(loop):
    bench = loop(PLATFORM, VENDOR)
    outcomes = bench.send(to("a"), to("b"), to("invalid"), to("c"))
    assert [isinstance(one, Accepted) for one in outcomes] == [True, True, False, True]
    assert sorted(taken.reference for taken in bench.taken) == ["r-a", "r-b", "r-c"]


def test_words_that_look_like_placeholders_arrive_as_words(loop):
    bench = loop(PLATFORM, VENDOR)
    bench.send(replace(MESSAGE, text="%recipient.reference%"))
    assert bench.taken[0].text.endswith("\n%\u2060recipient.reference%")


def test_a_message_whose_answer_was_lost_is_found_and_another_is_not(loop):
    bench = loop(PLATFORM, VENDOR)
    bench.send(MESSAGE, to("b"))
    answer = bench.call(PLATFORM.lookup.build(MESSAGE, bench.context, bench.context.now))
    assert found(answer) == Accepted(bench.taken[0].provider_ref, "mailgun_found")
    assert found(answer, replace(MESSAGE, reference="other")) == Rejected(K.PERMANENT, "not_found")
    later = bench.call(PLATFORM.lookup.build(MESSAGE, bench.context, bench.context.now + timedelta(hours=1)))
    assert found(later) == Rejected(K.PERMANENT, "not_found")


def test_wrong_credentials_and_a_wrong_domain_stop_the_platform(loop):
    bench = loop(PLATFORM, VENDOR, api_key="wrong")
    assert bench.send(MESSAGE) == [Rejected(K.AUTH, "mailgun_401")]
    findings = PLATFORM.probe.read(bench.call(PLATFORM.probe.build(bench.context)), bench.context)
    assert [finding.ok for finding in findings] == [False, True]
    elsewhere = loop(PLATFORM, VENDOR, domain="mg.elsewhere.example")
    assert elsewhere.send(MESSAGE) == [Rejected(K.CONFIG, "mailgun_domain_not_found")]


def test_the_probe_passes_at_the_simulation_and_names_a_disabled_domain(loop):
    bench = loop(PLATFORM, VENDOR)
    findings = PLATFORM.probe.read(bench.call(PLATFORM.probe.build(bench.context)), bench.context)
    assert [finding.ok for finding in findings] == [True, True, True]
    disabled = Answer(200, body=b'{"domain":{"state":"active","is_disabled":true}}')
    assert [finding.ok for finding in PLATFORM.probe.read(disabled, bench.context)] == [True, False, True]


def test_provisioning_is_done_once_and_events_go_where_it_says(loop):
    bench = loop(PLATFORM, VENDOR)
    bench.context = replace(bench.context, webhook_url="http://127.0.0.1:8420/hooks/elsewhere")
    (step,) = PLATFORM.provision(bench.context)
    assert not step.exists(bench.call(step.find))
    assert bench.call(step.make).status == 200
    assert step.exists(bench.call(step.find))
    assert bench.call(step.make).json() == bench.call(step.find).json()
    bench.send(MESSAGE)
    assert {callback.url for callback in bench.callbacks} == {bench.context.webhook_url}
    assert set(bench.shelf.kind("hooks")) == set(WEBHOOKS)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"webhooks":7}', b'{"webhooks":{"delivered":{"urls":7}}}'])
def test_a_list_of_webhooks_that_cannot_be_read_has_not_ours(body):
    (step,) = PLATFORM.provision(CONTEXT)
    assert not step.exists(Answer(200, body=body))


def test_a_person_is_told_where_the_signing_key_is():
    steps = PLATFORM.provision(with_settings(webhook_signing_key=None))
    assert "webhook_signing_key" in steps[0].instruction
    (_, later) = PLATFORM.provision(replace(CONTEXT, webhook_url=""))
    assert "ORDERNOTIFY_PUBLIC_URL" in later.instruction


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
    assert outcome(reply.status, reply.body).kind is kind


@pytest.mark.parametrize(
    ("name", "value"),
    [("from", []), ("to", []), ("subject", []), ("text", []), ("recipient-variables", ["{"]), ("o:tag", ["a"] * 4)],
)
def test_the_simulation_checks_what_mailgun_checks(loop, name, value):
    bench = loop(PLATFORM, VENDOR)
    call = build([replace(MESSAGE, html="")], bench.context)
    fields = {**parse_qs(call.body.decode()), name: value}
    assert bench.call(replace(call, body=urlencode(fields, doseq=True).encode())).status == 400


def test_the_simulation_takes_at_most_1000_people(loop):
    bench = loop(PLATFORM, VENDOR)
    call = build([to(f"p{number}") for number in range(1001)], bench.context)
    assert bench.call(call).status == 400
    assert signed({"event": "delivered"}, "http://127.0.0.1/").body != signed({"event": "delivered"}, "").body
