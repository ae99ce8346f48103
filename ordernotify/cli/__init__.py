"""The command line: one command to see it, one to run it, and one for each question people ask of it."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from ordernotify import __version__
from ordernotify.cli import demo, ledger, people, send, serve, settings_page, show, vendors

app = typer.Typer(
    name="ordernotify",
    help="Tells clients what happens to their orders, on the channels they chose, and proves it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("worker")(serve.worker)
app.command("sandbox")(serve.sandbox)
app.command("send")(send.send)
app.command("connect")(vendors.connect_command)
app.command("doctor")(vendors.doctor)
app.command("preview")(show.preview)
app.command("platforms")(show.platforms)
app.command("settings")(settings_page.settings_command)
app.command("orders")(show.orders)
app.add_typer(ledger.app, name="ledger")
app.add_typer(people.app, name="people")


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),  # noqa: FBT001, FBT003 - typer's form
) -> None:
    if version:
        print(__version__)  # noqa: T201 - the answer
        raise typer.Exit


def main() -> None:
    """Run the command line; a fault of ours is one sentence, never a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the outermost boundary
        Console(stderr=True).print(f"[red]ordernotify:[/red] {type(error).__name__}: {error}", highlight=False)
        sys.exit(70)
