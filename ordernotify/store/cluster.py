"""Runs the PostgreSQL server that comes with the product, for whoever has not set a database URL.

Layout of a data folder: `pgdata/`, `server.log`, `superuser.password`, `cluster.lock`; or, where root asks
for a folder that the server's user cannot reach, a `WHERE.txt` that names the folder with the first three.
The server is reached only by a socket in a private folder, and only with a password.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, urlencode

from ordernotify.store.cluster_files import locked
from ordernotify.store.cluster_place import (
    ADVICE,
    WHERE_FILE,
    Home,
    find_home,
    find_server_user,
    no_server_user,
    own_folder,
    recorded_place,
    settle,
)
from ordernotify.store.cluster_process import PORT, ClusterError, Postmaster, is_ours
from ordernotify.store.cluster_programs import find_wheel, no_wheel
from ordernotify.store.cluster_server import (
    SUPERUSER,
    Mode,
    delete_cluster,
    end,
    find_running,
    launch,
    look,
    read_password,
    refused_settings,
)

__all__ = ["Cluster", "ClusterError", "available", "destroy", "start", "status", "stop"]

_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})
_DESTROY_S: Final = 60


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server.

    `data_dir` is the folder asked for, `home` where its data really is; `owned` when this process started it,
    and so may stop it.
    """

    data_dir: Path
    home: Path
    socket_dir: Path
    superuser_password: str = field(repr=False)
    pid: int
    owned: bool

    def url(
        self,
        database: str,
        *,
        user: str = SUPERUSER,
        password: str | None = None,
        driver: str = "postgresql+asyncpg",
    ) -> str:
        """Return SQLAlchemy's URL of a database; the superuser's password is filled in, others' are not."""
        if password is None and user == SUPERUSER:
            password = self.superuser_password
        login = quote(user, safe="") + ("" if password is None else f":{quote(password, safe='')}")
        # The port names the socket; without it PGPORT of the environment would.
        where = urlencode({"host": str(self.socket_dir), "port": PORT}, quote_via=quote)
        return f"{driver}://{login}@/{quote(database, safe='')}?{where}"

    def dsn(self, database: str, *, user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the same for asyncpg itself, and for psql."""
        return self.url(database, user=user, password=password, driver="postgresql")


def _ignore(_: str) -> None:
    """Take progress that nobody asked for."""


def available() -> str | None:
    """Say why the embedded server cannot be used here, and what to do; None when it can."""
    if sys.platform not in {"linux", "darwin"}:
        return f"The embedded PostgreSQL runs on Linux and macOS, not on {sys.platform}: {ADVICE}."
    if find_wheel() is None:
        return no_wheel()
    return no_server_user() if find_server_user() is None else None


def start(
    data_dir: Path,
    *,
    on_progress: Callable[[str], None] = _ignore,
    settings: Mapping[str, str] = _NO_SETTINGS,
    lifeline: bool = True,
) -> Cluster:
    """Start the server of a data folder, made if need be, or adopt the one that already runs on it.

    Waits as long as crash recovery takes, telling `on_progress` every second. `settings` are PostgreSQL's and
    have no effect on an adopted server. With `lifeline` (Linux) the server shuts down when this process ends,
    even when killed. Linux ties that to the *thread* that calls: call from one that lives as long as the
    process. ClusterError when there is no server in the end.
    """
    if reason := available():
        raise ClusterError(reason)
    if refused := refused_settings(settings):
        raise ClusterError(f"These settings are not for the caller to change: {', '.join(refused)}.")
    with _explained(data_dir, "started"):
        folder = own_folder(data_dir)
        with locked(folder, on_progress):
            home = settle(folder, on_progress)
            found = find_running(home, on_progress)
            if found is not None:
                on_progress(f"using the PostgreSQL that already runs on {home.folder} (process {found.pid})")
                return _as_cluster(folder, home, found, owned=False)
            found = launch(home, on_progress, settings, lifeline=lifeline)
            return _as_cluster(folder, home, found, owned=True)


def status(data_dir: Path) -> Cluster | None:
    """Return the server that runs on a data folder and takes connections; None when there is none."""
    with _explained(data_dir, "looked at"):
        folder = data_dir.resolve()
        home = find_home(folder) if folder.is_dir() else None
        found = look(home) if home else None
        if home is None or found is None:
            return None
        return _as_cluster(folder, home, found, owned=is_ours(found.pid))


def stop(
    cluster_or_data_dir: Cluster | Path,
    *,
    mode: Mode = "fast",
    timeout_s: float = 60,
) -> None:
    """Stop a server and remove its socket folder; nothing happens when it does not run.

    Of a `Cluster`, only one that we own, and only if it still is that process; of a folder, whatever runs on
    it. The modes are PostgreSQL's: `fast` ends connections, `immediate` leaves a crash recovery to the next
    start, `smart` waits for the clients. ClusterError after `timeout_s` seconds.
    """
    pid = None
    if isinstance(cluster_or_data_dir, Cluster):
        if not cluster_or_data_dir.owned:
            return
        pid = cluster_or_data_dir.pid
        cluster_or_data_dir = cluster_or_data_dir.data_dir
    with _explained(cluster_or_data_dir, "stopped"):
        folder = cluster_or_data_dir.resolve()
        if not folder.is_dir():
            return
        with locked(folder, _ignore, timeout_s=timeout_s):
            home = find_home(folder)
            if home is not None:
                end(home, mode, timeout_s=timeout_s, only=pid)


def destroy(data_dir: Path) -> None:
    """Stop the server and delete its data for good, wherever they are; the folder asked for remains."""
    stop(data_dir, mode="immediate")
    with _explained(data_dir, "deleted"):
        folder = data_dir.resolve()
        if not folder.is_dir():
            return
        with locked(folder, _ignore, timeout_s=_DESTROY_S):
            place = recorded_place(folder)
            if place is None:
                delete_cluster(folder)
            elif place.exists():
                shutil.rmtree(place)
            (folder / WHERE_FILE).unlink(missing_ok=True)


@contextmanager
def _explained(data_dir: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClusterError(
            f"The PostgreSQL of {data_dir} could not be {done}: {error}. Correct that, or {ADVICE}."
        ) from error


def _as_cluster(folder: Path, home: Home, found: Postmaster, *, owned: bool) -> Cluster:
    if found.socket_dir is None:
        raise ClusterError(f"The PostgreSQL on {home.folder} has no socket: stop it and start it again.")
    return Cluster(folder, home.folder, found.socket_dir, read_password(home), found.pid, owned)
