"""Bugs on purpose, and faults of the surroundings, that a host process is started with.

A law that does not fail when its bug is planted is no law. Each function sabotages the process that
calls it, for good; `plant` picks them by name. `no_fence` sabotages a database instead.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from actors import cancelling, clock, committer, expiry, intake, renewals, wording
from actors.agent import Actor
from actors.batch import Batcher
from actors.commands import Envelope, Receipt
from actors.committer import Committer
from actors.commons import Commons
from actors.directory import Directory
from actors.host import Host
from actors.intake import Intake
from actors.mailbox import Waiting
from actors.population import Population
from actors.turn import TurnRunner
from storage import checkpoints, inbox
from storage.checkpoints import Checkpoint, Outcome
from storage.errors import UnavailableError
from storage.inbox import Accepted, Submission
from storage.pool import Conn, connect, connection
from tests.laws import failpoints

FOR_EVER = 1e9


def plant(names: Sequence[str]) -> None:
    """Sabotage this process."""
    for name in names:
        _ALL[name]()


# --- bugs ----------------------------------------------------------------------------------------


def ack_before_commit() -> None:
    """The receipt goes out while the command is still on its way to the database."""
    accept = Host.accept

    async def hasty(self: Host, agent_id: str, envelope: Envelope) -> Receipt:
        self.spawn(accept, self, agent_id, envelope)
        await anyio.lowlevel.checkpoint()
        return Receipt(run_id=clock.new_id("run"), conversation_id=envelope.command.conversation_id, seq=0)

    Host.accept = hasty


_COMPARISONS = {
    "commit_steps": "where a.fence = i.fence and a.version = i.version",
    "commit_step": " and a.fence = of_fence and a.version = of_version",
}


async def no_fence(dsn: str) -> None:
    """In this database a checkpoint compares neither fence nor version."""
    conn = await connect(dsn)
    try:
        for function, compare in _COMPARISONS.items():
            written = await conn.fetchval("select pg_get_functiondef($1::regproc)", function)
            assert compare in written
            await conn.execute(written.replace(compare, ""))
    finally:
        await conn.close()


def no_lease_check() -> None:
    """A host trusts its lease for ever."""
    Directory.check = lambda self: None


def step_in_two() -> None:
    """A step's messages are committed first, and what became of its run and command afterwards."""
    commit = checkpoints.commit

    @wraps(commit)
    async def split(conn: Conn, batch: Sequence[Checkpoint]) -> list[Outcome]:
        first = await commit(conn, [replace(c, runs=(), steps=(), inbox=(), blocks=()) for c in batch])
        failpoints.reach("planted.step_in_two:between")
        rest = [
            replace(c, version=c.version + 1, messages=(), rewrites=(), windows=())
            for c, outcome in zip(batch, first, strict=True)
            if outcome is None
        ]
        second = iter(await commit(conn, rest) if rest else [])
        return [next(second) if outcome is None else outcome for outcome in first]

    checkpoints.commit = split


def no_poll() -> None:
    """Nobody looks for commands whose wake-up was lost."""

    async def sleep(self: Intake) -> None:
        await anyio.sleep(FOR_EVER)

    Intake.poll = sleep


