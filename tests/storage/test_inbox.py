from datetime import timedelta
from typing import cast

import anyio
import anyio.lowlevel
import msgspec
import pytest
from msgspec.structs import replace

from storage import edits, inbox
from storage.errors import KeyReusedError, NotFoundError, StorageError
from storage.inbox import Accepted
from storage.pool import Conn, Pool, connection
from tests.storage import seeds

LOCK_WAITS = (
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)


async def test_a_batch_is_accepted_in_order_with_its_runs(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        batch = [seeds.submission(agent_id, text=str(i)) for i in range(20)]
        verdicts = await inbox.accept(conn, batch)
        assert [v.run_id for v in verdicts if isinstance(v, Accepted)] == [s.run_id for s in batch]
        seqs = [v.seq for v in verdicts if isinstance(v, Accepted)]
        assert seqs == sorted(seqs)
        waiting = await inbox.pending(conn, limit=100)
        assert [p.run_id for p in waiting] == [s.run_id for s in batch]
        rest = await inbox.pending(conn, after=waiting[11].seq, limit=5)
        assert rest == waiting[12:17]
        assert await conn.fetchval("select count(*) from runs where status = 'created'") == 20


async def test_a_repeated_key_returns_the_first_run_and_leaves_no_other(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        first, again = seeds.submission(agent_id, key="k"), seeds.submission(agent_id, key="k")
        (accepted,) = await inbox.accept(conn, [first])
        (replay,) = await inbox.accept(conn, [again])
        assert isinstance(accepted, Accepted)
        assert isinstance(replay, Accepted)
        assert (replay.replayed, replay.run_id, replay.seq) == (True, first.run_id, accepted.seq)
        assert await conn.fetchval("select count(*) from runs") == 1


async def test_one_key_twice_in_one_batch_is_one_command(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        verdicts = await inbox.accept(
            conn, [seeds.submission(agent_id, key="k"), seeds.submission(agent_id, key="k")]
        )
        assert [v.replayed for v in verdicts if isinstance(v, Accepted)] == [False, True]
        assert await conn.fetchval("select count(*) from runs") == 1
        assert await conn.fetchval("select count(*) from inbox") == 1


class _Dying:
    """A connection whose process dies after its first statement."""

    def __init__(self, conn: Conn) -> None:
        self.fetch = conn.fetch

    async def fetchrow(self, *_: object) -> None:
        raise ConnectionError


async def test_a_crash_in_an_acceptance_leaves_no_run_without_a_command(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        batch = [seeds.submission(agent_id, key="k"), seeds.submission(agent_id, key="k")]
        with pytest.raises(ConnectionError):
            await inbox.accept(cast("Conn", _Dying(conn)), batch)
        assert await conn.fetchval("select count(*) from runs") == 1


async def test_an_acceptance_that_is_sent_again_is_no_replay(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        item = seeds.submission(agent_id, key="k")
        (accepted,) = await inbox.accept(conn, [item])
        assert await inbox.accept(conn, [item]) == [accepted]
        assert await conn.fetchval("select count(*) from inbox") == 1


async def test_a_key_with_another_body_is_refused(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        first = seeds.submission(agent_id, key="k", digest="aa")
        await inbox.accept(conn, [first])
        (verdict,) = await inbox.accept(conn, [seeds.submission(agent_id, key="k", digest="bb")])
        assert isinstance(verdict, KeyReusedError)
        assert verdict.run_id == first.run_id


async def test_a_missing_agent_refuses_its_own_command_only(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        good, bad = seeds.submission(agent_id), seeds.submission("agent-none")
        first, second = await inbox.accept(conn, [bad, good])
        assert isinstance(first, NotFoundError)
        assert isinstance(second, Accepted)


async def test_two_connections_that_race_for_a_key_accept_it_once(pool: Pool) -> None:
    async with connection(pool) as one, connection(pool) as two, connection(pool) as probe:
        agent_id = await seeds.agent(one)
        winner, loser = seeds.submission(agent_id, key="k"), seeds.submission(agent_id, key="k")
        verdicts: list[Accepted | StorageError] = []

        async def lose() -> None:
            verdicts.extend(await inbox.accept(two, [loser]))

        await one.execute("begin")
        await inbox.accept(one, [winner])
        async with anyio.create_task_group() as group:
            group.start_soon(lose)
            with anyio.fail_after(15):  # the loser's statement waits at the unique constraint
                while not await probe.fetchval(LOCK_WAITS):
                    await anyio.lowlevel.checkpoint()
            await one.execute("commit")
        (verdict,) = verdicts
        assert isinstance(verdict, Accepted)
        assert (verdict.replayed, verdict.run_id) == (True, winner.run_id)
        assert await one.fetchval("select count(*) from runs") == 1


async def test_the_newest_command_of_a_caller_is_found_by_its_hash(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        first, second = seeds.submission(agent_id, digest="ab"), seeds.submission(agent_id, digest="ab")
        await inbox.accept(conn, [first])
        await inbox.accept(conn, [second])

        async def newest(**changes: object) -> tuple[str, str, str] | None:
            wanted = {
                "agent_id": agent_id,
                "caller": "test",
                "request_hash": b"\xab",
                "within": timedelta(minutes=10),
            }
            return await inbox.recent(conn, **{**wanted, **changes})  # type: ignore[arg-type]

        assert await newest() == (second.run_id, agent_id, second.key)
        assert await newest(caller="other") is None
        assert await newest(request_hash=b"\xac") is None
        assert await newest(within=timedelta(0)) is None


async def test_only_commands_that_are_not_over_are_marked_as_cancelled_and_stay_what_they_were(
    pool: Pool,
) -> None:
    async with connection(pool) as conn:
        agent_id, other = await seeds.agent(conn), await seeds.agent(conn)
        over, waits, runs, unasked = batch = [seeds.submission(agent_id, text=str(i)) for i in range(4)]
        foreign = seeds.submission(other)
        await inbox.accept(conn, [*batch, foreign])
        await conn.execute("update inbox set state = 'done', done_at = now() where run_id = $1", over.run_id)
        await conn.execute("update inbox set state = 'applied' where run_id = $1", runs.run_id)
        for _ in range(2):
            asked = [over.run_id, waits.run_id, runs.run_id, foreign.run_id]
            await inbox.mark_cancelled(conn, agent_id, asked)
        rows = await conn.fetch(
            "select run_id, command - 'cancelled' as rest, command from inbox order by seq"
        )
    commands = {row["run_id"]: msgspec.json.decode(row["command"]) for row in rows}
    assert [run_id for run_id, c in commands.items() if c.get("cancelled")] == [waits.run_id, runs.run_id]
    sent = [msgspec.json.decode(submission.command) for submission in [*batch, foreign]]
    assert [msgspec.json.decode(row["rest"]) for row in rows] == sent
    assert unasked.run_id in commands


async def test_marking_runs_waits_for_a_checkpoint_and_not_the_checkpoint_for_it(pool: Pool) -> None:
    """A step that handles several commands takes their rows in an order of its own."""
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        batch = [seeds.submission(agent_id, text=str(i)) for i in range(2)]
        await inbox.accept(conn, batch)
        first, second = await inbox.pending(conn, limit=2)
    marked = anyio.Event()

    async def mark() -> None:
        async with connection(pool) as other:
            await inbox.mark_cancelled(other, agent_id, [first.run_id, second.run_id])
        marked.set()

    ended = "update inbox set state = 'done', done_at = now() where seq = $1"
    with anyio.fail_after(20):
        async with connection(pool) as conn, anyio.create_task_group() as group, conn.transaction():
            await conn.execute("update agents set version = version + 1 where id = $1", agent_id)
            await conn.execute(ended, second.seq)
            group.start_soon(mark)
            while not await conn.fetchval(LOCK_WAITS):
                await anyio.lowlevel.checkpoint()
            await conn.execute(ended, first.seq)
        await marked.wait()
    async with connection(pool) as conn:
        assert not await conn.fetchval("select count(*) from inbox where command ? 'cancelled'")


async def test_purge_forgets_only_what_ended_long_ago(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await inbox.accept(conn, [seeds.submission(agent_id, key=k) for k in ("old", "new", "open")])
        await conn.execute(
            "update inbox set state = 'done', done_at = now() - interval '25 hours' where key = 'old'"
        )
        await conn.execute("update inbox set state = 'done', done_at = now() where key = 'new'")
        assert await inbox.purge(conn, older_than=timedelta(hours=24)) == 1
        keys = await conn.fetch("select key from inbox order by key")
        assert [row["key"] for row in keys] == ["new", "open"]


async def test_purge_catches_up_with_however_much_has_ended(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PURGED_AT_ONCE", 3)
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await inbox.accept(conn, [seeds.submission(agent_id, key="waits")])
        await inbox.accept(conn, [seeds.submission(agent_id) for _ in range(10)])
        await conn.execute(
            "update inbox set state = 'done', done_at = now() - interval '25 hours' where key <> 'waits'"
        )
        assert await inbox.purge(conn, older_than=timedelta(hours=24)) == 10
        assert await conn.fetchval("select key from inbox") == "waits"


@pytest.mark.parametrize("beside", [0, 1])
async def test_a_deletion_takes_along_what_was_accepted_before_it(pool: Pool, beside: int) -> None:
    async with connection(pool) as one, connection(pool) as two, connection(pool) as probe:
        going, staying = await seeds.agent(one), await seeds.agent(one)

        async def delete() -> None:
            async with two.transaction():
                await edits.delete_agent(two, going)

        await one.execute("begin")
        await inbox.accept(one, [seeds.submission(going), *[seeds.submission(staying)] * beside])
        async with anyio.create_task_group() as group:
            group.start_soon(delete)
            with anyio.fail_after(15):  # the deletion waits for the agent's row, which the acceptance holds
                while not await probe.fetchval(LOCK_WAITS):
                    await anyio.lowlevel.checkpoint()
            await one.execute("commit")
        for table in ("inbox", "runs"):
            left = await one.fetch(f"select agent_id from {table}")
            assert [row["agent_id"] for row in left] == [staying] * beside


async def test_a_conversation_that_is_not_there_refuses_its_own_command_only(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        good, bad = seeds.submission(agent_id), replace(seeds.submission(agent_id), conversation_id="conv-x")
        first, second = await inbox.accept(conn, [bad, good])
        assert isinstance(first, NotFoundError)
        assert isinstance(second, Accepted)
        assert isinstance((await inbox.accept(conn, [bad]))[0], NotFoundError)
        assert await conn.fetchval("select count(*) from runs") == 1
