"""The JSON API: any order system can tell of an event, and onboarding can write the directory."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.events import OrderEvent
from ordernotify.core.onboarding import ChannelBody, ClientBody, ContractBody, PartBody
from ordernotify.core.planning import LINK
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Refusal
from ordernotify.platforms._events import EventBody, too_far_ahead
from ordernotify.platforms._reading import read_value
from ordernotify.store import directory
from ordernotify.store.database import DATABASE_AWAY
from ordernotify.store.inbox import Arrival
from ordernotify.web.doorway import Doorway, too_large
from ordernotify.web.intake import OverloadedError
from ordernotify.web.webhooks import overloaded, refusal

router = APIRouter(prefix="/api/v1", tags=["events"])
SOURCE = "api"
_MOST_EVENTS = 1_000
_SHORTEST_CODE = 16


class EventIn(EventBody):
    """One order event, with the id under which the sender will repeat it."""

    id: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="Your id of this event; the same on every repetition, so that nothing is sent twice.",
        examples=["SO-1001/shipped/1"],
    )


class RefusedError(Exception):
    """A request that is refused before its route begins."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why.field)
        self.why = why


def _doorway(request: Request) -> Doorway:
    doorway: Doorway = request.app.state.doorway
    if not doorway.is_known_key(request):
        raise RefusedError(Refusal(401, "X-API-Key", "must be one of the keys in ORDERNOTIFY_API_KEYS"))
    return doorway


Guarded = Annotated[Doorway, Depends(_doorway)]


async def answer_refusal(_request: Request, error: Exception) -> Response:
    """Turn a refusal raised by a dependency into its answer."""
    if not isinstance(error, RefusedError):
        raise error
    return refusal(error.why)


_EVENTS_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"$ref": "#/components/schemas/EventIn"},
                        {
                            "type": "array",
                            "maxItems": _MOST_EVENTS,
                            "items": {"$ref": "#/components/schemas/EventIn"},
                        },
                    ]
                }
            }
        },
    }
}


class Taken(BaseModel):
    """What became of the events of a request."""

    accepted: list[str]
    duplicates: int


class Problem(BaseModel):
    """Why a request is refused: the field at fault, and what would be right."""

    field: str
    message: str


class Refused(BaseModel):
    """The body of every refusal."""

    error: Problem


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": Taken, "description": "All of it was known already; nothing is sent twice."},
    401: {"model": Refused, "description": "No known API key."},
    413: {"model": Refused, "description": "The body is too large."},
    422: {"model": Refused, "description": "A field is missing or wrong; nothing of the request was stored."},
    503: {"model": Refused, "description": "Busy; nothing was stored; repeat after Retry-After seconds."},
}


@router.post("/events", status_code=202, response_model=Taken, responses=_ANSWERS, openapi_extra=_EVENTS_SCHEMA)
async def post_events(request: Request, doorway: Guarded) -> Response:
    """Take one order event, or up to 1,000 in an array: all of them or none. 202 means durably stored."""
    body = await doorway.body_of(request)
    if body is None:
        return too_large(doorway)
    at = now()
    events = read_events(body, at)
    if isinstance(events, Refusal):
        return refusal(events)
    try:
        taken = await doorway.intake.accept(
            Arrival(
                source=SOURCE,
                headers={"content-type": "application/json"},
                body=body,
                events=events,
                remote=request.client.host if request.client else "",
                at=at,
            )
        )
    except OverloadedError as error:
        return overloaded(error.retry_after_s)
    return JSONResponse(
        {"accepted": [str(event_id) for event_id in taken.accepted], "duplicates": taken.duplicates},
        status_code=202 if taken.accepted else 200,
    )


