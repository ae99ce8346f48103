"""Makes folders and files that no other user of the machine can plant, read or swap."""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from ordernotify.store.cluster_process import ClusterError, ServerUser

if sys.platform != "win32":
    import fcntl

PRIVATE: Final = 0o700
PASSABLE: Final = 0o711
READABLE: Final = 0o755
SPARE_NAMES: Final = ("", "-1", "-2", "-3")

_LOCK_FILE: Final = "cluster.lock"
_LOG_BYTES: Final = 10 * 1024 * 1024
_TAIL_BYTES: Final = 4096
_POLL_S: Final = 0.02


def ourselves() -> ServerUser:
    """Return the user of this process."""
    return ServerUser(os.geteuid(), os.getegid(), switch=False)


def blocked_at(path: Path, user: ServerUser) -> Path | None:
    """Return the first folder on a real path that `user` cannot pass through; None when it reaches the end.

    Only answered for another user, by root: an ordinary user finds out by trying.
    """
    if not user.switch:
        return None
    for folder in (*reversed(path.parents), path):
        status = folder.stat()
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
        if not status.st_mode >> shift & 1:
            return folder
    return None


def claim(base: Path, name: str, *, user: ServerUser, mode: int) -> Path | None:
    """Make `base/name`, or a spare name, for `user` alone; None when `base` or all the names are others'.

    `base` may be open to everybody: a folder that exists counts as ours only by its owner and mode.
    """
    if not _is_trusted(base):
        return None
    for spare in SPARE_NAMES:
        folder = base / f"{name}{spare}"
        try:
            folder.mkdir(PRIVATE)
        except FileExistsError:
            pass  # looked at below, like a new one
        except OSError:
            return None
        status = folder.lstat()
        bits = stat.S_IMODE(status.st_mode)
        if not stat.S_ISDIR(status.st_mode):
            continue
        # Made by ourselves, maybe by a start that was killed half-way: nobody else could swap it, so it is
        # safe to complete.
        if status.st_uid == os.geteuid() and not bits & ~mode:
            if user.switch:
                os.chown(folder, user.uid, user.gid, follow_symlinks=False)
            folder.chmod(mode)
            return folder
        if status.st_uid == user.uid and bits == mode:
            return folder
    return None


def _is_trusted(base: Path) -> bool:
    try:
        status = base.stat()
    except OSError:
        return False
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid in {0, os.geteuid()}
        and (not shared or bool(status.st_mode & stat.S_ISVTX))
    )


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only we can read, durably, and whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(_open(draft, os.O_WRONLY | os.O_EXCL), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def open_log(path: Path) -> IO[bytes]:
    """Open a log to append to, having put it aside (one generation) when it is over 10 MiB."""
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.fdopen(_open(path, os.O_WRONLY | os.O_APPEND), "ab")


def last_lines(path: Path, *, since: int = 0, count: int = 8) -> str:
    """Return the last lines of a log, none from before the byte `since`, each after a line break."""
    try:
        with path.open("rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ""
    return "".join(f"\n  {line}" for line in lines[-count:])


def poll() -> Iterator[tuple[float, bool]]:
    """Yield at once and every 20 ms the seconds waited, and once a second that it is time to tell."""
    begun, told = time.monotonic(), 0
    while True:
        waited = time.monotonic() - begun
        yield waited, waited >= told + 1
        told = int(waited)
        time.sleep(_POLL_S)


@contextmanager
def locked(folder: Path, on_progress: Callable[[str], None], *, timeout_s: float = float("inf")) -> Iterator[None]:
    """Hold the folder's lock, waiting for the process that has it and telling so every second.

    ClusterError after `timeout_s` seconds. The lock ends with the process, even when it is killed.
    """
    handle = _open(folder / _LOCK_FILE, os.O_RDWR)
    try:
        for waited, tell in poll():
            if _try_lock(handle):
                break
            if waited > timeout_s:
                raise ClusterError(
                    f"Another process has been starting or stopping PostgreSQL in {folder} for "
                    f"{waited:.0f} s: wait for it, or end it, and try again."
                )
            if tell:
                on_progress(f"another process is starting or stopping PostgreSQL in {folder} ({waited:.0f} s)")
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
