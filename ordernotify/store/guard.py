"""A process that keeps the embedded PostgreSQL: starts it, ends when it ends, stops it when told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from ordernotify.store import cluster

_LOOK_EVERY_S = 0.5

# Two databases, one busy worker: what the defaults hold back for a disk that other programs share.
SETTINGS = {
    "max_connections": "120",
    "shared_buffers": "192MB",
    "wal_buffers": "16MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "autovacuum_naptime": "15s",
}


def main(arguments: list[str] | None = None) -> int:
    """Keep the cluster in the folder given as the only argument; exit 1 when it dies, so that one restarts us."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        running = cluster.start(Path(folder), on_progress=_say, settings=SETTINGS)
    except cluster.ClusterError as error:
        _say(str(error))
        return 1
    while not stop.wait(_LOOK_EVERY_S):
        if not _lives(running.pid):
            _say(f"the server (process {running.pid}) is gone")
            return 1
    cluster.stop(Path(folder))
    return 0


def _lives(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        # A dead child stays a zombie until it is waited for, and would answer the signal below.
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
