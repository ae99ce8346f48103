"""What the simulated WhatsApp and Messenger share: login, errors, kept templates, signed callbacks."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, json_reply

TOKEN: Final = "EAAG-sandbox-opens-nothing-but-this-simulation"  # noqa: S105 - see its text
APP_SECRET: Final = "5a4db0c55a4db0c55a4db0c55a4db0c5"  # noqa: S105 - signs for nobody but this simulation
VERIFY_TOKEN: Final = "sandbox-verify-token"  # noqa: S105 - likewise
LOGIN: Final[Mapping[str, str]] = {
    "access_token": TOKEN,
    "app_secret": APP_SECRET,
    "verify_token": VERIFY_TOKEN,
}
MISSING: Final = "missing_"  # a template whose name begins so was never approved

_PROOF = hmac.new(APP_SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
_PLACE = re.compile(r"\{\{([0-9]+)\}\}")
_SPACES = re.compile(r"[\n\t\r]| {5,}")


def error(status: int, code: int, message: str, subcode: int = 0, details: str = "") -> Reply:
    """Answer with an error of the Graph API."""
    value: dict[str, Any] = {
        "message": f"(#{code}) {message}",
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "AsandboxTrace",
    }
    if subcode:
        value["error_subcode"] = subcode
    if details:
        value["error_data"] = {"messaging_product": "whatsapp", "details": details}
    return json_reply(status, {"error": value})


def stranger(request: Request) -> Reply | None:
    """Return the refusal of a request without our token or without proof of the app secret."""
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        return error(401, 190, "Invalid OAuth access token")
    if request.query.get("appsecret_proof") != _PROOF:
        return error(400, 100, "API calls from the server require an appsecret_proof argument")
    return None


def refusals(rate: int, permanent: tuple[int, int], opt_out: tuple[int, int]) -> Mapping[Fault, Reply]:
    """Return Meta's answer to each fault; Meta sends no Retry-After."""
    return {
        Fault.RATE: error(429, rate, "Rate limit hit"),
        Fault.RATE_BARE: error(429, rate, "Rate limit hit"),
        Fault.SERVER_ERROR: error(500, 2, "Service temporarily unavailable"),
        Fault.PERMANENT: error(400, permanent[0], "Message undeliverable", permanent[1]),
        Fault.AUTH: error(401, 190, "Invalid OAuth access token"),
        Fault.OPT_OUT: error(400, opt_out[0], "The person does not want this message", opt_out[1]),
    }


def templates(request: Request, shelf: Shelf) -> Reply:
    """List or make message templates; each is approved at once."""
    if refusal := stranger(request):
        return refusal
    kept = shelf.kind("templates")
    if request.method == "GET":
        name = request.query.get("name", "")
        return json_reply(200, {"data": [one for one in kept.values() if name in one["name"]]})
    asked = request.json()
    if not isinstance(asked, dict) or not all(asked.get(part) for part in ("name", "language", "components")):
        return error(400, 100, "Invalid parameter")
    body = next((part for part in asked["components"] if part.get("type") == "BODY"), None)
    if body is None or not _is_well_made(body):
        return error(400, 100, "Invalid parameter", 2388299)
    key = f"{asked['name']} {asked['language']}"
    if key in kept:
        return error(400, 100, "There is already content in this language", 2388024)
    kept[key] = {**asked, "id": str(10_000 + shelf.next_serial()), "status": "APPROVED"}
    return json_reply(200, {"id": kept[key]["id"], "status": "APPROVED", "category": asked.get("category")})


def _is_well_made(body: Mapping[str, Any]) -> bool:
    text, examples = str(body.get("text", "")), body.get("example", {}).get("body_text", [[]])[0]
    places = [int(place) for place in _PLACE.findall(text)]
    inside = not (text.startswith("{{") or text.rstrip(".!?").endswith("}}"))
    return inside and places == list(range(1, len(places) + 1)) and len(examples) == len(places)


def filled(template: Any, shelf: Shelf) -> str | int:
    """Return what a person reads of a template, or Meta's code for what is wrong with it."""
    if not isinstance(template, dict) or not template.get("name"):
        return 131008
    language = template.get("language", {}).get("code", "")
    if not language or template["name"].startswith(MISSING):
        return 132001
    parts = [part for part in template.get("components", ()) if str(part.get("type")).lower() == "body"]
    values = [str(value.get("text", "")) for part in parts for value in part.get("parameters", ())]
    if not all(values) or any(_SPACES.search(value) for value in values):
        return 132018
    kept = shelf.kind("templates").get(f"{template['name']} {language}")
    if kept is None:
        # Never made here: taken for one that was approved before, so that a demo needs no set-up.
        return f"{template['name']}: {' | '.join(values)}"
    body = next(part["text"] for part in kept["components"] if part["type"] == "BODY")
    if len(_PLACE.findall(body)) != len(values):
        return 132000
    return _PLACE.sub(lambda place: values[int(place[1]) - 1], body)


def callback(url: str, value: Mapping[str, Any], *, after_s: float) -> Callback:
    """Return a signed webhook; Meta escapes every character outside ASCII and signs it so."""
    body = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    digest = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "x-hub-signature-256": f"sha256={digest}"}
    return Callback(url, headers, body, after_s=after_s)
