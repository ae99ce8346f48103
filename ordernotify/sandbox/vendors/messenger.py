"""Messenger simulated: texts within 24 hours, utility templates after, signed deliveries, echoes and reads.

People tell by the end of their id what becomes of a message: ``24`` wrote long ago (a text is refused, a template
passes), ``551`` blocked the Page, ``001`` does not exist, ``199`` answers STOP. Everybody else reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply
from ordernotify.sandbox.vendors._meta import LOGIN, callback, error, filled, refusals, stranger, templates

PAGE_ID: Final = "204190129340777"

# The end of an id: code, subcode.
REFUSED: Final[Mapping[str, tuple[int, int]]] = {"551": (551, 1545041), "001": (100, 2018001)}
LONG_AGO: Final = "24"
STOPS: Final = "199"
FAULTS: Final = refusals(613, (100, 2018001), (551, 1545041))
_TEXT, _METADATA = 2000, 1000
_KINDS = frozenset({"RESPONSE", "UPDATE", "UTILITY"})


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Meta's format."""
    return FAULTS[fault]


def _fault_of(asked: Any) -> Reply | None:
    """Return the refusal of the first thing that is wrong with a message, None when nothing is."""
    if not isinstance(asked, dict) or not isinstance(asked.get("message"), dict):
        return error(400, 100, "Param message is required")
    psid, message = str(asked.get("recipient", {}).get("id", "")), asked["message"]
    if not psid.isdigit():
        return error(400, 100, "Param recipient[id] must be a valid ID string")
    if asked.get("messaging_type") not in _KINDS:
        return error(400, 100, "Message tags are no longer available")
    for ending, (code, subcode) in REFUSED.items():
        if psid.endswith(ending):
            return error(400, code, "This person isn't available right now", subcode)
    return None if asked["messaging_type"] == "UTILITY" else _fault_of_text(psid, message)


def _fault_of_text(psid: str, message: Mapping[str, Any]) -> Reply | None:
    if psid.endswith(LONG_AGO):
        return error(403, 10, "This message is sent outside of allowed window", 2018278)
    text, metadata = str(message.get("text", "")), str(message.get("metadata", ""))
    fits = 0 < len(text) <= _TEXT and len(metadata) < _METADATA
    return None if fits else error(400, 100, "Length of param message[text] must be 1 to 2000")


def _send(request: Request, shelf: Shelf) -> Reply:
    asked = request.json()
    if refusal := stranger(request) or _fault_of(asked):
        return refusal
    psid, message = str(asked["recipient"]["id"]), asked["message"]
    text: str | int = str(message.get("text", ""))
    if asked["messaging_type"] == "UTILITY":
        text = filled(message.get("template"), shelf)
        if isinstance(text, int):
            return error(400, 100, "Invalid template")
    mid, metadata = f"m_{uuid4().hex}{uuid4().hex}", str(message.get("metadata", ""))
    url = shelf.webhooks.get("events", "")
    return json_reply(
        200,
        {"recipient_id": psid, "message_id": mid},
        taken=(Taken(psid, metadata, str(text), mid),),
        callbacks=_callbacks(url, psid, mid, metadata) if url else (),
    )


def _callbacks(url: str, psid: str, mid: str, metadata: str) -> tuple[Callback, ...]:
    now = int(clock.now().timestamp() * 1000)
    person, page = {"id": psid}, {"id": PAGE_ID}
    from_person: dict[str, Any] = {"sender": person, "recipient": page, "timestamp": now}
    echo = {"is_echo": True, "app_id": 1517776481860111, "mid": mid}
    if metadata:
        echo["metadata"] = metadata
    events: list[dict[str, Any]] = [
        {"sender": page, "recipient": person, "timestamp": now, "message": echo},
        {**from_person, "delivery": {"mids": [mid], "watermark": now}},
        {**from_person, "read": {"watermark": now}},
    ]
    if psid.endswith(STOPS):
        events.append({**from_person, "message": {"mid": f"m_{uuid4().hex}", "text": "Baja."}})
    return tuple(
        callback(url, _webhook(event, now), after_s=0.05 * place) for place, event in enumerate(events, start=1)
    )


def _webhook(event: Mapping[str, Any], now: int) -> dict[str, Any]:
    return {"object": "page", "entry": [{"id": PAGE_ID, "time": now, "messaging": [event]}]}


def _page(request: Request, _shelf: Shelf) -> Reply:
    return stranger(request) or json_reply(200, {"id": PAGE_ID, "name": "Northgate Defense"})


def _apps(request: Request, shelf: Shelf) -> Reply:
    if refusal := stranger(request):
        return refusal
    apps = shelf.kind("apps")
    if request.method == "GET":
        return json_reply(200, {"data": list(apps.values())})
    fields = str((request.json() or {}).get("subscribed_fields", ""))
    if not fields:
        return error(400, 100, "The parameter subscribed_fields is required")
    apps["app"] = {"id": "1517776481860111", "name": "ordernotify", "subscribed_fields": fields.split(",")}
    return json_reply(200, {"success": True})


_ROOT = rf"/v[0-9]+\.[0-9]+/{PAGE_ID}"

VENDOR = Vendor(
    name="messenger",
    routes={
        ("POST", f"{_ROOT}/messages"): _send,
        ("GET", _ROOT): _page,
        ("GET", f"{_ROOT}/message_templates"): templates,
        ("POST", f"{_ROOT}/message_templates"): templates,
        ("GET", f"{_ROOT}/subscribed_apps"): _apps,
        ("POST", f"{_ROOT}/subscribed_apps"): _apps,
    },
    settings={**LOGIN, "page_id": PAGE_ID},
    refuse=refuse,
)
