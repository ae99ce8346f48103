"""Simulated EasyPost, Shippo, AfterShip and 17TRACK: told of a number, they push its story, signed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ordernotify import clock
from ordernotify.sandbox import aggregator_payloads as payloads
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Vendor, json_reply
from ordernotify.sandbox._carrier_desks import API_KEY, keyed, limited, refuser
from ordernotify.sandbox.carrier_senders import (
    Signed,
    aftership_request,
    easypost_request,
    seventeentrack_request,
    shippo_request,
)
from ordernotify.sandbox.carrier_stories import Happened, so_far, unfold

WEBHOOK_SECRET: Final = "sandbox-webhook-s\u00e9cret"  # noqa: S105 - of the sandbox, which guards nothing
_MOST = 40
_BASIC = "Basic " + base64.b64encode(f"{API_KEY}:".encode()).decode()

_Push = Callable[[str, Sequence[Happened], str], Signed]


def _story(shelf: Shelf, number: str, push: _Push) -> tuple[Callback, ...]:
    """Return the pushes of a parcel's whole story, a second apart."""
    steps = unfold(shelf, number, clock.now())
    url = shelf.webhooks.get("events")
    if not url:
        return ()
    signed = [push(number, steps[: place + 1], url) for place in range(len(steps))]
    return tuple(Callback(url, headers, body, after_s=0.05 + place) for place, (headers, body) in enumerate(signed))


def _text(value: Any, *names: str) -> str:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _last(request: Request) -> str:
    return unquote(request.path.rpartition("/")[2])


# ---- EasyPost ----


def _easypost_error(status: int, code: str, message: str) -> Reply:
    return json_reply(status, {"error": {"code": code, "message": message, "errors": []}})


def _easypost_push(number: str, steps: Sequence[Happened], url: str) -> Signed:
    payload = payloads.easypost_event(number, steps)
    return easypost_request(payload, secret=WEBHOOK_SECRET, sent_at=steps[-1].at, path=urlsplit(url).path)


def _easypost_create(request: Request, shelf: Shelf) -> Reply:
    number = _text(request.json(), "tracker", "tracking_code")
    if not number:
        return _easypost_error(422, "PARAMETER.REQUIRED", "Missing required parameter: tracking_code")
    callbacks = _story(shelf, number, _easypost_push)
    tracker = payloads.easypost_tracker(number, so_far(shelf, number, clock.now()))
    return json_reply(201, tracker, callbacks=callbacks)


def _easypost_list(request: Request, shelf: Shelf) -> Reply:
    number = request.query.get("tracking_code", "")
    known = number in shelf.kind("parcels")
    found = [payloads.easypost_tracker(number, so_far(shelf, number, clock.now()))] if known else []
    return json_reply(200, {"trackers": found, "has_more": False})


def _easypost_unauthorized() -> Reply:
    return _easypost_error(401, "APIKEY.INACTIVE", "This api key is no longer active.")


_EASYPOST_RATE = _easypost_error(429, "RATE_LIMITED", "You have exceeded your rate limit.")

EASYPOST: Final = Vendor(
    name="easypost",
    routes={
        ("POST", "/trackers"): keyed(_easypost_create, "authorization", _BASIC, _easypost_unauthorized),
        ("GET", "/trackers"): keyed(_easypost_list, "authorization", _BASIC, _easypost_unauthorized),
    },
    settings={"api_key": API_KEY, "webhook_secret": WEBHOOK_SECRET, "carrier": "UPS"},
    refuse=refuser(
        {
            Fault.RATE: _EASYPOST_RATE,
            Fault.RATE_BARE: _EASYPOST_RATE,
            Fault.SERVER_ERROR: _easypost_error(500, "INTERNAL.ERROR", "Something went wrong."),
            Fault.AUTH: _easypost_unauthorized(),
            Fault.PERMANENT: _easypost_error(422, "TRACKER.CREATE.ERROR", "Invalid tracking code."),
        }
    ),
)


# ---- Shippo ----


