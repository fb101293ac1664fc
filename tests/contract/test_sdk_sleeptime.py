"""The official SDK's sleeptime agents: they keep memory that others read, and end when it is in order."""

from letta_client import AsyncLetta

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import Connected, connected
from tests.gateway.rest.talking import MODEL


async def keeper(client: AsyncLetta, *block_ids: str) -> str:
    made = await client.agents.create(
        model=MODEL, agent_type="sleeptime_agent", block_ids=list(block_ids), name="keeper"
    )
    tools = {"memory_replace", "memory_insert", "memory_rethink", "memory_finish_edits"}
    assert {tool.name for tool in made.tools} == tools
    assert len(made.message_ids or ()) == 1
    return made.id


async def shared_block(c: Connected) -> str:
    return (await c.client.agents.blocks.retrieve("human", agent_id=c.agent_id)).id


async def test_a_sleeptime_agent_rewrites_a_block_of_another_and_ends_by_its_tool(
    pool: Pool, provider: Provider
) -> None:
    rethink = {"name": "memory_rethink", "arguments": {"label": "human", "new_memory": "Drinks tea."}}
    await provider.script(
        [{"tool_calls": [rethink]}, {"tool_calls": [{"name": "memory_finish_edits", "arguments": {}}]}]
    )
    async with connected(pool, provider) as c:
        agent_id = await keeper(c.client, await shared_block(c))
        answer = await c.client.agents.messages.create(agent_id, input="user: I drink tea.")
        assert answer.stop_reason.stop_reason == "tool_rule"
        assert answer.usage.step_count == 2
        read = await c.client.agents.blocks.retrieve("human", agent_id=c.agent_id)
        assert read.value == "Drinks tea."
        listed = [rule.type for rule in (await c.client.agents.retrieve(agent_id)).tool_rules or ()]
        assert sorted(listed) == ["continue_loop"] * 3 + ["exit_loop"]
