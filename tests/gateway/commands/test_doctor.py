"""`wakeful doctor` as a process: with a server and without one."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.provider import Provider
from bench.targets import environment, free_port
from tests.gateway.processes import Process, run

pytestmark = pytest.mark.timeout(90)


def doctor(*arguments: str, provider: Provider | None = None, code: int = 0, **env: str) -> dict[str, Any]:
    """Run the doctor and return its findings by what was looked at."""
    more = {} if provider is None else {k: v for k, v in environment(provider).items() if "OPENAI" in k}
    done = run("doctor", "--json", "--discover", "off", "--embedding", "off", *arguments, **more, **env)
    told = json.loads(done.stdout)
    assert done.returncode == code, told
    assert told["healthy"] == (code == 0)
    assert all(f.get("remedy") for f in told["findings"] if f["level"] != "ok")
    return {f["check"]: f for f in told["findings"]}


def free() -> tuple[str, str]:
    return "--port", str(free_port())


def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(reachable: Path) -> None:
    home = reachable / "untouched"
    found = doctor("--data-dir", str(home), *free())
    assert found["port"]["level"] == found["database"]["level"] == found["data directory"]["level"] == "ok"
    assert found["default model"]["level"] == "warning"
    assert not home.exists()


def test_a_running_server_is_looked_at_and_goes_on(reachable: Path, provider: Provider) -> None:
    home = reachable / "running"
    with Process("--data-dir", str(home), provider=provider) as process:
        agent_id = process.agent(model="openai/m")
        found = doctor("--data-dir", str(home), "--port", str(process.port), provider=provider)
        assert found["server"]["text"].startswith("wakeful ")
        assert "run by process" in found["database"]["text"]
        assert found["migrations"]["level"] == found["database rights"]["level"] == "ok"
        assert "is running on this database" in found["owner"]["text"]
        assert "MiB" in found["server memory"]["text"]
        assert "Postgres" in found["server memory"]["text"]
        assert process.say(agent_id, "hi").status_code == 200
    found = doctor("--data-dir", str(home), *free(), "--no-models")
    assert "started for this check" in found["database"]["text"]
    assert not any(name.startswith("openai") for name in found)


def test_a_key_that_the_server_does_not_take_is_an_error_and_is_not_shown(
    dsn: str, provider: Provider
) -> None:
    with Process("--database-url", dsn, "--host-name", "t", "--api-key", "right-key-1234567") as process:
        where = ("--database-url", dsn, "--host-name", "t", "--port", str(process.port), "--no-models")
        wrong = run("doctor", *where, "--api-key", "wrong-key-7654321")
        assert wrong.returncode == 1
        assert "ERROR   admission" in wrong.stdout
        assert "wrong-key" not in wrong.stdout + wrong.stderr
        # The tests' Postgres has its durability switched off, which the doctor does not let pass.
        assert doctor(*where, "--api-key", "right-key-1234567", code=1)["admission"]["level"] == "ok"


def test_a_database_that_is_away_is_an_error_and_its_password_is_not_shown() -> None:
    url = "postgresql://me:very-secret@127.0.0.1:1/mine"
    done = run("doctor", "--database-url", url, *free(), "--host-name", "t")
    assert done.returncode == 1
    assert "ERROR   database connection" in done.stdout
    assert " -> start it, or correct DATABASE_URL" in done.stdout
    assert "very-secret" not in done.stdout + done.stderr
    assert done.stdout.endswith("1 errors, 1 warnings\n")


def test_a_port_that_somebody_else_has_is_an_error(provider: Provider, reachable: Path) -> None:
    home = str(reachable / "untouched")
    found = doctor("--data-dir", home, "--port", str(provider.port), "--no-models", code=1)
    assert found["port"]["level"] == "error"


def test_settings_that_contradict_are_a_finding_too() -> None:
    found = doctor("--host", "0.0.0.0", code=1)
    assert "without an API key" in found["settings"]["text"]


def test_a_base_url_that_is_none_is_a_finding_too(reachable: Path) -> None:
    found = doctor("--data-dir", str(reachable / "untouched"), *free(), OPENAI_BASE_URL="ftp://x", code=1)
    assert "OPENAI_BASE_URL" in found["model providers"]["text"]


async def test_a_model_is_asked_and_its_failure_decides_the_exit_code(
    dsn: str, provider: Provider, reachable: Path
) -> None:
    home = str(reachable / "untouched")
    found = doctor("--data-dir", home, *free(), "--model", "openai/m", provider=provider)
    assert found["openai/m chat"]["level"] == "ok"
    assert found["openai/m tools"]["level"] == "warning"
    await provider.script([{"status": 401, "body": {"error": {"message": "no"}}, "repeat": "forever"}])
    found = doctor("--data-dir", home, *free(), "--model", "openai/m", provider=provider, code=1)
    assert found["openai/m chat"]["level"] == "error"


def test_a_data_directory_in_memory_is_a_warning(reachable: Path) -> None:
    if not str(reachable).startswith("/dev/shm") or os.uname().sysname != "Linux":
        pytest.skip("the tests' directory is on a disk here")
    found = doctor("--data-dir", str(reachable / "untouched"), *free(), "--no-models")
    assert found["volume"]["level"] == "warning"
    assert "mount a volume" in found["volume"]["remedy"]
