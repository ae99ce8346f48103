"""Commands that show: the messages of an event, the platforms, an order's history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table

from ordernotify.cli._console import fail, out, print_json
from ordernotify.core.channels import Channel
from ordernotify.core.events import OrderStatus
from ordernotify.core.policy import explain
from ordernotify.core.segments import count as count_segments
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Platform
from ordernotify.rendering import Library, Rendered, shipped
from ordernotify.settings import is_mentioned, settings
from ordernotify.store.directory import order_history
from ordernotify.store.place import NoHouseError, read_urls

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def preview(
    status: Annotated[OrderStatus, typer.Option(help="What happened to the order.")] = OrderStatus.SHIPPED,
    language: Annotated[str, typer.Option(help="Two letters.")] = "en",
    field: Annotated[
        list[str] | None, typer.Option(help="A value of your own instead of the sample's: order_no=SO-7.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every message that a status makes, on every channel, full and as notice, without sending anything."""
    if status is OrderStatus.UNKNOWN:
        fail("an unknown status is never shown to a client: it opens an incident instead")
    library = shipped()
    given = dict(pair.partition("=")[::2] for pair in field or [])
    shown = [
        entry
        for template in (status.value, "notice")
        for channel in Channel
        if (entry := _previewed(library, template, channel, language, given)) is not None
    ]
    if as_json:
        print_json({"messages": shown})
        return
    for entry in shown:
        title = f"{entry['template']} · {entry['channel']} · {entry['language']}"
        body = "\n".join(part for part in (f"[bold]{entry['subject']}[/bold]", str(entry["text"])) if part)
        foot = f"{entry['segments']} SMS segment(s)" if entry["segments"] else f"version {entry['version']}"
        out.print(Panel(body, title=title, subtitle=foot, title_align="left", subtitle_align="right"))


def _previewed(
    library: Library, template: str, channel: Channel, language: str, given: dict[str, str]
) -> dict[str, Any] | None:
    fields = {**library.samples(template), **given}
    rendered = library.render(template=template, channel=channel, language=language, fields=fields)
    if not isinstance(rendered, Rendered):
        fail(f"{template} for {channel.value}: {rendered}")
    return {
        "template": template,
        "channel": channel.value,
        "language": language,
        "subject": rendered.subject,
        "text": rendered.text,
        "html": rendered.html,
        "version": rendered.version,
        "segments": count_segments(rendered.text).segments if channel is Channel.SMS else 0,
    }


def capabilities(platform: Platform) -> dict[str, Any]:
    """Return what a platform can do, computed from its declaration."""
    gives = platform.webhook.gives if platform.webhook else frozenset()
    return {
        "name": platform.name,
        "title": platform.title,
        "channels": sorted(channel.value for channel in platform.channels),
        "sends": platform.sends,
        "batch": platform.batch if platform.sends else 0,
        "receives": sorted(given.value for given in gives),
        "signature": platform.webhook.signature if platform.webhook else "",
        "idempotency": platform.idempotency.value if platform.sends else "",
        "idempotency_note": platform.idempotency_note,
        "lookup": platform.lookup is not None,
        "edits": platform.edits,
        "provision": platform.provision is not None,
        "doctor": platform.probe is not None,
        "level": platform.level.name,
        "address": platform.address,
        "example": platform.example,
        "configured": is_mentioned(platform),
    }


def platforms(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/reference/platforms.md.")] = False,
) -> None:
    """List the platforms with what each can do, and the generic sources that only tell us of events."""
    rows = [capabilities(platform) for platform in PLATFORMS.values()]
    sending = [row for row in rows if row["sends"]]
    sources = [row for row in rows if not row["sends"]]
    if as_json:
        print_json({"platforms": sending, "sources": sources})
    elif markdown:
        typer.echo(platforms_page(sending, sources), nl=False)
    else:
        out.print(_platforms_table(sending))


_COLUMNS = ("platform", "carries", "a call takes", "tells us", "against sending twice", "level", "set up")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["title"],
        ", ".join(row["channels"]),
        f"{row['batch']} messages" if row["batch"] > 1 else "1 message",
        ", ".join(row["receives"]) or "-",
        row["idempotency"],
        row["level"],
        "yes" if row["configured"] else "no",
    )


def _platforms_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*_COLUMNS, title=f"{len(rows)} platforms")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def platforms_page(sending: list[dict[str, Any]], sources: list[dict[str, Any]]) -> str:
    """Return the reference page of the platforms; it is generated, and a test holds it to the code."""
    head = ("platform", "name", "carries", "address", "a call takes", "tells us", "proof", "against sending twice",
            "level", "connect", "doctor")  # fmt: skip
    lines = [
        "# Platforms",
        "",
        "Generated by `uv run ordernotify platforms --markdown`; do not edit.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for row in sending:
        twice = ": ".join(part for part in (row["idempotency"], row["idempotency_note"]) if part)
        cells = (row["title"], f"`{row['name']}`", ", ".join(row["channels"]), row["address"], str(row["batch"]),
                 ", ".join(row["receives"]) or "nothing", row["signature"] or "-", twice, row["level"],
                 "yes" if row["provision"] else "-", "yes" if row["doctor"] else "-")  # fmt: skip
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    lines += ["", "Generic sources, which only tell us of events:", ""]
    lines += [f"- {row['title']} (`/webhooks/{row['name']}`): {row['signature']}" for row in sources]
    return "\n".join(lines) + "\n"


def orders(
    order_no: Annotated[str, typer.Argument(help="The number that people use.")],
    client: Annotated[str | None, typer.Option(help="Only this client's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened to an order, and who was told what, or why not."""
    try:
        url = read_urls(settings()).app
    except NoHouseError as error:
        fail(str(error))
    found = asyncio.run(_history(url, order_no, client))
    if as_json:
        print_json({"orders": found})
    if not found:
        fail(f"no order has the number {order_no}" + (f" at {client}" if client else ""))
    if as_json:
        return
    for order in found:
        out.print(f"[bold]{order['order_no']}[/bold] of {order['client_id']}: {order['status']}")
        table = Table("when", "event", "recipient", "platform", "outcome", "why")
        for row in _lines(order):
            table.add_row(*row)
        out.print(table)
        decided = {rule for row in (*order["deliveries"], *order["suppressions"]) for rule in row["rules"]}
        for rule in sorted(decided):
            out.print(f"[dim]{rule}: {explain(rule)}[/dim]", highlight=False)


def _lines(order: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for event in order["events"]:
        when = f"{event['occurred_at']:%d %b %H:%M:%S}"
        yield when, event["status"], "", event["source"], event["state"], event["reason"]
        for row in order["deliveries"]:
            if row["event_id"] == event["id"]:
                why = " ".join([row["verdict"], *row["rules"], row["code"]])
                yield "", "", row["recipient_id"], row["platform"], row["status"], why
        for row in order["suppressions"]:
            if row["event_id"] == event["id"]:
                yield (
                    "",
                    "",
                    row["recipient_id"],
                    row["platform"],
                    "suppressed",
                    " ".join([row["reason"], *row["rules"]]),
                )


async def _history(url: str, order_no: str, client: str | None) -> list[dict[str, Any]]:
    from ordernotify.store.database import connect  # noqa: PLC0415 - a loop of its own

    pool = await connect(url, size=2)
    try:
        return await order_history(pool, order_no, client_id=client)
    finally:
        await pool.close()
