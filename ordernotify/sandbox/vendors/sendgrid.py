"""SendGrid simulated: mail, templates, the Event Webhook with its signature.

Events go to the webhook that was set up by the API, else to the one named ``events``. The part of an address
before the @ decides what becomes of the mail: ``bounce`` bounces, ``blocked`` is refused for now, ``unsubscribed``
is dropped, ``spam`` arrives and is complained about; every other arrives.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, file_seen, json_reply

_KEY = "SG.sandbox.opens-nothing-but-this-simulation"
# Derived, not drawn: the sandbox and whoever reads its settings may be two processes.
_SIGNER = ec.derive_private_key(0x5A4DB0C5, ec.SECP256R1())
PUBLIC_KEY: Final = base64.b64encode(
    _SIGNER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()

ENDINGS: Final[Mapping[str, Sequence[Mapping[str, str]]]] = {
    "bounce": (
        {"event": "processed"},
        {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 User unknown"},
    ),
    "blocked": (
        {"event": "processed"},
        {"event": "bounce", "type": "blocked", "status": "4.7.1", "reason": "421 4.7.1 Try again later"},
    ),
    "unsubscribed": ({"event": "dropped", "reason": "Unsubscribed Address", "status": "5.0.0"},),
    "spam": (
        {"event": "processed"},
        {"event": "delivered", "response": "250 OK"},
        {"event": "spamreport"},
    ),
}
_ARRIVES = ({"event": "processed"}, {"event": "delivered", "response": "250 OK"})
_EVENTS_PER_CALL = 1000  # keeps a call under the 768 KB at which SendGrid sends

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_MAX_RECIPIENTS = 1000
FAULTS: Final = {
    Fault.RATE: (429, "too many requests"),
    Fault.RATE_BARE: (429, "too many requests"),
    Fault.SERVER_ERROR: (500, "internal error"),
    Fault.PERMANENT: (400, "The subject is required."),
    Fault.AUTH: (401, "The provided authorization grant is invalid, expired, or revoked"),
    # SendGrid answers 202 and drops the mail later; as an answer there is only this.
    Fault.OPT_OUT: (400, "The to address is suppressed."),
}


def _error(status: int, message: str, field: str | None = None, headers: Mapping[str, str] | None = None) -> Reply:
    value = {"errors": [{"message": message, "field": field, "help": None}]}
    return json_reply(status, value, headers=headers or {})


def refuse(fault: Fault) -> Reply:
    """Answer a fault in SendGrid's format."""
    reset = str(int(clock.now().timestamp()) + 1)
    return _error(*FAULTS[fault], headers={"x-ratelimit-reset": reset} if fault is Fault.RATE else {})


def _stranger(request: Request) -> Reply | None:
    if request.headers.get("authorization") == f"Bearer {_KEY}":
        return None
    return _error(*FAULTS[Fault.AUTH])


def _fault_of(mail: Any) -> Reply | None:
    """Return the refusal of the first thing that is wrong with a mail, None when nothing is."""
    if not isinstance(mail, dict):
        return _error(400, "Bad Request")
    if refusal := _fault_of_people(mail.get("personalizations")):
        return refusal
    sender = mail.get("from", {}).get("email", "")
    if not _ADDRESS.fullmatch(sender) or not sender.isascii():
        return _error(400, "Does not contain a valid address.", "from.email")
    if refusal := _fault_of_files(mail.get("attachments", [])):
        return refusal
    return None if "template_id" in mail else _fault_of_content(mail)


def _fault_of_people(people: Any) -> Reply | None:
    if not isinstance(people, list) or not people:
        return _error(400, "The personalizations field is required and must have at least one.", "personalizations")
    if sum(len(one.get("to", ())) for one in people) > _MAX_RECIPIENTS:
        return _error(400, "There are too many recipients in personalizations.", "personalizations")
    for place, one in enumerate(people):
        if not one.get("to"):
            return _error(400, "The to array is required.", f"personalizations.{place}.to")
        for number, to in enumerate(one["to"]):
            if not _ADDRESS.fullmatch(to.get("email", "")):
                field = f"personalizations.{place}.to.{number}.email"
                return _error(400, "Does not contain a valid address.", field)
    return None


def _fault_of_files(files: Any) -> Reply | None:
    for place, one in enumerate(files):
        try:
            content = base64.b64decode(one.get("content", ""), validate=True)
        except binascii.Error:
            content = b""
        if not content:
            return _error(400, "The attachment content must be base64 encoded.", f"attachments.{place}.content")
        if not one.get("filename"):
            return _error(400, "The attachment filename is required.", f"attachments.{place}.filename")
    return None


def _fault_of_content(mail: Mapping[str, Any]) -> Reply | None:
    if not mail.get("subject"):
        return _error(400, "The subject is required.", "subject")
    kinds = [part.get("type") for part in mail.get("content", ()) if part.get("value")]
    if not kinds:
        return _error(400, "The content value must be a string at least one character in length.", "content")
    if kinds != sorted(kinds, key=["text/plain", "text/html"].index):
        return _error(400, "If present, text/plain must be first, followed by text/html.", "content")
    return None


