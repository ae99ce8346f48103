"""The supervisor with real processes: order, restarts, stopping, and what is left after a kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ordernotify.supervisor import (
    AlreadyRunningError,
    Backoff,
    Child,
    Event,
    EventKind,
    Supervisor,
    free_port,
    wait_http,
)

SLEEPER = "exec sleep 600"
STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def until(holds: Callable[[], object], seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


@dataclass
class House:
    """A place for supervisors and their children, and all that was started in it."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    supervisors: list[Supervisor] = field(default_factory=list)
    programs: list[subprocess.Popen[str]] = field(default_factory=list)

    def child(self, name: str, script: str = SLEEPER, **more) -> Child:
        log = self.folder / "logs" / f"{name}.log"
        settings = {"environment": {"WHO": name}, "grace_s": 5.0, **more}
        return Child(name=name, command=("sh", "-c", script), log=log, **settings)

    def supervisor(self, *children: Child, **more) -> Supervisor:
        made = Supervisor(children, state_dir=self.folder, on_event=self.events.append, **more)
        self.supervisors.append(made)
        return made

    def program(self, body: str, *, start: str = "supervisor.run()") -> subprocess.Popen[str]:
        """Run a Python program that supervises the children which ``body`` names, and wait for its pids."""
        source = textwrap.dedent("""
            import json, sys, time
            from pathlib import Path
            from ordernotify.supervisor import Child, Supervisor
            folder = Path(sys.argv[1])
            def child(name, script, **more):
                return Child(name=name, command=("sh", "-c", script), environment={"WHO": name},
                             log=folder / f"{name}.log", **{"grace_s": 5.0, **more})
            def on_event(event):
                if not supervisor.unready() and event.kind == "ready":
                    print(json.dumps(supervisor.pids()), flush=True)
        """)
        source += f"supervisor = Supervisor([{body}], state_dir=folder, on_event=on_event)\n{start}\n"
        command = [sys.executable, "-c", source, str(self.folder)]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.programs.append(program)
        return program

    def kinds(self, name: str) -> list[str]:
        return [event.kind.value for event in self.events if event.child == name]

    def said(self, kind: EventKind, name: str) -> list[str]:
        return [event.detail for event in self.events if (event.kind, event.child) == (kind, name)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    for supervisor in house.supervisors:
        supervisor.stop()
    for program in house.programs:
        with program:
            program.kill()


def pids_of(program: subprocess.Popen[str]) -> dict[str, int]:
    assert program.stdout is not None
    return json.loads(program.stdout.readline())


def test_children_start_after_those_they_wait_for_and_stop_before_them(house):
    gate = house.folder / "gate"
    supervisor = house.supervisor(
        house.child("web", after=("worker", "database")),
        house.child("worker", after=("database",)),
        house.child("database", ready=gate.exists),
    )
    supervisor.start()
    until(lambda: house.kinds("database") == ["started"])
    assert not supervisor.wait_ready(0.2)
    assert supervisor.unready() == ("database", "worker", "web")
    gate.touch()
    assert supervisor.wait_ready(5)
    pids = supervisor.pids()
    assert [event.child for event in house.events if event.kind is EventKind.STARTED] == [
        "database",
        "worker",
        "web",
    ]
    assert all(alive(pid) for pid in pids.values())
    house.events.clear()
    supervisor.stop()
    assert [(event.kind.value, event.child) for event in house.events] == [
        ("stopped", "web"),
        ("stopped", "worker"),
        ("stopped", "database"),
    ]
    assert not any(alive(pid) for pid in pids.values())
    assert supervisor.pids() == {}
    assert not (house.folder / "supervisor.json").exists()


def test_a_child_that_dies_is_started_again_after_a_pause_that_grows(house):
    supervisor = house.supervisor(
        house.child("fine"),
        house.child("frail", "echo out of luck; exit 3"),
        backoff=Backoff(first_s=0.05, report_after=3),
    )
    supervisor.start()
    until(lambda: len(house.said(EventKind.DIED, "frail")) == 4)
    supervisor.stop()
    assert [kind for kind in house.kinds("frail") if kind != "ready"][:3] == ["started", "died", "restarting"]
    assert house.said(EventKind.DIED, "frail")[0].startswith("exit code 3 after")
    assert house.said(EventKind.RESTARTING, "frail")[:4] == ["in 0.1 s", "in 0.1 s", "in 0.2 s", "in 0.4 s"]
    (report,) = house.said(EventKind.GAVE_UP, "frail")
    assert report.startswith("died 3 times in a row")
    assert report.count("out of luck") == 3
    assert house.kinds("fine") == ["started", "ready", "stopped"]


def test_a_long_life_starts_the_pauses_over():
    backoff = Backoff()
    assert [round(backoff.pause_s(deaths), 1) for deaths in range(1, 9)] == [
        0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0,
    ]  # fmt: skip
    assert backoff.pause_s(1_000_000) == 10.0


def test_a_life_that_was_steady_is_not_counted_as_one_in_a_row(house):
    supervisor = house.supervisor(
        house.child("worker", "sleep 0.3; exit 1"),
        backoff=Backoff(first_s=0.05, steady_s=0.2, report_after=2),
    )
    supervisor.start()
    until(lambda: len(house.said(EventKind.DIED, "worker")) == 3)
    assert set(house.said(EventKind.RESTARTING, "worker")) == {"in 0.1 s"}
    assert house.said(EventKind.GAVE_UP, "worker") == []


def test_kill_9_of_a_child_is_healed_and_takes_its_own_children_along(house):
    note = house.folder / "grandchild"
    supervisor = house.supervisor(house.child("worker", f"sleep 600 & echo $! > {note}; wait"))
    supervisor.start()
    until(lambda: note.exists() and note.read_text().strip())
    first, grandchild = supervisor.pids()["worker"], int(note.read_text())
    assert alive(grandchild)
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pids().get("worker", first) != first)
    assert not alive(grandchild)
    assert "signal 9" in house.said(EventKind.DIED, "worker")[0]


