"""Commands that prove: verify the ledger, and print a checkpoint to keep outside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import asyncpg
import typer

from ordernotify.cli._console import err, fail, out, print_json, progress
from ordernotify.settings import Settings, settings
from ordernotify.store.place import NoHouseError, read_urls
from ordernotify.store.sealer import load_signer
from ordernotify.store.setup import plain
from ordernotify.store.verifying import verify_ledger

app = typer.Typer(help="Prove what was recorded.", no_args_is_help=True)


@app.command("verify")
def verify_command(
    anchor: Annotated[
        list[Path] | None,
        typer.Option(help="File with a checkpoint that was kept outside; may be given more than once."),
    ] = None,
    vkey: Annotated[list[str] | None, typer.Option(help="Public key to trust; default: this house's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check every record, the chain, every checkpoint and outside anchors. Exit 1: the ledger is broken."""
    house = settings()
    say = progress(quiet=as_json)
    try:
        url = read_urls(house).reader
    except NoHouseError as error:
        fail(str(error))
    say("reading the ledger")
    anchors = [path.read_text("utf-8") for path in anchor or []]
    report = verify_ledger(url, origin=house.origin, anchors=anchors, vkeys=vkey or [public_key(house)])
    if as_json:
        print_json(report.as_dict())
    elif report.ok:
        out.print(f"[green]the ledger holds[/green]: {report.records} records, {report.checkpoints} checkpoints")
    else:
        out.print(f"[red]the ledger is broken[/red]: {report.as_dict()}")
    if not anchors and not as_json:
        err.print("[dim]no --anchor given: a clean cut at an old checkpoint would not be seen[/dim]")
    raise typer.Exit(0 if report.ok else 1)


@app.command("checkpoint")
def checkpoint_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, with the public key.")] = False,
) -> None:
    """Print the newest signed checkpoint; keep it where nobody who runs this house can change it."""
    house = settings()
    try:
        url = read_urls(house).reader
    except NoHouseError as error:
        fail(str(error))
    note = asyncio.run(_newest(url))
    if note is None:
        fail("the ledger is empty: nothing was recorded yet")
    if as_json:
        print_json({"checkpoint": note, "vkey": public_key(house)})
    else:
        typer.echo(note, nl=False)
        err.print(f"[dim]public key: {public_key(house)}[/dim]", highlight=False)


def public_key(house: Settings) -> str:
    """Return the house's public key as a C2SP verifier key."""
    key = house.signing_key_file or house.state_dir / "keys" / "ledger.key"
    return str(load_signer(key, house.origin).verifier)


async def _newest(url: str) -> str | None:
    connection = await asyncpg.connect(plain(url))
    try:
        note: str | None = await connection.fetchval("SELECT note FROM audit.checkpoint ORDER BY size DESC LIMIT 1")
    finally:
        await connection.close()
    return note
