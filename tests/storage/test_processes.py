"""Processes of a cluster: told apart from others, and ended for certain."""

import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from storage import processes
from storage.errors import EmbeddedError


@pytest.fixture
def bystander(tmp_path: Path) -> Generator[int]:
    """Yield a process that stands in the cluster's directory but is no Postgres, like somebody's shell."""
    process = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    yield process.pid
    assert process.poll() is None, "it was none of our business"
    process.kill()
    process.wait()


def test_without_a_note_no_server_is_there(tmp_path: Path) -> None:
    assert processes.status(tmp_path) == (0, "")
    assert list(processes.clearing(tmp_path)) == []


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("42\n/data\n0\n5432\n/data\n\n 1 1\nready   \n", (42, "ready")),
        ("42\n/data\n0\n5432\n/data\n\n", (42, "starting")),
        ("", (0, "")),
        ("half", (0, "")),
    ],
)
def test_the_note_tells_who_it_is_and_how_far(tmp_path: Path, note: str, expected: tuple[int, str]) -> None:
    (tmp_path / "postmaster.pid").write_text(note)
    assert processes.status(tmp_path) == expected


def test_a_bystander_is_neither_counted_nor_harmed(tmp_path: Path, bystander: int) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{bystander}\n{tmp_path}\n0\n5432\n{tmp_path}\n\n 1 1\nready\n")
    (tmp_path / ".s.PGSQL.5432.lock").write_text(f"{bystander}\n")
    assert not processes.belongs(bystander, tmp_path)
    assert processes.members(tmp_path) == []
    assert list(processes.clearing(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []  # or the next server would take the number for a rival's


def test_a_process_that_ignores_requests_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "trap '' INT QUIT; echo deaf; while :; do sleep 1; done"
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"deaf\n"
    *requests, last = processes.ENDINGS
    monkeypatch.setattr(processes, "ENDINGS", (*((number, 0.05) for number, _ in requests), last))
    for _ in processes.ending(process.pid, lambda: process.poll() is not None):
        pass
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def test_a_process_that_survives_everything_is_an_error(
    bystander: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ENDINGS", ((signal.Signals.SIGCONT, 0.01),))
    with pytest.raises(EmbeddedError, match=f"process {bystander} cannot be stopped"):
        list(processes.ending(bystander, lambda: False))
