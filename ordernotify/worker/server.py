"""Prefect's server as a child process: its settings and command, its clients' settings, its readiness."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx

HOST: Final = "127.0.0.1"
MAX_PARAMETER_BYTES: Final = 4096
KEEPALIVE: Final = timedelta(seconds=75)
HISTORY: Final = timedelta(days=90)
WORKER_QUERY: Final = timedelta(seconds=1)
READY_TIMEOUT: Final = timedelta(seconds=2)

# The server writes task runs and events in groups: one transaction each would cost it twice the CPU per run.
_GROUPING: Final[Mapping[str, str]] = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "50",
}

# Ours and Prefect's databases share one cluster of 100 connections; this server takes at most 20 of them.
_POOL: Final[Mapping[str, str]] = {
    "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE": "10",
    "PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW": "10",
}

# Nothing about this installation is told to anybody outside it, by server or client.
_SILENCE: Final[Mapping[str, str]] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_COLORS": "false",
}


def api_url(port: int) -> str:
    """Return the address of Prefect's API on this machine."""
    return f"http://{HOST}:{port}/api"


def server_environment(*, database_url: str, home: Path, port: int, auth: str, encryption_key: str) -> dict[str, str]:
    """Return every setting of the server process, to be laid over a clean environment (see `over`).

    ``database_url`` is SQLAlchemy's (``postgresql+asyncpg://``), ``auth`` is ``user:password`` and
    ``encryption_key`` a Fernet key: without one Prefect would keep its key in the database that it protects.
    """
    return {
        **_GROUPING,
        **_POOL,
        **_SILENCE,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url,
        "PREFECT_SERVER_ENCRYPTION_KEY": encryption_key,
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port}",
        "PREFECT_SERVER_API_KEEPALIVE_TIMEOUT": _seconds(KEEPALIVE),
        "PREFECT_SERVER_API_MAX_PARAMETER_SIZE": str(MAX_PARAMETER_BYTES),
        "PREFECT_SERVER_UI_ENABLED": "true",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # Workers that run in other processes' stead leave infrastructure behind; ours leave none to clean up.
        "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_ENABLED": "false",
        # Run history is the operational record and is kept for a season; the evidence is the ledger.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": _seconds(HISTORY),
    }


def server_command(port: int) -> tuple[str, ...]:
    """Return the command that serves Prefect on ``port`` with the environment of `server_environment`."""
    return (sys.executable, "-m", "ordernotify.worker.server_main", str(port))


def client_environment(*, api_url: str, auth: str, home: Path) -> dict[str, str]:
    """Return the Prefect settings of a process that runs flows or starts runs, to be laid `over` its own.

    They must be in the environment before ``prefect`` is imported, which reads them once.
    """
    return {
        **_SILENCE,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api_url,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        # Server and clients come from one lock file.
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        # Waits of 2, 4, 8 and 16 s: a restart of the server is bridged, and its return is noticed soon.
        "PREFECT_CLIENT_MAX_RETRIES": "4",
        # Log records could carry content; they stay in this process.
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_LOGGING_LOG_PRINTS": "false",
        # What a task returns is stored only where the task says so, and never as a pickle.
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "results"),
        "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
        "PREFECT_WORKER_QUERY_SECONDS": _seconds(WORKER_QUERY),
        # An outage of the server must not fill this process's memory with events about task runs.
        "PREFECT_EVENTS_WORKER_MAX_QUEUE_SIZE": "50000",
    }


def over(environment: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with ``settings`` laid over it and without any other Prefect setting.

    A variable that a person exported for another Prefect must not reach ours.
    """
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT_")} | dict(settings)


def ready(api_url: str, auth: str) -> bool:
    """Return whether the server at ``api_url`` answers, reaches its database and takes our password.

    Another Prefect on the same port answers too, but not to our password. Takes two seconds at most.
    """
    user, _, password = auth.partition(":")
    try:
        with httpx.Client(timeout=READY_TIMEOUT.total_seconds() / 2, auth=(user, password)) as client:
            answers = [client.get(f"{api_url}{question}") for question in ("/ready", "/admin/version")]
    except httpx.TransportError:
        return False
    return all(answer.status_code == httpx.codes.OK for answer in answers)


def _seconds(span: timedelta) -> str:
    return str(int(span.total_seconds()))
