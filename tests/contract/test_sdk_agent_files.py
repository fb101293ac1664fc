"""The official SDK exports an agent and imports it again."""

import json
from typing import Any

import letta_client
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import CALL, connected
from tests.gateway.rest.talking import MODEL


def visible(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (m["role"], m["content"], m["tool_calls"], m["tool_returns"])
        for m in messages
        if m["role"] != "system"
    ]


async def test_an_exported_agent_is_imported_and_goes_on(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}, {"text": "Tea."}])
    async with connected(pool, provider) as c:
        await c.say("I like tea")
        exported: Any = await c.client.agents.export_file(c.agent_id)
        text = exported if isinstance(exported, str) else json.dumps(exported)
        imported = await c.client.agents.import_file(file=text.encode())
        [copy_id] = imported.agent_ids
        copy = await c.client.agents.retrieve(copy_id, include=["agent.blocks", "agent.tools"])
        assert copy.name == "sdk_copy"
        assert copy.model == MODEL
        assert [(b.label, b.value) for b in copy.blocks] == [("human", "Likes tea")]
        original = await c.client.agents.retrieve(c.agent_id, include=["agent.blocks", "agent.tools"])
        assert [t.name for t in copy.tools] == [t.name for t in original.tools]
        assert copy.blocks[0].id != original.blocks[0].id
        again: Any = await c.client.agents.export_file(copy_id)
        first, second = json.loads(text), again if isinstance(again, dict) else json.loads(again)
        assert visible(second["agents"][0]["messages"]) == visible(first["agents"][0]["messages"])
        await provider.log()
        await c.client.agents.messages.create(copy_id, input="What do I like?")
        [record] = await provider.log()
        assert [m["role"] for m in record.body["messages"]] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
            "user",
        ]


async def test_an_import_takes_overrides_and_says_what_it_left_out(pool: Pool, provider: Provider) -> None:
    file = {
        "agents": [
            {
                "id": "agent-0",
                "name": "sam",
                "agent_type": "letta_v1_agent",
                "model": "nobody/x",
                "block_ids": ["block-0"],
                "tool_ids": ["tool-0", "tool-1"],
                "source_ids": ["source-0"],
                "secrets": {"KEY": ""},
                "in_context_message_ids": ["message-0"],
                "messages": [
                    {"id": "message-0", "role": "user", "content": [{"type": "text", "text": "hi"}]}
                ],
            }
        ],
        "blocks": [{"id": "block-0", "label": "human", "value": "Ada", "limit": 100}],
        "tools": [{"id": "tool-0", "name": "roll_dice"}, {"id": "tool-1", "name": "conversation_search"}],
    }
    data = json.dumps(file).encode()
    async with connected(pool, provider) as c:
        with pytest.raises(letta_client.NotFoundError):
            await c.client.agents.import_file(file=data)
        before = [agent.id async for agent in c.client.agents.list()]
        done: Any = await c.client.agents.import_file(
            file=data, model=MODEL, name="tom", strip_messages=True, append_copy_suffix=False
        )
        assert done.left_out == ["tool roll_dice", "source_ids", "secret KEY"]
        made = await c.client.agents.retrieve(done.agent_ids[0], include=["agent.tools", "agent.blocks"])
        assert (made.name, made.model) == ("tom", MODEL)
        assert [tool.name for tool in made.tools] == ["conversation_search"]
        assert len(made.message_ids) == 1
        for bad in (b"{}", b'{"version": "0.1", "messages": []}', b"no json"):
            with pytest.raises(letta_client.BadRequestError):
                await c.client.agents.import_file(file=bad)
        assert len([agent.id async for agent in c.client.agents.list()]) == len(before) + 1


async def test_what_was_summarised_stays_history_and_can_be_found(pool: Pool, provider: Provider) -> None:
    said = [("user", "I like rye bread"), ("summary", "They like rye."), ("user", "And tea")]
    messages = [
        {"id": f"message-{n}", "role": role, "content": [{"type": "text", "text": text}]}
        for n, (role, text) in enumerate(said)
    ]
    file = {"agents": [{"name": "sam", "model": MODEL, "messages": messages}]}
    async with connected(pool, provider) as c:
        done = await c.client.agents.import_file(file=json.dumps(file).encode())
        await c.client.agents.messages.create(done.agent_ids[0], input="Go on")
        [record] = await provider.log()
        assert [m["role"] for m in record.body["messages"]] == ["system", "user", "user", "user"]
        assert "They like rye." in record.body["messages"][1]["content"]
        found = await c.client.messages.search(query="bread", agent_id=done.agent_ids[0])
        assert [m.content for m in found] == ["I like rye bread"]
