"""Twilio simulated: messages, their list, Messaging Services, and signed status callbacks.

Numbers that behave as Twilio's own test numbers do: +15005550001 is invalid (21211), +15005550002 cannot be
reached (21612), +15005550003 lies in a country that is not enabled (21408), +15005550004 has opted out (21610)
and +15005550009 is no mobile (21614). Besides, a number ending in 21610 has opted out, and one ending in an error
code of ``LATE_CODES`` (such as +12025530003) is accepted and comes back undelivered with that code.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urldefrag, urlencode, urlsplit
from uuid import uuid4

from twilio.request_validator import RequestValidator

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply

ACCOUNT: Final = "AC00000000000000000000000000005a4d"
_TOKEN = "sandbox0auth0token0sandbox0auth00"  # noqa: S105 - opens nothing but this simulation
_LOGIN = f"Basic {base64.b64encode(f'{ACCOUNT}:{_TOKEN}'.encode()).decode()}"
_SIGN = RequestValidator(_TOKEN)

MAGIC: Final = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
LATE_CODES: Final = frozenset({"30003", "30005", "30006", "30007", "30008"})
_OPTED_OUT = "21610"

# code: HTTP status and the words that Twilio uses, shortened.
ERRORS: Final = {
    20003: (401, "Authenticate"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20500: (500, "An internal server error has occurred"),
    21211: (400, "Invalid 'To' Phone Number"),
    21408: (400, "Permission to send an SMS has not been enabled for the region indicated by the 'To' number"),
    21602: (400, "Message body is required"),
    21603: (400, "A 'From' phone number is required"),
    21604: (400, "A 'To' phone number is required"),
    21609: (400, "Invalid 'StatusCallback' URL"),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21612: (400, "The 'To' phone number is not currently reachable via SMS"),
    21614: (400, "'To' number is not a valid mobile number"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit"),
}
FAULTS: Final = {
    Fault.RATE: 20429,
    Fault.RATE_BARE: 20429,
    Fault.SERVER_ERROR: 20500,
    Fault.PERMANENT: 21211,
    Fault.AUTH: 20003,
    Fault.OPT_OUT: 21610,
}
_BODY_LIMIT = 1600
_KEPT = 20_000  # messages that can still be looked up


def _error(code: int, **headers: str) -> Reply:
    status, message = ERRORS[code]
    info = f"https://www.twilio.com/docs/errors/{code}"
    value = {"code": code, "message": message, "more_info": info, "status": status}
    return json_reply(status, value, headers=headers)


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Twilio's format."""
    return _error(FAULTS[fault], **({"retry-after": "1"} if fault is Fault.RATE else {}))


def _knows(request: Request) -> bool:
    return request.headers.get("authorization") == _LOGIN


def _fault_of(form: dict[str, str]) -> int | None:
    """Return the code of the first thing that is wrong with a message, None when nothing is."""
    to, callback = form.get("To", ""), form.get("StatusCallback", "")
    url = urlsplit(callback)
    checks = (
        (21604, not to),
        (21603, not (form.get("From") or form.get("MessagingServiceSid"))),
        (21602, not form.get("Body")),
        (21617, len(form.get("Body", "")) > _BODY_LIMIT),
        (21609, bool(callback) and (url.scheme not in {"http", "https"} or "_" in (url.hostname or "_"))),
        (21211, not (to.startswith("+") and to[1:].isdigit())),
        (21610, to.endswith(_OPTED_OUT)),
    )
    return next((code for code, wrong in checks if wrong), MAGIC.get(to))


def _create(request: Request, shelf: Shelf) -> Reply:
    if not _knows(request):
        return _error(20003)
    form = request.form()
    if code := _fault_of(form):
        return _error(code)
    entry = _entry(form)
    _keep(entry, shelf)
    callback = form.get("StatusCallback", "")
    taken = Taken(
        to=entry["to"],
        reference=parse_qs(urlsplit(callback).query).get("d", [""])[0],
        text=entry["body"],
        provider_ref=entry["sid"],
    )
    callbacks = _callbacks(entry, callback) if callback else ()
    return json_reply(201, entry, taken=(taken,), callbacks=callbacks)


def _entry(form: dict[str, str]) -> dict[str, Any]:
    sid, service = f"SM{uuid4().hex}", form.get("MessagingServiceSid")
    created = format_datetime(clock.now())
    return {
        "sid": sid,
        "status": "accepted" if service else "queued",
        "to": form["To"],
        "from": form.get("From"),
        "body": form["Body"],
        "num_segments": "0" if service else "1",
        "num_media": "0",
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "messaging_service_sid": service,
        "date_created": created,
        "date_updated": created,
        "date_sent": None,
        "price": None,
        "price_unit": None,
        "api_version": "2010-04-01",
        "account_sid": ACCOUNT,
        "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}.json",
    }


