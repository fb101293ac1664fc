"""A process that runs actors: one lease, one task group, and the addresses of its agents."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import anyio
from msgspec import Struct

from actors import archival, cancelling, clock, edits, expiry, recalling, status
from actors.agent import Actor
from actors.backlog import Backlog
from actors.channels import Logs
from actors.commands import (
    DeleteAgent,
    DeleteConversation,
    Disposition,
    Edit,
    Envelope,
    Receipt,
    ResetMessages,
)
from actors.commons import Commons, HostSettings
from actors.embedder.local import EmbedderStatus
from actors.errors import DrainingError, NothingToCancelError
from actors.intake import Intake
from actors.llm.catalog import Catalog
from actors.llm.embed import Embeddings
from actors.mailbox import Waiting
from actors.population import Population
from actors.ref import AgentRef
from actors.status import AgentFigures
from actors.thread import Thread
from actors.tokens import Counter
from actors.wording import Wording
from storage import archives, inbox, pending
from storage.errors import FencedError, StorageError
from storage.pool import Pool, connection
from storage.records import Block, RunStatus, Step
from storage.standing import Standing

log = logging.getLogger("wakeful.host")
T = TypeVar("T")

PURGE_EVERY = 600.0  # seconds
IDEMPOTENCY = timedelta(hours=24)
DRAIN_LOOK = 0.02


class Health(Struct, frozen=True):
    """How the host is doing. `degraded`: it holds no lease, so it acknowledges nothing."""

    status: str
    hot_agents: int
    unfinished_runs: int
    log_bytes: int
    embedder: EmbedderStatus


class Host:
    """The actors of one process. Run it with `async with host.running()`.

    `commit_pool` (`storage.pool.open_lookup_pool`) serves what every message and every waking costs;
    with `lease_dsn` a thread keeps the lease over a connection of its own, however busy the event loop is and
    however many requests wait. Without them both are done with `pool`.
    """

    def __init__(
        self,
        pool: Pool,
        catalog: Catalog,
        *,
        name: str,
        commit_pool: Pool | None = None,
        lease_dsn: str | None = None,
        settings: HostSettings | None = None,
    ) -> None:
        self.name = name
        self._commons = Commons(
            pool,
            commit_pool or pool,
            catalog,
            name=name,
            settings=settings or HostSettings(),
            lease_dsn=lease_dsn,
        )
        self._population = Population(self._commons)
        self._intake = Intake(self._population)
        self._backlog = Backlog(
            pool,
            self._commons.embeddings,
            wanted=self._commons.unembedded,
            check=self._check_open,
            settled=self.passages_written,
        )
        self._draining = False

    @property
    def pool(self) -> Pool:
        """The process's connections to the database."""
        return self._commons.pool

    @property
    def catalog(self) -> Catalog:
        """The models that agents may name."""
        return self._commons.catalog

    @property
    def embeddings(self) -> Embeddings:
        """The embedding models of the process."""
        return self._commons.embeddings

    @property
    def logs(self) -> Logs:
        """The event logs of the process."""
        return self._commons.logs

    @property
    def superseded(self) -> anyio.Event:
        """Set when another host took over: this one must stop."""
        return self._commons.directory.superseded

    @property
    def on_finished(self) -> list[Callable[[Waiting, RunStatus], None]]:
        """Functions that are called when a run is over and durable. They must not block."""
        return self._commons.on_finished

    def ref(self, agent_id: str) -> AgentRef:
        """Return the address of an agent."""
        return AgentRef(self, agent_id)

    def spawn(
        self, function: Callable[..., Coroutine[Any, Any, None]], *args: object
    ) -> asyncio.Task[None] | None:
        """Run a function as a child of the host; what it raises is logged and harms nobody else."""
        return self._commons.spawn(function, *args)

    def health(self) -> Health:
        """Return how the host is doing."""
        status = "ok"
        if self._draining:
            status = "draining"
        elif clock.monotonic() >= self._commons.directory.deadline:
            status = "degraded"
        commons = self._commons
        return Health(
            status,
            hot_agents=len(self._population.hot),
            unfinished_runs=commons.load.total,
            log_bytes=commons.logs.size_bytes,
            embedder=commons.embeddings.status(),
        )

    @property
    def counter(self) -> Counter:
        """What counts tokens, as the actors count them."""
        return self._commons.counter

    async def accept(self, agent_id: str, envelope: Envelope) -> Receipt:
        """Accept a command durably; see `AgentRef.tell`."""
        self._check_open()
        return await self._intake.accept(agent_id, envelope)

    async def edit(self, agent_id: str, edit: Edit) -> None:
        """Apply an edit; see `AgentRef.edit`."""
        self._check_open()
        if isinstance(edit, DeleteAgent):
            await self._cancel_quietly(agent_id, None)
        elif isinstance(edit, DeleteConversation):
            await self._cancel_quietly(agent_id, edit.conversation_id)
        with anyio.CancelScope(shield=True):
            actor = await self._population.wake(agent_id)
            if isinstance(edit, ResetMessages | DeleteConversation):
                await actor.operate(actor.thread(edit.conversation_id), partial(self._edit, actor, edit))
            else:
                await self._edit(actor, edit)

    async def _edit(self, actor: Actor, edit: Edit) -> None:
        async with actor.commit_turn:
            if actor.dead:
                raise DrainingError("the agent is being restarted")
            try:
                await edits.apply(actor, edit)
            except FencedError:
                self._population.end(actor, but=asyncio.current_task())
                raise
            if isinstance(edit, DeleteAgent):
                self._population.bury(actor)

    async def operate(
        self, agent_id: str, conversation_id: str, work: Callable[[Actor, Thread], Coroutine[Any, Any, T]]
    ) -> T:
        """Do the work on a conversation between two of its turns; see `Actor.operate`."""
        self._check_open()
        actor = await self._population.wake(agent_id)
        thread = actor.thread(conversation_id)
        return await actor.operate(thread, partial(work, actor, thread))

    async def _cancel_quietly(self, agent_id: str, conversation_id: str | None) -> None:
        try:
            await self.cancel(agent_id, None, conversation_id=conversation_id)
        except NothingToCancelError:
            return

    async def cancel(
        self, agent_id: str, run_ids: tuple[str, ...] | None, *, conversation_id: str | None
    ) -> dict[str, str]:
        """Cancel runs; see `AgentRef.cancel`."""
        self._check_open()
        return await cancelling.cancel(self._population, agent_id, run_ids, conversation_id=conversation_id)

    def where(self, run_id: str) -> tuple[str, str] | None:
        """Return (agent, conversation) of a run that is not over; None where this host knows of none."""
        return self._commons.load.where(run_id)

    def disposition(self, run_id: str) -> tuple[Disposition, int] | None:
        """Return what a run is doing (it `started`, waits to be joined, or is `queued`) and its place.

        The place is 1 for the next and 0 for what is not queued; None where the run is over.
        """
        where = self.where(run_id)
        if where is None:
            return None
        actor = self._population.hot.get(where[0])
        thread = None if actor is None else actor.threads.get(where[1])
        if thread is None:
            return "queued", 1
        return thread.disposition(run_id)

    @property
    def wording(self) -> Wording:
        """What fills in the words that searches read."""
        return self._commons.wording

    def figures(self, agent_id: str) -> AgentFigures | None:
        """Return how an agent is doing; None where it is not alive and nothing waits for it."""
        actor = self._population.hot.get(agent_id)
        if actor is not None:
            return status.figures(actor)
        unfinished = self._commons.load.count(agent_id)
        if not unfinished:
            return None
        return AgentFigures(agent_id=agent_id, name=None, status="running", queued=unfinished)

    def living(self) -> list[str]:
        """Return the ids of the agents that are alive here."""
        return list(self._population.hot)

    @property
    def on_block(self) -> list[Callable[[str], None]]:
        """Functions that are called with a block's id when it was written or deleted, whoever holds it.

        They must not block.
        """
        return self._commons.on_block

    def alive(self, agent_id: str) -> Actor | None:
        """Return the actor of an agent that is alive here: to be looked at, without an await in between."""
        return self._population.hot.get(agent_id)

    async def recall(self, agent_id: str, conversation_id: str, *, otids: Sequence[str]) -> Standing | None:
        """Return how a conversation stands, if memory tells; see `recalling.standing`."""
        return await recalling.standing(self._population, agent_id, conversation_id, otids=otids)

    def is_asking(self, agent_id: str) -> bool:
        """Say whether a conversation of the agent, alive or not, waits for somebody outside to answer."""
        return any(agent == agent_id for agent, _ in self._commons.awaited.values())

    def running_step(self, agent_id: str, run_id: str) -> Step | None:
        """Return the step that is under way in a run, if this host runs it."""
        actor = self._population.hot.get(agent_id)
        if actor is None:
            return None
        turns = (t.turn for t in actor.threads.values() if t.turn is not None)
        return next((t.step for t in turns if t.owns(run_id)), None)

    async def block_written(self, block: Block) -> None:
        """A block row was written outside any agent: its hot holders use the new value from here on."""
        self._commons.spread(block)

    async def block_deleted(self, block_id: str) -> None:
        """A block row was deleted: its hot holders drop it."""
        self._commons.forget_block(block_id)

    async def passages_written(self, agent_ids: Iterable[str]) -> None:
        """Passages were written outside of these agents, which hold their archive: hot ones count anew.

        Those that have no vector get one before long.
        """
        self._commons.unembedded.set()
        for agent_id in agent_ids:
            if (actor := self._population.hot.get(agent_id)) is None:
                continue
            async with actor.commit_turn, connection(self.pool) as conn:
                actor.holds(await archives.holdings(conn, agent_id))

    def _check_open(self) -> None:
        if self._draining:
            raise DrainingError
        self._commons.check_lease()

    # --- the life of the host ---------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Host", None]:
        """Claim the agents and run the host's tasks until the block ends; then drain.

        Raises:
            OwnedError: A live host of another name owns the database.
            UnavailableError: The database does not answer.
        """
        await self._commons.directory.claim()
        try:
            async with self._tended():
                await self._commons.calibrations.load()
                await self._find_awaited()
                await self._intake.poll_once()
                yield self
        finally:
            with anyio.CancelScope(shield=True):
                await self._commons.committer.close()

    @asynccontextmanager
    async def _tended(self) -> AsyncGenerator[None, None]:
        """Run the host's duties beside the block; then drain, and end them."""
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            self._commons.group = group
            tasks = [group.create_task(duty()) for duty in self._duties()]
            try:
                yield
            except Exception as error:  # noqa: BLE001 - the block's own, raised below outside of the group
                failure = error
            finally:
                with anyio.CancelScope(shield=True):
                    await self.drain()
                    await self._commons.embeddings.aclose()
                for task in tasks:
                    task.cancel()
        if failure is not None:
            raise failure

    def _duties(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """Return what a host does as long as it lives; each is cancelled at its end."""
        return (
            self._commons.checkpoints.run,
            self._intake.batcher.run,
            self._commons.directory.keep,
            self._intake.poll,
            self._population.sweep,
            self._purge,
            partial(expiry.keep, self.expire_once),
            partial(archival.keep_indexed, self.pool),
            self._backlog.run,
            self._commons.calibrations.keep,
            self._commons.wording.run,
        )

    async def drain(self) -> None:
        """Stop accepting, let running turns end for `drain_seconds`, suspend the rest, give up the lease.

        A suspended turn goes on in the next life from its last committed step. Draining twice is no error.
        """
        self._draining = True
        self._backlog.stop()
        with anyio.move_on_after(self._commons.settings.drain_seconds):
            while self._population.turns_running():  # noqa: ASYNC110 - many actors, no one event
                await anyio.sleep(DRAIN_LOOK)
        await self._population.suspend()
        await self._commons.calibrations.save()
        await self._commons.directory.release()

    async def _purge(self) -> None:
        """Forget finished commands and their keys a day after their end."""
        while True:
            try:
                async with connection(self.pool) as conn:
                    await inbox.purge(conn, older_than=IDEMPOTENCY)
            except StorageError as error:
                log.warning("purge failed", extra={"reason": str(error)})
            await anyio.sleep(PURGE_EVERY)

    # --- requests that nobody answers -----------------------------------------------------------------

    async def _find_awaited(self) -> None:
        """Learn which conversations wait for an answer; from here on the actors tell."""
        async with connection(self.pool) as conn:
            waiting = await pending.waiting(conn)
        self._commons.awaited.update(waiting)

    async def expire_once(self) -> None:
        """Give every request that expired the default answer; see `expiry.answer`."""
        await expiry.answer(self.pool, self._commons.settings.approval_default, accept=self.accept)
