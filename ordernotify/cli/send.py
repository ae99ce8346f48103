"""The command that tries a connection: one notice to one address, through the whole pipeline."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import typer

from ordernotify.cli._console import fail, out, print_json, progress
from ordernotify.clock import new_id, now
from ordernotify.core.audit import Actor
from ordernotify.core.channels import Channel
from ordernotify.core.events import OrderEvent, OrderStatus, Trigger
from ordernotify.core.onboarding import ClientBody
from ordernotify.core.recipients import Refused, read_email, read_phone
from ordernotify.house import House, HouseError
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Platform, Refusal
from ordernotify.settings import PlatformNotConfiguredError, Settings, platform_settings, settings
from ordernotify.store import directory, inbox
from ordernotify.store.audit import Scribe
from ordernotify.store.database import DATABASE_AWAY, connect
from ordernotify.store.inbox import Arrival
from ordernotify.store.place import NoHouseError, read_urls
from ordernotify.supervisor import AlreadyRunningError

_CLIENT = "connection-test"
_WAIT_S = 90.0
_ENDED = {"sent", "delivered", "read", "rejected", "bounced", "failed", "unknown", "quarantined", "superseded"}


def send(
    platform: Annotated[str, typer.Argument(help="Which platform; see `ordernotify platforms`.")],
    to: Annotated[str, typer.Option("--to", help="Address in the form that the platform takes.")],
    status: Annotated[OrderStatus, typer.Option(help="What to tell.")] = OrderStatus.SHIPPED,
    label: Annotated[str, typer.Option(help="Label of the trial's order; `public` allows full text.")] = "public",
    language: Annotated[str, typer.Option(help="Two letters.")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Send one notice to one address through the whole pipeline, ledger and all. Exit 1: not accepted."""
    chosen = _chosen(platform)
    address = _checked(chosen, to)
    say = progress(quiet=as_json)
    house: House | None = None
    if not asyncio.run(_is_running(settings())):
        say("no house runs here: starting one for this message")
        house = House(settings(), say=say)
        try:
            house.start()
        except (HouseError, AlreadyRunningError) as error:
            fail(str(error))
    try:
        result = asyncio.run(_tried(settings(), chosen, address, status=status, label=label, language=language))
    finally:
        if house is not None:
            say("stopping the house again")
            house.stop()
    if as_json:
        print_json(result)
    else:
        out.print(_sentence(chosen, result))
    raise typer.Exit(0 if result["status"] in {"sent", "delivered", "read"} else 1)


def _chosen(name: str) -> Platform:
    platform = PLATFORMS.get(name)
    if platform is None or not platform.sends:
        fail(f"{name} is no platform that sends; there are: " + ", ".join(n for n, p in PLATFORMS.items() if p.sends))
    try:
        platform_settings(platform)
    except PlatformNotConfiguredError as error:
        fail(f"{error} (or save a Block named `ordernotify` in Prefect, and use a running house)")
    return platform


def _checked(platform: Platform, to: str) -> str:
    checked: str | Refused | Refusal = to
    if platform.read_address is not None:
        checked = platform.read_address(to)
    elif Channel.SMS in platform.channels:
        checked = read_phone(to)
    elif Channel.EMAIL in platform.channels:
        checked = read_email(to)
    if isinstance(checked, (Refused, Refusal)):
        fail(f"--to {checked.message}")
    return checked


async def _is_running(house: Settings) -> bool:
    try:
        connection = await asyncpg.connect(read_urls(house).app.replace("+asyncpg", "", 1), timeout=3)
    except (NoHouseError, *DATABASE_AWAY, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def _tried(
    house: Settings, platform: Platform, address: str, *, status: OrderStatus, label: str, language: str
) -> dict[str, Any]:
    pool = await connect(read_urls(house).app, size=2)
    scribe = Scribe("cli")
    at = now()
    digest = hashlib.sha256(f"{platform.name}\x1f{address}\x1f{language}".encode()).hexdigest()[:12]
    try:
        await directory.put_client(
            pool,
            scribe,
            ClientBody.model_validate(
                {
                    "id": f"{_CLIENT}-{digest}",
                    "name": "Connection test",
                    "recipients": [
                        {
                            "id": f"{_CLIENT}-{digest}",
                            "name": "Connection test",
                            "language": language,
                            "contacts": [
                                {
                                    "key": platform.name.replace("_", "-"),
                                    "channel": platform.channel_for(address).value,
                                    "platform": platform.name,
                                    "address": address,
                                    "verified": True,
                                    "consent": "granted",
                                }
                            ],
                        }
                    ],
                }
            ),
            actor=Actor(kind="person", id="cli"),
            at=at,
        )
        order = f"TEST-{new_id().hex[-8:].upper()}"
        event = OrderEvent(
            source="cli",
            dedupe_key=order,
            order_ref=order,
            order_no=order,
            status=status,
            raw_status=status.value,
            occurred_at=at,
            trigger=Trigger.PORTAL,
            client_ref=f"{_CLIENT}-{digest}",
            label=label,
            carrier="UPS",
            tracking_no="1Z999AA10123456784",
            promised_date=at.date().isoformat(),
        )
        arrival = Arrival(source="cli", headers={}, body=b"", events=(event,), remote="", at=at)
        (taken,) = await inbox.accept(pool, scribe, [arrival])
        return await _awaited(pool, taken.accepted[0], platform)
    finally:
        await pool.close()


async def _awaited(pool: asyncpg.Pool, event_id: UUID, platform: Platform) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WAIT_S
    row = None
    while loop.time() < deadline:
        row = await pool.fetchrow(
            "SELECT d.id, d.status, d.code, d.verdict, d.rules, d.provider_ref, d.attempts, a.http_status"
            " FROM delivery d LEFT JOIN attempt a ON a.delivery_id = d.id AND a.number = d.attempts"
            " WHERE d.event_id = $1",
            event_id,
        )
        if row is not None and row["status"] in _ENDED:
            break
        held = await pool.fetchrow("SELECT reason, rules FROM suppression WHERE event_id = $1", event_id)
        state = await pool.fetchrow("SELECT state, reason FROM event WHERE id = $1", event_id)
        if held is not None:
            return {"platform": platform.name, "status": "suppressed", "code": held["reason"],
                    "rules": held["rules"]}  # fmt: skip
        if state is not None and state["state"] in {"noted", "quarantined"}:
            return {"platform": platform.name, "status": state["state"], "code": state["reason"], "rules": []}
        await asyncio.sleep(0.1)
    if row is None:
        return {"platform": platform.name, "status": "waiting", "code": "no worker took it", "rules": []}
    return {"platform": platform.name, **dict(row), "id": str(row["id"])}


def _sentence(platform: Platform, result: dict[str, Any]) -> str:
    color = "green" if result["status"] in {"sent", "delivered", "read"} else "red"
    details = ", ".join(
        f"{name} {value}"
        for name in ("verdict", "http_status", "provider_ref", "code")
        if (value := result.get(name)) not in {None, ""}
    )
    rules = " ".join(result.get("rules", []))
    return f"[{color}]{platform.title}: {result['status']}[/{color}] ({details}; rules {rules or '-'})"
