"""Says where the time of a step goes: every nanosecond belongs to the phase that it was spent in."""

import time
from typing import Literal

from storage.records import Timing

Phase = Literal["prompt", "send", "first_token", "stream", "tools", "checkpoint", "compaction"]


class Stopwatch:
    """The phases of one step so far. What is repeated adds up; what was cut off counts as far as it came.

    What was before the step began is given: `accept_ns`, `claim_ns` and `queue_ns`, see `Timing`.
    """

    __slots__ = ("_begun", "_phase", "_spent", "accept_ns", "claim_ns", "delivery_ns", "queue_ns")

    def __init__(self, *, accept_ns: int = 0, claim_ns: int = 0, queue_ns: int = 0) -> None:
        self.accept_ns = accept_ns
        self.claim_ns = claim_ns
        self.queue_ns = queue_ns
        self.delivery_ns = 0
        self._phase: Phase | None = None
        self._begun = 0
        self._spent: dict[Phase, int] = {}

    def enter(self, phase: Phase | None) -> Phase | None:
        """Begin a phase, or with None a pause; return the one that ends here."""
        ended = self._phase
        if ended is not None:
            self.was(ended)
        else:
            self._begun = time.monotonic_ns()
        self._phase = phase
        return ended

    def was(self, phase: Phase) -> None:
        """Say that what passed since the phase under way began belongs to this one; it goes on from here."""
        now = time.monotonic_ns()
        self._spent[phase] = self._spent.get(phase, 0) + now - self._begun
        self._begun = now

    def sent(self) -> None:
        """Say that the request is written: what the wait for the answer took so far was that."""
        if self._phase == "first_token":
            self.was("send")

    def delivered(self, since_ns: int) -> None:
        """Say that whoever follows has the beginning of the answer, which came at `since_ns` (monotonic)."""
        self.delivery_ns = time.monotonic_ns() - since_ns

    def timing(self) -> Timing:
        """Return the phases that ended; the one that is under way is not in it."""
        return Timing(
            accept=self.accept_ns,
            claim=self.claim_ns,
            queue=self.queue_ns,
            delivery=self.delivery_ns,
            **self._spent,
        )
