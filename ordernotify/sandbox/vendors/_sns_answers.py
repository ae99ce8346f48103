"""How the simulated SNS answers: results and errors in the XML of AWS's query protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import uuid4
from xml.sax.saxutils import escape

from ordernotify.sandbox._base import Callback, Reply, Taken

_NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"

ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "AuthorizationError": (403, "User is not authorized to perform this action"),
    "BatchEntryIdsNotDistinct": (400, "Two or more batch entries in the request have the same Id"),
    "BatchRequestTooLong": (400, "The length of all the batch messages put together is more than the limit"),
    "EmptyBatchRequest": (400, "The batch request doesn't contain any entries"),
    "IncompleteSignature": (400, "The request signature does not conform to AWS standards"),
    "InternalError": (500, "Internal service error"),
    "InvalidAction": (400, "The action is not valid for this endpoint"),
    "InvalidClientTokenId": (403, "The security token included in the request is invalid"),
    "InvalidParameter": (400, "Invalid parameter"),
    "MissingAuthenticationToken": (403, "Request is missing Authentication Token"),
    "NotFound": (404, "Topic does not exist"),
    "OptedOut": (400, "The phone number opted out"),
    "RequestExpired": (400, "Request has expired"),
    "SignatureDoesNotMatch": (403, "The request signature we calculated does not match"),
    "Throttling": (400, "Rate exceeded"),
    "TooManyEntriesInBatchRequest": (400, "The batch request contains more than 10 entries"),
}


def error(code: str) -> Reply:
    """Answer with an error of AWS, by its code."""
    status, message = ERRORS[code]
    inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    body = f'<ErrorResponse xmlns="{_NAMESPACE}">{inner}<RequestId>{uuid4()}</RequestId></ErrorResponse>'
    return Reply(status, body.encode(), {"content-type": "text/xml"})


def ok(action: str, inner: str = "", *, taken: tuple[Taken, ...] = (), callbacks: tuple[Callback, ...] = ()) -> Reply:
    """Answer an action with the inside of its result."""
    result = f"<{action}Result>{inner}</{action}Result>"
    about = f"<ResponseMetadata><RequestId>{uuid4()}</RequestId></ResponseMetadata>"
    body = f'<{action}Response xmlns="{_NAMESPACE}">{result}{about}</{action}Response>'
    return Reply(200, body.encode(), {"content-type": "text/xml"}, taken=taken, callbacks=callbacks)


def tag(name: str, text: str) -> str:
    """Return an element with a text."""
    return f"<{name}>{escape(text)}</{name}>"
