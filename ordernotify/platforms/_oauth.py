"""OAuth 2.0 tokens: the form that asks for one, and what the answers of a token endpoint mean (RFC 6749)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.platforms._base import Answer, Call, Context, Token, by_status, failure

_K = FailureKind

ERRORS: Final[Mapping[str, FailureKind]] = {
    "invalid_client": _K.AUTH,
    "invalid_grant": _K.AUTH,
    "unauthorized_client": _K.AUTH,
    "access_denied": _K.AUTH,
    "invalid_scope": _K.AUTH,
    "invalid_request": _K.CONFIG,
    "unsupported_grant_type": _K.CONFIG,
    "server_error": _K.TRANSIENT,
    "internal_failure": _K.TRANSIENT,
    "temporarily_unavailable": _K.TRANSIENT,
}
_OK: Final = 200
_ISSUED: Final = "issued_at"
_LONGEST_S: Final = 86_400
# A token refused sooner than this after it was issued is not refused for its age.
_NEW: Final = timedelta(minutes=1)


def ask(url: str, fields: Mapping[str, str]) -> Call:
    """Return the request for a token."""
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    return Call("POST", url, headers, urlencode(fields).encode())


def read_token(answer: Answer, now: datetime, *, platform: str) -> Token | Outcome:
    """Return the token, or the outcome of every message that waits for one. No message was on its way yet."""
    body = answer.json()
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    if answer.status == _OK:
        value, lifetime_s = said.get("access_token"), _seconds(said.get("expires_in"))
        if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value) or lifetime_s is None:
            return Deferred(_K.TRANSIENT, f"{platform}_token_unreadable")
        return Token(value, now + timedelta(seconds=lifetime_s), {_ISSUED: now.isoformat()})
    word = said.get("error")
    if isinstance(word, str) and word in ERRORS:
        return failure(ERRORS[word], f"{platform}_{word}", retry_after_s=answer.retry_after_s(now))
    code = f"{platform}_token_{answer.status}"
    return by_status(answer, now, code=code, ambiguous_5xx=False) or Rejected(_K.AUTH, code)


def _seconds(value: object) -> int | None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, str))
        or not re.fullmatch(r"\d{1,9}", str(value), re.ASCII)
    ):
        return None
    return min(int(value), _LONGEST_S)


def authorization(context: Context) -> dict[str, str]:
    """Return the Authorization header of the token in hand."""
    return {"authorization": f"Bearer {context.token.value if context.token else ''}"}


def token_refused(context: Context, code: str) -> Outcome:
    """Return what a 401 means: an old token may have been withdrawn, and a new one is had at once.

    A new one that is refused too means that a person must act.
    """
    issued = datetime.fromisoformat(context.token.extra[_ISSUED]) if context.token else context.now
    if context.now - issued > _NEW:
        return Deferred(_K.TRANSIENT, code, retry_after_s=0.0)
    return Rejected(_K.AUTH, code)
