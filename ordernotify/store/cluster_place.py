"""Decides which user runs the embedded PostgreSQL, and where that user finds its data and its socket."""

import hashlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ordernotify.store.cluster_files import (
    PASSABLE,
    PRIVATE,
    SPARE_NAMES,
    blocked_at,
    claim,
    ourselves,
    write_private,
)
from ordernotify.store.cluster_process import SOCKET_FILE, ClusterError, ServerUser

if sys.platform != "win32":
    import pwd

ADVICE: Final = "set ORDERNOTIFY_DATABASE_URL to use a PostgreSQL server of your own"
WHERE_FILE: Final = "WHERE.txt"
SERVER_USERS: Final = ("nobody", "daemon", "postgres")

# The rule of `claim` holds for every folder made in it.
SHARED: Final = Path("/var/tmp")  # noqa: S108 -- see above
# macOS allows 104 bytes for a socket's path, Linux 108, both with the closing zero.
_LONGEST_SOCKET: Final = 103
_SOCKET_PREFIX: Final = "ordernotify-pg-"
# What needs no quoting in a URL, in a list of hosts or in PostgreSQL's list of socket folders.
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_./+-]+")


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds a cluster, and the user its server runs as."""

    folder: Path
    user: ServerUser

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's own data folder."""
        return self.folder / "pgdata"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "server.log"

    @property
    def password_file(self) -> Path:
        """The superuser's password."""
        return self.folder / "superuser.password"


def find_server_user() -> ServerUser | None:
    """Return who is to run a new server: ourselves, or as root an unprivileged user; None without one."""
    if os.geteuid() != 0:
        return ourselves()
    for name in SERVER_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServerUser(entry.pw_uid, entry.pw_gid, switch=True)
    return None


def own_folder(data_dir: Path) -> Path:
    """Make the requested data folder if need be and return its real path; ClusterError if not safely ours."""
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        data_dir.mkdir(PRIVATE)
        # The server of root is another user, who must pass through; what is inside is closed by itself.
        data_dir.chmod(PASSABLE if os.geteuid() == 0 else PRIVATE)
    folder = data_dir.resolve()
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise ClusterError(f"The data folder {folder} is not a folder: name another one, or {ADVICE}.")
    if status.st_uid != os.geteuid():
        raise ClusterError(
            f"The data folder {folder} belongs to user {status.st_uid}, and this is user {os.geteuid()}: "
            f"run as its owner, name another folder, or {ADVICE}."
        )
    if status.st_mode & stat.S_IWOTH:
        raise ClusterError(
            f"Everybody can write to the data folder {folder}: name one that only you can write to, or {ADVICE}."
        )
    return folder


def find_home(folder: Path) -> Home | None:
    """Return where the cluster asked for in `folder` is; None if it was never made, or is gone."""
    place = recorded_place(folder) or folder
    try:
        owner = (place / "pgdata").stat()
    except FileNotFoundError:
        return None
    if os.geteuid() != 0:
        return Home(place, ourselves())
    if owner.st_uid == 0:
        raise ClusterError(
            f"{place}/pgdata belongs to root, as whom PostgreSQL refuses to run: give it to another user, or {ADVICE}."
        )
    return Home(place, ServerUser(owner.st_uid, owner.st_gid, switch=True))


def settle(folder: Path, on_progress: Callable[[str], None]) -> Home:
    """Return where the cluster is or is to be, having made that folder; tells when it is elsewhere."""
    home = find_home(folder)
    if home is not None:
        if (blocked := blocked_at(home.folder, home.user)) is not None:
            raise ClusterError(
                f"User {home.user.uid}, who owns the data in {home.folder}, cannot pass through {blocked}: "
                f"move the data folder to where that user can reach it, or {ADVICE}."
            )
        return home
    user = find_server_user()
    if user is None:
        raise ClusterError(no_server_user())
    recorded = recorded_place(folder)
    if recorded is None:
        blocked = blocked_at(folder, user)
        return Home(folder if blocked is None else _relocate(folder, user, blocked, on_progress), user)
    if not recorded.is_dir():
        raise ClusterError(
            f"{folder / WHERE_FILE} says that the data is in {recorded}, which is gone: bring it back from a "
            f"backup, or delete that file to begin with an empty database."
        )
    return Home(recorded, user)


