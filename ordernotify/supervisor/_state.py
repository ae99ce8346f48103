"""What a supervisor leaves on disk: a lock against a second one, and who its children are if it is killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ordernotify.supervisor import _process

_LOCK_FILE: Final = "supervisor.lock"
_STATE_FILE: Final = "supervisor.json"
_POLL_S: Final = 0.05


class AlreadyRunningError(Exception):
    """Another supervisor works with the same state folder; the message names it."""


@dataclass(frozen=True, slots=True)
class Known:
    """A running child as the state file knows it; ``start`` tells it from a later process of its number."""

    name: str
    pid: int
    start: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Survivor:
    """A process that outlived its supervisor."""

    pid: int
    name: str


class StateDir:
    """The folder of one supervisor: at most one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None

    def acquire(self) -> None:
        """Take the folder; AlreadyRunningError while another process has it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode("ascii", "replace").strip()
            os.close(lock)
            raise AlreadyRunningError(
                f"already running as pid {holder or 'unknown'} with {self._folder}: stop that one first"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def release(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write(self, mark: str, children: Iterable[Known]) -> None:
        """Write who runs now, all or nothing, mode 0600."""
        state = {"pid": os.getpid(), "mark": mark, "children": [asdict(child) for child in children]}
        partial = self._folder / f"{_STATE_FILE}.new"
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as writable:
            json.dump(state, writable)
        partial.replace(self._folder / _STATE_FILE)

    def forget(self) -> None:
        """Remove the state file: no child runs."""
        (self._folder / _STATE_FILE).unlink(missing_ok=True)

    def stop_survivors(self, grace_s: float) -> list[Survivor]:
        """End what a killed supervisor of this folder left: SIGTERM, ``grace_s`` seconds, SIGKILL.

        Return those that were found. Only processes are signalled whose start time or mark is that
        of the state file: a number that meanwhile belongs to somebody else is left alone.
        """
        mark, children = self._read()
        found = _survivors(mark, children)
        survivors = [Survivor(pid, name) for pid, name in sorted(found.items())]
        deadline, number = time.monotonic() + grace_s, signal.SIGTERM
        leaders = {child.pid for child in children}
        while found:
            for pid in found:
                _signal(pid, number, group=pid in leaders)
            while (found := _survivors(mark, children)) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            deadline, number = time.monotonic() + _POLL_S, signal.SIGKILL
        return survivors

    def _read(self) -> tuple[str, list[Known]]:
        try:
            state: dict[str, Any] = json.loads((self._folder / _STATE_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return "", []  # a power cut may leave an empty file, but then it left no process either
        children = [Known(**{**child, "command": tuple(child["command"])}) for child in state["children"]]
        return state["mark"], children


def _survivors(mark: str, children: Iterable[Known]) -> dict[int, str]:
    found = {child.pid: child.name for child in children if child.start and _process.start_of(child.pid) == child.start}
    # Grandchildren whose parent is gone, and a child started just before its line could be written.
    strays = _process.marked(mark) if mark else []
    return {**{pid: "descendant" for pid in strays if pid != os.getpid()}, **found}


def _signal(pid: int, number: signal.Signals, *, group: bool) -> None:
    if group:
        _process.signal_group(pid, number)
        return
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def stop_survivors(folder: Path, *, grace_s: float = 10.0) -> list[Survivor]:
    """End what a killed supervisor of ``folder`` left running; AlreadyRunningError while it still lives."""
    state = StateDir(folder)
    state.acquire()
    try:
        survivors = state.stop_survivors(grace_s)
        state.forget()
    finally:
        state.release()
    return survivors
