"""Keeps a family of processes alive: starts them in order, restarts what dies, leaves none behind."""

from ordernotify.supervisor._child import Backoff, Child, Event, EventKind
from ordernotify.supervisor._ports import free_port, wait_http
from ordernotify.supervisor._state import AlreadyRunningError, stop_survivors
from ordernotify.supervisor._supervisor import Supervisor

__all__ = [
    "AlreadyRunningError",
    "Backoff",
    "Child",
    "Event",
    "EventKind",
    "Supervisor",
    "free_port",
    "stop_survivors",
    "wait_http",
]
