"""Slack: exact posts and edits, every word of its tables, signed events, and the loop with its simulation."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal
from ordernotify.platforms._slack_blocks import escape
from ordernotify.platforms._slack_events import KEYWORDS, read, verify
from ordernotify.platforms.slack import (
    AMBIGUOUS,
    DEFAULT,
    ENDPOINT_WORDS,
    PLATFORM,
    WORDS,
    SlackSettings,
    build,
    provision,
    read_address,
    read_answer,
)
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.slack import HOOK, REFUSED_CHANNELS, VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "slack"
VECTOR = json.loads((FIXTURES / "signature.json").read_text())
HOOK_URL = f"https://hooks.slack.com/{HOOK}"
VALUES = {"webhook_url": HOOK_URL, "bot_token": "xoxb-1", "signing_secret": VECTOR["signing_secret"]}
CONTEXT = Context(settings=SlackSettings.model_validate(VALUES), now=NOW, webhook_url="https://n.example/hooks/slack")
CHANNEL = "C0123456789"
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.CHAT,
    to=HOOK_URL,
    status=OrderStatus.SHIPPED,
    language="en",
    subject="Order A-1001",
    text="Order A-1001 has shipped. https://portal.example.com/?a=1&b=2",
    facts=(("Carrier", "UPS"), ("Part", "A_1*2 <new>")),
)
TO_BOT = replace(MESSAGE, to=CHANNEL)
K = FailureKind


def with_settings(**values: object) -> Context:
    return replace(CONTEXT, settings=SlackSettings.model_validate({**VALUES, **values}))


def call_of(message: Message, context: Context = CONTEXT) -> Call:
    call = build([message], context)
    assert isinstance(call, Call)
    return call


def outcome(body: bytes | dict[str, Any], status: int = 200, message: Message = MESSAGE, **headers: str):
    exact = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    (one,) = read_answer(Answer(status, named, exact), [message], CONTEXT)
    return one


def inbound_of(body: bytes) -> Inbound:
    return Inbound("POST", CONTEXT.webhook_url, {}, body)


# ---- settings and addresses ----


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (f" {CHANNEL} ", CHANNEL),
        ("D0123456789", "D0123456789"),
        (HOOK_URL, HOOK_URL),
        (f"https://hooks.slack-gov.com/{HOOK}", f"https://hooks.slack-gov.com/{HOOK}"),
        (HOOK, HOOK),
        (f"/{HOOK}", HOOK),
        ("default", DEFAULT),
    ],
)
def test_each_shape_of_address_is_taken(text, address):
    assert read_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#general",
        "c0123456789",
        f"http://hooks.slack.com/{HOOK}",
        f"https://hooks.slack.com.evil.example/{HOOK}",
        f"https://evil.example/{HOOK}",
        f"https://a@hooks.slack.com/{HOOK}",
        f"{HOOK_URL}?x=1",
        f"{HOOK_URL}/../..",
        "https://hooks.slack.com/services/T1/B1",
        "https://[",
    ],
)
def test_every_other_address_is_refused_without_repeating_it(text):
    refusal = read_address(text)
    assert isinstance(refusal, Refusal)
    assert refusal.field == "address"
    assert not text or text not in refusal.message


def test_a_wrong_default_is_refused_without_its_value():
    with pytest.raises(ValidationError) as caught:
        with_settings(webhook_url="https://evil.example/services/secret")
    assert "webhook_url" in str(caught.value)
    assert "evil" not in str(caught.value)


# ---- requests ----


def test_a_post_is_exactly_the_blocks_that_slack_documents():
    call = call_of(MESSAGE)
    assert (call.method, call.url) == ("POST", HOOK_URL)
    assert call.headers == {"content-type": "application/json; charset=utf-8"}
    words = "Order A-1001 has shipped. https://portal.example.com/?a=1&amp;b=2"
    assert json.loads(call.body) == {
        "text": words,
        "blocks": [
            {
                "type": "header",
                "text": {"type": "plain_text", "text": "Order A-1001", "emoji": False},
                "block_id": MESSAGE.reference,
            },
            {"type": "section", "text": {"type": "mrkdwn", "text": words}},
            {
                "type": "section",
                "fields": [
                    {"type": "plain_text", "text": "Carrier\nUPS", "emoji": False},
                    {"type": "plain_text", "text": "Part\nA_1*2 <new>", "emoji": False},
                ],
            },
        ],
    }


def test_the_secret_of_a_webhook_is_marked_as_one():
    assert call_of(MESSAGE).secrets == ("XXXXXXXXXXXXXXXXXXXXXXXX",)
    assert "XXXX" not in repr(CONTEXT.settings)


@pytest.mark.parametrize(
    ("address", "base_url", "url"),
    [
        (HOOK_URL, "https://hooks.slack.com", HOOK_URL),
        (HOOK, "https://hooks.slack.com", HOOK_URL),
        (f"https://hooks.slack-gov.com/{HOOK}", "https://hooks.slack.com", f"https://hooks.slack-gov.com/{HOOK}"),
        (HOOK_URL, "http://127.0.0.1:1/slack", f"http://127.0.0.1:1/slack/{HOOK}"),
        (HOOK, "http://127.0.0.1:1/slack", f"http://127.0.0.1:1/slack/{HOOK}"),
        (DEFAULT, "http://127.0.0.1:1/slack", f"http://127.0.0.1:1/slack/{HOOK}"),
    ],
)
def test_a_webhook_is_called_at_slack_or_at_the_base_url(address, base_url, url):
    assert call_of(replace(MESSAGE, to=address), with_settings(base_url=base_url)).url == url


def test_a_bot_posts_to_a_channel_with_our_reference_as_metadata():
    call = call_of(TO_BOT)
    assert call.url == "https://slack.com/api/chat.postMessage"
    assert call.headers["authorization"] == "Bearer xoxb-1"
    body = json.loads(call.body)
    assert body["channel"] == CHANNEL
    assert body["unfurl_links"] is False
    assert body["metadata"]["event_payload"] == {"on_reference": MESSAGE.reference}


def test_a_bot_edits_the_message_that_this_one_replaces():
    call = call_of(replace(TO_BOT, edit_of="D0123456789:1503435956.000247"))
    assert call.url == "https://slack.com/api/chat.update"
    body = json.loads(call.body)
    assert (body["channel"], body["ts"]) == ("D0123456789", "1503435956.000247")
    assert body["blocks"]
    assert "unfurl_links" not in body


def test_a_webhook_cannot_edit_and_posts_again():
    assert call_of(replace(MESSAGE, edit_of="C1:1.2")).url == HOOK_URL


@pytest.mark.parametrize(
    ("message", "values", "refused"),
    [
        (TO_BOT, {"bot_token": None}, Rejected(K.CONFIG, "slack_no_bot_token")),
        (replace(MESSAGE, to=DEFAULT), {"webhook_url": None}, Rejected(K.CONFIG, "slack_no_webhook_url")),
        (replace(MESSAGE, to="https://evil.example/x"), {}, Rejected(K.PERMANENT, "slack_address")),
    ],
)
def test_what_the_settings_cannot_reach_is_rejected_before_any_call(message, values, refused):
    conversation = PLATFORM.send([message], with_settings(**values))
    with pytest.raises(StopIteration) as end:
        next(conversation)
    assert end.value.value == [refused]


@given(st.text(alphabet="&<>;amp ltgx\n*_~`\N{ROCKET}", max_size=120), st.integers(20, 90))
def test_an_escaped_text_holds_no_markup_and_is_never_cut_inside_an_escape(text, limit):
    escaped = escape(text, limit)
    assert len(escaped) <= limit
    assert "<" not in escaped
    assert ">" not in escaped
    back = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert text.startswith(back.removesuffix("…"))


def test_the_vendors_own_example_of_escaping_holds():
    assert escape("Tom & <Jerry>", 99) == "Tom &amp; &lt;Jerry&gt;"
    assert escape("<!channel> <@U1>", 99) == "&lt;!channel&gt; &lt;@U1&gt;"


def test_long_words_are_cut_to_what_each_block_holds():
    long = replace(MESSAGE, subject="s" * 999, text="&" * 9999, facts=(("l", "v" * 9999),) * 11)
    body = json.loads(call_of(long).body)
    header, section, first, second = body["blocks"]
    assert len(header["text"]["text"]) == 150
    assert 2990 < len(section["text"]["text"]) <= 3000
    assert 3990 < len(body["text"]) <= 4000
    assert (len(first["fields"]), len(second["fields"])) == (10, 1)
    assert len(first["fields"][0]["text"]) == 2000


# ---- answers ----


def test_a_webhook_accepts_without_an_id_and_a_bot_with_one():
    assert outcome(b"ok") == Accepted("", "slack_ok")
    posted = (FIXTURES / "posted.json").read_bytes()
    assert outcome(posted, message=TO_BOT) == Accepted("C0123456789:1503435956.000247", "slack_ok")


EXPECTED = {
    K.RATE: "ratelimited rate_limited message_limit_exceeded",
    K.TRANSIENT: "rollup_error internal_error fatal_error service_unavailable request_timeout team_added_to_org "
    "org_login_required update_failed external_channel_migrating streaming_state_conflict",
    K.AUTH: "not_authed invalid_auth account_inactive token_expired token_revoked missing_scope "
    "not_allowed_token_type no_permission access_denied accesslimited ekm_access_denied enterprise_is_restricted "
    "two_factor_setup_required team_access_not_granted app_access_restricted is_bot",
    K.CONFIG: "metadata_must_be_sent_from_app as_user_not_supported send_on_behalf_not_allowed method_deprecated "
    "deprecated_endpoint unknown_method",
    K.PERMANENT: "invalid_payload invalid_blocks invalid_blocks_format no_text user_not_found "
    "missing_text_or_fallback_or_attachments too_many_attachments msg_blocks_too_long msg_too_long "
    "message_not_found edit_window_closed cant_update_message block_mismatch",
}
ROWS = [(word, kind) for kind, words in EXPECTED.items() for word in words.split()]


def test_the_table_of_words_has_no_row_that_is_not_tested():
    assert dict(ROWS) == WORDS
    assert ENDPOINT_WORDS.isdisjoint(WORDS)


@pytest.mark.parametrize(("word", "kind"), ROWS)
def test_each_word_decides_in_the_answer_of_a_webhook_and_of_the_api(word, kind):
    for one in (outcome(word.encode(), 403), outcome({"ok": False, "error": word}, message=TO_BOT)):
        assert (one.kind, one.code) == (kind, f"slack_{word}")
        assert isinstance(one, Deferred) is (kind in {K.RATE, K.TRANSIENT})
        assert getattr(one, "ambiguous", False) is (word in AMBIGUOUS)


@pytest.mark.parametrize("word", sorted(ENDPOINT_WORDS))
def test_a_lost_channel_of_one_client_does_not_stop_the_platform_but_our_own_does(word):
    assert outcome(word.encode(), 404) == Rejected(K.PERMANENT, f"slack_{word}")
    assert outcome({"ok": False, "error": word}, message=TO_BOT) == Rejected(K.PERMANENT, f"slack_{word}")
    ours = replace(MESSAGE, to=DEFAULT)
    assert outcome(word.encode(), 404, message=ours) == Rejected(K.CONFIG, f"slack_{word}")


def test_an_edit_that_may_have_happened_may_be_sent_again():
    edit = replace(TO_BOT, edit_of="C1:1.2")
    assert outcome({"ok": False, "error": "fatal_error"}, message=edit) == Deferred(K.TRANSIENT, "slack_fatal_error")


def test_a_limit_says_how_long_to_wait():
    for body in (b"rate_limited", json.dumps({"ok": False, "error": "ratelimited"}).encode(), b""):
        one = outcome(body, 429, retry_after="30")
        assert (one.kind, one.retry_after_s) == (K.RATE, 30.0)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"ok":false,"error":"new_word"}', Rejected(K.PERMANENT, "slack_new_word")),
        (200, b"<html>hello</html>", Rejected(K.PERMANENT, "slack_200")),
        (400, b"jane@example.com is wrong", Rejected(K.PERMANENT, "slack_400")),
        (404, b"", Rejected(K.PERMANENT, "slack_404")),
        (500, b"", Deferred(K.TRANSIENT, "slack_500", ambiguous=True)),
        (503, b"<html>", Deferred(K.TRANSIENT, "slack_503", ambiguous=True)),
    ],
)
def test_an_unknown_answer_is_read_by_its_status_and_never_repeats_free_text(status, body, expected):
    assert outcome(body, status) == expected


# ---- webhook ----


def signed(changes: dict[str, str] | None = None) -> Inbound:
    headers = {
        "x-slack-signature": VECTOR["X-Slack-Signature"],
        "x-slack-request-timestamp": VECTOR["timestamp"],
        **(changes or {}),
    }
    return Inbound("POST", CONTEXT.webhook_url, headers, VECTOR["body"].encode())


AT = datetime.fromtimestamp(int(VECTOR["timestamp"]), UTC)


def test_the_vendors_own_signature_passes_and_one_changed_byte_fails():
    assert verify(signed(), CONTEXT.settings, AT) is None
    for place in range(0, len(VECTOR["body"]), 13):
        changed = bytearray(signed().body)
        changed[place] ^= 1
        assert verify(replace(signed(), body=bytes(changed)), CONTEXT.settings, AT) is not None


@pytest.mark.parametrize(
    ("changes", "late_s", "field"),
    [
        ({"x-slack-signature": ""}, 0, "X-Slack-Signature"),
        ({"x-slack-signature": "v0=\u00e9"}, 0, "X-Slack-Signature"),
        ({"x-slack-request-timestamp": ""}, 0, "X-Slack-Request-Timestamp"),
        ({"x-slack-request-timestamp": "-1"}, 0, "X-Slack-Request-Timestamp"),
        ({}, 301, "X-Slack-Request-Timestamp"),
        ({}, -301, "X-Slack-Request-Timestamp"),
    ],
)
def test_a_request_that_slack_did_not_just_sign_is_refused_by_header(changes, late_s, field):
    refusal = verify(signed(changes), CONTEXT.settings, AT + timedelta(seconds=late_s))
    assert refusal is not None
    assert (refusal.status, refusal.field) == (401, field)


def test_without_a_signing_secret_nothing_is_believed():
    refusal = verify(signed(), with_settings(signing_secret=None).settings, AT)
    assert refusal is not None
    assert "signing_secret" in refusal.message


def test_slacks_check_of_the_url_is_answered_with_its_challenge():
    body = (FIXTURES / "url_verification.json").read_bytes()
    received = read(inbound_of(body), CONTEXT.settings, NOW)
    assert isinstance(received, Received)
    assert received.reply is not None
    assert received.reply.body.decode() == json.loads(body)["challenge"]


@pytest.mark.parametrize(
    ("name", "granted"),
    [("event_stop", [False]), ("event_mention_start", [True]), ("event_talk", []), ("event_own_message", [])],
)
def test_only_a_whole_word_of_a_person_changes_the_channels_consent(name, granted):
    received = read(inbound_of((FIXTURES / f"{name}.json").read_bytes()), CONTEXT.settings, NOW)
    assert isinstance(received, Received)
    assert [change.granted for change in received.consents] == granted
    assert all((change.address, change.channel) == (CHANNEL, Channel.CHAT) for change in received.consents)


@pytest.mark.parametrize(("word", "granted"), KEYWORDS.items())
def test_each_keyword_is_understood(word, granted):
    event = {"type": "message", "channel": CHANNEL, "text": f" {word.lower()} "}
    body = json.dumps({"type": "event_callback", "event_id": "Ev1", "event": event}).encode()
    received = read(inbound_of(body), CONTEXT.settings, NOW)
    assert isinstance(received, Received)
    assert [change.granted for change in received.consents] == [granted]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"payload=%7B%7D", "type"),
        (b"[]", "type"),
        (b'{"type":1}', "type"),
        (b'{"type":"url_verification"}', "challenge"),
        (b'{"type":"event_callback","event":{"type":"message","text":"stop","channel":"C1"}}', "event_id"),
        (b'{"type":"event_callback","event_id":"E","event":{"type":"message","text":"stop"}}', "event.channel"),
    ],
)
def test_a_malformed_event_is_refused_by_field(body, field):
    refusal = read(inbound_of(body), CONTEXT.settings, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.field) == (422, field)


# ---- the loop with the simulation ----


@pytest.mark.parametrize("address", [HOOK_URL, HOOK, DEFAULT])
def test_a_webhook_message_goes_through_the_loop(loop, address):
    bench = loop(PLATFORM, VENDOR)
    assert bench.send(replace(MESSAGE, to=address)) == [Accepted("", "slack_ok")]
    (taken,) = bench.taken
    assert (taken.to, taken.reference) == (HOOK, MESSAGE.reference)
    for words in ("Order A-1001", "has shipped", "UPS", "A_1*2 <new>"):
        assert words in taken.text


def test_a_bots_message_is_posted_then_edited(loop):
    bench = loop(PLATFORM, VENDOR)
    (posted,) = bench.send(TO_BOT)
    assert posted.provider_ref == bench.taken[0].provider_ref
    edit = replace(TO_BOT, text="Order A-1001 was delivered.", edit_of=posted.provider_ref)
    assert bench.send(edit) == [posted]
    assert "delivered" in bench.taken[1].text
    lost = replace(edit, edit_of=f"{CHANNEL}:1.2")
    (anew,) = bench.send(lost)
    assert anew.provider_ref not in {"", posted.provider_ref}


def test_a_stop_in_a_channel_comes_back_signed(loop):
    bench = loop(PLATFORM, VENDOR)
    bench.send(replace(TO_BOT, to="C00000STOP"))
    (callback,) = bench.callbacks
    (change,) = bench.receive(callback).consents
    assert (change.address, change.granted) == ("C00000STOP", False)
    assert isinstance(bench.receive(replace(callback, body=callback.body + b" ")), Refusal)


@pytest.mark.parametrize(("channel", "word"), REFUSED_CHANNELS.items())
def test_each_magic_channel_is_refused_as_slack_would(loop, channel, word):
    bench = loop(PLATFORM, VENDOR)
    assert bench.send(replace(TO_BOT, to=channel)) == [Rejected(K.PERMANENT, f"slack_{word}")]
    assert bench.taken == []


def test_a_removed_webhook_is_refused_as_slack_would(loop):
    bench = loop(PLATFORM, VENDOR)
    gone = "services/T00000000/B0GONE000/XXXXXXXXXXXXXXXXXXXXXXXX"
    assert bench.send(replace(MESSAGE, to=gone)) == [Rejected(K.PERMANENT, "slack_no_service")]


def test_a_wrong_token_stops_the_platform_and_the_probe_says_what_to_do(loop):
    bench = loop(PLATFORM, VENDOR, bot_token="xoxb-wrong")
    assert bench.send(TO_BOT) == [Rejected(K.AUTH, "slack_invalid_auth")]
    (finding,) = PLATFORM.probe.read(bench.call(PLATFORM.probe.build(bench.context)), bench.context)
    assert not finding.ok
    assert "bot_token" in finding.advice


def test_the_probe_tries_the_bot_else_the_webhook_and_posts_nothing(loop):
    bench = loop(PLATFORM, VENDOR)
    values = bench.context.settings.model_copy(update={"bot_token": None})
    for context in (bench.context, replace(bench.context, settings=values)):
        (finding,) = PLATFORM.probe.read(bench.call(PLATFORM.probe.build(context)), context)
        assert finding.ok
    assert bench.taken == []


def test_provisioning_is_a_list_for_a_person_with_our_url_in_it():
    steps = provision(CONTEXT)
    assert all(step.instruction and step.make is None for step in steps)
    assert any(CONTEXT.webhook_url in step.instruction for step in steps)


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
    assert outcome(reply.body, reply.status).kind is kind
