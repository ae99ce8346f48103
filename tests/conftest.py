"""What tests share: one PostgreSQL cluster for the whole run, and a database of its own for each test."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from ordernotify.store import cluster, setup
from ordernotify.store.database import Pool, connect
from ordernotify.store.setup import Urls

_FOLDER = "ORDERNOTIFY_TEST_CLUSTER"


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder of the run's cluster in the controlling process; it starts when a test asks."""
    if not hasattr(config, "workerinput"):
        config.stash[_PLACE] = Path(tempfile.mkdtemp(prefix="ordernotify-tests-"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:  # pragma: no cover - xdist's hook
    """Tell each worker where the cluster is."""
    node.workerinput[_FOLDER] = str(node.config.stash[_PLACE])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give all journeys to one worker, which starts their house once; every other test to whoever is free.

    xdist's own groups are marks that it appends to the ids of tests, which pytest does not let it any more.
    """
    from xdist.scheduler import LoadScopeScheduling

    class JourneysTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "journeys" if nodeid.startswith("tests/journeys/") else nodeid

    return JourneysTogether(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the cluster and remove its folder."""
    if hasattr(config, "workerinput"):
        return
    place = config.stash[_PLACE]
    cluster.destroy(place / "cluster")
    shutil.rmtree(place, ignore_errors=True)


_PLACE: pytest.StashKey[Path] = pytest.StashKey()


@pytest.fixture(scope="session")
def cluster_url(request: pytest.FixtureRequest) -> str:
    """The superuser's URL of the run's cluster, with the template database prepared once."""
    given = getattr(request.config, "workerinput", {}).get(_FOLDER)
    place = Path(given) if given else request.config.stash[_PLACE]
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = cluster.start(
            place / "cluster",
            lifeline=False,
            settings={
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "max_connections": "200",
            },
        )
        url = running.url("postgres")
        if not (place / "prepared").exists():
            asyncio.run(
                setup.prepare(url, passwords_dir=place / "keys", database="template_of_tests", prefect_database="p")
            )
            (place / "prepared").touch()
    return url


@pytest.fixture
async def urls(cluster_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Urls]:
    """The URLs of a fresh database for this test, under every role."""
    name = f"t{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(setup.plain(cluster_url))
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template_of_tests OWNER {setup.OWNER}")
        given = getattr(request.config, "workerinput", {}).get(_FOLDER)
        place = Path(given) if given else request.config.stash[_PLACE]
        yield setup.urls_of(cluster_url, passwords_dir=place / "keys", database=name)
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture
async def pool(urls: Urls) -> AsyncIterator[Pool]:
    """A pool under the application's role."""
    opened = await connect(urls.app, size=6)
    yield opened
    await opened.close()
