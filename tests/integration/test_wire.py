"""The wire: what it sends, what it forgets, and that nothing of a call is left to the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import gzip

import httpx
import pytest

from ordernotify.platforms._base import Call
from ordernotify.wire import NoAnswer, UnansweredError, Wire

pytestmark = pytest.mark.integration

ANSWER = b"HTTP/1.1 200 OK\r\nset-cookie: tied=yes\r\nX-Mixed: Case\r\ncontent-length: 2\r\n\r\nok"


class Vendor:
    """Answers every request with ``answer`` and keeps what it was sent."""

    def __init__(self, answer=ANSWER):
        self.answer, self.seen = answer, []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_details):
        self._server.close()

    async def _serve(self, reader, writer):
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
            body = await reader.readexactly(int(fields.get(b"content-length", 0)))
            self.seen.append((head, fields, body))
            writer.write(self.answer)
        writer.close()


@pytest.fixture
async def wire():
    async with Wire(timeout_s=2, connections=4) as made:
        yield made


async def test_a_request_is_sent_as_it_was_built(wire):
    async with Vendor() as vendor:
        answer = await wire.call("v", Call("POST", f"{vendor.url}/a?b=c%20d", {"x-key": "k"}, b"{}"))
        await wire.call("v", Call("GET", f"{vendor.url}/a", {}))
    (head, fields, body), (second, without, nothing) = vendor.seen
    assert head.startswith(b"POST /a?b=c%20d HTTP/1.1\r\n")
    assert (fields[b"x-key"], fields[b"content-length"], body) == (b"k", b"2", b"{}")
    assert fields[b"user-agent"] == b"ordernotify"
    assert second.startswith(b"GET /a ")
    assert (without.get(b"content-length", b"0"), nothing) == (b"0", b"")
    assert (answer.status, answer.headers["x-mixed"], answer.body) == (200, "Case", b"ok")


async def test_a_compressed_answer_is_read_as_it_was_meant(wire):
    packed = gzip.compress(b'{"said": "ok"}')
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with Vendor(answer=head + packed) as vendor:
        assert (await wire.call("v", Call("GET", vendor.url, {}))).body == b'{"said": "ok"}'
    async with Vendor(answer=head + packed[::-1]) as vendor:
        with pytest.raises(UnansweredError) as unanswered:
            await wire.call("w", Call("POST", vendor.url, {}, b"{}"))
    assert (unanswered.value.why, unanswered.value.kind) == (NoAnswer.NO_ANSWER, "error")


async def test_no_cookie_ties_one_call_to_the_next(wire):
    async with Vendor() as vendor:
        for _ in range(2):
            await wire.call("v", Call("GET", vendor.url, {}))
    assert not any(b"cookie" in fields for _, fields, _ in vendor.seen)


async def test_nothing_of_a_call_waits_for_the_garbage_collector(wire):
    async with Vendor() as vendor:
        await wire.call("v", Call("GET", vendor.url, {}))
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await wire.call("v", Call("POST", vendor.url, {}, b"{}"))
            left = [thing for thing in gc.get_objects() if isinstance(thing, (httpx.Request, httpx.Response))]
        finally:
            gc.enable()
    assert left == []


async def test_an_answer_that_breaks_off_may_have_arrived(wire):
    async with Vendor(answer=b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf") as vendor:
        with pytest.raises(UnansweredError) as unanswered:
            await wire.call("v", Call("POST", vendor.url, {}, b"{}"))
    assert unanswered.value.why is NoAnswer.NO_ANSWER
