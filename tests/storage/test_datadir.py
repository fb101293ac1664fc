"""The data directory: where it is, who holds it, and the name that it gives its host."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage import datadir
from storage.errors import EmbeddedError


def test_root_keeps_its_data_with_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    assert datadir.default_data_dir() == Path("/var/lib/wakeful")


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("/elsewhere", "/elsewhere/wakeful"),
        ("relative/is/ignored", "/home/me/.local/share/wakeful"),
        ("", "/home/me/.local/share/wakeful"),
    ],
)
def test_a_user_keeps_his_data_where_his_desktop_says(
    monkeypatch: pytest.MonkeyPatch, configured: str, expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_DATA_HOME", configured)
    assert datadir.default_data_dir() == Path(expected)


def test_a_held_directory_is_refused_until_it_is_released(tmp_path: Path) -> None:
    held = datadir.hold(tmp_path / "data")
    with pytest.raises(EmbeddedError, match=f"{tmp_path}/data is in use .* process id {os.getpid()}: "):
        datadir.hold(tmp_path / "data")
    held.release()
    held.release()
    datadir.hold(tmp_path / "data").release()


def test_a_longer_process_id_of_a_former_holder_leaves_no_rest(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("123456789012\n")
    held = datadir.hold(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    held.release()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match=f"{tmp_path}/file/data cannot be used.*--data-dir"):
        datadir.hold(tmp_path / "file" / "data")
    with pytest.raises(EmbeddedError, match="name cannot be kept"):
        datadir.host_name(tmp_path / "file" / "data")
    for inside in ("file", "file/data"):
        with pytest.raises(EmbeddedError, match="is no directory: choose another with --data-dir"):
            datadir.holder(tmp_path / inside)


def test_the_hosts_name_is_made_once(tmp_path: Path) -> None:
    name = datadir.host_name(tmp_path / "data")
    assert name
    assert datadir.host_name(tmp_path / "data") == name
    assert datadir.host_name(tmp_path / "other") != name
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["host"]


def test_those_who_ask_first_at_the_same_moment_get_one_name(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        names = set(threads.map(lambda _: datadir.host_name(tmp_path / "data"), range(32)))
    assert len(names) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["host"]


@pytest.mark.parametrize(("user", "expected"), [(0, 0o711), (1000, 0o700)])
def test_only_directories_that_were_missing_get_a_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, expected: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o750)
    datadir.make(there / "new" / "data")
    datadir.make(there)
    assert stat.S_IMODE(there.stat().st_mode) == 0o750
    assert stat.S_IMODE((there / "new" / "data").stat().st_mode) == expected


def test_a_private_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "password"
    datadir.write_private(path, "longer than the next\n")
    datadir.write_private(path, "short\n")
    assert path.read_text() == "short\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
