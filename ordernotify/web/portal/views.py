"""Pages and their headers: one way to make each, so that none forgets what protects it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from ordernotify.core.policy import explain as explain_rule
from ordernotify.platforms import PLATFORMS
from ordernotify.store.database import DATABASE_AWAY

# Nothing may be loaded but our own style sheet, and no other page may show ours or be posted to by it.
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_PAGES: Final = Path(__file__).parent / "pages"
# What pages refer to, each read once.
ASSETS: Final = {
    "portal.css": ("text/css; charset=utf-8", (_PAGES / "portal.css").read_bytes()),
    "icon.svg": ("image/svg+xml", (_PAGES / "icon.svg").read_bytes()),
}

# How a state looks, besides its word: good, under way, wrong, or neither.
_GOOD, _MOVING, _BAD, _PLAIN = "good", "moving", "bad", "plain"
TONES: Final = {
    "delivered": _GOOD, "sent": _GOOD, "read": _GOOD, "accepted": _GOOD, "done": _GOOD, "closed": _GOOD,
    "shipped": _MOVING, "out_for_delivery": _MOVING, "processing": _MOVING, "received": _MOVING, "sending": _MOVING,
    "planned": _MOVING, "authorized": _MOVING, "deferred": _MOVING, "posted": _MOVING, "open": _MOVING,
    "waiting": _MOVING, "claimed": _MOVING, "admitted": _MOVING,
    "delayed": _BAD, "backordered": _BAD, "regulatory_hold": _BAD, "cancelled": _BAD, "returned": _BAD,
    "unknown": _BAD, "rejected": _BAD, "failed": _BAD, "bounced": _BAD, "complained": _BAD, "refused": _BAD,
    "quarantined": _BAD,
}  # fmt: skip
# Words of ours that read otherwise than they are written.
_WORDS: Final = {
    "cancelled": "Canceled", "sms": "SMS", "email": "E-mail", "backordered": "On backorder", "api": "API",
    "csv": "CSV upload", "policy": "Policy", "prefect": "Prefect form", "noted": "Noted, not news",
    "form": "Portal form", "closed": "Finished", "planned": "Planned", "claimed": "Under way", "admitted": "Under way",
    "allow_full": "Sent whole", "allow_redacted": "Sent without some fields",
}  # fmt: skip


def as_words(code: object) -> str:
    """Return a word of our tables as people read it."""
    text = str(code)
    return _WORDS.get(text, text.replace("_", " ").capitalize())


def as_moment(at: datetime | None) -> str:
    """Return a time as the portal shows it, in UTC."""
    return f"{at.astimezone(UTC):%b %-d, %Y, %H:%M:%S} UTC" if at else ""


def _platform(name: str) -> str:
    return PLATFORMS[name].title if name in PLATFORMS else name


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ordernotify.web.portal", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words=as_words, moment=as_moment, platform=_platform, rule=explain_rule)
    environment.globals.update(tones=TONES)
    return environment


def page(name: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response:
    """Return the page ``name`` with the headers of every page."""
    defaults: dict[str, Any] = {"visitor": None, "refresh_s": 0, "here": ""}
    body = _environment().get_template(f"{name}.html").render({**defaults, **values})
    return Response(body, status_code=status, media_type="text/html", headers={**HEADERS, **(headers or {})})


def problem(status: int, title: str, message: str, **values: Any) -> Response:
    """Return the page that says why something was not done, and what to do instead."""
    return page("problem", status=status, title=title, message=message, **values)


class PageRoute(APIRoute):
    """A route of pages: while the database is away it says so on a page, and when to come back."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that answers an outage too."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except DATABASE_AWAY:
                message = "The database does not answer at the moment. Nothing was done; try again in a moment."
                return problem(503, "Back in a moment", message, headers={"retry-after": "5"})

        return answer


def moved(path: str) -> Response:
    """Return the answer to a form that was taken: look there."""
    return Response(status_code=303, headers={**HEADERS, "location": path})
