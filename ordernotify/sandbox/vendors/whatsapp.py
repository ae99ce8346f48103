"""WhatsApp simulated: template messages, signed statuses, templates and webhook subscriptions.

Numbers tell what becomes of a message by their last digits: one that ends in a code of ``NOW`` is refused with it
(+12025131056 is the sixth message to one person within seconds), one that ends in a code of ``LATE`` is taken and
comes back failed (+12025131026 is not on WhatsApp, +12025131050 wants none). Whoever has +12025550199 answers
STOP. Everybody else reads what arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply
from ordernotify.sandbox.vendors._meta import LOGIN, callback, error, filled, refusals, stranger, templates

NUMBER_ID: Final = "106540352242922"
ACCOUNT_ID: Final = "102290129340398"
STOPS: Final = "12025550199"

NOW: Final[Mapping[str, int]] = {"131056": 400, "131021": 400, "130472": 400}
LATE: Final = frozenset({"131026", "131049", "131050"})
FAULTS: Final = refusals(130429, (131026, 0), (131050, 0))
_CODE_LENGTH = 6
_CALLBACK_DATA = 512


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Meta's format."""
    return FAULTS[fault]


def _fault_of(message: Any) -> Reply | None:
    """Return the refusal of the first thing that is wrong with a message, None when nothing is."""
    if not isinstance(message, dict) or message.get("messaging_product") != "whatsapp":
        return error(400, 100, "Invalid parameter", details="messaging_product must be whatsapp")
    to = str(message.get("to", "")).removeprefix("+")
    if not to.isdigit():
        return error(400, 131009, "Parameter value is not valid", details="to must be a phone number")
    if message.get("type") != "template":
        # Nobody here has written to us, so the window of 24 hours is closed.
        return error(400, 131047, "Re-engagement message")
    if len(str(message.get("biz_opaque_callback_data", ""))) > _CALLBACK_DATA:
        return error(400, 131009, "Parameter value is not valid", details="biz_opaque_callback_data is too long")
    code = to[-_CODE_LENGTH:]
    return error(NOW[code], int(code), "Message refused") if code in NOW else None


def _send(request: Request, shelf: Shelf) -> Reply:
    message = request.json()
    if refusal := stranger(request) or _fault_of(message):
        return refusal
    text = filled(message.get("template"), shelf)
    if isinstance(text, int):
        return error(400, text, "Template refused", details="see the documentation of message templates")
    to, reference = str(message["to"]).removeprefix("+"), str(message.get("biz_opaque_callback_data", ""))
    wamid = f"wamid.{uuid4().hex.upper()}"
    url = shelf.webhooks.get("events", "")
    return json_reply(
        200,
        {
            "messaging_product": "whatsapp",
            "contacts": [{"input": message["to"], "wa_id": to}],
            "messages": [{"id": wamid, "message_status": "accepted"}],
        },
        taken=(Taken(f"+{to}", reference, text, wamid),),
        callbacks=_callbacks(url, to, reference, wamid) if url else (),
    )


def _callbacks(url: str, to: str, reference: str, wamid: str) -> tuple[Callback, ...]:
    stamp = str(int(clock.now().timestamp()))
    late = next((code for code in LATE if to.endswith(code)), "")
    words = ("sent", "failed") if late else ("sent", "delivered", "read")
    statuses = [
        {
            "id": wamid,
            "status": word,
            "timestamp": stamp,
            "recipient_id": to,
            "biz_opaque_callback_data": reference,
            **({"errors": [{"code": int(late), "title": "Señal: message undeliverable"}]} if word == "failed" else {}),
        }
        for word in words
    ]
    values: list[dict[str, Any]] = [{"statuses": [status]} for status in statuses]
    if to == STOPS:
        text = {"body": "Stop"}
        said = {"from": to, "id": f"wamid.{uuid4().hex}", "timestamp": stamp, "type": "text", "text": text}
        values.append({"contacts": [{"wa_id": to, "profile": {"name": "Zoë"}}], "messages": [said]})
    return tuple(callback(url, _webhook(value), after_s=0.05 * place) for place, value in enumerate(values, start=1))


def _webhook(value: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"display_phone_number": "15550783881", "phone_number_id": NUMBER_ID}
    change = {"value": {"messaging_product": "whatsapp", "metadata": metadata, **value}, "field": "messages"}
    return {"object": "whatsapp_business_account", "entry": [{"id": ACCOUNT_ID, "changes": [change]}]}


def _number(request: Request, _shelf: Shelf) -> Reply:
    about = {"display_phone_number": "+1 555-078-3881", "verified_name": "Northgate", "quality_rating": "GREEN"}
    return stranger(request) or json_reply(200, {**about, "status": "CONNECTED", "id": NUMBER_ID})


def _apps(request: Request, shelf: Shelf) -> Reply:
    if refusal := stranger(request):
        return refusal
    apps = shelf.kind("apps")
    if request.method == "GET":
        return json_reply(200, {"data": list(apps.values())})
    asked = request.json() or {}
    url = str(asked.get("override_callback_uri", ""))
    if not url or not asked.get("verify_token"):
        return error(400, 100, "override_callback_uri and verify_token must be set together")
    apps["app"] = {"whatsapp_business_api_data": {"id": "670843887433847"}, "override_callback_uri": url}
    shelf.webhooks["events"] = url
    return json_reply(200, {"success": True})


_ROOT = r"/v[0-9]+\.[0-9]+"

VENDOR = Vendor(
    name="whatsapp",
    routes={
        ("POST", rf"{_ROOT}/{NUMBER_ID}/messages"): _send,
        ("GET", rf"{_ROOT}/{NUMBER_ID}"): _number,
        ("GET", rf"{_ROOT}/{ACCOUNT_ID}/message_templates"): templates,
        ("POST", rf"{_ROOT}/{ACCOUNT_ID}/message_templates"): templates,
        ("GET", rf"{_ROOT}/{ACCOUNT_ID}/subscribed_apps"): _apps,
        ("POST", rf"{_ROOT}/{ACCOUNT_ID}/subscribed_apps"): _apps,
    },
    settings={**LOGIN, "phone_number_id": NUMBER_ID, "business_account_id": ACCOUNT_ID},
    refuse=refuse,
)