def _send(request: Request, shelf: Shelf) -> Reply:
    mail = request.json()
    if refusal := _stranger(request) or _fault_of(mail):
        return refusal
    message_id = uuid4().hex[:22]
    inline = next((part["value"] for part in mail.get("content", ()) if part["type"] == "text/plain"), "")
    taken = []
    events = []
    files = tuple(file_seen(one["filename"], base64.b64decode(one["content"])) for one in mail.get("attachments", ()))
    for one in mail["personalizations"]:
        data, args = one.get("dynamic_template_data", {}), one.get("custom_args", {})
        subject, text = data.get("subject", mail.get("subject", "")), data.get("text", inline)
        for to in one["to"]:
            words = f"{subject}\n{text}"
            taken.append(Taken(to["email"], args.get("on_reference", ""), words, message_id, files))
            events += _events(to["email"], args, message_id)
    callbacks = _callbacks(events, shelf.webhooks.get("events", ""))
    return Reply(202, headers={"x-message-id": message_id}, taken=tuple(taken), callbacks=callbacks)


def _events(email: str, args: Mapping[str, str], message_id: str) -> list[dict[str, Any]]:
    now = int(clock.now().timestamp())
    base = {
        **args,
        "email": email,
        "timestamp": now,
        "sg_message_id": f"{message_id}.recvd-sandbox-0",
        "smtp-id": f"<{message_id}@sandbox.example>",
    }
    return [{**base, **ending, "sg_event_id": uuid4().hex} for ending in ENDINGS.get(email.partition("@")[0], _ARRIVES)]


def _callbacks(events: Sequence[Mapping[str, Any]], url: str) -> tuple[Callback, ...]:
    if not url:
        return ()
    starts = range(0, len(events), _EVENTS_PER_CALL)
    return tuple(_callback(events[start : start + _EVENTS_PER_CALL], url) for start in starts)


def _callback(events: Sequence[Mapping[str, Any]], url: str) -> Callback:
    stamp = str(int(clock.now().timestamp()))
    body = orjson.dumps(events) + b"\r\n"
    signature = _SIGNER.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    headers = {
        "content-type": "application/json",
        "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
        "x-twilio-email-event-webhook-timestamp": stamp,
    }
    return Callback(url, headers, body)


def _scopes(request: Request, _shelf: Shelf) -> Reply:
    return _stranger(request) or json_reply(200, {"scopes": ["mail.send", "templates.create"]})


def _templates(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    templates = shelf.kind("templates")
    if request.method == "GET":
        return json_reply(200, {"result": list(templates.values()), "_metadata": {"count": len(templates)}})
    name = (request.json() or {}).get("name")
    if not name:
        return _error(400, "name is required", "name")
    template = {"id": f"d-{uuid4().hex}", "name": name, "generation": "dynamic", "versions": []}
    templates[template["id"]] = template
    return json_reply(201, template)


def _template(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    template = shelf.kind("templates").get(request.path.split("/")[3])
    if template is None:
        return _error(404, "template not found")
    if request.method == "GET":
        return json_reply(200, template)
    version = {**(request.json() or {}), "id": str(uuid4()), "template_id": template["id"]}
    template["versions"].append(version)
    return json_reply(201, version)


def _hooks(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    hooks = shelf.kind("hooks")
    if request.method == "GET":
        return json_reply(200, {"max_allowed": 5, "webhooks": list(hooks.values())})
    hook = {**(request.json() or {}), "id": str(uuid4())}
    if not hook.get("url"):
        return _error(400, "url is required", "url")
    hooks[hook["id"]] = hook
    shelf.webhooks["events"] = hook["url"]
    return json_reply(201, hook)


def _sign(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    oldest = next(iter(shelf.kind("hooks").values()), None)
    if oldest is None:
        return _error(404, "Invalid id provided.")
    oldest["public_key"] = PUBLIC_KEY
    return json_reply(200, {"id": oldest["id"], "public_key": PUBLIC_KEY})


_SETTINGS = "/v3/user/webhooks/event/settings"

VENDOR = Vendor(
    name="sendgrid",
    routes={
        ("POST", "/v3/mail/send"): _send,
        ("GET", "/v3/scopes"): _scopes,
        ("GET", "/v3/templates"): _templates,
        ("POST", "/v3/templates"): _templates,
        ("GET", "/v3/templates/d-[0-9a-f]{32}"): _template,
        ("POST", "/v3/templates/d-[0-9a-f]{32}/versions"): _template,
        ("GET", f"{_SETTINGS}/all"): _hooks,
        ("POST", _SETTINGS): _hooks,
        ("PATCH", f"{_SETTINGS}/signed"): _sign,
    },
    settings={"api_key": _KEY, "from_email": "orders@northgate.example", "webhook_public_key": PUBLIC_KEY},
    refuse=refuse,
)
