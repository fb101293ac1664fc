"""Writes race steps: a thousand edits against twenty running agents that share blocks; none is lost."""

import itertools
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from actors.agent import Actor
from actors.commands import AttachBlock, DetachBlock, Edit, UpdateAgent, UpdateBlock
from actors.commons import Commons, HostSettings
from actors.errors import InvalidEditError
from actors.events import RunFinished
from bench.provider import Provider
from storage import activation, blocks, checkpoints, edits
from storage.errors import StaleBlocksError, StorageError
from storage.pool import Pool, connection
from storage.records import (
    DEFAULT_ORGANIZATION,
    AgentChanges,
    Block,
    BlockChanges,
    ToolCallPart,
    ToolReturnPart,
)
from tests.actors.worlds import World, create_agent, new_block
from tests.laws.watching import impatient_world

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

AGENTS = 20
SHARED = 4
EDITS = 1_000
WORKERS = 10  # per shared block and kind of writer
SEED = 20261122


class Race:
    """Twenty agents, four blocks that all of them hold, and every acknowledged edit."""

    def __init__(self, world: World, agents: list[str], shared: list[Block], loose: dict[str, Block]) -> None:
        self.world = world
        self.agents = agents
        self.shared = shared
        self.loose = loose  # one block per agent that is attached and detached
        self.random = random.Random(SEED)
        self.tokens: dict[str, list[str]] = {b.id: [] for b in shared}
        self.names: dict[str, str] = {}
        self.tags: dict[str, tuple[str, ...]] = dict.fromkeys(agents, ())
        self.descriptions: dict[str, str] = {}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.attached: dict[str, bool] = dict.fromkeys(agents, False)
        self.labels: dict[str, str] = {}
        self.done = 0

    # --- the writers: each field of each agent has one, each block's value has many ------------------

    async def append_through_an_agent(self, turns: Iterator[int]) -> None:
        """Append by reading, then writing under the version that was read, as a careful client does."""
        for turn in turns:
            block = self.random.choice(self.shared)
            agent_id = self.random.choice(self.agents)
            while True:
                async with connection(self.world.pool) as conn:
                    now = await blocks.get(conn, block.id, organization_id=DEFAULT_ORGANIZATION)
                changes = BlockChanges(value=f"{now.value}\nagent{turn}.")
                try:
                    await self._edit(
                        agent_id, UpdateBlock(label=block.label, changes=changes, if_version=now.version)
                    )
                except InvalidEditError as error:
                    if not error.conflict:
                        raise
                    continue
                self.tokens[block.id].append(f"agent{turn}.")
                break

    async def append_directly(self, turns: Iterator[int]) -> None:
        """Append to a row that belongs to nobody, then tell the host."""
        for turn in turns:
            block = self.random.choice(self.shared)
            while True:
                async with connection(self.world.pool) as conn, conn.transaction():
                    now = await blocks.get(conn, block.id, organization_id=DEFAULT_ORGANIZATION)
                    changes = BlockChanges(value=f"{now.value}\ndirect{turn}.")
                    won = await edits.update_block(conn, block.id, version=now.version, changes=changes)
                    written = await blocks.get(conn, block.id, organization_id=DEFAULT_ORGANIZATION)
                if won:
                    await self.world.host.block_written(written)
                    self.tokens[block.id].append(f"direct{turn}.")
                    self.done += 1
                    break

    async def describe_a_block(self, block: Block, turns: Iterator[int]) -> None:
        """Change a field that steps do not write; the row's value must stay."""
        for turn in turns:
            changes = BlockChanges(description=f"d{turn}")
            try:
                async with connection(self.world.pool) as conn, conn.transaction():
                    written = await blocks.update(
                        conn, block.id, changes, organization_id=DEFAULT_ORGANIZATION
                    )
            except StaleBlocksError:
                continue
            await self.world.host.block_written(written)
            self.labels[block.id] = f"d{turn}"
            self.done += 1

    async def rename(self, agent_id: str, turns: Iterator[int]) -> None:
        for turn in turns:
            await self._edit(agent_id, UpdateAgent(changes=AgentChanges(name=f"n{turn}")))
            self.names[agent_id] = f"n{turn}"

    async def tag(self, agent_id: str, turns: Iterator[int]) -> None:
        for turn in turns:
            tags = (*self.tags[agent_id], f"t{turn}")
            await self._edit(agent_id, UpdateAgent(changes=AgentChanges(tags=tags)))
            self.tags[agent_id] = tags

    async def describe(self, agent_id: str, turns: Iterator[int]) -> None:
        for turn in turns:
            changes = AgentChanges(settings={"description": f"d{turn}"})
            await self._edit(agent_id, UpdateAgent(changes=changes))
            self.descriptions[agent_id] = f"d{turn}"

    async def annotate(self, agent_id: str, turns: Iterator[int]) -> None:
        for turn in turns:
            await self._edit(agent_id, UpdateAgent(changes=AgentChanges(settings={"metadata": {"n": turn}})))
            self.metadata[agent_id] = {"n": turn}

    async def attach_and_detach(self, agent_id: str, turns: Iterator[int]) -> None:
        block_id = self.loose[agent_id].id
        for _ in turns:
            attached = self.attached[agent_id]
            await self._edit(agent_id, DetachBlock(block_id) if attached else AttachBlock(block_id))
            self.attached[agent_id] = not attached

    async def _edit(self, agent_id: str, edit: Edit) -> None:
        with anyio.fail_after(45):
            await self.world.host.ref(agent_id).edit(edit)
        self.done += 1


