"""A lean stand-in for a vendor (texts as Twilio, mails as SendGrid): counts and takes all; never the bottleneck."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_BODY = b'{"sid":"SM%032d","status":"queued"}'


class Stub(asyncio.Protocol):
    """One connection; every complete request is answered at once."""

    seen = 0
    references: set[bytes] = set()  # noqa: RUF012 - one counter for all connections is the point

    def __init__(self) -> None:
        self._held = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end]
            found = _LENGTH.search(head)
            size = int(found[1]) if found else 0
            if len(self._held) < end + 4 + size:
                return
            body = self._held[end + 4 : end + 4 + size]
            self._held = self._held[end + 4 + size :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        status = b"201 Created"
        if head.startswith(b"GET /count"):
            text = b"%d %d" % (Stub.seen, len(Stub.references))
        elif head.startswith(b"POST /reset"):
            Stub.seen, Stub.references = 0, set()
            text = b"ok"
        else:
            Stub.seen += 1
            Stub.references.add(hashlib.blake2b(body, digest_size=16).digest())
            text = _BODY % Stub.seen
            if head.startswith(b"POST /v3/mail/send"):
                status, text = b"202 Accepted\r\nx-message-id: %d" % Stub.seen, b""
        if self._transport is not None:
            self._transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(text))
                + text
            )


async def main(port: int) -> None:
    """Serve on loopback until the process is told to end."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
