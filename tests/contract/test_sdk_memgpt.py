"""The official SDK, unchanged, with agents that speak by calling `send_message`, and with tool rules."""

from typing import Any

import pytest
from letta_client import UnprocessableEntityError
from letta_client.types.agents import ReasoningMessage

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import connected

BASE = {
    "memgpt_v2_agent": ["send_message", "conversation_search", "memory_replace", "memory_insert"],
    "memgpt_agent": [
        "send_message",
        "conversation_search",
        "core_memory_append",
        "core_memory_replace",
        "memory",
        "memory_apply_patch",
    ],
}


def call(name: str, **arguments: object) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


NOTE = call(
    "memory_insert", thinking="Worth keeping.", label="human", new_string="Likes tea", request_heartbeat=True
)
SAY = call("send_message", thinking="Now I tell them.", message='Noted: "tea" \N{HOT BEVERAGE}')
SAID = 'Noted: "tea" \N{HOT BEVERAGE}'
TURN = [
    "reasoning_message",
    "tool_call_message",
    "tool_return_message",
    "reasoning_message",
    "assistant_message",
]


def merged(chunks: list[Any]) -> list[tuple[str, str, str]]:
    """Return what a client that adds chunks up by id and otid holds: type, otid, text."""
    held: dict[tuple[str, str], list[str]] = {}
    for chunk in chunks:
        kind = chunk.message_type
        if kind in ("reasoning_message", "assistant_message"):
            text = chunk.reasoning if kind == "reasoning_message" else chunk.content
            entry = held.setdefault((chunk.id, chunk.otid), [kind, ""])
            assert entry[0] == kind
            entry[1] += text
    return [(kind, otid, text) for (_, otid), (kind, text) in held.items()]


@pytest.mark.parametrize("agent_type", list(BASE))
async def test_a_new_agent_has_its_tools_rules_and_boot_sequence(
    pool: Pool, provider: Provider, agent_type: str
) -> None:
    async with connected(pool, provider, agent_type=agent_type) as c:
        agent = await c.client.agents.retrieve(c.agent_id, include=["agent.tools"])
        assert agent.agent_type == agent_type
        assert [tool.name for tool in agent.tools or []] == BASE[agent_type]
        assert [(r.type, r.tool_name) for r in agent.tool_rules or []] == [
            ("exit_loop", "send_message"),
            *(("continue_loop", name) for name in BASE[agent_type][1:]),
        ]
        assert "<tool_rule>send_message ends your turn.</tool_rule>" not in agent.system
        first = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
        assert [m.message_type for m in first] == [
            "system_message",
            "reasoning_message",
            "assistant_message",
            "user_message",
        ]
        assert "<tool_rule>send_message ends your turn.</tool_rule>" in first[0].content
        assert '"type":"login"' in first[-1].content
        assert len(agent.message_ids or []) == 4


async def test_a_turn_is_thoughts_calls_and_speech(pool: Pool, provider: Provider) -> None:
    await provider.script([NOTE, SAY])
    async with connected(pool, provider, agent_type="memgpt_v2_agent") as c:
        answer = await c.say("I like tea")
        listed = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
    assert [m.message_type for m in answer.messages] == TURN
    thought, called, returned, again, said = answer.messages
    assert isinstance(thought, ReasoningMessage)
    assert (thought.reasoning, thought.source) == ("Worth keeping.", "non_reasoner_model")
    assert "thinking" not in called.tool_call.arguments
    assert "request_heartbeat" in called.tool_call.arguments
    assert returned.tool_return == "Likes tea"
    assert again.reasoning == "Now I tell them."
    assert said.content == SAID
    assert [m.otid[-1] for m in answer.messages] == ["0", "1", "0", "0", "1"]
    assert answer.stop_reason.stop_reason == "tool_rule"
    tail = [m.message_type for m in listed[5:]]
    assert tail == [*TURN[:3], "user_message", *TURN[3:]]
    assert '"type":"heartbeat"' in listed[8].content


@pytest.mark.parametrize("tokens", [False, True])
async def test_a_stream_says_what_the_history_holds(pool: Pool, provider: Provider, tokens: bool) -> None:
    await provider.script([NOTE | {"chunk": 7}, SAY | {"chunk": [3, 11]}])
    async with connected(pool, provider, agent_type="memgpt_v2_agent") as c:
        chunks = await c.chunks("I like tea", stream_tokens=tokens)
        run_id = next(chunk.run_id for chunk in chunks if chunk.message_type == "reasoning_message")
        stored = [m async for m in c.client.runs.messages.list(run_id)]
    assert merged(chunks) == merged(stored)
    assert merged(stored)[-1][2] == SAID
    kinds = [k.message_type for i, k in enumerate(chunks) if k.message_type != chunks[i - 1].message_type]
    assert kinds == ["ping", *TURN, "stop_reason", "usage_statistics"]


