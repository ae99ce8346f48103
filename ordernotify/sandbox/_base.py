"""The shape of a simulated vendor: what it takes, what it refuses, and how it answers and calls back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

import orjson


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a vendor sees it; header names are lower case, ``path`` is below the vendor's root."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON, None where it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    def form(self) -> dict[str, str]:
        """Return the body's form fields, the last of each name."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Taken:
    """One message that the vendor took: whom it goes to, our reference in it, and what it says.

    ``files`` are its attachments: name and SHA-256 of each.
    """

    to: str
    reference: str
    text: str
    provider_ref: str = ""
    files: tuple[tuple[str, str], ...] = ()


def file_seen(name: str | None, content: bytes) -> tuple[str, str]:
    """Return an attachment as ``Taken`` has it."""
    return (name or "", hashlib.sha256(content).hexdigest())


def files_of(mail: EmailMessage) -> tuple[tuple[str, str], ...]:
    """Return the attachments of a mail as ``Taken`` has them."""
    return tuple(
        file_seen(one.get_filename(), bytes(one.get_payload(decode=True) or b"")) for one in mail.iter_attachments()
    )


@dataclass(frozen=True, slots=True)
class Callback:
    """A signed request that the vendor makes to us some time later (a receipt, a webhook)."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    after_s: float = 0.05
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the vendor answers, what it took, and what it will call back."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    taken: tuple[Taken, ...] = ()
    callbacks: tuple[Callback, ...] = ()


class Fault(StrEnum):
    """What can be made to go wrong, per vendor, for a number of requests or of seconds."""

    RATE = "rate"  # 429 in the vendor's format, with Retry-After where the vendor sends one
    RATE_BARE = "rate_bare"  # 429 without any hint
    SERVER_ERROR = "server_error"  # 500 in the vendor's format, nothing taken
    PERMANENT = "permanent"  # the vendor's refusal of this message
    AUTH = "auth"  # the vendor's refusal of our credentials
    OPT_OUT = "opt_out"  # the vendor's refusal because the person said stop
    HANG = "hang"  # no answer for ``seconds``, then as usual
    RESET = "reset"  # the connection is reset before anything is taken
    NO_ANSWER = "no_answer"  # taken, then the connection is reset: the ambiguous case


Endpoint = Callable[[Request, "Shelf"], Reply]


@dataclass(slots=True)
class Shelf:
    """What one simulated vendor remembers between requests: counters and records by kind and key."""

    root: str = ""  # the vendor's own URL, for answers that name it
    serial: int = 0
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    webhooks: dict[str, str] = field(default_factory=dict)  # where the vendor was told to call back

    def next_serial(self) -> int:
        """Return the next number of this vendor, from 1."""
        self.serial += 1
        return self.serial

    def kind(self, name: str) -> dict[str, Any]:
        """Return the records of one kind by their key, made on first use."""
        return self.records.setdefault(name, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One simulated vendor.

    ``routes`` maps (method, regular expression of the whole path) to an endpoint. ``settings`` are those with
    which our adapter reaches it, without ``base_url``: throw-away credentials that the vendor checks.
    ``url_settings`` are further URL settings by name, each with its path below the vendor's root.
    ``refuse`` answers a fault in the vendor's own format.
    """

    name: str
    routes: Mapping[tuple[str, str], Endpoint]
    settings: Mapping[str, str]
    refuse: Callable[[Fault], Reply]
    url_settings: Mapping[str, str] = field(default_factory=dict)


def json_reply(status: int, value: Any, **more: Any) -> Reply:
    """Return a JSON reply; further keywords are those of ``Reply``."""
    headers = {"content-type": "application/json", **more.pop("headers", {})}
    return Reply(status, orjson.dumps(value), headers, **more)
