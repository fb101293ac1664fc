"""L2: two owners may exist for a moment, and only the one with the highest fence commits and speaks."""

from collections.abc import Sequence
from typing import Literal

import anyio
import pytest
from msgspec.structs import replace

from actors import clock
from actors.commands import Receipt, UpdateBlock
from actors.events import (
    Event,
    ReasoningEnded,
    Retracted,
    StepStarted,
    TextDelta,
    TextEnded,
    ToolCallEnded,
)
from bench.provider import Provider
from storage.pool import Pool, connection
from storage.records import BlockChanges
from tests.actors.worlds import create_agent
from tests.laws import checks, planted
from tests.laws.conftest import Databases
from tests.laws.crowd import Place, open_conversation, opened
from tests.laws.failpoints import Failpoint
from tests.laws.host_process import Change, Spec, Tell
from tests.laws.nursery import GoneError, Home, HostProcess, Nursery, RefusedError

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

TAKEOVER = 30.0  # seconds: a lease of 5, and a busy machine
STOPS_WITHIN = 10.0  # seconds after SIGCONT
AT_ONCE = 4  # rounds: each waits most of its time for a lease to run out

# How one that lost its agent ends what it was saying: its open streams, and all of it is taken back.
TAKEN_BACK = (Retracted, TextEnded, ReasoningEnded, ToolCallEnded)

Kind = Literal["streaming", "committing", "beginning", "editing"]
KINDS: tuple[Kind, ...] = ("streaming", "committing", "beginning", "editing")

# Where the owner is frozen: it has just made sure of its lease, and acts on that when it comes to.
FREEZES: dict[Kind, Failpoint | None] = {
    "streaming": None,
    "committing": Failpoint("checkpoints.commit:before", action="stop"),
    "beginning": Failpoint("activation.window:after", action="stop"),
    "editing": Failpoint("edits.commit:before", action="stop"),
}


class Round:
    """One owner that is frozen while it acts for an agent, its heir, and what was wrong about them."""

    def __init__(self, home: Home, provider: Provider, spec: Spec, kind: Kind, *, open_: Place, other: Place):
        self.found: list[str] = []
        self._home = home
        self._provider = provider
        self._spec = spec
        self._kind: Kind = kind
        self._open = open_
        self._other = other
        self._events: list[Event] = []
        self._heard = anyio.Event()
        self._receipt: Receipt | None = None

    async def run(self) -> None:
        """Freeze the owner, let the heir take over and commit, thaw the owner, let the heir end its work."""
        await self._script()
        zombie = await self._home.start(
            replace(self._spec, name="zombie", failpoint=FREEZES[self._kind], settings={"drain_seconds": 1})
        )
        async with anyio.create_task_group() as group:
            group.start_soon(self._edit if self._kind == "editing" else self._talk, zombie)
            await self._frozen(zombie)
            heir = await self._home.start(replace(self._spec, name="heir", planted=()))
            with anyio.fail_after(TAKEOVER):
                await self._commit(heir)
            already = len(self._events)
            await self._provider.open(self._gate("zombie"))
            await self._thawed(zombie)
            await self._provider.open(self._gate("heir"))
            await self._end(heir)
            group.cancel_scope.cancel()
        await self._leave(zombie, heir)
        last = self._events[already:]
        if last and not isinstance(last[-1], Retracted):
            self.found.append(f"the zombie ended its streams and took nothing back: {last}")
        said = [event for event in last if not isinstance(event, TAKEN_BACK)]
        self.found += [f"the zombie said {event}" for event in said]

    def _gate(self, who: str) -> str:
        return f"{self._open.agent_id} {who}"

    @property
    def _text(self) -> str:
        return f"{self._open.agent_id} open"

    async def _script(self) -> None:
        """The first answer is the owner's, the second the heir's, and each waits at a gate of its own.

        An owner that is frozen before it asks leaves the first answer to the heir.
        """
        zombie = {"text": "zombie one two three four five", "gate": self._gate("zombie")}
        replies = [
            {"match": self._text, **zombie, "gate_after": 3 if self._kind == "streaming" else 0},
            {"match": self._text, "text": "heir", "gate": self._gate("heir")},
        ]
        await self._provider.script(replies[self._kind == "beginning" :])

    async def _talk(self, zombie: HostProcess) -> None:
        """Send the owner a message and note what it says."""
        async with zombie.line() as line:
            self._receipt = await line.tell(_message(self._open, self._text))
            try:
                async for event in line.follow(self._open.agent_id, self._receipt):
                    self._events.append(event)
                    self._heard.set()
                    self._heard = anyio.Event()
            except GoneError:
                return

    async def _edit(self, zombie: HostProcess) -> None:
        """Send the owner an edit, which must be refused."""
        edit = UpdateBlock(label="human", changes=BlockChanges(value="zombie"))
        async with zombie.line() as line:
            try:
                await line.ask(Change.of(self._open.agent_id, edit))
            except (GoneError, RefusedError):
                return
            self.found.append("the zombie acknowledged an edit")

    async def _frozen(self, zombie: HostProcess) -> None:
        with anyio.fail_after(TAKEOVER):
            if self._kind == "streaming":
                await self._until(TextDelta)
                zombie.freeze()
            elif self._kind == "committing":
                await self._until(StepStarted)
                await self._provider.open(self._gate("zombie"))
            await zombie.still()

    async def _until(self, kind: type[Event]) -> None:
        while not any(isinstance(event, kind) for event in self._events):
            await self._heard.wait()

    async def _commit(self, heir: HostProcess) -> None:
        """Let the heir handle a message of another conversation of the agent."""
        async with heir.line() as line:
            receipt = await line.tell(_message(self._other, "hello"))
            _ = [event async for event in line.follow(self._other.agent_id, receipt)]

    async def _thawed(self, zombie: HostProcess) -> None:
        zombie.thaw()
        status: int | None = None
        with anyio.move_on_after(STOPS_WITHIN):
            status = await zombie.gone()
        if status != 0:
            self.found.append(f"the zombie did not stop by itself (status {status})")

    async def _leave(self, *hosts: HostProcess) -> None:
        """End this round's hosts: many rounds' together would take all connections of the server."""
        for host in hosts:
            host.kill()
            with anyio.fail_after(STOPS_WITHIN):
                await host.gone()

    async def _end(self, heir: HostProcess) -> None:
        """Let the heir finish what the owner had begun."""
        if self._receipt is None:
            return
        with anyio.move_on_after(STOPS_WITHIN):
            async with heir.line() as line:
                try:
                    _ = [event async for event in line.follow(self._open.agent_id, self._receipt)]
                except RefusedError:
                    return  # it is over already


