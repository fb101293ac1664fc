"""What edits write: a fork that leaves its parent at the system prompt shares nothing with it."""

import pytest
from msgspec.structs import replace

from actors import clock
from actors.commands import CreateConversation, ForkConversation
from bench.provider import Provider
from storage import conversations, messages
from storage.errors import NotFoundError
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Conversation
from tests.actors.worlds import World, world


async def stored(w: World, conversation_id: str) -> Conversation:
    async with connection(w.pool) as conn:
        return await conversations.get(conn, conversation_id, organization_id=DEFAULT_ORGANIZATION)


async def prompt_of(w: World, conversation_id: str) -> str:
    async with connection(w.pool) as conn:
        return (await messages.system_of(conn, conversation_id)).id


async def test_a_fork_at_the_prompt_is_a_new_conversation_named_and_run_as_its_parent(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        ref = w.host.ref(agent_id)
        parent = CreateConversation(
            conversation_id=clock.new_id("conv"), summary="tea", description="d", model="openai/other"
        )
        await ref.edit(parent)
        await w.ask(agent_id, "hello", conversation_id=parent.conversation_id)
        at_prompt = ForkConversation(
            conversation_id=clock.new_id("conv"),
            parent_id=parent.conversation_id,
            message_id=await prompt_of(w, parent.conversation_id),
        )
        await ref.edit(at_prompt)
        fork = await stored(w, at_prompt.conversation_id)
        assert (fork.summary, fork.description, fork.model) == ("tea", "d", "openai/other")
        assert (fork.parent_id, fork.end_position) == (None, 1)
        assert await prompt_of(w, fork.id) != at_prompt.message_id


async def test_a_fork_leaves_no_conversation_at_the_prompt_of_another_one(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id, stranger = await w.agent(), await w.agent()
        fork = ForkConversation(
            conversation_id=clock.new_id("conv"), parent_id=agent_id, message_id=await prompt_of(w, stranger)
        )
        for edit in (fork, replace(fork, parent_id=stranger)):
            with pytest.raises(NotFoundError):
                await w.host.ref(agent_id).edit(edit)
