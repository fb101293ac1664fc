from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import msgspec
import pytest
from msgspec.structs import replace

from actors import clock, committer
from actors.committer import Committer
from storage import checkpoints, inbox
from storage.checkpoints import Checkpoint
from storage.errors import FencedError, NotFoundError, RefusedError, UnavailableError
from storage.inbox import Accepted, Submission
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, TextPart
from tests.actors.pieces import message
from tests.actors.worlds import create_agent

WAITING_FOR_A_LOCK = (
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)


@pytest.fixture
async def committing(pool: Pool) -> AsyncGenerator[Committer]:
    """A committer on the pool, which it gives its connections back."""
    committer = Committer(pool)
    yield committer
    await committer.close()


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "RETRY_DELAYS", (0.001,))


async def checkpoint(pool: Pool, *, text: str = "x", version: int = 0) -> Checkpoint:
    """Return a step of a fresh agent that adds one message."""
    agent_id = await create_agent(pool, model="openai/echo")
    async with connection(pool) as conn:
        fence = await conn.fetchval("select fence from agents where id = $1", agent_id)
    added = replace(
        message(1, "user", TextPart(text)),
        id=clock.new_id("message"),
        agent_id=agent_id,
        conversation_id=agent_id,
    )
    return Checkpoint(
        id=clock.new_id("ckpt"), agent_id=agent_id, fence=fence, version=version, messages=(added,)
    )


async def stored(pool: Pool, step: Checkpoint) -> int:
    async with connection(pool) as conn:
        return await conn.fetchval(
            "select count(*) from messages where agent_id = $1 and position > 0", step.agent_id
        )


def submission(agent_id: str, key: str) -> Submission:
    return Submission(
        agent_id=agent_id,
        organization_id=DEFAULT_ORGANIZATION,
        conversation_id=agent_id,
        run_id=clock.new_id("run"),
        key=key,
        request_hash="00",
        caller="test",
        command=msgspec.Raw(b"{}"),
    )


async def test_one_bad_step_of_a_batch_fails_alone(pool: Pool, committing: Committer) -> None:
    good, bad, late = await checkpoint(pool), await checkpoint(pool, text="nul \0"), await checkpoint(pool)
    fenced = replace(await checkpoint(pool), version=7)
    verdicts = await committing.checkpoint([good, bad, fenced, late])
    assert verdicts[0] is None
    assert isinstance(verdicts[1], RefusedError)
    assert isinstance(verdicts[2], FencedError)
    assert verdicts[3] is None
    assert [await stored(pool, s) for s in (good, bad, fenced, late)] == [1, 0, 0, 1]


