"""Microsoft Teams: exact cards within the budget, every row of its tables, and the loop with its simulation."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Refusal
from ordernotify.platforms.teams import (
    BUDGET,
    BY_HTTP_STATUS,
    DEFAULT,
    PLATFORM,
    WORDS,
    TeamsSettings,
    build,
    card_body,
    provision,
    read_address,
    read_answer,
)
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.teams import VENDOR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "teams"
ERRORS = json.loads((FIXTURES / "errors.json").read_text())
URL = PLATFORM.example
CONTEXT = Context(settings=TeamsSettings(), now=NOW)
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.CHAT,
    to=URL,
    status=OrderStatus.SHIPPED,
    language="en",
    subject="Order A-1001",
    text="Order A-1001 has shipped.\n\nSee https://portal.example.com/o/1.",
    facts=(("Part", "A_1*2 [new](x)"),),
)
K = FailureKind


def call_of(message: Message, context: Context = CONTEXT) -> Call:
    call = build([message], context)
    assert isinstance(call, Call)
    return call


def outcome(status: int, body: object = None, message: Message = MESSAGE, **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    (one,) = read_answer(Answer(status, named, json.dumps(body).encode()), [message], CONTEXT)
    return one


# ---- settings and addresses ----


@pytest.mark.parametrize(
    "address",
    [
        URL,
        DEFAULT,
        "https://a.01.environment.api.powerplatform.com:443/powerautomate/automations/direct/cu/1/x?v=1&sig=a%2Bb",
        "https://prod-01.westus.logic.azure.com:443/workflows/1/triggers/manual/paths/invoke?sig=x",
        "https://a.01.environment.api.high.powerplatform.microsoft.us/x?sig=x",
    ],
)
def test_a_workflows_url_is_kept_exactly(address):
    assert read_address(f" {address}\n") == address


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("https://contoso.webhook.office.com/webhookb2/1/IncomingWebhook/2/3", "retired"),
        ("https://outlook.office.com/webhook/1/IncomingWebhook/2/3", "retired"),
        ("https://api.powerplatform.com.evil.example/x?sig=x", "Workflows URL"),
        ("https://evilapi.powerplatform.com.example/x?sig=x", "Workflows URL"),
        ("http://a.01.environment.api.powerplatform.com/x?sig=x", "Workflows URL"),
        ("https://u:p@a.01.environment.api.powerplatform.com/x?sig=x", "Workflows URL"),
        ("https://127.0.0.1/x?sig=x#.api.powerplatform.com", "Workflows URL"),
        ("https://a.01.environment.api.powerplatform.com/x", "sig="),
        ("https://a.01.environment.api.powerplatform.com/x?sig=", "sig="),
        ("https://a.api.powerplatform.com:port/x?sig=x", "Workflows URL"),
        ("https://[", "Workflows URL"),
        ("", "Workflows URL"),
    ],
)
def test_every_other_address_is_refused_with_what_to_do(text, advice):
    refusal = read_address(text)
    assert isinstance(refusal, Refusal)
    assert refusal.field == "address"
    assert advice in refusal.message


def test_a_wrong_default_is_refused_without_its_value():
    for value in ("https://evil.example/?sig=secret", DEFAULT):
        with pytest.raises(ValidationError) as caught:
            TeamsSettings.model_validate({"webhook_url": value})
        assert "webhook_url" in str(caught.value)
        assert "evil" not in str(caught.value)


# ---- requests ----


def test_a_post_is_exactly_one_adaptive_card():
    call = call_of(MESSAGE)
    assert (call.method, call.url) == ("POST", URL)
    assert call.headers == {"content-type": "application/json"}
    line = {"type": "RichTextBlock"}
    assert json.loads(call.body) == {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": {"width": "Full"},
                    "body": [
                        {
                            **line,
                            "inlines": [
                                {"type": "TextRun", "text": "Order A-1001", "weight": "Bolder", "size": "Medium"}
                            ],
                            "id": MESSAGE.reference,
                        },
                        {**line, "inlines": [{"type": "TextRun", "text": "Order A-1001 has shipped."}]},
                        {**line, "inlines": [{"type": "TextRun", "text": "See https://portal.example.com/o/1."}]},
                        {
                            **line,
                            "inlines": [
                                {"type": "TextRun", "text": "Part: ", "weight": "Bolder"},
                                {"type": "TextRun", "text": "A_1*2 [new](x)"},
                            ],
                        },
                    ],
                    "actions": [
                        {
                            "type": "Action.OpenUrl",
                            "title": "portal.example.com",
                            "url": "https://portal.example.com/o/1",
                        }
                    ],
                },
            }
        ],
    }


def test_the_signature_of_a_url_is_marked_as_secret_in_both_its_forms():
    call = call_of(replace(MESSAGE, to=URL.replace("EXAMPLE0123456789", "a%2Bb")))
    assert set(call.secrets) == {"a%2Bb", "a+b"}
    assert "sig=a%2Bb" in call.url


def test_a_base_url_takes_the_place_of_the_origin_and_nothing_else():
    settings = TeamsSettings(base_url="http://127.0.0.1:1/teams")
    url = call_of(MESSAGE, replace(CONTEXT, settings=settings)).url
    assert url == URL.replace("https://default0123.45.environment.api.powerplatform.com", "http://127.0.0.1:1/teams")


def test_the_default_is_the_url_of_the_settings():
    settings = TeamsSettings.model_validate({"webhook_url": URL})
    assert call_of(replace(MESSAGE, to=DEFAULT), replace(CONTEXT, settings=settings)).url == URL
    assert "EXAMPLE" not in repr(settings)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        (DEFAULT, Rejected(K.CONFIG, "teams_no_webhook_url")),
        ("https://169.254.169.254/latest?sig=x", Rejected(K.PERMANENT, "teams_address")),
    ],
)
def test_what_is_no_workflow_is_rejected_before_any_call(address, refused):
    conversation = PLATFORM.send([replace(MESSAGE, to=address)], CONTEXT)
    with pytest.raises(StopIteration) as end:
        next(conversation)
    assert end.value.value == [refused]


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6000),
    st.lists(st.tuples(st.text("l\N{ROCKET}", max_size=300), st.text("v\u0416", max_size=3000)), max_size=30),
)
def test_a_card_never_exceeds_the_budget(text, facts):
    assert len(card_body(replace(MESSAGE, text=text, facts=tuple(facts)))) <= BUDGET


def test_what_does_not_fit_falls_off_at_the_end():
    long = replace(MESSAGE, facts=tuple((f"fact {n}", "v" * 1500) for n in range(40)))
    body = json.loads(card_body(long))["attachments"][0]["content"]["body"]
    assert body[0]["inlines"][0]["text"] == MESSAGE.subject
    assert body[-1]["inlines"][0]["text"] == f"fact {len(body) - 4}: "
    assert 5 < len(body) < 40


# ---- answers ----


@pytest.mark.parametrize("status", [200, 202])
def test_an_accepted_card_has_the_id_of_its_run_where_there_is_one(status):
    assert outcome(status) == Accepted("", f"teams_{status}")
    assert outcome(status, x_ms_workflow_run_id="0858") == Accepted("0858", f"teams_{status}")


WORD_ROWS = [
    ("TriggerInputSchemaMismatch", K.PERMANENT),
    ("InvalidRequestContent", K.PERMANENT),
    ("DirectApiAuthorizationRequired", K.CONFIG),
    ("WorkflowNotFound", K.CONFIG),
    ("WorkflowTriggerNotFound", K.CONFIG),
    ("WorkflowTriggerIsNotEnabled", K.CONFIG),
    ("DirectApiAuthorizationFailed", K.AUTH),
    ("AuthorizationFailed", K.AUTH),
]
STATUS_ROWS = [
    (400, K.PERMANENT),
    (401, K.AUTH),
    (403, K.AUTH),
    (404, K.CONFIG),
    (410, K.CONFIG),
    (413, K.PERMANENT),
]
OURS = replace(MESSAGE, to=DEFAULT)


def test_the_tables_have_no_row_that_is_not_tested():
    assert dict(WORD_ROWS) == WORDS
    assert dict(STATUS_ROWS) == BY_HTTP_STATUS


@pytest.mark.parametrize(("word", "kind"), WORD_ROWS)
def test_each_word_stops_our_own_default_but_never_everybody_for_one_client(word, kind):
    body = {"error": {"code": word, "message": "m"}}
    assert outcome(418, body, OURS) == Rejected(kind, f"teams_{word}")
    assert outcome(418, body) == Rejected(K.PERMANENT, f"teams_{word}")


@pytest.mark.parametrize(("status", "kind"), [*STATUS_ROWS, (418, K.PERMANENT)])
def test_without_a_known_word_the_status_decides(status, kind):
    for body in (None, [], {"error": "x"}, {"error": {"code": "New"}}):
        assert outcome(status, body, OURS) == Rejected(kind, f"teams_{status}")
        assert outcome(status, body) == Rejected(K.PERMANENT, f"teams_{status}")


def test_recorded_refusals_are_read_by_their_word():
    for word, body in ERRORS.items():
        assert outcome(400, body).code == f"teams_{word}"


def test_limits_and_failing_servers_are_tried_again():
    assert outcome(429, retry_after="30") == Deferred(K.RATE, "teams_429", retry_after_s=30.0)
    assert outcome(502) == Deferred(K.TRANSIENT, "teams_502", ambiguous=True)


# ---- the loop with the simulation ----


def test_a_card_goes_through_the_loop(loop):
    bench = loop(PLATFORM, VENDOR)
    (accepted,) = bench.send(MESSAGE)
    (taken,) = bench.taken
    assert accepted == Accepted(taken.provider_ref, "teams_202")
    assert taken.to == urlsplit(URL).path.split("/workflows/")[1].split("/")[0]
    assert taken.reference == MESSAGE.reference
    assert taken.text.splitlines() == [
        "Order A-1001",
        "Order A-1001 has shipped.",
        "See https://portal.example.com/o/1.",
        "Part: A_1*2 [new](x)",
    ]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("EXAMPLE0123456789", "ROTATED"), "teams_DirectApiAuthorizationFailed"),
        (("cdef/triggers", "c404/triggers"), "teams_WorkflowNotFound"),
    ],
)
def test_each_magic_url_is_refused_as_microsoft_would(loop, change, code):
    bench = loop(PLATFORM, VENDOR)
    assert bench.send(replace(MESSAGE, to=URL.replace(*change))) == [Rejected(K.PERMANENT, code)]
    assert bench.taken == []


@pytest.mark.parametrize("body", [b'{"text":"x"}', b"[]", b'{"attachments":{}}', b" " * 28_001 + b"{}"])
def test_the_simulation_accepts_and_loses_what_is_no_card(loop, body):
    bench = loop(PLATFORM, VENDOR)
    answer = bench.call(replace(call_of(MESSAGE, bench.context), body=body))
    assert answer.status == 202
    assert bench.taken == []


def test_the_simulation_asks_for_the_signature_and_for_json(loop):
    bench = loop(PLATFORM, VENDOR)
    call = call_of(MESSAGE, bench.context)
    assert bench.call(replace(call, body=b"{")).json()["error"]["code"] == "InvalidRequestContent"
    assert parse_qs(urlsplit(call.url).query)["sig"]
    assert bench.call(replace(call, url=call.url.split("?")[0])).status == 401


def test_provisioning_is_a_list_for_a_person():
    assert all(step.instruction and step.make is None for step in provision(CONTEXT))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.RATE, K.RATE),
        (Fault.RATE_BARE, K.RATE),
        (Fault.SERVER_ERROR, K.TRANSIENT),
        (Fault.PERMANENT, K.PERMANENT),
        (Fault.AUTH, K.CONFIG),
        (Fault.OPT_OUT, K.CONFIG),
    ],
)
def test_each_fault_of_the_simulation_is_read_as_what_it_is(fault, kind):
    reply = VENDOR.refuse(fault)
    (one,) = read_answer(Answer(reply.status, reply.headers, reply.body), [OURS], CONTEXT)
    assert one.kind is kind
