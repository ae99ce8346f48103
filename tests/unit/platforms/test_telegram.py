"""Telegram: exact requests, escaping and its limit, every sentence of refusal, updates, and the simulation."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Reply
from ordernotify.platforms.telegram import (
    BY_STATUS,
    PLATFORM,
    SENTENCES,
    UPDATES,
    TelegramSettings,
    build,
    converse,
    provision,
    read_address,
    read_answer,
    words,
)
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.telegram import VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "telegram"
ERRORS = json.loads((FIXTURES / "errors.json").read_text())
TOKEN = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"
VALUES = {"bot_token": TOKEN, "webhook_secret": "S3cret_Token-01"}
SETTINGS = TelegramSettings.model_validate(VALUES)
CONTEXT = Context(settings=SETTINGS, now=NOW, webhook_url="https://notify.example.com/webhooks/telegram")
REFERENCE = "0123456789abcdef0123456789abcdef"
MESSAGE = Message(
    delivery_id="d",
    reference=REFERENCE,
    channel=Channel.CHAT,
    to="123456789",
    status=OrderStatus.SHIPPED,
    language="en",
    text="Order A&B <7> has shipped.\nhttps://portal.example.com/?a=1&b=2",
    subject="Order A&B <7> has shipped",
)
NOTICE = replace(MESSAGE, notice_only=True, text="An update is available.", subject="Order A&B <7> has shipped")
EDIT = replace(MESSAGE, edit_of="123456789:42")
K = FailureKind
SEND, CHANGE = (
    f"https://api.telegram.org/bot{TOKEN}/sendMessage",
    f"https://api.telegram.org/bot{TOKEN}/editMessageText",
)
assert PLATFORM.webhook is not None
VERIFY, READ = PLATFORM.webhook.verify, PLATFORM.webhook.read


def error(name: str, status: int | None = None) -> Answer:
    return Answer(status or ERRORS[name]["error_code"], body=json.dumps(ERRORS[name]).encode())


def refusal(code: int, description: str) -> Answer:
    return Answer(code, body=json.dumps({"ok": False, "error_code": code, "description": description}).encode())


def outcome(answer: Answer, message: Message = MESSAGE) -> Outcome:
    (one,) = read_answer(answer, [message], CONTEXT)
    return one


def sent(chat: int = 123456789, number: int = 42) -> Answer:
    result = {"message_id": number, "chat": {"id": chat, "type": "private"}, "date": 1764000000}
    return Answer(200, body=json.dumps({"ok": True, "result": result}).encode())


def talk(message: Message, *answers: Answer) -> tuple[list[Call], Sequence[Outcome]]:
    """Hold a conversation with these answers; return its calls and what it made of them."""
    conversation = converse([message], CONTEXT)
    calls = [next(conversation)]
    for answer in answers[:-1]:
        calls.append(conversation.send(answer))  # noqa: PERF401 - each call needs the answer before
    with pytest.raises(StopIteration) as end:
        conversation.send(answers[-1])
    return calls, end.value.value


def hook(body: bytes, **headers: str) -> Inbound:
    return Inbound("POST", CONTEXT.webhook_url, headers, body)


def received(name: str) -> Received:
    found = READ(hook((FIXTURES / f"{name}.json").read_bytes()), SETTINGS, NOW)
    assert isinstance(found, Received), found
    assert found.reply == Reply()
    return found


# ---- settings and addresses ----


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"bot_token": "secret-token"}, "bot_token"),
        ({"bot_token": f"{TOKEN}/../x"}, "bot_token"),
        ({"webhook_secret": "has spaces"}, "webhook_secret"),
        ({"webhook_secret": "x" * 257}, "webhook_secret"),
    ],
)
def test_wrong_settings_are_refused_by_name_without_their_values(values, named):
    with pytest.raises(ValidationError) as caught:
        TelegramSettings.model_validate({**VALUES, **values})
    assert named in str(caught.value)
    assert "secret-token" not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("address", ["123456789", "-1001234567890", "@northgate_news", " 42 "])
def test_an_address_is_a_chat_or_a_channel(address):
    assert read_address(address) == address.strip()


@pytest.mark.parametrize("address", ["", "0", "ana", "@x", "+12025550123", "9" * 16, "1/2", "@a b", "-", "١٢٣"])
def test_anything_else_is_no_address(address):
    found = read_address(address)
    assert isinstance(found, Refusal)
    assert found.field == "address"
    assert "123456789" in found.message


# ---- requests ----


def test_a_message_is_exactly_what_telegram_documents():
    call = build([MESSAGE], CONTEXT)
    assert (call.method, call.url, call.secrets) == ("POST", SEND, (TOKEN,))
    assert call.headers == {"content-type": "application/json"}
    assert json.loads(call.body) == {
        "chat_id": 123456789,
        "text": "<b>Order A&amp;B &lt;7&gt; has shipped</b>\n\n"
        "Order A&amp;B &lt;7&gt; has shipped.\nhttps://portal.example.com/?a=1&amp;b=2",
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }


@pytest.mark.parametrize("status", [status for status in OrderStatus if status is not OrderStatus.UNKNOWN])
def test_each_status_is_sent_in_its_own_words(status):
    body = json.loads(build([replace(MESSAGE, status=status, text=f"Now {status.value}.")], CONTEXT).body)
    assert body["text"].endswith(f"Now {status.value}.")


@pytest.mark.parametrize(("to", "chat"), [("-1001234567890", -1001234567890), ("@northgate_news", "@northgate_news")])
def test_groups_and_channels_are_addressed_as_telegram_asks(to, chat):
    assert json.loads(build([replace(MESSAGE, to=to)], CONTEXT).body)["chat_id"] == chat


def test_a_notice_is_sent_with_nothing_but_its_text():
    assert json.loads(build([NOTICE], CONTEXT).body)["text"] == "An update is available."
    assert b"shipped" not in build([NOTICE], CONTEXT).body


def test_a_message_that_replaces_another_edits_it():
    call = build([replace(EDIT, to="-1001234567890", edit_of="-1001234567890:42")], CONTEXT)
    assert call.url == CHANGE
    body = json.loads(call.body)
    assert (body["chat_id"], body["message_id"], body["parse_mode"]) == (-1001234567890, 42, "HTML")


@pytest.mark.parametrize("edit_of", ["42", "wamid.1", "123:", ":42", "1:x"])
def test_what_names_no_message_of_telegram_is_sent_anew(edit_of):
    assert build([replace(MESSAGE, edit_of=edit_of)], CONTEXT).url == SEND


def test_the_published_example_is_escaped_as_telegram_asks():
    text = "Tom & <Jerry> *50%* off_now! (#1) - v1.0 [ok] `c` a\\b"
    escaped = words(replace(MESSAGE, subject="", text=text))
    assert escaped == "Tom &amp; &lt;Jerry&gt; *50%* off_now! (#1) - v1.0 [ok] `c` a\\b"


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"</?b>", "", markup))


WHOLE = st.text(max_size=300).filter(lambda text: not re.search("[\ud800-\udfff]", text))


@given(WHOLE, WHOLE, st.integers(1, 60))
def test_what_is_read_is_what_was_said_and_never_too_long(subject, text, times):
    message = replace(MESSAGE, subject=subject, text=text * times)
    markup = words(message)
    read = plain(markup)
    assert len(read.encode("utf-16-le")) <= 2 * 4096
    assert len(markup.encode()) <= 32768
    assert not re.search(r"<(?!/?b>)", markup)
    title = " ".join(subject.split())
    whole = (f"{title}\n\n" if title else "") + message.text
    assert read == whole or whole.startswith(read.removesuffix("…"))


def test_a_text_of_nothing_but_ampersands_stays_within_the_bytes_that_telegram_reads():
    assert len(words(replace(MESSAGE, subject="&" * 5000, text="&" * 9000)).encode()) <= 32768


# ---- conversations ----


def test_a_group_that_moved_is_written_to_once_more_at_its_new_id():
    group = replace(MESSAGE, to="-1777")
    calls, found = talk(group, error("migrated"), sent(-1001234567890))
    assert [json.loads(call.body)["chat_id"] for call in calls] == [-1777, -1001234567890]
    assert found == [Accepted("-1001234567890:42", "telegram_ok")]


def test_a_group_that_moves_again_is_given_up():
    calls, found = talk(replace(MESSAGE, to="-1777"), error("migrated"), error("migrated"))
    assert len(calls) == 2
    assert found == [Rejected(K.PERMANENT, "telegram_400_migrated")]


def test_an_edit_in_a_group_that_moved_is_sent_anew():
    calls, found = talk(replace(EDIT, to="-1777", edit_of="-1777:42"), error("migrated"), sent(-1001234567890, 1))
    assert [call.url for call in calls] == [CHANGE, SEND]
    assert found == [Accepted("-1001234567890:1", "telegram_ok")]


def test_an_edit_of_a_message_that_is_gone_is_sent_anew():
    calls, found = talk(EDIT, error("edit_not_found"), sent(number=43))
    assert [call.url for call in calls] == [CHANGE, SEND]
    assert found == [Accepted("123456789:43", "telegram_ok")]


def test_an_edit_that_changes_nothing_is_done():
    calls, found = talk(EDIT, error("not_modified"))
    assert [call.url for call in calls] == [CHANGE]
    assert found == [Accepted("123456789:42", "telegram_not_modified")]


def test_an_unanswered_edit_may_be_repeated_and_an_unanswered_message_may_not():
    assert talk(EDIT, Answer(500))[1] == [Deferred(K.TRANSIENT, "telegram_500")]
    anew = talk(EDIT, error("edit_not_found"), Answer(500))[1]
    assert anew == [Deferred(K.TRANSIENT, "telegram_500", ambiguous=True)]


@pytest.mark.parametrize("answer", [sent(), error("blocked"), error("rate"), Answer(502), Answer(200)])
def test_nothing_else_makes_a_second_call(answer):
    assert len(talk(MESSAGE, answer)[0]) == 1


# ---- answers ----


def test_a_taken_message_is_accepted_under_its_chat_and_number():
    assert outcome(Answer(200, body=(FIXTURES / "sent.json").read_bytes())) == Accepted("123456789:42", "telegram_ok")


def test_a_message_that_telegram_sends_later_has_no_number():
    assert outcome(sent(number=0)) == Accepted("", "telegram_ok")


@pytest.mark.parametrize("body", [b'{"ok":true}', b'{"ok":true,"result":[]}', b'{"ok":true,"result":{"chat":1}}'])
def test_a_success_that_cannot_be_read_may_have_been_sent(body):
    assert outcome(Answer(200, body=body)) == Deferred(K.TRANSIENT, "telegram_unreadable", ambiguous=True)


ROWS = [
    (403, "Forbidden: bot was blocked by the user", K.OPT_OUT, "blocked"),
    (403, "Forbidden: bot was kicked from the supergroup chat", K.OPT_OUT, "kicked"),
    (403, "Forbidden: user is deactivated", K.PERMANENT, "deactivated"),
    (403, "Forbidden: bot is not a member of the channel chat", K.PERMANENT, "not_a_member"),
    (403, "Forbidden: the group chat was deleted", K.PERMANENT, "chat_deleted"),
    (403, "Forbidden: bot can't initiate conversation with a user", K.PERMANENT, "not_started"),
    (400, "Bad Request: chat not found", K.PERMANENT, "chat_not_found"),
    (400, "Bad Request: chat_id is empty", K.PERMANENT, "chat_id_empty"),
    (400, "Bad Request: group chat was upgraded to a supergroup chat", K.PERMANENT, "migrated"),
    (400, "Bad Request: can't parse entities: unsupported start tag", K.PERMANENT, "entities"),
    (400, "Bad Request: message is too long", K.PERMANENT, "too_long"),
    (400, "Bad Request: Text is too long", K.PERMANENT, "too_long"),
    (400, "Bad Request: message text is empty", K.PERMANENT, "empty"),
    (400, "Bad Request: message to edit not found", K.PERMANENT, "edit_not_found"),
    (400, "Bad Request: message can't be edited", K.PERMANENT, "edit_refused"),
    (400, "Bad Request: message thread not found", K.PERMANENT, "thread_not_found"),
]


def test_the_table_of_sentences_has_no_row_that_is_not_tested():
    assert [(code, kind, word) for code, _, kind, word in SENTENCES] == [
        (code, kind, word) for code, _, kind, word in ROWS
    ]


@pytest.mark.parametrize(("code", "description", "kind", "word"), ROWS)
def test_each_sentence_decides(code, description, kind, word):
    assert outcome(refusal(code, description)) == Rejected(kind, f"telegram_{code}_{word}")
    assert outcome(refusal(code, description.upper())) == Rejected(kind, f"telegram_{code}_{word}")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, Rejected(kind, f"telegram_{status}")) for status, kind in BY_STATUS.items()),
        (418, Rejected(K.PERMANENT, "telegram_418")),
        (429, Deferred(K.RATE, "telegram_429", retry_after_s=3.0)),
        (500, Deferred(K.TRANSIENT, "telegram_500", retry_after_s=3.0, ambiguous=True)),
        (502, Deferred(K.TRANSIENT, "telegram_502", retry_after_s=3.0, ambiguous=True)),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b'{"ok":false,"description":7}'])
def test_without_a_sentence_the_status_decides(status, expected, body):
    assert outcome(Answer(status, {"retry-after": "3"}, body)) == expected


def test_the_table_of_statuses_says_who_must_act():
    assert BY_STATUS == {
        400: K.PERMANENT,
        401: K.AUTH,
        403: K.PERMANENT,
        404: K.AUTH,
        409: K.CONFIG,
        421: K.CONFIG,
    }


def test_the_wait_that_telegram_names_in_the_body_goes_first():
    assert outcome(error("rate")) == Deferred(K.RATE, "telegram_429", retry_after_s=5.0)
    with_header = replace(error("rate"), headers={"retry-after": "60"})
    assert outcome(with_header) == Deferred(K.RATE, "telegram_429", retry_after_s=5.0)


def test_the_sentence_of_an_edit_means_nothing_for_a_new_message():
    assert outcome(error("not_modified")) == Rejected(K.PERMANENT, "telegram_400")


# ---- webhook ----


def test_the_secret_passes_and_one_changed_character_fails():
    header = "x-telegram-bot-api-secret-token"
    assert VERIFY(hook(b"{}", **{header: "S3cret_Token-01"}), SETTINGS, NOW) is None
    for wrong in ("", "S3cret_Token-02", "s3cret_Token-01", "S3cret_Token-0", "\u00ff", "S3cret_Token-01,x"):
        found = VERIFY(hook(b"{}", **{header: wrong}), SETTINGS, NOW)
        assert found is not None
        assert (found.status, found.field) == (401, "X-Telegram-Bot-Api-Secret-Token")


def test_both_secrets_hold_while_one_is_replaced_and_none_is_none():
    both = TelegramSettings.model_validate({**VALUES, "webhook_secret": "new_one,S3cret_Token-01"})
    for secret in ("new_one", "S3cret_Token-01"):
        assert VERIFY(hook(b"{}", **{"x-telegram-bot-api-secret-token": secret}), both, NOW) is None
    without = TelegramSettings.model_validate({"bot_token": TOKEN})
    found = VERIFY(hook(b"{}", **{"x-telegram-bot-api-secret-token": ""}), without, NOW)
    assert found is not None
    assert "webhook_secret" in found.message


@pytest.mark.parametrize(
    ("name", "address", "granted", "code", "links"),
    [
        ("start_code", "123456789", True, "telegram_start", (("c0de_42-x", "123456789"),)),
        ("start", "123456789", True, "telegram_start", ()),
        ("start_in_group", "-1001234567890", True, "telegram_start", (("c0de_42-x", "-1001234567890"),)),
        ("stop", "123456789", False, "telegram_stop", ()),
        ("stop_word", "123456789", False, "telegram_stop", ()),
        ("blocked", "123456789", False, "telegram_blocked", ()),
        ("left_group", "-1001234567890", False, "telegram_blocked", ()),
    ],
)
def test_each_update_says_who_wants_what(name, address, granted, code, links):
    found = received(name)
    (change,) = found.consents
    assert (change.channel, change.address, change.granted, change.code) == (Channel.CHAT, address, granted, code)
    assert change.dedupe_key == str(json.loads((FIXTURES / f"{name}.json").read_text())["update_id"])
    assert found.links == links


@pytest.mark.parametrize("name", ["talk", "photo", "unblocked", "edited"])
def test_anything_else_changes_nothing(name):
    assert received(name) == Received(reply=Reply())


@pytest.mark.parametrize("text", ["/start <b>", "/start a b", f"/start {'x' * 65}", "/startx", "start now", "/start é"])
def test_a_code_that_is_none_of_ours_ties_nobody(text):
    body = json.dumps({"update_id": 1, "message": {"chat": {"id": 1}, "text": text}}).encode()
    assert READ(hook(body), SETTINGS, NOW) == Received(reply=Reply())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{}", "update_id"),
        (b'{"update_id":"1"}', "update_id"),
        (b'{"update_id":1,"message":{"text":"/stop"}}', "message.chat"),
        (b'{"update_id":1,"message":{"chat":{"id":"1"},"text":"/stop"}}', "message.chat.id"),
        (b'{"update_id":1,"my_chat_member":{"chat":{"id":1}}}', "my_chat_member.new_chat_member"),
    ],
)
def test_a_malformed_update_is_refused_by_the_name_of_its_field(body, field):
    found = READ(hook(body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(st.sampled_from(["update_id", "message", "chat", "id", "text", "my_chat_member"]), part)
    ),
    max_leaves=10,
)


@given(JSON)
def test_hostile_json_never_raises(value):
    for body in (value, {"update_id": 1, "message": value, "my_chat_member": value}):
        assert isinstance(READ(hook(json.dumps(body).encode()), SETTINGS, NOW), Received | Refusal)


# ---- the loop with the simulation ----


def test_a_message_arrives_as_it_was_meant(loop):
    one = loop(PLATFORM, VENDOR)
    (found,) = one.send(MESSAGE)
    assert isinstance(found, Accepted)
    (taken,) = one.taken
    assert (taken.to, taken.provider_ref) == ("123456789", found.provider_ref)
    assert taken.text == f"{MESSAGE.subject}\n\n{MESSAGE.text}"


def test_what_was_sent_is_edited_and_the_same_edit_again_is_harmless(loop):
    one = loop(PLATFORM, VENDOR)
    (first,) = one.send(MESSAGE)
    assert isinstance(first, Accepted)
    edit = replace(MESSAGE, text="It was delivered.", edit_of=first.provider_ref)
    assert one.send(edit) == [Accepted(first.provider_ref, "telegram_ok")]
    assert one.send(edit) == [Accepted(first.provider_ref, "telegram_not_modified")]
    assert [taken.provider_ref for taken in one.taken] == [first.provider_ref] * 2


def test_an_edit_of_nothing_is_sent_anew(loop):
    one = loop(PLATFORM, VENDOR)
    (found,) = one.send(replace(MESSAGE, edit_of="123456789:999"))
    assert isinstance(found, Accepted)
    assert found.provider_ref != "123456789:999"
    assert len(one.taken) == 1


def test_a_group_that_moved_gets_the_message_once(loop):
    one = loop(PLATFORM, VENDOR)
    (found,) = one.send(replace(MESSAGE, to="-1777"))
    assert isinstance(found, Accepted)
    assert [taken.to for taken in one.taken] == ["-1001777"]


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("100403", Rejected(K.OPT_OUT, "telegram_403_blocked")),
        ("100404", Rejected(K.PERMANENT, "telegram_400_chat_not_found")),
        ("100410", Rejected(K.PERMANENT, "telegram_403_deactivated")),
    ],
)
def test_people_who_cannot_be_reached_take_nothing(loop, to, expected):
    one = loop(PLATFORM, VENDOR)
    assert one.send(replace(MESSAGE, to=to)) == [expected]
    assert one.taken == []


@pytest.mark.parametrize("to", ["100199", "100198"])
def test_who_stops_or_blocks_the_bot_is_heard(loop, to):
    one = loop(PLATFORM, VENDOR)
    one.send(replace(MESSAGE, to=to))
    (change,) = one.receive(one.callbacks[-1]).consents
    assert (change.address, change.granted) == (to, False)


def test_the_simulation_refuses_what_telegram_refuses(loop):
    assert loop(PLATFORM, VENDOR, bot_token=TOKEN).send(MESSAGE) == [Rejected(K.AUTH, "telegram_401")]
    empty = replace(MESSAGE, subject="", text="")
    assert loop(PLATFORM, VENDOR).send(empty) == [Rejected(K.PERMANENT, "telegram_400_empty")]


def test_setting_up_twice_changes_nothing_the_second_time(loop):
    one = loop(PLATFORM, VENDOR)
    for already in (False, True):
        (step,) = (step for step in provision(one.context) if step.make is not None)
        assert step.find is not None
        assert step.exists is not None
        assert step.exists(one.call(step.find)) is already
        if not already:
            one.call(step.make)


def test_the_webhook_is_asked_for_with_our_secret_and_only_what_we_read():
    (step,) = (step for step in provision(CONTEXT) if step.make is not None)
    assert step.make is not None
    assert step.make.url == f"https://api.telegram.org/bot{TOKEN}/setWebhook"
    assert json.loads(step.make.body) == {
        "url": CONTEXT.webhook_url,
        "secret_token": "S3cret_Token-01",
        "allowed_updates": list(UPDATES),
    }


def test_without_a_secret_no_webhook_is_made():
    steps = provision(replace(CONTEXT, settings=TelegramSettings.model_validate({"bot_token": TOKEN})))
    assert all(step.make is None for step in steps)
    assert "webhook_secret" in steps[0].instruction
    assert "https://t.me/<bot>?start=<code>" in steps[-1].instruction


def test_the_doctor_names_what_is_wrong(loop):
    assert PLATFORM.probe is not None
    good = loop(PLATFORM, VENDOR)
    findings = PLATFORM.probe.read(good.call(PLATFORM.probe.build(good.context)), good.context)
    assert all(finding.ok and not finding.advice for finding in findings)
    bad = loop(PLATFORM, VENDOR, bot_token=TOKEN, webhook_secret="")
    findings = PLATFORM.probe.read(bad.call(PLATFORM.probe.build(bad.context)), bad.context)
    assert not any(finding.ok for finding in findings)
    assert not any(TOKEN in finding.advice for finding in findings)


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
    found = outcome(Answer(reply.status, dict(reply.headers), reply.body))
    assert not isinstance(found, Accepted)
    assert found.kind is kind
