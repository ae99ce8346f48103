"""Setting up at a vendor, and finding out what is wrong there: the plans and probes of the adapters, carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from ordernotify.clock import now
from ordernotify.platforms._base import Answer, Context, Finding, Platform, Step
from ordernotify.wire import UnansweredError, Wire

# Signatures and tokens of most vendors hold for five minutes; half of that leaves room.
_SKEW_S = 150


class StepState(StrEnum):
    """How a step of a plan stands."""

    THERE = "there"  # found as it should be; nothing to do
    TO_MAKE = "to make"  # missing; --apply makes it
    MADE = "made"
    BY_HAND = "by hand"  # a person must do it: there is an exact instruction
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of a plan, and what was found or done."""

    title: str
    state: StepState
    detail: str = ""
    instruction: str = ""


async def connect(wire: Wire, platform: Platform, context: Context, *, apply: bool) -> list[StepResult]:
    """Carry out a platform's plan, or only look (``apply`` false); a second run finds everything there."""
    if platform.provision is None:
        return []
    try:
        ready = await wire.prepare(platform, context)
    except UnansweredError as error:
        return [StepResult("sign in", StepState.FAILED, f"no answer ({error.kind}): check the token URL")]
    if not isinstance(ready, Context):
        return [StepResult("sign in", StepState.FAILED, f"refused ({ready.code}): check the credentials")]
    return [await _step(wire, platform, step, apply=apply) for step in platform.provision(ready)]


async def _step(wire: Wire, platform: Platform, step: Step, *, apply: bool) -> StepResult:
    try:
        return await _found(wire, platform, step) or await _made(wire, platform, step, apply=apply)
    except UnansweredError as error:
        return StepResult(step.title, StepState.FAILED, f"no answer ({error.kind}): check the URL settings")


async def _found(wire: Wire, platform: Platform, step: Step) -> StepResult | None:
    """Return how a step stands where the vendor can tell and nothing is left to do; None to go on."""
    if step.find is None or step.exists is None:
        return None
    answer = await wire.call(platform.name, step.find)
    if step.exists(answer):
        return StepResult(step.title, StepState.THERE)
    if answer.status in {401, 403}:
        return StepResult(step.title, StepState.FAILED, f"refused (HTTP {answer.status}): check the credentials")
    return None


async def _made(wire: Wire, platform: Platform, step: Step, *, apply: bool) -> StepResult:
    if step.make is None:
        return StepResult(step.title, StepState.BY_HAND, instruction=step.instruction)
    if not apply:
        return StepResult(step.title, StepState.TO_MAKE, f"{step.make.method} {_place(step.make.url)}")
    made = await wire.call(platform.name, step.make)
    if 200 <= made.status < 300:  # noqa: PLR2004 - the class of successes
        return StepResult(step.title, StepState.MADE)
    return StepResult(step.title, StepState.FAILED, f"HTTP {made.status}")


def _place(url: str) -> str:
    return url.split("?", 1)[0]


async def examine(wire: Wire, platform: Platform, context: Context, *, at: datetime | None = None) -> list[Finding]:
    """Return what is right and wrong with a platform: sign-in, clocks, its own checks, what connect would make."""
    findings: list[Finding] = []
    try:
        ready = await wire.prepare(platform, context)
    except UnansweredError as error:
        return [Finding("token", ok=False, advice=_unreachable(platform, error, "_TOKEN_URL"))]
    if not isinstance(ready, Context):
        advice = f"{platform.title} refuses our credentials ({ready.code}): renew them"
        return [Finding("token", ok=False, advice=advice)]
    if platform.token is not None:
        findings.append(Finding("token", ok=True))
    if platform.probe is not None:
        try:
            answer = await wire.call(platform.name, platform.probe.build(ready))
        except UnansweredError as error:
            return [*findings, Finding("reachable", ok=False, advice=_unreachable(platform, error, "_BASE_URL"))]
        findings.append(Finding("reachable", ok=True))
        findings.extend(_clock(answer, at or now()))
        findings.extend(platform.probe.read(answer, ready))
    for result in await connect(wire, platform, context, apply=False):
        if result.state is StepState.THERE:
            findings.append(Finding(result.title, ok=True))
        elif result.state is not StepState.BY_HAND:
            advice = f"{result.detail}; `ordernotify connect {platform.name} --apply` sets it up"
            findings.append(Finding(result.title, ok=False, advice=advice))
    return findings


def _unreachable(platform: Platform, error: UnansweredError, setting: str) -> str:
    variable = f"ORDERNOTIFY_{platform.name}{setting}".upper()
    return f"no answer ({error.kind}): check {variable} and the way out of this network"


def _clock(answer: Answer, at: datetime) -> Sequence[Finding]:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return ()
    if theirs.tzinfo is None:
        return ()
    skew = abs((at - theirs).total_seconds())
    if skew <= _SKEW_S:
        return (Finding("clock", ok=True),)
    return (Finding("clock", ok=False, advice=f"this machine's clock is {skew:.0f} s off: signatures will be refused"),)
