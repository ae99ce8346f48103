"""Microsoft Graph simulated: tokens, sendMail as JSON and as MIME, $batch, and Sent Items.

Mail to an address that begins with ``busy@`` is throttled, to one with ``refused@`` is refused, each without harm
to the others of a batch. What came as MIME loses its headers, as it may at Exchange.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTP
from typing import Any, Final
from uuid import uuid4

import orjson

from ordernotify import clock
from ordernotify.sandbox import _tokens
from ordernotify.sandbox._base import Fault, Reply, Request, Shelf, Taken, Vendor, file_seen, files_of, json_reply

TENANT: Final = "northgate.example"
SENDER: Final = "orders@northgate.example"
_APP: Final = "5a4db0c5-0000-4000-8000-000000000001"
_SECRET: Final = "sandbox~client~secret"  # noqa: S105 - of the sandbox, which guards nothing
_SCOPE: Final = "https://graph.microsoft.com/.default"
_REFERENCE: Final = "x-ordernotify-reference"
_BATCH: Final = 20
_MAX_HEADERS: Final = 5
_LARGEST: Final = 4_194_304  # a request
_KEPT: Final = 20_000  # mails that are kept in Sent Items
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")

ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "InvalidAuthenticationToken": (401, "Access token is empty or has expired."),
    "ErrorAccessDenied": (403, "Access is denied. Check credentials and try again."),
    "ErrorInvalidUser": (404, "The requested user is invalid."),
    "ErrorInvalidRecipients": (400, "At least one recipient is not valid."),
    "InvalidInternetMessageHeader": (400, "The internet message header name should start with 'x-' or 'X-'."),
    "InvalidInternetMessageHeaderCollection": (400, "Maximum number of headers in one message is 5."),
    "ErrorMimeContentInvalidBase64String": (400, "Invalid base64 string for MIME content."),
    "ErrorMessageSizeExceeded": (413, "The message exceeds the maximum supported size."),
    "BadRequest": (400, "Unable to read JSON request payload."),
    "ApplicationThrottled": (429, "Application is over its MailboxConcurrency limit."),
    "TooManyRequests": (429, "Too many requests."),
    "ErrorInternalServerError": (500, "An internal server error occurred. The operation failed."),
}
FAULTS: Final = {
    Fault.RATE: "ApplicationThrottled",
    Fault.RATE_BARE: "TooManyRequests",
    Fault.SERVER_ERROR: "ErrorInternalServerError",
    Fault.PERMANENT: "ErrorInvalidRecipients",
    Fault.AUTH: "ErrorAccessDenied",
    # Exchange knows no opt-out: what it will not take for one person it will not take for anybody.
    Fault.OPT_OUT: "ErrorInvalidRecipients",
}


def _error(code: str, **headers: str) -> Reply:
    status, message = ERRORS[code]
    inner = {"date": clock.now().strftime("%Y-%m-%dT%H:%M:%S"), "request-id": str(uuid4())}
    return json_reply(status, {"error": {"code": code, "message": message, "innerError": inner}}, headers=headers)


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Graph's format."""
    return _error(FAULTS[fault], **({"Retry-After": "1"} if fault is Fault.RATE else {}))


def _token(request: Request, _shelf: Shelf) -> Reply:
    form = request.form()
    faults = (
        (form.get("grant_type") != "client_credentials", 400, "unsupported_grant_type", "AADSTS70003"),
        (form.get("client_id") != _APP, 400, "unauthorized_client", "AADSTS700016"),
        (form.get("client_secret") != _SECRET, 401, "invalid_client", "AADSTS7000215"),
        (form.get("scope") != _SCOPE, 400, "invalid_scope", "AADSTS70011"),
    )
    for wrong, status, word, code in faults:
        if wrong:
            number = int(code.removeprefix("AADSTS"))
            value = {"error": word, "error_description": f"{code}: refused.", "error_codes": [number]}
            return json_reply(status, value)
    lifetime = {"expires_in": _tokens.LIFETIME_S, "ext_expires_in": _tokens.LIFETIME_S, "token_type": "Bearer"}
    return json_reply(200, {"access_token": _tokens.issue("outlook"), **lifetime})


def _stranger(request: Request) -> Reply | None:
    if not _tokens.is_valid("outlook", request.headers.get("authorization", "")):
        return _error("InvalidAuthenticationToken")
    return None if f"/users/{SENDER}/" in request.path else _error("ErrorInvalidUser")


# ---- sending ----


