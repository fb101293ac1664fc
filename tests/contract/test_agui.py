"""The official AG-UI client, unchanged: its verifier, its reducer and its rules about interrupts."""

from typing import Any

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.agui_agents import Agent, agent, shown
from tests.contract.connected import CALL, Connected, connected
from tests.contract.node import Node

INSERT = {**CALL["tool_calls"][0], "id": "call-1"}
RULE: Any = {"type": "requires_approval", "tool_name": "memory_insert"}
WEATHER: Any = {"name": "weather", "description": "The weather here.", "parameters": {"type": "object"}}


async def test_a_run_arrives_as_messages_and_state(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([{**CALL, "text": "One moment."}, {"text": "Noted."}])
    async with connected(pool, provider) as c, agent(node, c.url, c.agent_id, "chat") as client:
        run = await client.run("I like tea")
        assert run["failure"] is None
        assert shown(run["messages"]) == [
            ("user", "I like tea"),
            ("reasoning", "Better note it."),
            ("assistant", "One moment."),
            ("tool", "Likes tea"),
            ("assistant", "Noted."),
        ]
        assert [c["function"]["name"] for c in run["messages"][2]["toolCalls"]] == ["memory_insert"]
        assert run["state"]["memory"]["blocks"]["human"]["value"] == "Likes tea"
        assert run["state"]["status"] == "idle"
        assert run["result"] == {"stop_reason": "end_turn"}
        assert run["seen"][:2] == ["RUN_STARTED", "STATE_SNAPSHOT"]
        assert run["seen"][-1] == "RUN_FINISHED"


async def test_a_second_run_of_a_thread_says_only_what_is_new(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([{"text": "One."}, {"text": "Two."}])
    async with connected(pool, provider) as c, agent(node, c.url, c.agent_id, "chat") as client:
        await client.run("first")
        run = await client.run("second")
        assert shown(run["messages"]) == [
            ("user", "first"),
            ("assistant", "One."),
            ("user", "second"),
            ("assistant", "Two."),
        ]
        _, last = await provider.log(requests=2)
        said = [m["content"] for m in last.body["messages"] if m["role"] == "user"]
        assert said == ["first", "second"]


async def asked(c: Connected, client: Agent) -> dict[str, Any]:
    """Let the agent ask before it writes, and return the run in which it does."""
    await c.client.agents.update(c.agent_id, tool_rules=[RULE])
    run = await client.run("I like tea")
    assert run["failure"] is None
    assert [one["id"] for one in run["interrupts"]] == ["call-1"]
    return run


async def test_an_interrupt_is_answered_by_a_resume(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([{"text": "May I?", "tool_calls": [INSERT]}, {"text": "Noted."}])
    async with connected(pool, provider) as c, agent(node, c.url, c.agent_id, "chat") as client:
        run = await asked(c, client)
        assert run["interrupts"][0]["reason"] == "tool_call"
        assert run["state"]["status"] == "waiting_for_approval"
        assert "MESSAGES_SNAPSHOT" in run["seen"]
        yes = [{"interruptId": "call-1", "status": "resolved", "payload": {"approved": True}}]
        run = await client.run(resume=yes)
        assert run["failure"] is None
        assert run["interrupts"] == []
        assert shown(run["messages"]) == [
            ("user", "I like tea"),
            ("assistant", "May I?"),
            ("assistant", ("memory_insert",)),
            ("tool", "Likes tea"),
            ("assistant", "Noted."),
        ]
        assert run["state"]["memory"]["blocks"]["human"]["value"] == "Likes tea"


async def test_a_cancelled_interrupt_runs_nothing(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([{"text": "May I?", "tool_calls": [INSERT]}, {"text": "Then not."}])
    async with connected(pool, provider) as c, agent(node, c.url, c.agent_id, "chat") as client:
        await asked(c, client)
        run = await client.run(resume=[{"interruptId": "call-1", "status": "cancelled"}])
        assert run["failure"] is None
        assert run["messages"][-1]["content"] == "Then not."
        assert run["state"]["memory"]["blocks"]["human"]["value"] == ""


async def test_the_client_runs_its_own_tool_and_sends_the_result(
    pool: Pool, provider: Provider, node: Node
) -> None:
    call = {"name": "weather", "arguments": {}, "id": "call-w"}
    await provider.script([{"tool_calls": [call]}, {"text": "Sunny."}])
    async with connected(pool, provider) as c, agent(node, c.url, c.agent_id, "chat") as client:
        run = await client.run("How is it outside?", tools=[WEATHER])
        assert run["failure"] is None
        assert run["interrupts"] == []
        assert run["messages"][-1]["toolCalls"][0]["id"] == "call-w"
        result = {"id": "mine", "toolCallId": "call-w", "content": "18 degrees"}
        run = await client.run(tools=[WEATHER], results=[result])
        assert run["failure"] is None
        assert shown(run["messages"])[-2:] == [("tool", "18 degrees"), ("assistant", "Sunny.")]
        assert [m["role"] for m in run["messages"]].count("tool") == 1


async def test_a_result_of_the_clients_tool_may_hold_an_image(
    pool: Pool, provider: Provider, node: Node
) -> None:
    call = {"name": "weather", "arguments": {}, "id": "call-w"}
    await provider.script([{"tool_calls": [call]}, {"text": "Sunny."}])
    source = {"type": "data", "value": "iVBORw0KGgo=", "mimeType": "image/png"}
    parts = [{"type": "text", "text": "Look."}, {"type": "image", "source": source}]
    async with connected(pool, provider) as c:
        async with agent(node, c.url, c.agent_id, "chat") as client:
            await client.run("How is it outside?", tools=[WEATHER])
            result = {"id": "mine", "toolCallId": "call-w", "content": parts}
            run = await client.run(tools=[WEATHER], results=[result])
            assert run["failure"] is None
            assert shown(run["messages"])[-2:] == [("tool", parts), ("assistant", "Sunny.")]
            seen = (await provider.log(requests=2))[-1].body["messages"][-1]["content"]
            assert seen[-1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
        async with agent(node, c.url, c.agent_id, "chat") as client:
            run = await client.run()
            assert shown(run["messages"])[-2:] == [("tool", parts), ("assistant", "Sunny.")]


async def test_a_failure_is_told_as_run_error(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([{"status": 400}])
    async with connected(pool, provider) as c, agent(node, c.url, c.agent_id, "chat") as client:
        run = await client.run("hello")
        assert run["seen"][-1] == "RUN_ERROR"


async def test_a_client_without_its_history_is_given_it(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([{"text": "One."}])
    async with connected(pool, provider) as c:
        async with agent(node, c.url, c.agent_id, "chat") as client:
            await client.run("first")
        async with agent(node, c.url, c.agent_id, "chat") as client:
            run = await client.run()
            assert shown(run["messages"]) == [("user", "first"), ("assistant", "One.")]
            assert run["seen"] == [
                "RUN_STARTED",
                "STATE_SNAPSHOT",
                "MESSAGES_SNAPSHOT",
                "CUSTOM:letta.stop_reason",
                "CUSTOM:letta.usage_statistics",
                "STATE_DELTA",
                "RUN_FINISHED",
            ]
