"""The demo: a whole house on loopback, fed with recorded real-format events, and a table of what came out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ordernotify.cli._console import err, fail, out, print_json, progress
from ordernotify.cli._demo_daily import run_daily
from ordernotify.cli._demo_exceptions import sweep_exceptions
from ordernotify.cli._demo_input import API_KEY, HOUSE_SETTINGS, Cast, drive
from ordernotify.cli._demo_portal import work_in_portal
from ordernotify.cli._demo_result import collect
from ordernotify.cli._demo_tracking import drive_tracking
from ordernotify.cli.ledger import public_key
from ordernotify.core.policy import explain
from ordernotify.house import House, HouseError
from ordernotify.settings import settings
from ordernotify.store.verifying import verify_ledger
from ordernotify.supervisor import AlreadyRunningError


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Also save the tables as an SVG picture.")] = None,
) -> None:
    """Start a house and a sandbox of the vendors on loopback, send real-format events, show what happened."""
    base = settings()
    state = base.state_dir / "demo"
    house_settings = base.model_copy(update={"state_dir": state, **HOUSE_SETTINGS, "api_keys": API_KEY})
    say = progress(quiet=as_json)
    house = House(
        house_settings,
        say=say,
        with_sandbox=True,
        extra_environment={
            **Cast.environment(),
            **{f"ORDERNOTIFY_{name}".upper(): value for name, value in HOUSE_SETTINGS.items()},
            "ORDERNOTIFY_API_KEYS": API_KEY,
        },
    )
    try:
        house.forget()
        house.start()
    except (HouseError, AlreadyRunningError) as error:
        fail(str(error))
    try:
        result = _run(house, say, quiet=as_json)
        # Not among what is recorded as a picture or read by a program: it opens this house's portal.
        account = result.pop("portal")
        if as_json:
            print_json(result)
        else:
            out.record = picture is not None
            _print(result)
            if picture is not None:
                out.save_svg(str(picture), title="make demo")
        if keep:
            err.print(f"sign in to the portal as {account['person']} with {account['password']}", highlight=False)
            err.print("running until Ctrl-C; the URLs are above")
            house.run()
    except (HouseError, TimeoutError) as error:
        fail(str(error) or "the demo's work was not done in time; its logs are in the folder of its state")
    finally:
        house.stop()
        if not keep:
            house.forget()
    whole = result["ledger"]["verified"] and not result["lost"] and not result["duplicates_at_vendors"]
    raise typer.Exit(0 if whole else 1)


def _run(house: House, say: Any, *, quiet: bool) -> dict[str, Any]:
    say("sending recorded events through signed webhooks")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet) as bar:
        driven = asyncio.run(drive(house.addresses, bar))
    say("letting carriers be asked, and letting them tell")
    asyncio.run(drive_tracking(house, API_KEY, driven))
    say("sweeping for exceptions")
    asyncio.run(sweep_exceptions(house.addresses, house.settings.state_dir, driven))
    say("taking in the day's extract, sending the day's summaries")
    asyncio.run(run_daily(house.addresses, house.settings.state_dir, driven))
    say("posting updates and a correction in the portal")
    account = asyncio.run(work_in_portal(house.urls.app, house.addresses.web))
    say("waiting for the last outcomes")
    result = asyncio.run(collect(house.urls.reader, house.addresses, driven))
    say("verifying the ledger")
    report = verify_ledger(house.urls.reader, origin=house.settings.origin, vkeys=[public_key(house.settings)])
    result["ledger"] = {"records": report.records, "checkpoints": report.checkpoints, "verified": report.ok}
    result["urls"]["portal"] = f"{house.addresses.web}/portal/"
    result["portal"] = {"person": account.person, "password": account.password}
    return result


def _print(result: dict[str, Any]) -> None:
    sent = [
        (platform, outcome, number)
        for platform, outcomes in sorted(result["deliveries"].items())
        for outcome, number in sorted(outcomes.items())
    ]
    _table("What was sent", ("platform", "outcome", "deliveries"), sent)
    _table(
        "What did not go out, and why",
        ("platform", "outcome", "reason", "deliveries"),
        [(row["platform"], row["status"], row["code"], row["count"]) for row in result["not_sent"]],
    )
    _table(
        "What waits for a person",
        ("source", "reason", "events"),
        [(row["source"], row["reason"], row["count"]) for row in result["quarantine"]],
    )
    _table(
        "What was held back, and why",
        ("platform", "reason", "rules", "deliveries"),
        [(row["platform"], row["reason"], " ".join(row["rules"]), row["count"]) for row in result["suppressed"]],
    )
    fan_out = result["fan_out"]
    _table(
        f"One event, {fan_out['platforms']} platforms: all called after {fan_out['p50_ms_to_last_platform']} ms",
        ("platform", "outcomes", "answers", "called after (ms)"),
        [
            (
                row["platform"],
                ", ".join(f"{number} {outcome}" for outcome, number in row["outcomes"].items()),
                " ".join(row["codes"]),
                ", ".join(map(str, sorted(row["ms"]))),
            )
            for row in fan_out["grid"]
        ],
    )
    _table(
        "One government order, two channels",
        ("platform", "decision", "rules", "what the client reads"),
        [
            (row["platform"], row["verdict"], " ".join(row["rules"]), row["text"])
            for row in result["government_example"]
        ],
        lines=True,
    )
    _explain(rule for row in result["government_example"] for rule in row["rules"])
    events, latency, ledger = result["events"], result["latency_ms"], result["ledger"]
    out.print(
        f"events: {events['accepted']} accepted, {events['duplicate']} redeliveries suppressed,"
        f" {events['rejected']} refused, {events['quarantined']} quarantined"
    )
    counted = ", ".join(f"{count} {trigger}" for trigger, count in sorted(result["triggers"].items()))
    out.print(f"by trigger: {counted}; daily summaries: {result['summaries']}")
    out.print(f"webhook to last platform: p50 {latency['p50']} ms, p99 {latency['p99']} ms")
    state = "[green]verified[/green]" if ledger["verified"] else "[red]BROKEN[/red]"
    out.print(f"ledger: {ledger['records']} records under {ledger['checkpoints']} signatures, {state}")
    for name, url in result["urls"].items():
        out.print(f"{name:8} {url}")


def _explain(rules: Iterable[str]) -> None:
    for rule in sorted(set(rules)):
        out.print(f"[dim]{rule}: {explain(rule)}[/dim]", highlight=False)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, lines: bool = False) -> None:
    if not rows:
        return
    table = Table(*columns, title=title, title_justify="left", show_lines=lines)
    for row in rows:
        table.add_row(*map(str, row))
    out.print(table)
