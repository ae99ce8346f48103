"""Setting up at the vendors, twice; and the doctor, on ten things that go wrong on a first day."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Context
from ordernotify.sandbox.app import serve, settings_for
from ordernotify.sandbox.vendors import VENDORS
from ordernotify.setting_up import StepState, connect, examine
from ordernotify.settings import PlatformNotConfiguredError, platform_settings
from ordernotify.supervisor import free_port
from ordernotify.wire import Wire

pytestmark = pytest.mark.integration

PROVISIONED = sorted(name for name, platform in PLATFORMS.items() if platform.provision and name in VENDORS)


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


def context(name, root, **changes):
    configured = platform_settings(PLATFORMS[name], settings_for(VENDORS[name], root))
    return Context(
        settings=configured.model_copy(update=changes),
        now=datetime.now(UTC),
        webhook_url=f"https://notify.example.com/webhooks/{name}",
    )


@pytest.mark.parametrize("name", PROVISIONED)
async def test_a_second_connect_changes_nothing(name, sandbox, wire):
    first = await connect(wire, PLATFORMS[name], context(name, sandbox), apply=True)
    assert first
    assert not [step for step in first if step.state is StepState.FAILED], first
    assert all(step.instruction for step in first if step.state is StepState.BY_HAND)
    second = await connect(wire, PLATFORMS[name], context(name, sandbox), apply=True)
    settled = [step for step in second if not step.title.startswith(UNCONFIRMED)]
    assert {step.state for step in settled} <= {StepState.THERE, StepState.BY_HAND}, second


@pytest.mark.parametrize("name", PROVISIONED)
async def test_a_plan_that_is_only_looked_at_makes_nothing(name, sandbox, wire):
    looked = await connect(wire, PLATFORMS[name], context(name, sandbox), apply=False)
    assert not [step for step in looked if step.state is StepState.MADE]
    again = await connect(wire, PLATFORMS[name], context(name, sandbox), apply=False)
    assert [step.state for step in looked] == [step.state for step in again]


# A subscription counts when its endpoint has confirmed it, and no endpoint listens here: it is asked for again.
UNCONFIRMED = "Subscription to arn:"
WRONG = SecretStr("wrong")
MISCONFIGURED = {
    "Twilio's token is wrong": ("twilio", {"auth_token": WRONG}),
    "SendGrid's key is wrong": ("sendgrid", {"api_key": WRONG}),
    "Slack's token is wrong": ("slack", {"bot_token": WRONG}),
    "Telegram's token is wrong": ("telegram", {"bot_token": SecretStr("1:wrong")}),
    "WhatsApp's token is wrong": ("whatsapp", {"access_token": WRONG}),
    "Mailgun's key is wrong": ("mailgun", {"api_key": WRONG}),
    "Zendesk's token is wrong": ("zendesk", {"api_token": WRONG}),
    "Shopify's token is wrong": ("shopify", {"access_token": WRONG}),
    "nobody is at Twilio's address": ("twilio", {"base_url": "closed"}),
}


@pytest.mark.parametrize("what", MISCONFIGURED)
async def test_the_doctor_finds_it_and_says_what_to_do(what, sandbox, wire):
    name, changes = MISCONFIGURED[what]
    assert set(changes) <= set(PLATFORMS[name].settings.model_fields)
    if changes.get("base_url") == "closed":
        changes = {"base_url": f"http://127.0.0.1:{free_port(0)}"}
    findings = await examine(wire, PLATFORMS[name], context(name, sandbox, **changes))
    wrong = [finding for finding in findings if not finding.ok]
    assert wrong, findings
    assert all(finding.advice for finding in wrong)


async def test_the_doctor_finds_webhooks_that_nobody_made(sandbox, wire):
    findings = await examine(wire, PLATFORMS["woocommerce"], context("woocommerce", sandbox))
    advice = [finding.advice for finding in findings if not finding.ok]
    assert any("connect woocommerce --apply" in text for text in advice)
    await connect(wire, PLATFORMS["woocommerce"], context("woocommerce", sandbox), apply=True)
    assert all(finding.ok for finding in await examine(wire, PLATFORMS["woocommerce"], context("woocommerce", sandbox)))


async def test_the_doctor_finds_a_clock_that_is_wrong(sandbox, wire):
    late = datetime.now(UTC) + timedelta(hours=1)
    findings = await examine(wire, PLATFORMS["twilio"], context("twilio", sandbox), at=late)
    (clock,) = [finding for finding in findings if finding.check == "clock"]
    assert not clock.ok
    assert "s off" in clock.advice


def test_missing_settings_are_named_with_what_they_are_for_and_never_their_values():
    environment = {"ORDERNOTIFY_TWILIO_AUTH_TOKEN": "very-secret", "ORDERNOTIFY_TWILIO_ACCOUNT_SID": "AC1"}
    with pytest.raises(PlatformNotConfiguredError) as caught:
        platform_settings(PLATFORMS["twilio"], environment)
    assert "very-secret" not in str(caught.value)
    assert "TWILIO" in str(caught.value)
