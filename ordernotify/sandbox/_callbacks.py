"""Calls back on a vendor's behalf: later, in the background, with retries, and only to this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
from httpx_aiohttp import AiohttpTransport

from ordernotify.sandbox._base import Callback
from ordernotify.sandbox._desk import Counts, Desk

_SERVER_ERROR = 500


def is_loopback(url: str) -> bool:
    """Return whether ``url`` is an HTTP URL of this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme in {"http", "https"} and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False


class Caller:
    """Makes the callbacks of all vendors over one client.

    A connection error or a 5xx is tried again after each pause of ``pauses_s``; every other answer is final.
    """

    def __init__(self, *, pauses_s: Sequence[float] = (0.2, 1.0, 3.0), timeout_s: float = 10.0) -> None:
        self._pauses_s = tuple(pauses_s)
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None

    def schedule(self, callback: Callback, desk: Desk) -> None:
        """Make a callback in the background, counted at ``desk``; one to a foreign host is only counted."""
        if not is_loopback(callback.url):
            desk.counts.callbacks_refused += 1
            return
        desk.counts.callbacks_pending += 1
        task = asyncio.get_running_loop().create_task(self._call(callback, desk.counts))
        desk.tasks.add(task)
        task.add_done_callback(desk.tasks.discard)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _call(self, callback: Callback, counts: Counts) -> None:
        try:
            await asyncio.sleep(callback.after_s)
            if await self._answered(callback):
                counts.callbacks_sent += 1
            else:
                counts.callbacks_failed += 1
        finally:
            counts.callbacks_pending -= 1

    async def _answered(self, callback: Callback) -> bool:
        for pause_s in (*self._pauses_s, None):
            try:
                response = await self._connected().request(
                    callback.method, callback.url, headers=dict(callback.headers), content=callback.body
                )
            except httpx.TransportError:
                pass
            else:
                if response.status_code < _SERVER_ERROR:
                    return response.is_success
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        return False

    def _connected(self) -> httpx.AsyncClient:
        # Made on first use, because the connections belong to the loop that is running then.
        if self._client is None:
            self._client = httpx.AsyncClient(transport=AiohttpTransport(), timeout=self._timeout_s)
        return self._client