async def run_race(race: Race, count: int) -> list[str]:
    """Let every writer and every agent run until `count` edits are done; return runs that failed."""
    turns = iter(range(count))
    failed: list[str] = []
    async with anyio.create_task_group() as running:
        for agent_id in race.agents:
            running.start_soon(_keep_running, race, agent_id, count, failed)
        async with anyio.create_task_group() as writers:
            for _ in range(WORKERS):
                writers.start_soon(race.append_through_an_agent, turns)
                writers.start_soon(race.append_directly, turns)
            for block in race.shared:
                writers.start_soon(race.describe_a_block, block, turns)
            for agent_id in race.agents:
                work = (race.rename, race.tag, race.describe, race.annotate, race.attach_and_detach)
                writers.start_soon(race.random.choice(work), agent_id, turns)
                writers.start_soon(_another(race, agent_id, work), agent_id, turns)
    return failed


def _another(race: Race, agent_id: str, work: tuple[Any, ...]) -> Any:
    return race.attach_and_detach if race.agents.index(agent_id) % 4 == 0 else work[2]


async def _keep_running(race: Race, agent_id: str, count: int, failed: list[str]) -> None:
    """One run after the other until the edits are done; then one more for calls that are still scripted."""
    while True:
        last = race.done >= count - 80
        events = await race.world.ask(agent_id, "go on", max_steps=6)
        failed += [repr(e) for e in events if isinstance(e, RunFinished) and e.status != "completed"]
        if last:
            return


async def differences(race: Race) -> list[str]:
    """Compare hot state, the database and what was acknowledged."""
    found: list[str] = []
    values: dict[str, str] = {}
    for agent_id in race.agents:
        actor = await race.world.host._population.wake(agent_id)
        async with connection(race.world.pool) as conn:
            fresh = await activation.activate(conn, agent_id, fence=actor.agent.fence)
        found += _hot_is_cold(actor, fresh)
        values |= {b.id: b.value for b in fresh.blocks}
        found += _as_acknowledged(race, fresh)
        found += await _told(race, agent_id)
    for block in race.shared:
        lines = values[block.id].split("\n")
        for token in race.tokens[block.id]:
            if lines.count(token) != 1:
                found.append(f"{token} is {lines.count(token)} times in {block.label}")
    return found


def _hot_is_cold(actor: Actor, fresh: activation.Activated) -> list[str]:
    hot = {label: _comparable(b) for label, b in actor.blocks.items()}
    cold = {b.label: _comparable(b) for b in fresh.blocks}
    found = [
        f"block {x}: hot {hot.get(x)}, stored {cold.get(x)}"
        for x in hot.keys() | cold.keys()
        if hot.get(x) != cold.get(x)
    ]
    if list(hot) != list(cold):
        found.append(f"the blocks' order: hot {list(hot)}, stored {list(cold)}")
    found += [
        f"{field}: hot {getattr(actor.agent, field)}, stored {getattr(fresh.agent, field)}"
        for field in ("name", "tags", "hidden", "settings")
        if getattr(actor.agent, field) != getattr(fresh.agent, field)
    ]
    if actor.version != fresh.agent.version:
        found.append(f"version: hot {actor.version}, stored {fresh.agent.version}")
    return found


def _comparable(block: Block) -> Block:
    return replace(block, created_at=None, updated_at=None, last_updated_by_id=None)


def _as_acknowledged(race: Race, fresh: activation.Activated) -> list[str]:
    agent, found = fresh.agent, []
    if agent.name != race.names.get(agent.id, agent.name):
        found.append(f"name {agent.name}, acknowledged {race.names[agent.id]}")
    if agent.tags != race.tags[agent.id]:
        found.append(f"tags {agent.tags}, acknowledged {race.tags[agent.id]}")
    if agent.settings.description != race.descriptions.get(agent.id):
        found.append(f"description {agent.settings.description}")
    if agent.settings.metadata != race.metadata.get(agent.id, {}):
        found.append(f"metadata {agent.settings.metadata}")
    if (race.loose[agent.id].id in {b.id for b in fresh.blocks}) != race.attached[agent.id]:
        found.append("an attachment differs from what was acknowledged")
    return found + [
        f"description of {block.label} is {block.description}"
        for block in fresh.blocks
        if block.description != race.labels.get(block.id, block.description)
    ]


