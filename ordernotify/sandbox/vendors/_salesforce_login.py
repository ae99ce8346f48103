"""How the simulated Salesforce lets an app in: client credentials, or a statement signed by its key.

A signed login is checked with the certificate (PEM) under its consumer key in the kind ``certificates``.
"""

from __future__ import annotations

import base64
from typing import Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ordernotify import clock
from ordernotify.sandbox._base import Reply, Request, Shelf, json_reply

CLIENT_ID: Final = "3MVG9sandbox.consumer.key"
CLIENT_SECRET: Final = "SandboxConsumerSecret"  # noqa: S105 - of the sandbox, which guards nothing
TOKEN: Final = "00D000000000001!SandboxOpensNothing"  # noqa: S105 - likewise
ORGANIZATION: Final = "00D000000000001EAA"

_BASIC = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LONGEST_ASSERTION_S = 180


def _no_login(error: str, description: str) -> Reply:
    return json_reply(400, {"error": error, "error_description": description})


def token(request: Request, shelf: Shelf) -> Reply:
    """Answer a login with a token and with where the org lives."""
    form = request.form()
    grant = form.get("grant_type", "")
    if grant == "client_credentials":
        if request.headers.get("authorization") != _BASIC:
            return _no_login("invalid_client", "invalid client credentials")
    elif grant == _JWT_BEARER:
        if refusal := _fault_of_assertion(form.get("assertion", ""), shelf):
            return refusal
    else:
        return _no_login("unsupported_grant_type", "grant type not supported")
    return json_reply(
        200,
        {
            "access_token": TOKEN,
            "scope": "api",
            "instance_url": shelf.root,
            "id": f"{shelf.root}/id/{ORGANIZATION}/005000000000001AAA",
            "token_type": "Bearer",
        },
    )


def _bytes_of(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _fault_of_assertion(assertion: str, shelf: Shelf) -> Reply | None:
    try:
        head, claims_part, signature = assertion.split(".")
        claims = orjson.loads(_bytes_of(claims_part))
        key = load_pem_public_key(shelf.kind("certificates")[claims["iss"]].encode())
        ends = int(claims["exp"]) - clock.now().timestamp()
        named = bool(claims["sub"]) and bool(claims["aud"])
    except (ValueError, KeyError, TypeError):
        return _no_login("invalid_client_id", "client identifier invalid")
    try:
        if not isinstance(key, rsa.RSAPublicKey):
            return _no_login("invalid_grant", "invalid assertion")
        signed = f"{head}.{claims_part}".encode()
        key.verify(_bytes_of(signature), signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return _no_login("invalid_grant", "invalid assertion")
    if not named or not 0 < ends <= _LONGEST_ASSERTION_S:
        return _no_login("invalid_grant", "expired or not yet valid")
    return None
