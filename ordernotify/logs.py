"""Logs: one JSON line a fact, with keys from an allow-list, so that no payload can slip in."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# Everything else is dropped, and its name is listed under "dropped": a log line is read by many people.
ALLOWED = frozenset(
    {
        "event", "level", "timestamp", "kind", "what", "batch_id", "event_id", "delivery_id", "flow_run_id",
        "platform", "fields", "reference", "state", "count", "port", "child", "code", "source", "status",
        "exception", "logger",
    }
)  # fmt: skip


def _only_allowed(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    dropped = sorted(set(entry) - ALLOWED)
    for name in dropped:
        del entry[name]
    if dropped:
        entry["dropped"] = dropped
    return entry


def _frames_only(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by where it happened: its text may hold an address or a message."""
    if entry.pop("exc_info", None):
        kind, _, traceback = sys.exc_info()
        frames = []
        while traceback is not None:
            code = traceback.tb_frame.f_code
            frames.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{traceback.tb_lineno} {code.co_name}")
            traceback = traceback.tb_next
        entry["exception"] = [kind.__name__ if kind else "", *frames]
    return entry


def configure_logs(level: int = logging.INFO) -> None:
    """Send our log lines to standard error as JSON, and quiet the libraries that print payloads."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _frames_only,
            _only_allowed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    for name in ("httpx", "httpcore", "python_http_client", "twilio", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)
