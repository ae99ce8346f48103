"""Whom this process trusts at the other end of a TLS connection."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """Return the authorities that httpx trusts; read once a process, because reading them takes 20 ms or more.

    A file named by ``SSL_CERT_FILE`` that changes meanwhile is seen by the next process.
    """
    return httpx.create_ssl_context()
