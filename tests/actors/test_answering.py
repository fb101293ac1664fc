"""Requests that wait for somebody: whole agents on a real database, with a scripted model."""

from typing import Any

import anyio
import pytest

from actors import approvals
from actors.commands import Decision, Envelope, Receipt
from actors.commons import HostSettings
from actors.errors import (
    InvalidAnswerError,
    MailboxFullError,
    NothingToCancelError,
    PendingApprovalError,
)
from actors.events import ApprovalAnswered, ApprovalRequested, Event, ToolCallStarted
from bench.provider import Provider
from storage.pending_records import ClientTool
from storage.pool import Pool
from storage.records import ApprovalPart, ToolReturnPart
from tests.actors.worlds import World, committed, finish, text_of, world
from tests.laws.watching import until

RULE: dict[str, Any] = {"type": "requires_approval", "tool_name": "memory_insert"}
INSERT = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}, "id": "call-1"}
SEARCH = {"name": "conversation_search", "arguments": {"query": "tea"}, "id": "call-2"}
WEATHER = ClientTool(name="weather", description="The weather here.")
ASK_WEATHER = {"name": "weather", "arguments": {}, "id": "call-3"}


async def asking(
    w: World, provider: Provider, *calls: dict[str, Any], **more: Any
) -> tuple[str, list[Event]]:
    """Let an agent ask for calls; return it, and what its run said."""
    await provider.script([{"text": "Let me see.", "tool_calls": list(calls or (INSERT,))}])
    agent_id = await w.agent(tool_rules=(RULE,))
    return agent_id, await w.ask(agent_id, "I like tea", **more)


async def answer(w: World, agent_id: str, *decisions: Decision, **more: Any) -> list[Event]:
    """Answer what the agent asks; return what the run says."""
    return await w.ask(agent_id, "", **{"messages": (), "approvals": decisions, **more})


