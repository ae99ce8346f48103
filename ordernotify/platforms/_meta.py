"""What WhatsApp and Messenger share: Graph API calls and errors, signed webhooks and their challenge."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from ordernotify.platforms._base import (
    Answer,
    Call,
    Inbound,
    PlatformSettings,
    Refusal,
    Reply,
    bearer,
    json_body,
)
from ordernotify.platforms._reading import MAX_ID, Foreign, Word, read_json, whole
from ordernotify.platforms._signing import active, same_secret

SIGNATURE: Final = "X-Hub-Signature-256"
_YEAR_2100 = 4_102_444_800

Stamp = Annotated[int, BeforeValidator(whole(0, MAX_ID))]  # seconds or milliseconds since 1970


def _pairs(value: object) -> object:
    """Read ``en=en_US, es=es`` as a mapping; anything else is left to the field's own check."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    return {name.strip(): code.strip() for name, _, code in pairs}


class MetaSettings(PlatformSettings):
    """One Meta app with its access token; the subclass says for which number or Page."""

    base_url: str = Field(default="https://graph.facebook.com", description="Root of the Graph API.")
    graph_version: str = Field(
        default="v25.0", pattern=r"^v[0-9]{1,3}\.[0-9]$", description="Version of the Graph API."
    )
    access_token: SecretStr = Field(description="Token of a system user (WhatsApp) or of the Page (Messenger).")
    app_secret: SecretStr | None = Field(
        default=None,
        description="App secret: signs webhooks and proves our calls; the new one first, while two hold.",
    )
    verify_token: SecretStr | None = Field(
        default=None, description="Text of our own choice that Meta repeats when the webhook is set up."
    )
    languages: Annotated[dict[str, str], BeforeValidator(_pairs)] = Field(
        default={"en": "en_US", "es": "es"},
        min_length=1,
        description="Template language for each of ours, as in en=en_US,es=es; the first serves all others.",
    )

    @field_validator("languages")
    @classmethod
    def _are_codes(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(name and code for name, code in value.items()):
            raise ValueError("must be pairs such as en=en_US,es=es")
        return {name.lower(): code for name, code in value.items()}

    def language_code(self, language: str) -> str:
        """Return Meta's code for a language of ours: the exact one, its main language, or the first."""
        asked = language.replace("_", "-").lower()
        for candidate in (asked, asked.partition("-")[0]):
            if candidate in self.languages:
                return self.languages[candidate]
        return next(iter(self.languages.values()))


def graph_call(
    settings: MetaSettings,
    method: Literal["GET", "POST"],
    path: str,
    value: Mapping[str, Any] | None = None,
    **query: str,
) -> Call:
    """Return a Graph API call, with the proof that we hold the app secret where we do."""
    headers = bearer(settings.access_token)
    secrets = active(settings.app_secret)
    proof = appsecret_proof(secrets[0], settings.access_token.get_secret_value()) if secrets else ""
    if proof:
        query["appsecret_proof"] = proof
    url = f"{settings.base_url}/{settings.graph_version}/{path}{'?' if query else ''}{urlencode(query)}"
    if value is not None:
        headers["content-type"] = "application/json"
    return Call(method, url, headers, b"" if value is None else json_body(value), secrets=(proof,) if proof else ())


def appsecret_proof(app_secret: str, access_token: str) -> str:
    """Return what Meta asks of servers beside an access token: its HMAC under the app secret, in hex."""
    return hmac.new(app_secret.encode(), access_token.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class GraphError:
    """The two numbers by which Meta names an error; 0 where there is none."""

    code: int
    subcode: int


def error_of(answer: Answer) -> GraphError | None:
    """Return the error that an answer names, None where it names none."""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(error, dict) or not isinstance(code, int):
        return None
    subcode = error.get("error_subcode")
    return GraphError(code, subcode if isinstance(subcode, int) else 0)


# ---- webhook ----


def verify(inbound: Inbound, settings: MetaSettings, _now: datetime) -> Refusal | None:
    """Return why a request is not Meta's, None when it is.

    Meta signs the bytes that it sends, with every character outside ASCII escaped: only those will do.
    """
    secrets = active(settings.app_secret)
    if not secrets:
        return Refusal(401, SIGNATURE, "cannot be checked: set app_secret")
    expected = (f"sha256={hmac.new(key.encode(), inbound.body, hashlib.sha256).hexdigest()}" for key in secrets)
    if same_secret(inbound.header(SIGNATURE), expected):
        return None
    return Refusal(401, SIGNATURE, "must be sha256= and the HMAC of the exact body")


def handshake(inbound: Inbound, settings: MetaSettings) -> Reply | Refusal | None:
    """Answer the challenge by which Meta checks that the webhook is ours; None for an ordinary request."""
    if inbound.method != "GET":
        return None
    tokens = active(settings.verify_token)
    if not tokens:
        return Refusal(403, "hub.verify_token", "cannot be checked: set verify_token")
    if inbound.query.get("hub.mode") != "subscribe":
        return Refusal(403, "hub.mode", "must be subscribe")
    if not same_secret(inbound.query.get("hub.verify_token", ""), tokens):
        return Refusal(403, "hub.verify_token", "must be the verify_token of our settings")
    return Reply(body=inbound.query.get("hub.challenge", "").encode())


class Entry(Foreign):
    """What happened at one account or Page; each platform reads its own part further."""

    id: Word = ""
    changes: tuple[Any, ...] = ()
    messaging: tuple[Any, ...] = ()


class _Envelope(Foreign):
    object: Word = ""
    entry: tuple[Entry, ...]


def read_entries(inbound: Inbound, kind: str) -> tuple[Entry, ...] | Refusal:
    """Return the entries of a webhook of the given object, or a 422."""
    envelope = read_json(_Envelope, inbound.body)
    if isinstance(envelope, Refusal):
        return envelope
    return envelope.entry if envelope.object == kind else Refusal(422, "object", f"must be {kind}")


def unix_moment(seconds: int) -> datetime | None:
    """Return a Unix time in seconds as a moment, None where it lies in no year of ours."""
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < _YEAR_2100 else None


def listed(answer: Answer) -> tuple[Mapping[str, Any], ...]:
    """Return the entries of a list of the Graph, none where the answer is no list."""
    body = answer.json()
    data = body.get("data") if isinstance(body, dict) else None
    return tuple(entry for entry in data if isinstance(entry, dict)) if isinstance(data, list) else ()