def _shippo_push(number: str, steps: Sequence[Happened], _url: str) -> Signed:
    payload = payloads.shippo_event(number, steps)
    return shippo_request(payload, secret=WEBHOOK_SECRET, sent_at=steps[-1].at)


def _shippo_create(request: Request, shelf: Shelf) -> Reply:
    given = request.json()
    number, carrier = _text(given, "tracking_number"), _text(given, "carrier")
    if not number or not carrier:
        return json_reply(400, {"carrier": ["This field is required."]})
    callbacks = _story(shelf, number, _shippo_push)
    track = payloads.shippo_track(number, so_far(shelf, number, clock.now()), carrier=carrier)
    return json_reply(201, track, callbacks=callbacks)


def _shippo_get(request: Request, shelf: Shelf) -> Reply:
    number = _last(request)
    return json_reply(200, payloads.shippo_track(number, so_far(shelf, number, clock.now())))


def _shippo_unauthorized() -> Reply:
    return json_reply(401, {"detail": "Invalid token header."})


_SHIPPO_TOKEN = f"ShippoToken {API_KEY}"
_SHIPPO_RATE = json_reply(429, {"detail": "Request was throttled."})

SHIPPO: Final = Vendor(
    name="shippo",
    routes={
        ("POST", "/tracks"): keyed(_shippo_create, "authorization", _SHIPPO_TOKEN, _shippo_unauthorized),
        ("GET", r"/tracks/[^/]+/[^/]+"): keyed(_shippo_get, "authorization", _SHIPPO_TOKEN, _shippo_unauthorized),
    },
    settings={"token": API_KEY, "hmac_secret": WEBHOOK_SECRET},
    refuse=refuser(
        {
            Fault.RATE: _SHIPPO_RATE,
            Fault.RATE_BARE: _SHIPPO_RATE,
            Fault.SERVER_ERROR: json_reply(500, {"detail": "Internal server error."}),
            Fault.AUTH: _shippo_unauthorized(),
            Fault.PERMANENT: json_reply(400, {"detail": "Invalid tracking number."}),
        }
    ),
)


# ---- AfterShip ----


def _aftership_error(status: int, code: int, kind: str, message: str) -> Reply:
    return json_reply(status, {"meta": {"code": code, "type": kind, "message": message}, "data": {}})


def _aftership_push(number: str, steps: Sequence[Happened], _url: str) -> Signed:
    return aftership_request(payloads.aftership_event(number, steps), secret=WEBHOOK_SECRET)


def _aftership_create(request: Request, shelf: Shelf) -> Reply:
    number = _text(request.json(), "tracking_number")
    if not number:
        return _aftership_error(400, 4005, "BadRequest", "The value of `tracking_number` is invalid.")
    if number in shelf.kind("parcels"):
        return _aftership_error(400, 4003, "BadRequest", "Tracking already exists.")
    callbacks = _story(shelf, number, _aftership_push)
    tracking = payloads.aftership_tracking(number, so_far(shelf, number, clock.now()))
    return json_reply(201, {"meta": {"code": 201}, "data": tracking}, callbacks=callbacks)


def _aftership_list(request: Request, shelf: Shelf) -> Reply:
    asked = [number for number in request.query.get("tracking_numbers", "").split(",") if number]
    known = [number for number in asked if number in shelf.kind("parcels")]
    found = [payloads.aftership_tracking(number, so_far(shelf, number, clock.now())) for number in known]
    return json_reply(200, {"meta": {"code": 200}, "data": {"pagination": {"total": len(found)}, "trackings": found}})


def _aftership_unauthorized() -> Reply:
    return _aftership_error(401, 401, "Unauthorized", "The API key is invalid.")


_AFTERSHIP_RATE = _aftership_error(429, 429, "TooManyRequests", "You have exceeded the API call rate limit.")

