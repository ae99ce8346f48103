"""HubSpot: records, single-send e-mail, tokens, signed webhooks, and everything that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify import clock
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import OrderEvent, OrderStatus
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Token
from ordernotify.platforms._hubspot_access import CATEGORIES
from ordernotify.platforms._hubspot_email import REPEATED, SEND_RESULTS, TAKEN
from ordernotify.platforms._hubspot_setup import workflow
from ordernotify.platforms.hubspot import MAX_INPUTS, PLATFORM, group, read_address
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.hubspot import STAGE, VENDOR, signed_callback

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "hubspot"
OURS = "https://hooks.example/webhooks/hubspot"
SECRET = "00000000-0000-0000-0000-000000000000"
STAGE_SHIPPED = "4b27b500-f031-4927-9811-68a0b525cbae"
VALUES: dict[str, Any] = {
    "access_token": "pat-na1-x",
    "client_secret": f"new, {SECRET}",
    "email_id": 4126643121,
    "status_map": f"{STAGE_SHIPPED}=shipped",
    "client_property": "client_key",
}
OAUTH = {**VALUES, "access_token": None, "client_id": "id", "refresh_token": "refresh me"}
SETTINGS = PLATFORM.settings.model_validate(VALUES)
TOKEN_NOW = Token("pat-na1-x", NOW + timedelta(hours=1))
CONTEXT = Context(settings=SETTINGS, now=NOW, token=TOKEN_NOW, webhook_url=OURS)
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
    to="hs_object_id:54767113310",
    status=S.SHIPPED,
    language="en",
    text="Order 1001 is on its way.",
    subject="Order shipped",
    variables={"order_no": "1001", "carrier": "<b>UPS</b>"},
)
MAIL = replace(MESSAGE, channel=Channel.EMAIL, to="jane@example.com")


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_bytes())


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, orjson.dumps(value))


def talk(messages: Sequence[Message], *replies: Answer, context: Context = CONTEXT) -> tuple[list[Call], Any]:
    """Return the calls of a conversation whose answers are ``replies`` (the last one repeated), and its outcomes."""
    conversation, calls = PLATFORM.send(messages, context), []
    try:
        calls.append(next(conversation))
        while True:
            calls.append(conversation.send(replies[min(len(calls), len(replies)) - 1]))
    except StopIteration as end:
        return calls, end.value


def with_settings(**more: Any) -> Context:
    return replace(CONTEXT, settings=PLATFORM.settings.model_validate({**VALUES, **more}))


def signed(changes: Any, *, at: datetime = NOW, secret: str = SECRET) -> Inbound:
    sent = signed_callback(OURS, changes, at=at, secret=secret)
    return Inbound("POST", OURS, dict(sent.headers), sent.body)


def events(changes: Any, context: Context = CONTEXT) -> tuple[OrderEvent, ...]:
    found = READ(signed(changes), context.settings, NOW)
    assert isinstance(found, Received), found
    return found.events


# ---- addresses ----


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" hs_object_id:123 ", "hs_object_id:123"),
        ("SO-1001", "SO-1001"),
        ("Jane@Example.COM", "Jane@example.com"),
        ("54767113310", "54767113310"),
    ],
)
def test_an_address_is_an_email_an_id_or_a_unique_value(text: str, address: str) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "..", ".", "a\nb", "hs_object_id:", "hs_object_id:x", "hs_object_id:..", "hs_object_id:\u0661", "x" * 256],
)
def test_what_names_no_record_is_refused(text: str) -> None:
    found = read_address(text)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, "address")


def test_records_share_a_call_by_what_they_are_known_by_and_emails_share_none() -> None:
    settings = with_settings(id_property="external_id").settings
    assert group(MESSAGE, settings) == group(replace(MESSAGE, to="hs_object_id:5", reference="x"), settings)
    assert group(MESSAGE, settings) != group(replace(MESSAGE, to="SO-1"), settings)
    assert group(MAIL, settings) != group(replace(MAIL, reference="x"), settings)


# ---- records ----

WRITTEN = {"id": "54767113310", "updatedAt": "2026-11-24T12:00:00.000Z"}


@pytest.mark.parametrize("status", [status for status in S if status is not S.UNKNOWN])
def test_a_notice_is_written_into_its_record(status: OrderStatus) -> None:
    (call,), outcomes = talk([replace(MESSAGE, status=status)], answer(WRITTEN))
    assert outcomes == [Accepted("54767113310@2026-11-24T12:00:00.000Z", "hubspot_200")]
    assert (call.method, call.url) == ("PATCH", "https://api.hubapi.com/crm/objects/2026-09/orders/54767113310")
    assert call.headers == {
        "accept": "application/json",
        "authorization": "Bearer pat-na1-x",
        "content-type": "application/json",
    }
    assert orjson.loads(call.body) == {
        "properties": {
            "order_notice_status": status.value,
            "order_notice_text": MESSAGE.text,
            "order_notice_reference": MESSAGE.reference,
        }
    }


def test_a_notice_that_may_say_nothing_more_is_written_without_its_status() -> None:
    (call,), _ = talk([replace(MESSAGE, notice_only=True)], answer(WRITTEN))
    assert orjson.loads(call.body)["properties"].keys() == {"order_notice_text", "order_notice_reference"}


def test_the_account_s_own_words_types_and_paths_are_used() -> None:
    context = with_settings(
        status_words="shipped=Sent out", object_type="0-3", objects_path="/crm/v3/objects", id_property="ext_no"
    )
    (call,), _ = talk([replace(MESSAGE, to="a/../b c?x")], answer(WRITTEN), context=context)
    assert call.url == "https://api.hubapi.com/crm/v3/objects/0-3/a%2F..%2Fb%20c%3Fx?idProperty=ext_no"
    assert orjson.loads(call.body)["properties"]["order_notice_status"] == "Sent out"


def test_an_address_that_is_none_is_rejected_alone() -> None:
    bad = Rejected(K.PERMANENT, "hubspot_address")
    assert talk([replace(MESSAGE, to="..")]) == ([], [bad])
    (call,), outcomes = talk([replace(MESSAGE, to=""), MESSAGE], answer(WRITTEN))
    assert call.method == "PATCH"
    assert outcomes[0] == bad
    assert isinstance(outcomes[1], Accepted)


def batch_of(*addresses: str) -> list[Message]:
    return [replace(MESSAGE, to=to, reference=f"{n:032x}") for n, to in enumerate(addresses, 1)]


def test_several_records_are_one_batch_with_our_reference_as_trace() -> None:
    context = with_settings(id_property="ext_no")
    (call,), _ = talk(batch_of("SO-1", "SO-2"), answer({}), context=context)
    assert (call.method, call.url) == ("POST", "https://api.hubapi.com/crm/objects/2026-09/orders/batch/update")
    first = orjson.loads(call.body)["inputs"][0]
    assert (first["id"], first["idProperty"], first["objectWriteTraceId"]) == ("SO-1", "ext_no", f"{1:032x}")
    (call,), _ = talk(batch_of("hs_object_id:1", "hs_object_id:2"), answer({}), context=context)
    assert "idProperty" not in orjson.loads(call.body)["inputs"][0]


def test_each_message_of_a_batch_has_its_own_outcome() -> None:
    outcomes = talk(batch_of("1", "2", "3", "4"), answer(recorded("batch_multi_status"), 207))[1]
    assert outcomes == [
        Accepted("1@2026-11-24T12:00:00.000Z", "hubspot_207"),
        Rejected(K.PERMANENT, "hubspot_OBJECT_NOT_FOUND"),
        Rejected(K.PERMANENT, "hubspot_VALIDATION_ERROR"),
        Deferred(K.TRANSIENT, "hubspot_unreadable", ambiguous=True),
    ]


@pytest.mark.parametrize("status", [200, 207])
def test_an_error_that_names_nobody_is_about_those_without_a_result(status: int) -> None:
    body = recorded("batch_multi_status")
    body["errors"] = [{"status": "error", "category": "VALIDATION_ERROR", "message": "private"}]
    outcomes = talk(batch_of("1", "2"), answer(body, status))[1]
    assert isinstance(outcomes[0], Accepted)
    assert outcomes[1] == Rejected(K.PERMANENT, "hubspot_VALIDATION_ERROR")


def test_results_without_traces_are_whole_when_nothing_failed() -> None:
    results = [{"id": str(n), "properties": {}, "updatedAt": "t"} for n in (7, 8)]
    outcomes = talk(batch_of("SO-1", "SO-2"), answer({"results": results}))[1]
    assert outcomes == [Accepted("", "hubspot_200")] * 2


def test_two_messages_for_one_record_are_two_calls_in_their_order() -> None:
    messages = batch_of("hs_object_id:1", "2", "1", "1")
    calls, outcomes = talk(messages, answer(recorded("batch_multi_status"), 207), answer(WRITTEN))
    assert [call.method for call in calls] == ["POST", "PATCH", "PATCH"]
    sent = [orjson.loads(call.body)["properties"]["order_notice_reference"] for call in calls[1:]]
    assert sent == [f"{3:032x}", f"{4:032x}"]
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [True, False, True, True]


# ---- what refusals mean ----


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("validation", Rejected(K.PERMANENT, "hubspot_VALIDATION_ERROR")),
        ("unknown_property", Rejected(K.CONFIG, "hubspot_PROPERTY_DOESNT_EXIST")),
        ("bad_token", Rejected(K.AUTH, "hubspot_INVALID_AUTHENTICATION")),
        ("expired_token", Rejected(K.AUTH, "hubspot_EXPIRED_AUTHENTICATION")),
        ("missing_scope", Rejected(K.AUTH, "hubspot_MISSING_SCOPES")),
        ("unknown_record", Rejected(K.PERMANENT, "hubspot_OBJECT_NOT_FOUND")),
        ("conflict", Rejected(K.PERMANENT, "hubspot_CONFLICT")),
        ("rolling_limit", Deferred(K.RATE, "hubspot_TEN_SECONDLY_ROLLING")),
        ("daily_limit", Rejected(K.QUOTA, "hubspot_DAILY")),
        ("internal", Deferred(K.TRANSIENT, "hubspot_INTERNAL_ERROR", ambiguous=True)),
    ],
)
def test_every_recorded_refusal_means_one_outcome_alone_and_in_a_batch(name: str, outcome: Outcome) -> None:
    status, body = recorded("errors")[name]
    assert talk([MESSAGE], answer(body, status))[1] == [outcome]
    assert talk(batch_of("1", "2"), answer(body, status))[1] == [outcome] * 2


@pytest.mark.parametrize(("category", "kind"), sorted(CATEGORIES.items()))
def test_every_category_keeps_its_kind(category: str, kind: FailureKind) -> None:
    context = replace(with_settings(**OAUTH), token=TOKEN_NOW)
    (outcome,) = talk([MESSAGE], answer({"category": category}, 400), context=context)[1]
    assert (outcome.kind, outcome.code) == (kind, f"hubspot_{category}")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Answer(400), Rejected(K.PERMANENT, "hubspot_400")),
        (Answer(401), Rejected(K.AUTH, "hubspot_401")),
        (Answer(403), Rejected(K.AUTH, "hubspot_403")),
        (Answer(404), Rejected(K.PERMANENT, "hubspot_404")),
        (Answer(405), Rejected(K.CONFIG, "hubspot_405")),
        (Answer(409), Rejected(K.PERMANENT, "hubspot_409")),
        (Answer(423), Deferred(K.TRANSIENT, "hubspot_423", retry_after_s=2.0)),
        (Answer(423, {"retry-after": "9"}), Deferred(K.TRANSIENT, "hubspot_423", retry_after_s=9.0)),
        (Answer(429, {"retry-after": "3"}), Deferred(K.RATE, "hubspot_429", retry_after_s=3.0)),
        (Answer(477, {"retry-after": "86400"}), Deferred(K.RATE, "hubspot_477", retry_after_s=86400.0)),
        *(
            (Answer(status), Deferred(K.TRANSIENT, f"hubspot_{status}", ambiguous=True))
            for status in (502, 503, 504, 521, 522, 523, 524, 525, 526)
        ),
        (answer({"category": "NEVER_SEEN"}, 400), Rejected(K.PERMANENT, "hubspot_400")),
        (answer({"properties": {}}), Deferred(K.TRANSIENT, "hubspot_unreadable", ambiguous=True)),
    ],
)
def test_without_a_known_word_the_status_decides(reply: Answer, outcome: Outcome) -> None:
    assert talk([MESSAGE], reply)[1] == [outcome]


def test_an_expired_oauth_token_is_fetched_again() -> None:
    status, body = recorded("errors")["expired_token"]
    context = replace(with_settings(**OAUTH), token=TOKEN_NOW)
    expected = Deferred(K.TRANSIENT, "hubspot_EXPIRED_AUTHENTICATION", retry_after_s=0.0)
    assert talk([MESSAGE], answer(body, status), context=context)[1] == [expected]


# ---- single send ----


def test_an_email_is_a_single_send_with_our_reference_as_its_id() -> None:
    (call,), outcomes = talk([MAIL], answer(recorded("single_send")))
    assert outcomes == [Accepted("AeFKGGCNv9Q0pwYGHA", "hubspot_PENDING")]
    assert call.url == "https://api.hubapi.com/marketing/transactional/2026-09/single-email/send"
    assert orjson.loads(call.body) == {
        "emailId": 4126643121,
        "message": {"to": "jane@example.com", "sendId": MAIL.reference, "replyTo": [], "cc": [], "bcc": []},
        "contactProperties": {},
        "customProperties": {
            "order_no": "1001",
            "carrier": "&lt;b&gt;UPS&lt;/b&gt;",
            "subject": "Order shipped",
            "text": MAIL.text,
            "html": MAIL.text,
        },
    }


def test_a_notice_by_email_holds_its_words_alone() -> None:
    message = replace(MAIL, notice_only=True, html="<p>News</p>")
    (call,), _ = talk(
        [message], answer(recorded("single_send")), context=with_settings(from_address="Shop <s@x.example>")
    )
    body = orjson.loads(call.body)
    assert body["customProperties"] == {"subject": "Order shipped", "text": MAIL.text, "html": "<p>News</p>"}
    assert body["message"]["from"] == "Shop <s@x.example>"


def test_without_a_template_no_email_is_tried() -> None:
    assert talk([MAIL], context=with_settings(email_id=0)) == ([], [Rejected(K.CONFIG, "hubspot_no_email_id")])


@pytest.mark.parametrize(("result", "kind"), sorted(SEND_RESULTS.items()))
def test_every_send_result_means_one_kind(result: str, kind: FailureKind) -> None:
    (outcome,) = talk([MAIL], answer({**recorded("single_send"), "status": "CANCELED", "sendResult": result}))[1]
    assert isinstance(outcome, Rejected | Deferred)
    assert (outcome.kind, outcome.code) == (kind, f"hubspot_{result}")


@pytest.mark.parametrize("result", sorted(TAKEN | REPEATED))
def test_a_send_that_was_taken_now_or_before_is_accepted(result: str) -> None:
    outcomes = talk([MAIL], answer({**recorded("single_send"), "status": "COMPLETE", "sendResult": result}))[1]
    assert outcomes == [Accepted("AeFKGGCNv9Q0pwYGHA", f"hubspot_{result}")]


def test_the_tables_hold_every_result_of_every_version() -> None:
    assert len(SEND_RESULTS.keys() | TAKEN | REPEATED) == 51


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (answer({"statusId": "s", "sendResult": "NEVER_SEEN"}), Rejected(K.PERMANENT, "hubspot_NEVER_SEEN")),
        (answer({"statusId": "s", "sendResult": "free text"}), Rejected(K.PERMANENT, "hubspot_unlisted")),
        (answer({"statusId": "s", "status": "CANCELED"}), Rejected(K.PERMANENT, "hubspot_CANCELED")),
        (answer({"status": "PENDING"}), Deferred(K.TRANSIENT, "hubspot_unreadable", ambiguous=True)),
        (answer([]), Deferred(K.TRANSIENT, "hubspot_unreadable", ambiguous=True)),
        (Answer(404), Rejected(K.CONFIG, "hubspot_email_not_found")),
        (Answer(403), Rejected(K.AUTH, "hubspot_403")),
        (Answer(503), Deferred(K.TRANSIENT, "hubspot_503", ambiguous=True)),
    ],
)
def test_every_other_answer_to_a_send_means_one_outcome(reply: Answer, outcome: Outcome) -> None:
    assert talk([MAIL], reply)[1] == [outcome]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.text(max_size=8) | st.just("VALIDATION_ERROR"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["results", "errors", "context", "ids", "objectWriteTraceId", "id", "status", "category", "sendResult"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON, st.sampled_from([200, 207, 400, 401, 404, 429, 477, 500]))
def test_random_answers_mean_an_outcome_and_never_raise(value: object, status: int) -> None:
    reply = answer(value, status)
    for messages in ([MESSAGE], batch_of("1", "2"), [MAIL]):
        outcomes = talk(messages, reply)[1]
        assert len(outcomes) == len(messages)
        assert all(isinstance(outcome, Accepted | Deferred | Rejected) for outcome in outcomes)
    (thin,) = events(recorded("change_delivered"))
    assert isinstance(REREAD.read(reply, thin, CONTEXT), OrderEvent | Deferred | Rejected)
    assert isinstance(TOKEN.read(reply, with_settings(**OAUTH)), Token | Deferred | Rejected)
    assert PROBE.read(reply, CONTEXT)


# ---- tokens ----


def test_an_oauth_app_refreshes_its_token() -> None:
    context = with_settings(**OAUTH)
    call = TOKEN.build(context)
    assert (call.method, call.url) == ("POST", "https://api.hubapi.com/oauth/2026-09/token")
    assert parse_qs(call.body.decode()) == {
        "grant_type": ["refresh_token"],
        "client_id": ["id"],
        "client_secret": ["new"],
        "refresh_token": ["refresh me"],
    }
    token = TOKEN.read(answer(recorded("token")), context)
    assert isinstance(token, Token)
    assert token.expires_at == NOW + timedelta(seconds=1800)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (answer({"status": "BAD_REFRESH_TOKEN"}, 400), Rejected(K.AUTH, "hubspot_BAD_REFRESH_TOKEN")),
        (answer({"error": "invalid_grant"}, 400), Rejected(K.AUTH, "hubspot_invalid_grant")),
        (answer({"error": "unsupported_grant_type"}, 400), Rejected(K.CONFIG, "hubspot_unsupported_grant_type")),
        (answer({}, 400), Rejected(K.AUTH, "hubspot_token_400")),
        (answer({}), Deferred(K.TRANSIENT, "hubspot_token_unreadable")),
        (Answer(429, {"retry-after": "5"}), Deferred(K.RATE, "hubspot_token_429", retry_after_s=5.0)),
        (Answer(503), Deferred(K.TRANSIENT, "hubspot_token_503")),
    ],
)
def test_every_refused_refresh_means_one_outcome(reply: Answer, outcome: Outcome) -> None:
    assert TOKEN.read(reply, with_settings(**OAUTH)) == outcome


def test_a_fixed_token_is_only_checked() -> None:
    call = TOKEN.build(replace(CONTEXT, token=None))
    assert (call.method, call.headers["authorization"]) == ("GET", "Bearer pat-na1-x")
    for status in (200, 403, 404, 429, 500):
        token = TOKEN.read(Answer(status), CONTEXT)
        assert isinstance(token, Token)
        assert token.value == "pat-na1-x"
    assert TOKEN.read(Answer(401), CONTEXT) == Rejected(K.AUTH, "hubspot_access_token")


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"refresh_token": "x"},
        {**OAUTH, "client_id": ""},
        {**OAUTH, "client_secret": None},
        {"event_property": "order_notice_status"},
        {"status_property": "Status'; --"},
        {"object_type": "../contacts"},
        {"objects_path": "crm"},
        {"objects_path": "/crm?x"},
        {"status_map": "closedwon"},
        {"email_id": -1},
    ],
)
def test_settings_that_cannot_be_right_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        PLATFORM.settings.model_validate({**VALUES, **change})
    assert "pat-na1-x" not in str(refused.value)


def test_no_secret_shows_in_the_settings() -> None:
    shown = repr(SETTINGS) + repr(PLATFORM.settings.model_validate(OAUTH))
    assert not any(secret in shown for secret in ("pat-na1-x", SECRET, "refresh me"))


# ---- webhooks: genuine or not ----


@pytest.mark.parametrize("number", [0, 1])
def test_the_published_vectors_are_genuine_and_every_flipped_byte_is_not(number: int) -> None:
    vectors = recorded("signatures")
    vector, body = vectors["vectors"][number], vectors["body"].encode()
    headers = {
        "x-hubspot-signature-v3": vector["signature"],
        "x-hubspot-request-timestamp": vectors["timestamp"],
    }
    now = datetime.fromtimestamp(int(vectors["timestamp"]) // 1000, UTC)
    genuine = Inbound(vectors["method"], vector["url"], headers, body)
    assert VERIFY(genuine, SETTINGS, now) is None
    for position in range(len(body)):
        flipped = bytearray(body)
        flipped[position] ^= 1
        assert VERIFY(replace(genuine, body=bytes(flipped)), SETTINGS, now) is not None
    assert VERIFY(replace(genuine, method="PUT"), SETTINGS, now) is not None
    assert VERIFY(replace(genuine, url=f"{vector['url']}x"), SETTINGS, now) is not None


@pytest.mark.parametrize(
    ("header", "value", "field"),
    [
        ("x-hubspot-signature-v3", "", "X-HubSpot-Signature-v3"),
        ("x-hubspot-signature-v3", "\u00ff", "X-HubSpot-Signature-v3"),
        ("x-hubspot-request-timestamp", "", "X-HubSpot-Request-Timestamp"),
        ("x-hubspot-request-timestamp", "\u00b2", "X-HubSpot-Request-Timestamp"),
        ("x-hubspot-request-timestamp", "9" * 16, "X-HubSpot-Request-Timestamp"),
        ("x-hubspot-request-timestamp", "-1", "X-HubSpot-Request-Timestamp"),
    ],
)
def test_a_wrong_header_is_refused_by_name(header: str, value: str, field: str) -> None:
    genuine = signed([])
    found = VERIFY(replace(genuine, headers={**genuine.headers, header: value}), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, field)


@pytest.mark.parametrize(("minutes", "genuine"), [(0, True), (5, True), (-5, True), (6, False), (-6, False)])
def test_a_request_is_genuine_within_five_minutes(minutes: int, genuine: bool) -> None:
    found = VERIFY(signed([], at=NOW - timedelta(minutes=minutes)), SETTINGS, NOW)
    assert (found is None) == genuine


def test_both_secrets_hold_while_one_is_replaced_and_none_lets_nothing_in() -> None:
    assert VERIFY(signed([], secret="new"), SETTINGS, NOW) is None
    assert VERIFY(signed([], secret="other"), SETTINGS, NOW) is not None
    found = VERIFY(signed([]), with_settings(client_secret=None).settings, NOW)
    assert found is not None
    assert found.status == 401


# ---- webhooks: what they say ----


@pytest.mark.parametrize("status", [status for status in S if status is not S.UNKNOWN])
def test_every_stage_is_an_event_that_points_at_its_record(status: OrderStatus) -> None:
    (event,) = events(recorded(f"change_{status.value}"))
    assert event.status is status
    assert event.thin
    assert event.refs == {"hubspot": "hs_object_id:54767113310"}
    assert event.dedupe_key.startswith("12345 54767113310 hs_pipeline_stage 17955")


def test_a_creation_is_a_received_order() -> None:
    (event,) = events(recorded("creation"))
    assert (event.status, event.raw_status, event.order_ref) == (S.RECEIVED, "creation", "54767113310")
    assert event.occurred_at == datetime.fromtimestamp(1795514000, UTC)


def test_only_changes_of_orders_and_of_the_stage_say_anything() -> None:
    (event,) = events(recorded("changes_mixed"))
    assert (event.status, event.order_ref) == (S.DELIVERED, "54767113310")
    other = [{**recorded("change_shipped")[0], "propertyName": "hs_tags"}]
    assert events(other) == ()
    assert events([{**recorded("change_shipped")[0], "subscriptionType": "deal.propertyChange"}]) == ()
    deals = with_settings(object_type="deals", event_property="dealstage")
    change = {**recorded("change_shipped")[0], "subscriptionType": "deal.propertyChange", "propertyName": "dealstage"}
    assert [event.status for event in events([change], deals)] == [S.SHIPPED]


def test_a_stage_that_nobody_mapped_is_for_a_person() -> None:
    (event,) = events([{**recorded("change_shipped")[0], "propertyValue": "closedwon"}])
    assert (event.status, event.raw_status) == (S.UNKNOWN, "closedwon")


def test_a_repetition_has_the_same_key_and_every_other_change_its_own() -> None:
    change = recorded("change_shipped")[0]
    again = {**change, "attemptNumber": 3, "eventId": 999}
    later = {**change, "occurredAt": change["occurredAt"] + 1}
    first, second, third = events([change, again, later])
    assert first.dedupe_key == second.dedupe_key != third.dedupe_key


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, "body"),
        ([1], "[0]"),
        ([{}], "[0].subscriptionId"),
        ([{"objectId": "1; DROP"}], "[0].objectId"),
        ([{"objectId": 1.5}], "[0].objectId"),
        ([{"objectId": True}], "[0].objectId"),
        ([{"objectId": 2**80}], "[0].objectId"),
        ([{"occurredAt": -1}], "[0].occurredAt"),
        ([{"occurredAt": 10**15}], "[0].occurredAt"),
        ([{"propertyValue": {}}], "[0].propertyValue"),
        ([{"subscriptionType": []}], "[0].subscriptionType"),
    ],
)
def test_a_wrong_field_is_refused_by_name(changes: Any, field: str) -> None:
    base = recorded("change_shipped")[0] if changes != [{}] else {}
    filled = [{**base, **one} if isinstance(one, dict) else one for one in changes] if changes else changes
    found = READ(Inbound("POST", OURS, {}, json.dumps(filled).encode()), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)
    assert "DROP" not in found.message


def test_another_account_is_refused_where_one_is_set() -> None:
    settings = with_settings(portal_id=1).settings
    found = READ(signed(recorded("change_shipped")), settings, NOW)
    assert isinstance(found, Refusal)
    assert found.field == "[0].portalId"


@given(st.binary(max_size=60) | JSON.map(orjson.dumps))
def test_random_bodies_are_read_or_refused_and_never_raise(body: bytes) -> None:
    assert isinstance(READ(Inbound("POST", OURS, {}, body), SETTINGS, NOW), Received | Refusal)


def test_a_thin_event_is_completed_from_its_record_and_keeps_its_status() -> None:
    (thin,) = events(recorded("change_delivered"))
    call = REREAD.build(thin, CONTEXT)
    assert call.url == (
        "https://api.hubapi.com/crm/objects/2026-09/orders/54767113310"
        "?properties=hs_external_order_id,client_key,hs_shipping_tracking_number"
    )
    whole = REREAD.read(answer(recorded("record")), thin, CONTEXT)
    assert whole == replace(thin, order_no="SO-1001", client_ref="C-204", tracking_no="1Z999AA10123456784", thin=False)
    assert REREAD.read(Answer(404), thin, CONTEXT) == Rejected(K.PERMANENT, "not_found")
    assert isinstance(REREAD.read(answer({}), thin, CONTEXT), Deferred)


# ---- setting up ----


def test_the_probe_says_what_is_wrong() -> None:
    assert all(finding.ok for finding in PROBE.read(answer({}), CONTEXT))
    assert [finding.ok for finding in PROBE.read(Answer(404), CONTEXT)] == [True, False, True]
    status, body = recorded("errors")["missing_scope"]
    broken = PROBE.read(answer(body, status), CONTEXT)
    assert [finding.ok for finding in broken] == [False, False, True]
    assert "hubspot_MISSING_SCOPES" in broken[0].advice


def test_the_workflow_enrols_again_at_every_new_reference() -> None:
    made = workflow(SETTINGS)
    criteria = made["enrollmentCriteria"]
    assert (made["type"], made["objectTypeId"], made["isEnabled"]) == ("PLATFORM_FLOW", "0-123", False)
    assert criteria["shouldReEnroll"] is True
    name = criteria["eventFilterBranches"][0]["filters"][0]
    assert (name["property"], name["operation"]["value"]) == ("hs_name", "order_notice_reference")
    sending = workflow(with_settings(workflow_email_id=77, object_type="contacts").settings)
    assert (sending["type"], sending["actions"][0]["fields"]) == ("CONTACT_FLOW", {"content_id": "77"})


# ---- against the simulated vendor ----


def login(spoken: Any) -> None:
    token = TOKEN.read(spoken.call(TOKEN.build(spoken.context)), spoken.context)
    assert isinstance(token, Token), token
    spoken.context = replace(spoken.context, token=token)


def test_a_notice_arrives_once_however_often_it_is_written(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    for _ in range(2):
        (outcome,) = spoken.send(MESSAGE)
        assert isinstance(outcome, Accepted)
        assert outcome.provider_ref.startswith("54767113310@20")
    (taken,) = spoken.taken
    assert (taken.to, taken.reference, taken.text) == ("54767113310", MESSAGE.reference, MESSAGE.text)


def test_a_batch_fails_only_for_those_that_fail(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR, id_property="ext_no")
    login(spoken)
    outcomes = spoken.send(*batch_of("SO-1", "none-2", "..", "SO-1", "SO 5/x"))
    assert [getattr(outcome, "kind", "accepted") for outcome in outcomes] == [
        "accepted",
        K.PERMANENT,
        K.PERMANENT,
        "accepted",
        "accepted",
    ]
    assert [taken.to for taken in spoken.taken] == ["SO-1", "SO 5/x", "SO-1"]
    assert spoken.send(replace(MESSAGE, to="locked-3")) == [Deferred(K.TRANSIENT, "hubspot_423", retry_after_s=2.0)]
    full = [replace(MESSAGE, to=str(n), reference=f"f{n}") for n in range(MAX_INPUTS)]
    assert all(isinstance(outcome, Accepted) for outcome in spoken.send(*full))
    assert PLATFORM.batch == MAX_INPUTS


def test_an_email_is_sent_once_for_each_reference(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    (first,), (second,) = spoken.send(MAIL), spoken.send(MAIL)
    assert (first.code, second.code) == ("hubspot_PENDING", "hubspot_IDEMPOTENT_IGNORE")
    (taken,) = spoken.taken
    assert (taken.to, taken.reference, taken.text) == (MAIL.to, MAIL.reference, f"{MAIL.subject}\n{MAIL.text}")


@pytest.mark.parametrize(
    ("to", "outcome"),
    [
        ("optedout@example.com", Rejected(K.OPT_OUT, "hubspot_ADDRESS_OPTED_OUT")),
        ("bounced@example.com", Rejected(K.OPT_OUT, "hubspot_PREVIOUSLY_BOUNCED")),
        ("later@example.com", Deferred(K.RATE, "hubspot_THROTTLED")),
        ("nobody", Rejected(K.PERMANENT, "hubspot_INVALID_TO_ADDRESS")),
    ],
)
def test_the_vendor_refuses_whom_it_must_not_mail(loop: Callable[..., Any], to: str, outcome: Outcome) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    assert spoken.send(replace(MAIL, to=to)) == [outcome]
    assert spoken.taken == []


def test_a_property_that_is_not_there_stops_the_platform(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR, text_property="missing_one")
    login(spoken)
    assert spoken.send(MESSAGE) == [Rejected(K.CONFIG, "hubspot_PROPERTY_DOESNT_EXIST")]


def test_both_ways_to_log_in_work_and_wrong_ones_do_not(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    root, token_url = spoken.context.settings.base_url, spoken.context.settings.token_url
    known = {"client_id": "11111111-2222-3333-4444-555555555555", "refresh_token": "sandbox-refresh-token"}
    urls = {"base_url": root, "token_url": token_url, "client_secret": VENDOR.settings["client_secret"]}

    def context(**change: str) -> Context:
        return Context(settings=PLATFORM.settings.model_validate({**urls, **known, **change}), now=clock.now())

    spoken.context = context()
    login(spoken)
    assert isinstance(spoken.send(MESSAGE)[0], Accepted)
    for change, code in (
        ({"refresh_token": "x"}, "hubspot_BAD_REFRESH_TOKEN"),
        ({"client_secret": "x"}, "hubspot_BAD_CLIENT_SECRET"),
    ):
        wrong = context(**change)
        assert TOKEN.read(spoken.call(TOKEN.build(wrong)), wrong) == Rejected(K.AUTH, code)
    fixed = loop(PLATFORM, VENDOR, access_token="wrong")
    assert TOKEN.read(fixed.call(TOKEN.build(fixed.context)), fixed.context) == Rejected(K.AUTH, "hubspot_access_token")
    assert fixed.send(MESSAGE) == [Rejected(K.AUTH, "hubspot_INVALID_AUTHENTICATION")]


def test_a_stage_that_somebody_moves_comes_as_a_genuine_event(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    (call,), _ = talk([MESSAGE], answer(WRITTEN), context=spoken.context)
    spoken.call(replace(call, body=orjson.dumps({"properties": {STAGE: "stage-shipped"}})))
    (callback,) = spoken.callbacks
    found = spoken.receive(callback)
    assert isinstance(found, Received)
    (thin,) = found.events
    assert (thin.status, thin.thin) == (S.SHIPPED, True)
    whole = REREAD.read(spoken.call(REREAD.build(thin, spoken.context)), thin, spoken.context)
    assert isinstance(whole, OrderEvent)
    assert (whole.order_no, whole.tracking_no) == ("SO-54767113310", "1Z999AA10123456784")
    assert isinstance(spoken.receive(callback, now=clock.now() + timedelta(hours=1)), Refusal)


def test_properties_and_workflow_are_made_once_and_found_afterwards(loop: Callable[..., Any]) -> None:
    spoken = loop(PLATFORM, VENDOR)
    login(spoken)
    before = PROBE.read(spoken.call(PROBE.build(spoken.context)), spoken.context)
    assert [finding.ok for finding in before] == [True, False, True]
    made = 0
    for step in PROVISION(spoken.context):
        if step.find is None:
            assert "hs_pipeline_stage" in step.instruction
            continue
        assert step.make is not None
        assert step.exists is not None
        assert not step.exists(spoken.call(step.find))
        assert spoken.call(step.make).status in {200, 201}
        assert step.exists(spoken.call(step.find))
        made += 1
    assert made == 5
    assert all(finding.ok for finding in PROBE.read(spoken.call(PROBE.build(spoken.context)), spoken.context))


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.RATE, Deferred(K.RATE, "hubspot_TEN_SECONDLY_ROLLING", retry_after_s=1.0)),
        (Fault.RATE_BARE, Deferred(K.RATE, "hubspot_TEN_SECONDLY_ROLLING")),
        (Fault.SERVER_ERROR, Deferred(K.TRANSIENT, "hubspot_INTERNAL_ERROR", ambiguous=True)),
        (Fault.PERMANENT, Rejected(K.PERMANENT, "hubspot_VALIDATION_ERROR")),
        (Fault.AUTH, Rejected(K.AUTH, "hubspot_INVALID_AUTHENTICATION")),
    ],
)
def test_every_fault_of_the_vendor_is_understood(fault: Fault, outcome: Outcome) -> None:
    refused = VENDOR.refuse(fault)
    reply = Answer(refused.status, refused.headers, refused.body)
    for messages in ([MESSAGE], batch_of("1", "2"), [MAIL]):
        assert talk(messages, reply)[1] == [outcome] * len(messages)


def test_an_opt_out_is_known_where_people_are_mailed() -> None:
    refused = VENDOR.refuse(Fault.OPT_OUT)
    reply = Answer(refused.status, refused.headers, refused.body)
    assert talk([MAIL], reply)[1] == [Rejected(K.OPT_OUT, "hubspot_ADDRESS_OPTED_OUT")]
