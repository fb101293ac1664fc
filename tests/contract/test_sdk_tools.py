"""The official SDK's agents with every built-in tool, and what those tools do for them."""

import anyio
from letta_client import Letta

from actors.llm.providers import provider_for
from actors.tools.registry import BUILTIN
from bench.provider import Provider
from storage.pool import Pool
from tests.contract.sdk import with_sdk


def returns(answer: object) -> list[tuple[str, str]]:
    """Return (status, text) of the tool results in an answer."""
    return [
        (one.status, str(one.tool_return))
        for message in answer.messages  # type: ignore[attr-defined]
        if message.message_type == "tool_return_message"
        for one in message.tool_returns
    ]


async def test_an_agent_is_made_with_every_tool_by_name(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        made = client.agents.create(include_base_tools=False, tools=sorted(BUILTIN))
        assert {tool.name for tool in made.tools} == set(BUILTIN)
        for tool in made.tools:
            spec = BUILTIN[str(tool.name)]
            assert tool.json_schema == spec.json_schema
            assert tool.tool_type == spec.tool_type
        held = client.agents.tools.list(made.id, limit=5)
        assert {tool.name for tool in held} == set(BUILTIN)

    await with_sdk(pool, scenario)


async def test_archival_tools_are_attached_by_whoever_wants_them(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        made = client.agents.create()
        assert not {"archival_memory_insert", "archival_memory_search"} & {t.name for t in made.tools}
        (tool,) = list(client.tools.list(name="archival_memory_insert"))
        assert tool.id is not None
        client.agents.tools.attach(tool.id, agent_id=made.id)
        assert "archival_memory_insert" in {t.name for t in client.agents.tools.list(made.id)}

    await with_sdk(pool, scenario)


async def test_what_tools_do_to_memory_is_seen_through_the_sdk(pool: Pool, provider: Provider) -> None:
    commands = [
        {"command": "create", "path": "/memories/plans", "description": "Plans.", "file_text": "May: Graz"},
        {"command": "rename", "old_path": "/memories/human", "new_path": "/memories/person"},
        {"command": "delete", "path": "/memories/persona"},
    ]
    calls = [
        *({"name": "memory", "arguments": arguments} for arguments in commands),
        {"name": "archival_memory_insert", "arguments": {"content": "the umbrella is green", "tags": ["x"]}},
    ]
    search = {"name": "archival_memory_search", "arguments": {"query": "umbrella"}}
    await provider.script([{"tool_calls": calls}, {"tool_calls": [search]}, {"text": "done"}])

    def scenario(client: Letta) -> None:
        agent = client.agents.create(
            model="openai/echo",
            embedding="openai/embed",
            memory_blocks=[{"label": "human", "value": "Sam"}, {"label": "persona", "value": "kind"}],
            tools=["memory", "archival_memory_insert", "archival_memory_search"],
        )
        removed = client.agents.blocks.retrieve("persona", agent_id=agent.id)
        said = returns(client.agents.messages.create(agent.id, input="go"))
        assert [status for status, _ in said] == ["success"] * 5
        assert said[3][1].startswith("passage-")
        assert "the umbrella is green" in said[4][1]

        blocks = {block.label: block for block in client.agents.blocks.list(agent.id)}
        assert {label: block.value for label, block in blocks.items()} == {
            "plans": "May: Graz",
            "person": "Sam",
        }
        assert blocks["plans"].description == "Plans."
        assert client.blocks.retrieve(removed.id).value == "kind", "a deleted block is only detached"

        system, *_ = client.agents.messages.list(agent.id, order="asc", limit=1)
        assert "May: Graz" in str(system.content)  # type: ignore[union-attr]
        assert "1 total memories are in archival memory" in str(system.content)  # type: ignore[union-attr]

    with anyio.fail_after(20):
        await with_sdk(pool, scenario, providers=[provider_for("openai", provider.base_url, "sk-test")])
