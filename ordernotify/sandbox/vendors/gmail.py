"""Gmail simulated: tokens for a service account or a refresh token, sending, and the search of sent mail.

Mail to an address that begins with ``limit@`` meets the daily limit of the mailbox, which names the hour at which
sending may go on.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from functools import lru_cache
from typing import Any, Final
from uuid import uuid4

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ordernotify import clock
from ordernotify.sandbox import _tokens
from ordernotify.sandbox._base import Fault, Reply, Request, Shelf, Taken, Vendor, files_of, json_reply

MAILBOX: Final = "orders@northgate.example"
CLIENT_ID: Final = "1015.apps.sandbox.example"
CLIENT_SECRET: Final = "GOCSPX-sandbox"  # noqa: S105 - of the sandbox, which guards nothing
REFRESH_TOKEN: Final = "1//sandbox-refresh"  # noqa: S105 - likewise
SCOPES: Final = frozenset(
    {"https://www.googleapis.com/auth/gmail.send", "https://www.googleapis.com/auth/gmail.readonly"}
)
_ACCOUNT: Final = "ordernotify@northgate.iam.gserviceaccount.com"
_KEY_ID: Final = "5a4db0c5"
_LONGEST: Final = 36_700_160
_KEPT: Final = 20_000  # mails that can still be searched
_SKEW_S: Final = 300

# Two primes rather than a drawn key: the sandbox and whoever reads its settings may be two processes.
_P: Final = int(
    "fb6eb69b11ecb0c99c258d3a60a8516a79bee748de4fd29a2dbcdfe3ff710a54"
    "5be48b4ba83bdf5ca5d1f5223f1c80993b99ecf8f797eab5be6b9972ef8a38c3"
    "772a5e1e67e3db621198da53d128c7fa2a57c69679c860dab87fee0403dcd5a4"
    "1b7400aae39c5479fb2206f994563404cd5a87c6dc5ca1a1eea3d99081bc4375",
    16,
)
_Q: Final = int(
    "c494fd4a2cc8802d783cd1c7171564209959f542c433b071bfbb2edbc0d43a4f"
    "a0da7512aa9fe755e03f056f5a923f7e62a78dcb391eaad6389733d06fa3753b"
    "1e456a8313c4e1f219eb0a749e7ca4ac7869cd0fc851ef00f01dae25ad5a961e"
    "367d2ceb3c551309b9f10764cab8f264edf22a7f8bbef18339558fa38169d297",
    16,
)
_E: Final = 65_537


@lru_cache(maxsize=1)
def _key() -> rsa.RSAPrivateKey:
    d = rsa.rsa_recover_private_exponent(_E, _P, _Q)
    numbers = rsa.RSAPrivateNumbers(
        p=_P,
        q=_Q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, _P),
        dmq1=rsa.rsa_crt_dmq1(d, _Q),
        iqmp=rsa.rsa_crt_iqmp(_P, _Q),
        public_numbers=rsa.RSAPublicNumbers(_E, _P * _Q),
    )
    return numbers.private_key()


def _key_file() -> str:
    pem = _key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "project_id": "northgate",
        "private_key_id": _KEY_ID,
        "private_key": pem,
        "client_email": _ACCOUNT,
        "client_id": "101500000000000000001",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return orjson.dumps(account).decode()


# status, Google's word for it, reason, message
ERRORS: Final[Mapping[str, tuple[int, str, str]]] = {
    "authError": (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "invalidArgument": (400, "INVALID_ARGUMENT", "Recipient address required"),
    "failedPrecondition": (400, "FAILED_PRECONDITION", "Precondition check failed."),
    "rateLimitExceeded": (429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Queries'."),
    "userRateLimitExceeded": (429, "RESOURCE_EXHAUSTED", "User-rate limit exceeded."),
    "uploadTooLarge": (413, "INVALID_ARGUMENT", "Request Entity Too Large"),
    "notFound": (404, "NOT_FOUND", "Requested entity was not found."),
    "backendError": (500, "INTERNAL", "Backend Error"),
}
FAULTS: Final = {
    Fault.RATE: "rateLimitExceeded",
    Fault.RATE_BARE: "userRateLimitExceeded",
    Fault.SERVER_ERROR: "backendError",
    Fault.PERMANENT: "invalidArgument",
    Fault.AUTH: "authError",
    # Gmail knows no opt-out: what it will not take for one person it will not take for anybody.
    Fault.OPT_OUT: "invalidArgument",
}


def _error(reason: str, message: str = "", **headers: str) -> Reply:
    status, word, usual = ERRORS[reason]
    said = message or usual
    entry = {"message": said, "domain": "global", "reason": reason}
    value = {"error": {"code": status, "message": said, "errors": [entry], "status": word}}
    return json_reply(status, value, headers=headers)


def refuse(fault: Fault) -> Reply:
    """Answer a fault in Google's format."""
    return _error(FAULTS[fault], **({"retry-after": "1"} if fault is Fault.RATE else {}))


# ---- tokens ----


def _token(request: Request, _shelf: Shelf) -> Reply:
    form = request.form()
    match form.get("grant_type"):
        case "urn:ietf:params:oauth:grant-type:jwt-bearer":
            fault = _fault_of_assertion(form.get("assertion", ""))
        case "refresh_token":
            fault = _fault_of_consent(form)
        case _:
            fault = (400, "unsupported_grant_type", "Invalid grant_type")
    if fault is not None:
        status, word, text = fault
        return json_reply(status, {"error": word, "error_description": text})
    lifetime = {"expires_in": _tokens.LIFETIME_S, "token_type": "Bearer"}
    return json_reply(200, {"access_token": _tokens.issue("gmail"), **lifetime})


