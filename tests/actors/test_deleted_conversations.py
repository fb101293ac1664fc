"""A conversation is deleted while commands run, wait and arrive in it: each of them has an end."""

import asyncio

import pytest

from actors import clock
from actors.commands import CreateConversation, DeleteConversation, Receipt
from actors.commons import HostSettings
from bench.provider import Provider
from storage import checkpoints, edits
from storage.checkpoints import Checkpoint
from storage.errors import NotFoundError
from storage.pool import Conn, Pool, connection
from tests.actors.worlds import World, finish, world
from tests.laws import checks
from tests.laws.watching import until

NO_DRAIN = HostSettings(drain_seconds=0)


async def conversation(w: World, agent_id: str) -> str:
    """Open one more conversation and return its id."""
    conversation_id = clock.new_id("conv")
    await w.host.ref(agent_id).edit(CreateConversation(conversation_id=conversation_id))
    return conversation_id


async def ends(pool: Pool) -> list[tuple[str, str]]:
    """Return how each command stands, and its run."""
    async with connection(pool) as conn:
        rows = await conn.fetch(
            "select i.state, r.status from inbox i join runs r on r.id = i.run_id order by i.seq"
        )
    return [(row["state"], row["status"]) for row in rows]


async def inputs(pool: Pool, conversation_id: str) -> list[tuple[str, bool]]:
    """Return what was said to a conversation, and whether models are never shown it."""
    async with connection(pool) as conn:
        rows = await conn.fetch(
            "select content -> 0 ->> 'text' as text, excluded from messages"
            " where conversation_id = $1 and role = 'user' order by position",
            conversation_id,
        )
    return [(row["text"], row["excluded"]) for row in rows]


async def nothing_left(w: World) -> None:
    await until(lambda: not w.host.health().unfinished_runs)


async def test_what_runs_and_what_waits_is_cancelled_and_nothing_begins(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn commits its end only when its cancellation was acknowledged long ago."""
    await provider.script([{"fault": "hang"}])
    commit, go_on = checkpoints.commit, asyncio.Event()

    async def slow(conn: Conn, batch: list[Checkpoint]) -> object:
        await go_on.wait()
        return await commit(conn, batch)

    async with world(pool, provider) as w:
        agent_id = await w.agent()
        conversation_id = await conversation(w, agent_id)
        await w.tell(agent_id, "runs", conversation_id=conversation_id)
        await provider.log(requests=1, keep=True)
        await w.tell(agent_id, "waits", conversation_id=conversation_id)
        monkeypatch.setattr(checkpoints, "commit", slow)
        async with asyncio.TaskGroup() as group:
            group.create_task(w.host.ref(agent_id).edit(DeleteConversation(conversation_id)))
            await until(lambda: bool(w.host._population.hot[agent_id].threads[conversation_id].jobs))
            late = await w.tell(agent_id, "late", conversation_id=conversation_id)
            go_on.set()
        assert finish(await w.events(late, agent_id)).status == "cancelled"
        await nothing_left(w)
        with pytest.raises(NotFoundError):
            await w.tell(agent_id, "later", conversation_id=conversation_id)
        assert len(await provider.log()) == 1
    assert await ends(pool) == [("done", "cancelled")] * 3
    assert await checks.steps_are_whole(pool) == []
    assert await inputs(pool, conversation_id) == [("runs", False), ("waits", True), ("late", True)]


async def test_a_message_that_is_accepted_beside_the_deletion_is_cancelled(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = edits.delete_conversation
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        conversation_id = await conversation(w, agent_id)
        receipts: list[Receipt] = []

        async def deleting(conn: Conn, *args: str) -> None:
            await delete(conn, *args)  # not committed yet: who looks from outside finds the conversation
            receipts.append(await w.tell(agent_id, "late", conversation_id=conversation_id))

        monkeypatch.setattr(edits, "delete_conversation", deleting)
        await w.host.ref(agent_id).edit(DeleteConversation(conversation_id))
        await nothing_left(w)
    assert await ends(pool) == [("done", "cancelled")]
    assert await checks.steps_are_whole(pool) == []
    assert await inputs(pool, conversation_id) == [("late", True)]


async def test_what_a_crash_left_in_a_deleted_conversation_is_cancelled_by_the_next_life(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider, settings=NO_DRAIN) as w:
        agent_id = await w.agent()
        conversation_id = await conversation(w, agent_id)
        await w.tell(agent_id, "runs", conversation_id=conversation_id)
        await provider.log(requests=1)
        await w.tell(agent_id, "waits", conversation_id=conversation_id)
    async with connection(pool) as conn:
        await conn.execute("update conversations set deleted_at = now() where id = $1", conversation_id)
    async with world(pool, provider) as w:
        await nothing_left(w)
        assert finish(await w.ask(agent_id, "still there?")).status == "completed"
    assert await ends(pool) == [("done", "cancelled")] * 2 + [("done", "completed")]
    assert await checks.steps_are_whole(pool) == []
    assert sorted(await inputs(pool, conversation_id)) == [("runs", True), ("waits", True)]
