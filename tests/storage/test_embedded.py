"""The embedded server: who may own it, how it ends, and what it recovers from."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from storage import binaries, cluster, datadir, embedded, processes
from storage.errors import EmbeddedError, UnavailableError
from storage.pool import Pool, connection, open_pool

OWNER = Path(__file__).with_name("embedded_owner.py")
ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another user")


@pytest.fixture
def folder(reachable: Path) -> Generator[Path]:
    """Yield an empty directory that the user who runs Postgres can enter."""
    path = Path(tempfile.mkdtemp(prefix="t-", dir=reachable))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def pristine(reachable: Path) -> Path:
    """Return a data directory as the first start leaves it, to be copied: making one takes a second."""
    embedded.start(reachable / "pristine").stop()
    return reachable / "pristine"


@pytest.fixture
def data_dir(folder: Path, pristine: Path) -> Path:
    """Return a data directory of one's own whose server is not running."""
    return _copy(pristine, folder / "data")


@pytest.fixture
def server(data_dir: Path) -> Generator[embedded.Embedded]:
    server = embedded.start(data_dir)
    yield server
    server.stop()


# --- its life ---------------------------------------------------------------------------------


def test_a_start_makes_a_durable_database_in_utf8(folder: Path) -> None:
    server = embedded.start(folder / "new" / "data")
    shown = {
        name: _ask(server.dsn, f"show {name}") for name in ("fsync", "synchronous_commit", "server_encoding")
    }
    assert shown == {"fsync": "on", "synchronous_commit": "on", "server_encoding": "UTF8"}
    assert _ask(server.dsn, "select lower('ÄÉ')") == "äé"
    assert _ask(server.dsn, "show listen_addresses") == ""
    server.stop()
    assert not _is_running(server_pid := server.pid or 0), server_pid


def test_durability_is_given_up_only_on_demand(data_dir: Path) -> None:
    server = embedded.start(data_dir, durability_off=True)
    assert _ask(server.dsn, "show fsync") == "off"
    server.stop()


def test_data_outlives_a_stop(data_dir: Path) -> None:
    first = embedded.start(data_dir)
    _ask(first.dsn, "create table t as select 1 as n")
    first.stop()
    second = embedded.start(data_dir)
    assert second.dsn == first.dsn
    assert _ask(second.dsn, "select n from t") == 1
    second.stop()