def test_a_program_that_does_not_exist_is_reported_in_its_log(house):
    child = house.child("ghost")
    ghost = Child(name="ghost", command=("/no/such/program",), environment={}, log=child.log)
    supervisor = house.supervisor(ghost, backoff=Backoff(first_s=0.05, report_after=1))
    supervisor.start()
    until(lambda: house.said(EventKind.GAVE_UP, "ghost"))
    assert "/no/such/program: No such file or directory" in house.said(EventKind.GAVE_UP, "ghost")[0]


def test_restart_replaces_one_child_and_leaves_the_others_alone(house):
    supervisor = house.supervisor(house.child("a"), house.child("b"))
    supervisor.start()
    assert supervisor.wait_ready(5)
    before = supervisor.pids()
    supervisor.restart("a")
    assert supervisor.unready() == ("a",)
    assert supervisor.wait_ready(5)
    after = supervisor.pids()
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]
    assert not alive(before["a"])
    assert house.kinds("a") == ["started", "ready", "restarting", "stopped", "started", "ready"]


def test_a_stubborn_child_is_killed_when_its_grace_is_over(house):
    supervisor = house.supervisor(house.child("stubborn", STUBBORN, grace_s=0.4))
    supervisor.start()
    assert supervisor.wait_ready(5)
    time.sleep(0.2)
    pid, began = supervisor.pids()["stubborn"], time.monotonic()
    supervisor.stop()
    assert 0.4 <= time.monotonic() - began < 2
    assert not alive(pid)
    assert house.said(EventKind.STOPPED, "stubborn")[0].startswith("killed, signal 9")


def test_a_child_is_stopped_with_its_own_signal_and_sees_its_own_environment(house):
    child = house.child(
        "gentle",
        "trap 'echo bye $WHO; exit 0' INT; echo hello $WHO; while :; do sleep 0.05; done",
        stop_signal=signal.SIGINT,
    )
    supervisor = house.supervisor(child)
    supervisor.start()
    until(lambda: child.log.exists() and "hello gentle" in child.log.read_text())
    supervisor.stop()
    assert child.log.read_text().splitlines()[-1] == "bye gentle"
    assert house.said(EventKind.STOPPED, "gentle")[0].startswith("exit code 0")


