"""Every platform, over real HTTP to its simulated vendor: what it takes, and what each kind of trouble becomes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import httpx
import pytest

from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Rejected
from ordernotify.core.events import OrderStatus
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Context
from ordernotify.sandbox.app import serve, settings_for
from ordernotify.sandbox.vendors import VENDORS
from ordernotify.settings import platform_settings
from ordernotify.wire import Wire

pytestmark = pytest.mark.integration

SENDING = sorted(name for name, platform in PLATFORMS.items() if platform.sends)
K = FailureKind


@pytest.fixture
async def sandbox():
    ready = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    running = asyncio.create_task(serve(port=0, ready=ready.set_result, stop=stop))
    yield await ready
    stop.set()
    await running


@pytest.fixture
async def wire():
    async with Wire(timeout_s=3, connections=4) as opened:
        yield opened


def message(platform, number=1, status=OrderStatus.SHIPPED, to=""):
    to = to or platform.example
    channel = platform.channel_for(to)
    return Message(
        delivery_id=f"0193600000007000800000000000000{number}",
        reference=f"{number:032x}",
        channel=channel,
        to=to,
        status=status,
        language="en",
        subject="Order SO-1001 has shipped",
        text="Order SO-1001 has shipped with UPS.",
        html="<p>Order SO-1001 has shipped.</p>" if channel is Channel.EMAIL else "",
        facts=(("Order", "SO-1001"), ("Carrier", "UPS")),
        variables={
            "order_no": "SO-1001",
            "status": status.value,
            "status_word": status.value,
            "carrier": "UPS",
            "tracking_no": "1Z999AA10123456784",
            "portal_url": "https://portal.example.com/",
            "supplier_name": "Northgate Defense",
        },
        occurred_at=datetime(2026, 11, 24, 10, tzinfo=UTC),
    )


def prepared(name, root):
    platform = PLATFORMS[name]
    configured = platform_settings(platform, settings_for(VENDORS[name], root))
    return platform, Context(settings=configured, now=datetime.now(UTC), webhook_url=f"{root}/nowhere/{name}")


async def control(root, method, path, **more):
    async with httpx.AsyncClient(base_url=root, trust_env=False) as client:
        answer = await client.request(method, path, **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


async def taken(root, name):
    return (await control(root, "GET", "/_control/counts"))[name]["taken"]


def test_all_twenty_are_there():
    assert len(SENDING) == 20
    assert set(SENDING) == set(VENDORS)


@pytest.mark.parametrize("name", SENDING)
async def test_a_message_is_taken_once_and_its_outcome_read(name, sandbox, wire):
    platform, context = prepared(name, sandbox)
    result = await wire.send(platform, [message(platform)], context)
    assert isinstance(result.outcomes[0], Accepted), result
    assert await taken(sandbox, name) == 1


@pytest.mark.parametrize("name", [name for name in SENDING if PLATFORMS[name].batch > 1])
async def test_a_batch_has_an_outcome_for_each_message(name, sandbox, wire):
    platform, context = prepared(name, sandbox)
    messages = [message(platform, number) for number in (1, 2, 3)]
    shelves = {}
    for entry in messages:
        key = platform.group(entry, context.settings) if platform.group else ""
        shelves.setdefault(key, []).append(entry)
    for shelf in shelves.values():
        result = await wire.send(platform, shelf, context)
        assert len(result.outcomes) == len(shelf)
        assert all(isinstance(outcome, Accepted) for outcome in result.outcomes), result


# What each trouble must become, whatever the vendor calls it. Where a vendor's own documents give one of them
# another meaning, the exception is named below with its reason.
EXPECTED = {
    "rate": (Deferred, K.RATE),
    "rate_bare": (Deferred, K.RATE),
    "server_error": (Deferred, K.TRANSIENT),
    "permanent": (Rejected, K.PERMANENT),
    "auth": (Rejected, K.AUTH),
    "opt_out": (Rejected, K.OPT_OUT),
}
EXCEPTIONS: dict[tuple[str, str], tuple[type, FailureKind]] = {
    # The address is the credential: a workflow whose signature was changed concerns one contact, not the platform.
    ("teams", "auth"): (Rejected, K.PERMANENT),
}
# Nobody opts out of a record in a business system, and mail vendors tell of it only later, in a receipt: their
# nearest answer concerns this one message.
NO_OPT_OUT = {
    "freshdesk", "gmail", "intercom", "mailgun", "netsuite", "outlook", "salesforce", "sap", "sendgrid",
    "shopify", "slack", "teams", "woocommerce",
}  # fmt: skip
# Where a platform carries two channels, the one that people can opt out of.
OPT_OUT_ADDRESS = {"hubspot": "ann@example.com"}
EXCEPTIONS |= {(name, "opt_out"): (Rejected, K.PERMANENT) for name in NO_OPT_OUT}


@pytest.mark.parametrize("fault", EXPECTED)
@pytest.mark.parametrize("name", SENDING)
async def test_each_trouble_becomes_the_documented_outcome(name, fault, sandbox, wire):
    platform, context = prepared(name, sandbox)
    if fault in {"permanent", "opt_out"}:
        # These refuse a message, so the sign-in before it goes well.
        await wire.prepare(platform, context)
    await control(sandbox, "POST", f"/_control/{name}/fault", json={"fault": fault, "times": 10})
    to = OPT_OUT_ADDRESS.get(name, "") if fault == "opt_out" else ""
    result = await wire.send(platform, [message(platform, to=to)], context)
    outcome = result.outcomes[0]
    kind, failure = EXCEPTIONS.get((name, fault), EXPECTED[fault])
    assert isinstance(outcome, kind), outcome
    assert outcome.kind is failure
    assert outcome.code
    assert await taken(sandbox, name) == 0


@pytest.mark.parametrize("name", SENDING)
async def test_a_call_reset_before_it_was_taken_is_doubtful_unless_it_only_read(name, sandbox, wire):
    platform, context = prepared(name, sandbox)
    await control(sandbox, "POST", f"/_control/{name}/fault", json={"fault": "reset", "times": 10})
    result = await wire.send(platform, [message(platform)], context)
    outcome = result.outcomes[0]
    assert isinstance(outcome, Deferred)
    assert outcome.kind is K.TRANSIENT
    assert await taken(sandbox, name) == 0


@pytest.mark.parametrize("name", SENDING)
async def test_a_call_taken_but_never_answered_is_doubtful(name, sandbox, wire):
    platform, context = prepared(name, sandbox)
    if platform.token is not None:
        await wire.prepare(platform, context)
    await control(sandbox, "POST", f"/_control/{name}/fault", json={"fault": "no_answer", "times": 10})
    result = await wire.send(platform, [message(platform)], context)
    outcome = result.outcomes[0]
    assert isinstance(outcome, Deferred)
    if await taken(sandbox, name):
        assert outcome.ambiguous


@pytest.mark.parametrize("name", [name for name in SENDING if PLATFORMS[name].lookup])
async def test_a_doubtful_message_is_found_where_the_platform_can_be_asked(name, sandbox, wire):
    platform, context = prepared(name, sandbox)
    began = datetime.now(UTC)
    sent = message(platform)
    ready = await wire.prepare(platform, context)
    nothing = await wire.call(name, platform.lookup.build(sent, ready, began))
    assert not isinstance(platform.lookup.read(nothing, sent), Accepted)
    await wire.send(platform, [sent], context)
    answer = await wire.call(name, platform.lookup.build(sent, ready, began))
    assert isinstance(platform.lookup.read(answer, sent), Accepted)


@pytest.mark.parametrize("name", [name for name in SENDING if PLATFORMS[name].probe])
async def test_the_doctor_finds_a_healthy_platform_healthy_and_a_refused_one_ill(name, sandbox, wire):
    platform, context = prepared(name, sandbox)
    ready = await wire.prepare(platform, context)
    answer = await wire.call(name, platform.probe.build(ready))
    first = platform.probe.read(answer, ready)
    assert first
    assert first[0].ok, first
    await control(sandbox, "POST", f"/_control/{name}/fault", json={"fault": "auth", "times": 10})
    answer = await wire.call(name, platform.probe.build(ready))
    ill = [finding for finding in platform.probe.read(answer, ready) if not finding.ok]
    assert ill
    assert all(finding.advice for finding in ill)
