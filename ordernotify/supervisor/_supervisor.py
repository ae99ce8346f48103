"""The supervisor itself: one thread that starts, watches, restarts and stops the children."""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ordernotify.supervisor._child import Backoff, Child, Event, EventKind, in_order
from ordernotify.supervisor._process import MARK, has_ended, last_lines, signal_group, spawn, start_of
from ordernotify.supervisor._state import Known, StateDir

_TICK_S = 0.05
_SAME_PRESS_S = 0.5  # one Ctrl-C may reach us twice: from the terminal and from what started us
_LINES_REPORTED = 20
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class _Slot:
    child: Child
    process: subprocess.Popen[bytes] | None = None
    known: Known | None = None
    ready: bool = False
    started_at: float = 0.0
    not_before: float = 0.0
    deaths: int = 0
    restart_wanted: bool = False
    kill_at: float | None = None  # set when it was asked to stop
    killed: bool = False


class Supervisor:
    """Runs children and watches them in a thread of its own, which also calls ``on_event`` and ``ready``.

    On Linux children are bound to that thread: killed with all of us, they get SIGTERM. What survives even
    so is ended by the next supervisor with the same ``state_dir``. ValueError for children that cannot be
    ordered.
    """

    def __init__(
        self,
        children: Iterable[Child],
        *,
        state_dir: Path,
        on_event: Callable[[Event], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._slots = {child.name: _Slot(child) for child in in_order(children)}
        self._state = StateDir(state_dir)
        self._on_event = on_event
        self._backoff = backoff or Backoff()
        self._mark = secrets.token_hex(16)
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self) -> None:
        """End survivors of a killed predecessor and start the children in the background.

        Raises AlreadyRunningError while another supervisor uses the state folder.
        """
        if self._thread is not None:
            raise RuntimeError("a supervisor starts once; make a new one")
        self._state.acquire()
        try:
            self._succeed()
        except BaseException:
            self._state.release()
            raise
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def run(self, *, until: threading.Event | None = None) -> None:
        """Start, unless started before, and stop on SIGINT, SIGTERM, SIGHUP or ``until``.

        A second signal while stopping kills. To be called from the main thread, because only that receives
        signals. Raises as ``start`` does, and RuntimeError when watching itself failed.
        """
        presses: list[float] = []

        def pressed(_number: int, _frame: FrameType | None) -> None:
            presses.append(time.monotonic())  # nothing that takes a lock: it may be held where we interrupt

        # One that is ignored stays so: that is how nohup asks to outlive its terminal.
        heeded = [number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, pressed) for number in heeded}
        try:
            if self._thread is None:
                self.start()
            while self._watching() and not presses and not (until is not None and until.is_set()):
                time.sleep(_TICK_S)
            self._stopping.set()
            begun = presses[0] + _SAME_PRESS_S if presses else time.monotonic()
            while self._watching():
                if presses and presses[-1] > begun:
                    self._hurry.set()
                time.sleep(_TICK_S)
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._failure is not None:
            raise RuntimeError("the supervisor failed and ended its children") from self._failure

    def stop(self) -> None:
        """Stop all children, those first on which nothing depends, and return when none is left."""
        self._stopping.set()
        if threading.current_thread() is self._thread:
            return  # asked by an event's receiver: the thread ends itself, and run() or exit does the rest
        if self._thread is not None:
            self._thread.join()
            self._state.forget()
        self._state.release()
        atexit.unregister(self.stop)

    def restart(self, name: str) -> None:
        """Stop one child and start it again; it counts as not ready from now on. KeyError for a stranger."""
        self._slots[name].restart_wanted = True

    def pids(self) -> dict[str, int]:
        """Return the process of each child that runs."""
        running = ((name, slot.process) for name, slot in self._slots.items())
        return {name: process.pid for name, process in running if process is not None}

    def unready(self) -> tuple[str, ...]:
        """Return the children that are not ready."""
        return tuple(name for name, slot in self._slots.items() if slot.restart_wanted or not slot.ready)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until all children are ready; False after ``timeout_s`` seconds, or when stopped before."""
        deadline = time.monotonic() + timeout_s
        while self.unready():
            if time.monotonic() >= deadline or not self._watching() or self._stopping.is_set():
                return False
            time.sleep(_TICK_S / 2)
        return True

    def _succeed(self) -> None:
        grace_s = max((slot.child.grace_s for slot in self._slots.values()), default=0.0)
        for survivor in self._state.stop_survivors(grace_s):
            detail = "left by a supervisor that was killed"
            self._on_event(Event(EventKind.STOPPED, survivor.name, f"pid {survivor.pid}, {detail}"))
        # The mark is on disk before the first child has it, so that none can be missed.
        self._state.write(self._mark, ())

    def _watching(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _watch(self) -> None:
        try:
            while not self._stopping.is_set():
                for slot in self._slots.values():
                    self._care(slot, time.monotonic())
                self._stopping.wait(_TICK_S)
            while running := [slot for slot in reversed(self._slots.values()) if slot.process]:
                for slot in running:
                    self._wind_down(slot, time.monotonic())
                time.sleep(_TICK_S / 2)
        except BaseException as error:
            self._failure = error
            for slot in self._slots.values():
                if slot.process is not None and not has_ended(slot.process):
                    signal_group(slot.process.pid, signal.SIGKILL)
                    slot.process.wait()
            raise

    def _care(self, slot: _Slot, now: float) -> None:
        if slot.process is None:
            due = now >= slot.not_before or slot.restart_wanted
            if due and all(self._slots[name].ready for name in slot.child.after):
                self._launch(slot, now)
        elif has_ended(slot.process):
            self._bury(slot, slot.process, now)
        elif slot.restart_wanted:
            slot.ready = False
            slot.restart_wanted = False
            self._on_event(Event(EventKind.RESTARTING, slot.child.name, "asked to"))
            self._ask_to_stop(slot, slot.process, now)
        elif slot.kill_at is not None:
            self._kill_when_due(slot, slot.process, now)
        elif not slot.ready and (slot.child.ready is None or slot.child.ready()):
            slot.ready = True
            self._on_event(Event(EventKind.READY, slot.child.name, f"after {now - slot.started_at:.1f} s"))

    def _wind_down(self, slot: _Slot, now: float) -> None:
        if slot.process is None:
            return
        name = slot.child.name
        if has_ended(slot.process):
            slot.kill_at = slot.kill_at or now
            self._bury(slot, slot.process, now)
        elif slot.kill_at is not None or self._hurry.is_set():
            slot.kill_at = slot.kill_at or now
            self._kill_when_due(slot, slot.process, now)
        elif not any(other.process and name in other.child.after for other in self._slots.values()):
            self._ask_to_stop(slot, slot.process, now)

    def _launch(self, slot: _Slot, now: float) -> None:
        child = slot.child
        slot.restart_wanted = False
        try:
            process = spawn(
                child.command,
                environment={**os.environ, **child.environment, MARK: self._mark},
                log=child.log,
            )
        except OSError as error:
            self._count_death(slot, now, f"could not be started: {error}")
            return
        slot.started_at, slot.killed = now, False
        slot.known = Known(child.name, process.pid, start_of(process.pid), child.command)
        slot.process = process
        self._write()
        self._on_event(Event(EventKind.STARTED, child.name, f"pid {process.pid}, log {child.log}"))

    def _ask_to_stop(self, slot: _Slot, process: subprocess.Popen[bytes], now: float) -> None:
        slot.kill_at = now + slot.child.grace_s
        signal_group(process.pid, slot.child.stop_signal)

    def _kill_when_due(self, slot: _Slot, process: subprocess.Popen[bytes], now: float) -> None:
        if not slot.killed and (self._hurry.is_set() or (slot.kill_at is not None and now >= slot.kill_at)):
            slot.killed = True
            signal_group(process.pid, signal.SIGKILL)

    def _bury(self, slot: _Slot, process: subprocess.Popen[bytes], now: float) -> None:
        how = f"{_end(process.returncode)} after {now - slot.started_at:.1f} s"
        asked = slot.kill_at is not None
        if now - slot.started_at >= self._backoff.steady_s:
            slot.deaths = 0
        slot.process = slot.known = slot.kill_at = None
        slot.ready = False
        slot.not_before = now
        self._write()
        if asked:
            self._on_event(Event(EventKind.STOPPED, slot.child.name, f"killed, {how}" if slot.killed else how))
        else:
            self._count_death(slot, now, how)

    def _count_death(self, slot: _Slot, now: float, how: str) -> None:
        name, log = slot.child.name, slot.child.log
        slot.deaths += 1
        pause_s = self._backoff.pause_s(slot.deaths)
        slot.not_before = now + pause_s
        self._on_event(Event(EventKind.DIED, name, f"{how}; log {log}"))
        if slot.deaths == self._backoff.report_after:
            detail = f"died {slot.deaths} times in a row; last lines of {log}:\n{last_lines(log, _LINES_REPORTED)}"
            self._on_event(Event(EventKind.GAVE_UP, name, detail))
        self._on_event(Event(EventKind.RESTARTING, name, f"in {pause_s:.1f} s"))

    def _write(self) -> None:
        self._state.write(self._mark, [slot.known for slot in self._slots.values() if slot.known])


def _end(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