async def _told(race: Race, agent_id: str) -> list[str]:
    """Note the tokens of tool calls whose result says success; anything else is a complaint."""
    found: list[str] = []
    of_label = {b.label: b.id for b in race.shared}
    said: dict[str, ToolCallPart] = {}
    for message in await race.world.messages(agent_id):
        for part in message.content:
            if isinstance(part, ToolCallPart):
                said[part.id] = part
            elif isinstance(part, ToolReturnPart):
                token = _between(said[part.tool_call_id].arguments, '"new_string":"')
                label = _between(said[part.tool_call_id].arguments, '"label":"')
                if part.status != "success":
                    found.append(f"a call failed: {part.text}")
                elif token not in part.text.split("\n"):
                    found.append(f"a result does not show its own edit {token}")
                else:
                    race.tokens[of_label[label]].append(token)
    return found


def _between(text: str, mark: str) -> str:
    return text.replace(" ", "").partition(mark)[2].partition('"')[0]


def calls(count: int) -> list[dict[str, Any]]:
    """Return answers that each append a token of their own to a shared block, two at once at times."""
    numbers = itertools.count()

    def one(i: int) -> dict[str, Any]:
        token = f"tool{next(numbers)}."
        return {"name": "memory_insert", "arguments": {"label": f"shared{i % SHARED}", "new_string": token}}

    return [{"tool_calls": [one(i), one(i // 2)] if i % 5 == 0 else [one(i)]} for i in range(count)]


@asynccontextmanager
async def racing(pool: Pool, provider: Provider, *, steps: int) -> AsyncGenerator[Race]:
    """Make the agents and their blocks on a running host."""
    shared = [new_block(f"shared{i}", "start") for i in range(SHARED)]
    settings = HostSettings(drain_seconds=5, max_runs=AGENTS)
    async with impatient_world(pool, provider, settings=settings) as world:
        first = await create_agent(pool, model="openai/echo", blocks=tuple(shared))
        agents, loose = (
            [first, *[await create_agent(pool, model="openai/echo") for _ in range(AGENTS - 1)]],
            {},
        )
        async with connection(pool) as conn:
            for agent_id in agents:
                loose[agent_id] = await blocks.create(conn, new_block("loose", "x"))
                if agent_id != first:
                    for block in shared:
                        await edits.attach_block(conn, agent_id, block.id)
        await provider.script(calls(steps))
        yield Race(world, agents, shared, loose)


async def violations(pool: Pool, provider: Provider, *, count: int, steps: int) -> list[str]:
    """Run the race; return failed runs, lost edits, and where memory differs from the database."""
    async with racing(pool, provider, steps=steps) as race:
        found = await run_race(race, count)
        found += await differences(race)
        made = sum(len(tokens) for tokens in race.tokens.values())
        by_tools = sum(t.startswith("tool") for tokens in race.tokens.values() for t in tokens)
        print(f"{race.done} edits, {made} tokens in blocks, {by_tools} of them by tools")
        if race.done < count:
            found.append(f"only {race.done} edits were made")
        return found


@pytest.mark.timeout(240)
async def test_no_write_is_lost_and_hot_state_is_the_database_s(pool: Pool, provider: Provider) -> None:
    found = await violations(pool, provider, count=EDITS, steps=400)
    assert not found, "\n".join(found[:20])


# --- planted bugs ---------------------------------------------------------------------------------


@pytest.mark.timeout(180)
async def test_a_block_write_without_compare_and_set_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = checkpoints.commit

    async def blind(conn: Any, batch: Any) -> Any:
        """Write over whatever version there is."""
        ids = [w.id for c in batch for w in c.blocks]
        rows = await conn.fetch("select id, version from blocks where id = any ($1::text[])", ids)
        versions = {row["id"]: row["version"] for row in rows}
        return await commit(
            conn,
            [replace(c, blocks=tuple(replace(w, version=versions[w.id]) for w in c.blocks)) for c in batch],
        )

    monkeypatch.setattr(checkpoints, "commit", blind)
    assert await violations(pool, provider, count=200, steps=120) != []


@pytest.mark.timeout(180)
async def test_a_step_that_is_not_drafted_again_on_reloaded_blocks_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload = Actor.reload_blocks

    async def only_versions(self: Actor) -> None:
        held = dict(self.blocks)
        await reload(self)
        self.blocks = {
            label: replace(held.get(label, b), version=b.version) for label, b in self.blocks.items()
        }

    monkeypatch.setattr(Actor, "reload_blocks", only_versions)
    assert await violations(pool, provider, count=200, steps=120) != []


@pytest.mark.timeout(180)
async def test_a_direct_write_that_no_holder_hears_of_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Commons, "spread", lambda self, block, but=None: None)
    assert await violations(pool, provider, count=200, steps=60) != []


@pytest.mark.timeout(180)
async def test_edits_outside_of_the_commit_turn_are_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Open:
        """A lock that locks nothing."""

        async def __aenter__(self) -> None:
            return None

        async def __aexit__(self, *_: object) -> None:
            return None

        async def acquire(self) -> bool:
            return True

        def release(self) -> None:
            return None

        def locked(self) -> bool:
            return False

    init = Actor.__init__

    def unlocked(self: Actor, *args: Any) -> None:
        init(self, *args)
        self.commit_turn = Open()  # type: ignore[assignment]

    monkeypatch.setattr(Actor, "__init__", unlocked)
    try:
        found = await violations(pool, provider, count=100, steps=60)
    except* StorageError:
        found = ["an edit was refused"]
    assert found != []
