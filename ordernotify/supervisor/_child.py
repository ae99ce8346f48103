"""What a supervisor is told and tells: its children, what happens to them, how long it waits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One process to keep alive.

    ``environment`` is added to our own. ``ready`` is asked until it says yes (None: ready once it lives); it
    should answer within a second, for the others wait. ``after`` names children that must be ready before
    this one starts, and that stop only after it. A child that ends by itself is always started again.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str]
    ready: Callable[[], bool] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 15.0
    after: tuple[str, ...] = ()


class EventKind(StrEnum):
    """What can happen to a child."""

    STARTED = "started"
    READY = "ready"
    DIED = "died"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    GAVE_UP = "gave_up"  # on a quick recovery: it dies again and again, and is tried only rarely from now on


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a child, with words for a person."""

    kind: EventKind
    child: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before a restart: doubling from ``first_s`` to ``most_s``.

    A life of ``steady_s`` starts over; after ``report_after`` shorter ones in a row it is reported.
    """

    first_s: float = 0.2
    most_s: float = 10.0
    steady_s: float = 30.0
    report_after: int = 10

    def pause_s(self, deaths: int) -> float:
        """Return the seconds to wait after that many early deaths in a row."""
        return float(min(self.first_s * 2 ** min(deaths - 1, 30), self.most_s))


def in_order(asked: Iterable[Child]) -> list[Child]:
    """Return the children, each after those it waits for; ValueError where that cannot be."""
    children = list(asked)
    by_name = {child.name: child for child in children}
    if len(by_name) != len(children):
        raise ValueError("name: two children have the same name")
    strangers = {name for child in children for name in child.after} - by_name.keys()
    if strangers:
        raise ValueError(f"after: no child is named {', '.join(sorted(strangers))}")
    try:
        names = list(TopologicalSorter({child.name: child.after for child in children}).static_order())
    except CycleError as error:
        raise ValueError(f"after: these children wait for each other: {' → '.join(error.args[1])}") from None
    return [by_name[name] for name in names]