def test_a_stop_ends_the_server_and_may_be_repeated(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    pid = server.pid
    assert pid is not None
    assert server.alive()
    server.stop()
    server.stop()
    assert not server.alive()
    assert server.pid is None
    assert not processes.members(data_dir / "pg")
    assert not (data_dir / "pg" / "postmaster.pid").exists()


def test_only_the_main_thread_may_start_it(folder: Path) -> None:
    def run() -> None:
        with pytest.raises(EmbeddedError, match="main thread"):
            embedded.start(folder / "data")
        refused.append(True)

    refused: list[bool] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert refused
    assert not (folder / "data").exists()


def test_a_second_owner_is_refused_and_told_who_has_it(data_dir: Path) -> None:
    with _owner(data_dir) as (process, _), pytest.raises(EmbeddedError) as caught:
        embedded.start(data_dir)
    assert f"in use by the server with process id {process.pid}: stop it" in str(caught.value)


def test_a_forked_child_does_not_take_the_server_with_it(server: embedded.Embedded) -> None:
    child = os.fork()
    if child == 0:
        server.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert server.alive()
    assert _ask(server.dsn, "select 1") == 1


def test_our_environment_is_not_the_servers(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PGPORT", "6000")
    server = embedded.start(data_dir)
    environment = Path(f"/proc/{server.pid}/environ")
    if environment.exists():
        assert b"sk-secret" not in environment.read_bytes()
    assert _ask(server.dsn, "select 1") == 1
    server.stop()


def test_the_log_holds_no_statement_and_no_value(server: embedded.Embedded, data_dir: Path) -> None:
    _ask(server.dsn, "create table t (diary text unique)")
    _ask(server.dsn, "insert into t values ('my secret')")
    with pytest.raises(asyncpg.UniqueViolationError):
        _ask(server.dsn, "insert into t values ('my secret')")
    with pytest.raises(asyncpg.UndefinedTableError):
        _ask(server.dsn, "select 'my secret' from nowhere")
    log = data_dir / "postgres.log"
    assert "ready to accept connections" in log.read_text()
    assert "secret" not in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_large_log_is_put_aside_at_the_next_start(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LOG_BYTES", 10)
    (data_dir / "postgres.log").write_text("old words " * 10)
    embedded.start(data_dir).stop()
    assert "old words" in (data_dir / "postgres.log.old").read_text()
    assert "old words" not in (data_dir / "postgres.log").read_text()


# --- what it recovers from --------------------------------------------------------------------


def test_a_killed_owner_takes_the_server_along_and_loses_no_commit(data_dir: Path) -> None:
    with _owner(data_dir, "write") as (process, told):
        assert process.stdout is not None
        committed = [int(process.stdout.readline()) for _ in range(50)][-1]
        process.kill()
        committed = max([committed, *(int(line) for line in process.stdout if line.endswith("\n"))])
    # At once, while the old server is still on its way out.
    server = embedded.start(data_dir)
    assert server.pid != told["pid"]
    assert not _is_running(told["pid"])
    assert _ask(server.dsn, "select count(*) from numbers where n <= $1", committed) == committed + 1
    server.stop()


def test_a_killed_owner_takes_the_server_along_without_a_new_start(data_dir: Path) -> None:
    with _owner(data_dir) as (process, told):
        process.kill()
        process.wait()
        _wait_until(lambda: not _is_running(told["pid"]))


def test_a_server_that_does_not_end_by_itself_is_ended(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ENDINGS", hasty())
    with _owner(data_dir) as (process, told):
        os.kill(told["pid"], signal.SIGSTOP)  # it cannot hear that its owner is gone
        process.kill()
    server = embedded.start(data_dir)
    assert not _is_running(told["pid"])
    assert _ask(server.dsn, "select 1") == 1
    server.stop()


def test_a_killed_server_is_brought_back_with_every_commit(server: embedded.Embedded) -> None:
    dsn, pid = server.dsn, server.pid
    assert pid is not None
    _ask(dsn, "create table t as select generate_series(1, 1000) as n")
    os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: not server.alive())
    server.restart()
    assert server.pid != pid
    assert server.dsn == dsn
    assert _ask(dsn, "select count(*) from t") == 1000


@pytest.mark.alone
async def test_a_watched_server_comes_back_by_itself_within_five_seconds(server: embedded.Embedded) -> None:
    """And an open pool works again; its borrowers see nothing but `UnavailableError` meanwhile."""
    pool = await open_pool(server.dsn)
    async with anyio.create_task_group() as group:
        group.start_soon(server.watch)
        for _ in range(2):
            killed = server.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            with anyio.fail_after(5):
                await _answer(pool, while_not=lambda old=killed: server.pid == old)
        group.cancel_scope.cancel()
    await pool.close()


async def test_a_watch_ends_when_the_server_is_stopped(server: embedded.Embedded) -> None:
    with anyio.fail_after(15):
        async with anyio.create_task_group() as group:
            group.start_soon(server.watch)
            server.stop()


async def test_a_watch_keeps_trying_while_the_server_does_not_start(
    server: embedded.Embedded, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WATCH_SECONDS", 0.02)
    control = data_dir / "pg" / "global" / "pg_control"
    pid = server.pid
    assert pid is not None
    async with anyio.create_task_group() as group:
        group.start_soon(server.watch)
        control.rename(data_dir / "pg_control")
        os.kill(pid, signal.SIGKILL)
        failures = data_dir / "postgres.log"
        with anyio.fail_after(15):
            while failures.read_text().count("could not find the database system") < 2:
                await anyio.lowlevel.checkpoint()
            (data_dir / "pg_control").rename(control)
            while processes.status(data_dir / "pg") != (server.pid, "ready"):
                await anyio.lowlevel.checkpoint()
            pool = await open_pool(server.dsn)
            await _answer(pool)
            assert server.pid != pid
            await pool.close()
        group.cancel_scope.cancel()


async def test_a_killed_session_does_not_end_the_server(server: embedded.Embedded) -> None:
    pool = await open_pool(server.dsn)
    pid = server.pid
    async with connection(pool) as conn:
        os.kill(await conn.fetchval("select pg_backend_pid()"), signal.SIGKILL)  # all sessions are cut
    with anyio.fail_after(15):
        await _answer(pool)
    assert server.pid == pid
    await pool.close()


def test_a_number_of_the_old_server_that_went_to_somebody_else_does_no_harm(data_dir: Path) -> None:
    note = data_dir / "pg" / "postmaster.pid"
    note.write_text(f"{os.getpid()}\n{data_dir / 'pg'}\n0\n5432\n\n\n  1 1\nready\n")
    shutil.chown(note, *_owner_of(data_dir / "pg"))
    server = embedded.start(data_dir)
    assert _ask(server.dsn, "select 1") == 1
    server.stop()


def test_a_creation_that_was_cut_off_is_done_again(folder: Path) -> None:
    rest = folder / "data" / "pg.new-0123"
    rest.mkdir(parents=True)
    (folder / "data").chmod(0o711)
    (rest / "PG_VERSION").write_text("18\n")
    server = embedded.start(folder / "data", durability_off=True)
    assert _ask(server.dsn, "select 1") == 1
    server.stop()
    assert sorted(path.name for path in (folder / "data").iterdir()) == ["lock", "pg", "postgres.log"]


def test_a_database_that_vanished_is_not_replaced_by_an_empty_one(
    server: embedded.Embedded, data_dir: Path
) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    _wait_until(lambda: not processes.members(data_dir / "pg"))
    (data_dir / "pg").rename(data_dir / "elsewhere")
    with pytest.raises(EmbeddedError, match="is gone: restore it"):
        server.restart()
    (data_dir / "elsewhere").rename(data_dir / "pg")


def test_a_server_that_does_not_start_says_why_and_lets_go(data_dir: Path) -> None:
    (data_dir / "pg" / "PG_VERSION").write_text("12\n")
    for _ in range(2):
        with pytest.raises(EmbeddedError, match=r"was made by Postgres 12, .*: dump it with the release"):
            embedded.start(data_dir)
    (data_dir / "pg" / "PG_VERSION").write_text("18\n")
    (data_dir / "pg" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match=r"did not start: configuration file .* \(see .*postgres\.log\)"):
        embedded.start(data_dir)


# --- where it may be --------------------------------------------------------------------------


def test_a_path_that_is_too_long_for_a_socket_is_no_obstacle(folder: Path, pristine: Path) -> None:
    data_dir = _copy(pristine, folder / ("long" * 20) / ("name" * 20) / "data")
    first = embedded.start(data_dir)
    assert _ask(first.dsn, "select 1") == 1
    sockets = Path((data_dir / "sockets").read_text().strip())
    found = sockets.stat()
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert found.st_uid == (data_dir / "pg").stat().st_uid
    first.stop()
    second = embedded.start(data_dir)
    assert second.dsn == first.dsn
    second.stop()
    sockets.chmod(0o777)  # no longer private: not to be trusted again
    third = embedded.start(data_dir)
    assert third.dsn != second.dsn
    third.stop()
    shutil.rmtree(sockets)
    shutil.rmtree((data_dir / "sockets").read_text().strip())


@as_root
def test_a_directory_that_the_servers_user_cannot_enter_is_named_and_left_as_it_is(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0o700)
    user = binaries.account_for(closed / "pg")
    assert user is not None
    with pytest.raises(EmbeddedError) as caught:
        embedded.start(closed / "data")
    assert f"runs as user {user.name!r}, who may not enter {closed}." in str(caught.value)
    assert "--data-dir" in str(caught.value)
    assert "DATABASE_URL" in str(caught.value)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_a_database_that_became_unreachable_is_named_as_well(folder: Path, pristine: Path) -> None:
    data_dir = _copy(pristine, folder / "closed" / "data")
    (folder / "closed").chmod(0o700)
    with pytest.raises(EmbeddedError, match=f"who may not enter {folder}/closed."):
        embedded.start(data_dir)


@as_root
def test_as_nobody_strangers_need_a_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "UNPRIVILEGED", ("no-such-user", "nobody"))
    data_dir = folder / "data"
    server = embedded.start(data_dir, durability_off=True)
    password = (data_dir / "password").read_text().strip()
    assert _ask(server.dsn, "select 1") == 1
    assert f":{password}@" in server.dsn
    with pytest.raises(asyncpg.InvalidPasswordError):
        _ask(server.dsn.replace(password, "guess"), "select 1")
    assert stat.S_IMODE((data_dir / "password").stat().st_mode) == 0o600
    assert (data_dir / "password").stat().st_uid == 0
    assert _user_of(server.pid) == "nobody"
    assert sorted(path.name for path in data_dir.iterdir()) == ["lock", "password", "pg", "postgres.log"]
    server.stop()
    monkeypatch.undo()  # the preferred user appears later: the cluster keeps the one it has
    server = embedded.start(data_dir, durability_off=True)
    assert _user_of(server.pid) == "nobody"
    assert _ask(server.dsn, "select 1") == 1
    server.stop()


@as_root
def test_as_root_it_runs_as_another_user_without_groups_of_ours(server: embedded.Embedded) -> None:
    assert _user_of(server.pid) in binaries.UNPRIVILEGED
    status = Path(f"/proc/{server.pid}/status").read_text()
    groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
    assert groups.split()[1:] == []


def test_a_plain_user_has_it_in_his_own_data_directory(folder: Path) -> None:
    """Everything as a user without rights: the program, the files and the server."""
    python = _python_for_everybody()
    home = folder / "home"
    home.mkdir(mode=0o700)
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(home, "nobody")
        user = {"user": "nobody", "group": 65534, "extra_groups": []}
    with _owner("-", python=python, home=home, **user) as (_, told):
        data_dir = home / ".local" / "share" / "wakeful"
        assert _ask(told["dsn"], "select 1") == 1
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert (data_dir / "pg").stat().st_uid == home.stat().st_uid
        assert _user_id_of(told["pid"]) == home.stat().st_uid
    _wait_until(lambda: not _is_running(told["pid"]))


# --- aids -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _owner(
    data_dir: Path | str,
    mode: str = "idle",
    *,
    python: str = sys.executable,
    home: Path | None = None,
    **user: Any,
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run another process that owns a server; yield it and what it told about the server."""
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]), "PATH": os.defpath}
    if home is not None:
        environment["HOME"] = str(home)
    process = subprocess.Popen(
        [python, str(OWNER), str(data_dir), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=environment,
        **user,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def _copy(pristine: Path, data_dir: Path) -> Path:
    datadir.make(data_dir.parent)
    subprocess.run(["cp", "-a", str(pristine), str(data_dir)], check=True)
    return data_dir


def _ask(dsn: str, query: str, *args: object) -> Any:
    async def ask() -> Any:
        conn = await asyncpg.connect(dsn)
        try:
            return await conn.fetchval(query, *args)
        finally:
            await conn.close()

    return anyio.run(ask)


async def _answer(pool: Pool, *, while_not: Callable[[], bool] = lambda: False) -> None:
    """Ask until the database answers, tolerating nothing but its being unavailable."""
    while True:
        try:
            async with connection(pool) as conn:
                if await conn.fetchval("select 1") == 1 and not while_not():
                    return
        except UnavailableError:
            await anyio.lowlevel.checkpoint()


def hasty() -> tuple[tuple[signal.Signals, float], ...]:
    """Return what a server is sent, where only the last has its time: whoever is killed dies of it."""
    *requests, last = processes.ENDINGS
    return (*((number, 0.1) for number, _ in requests), last)


def _wait_until(true: Callable[[], bool]) -> None:
    while not true():  # the test's own time limit bounds it
        os.sched_yield()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _owner_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


def _user_id_of(pid: int | None) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def _user_of(pid: int | None) -> str:
    return Path(f"/proc/{pid}").owner()


def _python_for_everybody() -> str:
    """Return a Python of this version that a user without rights can run, here and in a child."""
    if os.geteuid() != 0:
        return sys.executable
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    nobody = binaries.Account("nobody", 65534, 65534)
    needed = [Path(asyncpg.__file__), Path(cluster.__file__)]
    for candidate in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        real = Path(candidate).resolve()
        if real.exists() and not any(binaries.closed_directory(path, nobody) for path in (real, *needed)):
            return candidate
    pytest.skip(f"no {name} with our packages can be run by another user")