def _keep(entry: dict[str, Any], shelf: Shelf) -> None:
    messages, by_number = shelf.kind("messages"), shelf.kind("by_number")
    messages[entry["sid"]] = entry
    by_number.setdefault(entry["to"], []).append(entry)
    if len(messages) > _KEPT:
        oldest = messages.pop(next(iter(messages)))
        by_number[oldest["to"]].pop(0)
        if not by_number[oldest["to"]]:
            del by_number[oldest["to"]]


def _callbacks(entry: dict[str, Any], callback: str) -> tuple[Callback, ...]:
    # The status of the answer is never called back; the fragment holds Twilio's settings and is never sent.
    url = urldefrag(callback).url
    late = next((code for code in LATE_CODES if entry["to"].endswith(code)), "")
    words = ("queued",) * (entry["status"] == "accepted") + ("sent", "undelivered" if late else "delivered")
    return tuple(
        _callback(entry, url, word, late if word == "undelivered" else "", after_s=0.05 * place)
        for place, word in enumerate(words, start=1)
    )


def _callback(entry: dict[str, Any], url: str, word: str, code: str, *, after_s: float) -> Callback:
    fields = {
        "AccountSid": ACCOUNT,
        "ApiVersion": "2010-04-01",
        "From": entry["from"] or "+15005550006",
        "To": entry["to"],
        "MessageSid": entry["sid"],
        "MessageStatus": word,
        "SmsSid": entry["sid"],
        "SmsStatus": word,
        "MessagingServiceSid": entry["messaging_service_sid"] or "",
    }
    if code:
        fields["ErrorCode"] = code
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-twilio-signature": _SIGN.compute_signature(url, fields),
        "i-twilio-idempotency-token": uuid4().hex,
    }
    return Callback(url, headers, urlencode(fields).encode(), after_s=after_s)


def _list(request: Request, shelf: Shelf) -> Reply:
    if not _knows(request):
        return _error(20003)
    to = request.query.get("To")
    entries = shelf.kind("messages").values() if to is None else shelf.kind("by_number").get(to, [])
    since = request.query.get("DateSent>")
    if since is not None:
        start = datetime.fromisoformat(since).replace(tzinfo=UTC)
        entries = [entry for entry in entries if _created(entry) >= start]
    size = int(request.query.get("PageSize", "50"))
    page = list(reversed(list(entries)))[: size + 1]
    more = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json?Page=1" if len(page) > size else None
    return json_reply(200, {"messages": page[:size], "page": 0, "page_size": size, "next_page_uri": more})


def _created(entry: dict[str, Any]) -> datetime:
    return datetime.strptime(entry["date_created"], "%a, %d %b %Y %H:%M:%S %z")


def _fetch(request: Request, shelf: Shelf) -> Reply:
    if not _knows(request):
        return _error(20003)
    entry = shelf.kind("messages").get(request.path.rpartition("/")[2].removesuffix(".json"))
    return _error(20404) if entry is None else json_reply(200, entry)


def _service(request: Request, shelf: Shelf) -> Reply:
    if not _knows(request):
        return _error(20003)
    sid = request.path.rpartition("/")[2]
    empty = dict.fromkeys(_SERVICE_FIELDS.values())
    service = shelf.kind("services").setdefault(sid, {"sid": sid, "account_sid": ACCOUNT, **empty})
    form = request.form()
    service.update({ours: form[name] for name, ours in _SERVICE_FIELDS.items() if name in form})
    return json_reply(200, service)


_SERVICE_FIELDS: Final = {
    "StatusCallback": "status_callback",
    "InboundRequestUrl": "inbound_request_url",
    "InboundMethod": "inbound_method",
}
_MESSAGES = rf"/2010-04-01/Accounts/{ACCOUNT}/Messages"

VENDOR = Vendor(
    name="twilio",
    routes={
        ("POST", rf"{_MESSAGES}\.json"): _create,
        ("GET", rf"{_MESSAGES}\.json"): _list,
        ("GET", rf"{_MESSAGES}/SM[0-9a-f]{{32}}\.json"): _fetch,
        ("GET", r"/messaging/v1/Services/MG[0-9a-fA-F]{32}"): _service,
        ("POST", r"/messaging/v1/Services/MG[0-9a-fA-F]{32}"): _service,
    },
    settings={"account_sid": ACCOUNT, "auth_token": _TOKEN, "from_number": "+15005550006"},
    url_settings={"messaging_url": "/messaging"},
    refuse=refuse,
)
