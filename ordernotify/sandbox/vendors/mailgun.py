"""Mailgun simulated: mails with recipient variables, events, webhooks with their signature.

Events go to the webhooks that were set up by the API, else to the one named ``events``. The part of an address
before the @ decides what becomes of the mail: ``bounce`` bounces, ``blocked`` fails for now and then arrives,
``unsubscribed`` is on Mailgun's list, ``leaves`` arrives and unsubscribes, ``spam`` arrives and is complained about;
every other arrives. One ``invalid`` refuses the whole call, as every address that is none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, Final
from urllib.parse import parse_qs
from uuid import uuid4

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, file_seen, json_reply

DOMAIN: Final = "mg.northgate.example"
SIGNING_KEY: Final = "sandbox-webhook-signing-key"
_KEY: Final = "key-sandbox-opens-nothing-but-this-simulation"
_LOGIN: Final = f"Basic {base64.b64encode(f'api:{_KEY}'.encode()).decode()}"
_MAX_RECIPIENTS: Final = 1000
_KEPT: Final = 20_000  # events that are kept
_HOOKS: Final = frozenset(
    {
        "accepted",
        "delivered",
        "opened",
        "clicked",
        "unsubscribed",
        "complained",
        "temporary_fail",
        "permanent_fail",
    }
)
_ADDRESS = re.compile(r"(?!invalid@)[^@\s]+@[^@\s]+\.[^@\s]+")

_ARRIVES: Final = ({"event": "delivered", "delivery-status": {"code": 250, "message": "OK"}},)
ENDINGS: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "bounce": ({"event": "failed", "severity": "permanent", "reason": "bounce", "delivery-status": {"code": 550}},),
    "blocked": (
        {"event": "failed", "severity": "temporary", "reason": "generic", "delivery-status": {"code": 421}},
        *_ARRIVES,
    ),
    "unsubscribed": (
        {
            "event": "failed",
            "severity": "permanent",
            "reason": "suppress-unsubscribe",
            "delivery-status": {"code": 606},
        },
    ),
    "leaves": (*_ARRIVES, {"event": "unsubscribed"}),
    "spam": (*_ARRIVES, {"event": "complained"}),
}
FAULTS: Final = {
    Fault.RATE: (429, f"Domain {DOMAIN} is not allowed to send: request limit exceeded, try again after 1 seconds"),
    Fault.RATE_BARE: (429, "Too many requests"),
    Fault.SERVER_ERROR: (500, "Internal Server Error"),
    Fault.PERMANENT: (400, "'to' parameter is not a valid address. please check documentation"),
    Fault.AUTH: (401, "Forbidden"),
    # Mailgun takes such a mail and tells it later as an event; as an answer there is only this.
    Fault.OPT_OUT: (400, "'to' parameter is not a valid address. please check documentation"),
}


def _error(status: int, message: str) -> Reply:
    if status == 401:  # noqa: PLR2004 - Mailgun answers this one in plain text
        return Reply(401, message.encode(), {"content-type": "text/plain"})
    return json_reply(status, {"message": message})


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Mailgun's format."""
    return _error(*FAULTS[fault])


def _stranger(request: Request) -> Reply | None:
    if request.headers.get("authorization") != _LOGIN:
        return _error(*FAULTS[Fault.AUTH])
    return None if DOMAIN in request.path.split("/") else _error(404, "Domain not found: elsewhere.example")


# ---- mails ----


def _fault_of(form: Mapping[str, list[str]], variables: Any) -> str:
    """Return what Mailgun says of the first thing that is wrong with a mail, '' when nothing is."""
    to = form.get("to", [])
    checks = (
        (not form.get("from"), "from parameter is missing"),
        (not to, "to parameter is missing"),
        (not form.get("subject"), "subject parameter is missing"),
        (not (form.get("text") or form.get("html")), "Need at least one of 'text', 'html', 'template' parameters"),
        (len(to) > _MAX_RECIPIENTS, "too many recipients: 1000 at most"),
        (not isinstance(variables, dict), "recipient-variables is not a valid JSON"),
        (not all(_ADDRESS.fullmatch(one) for one in to), FAULTS[Fault.PERMANENT][1]),
        (len(form.get("o:tag", [])) > 3, "too many tags: 3 at most"),  # noqa: PLR2004 - as the text says
    )
    return next((text for wrong, text in checks if wrong), "")


