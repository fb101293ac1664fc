"""The actor: one live agent. Whatever changes it happens here, one commit after the other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from actors import agent_types, clock, holding, prompt, queueing, reading, rules
from actors.draft import Draft
from actors.events import BlockDetached, Event
from actors.few import Few
from actors.jobs import Job, T
from actors.loop import Policy
from actors.mailbox import Waiting
from actors.thread import Thread
from actors.tools.reading import Reader
from actors.turn import TurnRunner
from storage import activation
from storage.activation import Activated
from storage.archive_records import Passage
from storage.archives import Holdings
from storage.errors import NotFoundError
from storage.pending_records import PendingRequest
from storage.pool import connection
from storage.records import Agent, Block, Conversation, Message, Timing, Tool

if TYPE_CHECKING:
    from actors.channels import Channel
    from actors.llm.model import Model
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
        self.holdings = state.holdings
        self.policy = Policy()
        self.bind(state.agent, state.tools)
        self.calibration = self.commons.calibrations.of(state.agent.settings.model)
        self.commit_turn = asyncio.Lock()
        self.threads: dict[str, Thread] = {c.id: Thread(c) for c in state.conversations}
        self.deleted: dict[str, Thread] = {}  # conversations to which commands came too late
        self.intended = {call.call_id: call for call in state.intended}  # may have run in an earlier life
        requests = {request.conversation_id: request for request in state.requests}
        for thread in self.threads.values():
            self.awaits(thread, requests.get(thread.id))
        self.recovered: dict[str, list[Message]] = {}
        self.known = Few[int]()
        self.latest: Timing | None = None  # of the last step it committed in this life
        self.window: tuple[str, int] | None = None  # a model's handle, and its tokens
        self.spoke = state.agent.id  # the conversation whose turn was the last to begin
        self.counted = Few[int]()  # commands whose attempt it counted and no commit has reset
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
            organization_id=self.agent.organization_id,
            run_id=run_id,
            timezone=self.agent.settings.timezone,
            now=clock.now(),
            count=self.commons.counter.count,
            fits=self.commons.counter.fits,
            embeddings=self.commons.embeddings,
            embedding=self.holdings.embedding or self.agent.settings.embedding,
            web=self.commons.web,
        )

    def learn(self, reported: int, *, ours: int, model: "Model | None") -> None:
        """Take into account what a model's provider reports for a prompt that we count as `ours`."""
        self.calibration = self.calibration.observe(ours=ours, reported=reported)
        if model is not None:
            self.commons.calibrations.observe(model.ref.handle, ours=ours, reported=reported)

    def set_tools(self, tools: tuple[Tool, ...]) -> None:
        """Show models these tools from the next call on."""
        self.bind(self.agent, tools)
        self.memory_version += 1

    def bind(self, agent: Agent, tools: tuple[Tool, ...]) -> None:
        """Take the agent's settings and these tools: its turns follow them from the next step on."""
        if agent.settings.model != self.agent.settings.model:
            self.calibration = self.commons.calibrations.of(agent.settings.model)
        self.agent = agent
        self.policy = Policy(
            rules=rules.compiled(agent.settings.tool_rules),
            attached=tuple(tool.name for tool in tools),
            memgpt=agent_types.type_of(agent.settings.agent_type).memgpt,
        )
        self.toolbox = self.commons.toolbox(
            tools,
            strict=agent.settings.model_settings.strict,
            terminal=self.policy.rules.exits if self.policy.memgpt else None,
        )

    def take_memory(self, draft: Draft, *, run_id: str | None, but: "Channel | None") -> None:
        """Take a committed step's blocks into hot state and tell the other holders of the blocks."""
        if draft.passages:
            chosen = self.holdings.embedding or draft.passages[0].embedding_model
            stored = self.holdings.passages + len(draft.passages)
            self.holds(Holdings(passages=stored, embedding=chosen))
            self.stored(draft.passages)
        written, created, detached = draft.written, draft.created, draft.detached
        if not (written or created or detached):
            return
        self._take_blocks(
            holding.after_step(self.blocks, written=written, created=created, detached=detached)
        )
        for block in written:
            self.commons.spread(block, but=self)
        self._tell(*draft.events(run_id), but=but)

    def stored(self, passages: Sequence[Passage]) -> None:
        """Have committed passages without vectors embedded later, where there is a model for them."""
        if any(passage.vector is None for passage in passages):
            chosen = self.holdings.embedding or self.agent.settings.embedding
            if self.commons.embeddings.handle_for(chosen) is not None:
                self.commons.unembedded.set()

    def block_is(self, block: Block) -> None:
        """A block has this committed value now, whoever wrote it. Older versions are ignored."""
        after = holding.after_write(self.blocks, block)
        if after is None:
            return
        events = holding.changes(self.blocks, after)
        self.blocks = after
        self.memory_version += 1
        self._tell(*events)

    def _tell(self, *events: Event, but: "Channel | None" = None) -> None:
        """Publish what became of memory where turns are running; where none is, only watchers are told."""
        running = [t.turn.channel for t in self.threads.values() if t.turn and not t.turn.finished]
        for channel in running:
            if channel is not but:
                channel.publish(*events)
        if not running:
            self.commons.logs.tell(self.agent.id, *events)

    def hold_blocks(self, blocks: tuple[Block, ...]) -> None:
        """Take the agent's blocks as they were read; a newer value heard of meanwhile stays."""
        before = self.blocks
        self._take_blocks(holding.after_read(before, blocks))
        self._tell(*holding.changes(before, self.blocks))

    async def reload_blocks(self) -> None:
        """Read the blocks as they are committed now."""
        async with connection(self.commons.pool) as conn:
            rows = await activation.blocks_of(conn, self.agent.id)
        self.hold_blocks(rows)

    def _take_blocks(self, blocks: dict[str, Block]) -> None:
        before = {b.id for b in self.blocks.values()}
        self.blocks = blocks
        self.memory_version += 1
        self.commons.hold(self, before, {b.id for b in blocks.values()})

    def holds(self, holdings: Holdings) -> None:
        """Its archives hold this now; every prompt says how much from its next turn on."""
        if holdings.passages != self.holdings.passages:
            for thread in self.threads.values():
                thread.compiled_for = -1
        self.holdings = holdings

    def block_gone(self, block_id: str) -> None:
        """A block was deleted: it leaves the prompt."""
        gone = [b for b in self.blocks.values() if b.id == block_id]
        self.blocks = {label: b for label, b in self.blocks.items() if b.id != block_id}
        self.memory_version += 1
        self._tell(*(BlockDetached(None, b.id, b.label, b.limit_chars) for b in gone))

    def reset(self, thread: Thread, initial: Sequence[Message]) -> None:
        """Take a committed reset: models see nothing of what was said but `initial`, nobody has to answer."""
        thread.open = None
        thread.clear()
        thread.append(list(initial))
        self.awaits(thread, None)

    def awaits(self, thread: Thread, request: PendingRequest | None) -> None:
        """Note what a conversation waits for somebody outside to answer; None where it waits no longer."""
        thread.pending = request
        if request is None:
            self.commons.awaited.pop(thread.id, None)
        else:
            self.commons.awaited[thread.id] = request.agent_id, request.message_id

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

    def drop_conversation(self, conversation_id: str) -> None:
        """A conversation was deleted between two of its turns: what waits in it is cancelled."""
        thread = self.threads.pop(conversation_id, None)
        if thread is None:
            return
        self.awaits(thread, None)
        for waiting in (*thread.steering, *thread.mailbox):
            thread.remove(waiting.run_id)
            self.known.discard(waiting.seq)
            self.deliver(waiting)

    def add_conversation(self, conversation: Conversation) -> None:
        """Hold a conversation that was just created."""
        self.threads[conversation.id] = Thread(conversation)

    def deliver(self, waiting: Waiting) -> None:
        """Put an accepted command where it belongs; a command that is known already changes nothing."""
        if waiting.seq in self.known:
            return
        self.known.add(waiting.seq)
        if waiting.command.cancelled:  # in an earlier life
            self.commons.load.cancel(waiting.run_id)
        thread = self.threads.get(waiting.command.conversation_id)
        if thread is None:  # it was accepted while its conversation was being deleted
            self.population.count(self.agent.id, waiting.command.conversation_id, waiting.run_id)
            self.commons.spawn(self.population.end_late, self, waiting)
            return
        self.touched = clock.monotonic()
        when_busy = "queue" if waiting.command.approvals else waiting.command.when_busy
        if when_busy == "steer" and thread.turn is not None and thread.turn.steered_by(waiting):
            thread.steering.append(waiting)
        elif when_busy == "interrupt":
            self._interrupt(thread, waiting)
        else:
            thread.mailbox.put(waiting)
        queueing.arrived(self, thread)
        self._schedule(thread)

    def _interrupt(self, thread: Thread, waiting: Waiting) -> None:
        """Make a command the next one, and end what is under way before it."""
        for run_id in thread.under_way:  # whatever becomes of the turn, the next activation ends it as well
            self.commons.load.cancel(run_id)
        if thread.turn is not None:
            thread.turn.cancel()
        thread.mailbox.put_first(waiting)

    async def operate(self, thread: Thread, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work when no turn of the conversation runs, before its next one; return its result.

        Cancelling ends the wait, not the work.

        Raises:
            DrainingError: The activation ended before the work was done.
            What the work raises.
        """
        self.touched = clock.monotonic()
        job = Job(work)
        thread.jobs.append(job)
        self._schedule(thread)
        if self.dead or thread.task is None:
            job.abandon()
        else:
            thread.task.add_done_callback(job.abandon)
        return await job.outcome()

    def _schedule(self, thread: Thread) -> None:
        """Let the conversation's consumer run if it does not: an idle one costs no task."""
        if not thread.scheduled and not self.dead:
            thread.scheduled = True
            thread.task = self.commons.spawn(self.population.supervise, self, thread)

    async def consume(self, thread: Thread) -> None:
        """Run turns until nothing waits. Steering that came too late for its turn is a turn itself."""
        try:
            if not thread.loaded:
                await reading.load(self, thread)
                thread.woken = clock.monotonic()
            while not self.dead and await self._go_on(thread):
                pass
        finally:
            thread.scheduled = False
            self.touched = clock.monotonic()

    async def _go_on(self, thread: Thread) -> bool:
        """Do what comes next, an operation or a turn; return whether there was anything to do."""
        async with self.commons.run_slots:
            if thread.jobs and not thread.resuming:
                await thread.jobs.pop(0).run()
                return True
            # Taken only now: a command that waits for a slot can still be cancelled.
            waiting = thread.take()
            if waiting is None:
                return False
            self.spoke = thread.id
            thread.turn = TurnRunner(self, thread, waiting)
            thread.turn.joined += thread.take_applied()
            await thread.turn.run()
        for done in (waiting, *thread.turn.joined):
            self.known.discard(done.seq)
        thread.turn = None
        return True

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits, so that the actor may leave memory."""
        return not self.commit_turn.locked() and not any(t.busy or t.steering for t in self.threads.values())

    @property
    def size_bytes(self) -> int:
        """About what the actor costs in memory."""
        return BASE_BYTES + sum(t.size_bytes for t in self.threads.values() if t.loaded)
