import pytest

from storage import activation, inbox
from storage.errors import FencedError, NotFoundError
from storage.pool import Pool, connection
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
        for position in range(1, 6):
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
