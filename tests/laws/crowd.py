"""Clients that talk to whatever host is there, each in its own conversation, until they are acknowledged."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

import anyio
from msgspec import Struct

from actors import clock
from actors.commands import Receipt, UpdateBlock
from actors.events import RunFinished
from storage import edits
from storage.pool import Pool, connection, open_pool
from storage.records import BlockChanges, TextPart
from tests.actors.worlds import create_agent
from tests.laws.checks import Acked
from tests.laws.host_process import Change, Look, Looked, Tell
from tests.laws.nursery import GoneError, HostProcess, Line, RefusedError

T = TypeVar("T")

# 503: what a client may see, and repeats after. An edit is fenced when one before it landed unnoticed.
OUTAGE = frozenset({"UnavailableError", "DrainingError", "FencedError"})
OVER = "LogTrimmedError"  # the run is over and its events are gone
WINDOW_TOKENS = 10_000_000  # so that answers count all messages, however long the talk lasts
PAUSE = 0.05  # seconds before a client repeats what was refused
BURST = 3  # at most so many messages does a client send before it waits for the end of the last one


class Place(Struct, frozen=True):
    """Where a client talks."""

    agent_id: str
    conversation_id: str


class Crowd:
    """What clients were promised (`acked`), and what they were told that they must not be (`wrong`)."""

    def __init__(self, *, burst: int = BURST) -> None:
        self.acked: dict[str, list[Acked]] = {}
        self.written: list[str] = []
        self.wrong: list[str] = []
        self.refusals: list[str] = []
        self.waits: list[float] = []
        self.enough = anyio.Event()
        self._burst = burst
        self._random = Random(burst)
        self._host: HostProcess | None = None
        self._talking = 0
        self._stirred = anyio.Event()

    def use(self, host: HostProcess) -> None:
        """Talk to this host from here on."""
        self._host = host
        self._stir()

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = anyio.Event()

    @property
    def messages(self) -> int:
        """How many messages were acknowledged."""
        return sum(len(sent) for sent in self.acked.values())

    async def talk(self, place: Place) -> None:
        """Talk until there is enough; everything that was sent is acknowledged when this returns."""
        self._talking += 1
        while not self.enough.is_set():
            receipts = [await self.say(place) for _ in range(self._random.randint(1, self._burst))]
            await self.hear_out(place, receipts[-1])
        self._talking -= 1
        self._stir()

    async def write(self, place: Place) -> None:
        """Edit the agent's memory until there is enough, each edit until it is acknowledged."""
        self._talking += 1
        while not self.enough.is_set():
            value = f"edit {len(self.written)}"
            change = Change.of(place.agent_id, UpdateBlock(label="human", changes=BlockChanges(value=value)))
            while await self._attempt(lambda line: line.ask(change)) is None:  # noqa: B023 - awaited here
                pass
            self.written.append(value)
        self._talking -= 1
        self._stir()

    async def acknowledged(self, more: int) -> None:
        """Wait until so many more messages are acknowledged."""
        enough = self.messages + more
        while self.messages < enough:
            await self._stirred.wait()

    async def quiet(self) -> None:
        """Wait until every client has ended."""
        while self._talking:
            await self._stirred.wait()

    async def say(self, place: Place) -> Receipt:
        """Send one message, with one key, until it is acknowledged."""
        sent = self.acked.setdefault(place.conversation_id, [])
        text = f"{place.conversation_id[-6:]} number {len(sent)}"
        asked = Tell(
            agent_id=place.agent_id,
            conversation_id=place.conversation_id,
            text=text,
            key=clock.new_id("key"),
        )
        begun = time.monotonic()
        receipt: Receipt | None = None
        while receipt is None:
            receipt = await self._attempt(lambda line: line.tell(asked))
        self.waits.append(time.monotonic() - begun)
        sent.append(Acked(text, asked.key, receipt.run_id))
        self._stir()
        return receipt

    async def hear_out(self, place: Place, receipt: Receipt) -> None:
        """Follow a run until it is over, on one host after the other."""

        async def follow(line: Line) -> bool:
            try:
                events = [event async for event in line.follow(place.agent_id, receipt)]
            except RefusedError as error:
                if error.kind != OVER:
                    raise
                return True
            return isinstance(events[-1], RunFinished)

        while not await self._attempt(follow):
            pass

    async def _attempt(self, act: Callable[[Line], Awaitable[T]]) -> T | None:
        """Do something on the present host; None where it is gone or refused, once that was waited out."""
        while self._host is None:
            await self._stirred.wait()
        host = self._host
        try:
            async with host.line() as line:
                return await act(line)
        except GoneError:
            while self._host is host:
                await self._stirred.wait()
        except RefusedError as error:
            (self.refusals if error.kind in OUTAGE else self.wrong).append(str(error))
            await anyio.sleep(PAUSE)
        return None

    def slowest(self, share: float) -> float:
        """Return how long an acknowledgement took at this share of them, in seconds."""
        return (
            sorted(self.waits)[min(len(self.waits) - 1, int(share * len(self.waits)))] if self.waits else 0.0
        )


@asynccontextmanager
async def opened(dsn: str) -> AsyncGenerator[Pool]:
    """Open a pool for a while."""
    pool = await open_pool(dsn)
    try:
        yield pool
    finally:
        with anyio.move_on_after(5, shield=True):
            await pool.close()


async def places(pool: Pool, *, agents: int, conversations: int, model: str = "openai/echo") -> list[Place]:
    """Create agents with so many conversations each."""
    found: list[Place] = []
    for _ in range(agents):
        agent_id = await create_agent(pool, model=model, context_window_tokens=WINDOW_TOKENS)
        found.append(Place(agent_id, agent_id))
        found += [await open_conversation(pool, agent_id) for _ in range(conversations - 1)]
    return found


async def open_conversation(pool: Pool, agent_id: str) -> Place:
    """Create one more conversation of an agent that is not alive."""
    conversation_id = clock.new_id("conv")
    async with connection(pool) as conn:
        await edits.create_conversation(
            conn,
            agent_id,
            conversation_id=conversation_id,
            summary=None,
            description=None,
            model=None,
            model_settings=None,
            system_id=clock.new_id("message"),
            system=(TextPart("You are a test."),),
            system_tokens=4,
        )
    return Place(agent_id, conversation_id)


async def counts_nothing(host: HostProcess) -> list[str]:
    """Return what a host still counts as unfinished, when nothing is."""
    async with host.line() as line:
        looked = await line.ask(Look())
    assert isinstance(looked, Looked)
    health = looked.health
    if (health.status, health.unfinished_runs) == ("ok", 0):
        return []
    return [f"the host is {health.status} and counts {health.unfinished_runs} runs that are over"]
