"""The signature of Standard Webhooks, which every generic source signs with: settings, proof, set-up."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import Field, SecretStr, field_validator

from ordernotify.platforms._base import Context, Inbound, PlatformSettings, Refusal, Step
from ordernotify.platforms._signing import active, is_signed

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the mark of a secret, not one
TOLERANCE: Final = timedelta(minutes=5)
KEY_BYTES: Final = range(24, 65)
SIGNATURES_MAX: Final = 10
ID_MAX: Final = 256

_UNAUTHORIZED = 401
# Some senders use the older names of the same headers; the first that is there counts.
_PREFIXES = ("webhook-", "svix-")


def signing_key(secret: str) -> bytes:
    """Return the key bytes of a ``whsec_`` secret; raises ValueError, without the secret, when it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if len(key) not in KEY_BYTES:
        raise ValueError(f"each secret must be {SECRET_PREFIX} and the base64 of 24 to 64 random bytes")
    return key


class SignedSettings(PlatformSettings):
    """What a source that signs by Standard Webhooks shares with us."""

    base_url: str = Field(default="", description="Not used: this source speaks to us, never we to it.")
    webhook_secret: SecretStr = Field(
        description="Secret of the sender: whsec_ and base64. Two, with a comma, while it changes."
    )

    @field_validator("webhook_secret")
    @classmethod
    def _has_keys(cls, value: SecretStr) -> SecretStr:
        secrets = active(value)
        if not secrets:
            raise ValueError("must hold at least one secret")
        for secret in secrets:
            signing_key(secret)
        return value


def verify_signature(inbound: Inbound, settings: SignedSettings, now: datetime) -> Refusal | None:
    """Return why a request is not genuine, None when it is: signed text is ``id.timestamp.body``."""
    prefix = next((one for one in _PREFIXES if inbound.header(f"{one}signature")), _PREFIXES[0])
    message_id, stamp = inbound.header(f"{prefix}id"), inbound.header(f"{prefix}timestamp")
    signature = inbound.header(f"{prefix}signature")
    for name, value in (("id", message_id), ("timestamp", stamp), ("signature", signature)):
        if not value:
            return Refusal(_UNAUTHORIZED, f"{prefix}{name}", "is missing: sign by Standard Webhooks")
    if len(message_id) > ID_MAX:
        return Refusal(_UNAUTHORIZED, f"{prefix}id", f"must have at most {ID_MAX} characters")
    at = _unix_time(stamp)
    if at is None or abs(now - at) > TOLERANCE:
        return Refusal(
            _UNAUTHORIZED,
            f"{prefix}timestamp",
            "must be the Unix time of this attempt, within 5 minutes of now",
        )
    signed = f"{message_id}.{stamp}.".encode() + inbound.body
    keys = [signing_key(secret) for secret in active(settings.webhook_secret)]
    # Entries of versions that we do not know (v1a is Ed25519) are skipped: the sender offers a choice.
    offered = [
        value
        for version, _, value in (entry.partition(",") for entry in signature.split(" ")[:SIGNATURES_MAX])
        if version == "v1" and value
    ]
    if not is_signed(offered, signed, keys):
        return Refusal(_UNAUTHORIZED, f"{prefix}signature", "must be v1, and match the exact bytes of the body")
    return None


def message_id(inbound: Inbound) -> str:
    """Return the id of a verified request; the same in every repetition of it."""
    return next((found for one in _PREFIXES if (found := inbound.header(f"{one}id"))), "")


def _unix_time(stamp: str) -> datetime | None:
    # Digits only: int() also takes signs, underscores and the digits of other scripts.
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= len("9999999999")):
        return None
    return datetime.fromtimestamp(int(stamp), UTC)


def sender_steps(context: Context) -> Sequence[Step]:
    """Return what a person sets up at a sender of signed events."""
    url = context.webhook_url or "the webhook address of this source"
    return (
        Step(
            title="Sign and send",
            instruction=f"Let the sender POST each order event to {url}, signed by Standard Webhooks with "
            "the secret in webhook_secret, and repeat it with the same webhook-id until it is answered 2xx.",
        ),
    )
