"""Time and identifiers come from here: the one seam that tests control.

An id has the form of a random UUID (version 4), but its first 48 bits are the Unix time in milliseconds
at which it was made. New rows therefore go to one end of an index, which stays in memory, instead of to a
random page of it. Whoever sees an id can tell when it was made; the other 74 bits are random, so nobody can
guess one.
"""

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
        """Return a fresh UUID of the form of version 4, canonical; later ones begin with later times."""
        ...


class SystemClock:
    """The clock of the machine.

    UUIDs end in buffered randomness: one system call serves many, and taking one is a list
    pop, so threads never share one. A forked child drops what it inherited. Two that are made in
    the same millisecond have no order.
    """

    monotonic = staticmethod(time.monotonic)  # several calls per token: no frame of our own

    def __init__(self) -> None:
        self._ready: list[str] = []
        self._stamp = (0, "")  # a millisecond, and what UUIDs of it begin with
        os.register_at_fork(after_in_child=self._ready.clear)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def uuid(self) -> str:
        made_ms = time.time_ns() // 1_000_000
        known_ms, begin = self._stamp
        if made_ms != known_ms:
            digits = f"{made_ms:012x}"
            begin = f"{digits[:8]}-{digits[8:]}-"
            self._stamp = made_ms, begin
        try:
            return begin + self._ready.pop()
        except IndexError:
            fresh, *rest = _ends(IDS_PER_READ)
            self._ready.extend(rest)
            return begin + fresh


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


def new_epoch() -> str:
    """Return a fresh name for a log's incarnation: random, though an id begins with the time."""
    return new_id("e")[-8:]


def new_id(prefix: str) -> str:
    """Return `prefix-<uuid4>`, unique among all processes; it tells when it was made."""
    return f"{prefix}-{_clock.uuid()}"


def _ends(count: int) -> list[str]:
    """Return what of a UUID follows its time: version, variant, and 74 random bits."""
    digits = os.urandom(10 * count).hex()
    return [
        f"4{digits[i : i + 3]}-{_VARIANT[digits[i + 3]]}{digits[i + 4 : i + 7]}-{digits[i + 7 : i + 19]}"
        for i in range(0, 20 * count, 20)
    ]
