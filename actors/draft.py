"""What one step is about to change, gathered against committed blocks before it is committed."""

from typing import TYPE_CHECKING

from actors.events import BlockChanged, Event
from actors.loop import Turn
from actors.mailbox import Waiting
from storage.checkpoints import BlockWrite, InboxUpdate, MessageRewrite, RunUpdate
from storage.records import Block, Message, Step, StopReason, ToolReturnPart, Usage

if TYPE_CHECKING:
    from actors.toolrun import Prepared


class Draft:
    """A step before its commit. It may be thrown away and drafted again on reloaded blocks."""

    def __init__(self, blocks: dict[str, Block]) -> None:
        self.blocks = dict(blocks)
        self.changed: dict[str, Block] = {}
        self.messages: list[Message] = []
        self.rewrites: list[MessageRewrite] = []
        self.steps: list[Step] = []
        self.runs: list[RunUpdate] = []
        self.inbox: list[InboxUpdate] = []
        self.joined: list[Waiting] = []
        self.turn = Turn(max_steps=0)
        self.usage = Usage()
        self.stop_reason: StopReason | None = None
        self.duration_ms: int | None = None
        self._base = dict(blocks)

    def settle(self, call: "Prepared") -> ToolReturnPart:
        """Return a call's result; an edit of memory is applied to the draft's blocks here."""
        block, result = call.settle(self.blocks)
        if block is not None:
            self.blocks[block.label] = block
            self.changed[block.label] = block
        return result

    def block_writes(self) -> tuple[BlockWrite, ...]:
        """Return the changed blocks with the versions they were read at."""
        return tuple(
            BlockWrite(id=b.id, version=self._base[label].version, value=b.value)
            for label, b in self.changed.items()
            if b.value != self._base[label].value
        )

    def events(self, run_id: str) -> list[Event]:
        """Return what changed in memory, as events; versions are those after the commit."""
        return [
            BlockChanged(run_id, w.id, label, w.value, w.version + 1)
            for w in self.block_writes()
            for label, b in self.changed.items()
            if b.id == w.id
        ]
