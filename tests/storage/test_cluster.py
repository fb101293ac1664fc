"""The cluster's files: addresses, sockets and the meaning of complaints."""

import asyncio
import os
import shutil
import stat
import tempfile
from pathlib import Path

import anyio
import asyncpg
import pytest

from storage import cluster
from storage.binaries import Account
from storage.errors import EmbeddedError

STRANGER = Account("stranger", 54321, 54321)


def test_a_password_is_part_of_the_address_only_where_there_is_one(tmp_path: Path) -> None:
    home = tmp_path / "pg"
    sockets = Path("/run/a dir & more")
    assert cluster.dsn(home, sockets) == (
        "postgresql://postgres@/postgres?host=%2Frun%2Fa%20dir%20%26%20more&port=5432"
    )
    (tmp_path / "password").write_text("pw\n")
    assert cluster.dsn(home, sockets).startswith("postgresql://postgres:pw@/postgres?")


async def test_the_driver_reads_the_address_as_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    folder = Path(tempfile.mkdtemp(prefix="a b&", dir="/tmp"))
    called = anyio.Event()

    async def answer(_: object, writer: asyncio.StreamWriter) -> None:
        writer.close()
        called.set()

    server = await asyncio.start_unix_server(answer, folder / ".s.PGSQL.5432")
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await asyncpg.connect(cluster.dsn(folder / "pg", folder))
    await called.wait()
    server.close()
    shutil.rmtree(folder)


def test_the_socket_stands_beside_the_data_up_to_the_last_byte_of_its_limit() -> None:
    room = cluster.SOCKET_BYTES - len("/.s.PGSQL.5432")
    home = Path("/" + "x" * (room - 1))
    assert cluster.socket_dir(home, None) == home


def test_a_longer_path_gets_a_private_directory_that_is_used_again(tmp_path: Path) -> None:
    home = tmp_path / ("é" * 50) / "pg"
    home.parent.mkdir()
    first = cluster.socket_dir(home, None)
    try:
        assert len(os.fsencode(first)) < 40
        assert stat.S_IMODE(first.stat().st_mode) == 0o700
        assert cluster.socket_dir(home, None) == first
    finally:
        first.rmdir()
    second = cluster.socket_dir(home, None)
    second.rmdir()
    assert second != first


def test_a_complaint_is_repeated_without_its_stamp_and_with_the_place_of_the_rest(tmp_path: Path) -> None:
    said = "2026-11-22 20:50:15 UTC [1] LOG:  one\n2026-11-22 20:50:15 UTC [1] FATAL:  no space\nLOG:  bye\n"
    error = cluster.failure("did not start", said, tmp_path / "pg", None, log=tmp_path / "postgres.log")
    assert str(error) == f"the embedded Postgres did not start: no space (see {tmp_path}/postgres.log)"
    assert str(cluster.failure("did not start", "", tmp_path, None)).endswith("it said nothing")


def test_a_refused_entry_names_the_directory_and_the_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    said = 'initdb: error: could not access directory "x": Permission denied'
    error = cluster.failure("could not create its database", said, tmp_path / "data" / "pg", STRANGER)
    assert f"data directory {tmp_path}/data cannot be used" in str(error)
    assert "runs as user 'stranger', who may not enter " in str(error)
    for account in (None, Account("root", 0, 0)):  # nothing is closed to them: what was said stands
        error = cluster.failure("could not create its database", said, tmp_path / "data" / "pg", account)
        if account is None or os.geteuid() == 0:
            assert "Permission denied" in str(error)


def test_a_creation_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "programs" / "initdb").write_text("#!/bin/sh\necho 'initdb: error: no luck'; exit 1\n")
    (tmp_path / "programs" / "initdb").chmod(0o755)
    with pytest.raises(EmbeddedError, match="could not create its database: no luck"):
        cluster.create(tmp_path / "data" / "pg", tmp_path / "programs", None, durable=True)
    assert list((tmp_path / "data").iterdir()) == []
    with pytest.raises(EmbeddedError, match=r"could not create its database: .*nowhere/initdb"):
        cluster.create(tmp_path / "data" / "pg", tmp_path / "nowhere", None, durable=True)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_system_that_does_not_know_the_letters_has_a_database_all_the_same(tmp_path: Path) -> None:
    program = tmp_path / "initdb"
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--lc-ctype*) echo \'initdb: error: invalid locale name "C.UTF-8"\'; exit 1;; esac\n'
        'for o; do case $o in --pgdata=*) touch "${o#--pgdata=}/PG_VERSION";; esac; done\n'
    )
    program.chmod(0o755)
    (tmp_path / "data").mkdir()
    cluster.create(tmp_path / "data" / "pg", tmp_path, None, durable=True)
    assert (tmp_path / "data" / "pg" / "PG_VERSION").exists()


def test_a_creation_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "initdb").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "initdb").chmod(0o755)
    monkeypatch.setattr(cluster, "CREATE_SECONDS", 0.05)
    with pytest.raises(EmbeddedError, match="took longer than"):
        cluster.create(tmp_path / "pg", tmp_path, None, durable=True)
