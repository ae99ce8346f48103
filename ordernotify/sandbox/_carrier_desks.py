"""What simulated carriers share: OAuth tokens, quotas, and credentials that are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import wraps
from typing import Final

from ordernotify import clock
from ordernotify.sandbox._base import Endpoint, Fault, Reply, Request, Shelf

CLIENT_ID: Final = "sandbox-client"
CLIENT_SECRET: Final = "sandbox-client-secret"  # noqa: S105 - of the sandbox, which guards nothing
API_KEY: Final = "sandbox-api-key"

_LIFE = timedelta(hours=1)

Say = Callable[[], Reply]


def issue(shelf: Shelf, prefix: str) -> str:
    """Return a new access token, good for an hour."""
    token = f"{prefix}-{shelf.next_serial()}"
    shelf.kind("tokens")[token] = clock.now() + _LIFE
    return token


def guarded(endpoint: Endpoint, unauthorized: Say) -> Endpoint:
    """Let only requests with a token of ours through."""

    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        until: datetime | None = shelf.kind("tokens").get(token)
        if scheme != "Bearer" or until is None or until <= clock.now():
            return unauthorized()
        return endpoint(request, shelf)

    return check


def keyed(endpoint: Endpoint, header: str, value: str, unauthorized: Say) -> Endpoint:
    """Let only requests with the right header through."""

    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        return endpoint(request, shelf) if request.headers.get(header) == value else unauthorized()

    return check


def limited(endpoint: Endpoint, *, calls: int, seconds: int, too_many: Say) -> Endpoint:
    """Let at most ``calls`` requests through in any ``seconds``."""
    name = f"quota {calls}/{seconds}"

    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        now = clock.now()
        made = [at for at in shelf.kind(name).get("calls", []) if now - at < timedelta(seconds=seconds)]
        shelf.kind(name)["calls"] = made
        if len(made) >= calls:
            return too_many()
        made.append(now)
        return endpoint(request, shelf)

    return check


def refuser(replies: Mapping[Fault, Reply]) -> Callable[[Fault], Reply]:
    """Return what answers a fault; carriers know no opt-out, which is a permanent refusal like any other."""
    return lambda fault: replies.get(fault, replies[Fault.PERMANENT])
