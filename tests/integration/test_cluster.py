"""The embedded PostgreSQL: private, traceless, and not to be brought down by a kill."""

import asyncio
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from ordernotify.store import cluster
from ordernotify.store.cluster import Cluster, ClusterError
from ordernotify.store.cluster_place import SERVER_USERS, SHARED, WHERE_FILE
from ordernotify.store.cluster_process import Postmaster, read_postmaster
from ordernotify.store.cluster_programs import find_wheel

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(cluster.available() is not None, reason=str(cluster.available())),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what only root does")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="about what only Linux offers")

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- only looked at
ROOT = Path(__file__).parents[2]
OWNER = """
import sys
from pathlib import Path
from ordernotify.store import cluster
running = cluster.start(Path(sys.argv[1]), on_progress=lambda line: print(line, file=sys.stderr, flush=True))
print(running.pid, running.owned, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "cluster"
    yield folder
    cluster.destroy(folder)


@pytest.fixture
def owner() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Processes that start the cluster and then sit there."""
    started = []

    def start(folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, folder],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ask(running: Cluster, question: str, *values: object, **login: str) -> object:
    async def answer() -> object:
        connection = await asyncpg.connect(running.dsn("postgres", **login))
        try:
            return await connection.fetchval(question, *values)
        finally:
            await connection.close()

    return asyncio.run(answer())


