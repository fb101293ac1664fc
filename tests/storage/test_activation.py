import asyncio

import pytest

from storage import activation, inbox
from storage.errors import FencedError, NotFoundError
from storage.pool import Conn, Pool, connection, open_lookup_pool
from storage.records import Conversation
from tests.storage import seeds


async def test_waking_raises_the_fence_and_loads_the_agent(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await seeds.block(conn, agent_id, label="human", value="v")
        state = await activation.activate(conn, agent_id, fence=5)
        assert state.agent.fence == 5
        assert state.agent.settings == seeds.SETTINGS
        assert [(b.label, b.value) for b in state.blocks] == [("human", "v")]
        assert [c.id for c in state.conversations] == [agent_id]
        assert await conn.fetchval("select fence from agents") == 5


async def test_a_newer_owner_is_not_pushed_aside(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await activation.activate(conn, agent_id, fence=5)
        with pytest.raises(FencedError):
            await activation.activate(conn, agent_id, fence=4)
        with pytest.raises(NotFoundError):
            await activation.activate(conn, "agent-none", fence=9)


async def test_only_what_was_in_hand_is_counted_as_an_attempt(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await inbox.accept(conn, [seeds.submission(agent_id, key=k) for k in "abc"])
        await conn.execute("update inbox set state = 'applied' where key = 'b'")
        state = await activation.activate(conn, agent_id, fence=1)
        # a is the head of its conversation, b was under way; c only waited.
        assert [(p.attempts, p.attempt) for p in state.pending] == [(1, 1), (1, 1), (0, 0)]
        state = await activation.activate(conn, agent_id, fence=1)
        assert [(p.attempts, p.attempt) for p in state.pending] == [(2, 2), (2, 2), (0, 0)]


async def test_a_clean_drain_takes_its_attempt_back(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await inbox.accept(conn, [seeds.submission(agent_id)])
        state = await activation.activate(conn, agent_id, fence=1)
        await activation.take_back(conn, [p.seq for p in state.pending])
        state = await activation.activate(conn, agent_id, fence=1)
        assert [(p.attempts, p.attempt) for p in state.pending] == [(1, 2)]


async def test_a_crash_that_no_activation_counted_is_counted_by_itself(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await activation.activate(conn, agent_id, fence=1)
        (accepted,) = await inbox.accept(conn, [seeds.submission(agent_id)])
        assert isinstance(accepted, inbox.Accepted)
        await activation.count_crash(conn, [accepted.seq])
        state = await activation.activate(conn, agent_id, fence=1)
        assert [(p.attempts, p.attempt) for p in state.pending] == [(2, 1)]


async def test_the_window_is_what_the_conversation_says_plus_the_system_message(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        for position in range(1, 5):
            await conn.execute(
                "insert into messages"
                " (id, conversation_id, position, agent_id, organization_id, role, content)"
                " values ($1, $2, $3, $2, 'o', 'user', '[]')",
                f"message-{position}",
                agent_id,
                position,
            )
        await conn.execute("update conversations set from_position = 3, end_position = 5")
        state = await activation.activate(conn, agent_id, fence=1)
        window = await activation.window(conn, state.conversations[0])
        assert [m.position for m in window] == [0, 3, 4]


async def long_conversation(conn: Conn, count: int, **columns: int) -> Conversation:
    """Store a conversation of so many messages, with these columns of its own; return it as it is woken."""
    agent_id = await seeds.agent(conn)
    await conn.execute(
        "insert into messages (id, conversation_id, position, agent_id, organization_id, role, content)"
        " select 'message-' || n, $1, n, $1, 'o', case when n = 7 then 'summary' else 'user' end,"
        ' \'[{"type": "text", "text": "hello"}]\' from generate_series(1, $2::int) n',
        agent_id,
        count,
    )
    await conn.execute("update conversations set end_position = $1", count + 1)
    for name, value in columns.items():
        await conn.execute(f"update conversations set {name} = $1", value)
    return (await activation.activate(conn, agent_id, fence=1)).conversations[0]


async def test_a_long_window_is_read_in_order_and_lets_other_work_go_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def paused(delay: float) -> None:
        pauses.append(delay)
        await sleep(delay)

    async with connection(pool) as conn:
        conversation = await long_conversation(conn, 1000, from_position=3, summary_position=7)
        monkeypatch.setattr(asyncio, "sleep", paused)
        window = await activation.window(conn, conversation)
    assert pauses == [0] * (999 // activation.DECODED_AT_ONCE)
    assert [m.position for m in window] == [0, 7, *(n for n in range(3, 1001) if n != 7)]
    assert [m.role for m in window[:3]] == ["system", "summary", "user"]


async def test_nothing_is_read_of_what_left_the_window(dsn: str) -> None:
    lookups = await open_lookup_pool(dsn)
    try:
        async with connection(lookups) as conn:
            conversation = await long_conversation(conn, 500, from_position=491, summary_position=7)
            await conn.execute("analyze messages")
            rows = await conn.fetch(
                f"explain (analyze, costs off, timing off) {activation._WINDOW}",  # pyright: ignore[reportPrivateUsage]
                conversation.id,
                conversation.from_position,
                conversation.end_position,
                conversation.summary_position,
            )
        shown = "\n".join(row[0] for row in rows)
        assert shown.count("Index Scan using message_position_is_unique") == 2
        assert "Sort" not in shown
        assert "Removed by Filter" not in shown
    finally:
        await lookups.close()
