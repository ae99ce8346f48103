"""The door: what is taken is stored before we say so, what is refused is refused in words, nothing breaks."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from asgi_lifespan import LifespanManager
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ordernotify.clock import now
from ordernotify.sandbox.senders import (
    cloudevents_request,
    shopify_request,
    standard_webhooks_request,
    woocommerce_request,
)
from ordernotify.settings import Settings
from ordernotify.web.app import create_app

pytestmark = pytest.mark.integration

KEY = {"x-api-key": "k"}
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SHOPIFY = {
    "ORDERNOTIFY_SHOPIFY_SHOP": "demo.myshopify.com",
    "ORDERNOTIFY_SHOPIFY_CLIENT_SECRET": "shpss_demo_secret",
    "ORDERNOTIFY_SHOPIFY_ACCESS_TOKEN": "shpat_demo",
}
WOO = {
    "ORDERNOTIFY_WOOCOMMERCE_BASE_URL": "https://shop.example",
    "ORDERNOTIFY_WOOCOMMERCE_WEBHOOK_SECRET": "woosecret",
    "ORDERNOTIFY_WOOCOMMERCE_CONSUMER_KEY": "ck_x",
    "ORDERNOTIFY_WOOCOMMERCE_CONSUMER_SECRET": "cs_x",
}


@pytest.fixture
async def door(urls, tmp_path, monkeypatch):
    for name, value in {
        **SHOPIFY,
        **WOO,
        "ORDERNOTIFY_TELEGRAM_BOT_TOKEN": "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11",
        "ORDERNOTIFY_TELEGRAM_WEBHOOK_SECRET": "S3cret_Token-01",
        "ORDERNOTIFY_CLOUDEVENTS_WEBHOOK_SECRET": SECRET,
        "ORDERNOTIFY_STANDARD_WEBHOOKS_WEBHOOK_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    house = Settings(
        state_dir=tmp_path,
        app_url=urls.app,
        sealer_url=urls.sealer,
        reader_url=urls.reader,
        api_keys="k",
        public_url="https://notify.example.com",
        max_body_bytes=100_000,
        max_waiting=50,
    )
    app = create_app(house)
    async with (
        LifespanManager(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door") as client,
    ):
        yield client


def event(number=1, **more):
    return {
        "id": f"e{number}",
        "order_id": f"SO-{number}",
        "client": "acme",
        "status": "received",
        "occurred_at": "2026-11-01T10:00:00Z",
        **more,
    }


async def test_an_event_is_stored_before_the_answer_and_its_repetition_is_a_duplicate(door, pool):
    first = await door.post("/api/v1/events", headers=KEY, json=event())
    assert first.status_code == 202
    (event_id,) = first.json()["accepted"]
    assert await pool.fetchval("SELECT state FROM event WHERE id = $1::text::uuid", event_id) == "waiting"
    again = await door.post("/api/v1/events", headers=KEY, json=event())
    assert again.status_code == 200
    assert again.json() == {"accepted": [], "duplicates": 1}
    assert await pool.fetchval("SELECT count(*) FROM event") == 1


async def test_many_at_once_share_transactions_and_each_is_stored_once(door, pool):
    answers = await asyncio.gather(*(door.post("/api/v1/events", headers=KEY, json=event(n % 30)) for n in range(90)))
    assert sorted(answer.status_code for answer in answers) == [200] * 60 + [202] * 30
    assert await pool.fetchval("SELECT count(*) FROM event") == 30


@pytest.mark.parametrize(
    ("body", "field", "hint"),
    [
        (b'{"id": "x", "order_id": ', "body", "JSON"),
        (b'{"id": "x", "order_id": "o", "status": NaN}', "body", "JSON"),
        (b"[]", "body", "1 to 1000"),
        (json.dumps(event(lines=[{"sku": "A", "quantity": "two"}])).encode(), "lines[0].quantity", "whole number"),
        (json.dumps(event(lines=[{"sku": "A", "quantity": 1.5}])).encode(), "lines[0].quantity", "whole number"),
        (json.dumps(event(occurred_at="yesterday")).encode(), "occurred_at", ""),
        (json.dumps(event(occurred_at="2026-11-01T10:00:00")).encode(), "occurred_at", "zone"),
        (json.dumps({**event(), "status": None}).encode(), "status", ""),
        (json.dumps({**event(), "surprise": 1}).encode(), "surprise", ""),
        (json.dumps([event(1), event(2, order_id=7)]).encode(), "[1].order_id", ""),
    ],
)
async def test_a_malformed_event_is_refused_naming_the_field(door, pool, body, field, hint):
    answer = await door.post("/api/v1/events", headers=KEY, content=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["field"] == field
    assert hint in answer.json()["error"]["message"]
    assert await pool.fetchval("SELECT count(*) FROM event") == 0


async def test_a_body_that_is_too_large_is_refused_unread(door):
    async def endless():
        for _ in range(40):
            yield b"x" * 10_000

    assert (await door.post("/api/v1/events", headers=KEY, content=endless())).status_code == 413
    declared = {**KEY, "content-length": "20000000"}
    assert (await door.post("/webhooks/shopify", headers=declared, content=b"x")).status_code == 413


async def test_without_a_known_key_nothing_is_taken(door):
    for headers in ({}, {"x-api-key": "other"}, {"authorization": "Bearer nope"}):
        answer = await door.post("/api/v1/events", headers=headers, json=event())
        assert answer.status_code == 401
        assert answer.json()["error"]["field"] == "X-API-Key"
    answer = await door.post("/api/v1/events", headers={"authorization": "Bearer k"}, json=event())
    assert answer.status_code == 202


async def test_an_unknown_source_is_404_and_says_which_are_known(door):
    answer = await door.post("/webhooks/ebay", content=b"{}")
    assert answer.status_code == 404
    assert "shopify" in answer.json()["error"]["message"]


async def test_a_forged_signature_is_401_and_recorded(door, pool):
    headers, body = shopify_request(
        "orders/create", {"id": 1}, secret="wrong", shop="demo.myshopify.com", event_id="e", triggered_at=now()
    )
    answer = await door.post("/webhooks/shopify", headers=headers, content=body)
    assert answer.status_code == 401
    assert await pool.fetchval("SELECT count(*) FROM event") == 0


async def test_standard_webhooks_and_cloudevents_in_every_mode_are_taken(door, pool):
    data = {"order_id": "SO-9", "client": "acme", "status": "shipped"}
    headers, body = standard_webhooks_request(
        "order.shipped",
        data,
        secret=SECRET,
        message_id="m1",
        occurred_at=now(),
        sent_at=now(),
    )
    assert (await door.post("/webhooks/standard_webhooks", headers=headers, content=body)).status_code == 202
    for mode, count in (("binary", 1), ("structured", 1), ("batch", 3)):
        events = [
            {
                "specversion": "1.0",
                "id": f"{mode}-{number}",
                "source": "//erp",
                "type": "order.shipped",
                "time": now().isoformat(),
                "datacontenttype": "application/json",
                "data": data,
            }
            for number in range(count)
        ]
        headers, body = cloudevents_request(events, mode=mode, secret=SECRET, message_id=mode, sent_at=now())
        answer = await door.post("/webhooks/cloudevents", headers=headers, content=body)
        assert answer.status_code == 202, answer.text
        assert len(answer.json()["accepted"]) == count
    assert await pool.fetchval("SELECT count(*) FROM event") == 6


async def test_an_unknown_status_word_is_taken_as_unknown(door, pool):
    answer = await door.post("/api/v1/events", headers=KEY, json=event(status="teleported"))
    assert answer.status_code == 202
    row = await pool.fetchrow("SELECT status, content FROM event")
    assert (row["status"], row["content"]["raw_status"]) == ("unknown", "teleported")


async def test_when_too_much_waits_the_sender_is_told_to_come_back(door):
    batch = [event(number) for number in range(60)]
    assert (await door.post("/api/v1/events", headers=KEY, json=batch)).status_code == 202
    await asyncio.sleep(1.1)
    answer = await door.post("/api/v1/events", headers=KEY, json=event(99))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_an_invalid_phone_is_refused_where_it_is_written(door):
    client = {
        "name": "Acme",
        "recipients": [
            {
                "id": "ann",
                "name": "Ann",
                "contacts": [{"key": "phone", "channel": "sms", "platform": "twilio", "address": "+1 555"}],
            }
        ],
    }
    answer = await door.put("/api/v1/clients/acme", headers=KEY, json=client)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"].startswith("recipients[0].contacts[0]")
    assert "+12025550123" in answer.json()["error"]["message"]


async def test_opening_a_deep_link_ties_an_account_to_its_contact_once(door, pool):
    code = "Zk3v9QmT7pXw2LrB"
    contact = {"key": "chat", "channel": "chat", "platform": "telegram", "address": f"link:{code}"}
    client = {"name": "Acme", "recipients": [{"id": "ann", "name": "Ann", "contacts": [contact]}]}
    assert (await door.put("/api/v1/clients/acme", headers=KEY, json=client)).status_code == 204
    update = {
        "update_id": 1,
        "message": {
            "message_id": 1,
            "date": 1764000000,
            "chat": {"id": 4711, "type": "private"},
            "from": {"id": 4711, "is_bot": False, "first_name": "Ann"},
            "text": f"/start {code}",
        },
    }
    secret = {"x-telegram-bot-api-secret-token": "S3cret_Token-01"}
    for _ in range(2):
        answer = await door.post("/webhooks/telegram", headers=secret, json=update)
        assert answer.is_success, answer.text
    row = await pool.fetchrow("SELECT address, verified, consent FROM contact_point")
    assert tuple(row) == ("4711", True, "granted")
    assert (await door.post("/webhooks/telegram", json=update)).status_code in {401, 403}


async def test_health_says_whether_the_database_answers(door):
    assert (await door.get("/healthz")).json() == {"status": "ok"}
    assert (await door.get("/readyz")).status_code == 200


async def test_the_description_of_the_api_names_every_body(door):
    schema = (await door.get("/openapi.json")).json()
    assert {"EventIn", "ClientBody", "PartBody"} <= set(schema["components"]["schemas"])
    assert "/api/v1/events" in schema["paths"]


async def test_woocommerce_orders_are_taken(door):
    order = {
        "id": 727,
        "number": "727",
        "status": "processing",
        "date_modified_gmt": "2026-11-23T09:15:00",
        "customer_id": 26,
        "billing": {"email": "buyer@example.com"},
        "line_items": [{"id": 1, "sku": "RAD-7", "quantity": 2}],
    }
    headers, body = woocommerce_request(
        "order.updated", order, secret="woosecret", shop_url="https://shop.example", sent_at=now()
    )
    answer = await door.post("/webhooks/woocommerce", headers=headers, content=body)
    assert answer.status_code == 202, answer.text


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20) | st.integers(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
async def test_no_body_whatever_makes_the_door_fail(door, body):
    for path, headers in (("/api/v1/events", KEY), ("/webhooks/shopify", {}), ("/webhooks/cloudevents", {})):
        answer = await door.post(path, headers=headers, content=body)
        assert answer.status_code in {401, 422}, (path, answer.status_code, answer.text)
