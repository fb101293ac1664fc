"""The official SDK, unchanged, approves, denies and runs calls of its own."""

from typing import Any

import letta_client
import pytest
from letta_client.types.agents import ApprovalRequestMessage

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import CALL, Connected, connected, user
from tests.gateway.rest.talking import MODEL

INSERT = {**CALL["tool_calls"][0], "id": "call-1"}
ASK = {"text": "May I?", "tool_calls": [INSERT]}
RULE: Any = {"type": "requires_approval", "tool_name": "memory_insert"}
WEATHER: Any = {"name": "weather", "description": "The weather here.", "parameters": {"type": "object"}}
YES: Any = {
    "type": "approval",
    "approvals": [{"type": "approval", "tool_call_id": "call-1", "approve": True}],
}


async def guarded(c: Connected) -> None:
    """Let the agent ask before it writes."""
    await c.client.agents.update(c.agent_id, tool_rules=[RULE])


async def asked(c: Connected) -> Any:
    """Return the request that the agent makes."""
    answer = await c.say("I like tea")
    assert answer.stop_reason.stop_reason == "requires_approval"
    request = answer.messages[-1]
    assert isinstance(request, ApprovalRequestMessage)
    return request


async def reply(c: Connected, message: Any, **more: Any) -> Any:
    """Answer the agent."""
    return await c.client.agents.messages.create(c.agent_id, messages=[message], **more)


async def value(c: Connected) -> str:
    """Return the block's value."""
    return (await c.client.agents.blocks.retrieve("human", agent_id=c.agent_id)).value


async def test_an_approval_lets_the_call_run(pool: Pool, provider: Provider) -> None:
    await provider.script([ASK, {"text": "Noted."}])
    async with connected(pool, provider) as c:
        await guarded(c)
        request = await asked(c)
        assert request.tool_call.tool_call_id == "call-1"
        state = await c.client.agents.retrieve(c.agent_id, include=["agent.pending_approval"])
        assert state.pending_approval is not None
        assert state.pending_approval.id == request.id
        answer = await reply(c, YES)
        kinds = [m.message_type for m in answer.messages]
        assert kinds == ["tool_return_message", "assistant_message"]
        assert answer.messages[0].step_id == request.step_id
        assert await value(c) == "Likes tea"
        state = await c.client.agents.retrieve(c.agent_id, include=["agent.pending_approval"])
        assert state.pending_approval is None
        history = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
        assert [m.message_type for m in history][1:] == [
            "user_message",
            "assistant_message",
            "approval_request_message",
            "approval_response_message",
            "tool_return_message",
            "assistant_message",
        ]


async def test_a_denial_reaches_the_model_and_nothing_runs(pool: Pool, provider: Provider) -> None:
    await provider.script([ASK, {"text": "Then not."}])
    async with connected(pool, provider) as c:
        await guarded(c)
        request = await asked(c)
        no = {"type": "approval", "approve": False, "approval_request_id": request.id, "reason": "private"}
        answer = await reply(c, no)
        assert answer.messages[0].tool_return == ("Error: request to call tool denied. User reason: private")
        assert answer.messages[0].status == "error"
        assert await value(c) == ""


