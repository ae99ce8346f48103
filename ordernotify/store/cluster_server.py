"""Makes a database cluster, and brings its server up, finds it running and takes it down."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from ordernotify.store.cluster_files import last_lines, open_log, poll, sync_folder, write_private
from ordernotify.store.cluster_place import ADVICE, Home, make_socket_folder, remove_socket_folders
from ordernotify.store.cluster_process import (
    ACCEPTING,
    LOCALE,
    PORT,
    SOCKET_FILE,
    ClusterError,
    Postmaster,
    answers,
    count_attached,
    forget_postmaster,
    is_alive,
    process_exists,
    read_postmaster,
    remember,
    remove_shared_memory,
    spawn,
)
from ordernotify.store.cluster_programs import find_programs

Mode = Literal["fast", "immediate", "smart"]

SUPERUSER: Final = "postgres"

_SIGNALS: Final[Mapping[Mode, signal.Signals]] = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "smart": signal.SIGTERM,
}
_ORPHANS_S: Final = 60
_RESTART_S: Final = 60
_STAGING_PREFIX: Final = "pgdata.partial-"

# What makes the server private and traceless; a caller cannot set these.
_FIXED: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    # Shared memory in files of the data folder: a kill leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "log_destination": "stderr",
    "logging_collector": "off",
    # Statements, parameters, and the messages and details of failed ones can hold personal data. An error
    # goes to the client whose it is; the log has what happens to the server (LOG and above, not ERROR).
    "log_statement": "none",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}
_DECIDED_ELSEWHERE: Final = frozenset({"data_directory", "hba_file", "unix_socket_directories"})
_DEFAULTS: Final[Mapping[str, str]] = {
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


def refused_settings(settings: Iterable[str]) -> list[str]:
    """Return those names of settings that this launcher decides, in any of PostgreSQL's spellings."""
    ours = _FIXED.keys() | _DECIDED_ELSEWHERE
    return sorted(name for name in settings if name.lower().replace("-", "_") in ours)


def read_password(home: Home) -> str:
    """Return the superuser's password; ClusterError when its file is missing."""
    try:
        return home.password_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise ClusterError(
            f"{home.password_file} is missing, without which nobody can use {home.pgdata}: bring it back "
            f"from a backup, or name another data folder."
        ) from None


def look(home: Home) -> Postmaster | None:
    """Return the server of a cluster if it runs and takes connections."""
    found = read_postmaster(home.pgdata)
    if found is None or not is_alive(found.pid, home.pgdata) or found.status not in ACCEPTING:
        return None
    return found if found.socket_dir is not None and answers(found.socket_dir) else None


def find_running(home: Home, on_progress: Callable[[str], None]) -> Postmaster | None:
    """Return the server to adopt, once it is ready; None, with the way free for a new one, without one."""
    found = read_postmaster(home.pgdata)
    if found is None:
        return None
    ready = _await_ready(home, found.pid, on_progress)
    if ready is not None:
        if _live_socket_dir(ready) is not None:
            return ready
        on_progress(f"restarting PostgreSQL (process {found.pid}), whose socket has been removed")
        end(home, "fast", timeout_s=_RESTART_S)
        return None
    # With orphans left PostgreSQL's own refusal says the rest. Without, it still refuses when the killed
    # server's id has gone to another program of the same user.
    left = _await_orphans(found, on_progress, timeout_s=_ORPHANS_S)
    if not left and process_exists(found.pid) and not is_alive(found.pid, home.pgdata):
        forget_postmaster(home.pgdata)
    remove_socket_folders(home, found.socket_dir)
    return None


def _live_socket_dir(found: Postmaster) -> Path | None:
    folder = found.socket_dir
    return folder if folder is not None and (folder / SOCKET_FILE).exists() else None


def _await_ready(home: Home, pid: int, on_progress: Callable[[str], None]) -> Postmaster | None:
    """Return the server once it takes connections or has lost its socket; None when its process has ended."""
    for waited, tell in poll():
        if not is_alive(pid, home.pgdata):
            break
        found = read_postmaster(home.pgdata)
        if found is not None and found.pid == pid and found.status in ACCEPTING:
            folder = _live_socket_dir(found)
            if folder is None or answers(folder):
                return found
        if tell:
            on_progress(f"waiting for PostgreSQL ({waited:.0f} s):{last_lines(home.log, count=1)}")
    return None


def _await_orphans(killed: Postmaster, on_progress: Callable[[str], None], *, timeout_s: float) -> int:
    """Wait for the processes that a killed server leaves running; return how many are left in the end."""
    left = 0
    for waited, tell in poll():
        left = count_attached(killed)
        if not left or waited > timeout_s:
            break
        if tell:
            on_progress(f"waiting for {left} processes of a PostgreSQL that was killed ({waited:.0f} s)")
    return left


