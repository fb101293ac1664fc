"""The official SDK, unchanged, runs tools of an agent itself: for their results and for what they do."""

from typing import Any

import anyio
import letta_client
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import Connected, connected

ARCHIVAL = ["archival_memory_insert", "archival_memory_search"]


async def run(c: Connected, name: str, **args: Any) -> Any:
    return await c.client.agents.tools.run(name, agent_id=c.agent_id, args=args)


async def test_a_tool_that_a_client_runs_edits_memory_and_leaves_no_message(
    pool: Pool, provider: Provider
) -> None:
    async with connected(pool, provider) as c:
        done = await run(c, "memory_insert", label="human", new_string="Likes tea")
        assert (done.status, done.func_return, done.stderr) == ("success", "Likes tea", [])
        assert (await c.client.agents.blocks.retrieve("human", agent_id=c.agent_id)).value == "Likes tea"
        listed = [m.message_type async for m in c.client.agents.messages.list(c.agent_id)]
        assert listed == ["system_message"]
        assert [r async for r in c.client.runs.list()] == []
        await c.say("hi")
        record = (await provider.log())[-1]
        assert "Likes tea" in record.body["messages"][0]["content"]


async def test_a_tool_that_fails_says_why(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        failed = await run(c, "memory_replace", label="human", old_string="x", new_string="y")
        assert (failed.status, failed.func_return) == ("error", None)
        assert failed.stderr
        without = await run(c, "memory_insert")
        assert without.status == "error"
        for name in ("memory_rethink", "no_such_tool"):
            with pytest.raises(letta_client.NotFoundError):
                await run(c, name)


async def test_what_tools_make_and_read_outside_of_blocks_is_there(pool: Pool, provider: Provider) -> None:
    tools: Any = {"tools": [*ARCHIVAL, "memory"]}
    async with connected(pool, provider, **tools) as c:
        stored = await run(c, "archival_memory_insert", content="The umbrella is green.")
        assert stored.status == "success"
        [passage] = await c.client.agents.passages.list(c.agent_id)
        assert passage.text == "The umbrella is green."
        found = await run(c, "archival_memory_search", query="umbrella")
        assert "The umbrella is green." in found.func_return
        made = await run(
            c, "memory", command="create", path="/memories/plans", description="Plans.", file_text="Graz"
        )
        assert made.status == "success"
        assert (await c.client.agents.blocks.retrieve("plans", agent_id=c.agent_id)).value == "Graz"
        await c.say("I drink tea")
        said = await run(c, "conversation_search", query="tea")
        assert "I drink tea" in said.func_return


async def test_a_tool_waits_for_the_end_of_the_turn(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two", "gate": "go", "gate_after": 1}])
    async with connected(pool, provider) as c:
        order: list[str] = []

        async def talk() -> None:
            await c.say("hi")
            order.append("said")

        async def edit() -> None:
            await run(c, "memory_insert", label="human", new_string="Likes tea")
            order.append("edited")

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(talk)
                while not [r async for r in c.client.runs.list(active=True)]:
                    await anyio.sleep(0.01)
                group.start_soon(edit)
                actor = c.served.host.alive(c.agent_id)
                assert actor is not None
                while not actor.threads[c.agent_id].jobs:
                    await anyio.sleep(0.01)
                assert order == []
                await provider.open("go")
        assert sorted(order) == ["edited", "said"]
