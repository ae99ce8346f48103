"""Starts the programs of the embedded PostgreSQL, and tells whether a server lives on a data folder."""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

LOCALE: Final = "C.UTF-8" if sys.platform == "linux" else "C"
PORT: Final = 5432
SOCKET_FILE: Final = f".s.PGSQL.{PORT}"
ACCEPTING: Final = frozenset({"ready", "standby"})

_PID_FILE: Final = "postmaster.pid"
_SOCKET_LINE, _MEMORY_LINE, _STATUS_LINE = 4, 6, 7
_PR_SET_PDEATHSIG: Final = 1
_ANSWER_S: Final = 5
# Length and code of the one question that a server answers before it knows who asks.
_SSL_REQUEST: Final = struct.pack(">ii", 8, 80877103)
_ENVIRONMENT: Final = {"LC_ALL": LOCALE, "TZ": "UTC", "PATH": "/usr/local/bin:/usr/bin:/bin"}

_children: dict[int, tuple[subprocess.Popen[bytes], Path]] = {}
if sys.platform != "win32":
    # A forked copy of this process is not the parent of these servers: waiting for them there would lie.
    os.register_at_fork(after_in_child=_children.clear)


class ClusterError(Exception):
    """The embedded server could not do what was asked; the message says what failed and what to do."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The operating-system user that runs the server; `switch` when that is not the one running now."""

    uid: int
    gid: int
    switch: bool


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What the server wrote about itself into its data folder."""

    pid: int
    socket_dir: Path | None
    shared_memory: tuple[int, int] | None
    status: str


def spawn(
    arguments: Sequence[str | Path],
    *,
    user: ServerUser,
    output: IO[bytes] | int,
    dies_with_us: signal.Signals | None,
) -> subprocess.Popen[bytes]:
    """Start a program as `user`, in a session and an environment of its own, with nothing to read.

    `dies_with_us` is the signal it gets when the calling thread ends, however that ends (Linux; elsewhere
    none comes). OSError when it cannot be started.
    """
    # Python changes the user before it calls preexec_fn, and Linux forgets the death signal at a change of
    # user: only in this order does it hold.
    arm = _death_signal(dies_with_us) if dies_with_us and sys.platform == "linux" else None
    try:
        return subprocess.Popen(  # noqa: S603 -- the programs are the wheel's, the arguments a list
            [os.fspath(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
            user=user.uid if user.switch else None,
            group=user.gid if user.switch else None,
            # Not an empty list: with that, Python 3.12.0 keeps root's groups.
            extra_groups=[user.gid] if user.switch else None,
            preexec_fn=arm,  # noqa: PLW1509 -- it makes system calls only: no import, no lock
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"{arguments[0]} could not be prepared: {error}") from error


def _death_signal(number: signal.Signals) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl
    parent, wanted = os.getpid(), ctypes.c_ulong(number)

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, wanted)
        # The parent may have died before the call above, and then no signal would ever come.
        if os.getppid() != parent:
            os._exit(1)

    return arm


def remember(child: subprocess.Popen[bytes], pgdata: Path) -> None:
    """Keep a server that we started on `pgdata`, so that its end is noticed and collected."""
    _children[child.pid] = (child, pgdata)


def is_ours(pid: int) -> bool:
    """Whether this process started that server."""
    return pid in _children


def read_postmaster(pgdata: Path) -> Postmaster | None:
    """Read the server's pid file; None when there is none, or not enough of it yet."""
    try:
        lines = os.fsdecode((pgdata / _PID_FILE).read_bytes()).split("\n")
    except FileNotFoundError:
        return None
    if not lines[0].strip().isdigit():
        return None
    lines += [""] * (_STATUS_LINE + 1 - len(lines))
    socket_dir, memory = lines[_SOCKET_LINE].strip(), lines[_MEMORY_LINE].split()
    return Postmaster(
        pid=int(lines[0]),
        socket_dir=Path(socket_dir) if socket_dir else None,
        shared_memory=_segment(memory[0], memory[1]) if memory[1:] else None,
        status=lines[_STATUS_LINE].strip(),
    )


def _segment(key: str, number: str) -> tuple[int, int]:
    # PostgreSQL writes the key as unsigned long, the kernel as signed int.
    return int(key) % 2**32, int(number)


def is_alive(pid: int, pgdata: Path) -> bool:
    """Whether that process runs, and is a PostgreSQL server started on `pgdata`."""
    child, place = _children.get(pid, (None, None))
    if child is not None and child.poll() is not None:
        del _children[pid]
    elif place == pgdata:
        # Not by its command, which the kernel shows empty while it replaces one program by the next.
        return True
    if sys.platform != "linux":
        command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
        listing = subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603 -- only a number varies
        return b"postgres" in listing and os.fsencode(pgdata) in listing
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return Path(os.fsdecode(arguments[0])).name == "postgres" and os.fsencode(pgdata) in arguments


def process_exists(pid: int) -> bool:
    """Whether any process has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def count_attached(postmaster: Postmaster) -> int:
    """Count that server's processes, orphans included, by the memory they share (Linux; elsewhere 0)."""
    segment = _find_segment(postmaster)
    return int(segment["nattch"]) if segment else 0


def _find_segment(postmaster: Postmaster) -> dict[str, str] | None:
    # Root reads this table without the right to trace, which containers withhold, unlike /proc/PID/cwd.
    try:
        names, *rows = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    segments = (dict(zip(names.split(), row.split(), strict=False)) for row in rows)
    return next((each for each in segments if _segment(each["key"], each["shmid"]) == postmaster.shared_memory), None)


def remove_shared_memory(killed: Postmaster, user: ServerUser) -> None:
    """Give back the shared memory that a killed server has left to the system, if nobody uses it (Linux)."""
    segment = _find_segment(killed)
    if not segment or segment["nattch"] != "0" or segment["uid"] != str(user.uid):
        return
    # As the server's user: root may not, in a container. Without the program 56 bytes wait for the next start.
    with suppress(FileNotFoundError):
        command = ["/usr/bin/ipcrm", "--shmem-id", segment["shmid"]]
        spawn(command, user=user, output=subprocess.DEVNULL, dies_with_us=None).wait()


def answers(socket_dir: Path) -> bool:
    """Whether a server is at the socket and takes connections: one that is being killed looks alive a while.

    Waits for the answer up to five seconds.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_S)
        try:
            connection.connect(os.fspath(socket_dir / SOCKET_FILE))
            connection.sendall(_SSL_REQUEST)
            return connection.recv(1) in {b"N", b"S"}
        except OSError:
            return False


def forget_postmaster(pgdata: Path) -> None:
    """Remove the pid file of a server that has no process left."""
    (pgdata / _PID_FILE).unlink(missing_ok=True)
