"""Turns at the machine: shared by many, held alone by one, and never for ever by those who share."""

import fcntl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.turns import Turns

Hold = Callable[[], AbstractContextManager[None]]
SOON = 10.0


class Holder:
    """Somebody with files of his own, as a process would have: holds what he asked for until told to end."""

    def __init__(self, folder: Path, executor: ThreadPoolExecutor) -> None:
        self._turns, self._executor = Turns(folder), executor
        self._end = threading.Event()
        self.holds = threading.Event()

    def ask(self, how: str) -> "Future[None]":
        hold: Hold = getattr(self._turns, how)
        return self._executor.submit(self._hold, hold)

    def end(self) -> None:
        self._end.set()

    def close(self) -> None:
        self._turns.close()

    def _hold(self, hold: Hold) -> None:
        with hold():
            self.holds.set()
            assert self._end.wait(SOON)


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[list[Holder]]:
    with ThreadPoolExecutor(4) as executor:
        made = [Holder(tmp_path, executor) for _ in range(4)]
        yield made
        for holder in made:
            holder.end()
    for holder in made:
        holder.close()


def free(file: Path) -> bool:
    """Whether a file is locked by nobody."""
    with file.open("ab") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def until_waiting(folder: Path) -> None:
    """Wait until somebody stands in the door."""
    for _ in range(round(SOON / 0.01)):
        if not free(folder / "door"):
            return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits")


def test_many_share_it(holders: list[Holder]) -> None:
    for holder in holders:
        holder.ask("shared")
    assert all(holder.holds.wait(SOON) for holder in holders)


def test_who_is_alone_begins_when_the_others_have_ended(tmp_path: Path, holders: list[Holder]) -> None:
    first, second, alone, _ = holders
    asked = [first.ask("shared"), second.ask("shared")]
    assert first.holds.wait(SOON)
    assert second.holds.wait(SOON)
    alone.ask("alone")
    until_waiting(tmp_path)
    first.end()
    asked[0].result(SOON)
    assert not alone.holds.is_set()
    second.end()
    assert alone.holds.wait(SOON)


def test_who_comes_later_waits_behind_who_wants_to_be_alone(tmp_path: Path, holders: list[Holder]) -> None:
    first, alone, later, _ = holders
    first.ask("shared")
    assert first.holds.wait(SOON)
    asked = alone.ask("alone")
    until_waiting(tmp_path)
    later.ask("shared")
    first.end()
    assert alone.holds.wait(SOON)
    assert not later.holds.is_set()
    alone.end()
    asked.result(SOON)
    assert later.holds.wait(SOON)


def test_a_test_that_fails_lets_go(tmp_path: Path) -> None:
    turns = Turns(tmp_path)
    for hold in (turns.alone, turns.shared):
        with pytest.raises(ValueError, match="failed"), hold():
            raise ValueError("failed")
        assert free(tmp_path / "room")
        assert free(tmp_path / "door")
    turns.close()
