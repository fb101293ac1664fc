import asyncio

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from actors import committer
from actors import population as actors_population
from actors.commons import HostSettings
from actors.errors import BrokenAgentError, DrainingError
from actors.events import RunFinished
from actors.population import Population
from bench.provider import Provider
from storage import activation, blocks, checkpoints
from storage.checkpoints import Checkpoint
from storage.errors import NotFoundError, UnavailableError
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, BlockChanges
from tests.actors.worlds import World, committed, finish, new_block, world
from tests.laws.watching import until


def population(w: World) -> Population:
    return w.host._population


async def attempts(pool: Pool) -> list[int]:
    async with connection(pool) as conn:
        return [r["attempts"] for r in await conn.fetch("select attempts from inbox order by seq")]


async def test_many_who_wake_an_agent_at_once_meet_one_actor(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate, activated = activation.activate, 0

    async def counted(*args: object, **kwargs: object) -> object:
        nonlocal activated
        activated += 1
        return await activate(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(activation, "activate", counted)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        actors = await asyncio.gather(*[population(w).wake(agent_id) for _ in range(20)])
    assert len(set(map(id, actors))) == 1
    assert activated == 1


async def test_who_wakes_nobody_is_told_so_and_nothing_stays_behind(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        with pytest.raises(NotFoundError):
            await population(w).wake("agent-none")
        assert not population(w).hot
        assert not population(w)._waking
    with pytest.raises(DrainingError):
        await population(w).wake("agent-none")


async def test_an_activation_that_failed_is_tried_again_by_the_next_one(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        with monkeypatch.context() as patch:

            async def away(*_: object, **__: object) -> None:
                raise UnavailableError("away")

            patch.setattr(activation, "activate", away)
            with pytest.raises(UnavailableError):
                await population(w).wake(agent_id)
        assert (await population(w).wake(agent_id)).agent.id == agent_id


async def test_the_least_recently_used_leave_first_when_memory_is_short(
    pool: Pool, provider: Provider
) -> None:
    settings = HostSettings(hot_bytes=20_000, drain_seconds=1)
    async with world(pool, provider, settings=settings) as w:
        agents = [await w.agent() for _ in range(6)]
        for agent_id in agents:
            finish(await w.ask(agent_id))
        await population(w).wake(agents[0])
        with anyio.fail_after(15):  # the consumers' last lines run after the run's last event
            while not all(a.idle for a in population(w).hot.values()):
                await anyio.lowlevel.checkpoint()
        await population(w).sweep_once()
        left = list(population(w).hot)
        assert agents[0] in left
        assert len(left) < 6
        assert left[:-1] == agents[-len(left) + 1 :]


async def test_who_left_while_the_sweep_paused_costs_no_memory_that_others_have_to_give(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        stays, leaves = [await population(w).wake(await w.agent()) for _ in range(2)]

        class Pausing:
            def due(self) -> bool:
                return not leaves.dead

            async def rest(self) -> None:
                population(w).drop(leaves)

        monkeypatch.setattr(actors_population, "Pace", Pausing)
        commons = population(w).commons
        commons.settings = replace(commons.settings, hot_bytes=stays.size_bytes + leaves.size_bytes // 2)
        await population(w).sweep_once()
        assert list(population(w).hot.values()) == [stays]


async def test_a_busy_agent_is_never_let_go(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang"}])
    settings = HostSettings(passivate_after=-1.0, hot_bytes=0, drain_seconds=0)
    async with world(pool, provider, settings=settings) as w:
        agent_id = await w.agent()
        await w.tell(agent_id)
        await provider.log(requests=1)
        await population(w).sweep_once()
        assert agent_id in population(w).hot


async def test_a_drain_gives_back_the_attempts_it_counted(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang", "repeat": "forever"}])
    settings = HostSettings(drain_seconds=0)
    for _ in range(5):
        async with world(pool, provider, settings=settings) as w:
            agent_id = next(iter(population(w).hot), None) or await w.agent()
            if not w.host.health().unfinished_runs:
                await w.tell(agent_id, "a")
                await w.tell(agent_id, "b")
            await provider.log(requests=1)
    assert await attempts(pool) == [0, 0]


async def test_a_dropped_actor_leaves_no_trace_among_the_holders_of_blocks(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        actor = await population(w).wake(await w.agent())
        assert w.host._commons._holders
        population(w).drop(actor)
        assert actor.dead
        assert not w.host._commons._holders


async def test_a_block_that_is_written_while_an_agent_wakes_is_not_missed(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate = activation.activate
    read, go_on = anyio.Event(), anyio.Event()

    async def slow(conn: Conn, agent_id: str, *, fence: int) -> activation.Activated:
        state = await activate(conn, agent_id, fence=fence)
        read.set()
        await go_on.wait()
        return state

    async with world(pool, provider) as w:
        block = new_block("human", "old")
        agent_id = await w.agent(blocks=(block,))
        monkeypatch.setattr(activation, "activate", slow)
        async with anyio.create_task_group() as group:
            group.start_soon(population(w).wake, agent_id)
            with anyio.fail_after(15):
                await read.wait()
            async with connection(pool) as conn, conn.transaction():
                changes = BlockChanges(value="new")
                written = await blocks.update(conn, block.id, changes, organization_id=DEFAULT_ORGANIZATION)
            await w.host.block_written(written)
            go_on.set()
        assert population(w).hot[agent_id].blocks["human"].value == "new"


async def test_an_end_that_was_committed_unheard_is_told_to_those_who_follow(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = checkpoints.commit

    async def deaf(conn: Conn, batch: list[Checkpoint]) -> object:
        monkeypatch.setattr(checkpoints, "commit", commit)
        await commit(conn, batch)
        raise UnavailableError("the answer was lost, and nobody could ask")

    monkeypatch.setattr(committer, "OUTAGE_DEADLINE", 0)
    monkeypatch.setattr(checkpoints, "commit", deaf)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        events = await w.ask(agent_id, "hello")
        assert (finish(events).status, finish(events).stop_reason) == ("completed", "end_turn")
        assert finish(events).usage.steps == 1
        assert committed(events) == await w.history(agent_id)
        assert w.host.health().unfinished_runs == 0


async def test_an_agent_that_wakes_while_the_host_is_suspended_begins_nothing(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate = activation.activate
    waking, go_on = anyio.Event(), anyio.Event()

    async def slow(conn: Conn, agent_id: str, *, fence: int) -> object:
        waking.set()
        await go_on.wait()
        return await activate(conn, agent_id, fence=fence)

    monkeypatch.setattr(activation, "activate", slow)
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        await w.tell(await w.agent())
        await waking.wait()
        await w.host.drain()
        go_on.set()
    assert await provider.log() == []
    async with connection(pool) as conn:
        assert await conn.fetchval("select attempts from inbox") == 0


async def test_what_is_being_committed_while_the_host_is_suspended_is_told(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = checkpoints.commit
    committing, go_on = anyio.Event(), anyio.Event()

    async def slow(conn: Conn, batch: list[Checkpoint]) -> object:
        committing.set()
        await go_on.wait()
        return await commit(conn, batch)

    monkeypatch.setattr(checkpoints, "commit", slow)
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent()
        await w.tell(agent_id)
        await committing.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(w.host.drain)
            while not population(w).closed:
                await anyio.lowlevel.checkpoint()
            go_on.set()
        _, events = w.host.logs.channel(agent_id, agent_id).read(1)
        assert isinstance(events[-1], RunFinished)
        assert committed(events) == await w.history(agent_id)


async def test_an_ordinary_step_has_the_shape_that_its_own_statement_writes(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_plain = checkpoints.is_plain
    seen: list[bool] = []

    def looked(step: Checkpoint) -> bool:
        seen.append(is_plain(step))
        return seen[-1]

    monkeypatch.setattr(checkpoints, "is_plain", looked)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.ask(agent_id, "hello")
        await w.ask(agent_id, "hello again")
        await provider.script(
            [
                {
                    "tool_calls": [
                        {
                            "name": "memory_insert",
                            "arguments": {"label": "human", "new_string": "plays chess"},
                        }
                    ]
                },
                {"text": "done"},
            ]
        )
        await w.ask(agent_id, "I play chess")
    assert seen == [True] * 4


@pytest.mark.parametrize(
    "damage",
    [
        """update agents set settings = '{"model": 3}' where id = $1""",
        """update inbox set command = '{"messages": 3}' where agent_id = $1""",
    ],
    ids=["settings", "command"],
)
async def test_rows_that_nobody_can_read_harm_no_other_agent(
    pool: Pool, provider: Provider, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        broken, other = await w.agent(), await w.agent()
        await w.tell(broken)
        await provider.log(requests=1)
    async with connection(pool) as conn:
        before = await conn.fetchval("select settings from agents where id = $1", broken)
        await conn.execute(damage, broken)
    monkeypatch.setattr(actors_population, "BROKEN_RETRY", 0.0)
    async with world(pool, provider) as w:  # which wakes the agent for what waits
        assert finish(await w.ask(other)).status == "completed"
        if "settings" in damage:
            with pytest.raises(BrokenAgentError):
                await population(w).wake(broken)
            async with connection(pool) as conn:
                await conn.execute("update agents set settings = $2 where id = $1", broken, before)
        await until(lambda: not w.host.health().unfinished_runs)
        assert finish(await w.ask(broken, "better?")).status == "completed"
    async with connection(pool) as conn:
        rows = await conn.fetch("select state from inbox where agent_id = $1 order by seq", broken)
    assert [row["state"] for row in rows] == ["done" if "settings" in damage else "dead", "done"]
