"""What one step is about to change, gathered against committed blocks before it is committed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from actors import holding
from actors.events import BlockDetached, Event
from actors.loop import Turn
from actors.mailbox import Waiting
from actors.memory_edits import Birth
from storage.archive_records import Passage
from storage.checkpoints import BlockWrite, InboxUpdate, MessageRewrite, RunUpdate
from storage.extras import BlockNaming, Extras
from storage.pending_records import PendingRequest
from storage.records import Block, Message, Step, StopReason, ToolCall, ToolReturnPart, Usage

if TYPE_CHECKING:
    from actors.openstep import OpenStep
    from actors.toolrun import Prepared


class Prompt(Struct, frozen=True):
    """The system prompt of the turns to come. `memory_version` is the actor's when it was compiled."""

    text: str
    tokens: int
    memory_version: int


class Draft:
    """A step before its commit. It may be thrown away and drafted again on reloaded blocks."""

    def __init__(self, blocks: Mapping[str, Block], birth: Birth) -> None:
        self.blocks = dict(blocks)
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
        self.tool_calls: list[ToolCall] = []
        self.opened: OpenStep | None = None
        self.asked: PendingRequest | None = None
        self.answered: PendingRequest | None = None
        self.passages: list[Passage] = []
        self.prompt: Prompt | None = None
        self._birth = birth
        self._base = {b.id: b for b in blocks.values()}
        self._left: dict[str, Block] = {}

    def settle(self, call: "Prepared") -> ToolReturnPart:
        """Return a call's result; what it does to memory becomes part of the draft here."""
        applied, result = call.settle(self.blocks, self._birth)
        if applied is not None:
            self.blocks = applied.blocks
            self._left |= {b.id: b for b in applied.detached}
        if call.passage is not None:
            self.passages.append(call.passage)
        return result

    @property
    def edits_memory(self) -> bool:
        """Whether blocks or archival memory are different afterwards."""
        return bool(self.passages or self.written or self.created or self.detached)

    # --- what became of the blocks; ids tell, because labels move -----------------------------------

    @property
    def created(self) -> tuple[Block, ...]:
        """The blocks that the step creates, in the order of the prompt."""
        return tuple(b for b in self.blocks.values() if b.id not in self._base)

    @property
    def detached(self) -> tuple[Block, ...]:
        """The blocks that leave the agent, as they were when it held them."""
        return tuple(self._base[block_id] for block_id in self._left if block_id in self._base)

    @property
    def written(self) -> tuple[Block, ...]:
        """The blocks with another value, label or description, at the versions of after the commit.

        Of a block that was changed and then detached the change stands.
        """
        return tuple(
            replace(b, version=self._base[b.id].version + 1)
            for b in (*self.blocks.values(), *self._left.values())
            if b.id in self._base and _said(b) != _said(self._base[b.id])
        )

    def block_writes(self) -> tuple[BlockWrite, ...]:
        """Return the changed blocks with the versions they were read at."""
        return tuple(BlockWrite(id=b.id, version=b.version - 1, value=b.value) for b in self.written)

    def extras(self) -> Extras | None:
        """Return what few steps change, or None where this one does not."""
        renamed = tuple(
            BlockNaming(id=b.id, label=b.label, description=b.description)
            for b in self.written
            if _named(b) != _named(self._base[b.id])
        )
        created, detached = self.created, tuple(b.id for b in self.detached)
        if not (created or detached or renamed or self.passages or self.asked or self.answered):
            return None
        return Extras(
            created_blocks=created,
            detached_blocks=detached,
            renamed_blocks=renamed,
            passages=tuple(self.passages),
            answered=None if self.answered is None else self.answered.conversation_id,
            asked=self.asked,
        )

    def events(self, run_id: str | None) -> list[Event]:
        """Return what changed in memory, as events."""
        here = {b.id for b in self.blocks.values()}
        said: list[Event] = [BlockDetached(run_id, b.id, b.label, b.limit_chars) for b in self.detached]
        said += [holding.changed(run_id, self._base[b.id], b) for b in self.written if b.id in here]
        said += [holding.created(run_id, b) for b in self.created]
        return said


def _named(block: Block) -> tuple[str, str | None]:
    return block.label, block.description


def _said(block: Block) -> tuple[str, str, str | None]:
    return block.value, *_named(block)