def eventually(condition: Callable[[], object], within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def processes_on(folder: Path) -> list[str]:
    """Every process whose command names the folder, this one apart."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(folder) in line and entry.parent.name != str(os.getpid()):
            found.append(f"{entry.parent.name} {line!r}")
    return found


def kernel_segments() -> set[int]:
    rows = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {int(row.split()[1]) for row in rows}


def postmaster(running: Cluster) -> Postmaster:
    found = read_postmaster(running.home / "pgdata")
    assert found is not None
    return found


def kill(running: Cluster) -> None:
    os.kill(running.pid, signal.SIGKILL)
    assert eventually(lambda: cluster.status(running.data_dir) is None)


def still_in_memory(before: set[Path]) -> set[Path]:
    """Return what stays in shared memory: an initdb of a test beside this one has files there for a moment."""
    deadline = time.monotonic() + 10
    while (more := set(SHARED_MEMORY.glob("PostgreSQL*")) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    return more


@on_linux
def test_stop_leaves_no_process_no_socket_folder_and_no_shared_memory(data_dir: Path) -> None:
    in_memory = set(SHARED_MEMORY.glob("PostgreSQL*"))
    running = cluster.start(data_dir)
    segment = postmaster(running).shared_memory
    assert segment is not None
    assert segment[1] in kernel_segments()
    assert ask(running, "show dynamic_shared_memory_type") == "mmap"
    assert running.owned
    assert cluster.status(data_dir) == running

    cluster.stop(running)

    assert cluster.status(data_dir) is None
    assert processes_on(running.home) == []
    assert not running.socket_dir.exists()
    assert segment[1] not in kernel_segments()
    assert still_in_memory(in_memory) == set()
    cluster.stop(running)
    cluster.stop(data_dir)


def test_data_outlives_a_kill_of_the_server(data_dir: Path) -> None:
    first = cluster.start(data_dir)
    ask(first, "create table kept (n int)")
    ask(first, "insert into kept values (7)")
    segment = postmaster(first).shared_memory
    kill(first)

    second = cluster.start(data_dir)

    assert second.owned
    assert ask(second, "select n from kept") == 7
    if sys.platform == "linux":
        assert segment is not None
        assert segment[1] not in kernel_segments() or postmaster(second).shared_memory == segment
        cluster.stop(second)
        assert segment[1] not in kernel_segments()


def test_a_server_that_is_being_killed_is_not_adopted(data_dir: Path) -> None:
    for _ in range(5):
        running = cluster.start(data_dir)
        os.kill(running.pid, signal.SIGKILL)
        following = cluster.start(data_dir)
        assert following.owned
        assert following.pid != running.pid
        assert ask(following, "select 1") == 1
        cluster.stop(following)


@on_linux
def test_stopping_a_killed_server_gives_its_memory_and_socket_folder_back(data_dir: Path) -> None:
    running = cluster.start(data_dir)
    segment = postmaster(running).shared_memory
    assert segment is not None
    kill(running)
    assert segment[1] in kernel_segments()
    assert running.socket_dir.exists()
    cluster.stop(running)
    assert segment[1] not in kernel_segments()
    assert not running.socket_dir.exists()
    assert ask(cluster.start(data_dir), "select 1") == 1


def test_a_killed_server_whose_id_went_to_another_program_does_not_stop_the_next(
    data_dir: Path,
) -> None:
    first = cluster.start(data_dir)
    kill(first)
    pid_file = first.home / "pgdata" / "postmaster.pid"
    server_user = pid_file.stat()
    switch = {"user": server_user.st_uid, "group": server_user.st_gid} if os.geteuid() == 0 else {}
    other = subprocess.Popen(["sleep", "60"], cwd="/", **switch)
    try:
        content = pid_file.read_text().split("\n", 1)[1]
        pid_file.write_text(f"{other.pid}\n{content}")
        second = cluster.start(data_dir)
        assert ask(second, "select 1") == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@on_linux
def test_the_server_goes_down_with_a_killed_owner(
    data_dir: Path, owner: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = owner(data_dir)
    pid, owned = process.stdout.readline().split()
    running = cluster.status(data_dir)
    assert running is not None
    assert (str(running.pid), "True", False) == (pid, owned, running.owned)

    process.kill()

    assert eventually(lambda: not processes_on(running.home / "pgdata"))
    assert cluster.status(data_dir) is None
    assert "database system is shut down" in (running.home / "server.log").read_text()
    cluster.stop(data_dir)
    assert not running.socket_dir.exists()


@on_linux
def test_without_lifeline_the_server_stays_and_the_next_start_adopts_it(
    data_dir: Path, owner: Callable[[Path], subprocess.Popen[str]]
) -> None:
    first = cluster.start(data_dir, lifeline=False)
    process = owner(data_dir)
    assert process.stdout.readline().split() == [str(first.pid), "False"]
    process.kill()
    process.wait()
    assert cluster.status(data_dir) == first


def test_a_second_start_adopts_and_does_not_stop_what_it_adopted(data_dir: Path) -> None:
    first = cluster.start(data_dir)
    told: list[str] = []
    second = cluster.start(data_dir, on_progress=told.append)
    assert (second.pid, second.owned) == (first.pid, False)
    assert told == [f"using the PostgreSQL that already runs on {first.home} (process {first.pid})"]
    cluster.stop(second)
    assert ask(second, "select 1") == 1
    cluster.stop(data_dir)
    assert cluster.status(data_dir) is None


def test_a_server_whose_socket_was_removed_is_restarted(data_dir: Path) -> None:
    first = cluster.start(data_dir)
    shutil.rmtree(first.socket_dir)
    assert cluster.status(data_dir) is None
    second = cluster.start(data_dir)
    assert second.owned
    assert second.pid != first.pid
    assert ask(second, "select 1") == 1


def test_of_two_starts_at_once_one_starts_and_the_other_adopts(
    data_dir: Path, owner: Callable[[Path], subprocess.Popen[str]]
) -> None:
    pair = [owner(data_dir), owner(data_dir)]
    answers = [process.stdout.readline().split() for process in pair]
    assert {pid for pid, _ in answers} == {answers[0][0]}
    assert sorted(owned for _, owned in answers) == ["False", "True"]


@on_linux
def test_a_kill_while_the_cluster_is_made_leaves_nothing_half_made(
    data_dir: Path, owner: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = owner(data_dir)
    creating = next(line for line in process.stderr if line.startswith("creating"))
    home = Path(creating.removeprefix("creating a database cluster in ").strip())
    assert eventually(lambda: list(home.glob("pgdata.partial-*/pgdata/base")))
    process.kill()
    process.wait()
    assert not (home / "pgdata").exists()
    assert eventually(lambda: not processes_on(home))

    running = cluster.start(data_dir)

    assert running.home == home
    assert ask(running, "select 1") == 1
    assert list(home.glob("pgdata.partial-*")) == []


@pytest.mark.parametrize("name", ["with a space", "Aufträge é", 'it\'s; "$HOME" %s', "l" * 130])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    # Beside the folder of the tests where that is closed, so that the server really runs on this path.
    base = tmp_path if os.geteuid() else SHARED / f"ordernotify-test-{os.getpid()}"
    folder = base / name
    try:
        running = cluster.start(folder)
        assert running.home == folder.resolve()
        assert ask(running, "show data_directory") == str(running.home / "pgdata")
    finally:
        cluster.destroy(folder)
        shutil.rmtree(base, ignore_errors=True)


def test_nobody_gets_in_without_the_password(data_dir: Path) -> None:
    running = cluster.start(data_dir)
    assert ask(running, "select current_user") == "postgres"
    for password in ("", "wrong", "postgres"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            ask(running, "select 1", password=password)
    assert ask(running, "show listen_addresses") == ""
    assert running.superuser_password not in repr(running)


def test_only_its_owner_reads_what_a_cluster_keeps(data_dir: Path) -> None:
    running = cluster.start(data_dir)
    modes = {
        path: stat.S_IMODE(path.stat().st_mode)
        for path in (
            running.home / "superuser.password",
            running.home / "server.log",
            running.home / "pgdata",
            running.socket_dir,
        )
    }
    assert list(modes.values()) == [0o600, 0o600, 0o700, 0o700]
    assert (running.home / "superuser.password").stat().st_uid == os.geteuid()


def test_no_folder_but_its_own_changes_mode_or_owner(tmp_path: Path, data_dir: Path) -> None:
    wheel = find_wheel()
    assert wheel is not None
    outside = [tmp_path, *tmp_path.parents, SHARED, wheel / "pginstall", *(wheel / "pginstall").parents]

    def look() -> list[tuple[Path, int, int, int]]:
        states = [(path, path.stat()) for path in outside]
        return [(path, state.st_mode, state.st_uid, state.st_gid) for path, state in states]

    before = look()
    cluster.stop(cluster.start(data_dir))
    assert look() == before


def test_the_log_has_no_statement_no_parameter_and_no_value(data_dir: Path) -> None:
    running = cluster.start(data_dir)
    ask(running, "create table people (address text primary key)")
    ask(running, "insert into people values ($1)", "ada@example.com")
    for statement, values in (
        ("insert into people values ($1)", ["ada@example.com"]),
        ("select address::int from people", []),
        ("selectt 'ada@example.com'", []),
    ):
        with pytest.raises(asyncpg.PostgresError):
            ask(running, statement, *values)
    log = (running.home / "server.log").read_text()
    assert "ready to accept connections" in log
    assert "ada" not in log
    assert "people" not in log


def test_a_server_that_cannot_start_says_its_last_words(data_dir: Path) -> None:
    with pytest.raises(ClusterError) as failed:
        cluster.start(data_dir, settings={"max_connections": "many"})
    assert 'invalid value for parameter "max_connections": "many"' in str(failed.value)
    assert "ORDERNOTIFY_DATABASE_URL" in str(failed.value)
    assert cluster.start(data_dir, settings={"max_connections": "20"}).owned


@pytest.mark.parametrize("name", ["listen_addresses", "Log-Statement", "unix_socket_directories", "hba_file"])
def test_what_keeps_the_server_private_is_not_for_the_caller_to_set(data_dir: Path, name: str) -> None:
    with pytest.raises(ClusterError, match=re.escape(name)):
        cluster.start(data_dir, settings={name: "x"})
    assert not data_dir.exists()


def test_settings_reach_the_server(data_dir: Path) -> None:
    running = cluster.start(data_dir, settings={"max_connections": "33"})
    assert ask(running, "show max_connections") == "33"
    assert ask(running, "show data_checksums") == "on"
    assert ask(running, "select lower('É')") == "é"


def test_a_socket_folder_that_others_could_enter_is_not_used(data_dir: Path, tmp_path: Path) -> None:
    first = cluster.start(data_dir)
    cluster.stop(first)
    first.socket_dir.symlink_to(tmp_path)
    try:
        second = cluster.start(data_dir)
        assert second.socket_dir == first.socket_dir.with_name(f"{first.socket_dir.name}-1")
        assert ask(second, "select 1") == 1
        cluster.stop(second)
        assert first.socket_dir.is_symlink()
    finally:
        first.socket_dir.unlink()
    first.socket_dir.mkdir()
    first.socket_dir.chmod(0o755)
    try:
        second = cluster.start(data_dir)
        assert second.socket_dir != first.socket_dir
        assert stat.S_IMODE(first.socket_dir.stat().st_mode) == 0o755
    finally:
        cluster.stop(data_dir)
    assert not second.socket_dir.exists()


def test_a_data_folder_that_everybody_can_write_to_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o777)
    with pytest.raises(ClusterError, match="Everybody can write"):
        cluster.start(data_dir)


def test_a_cluster_without_its_password_says_what_is_missing(data_dir: Path) -> None:
    running = cluster.start(data_dir)
    cluster.stop(running)
    (running.home / "superuser.password").unlink()
    with pytest.raises(ClusterError, match=r"superuser\.password is missing"):
        cluster.start(data_dir)


def test_destroy_leaves_other_files_alone(data_dir: Path) -> None:
    running = cluster.start(data_dir)
    (data_dir / "mine.txt").write_text("x")
    cluster.destroy(data_dir)
    assert sorted(path.name for path in data_dir.iterdir()) == ["cluster.lock", "mine.txt"]
    assert processes_on(running.home) == []
    assert not running.socket_dir.exists()


def test_without_the_wheel_the_database_url_is_named(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setattr(sys, "path", [])
    reason = cluster.available()
    assert reason is not None
    assert "ORDERNOTIFY_DATABASE_URL" in reason
    with pytest.raises(ClusterError, match="ORDERNOTIFY_DATABASE_URL"):
        cluster.start(data_dir)


def test_a_folder_without_a_cluster_has_no_status_and_nothing_to_stop(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert cluster.status(folder) is None
        cluster.stop(folder)
        cluster.destroy(folder)
    assert not (tmp_path / "absent").exists()


def test_urls_quote_what_they_hold() -> None:
    running = Cluster(Path("/d"), Path("/d"), Path("/run/s"), "p/w", 1, owned=True)
    assert running.url("a b") == "postgresql+asyncpg://postgres:p%2Fw@/a%20b?host=%2Frun%2Fs&port=5432"
    assert running.dsn("db", user="u@x", password="#") == "postgresql://u%40x:%23@/db?host=%2Frun%2Fs&port=5432"
    assert running.dsn("db", user="reader") == "postgresql://reader@/db?host=%2Frun%2Fs&port=5432"


@as_root
def test_root_runs_the_server_as_an_unprivileged_user_where_that_user_can_reach_the_data(
    data_dir: Path,
) -> None:
    data_dir.mkdir(mode=0o700)
    told: list[str] = []
    running = cluster.start(data_dir, on_progress=told.append)
    entries = dict(line.split(":", 1) for line in Path(f"/proc/{running.pid}/status").read_text().splitlines())
    user = next(pwd.getpwnam(name) for name in SERVER_USERS)
    assert entries["Uid"].split() == [str(user.pw_uid)] * 4
    assert entries["Groups"].split() == [str(user.pw_gid)]
    assert running.home.parent == SHARED
    assert str(running.home) in (data_dir / WHERE_FILE).read_text()
    assert any(str(running.home) in line for line in told)
    home = running.home.stat()
    assert (home.st_uid, stat.S_IMODE(home.st_mode)) == (0, 0o711)
    ask(running, "create table kept as select 7 as n")
    cluster.stop(running)
    again = cluster.start(data_dir)
    assert again.home == running.home
    assert ask(again, "select n from kept") == 7
    cluster.destroy(data_dir)
    assert not running.home.exists()
    assert not (data_dir / WHERE_FILE).exists()


@as_root
def test_relocated_data_that_is_gone_is_not_replaced_in_silence(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    running = cluster.start(data_dir)
    cluster.stop(running)
    shutil.rmtree(running.home)
    with pytest.raises(ClusterError, match="which is gone"):
        cluster.start(data_dir)
    user = pwd.getpwnam(SERVER_USERS[0])
    running.home.mkdir()
    try:
        os.chown(running.home, user.pw_uid, user.pw_gid)
        with pytest.raises(ClusterError, match="not a folder that only user 0 can change"):
            cluster.start(data_dir)
    finally:
        running.home.rmdir()


@as_root
def test_a_data_folder_of_another_user_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, pwd.getpwnam(SERVER_USERS[0]).pw_uid, -1)
    with pytest.raises(ClusterError, match="belongs to user"):
        cluster.start(data_dir)


@as_root
def test_programs_that_the_servers_user_cannot_reach_are_copied_once(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = find_wheel()
    assert wheel is not None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        (closed / folder.name).symlink_to(folder)
    monkeypatch.syspath_prepend(closed)
    shelf = SHARED / "ordernotify-postgres"
    existed = shelf.exists()
    try:
        first: list[str] = []
        running = cluster.start(data_dir, on_progress=first.append)
        assert existed or any("copying" in line for line in first)
        command = Path(f"/proc/{running.pid}/cmdline").read_bytes().split(b"\0")[0]
        assert command.startswith(os.fsencode(shelf))
        assert ask(running, "select 1") == 1
        cluster.stop(running)
        second: list[str] = []
        cluster.start(data_dir, on_progress=second.append)
        assert not any("copying" in line for line in second)
        assert list(shelf.glob("*.partial")) == []
    finally:
        cluster.stop(data_dir)
        if not existed:
            shutil.rmtree(shelf, ignore_errors=True)