def read_events(body: bytes, at: datetime) -> tuple[OrderEvent, ...] | Refusal:
    """Return the events of a request body, or a refusal naming the field and what would be right."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return Refusal(422, "body", f"must be JSON: line {error.lineno}, column {error.colno}")
    items = given if isinstance(given, list) else [given]
    if not 0 < len(items) <= _MOST_EVENTS:
        return Refusal(422, "body", f"must hold 1 to {_MOST_EVENTS} events")
    events = []
    for number, item in enumerate(items):
        place = f"[{number}]" if isinstance(given, list) else ""
        read = read_value(EventIn, item, within=place)
        if isinstance(read, Refusal):
            return read
        event = read.to_event(source=SOURCE, dedupe_key=read.id, default_time=at)
        if (early := too_far_ahead(event, now=at, field=f"{place}.occurred_at".lstrip("."))) is not None:
            return early
        events.append(event)
    return tuple(events)


async def _json_of(request: Request, doorway: Doorway) -> Any:
    body = await doorway.body_of(request)
    if body is None:
        raise RefusedError(Refusal(413, "body", f"must be at most {doorway.settings.max_body_bytes} bytes"))
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(Refusal(422, "body", f"must be JSON: line {error.lineno}, column {error.colno}")) from None


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}},
        }
    }


@router.put("/clients/{client_id}", status_code=204, openapi_extra=_schema(ClientBody), tags=["directory"])
async def put_client(client_id: str, request: Request, doorway: Guarded) -> Response:
    """Write a client with its recipients and contact points; what is not given any more is made inactive."""
    given = await _json_of(request, doorway)
    client = read_value(ClientBody, {**given, "id": client_id} if isinstance(given, dict) else given)
    if isinstance(client, Refusal):
        return refusal(client)
    addressed = _addressed(client)
    if isinstance(addressed, Refusal):
        return refusal(addressed)
    return await _written(directory.put_client(doorway.pool, doorway.scribe, addressed, actor=_actor(), at=now()))


def _addressed(client: ClientBody) -> ClientBody | Refusal:
    """Return the client with each address in the form its platform takes, or which one it does not take."""
    recipients = []
    for i, recipient in enumerate(client.recipients):
        contacts = []
        for j, contact in enumerate(recipient.contacts):
            place = f"recipients[{i}].contacts[{j}]"
            platform = PLATFORMS.get(contact.platform)
            if platform is None or not platform.sends:
                known = ", ".join(sorted(name for name, entry in PLATFORMS.items() if entry.sends))
                return Refusal(422, f"{place}.platform", f"must be one of: {known}")
            if contact.channel not in platform.channels:
                carried = ", ".join(sorted(channel.value for channel in platform.channels))
                return Refusal(422, f"{place}.platform", f"{platform.title} carries only: {carried}")
            # `order` stands for the order's own record at the platform, whatever its number will be.
            address: str | Refusal = contact.address
            if contact.address.startswith(LINK):
                if len(contact.address) < len(LINK) + _SHORTEST_CODE:
                    return Refusal(422, f"{place}.address", f"must have a code of {_SHORTEST_CODE} characters or more")
            elif platform.read_address is not None and contact.address != "order":
                address = platform.read_address(contact.address)
            if isinstance(address, Refusal):
                return Refusal(422, f"{place}.address", address.message)
            contacts.append(contact.model_copy(update={"address": address}))
        recipients.append(recipient.model_copy(update={"contacts": contacts}))
    return client.model_copy(update={"recipients": recipients})


@router.put("/parts", status_code=204, openapi_extra=_schema(PartBody), tags=["directory"])
async def put_parts(request: Request, doorway: Guarded) -> Response:
    """Write one part of the catalogue, or an array of them."""
    given = await _json_of(request, doorway)
    parts = []
    for number, item in enumerate(given if isinstance(given, list) else [given]):
        part = read_value(PartBody, item, within=f"[{number}]" if isinstance(given, list) else "")
        if isinstance(part, Refusal):
            return refusal(part)
        parts.append(part)
    return await _written(directory.put_parts(doorway.pool, doorway.scribe, parts, actor=_actor(), at=now()))


@router.put("/contracts/{contract_id}", status_code=204, openapi_extra=_schema(ContractBody), tags=["directory"])
async def put_contract(contract_id: str, request: Request, doorway: Guarded) -> Response:
    """Write what a contract says about marking."""
    given = await _json_of(request, doorway)
    contract = read_value(ContractBody, {**given, "id": contract_id} if isinstance(given, dict) else given)
    if isinstance(contract, Refusal):
        return refusal(contract)
    return await _written(directory.put_contract(doorway.pool, doorway.scribe, contract, actor=_actor(), at=now()))


@router.put("/channels/{platform}", status_code=204, openapi_extra=_schema(ChannelBody), tags=["directory"])
async def put_channel(platform: str, request: Request, doorway: Guarded) -> Response:
    """Register how far a platform may be trusted, with its evidence; starts it again if it was stopped."""
    if platform not in PLATFORMS:
        return refusal(Refusal(404, "platform", f"must be one of: {', '.join(PLATFORMS)}"))
    channel = read_value(ChannelBody, await _json_of(request, doorway))
    if isinstance(channel, Refusal):
        return refusal(channel)
    return await _written(
        directory.put_channel(
            doorway.pool,
            doorway.scribe,
            platform=platform,
            level=int(channel.level[1]),
            enabled=channel.enabled,
            evidence=channel.evidence,
            expires_at=channel.expires_at,
            actor=_actor(),
            at=now(),
        )
    )


@router.get("/orders/{order_no}", tags=["orders"])
async def get_order(order_no: str, doorway: Guarded) -> Response:
    """Return what is known of an order, and what was sent or held back for each of its events."""
    try:
        found = await directory.order_history(doorway.pool, order_no)
    except DATABASE_AWAY:
        return overloaded(5)
    if not found:
        return refusal(Refusal(404, "order_no", "is not an order we know"))
    return Response(orjson.dumps(found, default=str), media_type="application/json")


async def _written(work: Any) -> Response:
    try:
        await work
    except DATABASE_AWAY:
        return overloaded(5)
    return Response(status_code=204)


def _actor() -> Actor:
    return Actor(kind="service", id="svc:api")
