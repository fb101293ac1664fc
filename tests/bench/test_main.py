"""The bench as a command."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.report import Report

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
