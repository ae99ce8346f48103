"""The web process: uvicorn on one loop, our log format, the address the supervisor chose."""

from __future__ import annotations

import sys

import uvicorn

from ordernotify.collector import spare_the_collector
from ordernotify.logs import configure_logs
from ordernotify.settings import settings
from ordernotify.web.app import create_app


def main() -> int:
    """Serve until SIGTERM; requests under way are answered first."""
    configure_logs()
    house = settings()
    app = create_app(house)
    spare_the_collector()
    uvicorn.run(
        app,
        host=house.host,
        port=house.port,
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
        timeout_graceful_shutdown=10,
        server_header=False,
        # The peer's address is evidence: a header that anybody can write is believed only from loopback.
        forwarded_allow_ips="127.0.0.1",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
