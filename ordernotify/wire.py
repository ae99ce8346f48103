"""The only module that speaks HTTP to platforms: pooled, bounded in time, and silent about secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, Self, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from ordernotify.clock import now
from ordernotify.core.delivery import Deferred, FailureKind, Message, Outcome
from ordernotify.platforms._base import Answer, Call, Context, Conversation, Platform, Token, TokenSource
from ordernotify.trust import trusted

# A token is fetched anew this long before it ends, so that none ends on the way.
_EARLY_S = 60
_LARGEST_ANSWER = 4_194_304
# A connection kept longer may be closed at the other end just as a request leaves.
_KEEPALIVE_S = 5.0
_SAID = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": "ordernotify"}


class NoAnswer(StrEnum):
    """Why a call was not answered."""

    NOT_SENT = "not_sent"  # no connection: the platform cannot have it
    NO_ANSWER = "no_answer"  # the request was on its way: the platform may have it


class UnansweredError(Exception):
    """A call got no answer; ``why`` says whether it can have arrived. Holds no URL, body or address."""

    def __init__(self, why: NoAnswer, kind: str) -> None:
        super().__init__(f"{why.value} ({kind})")
        self.why = why
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Result:
    """How one call of a group of messages ended: an outcome for each, and the last HTTP status (0: none)."""

    outcomes: Sequence[Outcome]
    http_status: int


class Callee(Protocol):
    """Whoever can be called: a platform or a carrier."""

    @property
    def name(self) -> str:
        """Its name, under which its connections and its token are kept."""

    @property
    def token(self) -> TokenSource | None:
        """Where its tokens come from, None where it uses none."""


class Wire:
    """One pool of connections a platform, built once; tokens cached and fetched by one caller at a time.

    httpx's requests and responses go to its transport without its client between them: of what that adds we want
    no redirects, no login and above all no cookies, which would tie the calls of one platform to each other, and
    it takes a third of the time of a call.
    """

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        timeout = httpx.Timeout(timeout_s, connect=min(5.0, timeout_s), pool=None)
        self._extensions = {"timeout": timeout.as_dict()}
        self._connections = connections
        self._trusted = trusted()
        self._transports: dict[str, AiohttpTransport] = {}
        self._tokens: dict[str, Token] = {}
        self._fetching: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_details: object) -> None:
        await asyncio.gather(*(transport.aclose() for transport in self._transports.values()))

    async def call(self, platform: str, call: Call) -> Answer:
        """Send one request and return its answer.

        Raises UnansweredError when there is none. Redirects are not followed: no platform of ours needs one,
        and a credential must not travel to an address nobody configured.
        """
        # A body as a stream that is read at once: given as content, httpx would add headers that aiohttp adds anyway.
        request = httpx.Request(
            call.method,
            _url(call.url),
            headers={**_SAID, **call.headers},
            stream=httpx.ByteStream(call.body),
            extensions=self._extensions,
        )
        request.read()
        # httpx would look through all headers for it, and refuses any other before.
        request.headers.encoding = "ascii"
        try:
            response = await self._transport(platform).handle_async_request(request)
            content = await _content(response)
        except httpx.RequestError as error:
            raise _unanswered_error(error) from None
        said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
        return Answer(response.status_code, said, content[:_LARGEST_ANSWER])

    async def send(self, platform: Platform, messages: Sequence[Message], context: Context) -> Result:
        """Hold one conversation with a platform; every trouble on the way is an outcome, never an exception."""
        try:
            ready = await self._with_token(platform, context)
        except UnansweredError as error:
            # The message itself was never on its way.
            return Result([_unanswered(NoAnswer.NOT_SENT, error.kind)] * len(messages), 0)
        if not isinstance(ready, Context):
            return Result([ready] * len(messages), 0)
        result = await self._hold(platform, platform.send(messages, ready), len(messages))
        if result.http_status == 401:  # noqa: PLR2004 - a token may be revoked before its time
            self._tokens.pop(platform.name, None)
        return result

    async def _hold(self, platform: Platform, conversation: Conversation, count: int) -> Result:
        status = 0
        changed_something = False
        try:
            call = next(conversation)
            while True:
                changed_something = changed_something or call.method != "GET"
                answer = await self.call(platform.name, call)
                status = answer.status
                call = conversation.send(answer)
        except StopIteration as end:
            return Result(end.value, status)
        except UnansweredError as error:
            conversation.close()
            why = error.why if changed_something else NoAnswer.NOT_SENT
            return Result([_unanswered(why, error.kind)] * count, status)

    async def _with_token(self, platform: Callee, context: Context) -> Context | Outcome:
        source = platform.token
        if source is None:
            return context
        lock = self._fetching.setdefault(platform.name, asyncio.Lock())
        async with lock:
            token = self._tokens.get(platform.name)
            if token is None or (token.expires_at - now()).total_seconds() < _EARLY_S:
                fetched = source.read(await self.call(platform.name, source.build(context)), context)
                if not isinstance(fetched, Token):
                    return fetched
                token = self._tokens[platform.name] = fetched
        return Context(settings=context.settings, now=context.now, token=token, webhook_url=context.webhook_url)

    async def prepare(self, platform: Callee, context: Context) -> Context | Outcome:
        """Return ``context`` with a valid token where the platform uses one, or why there is none.

        Raises UnansweredError when the token's own call got no answer.
        """
        return await self._with_token(platform, context)

    async def ask(
        self, callee: Callee, build: Callable[[Context], Call], context: Context
    ) -> tuple[Answer, Context] | Outcome:
        """Make a call that may be repeated, and return its answer with the context it was made in.

        An outcome instead when there is no token or no answer. A token that is refused is given up and fetched
        anew, once.
        """
        try:
            asked = await self._asked(callee, build, context)
            if isinstance(asked, tuple) and asked[0].status == 401 and callee.token is not None:  # noqa: PLR2004 - revoked before its time
                self._tokens.pop(callee.name, None)
                asked = await self._asked(callee, build, context)
        except UnansweredError as error:
            return _unanswered(NoAnswer.NOT_SENT, error.kind)
        return asked

    async def _asked(
        self, callee: Callee, build: Callable[[Context], Call], context: Context
    ) -> tuple[Answer, Context] | Outcome:
        ready = await self._with_token(callee, context)
        return (await self.call(callee.name, build(ready)), ready) if isinstance(ready, Context) else ready

    def _transport(self, platform: str) -> AiohttpTransport:
        transport = self._transports.get(platform)
        if transport is None:
            # The transport is told too, though it uses our session: it would read all authorities for itself.
            transport = self._transports[platform] = AiohttpTransport(verify=self._trusted, client=self._session)
        return transport

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=_KEEPALIVE_S, ssl=self._trusted)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _content(response: httpx.Response) -> bytes:
    """Return the body of an answer, read from the transport's stream: httpx's layers over it are for longer ones."""
    stream = cast("httpx.AsyncByteStream", response.stream)
    try:
        content = b"".join([chunk async for chunk in stream])
    finally:
        await stream.aclose()
    if "content-encoding" in response.headers:
        return httpx.Response(response.status_code, headers=response.headers, content=content).content
    return content


@lru_cache(maxsize=1024)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)


# The transport calls a connection that was reset under a written request a "ConnectTimeout", as it does one that was
# never made. What aiohttp itself said tells them apart; only what surely never left may be sent again unasked.
_NEVER_LEFT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


def _unanswered_error(error: httpx.RequestError) -> UnansweredError:
    cause = error.__cause__
    left = not isinstance(cause, _NEVER_LEFT) and not isinstance(error, httpx.PoolTimeout)
    kind = type(cause or error).__name__
    return UnansweredError(NoAnswer.NO_ANSWER if left else NoAnswer.NOT_SENT, kind)


def _unanswered(why: NoAnswer, kind: str) -> Deferred:
    return Deferred(FailureKind.TRANSIENT, f"wire_{kind.lower()}", ambiguous=why is NoAnswer.NO_ANSWER)