def no_server_user() -> str:
    """Say that root finds no user to run the server, and what to do."""
    return (
        f"PostgreSQL does not run as root, and none of the users {', '.join(SERVER_USERS)} exists: "
        f"run as an ordinary user, or {ADVICE}."
    )


def recorded_place(folder: Path) -> Path | None:
    """Return the folder that `WHERE.txt` names; None without that file, ClusterError if it is not ours."""
    try:
        lines = (folder / WHERE_FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return None
    place = Path(os.fsdecode(lines[-1] if lines else b""))
    if place.parent != SHARED:
        raise ClusterError(f"The last line of {folder / WHERE_FILE} must name a folder in {SHARED}.")
    try:
        status = place.lstat()
    except FileNotFoundError:
        return place
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise ClusterError(
            f"{place}, which {folder / WHERE_FILE} names, is not a folder that only user {os.geteuid()} "
            f"can change, so it is not used: find out who made it, or {ADVICE}."
        )
    return place


def _relocate(folder: Path, user: ServerUser, blocked: Path, on_progress: Callable[[str], None]) -> Path:
    name = f"ordernotify-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    place = claim(SHARED, name, user=ourselves(), mode=PASSABLE)
    if place is None:
        raise ClusterError(f"No folder {SHARED}/{name} of our own could be made: free that name, or {ADVICE}.")
    write_private(
        folder / WHERE_FILE,
        b"The user who runs PostgreSQL cannot reach this folder. The data is in\n" + os.fsencode(place) + b"\n",
    )
    on_progress(
        f"PostgreSQL does not run as root, and user {user.uid}, who runs it, cannot pass through {blocked}: "
        f"the data is in {place} (a system that cleans {SHARED} by age may remove it while it is not in use)"
    )
    return place


def make_socket_folder(home: Home) -> Path:
    """Make the private folder of the server's socket, short and plain whatever the data folder is called."""
    for folder in _socket_folders(home):
        base = folder.parent
        longest = folder.with_name(f"{folder.name}{SPARE_NAMES[-1]}") / SOCKET_FILE
        if not _PLAIN_PATH.fullmatch(str(base)) or len(os.fsencode(longest)) > _LONGEST_SOCKET:
            continue
        if not base.is_dir() or blocked_at(base.resolve(), home.user) is not None:
            continue
        claimed = claim(base, folder.name, user=home.user, mode=PRIVATE)
        if claimed is not None:
            return claimed
    tried = ", ".join(str(folder.parent) for folder in _socket_folders(home))
    raise ClusterError(
        f"No private folder for the server's socket could be made in {tried}: make one of them writable, or {ADVICE}."
    )


def _socket_folders(home: Home) -> Iterator[Path]:
    digest = hashlib.sha256(os.fsencode(home.folder)).hexdigest()[:12]
    # XDG_RUNTIME_DIR is not the first choice: it disappears when its user logs out.
    bases = ("/tmp", tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), SHARED)  # noqa: S108 -- `claim` verifies
    for base in dict.fromkeys(Path(base) for base in bases if base):
        yield base / f"{_SOCKET_PREFIX}{digest}-{home.user.uid}"


def remove_socket_folders(home: Home, used: Path | None) -> None:
    """Remove the socket folders of a server that is down, `used` included, with all that is in them."""
    named = (folder.with_name(f"{folder.name}{spare}") for folder in _socket_folders(home) for spare in SPARE_NAMES)
    for folder in (*named, *([used] if used and used.name.startswith(_SOCKET_PREFIX) else [])):
        # What is not as we make it belongs to somebody else, who may keep it.
        with suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid in {home.user.uid, os.geteuid()}:
                for name in (SOCKET_FILE, f"{SOCKET_FILE}.lock"):
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()
