"""The actor: one live agent. Whatever changes it happens here, one commit after the other."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import clock, prompt
from actors.draft import Draft
from actors.events import BlockChanged
from actors.mailbox import Waiting
from actors.thread import Thread
from actors.tokens import Calibration
from actors.toolrun import Reader
from actors.turn import TurnRunner
from storage import activation
from storage.activation import Activated
from storage.checkpoints import Checkpoint, WindowUpdate
from storage.errors import FencedError, NotFoundError, StaleBlocksError
from storage.pool import connection
from storage.records import Block, Conversation, Message, Tool

if TYPE_CHECKING:
    from actors.channels import Channel
    from actors.population import Population

BASE_BYTES = 6_000  # an actor with no conversation in memory


class Actor:
    """One agent alive in this process: hot memory plus a mailbox per conversation.

    `commit_turn` orders every commit of the agent, whether of a step or of an edit; hot state changes
    only after the commit, under the same turn, so that no conversation sees what is not durable.
    """

    def __init__(self, population: "Population", state: Activated) -> None:
        self.population = population
        self.commons = population.commons
        self.agent = state.agent
        self.version = state.agent.version
        self.blocks: dict[str, Block] = {b.label: b for b in state.blocks}
        self.memory_version = 0
        self.toolbox = self.commons.toolbox(state.tools, strict=state.agent.settings.model_settings.strict)
        self.calibration = Calibration()
        self.commit_turn = asyncio.Lock()
        self.threads: dict[str, Thread] = {c.id: Thread(c) for c in state.conversations}
        self.recovered: dict[str, list[Message]] = {}
        self.known: set[int] = set()
        self.counted: set[int] = set()  # commands whose attempt it counted and no commit has reset
        self.touched = clock.monotonic()
        self.dead = False

    # --- what its turns ask ---------------------------------------------------------------------

    def block_list(self) -> list[Block]:
        """Return the blocks in the order of the prompt."""
        return list(self.blocks.values())

    def line_numbers(self) -> bool:
        """Whether the model is shown numbered lines of memory (semantics of the Letta server)."""
        return prompt.numbers_lines(self.agent.settings)

    def reader(self, run_id: str) -> Reader:
        """Return what tools may read with."""
        return Reader(
            pool=self.commons.pool,
            agent_id=self.agent.id,
            run_id=run_id,
            timezone=self.agent.settings.timezone,
            now=clock.now(),
        )

    def set_tools(self, tools: tuple[Tool, ...]) -> None:
        """Show models these tools from the next call on."""
        strict = self.agent.settings.model_settings.strict
        self.toolbox = self.commons.toolbox(tools, strict=strict)
        self.memory_version += 1

    def take_blocks(
        self, changed: dict[str, Block], *, run_id: str | None, but: "Channel | None" = None
    ) -> None:
        """Take committed block values into hot state and tell the other holders of the blocks."""
        for label, block in changed.items():
            if block.value == self.blocks[label].value:
                continue
            block = replace(block, version=self.blocks[label].version + 1)
            self.commons.spread(block, but=self)
            self.block_is(block, run_id=run_id, but=but)

    def block_is(self, block: Block, *, run_id: str | None = None, but: "Channel | None" = None) -> None:
        """A block has this committed value now, whoever wrote it. Older versions are ignored."""
        held = next((label for label, b in self.blocks.items() if b.id == block.id), None)
        if held is None or self.blocks[held].version >= block.version:
            return
        if held == block.label:
            self.blocks[held] = block
        else:
            self.blocks = {block.label if label == held else label: b for label, b in self.blocks.items()}
            self.blocks[block.label] = block
        self.memory_version += 1
        event = BlockChanged(run_id, block.id, block.label, block.value, block.version)
        for thread in self.threads.values():
            if thread.turn is not None and thread.turn.channel is not but:
                thread.turn.channel.publish(event)

    def hold_blocks(self, blocks: tuple[Block, ...]) -> None:
        """Take the agent's blocks as they were read; a newer value heard of meanwhile stays."""
        held = {b.id: b for b in self.blocks.values()}
        before = set(held)
        newest = [max(b, held.get(b.id, b), key=lambda x: x.version) for b in blocks]
        self.blocks = {b.label: b for b in newest}
        self.memory_version += 1
        self.commons.hold(self, before, {b.id for b in blocks})

    def block_gone(self, block_id: str) -> None:
        """A block was deleted: it leaves the prompt."""
        self.blocks = {label: b for label, b in self.blocks.items() if b.id != block_id}
        self.memory_version += 1

    # --- its mailbox ----------------------------------------------------------------------------

    def thread(self, conversation_id: str) -> Thread:
        """Return a conversation of the agent.

        Raises:
            NotFoundError: It has no such conversation.
        """
        thread = self.threads.get(conversation_id)
        if thread is None:
            raise NotFoundError("conversation", conversation_id)
        return thread

    def add_conversation(self, conversation: Conversation) -> Thread:
        """Hold a conversation that was just created."""
        thread = self.threads[conversation.id] = Thread(conversation)
        return thread

    def deliver(self, waiting: Waiting) -> None:
        """Put an accepted command where it belongs; a command that is known already changes nothing."""
        if waiting.seq in self.known:
            return
        thread = self.threads.get(waiting.command.conversation_id)
        if thread is None:
            return
        self.known.add(waiting.seq)
        self.touched = clock.monotonic()
        running = thread.turn
        if running is not None and not running.finished and waiting.command.when_busy == "steer":
            thread.steering.append(waiting)
        elif running is not None and waiting.command.when_busy == "interrupt":
            thread.mailbox.put_first(waiting)
            running.cancel()
        else:
            thread.mailbox.put(waiting)
        self._schedule(thread)

    def _schedule(self, thread: Thread) -> None:
        """Let the conversation's consumer run if it does not: an idle one costs no task."""
        if not thread.scheduled and not self.dead:
            thread.scheduled = True
            thread.task = self.commons.spawn(self.population.supervise, self, thread)

    async def consume(self, thread: Thread) -> None:
        """Run turns until nothing waits. Steering that came too late for its turn is a turn itself."""
        try:
            if not thread.loaded:
                await self.load(thread)
            while not self.dead:
                async with self.commons.run_slots:
                    # Taken only now: a command that waits for a slot can still be cancelled.
                    waiting = thread.take()
                    if waiting is None:
                        return
                    thread.turn = TurnRunner(self, thread, waiting)
                    thread.turn.joined += thread.take_applied()
                    await thread.turn.run()
                self._forget(thread.turn)
                thread.turn = None
        finally:
            thread.scheduled = False
            self.touched = clock.monotonic()

    def _forget(self, turn: TurnRunner) -> None:
        for waiting in (turn.waiting, *turn.joined):
            self.known.discard(waiting.seq)

    async def load(self, thread: Thread) -> None:
        """Read a conversation's window: the one read that its first turn costs."""
        async with connection(self.commons.commit_pool) as conn:
            messages = await activation.window(conn, thread.conversation)
        thread.load(messages)
        for waiting in thread.mailbox:
            if waiting.applied:
                self.recovered[waiting.run_id] = [m for m in messages if m.run_id == waiting.run_id]

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits, so that the actor may leave memory."""
        return not self.commit_turn.locked() and not any(t.busy or t.steering for t in self.threads.values())

    @property
    def size_bytes(self) -> int:
        """About what the actor costs in memory."""
        return BASE_BYTES + sum(t.size_bytes for t in self.threads.values() if t.loaded)

    # --- its commits ----------------------------------------------------------------------------

    async def commit(self, thread: Thread, draft_of: Callable[[], Draft]) -> Draft:
        """Commit a step and return its draft. The caller holds `commit_turn`.

        When another holder of a block was faster, the blocks are reloaded and the step is drafted
        again on them, so that a tool's result says what was really applied.

        Raises:
            FencedError: A newer owner holds the agent; the actor is dead from here on.
        """
        while True:
            draft = draft_of()
            self.commons.check_lease()
            checkpoint = self._checkpoint(thread, draft)
            try:
                await self.commons.checkpoints.submit(checkpoint)
            except StaleBlocksError:
                await self.reload_blocks()
                continue
            except FencedError:
                self.dead = True
                raise
            self.version += 1
            return draft

    def _checkpoint(self, thread: Thread, draft: Draft) -> Checkpoint:
        end = draft.messages[-1].position + 1 if draft.messages else thread.end_position
        moved = draft.messages or thread.from_position != thread.conversation.from_position
        return Checkpoint(
            id=clock.new_id("ckpt"),
            agent_id=self.agent.id,
            fence=self.agent.fence,
            version=self.version,
            messages=tuple(draft.messages),
            rewrites=tuple(draft.rewrites),
            blocks=draft.block_writes(),
            runs=tuple(draft.runs),
            steps=tuple(draft.steps),
            inbox=tuple(draft.inbox),
            windows=(WindowUpdate(id=thread.id, from_position=thread.from_position, end_position=end),)
            if moved
            else (),
            stop_reason=draft.stop_reason,
            duration_ms=draft.duration_ms,
        )

    async def reload_blocks(self) -> None:
        """Read the blocks as they are committed now."""
        async with connection(self.commons.pool) as conn:
            rows = await activation.blocks_of(conn, self.agent.id)
        self.hold_blocks(rows)
