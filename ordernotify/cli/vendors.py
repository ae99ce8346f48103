"""Commands that look after the vendors: set up what a platform needs, and say what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from ordernotify.cli._console import err, fail, out, print_json, progress
from ordernotify.clock import now
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Context, Finding, Platform
from ordernotify.setting_up import StepResult, StepState, connect, examine
from ordernotify.settings import (
    PlatformNotConfiguredError,
    Settings,
    is_mentioned,
    platform_settings,
    settings,
)
from ordernotify.wire import Wire

_COLOR = {
    StepState.THERE: "green",
    StepState.MADE: "green",
    StepState.TO_MAKE: "yellow",
    StepState.BY_HAND: "cyan",
    StepState.FAILED: "red",
}


def connect_command(
    platform: Annotated[str, typer.Argument(help="Which platform; see `ordernotify platforms`.")],
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without this only the plan is shown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Set up what a platform needs on the vendor's side. Shows the plan; --apply carries it out. Safe to repeat."""
    chosen = PLATFORMS.get(platform)
    if chosen is None or chosen.provision is None:
        able = ", ".join(name for name, entry in PLATFORMS.items() if entry.provision)
        fail(f"there is nothing to set up at {platform}; there is at: {able}")
    house = settings()
    if not house.public_url:
        err.print("[yellow]ORDERNOTIFY_PUBLIC_URL is not set[/yellow]: vendors need it to send receipts")
    results = asyncio.run(_connected(house, chosen, _context(house, chosen), apply=apply))
    if as_json:
        print_json({"platform": chosen.name, "applied": apply, "steps": [_as_dict(step) for step in results]})
    else:
        for step in results:
            out.print(f"[{_COLOR[step.state]}]{step.state.value:8}[/] {step.title}  {step.detail}", highlight=False)
            if step.instruction:
                out.print(step.instruction, markup=False, highlight=False)
        if not apply and any(step.state is StepState.TO_MAKE for step in results):
            err.print(f"nothing was changed; `ordernotify connect {chosen.name} --apply` does it")
    raise typer.Exit(1 if any(step.state is StepState.FAILED for step in results) else 0)


def doctor(
    platform: Annotated[str | None, typer.Argument(help="Only this platform; default: all that are set up.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Say what is wrong with the platforms and what to do about it. Exit 1: something is wrong."""
    house = settings()
    if platform is not None and platform not in PLATFORMS:
        fail(f"{platform} is no platform; there are: {', '.join(PLATFORMS)}")
    chosen = [PLATFORMS[platform]] if platform else [entry for entry in PLATFORMS.values() if is_mentioned(entry)]
    if not chosen:
        fail("no platform is set up: give it settings such as ORDERNOTIFY_TWILIO_ACCOUNT_SID")
    say = progress(quiet=as_json)
    found = asyncio.run(_examined(house, chosen, say))
    if as_json:
        print_json(
            {
                name: [{"check": one.check, "ok": one.ok, "advice": one.advice} for one in findings]
                for name, findings in found.items()
            }
        )
    else:
        table = Table("platform", "check", "", "what to do")
        for name, findings in found.items():
            for one in findings:
                table.add_row(name, one.check, "[green]ok[/]" if one.ok else "[red]wrong[/]", one.advice)
        out.print(table)
    raise typer.Exit(0 if all(one.ok for findings in found.values() for one in findings) else 1)


def _context(house: Settings, platform: Platform) -> Context:
    try:
        chosen = platform_settings(platform)
    except PlatformNotConfiguredError as error:
        fail(str(error))
    base = house.public_url.rstrip("/")
    return Context(settings=chosen, now=now(), webhook_url=f"{base}/webhooks/{platform.name}" if base else "")


async def _connected(house: Settings, platform: Platform, context: Context, *, apply: bool) -> list[StepResult]:
    async with Wire(timeout_s=min(20.0, house.http_timeout_s), connections=4) as wire:
        return await connect(wire, platform, context, apply=apply)


async def _examined(house: Settings, chosen: list[Platform], say: Any) -> Mapping[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    async with Wire(timeout_s=min(20.0, house.http_timeout_s), connections=4) as wire:
        for platform in chosen:
            say(f"looking at {platform.title}")
            found[platform.name] = await _one(wire, house, platform)
    return found


async def _one(wire: Wire, house: Settings, platform: Platform) -> list[Finding]:
    try:
        configured = platform_settings(platform)
    except PlatformNotConfiguredError as error:
        return [Finding("settings", ok=False, advice=str(error))]
    findings = [Finding("settings", ok=True)]
    base = house.public_url.rstrip("/")
    if platform.webhook is not None and not base:
        findings.append(
            Finding("webhook", ok=False, advice="set ORDERNOTIFY_PUBLIC_URL: nobody can reach us for receipts")
        )
    url = f"{base}/webhooks/{platform.name}" if base else ""
    return findings + await examine(wire, platform, Context(settings=configured, now=now(), webhook_url=url))


def _as_dict(step: StepResult) -> dict[str, str]:
    return {
        "title": step.title,
        "state": step.state.value,
        "detail": step.detail,
        "instruction": step.instruction,
    }
