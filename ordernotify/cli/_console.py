"""How commands speak: people read standard error's progress and standard output's tables, programs read JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import orjson
import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Say in one sentence what is wrong and what to do, and exit."""
    err.print(f"[red]ordernotify:[/red] {message}", highlight=False)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """Print one JSON object for a program."""
    sys.stdout.write(
        orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() + "\n"
    )
    sys.stdout.flush()


def progress(*, quiet: bool = False) -> Callable[[str], None]:
    """Return a function that says what goes on, with the seconds since the start."""
    began = time.monotonic()

    def say(text: str) -> None:
        if not quiet:
            err.print(f"[dim]{time.monotonic() - began:5.1f} s[/dim]  {text}", highlight=False)

    return say
