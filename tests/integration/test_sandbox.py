"""The sandbox over real HTTP: what it takes, how it fails on demand, calls back, and what a person sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from ordernotify.sandbox._base import (
    Callback,
    Fault,
    Reply,
    Request,
    Shelf,
    Taken,
    Vendor,
    json_reply,
)
from ordernotify.sandbox.app import serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSALS = {
    Fault.RATE: Reply(429, b'{"code": "slow down"}', {"Retry-After": "2"}),
    Fault.RATE_BARE: Reply(429),
    Fault.SERVER_ERROR: Reply(500, b'{"code": "roof fell in"}'),
    Fault.PERMANENT: Reply(400, b'{"code": "no such loft"}'),
    Fault.AUTH: Reply(401, b'{"code": "unknown keeper"}'),
    Fault.OPT_OUT: Reply(403, b'{"code": "no pigeons please"}'),
}


def _send(request: Request, shelf: Shelf) -> Reply:
    asked = request.json()
    if request.headers.get("authorization") != "Bearer throw-away":
        return REFUSALS[Fault.AUTH]
    ref = f"pigeon-{shelf.next_serial()}"
    callbacks = tuple(Callback(url, {"x-pigeon": "signed"}, b'{"arrived": true}') for url in shelf.webhooks.values())
    taken = (Taken(asked["to"], asked.get("ref", ""), asked["text"], ref),)
    return json_reply(201, {"id": ref, "root": shelf.root}, taken=taken, callbacks=callbacks)


def _echo(request: Request, shelf: Shelf) -> Reply:
    return json_reply(200, {"path": request.path, "query": dict(request.query), "form": request.form()})


def _broken(request: Request, shelf: Shelf) -> Reply:
    raise KeyError("a bug of the simulation")


def _hear(request: Request, shelf: Shelf) -> Reply:
    return Reply(204, taken=(Taken("us", "", request.body.decode() + request.headers["x-pigeon"]),))


PIGEON = Vendor(
    name="pigeon",
    routes={
        ("POST", r"/v1/messages"): _send,
        ("POST", r"/v1/lofts/[a-z ]+"): _echo,
        ("GET", r"/v1/broken"): _broken,
    },
    settings={"token": "throw-away"},
    refuse=REFUSALS.__getitem__,
)
EAR = Vendor(
    name="ear",
    routes={("POST", r"/hear"): _hear},
    settings={},
    refuse=REFUSALS.__getitem__,
)
VENDORS = {"pigeon": PIGEON, "ear": EAR}


@dataclass(frozen=True)
class Sandbox:
    url: str
    client: httpx.AsyncClient

    async def send(self, text: str = "Order 7 shipped.", *, ref: str = "", to: str = "loft 1") -> httpx.Response:
        return await self.client.post(
            "/pigeon/v1/messages",
            json={"to": to, "ref": ref, "text": text},
            headers={"authorization": "Bearer throw-away"},
        )

    async def counts(self, vendor: str = "pigeon") -> dict[str, int]:
        return (await self.client.get("/_control/counts")).json()[vendor]

    async def taken(self, **query: Any) -> list[dict[str, Any]]:
        return (await self.client.get("/_control/pigeon/taken", params=query)).json()

    async def fault(self, fault: str, *, vendor: str = "pigeon", **more: Any) -> None:
        answer = await self.client.post(f"/_control/{vendor}/fault", json={"fault": fault, **more})
        assert answer.status_code == 200

    async def call_back_to(self, url: str) -> httpx.Response:
        return await self.client.put("/_control/pigeon/webhooks", json={"receipts": url})


@asynccontextmanager
async def running(vendors: Mapping[str, Vendor]) -> AsyncIterator[Sandbox]:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    server = asyncio.create_task(serve(port=0, vendors=vendors, ready=started.set_result, stop=stop))
    try:
        url = await asyncio.wait_for(started, 5)
        async with httpx.AsyncClient(base_url=url, timeout=5) as client:
            yield Sandbox(url, client)
    finally:
        stop.set()
        await asyncio.wait_for(server, 5)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[Sandbox]:
    async with running(VENDORS) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(server: Sandbox) -> Sandbox:
    await server.client.post("/_control/reset")
    await server.client.put("/_control/pigeon/webhooks", json={})
    return server


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 4) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.02)


async def test_a_vendor_takes_a_message_and_answers_as_it_declares(sandbox):
    answer = await sandbox.send("Order 7 shipped.", ref="delivery-1")
    assert answer.status_code == 201
    assert answer.json() == {"id": "pigeon-1", "root": f"{sandbox.url}/pigeon"}
    (message,) = await sandbox.taken()
    assert message["to"] == "loft 1"
    assert message["reference"] == "delivery-1"
    assert message["text"] == "Order 7 shipped."
    assert message["provider_ref"] == "pigeon-1"
    assert len(message["text_sha256"]) == 64
    assert abs(message["received_at_ms"] / 1000 - time.time()) < 60


async def test_a_request_is_matched_by_method_and_whole_decoded_path(sandbox):
    answer = await sandbox.client.post("/pigeon/v1/lofts/north%20side?a=1&a=2", data={"x": "y"})
    assert answer.json() == {"path": "/v1/lofts/north side", "query": {"a": "2"}, "form": {"x": "y"}}
    for method, path in (
        ("GET", "/pigeon/v1/messages"),
        ("POST", "/pigeon/v1/messages/more"),
        ("POST", "/owl/v1/messages"),
        ("GET", "/_control/owl/taken"),
        ("GET", "/_control/pigeon/nothing"),
    ):
        answer = await sandbox.client.request(method, path)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), path


async def test_a_bug_of_a_vendor_is_a_500_and_in_the_log(sandbox, caplog):
    answer = await sandbox.client.get("/pigeon/v1/broken")
    assert answer.status_code == 500
    assert answer.json()["error"] == "simulation"
    assert "a bug of the simulation" in caplog.text
    assert (await sandbox.counts())["errors"] == 1


async def test_repetitions_are_counted_by_reference_and_by_words_where_there_is_none(sandbox):
    for ref in ("a", "b", "a"):
        await sandbox.send(ref=ref)
    for text in ("same", "same", "other"):
        await sandbox.send(text)
    await sandbox.send("same", to="loft 2")
    counts = await sandbox.counts()
    assert (counts["taken"], counts["distinct"], counts["duplicates"]) == (7, 5, 2)
    references = (await sandbox.client.get("/_control/pigeon/references")).json()
    assert (references["a"], references["b"]) == (2, 1)


async def test_what_was_taken_is_listed_newest_first_by_recipient_up_to_a_limit(sandbox):
    for number in range(4):
        await sandbox.send(str(number), to="even" if number % 2 == 0 else "odd")
    assert [message["text"] for message in await sandbox.taken()] == ["3", "2", "1", "0"]
    assert [message["text"] for message in await sandbox.taken(to="odd")] == ["3", "1"]
    newest, older = await sandbox.taken(limit=2)
    assert newest["sequence"] == older["sequence"] + 1
    refused = await sandbox.client.get("/_control/pigeon/taken", params={"limit": "all"})
    assert (refused.status_code, refused.json()["field"]) == (422, "limit")


@pytest.mark.parametrize("fault", sorted(REFUSALS))
async def test_a_refusing_fault_answers_in_the_vendors_format_and_takes_nothing(sandbox, fault):
    await sandbox.fault(fault, times=1)
    answer = await sandbox.send()
    assert (answer.status_code, answer.content) == (REFUSALS[fault].status, REFUSALS[fault].body)
    assert answer.headers.get("retry-after") == REFUSALS[fault].headers.get("Retry-After")
    assert (await sandbox.counts())["taken"] == 0
    assert (await sandbox.counts())["refused"] == 1
    assert (await sandbox.send()).status_code == 201


async def test_a_fault_ends_after_its_times_its_seconds_or_on_demand(sandbox):
    await sandbox.fault("server_error", times=2)
    assert [(await sandbox.send()).status_code for _ in range(3)] == [500, 500, 201]
    await sandbox.fault("server_error", seconds=0.2)
    assert (await sandbox.send()).status_code == 500
    await asyncio.sleep(0.25)
    assert (await sandbox.send()).status_code == 201
    await sandbox.fault("server_error")
    assert (await sandbox.send()).status_code == 500
    assert (await sandbox.client.get("/_control/pigeon/fault")).json()["fault"] == "server_error"
    await sandbox.client.delete("/_control/pigeon/fault")
    assert (await sandbox.send()).status_code == 201
    assert (await sandbox.client.get("/_control/pigeon/fault")).json() is None


async def test_a_fault_with_a_path_strikes_and_counts_only_there(sandbox):
    await sandbox.fault("server_error", times=1, path="/v1/messages")
    assert (await sandbox.client.post("/pigeon/v1/lofts/north")).status_code == 200
    assert (await sandbox.send()).status_code == 500
    assert (await sandbox.send()).status_code == 201


async def test_a_hanging_vendor_answers_as_usual_when_its_time_is_over(sandbox):
    await sandbox.fault("hang", times=1, hang_seconds=0.3)
    began = time.monotonic()
    hanging = asyncio.create_task(sandbox.send("late"))
    await asyncio.sleep(0.05)
    assert (await sandbox.send("at once")).status_code == 201
    assert time.monotonic() - began < 0.3
    assert (await hanging).status_code == 201
    assert time.monotonic() - began >= 0.3
    assert [message["text"] for message in await sandbox.taken()] == ["late", "at once"]


async def _wire(url: str, body: bytes = b"{}") -> bytes:
    """Return all bytes that the server sends for one message; OSError as the socket raises it."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"POST /pigeon/v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"authorization: Bearer throw-away\r\n\r\n" + body)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("size", [10, 900_000])
