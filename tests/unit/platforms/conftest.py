"""The loop between an adapter and its simulated vendor: no network, only calls, replies and callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from ordernotify import clock
from ordernotify.core.delivery import Message, Outcome
from ordernotify.platforms._base import Answer, Call, Context, Inbound, Platform
from ordernotify.sandbox._base import Callback, Reply, Shelf, Vendor
from ordernotify.sandbox._base import Request as Asked
from ordernotify.sandbox._desk import Desk

ROOT = "http://127.0.0.1:8430"
OUR_URL = "http://127.0.0.1:8420/hooks/platform"


@dataclass
class Loop:
    """An adapter set up as the sandbox sets it up, and the vendor it talks to."""

    platform: Platform
    vendor: Vendor
    more: dict[str, str] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = Desk.open(self.vendor, root=f"{ROOT}/{self.vendor.name}", webhooks={"events": OUR_URL})
        root = f"{ROOT}/{self.vendor.name}"
        urls = {name: f"{root}{path}" for name, path in self.vendor.url_settings.items()}
        values = {"base_url": root, **urls, **self.vendor.settings, **self.more}
        self.context = Context(
            settings=self.platform.settings.model_validate(values), now=clock.now(), webhook_url=OUR_URL
        )

    @property
    def shelf(self) -> Shelf:
        return self.desk.shelf

    @property
    def taken(self) -> list[Any]:
        return [taken for reply in self.replies for taken in reply.taken]

    @property
    def callbacks(self) -> list[Callback]:
        return [callback for reply in self.replies for callback in reply.callbacks]

    def call(self, call: Call) -> Answer:
        url = urlsplit(call.url)
        path = url.path.removeprefix(f"/{self.vendor.name}")
        assert f"{url.scheme}://{url.netloc}" == ROOT
        endpoint = self.desk.endpoint(call.method, path)
        assert endpoint is not None, f"the vendor has no {call.method} {path}"
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in call.headers.items()}
        reply = endpoint(Asked(call.method, path, query, headers, call.body), self.shelf)
        self.replies.append(reply)
        return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.body)

    def send(self, *messages: Message) -> Sequence[Outcome]:
        conversation = self.platform.send(messages, self.context)
        try:
            call = next(conversation)
            while True:
                call = conversation.send(self.call(call))
        except StopIteration as end:
            return end.value

    def receive(self, callback: Callback, *, now: datetime | None = None) -> Any:
        """Let the adapter verify and read a callback, as the web app would."""
        webhook = self.platform.webhook
        assert webhook is not None
        inbound = inbound_of(callback)
        at = now or clock.now()
        return webhook.verify(inbound, self.context.settings, at) or webhook.read(inbound, self.context.settings, at)


def inbound_of(callback: Callback) -> Inbound:
    query = dict(parse_qsl(urlsplit(callback.url).query, keep_blank_values=True))
    headers = {name.lower(): value for name, value in callback.headers.items()}
    return Inbound(callback.method, callback.url, headers, callback.body, query)


@pytest.fixture
def loop() -> Callable[..., Loop]:
    """Make the loop of a platform and its vendor; keywords are further settings."""

    def make(platform: Platform, vendor: Vendor, **more: str) -> Loop:
        return Loop(platform, vendor, more)

    return make