def _fault_of_assertion(words: str) -> tuple[int, str, str] | None:
    parts = words.split(".")
    try:
        header, claims = (orjson.loads(_bytes(part)) for part in parts[:2])
        _key().public_key().verify(_bytes(parts[2]), ".".join(parts[:2]).encode(), padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, IndexError, InvalidSignature):
        return (400, "invalid_grant", "Invalid JWT Signature.")
    now = clock.now().timestamp()
    issued, ends = claims.get("iat", 0), claims.get("exp", 0)
    lasts = 0 < ends - issued <= _tokens.LIFETIME_S + 1 and abs(now - issued) <= _SKEW_S
    known = header == {"alg": "RS256", "typ": "JWT", "kid": _KEY_ID} and claims.get("iss") == _ACCOUNT
    faults = (
        (not known, 400, "invalid_grant", "Invalid grant: account not found"),
        (not lasts, 400, "invalid_grant", "Invalid JWT: Token must be a short-lived token"),
        (not str(claims.get("aud", "")).endswith("/token"), 400, "invalid_grant", "Invalid JWT: audience"),
        (set(str(claims.get("scope", "")).split()) != SCOPES, 401, "unauthorized_client", "Client is unauthorized"),
        (claims.get("sub") != MAILBOX, 400, "invalid_grant", "Invalid email or User ID"),
    )
    return next(((status, word, text) for wrong, status, word, text in faults if wrong), None)


def _fault_of_consent(form: Mapping[str, str]) -> tuple[int, str, str] | None:
    if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
        return (401, "invalid_client", "The OAuth client was not found.")
    if form.get("refresh_token") != REFRESH_TOKEN:
        return (400, "invalid_grant", "Token has been expired or revoked.")
    return None


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _stranger(request: Request) -> Reply | None:
    known = _tokens.is_valid("gmail", request.headers.get("authorization", ""))
    return None if known else _error("authError")


# ---- mail ----


def _read(request: Request) -> EmailMessage | Reply:
    body = request.json()
    raw = body.get("raw") if isinstance(body, dict) else None
    if len(request.body) > _LONGEST:
        return _error("uploadTooLarge")
    try:
        mail = message_from_bytes(base64.b64decode(str(raw or ""), altchars=b"-_", validate=True), policy=SMTP)
    except binascii.Error:
        return _error("invalidArgument", "Invalid value for ByteString")
    if not mail["To"]:
        return _error("invalidArgument")
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(mail["To"])):
        return _error("invalidArgument", "Invalid To header")
    return mail


def _send(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    mail = _read(request)
    if isinstance(mail, Reply):
        return mail
    to, subject = str(mail["To"]), str(mail["Subject"] or "")
    if to.startswith("limit@"):
        until = (clock.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return _error("userRateLimitExceeded", f"User-rate limit exceeded.  Retry after {until} (Mail sending)")
    found = uuid4().hex[:16]
    plain = mail.get_body(("plain",))
    text = plain.get_content().replace("\r\n", "\n").removesuffix("\n") if plain is not None else ""
    msgid = str(mail["Message-ID"] or f"<{found}@mail.gmail.com>").strip("<>")
    sent = shelf.kind("sent")
    at = int(clock.now().timestamp())
    sent[found] = {"id": found, "msgid": msgid, "to": to, "subject": subject, "at": at}
    if len(sent) > _KEPT:
        sent.pop(next(iter(sent)))
    files = files_of(mail)
    taken = Taken(to, msgid.partition("@")[0], f"{subject}\n{text}", found, files)
    return json_reply(200, {"id": found, "threadId": found, "labelIds": ["SENT"]}, taken=(taken,))


_BY_ID = re.compile(r"rfc822msgid:([^\s(){}]+)")
_BY_WORDS = re.compile(r'\(in:sent to:(\S+) subject:"([^"]*)" after:(\d+)\)')


def _search(request: Request, shelf: Shelf) -> Reply:
    if refusal := _stranger(request):
        return refusal
    query = request.query.get("q", "")
    by_id, by_words = _BY_ID.search(query), _BY_WORDS.search(query)
    found = [
        {"id": mail["id"], "threadId": mail["id"]}
        for mail in reversed(shelf.kind("sent").values())
        if (by_id and mail["msgid"] == by_id[1]) or (by_words and _has_words(mail, by_words))
    ][: int(request.query.get("maxResults", "100"))]
    count = {"resultSizeEstimate": len(found)}
    return json_reply(200, {"messages": found, **count} if found else count)


def _has_words(mail: Mapping[str, Any], wanted: re.Match[str]) -> bool:
    words = " ".join(re.sub(r'["\\{}()]', " ", mail["subject"]).split())
    return mail["to"] == wanted[1] and words == wanted[2] and mail["at"] >= int(wanted[3])


def _profile(request: Request, shelf: Shelf) -> Reply:
    count = len(shelf.kind("sent"))
    profile = {"emailAddress": MAILBOX, "messagesTotal": count, "threadsTotal": count, "historyId": "1"}
    return _stranger(request) or json_reply(200, profile)


_MAILBOX = "/gmail/v1/users/me"

VENDOR = Vendor(
    name="gmail",
    routes={
        ("POST", "/token"): _token,
        ("POST", f"{_MAILBOX}/messages/send"): _send,
        ("GET", f"{_MAILBOX}/messages"): _search,
        ("GET", f"{_MAILBOX}/profile"): _profile,
    },
    settings={"from_email": MAILBOX, "from_name": "Northgate Defense", "service_account": _key_file()},
    url_settings={"token_url": "/token"},
    refuse=refuse,
)
