"""Starts, recognises and signals processes, so that none outlives its supervisor and no stranger is hit."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

LOG_BYTES: Final = 5_000_000
MARK: Final = "ORDERNOTIFY_SUPERVISED_BY"  # in the environment of every child and of what it starts

_LINUX: Final[bool] = sys.platform == "linux"
_TAIL_BYTES: Final = 8_000
_START_TIME: Final = 19  # field 22 of /proc/<pid>/stat, counted after the name
_STATE: Final = 0

# Run between fork and the child's program: arms the death signal, then becomes the program. A function run
# in the forked copy of a process with threads may deadlock there; a fresh interpreter cannot.
_LIFELINE: Final = """
import ctypes, os, sys
parent, number, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(int(number)))
if os.getppid() != int(parent):
    sys.exit(1)
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"{command[0]}: {error.strerror}")
"""


def spawn(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, with its output in ``log`` (mode 0600, rotated when large).

    On Linux it gets SIGTERM when the calling *thread* ends, however that ends. Raises OSError when it cannot
    be started; on Linux a program that does not exist is a child that says so in its log and ends.
    """
    if _LINUX:
        lifeline = [sys.executable, "-I", "-S", "-c", _LIFELINE, str(os.getpid()), str(int(signal.SIGTERM))]
        command = [*lifeline, *command]
    output = _open_log(log)
    try:
        return subprocess.Popen(  # noqa: S603 - commands come from our own code, as a list
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    finally:
        os.close(output)


def _open_log(log: Path) -> int:
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(output, 0o600)
    return output


def last_lines(log: Path, count: int) -> str:
    """Return the last ``count`` lines of a log, '' where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-count:])


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a child has ended, and end what it left in its process group."""
    if process.returncode is not None:
        return True
    if hasattr(os, "waitid"):
        # Not collected yet, its number cannot belong to anybody else: only now is the group surely its own.
        try:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            signal_group(process.pid, signal.SIGKILL)
        except ChildProcessError:
            pass  # collected by somebody else, as happens where SIGCHLD is ignored
        process.wait()
        return True
    if process.poll() is None:
        return False
    signal_group(process.pid, signal.SIGKILL)
    return True


def signal_group(leader: int, number: signal.Signals) -> None:
    """Signal a process group; one that is gone already is no error."""
    try:
        os.killpg(leader, number)
    except OSError as error:
        # macOS answers EPERM for a group in which only the uncollected leader is left.
        if error.errno not in {errno.ESRCH, errno.EPERM}:
            raise


def start_of(pid: int) -> str:
    """Return when a process started, in words that no other process of that number has; '' without it."""
    if _LINUX:
        fields = _stat(pid)
        return f"{_boot()} {fields[_START_TIME]}" if fields and fields[_STATE] != "Z" else ""
    listing = subprocess.run(  # noqa: S603 - fixed but for a number
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.strip()


def marked(mark: str) -> list[int]:
    """Return the processes whose environment carries ``mark``, grandchildren included (Linux; else none)."""
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*") if _LINUX else ():
        # What belongs to somebody else or has just ended cannot be read, and is not ours.
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name, in parentheses, may itself hold spaces and parentheses.
    return text.rpartition(")")[2].split()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
