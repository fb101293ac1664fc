"""Workers: as many as a session is worth, and a test marked `alone` meets no other."""

import argparse
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.workers import FEW_FILES, MOST_WORKERS, workers

ROOT = Path(__file__).parents[1]
WHOLE = {
    "keyword": "",
    "markexpr": "",
    "lf": False,
    "collectonly": False,
    "usepdb": False,
    "capture": "fd",
}
TESTS = """
import os, time, pytest

def say(word):
    with open(os.environ["SAID"], "a") as file:
        file.write(f"{word}\\n")

@pytest.mark.parametrize("number", range(6))
@pytest.mark.@mark@
def test_one(number):
    say("begin @mark@")
    time.sleep(0.05)
    say("end @mark@")
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "3"
"""

LONG = """
import time, pytest

@pytest.mark.parametrize("place", ["first", "second"])
def test_one(place):
    time.sleep(1.5)
"""


def wanted(*paths: str, cores: int = 2, **options: object) -> int | None:
    return workers(argparse.Namespace(**{**WHOLE, **options}), paths, cores=cores)


def test_a_whole_directory_has_a_worker_more_than_there_are_cores() -> None:
    assert wanted(str(ROOT / "tests")) == 3
    assert wanted(str(ROOT / "tests"), cores=64) == MOST_WORKERS
    assert wanted(*(f"tests/test_{i}.py" for i in range(FEW_FILES + 1))) == 3


def test_a_few_files_start_at_once_without_workers() -> None:
    assert wanted("tests/test_a.py::test_x", "tests/test_a.py::test_y", *["tests/test_b.py"] * 9) is None


@pytest.mark.parametrize(
    "option",
    [
        {"keyword": "word"},
        {"markexpr": "law"},
        {"lf": True},
        {"collectonly": True},
        {"usepdb": True},
        {"capture": "no"},
    ],
)
def test_a_narrow_choice_and_a_watched_one_have_no_workers(option: dict[str, object]) -> None:
    assert wanted(str(ROOT / "tests"), **option) is None


def session(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder in workers."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-p", "tests.workers", *options]
    return subprocess.run(
        [*command, "--dist", "loadfile", "-c", "/dev/null", "--rootdir", str(folder), str(folder)],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(60)
def test_the_first_test_of_a_worker_has_time_to_begin_what_its_tests_share(tmp_path: Path) -> None:
    (tmp_path / "test_long.py").write_text(LONG)
    done = session(tmp_path, "-n", "1", "-p", "pytest_timeout", "-o", "timeout=0.5")
    assert "1 failed, 1 passed" in done.stdout
    assert "test_long.py::test_one[second]" in done.stdout


@pytest.mark.timeout(60)
def test_a_test_marked_alone_meets_no_other(tmp_path: Path) -> None:
    said = tmp_path / "said"
    for number in range(6):
        text = TESTS.replace("@mark@", "alone" if number % 2 else "skipif(False, reason='')")
        (tmp_path / f"test_{number}.py").write_text(text)
    done = session(tmp_path, "-n", "3", SAID=str(said))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = said.read_text().splitlines()
    assert len(lines) == 72
    alone = [at for at, line in enumerate(lines) if line == "begin alone"]
    assert len(alone) == 18
    assert all(lines[at + 1] == "end alone" for at in alone)
    others = [line for line in lines if "alone" not in line]
    assert any(before == after for before, after in pairwise(others)), "none ran at once"
