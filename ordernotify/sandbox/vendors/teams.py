"""Microsoft Teams simulated: Workflows URLs, which take a card first and look at it later.

A URL whose ``sig`` is ``ROTATED`` is refused (403), a workflow whose id ends in ``404`` is gone. As at Microsoft,
a card that is too large or not in ``attachments`` is answered 202 all the same, and never appears.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

from ordernotify.sandbox._base import Fault, Reply, Request, Shelf, Taken, Vendor, json_reply

_CARD = "application/vnd.microsoft.card.adaptive"
_CARD_LIMIT = 28_000
_ROTATED = "ROTATED"


def _error(status: int, code: str, message: str, **headers: str) -> Reply:
    return json_reply(status, {"error": {"code": code, "message": message}}, headers=headers)


FAULTS: Final[Mapping[Fault, Reply]] = {
    Fault.RATE: _error(429, "TooManyRequests", "Rate limit is exceeded.", **{"retry-after": "1"}),
    Fault.RATE_BARE: _error(429, "TooManyRequests", "Rate limit is exceeded."),
    Fault.SERVER_ERROR: _error(500, "InternalServerError", "Encountered internal server error."),
    Fault.PERMANENT: _error(400, "TriggerInputSchemaMismatch", "The input body does not match the schema."),
    Fault.AUTH: _error(401, "DirectApiAuthorizationRequired", "The request must be authenticated."),
    Fault.OPT_OUT: _error(404, "WorkflowNotFound", "The workflow could not be found."),  # its owner removed it
}


def refuse(fault: Fault) -> Reply:
    """Answer a fault in the format of Power Automate."""
    return FAULTS[fault]


def _invoke(request: Request, _shelf: Shelf) -> Reply:
    workflow = request.path.partition("/workflows/")[2].partition("/")[0]
    if not request.query.get("sig"):
        return FAULTS[Fault.AUTH]
    if request.query["sig"] == _ROTATED:
        return _error(403, "DirectApiAuthorizationFailed", "The signature is not valid.")
    if workflow.endswith("404"):
        return FAULTS[Fault.OPT_OUT]
    value = request.json()
    if value is None:
        return _error(400, "InvalidRequestContent", "The request content is not valid JSON.")
    run = uuid4().hex.upper()
    # The run fails after the answer when the card is none: nothing is taken, and nobody is told.
    cards = list(_cards(value)) if len(request.body) <= _CARD_LIMIT else []
    taken = tuple(Taken(workflow, _mark(card), "\n".join(_lines(card)), run) for card in cards)
    return Reply(202, headers={"x-ms-workflow-run-id": run}, taken=taken)


def _cards(value: Any) -> Iterator[Mapping[str, Any]]:
    attachments = value.get("attachments") if isinstance(value, dict) else None
    for attachment in attachments if isinstance(attachments, list) else ():
        card = attachment.get("content")
        if attachment.get("contentType") == _CARD and isinstance(card, dict) and card.get("type") == "AdaptiveCard":
            yield card


def _mark(card: Mapping[str, Any]) -> str:
    body = card.get("body", [])
    return str(body[0].get("id", "")) if body else ""


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    for element in card.get("body", ()):
        match element:
            case {"type": "TextBlock", "text": text}:
                yield text
            case {"type": "RichTextBlock", "inlines": runs}:
                yield "".join(run["text"] for run in runs)
            case {"type": "FactSet", "facts": facts}:
                yield from (f"{fact['title']}: {fact['value']}" for fact in facts)


VENDOR = Vendor(
    name="teams",
    routes={
        (
            "POST",
            r"(/powerautomate/automations/direct(/cu/[0-9]+)?)?/workflows/[0-9a-f]+/triggers/manual/paths/invoke",
        ): _invoke
    },
    settings={},
    refuse=refuse,
)
