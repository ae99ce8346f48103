"""The shape of an adapter: what a platform declares, and the values that pass between it and the wire.

An adapter is pure: it builds calls and reads answers; ``ordernotify.wire`` alone speaks HTTP. One file adds a
platform: a settings model, its tables, ``build``, ``read_answer``, and a ``PLATFORM`` declaration from which
the webhook route, the Block, the documentation row, the sandbox checks and the conformance tests derive.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import (
    ConsentChange,
    Deferred,
    FailureKind,
    Message,
    Outcome,
    Receipt,
    Rejected,
)
from ordernotify.core.events import OrderEvent
from ordernotify.core.recipients import Refused, read_email, read_phone


class PlatformSettings(BaseModel):
    """What every platform is told: where it is. Subclasses add credentials, each with its description.

    Read from the environment as ``ORDERNOTIFY_<PLATFORM>_<SETTING>`` or from the platform's Prefect Block.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str = Field(description="Root of the platform's API, without a slash at the end.")


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, ready to send. ``body`` is exact bytes, because some platforms sign them.

    ``secrets`` are texts that must not appear in a log or error even though they stand in the URL.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """Return the body as JSON, or None where it is none: an answer is never a reason to raise."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    def text(self) -> str:
        """Return the body as text, undecodable bytes replaced."""
        return self.body.decode("utf-8", "replace")

    def retry_after_s(self, now: datetime) -> float | None:
        """Return the seconds that ``Retry-After`` asks for (a number or an HTTP date), None without it."""
        value = self.headers.get("retry-after", "").strip()
        if not value:
            return None
        try:
            return max(0.0, float(value))
        except ValueError:
            pass
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        aware = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (aware - now).total_seconds())


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and when it ends; kept by the wire, one fetch at a time per platform."""

    value: str = field(repr=False)
    expires_at: datetime
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an adapter may know besides the message: its settings, the time, a token, where receipts go."""

    settings: Any
    now: datetime
    token: Token | None = None
    webhook_url: str = ""


# A send that takes several requests (read the ticket, then update it) is a generator that yields calls, is
# given answers, and returns one outcome per message: still pure, still tested without a network.
Conversation = Generator[Call, Answer, Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Inbound:
    """One request that a platform or source made to us: exact bytes, and the URL as the sender saw it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    query: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """Return a header by name in any case, '' without it."""
        return self.headers.get(name.lower(), "")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an inbound request is not taken: the HTTP status, the field at fault, and what would be right."""

    status: int
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a platform expects to read back, where a bare 2xx is not enough (a challenge, a SOAP answer)."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What an inbound request said, in our words."""

    events: tuple[OrderEvent, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    consents: tuple[ConsentChange, ...] = ()
    links: tuple[tuple[str, str], ...] = ()  # (one-time code, address): a person tied an account to a contact
    confirm: tuple[Call, ...] = ()  # calls that the platform expects in return (a subscription to confirm)
    reply: Reply | None = None


class Gives(StrEnum):
    """What arrives at a platform's webhook."""

    EVENTS = "events"
    RECEIPTS = "receipts"
    CONSENTS = "consents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """How a platform speaks to us. ``verify`` sees raw bytes and returns a refusal, or None when genuine.

    ``handshake`` answers what must be answered before any signature exists (a GET challenge, a ping); it
    returns None for an ordinary request.
    """

    gives: frozenset[Gives]
    verify: Callable[[Inbound, Any, datetime], Refusal | None]
    read: Callable[[Inbound, Any, datetime], Received | Refusal]
    handshake: Callable[[Inbound, Any], Reply | Refusal | None] | None = None
    signature: str = ""  # one line for the documentation: what proves that a request is genuine


class Idempotency(StrEnum):
    """How a platform helps against sending twice."""

    NATIVE = "native"  # it drops a repetition of our reference by itself
    LOOKUP = "lookup"  # it can be asked whether it has the message
    OVERWRITE = "overwrite"  # sending again writes the same value again: harmless
    NONE = "none"  # an unanswered call stays unknown until a person decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """How to ask a platform whether it has a message whose call was never answered.

    ``read`` returns Accepted when it has, Rejected(PERMANENT, 'not_found') when it surely has not, Deferred
    when it cannot say yet. Sooner than ``settles_after_s`` after the attempt began a not_found proves nothing.
    """

    build: Callable[[Message, Context, datetime], Call]  # the datetime is when the attempt began
    read: Callable[[Answer, Message], Outcome]
    settles_after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """How to fetch the facts that a thin event only points at.

    ``read`` returns the whole event (its dedupe key kept), None when there turns out to be nothing to tell,
    or the outcome of a call that gave no facts.
    """

    build: Callable[[OrderEvent, Context], Call]
    read: Callable[[Answer, OrderEvent, Context], OrderEvent | Outcome | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """Where access tokens come from: one call, one answer."""

    build: Callable[[Context], Call]
    read: Callable[[Answer, Context], Token | Outcome]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the doctor says of one check: fine, or what is wrong and what to do."""

    check: str
    ok: bool
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The platform's cheapest authenticated request, and what its answer means."""

    build: Callable[[Context], Call]
    read: Callable[[Answer, Context], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to set up on the vendor's side.

    ``find`` asks whether it is there (``exists`` reads the answer); ``make`` creates it when it is not. A
    step with neither is an exact instruction to a person, with the file to hand over where there is one.
    """

    title: str
    find: Call | None = None
    exists: Callable[[Answer], bool] | None = None
    make: Call | None = None
    instruction: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Everything the house needs to know of a platform; capabilities are computed from what is filled in."""

    name: str
    title: str
    settings: type[PlatformSettings]
    channels: frozenset[Channel] = frozenset()
    level: Level = Level.C0  # ceiling by default; onboarding may raise it with evidence
    address: str = ""  # what an address is here, for people: "phone number, E.164"
    example: str = ""  # one example address, used by documentation and tests
    read_address: Callable[[str], str | Refusal] | None = None
    # A Rejected where no call can be made of the message: the set-up lacks what its address needs.
    build: Callable[[Sequence[Message], Context], Call | Rejected] | None = None
    read_answer: Callable[[Answer, Sequence[Message], Context], Sequence[Outcome]] | None = None
    converse: Callable[[Sequence[Message], Context], Conversation] | None = None
    batch: int = 1  # messages per call at the most
    attachment_bytes: int = 0  # what the attachments of one message may come to, as files; 0: none
    group: Callable[[Message, Any], str] | None = None  # messages of one group may share a call
    edits: bool = False  # a message with ``edit_of`` replaces the one it names, and is sent anew where that is gone
    idempotency: Idempotency = Idempotency.NONE
    idempotency_note: str = ""
    lookup: Lookup | None = None
    token: TokenSource | None = None
    webhook: Webhook | None = None
    reread: Reread | None = None
    probe: Probe | None = None
    provision: Callable[[Context], Sequence[Step]] | None = None
    load: Callable[[], object] | None = None  # loads what the first message would load, which takes a moment
    per_second: float | None = None  # the vendor's rate for one sender, where it publishes one

    @property
    def sends(self) -> bool:
        """Whether messages can be sent (or written back) through this platform."""
        return self.build is not None or self.converse is not None

    def channel_for(self, address: str) -> Channel:
        """Return the channel that an address is for: one platform may write e-mails and records alike."""
        for channel, read in ((Channel.SMS, read_phone), (Channel.EMAIL, read_email)):
            if channel in self.channels and not isinstance(read(address), Refused):
                return channel
        other = self.channels - {Channel.SMS, Channel.EMAIL}
        return min(other or self.channels)

    def send(self, messages: Sequence[Message], context: Context) -> Conversation:
        """Return the conversation that sends ``messages`` (at most ``batch`` of one group)."""
        if self.converse is not None:
            return self.converse(messages, context)
        return self._one_call(messages, context)

    def _one_call(self, messages: Sequence[Message], context: Context) -> Conversation:
        if self.build is None or self.read_answer is None:
            raise TypeError(f"{self.name} does not send: its declaration has no build and read_answer")
        call = self.build(messages, context)
        if isinstance(call, Rejected):
            return each(call, messages)
        answer = yield call
        return self.read_answer(answer, messages, context)


def each(outcome: Outcome, messages: Sequence[Message]) -> Sequence[Outcome]:
    """Return the same outcome for every message of a call that stands or falls as a whole."""
    return [outcome] * len(messages)


_PASSING = frozenset({FailureKind.TRANSIENT, FailureKind.RATE})


def failure(kind: FailureKind, code: str, *, retry_after_s: float | None = None, ambiguous: bool = False) -> Outcome:
    """Return the outcome of a row of an error table: Deferred what time heals, Rejected all else."""
    if kind in _PASSING:
        return Deferred(kind, code, retry_after_s=retry_after_s, ambiguous=ambiguous)
    return Rejected(kind, code)


def by_status(answer: Answer, now: datetime, *, code: str = "", ambiguous_5xx: bool = True) -> Outcome | None:
    """Return the outcome that the HTTP status alone implies for 429 and 5xx, None for every other status.

    For the tail of an error table: the platform's own codes are always read first.
    """
    word = code or f"http_{answer.status}"
    if answer.status == 429:  # noqa: PLR2004 - the status is its own name
        return Deferred(FailureKind.RATE, word, retry_after_s=answer.retry_after_s(now))
    if answer.status >= 500:  # noqa: PLR2004 - the class of server errors
        return Deferred(FailureKind.TRANSIENT, word, retry_after_s=answer.retry_after_s(now), ambiguous=ambiguous_5xx)
    return None


def json_body(value: Any) -> bytes:
    """Return ``value`` as the JSON bytes of a request body."""
    return orjson.dumps(value)


def bearer(secret: SecretStr) -> dict[str, str]:
    """Return the Authorization header for a bearer token."""
    return {"authorization": f"Bearer {secret.get_secret_value()}"}
