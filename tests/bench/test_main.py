"""The bench as a command."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.cases import CASES
from bench.report import Report
from bench.targets import free_port

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.timeout(90)
def test_a_quick_look_at_the_relay_prints_its_rows_and_writes_json(tmp_path: Path) -> None:
    done = bench("--targets", "relay", "--runs", "2", "--quick", "--only", "create", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "create an agent, server CPU" in done.stdout
    (path,) = tmp_path.glob("*.json")
    report = msgspec.json.decode(path.read_bytes(), type=Report)
    assert report.rows[0].relay is not None
    assert len(report.rows[0].relay.runs) == len(report.figures["create"]["relay"]) == 2
    assert report.rows[0].ours is None
    assert not report.errors


def test_a_case_that_does_not_exist_is_named() -> None:
    done = bench("--only", "nonsense")
    assert done.returncode == 2
    assert "no such case: nonsense" in done.stderr


def test_a_target_that_is_none_is_refused_with_the_syntax() -> None:
    done = bench("--target", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "letta=URL, openai=URL or agui=URL" in done.stderr


@pytest.mark.timeout(90)
def test_anyones_server_is_put_under_load_beside_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    whose = ["--targets", "--provider-port", str(port), "--target", f"openai=http://127.0.0.1:{port}/v1"]
    done = bench(*whose, "--only", "load_history", "--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    report = msgspec.json.decode(path.read_bytes(), type=Report)
    assert [level.level for level in report.levels] == [0, 100, 1000]
    assert {level.target for level in report.levels} == {f"openai http://127.0.0.1:{port}/v1"}
    assert all(level.whole_added is not None and not level.failed for level in report.levels)


def test_the_table_is_the_default_and_load_a_suite_of_its_own() -> None:
    suites = {case.name: case.suite for case in CASES}
    assert {name for name, suite in suites.items() if suite == "load"} == {
        "load_first_token",
        "load_messages",
        "load_history",
    }
    assert suites["step"] == "table"
