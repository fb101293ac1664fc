"""Forks keep what they began with when their parent's last answer is withdrawn."""

import pytest

from actors import clock
from actors.commands import CreateConversation, DeleteConversation, ForkConversation
from bench.provider import Provider
from storage import conversations, forks
from storage import messages as stored
from storage.keyset import Page
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Message
from tests.actors.worlds import World, finish, text_of, world


async def fork(w: World, agent_id: str, parent_id: str) -> str:
    made = clock.new_id("conv")
    await w.host.ref(agent_id).edit(ForkConversation(conversation_id=made, parent_id=parent_id))
    return made


async def answer_again(w: World, agent_id: str) -> None:
    """Withdraw the last answer of the default conversation, and have another one given."""
    last = (await w.messages(agent_id))[-1]
    receipt = await w.tell(agent_id, "", messages=(), withdraws={last.id: last.position})
    assert finish(await w.events(receipt, agent_id)).status == "completed"


async def listed(w: World, conversation_id: str) -> list[Message]:
    async with connection(w.pool) as conn:
        found = await conversations.get(conn, conversation_id, organization_id=DEFAULT_ORGANIZATION)
        page = Page(descending=False)
        shared = await forks.ancestors(conn, found)
        return await stored.list_conversation(
            conn, page, conversation_id=found.id, ancestors=shared, excluded=False
        )


async def shown(w: World, agent_id: str, conversation_id: str) -> list[str]:
    """Return what the model of a conversation is shown when it is asked again."""
    await w.provider.log()
    finish(await w.ask(agent_id, "and now?", conversation_id=conversation_id))
    (record,) = await w.provider.log(requests=1)
    return [m["content"] for m in record.body["messages"][1:]]


@pytest.mark.parametrize("passivated", [False, True])
async def test_a_fork_keeps_the_answer_that_its_parent_withdrew(
    pool: Pool, provider: Provider, passivated: bool
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await provider.script([{"text": "tea"}, {"text": "coffee"}, {"text": "so"}])
        finish(await w.ask(agent_id, "what to drink?"))
        made = await fork(w, agent_id, agent_id)
        of_fork = await fork(w, agent_id, made)
        await w.host.ref(agent_id).edit(DeleteConversation(made))
        before = await listed(w, of_fork)
        await answer_again(w, agent_id)
        if passivated:
            w.host._population.drop(w.host._population.hot[agent_id])
        assert [text_of(m) for m in await listed(w, of_fork)] == [text_of(m) for m in before]
        assert await shown(w, agent_id, of_fork) == ["what to drink?", "tea", "and now?"]
        assert [t for _, t in await w.history(agent_id, excluded=False)] == ["what to drink?", "coffee"]


async def test_a_fork_that_left_before_the_answer_gets_nothing(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id, "one"))
        early = await fork(w, agent_id, agent_id)
        await w.host.ref(agent_id).edit(CreateConversation(conversation_id=clock.new_id("conv")))
        finish(await w.ask(agent_id, "two"))
        before = await listed(w, early)
        await answer_again(w, agent_id)
        assert await listed(w, early) == before
