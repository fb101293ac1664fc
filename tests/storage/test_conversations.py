"""Reading conversations: one by id, an agent's list, and the window's ids."""

import pytest

from storage import conversations
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Conversation
from tests.storage import histories, seeds

ORG = DEFAULT_ORGANIZATION


def ids(found: list[Conversation]) -> list[str]:
    return [conversation.id for conversation in found]


async def test_a_conversation_comes_back_as_it_was_stored(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        conversation_id = await histories.conversation(
            conn, agent_id, summary="s", description="d", model="p/m", model_settings=b'{"temperature": 1}'
        )
        found = await conversations.get(conn, conversation_id, organization_id=ORG)
    assert (found.agent_id, found.summary, found.description) == (agent_id, "s", "d")
    assert (found.model, found.model_settings) == ("p/m", {"temperature": 1})


async def test_what_is_missing_is_named_by_its_noun(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        closed = await histories.conversation(conn, agent_id, deleted_at=histories.BEGAN)
        for wanted, noun in (("agent-x", "agent"), ("conv-x", "conversation"), (closed, "conversation")):
            with pytest.raises(NotFoundError) as missing:
                await conversations.get(conn, wanted, organization_id=ORG)
            assert missing.value.noun == noun
        with pytest.raises(NotFoundError):
            await conversations.get(conn, agent_id, organization_id="org-other")


async def test_a_closed_conversation_is_found_by_who_has_to_end_something_in_it(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, other = await seeds.agent(conn), await seeds.agent(conn)
        closed = await histories.conversation(conn, agent_id, deleted_at=histories.BEGAN)
        found = await conversations.get_deleted(conn, closed, agent_id=agent_id)
        assert (found.id, found.agent_id) == (closed, agent_id)
        with pytest.raises(NotFoundError):
            await conversations.get_deleted(conn, closed, agent_id=other)


async def test_lists_hold_neither_default_nor_closed_conversations(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, other = await seeds.agent(conn), await seeds.agent(conn)
        old = await histories.conversation(conn, agent_id, created_at=histories.after(1))
        new = await histories.conversation(conn, agent_id, created_at=histories.after(2))
        elsewhere = await histories.conversation(conn, other, created_at=histories.after(3))
        await histories.conversation(conn, agent_id, deleted_at=histories.BEGAN)
        assert ids(await conversations.list_page(conn, Page(), organization_id=ORG)) == [elsewhere, new, old]
        assert ids(
            await conversations.list_page(conn, Page(after=new), organization_id=ORG, agent_id=agent_id)
        ) == [old]


async def test_lists_can_follow_activity(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        silent = await histories.conversation(conn, agent_id, created_at=histories.after(5))
        lively = await histories.conversation(
            conn, agent_id, created_at=histories.after(1), last_message_at=histories.after(9)
        )
        page = await conversations.list_page(
            conn, Page(limit=1), organization_id=ORG, order_by="last_message_at"
        )
        assert ids(page) == [lively]
        rest = await conversations.list_page(
            conn, Page(after=lively), organization_id=ORG, order_by="last_message_at"
        )
        assert ids(rest) == [silent]


@pytest.mark.parametrize("text", ["100%", "a_b", "back\\slash"])
async def test_a_summary_is_searched_as_text_not_as_a_pattern(pool: Pool, text: str) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        wanted = await histories.conversation(conn, agent_id, summary=f"say {text.upper()} now")
        await histories.conversation(conn, agent_id, summary="say 100x acb backslash now")
        found = await conversations.list_page(conn, Page(), organization_id=ORG, summary_search=text)
        assert ids(found) == [wanted]


async def test_the_window_is_the_prompt_and_what_is_sent_to_models(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        said = [await histories.message(conn, agent_id, i, excluded=i == 4) for i in range(1, 7)]
        await conn.execute(
            "update conversations set end_position = 7, from_position = 3 where id = $1", agent_id
        )
        prompt = await conn.fetchval("select id from messages where position = 0")
        found = await conversations.get(conn, agent_id, organization_id=ORG)
        assert await conversations.window_ids(conn, found) == [prompt, said[2], said[4], said[5]]


async def test_the_list_of_an_organisation_uses_its_index(pool: Pool) -> None:
    async with connection(pool) as conn, conn.transaction():
        await conn.execute("set local enable_seqscan = off")
        rows = await conn.fetch(
            "explain select id from conversations where organization_id = 'org-1' and id <> agent_id"
            " and deleted_at is null order by created_at desc, id desc limit 50"
        )
        assert "conversations_by_age" in "\n".join(row[0] for row in rows)