async def test_reset_is_a_real_reset_without_a_byte_of_answer_and_takes_nothing(sandbox, size, caplog):
    await sandbox.fault("reset")
    with pytest.raises(ConnectionResetError):
        await _wire(sandbox.url, b'{"to": "x", "text": "' + b"y" * size + b'"}')
    with pytest.raises(httpx.ReadError):
        await sandbox.send()
    counts = await sandbox.counts()
    assert (counts["requests"], counts["taken"], counts["refused"]) == (2, 0, 2)
    assert caplog.text == ""


async def test_no_answer_takes_the_message_and_then_resets(sandbox):
    await sandbox.fault("no_answer", times=2)
    with pytest.raises(ConnectionResetError):
        await _wire(sandbox.url, b'{"to": "x", "text": "y", "ref": "1"}')
    with pytest.raises(httpx.ReadError):
        await sandbox.send(ref="2")
    assert (await sandbox.send(ref="2")).status_code == 201
    counts = await sandbox.counts()
    assert (counts["taken"], counts["distinct"], counts["duplicates"]) == (3, 2, 1)


async def test_a_fault_that_makes_no_sense_is_refused_with_the_field(sandbox):
    for order, field in (
        ({"fault": "earthquake"}, "fault"),
        ({"fault": "rate", "times": 0}, "times"),
        ({"fault": "rate", "path": "("}, "path"),
        ({"fault": "rate", "often": 1}, "often"),
        ([], "body"),
    ):
        answer = await sandbox.client.post("/_control/pigeon/fault", json=order)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert (await sandbox.send()).status_code == 201


