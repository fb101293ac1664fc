import sys
from pathlib import Path

import pytest

from gateway import database
from gateway.config import Settings
from gateway.database import Migrating
from storage import datadir, migrate
from storage.errors import EmbeddedError

URL = "postgresql://me:secret@db.example:5433/mine"


def test_a_database_url_is_used_as_it_is_and_nothing_is_started(tmp_path: Path) -> None:
    with database.opened(Settings(database_url=URL, data_dir=str(tmp_path / "none"))) as opened:
        assert opened.dsn == URL
        assert opened.shown == "host db.example, port 5433, database mine"
        assert opened.server is None
    assert not (tmp_path / "none").exists()


def test_without_a_url_our_own_server_runs_until_the_end(reachable: Path) -> None:
    with database.opened(Settings(data_dir=str(reachable / "opened"))) as opened:
        assert opened.server is not None
        assert opened.server.alive()
        assert opened.dsn == opened.server.dsn
        assert str(reachable / "opened") in opened.shown
    assert not opened.server.alive()


def test_the_host_name_is_the_settings_or_the_installations(tmp_path: Path) -> None:
    with database.host_name(
        Settings(database_url=URL, host_name="a", data_dir=str(tmp_path / "none"))
    ) as name:
        assert name == "a"
    assert not (tmp_path / "none").exists()
    settings = Settings(database_url=URL, data_dir=str(tmp_path))
    with database.host_name(settings) as name:
        assert name == datadir.host_name(tmp_path)
    with database.host_name(settings) as again:
        assert again == name


def test_two_processes_do_not_share_the_name_of_an_installation(tmp_path: Path) -> None:
    settings = Settings(database_url=URL, data_dir=str(tmp_path))
    with (
        database.host_name(settings),
        pytest.raises(EmbeddedError, match="in use by the server"),
        database.host_name(settings),
    ):
        pass


def test_a_home_in_a_data_directory_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert database.data_dir(Settings(data_dir="~/data")) == Path("/home/ada/data")
    assert database.data_dir(Settings()) == datadir.default_data_dir()


def test_migrations_are_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Migrating() as progress:
        progress("0001_spine")
    assert capsys.readouterr().err == "migrating the database: 0001_spine\n"


def test_migrations_are_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Migrating() as progress:
        for step in migrate.load():
            progress(step.name)
    told = capsys.readouterr().err
    assert "migrated" in told
    assert "100%" in told
