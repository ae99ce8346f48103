"""What the carriers' tests share: recorded answers, settings, and the loop with a simulated carrier."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from ordernotify import clock
from ordernotify.carriers._base import Carrier, Pushed
from ordernotify.core.tracking import TrackingEvent
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Refusal, Token
from ordernotify.sandbox._base import Callback, Reply, Vendor
from ordernotify.sandbox._base import Request as Asked
from ordernotify.sandbox._desk import Desk
from ordernotify.sandbox.carriers import CARRIER_VENDORS

FIXTURES = Path(__file__).parents[2] / "fixtures"
NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
ROOT = "http://127.0.0.1:8430"
OUR_URL = "http://127.0.0.1:8420/carriers/push"


@dataclass
class Case:
    """One carrier with settings, at one moment."""

    carrier: Carrier
    values: dict[str, Any]
    now: datetime = NOW

    @property
    def context(self) -> Context:
        settings = self.carrier.settings.model_validate(self.values)
        return Context(settings=settings, now=self.now, token=Token("tok", self.now))

    def recorded(self, name: str) -> Any:
        return json.loads((FIXTURES / self.carrier.name / f"{name}.json").read_bytes())

    def ask(self, *numbers: str) -> Call:
        return self.carrier.build(numbers, self.context)

    def readings(self, body: Any, *numbers: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.carrier.read(Answer(status, headers or {}, raw), numbers, self.context)

    def reading(self, body: Any, number: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        return self.readings(body, number, status=status, headers=headers)[number]

    def inbound(self, headers: Mapping[str, str], body: bytes, query: Mapping[str, str] | None = None) -> Inbound:
        lower = {name.lower(): value for name, value in headers.items()}
        return Inbound("POST", f"https://hooks.example/carriers/{self.carrier.name}", lower, body, query or {})

    def verify(self, inbound: Inbound, *, now: datetime | None = None) -> Refusal | None:
        assert self.carrier.push is not None
        return self.carrier.push.verify(inbound, self.context.settings, now or self.now)

    def push(self, body: Any) -> Pushed | Refusal:
        assert self.carrier.push is not None
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.carrier.push.read(self.inbound({}, raw), self.context.settings, self.now)

    def pushed(self, body: Any) -> TrackingEvent:
        """Return the newest event of a push that must be readable."""
        found = self.push(body)
        assert isinstance(found, Pushed), found
        return found.events[-1]


@pytest.fixture
def case() -> Callable[..., Case]:
    """Make a case; keywords are settings beyond the sandbox's."""

    def make(carrier: Carrier, /, **more: Any) -> Case:
        return Case(carrier, {**CARRIER_VENDORS[carrier.name].settings, **more})

    return make


@dataclass
class Loop:
    """A carrier's adapter and its simulated vendor: no network, only calls, replies and callbacks."""

    carrier: Carrier
    vendor: Vendor
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        root = f"{ROOT}/{self.vendor.name}"
        self.desk = Desk.open(self.vendor, root=root, webhooks={"events": OUR_URL})
        urls = {name: f"{root}{path}" for name, path in self.vendor.url_settings.items()}
        values = {"base_url": root, **urls, **self.vendor.settings}
        self.context = Context(settings=self.carrier.settings.model_validate(values), now=clock.now())

    @property
    def callbacks(self) -> list[Callback]:
        return [callback for reply in self.replies for callback in reply.callbacks]

    def call(self, call: Call) -> Answer:
        url = urlsplit(call.url)
        path = url.path.removeprefix(f"/{self.vendor.name}")
        assert f"{url.scheme}://{url.netloc}" == ROOT
        endpoint = self.desk.endpoint(call.method, path)
        assert endpoint is not None, f"the carrier has no {call.method} {path}"
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in call.headers.items()}
        reply = endpoint(Asked(call.method, path, query, headers, call.body), self.desk.shelf)
        self.replies.append(reply)
        return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.body)

    def sign_in(self) -> None:
        """Fetch a token, where the carrier wants one."""
        source = self.carrier.token
        if source is not None:
            token = source.read(self.call(source.build(self.context)), self.context)
            assert isinstance(token, Token)
            self.context = replace(self.context, token=token)

    def track(self, *numbers: str) -> Mapping[str, Any]:
        self.context = replace(self.context, now=clock.now())
        return self.carrier.read(self.call(self.carrier.build(numbers, self.context)), numbers, self.context)

    def follow(self, *numbers: str) -> Mapping[str, Any]:
        assert self.carrier.follow is not None
        answer = self.call(self.carrier.follow.build(numbers, self.context))
        return self.carrier.follow.read(answer, numbers, self.context)

    def receive(self, callback: Callback, *, now: datetime) -> Pushed | Refusal:
        assert self.carrier.push is not None
        headers = {name.lower(): value for name, value in callback.headers.items()}
        inbound = Inbound(callback.method, callback.url, headers, callback.body)
        settings = self.context.settings
        return self.carrier.push.verify(inbound, settings, now) or self.carrier.push.read(inbound, settings, now)


@pytest.fixture
def loop() -> Callable[[Carrier], Loop]:
    """Make the loop of a carrier and its simulated vendor."""
    return lambda carrier: Loop(carrier, CARRIER_VENDORS[carrier.name])
