"""What an organisation's agents asked of people lately: approvals requested, answered and expired."""

from collections import deque

from msgspec import Struct

from actors import clock
from actors.events import ApprovalAnswered, ApprovalRequested, Event, Position

MAX_INTERRUPTS = 1000  # of one organisation; older ones are not recovered

INTERRUPTS = (ApprovalRequested, ApprovalAnswered)


class Interrupt(Struct, frozen=True, gc=False):
    """One of them at its place in the log."""

    offset: int
    agent_id: str
    conversation_id: str
    event: Event


class InterruptLog:
    """The last interrupts of one organisation. Its users see those of their agents, offsets have gaps."""

    __slots__ = ("_kept", "epoch", "next")

    def __init__(self) -> None:
        self.epoch = clock.new_epoch()
        self.next = 1
        self._kept: deque[Interrupt] = deque(maxlen=MAX_INTERRUPTS)

    @property
    def position(self) -> Position:
        """Where the log stands."""
        return Position(self.epoch, self.next - 1)

    def append(self, agent_id: str, conversation_id: str, event: Event) -> Interrupt:
        """Keep one more and return it with its offset."""
        interrupt = Interrupt(self.next, agent_id, conversation_id, event)
        self.next += 1
        self._kept.append(interrupt)
        return interrupt

    def kept(self) -> list[Interrupt]:
        """Return all that is still here."""
        return list(self._kept)

    def since(self, offset: int) -> list[Interrupt] | None:
        """Return everything after `offset`; None where part of it is forgotten or was never here."""
        if not 0 <= offset < self.next:
            return None
        if offset + 1 == self.next:
            return []
        if not self._kept or self._kept[0].offset > offset + 1:
            return None
        return [kept for kept in self._kept if kept.offset > offset]
