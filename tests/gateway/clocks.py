"""A clock that tests move by hand."""

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import anyio
import anyio.lowlevel

from actors import clock


class ManualClock:
    """Time stands still until `advance`; whoever sleeps until then is woken in order."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._count = 0

    def now(self) -> datetime:
        return datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        self._count += 1
        heapq.heappush(self._sleepers, (self.seconds + seconds, self._count, event))
        await event.wait()

    def uuid(self) -> str:
        return str(uuid4())

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everybody who wakes meanwhile do what they do."""
        until = self.seconds + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, event = heapq.heappop(self._sleepers)
            self.seconds = max(self.seconds, at)
            event.set()
            await _settle()
        self.seconds = until
        await _settle()


async def _settle() -> None:
    """Let every task run until it waits; each needs only a few turns of the loop."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


@contextmanager
def manual_clock() -> Iterator[ManualClock]:
    """Replace the process's clock for a while."""
    mine = ManualClock()
    before = clock.replace(mine)
    try:
        yield mine
    finally:
        clock.replace(before)