async def test_a_commit_whose_answer_was_lost_is_looked_up_and_not_repeated(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, asked = checkpoints.commit, 0

    async def deaf(conn: Conn, batch: list[Checkpoint]) -> object:
        nonlocal asked
        asked += 1
        await commit(conn, batch)
        raise UnavailableError("the answer was lost")

    monkeypatch.setattr(checkpoints, "commit", deaf)
    step = await checkpoint(pool)
    assert await committing.checkpoint([step]) == [None]
    assert asked == 1
    assert await stored(pool, step) == 1


async def test_a_step_outlasts_an_outage(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, asked = checkpoints.commit, 0

    async def away(conn: Conn, batch: list[Checkpoint]) -> object:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise UnavailableError("away")
        return await commit(conn, batch)

    monkeypatch.setattr(checkpoints, "commit", away)
    step = await checkpoint(pool)
    assert await committing.checkpoint([step]) == [None]
    assert asked == 4


async def test_an_outage_that_does_not_end_is_said_to_every_step(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> object:
        raise UnavailableError("away")

    monkeypatch.setattr(checkpoints, "commit", away)
    monkeypatch.setattr(committer, "OUTAGE_DEADLINE", 0.02)
    verdicts = await committing.checkpoint([await checkpoint(pool), await checkpoint(pool)])
    assert [type(v) for v in verdicts] == [UnavailableError, UnavailableError]


async def test_a_commit_that_does_not_answer_counts_as_lost(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> object:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(checkpoints, "commit", silent)
    monkeypatch.setattr(committer, "COMMIT_DEADLINE", 0.02)
    monkeypatch.setattr(committer, "OUTAGE_DEADLINE", 0.05)
    (verdict,) = await committing.checkpoint([await checkpoint(pool)])
    assert isinstance(verdict, UnavailableError)


async def test_an_acceptance_whose_answer_was_lost_is_asked_again_and_counts_once(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, asked = inbox.accept, 0

    async def deaf(conn: Conn, batch: list[Submission]) -> object:
        nonlocal asked
        asked += 1
        verdicts = await accept(conn, batch)
        if asked == 1:
            raise UnavailableError("the answer was lost")
        return verdicts

    monkeypatch.setattr(inbox, "accept", deaf)
    agent_id = await create_agent(pool, model="openai/echo")
    item = submission(agent_id, "k")
    (verdict,) = await committing.accept([item])
    assert isinstance(verdict, Accepted)
    assert verdict.run_id == item.run_id
    async with connection(pool) as conn:
        assert await conn.fetchval("select count(*) from inbox") == 1


async def test_one_command_for_nobody_is_refused_alone(pool: Pool, committing: Committer) -> None:
    agent_id = await create_agent(pool, model="openai/echo")
    good, bad = await committing.accept([submission(agent_id, "k"), submission("agent-none", "k")])
    assert isinstance(good, Accepted)
    assert isinstance(bad, NotFoundError)


@pytest.mark.parametrize("beside", [0, 1])
async def test_a_command_for_an_agent_that_is_being_deleted_finds_no_agent(
    pool: Pool, committing: Committer, beside: int
) -> None:
    going, staying = [await create_agent(pool, model="openai/echo") for _ in range(2)]
    batch = [submission(going, "k"), *[submission(staying, "k")] * beside]
    verdicts: list[object] = []

    async def accept() -> None:
        verdicts.extend(await committing.accept(batch))

    async with connection(pool) as deleter, connection(pool) as probe, anyio.create_task_group() as group:
        deletion = deleter.transaction()
        async with deletion:
            await deleter.execute("delete from agents where id = $1", going)
            group.start_soon(accept)
            while not await probe.fetchval(WAITING_FOR_A_LOCK):
                pass
    assert isinstance(verdicts[0], NotFoundError)
    assert all(isinstance(verdict, Accepted) for verdict in verdicts[1:])


async def test_one_command_that_the_database_refuses_fails_alone(pool: Pool, committing: Committer) -> None:
    agent_id = await create_agent(pool, model="openai/echo")
    good, bad = await committing.accept([submission(agent_id, "k"), submission(agent_id, "nul \0")])
    assert isinstance(good, Accepted)
    assert isinstance(bad, RefusedError)


async def test_a_lost_answer_is_resolved_for_each_step_where_another_one_is_refused(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, asked = checkpoints.commit, 0
    good, bad = await checkpoint(pool), await checkpoint(pool, text="nul \0")

    async def half_deaf(conn: Conn, batch: list[Checkpoint]) -> object:
        nonlocal asked
        asked += 1
        if asked == 1:
            await commit(conn, [good])
            raise UnavailableError("the answer was lost")
        return await commit(conn, batch)

    monkeypatch.setattr(checkpoints, "commit", half_deaf)
    verdicts = await committing.checkpoint([good, bad])
    assert verdicts[0] is None
    assert isinstance(verdicts[1], RefusedError)
    assert [await stored(pool, s) for s in (good, bad)] == [1, 0]


async def test_a_lost_commit_that_lands_after_the_look_is_no_newer_owner(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, landed, looks = checkpoints.commit, checkpoints.landed, 0
    step = await checkpoint(pool)

    async def late(conn: Conn, batch: list[Checkpoint]) -> object:
        monkeypatch.setattr(checkpoints, "commit", commit)
        raise UnavailableError("it is still under way")

    async def look(conn: Conn, batch: list[Checkpoint]) -> list[bool]:
        nonlocal looks
        looks += 1
        seen = await landed(conn, batch)
        if looks == 1:
            await commit(conn, [step])  # the server gets round to the first copy
        return seen

    monkeypatch.setattr(checkpoints, "commit", late)
    monkeypatch.setattr(checkpoints, "landed", look)
    assert await committing.checkpoint([step]) == [None]
    assert await stored(pool, step) == 1


async def test_a_command_that_is_refused_at_the_second_try_fails_alone(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = inbox.accept

    async def away(*_: object) -> object:
        monkeypatch.setattr(inbox, "accept", accept)
        raise UnavailableError("away")

    monkeypatch.setattr(inbox, "accept", away)
    agent_id = await create_agent(pool, model="openai/echo")
    good, bad = await committing.accept([submission(agent_id, "k"), submission(agent_id, "nul \0")])
    assert isinstance(good, Accepted)
    assert isinstance(bad, RefusedError)


async def test_commands_are_not_tried_one_by_one_while_the_database_is_away(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def away(*_: object) -> object:
        nonlocal asked
        asked += 1
        raise RefusedError("one of them") if asked == 1 else UnavailableError("away")

    monkeypatch.setattr(inbox, "accept", away)
    agent_id = await create_agent(pool, model="openai/echo")
    verdicts = await committing.accept([submission(agent_id, str(i)) for i in range(20)])
    assert {type(verdict) for verdict in verdicts} == {UnavailableError}
    assert asked == 2


async def test_accepting_and_committing_in_turns_use_one_connection_and_at_once_two(
    pool: Pool, committing: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, asked, overlap = inbox.accept, list[int](), anyio.Event()

    async def noting(conn: Conn, batch: list[Submission]) -> object:
        asked.append(await conn.fetchval("select pg_backend_pid()"))
        if len(asked) == 3:
            await overlap.wait()
        return await accept(conn, batch)

    monkeypatch.setattr(inbox, "accept", noting)
    agent_id = await create_agent(pool, model="openai/echo")
    for key in ("a", "b"):
        await committing.accept([submission(agent_id, key)])
    async with anyio.create_task_group() as group:
        group.start_soon(committing.accept, [submission(agent_id, "c")])
        while len(asked) < 3:
            await anyio.lowlevel.checkpoint()
        await committing.accept([submission(agent_id, "d")])
        overlap.set()
    assert asked[0] == asked[1] == asked[2] != asked[3]
