"""Finds a free port on loopback and waits for a server on one."""

from __future__ import annotations

import http.client
import socket
import sys
import time
from typing import Final
from urllib.parse import urlsplit

_POLL_S: Final = 0.05


def free_port(preferred: int) -> int:
    """Return ``preferred`` if that port is free on loopback, else another that is free now."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if sys.platform == "linux":
                # Without it a port counts as taken for a minute after its server stopped.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def wait_http(url: str, timeout_s: float) -> bool:
    """Return whether a GET of ``url`` answers 2xx or 3xx within ``timeout_s`` seconds; 0 asks just once."""
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    deadline = time.monotonic() + timeout_s
    while True:
        # Not urllib: that would ask a proxy of the environment for an address of this machine.
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=1.0)
        try:
            connection.request("GET", target)
            if connection.getresponse().status < http.HTTPStatus.BAD_REQUEST:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