async def test_a_callback_arrives_and_a_failing_receiver_is_tried_again(sandbox):
    await sandbox.call_back_to(f"{sandbox.url}/ear/hear")
    await sandbox.fault("server_error", vendor="ear", times=1)
    await sandbox.send()

    async def heard() -> bool:
        return (await sandbox.counts("ear"))["taken"] == 1 and (await sandbox.counts())["callbacks_sent"] == 1

    await until(heard)
    (message,) = (await sandbox.client.get("/_control/ear/taken")).json()
    assert message["text"] == '{"arrived": true}signed'
    assert (await sandbox.counts("ear"))["requests"] == 2
    assert (await sandbox.counts())["callbacks_pending"] == 0


async def test_a_callback_that_the_receiver_refuses_fails_at_once(sandbox):
    await sandbox.call_back_to(f"{sandbox.url}/ear/nothing-here")
    await sandbox.send()

    async def failed() -> bool:
        return (await sandbox.counts())["callbacks_failed"] == 1

    await until(failed, 1)


async def test_a_callback_to_nobody_is_tried_again_until_somebody_listens(sandbox, unused_tcp_port):
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    await sandbox.call_back_to(f"http://127.0.0.1:{unused_tcp_port}/hooks/pigeon")
    await sandbox.send()
    await asyncio.sleep(0.15)
    async with await asyncio.start_server(answer, "127.0.0.1", unused_tcp_port):

        async def sent() -> bool:
            return (await sandbox.counts())["callbacks_sent"] == 1

        await until(sent)
    assert heard == [b"POST /hooks/pigeon HTTP/1.1\r\n"]