AFTERSHIP: Final = Vendor(
    name="aftership",
    routes={
        ("POST", "/trackings"): keyed(_aftership_create, "as-api-key", API_KEY, _aftership_unauthorized),
        ("GET", "/trackings"): keyed(_aftership_list, "as-api-key", API_KEY, _aftership_unauthorized),
    },
    settings={"api_key": API_KEY, "webhook_secret": WEBHOOK_SECRET, "slug": "ups"},
    refuse=refuser(
        {
            Fault.RATE: _AFTERSHIP_RATE,
            Fault.RATE_BARE: _AFTERSHIP_RATE,
            Fault.SERVER_ERROR: _aftership_error(500, 500, "InternalError", "Something went wrong."),
            Fault.AUTH: _aftership_unauthorized(),
            Fault.PERMANENT: _aftership_error(400, 4017, "BadRequest", "The tracking number format is wrong."),
        }
    ),
)


# ---- 17TRACK ----


def _track17_error(code: int, message: str, status: int = 200) -> Reply:
    return json_reply(status, {"code": code, "data": {"errors": [{"code": code, "message": message}]}})


def _track17_push(number: str, steps: Sequence[Happened], _url: str) -> Signed:
    return seventeentrack_request(payloads.seventeentrack_event(number, steps), api_key=API_KEY)


def _track17_numbers(request: Request) -> list[str] | Reply:
    given = request.json()
    if not isinstance(given, list) or not given:
        return _track17_error(-18010013, "Submitted data is invalid.")
    if len(given) > _MOST:
        return _track17_error(-18010015, "More than 40 numbers.")
    return [_text(one, "number") for one in given]


def _track17_answer(
    accepted: Sequence[Any], refused: Sequence[tuple[str, int, str]], callbacks: tuple[Callback, ...] = ()
) -> Reply:
    rejected = [{"number": number, "error": {"code": code, "message": message}} for number, code, message in refused]
    return json_reply(200, {"code": 0, "data": {"accepted": list(accepted), "rejected": rejected}}, callbacks=callbacks)


def _track17_register(request: Request, shelf: Shelf) -> Reply:
    numbers = _track17_numbers(request)
    if isinstance(numbers, Reply):
        return numbers
    fresh = [number for number in numbers if number not in shelf.kind("parcels")]
    refused = [(one, -18019901, "already registered") for one in numbers if one not in fresh]
    callbacks = tuple(callback for number in fresh for callback in _story(shelf, number, _track17_push))
    accepted = [{"origin": 1, "number": number, "carrier": 100002} for number in fresh]
    return _track17_answer(accepted, refused, callbacks)


def _track17_info(request: Request, shelf: Shelf) -> Reply:
    numbers = _track17_numbers(request)
    if isinstance(numbers, Reply):
        return numbers
    known = [number for number in numbers if number in shelf.kind("parcels")]
    refused = [(one, -18019902, "not registered") for one in numbers if one not in known]
    found = [payloads.seventeentrack_item(number, so_far(shelf, number, clock.now())) for number in known]
    return _track17_answer(found, refused)


def _track17_unauthorized() -> Reply:
    return _track17_error(-18010002, "Invalid security key.", 401)


def _track17_too_many() -> Reply:
    return json_reply(429, {})


def _track17_guarded(endpoint: Callable[[Request, Shelf], Reply]) -> Callable[[Request, Shelf], Reply]:
    checked = keyed(endpoint, "17token", API_KEY, _track17_unauthorized)
    return limited(checked, calls=3, seconds=1, too_many=_track17_too_many)


SEVENTEENTRACK: Final = Vendor(
    name="seventeentrack",
    routes={
        ("POST", "/register"): _track17_guarded(_track17_register),
        ("POST", "/gettrackinfo"): _track17_guarded(_track17_info),
    },
    settings={"api_key": API_KEY},
    refuse=refuser(
        {
            Fault.RATE: _track17_too_many(),
            Fault.RATE_BARE: _track17_too_many(),
            Fault.SERVER_ERROR: _track17_error(-18010003, "Internal service error, please retry later.", 500),
            Fault.AUTH: _track17_unauthorized(),
            Fault.PERMANENT: _track17_error(-18010013, "Submitted data is invalid."),
        }
    ),
)
