"""SendGrid: exact mails, answers read person by person, signed events, and the loop with its simulation."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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
    Rejected,
    can_become,
)
from ordernotify.core.events import OrderStatus
from ordernotify.core.recipients import Refused, read_email
from ordernotify.platforms._base import Answer, Context, Inbound, Received, Refusal
from ordernotify.platforms._sendgrid_events import DROPPED, STATUSES, read, verify
from ordernotify.platforms.sendgrid import (
    BY_HTTP_STATUS,
    PLATFORM,
    SendGridSettings,
    build,
    group,
    provision,
    read_address,
    read_answer,
)
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.sendgrid import ENDINGS, PUBLIC_KEY, VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "sendgrid"
VECTORS = json.loads((FIXTURES / "signatures.json").read_text())
ERRORS = json.loads((FIXTURES / "errors.json").read_text())
REFERENCE = "0123456789abcdef0123456789abcdef"
TEMPLATE = "d-0123456789abcdef0123456789abcdef"
VALUES = {"api_key": "SG.key", "from_email": "orders@shop.example", "from_name": "Northgate"}
CONTEXT = Context(
    settings=SendGridSettings.model_validate(VALUES), now=NOW, webhook_url="https://n.example/hooks/sendgrid"
)
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
    facts=(("Carrier", "UPS"),),
    variables={"order_no": "A-1001"},
)
K, S = FailureKind, DeliveryStatus


def with_settings(**values: object) -> Context:
    return replace(CONTEXT, settings=SendGridSettings.model_validate({**VALUES, **values}))


def mail(*messages: Message, context: Context = CONTEXT) -> dict[str, Any]:
    return json.loads(build(messages, context).body)


def outcomes(status: int, value: object = None, count: int = 1, **headers: str):
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return read_answer(Answer(status, named, json.dumps(value).encode()), [MESSAGE] * count, CONTEXT)


def recorded(name: str) -> Inbound:
    return Inbound("POST", CONTEXT.webhook_url, {}, (FIXTURES / f"event_{name}.json").read_bytes())


# ---- settings and addresses ----


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"from_email": "börse@shop.example"}, "from_email"),
        ({"from_email": "a@b.example, c@d.example"}, "from_email"),
        ({"from_email": ""}, "from_email"),
        ({"from_name": "Northgate, Inc."}, "from_name"),
        ({"from_name": "a;b"}, "from_name"),
        ({"from_name": "a\r\nBcc: x@y.example"}, "from_name"),
        ({"reply_to": "nobody"}, "reply_to"),
        ({"template_id": "33feeff2-5069-43fe-8853-428651e5be79"}, "template_id"),
        ({"categories": ",".join("abcdefghijk")}, "categories"),
        ({"webhook_public_key": "MFkw"}, "webhook_public_key"),
    ],
)
def test_wrong_settings_are_refused_by_name(values, named):
    with pytest.raises(ValidationError) as caught:
        SendGridSettings.model_validate({**VALUES, **values})
    assert [error["loc"][0] for error in caught.value.errors()] == [named]


def test_an_address_is_an_email_address():
    assert read_address(" Buyer@Example.COM ") == "Buyer@example.com"
    refusal = read_address("somebody")
    assert isinstance(refusal, Refusal)
    assert (refusal.field, "somebody" in refusal.message) == ("address", False)


# ---- requests ----


def test_a_mail_with_our_words_is_exactly_what_sendgrid_documents():
    call = build([MESSAGE], with_settings(reply_to="help@shop.example", categories="orders, status"))
    assert (call.method, call.url) == ("POST", "https://api.sendgrid.com/v3/mail/send")
    assert call.headers == {"content-type": "application/json", "authorization": "Bearer SG.key"}
    assert json.loads(call.body) == {
        "personalizations": [{"to": [{"email": "buyer@example.com"}], "custom_args": {"on_reference": REFERENCE}}],
        "from": {"email": "orders@shop.example", "name": "Northgate"},
        "reply_to": {"email": "help@shop.example"},
        "subject": "Order A-1001 has shipped",
        "content": [
            {"type": "text/plain", "value": "Order A-1001 has shipped."},
            {"type": "text/html", "value": "<p>Order A-1001 has shipped.</p>"},
        ],
        "categories": ["orders", "status"],
        "headers": {"Auto-Submitted": "auto-generated"},
    }


def test_a_mail_by_template_carries_values_and_no_words_of_its_own():
    sent = mail(MESSAGE, context=with_settings(template_id=TEMPLATE))
    assert sent["template_id"] == TEMPLATE
    assert "content" not in sent
    assert "subject" not in sent
    assert sent["personalizations"][0]["dynamic_template_data"] == {
        "order_no": "A-1001",
        "subject": MESSAGE.subject,
        "text": MESSAGE.text,
        "html": MESSAGE.html,
        "facts": [{"label": "Carrier", "value": "UPS"}],
    }


def test_people_of_one_call_do_not_see_each_other():
    people = [replace(MESSAGE, to=f"p{n}@example.com", reference=f"{n:032x}") for n in range(1000)]
    sent = mail(*people)
    assert [one["to"] for one in sent["personalizations"]] == [[{"email": person.to}] for person in people]
    assert [one["custom_args"]["on_reference"] for one in sent["personalizations"]] == [p.reference for p in people]


def test_a_mail_without_html_has_one_part():
    assert [part["type"] for part in mail(replace(MESSAGE, html=""))["content"]] == ["text/plain"]


def test_a_subject_stays_one_line():
    assert mail(replace(MESSAGE, subject="Order\r\nBcc: x@y.example\0"))["subject"] == "Order Bcc: x@y.example"


@given(st.from_regex(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,12}@example\.com", fullmatch=True))
def test_every_address_arrives_as_it_was(address):
    assert not isinstance(read_email(address), Refused)
    assert mail(replace(MESSAGE, to=address))["personalizations"][0]["to"] == [{"email": address}]


def test_only_the_same_words_or_the_same_template_share_a_call():
    other = replace(MESSAGE, to="other@example.com", text="Other words.")
    ours, dynamic = CONTEXT.settings, with_settings(template_id=TEMPLATE).settings
    assert group(MESSAGE, ours) == group(replace(MESSAGE, to="other@example.com"), ours)
    assert group(MESSAGE, ours) != group(other, ours)
    assert group(MESSAGE, dynamic) == group(other, dynamic) == TEMPLATE


# ---- answers ----


@pytest.mark.parametrize("status", [200, 202])
def test_an_accepted_call_gives_everybody_its_message_id(status):
    accepted = Accepted("mid", f"sendgrid_{status}")
    assert list(outcomes(status, count=3, x_message_id="mid")) == [accepted] * 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, K.PERMANENT),
        (401, K.AUTH),
        (403, K.AUTH),
        (404, K.CONFIG),
        (405, K.CONFIG),
        (413, K.PERMANENT),
        (415, K.CONFIG),
        (418, K.PERMANENT),
    ],
)
def test_each_refusal_is_read_by_its_status(status, kind):
    assert BY_HTTP_STATUS.get(status, K.PERMANENT) is kind
    assert list(outcomes(status, count=2)) == [Rejected(kind, f"sendgrid_{status}")] * 2


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_server_may_have_taken_the_mail(status):
    assert list(outcomes(status)) == [Deferred(K.TRANSIENT, f"sendgrid_{status}", ambiguous=True)]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x_ratelimit_reset": str(int(NOW.timestamp()) + 9)}, 9.0),
        ({"x_ratelimit_reset": "1"}, 0.0),
        ({"x_ratelimit_reset": "soon"}, None),
        ({"retry_after": "4"}, 4.0),
        ({}, None),
    ],
)
def test_a_limit_says_how_long_to_wait(headers, wait_s):
    assert list(outcomes(429, **headers)) == [Deferred(K.RATE, "sendgrid_429", retry_after_s=wait_s)]


def test_used_up_credits_are_no_wrong_key():
    assert list(outcomes(401, ERRORS["no_credits"])) == [Rejected(K.QUOTA, "sendgrid_no_credits")]
    assert list(outcomes(401, ERRORS["bad_key"])) == [Rejected(K.AUTH, "sendgrid_401")]


def test_one_bad_address_does_not_reject_the_others_of_its_call():
    spared = Deferred(K.TRANSIENT, "sendgrid_spared", retry_after_s=0.0)
    refused = Rejected(K.PERMANENT, "sendgrid_400")
    assert list(outcomes(400, ERRORS["bad_recipient"], count=3)) == [spared, refused, spared]


def test_a_fault_of_the_whole_call_rejects_all_of_it():
    refused = Rejected(K.PERMANENT, "sendgrid_400")
    assert list(outcomes(400, ERRORS["bad_sender"], count=2)) == [refused] * 2
    # A place that no message has blames nobody: sparing everybody would repeat the call for ever.
    assert list(outcomes(400, ERRORS["bad_recipient"], count=1)) == [refused]


@pytest.mark.parametrize("value", [None, [], "x", {"errors": None}, {"errors": ["x"]}, {"errors": [{"field": 1}]}])
def test_an_answer_of_any_shape_is_read(value):
    assert list(outcomes(400, value)) == [Rejected(K.PERMANENT, "sendgrid_400")]


# ---- webhook ----


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["origin"])
def test_genuine_signatures_pass_and_one_changed_byte_fails(vector):
    settings = with_settings(webhook_public_key=vector["public_key"]).settings
    headers = {
        "x-twilio-email-event-webhook-signature": vector["signature"],
        "x-twilio-email-event-webhook-timestamp": vector["timestamp"],
    }
    inbound = Inbound("POST", "https://n.example/h", headers, vector["body"].encode())
    at = datetime.fromtimestamp(int(vector["timestamp"]), UTC)
    assert verify(inbound, settings, at) is None
    assert verify(inbound, settings, at + timedelta(hours=47)) is None
    for place in range(0, len(inbound.body), 11):
        changed = bytearray(inbound.body)
        changed[place] ^= 1
        assert verify(replace(inbound, body=bytes(changed)), settings, at) is not None
    assert verify(replace(inbound, body=inbound.body.rstrip()), settings, at) is not None
    late = verify(inbound, settings, at + timedelta(hours=49))
    assert late is not None
    assert (late.status, late.field) == (401, "X-Twilio-Email-Event-Webhook-Timestamp")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"[]"),
        ({"signature": "not base64!"}, b"[]"),
        ({"signature": "AAAA"}, b"[]"),
        ({"signature": "AAAA"}, b"\xff"),
    ],
)
def test_a_request_without_a_usable_signature_is_refused(headers, body):
    prefix = "x-twilio-email-event-webhook-"
    sent = {f"{prefix}timestamp": str(int(NOW.timestamp())), **{f"{prefix}{k}": v for k, v in headers.items()}}
    settings = with_settings(webhook_public_key=PUBLIC_KEY).settings
    refusal = verify(Inbound("POST", "https://n.example/h", sent, body), settings, NOW)
    assert refusal is not None
    assert (refusal.status, refusal.field) == (401, "X-Twilio-Email-Event-Webhook-Signature")


def test_without_a_public_key_nothing_is_believed():
    refusal = verify(recorded("delivered"), CONTEXT.settings, NOW)
    assert refusal is not None
    assert "webhook_public_key" in refusal.message


@pytest.mark.parametrize(
    ("name", "status", "code", "opt_out"),
    [
        ("processed", S.SENT, "processed", False),
        ("deferred", S.SENT, "deferred", False),
        ("delivered", S.DELIVERED, "delivered", False),
        ("bounce", S.BOUNCED, "bounce", False),
        ("blocked", S.BOUNCED, "blocked", False),
        ("dropped_unsubscribed", S.REJECTED, "dropped_unsubscribed", True),
        ("dropped_spam_reporter", S.REJECTED, "dropped_spam_reporter", True),
        ("dropped_bounced", S.REJECTED, "dropped_bounced_address", False),
        ("dropped_invalid", S.REJECTED, "dropped_invalid", False),
        ("open", None, "open", False),
        ("click", None, "click", False),
        ("spamreport", S.COMPLAINED, "spamreport", True),
    ],
)
def test_each_event_becomes_one_receipt(name, status, code, opt_out):
    received = read(recorded(name), CONTEXT.settings, NOW)
    assert isinstance(received, Received)
    (receipt,) = received.receipts
    assert (receipt.status, receipt.code, receipt.opt_out) == (status, f"sendgrid_{code}", opt_out)
    assert (receipt.reference, receipt.provider_ref) == (REFERENCE, "LRzXl0NHStOGhQ4kofSmAA")
    assert receipt.occurred_at == datetime.fromtimestamp(1764000000, UTC)
    assert receipt.dedupe_key.startswith("ev-")


@pytest.mark.parametrize(("reason", "word"), DROPPED.items())
def test_each_reason_of_a_drop_has_its_code_and_free_text_has_none(reason, word):
    event = {**json.loads(recorded("dropped_invalid").body)[0], "reason": reason}
    for text, code in ((reason, f"sendgrid_dropped_{word}"), ("jane@example.com", "sendgrid_dropped_unlisted")):
        body = json.dumps([{**event, "reason": text}]).encode()
        received = read(replace(recorded("dropped_invalid"), body=body), CONTEXT.settings, NOW)
        assert isinstance(received, Received)
        assert received.receipts[0].code == code


@pytest.mark.parametrize(
    ("name", "granted"), [("unsubscribe", False), ("group_unsubscribe", False), ("group_resubscribe", True)]
)
def test_each_change_of_consent_names_the_address(name, granted):
    received = read(recorded(name), CONTEXT.settings, NOW)
    assert isinstance(received, Received)
    (change,) = received.consents
    assert (change.address, change.granted, change.channel) == ("buyer@example.com", granted, Channel.EMAIL)


def test_events_of_the_account_and_unknown_ones_are_passed_over():
    assert read(recorded("account_status_change"), CONTEXT.settings, NOW) == Received()
    assert read(replace(recorded("open"), body=b'[{"event":"new_kind"}]'), CONTEXT.settings, NOW) == Received()


def test_receipts_lead_to_the_same_status_in_any_order():
    for order in itertools.permutations(("processed", "deferred", "delivered", "spamreport")):
        status = S.SENT
        for word in order:
            then = STATUSES[word]
            status = then if then and can_become(status, then) else status
        assert status is S.COMPLAINED


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"{}", "body"),
        (b"[1]", "[0].event"),
        (b'[{"event":1}]', "[0].event"),
        (b'[{"event":"delivered"}]', "[0].sg_event_id"),
        (
            b'[{"event":"open","sg_event_id":"e","timestamp":1},{"event":"open","sg_event_id":""}]',
            "[1].sg_event_id",
        ),
        (b'[{"event":"delivered","sg_event_id":"e"}]', "[0].timestamp"),
        (b'[{"event":"delivered","sg_event_id":"e","timestamp":1e99}]', "[0].timestamp"),
        (b'[{"event":"delivered","sg_event_id":"e","timestamp":99999999999999}]', "[0].timestamp"),
    ],
)
def test_a_malformed_list_is_refused_by_field(body, field):
    refusal = read(replace(recorded("open"), body=body), CONTEXT.settings, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.field) == (422, field)


# ---- the loop with the simulation ----


@pytest.mark.parametrize("template", ["", TEMPLATE])
def test_mails_go_through_the_loop_and_their_events_come_back(loop, template):
    bench = loop(PLATFORM, VENDOR, template_id=template)
    people = [replace(MESSAGE, to=f"p{n}@example.com", reference=f"{n:032x}") for n in range(3)]
    accepted = bench.send(*people)
    assert accepted == [Accepted(bench.taken[0].provider_ref, "sendgrid_202")] * 3
    assert [(taken.to, taken.reference) for taken in bench.taken] == [(one.to, one.reference) for one in people]
    assert all(MESSAGE.text in taken.text for taken in bench.taken)
    (callback,) = bench.callbacks
    receipts = bench.receive(callback).receipts
    assert {(receipt.reference, receipt.status) for receipt in receipts} == {
        (one.reference, status) for one in people for status in (S.SENT, S.DELIVERED)
    }
    assert {receipt.provider_ref for receipt in receipts} == {bench.taken[0].provider_ref}
    assert isinstance(bench.receive(replace(callback, body=callback.body[:-1])), Refusal)


@pytest.mark.parametrize(
    ("local", "status"),
    [("bounce", S.BOUNCED), ("blocked", S.BOUNCED), ("unsubscribed", S.REJECTED), ("spam", S.COMPLAINED)],
)
def test_each_magic_address_ends_as_it_says(loop, local, status):
    assert local in ENDINGS
    bench = loop(PLATFORM, VENDOR)
    bench.send(replace(MESSAGE, to=f"{local}@example.com"))
    assert bench.receive(bench.callbacks[0]).receipts[-1].status is status


def test_the_simulation_refuses_a_call_for_one_bad_address_and_takes_none(loop):
    bench = loop(PLATFORM, VENDOR)
    sent = bench.send(MESSAGE, replace(MESSAGE, to="nobody"))
    assert [type(one) for one in sent] == [Deferred, Rejected]
    assert bench.taken == []


@pytest.mark.parametrize(
    "message", [replace(MESSAGE, subject=""), replace(MESSAGE, text="", html="")], ids=["no subject", "no words"]
)
def test_the_simulation_refuses_a_mail_without_words(loop, message):
    assert loop(PLATFORM, VENDOR).send(message) == [Rejected(K.PERMANENT, "sendgrid_400")]


def test_a_wrong_key_stops_the_platform_and_the_probe_says_what_to_do(loop):
    bench = loop(PLATFORM, VENDOR, api_key="wrong")
    assert bench.send(MESSAGE) == [Rejected(K.AUTH, "sendgrid_401")]
    findings = PLATFORM.probe.read(bench.call(PLATFORM.probe.build(bench.context)), bench.context)
    assert [finding.ok for finding in findings] == [False, False, True]
    assert re.search("api_key", findings[0].advice)
    good = loop(PLATFORM, VENDOR)
    assert all(one.ok for one in PLATFORM.probe.read(good.call(PLATFORM.probe.build(good.context)), good.context))


def test_provisioning_makes_template_version_and_signed_webhook_once(loop):
    bench = loop(PLATFORM, VENDOR)
    made = []
    for step in provision(bench.context):
        assert not step.exists(bench.call(step.find)), step.title
        made.append(bench.call(step.make).json())
        assert step.exists(bench.call(step.find)), step.title
    assert made[-1]["public_key"] == PUBLIC_KEY
    again = replace(bench.context, settings=bench.context.settings.model_copy(update={"template_id": made[0]["id"]}))
    version = provision(again)[1]
    assert not version.exists(bench.call(version.find))
    assert bench.call(version.make).status == 201
    assert version.exists(bench.call(version.find))


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