@pytest.mark.parametrize("url", ["http://example.com/x", "http://192.0.2.1/", "ftp://127.0.0.1/", "http://[::1", 7])
async def test_only_this_machine_is_called_back(sandbox, url):
    answer = await sandbox.call_back_to(url)
    assert (answer.status_code, answer.json()["field"]) == (422, "receipts")


async def test_a_vendor_that_calls_a_foreign_host_by_itself_is_stopped_and_counted():
    def call_away(request: Request, shelf: Shelf) -> Reply:
        return Reply(200, callbacks=(Callback("http://192.0.2.1/x", {}, b""),))

    vendor = Vendor(name="v", routes={("GET", "/"): call_away}, settings={}, refuse=REFUSALS.__getitem__)
    async with running({"v": vendor}) as sandbox:
        assert (await sandbox.client.get("/v/")).status_code == 200
        counts = await sandbox.counts("v")
    assert (counts["callbacks_refused"], counts["callbacks_pending"]) == (1, 0)


async def test_reset_forgets_everything_but_the_webhooks_and_lets_no_hanging_request_arrive_late(sandbox):
    await sandbox.call_back_to(f"{sandbox.url}/ear/hear")
    await sandbox.send()
    await sandbox.fault("hang", hang_seconds=30)
    hanging = asyncio.create_task(sandbox.send("late"))
    await asyncio.sleep(0.05)
    assert (await sandbox.client.post("/_control/reset")).status_code == 204
    with pytest.raises(httpx.ReadError):
        await hanging
    assert not any((await sandbox.counts()).values())
    assert await sandbox.taken() == []
    assert (await sandbox.send()).json()["id"] == "pigeon-1"

    async def heard() -> bool:
        return (await sandbox.counts("ear"))["taken"] == 1

    await until(heard)


async def test_the_page_shows_what_arrived_and_escapes_it(sandbox):
    assert "Nothing has arrived yet" in (await sandbox.client.get("/")).text
    await sandbox.send("<script>alert(1)</script>", ref="delivery-9")
    await sandbox.fault("rate")
    page = await sandbox.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script" not in page.text
    assert "delivery-9" in page.text
    assert "fault on: rate" in page.text
    assert (await sandbox.client.get("/healthz")).json() == {"status": "ok"}


async def test_it_takes_many_messages_at_the_same_time_and_loses_none(sandbox):
    async def some(worker: int) -> None:
        for number in range(20):
            assert (await sandbox.send(ref=f"{worker}-{number}")).status_code == 201

    await asyncio.gather(*(some(worker) for worker in range(10)))
    counts = await sandbox.counts()
    assert (counts["taken"], counts["distinct"]) == (200, 200)
    sequences = [message["sequence"] for message in await sandbox.taken(limit=500)]
    assert sequences == sorted(sequences, reverse=True)


async def test_it_refuses_to_listen_for_other_machines():
    with pytest.raises(ValueError, match="not this machine"):
        await serve("0.0.0.0", 0)