def launch(
    home: Home, on_progress: Callable[[str], None], settings: Mapping[str, str], *, lifeline: bool
) -> Postmaster:
    """Start the server, on a new cluster if there is none; ClusterError with its last words if it ends."""
    programs = find_programs(home.user, on_progress)
    if not home.pgdata.exists():
        _initialise(home, programs, on_progress)
    read_password(home)
    socket_dir = make_socket_folder(home)
    decided = {**_DEFAULTS, **settings, **_FIXED, "unix_socket_directories": str(socket_dir)}
    options = [part for name, value in decided.items() for part in ("-c", f"{name}={value}")]
    with open_log(home.log) as log:
        begin = log.tell()
        child = spawn(
            [programs / "postgres", "-D", home.pgdata, *options],
            user=home.user,
            output=log,
            dies_with_us=signal.SIGINT if lifeline else None,
        )
    remember(child, home.pgdata)
    try:
        found = _await_ready(home, child.pid, on_progress)
    except BaseException:
        # Interrupted: nobody would know of this server. It recovers at the next start.
        child.send_signal(signal.SIGQUIT)
        child.wait()
        remove_socket_folders(home, socket_dir)
        raise
    if found is None:
        remove_socket_folders(home, socket_dir)
        raise ClusterError(
            f"PostgreSQL ended while starting on {home.pgdata} (exit status {child.returncode}). Its last "
            f"words in {home.log}:{last_lines(home.log, since=begin)}\nCorrect that, or {ADVICE}."
        )
    return found


def _initialise(home: Home, programs: Path, on_progress: Callable[[str], None]) -> None:
    """Make the cluster beside its place and move it there whole, so that a kill leaves nothing half-made."""
    on_progress(f"creating a database cluster in {home.folder}")
    _sweep(home.folder)
    password = secrets.token_urlsafe(32)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=home.folder))
    password_file = staging / "password"
    write_private(password_file, password.encode("ascii"))
    if home.user.switch:
        for path in (password_file, staging):
            os.chown(path, home.user.uid, home.user.gid, follow_symlinks=False)
    with open_log(home.log) as log:
        begin = log.tell()
        child = spawn(
            [
                programs / "initdb",
                f"--pgdata={staging / 'pgdata'}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                f"--locale={LOCALE}",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--data-checksums",
                "--no-instructions",
            ],
            user=home.user,
            output=log,
            dies_with_us=signal.SIGKILL,
        )
    try:
        _await_end(child, on_progress)
        if child.returncode != 0:
            raise ClusterError(
                f"PostgreSQL could not create a cluster in {home.folder} (exit status {child.returncode}). "
                f"Its last words in {home.log}:{last_lines(home.log, since=begin)}\n"
                f"Correct that, or {ADVICE}."
            )
        # The password first: a cluster in place is a cluster that can be used.
        write_private(home.password_file, password.encode("ascii"))
        (staging / "pgdata").rename(home.pgdata)
        sync_folder(home.folder)
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(staging, ignore_errors=True)


def _await_end(child: subprocess.Popen[bytes], on_progress: Callable[[str], None]) -> None:
    for waited, tell in poll():
        if child.poll() is not None:
            break
        if tell:
            on_progress(f"creating a database cluster ({waited:.0f} s)")


def _sweep(folder: Path) -> None:
    # A killed creation may still be at it for a moment: what resists is left to the next time.
    for staging in folder.glob(f"{_STAGING_PREFIX}*"):
        shutil.rmtree(staging, ignore_errors=True)


def delete_cluster(folder: Path) -> None:
    """Delete a cluster whose server is down, and nothing else that may be in the folder."""
    _sweep(folder)
    if (folder / "pgdata").exists():
        shutil.rmtree(folder / "pgdata")
    for name in ("server.log", "server.log.1", "superuser.password"):
        (folder / name).unlink(missing_ok=True)


def end(home: Home, mode: Mode, *, timeout_s: float, only: int | None = None) -> None:
    """Stop the server that runs on a cluster, `only` if it is that process, and remove its socket folder.

    ClusterError when it, or what a kill has left of it, still runs after `timeout_s` seconds.
    """
    found = read_postmaster(home.pgdata)
    if found is not None and is_alive(found.pid, home.pgdata):
        if only not in {None, found.pid}:
            return
        with suppress(ProcessLookupError):
            os.kill(found.pid, _SIGNALS[mode])
        for waited, _ in poll():
            if not is_alive(found.pid, home.pgdata):
                break
            if waited > timeout_s:
                raise ClusterError(
                    f"PostgreSQL (process {found.pid}) on {home.folder} has not stopped in {waited:.0f} s. "
                    f"Its last words:{last_lines(home.log)}\n"
                    f"Stop its clients, or stop it with mode 'immediate'."
                )
    if found is not None:
        # It may have been killed, before or while it was to stop: then others clean up after it.
        if left := _await_orphans(found, lambda _: None, timeout_s=timeout_s):
            raise ClusterError(
                f"PostgreSQL on {home.folder} was killed, and {left} of its processes still run after "
                f"{timeout_s:.0f} s: end them, or wait for what they do, and try again."
            )
        remove_shared_memory(found, home.user)
    remove_socket_folders(home, found.socket_dir if found else None)
