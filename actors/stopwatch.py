"""Says where the time of a step goes: every nanosecond belongs to the phase that it was spent in."""

import time
from typing import Literal

from storage.records import Timing

Phase = Literal["prompt", "first_token", "stream", "tools", "checkpoint", "compaction"]


class Stopwatch:
    """The phases of one step so far. What is repeated adds up; what was cut off counts as far as it came."""

    __slots__ = ("_begun", "_phase", "_spent", "queue_ns")

    def __init__(self, *, queue_ns: int = 0) -> None:
        self.queue_ns = queue_ns
        self._phase: Phase | None = None
        self._begun = 0
        self._spent: dict[Phase, int] = {}

    def enter(self, phase: Phase | None) -> Phase | None:
        """Begin a phase, or with None a pause; return the one that ends here."""
        now, ended = time.monotonic_ns(), self._phase
        if ended is not None:
            self._spent[ended] = self._spent.get(ended, 0) + now - self._begun
        self._phase, self._begun = phase, now
        return ended

    def timing(self) -> Timing:
        """Return the phases that ended; the one that is under way is not in it."""
        return Timing(queue=self.queue_ns, **self._spent)