@pytest.mark.parametrize("tokens", [False, True])
async def test_thoughts_that_come_late_in_a_call_are_shown_like_others(
    pool: Pool, provider: Provider, tokens: bool
) -> None:
    note = call(
        "memory_insert", label="human", new_string="Tea", thinking="Worth keeping.", request_heartbeat=True
    )
    say = call("send_message", message=SAID, thinking="Now I tell them.")
    await provider.script([note | {"chunk": 7}, say | {"chunk": [3, 11]}])
    async with connected(pool, provider, agent_type="memgpt_v2_agent") as c:
        chunks = await c.chunks("I like tea", stream_tokens=tokens)
        run_id = next(chunk.run_id for chunk in chunks if chunk.message_type == "reasoning_message")
        stored = [m async for m in c.client.runs.messages.list(run_id)]
    assert merged(chunks) == merged(stored)
    assert {text for _, _, text in merged(stored)} == {"Worth keeping.", "Now I tell them.", SAID}
    calls = [m.tool_call.arguments for m in stored if m.message_type == "tool_call_message"]
    assert calls
    assert not any("thinking" in arguments for arguments in calls)


async def test_a_client_may_want_the_calls_as_calls(pool: Pool, provider: Provider) -> None:
    await provider.script([SAY, SAY])
    async with connected(pool, provider, agent_type="memgpt_v2_agent") as c:
        whole = await c.say("hi", use_assistant_message=False)
        chunks = await c.chunks("hi", stream_tokens=True, use_assistant_message=False)
        listed = await c.client.agents.messages.list(c.agent_id, use_assistant_message=False)
    kinds = ["reasoning_message", "tool_call_message", "tool_return_message"]
    assert [m.message_type for m in whole.messages] == kinds
    assert whole.messages[-1].tool_return == "Sent message successfully."
    assert "assistant_message" not in {chunk.message_type for chunk in chunks}
    assert "assistant_message" not in {m.message_type for m in listed.items}


async def test_a_call_that_says_nothing_is_shown_as_a_call_with_its_error(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([call("send_message", thinking="oops"), SAY] * 2)
    async with connected(pool, provider, agent_type="memgpt_v2_agent") as c:
        whole = await c.say("hi")
        chunks = await c.chunks("hi", stream_tokens=True)
    kinds = [m.message_type for m in whole.messages]
    assert kinds == [*TURN[:3], *TURN[3:]]
    assert whole.messages[2].status == "error"
    streamed = [k.message_type for i, k in enumerate(chunks) if k.message_type != chunks[i - 1].message_type]
    assert streamed == ["ping", *kinds, "stop_reason", "usage_statistics"]


async def test_rules_are_kept_changed_and_refused_by_place_and_field(pool: Pool, provider: Provider) -> None:
    rules: list[Any] = [
        {"type": "run_first", "tool_name": "memory_insert", "args": {"label": "human"}},
        {"type": "max_count_per_step", "tool_name": "memory_insert", "max_count_limit": 2},
        {"type": "max_count_per_step", "tool_name": "memory_insert", "max_count_limit": 2},
        {
            "type": "conditional",
            "tool_name": "memory_insert",
            "child_output_mapping": {"True": "memory_replace"},
        },
    ]
    async with connected(pool, provider, tool_rules=rules) as c:
        agent = await c.client.agents.retrieve(c.agent_id)
        assert [r.type for r in agent.tool_rules or []] == ["run_first", "max_count_per_step", "conditional"]
        changed = await c.client.agents.update(c.agent_id, tool_rules=rules[1:2])
        assert [r.type for r in changed.tool_rules or []] == ["max_count_per_step"]
        [system, *_] = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
        assert "Use memory_insert at most 2 times" in system.content
        cleared = await c.client.agents.update(c.agent_id, tool_rules=[])
        assert cleared.tool_rules == []
        for wrong, field in (
            ({"type": "max_count_per_step", "tool_name": "a"}, "max_count_limit"),
            ({"type": "constrain_child_tools", "tool_name": "a", "children": []}, "/tool_rules/0/children"),
            ({"type": "run_first", "tool_name": "memory_insert", "args": {"colour": 1}}, "colour"),
            ({"type": "fly", "tool_name": "a"}, "/tool_rules/0"),
        ):
            with pytest.raises(UnprocessableEntityError) as refused:
                await c.client.agents.update(c.agent_id, tool_rules=[wrong])  # type: ignore[list-item]
            assert field in str(refused.value.body)


async def test_a_first_message_of_ones_own_replaces_the_boot_sequence(pool: Pool, provider: Provider) -> None:
    sequence: list[Any] = [
        {"role": "user", "content": "We met before."},
        {"role": "assistant", "content": "So we did."},
    ]
    for agent_type in ("memgpt_v2_agent", "letta_v1_agent"):
        async with connected(pool, provider, agent_type=agent_type, initial_message_sequence=sequence) as c:
            first = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
            assert [(m.message_type, m.content) for m in first[1:]] == [
                ("user_message", "We met before."),
                ("assistant_message", "So we did."),
            ]


async def test_an_agent_of_version_one_speaks_in_plain_text_and_has_no_rules(
    pool: Pool, provider: Provider
) -> None:
    async with connected(pool, provider) as c:
        agent = await c.client.agents.retrieve(c.agent_id)
        assert agent.tool_rules == []
        assert len(agent.message_ids or []) == 1
        answer = await c.say("hello")
        assert [m.message_type for m in answer.messages] == ["assistant_message"]


async def test_base_rules_know_tools_that_were_named_by_id(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        [speak] = (await c.client.tools.list(name="send_message")).items
        agent = await c.client.agents.create(
            model="openai/echo",
            agent_type="memgpt_v2_agent",
            include_base_tools=False,
            tool_ids=[speak.id],
        )
        assert [(r.type, r.tool_name) for r in agent.tool_rules or []] == [("exit_loop", "send_message")]
        assert agent.llm_config.put_inner_thoughts_in_kwargs
