"""The ASGI application that plays every vendor; without a framework, to take a burst on a busy machine."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

from ordernotify import clock
from ordernotify.sandbox import _control
from ordernotify.sandbox._base import Fault, Reply, Request, Vendor, json_reply
from ordernotify.sandbox._callbacks import Caller
from ordernotify.sandbox._desk import Desk, FaultOrder
from ordernotify.sandbox._page import page

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

ABORT: Final = "ordernotify.abort"  # the scope extension with which our server resets a connection

_logger = logging.getLogger(__name__)
_REFUSED = 400
_BODILESS: Final = frozenset({204, 304})
_OK: Final = json_reply(200, {"status": "ok"})
_BROKEN: Final = json_reply(500, {"error": "simulation", "message": "The simulated vendor failed; see the log."})


class Sandbox:
    """Every vendor under ``/<name>``, its controls under ``/_control``, and a page for people at ``/``.

    ``root_url`` is where the sandbox is reached; empty, it is read from the first request.
    """

    def __init__(self, vendors: Mapping[str, Vendor], *, root_url: str = "", caller: Caller | None = None) -> None:
        self._root_url = root_url
        self._caller = caller or Caller()
        self._sequence = itertools.count(1)
        self._desks = {name: self._open(vendor, {}) for name, vendor in vendors.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and (request := await _read(scope, receive)) is not None:
            await self._answer(request, scope, receive, send)

    def reset(self) -> None:
        """Forget what was taken and counted, and all faults; where the vendors call back stays."""
        for name, desk in self._desks.items():
            desk.close()
            self._desks[name] = self._open(desk.vendor, desk.shelf.webhooks)

    def release(self) -> None:
        """Reset what hangs and drop waiting callbacks, so that the server can stop at once."""
        for desk in self._desks.values():
            desk.close()

    def _open(self, vendor: Vendor, webhooks: Mapping[str, str]) -> Desk:
        root = f"{self._root_url}/{vendor.name}" if self._root_url else ""
        return Desk.open(vendor, root=root, webhooks=webhooks)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        self.release()
        await self._caller.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        first, _, rest = request.path[1:].partition("/")
        desk = self._desks.get(first)
        if desk is None:
            await _send(send, self._own(request, first, rest))
            return
        if not desk.shelf.root:
            desk.shelf.root = f"http://{request.headers.get('host', 'localhost')}/{first}"
        below = Request(request.method, f"/{rest}", request.query, request.headers, request.body)
        reply = await self._play(below, desk)
        if reply is None:
            await _abort(scope, receive)
        else:
            await _send(send, reply)

    def _own(self, request: Request, first: str, rest: str) -> Reply:
        match request.method, first, *rest.split("/"):
            case "GET", "", "":
                return page(self._desks.values())
            case "GET", "healthz", "":
                return _OK
            case "GET", "_control", "counts":
                return _control.counts(self._desks)
            case "POST", "_control", "reset":
                self.reset()
                return Reply(204)
            case _, "_control", name, what if name in self._desks:
                return _control.one_vendor(request, self._desks[name], what)
            case _:
                return _control.NOT_FOUND

    async def _play(self, request: Request, desk: Desk) -> Reply | None:
        """Return the vendor's reply, None where the connection is to be reset instead."""
        desk.counts.requests += 1
        order = desk.strike(request.path)
        fault = None if order is None else order.fault
        if fault is Fault.RESET:
            desk.counts.refused += 1
            return None
        if order is not None and fault is Fault.HANG and await desk.hang(order.hang_seconds):
            desk.counts.refused += 1
            return None
        reply = _reply(request, desk, order)
        if reply.status >= _REFUSED:
            desk.counts.refused += 1
        received_at_ms = int(clock.now().timestamp() * 1000) if reply.taken else 0
        for taken in reply.taken:
            desk.take(taken, sequence=next(self._sequence), received_at_ms=received_at_ms)
        for callback in reply.callbacks:
            self._caller.schedule(callback, desk)
        return None if fault is Fault.NO_ANSWER else reply


_AS_USUAL: Final = frozenset({Fault.HANG, Fault.NO_ANSWER})


def _reply(request: Request, desk: Desk, order: FaultOrder | None) -> Reply:
    try:
        if order is not None and order.fault not in _AS_USUAL:
            return desk.vendor.refuse(order.fault)
        endpoint = desk.endpoint(request.method, request.path)
        return _control.NOT_FOUND if endpoint is None else endpoint(request, desk.shelf)
    except Exception:
        # A bug of one vendor must be a 500 in the log, not something that looks like a fault.
        _logger.exception("sandbox vendor %s failed on %s", desk.vendor.name, request.method)
        desk.counts.errors += 1
        return _BROKEN


async def _read(scope: Scope, receive: Receive) -> Request | None:
    """Return the whole request, None where the client left before its end."""
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        body += event.get("body", b"")
        more = event.get("more_body", False)
    query: bytes = scope["query_string"]
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
    )


async def _send(send: Send, reply: Reply) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.status not in _BODILESS:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _abort(scope: Scope, receive: Receive) -> None:
    """Reset the connection; ConnectionResetError to the caller where the server cannot."""
    extension = scope.get("extensions", {}).get(ABORT)
    if extension is None:
        raise ConnectionResetError("the simulated vendor reset the connection")
    extension["call"]()
    # A server that sees us return without an answer writes a 500; it must see the disconnection first.
    while (await receive())["type"] != "http.disconnect":
        pass
