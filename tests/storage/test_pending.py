"""Requests at rest: stored, found by agent, conversation and expiry, cleared."""

from datetime import UTC, datetime, timedelta

from storage import pending
from storage.checkpoints import Checkpoint, commit
from storage.extras import Extras
from storage.pending_records import ClientTool, PendingCall, PendingRequest
from storage.pool import Pool, connection
from tests.actors.worlds import create_agent


def request(agent_id: str, *, seconds: float = 60) -> PendingRequest:
    """Return a request of the agent's own conversation."""
    now = datetime.now(UTC)
    return PendingRequest(
        conversation_id=agent_id,
        agent_id=agent_id,
        organization_id="org",
        run_id="run-1",
        step_id="step-1",
        message_id="message-1",
        position=2,
        calls=(PendingCall(id="a", name="write", arguments='{"x": 1}', kind="approval"),),
        parked=("b",),
        client_tools=(ClientTool(name="weather", parameters={"type": "object"}),),
        created_at=now,
        expires_at=now + timedelta(seconds=seconds),
    )


async def test_a_request_comes_back_as_it_was_stored(pool: Pool) -> None:
    agent_id = await create_agent(pool, model="openai/echo")
    asked = request(agent_id)
    async with connection(pool) as conn:
        await pending.put(conn, asked)
        [found] = await pending.of_agent(conn, agent_id)
        assert (found.calls, found.parked, found.client_tools) == (asked.calls, ("b",), asked.client_tools)
        assert abs(found.expires_at - asked.expires_at) < timedelta(seconds=5)
        assert await pending.of_conversations(conn, [agent_id, "other"]) == {agent_id: found}
        assert await pending.waiting(conn) == {agent_id: (agent_id, "message-1")}
        await pending.clear(conn, agent_id)
        assert await pending.of_agent(conn, agent_id) == []


async def test_a_call_is_found_by_its_id_in_its_organisation(pool: Pool) -> None:
    first, second = [await create_agent(pool, model="openai/echo") for _ in range(2)]
    async with connection(pool) as conn:
        await pending.put(conn, request(second, seconds=9))
        await pending.put(conn, request(first))
        found = await pending.of_call(conn, "a", organization_id="org")
        assert {r.agent_id for r in found} == {first, second}
        assert len(await pending.of_call(conn, "a", organization_id="org", limit=1)) == 1
        for call_id, organization_id in (("b", "org"), ("", "org"), ("%", "org"), ("a", "other")):
            assert await pending.of_call(conn, call_id, organization_id=organization_id) == []


async def test_what_expired_is_found_by_the_database_s_clock_and_by_index(pool: Pool) -> None:
    late, early = [await create_agent(pool, model="openai/echo") for _ in range(2)]
    async with connection(pool) as conn:
        await pending.put(conn, request(late, seconds=60))
        await pending.put(conn, request(early, seconds=-1))
        assert [r.agent_id for r in await pending.expired(conn, limit=10)] == [early]
        await conn.execute("set enable_seqscan = off")
        plan = await conn.fetch(f"explain {pending._EXPIRED.replace('$1', '10')}")
        assert "pending_requests_by_expiry" in str(plan)
        await conn.execute("reset enable_seqscan")


async def test_a_request_belongs_to_its_step(pool: Pool) -> None:
    """A fenced step stores none; a committed one does, and the next one takes it away."""
    agent_id = await create_agent(pool, model="openai/echo")

    def step(version: int, extras: Extras, *, fence: int = 0) -> Checkpoint:
        return Checkpoint(
            id=f"ckpt-{version}-{fence}", agent_id=agent_id, fence=fence, version=version, extras=extras
        )

    async with connection(pool) as conn:
        [fenced] = await commit(conn, [step(0, Extras(asked=request(agent_id)), fence=9)])
        assert fenced is not None
        assert await pending.of_agent(conn, agent_id) == []
        await commit(conn, [step(0, Extras(asked=request(agent_id)))])
        assert len(await pending.of_agent(conn, agent_id)) == 1
        await commit(conn, [step(1, Extras(answered=agent_id))])
        assert await pending.of_agent(conn, agent_id) == []
