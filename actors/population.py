"""The actors alive in this process: woken on demand, supervised, and let go when idle."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import anyio

from actors import clock, reading, stored_commands, unheard, withdrawal
from actors.agent import Actor
from actors.commands import SendMessages
from actors.commons import Commons
from actors.errors import ActorError, BrokenAgentError, DrainingError
from actors.headstart import HeadStarts
from actors.mailbox import Waiting
from actors.pace import Pace
from actors.thread import Thread
from storage import activation
from storage.activation import MAX_ATTEMPTS, Activated, PendingCommand
from storage.agents import shard_of
from storage.errors import FencedError, NotFoundError, StorageError, UnavailableError
from storage.inbox import Pending
from storage.pool import connection
from storage.records import RunError, StopReason

log = logging.getLogger("wakeful.host")

SWEEP = 1.0  # seconds between looks for idle actors
COMMIT_PATIENCE = 2.0  # seconds that a host which is suspended waits for the commits under way
BACKOFF = (0.05, 0.5, 2.0)  # seconds before an agent that crashed is activated again
BROKEN_RETRY = 60.0  # seconds between attempts to wake an agent whose rows nobody can read, unasked


class Population:
    """Hot actors by agent. An agent has at most one; whoever needs it calls `wake`."""

    def __init__(self, commons: Commons) -> None:
        self.commons = commons
        self.hot: OrderedDict[str, Actor] = OrderedDict()
        self.closed = False
        self.heads = HeadStarts(self)
        self._waking: dict[str, asyncio.Task[Exception | None]] = {}
        self._arrivals: dict[str, list[Waiting]] = {}
        self._activations = asyncio.Semaphore(commons.settings.max_activations)
        self._crashes: dict[str, int] = {}
        self._broken: dict[str, float] = {}  # agents that cannot be read: when that is tried again
        # Of activations that ended early: commands not at fault, and those at fault but not counted.
        self._unsettled: dict[str, tuple[set[int], set[int]]] = {}

    # --- waking -----------------------------------------------------------------------------------

    async def wake(self, agent_id: str) -> Actor:
        """Return the agent's actor, activating it if it is not alive.

        Raises:
            NotFoundError: There is no such agent.
            FencedError: A newer owner holds it.
            DrainingError: The host is stopping or lost its lease.
            UnavailableError: The database did not answer.
            BrokenAgentError: Its rows cannot be read.
        """
        while True:
            actor = self.hot.get(agent_id)
            if actor is not None and not actor.dead:
                self.hot.move_to_end(agent_id)
                actor.touched = clock.monotonic()
                return actor
            task = self._waking.get(agent_id)
            if task is None:
                if self.closed or self.commons.group is None:
                    raise DrainingError
                task = self.commons.group.create_task(self._activate(agent_id))
                self._waking[agent_id] = task
            error = await asyncio.shield(task)
            if error is not None:
                raise error

    def wake_later(self, agent_id: str) -> None:
        """Wake the agent without waiting for it; where that fails the poll tries again."""
        if clock.monotonic() < self._broken.get(agent_id, 0.0):
            return
        if not self.closed and agent_id not in self._waking and agent_id not in self.hot:
            self.commons.spawn(self._wake_quietly, agent_id)

    async def _wake_quietly(self, agent_id: str) -> None:
        try:
            await self.wake(agent_id)
        except (StorageError, ActorError) as error:
            log.warning("agent not woken", extra={"agent_id": agent_id, "reason": str(error)})

    def deliver(self, agent_id: str, waiting: Waiting) -> None:
        """Hand an accepted command to its agent, which is woken for it if need be."""
        self.count(agent_id, waiting.command.conversation_id, waiting.run_id)
        actor = self.hot.get(agent_id)
        if actor is not None:
            actor.deliver(waiting)
            return
        # The activation under way may have read the inbox before this command was in it.
        if agent_id in self._waking:
            self._arrivals.setdefault(agent_id, []).append(waiting)
        self.wake_later(agent_id)

    def summon(self, row: Pending) -> None:
        """Count a command that is in the inbox of an agent that is not hot, and wake the agent for it.

        An agent that is waking may have read its inbox before the command was in it, and would take a
        run that is counted but not there for one that is over: it is left to the next look.
        """
        if row.agent_id not in self._waking:
            self.count(row.agent_id, row.conversation_id, row.run_id)
            self.wake_later(row.agent_id)

    def count(self, agent_id: str, conversation_id: str, run_id: str) -> None:
        """Count a command as unfinished, once, and let followers of its run wait for it."""
        load = self.commons.load
        if not load.held(run_id):
            load.restore(agent_id, conversation_id)
            load.hold(run_id, agent_id, conversation_id)
        self.commons.logs.channel(conversation_id, agent_id).expected.add(run_id)

    async def _activate(self, agent_id: str) -> Exception | None:
        """Load an agent and deliver what waits for it; return what went wrong instead of raising."""
        begun = clock.monotonic()
        actor: Actor | None = None
        try:
            with self.commons.hearing() as heard, self.commons.load.ends() as ended:
                state = await self._claimed(agent_id)
                actor = Actor(self, state)
                await self._deliver_pending(actor, state, since=begun)
                if actor.dead:  # what it was given has ended it already
                    raise DrainingError("the agent is being restarted")
                self._broken.pop(agent_id, None)
                self.hot[agent_id] = actor
                self.commons.hold(actor, set(), {b.id for b in actor.blocks.values()})
                for block in heard:
                    actor.block_is(block)
            arrived = [w for w in self._arrivals.pop(agent_id, []) if w.run_id not in ended]
            for waiting in arrived:
                actor.deliver(waiting)
            unheard.reconcile(self, actor, {p.run_id for p in state.pending} | {w.run_id for w in arrived})
            if self.closed:  # the host was suspended meanwhile, and did not see this actor
                await self.suspend()
        except (StorageError, DrainingError) as error:
            self._arrivals.pop(agent_id, None)
            if isinstance(error, NotFoundError):
                unheard.end_all(self.commons, agent_id)
            return error
        except Exception as error:  # the supervisor: what one agent's rows hold must not end the host
            log.exception("agent cannot be woken", extra={"agent_id": agent_id})
            self._arrivals.pop(agent_id, None)
            self._broken[agent_id] = clock.monotonic() + BROKEN_RETRY
            if actor is not None:
                await self._stop(actor, None, guilty=set())
            broken = BrokenAgentError(agent_id)
            broken.__cause__ = error
            return broken
        finally:
            self._waking.pop(agent_id, None)
        return None

    async def _claimed(self, agent_id: str) -> Activated:
        """Raise the agent's fence and read what is to be loaded, when its turn to be woken has come."""
        async with self._activations:
            self.commons.check_lease()
            await self._settle_attempts(agent_id)
            fence = self.commons.directory.fence(shard_of(agent_id))
            async with connection(self.commons.commit_pool) as conn:
                return await activation.activate(conn, agent_id, fence=fence)

    async def _deliver_pending(self, actor: Actor, state: Activated, *, since: float) -> None:
        """Deliver what an agent's inbox holds; its time counts from when the agent was woken for it."""
        heads = {row.conversation_id: row.seq for row in reversed(state.pending) if not row.held}
        commands = [
            stored_commands.read(row.command, agent_id=actor.agent.id, run_id=row.run_id)
            for row in state.pending
        ]
        interrupted = {run_id for command in commands if command is not None for run_id in command.interrupts}
        for row, command in zip(state.pending, commands, strict=True):
            if row.state == "applied" or heads.get(row.conversation_id) == row.seq:
                actor.counted.add(row.seq)
            waiting = Waiting(
                seq=row.seq,
                run_id=row.run_id,
                command=command or SendMessages(conversation_id=row.conversation_id, messages=()),
                since=since,
                attempt=row.attempt,
                applied=row.state == "applied",
                usage=row.usage,
            )
            self.count(actor.agent.id, row.conversation_id, row.run_id)
            ends = waiting.command.cancelled or row.run_id in interrupted
            thread = actor.threads.get(row.conversation_id)
            if thread is not None and (command is None or row.attempts > MAX_ATTEMPTS):
                await self._park(actor, thread, waiting, row)
            elif thread is not None and ends and not waiting.applied:
                await self.settle(actor, thread, waiting, stop_reason="cancelled")
            else:
                actor.deliver(waiting)

    async def _park(self, actor: Actor, thread: Thread, waiting: Waiting, row: PendingCommand) -> None:
        """A command that broke every attempt, or cannot be read, becomes a dead letter; the agent goes on."""
        log.error(
            "command parked",
            extra={"agent_id": actor.agent.id, "run_id": row.run_id, "attempts": row.attempts - 1},
        )
        why = "its command cannot be read, and it was given up"
        if row.attempts > MAX_ATTEMPTS:
            why = f"the run failed {MAX_ATTEMPTS} times and was given up"
        error = RunError("internal_error", why)
        await self.settle(actor, thread, waiting, stop_reason="error", error=error, state="dead")

    async def end_late(self, actor: Actor, waiting: Waiting) -> None:
        """Cancel a command whose conversation was deleted meanwhile; the poll finds what could not be."""
        try:
            thread = await reading.deleted(actor, waiting.command.conversation_id)
            await withdrawal.end(actor, thread, waiting, stop_reason="cancelled", error=None, state="done")
        except DrainingError:
            return
        except StorageError as error:
            log.warning("late run not ended", extra={"run_id": waiting.run_id, "reason": str(error)})
            await self._stop(actor, None, guilty=set())

    async def settle(
        self,
        actor: Actor,
        thread: Thread,
        waiting: Waiting,
        *,
        stop_reason: StopReason,
        error: RunError | None = None,
        state: str = "done",
    ) -> None:
        """End a command that no turn handles: cancelled while it waited, or a dead letter.

        Its input stays, listed and excluded from what models see, if no step stored it before. Where
        that cannot be committed the activation ends: no mailbox holds the command, the next one finds it.

        Raises:
            StorageError, DrainingError
        """
        try:
            await withdrawal.end(actor, thread, waiting, stop_reason=stop_reason, error=error, state=state)
        except StorageError:
            await self._stop(actor, None, guilty=set())
            raise

    # --- supervision --------------------------------------------------------------------------------

    async def supervise(self, actor: Actor, thread: Thread) -> None:
        """Run a conversation's turns; when one crashes, end the activation and begin another.

        The database counts attempts: after the third crash on one command the next activation parks it.
        """
        agent_id = actor.agent.id
        try:
            await actor.consume(thread)
        except asyncio.CancelledError:
            if thread.turn is not None:
                thread.turn.retract()
            raise
        except (FencedError, DrainingError, UnavailableError) as error:
            # Not the command's fault: the agent is woken again if it is still ours.
            log.warning("turn stopped", extra={"agent_id": agent_id, "reason": str(error)})
            await self._stop(actor, thread, guilty=set())
        except Exception:  # the supervisor: whatever a turn did, the agent must go on
            log.exception("turn crashed", extra={"agent_id": agent_id})
            await self._stop(actor, thread, guilty=thread.in_hand())
        else:
            self._crashes.pop(agent_id, None)
            thread.task = None  # an idle conversation keeps none, not even one that has ended
            return
        crashes = self._crashes[agent_id] = self._crashes.get(agent_id, 0) + 1
        await clock.sleep(BACKOFF[min(crashes, len(BACKOFF)) - 1])
        if not self.closed:
            await self._wake_quietly(agent_id)

    async def _stop(self, actor: Actor, thread: Thread | None, *, guilty: set[int]) -> None:
        """End an activation, asked for by the task of `thread`, which may be nobody's.

        Commands that are not at fault get the attempt back that it counted. Waits for the commit that
        is under way: whoever it belongs to is told before being stopped.
        """
        if thread is not None:
            thread.scheduled = True  # nobody else may go on with this conversation meanwhile
            if thread.turn is not None:
                thread.turn.retract()
        async with actor.commit_turn:
            self.end(actor, but=None if thread is None else thread.task, guilty=guilty)

    def end(self, actor: Actor, *, but: asyncio.Task[None] | None, guilty: Collection[int] = ()) -> None:
        """End an activation whose commit turn the caller holds; its turns stop, in all tasks `but` one."""
        for thread in actor.threads.values():
            if thread.task is not None and thread.task is not but:
                thread.task.cancel()
        counted = set(actor.counted)
        self._unsettled[actor.agent.id] = counted.difference(guilty), set(guilty) - counted
        self.drop(actor)

    async def _settle_attempts(self, agent_id: str) -> None:
        """Undo the attempts counted for commands that were stopped, and count crashes that were not.

        Done before the next activation counts. Best effort: what is lost with the database's answer
        costs a command one attempt more or less.
        """
        innocent, guilty = self._unsettled.pop(agent_id, (set[int](), set[int]()))
        if not innocent and not guilty:
            return
        try:
            async with connection(self.commons.pool) as conn:
                await activation.take_back(conn, list(innocent))
                await activation.count_crash(conn, list(guilty))
        except StorageError as error:
            log.warning("attempts not taken back", extra={"reason": str(error)})

    # --- leaving memory -----------------------------------------------------------------------------

    def drop(self, actor: Actor) -> None:
        """Forget an actor. Its state is committed; the next message activates it again."""
        actor.dead = True
        if self.hot.get(actor.agent.id) is actor:
            del self.hot[actor.agent.id]
        self.commons.hold(actor, {b.id for b in actor.blocks.values()}, set())

    def bury(self, actor: Actor) -> None:
        """Forget an agent that was deleted, with its runs and logs."""
        self.drop(actor)
        for run_id in self.commons.load.runs_of(actor.agent.id):
            self.commons.load.finish(run_id)
        for conversation_id in actor.threads:
            self.commons.awaited.pop(conversation_id, None)
        self.commons.logs.bury(actor.agent.id, tuple(actor.threads))

    async def sweep(self) -> None:
        """Let idle actors go by time, and the least recently used first when memory is over its bound."""
        while True:
            await anyio.sleep(SWEEP)
            await self.sweep_once()
            await self.commons.logs.freeze()

    async def sweep_once(self) -> None:
        """Look once for actors to let go, with pauses where there are many."""
        settings, pace = self.commons.settings, Pace()
        oldest = clock.monotonic() - settings.passivate_after
        total = 0
        for actor in tuple(self.hot.values()):
            if pace.due():
                await pace.rest()
            if actor.dead:  # it left while we rested
                continue
            if actor.idle and actor.touched < oldest:
                self.drop(actor)
            else:
                total += actor.size_bytes
        for actor in tuple(self.hot.values()):
            if total <= settings.hot_bytes:
                return
            if actor.idle:
                total -= actor.size_bytes
                self.drop(actor)

    def turns_running(self) -> bool:
        """Whether any turn is under way."""
        return any(t.turn is not None for a in self.hot.values() for t in a.threads.values())

    async def suspend(self) -> None:
        """End every activation where it stands. Turns go on in the next life from their last step."""
        self.closed = True
        self.heads.drop_all()
        stopped: list[asyncio.Task[Any]] = []
        patience = clock.monotonic() + COMMIT_PATIENCE
        for actor in tuple(self.hot.values()):
            # What is being committed is told first, or clients would never hear of what is stored.
            locked = await _acquired(actor.commit_turn, until=patience)
            for thread in actor.threads.values():
                if thread.task is not None and not thread.task.done():
                    thread.task.cancel()
                    stopped.append(thread.task)
            self._unsettled[actor.agent.id] = set(actor.counted), set()
            self.drop(actor)
            if locked:
                actor.commit_turn.release()
        for agent_id in tuple(self._unsettled):
            await self._settle_attempts(agent_id)
        if stopped:
            await asyncio.wait(stopped, timeout=self.commons.settings.drain_seconds)


async def _acquired(lock: asyncio.Lock, *, until: float) -> bool:
    """Take a lock, and say whether it could be taken by then."""
    try:
        async with asyncio.timeout(max(0.0, until - clock.monotonic())):
            return await lock.acquire()
    except TimeoutError:
        return False
