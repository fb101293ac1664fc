"""Forks: they share their ancestors' messages, up to where each left its parent."""

import pytest

from storage import activation, conversations, forks, messages
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Conversation, TextPart
from tests.storage import histories, seeds

FORK = "conv-00000000-0000-4000-8000-00000000000a"
SECOND = "conv-00000000-0000-4000-8000-00000000000b"


async def read(conn: Conn, conversation_id: str) -> Conversation:
    return await conversations.get(conn, conversation_id, organization_id=DEFAULT_ORGANIZATION)


async def fork(conn: Conn, parent: str, made: str, after: str | None = None) -> Conversation:
    found = await read(conn, parent)
    await forks.create(
        conn,
        found,
        await forks.point_of(conn, found, after),
        conversation_id=made,
        system_id=f"message-system-{made}",
        system=(TextPart("prompt"),),
        system_tokens=1,
        summary_id=f"message-summary-{made}",
    )
    return await read(conn, made)


async def talk(conn: Conn, agent_id: str, count: int) -> list[str]:
    """Insert `count` messages after an agent's prompt; return their ids, oldest first."""
    said = [await histories.message(conn, agent_id, i) for i in range(1, count + 1)]
    await conn.execute("update conversations set end_position = $2 where id = $1", agent_id, count + 1)
    return said


async def listed(conn: Conn, where: Conversation, page: Page) -> list[str]:
    shared = await forks.ancestors(conn, where)
    found = await messages.list_conversation(conn, page, conversation_id=where.id, ancestors=shared)
    return [m.id for m in found]


async def test_a_fork_that_owns_what_it_shared_leaves_the_others_as_they_are(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        said = await talk(conn, agent_id, 4)
        first = await fork(conn, agent_id, FORK, said[3])
        second = await fork(conn, FORK, SECOND)
        before = {where.id: await listed(conn, where, Page(limit=9)) for where in (first, second)}
        await forks.own(conn, second, 2)
        after = await listed(conn, await read(conn, SECOND), Page(limit=9))
        assert after[2:] == before[SECOND][2:], "up to there they are shared"
        assert len(set(after[:2]) | set(said)) == 6, "behind they are its own"
        rows = await conn.fetch("select position, content from messages where conversation_id = $1", SECOND)
        assert sorted(row["position"] for row in rows) == [0, 3, 4]
        assert await listed(conn, await read(conn, FORK), Page(limit=9)) == before[FORK]
        await forks.own(conn, await read(conn, SECOND), 2)
        await forks.own(conn, await read(conn, agent_id), 0)
        assert await listed(conn, await read(conn, SECOND), Page(limit=9)) == after, "once is enough"


async def test_a_fork_of_a_fork_reads_every_stretch_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        said = await talk(conn, agent_id, 5)
        first = await fork(conn, agent_id, FORK, said[2])
        own = await histories.message(conn, agent_id, 4, conversation_id=FORK)
        await conn.execute("update conversations set end_position = 5 where id = $1", FORK)
        second = await fork(conn, FORK, SECOND)
        late = await histories.message(conn, agent_id, 5, conversation_id=SECOND)
        await conn.execute("update conversations set end_position = 6 where id = $1", SECOND)
        second = await read(conn, SECOND)
        window = [m.id for m in await activation.window(conn, second)]
        assert window == ["message-system-" + SECOND, *said[:3], own, late]
        assert await conversations.window_ids(conn, second) == window
        assert await listed(conn, second, Page(descending=False)) == window
        assert await listed(conn, second, Page(limit=2)) == [late, own]
        assert await listed(conn, second, Page(limit=2, after=own)) == [said[2], said[1]]
        assert await listed(conn, second, Page(limit=2, before=said[0])) == [said[2], said[1]]
        assert await listed(conn, second, Page(limit=1, before=own, descending=False)) == [said[2]]
        assert await listed(conn, first, Page(limit=9)) == [own, *said[2::-1], "message-system-" + FORK]
        with pytest.raises(NotFoundError):
            await forks.point_of(conn, second, said[4])


async def test_a_message_that_the_parent_heard_later_is_no_cursor(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        said = await talk(conn, agent_id, 4)
        made = await fork(conn, agent_id, FORK, said[1])
        assert await listed(conn, made, Page(after=said[1])) == [said[0], "message-system-" + FORK]
        for page in (Page(after=said[2]), Page(before=said[3])):
            with pytest.raises(NotFoundError):
                await listed(conn, made, page)


async def test_a_conversation_that_is_no_fork_has_no_ancestors(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        assert await forks.ancestors(conn, await read(conn, agent_id)) == ()


async def test_a_summary_from_beyond_the_point_is_copied_and_one_before_it_is_shared(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        said = await talk(conn, agent_id, 4)
        summary = await histories.message(conn, agent_id, 5, role="summary")
        await conn.execute(
            "update conversations set from_position = 3, end_position = 6, summary_position = 5"
            " where id = $1",
            agent_id,
        )
        copied = await fork(conn, agent_id, FORK, said[2])
        shared = await fork(conn, agent_id, SECOND)
        assert [m.id for m in await activation.window(conn, copied)][1:] == [
            "message-summary-" + FORK,
            said[2],
        ]
        assert [m.id for m in await activation.window(conn, shared)][1:] == [summary, *said[2:]]
        with pytest.raises(NotFoundError):
            await forks.point_of(conn, await read(conn, agent_id), said[1])


async def test_a_closed_conversation_is_not_forked(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        first = await fork(conn, agent_id, FORK)
        await conn.execute("update conversations set deleted_at = now() where id = $1", FORK)
        with pytest.raises(NotFoundError):
            await forks.create(
                conn,
                first,
                forks.Point(0),
                conversation_id=SECOND,
                system_id="message-s",
                system=(),
                system_tokens=0,
                summary_id="message-t",
            )
