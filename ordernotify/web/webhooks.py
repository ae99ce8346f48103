"""Webhooks: verify on raw bytes, read, store, and only then say yes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ordernotify.carriers import CARRIERS
from ordernotify.carriers._base import Carrier
from ordernotify.clock import now
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Inbound, Platform, PlatformSettings, Received, Refusal, Reply, Webhook
from ordernotify.store import inbox, receipts
from ordernotify.store.database import DATABASE_AWAY
from ordernotify.store.inbox import Arrival
from ordernotify.web import pushes
from ordernotify.web.doorway import Doorway, too_large
from ordernotify.web.intake import OverloadedError

router = APIRouter()
log = structlog.get_logger(__name__)

# What is kept of a request's headers: what identifies the delivery, nothing that proves identity.
_KEPT_HEADERS = ("content-type", "user-agent", "x-shopify-topic", "x-shopify-event-id", "x-wc-webhook-topic",
                 "x-wc-webhook-delivery-id", "webhook-id", "ce-id", "ce-type")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Desk:
    """The platform that a request came to, with what is needed to believe it."""

    platform: Platform
    webhook: Webhook
    settings: PlatformSettings


@router.api_route("/webhooks/{source}", methods=["GET", "HEAD", "POST", "OPTIONS"], include_in_schema=False)
async def webhook(source: str, request: Request) -> Response:
    """Take what a platform or order system sends us; 2xx only after it is stored."""
    doorway: Doorway = request.app.state.doorway
    if source in CARRIERS:
        return await _pushed(doorway, source, request)
    desk = await _desk(doorway, source)
    if isinstance(desk, Refusal):
        return refusal(desk)
    body = await doorway.body_of(request)
    if body is None:
        return too_large(doorway)
    inbound = _inbound(doorway, request, body)
    answered = desk.webhook.handshake(inbound, desk.settings) if desk.webhook.handshake else None
    if isinstance(answered, Reply):
        return _reply(answered)
    read = answered or _read(desk, inbound)
    if isinstance(read, Refusal):
        return await _refuse(doorway, source, request, read)
    return await _take(doorway, source, request, inbound, read)


async def _pushed(doorway: Doorway, source: str, request: Request) -> Response:
    body = await doorway.body_of(request)
    if body is None:
        return too_large(doorway)
    inbound = _inbound(doorway, request, body)
    said = await pushes.read(doorway, source, inbound)
    if isinstance(said, Refusal):
        return await _refuse(doorway, source, request, said)
    push, pushed = said
    try:
        return await pushes.take(doorway, source, inbound, pushed, remote=_remote(request), push=push)
    except OverloadedError as error:
        return overloaded(error.retry_after_s)
    except DATABASE_AWAY:
        return overloaded(5)


def _read(desk: _Desk, inbound: Inbound) -> Received | Refusal:
    if inbound.method != "POST":
        return Refusal(405, "method", "must be POST")
    at = now()
    return desk.webhook.verify(inbound, desk.settings, at) or desk.webhook.read(inbound, desk.settings, at)


async def _desk(doorway: Doorway, source: str) -> _Desk | Refusal:
    platform = PLATFORMS.get(source)
    if platform is None or platform.webhook is None:
        known = ", ".join(
            sorted(name for names in (PLATFORMS, CARRIERS) for name, entry in names.items() if _speaks(entry))
        )
        return Refusal(404, "source", f"is not a known source; known are: {known}")
    settings = (await doorway.credentials()).get(source)
    if settings is None and doorway.unsure:
        return Refusal(503, "source", "cannot be looked up now: nothing was stored, please repeat")
    if settings is None:
        return Refusal(404, "source", "is not configured here: set its webhook secret")
    return _Desk(platform, platform.webhook, settings)


def _speaks(entry: Platform | Carrier) -> bool:
    return bool(entry.webhook if isinstance(entry, Platform) else entry.push)


async def _take(doorway: Doorway, source: str, request: Request, inbound: Inbound, read: Received) -> Response:
    at = now()
    try:
        if read.receipts:
            await receipts.apply(doorway.pool, doorway.scribe, platform=source, receipts=read.receipts, at=at)
        if read.consents:
            await receipts.change_consent(doorway.pool, doorway.scribe, platform=source, changes=read.consents, at=at)
        if read.links:
            await receipts.tie(doorway.pool, doorway.scribe, platform=source, links=read.links, at=at)
        for call in read.confirm:
            doorway.confirm_later(source, call)
        taken = await doorway.intake.accept(
            Arrival(
                source=source,
                headers={name: inbound.header(name) for name in _KEPT_HEADERS if inbound.header(name)},
                body=inbound.body,
                events=read.events,
                remote=_remote(request),
                at=at,
            )
        )
    except OverloadedError as error:
        return overloaded(error.retry_after_s)
    except DATABASE_AWAY:
        return overloaded(5)
    # Where any 2xx will do, the sender is told which events were taken; a reply with words of its own goes first.
    if read.reply is not None and (read.reply.body or not read.events):
        return _reply(read.reply)
    if not read.events:
        return Response(status_code=204 if read.receipts or read.consents else 200)
    status = 202 if taken.accepted else 200
    return JSONResponse(
        {"accepted": [str(event_id) for event_id in taken.accepted], "duplicates": taken.duplicates},
        status_code=status,
    )


async def _refuse(doorway: Doorway, source: str, request: Request, why: Refusal) -> Response:
    try:
        await inbox.note_rejected(
            doorway.pool,
            doorway.scribe,
            source=source,
            remote=_remote(request),
            code=f"http_{why.status}",
            at=now(),
        )
    except DATABASE_AWAY:
        return overloaded(5)
    return refusal(why)


def refusal(why: Refusal) -> Response:
    """Return a refusal as people and programs can read it: the field, and what would be right."""
    return JSONResponse({"error": {"field": why.field, "message": why.message}}, status_code=why.status)


def overloaded(retry_after_s: int) -> Response:
    """Return the answer of a house that cannot take more now: nothing was stored, come back."""
    return JSONResponse(
        {"error": {"field": "", "message": f"busy: nothing was stored, repeat in {retry_after_s} s"}},
        status_code=503,
        headers={"retry-after": str(retry_after_s)},
    )


def _reply(reply: Reply) -> Response:
    headers = dict(reply.headers)
    return Response(reply.body, reply.status, headers=headers, media_type=reply.content_type)


def _inbound(doorway: Doorway, request: Request, body: bytes) -> Inbound:
    query = request.url.query
    path = request.url.path + (f"?{query}" if query else "")
    return Inbound(
        method=request.method,
        # Signatures cover the URL that the sender called, which a proxy may have changed on the way.
        url=f"{doorway.public_url}{path}" if doorway.public_url else str(request.url),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
        query=dict(parse_qsl(query, keep_blank_values=True)),
    )


def _remote(request: Request) -> str:
    return request.client.host if request.client else ""