async def test_a_call_that_needs_approval_ends_the_run_and_waits(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id, events = await asking(w, provider)
        assert finish(events).stop_reason == "requires_approval"
        assert finish(events).status == "completed"
        [asked] = [e for e in events if isinstance(e, ApprovalRequested)]
        assert [(c.id, c.name, c.kind) for c in asked.calls] == [("call-1", "memory_insert", "approval")]
        assert [e.asks for e in events if isinstance(e, ToolCallStarted)] == [True]
        assert [m.role for m in await w.messages(agent_id)] == ["system", "user", "assistant", "approval"]
        assert (await w.messages(agent_id))[-1].id == asked.message_id
        assert await w.value(agent_id) == ""


async def test_an_approved_call_runs_in_its_step_and_the_loop_goes_on(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id, _ = await asking(w, provider)
        await provider.script([{"text": "Noted."}])
        events = await answer(w, agent_id, ApprovalPart("call-1", approve=True))
        assert finish(events).stop_reason == "end_turn"
        assert await w.value(agent_id) == "Likes tea"
        assert committed(events)[-1] == ("assistant", "Noted.")
        assert [e.decisions for e in events if isinstance(e, ApprovalAnswered)] == [
            (ApprovalPart("call-1", approve=True),)
        ]
        stored = await w.messages(agent_id)
        steps = [m.step_id for m in stored if m.role in ("approval", "tool")]
        assert len(steps) == 3
        assert len(set(steps)) == 1
        request = (await provider.log(requests=2, ended=2))[-1].body
        assert [m["role"] for m in request["messages"]] == ["system", "user", "assistant", "tool"]


async def test_a_denied_call_tells_the_model_the_reason(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id, _ = await asking(w, provider)
        await provider.script([{"text": "Then not."}])
        await answer(w, agent_id, ApprovalPart("call-1", approve=False, reason="too private"))
        assert await w.value(agent_id) == ""
        request = (await provider.log(requests=2, ended=2))[-1].body
        assert request["messages"][-1]["content"] == (
            "Error: request to call tool denied. User reason: too private"
        )


async def test_edited_arguments_are_those_that_run_and_that_the_model_sees(
    pool: Pool, provider: Provider
) -> None:
    edited = '{"label": "human", "new_string": "Likes coffee"}'
    async with world(pool, provider) as w:
        agent_id, _ = await asking(w, provider)
        await answer(w, agent_id, ApprovalPart("call-1", approve=True, arguments=edited))
        assert await w.value(agent_id) == "Likes coffee"
        request = (await provider.log(requests=2, ended=2))[-1].body
        assert request["messages"][2]["tool_calls"][0]["function"]["arguments"] == edited
    async with world(pool, provider) as w:
        await w.ask(agent_id, "and now?")
        request = (await provider.log(requests=1, ended=1))[-1].body
        assert request["messages"][2]["tool_calls"][0]["function"]["arguments"] == edited


async def test_calls_that_need_nobody_wait_for_those_that_do(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id, events = await asking(w, provider, SEARCH, INSERT)
        assert [role for role, _ in committed(events)] == ["user", "assistant", "approval"]
        events = await answer(w, agent_id, ApprovalPart("call-1", approve=True))
        [returned] = [m for m in await w.messages(agent_id) if m.role == "tool"]
        assert [p.tool_call_id for p in returned.content if isinstance(p, ToolReturnPart)] == [
            "call-2",
            "call-1",
        ]
        request = (await provider.log(requests=2, ended=2))[-1].body
        assert [m["role"] for m in request["messages"]] == ["system", "user", "assistant", "tool", "tool"]
        assert len(request["messages"][2]["tool_calls"]) == 2


async def test_a_client_s_tool_is_offered_and_its_result_is_the_model_s(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id, events = await asking(w, provider, ASK_WEATHER, client_tools=(WEATHER,))
        assert finish(events).stop_reason == "requires_approval"
        await answer(w, agent_id, ToolReturnPart("call-3", "", "success", "Sunny"))
        first, second = [r.body for r in await provider.log(requests=2, ended=2)]
        for request in (first, second):  # the answer named none: those of the request stay on offer
            assert "weather" in [t["function"]["name"] for t in request["tools"]]
        assert second["messages"][-1]["content"] == "Sunny"


async def test_a_client_s_tool_hides_the_agent_s_of_the_same_name(pool: Pool, provider: Provider) -> None:
    own = ClientTool(name="conversation_search", description="Mine.")
    async with world(pool, provider) as w:
        _, events = await asking(w, provider, SEARCH, client_tools=(own,))
        assert finish(events).stop_reason == "requires_approval"
        [record] = await provider.log(requests=1, ended=1)
        [shown] = [
            t["function"] for t in record.body["tools"] if t["function"]["name"] == "conversation_search"
        ]
        assert shown["description"] == "Mine."


async def test_an_ordinary_message_is_refused_meanwhile_and_bricks_nothing(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id, events = await asking(w, provider)
        [asked] = [e for e in events if isinstance(e, ApprovalRequested)]
        with pytest.raises(PendingApprovalError) as caught:
            await w.tell(agent_id, "hello?")
        assert caught.value.message_id == asked.message_id
        await answer(w, agent_id, ApprovalPart("call-1", approve=True))
        assert finish(await w.ask(agent_id, "hello?")).status == "completed"


async def test_where_it_is_queued_it_comes_after_the_answer(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider, settings=HostSettings(when_pending="queue", drain_seconds=1)) as w:
        agent_id, _ = await asking(w, provider)
        waiting = await w.tell(agent_id, "hello?")
        await provider.script([{"text": "Noted."}, {"text": "Hello."}])
        await answer(w, agent_id, ApprovalPart("call-1", approve=True))
        assert finish(await w.events(waiting, agent_id)).status == "completed"
        assert (await w.history(agent_id))[-3:] == [
            ("assistant", "Noted."),
            ("user", "hello?"),
            ("assistant", "Hello."),
        ]


async def test_what_follows_in_the_same_request_comes_after_the_results(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id, _ = await asking(w, provider)
        await w.ask(agent_id, "and hurry", approvals=(ApprovalPart("call-1", approve=True),))
        assert [role for role, _ in await w.history(agent_id)][-4:] == [
            "approval",
            "tool",
            "user",
            "assistant",
        ]


@pytest.mark.parametrize(
    ("decisions", "text"),
    [
        ((ApprovalPart("call-9", approve=True),), "Expected '['call-1']', but received '['call-9']'"),
        ((ApprovalPart("call-1", approve=True),) * 2, "Invalid tool call IDs"),
    ],
)
async def test_an_answer_to_something_else_is_refused(
    pool: Pool, provider: Provider, decisions: tuple[Decision, ...], text: str
) -> None:
    async with world(pool, provider) as w:
        agent_id, _ = await asking(w, provider)
        with pytest.raises(InvalidAnswerError) as caught:
            await answer(w, agent_id, *decisions)
        assert text in str(caught.value)


async def test_an_answer_to_nothing_is_refused(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        with pytest.raises(InvalidAnswerError, match="No tool call is currently awaiting approval"):
            await answer(w, agent_id, ApprovalPart("call-1", approve=True))


async def test_the_message_s_id_stands_for_its_only_call(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id, events = await asking(w, provider)
        [asked] = [e for e in events if isinstance(e, ApprovalRequested)]
        await answer(w, agent_id, ApprovalPart(asked.message_id, approve=True))
        assert await w.value(agent_id) == "Likes tea"


async def test_an_answer_that_comes_again_is_accepted_and_changes_nothing(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id, _ = await asking(w, provider)
        yes = ApprovalPart("call-1", approve=True)
        await answer(w, agent_id, yes)
        assert finish(await answer(w, agent_id, yes)).status == "completed"
        assert await w.value(agent_id) == "Likes tea"
        assert sum(role == "tool" for role, _ in await w.history(agent_id)) == 1


async def test_cancelling_denies_the_calls_without_asking_the_model(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id, events = await asking(w, provider, SEARCH, INSERT)
        run_id = finish(events).run_id
        assert await w.host.ref(agent_id).cancel() == {run_id: "cancelled"}
        with pytest.raises(NothingToCancelError):
            await w.host.ref(agent_id).cancel()
        last = (await w.messages(agent_id))[-1]
        assert approvals.CANCELLED in text_of(last)
        await w.ask(agent_id, "go on")
        request = (await provider.log(requests=2, ended=2))[-1].body
        assert [m["role"] for m in request["messages"]][-3:] == ["tool", "tool", "user"]


async def test_a_request_that_nobody_answers_is_denied_in_the_end(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider, settings=HostSettings(approval_seconds=0.001, drain_seconds=1)) as w:
        agent_id, _ = await asking(w, provider)
        await provider.script([{"text": "Pity."}])
        await w.host.expire_once()
        await w.host.expire_once()
        with anyio.fail_after(10):
            while (await w.history(agent_id))[-1] != ("assistant", "Pity."):
                await anyio.sleep(0.01)
        assert approvals.EXPIRED in (await w.history(agent_id))[-2][1]


async def test_a_request_that_cannot_be_denied_now_does_not_hold_up_the_others(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider, settings=HostSettings(approval_seconds=0.001, drain_seconds=1)) as w:
        first, _ = await asking(w, provider)
        second, _ = await asking(w, provider)
        accept = w.host.accept

        async def full(agent_id: str, envelope: Envelope) -> Receipt:
            if agent_id == first:
                raise MailboxFullError("agent", 1, 1.0)
            return await accept(agent_id, envelope)

        monkeypatch.setattr(w.host, "accept", full)
        await w.host.expire_once()
        await until(lambda: not w.host.is_asking(second))
        assert w.host.is_asking(first)
