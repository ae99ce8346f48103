"""SAP: thin events and what they point at, IDocs, proofs, and the write in a session, on a version."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.core.events import Admission, Line, OrderEvent, OrderState, OrderStatus, admit
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Received, Refusal, Reply, Token
from ordernotify.platforms._sap_access import BY_HTTP_STATUS, CODES, SapSettings
from ordernotify.platforms._sap_events import MESSAGES, SILENT, handshake, read
from ordernotify.platforms._sap_orders import moment, quantity
from ordernotify.platforms._sap_proof import verify
from ordernotify.platforms.sap import PLATFORM, read_address
from ordernotify.sandbox._base import Fault
from ordernotify.sandbox.vendors.sap import VENDOR

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "sap"
S, K = OrderStatus, FailureKind
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
VALUES: dict[str, Any] = {
    "base_url": "https://s4.example",
    "token_url": "https://auth.example/oauth/token",
    "client_id": "client",
    "client_secret": "se:cret",
    "sap_client": "100",
    "hold_blocks": "E1, E2",
    "contract_field": "PurchaseOrderByCustomer",
    "webhook_token": "mesh-token",
    "jwt_key": PEM,
    "jwt_issuer": "https://auth.example",
    "jwt_audience": "ordernotify",
    "idoc_user": "SAPS4H",
    "idoc_password": "idoc-pass",
}
SETTINGS = SapSettings.model_validate(VALUES)
ISSUED = {"issued_at": NOW.isoformat()}
CONTEXT = Context(settings=SETTINGS, now=NOW, token=Token("tok", NOW + timedelta(hours=1), ISSUED))
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.RECORD,
    to="0000004800",
    status=S.SHIPPED,
    language="en",
    subject="Order 4800",
    text='Shipped "today" & <tomorrow>\nTracking 1Z999AA10123456784',
)
ROOT = "https://s4.example/sap/opu/odata/sap/API_SALES_ORDER_SRV"


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_bytes())


def xml(name: str) -> bytes:
    return (FIXTURES / f"{name}.xml").read_bytes()


def answer(value: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, named, json.dumps(value).encode())


def order(*, reference: str = "", text: str | None = None, etag: str = 'W/"1"') -> Answer:
    """Return the answer to reading an order, with the session that a write needs."""
    texts = [] if text is None else [{"Language": "EN", "LongTextID": "TX05", "LongText": text}]
    found = {
        "__metadata": {"etag": etag},
        "SalesOrder": "4800",
        "YY1_NoticeReference_SDH": reference,
        "to_Text": {"results": texts},
    }
    cookies = "sap-usercontext=sap-client=100; path=/, SAP_SESSIONID=a%2bb; expires=Wed, 25 Nov 2026 10:00:00 GMT"
    return answer({"d": found}, 200, x_csrf_token="csrf-1", set_cookie=cookies)


def play(message: Message, *answers: Answer, context: Context = CONTEXT) -> tuple[list[Call], Outcome]:
    """Return the calls that a message makes when it is answered so, and its outcome."""
    conversation, calls, waiting = PLATFORM.send([message], context), [], list(answers)
    try:
        calls.append(next(conversation))
        while True:
            calls.append(conversation.send(waiting.pop(0)))
    except StopIteration as end:
        assert not waiting
        (outcome,) = end.value
        return calls, outcome


DONE, MADE = Answer(204), Answer(201)
READY = order(text=MESSAGE.text)  # the words stand there: what is left is the field


# ---- settings and addresses ----


@pytest.mark.parametrize(("text", "number"), [("4800", "4800"), (" 0000004800 ", "4800")])
def test_an_order_number_is_an_address_without_its_zeros(text, number):
    assert read_address(text) == number


@pytest.mark.parametrize("text", ["", "0", "SO-1001", "4800')/x", "٤٨", "1" * 11])
def test_anything_else_is_refused_by_name(text):
    found = read_address(text)
    assert isinstance(found, Refusal)
    assert found.field == "address"


@pytest.mark.parametrize(
    "change",
    [
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../etc"},
        {"jwt_key": "no key"},
        {"jwt_audience": ""},
        {"idoc_password": None},
        {"sap_client": "1"},
        {"text_id": "x'y"},
        {"base_url": "s4.example"},
    ],
)
def test_settings_that_cannot_be_right_are_refused(change):
    with pytest.raises(ValidationError):
        SapSettings.model_validate({**VALUES, **change})


def test_no_secret_shows_in_the_settings():
    assert not any(secret in repr(SETTINGS) for secret in ("se:cret", "mesh-token", "idoc-pass"))


# ---- tokens ----


def test_a_token_is_asked_for_with_the_client_s_credentials():
    assert PLATFORM.token is not None
    call = PLATFORM.token.build(CONTEXT)
    assert (call.method, call.url, call.body) == ("POST", SETTINGS.token_url, b"grant_type=client_credentials")
    assert call.headers["authorization"] == f"Basic {base64.b64encode(b'client:se%3Acret').decode()}"


@pytest.mark.parametrize(
    ("given_answer", "found"),
    [
        (answer({"access_token": "t", "expires_in": 3600}), Token("t", NOW + timedelta(hours=1), ISSUED)),
        (answer({"access_token": "t", "expires_in": "60"}), Token("t", NOW + timedelta(minutes=1), ISSUED)),
        (answer({"access_token": ""}), Deferred(K.TRANSIENT, "sap_token_unreadable")),
        (answer({"access_token": "t", "expires_in": "soon"}), Deferred(K.TRANSIENT, "sap_token_unreadable")),
        (answer({"error": "invalid_client"}, 401), Rejected(K.AUTH, "sap_invalid_client")),
        (answer({"error": "private text!"}, 400), Rejected(K.AUTH, "sap_token_400")),
        (answer({}, 429, retry_after="5"), Deferred(K.RATE, "sap_token_429", retry_after_s=5.0)),
        (answer([], 503), Deferred(K.TRANSIENT, "sap_token_503")),
    ],
)
def test_every_answer_of_the_token_service_is_understood(given_answer, found):
    assert PLATFORM.token is not None
    assert PLATFORM.token.read(given_answer, CONTEXT) == found


# ---- writing ----


def test_the_words_are_written_first_and_then_the_field_on_the_version_that_is_there_now():
    calls, outcome = play(MESSAGE, order(), MADE, order(text=MESSAGE.text, etag='W/"2"'), DONE)
    assert outcome == Accepted("4800", "sap_204")
    asked, text, again, field = calls
    assert (asked.method, asked.url.partition("?")[0]) == ("GET", f"{ROOT}/A_SalesOrder('4800')")
    assert parse_qs(urlsplit(asked.url).query)["$select"] == [
        "SalesOrder,LastChangeDateTime,YY1_NoticeReference_SDH,YY1_NoticeStatus_SDH,to_Text"
    ]
    assert asked.headers["authorization"] == "Bearer tok"
    assert (asked.headers["x-csrf-token"], asked.headers["sap-client"]) == ("Fetch", "100")
    assert asked.headers["cookie"] == "sap-usercontext=sap-language=EN&sap-client=100"
    assert again.url == asked.url
    assert (text.method, text.url) == ("POST", f"{ROOT}/A_SalesOrder('4800')/to_Text")
    assert json.loads(text.body) == {"Language": "EN", "LongTextID": "TX05", "LongText": MESSAGE.text}
    assert "if-match" not in text.headers
    assert (field.method, field.url) == ("PATCH", f"{ROOT}/A_SalesOrder('4800')")
    assert (field.headers["if-match"], field.headers["x-csrf-token"]) == ('W/"2"', "csrf-1")
    assert field.headers["cookie"] == "sap-usercontext=sap-client=100; SAP_SESSIONID=a%2bb"
    assert json.loads(field.body) == {
        "YY1_NoticeReference_SDH": MESSAGE.reference,
        "YY1_NoticeStatus_SDH": "shipped",
    }


def test_an_earlier_notice_gives_way_to_this_one():
    calls, _ = play(MESSAGE, order(text="earlier"), DONE, READY, DONE)
    assert calls[1].method == "PATCH"
    assert calls[1].url == f"{ROOT}/A_SalesOrderText(SalesOrder='4800',Language='EN',LongTextID='TX05')"
    assert json.loads(calls[1].body) == {"LongText": MESSAGE.text}


@pytest.mark.parametrize("status", [one for one in S if one is not S.UNKNOWN])
def test_every_status_is_written_as_our_word_or_the_tenant_s_own(status):
    settings = SapSettings.model_validate({**VALUES, "status_words": "delivered=DONE"})
    calls, _ = play(replace(MESSAGE, status=status), READY, DONE, context=replace(CONTEXT, settings=settings))
    expected = "DONE" if status is S.DELIVERED else status.value
    assert json.loads(calls[1].body)["YY1_NoticeStatus_SDH"] == expected


def test_a_notice_is_written_with_nothing_but_its_text():
    calls, _ = play(replace(MESSAGE, notice_only=True), READY, DONE)
    assert json.loads(calls[1].body) == {"YY1_NoticeReference_SDH": MESSAGE.reference}


def test_a_system_without_texts_takes_the_fields_alone():
    settings = SETTINGS.model_copy(update={"text_id": "", "status_field": ""})
    calls, _ = play(MESSAGE, order(), DONE, context=replace(CONTEXT, settings=settings))
    assert [call.method for call in calls] == ["GET", "PATCH"]
    assert "to_Text" not in calls[0].url


def test_what_is_written_already_is_not_written_again():
    calls, outcome = play(MESSAGE, order(reference=MESSAGE.reference))
    assert (len(calls), outcome) == (1, Accepted("4800", "sap_found"))


@pytest.mark.parametrize(
    "outdated", [Answer(412), Answer(428), Answer(403, {"x-csrf-token": "Required"}, b"CSRF token validation failed")]
)
def test_an_old_version_or_session_is_read_again_and_given_up_after_five(outdated):
    calls, outcome = play(MESSAGE, READY, outdated, READY, DONE)
    assert [call.method for call in calls] == ["GET", "PATCH", "GET", "PATCH"]
    assert outcome == Accepted("4800", "sap_204")
    _, outcome = play(MESSAGE, *[READY, outdated] * 5)
    assert isinstance(outcome, Deferred | Rejected)


def test_a_wrong_address_is_rejected_without_a_call():
    assert play(replace(MESSAGE, to="SO-1001")) == ([], Rejected(K.PERMANENT, "sap_address"))


def fault(code: str, text: str = "private text") -> dict[str, Any]:
    return {"error": {"code": code, "message": {"lang": "en", "value": text}}}


@pytest.mark.parametrize(
    ("given_answer", "outcome"),
    [
        (answer(fault("MC/601"), 400), Deferred(K.TRANSIENT, "sap_MC/601")),
        (answer(fault("/IWFND/MED/170"), 403), Rejected(K.CONFIG, "sap_/IWFND/MED/170")),
        (answer(fault("X1", "Property YY1_NoticeReference_SDH is invalid"), 400), Rejected(K.CONFIG, "sap_X1")),
        (answer(fault("V1/302"), 400), Rejected(K.PERMANENT, "sap_V1/302")),
        (answer(fault("a private text"), 400), Rejected(K.PERMANENT, "sap_400")),
        (Answer(401, {}, b"<html>"), Rejected(K.AUTH, "sap_401")),
        (Answer(403, {}, b"<html>"), Rejected(K.AUTH, "sap_403")),
        (Answer(423), Deferred(K.TRANSIENT, "sap_423")),
        (Answer(429, {"retry-after": "9"}), Deferred(K.RATE, "sap_429", retry_after_s=9.0)),
        (Answer(500), Deferred(K.TRANSIENT, "sap_500", ambiguous=True)),
        (Answer(301), Rejected(K.PERMANENT, "sap_301")),
    ],
)
def test_every_answer_to_a_write_means_one_outcome(given_answer, outcome):
    assert play(MESSAGE, READY, given_answer)[1] == outcome


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_the_table_decides_before_the_status(code):
    outcome = play(MESSAGE, READY, answer(fault(code), 400))[1]
    assert isinstance(outcome, Deferred | Rejected)
    assert outcome.kind is CODES[code]


@pytest.mark.parametrize("status", sorted(set(BY_HTTP_STATUS)))
def test_every_status_of_the_table_decides_a_read(status):
    outcome = play(MESSAGE, Answer(status))[1]
    assert isinstance(outcome, Deferred | Rejected)
    assert (outcome.kind, outcome.code) == (BY_HTTP_STATUS[status], f"sap_{status}")


def test_a_token_that_was_withdrawn_is_had_anew_and_a_new_one_refused_is_for_a_person():
    old = replace(CONTEXT, now=NOW + timedelta(minutes=30))
    assert play(MESSAGE, Answer(401), context=old)[1] == Deferred(K.TRANSIENT, "sap_401", retry_after_s=0.0)
    assert play(MESSAGE, Answer(401))[1] == Rejected(K.AUTH, "sap_401")


@pytest.mark.parametrize("given_answer", [Answer(500), Answer(200, {}, b"<html>"), answer({"d": 1})])
def test_a_read_that_failed_leaves_nothing_in_doubt(given_answer):
    outcome = play(MESSAGE, given_answer)[1]
    assert isinstance(outcome, Deferred)
    assert not outcome.ambiguous


# ---- proofs ----


def pushed(body: bytes = b"{}", authorization: str = "Bearer mesh-token", media: str = "application/json") -> Inbound:
    headers = {"content-type": media} | ({"authorization": authorization} if authorization else {})
    return Inbound("POST", "https://hooks.example/webhooks/sap", headers, body)


def jwt(key: rsa.RSAPrivateKey = KEY, alg: str = "RS256", **claims: object) -> str:
    base = {
        "iss": "https://auth.example",
        "aud": ["x", "ordernotify"],
        "exp": NOW.timestamp() + 300,
        "iat": NOW.timestamp(),
    }
    parts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode()
        for one in ({"alg": alg}, base | claims)
    ]
    signature = key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


@pytest.mark.parametrize(
    "proof",
    [
        "Bearer mesh-token",
        "bearer  mesh-token",
        f"Bearer {jwt()}",
        f"Bearer {jwt(aud='ordernotify')}",
        f"Basic {base64.b64encode(b'SAPS4H:idoc-pass').decode()}",
    ],
)
def test_every_proof_that_is_set_up_is_taken(proof):
    assert verify(pushed(authorization=proof), SETTINGS, NOW) is None


@pytest.mark.parametrize(
    "proof",
    [
        "",
        "Bearer",
        "Bearer mesh-tokeN",
        "Digest x",
        "Basic !!!",
        f"Basic {base64.b64encode(b'SAPS4H:idoc-pasS').decode()}",
        f"Bearer {jwt(rsa.generate_private_key(65537, 2048))}",
        f"Bearer {jwt(alg='none')}",
        f"Bearer {jwt(alg='HS256')}",
        f"Bearer {jwt(iss='https://other.example')}",
        f"Bearer {jwt(aud='other')}",
        f"Bearer {jwt(exp=NOW.timestamp() - 61)}",
        f"Bearer {jwt(exp='never')}",
        f"Bearer {jwt(exp=None)}",
        f"Bearer {jwt(nbf=NOW.timestamp() + 90)}",
        f"Bearer {jwt()}x",
        f"Bearer {jwt().rpartition('.')[0]}.",
        "Bearer a.b.c",
        f"Bearer {'a' * 9000}.b.c",
    ],
)
def test_every_other_proof_is_refused(proof):
    found = verify(pushed(authorization=proof), SETTINGS, NOW)
    assert found is not None
    assert (found.status, found.field) == (401, "Authorization")


def test_one_flipped_byte_of_a_signed_token_fails():
    token = jwt()
    head, claims, signature = token.split(".")
    for position in range(len(claims)):
        other = "A" if claims[position] != "A" else "B"
        changed = f"{head}.{claims[:position]}{other}{claims[position + 1 :]}.{signature}"
        assert verify(pushed(authorization=f"Bearer {changed}"), SETTINGS, NOW) is not None


def test_what_is_not_set_up_proves_nothing():
    bare = SapSettings.model_validate(
        {name: VALUES[name] for name in ("base_url", "token_url", "client_id", "client_secret")}
    )
    for proof in ("Bearer x", "Bearer ", "Basic Og==", f"Bearer {jwt()}"):
        assert verify(pushed(authorization=proof), bare, NOW) is not None


def test_the_handshake_is_granted_by_echoing_the_origin():
    asked = Inbound("OPTIONS", "", {"webhook-request-origin": "eventmesh.example"}, b"")
    granted = handshake(asked, SETTINGS)
    assert isinstance(granted, Reply)
    assert granted.headers["webhook-allowed-origin"] == "eventmesh.example"
    assert handshake(pushed(), SETTINGS) is None
    only = SETTINGS.model_copy(update={"allowed_origins": "sap.example"})
    assert isinstance(handshake(asked, only), Refusal)
    assert isinstance(handshake(Inbound("OPTIONS", "", {}, b""), SETTINGS), Refusal)


# ---- thin events and what they point at ----


def event_of(name: str, **change: Any) -> OrderEvent:
    found = read(pushed(json.dumps({**recorded(name), **change}).encode()), SETTINGS, NOW)
    assert isinstance(found, Received), found
    (event,) = found.events
    return event


def test_an_event_points_at_its_order():
    assert event_of("event_order_changed") == OrderEvent(
        source="sap",
        dedupe_key="/default/sap.s4.beh/S4HCLNT100 QgEK7wzuHtqdhJwqCS+VOB==",
        order_ref="4800",
        order_no="4800",
        status=S.UNKNOWN,
        raw_status="SalesOrder.Changed",
        occurred_at=NOW,
        client_ref="10100001",
        refs={"sap": "4800"},
        thin=True,
    )
    assert event_of("event_order_created").thin
    delivery = event_of("event_delivery_created")
    assert (delivery.order_ref, delivery.thin) == ("delivery:80001234", True)


def test_a_deleted_order_is_for_a_person():
    event = event_of("event_order_deleted")
    assert (event.status, event.thin) == (S.UNKNOWN, False)


@pytest.mark.parametrize("word", [*sorted(SILENT), ""])
def test_what_is_no_news_of_an_order_is_taken_and_says_nothing(word):
    kind = f"sap.s4.beh.salesorder.v1.SalesOrder.{word}.v1" if word else "sap.s4.beh.businesspartner.v1.X.Changed.v1"
    body = json.dumps({**recorded("event_order_changed"), "type": kind}).encode()
    assert read(pushed(body), SETTINGS, NOW) == Received()


def reread(event: OrderEvent, found: Answer) -> OrderEvent | Outcome | None:
    assert PLATFORM.reread is not None
    return PLATFORM.reread.read(found, event, CONTEXT)


ORDERS = [
    ("order_received", S.RECEIVED, "OverallSDProcessStatus=A"),
    ("order_processing", S.PROCESSING, "OverallSDProcessStatus=B"),
    ("order_cancelled", S.CANCELLED, "OverallSDDocumentRejectionSts=C"),
    ("order_partly_rejected", S.UNKNOWN, "OverallSDDocumentRejectionSts=B"),
    ("order_regulatory_hold", S.REGULATORY_HOLD, "DeliveryBlockReason=E1"),
    ("order_delayed_block", S.DELAYED, "DeliveryBlockReason=02"),
    ("order_backordered", S.BACKORDERED, "ConfdOrderQtyByMatlAvailCheck<ScheduleLineOrderQuantity"),
    ("order_delayed_date", S.DELAYED, "ConfirmedDeliveryDate>RequestedDeliveryDate"),
]


@pytest.mark.parametrize(("name", "status", "raw"), ORDERS)
def test_an_order_that_was_read_says_what_happened(name, status, raw):
    thin = event_of("event_order_changed")
    found = reread(thin, answer(recorded(name)))
    assert isinstance(found, OrderEvent)
    assert (found.status, found.raw_status, found.thin) == (status, raw, False)
    assert (found.dedupe_key, found.order_ref, found.client_ref) == (thin.dedupe_key, "4800", "10100001")
    assert (found.contract_id, found.lines) == ("N00024-26-C-1234", (Line("RAD-7", 2),))
    assert found.occurred_at == datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
    assert found.promised_date == ("2026-12-08" if name == "order_delayed_date" else "")


@pytest.mark.parametrize("name", ["order_complete", "order_delivering"])
def test_an_order_whose_deliveries_tell_the_rest_says_nothing(name):
    assert reread(event_of("event_order_changed"), answer(recorded(name))) is None


@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [
        ("delivery_processing", S.PROCESSING, ""),
        ("delivery_shipped", S.SHIPPED, ""),
        ("delivery_partly_shipped", S.SHIPPED, "partial"),
        ("delivery_delivered", S.DELIVERED, ""),
    ],
)
def test_a_delivery_that_was_read_speaks_for_its_order(name, status, detail):
    found = reread(event_of("event_delivery_created"), answer(recorded(name)))
    assert isinstance(found, OrderEvent)
    assert (found.status, found.detail, found.order_ref) == (status, detail, "4800")
    assert (found.tracking_no, found.lines) == ("1Z999AA10123456784", (Line("RAD-7", 2),))
    assert found.refs == {"sap_delivery": "80001234", "sap": "4800"}


def test_a_delivery_of_several_orders_is_for_a_person():
    body = recorded("delivery_shipped")
    items = body["d"]["to_DeliveryDocumentItem"]["results"]
    items.append({**items[0], "ReferenceSDDocument": "4801"})
    found = reread(event_of("event_delivery_created"), answer(body))
    assert found == Rejected(K.PERMANENT, "sap_delivery_of_several_orders")


@pytest.mark.parametrize(
    ("given_answer", "outcome"),
    [
        (Answer(404), Rejected(K.PERMANENT, "not_found")),
        (Answer(401), Rejected(K.AUTH, "sap_401")),
        (Answer(503), Deferred(K.TRANSIENT, "sap_503")),
        (Answer(200, {}, b"<html>"), Deferred(K.TRANSIENT, "sap_unreadable")),
    ],
)
def test_a_read_that_gave_no_facts_is_an_outcome(given_answer, outcome):
    assert reread(event_of("event_order_changed"), given_answer) == outcome


@pytest.mark.parametrize(
    ("text", "found"),
    [("/Date(1795514400000+0000)/", NOW), ("/Date(1795514400000)/", NOW), ("2026-11-24", None), ("/Date(9" * 9, None)],
)
def test_dates_of_odata_v2_are_read(text, found):
    assert moment(text) == found


@pytest.mark.parametrize(("text", "count"), [("2.000", 2), ("2.5", 0), ("-1", 0), ("NaN", 0), ("1E9", 10**9), ("", 0)])
def test_only_whole_quantities_are_lines(text, count):
    assert quantity(text) == count


# ---- IDocs ----


@pytest.mark.parametrize(
    ("name", "message", "status"),
    [
        ("idoc_desadv", "DESADV", S.SHIPPED),
        ("idoc_stppod", "STPPOD", S.DELIVERED),
        ("idoc_ordrsp", "ORDRSP", S.RECEIVED),
    ],
)
def test_an_idoc_carries_its_order(name, message, status):
    found = read(pushed(xml(name), media="text/xml; charset=utf-8"), SETTINGS, NOW)
    assert isinstance(found, Received)
    (event,) = found.events
    assert (event.status, event.raw_status, event.order_ref) == (status, message, "4800")
    assert event.dedupe_key == "S4HCLNT100 100 0000000000812345 4800"
    assert (event.client_ref, event.lines, event.occurred_at) == ("10100001", (Line("RAD-7", 2),), NOW)
    assert not event.thin
    assert MESSAGES[message] is status


def test_a_packet_holds_several_idocs_and_an_idoc_several_orders():
    text = xml("idoc_desadv").decode()
    start, end = text.index("<IDOC"), text.index("</DELVRY03>")
    idoc = text[start:end]
    second = idoc.replace("812345", "812346").replace("</E1EDL20>", "<E1EDL24><VGBEL>4801</VGBEL></E1EDL24></E1EDL20>")
    found = read(pushed(f"{text[:end]}{second}</DELVRY03>".encode(), media="text/xml"), SETTINGS, NOW)
    assert isinstance(found, Received)
    assert [event.order_ref for event in found.events] == ["4800", "4800", "4801"]
    assert len({event.dedupe_key for event in found.events}) == 3


def test_times_of_idocs_are_the_system_s_own():
    settings = SETTINGS.model_copy(update={"time_zone": "America/New_York"})
    found = read(pushed(xml("idoc_desadv"), media="text/xml"), settings, NOW + timedelta(hours=5))
    assert isinstance(found, Received)
    assert found.events[0].occurred_at == NOW + timedelta(hours=5)


def test_a_message_that_no_table_knows_is_kept_for_a_person():
    body = xml("idoc_desadv").replace(b"DESADV", b"WHSCON")
    found = read(pushed(body, media="text/xml"), SETTINGS, NOW)
    assert isinstance(found, Received)
    assert (found.events[0].status, found.events[0].raw_status) == (S.UNKNOWN, "WHSCON")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b"<DELVRY03>", b'<!DOCTYPE x [<!ENTITY a "b">]><DELVRY03>', "body"),
        (b"<DELVRY03>", b'<!doctype x SYSTEM "file:///etc/passwd"><DELVRY03>', "body"),
        (b"</DELVRY03>", b"", "body"),
        (b"IDOC", b"ODOC", "IDOC"),
        (b"EDI_DC40", b"EDI_DC41", "IDOC[0].EDI_DC40"),
        (b"<DIRECT>1", b"<DIRECT>2", "IDOC[0].EDI_DC40.DIRECT"),
        (b"<DOCNUM>0000000000812345", b"<DOCNUM>", "IDOC[0].EDI_DC40.DOCNUM"),
        (b"<SNDPRN>S4HCLNT100", b"<SNDPRN>", "IDOC[0].EDI_DC40.SNDPRN"),
        (b"<VGBEL>0000004800", b"<VGBEL>x", "IDOC[0]"),
        (b"E1EDL20", b"E1EDL21", "IDOC[0]"),
        (b"<SERIAL>2026", b"<SERIAL>2027", "IDOC[0].EDI_DC40.SERIAL"),
        (b"RAD-7", b"\xff", "body"),
    ],
)
def test_a_hostile_or_broken_idoc_is_refused_by_field(old, new, field):
    found = read(pushed(xml("idoc_desadv").replace(old, new), media="text/xml"), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


def test_a_thousand_entities_are_never_expanded():
    bomb = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><DELVRY03>&b;</DELVRY03>'
    assert isinstance(read(pushed(bomb, media="application/xml"), SETTINGS, NOW), Refusal)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"source": 5}, "source"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2027-01-01T00:00:00Z"}, "time"),
        ({"data": None}, "data"),
        ({"data": {}}, "data.SalesOrder"),
        ({"data": {"SalesOrder": "x'y"}}, "data.SalesOrder"),
        ({"type": "sap.s4.beh.outbounddelivery.v1.OutboundDelivery.Changed.v1"}, "data.OutboundDelivery"),
    ],
)
def test_a_wrong_field_of_an_event_is_refused_by_name(change, field):
    body = json.dumps({**recorded("event_order_changed"), **change}).encode()
    found = read(pushed(body), SETTINGS, NOW)
    assert isinstance(found, Refusal)
    assert (found.status, found.field) == (422, field)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
FIELDS = st.sampled_from([*sorted(recorded("order_processing")["d"]), "results"])


@given(JSON | st.dictionaries(st.sampled_from(sorted(recorded("event_order_changed"))), JSON, max_size=4))
def test_random_events_are_read_or_refused_and_never_raise(value):
    body = json.dumps({**recorded("event_order_changed"), **value} if isinstance(value, dict) else value).encode()
    assert isinstance(read(pushed(body), SETTINGS, NOW), Received | Refusal)


@given(st.dictionaries(FIELDS, JSON, max_size=6), st.sampled_from([200, 404, 500]))
def test_random_facts_are_an_event_an_outcome_or_nothing(fields, status):
    for name in ("event_order_changed", "event_delivery_created"):
        found = reread(event_of(name), answer({"d": fields}, status))
        assert found is None or isinstance(found, OrderEvent | Deferred | Rejected)


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_random_bytes_are_no_idoc(body):
    assert isinstance(read(pushed(body, media="text/xml"), SETTINGS, NOW), Received | Refusal)


# ---- against the simulated vendor ----


def logged_in(desk: Any) -> Any:
    """Fetch a token at the simulation, as the wire does before the first call."""
    token = PLATFORM.token.read(desk.call(PLATFORM.token.build(desk.context)), desk.context)
    desk.context = replace(desk.context, token=token)
    return desk


def test_the_simulation_takes_what_we_send_and_a_repetition_changes_nothing(loop):
    desk = logged_in(loop(PLATFORM, VENDOR))
    assert desk.send(MESSAGE) == [Accepted("4800", "sap_204")]
    assert desk.send(MESSAGE) == [Accepted("4800", "sap_found")]
    later = replace(MESSAGE, reference="f" * 32, status=S.DELIVERED, text="Delivered.")
    assert desk.send(later) == [Accepted("4800", "sap_204")]
    assert [(one.to, one.reference, one.text) for one in desk.taken] == [
        ("4800", MESSAGE.reference, MESSAGE.text),
        ("4800", "f" * 32, "Delivered."),
    ]


def test_what_we_write_comes_back_as_an_event_that_says_nothing_new(loop):
    desk = logged_in(loop(PLATFORM, VENDOR))
    desk.send(MESSAGE)
    (callback,) = desk.callbacks
    found = desk.receive(callback)
    assert isinstance(found, Received)
    (thin,) = found.events
    whole = PLATFORM.reread.read(desk.call(PLATFORM.reread.build(thin, desk.context)), thin, desk.context)
    assert (whole.status, whole.contract_id) == (S.PROCESSING, "PO-4800")
    known = OrderState(status=S.PROCESSING, status_at=whole.occurred_at - timedelta(hours=1))
    assert admit(known, whole) is Admission.SAME


def test_a_delivery_is_read_from_the_simulation(loop):
    desk = logged_in(loop(PLATFORM, VENDOR))
    thin = replace(event_of("event_delivery_created"), order_ref="delivery:80004800")
    whole = PLATFORM.reread.read(desk.call(PLATFORM.reread.build(thin, desk.context)), thin, desk.context)
    assert (whole.status, whole.order_ref) == (S.SHIPPED, "4800")


def test_the_simulation_refuses_what_sap_refuses(loop):
    assert loop(PLATFORM, VENDOR).send(MESSAGE)[0] == Rejected(K.AUTH, "sap_401")
    assert PLATFORM.token.read(
        loop(PLATFORM, VENDOR, client_secret="no").call(
            PLATFORM.token.build(loop(PLATFORM, VENDOR, client_secret="no").context)
        ),
        CONTEXT,
    ) == Rejected(K.AUTH, "sap_invalid_client")
    desk = logged_in(loop(PLATFORM, VENDOR))
    assert desk.send(replace(MESSAGE, to="1404"))[0] == Rejected(K.PERMANENT, "sap_/IWBEP/CM_MGW_RT/020")
    assert desk.send(replace(MESSAGE, to="1423"))[0] == Deferred(K.TRANSIENT, "sap_MC/601")
    other = logged_in(loop(PLATFORM, VENDOR, status_field="YY1_Other_SDH"))
    assert other.send(MESSAGE)[0].kind is K.CONFIG


def test_a_write_outside_its_session_is_refused_by_the_simulation(loop):
    desk = logged_in(loop(PLATFORM, VENDOR))
    conversation = PLATFORM.send([MESSAGE], desk.context)
    write = conversation.send(desk.call(next(conversation)))
    stolen = replace(write, headers={**write.headers, "cookie": "SAP_SESSIONID_S4H_100=other"})
    assert desk.call(stolen).headers["x-csrf-token"] == "Required"
    assert desk.call(write).status == 201


@pytest.mark.parametrize(
    ("struck", "outcome"),
    [
        (Fault.RATE, Deferred(K.RATE, "sap_429", retry_after_s=1.0)),
        (Fault.RATE_BARE, Deferred(K.RATE, "sap_429")),
        (Fault.SERVER_ERROR, Deferred(K.TRANSIENT, "sap_/IWFND/CM_CONSUMER/101", ambiguous=True)),
        (Fault.PERMANENT, Rejected(K.PERMANENT, "sap_/IWBEP/CM_MGW_RT/020")),
        (Fault.AUTH, Rejected(K.AUTH, "sap_401")),
    ],
)
def test_every_fault_of_the_vendor_is_understood(struck, outcome):
    refused = VENDOR.refuse(struck)
    assert play(MESSAGE, READY, Answer(refused.status, refused.headers, refused.body))[1] == outcome


# ---- set up ----


def test_the_probe_says_what_is_wrong(loop):
    desk = logged_in(loop(PLATFORM, VENDOR))
    probe = PLATFORM.probe
    assert all(finding.ok for finding in probe.read(desk.call(probe.build(desk.context)), desk.context))
    other = logged_in(loop(PLATFORM, VENDOR, reference_field="YY1_Other_SDH"))
    findings = probe.read(other.call(probe.build(other.context)), other.context)
    assert [finding.ok for finding in findings] == [True, False, True]
    assert not probe.read(Answer(401), CONTEXT)[0].ok


def test_a_person_is_told_every_step_and_no_secret():
    context = replace(CONTEXT, webhook_url="https://hooks.example/webhooks/sap")
    text = "\n".join(step.instruction for step in PLATFORM.provision(context))
    assert context.webhook_url in text
    assert "NoticeReference (text, 64 characters)" in text
    body = json.loads(text[text.index("{\n") : text.rindex("}\n") + 1])
    assert body["pushConfig"]["endpoint"] == context.webhook_url
    assert not any(str(secret) in text for secret in ("se:cret", "mesh-token", "idoc-pass"))
