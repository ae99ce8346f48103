"""What Salesforce's refusals mean: its error codes as a table, and the HTTP status where it gives none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from ordernotify.core.delivery import Deferred, FailureKind, Outcome, Rejected
from ordernotify.platforms._base import Answer, Context, by_status, failure

_K = FailureKind

# Salesforce's error codes. What is about one record, or about one of our words, is PERMANENT even where only
# the set-up could change it: one order must not stop the platform for all the others.
CODES: Final[Mapping[str, FailureKind]] = {
    word: kind
    for kind, words in {
        _K.AUTH: "INVALID_AUTH_HEADER INVALID_LOGIN API_DISABLED_FOR_ORG API_CURRENTLY_DISABLED "
        "INSUFFICIENT_ACCESS CLIENT_NOT_ACCESSIBLE_FOR_USER INVALID_SESSION_ID OAUTH_APP_ACCESS_DENIED FORBIDDEN",
        _K.CONFIG: "INVALID_FIELD INVALID_FIELD_FOR_INSERT_UPDATE INVALID_TYPE UNSUPPORTED_API_VERSION "
        "FUNCTIONALITY_NOT_ENABLED METHOD_NOT_ALLOWED URL_NOT_RESET ORG_LOCKED",
        _K.QUOTA: "REQUEST_LIMIT_EXCEEDED STORAGE_LIMIT_EXCEEDED LIMIT_EXCEEDED",
        _K.RATE: "TOO_MANY_REQUESTS",
        _K.TRANSIENT: "UNABLE_TO_LOCK_ROW SERVER_UNAVAILABLE REQUEST_RUNNING_TOO_LONG QUERY_TIMEOUT "
        "UNKNOWN_EXCEPTION ENTITY_IS_LOCKED APEX_CPU_TIME_LIMIT_EXCEEDED",
        _K.PERMANENT: "NOT_FOUND MALFORMED_ID DUPLICATE_EXTERNAL_ID DUPLICATE_VALUE ENTITY_IS_DELETED "
        "DELETE_FAILED INVALID_CROSS_REFERENCE_KEY INSUFFICIENT_ACCESS_OR_READONLY "
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY FIELD_CUSTOM_VALIDATION_EXCEPTION "
        "FIELD_INTEGRITY_EXCEPTION FIELD_FILTER_VALIDATION_EXCEPTION STRING_TOO_LONG REQUIRED_FIELD_MISSING "
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST BAD_CUSTOM_ENTITY_PARENT_DOMAIN JSON_PARSER_ERROR "
        "CANNOT_EXECUTE_FLOW_TRIGGER CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY PROCESSING_HALTED",
    }.items()
    for word in words.split()
}
AMBIGUOUS: Final = frozenset({"SERVER_UNAVAILABLE", "REQUEST_RUNNING_TOO_LONG", "UNKNOWN_EXCEPTION"})
BY_HTTP_STATUS: Final[Mapping[int, FailureKind]] = {
    300: _K.PERMANENT,  # several orders have this number
    401: _K.AUTH,
    403: _K.AUTH,
    405: _K.CONFIG,
    415: _K.CONFIG,
}
_FRESH = timedelta(seconds=60)


def refusal(answer: Answer, context: Context) -> Outcome:
    """Return what an answer that is no success means: Salesforce's own code first, the HTTP status second."""
    said = answer.json()
    first = said[0] if isinstance(said, list) and said else said
    error: dict[str, Any] = first if isinstance(first, dict) else {}
    code, message = error.get("errorCode"), str(error.get("message", ""))
    wait_s = answer.retry_after_s(context.now)
    if not isinstance(code, str) or not re.fullmatch(r"[A-Z][A-Z_]{2,63}", code):
        word = f"salesforce_{answer.status}"
        kind = BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
        return by_status(answer, context.now, code=word) or Rejected(kind, word)
    word = f"salesforce_{code}"
    if code == "INVALID_SESSION_ID" and not _is_fresh(context):
        # The session ended before its time; the next attempt logs in again.
        return Deferred(_K.TRANSIENT, word, retry_after_s=0.0)
    if code == "REQUEST_LIMIT_EXCEEDED" and message.startswith("Concurrent"):
        return Deferred(_K.RATE, word, retry_after_s=wait_s)
    if code == "NOT_FOUND" and "external id field" in message.lower():
        return Rejected(_K.CONFIG, "salesforce_external_id_field")
    if known := CODES.get(code):
        return failure(known, word, retry_after_s=wait_s, ambiguous=code in AMBIGUOUS)
    kind = BY_HTTP_STATUS.get(answer.status, _K.PERMANENT)
    return by_status(answer, context.now, code=word) or Rejected(kind, word)


def _is_fresh(context: Context) -> bool:
    """Return whether the token was fetched just now, so that its refusal is not a matter of age."""
    if context.token is None:
        return True
    lifetime = timedelta(seconds=context.settings.token_lifetime_s)
    return context.token.expires_at - lifetime > context.now - _FRESH
