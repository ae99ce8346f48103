"""Commands that run the house, or one part of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ordernotify.cli._console import err, fail, progress
from ordernotify.house import House, HouseError
from ordernotify.settings import settings
from ordernotify.supervisor import AlreadyRunningError


def serve(
    with_sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Also run simulated vendors and send everything to them.")
    ] = False,
) -> None:
    """Run everything on this machine: PostgreSQL, Prefect's server, worker and web app. Ctrl-C stops it."""
    house = House(settings(), say=progress(), with_sandbox=with_sandbox)
    try:
        house.start()
    except (HouseError, AlreadyRunningError) as error:
        fail(str(error))
    err.print(f"[green]ready[/green]  API {house.addresses.web}/docs · Prefect {house.addresses.prefect}")
    if with_sandbox:
        err.print(f"       sandbox {house.addresses.sandbox}")
    if not settings().api_keys:
        err.print("       /api/v1 refuses everybody until ORDERNOTIFY_API_KEYS is set")
    house.run()


def worker() -> None:
    """Run one more worker of a house whose databases and Prefect server run elsewhere (set their URLs)."""
    if "PREFECT_API_URL" not in os.environ:
        fail("set PREFECT_API_URL (and PREFECT_API_AUTH_STRING) to the house's Prefect server")
    os.execv(sys.executable, [sys.executable, "-m", "ordernotify.worker.process"])  # noqa: S606 - our own module


def sandbox(
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.")] = 8430,
    port_file: Annotated[Path | None, typer.Option(help="File to write the port to.")] = None,
) -> None:
    """Run the simulated vendors, and print the settings that point the adapters at them."""
    from ordernotify.sandbox.app import environment, main  # noqa: PLC0415 - only this command needs the vendors

    if port:
        for name, value in sorted(environment(f"http://127.0.0.1:{port}").items()):
            sys.stdout.write(f"{name}={value}\n")
        sys.stdout.flush()
    arguments = ["--port", str(port)]
    if port_file is not None:
        arguments += ["--port-file", str(port_file)]
    raise typer.Exit(main(arguments))
