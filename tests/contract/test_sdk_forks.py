"""The official SDK, unchanged, forks conversations: they share what was said and then go their own ways."""

from typing import Any

import letta_client
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import CALL, Connected, connected, user


async def said(c: Connected, conversation_id: str, **query: Any) -> list[str]:
    """Return what people and the model said in a conversation, oldest first."""
    listed = [
        m async for m in c.client.conversations.messages.list(conversation_id, order="asc", limit=2, **query)
    ]
    spoken: list[Any] = [m for m in listed if m.message_type in ("user_message", "assistant_message")]
    return [m.content for m in spoken]


async def talk(c: Connected, conversation_id: str, text: str) -> None:
    async for _ in await c.client.conversations.messages.create(conversation_id, messages=[user(text)]):
        pass


def prompt(record: Any) -> list[str]:
    return [m["content"] for m in record.body["messages"] if m["role"] in ("user", "assistant")]


async def test_a_fork_begins_with_its_parents_messages_and_leaves_it_alone(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": answer} for answer in ("one", "two", "left", "right")])
    async with connected(pool, provider) as c:
        conversations = c.client.conversations
        parent = await conversations.create(agent_id=c.agent_id, summary="about tea")
        await talk(c, parent.id, "first")
        await talk(c, parent.id, "second")
        before = await conversations.retrieve(parent.id)
        fork = await conversations.fork(parent.id)
        assert fork.id != parent.id
        assert (fork.agent_id, fork.summary) == (c.agent_id, "about tea")
        assert before.in_context_message_ids is not None
        assert fork.in_context_message_ids is not None
        assert fork.in_context_message_ids[1:] == before.in_context_message_ids[1:]
        assert fork.in_context_message_ids[0] != before.in_context_message_ids[0]
        await talk(c, parent.id, "in the parent")
        await talk(c, fork.id, "in the fork")
        record = (await provider.log())[-1]
        assert prompt(record) == ["first", "one", "second", "two", "in the fork"]
        assert f"- CONVERSATION_ID: {fork.id}" in record.body["messages"][0]["content"]
        shared = ["first", "one", "second", "two"]
        assert await said(c, parent.id) == [*shared, "in the parent", "left"]
        assert await said(c, fork.id) == [*shared, "in the fork", "right"]
        newest = [m async for m in conversations.messages.list(fork.id, limit=3)]
        assert [m.id for m in reversed(newest)][1:] == (
            await conversations.retrieve(fork.id)
        ).in_context_message_ids[1:]  # type: ignore[index]


async def test_a_fork_leaves_its_parent_after_a_message(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": answer} for answer in ("one", "two", "three")])
    async with connected(pool, provider) as c:
        await c.say("first")
        await c.say("second")
        history = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
        fork = await c.client.conversations.fork("default", agent_id=c.agent_id, message_id=history[2].id)
        assert await said(c, fork.id) == ["first", "one"]
        again = await c.client.conversations.fork(fork.id)
        await talk(c, again.id, "third")
        assert prompt((await provider.log())[-1]) == ["first", "one", "third"]
        assert await said(c, again.id) == ["first", "one", "third", "three"]
        await c.client.conversations.delete(fork.id)
        assert await said(c, again.id) == ["first", "one", "third", "three"]
        for missing in (history[-1].id, "message-00000000-0000-4000-8000-000000000000"):
            with pytest.raises(letta_client.NotFoundError):
                await c.client.conversations.fork(again.id, message_id=missing)
        with pytest.raises(letta_client.NotFoundError):
            await c.client.conversations.fork("conv-00000000-0000-4000-8000-000000000000")


async def test_a_fork_at_the_system_message_begins_with_nothing_else(pool: Pool, provider: Provider) -> None:
    await provider.script(
        [{"text": t} for t in ("one", "two", "three", "Tea was the matter.", "afresh", "again")]
    )
    async with connected(pool, provider) as c:
        for text in ("first", "second", "third"):
            await c.say(text)
        await c.client.agents.messages.compact(c.agent_id)
        system = ((await c.client.agents.retrieve(c.agent_id)).message_ids or [])[0]
        fork = await c.client.conversations.fork("default", agent_id=c.agent_id, message_id=system)
        assert len(fork.in_context_message_ids or []) == 1
        assert system not in (fork.in_context_message_ids or [])
        await talk(c, fork.id, "from the beginning")
        assert prompt((await provider.log())[-1]) == ["from the beginning"]
        own = ((await c.client.conversations.retrieve(fork.id)).in_context_message_ids or [])[0]
        again = await c.client.conversations.fork(fork.id, message_id=own)
        await talk(c, again.id, "once more")
        assert await said(c, again.id) == ["once more", "again"]
        with pytest.raises(letta_client.NotFoundError):
            await c.client.conversations.fork(again.id, message_id=own)


async def test_a_fork_keeps_the_summary_of_what_left_the_window(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": t} for t in ("one", "two", "three", "Tea was the matter.", "on", "off")])
    async with connected(pool, provider) as c:
        for text in ("first", "second", "third"):
            await c.say(text)
        await c.client.agents.messages.compact(c.agent_id)
        fork = await c.client.conversations.fork("default", agent_id=c.agent_id)
        await talk(c, fork.id, "go on")
        seen = prompt((await provider.log())[-1])
        assert "Tea was the matter." in seen[0]
        assert seen[-1] == "go on"
        assert len(seen) > 3
        kept = (await c.client.agents.retrieve(c.agent_id)).message_ids or []
        earlier = await c.client.conversations.fork("default", agent_id=c.agent_id, message_id=kept[2])
        await talk(c, earlier.id, "another way")
        seen = prompt((await provider.log())[-1])
        assert "Tea was the matter." in seen[0]
        assert len(seen) == 3


async def test_calls_of_a_fork_have_their_results(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}, {"text": "Well."}])
    async with connected(pool, provider) as c:
        await c.say("I like tea")
        history = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
        call = next(m for m in history if m.message_type == "tool_call_message")
        fork = await c.client.conversations.fork("default", agent_id=c.agent_id, message_id=call.id)
        await talk(c, fork.id, "and now?")
        body = (await provider.log())[-1].body["messages"]
        called = [call["id"] for m in body for call in m.get("tool_calls", ())]
        assert called == [m["tool_call_id"] for m in body if m["role"] == "tool"]