def _send(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    form, files = _form(request)
    try:
        variables = orjson.loads(form.get("recipient-variables", ["{}"])[0])
    except orjson.JSONDecodeError:
        variables = None
    if fault := _fault_of(form, variables):
        return _error(400, fault)
    number = f"{clock.now().strftime('%Y%m%d%H%M%S')}.{uuid4().hex[:16]}@{DOMAIN}"
    taken: list[Taken] = []
    callbacks: list[Callback] = []
    for to in dict.fromkeys(form["to"]):
        values = variables.get(to, {})
        ours = {name[2:]: _filled(text[0], values) for name, text in form.items() if name.startswith("v:")}
        words = f"{_filled(form['subject'][0], values)}\n{_filled(form.get('text', [''])[0], values)}"
        taken.append(Taken(to, ours.get("reference", ""), words, number, files))
        for ending in ({"event": "accepted"}, *ENDINGS.get(to.partition("@")[0], _ARRIVES)):
            event = _event(ending, to, ours, number)
            _keep(event, shelf)
            callbacks += _callbacks(event, shelf)
    answer = {"id": f"<{number}>", "message": "Queued. Thank you."}
    return json_reply(200, answer, taken=tuple(taken), callbacks=tuple(callbacks))


def _form(request: Request) -> tuple[dict[str, list[str]], tuple[tuple[str, str], ...]]:
    """Return a form's fields and files, whichever way it is written."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        return parse_qs(request.body.decode("utf-8", "replace"), keep_blank_values=True), ()
    form: dict[str, list[str]] = {}
    files = []
    for part in message_from_bytes(f"content-type: {kind}\r\n\r\n".encode() + request.body, policy=HTTP).iter_parts():
        content = part.get_payload(decode=True)
        body = content if isinstance(content, bytes) else b""
        name = str(part.get_param("name", header="content-disposition"))
        if part.get_filename() is None:
            form.setdefault(name, []).append(body.decode("utf-8", "replace"))
        elif name == "attachment":
            files.append(file_seen(part.get_filename(), body))
    return form, tuple(files)


def _filled(text: str, values: Mapping[str, Any]) -> str:
    return re.sub(r"%recipient\.([\w-]+)%", lambda found: str(values.get(found[1], "")), text)


def _event(ending: Mapping[str, Any], to: str, variables: Mapping[str, str], number: str) -> dict[str, Any]:
    return {
        **ending,
        "id": uuid4().hex[:22],
        "timestamp": round(clock.now().timestamp(), 6),
        "recipient": to,
        "recipient-domain": to.rpartition("@")[2],
        "user-variables": dict(variables),
        "message": {"headers": {"message-id": number, "to": to}},
        "tags": [],
        "flags": {"is-test-mode": False},
    }


def _keep(event: dict[str, Any], shelf: Shelf) -> None:
    events, by_person = shelf.kind("events"), shelf.kind("by_person")
    events[event["id"]] = event
    by_person.setdefault(event["recipient"], []).append(event)
    if len(events) > _KEPT:
        oldest = events.pop(next(iter(events)))
        by_person[oldest["recipient"]].pop(0)
        if not by_person[oldest["recipient"]]:
            del by_person[oldest["recipient"]]


def _callbacks(event: Mapping[str, Any], shelf: Shelf) -> list[Callback]:
    name = event["event"]
    hook = f"{event['severity']}_fail" if name == "failed" else name
    urls = shelf.kind("hooks").get(hook) or [shelf.webhooks.get("events", "")]
    if name == "accepted" and hook not in shelf.kind("hooks"):
        return []  # nobody asked for it
    return [signed(event, url) for url in urls if url]


def signed(event: Mapping[str, Any], url: str) -> Callback:
    """Return the webhook request of an event, signed as Mailgun signs it."""
    stamp, token = str(int(clock.now().timestamp())), (uuid4().hex + uuid4().hex)[:50]
    proof = hmac.new(SIGNING_KEY.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    signature = {"timestamp": stamp, "token": token, "signature": proof}
    body = orjson.dumps({"signature": signature, "event-data": dict(event)})
    return Callback(url, {"content-type": "application/json"}, body)


# ---- events, domain, webhooks ----


def _events(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    query = request.query
    begin, size = float(query.get("begin", "0")), int(query.get("limit", "100"))
    person = query.get("recipient")
    kept = shelf.kind("events").values() if person is None else shelf.kind("by_person").get(person, [])
    items = [event for event in kept if event["timestamp"] >= begin][:size]
    page = f"{shelf.root}{request.path}/page"
    return json_reply(200, {"items": items, "paging": {"next": page, "previous": page}})


def _domain(request: Request, _shelf: Shelf) -> Reply:
    domain = {"name": DOMAIN, "state": "active", "type": "custom", "is_disabled": False, "spam_action": "disabled"}
    return _stranger(request) or json_reply(200, {"domain": domain})


def _hooks(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    hooks = shelf.kind("hooks")
    if request.method == "POST":
        form = parse_qs(request.body.decode("utf-8", "replace"))
        names, urls = form.get("event_types", []), form.get("url", [])
        if not names or not _HOOKS.issuperset(names) or not urls:
            return _error(400, "Invalid webhook type or url")
        for name in names:
            hooks[name] = list(dict.fromkeys([*hooks.get(name, []), *urls]))
    return json_reply(200, {"webhooks": {name: {"urls": urls} for name, urls in hooks.items()}})


_NAME = r"[a-z0-9.-]+"

VENDOR = Vendor(
    name="mailgun",
    routes={
        ("POST", rf"/v3/{_NAME}/messages"): _send,
        ("GET", rf"/v3/{_NAME}/events"): _events,
        ("GET", rf"/v4/domains/{_NAME}"): _domain,
        ("GET", rf"/v3/domains/{_NAME}/webhooks"): _hooks,
        ("POST", rf"/v4/domains/{_NAME}/webhooks"): _hooks,
    },
    settings={
        "domain": DOMAIN,
        "api_key": _KEY,
        "webhook_signing_key": SIGNING_KEY,
        "from_email": f"orders@{DOMAIN}",
        "from_name": "Northgate Defense",
    },
    refuse=refuse,
)
