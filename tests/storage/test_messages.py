"""Reading messages: stretches of a conversation, a run's, everybody's, and their plans."""

import pytest

from storage import messages
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Conn, Pool, connection
from storage.records import (
    DEFAULT_ORGANIZATION,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from tests.storage import histories, seeds


async def conversation(conn: Conn, count: int) -> tuple[str, list[str]]:
    """Insert an agent with `count` messages after its prompt; return its id and theirs, oldest first."""
    agent_id = await seeds.agent(conn)
    return agent_id, [await histories.message(conn, agent_id, i) for i in range(1, count + 1)]


def ids(found: list[Message]) -> list[str]:
    return [message.id for message in found]


async def test_a_message_comes_back_as_it_was_stored(pool: Pool) -> None:
    parts = (
        TextPart("t"),
        ImagePart({"type": "url", "url": "https://example.com"}),
        ReasoningPart("r", "s"),
        ToolCallPart("c", "f", "{}"),
        ToolReturnPart("c", "f", "error", "no", ("o",), ("e",)),
    )
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        message_id = await histories.message(
            conn, agent_id, 1, *parts, role="assistant", otid="o", run_id="run-1", step_id="step-1", tokens=4
        )
        found = await messages.get(conn, message_id, organization_id=DEFAULT_ORGANIZATION)
    assert found == Message(
        id=message_id,
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent_id,
        conversation_id=agent_id,
        position=1,
        role="assistant",
        content=parts,
        created_at=histories.after(1),
        otid="o",
        run_id="run-1",
        step_id="step-1",
        tokens=4,
    )


async def test_another_organisations_message_is_not_found(pool: Pool) -> None:
    async with connection(pool) as conn:
        _, [message_id] = await conversation(conn, 1)
        with pytest.raises(NotFoundError):
            await messages.get(conn, message_id, organization_id="org-other")


async def test_each_end_of_a_conversation_can_be_read_between_cursors(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, said = await conversation(conn, 6)
        assert ids(await messages.list_newest(conn, agent_id, limit=2)) == [said[5], said[4]]
        assert ids(await messages.list_oldest(conn, agent_id, limit=3))[1:] == said[:2]
        assert ids(await messages.list_oldest(conn, agent_id, limit=9, after=said[3])) == said[4:]
        assert ids(await messages.list_newest(conn, agent_id, limit=2, before=said[3])) == [said[2], said[1]]
        assert ids(await messages.list_newest(conn, agent_id, limit=9, after=said[1], before=said[4])) == [
            said[3],
            said[2],
        ]


async def test_a_cursor_of_another_conversation_is_not_found(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, _ = await conversation(conn, 1)
        _, [elsewhere] = await conversation(conn, 1)
        with pytest.raises(NotFoundError):
            await messages.list_oldest(conn, agent_id, limit=5, after=elsewhere)
        with pytest.raises(NotFoundError):
            await messages.list_conversation(conn, Page(before=elsewhere), conversation_id=agent_id)


async def test_a_conversations_pages_follow_their_order(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, said = await conversation(conn, 4)
        first = await messages.list_conversation(conn, Page(limit=2), conversation_id=agent_id)
        then = await messages.list_conversation(
            conn, Page(limit=2, after=first[-1].id), conversation_id=agent_id
        )
        assert ids(first + then) == said[::-1]


async def test_a_runs_messages_are_its_own_and_a_steps_are_fewer(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        sent = await histories.message(conn, agent_id, 1, run_id="run-1")
        said = await histories.message(conn, agent_id, 2, run_id="run-1", step_id="step-1", role="assistant")
        await histories.message(conn, agent_id, 3, run_id="run-2", step_id="step-2", role="assistant")
        ascending = Page(descending=False)
        assert ids(await messages.list_run(conn, ascending, run_id="run-1")) == [sent, said]
        assert ids(await messages.list_run(conn, Page(), run_id="run-1", step_id="step-1")) == [said]
        assert ids(await messages.whole_run(conn, "run-1")) == [sent, said]


async def test_everybodys_messages_are_in_order_of_age_and_position(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, other = await seeds.agent(conn), await seeds.agent(conn)
        await conn.execute("delete from messages where position = 0")
        at = histories.after(5)
        second = await histories.message(conn, one, 2, created_at=at)
        first = await histories.message(conn, one, 1, created_at=at)
        third = await histories.message(conn, other, 1, created_at=histories.after(6))
        everything = Page(descending=False)
        found = await messages.list_all(conn, everything, organization_id=DEFAULT_ORGANIZATION)
        assert ids(found) == [first, second, third]
        later = Page(descending=False, after=first, limit=1)
        assert ids(await messages.list_all(conn, later, organization_id=DEFAULT_ORGANIZATION)) == [second]
        assert await messages.list_all(conn, everything, organization_id="org-other") == []


@pytest.mark.parametrize(
    ("condition", "order", "index"),
    [
        ("conversation_id = 'agent-1' and position > 1", "position desc", "message_position_is_unique"),
        ("run_id = 'run-1'", "position", "messages_by_run"),
        ("organization_id = 'org-1'", "created_at desc, position desc, id desc", "messages_by_age"),
    ],
)
async def test_lists_of_messages_use_their_index(pool: Pool, condition: str, order: str, index: str) -> None:
    async with connection(pool) as conn, conn.transaction():
        await conn.execute("set local enable_seqscan = off")
        rows = await conn.fetch(
            f"explain select id from messages where {condition} order by {order} limit 100"
        )
        assert index in "\n".join(row[0] for row in rows)
