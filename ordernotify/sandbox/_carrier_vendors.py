"""Simulated UPS, FedEx, USPS and DHL, which are asked: tokens, quotas, and stories in their own formats."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from ordernotify import clock
from ordernotify.sandbox import carrier_payloads as payloads
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Vendor, json_reply
from ordernotify.sandbox._carrier_desks import (
    API_KEY,
    CLIENT_ID,
    CLIENT_SECRET,
    guarded,
    issue,
    keyed,
    limited,
    refuser,
)
from ordernotify.sandbox.carrier_senders import ups_request
from ordernotify.sandbox.carrier_stories import ask, unfold

UPS_CREDENTIAL: Final = "sandbox-ups-credential"
FEDEX_TOKEN: Final = "FedexSandboxToken0000000001"  # noqa: S105 - of the sandbox, which guards nothing
USPS_SECRET: Final = "0123456789abcdef0123456789abcdef"  # noqa: S105 - likewise

_PAIR = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
_MOST_FEDEX, _MOST_UPS = 30, 100
_UPS_SHORTEST, _UPS_LONGEST = 7, 34


def _last(request: Request) -> str:
    return unquote(request.path.rpartition("/")[2])


# ---- UPS ----


def _ups_error(status: int, code: str, message: str) -> Reply:
    return json_reply(status, {"response": {"errors": [{"code": code, "message": message}]}})


def _ups_unauthorized() -> Reply:
    return _ups_error(401, "250002", "Invalid Authentication Information.")


def _ups_too_many() -> Reply:
    return _ups_error(429, "10429", "Too Many Requests")


def _ups_token(request: Request, shelf: Shelf) -> Reply:
    if request.headers.get("authorization") != _PAIR:
        return _ups_error(401, "10401", "ClientId is Invalid")
    if request.form().get("grant_type") != "client_credentials":
        return _ups_error(400, "10400", "Invalid/Missing grant_type")
    token = issue(shelf, "ups")
    return json_reply(200, {"token_type": "Bearer", "access_token": token, "expires_in": "14399", "issued_at": "0"})


def _ups_details(request: Request, shelf: Shelf) -> Reply:
    number = _last(request)
    if not request.headers.get("transid") or not request.headers.get("transactionsrc"):
        return _ups_error(400, "TV0001", "Missing transId or transactionSrc")
    if not _UPS_SHORTEST <= len(number) <= _UPS_LONGEST:
        return _ups_error(400, "TV1002", "Invalid inquiry number")
    return json_reply(200, payloads.ups_details(number, ask(shelf, number, clock.now())))


def _ups_subscribe(request: Request, shelf: Shelf) -> Reply:
    given = request.json()
    numbers = given.get("trackingNumberList") if isinstance(given, dict) else None
    if not isinstance(numbers, list) or not numbers:
        return _ups_error(400, "VSS210", "The tracking number list is empty.")
    if len(numbers) > _MOST_UPS:
        return _ups_error(400, "VSS220", "More than 100 tracking numbers.")
    good = [number for number in map(str, numbers) if re.fullmatch(r"1[ZR][0-9A-Z]{16}", number)]
    callbacks = tuple(one for number in good for one in _ups_alerts(shelf, number))
    body = {
        "validTrackingNumbers": good,
        "invalidTrackingNumbers": [number for number in numbers if number not in good],
    }
    return json_reply(200, body, callbacks=callbacks)


def _ups_alerts(shelf: Shelf, number: str) -> list[Callback]:
    url = shelf.webhooks.get("events")
    if not url:
        return []
    steps = unfold(shelf, number, clock.now())
    found = []
    for place in range(len(steps)):
        payload = payloads.ups_alert(number, steps[: place + 1])
        headers, body = ups_request(payload, credential=UPS_CREDENTIAL)
        found.append(Callback(url, headers, body, after_s=0.05 + place))
    return found


UPS: Final = Vendor(
    name="ups",
    routes={
        ("POST", "/security/v1/oauth/token"): limited(_ups_token, calls=20, seconds=60, too_many=_ups_too_many),
        ("GET", r"/api/track/v1/details/[^/]+"): guarded(_ups_details, _ups_unauthorized),
        ("POST", "/api/track/v2/subscription/standard/package"): guarded(_ups_subscribe, _ups_unauthorized),
    },
    settings={"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "push_credential": UPS_CREDENTIAL},
    url_settings={"token_url": "/security/v1/oauth/token"},
    refuse=refuser(
        {
            Fault.RATE: _ups_too_many(),
            Fault.RATE_BARE: _ups_too_many(),
            Fault.SERVER_ERROR: _ups_error(500, "10500", "Internal Server Error"),
            Fault.AUTH: _ups_unauthorized(),
            Fault.PERMANENT: _ups_error(400, "TV1002", "Invalid inquiry number"),
        }
    ),
)


# ---- FedEx ----


def _fedex_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    body = {"transactionId": "624deea6", "errors": [{"code": code, "message": message}]}
    return json_reply(status, body, headers=dict(headers or {}))


def _fedex_unauthorized() -> Reply:
    return _fedex_error(401, "NOT.AUTHORIZED.ERROR", "Access token expired. Please modify your request.")


def _fedex_token(request: Request, shelf: Shelf) -> Reply:
    form = request.form()
    if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
        return _fedex_error(401, "NOT.AUTHORIZED.ERROR", "The given client credentials were not valid.")
    token = issue(shelf, "fedex")
    return json_reply(200, {"access_token": token, "token_type": "bearer", "expires_in": 3599, "scope": "CXS"})


def _fedex_track(request: Request, shelf: Shelf) -> Reply:
    given = request.json()
    asked = given.get("trackingInfo") if isinstance(given, dict) else None
    if not isinstance(asked, list) or not asked:
        return _fedex_error(400, "TRACKING.TRACKINGNUMBER.EMPTY", "Please provide tracking number.")
    if len(asked) > _MOST_FEDEX:
        return _fedex_error(400, "TRACKING.TRACKINGINFO.TOOMANY", "At most 30 tracking numbers.")
    numbers = [str(_at(one, "trackingNumberInfo", "trackingNumber") or "") for one in asked]
    results = [payloads.fedex_result(number, ask(shelf, number, clock.now())) for number in numbers]
    return json_reply(200, payloads.fedex_answer(results))


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _fedex_too_many() -> Reply:
    return _fedex_error(429, "RATE.LIMIT.EXCEEDED", "Too many requests.")


FEDEX: Final = Vendor(
    name="fedex",
    routes={
        ("POST", "/oauth/token"): _fedex_token,
        ("POST", "/track/v1/trackingnumbers"): limited(
            guarded(_fedex_track, _fedex_unauthorized), calls=1_400, seconds=10, too_many=_fedex_too_many
        ),
    },
    settings={"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "push_token": FEDEX_TOKEN},
    url_settings={"token_url": "/oauth/token"},
    refuse=refuser(
        {
            Fault.RATE: _fedex_error(429, "RATE.LIMIT.EXCEEDED", "Too many requests.", {"retry-after": "1"}),
            Fault.RATE_BARE: _fedex_too_many(),
            Fault.SERVER_ERROR: _fedex_error(500, "INTERNAL.SERVER.ERROR", "Please contact FedEx."),
            Fault.AUTH: _fedex_unauthorized(),
            Fault.PERMANENT: _fedex_error(400, "TRACKING.TRACKINGNUMBER.INVALID", "Invalid tracking number."),
        }
    ),
)


# ---- USPS ----


def _usps_error(status: int, code: str, title: str, headers: Mapping[str, str] | None = None) -> Reply:
    error = {
        "code": str(status),
        "message": title,
        "errors": [{"status": str(status), "code": code, "title": title, "detail": title, "source": {}}],
    }
    return json_reply(status, {"apiVersion": "v3.2.6", "error": error}, headers=dict(headers or {}))


def _usps_unauthorized() -> Reply:
    return json_reply(401, {"error": "invalid_token", "error_description": "The access token is not valid."})


def _usps_token(request: Request, shelf: Shelf) -> Reply:
    given = request.json()
    if (_at(given, "client_id"), _at(given, "client_secret")) != (CLIENT_ID, CLIENT_SECRET):
        return json_reply(401, {"error": "invalid_client", "error_description": "Client credentials are invalid."})
    token = issue(shelf, "usps")
    return json_reply(200, {"access_token": token, "token_type": "Bearer", "expires_in": 28799, "scope": "tracking"})


def _usps_track(request: Request, shelf: Shelf) -> Reply:
    number = _last(request)
    steps = ask(shelf, number, clock.now())
    if not steps:
        return _usps_error(400, "150001", "A status update is not yet available on your package.")
    return json_reply(200, payloads.usps_piece(number, steps))


def _usps_too_many() -> Reply:
    return _usps_error(429, "429", "Too Many Requests", {"retry-after": "60"})


USPS: Final = Vendor(
    name="usps",
    routes={
        ("POST", "/oauth2/v3/token"): _usps_token,
        ("GET", r"/tracking/v3/tracking/[^/]+"): limited(
            guarded(_usps_track, _usps_unauthorized), calls=60, seconds=3_600, too_many=_usps_too_many
        ),
    },
    settings={"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "push_secret": USPS_SECRET},
    url_settings={"token_url": "/oauth2/v3/token"},
    refuse=refuser(
        {
            Fault.RATE: _usps_error(429, "429", "Too Many Requests", {"retry-after": "1"}),
            Fault.RATE_BARE: _usps_error(429, "429", "Too Many Requests"),
            Fault.SERVER_ERROR: _usps_error(503, "503", "Service Unavailable", {"retry-after": "1"}),
            Fault.AUTH: _usps_unauthorized(),
            Fault.PERMANENT: _usps_error(400, "010005", "OASValidation: the number is not valid."),
        }
    ),
)


# ---- DHL ----


def _dhl_problem(status: int, title: str, detail: str) -> Reply:
    return json_reply(
        status,
        {"title": title, "status": status, "detail": detail, "instance": "/shipment"},
        headers={"content-type": "application/problem+json"},
    )


def _dhl_unauthorized() -> Reply:
    return _dhl_problem(401, "Unauthorized", "Unauthorized for given resource.")


def _dhl_too_many() -> Reply:
    return _dhl_problem(429, "Too many requests", "Too many requests within defined time period.")


def _dhl_not_found() -> Reply:
    return _dhl_problem(404, "No result found", "No shipment with given tracking number found.")


def _dhl_track(request: Request, shelf: Shelf) -> Reply:
    number = request.query.get("trackingNumber", "")
    if not number:
        return _dhl_problem(400, "Bad request", "trackingNumber is missing.")
    steps = ask(shelf, number, clock.now())
    return json_reply(200, payloads.dhl_shipments(number, steps)) if steps else _dhl_not_found()


DHL: Final = Vendor(
    name="dhl",
    routes={
        ("GET", "/track/shipments"): limited(
            keyed(_dhl_track, "dhl-api-key", API_KEY, _dhl_unauthorized),
            calls=250,
            seconds=86_400,
            too_many=_dhl_too_many,
        )
    },
    settings={"api_key": API_KEY},
    refuse=refuser(
        {
            Fault.RATE: _dhl_too_many(),
            Fault.RATE_BARE: _dhl_too_many(),
            Fault.SERVER_ERROR: _dhl_problem(500, "Internal server error", "Please try again later."),
            Fault.AUTH: _dhl_unauthorized(),
            Fault.PERMANENT: _dhl_problem(400, "Bad request", "The tracking number is not valid."),
        }
    ),
)
