"""Signing in and out."""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from fastapi import APIRouter, Request, Response

from ordernotify.clock import now
from ordernotify.core.people import LOCKED_FOR, SESSION_LASTS, WRONG_IN_A_ROW
from ordernotify.store import sessions
from ordernotify.store.passwords import SignInRefused
from ordernotify.web.portal.guard import (
    CSRF,
    SIGN_IN,
    address_of,
    cookie_name,
    doorway_of,
    form_of,
    genuine,
    is_from_here,
    is_https,
    text,
    visitor_of,
)
from ordernotify.web.portal.views import PageRoute, moved, page, problem

router = APIRouter(prefix="/portal", include_in_schema=False, route_class=PageRoute)

# One sentence for every cause: which names exist, and which are locked, is for the record only.
_MINUTES = int(LOCKED_FOR.total_seconds()) // 60
REFUSED: Final = (
    "You were not signed in. Check name and password; after "
    f"{WRONG_IN_A_ROW} wrong passwords in a row an account is locked for {_MINUTES} minutes."
)
_LONGEST = 256


@router.get("/sign-in")
async def show_sign_in(request: Request) -> Response:
    """Show the form, or the orders to whom is signed in already."""
    return moved("/portal/") if await visitor_of(request) else _form(request)


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Sign somebody in; what was a session before is none after."""
    form = await form_of(request)
    if isinstance(form, Response):
        return form
    shown = request.cookies.get(_form_cookie(request), "")
    same = hmac.compare_digest(shown.encode(), text(form, CSRF).encode())
    if not (shown and same and is_from_here(request)):
        return problem(403, "This form was not ours", "Open the sign-in page of this portal and try again.")
    doorway = doorway_of(request)
    person, password = text(form, "person")[:_LONGEST], str(form.get("password", ""))[:_LONGEST]
    ip = address_of(request)
    result = await sessions.sign_in(doorway.pool, doorway.scribe, person_id=person, password=password, ip=ip, at=now())
    if isinstance(result, SignInRefused):
        return _form(request, status=401, refused=REFUSED, person=person)
    if old := request.cookies.get(cookie_name(request)):
        await sessions.sign_out(doorway.pool, doorway.scribe, token=old, ip=ip, at=now())
    answer = moved("/portal/")
    answer.set_cookie(
        cookie_name(request),
        result.token,
        max_age=int(SESSION_LASTS.total_seconds()),
        path="/",
        secure=is_https(request),
        httponly=True,
        samesite="strict",
    )
    return answer


def _form_cookie(request: Request) -> str:
    return f"{cookie_name(request)}-form"


def _form(request: Request, *, status: int = 200, refused: str = "", person: str = "") -> Response:
    """Return the form with a token of its own: before there is a session, a cookie says which browser asked for it."""
    # The same in every tab of that browser.
    token = request.cookies.get(_form_cookie(request), "")[:_LONGEST] or secrets.token_urlsafe(16)
    answer = page("sign_in", status=status, refused=refused, person=person, csrf=token)
    answer.set_cookie(
        _form_cookie(request), token, path="/", secure=is_https(request), httponly=True, samesite="strict"
    )
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session."""
    visitor = await visitor_of(request)
    if visitor is None:
        return moved(SIGN_IN)
    form = await genuine(request, visitor)
    if isinstance(form, Response):
        return form
    doorway = doorway_of(request)
    await sessions.sign_out(doorway.pool, doorway.scribe, token=visitor.token, ip=address_of(request), at=now())
    answer = moved(SIGN_IN)
    answer.delete_cookie(cookie_name(request), path="/", secure=is_https(request), httponly=True, samesite="strict")
    return answer
