"""The portal's door: who is there, whether a form is genuine, and what each person may do."""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from ordernotify.clock import new_id, now
from ordernotify.core.audit import Actor, AuditType, Source
from ordernotify.core.people import Act, Person
from ordernotify.store import sessions
from ordernotify.store.audit import emit
from ordernotify.web.doorway import Doorway
from ordernotify.web.portal.views import moved, problem

SIGN_IN: Final = "/portal/sign-in"
CSRF: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
# Who may look at orders; who may change what clients are told is a matter of POST_UPDATE alone.
LOOKS: Final = (Act.POST_UPDATE, Act.DECIDE_HOLD, Act.READ_EVIDENCE)
_FORM_BYTES = 65_536
_FIELDS = 40


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in."""

    person: Person
    csrf: str
    token: str = field(repr=False)

    @property
    def actor(self) -> Actor:
        """Return the person as who did something."""
        return Actor(kind="person", id=self.person.id)

    @property
    def may_post(self) -> bool:
        """Whether this person may change what clients are told."""
        return self.person.may(Act.POST_UPDATE)


def doorway_of(request: Request) -> Doorway:
    """Return the web process's resources."""
    doorway: Doorway = request.app.state.doorway
    return doorway


def address_of(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else ""


def is_https(request: Request) -> bool:
    """Return whether people reach us over https, which is ours to know and not the request's to say."""
    return urlsplit(doorway_of(request).public_url).scheme == "https"


def cookie_name(request: Request) -> str:
    """Return the session cookie's name; with https its prefix makes browsers hold it to this host and to https."""
    return "__Host-ordernotify" if is_https(request) else "ordernotify"


async def visitor_of(request: Request) -> Visitor | None:
    """Return who is signed in with the request's cookie."""
    token = request.cookies.get(cookie_name(request), "")
    if not token:
        return None
    session = await sessions.session_of(doorway_of(request).pool, token, at=now())
    return None if session is None else Visitor(session.person, session.csrf, token)


async def let_in(request: Request, *acts: Act) -> Visitor | Response:
    """Return the visitor who may do one of ``acts``, or the answer to one who may not."""
    visitor = await visitor_of(request)
    if visitor is None:
        return moved(SIGN_IN)
    if any(visitor.person.may(act) for act in acts):
        return visitor
    await note_denied(request, visitor.actor, code=acts[0].value)
    return problem(
        403, "You may not do this", "Your account does not have the role for it. Ask an administrator.", visitor=visitor
    )


async def note_denied(request: Request, actor: Actor, *, code: str) -> None:
    """Record that somebody tried what is not theirs to do."""
    doorway = doorway_of(request)
    denial = str(new_id())
    record = doorway.scribe.record(
        AuditType.AUTHZ_DENIED,
        object_=("portal", code),
        stream=(denial, 1),
        at=now(),
        actor=actor,
        source=Source(kind=actor.kind, id=actor.id, ip=address_of(request) or None),
        outcome={"status": "failure", "code": code},
    )
    async with doorway.pool.acquire() as connection, connection.transaction():
        await emit(connection, [record])


def is_from_here(request: Request) -> bool:
    """Return whether a form was posted by a page of ours: browsers say where it was, and cannot be told to lie."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return True
    public = urlsplit(doorway_of(request).public_url)
    return urlsplit(origin).netloc in {request.headers.get("host", ""), public.netloc} - {""}


async def form_of(request: Request, *, limit: int = _FORM_BYTES) -> FormData | Response:
    """Return the fields of a posted form of at most ``limit`` bytes, or why they are not read."""
    body = await doorway_of(request).body_of(request, limit=limit)
    if body is None:
        return problem(413, "That is too large", f"A form may have {limit:,} bytes.", headers={"connection": "close"})

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=_FIELDS, max_part_size=limit)
            return await parser.parse()
        if kind == "application/x-www-form-urlencoded":
            return await FormParser(request.headers, stream()).parse()
    except (MultiPartException, KeyError, ValueError):
        pass
    return problem(400, "That is not a form", "Go back, reload the page, and try again.")


def text(form: FormData, name: str) -> str:
    """Return a field's text, '' where there is none."""
    value = form.get(name, "")
    return "" if isinstance(value, UploadFile) else value.strip()


async def genuine(request: Request, visitor: Visitor, *, limit: int = _FORM_BYTES) -> FormData | Response:
    """Return the fields of a form that this visitor posted from a page of ours; a forged one is recorded."""
    form = await form_of(request, limit=limit)
    if isinstance(form, Response):
        return form
    if is_from_here(request) and hmac.compare_digest(text(form, CSRF).encode(), visitor.csrf.encode()):
        return form
    await note_denied(request, visitor.actor, code="forged_form")
    return problem(
        403,
        "This form was not ours",
        "It did not come from a page of this portal, or the page was from an earlier sign-in. Nothing was done. "
        "Open the page again and repeat.",
        visitor=visitor,
    )
