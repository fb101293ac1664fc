"""Recording where a server spends its CPU."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import profiling
from bench.case import Bench, Case
from bench.measure import cpu_seconds
from bench.profiling import ProfileError
from bench.targets import Target

ROOT = Path(__file__).parents[2]
SPIN = """
import time

def inner():
    return sum(i * i for i in range(20_000))

def outer():
    print(flush=True)
    while True:
        inner()

outer()
"""
GRAPH = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:fg="http://github.com/jonhoo/inferno">
<g><title>all (1,010 samples, 100%)</title><rect y="52" fg:x="0" fg:w="1010"/></g>
<g><title>loop (a.py:1) (1,010 samples, 100.00%)</title><rect y="68" fg:x="0" fg:w="1010"/></g>
<g><title>send (b.py:2) (400 samples, 39.60%)</title><rect y="84" fg:x="0" fg:w="400"/></g>
<g><title>encode (c.py:3) (1 sample, 0.10%)</title><rect y="100" fg:x="399" fg:w="1"/></g>
<g><title>read (b.py:9) (600 samples, 59.41%)</title><rect y="84" fg:x="400" fg:w="600"/></g>
<g><title>encode (c.py:3) (250 samples, 24.75%)</title><rect y="100" fg:x="400" fg:w="250"/></g>
<g><title>encode (c.py:3) (50 samples, 4.95%)</title><rect y="116" fg:x="410" fg:w="50"/></g>
<g><title>no box</title></g>
</svg>"""


@pytest.fixture
def spinning() -> Iterator[int]:
    """A Python process that does nothing but one function."""
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def let_work(pid: int, seconds: float) -> None:
    """Wait until a process has taken so much CPU."""
    until = cpu_seconds(pid) + seconds
    while cpu_seconds(pid) < until:
        time.sleep(0.02)


def end(pid: int, path: Path) -> None:
    """End a recorded process and wait until py-spy has noticed."""
    os.kill(pid, signal.SIGKILL)
    while not path.exists():
        time.sleep(0.02)


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program in the place of py-spy."""
    program = folder / "py-spy"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(profiling, "program", lambda: str(program))


def test_own_time_is_what_the_called_functions_leave() -> None:
    assert profiling.own_samples(GRAPH) == {
        "loop (a.py:1)": 10,
        "send (b.py:2)": 399,
        "read (b.py:9)": 350,
        "encode (c.py:3)": 251,
    }


@pytest.mark.timeout(60)
def test_a_recording_names_the_function_that_works(spinning: int, tmp_path: Path) -> None:
    path = tmp_path / "graph.svg"
    with profiling.recording(spinning, path):
        let_work(spinning, 1.0)
    profile = profiling.read(path)
    assert profile.samples > 20
    assert "<genexpr>" in profile.functions[0].name
    assert sum(function.own for function in profile.functions) == pytest.approx(1)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.svg"]


@pytest.mark.timeout(60)
def test_a_server_that_ends_meanwhile_is_no_profile(spinning: int, tmp_path: Path) -> None:
    path = tmp_path / "graph.svg"
    with pytest.raises(ProfileError, match="restarts"), profiling.recording(spinning, path):
        end(spinning, path)


def test_where_it_is_not_permitted_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Permission Denied: Try running again with elevated permissions"  # as py-spy 0.4.3 says it
    pretend(tmp_path, monkeypatch, f"echo '{said}' >&2; exit 1")
    with pytest.raises(ProfileError, match="CAP_SYS_PTRACE"), profiling.recording(1, tmp_path / "x.svg"):
        raise AssertionError("it must not begin")


def test_any_other_failure_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "echo 'no such thing'; exit 1")
    with pytest.raises(ProfileError, match="no such thing"), profiling.recording(1, tmp_path / "x.svg"):
        raise AssertionError("it must not begin")


@pytest.mark.timeout(60)
def test_a_case_that_leaves_the_server_alone_is_not_recorded(spinning: int, tmp_path: Path) -> None:
    class Idle:
        name = "ours"

        def __init__(self) -> None:
            self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            self.pid = self.process.pid

    target, path = Idle(), tmp_path / "graph.svg"

    def measure(measured: Target, bench: Bench) -> dict[str, float]:
        let_work(spinning, 1.0)  # another process than the one that is recorded
        return {"a": 1.0}

    case = Case(name="case", rows=(), measure=measure)
    try:
        with pytest.raises(ProfileError, match="one of its own"):
            profiling.measure(case, target, None, path=path)  # type: ignore[arg-type]
    finally:
        target.process.communicate(b"\n")
    assert not path.exists()


@pytest.mark.timeout(200)
def test_the_command_writes_a_graph_beside_the_json_and_lists_functions(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bench",
        "--profile",
        "--quick",
        "--only",
        "crowd",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert not done.stderr.count("Traceback"), done.stderr
    (graph,), (report,) = tmp_path.glob("*.svg"), tmp_path.glob("*.json")
    assert graph.stem == f"{report.stem}-crowd"
    assert "<svg" in graph.read_text()
    assert "own time in" in done.stdout
    assert f"flame graph: {graph}" in done.stdout
    listed = [line for line in done.stdout.splitlines() if ".py:" in line and "%" in line]
    assert len(listed) == profiling.SHOWN
    assert any("gateway/" in line or "actors/" in line for line in listed)


def test_a_profile_of_every_case_is_refused() -> None:
    command = [sys.executable, "-m", "bench", "--profile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "say which with --only" in done.stderr