def _send_mail(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    if len(request.body) > _LARGEST:
        return _error("ErrorMessageSizeExceeded")
    if request.headers.get("content-type", "").startswith("text/plain"):
        return _send_mime(request, shelf)
    return _send_json(request.json(), shelf)


def _send_json(body: Any, shelf: Shelf) -> Reply:
    message = body.get("message") if isinstance(body, dict) else None
    content = message.get("body") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(content, dict):
        return _error("BadRequest")
    if content.get("contentType") not in {"Text", "HTML"}:
        return _error("BadRequest")
    headers = message.get("internetMessageHeaders")
    if headers is not None and not 1 <= len(headers) <= _MAX_HEADERS:
        return _error("InvalidInternetMessageHeaderCollection")
    if any(not header["name"].lower().startswith("x-") for header in headers or ()):
        return _error("InvalidInternetMessageHeader")
    attached = message.get("attachments", ())
    if any(one.get("@odata.type") != "#microsoft.graph.fileAttachment" for one in attached):
        return _error("BadRequest")
    files = tuple(file_seen(one["name"], base64.b64decode(one["contentBytes"])) for one in attached)
    people = [person["emailAddress"]["address"] for person in message.get("toRecipients", ())]
    references = [header["value"] for header in headers or () if header["name"].lower() == _REFERENCE]
    reference = next(iter(references), "")
    return _take(
        shelf,
        people,
        subject=message.get("subject", ""),
        text=content["content"],
        reference=reference,
        headers=headers,
        keep=body.get("saveToSentItems", True),
        files=files,
    )


def _send_mime(request: Request, shelf: Shelf) -> Reply:
    try:
        mail = message_from_bytes(base64.b64decode(request.body, validate=True), policy=SMTP)
    except binascii.Error:
        return _error("ErrorMimeContentInvalidBase64String")
    plain = mail.get_body(("plain",))
    text = plain.get_content().replace("\r\n", "\n").removesuffix("\n") if plain is not None else ""
    people = [address.addr_spec for address in mail["To"].addresses] if mail["To"] else []
    reference, subject = str(mail[_REFERENCE] or ""), str(mail["Subject"] or "")
    files = files_of(mail)
    return _take(shelf, people, subject=subject, text=text, reference=reference, headers=None, keep=True, files=files)


def _take(
    shelf: Shelf,
    people: list[str],
    *,
    subject: str,
    text: str,
    reference: str,
    headers: list[dict[str, str]] | None,
    keep: bool,
    files: tuple[tuple[str, str], ...],
) -> Reply:
    if not people or not all(_ADDRESS.fullmatch(one) for one in people) or people[0].startswith("refused@"):
        return _error("ErrorInvalidRecipients")
    if people[0].startswith("busy@"):
        return _error("ApplicationThrottled", **{"Retry-After": "7"})
    found = f"AAMkAG{uuid4().hex}="
    sent = shelf.kind("sent")
    if keep:
        sent[found] = {
            "id": found,
            "subject": subject,
            "toRecipients": [{"emailAddress": {"name": one, "address": one}} for one in people],
            "internetMessageId": f"<{uuid4().hex}@northgate.prod.outlook.example>",
            "internetMessageHeaders": headers,
            "sentDateTime": clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    if len(sent) > _KEPT:
        sent.pop(next(iter(sent)))
    request_id = str(uuid4())
    taken = tuple(Taken(one, reference, f"{subject}\n{text}", request_id, files) for one in people)
    return Reply(202, headers={"request-id": request_id}, taken=taken)


def _batch(request: Request, shelf: Shelf) -> Reply:
    if not _tokens.is_valid("outlook", request.headers.get("authorization", "")):
        return _error("InvalidAuthenticationToken")
    body = request.json()
    parts = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(parts, list) or not 0 < len(parts) <= _BATCH:
        return _error("BadRequest")
    if len({part.get("id") for part in parts}) != len(parts):
        return _error("BadRequest")
    replies = {part["id"]: _one(part, request, shelf) for part in parts}
    # Not in the order of the requests: Graph promises none.
    responses = [_response(number, reply) for number, reply in reversed(replies.items())]
    taken = tuple(taken for reply in replies.values() for taken in reply.taken)
    return json_reply(200, {"responses": responses}, taken=taken)


def _one(part: Mapping[str, Any], outer: Request, shelf: Shelf) -> Reply:
    headers = {name.lower(): value for name, value in part.get("headers", {}).items()}
    login = {"authorization": outer.headers["authorization"]}
    inner = Request(
        method=part.get("method", ""),
        path=f"/v1.0{part.get('url', '')}",
        query={},
        headers={**headers, **login},
        body=orjson.dumps(part.get("body")),
    )
    if inner.method != "POST" or not inner.path.endswith("/sendMail"):
        return _error("BadRequest")
    return _send_mail(inner, shelf)


def _response(number: str, reply: Reply) -> dict[str, Any]:
    body = orjson.loads(reply.body) if reply.body else None
    return {"id": number, "status": reply.status, "headers": dict(reply.headers), "body": body}


# ---- Sent Items ----


def _folder(request: Request, shelf: Shelf) -> Reply:
    folder = {"id": "AAMkAGsentitems=", "displayName": "Sent Items", "totalItemCount": len(shelf.kind("sent"))}
    return _stranger(request) or json_reply(200, folder)


def _sent(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    wanted = re.fullmatch(r"sentDateTime ge (\S+)", request.query.get("$filter", ""))
    if wanted is None:
        return _error("BadRequest")
    since, size = datetime.fromisoformat(wanted[1]), int(request.query.get("$top", "10"))
    mails = [one for one in shelf.kind("sent").values() if datetime.fromisoformat(one["sentDateTime"]) >= since]
    more = {"@odata.nextLink": f"{shelf.root}{request.path}?$skip={size}"} if len(mails) > size else {}
    return json_reply(200, {"value": mails[:size], **more})


_USER = r"/v1\.0/users/[^/]+"

VENDOR = Vendor(
    name="outlook",
    routes={
        ("POST", rf"/{re.escape(TENANT)}/oauth2/v2\.0/token"): _token,
        ("POST", rf"{_USER}/sendMail"): _send_mail,
        ("POST", r"/v1\.0/\$batch"): _batch,
        ("GET", rf"{_USER}/mailFolders/sentitems"): _folder,
        ("GET", rf"{_USER}/mailFolders/sentitems/messages"): _sent,
    },
    settings={"tenant": TENANT, "client_id": _APP, "client_secret": _SECRET, "sender": SENDER},
    url_settings={"token_url": "/{tenant}/oauth2/v2.0/token"},
    refuse=refuse,
)
