"""Time and identifiers come from here: the one seam that tests control."""

import os
import time
from datetime import UTC, datetime
from typing import Protocol

import anyio

IDS_PER_READ = 256

# The first digit of the fourth group carries RFC 9562's variant, whatever the random digit was.
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


class Clock(Protocol):
    """What a process knows about time, and where its new ids come from."""

    def now(self) -> datetime:
        """Return the wall clock as an aware UTC datetime."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancelling it loses nothing."""
        ...

    def uuid(self) -> str:
        """Return a fresh random UUID of version 4 in its canonical form."""
        ...


class SystemClock:
    """The clock of the machine.

    UUIDs are cut from buffered randomness: one system call serves many, and taking one is a list
    pop, so threads never share one. A forked child drops what it inherited.
    """

    monotonic = staticmethod(time.monotonic)  # several calls per token: no frame of our own

    def __init__(self) -> None:
        self._ready: list[str] = []
        os.register_at_fork(after_in_child=self._ready.clear)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def uuid(self) -> str:
        try:
            return self._ready.pop()
        except IndexError:
            fresh, *rest = _uuids(IDS_PER_READ)
            self._ready.extend(rest)
            return fresh


_clock: Clock = SystemClock()


def replace(clock: Clock) -> Clock:
    """Make `clock` the process's clock and return the one that it replaces. For tests."""
    global _clock
    previous, _clock = _clock, clock
    return previous


def now() -> datetime:
    """Return the wall clock as an aware UTC datetime."""
    return _clock.now()


def monotonic() -> float:
    """Return seconds that never go back; only differences mean something."""
    return _clock.monotonic()


async def sleep(seconds: float) -> None:
    """Wait; cancelling it loses nothing."""
    await _clock.sleep(seconds)


def new_id(prefix: str) -> str:
    """Return `prefix-<uuid4>`, unique among all processes."""
    return f"{prefix}-{_clock.uuid()}"


def _uuids(count: int) -> list[str]:
    digits = os.urandom(16 * count).hex()
    return [
        f"{digits[i : i + 8]}-{digits[i + 8 : i + 12]}-4{digits[i + 13 : i + 16]}"
        f"-{_VARIANT[digits[i + 16]]}{digits[i + 17 : i + 20]}-{digits[i + 20 : i + 32]}"
        for i in range(0, 32 * count, 32)
    ]