class _NoTurn:
    """A commit turn that everybody may take at once."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def locked(self) -> bool:
        return False


def two_versions_in_a_batch() -> None:
    """Two conversations of one agent commit at once, in one batch."""
    make_commons, make_actor = Commons.__init__, Actor.__init__

    def commons(self: Commons, *args: Any, **kwargs: Any) -> None:
        make_commons(self, *args, **kwargs)
        self.checkpoints = Batcher(self.committer.checkpoint, key=lambda c: c.id)

    def actor(self: Actor, *args: Any) -> None:
        make_actor(self, *args)
        self.commit_turn = _NoTurn()  # type: ignore[assignment]

    Commons.__init__ = commons
    Actor.__init__ = actor


def blind_retry() -> None:
    """A commit whose answer was lost is sent again without a look at what landed."""

    async def landed(self: Committer, batch: list[Checkpoint]) -> list[bool]:
        return [False] * len(batch)

    Committer._landed = landed


def statement_beside() -> None:
    """Somebody asks the database past the functions of storage."""
    poll_once = Intake.poll_once

    async def curious(self: Intake) -> None:
        async with connection(self._commons.pool) as conn:
            await conn.fetchval("select count(*) from inbox")
        await poll_once(self)

    Intake.poll_once = curious


def cancel_in_memory() -> None:
    """A cancel is acknowledged although nothing but this process knows of it."""

    async def forget(conn: Conn, agent_id: str, run_ids: Sequence[str]) -> None:
        pass

    inbox.mark_cancelled = forget


# --- faults of the surroundings -------------------------------------------------------------------


class PlantedError(Exception):
    """Raised where a turn is to crash."""


def crashing_turn() -> None:
    """The second turn of the process crashes: its agent is hot, so no activation counted an attempt."""
    begin = TurnRunner._begin
    turns = 0

    def crash(self: TurnRunner) -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise PlantedError
        begin(self)

    TurnRunner._begin = crash


def lost_wakeups() -> None:
    """No accepted command reaches its actor, nor is it counted; only the poll can find it."""
    accept, deliver = Intake._accept, Population.deliver
    accepting: ContextVar[bool] = ContextVar("accepting", default=False)

    async def deaf(self: Intake, batch: list[Submission]) -> list[Accepted | Exception]:
        accepting.set(True)  # the batcher's own task does nothing else
        return await accept(self, batch)

    def lose(self: Population, agent_id: str, waiting: Waiting) -> None:
        if accepting.get():
            self.commons.load.finish(waiting.run_id)
        else:
            deliver(self, agent_id, waiting)

    Intake._accept = deaf
    Population.deliver = lose


def lost_commit_answers() -> None:
    """The answer to every third commit is lost."""
    commit = checkpoints.commit
    calls = 0

    @wraps(commit)
    async def lossy(conn: Conn, batch: Sequence[Checkpoint]) -> list[Outcome]:
        nonlocal calls
        calls += 1
        outcome = await commit(conn, batch)
        if calls % 3 == 0:
            raise UnavailableError("the answer was lost")
        return outcome

    checkpoints.commit = lossy


def haste() -> None:
    """What a host does every second or every few is done ten times a second."""
    intake.POLL = expiry.LOOK = renewals.HEARTBEAT = wording.GATHER = 0.1


def no_patience() -> None:
    """A commit whose answer is lost is given up at once, as after a long outage."""
    committer.OUTAGE_DEADLINE = 0.0


def late_ends() -> None:
    """A cancelled run ends only once its cancellation was noted: so it is acknowledged before."""
    mark, checkpoint = inbox.mark_cancelled, Committer.checkpoint
    noted = anyio.Event()

    @wraps(mark)
    async def note(conn: Conn, agent_id: str, run_ids: Sequence[str]) -> None:
        await mark(conn, agent_id, run_ids)
        noted.set()

    async def late(self: Committer, batch: list[Checkpoint]) -> Sequence[Exception | None]:
        if any(run.status == "cancelled" for item in batch for run in item.runs):
            with anyio.move_on_after(1.0):  # the next life ends it without a note of its own
                await noted.wait()
            await anyio.sleep(0.2)
        return await checkpoint(self, batch)

    cancelling.CANCEL_ACK = 0.05
    inbox.mark_cancelled = note
    Committer.checkpoint = late


_ALL: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        ack_before_commit,
        no_lease_check,
        step_in_two,
        no_poll,
        two_versions_in_a_batch,
        blind_retry,
        statement_beside,
        cancel_in_memory,
        haste,
        crashing_turn,
        lost_wakeups,
        lost_commit_answers,
        no_patience,
        late_ends,
    )
}
