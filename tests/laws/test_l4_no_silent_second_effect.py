"""L4, first half: a tool with outside effects is not run again after a crash; its result says so."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from actors import acting
from actors.commons import HostSettings
from actors.events import MessageCommitted, RunFinished
from actors.openstep import Prepared
from actors.tools import outside
from actors.tools.registry import BUILTIN
from actors.window import INTERRUPTED
from bench.provider import Provider
from storage import tools
from storage.pool import Pool, connection
from storage.records import ApprovalPart
from tests.actors.worlds import World, finish, text_of
from tests.laws.outside import LETTER, PostOffice
from tests.laws.watching import crash, hasty_clock, impatient_world, refused, unfinished, until

pytestmark = [pytest.mark.law, pytest.mark.timeout(240)]

SEND = {"name": "send_letter", "arguments": {"to": "Ada"}, "id": "call-1"}
NOTE = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Wrote"}, "id": "call-2"}
NO_DRAIN = HostSettings(drain_seconds=0)


async def correspondent(world: World, **settings: Any) -> str:
    """Create an agent that holds the tool."""
    async with connection(world.pool) as conn:
        await tools.seed(conn, [*BUILTIN.values(), LETTER])
    agent_id = await world.agent(**settings)
    async with connection(world.pool) as conn:
        await conn.execute(
            "insert into agents_tools (agent_id, tool_id, ordinal)"
            " select $1, id, 99 from tools where name = $2",
            agent_id,
            LETTER.name,
        )
    return agent_id


@asynccontextmanager
async def lives(pool: Pool, provider: Provider) -> AsyncGenerator[World]:
    """Run a host that drains nothing."""
    async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
        yield world


async def call_states(pool: Pool, agent_id: str) -> dict[str, str]:
    """Return how the calls with outside effects stand."""
    async with connection(pool) as conn:
        rows = await conn.fetch("select call_id, state from tool_calls where agent_id = $1", agent_id)
    return {row["call_id"]: row["state"] for row in rows}


async def killed_among_calls(pool: Pool, provider: Provider, office: PostOffice, *calls: Any) -> list[str]:
    """Kill a host while a letter is on its way, let another go on, and say what is wrong afterwards."""
    await provider.script([{"tool_calls": list(calls)}, {"text": "done"}])
    office.closed = True
    with hasty_clock():
        async with lives(pool, provider) as world:
            agent_id = await correspondent(world)
            receipt = await world.tell(agent_id, "write to Ada")
            with anyio.fail_after(10):
                await office.posted.wait()
            crash(world.host)
        office.closed = False
        async with lives(pool, provider) as world:
            events = await world.events(receipt, agent_id)
            found = await wrong(world, agent_id, office, shown=INTERRUPTED)
            if finish(events).status != "completed":
                found.append(f"the run ended {finish(events)}")
            told = [text_of(e.message) for e in events if isinstance(e, MessageCommitted)]
            if not any(INTERRUPTED in text for text in told):
                found.append(f"no client was told: {told}")
    return found


async def wrong(world: World, agent_id: str, office: PostOffice, *, shown: str) -> list[str]:
    """Say where effects, states, the history and what models were sent are not what the law wants."""
    found = [f"{key} was sent {count} times" for key, count in office.sent.items() if count > 1]
    states = await call_states(world.pool, agent_id)
    if states != {"call-1": "uncertain"}:
        found.append(f"calls stand as {states}")
    if not any(shown in text for _, text in await world.history(agent_id)):
        found.append("the history does not say it")
    records = await world.provider.log(keep=True)
    found += refused(records)
    if not any(shown in str(r.body) for r in records):
        found.append("no model was told")
    return found + [f"commands left: {left}" for left in [await unfinished(world.pool)] if left]


async def test_a_kill_in_a_tool_with_outside_effects_leaves_it_uncertain_and_run_once(
    pool: Pool, provider: Provider
) -> None:
    office = PostOffice()
    with outside.registered(LETTER, office.send):
        assert await killed_among_calls(pool, provider, office, SEND) == []


async def test_the_calls_beside_it_run_as_if_nothing_had_happened(pool: Pool, provider: Provider) -> None:
    office = PostOffice()
    with outside.registered(LETTER, office.send):
        assert await killed_among_calls(pool, provider, office, NOTE, SEND) == []
    async with connection(pool) as conn:
        assert await conn.fetchval("select value from blocks where label = 'human'") == "Wrote"


async def test_an_idempotent_tool_is_run_again_under_the_same_key(pool: Pool, provider: Provider) -> None:
    office = PostOffice()
    with outside.registered(replace(LETTER, idempotent=True), office.send):
        found = await killed_among_calls(pool, provider, office, SEND)
    assert list(office.sent.values()) == [2]
    assert "calls stand as {'call-1': 'success'}" in found


async def test_the_intent_is_durable_before_the_effect(pool: Pool, provider: Provider) -> None:
    office = PostOffice()
    office.closed = True
    await provider.script([{"tool_calls": [SEND]}, {"text": "done"}])
    with outside.registered(LETTER, office.send):
        async with lives(pool, provider) as world:
            agent_id = await correspondent(world)
            await world.tell(agent_id, "write to Ada")
            with anyio.fail_after(10):
                await office.posted.wait()
            assert await call_states(pool, agent_id) == {"call-1": "intended"}
            assert [m.role for m in await world.messages(agent_id)] == ["system", "user", "assistant"]


async def test_without_a_crash_the_result_is_the_tool_s_own(pool: Pool, provider: Provider) -> None:
    office = PostOffice()
    await provider.script([{"tool_calls": [SEND]}, {"text": "done"}])
    with outside.registered(LETTER, office.send):
        async with lives(pool, provider) as world:
            agent_id = await correspondent(world)
            events = await world.ask(agent_id, "write to Ada")
            assert finish(events).usage.steps == 2
            assert await call_states(pool, agent_id) == {"call-1": "success"}
            roles = ["user", "assistant", "tool", "assistant"]
            assert [role for role, _ in await world.history(agent_id)] == roles
            committed = [e.message.id for e in events if isinstance(e, MessageCommitted)]
            assert len(committed) == len(set(committed)) == 4
            async with connection(pool) as conn:
                assert await conn.fetchval("select count(*) from steps where status <> 'success'") == 0


async def test_a_cancel_in_the_tool_says_that_nobody_knows(pool: Pool, provider: Provider) -> None:
    office = PostOffice()
    office.closed = True
    second = {**SEND, "id": "call-2"}
    await provider.script([{"tool_calls": [SEND, second]}])
    with outside.registered(LETTER, office.send):
        async with lives(pool, provider) as world:
            agent_id = await correspondent(world)
            receipt = await world.tell(agent_id, "write to Ada")
            with anyio.fail_after(10):
                await office.posted.wait()
            await world.host.ref(agent_id).cancel()
            assert finish(await world.events(receipt, agent_id)).status == "cancelled"
            assert await call_states(pool, agent_id) == {"call-1": "uncertain", "call-2": "interrupted"}
            assert len(office.sent) == 1


async def test_an_approved_call_that_was_killed_is_uncertain_too(pool: Pool, provider: Provider) -> None:
    office = PostOffice()
    office.closed = True
    rule = {"type": "requires_approval", "tool_name": LETTER.name}
    await provider.script([{"tool_calls": [SEND]}, {"text": "done"}])
    with outside.registered(LETTER, office.send), hasty_clock():
        async with lives(pool, provider) as world:
            agent_id = await correspondent(world, tool_rules=(rule,))
            await world.ask(agent_id, "write to Ada")
            yes = (ApprovalPart("call-1", approve=True),)
            receipt = await world.tell(agent_id, "", messages=(), approvals=yes)
            with anyio.fail_after(10):
                await office.posted.wait()
            crash(world.host)
        office.closed = False
        async with lives(pool, provider) as world:
            assert finish(await world.events(receipt, agent_id)).status == "completed"
            assert await wrong(world, agent_id, office, shown=INTERRUPTED) == []


async def test_a_run_that_is_given_up_closes_its_calls(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool kills its process every time, so the command ends as a dead letter."""

    async def die(*args: object) -> None:
        raise ZeroDivisionError

    office = PostOffice()
    await provider.script([{"tool_calls": [SEND]}])
    with outside.registered(LETTER, office.send), hasty_clock():
        async with lives(pool, provider) as world:
            agent_id = await correspondent(world)
            office.closed = True
            receipt = await world.tell(agent_id, "write to Ada")
            with anyio.fail_after(10):
                await office.posted.wait()
            crash(world.host)
        monkeypatch.setattr("actors.answering.resume", die)
        async with lives(pool, provider) as world:
            await until(lambda: not world.host.health().unfinished_runs)
            events = await world.events(receipt, agent_id)
            assert isinstance(events[-1], RunFinished)
            assert events[-1].status == "failed"
            assert await call_states(pool, agent_id) == {"call-1": "uncertain"}
            assert INTERRUPTED in (await world.history(agent_id))[-1][1]


# --- planted bugs ---------------------------------------------------------------------------------


async def test_a_tool_that_runs_without_an_intent_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*args: object) -> None:
        return None

    monkeypatch.setattr(acting, "_intend", nothing)
    await provider.script([{"tool_calls": [SEND], "repeat": 3}])
    office = PostOffice()
    with outside.registered(LETTER, office.send):
        assert any("calls stand as {}" in x for x in await killed_among_calls(pool, provider, office, SEND))


async def test_a_second_run_of_an_intended_call_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prepared, "begun", lambda self: self)
    monkeypatch.setattr(Prepared, "stopped", lambda self, reason: self)
    office = PostOffice()
    with outside.registered(LETTER, office.send):
        found = await killed_among_calls(pool, provider, office, SEND)
    assert any("was sent 2 times" in x for x in found)
