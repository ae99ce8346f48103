"""Prefect's server in one process: `python -m ordernotify.worker.server_main PORT`, settings as environment.

`prefect server start` first loads a command line and then prints advice that is wrong here; this only serves.
"""

from __future__ import annotations

import sys

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings
from sqlalchemy.pool import Pool

from ordernotify.collector import spare_the_collector
from ordernotify.worker.server_times import write_times_plainly


def main() -> None:
    """Serve until told to stop, with every background service that the settings enable."""
    server = get_current_settings().server
    write_times_plainly(Pool)
    app = create_app(final=True)
    spare_the_collector()
    uvicorn.run(
        app,
        host=server.api.host,
        port=int(sys.argv[1]),
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        # Events come from this machine, where packing them costs both ends more than it saves.
        ws_per_message_deflate=False,
        log_level=server.logging_level.lower(),
        access_log=False,
    )


if __name__ == "__main__":
    main()