def _message(place: Place, text: str) -> Tell:
    return Tell(
        agent_id=place.agent_id, conversation_id=place.conversation_id, text=text, key=clock.new_id("key")
    )


async def violations(
    nursery: Nursery,
    database: Databases,
    provider: Provider,
    *,
    kinds: Sequence[Kind],
    plant: tuple[str, ...] = (),
    unfenced: bool = False,
) -> list[str]:
    """Freeze owners and thaw them when others have taken over; return what the frozen ones still did."""
    found: list[str] = []
    slots = anyio.CapacityLimiter(AT_ONCE)

    async def one(kind: Kind) -> None:
        async with slots:
            dsn = await database()
            if unfenced:
                await planted.no_fence(dsn)
            async with opened(dsn) as pool:
                agent_id = await create_agent(pool, model="openai/echo")
                other = await open_conversation(pool, agent_id)
                spec = Spec(dsn=dsn, provider=provider.base_url, planted=plant)
                round_ = Round(home, provider, spec, kind, open_=Place(agent_id, agent_id), other=other)
                await round_.run()
                wrong = [*round_.found, *await _committed_by_zombies(pool)]
                found.extend(f"while {kind}: {what}" for what in wrong)
                found.extend(await checks.all_is_handled(pool))
                found.extend(await checks.steps_are_whole(pool))
                found.extend(await checks.versions_are_counted(pool))

    async with nursery.home() as home:
        async with anyio.create_task_group() as group:
            for kind in kinds:
                group.start_soon(one, kind)
        found += home.crashes
    asked = [record.user_text for record in await provider.log()]
    expected = sum(1 if kind == "beginning" else 2 for kind in kinds if kind != "editing")
    if (times := sum(text.endswith(" open") for text in asked)) > expected:
        found.append(f"models were asked {times} times, not {expected}")
    return found


async def _committed_by_zombies(pool: Pool) -> list[str]:
    async with connection(pool) as conn:
        rows = await conn.fetch("select content::text from messages where content::text like '%zombie%'")
        values = await conn.fetch("select value from blocks where value = 'zombie'")
    return [f"the zombie committed {row[0]}" for row in (*rows, *values)]


@pytest.mark.timeout(240)
async def test_an_owner_that_was_frozen_commits_nothing_says_nothing_and_stops(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    found = await violations(nursery, database, provider, kinds=KINDS)
    print("\n".join(found))
    assert found == []


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_two_hundred_frozen_owners_commit_nothing(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    assert await violations(nursery, database, provider, kinds=KINDS * 50) == []


@pytest.mark.timeout(240)
async def test_the_law_catches_a_checkpoint_without_a_fence(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    found = await violations(nursery, database, provider, kinds=["committing"], unfenced=True)
    assert any("the zombie committed" in breach for breach in found)


@pytest.mark.timeout(240)
async def test_the_law_catches_a_host_that_trusts_its_lease_for_ever(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    found = await violations(nursery, database, provider, kinds=["streaming"], plant=("no_lease_check",))
    assert any("the zombie said" in breach for breach in found)
