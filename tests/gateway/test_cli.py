import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

from gateway import cli, config
from storage.errors import EmbeddedError, UnavailableError

Command = Callable[..., int | str | None]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line with these arguments and return its exit code."""
    for name in ("DATABASE_URL", "LETTA_SERVER_PASSWORD", "LETTA_DEFAULT_LLM_HANDLE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["wakeful", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    return run


def test_the_version_is_the_packages(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--version") == 0
    assert capsys.readouterr().out == f"wakeful {version('wakeful')}\n"


def test_serve_has_a_flag_for_every_setting_and_says_which_variable_it_is(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("serve", "--help") == 0
    told = "".join(capsys.readouterr().out.split())
    for field in config.fields():
        assert field.flag in told
        assert field.env in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serve", "--host", "0.0.0.0"), "wakeful: --host: refusing to bind 0.0.0.0 without an API key"),
        (("serve", "--port", "0"), "wakeful: --port: "),
        (
            ("serve", "--port", "many"),
            "wakeful: --port: Expected `int`, got `str`; expected integer, got 'many'",
        ),
        (
            ("serve", "--database-url", "mysql://x"),
            "wakeful: --database-url: expected a URL like postgresql://",
        ),
        (("serve", "--model", "gpt"), "wakeful: --model: a model handle is written provider/name"),
        (("migrate", "--database-url", "nowhere"), "wakeful: --database-url: "),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    command: Command, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    assert command(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(told)
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [("serve", "--prot", "1"), ("chat", "a", "b"), ("sevre",)])
def test_an_unknown_option_or_command_is_misuse(
    command: Command, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert command(*arguments) == 2
    assert arguments[-1].lstrip("-") in capsys.readouterr().err or arguments == ("serve", "--prot", "1")


def test_an_unknown_variable_of_ours_is_named(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAKEFUL_PROT", "1")
    assert command("serve") == 2
    error = "wakeful: WAKEFUL_PROT: there is no such setting; did you mean WAKEFUL_PORT?\n"
    assert capsys.readouterr().err == error


def test_a_database_that_cannot_be_used_is_told_in_one_line(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("migrate", "--database-url", "postgresql://me:secret@127.0.0.1:1/mine") == 1
    error = capsys.readouterr().err
    assert error == (
        "wakeful: the database is unavailable: cannot connect to host 127.0.0.1, port 1, database mine: "
        "Connection refused\n"
    )


def test_migrate_brings_an_empty_database_to_todays_schema_once(
    command: Command, empty_dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "exit", lambda code=0: (_ for _ in ()).throw(SystemExit(code)))
    assert command("migrate", "--database-url", empty_dsn) == 0
    first = capsys.readouterr()
    assert first.err.startswith("migrating the database: 0001_")
    assert first.out.startswith("applied: 0001_")
    assert command("migrate", "--database-url", empty_dsn) == 0
    assert capsys.readouterr().out == "nothing to do: the schema is this release's\n"


def test_a_failure_of_the_database_among_tasks_is_told_in_one_line(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [UnavailableError("it is gone")])])

    monkeypatch.setattr(cli, "app", fail)
    assert command("serve") == 1
    assert capsys.readouterr().err == "wakeful: the database is unavailable: it is gone\n"


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ExceptionGroup("tasks", [EmbeddedError("gone"), KeyError("a bug")])

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ExceptionGroup):
        cli.main()


def test_chat_without_a_server_says_how_to_start_one(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("chat", "--url", "http://127.0.0.1:1") == 1
    told = "wakeful: nothing answers at http://127.0.0.1:1; start a server with: wakeful serve\n"
    assert capsys.readouterr().err == told
