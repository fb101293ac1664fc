"""Lets a test marked `alone` have the machine: while it runs, no other worker of the session runs a test."""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """A lock of several processes on two files of a folder, which most tests share and a few hold alone.

    Waiting has no deadline of its own: whoever is waited for runs one test, which has one, and a process
    that dies lets go. The files are not inherited by programs that a test starts.
    """

    def __init__(self, folder: Path) -> None:
        self._door = (folder / "door").open("ab")
        self._room = (folder / "room").open("ab")

    def close(self) -> None:
        """Let go of the files."""
        self._door.close()
        self._room.close()

    @contextmanager
    def shared(self) -> Generator[None]:
        """Hold it together with others; waits until nobody holds it alone, or waits to."""
        with self._held(fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Generator[None]:
        """Hold it without any other; waits until those who hold it let go, and nobody overtakes."""
        with self._held(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _held(self, how: int) -> Generator[None]:
        # All pass the door one by one. Who wants to be alone waits in it for the room to empty, so that those
        # who share the room, and could follow each other for ever, queue behind.
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, how)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)