async def test_a_message_meanwhile_is_a_conflict_that_names_the_request(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([ASK])
    async with connected(pool, provider) as c:
        await guarded(c)
        request = await asked(c)
        with pytest.raises(letta_client.ConflictError) as caught:
            await c.say("Hello?")
        assert caught.value.response.json()["detail"] == {
            "code": "PENDING_APPROVAL",
            "message": (
                "CONFLICT: Cannot send a new message: The agent is waiting for approval on a tool call. "
                "Please approve or deny the pending request before continuing."
            ),
            "pending_request_id": request.id,
        }
        with pytest.raises(letta_client.ConflictError):
            await c.client.conversations.messages.create(c.agent_id, messages=[user("Hello?")])


async def test_a_client_runs_its_own_tool(pool: Pool, provider: Provider) -> None:
    call = {"name": "weather", "arguments": {}, "id": "call-7"}
    await provider.script([{"tool_calls": [call]}, {"text": "It is sunny."}])
    async with connected(pool, provider) as c:
        answer = await c.say("Weather?", client_tools=[WEATHER])
        assert answer.stop_reason.stop_reason == "requires_approval"
        assert answer.messages[-1].tool_call.name == "weather"
        result = {"type": "tool", "tool_call_id": "call-7", "tool_return": "Sunny", "status": "success"}
        answer = await reply(c, {"type": "tool_return", "tool_returns": [result]}, client_tools=[WEATHER])
        assert [m.message_type for m in answer.messages] == ["tool_return_message", "assistant_message"]
        assert answer.messages[0].tool_return == "Sunny"


async def test_an_answer_may_come_again(pool: Pool, provider: Provider) -> None:
    await provider.script([ASK, {"text": "Noted."}, {"text": "As I said."}])
    async with connected(pool, provider) as c:
        await guarded(c)
        await asked(c)
        await reply(c, YES)
        again = await reply(c, YES)
        assert again.stop_reason.stop_reason == "end_turn"
        assert await value(c) == "Likes tea"


async def test_answers_to_nothing_or_to_something_else_are_refused_in_lettas_words(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([ASK])
    async with connected(pool, provider) as c:
        await guarded(c)
        with pytest.raises(letta_client.BadRequestError, match="No tool call is currently awaiting approval"):
            await reply(c, YES)
        await asked(c)
        other = {"type": "approval", "approvals": [{"tool_call_id": "call-2", "approve": True}]}
        with pytest.raises(letta_client.BadRequestError, match="Invalid tool call IDs"):
            await reply(c, other)


@pytest.mark.parametrize("tokens", [False, True])
async def test_a_stream_shows_the_request_as_what_it_is(pool: Pool, provider: Provider, tokens: bool) -> None:
    await provider.script([ASK, {"text": "Noted."}])
    async with connected(pool, provider) as c:
        await guarded(c)
        chunks = await c.chunks("I like tea", stream_tokens=tokens)
        kinds = [k for k in dict.fromkeys(chunk.message_type for chunk in chunks) if k != "ping"]
        assert kinds == [
            "assistant_message",
            "approval_request_message",
            "stop_reason",
            "usage_statistics",
        ]
        shown = [chunk for chunk in chunks if chunk.message_type == "approval_request_message"]
        assert len({chunk.id for chunk in shown}) == 1
        text = next(chunk for chunk in chunks if chunk.message_type == "assistant_message")
        assert int(shown[0].id[-12:], 16) == int(text.id[-12:], 16) - 1
        arguments = "".join(chunk.tool_call.arguments or "" for chunk in shown)
        assert '"Likes tea"' in arguments


async def test_a_cancel_denies_what_waits(pool: Pool, provider: Provider) -> None:
    await provider.script([ASK, {"text": "Fine."}])
    async with connected(pool, provider) as c:
        await guarded(c)
        request = await asked(c)
        assert await c.client.agents.messages.cancel(c.agent_id) == {request.run_id: "cancelled"}
        answer = await c.say("Go on")
        assert answer.stop_reason.stop_reason == "end_turn"


async def test_a_tool_s_approval_is_switched_on_and_off(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        switch = c.client.agents.tools.update_approval
        assert await switch("memory_insert", agent_id=c.agent_id, body_requires_approval=True) is None
        assert [r.type for r in (await c.client.agents.retrieve(c.agent_id)).tool_rules or []] == [
            "requires_approval"
        ]
        await switch("memory_insert", agent_id=c.agent_id, body_requires_approval=False)
        assert (await c.client.agents.retrieve(c.agent_id)).tool_rules == []


async def test_agents_that_are_given_a_tool_that_asks_by_default_have_a_rule_that_says_so(
    pool: Pool, provider: Provider
) -> None:
    async with connected(pool, provider) as c:
        agents, tools = c.client.agents, c.client.tools
        [tool] = [t async for t in tools.list(name="archival_memory_insert")]
        assert tool.id is not None
        assert tool.default_requires_approval is None
        changed = await tools.update(tool.id, default_requires_approval=True)
        assert changed.default_requires_approval is True
        assert (await tools.retrieve(tool.id)).default_requires_approval is True
        assert [t.default_requires_approval async for t in tools.list(name="archival_memory_insert")] == [
            True
        ]

        await agents.tools.attach(tool.id, agent_id=c.agent_id)
        assert await asking(c, c.agent_id) == ["archival_memory_insert"]
        await agents.tools.update_approval(
            "archival_memory_insert", agent_id=c.agent_id, body_requires_approval=False
        )
        await agents.tools.attach(tool.id, agent_id=c.agent_id)  # it has it, and its own setting
        assert await asking(c, c.agent_id) == []

        made = await agents.create(model=MODEL, tools=["archival_memory_insert"])
        assert [(r.type, r.tool_name) for r in made.tool_rules or []] == [
            ("requires_approval", "archival_memory_insert")
        ]
        assert await asking(c, made.id) == ["archival_memory_insert"]
        once = await agents.create(
            model=MODEL,
            tool_ids=[tool.id],
            tool_rules=[{"type": "requires_approval", "tool_name": "archival_memory_insert"}],
        )
        assert await asking(c, once.id) == ["archival_memory_insert"]
        later = await agents.create(model=MODEL)
        assert later.tool_rules == []
        await agents.update(later.id, tool_ids=[tool.id])
        assert await asking(c, later.id) == ["archival_memory_insert"]

        await tools.update(tool.id, default_requires_approval=False)
        assert await asking(c, later.id) == ["archival_memory_insert"]
        assert await asking(c, (await agents.create(model=MODEL, tools=["archival_memory_insert"])).id) == []


async def test_a_call_of_such_a_tool_waits(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        [tool] = [t async for t in c.client.tools.list(name="archival_memory_insert")]
        assert tool.id is not None
        await c.client.tools.update(tool.id, default_requires_approval=True)
        await c.client.agents.tools.attach(tool.id, agent_id=c.agent_id)
        keep = {"name": "archival_memory_insert", "arguments": {"content": "tea"}, "id": "call-1"}
        await provider.script([{"tool_calls": [keep]}, {"text": "Kept."}])
        await asked(c)
        assert (await reply(c, YES)).stop_reason.stop_reason == "end_turn"


async def test_what_a_built_in_tool_does_cannot_be_changed(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        [tool] = [t async for t in c.client.tools.list(name="archival_memory_insert")]
        assert tool.id is not None
        with pytest.raises(letta_client.APIStatusError, match="description") as refused:
            await c.client.tools.update(tool.id, description="Something else.")
        assert refused.value.status_code == 501
        with pytest.raises(letta_client.NotFoundError):
            await c.client.tools.update(
                "tool-00000000-0000-4000-8000-000000000000", default_requires_approval=True
            )


async def asking(c: Connected, agent_id: str) -> list[str]:
    """Return the tools that the agent asks before it calls them."""
    state = await c.client.agents.retrieve(agent_id)
    return [str(r.tool_name) for r in state.tool_rules or [] if r.type == "requires_approval"]
