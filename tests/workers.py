"""Runs tests side by side: how many workers a session has, and whose turn it is on the machine.

Half of a test's time is waiting: for Postgres, for a child to start, for the deadline that it is about. So a
session that may be long has one worker more than there are cores, each with a Postgres and a scripted
provider of its own. The tests of a file stay on one worker, in order, because they share fixtures.
"""

import argparse
import os
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.turns import Turns

MOST_WORKERS = 8  # each has a Postgres, whose memory and processes add up
FEW_FILES = 4  # so few are done before workers have started
FIRST_SECONDS = 120.0  # more for the first test of a worker, which begins what all of its tests share

_meeting = pytest.StashKey[tempfile.TemporaryDirectory[str]]()  # of the controller: where its workers meet
_turns = pytest.StashKey[Turns]()  # of a worker
_begun = pytest.StashKey[bool]()  # of a worker: its first test has come


def workers(options: argparse.Namespace, paths: Sequence[str], *, cores: int) -> int | None:
    """Return how many workers a session has where nobody said; None for none.

    None where the choice of tests is narrow (a few files, `-k`, `-m`, `--lf`), and where somebody looks on
    (`-s`, `--pdb`, `--collect-only`): workers show nothing before a test ends.
    """
    narrow = bool(options.keyword or options.markexpr) or getattr(options, "lf", False)
    if narrow or options.collectonly or options.usepdb or options.capture == "no":
        return None
    files = {path.partition("::")[0] for path in paths}
    if len(files) <= FEW_FILES and not any(os.path.isdir(file) for file in files):
        return None
    return min(cores + 1, MOST_WORKERS)


@pytest.hookimpl(tryfirst=True)  # before the one of xdist, which reads these options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Choose the number of workers where the command line has no `-n` and no `-p no:xdist`."""
    there = config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput")
    if not there or config.option.numprocesses is not None:
        return
    if chosen := workers(config.option, config.args, cores=len(os.sched_getaffinity(0))):
        config.option.numprocesses = chosen
        config.option.dist = "loadfile"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker, before it starts, where the workers of this session meet."""
    stash: pytest.Stash = node.config.stash
    if _meeting not in stash:
        stash[_meeting] = tempfile.TemporaryDirectory(prefix="wakeful-turns-")
    node.workerinput["turns"] = stash[_meeting].name


def pytest_configure(config: pytest.Config) -> None:
    """Let a worker meet the others."""
    told: dict[str, Any] = getattr(config, "workerinput", {})
    if "turns" in told:
        config.stash[_turns] = Turns(Path(told["turns"]))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if (turns := config.stash.get(_turns, None)) is not None:
        turns.close()
    if (meeting := config.stash.get(_meeting, None)) is not None:
        meeting.cleanup()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the timeout's, whose clock stands while a test waits
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give a test the machine: with others, or where it is marked `alone`, to itself."""
    turns = item.config.stash.get(_turns, None)
    if turns is None:
        return (yield)
    if _begun not in item.config.stash:
        item.config.stash[_begun] = True
        if seconds := _seconds(item):
            item.add_marker(pytest.mark.timeout(seconds + FIRST_SECONDS), append=False)
    with turns.shared() if item.get_closest_marker("alone") is None else turns.alone():
        return (yield)


def _seconds(item: pytest.Item) -> float:
    """Return how long a test may take; 0 where nobody looks at the time."""
    if not hasattr(item.config.option, "timeout"):
        return 0.0
    mark = item.get_closest_marker("timeout")
    return float(item.config.getini("timeout") or 0) if mark is None else float(mark.args[0])
