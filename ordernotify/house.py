"""The house: every process of one machine, started in order, kept alive, and stopped together."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ordernotify.settings import PREFIX, Settings
from ordernotify.store import cluster, setup
from ordernotify.store.place import write_urls
from ordernotify.store.setup import Urls
from ordernotify.supervisor import Child, Event, EventKind, Supervisor, free_port, stop_survivors, wait_http
from ordernotify.worker import server

_SLOW_START_S = 180.0
_DEATHS_AT_START = 4


class HouseError(Exception):
    """The house could not be started; the message says which part, and where its log is."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a running house are reached."""

    web: str
    prefect: str
    sandbox: str = ""


def checkout() -> Path:
    """Return the folder with ``prefect.yaml`` and the flows: where we stand, or around the package.

    Raises HouseError outside a checkout.
    """
    for folder in (Path.cwd(), Path(__file__).resolve().parent.parent):
        if (folder / "prefect.yaml").is_file():
            return folder
    raise HouseError(
        "there is no prefect.yaml here: start the house from a checkout, which has the flows and deployments"
    )


@dataclass(slots=True)
class House:
    """One machine's processes: PostgreSQL, Prefect's server, worker, web app, and the sandbox where wanted."""

    settings: Settings
    say: Callable[[str], None]
    with_sandbox: bool = False
    extra_environment: Mapping[str, str] = field(default_factory=dict)
    addresses: Addresses = field(init=False)
    urls: Urls = field(init=False)
    _state: Path = field(init=False)
    _database: Supervisor | None = field(init=False, default=None)
    _services: Supervisor | None = field(init=False, default=None)
    _deaths: Counter[str] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        self._state = self.settings.state_dir.absolute()

    def start(self) -> None:
        """Start everything and return when every part is ready. Call it from the main thread.

        Raises HouseError naming the part that did not come up; what had started is stopped again.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        root = checkout()
        for folder in (self._state, self._state / "logs", self._state / "keys", self._state / "prefect"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        admin_url = self._admin_url()
        self.say("preparing the database")
        self.urls = setup.prepare_now(admin_url, passwords_dir=self._state / "keys")
        write_urls(self._state, self.urls)
        ports = {
            "web": free_port(self.settings.port),
            "prefect": free_port(self.settings.prefect_port),
            "sandbox": free_port(self.settings.sandbox_port),
        }
        self.addresses = Addresses(
            web=f"http://{self.settings.host}:{ports['web']}",
            prefect=f"http://{server.HOST}:{ports['prefect']}",
            sandbox=f"http://127.0.0.1:{ports['sandbox']}" if self.with_sandbox else "",
        )
        self.say("starting Prefect's server, worker and web app")
        self._services = Supervisor(
            self._children(root, ports), state_dir=self._state / "services", on_event=self._tell
        )
        self._services.start()
        self._wait_for(self._services)

    def _wait_for(self, supervisor: Supervisor) -> None:
        """Wait until every part is ready; a part that keeps dying will not become so by waiting."""
        deadline = time.monotonic() + _SLOW_START_S
        while not supervisor.wait_ready(0.5):
            late = ", ".join(supervisor.unready())
            where = f"see {self._state / 'logs'}"
            hopeless = [name for name, times in self._deaths.items() if times >= _DEATHS_AT_START]
            if hopeless:
                raise HouseError(f"{', '.join(hopeless)} died {_DEATHS_AT_START} times while starting; {where}")
            if time.monotonic() > deadline:
                raise HouseError(f"not ready after {_SLOW_START_S:.0f} s: {late}; {where}")

    def run(self, until: threading.Event | None = None) -> None:
        """Keep everything alive until Ctrl-C, SIGTERM or ``until``, then stop it."""
        if self._services is None:
            raise HouseError("start() comes before run()")
        try:
            self._services.run(until=until)
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop everything: services first, so that they can hand back what is in flight, then the database."""
        for supervisor in (self._services, self._database):
            if supervisor is not None:
                supervisor.stop()
        self._services = self._database = None

    def forget(self) -> None:
        """Remove the house's folder with its database and keys; only for houses made to be thrown away.

        What a killed predecessor left running in that folder is stopped first.
        """
        self.stop()
        for name in ("services", "database-guard"):
            folder = self._state / name
            if folder.is_dir():
                stop_survivors(folder)
        if cluster.available() is None:
            cluster.destroy(self._state / "database")
        shutil.rmtree(self._state, ignore_errors=True)

    def pids(self) -> dict[str, int]:
        """Return the process of every part."""
        found: dict[str, int] = {}
        for supervisor in (self._database, self._services):
            if supervisor is not None:
                found |= supervisor.pids()
        if self.settings.database_url is None and (running := cluster.status(self._state / "database")):
            found["postgres"] = running.pid
        return found

    def _admin_url(self) -> str:
        if self.settings.database_url is not None:
            return self.settings.database_url.get_secret_value()
        reason = cluster.available()
        if reason is not None:
            raise HouseError(reason)
        folder = self._state / "database"
        self._database = Supervisor(
            [
                Child(
                    name="database",
                    command=(sys.executable, "-m", "ordernotify.store.guard", str(folder)),
                    log=self._state / "logs" / "database.log",
                    environment=dict(os.environ),
                    ready=lambda: cluster.status(folder) is not None,
                    grace_s=60.0,
                )
            ],
            state_dir=self._state / "database-guard",
            on_event=self._tell,
        )
        self.say("starting PostgreSQL")
        self._database.start()
        self._wait_for(self._database)
        running = cluster.status(folder)
        if running is None:
            raise HouseError(f"PostgreSQL ended again; see {self._state / 'logs' / 'database.log'}")
        return running.url("postgres")

    def _children(self, root: Path, ports: Mapping[str, int]) -> list[Child]:
        auth = f"ordernotify:{_kept_secret(self._state / 'keys' / 'prefect.password')}"
        api_url = server.api_url(ports["prefect"])
        prefect_home = self._state / "prefect"
        server_environment = server.over(
            os.environ,
            server.server_environment(
                database_url=self.urls.prefect,
                home=prefect_home,
                port=ports["prefect"],
                auth=auth,
                encryption_key=_kept_fernet_key(self._state / "keys" / "prefect.fernet"),
            ),
        )
        sandbox_environment: dict[str, str] = {}
        children = [
            Child(
                name="prefect",
                command=server.server_command(ports["prefect"]),
                log=self._log("prefect"),
                environment=server_environment,
                ready=lambda: server.ready(api_url, auth),
            )
        ]
        if self.with_sandbox:
            from ordernotify.sandbox import app as sandbox  # noqa: PLC0415 - only a demo needs the vendors

            sandbox_environment = sandbox.environment(self.addresses.sandbox)
            children.append(
                Child(
                    name="sandbox",
                    command=(
                        sys.executable,
                        "-m",
                        "ordernotify.sandbox",
                        "--port",
                        str(ports["sandbox"]),
                    ),
                    log=self._log("sandbox"),
                    environment=dict(os.environ),
                    ready=lambda: wait_http(f"{self.addresses.sandbox}/healthz", 0),
                )
            )
        ready_file = self._state / "worker.ready"
        ready_file.unlink(missing_ok=True)
        ours = self._environment(ports) | sandbox_environment | dict(self.extra_environment)
        client = server.client_environment(api_url=api_url, auth=auth, home=prefect_home)
        environment = server.over(os.environ, ours | client)
        children.append(
            Child(
                name="web",
                command=(sys.executable, "-m", "ordernotify.web.process"),
                log=self._log("web"),
                environment=environment,
                ready=lambda: wait_http(f"{self.addresses.web}/readyz", 0),
            )
        )
        children.append(
            Child(
                name="worker",
                command=(sys.executable, "-m", "ordernotify.worker.process"),
                log=self._log("worker"),
                environment=environment
                | {"ORDERNOTIFY_READY_FILE": str(ready_file), "ORDERNOTIFY_CHECKOUT": str(root)},
                ready=ready_file.exists,
                grace_s=40.0,
                after=("prefect",),
            )
        )
        return children

    def _environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        return {
            f"{PREFIX}STATE_DIR": str(self._state),
            f"{PREFIX}APP_URL": self.urls.app,
            f"{PREFIX}SEALER_URL": self.urls.sealer,
            f"{PREFIX}READER_URL": self.urls.reader,
            f"{PREFIX}HOST": self.settings.host,
            f"{PREFIX}PORT": str(ports["web"]),
            f"{PREFIX}PUBLIC_URL": self.settings.public_url or self.addresses.web,
        }

    def _log(self, name: str) -> Path:
        return self._state / "logs" / f"{name}.log"

    def _tell(self, event: Event) -> None:
        if event.kind is EventKind.DIED:
            self._deaths[event.child] += 1
        if event.kind.value not in {"started", "ready", "stopped"}:
            self.say(f"{event.child}: {event.kind.value} {event.detail}".rstrip())


def _kept_secret(path: Path) -> str:
    return _kept(path, lambda: secrets.token_urlsafe(32))


def _kept_fernet_key(path: Path) -> str:
    return _kept(path, lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii"))


def _kept(path: Path, draw: Callable[[], str]) -> str:
    """Return the secret kept in ``path``, drawn on the first call (mode 0600)."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii").strip()
    with os.fdopen(handle, "w", encoding="ascii") as file:
        secret = draw()
        file.write(secret)
    return secret