def test_logs_and_state_are_private_and_a_large_log_is_put_aside(house):
    child = house.child("worker", f"echo started; {SLEEPER}")
    child.log.parent.mkdir()
    child.log.write_bytes(b"x" * 5_000_001)
    supervisor = house.supervisor(child)
    supervisor.start()
    until(lambda: child.log.exists() and child.log.read_text() == "started\n")
    assert child.log.with_name("worker.log.1").stat().st_size == 5_000_001
    for file in (child.log, house.folder / "supervisor.json", house.folder / "supervisor.lock"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    state = json.loads((house.folder / "supervisor.json").read_text())
    assert state["pid"] == os.getpid()
    assert [(known["name"], known["pid"]) for known in state["children"]] == [*supervisor.pids().items()]


def test_two_supervisors_with_one_folder_refuse_clearly(house):
    first = house.supervisor(house.child("worker"))
    first.start()
    with pytest.raises(AlreadyRunningError, match=f"already running as pid {os.getpid()}"):
        house.supervisor(house.child("worker")).start()
    assert first.wait_ready(5)
    first.stop()
    second = house.supervisor(house.child("worker"))
    second.start()
    assert second.wait_ready(5)


def test_children_that_cannot_be_ordered_are_refused(house):
    for children, words in (
        ([house.child("a"), house.child("a")], "same name"),
        ([house.child("a", after=("b",))], "no child is named b"),
        ([house.child("a", after=("b",)), house.child("b", after=("a",))], "wait for each other"),
    ):
        with pytest.raises(ValueError, match=words):
            Supervisor(children, state_dir=house.folder, on_event=house.events.append)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything_and_the_program_ends_well(house, number):
    program = house.program(f"child('a', {SLEEPER!r}), child('b', {SLEEPER!r}, after=('a',))")
    pids = pids_of(program)
    assert set(pids) == {"a", "b"}
    began = time.monotonic()
    program.send_signal(number)
    assert program.wait(5) == 0
    assert time.monotonic() - began < 2
    assert not any(alive(pid) for pid in pids.values())


def test_a_second_signal_does_not_wait_for_the_grace(house):
    program = house.program(f"child('a', {STUBBORN!r}, grace_s=60)")
    pids = pids_of(program)
    time.sleep(0.2)
    program.send_signal(signal.SIGINT)
    time.sleep(0.1)
    program.send_signal(signal.SIGINT)
    time.sleep(0.6)
    assert program.poll() is None, "the same press twice is one"
    program.send_signal(signal.SIGINT)
    assert program.wait(3) == 0
    assert not any(alive(pid) for pid in pids.values())


def test_kill_9_of_the_supervisor_takes_its_children_down(house):
    program = house.program(f"child('a', {SLEEPER!r}), child('b', {SLEEPER!r})")
    pids = pids_of(program)
    program.kill()
    until(lambda: not any(alive(pid) for pid in pids.values()), 3)


def test_a_program_that_ends_without_stopping_takes_its_children_down(house):
    start = "supervisor.start(); supervisor.wait_ready(5); sys.exit('forgot to stop')"
    program = house.program(f"child('a', {SLEEPER!r}), child('b', {SLEEPER!r})", start=start)
    pids = pids_of(program)
    assert program.wait(5) == 1
    assert not any(alive(pid) for pid in pids.values())


def test_what_survives_a_killed_supervisor_is_ended_by_the_next_one(house):
    away = house.folder / "away"
    # One ignores the death signal; the other's child has gone into a session of its own.
    program = house.program(f"child('stubborn', {STUBBORN!r}), child('a', 'setsid sleep 600 & echo $! > {away}; wait')")
    pids = pids_of(program)
    until(lambda: away.exists() and away.read_text().strip())
    time.sleep(0.2)
    program.kill()
    program.wait()
    until(lambda: not alive(pids["a"]))
    stray = int(away.read_text())
    assert alive(pids["stubborn"])
    assert alive(stray)
    supervisor = house.supervisor(house.child("new", grace_s=0.3))
    supervisor.start()
    assert not alive(pids["stubborn"])
    assert not alive(stray)
    left = "left by a supervisor that was killed"
    assert house.said(EventKind.STOPPED, "stubborn") == [f"pid {pids['stubborn']}, {left}"]
    assert f"pid {stray}, {left}" in house.said(EventKind.STOPPED, "descendant")
    assert supervisor.wait_ready(5)


def test_a_number_that_belongs_to_somebody_else_now_is_left_alone(house):
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        try:
            known = {"name": "worker", "pid": stranger.pid, "start": "another boot 123", "command": ["sleep"]}
            state = {"pid": 1, "mark": "0" * 32, "children": [known]}
            (house.folder / "supervisor.json").write_text(json.dumps(state))
            supervisor = house.supervisor(house.child("worker"))
            supervisor.start()
            assert supervisor.wait_ready(5)
            assert stranger.poll() is None
            assert house.kinds("worker") == ["started", "ready"]
        finally:
            stranger.kill()


def test_a_state_file_emptied_by_a_power_cut_does_not_prevent_the_start(house):
    (house.folder / "supervisor.json").touch()
    supervisor = house.supervisor(house.child("worker"))
    supervisor.start()
    assert supervisor.wait_ready(5)


def test_run_ends_when_it_is_told_to_and_gives_the_signals_back(house):
    before = signal.getsignal(signal.SIGTERM)
    over = threading.Event()
    supervisor = house.supervisor(house.child("worker"))
    timer = threading.Timer(0.3, over.set)
    timer.start()
    supervisor.run(until=over)
    timer.join()
    assert house.kinds("worker") == ["started", "ready", "stopped"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_run_goes_on_with_what_was_started_before(house):
    over = threading.Event()
    supervisor = house.supervisor(house.child("worker"))
    supervisor.start()
    assert supervisor.wait_ready(5)
    over.set()
    supervisor.run(until=over)
    assert house.kinds("worker") == ["started", "ready", "stopped"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_what_the_supervisor_calls_ends_the_children_and_is_raised(house):
    def ready() -> bool:
        raise KeyError("a bug")

    supervisor = house.supervisor(house.child("a"), house.child("b", ready=ready))
    with pytest.raises(RuntimeError, match="failed and ended its children") as raised:
        supervisor.run()
    assert isinstance(raised.value.__cause__, KeyError)
    started = [int(detail.split()[1].rstrip(",")) for name in "ab" for detail in house.said(EventKind.STARTED, name)]
    assert len(started) == 2
    assert not any(alive(pid) for pid in started)


def test_the_preferred_port_is_given_when_free_and_another_when_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = free_port(port)
        assert other != port
        assert 0 < other < 65536
    assert free_port(port) == port


def test_wait_http_says_whether_a_server_answers(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz?deep=1" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        assert wait_http(f"{url}/healthz?deep=1", 2)
        assert not wait_http(url, 0)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not wait_http(url, 0.1)
