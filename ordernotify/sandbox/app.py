"""The sandbox as a program: the application, the settings that point at it, and the server that runs it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from uvicorn.loops.auto import auto_loop_factory
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ordernotify.sandbox._asgi import ABORT, Sandbox
from ordernotify.sandbox._base import Vendor
from ordernotify.sandbox.carriers import CARRIER_VENDORS
from ordernotify.sandbox.vendors import VENDORS

EVERYBODY: Mapping[str, Vendor] = {**VENDORS, **CARRIER_VENDORS}
DEFAULT_PORT = 8430
_BACKLOG = 2048
_KEEP_ALIVE_S = 75  # longer than clients keep connections, as real vendors do: no reset that nobody ordered


def settings_for(vendor: Vendor, root_url: str) -> dict[str, str]:
    """Return the environment variables that point our adapter of ``vendor`` at the sandbox."""
    root = f"{root_url.rstrip('/')}/{vendor.name}"
    values = {
        "base_url": root,
        **{name: f"{root}{path}" for name, path in vendor.url_settings.items()},
        **vendor.settings,
    }
    return {f"ORDERNOTIFY_{vendor.name}_{name}".upper(): value for name, value in values.items()}


def environment(root_url: str, vendors: Mapping[str, Vendor] = EVERYBODY) -> dict[str, str]:
    """Return the environment variables that point every adapter at the sandbox."""
    return {
        variable: value for vendor in vendors.values() for variable, value in settings_for(vendor, root_url).items()
    }


def create_app(*, vendors: Mapping[str, Vendor] = EVERYBODY, root_url: str = "") -> Sandbox:
    """Return the ASGI application.

    ``root_url`` is where it is reached, read from the first request when empty. Connections are reset only
    under ``serve``; other servers get a ConnectionResetError to make of it what they do.
    """
    return Sandbox(vendors, root_url=root_url)


async def serve(
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    vendors: Mapping[str, Vendor] = EVERYBODY,
    port_file: Path | None = None,
    ready: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run the sandbox until ``stop`` is set; what hangs then is reset.

    Port 0 takes a free one. When it listens, the port is written to ``port_file`` and ``ready`` is called
    with the URL. Raises ValueError for a host that is not this machine (nothing guards the controls), OSError
    when the port is taken.
    """
    if host != "localhost" and not ip_address(host).is_loopback:
        raise ValueError(f"host: {host} is not this machine; the sandbox listens on 127.0.0.1 or ::1 only")
    with _listen(host, port) as listening:
        chosen = int(listening.getsockname()[1])
        url = f"http://[{host}]:{chosen}" if ":" in host else f"http://{host}:{chosen}"
        app = create_app(vendors=vendors, root_url=url)

        def listens() -> None:
            if port_file is not None:
                _write_whole(port_file, f"{chosen}\n")
            if ready is not None:
                ready(url)

        server = _Server(_config(app), listens)
        stopping = asyncio.create_task(_stop(server, app, stop)) if stop is not None else None
        try:
            await server.serve(sockets=[listening])
        finally:
            if stopping is not None:
                stopping.cancel()


def main(arguments: Sequence[str] | None = None, *, vendors: Mapping[str, Vendor] = EVERYBODY) -> int:
    """Run the sandbox from the command line until SIGINT or SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser(prog="sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, of this machine only")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on; 0: a free one")
    parser.add_argument("--port-file", type=Path, help="file to write the port to when it listens")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        try:
            runner.run(_until_signalled(asked.host, asked.port, vendors=vendors, port_file=asked.port_file))
        except (ValueError, OSError) as error:
            sys.stderr.write(f"The sandbox could not start on {asked.host} port {asked.port}: {error}\n")
            return 2
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio turn Nagle's algorithm off; on, every answer takes 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


async def _until_signalled(host: str, port: int, *, vendors: Mapping[str, Vendor], port_file: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(host, port, vendors=vendors, port_file=port_file, ready=_announce, stop=stop)


def _announce(url: str) -> None:
    sys.stdout.write(f"Sandbox on {url}\n")
    sys.stdout.flush()


async def _stop(server: uvicorn.Server, app: Sandbox, stop: asyncio.Event) -> None:
    await stop.wait()
    app.release()
    server.should_exit = True


def _write_whole(path: Path, text: str) -> None:
    # A reader that polls for the file must never see half of it.
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def _config(app: Sandbox) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        backlog=_BACKLOG,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
    )


class _Server(uvicorn.Server):
    """uvicorn, except that it says when it listens and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listens()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn would raise the signal again after a clean stop, so that stopping looked like failing.
        yield


class _Protocol(HttpToolsProtocol):
    """HTTP with one thing more: the application can reset the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"call": self._abort}}

    def _abort(self) -> None:
        # Lingering for no time makes the kernel send RST, not the orderly FIN of a server that is done.
        open_socket: socket.socket = self.transport.get_extra_info("socket")
        open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
