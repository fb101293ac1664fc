from functools import partial

import anyio
import anyio.lowlevel
import pytest

from actors import cancelling, committer
from actors.commons import HostSettings
from actors.errors import DrainingError, NothingToCancelError, NotRunningError
from actors.events import RunFinished, TextDelta
from bench.provider import Provider
from storage import checkpoints, inbox
from storage.checkpoints import Checkpoint
from storage.errors import UnavailableError
from storage.pool import Conn, Pool, connection
from tests.actors.worlds import finish, world
from tests.laws.watching import until

NO_DRAIN = HostSettings(drain_seconds=0)


async def test_one_run_is_cancelled_and_says_no_more(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a b c d e f", "gap_ms": 20, "gate": "never", "gate_after": 3}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id, "hi")
        with anyio.fail_after(10):
            async for batch in w.host.ref(agent_id).follow(receipt.run_id, agent_id):
                if any(isinstance(e.event, TextDelta) for e in batch):
                    break
        assert w.host.where(receipt.run_id) == (agent_id, agent_id)
        assert w.host.disposition(receipt.run_id) == ("started", 0)
        await w.host.ref(agent_id).cancel_run(receipt.run_id)
        events = await w.events(receipt, agent_id)
        assert finish(events).status == "cancelled"
        assert w.host.where(receipt.run_id) is None
        assert w.host.disposition(receipt.run_id) is None
        assert isinstance(events[-1], RunFinished)


async def test_a_run_that_is_over_cannot_be_cancelled_and_the_error_says_so(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finished = finish(await w.ask(agent_id))
        with pytest.raises(NotRunningError, match="already finished") as raised:
            await w.host.ref(agent_id).cancel_run(finished.run_id)
        assert raised.value.over


async def test_cancelling_one_run_leaves_those_that_wait(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        first, second = await w.tell(agent_id, "a"), await w.tell(agent_id, "b")
        await provider.log(requests=1)
        await w.host.ref(agent_id).cancel_run(first.run_id)
        assert finish(await w.events(first, agent_id)).status == "cancelled"
        assert finish(await w.events(second, agent_id)).status == "completed"


async def test_a_cancelled_run_whose_end_could_not_be_committed_is_cancelled_by_the_next_life(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider.script([{"text": "one two three", "gate": "never", "gate_after": 1}])
    commit, tries = checkpoints.commit, 0

    async def away(conn: Conn, batch: list[Checkpoint]) -> object:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise UnavailableError("away")
        return await commit(conn, batch)

    monkeypatch.setattr(committer, "OUTAGE_DEADLINE", 0)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "hi")
        await provider.log(requests=1, keep=True)
        monkeypatch.setattr(checkpoints, "commit", away)
        await w.host.ref(agent_id).cancel(None)
        await until(lambda: not w.host.health().unfinished_runs)
        assert len(await provider.log()) == 1
        async with connection(pool) as conn:
            assert await conn.fetchval("select status from runs") == "cancelled"
        assert finish(await w.ask(agent_id, "again")).status == "completed"


async def test_a_cancelled_run_that_waited_in_an_activation_that_ends_does_not_begin_in_the_next(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "runs")
        await provider.log(requests=1, keep=True)
        waits = await w.tell(agent_id, "waits")
        population = w.host._population
        actor = population.hot[agent_id]
        # Whoever ends the activation is first in line for the commit turn.
        async with anyio.create_task_group() as group, actor.commit_turn:
            group.start_soon(partial(population._stop, actor, None, guilty=set()))
            await anyio.lowlevel.checkpoint()
            await w.host.ref(agent_id).cancel_run(waits.run_id)
        await until(lambda: not w.host.health().unfinished_runs)
        asked = [record.user_text for record in await provider.log()]
        assert asked == ["runs", "runs"]
        async with connection(pool) as conn:
            rows = await conn.fetch("select status from runs order by created_at")
        assert [row["status"] for row in rows] == ["completed", "cancelled"]


async def away(_: Conn, __: list[Checkpoint]) -> object:
    """Commit nothing: what a process that dies before the end of its runs leaves behind."""
    raise UnavailableError("away")


async def statuses(pool: Pool) -> list[str]:
    """Return how the runs stand, in the order of their commands."""
    async with connection(pool) as conn:
        rows = await conn.fetch("select r.status from inbox i join runs r on r.id = i.run_id order by i.seq")
    return [row["status"] for row in rows]


async def test_what_was_acknowledged_as_cancelled_ends_so_in_the_next_process(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One runs and one waits; this process ends before it could commit the end of either."""
    await provider.script([{"text": "one two three", "gate": "never", "gate_after": 1}])
    monkeypatch.setattr(committer, "OUTAGE_DEADLINE", 0)
    async with world(pool, provider, settings=NO_DRAIN) as w:
        agent_id = await w.agent()
        runs = [(await w.tell(agent_id, text)).run_id for text in ("runs", "waits")]
        await provider.log(requests=1, keep=True)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "commit", away)
            assert await w.host.ref(agent_id).cancel() == dict.fromkeys(runs, "cancelled")
            w.host._population.closed = True  # or a next activation would end them here
            assert await statuses(pool) == ["created", "created"]
            await w.host._population.suspend()
    async with world(pool, provider) as w:
        await until(lambda: not w.host.health().unfinished_runs)
        assert await statuses(pool) == ["cancelled", "cancelled"]
        assert len(await provider.log()) == 1
        assert await w.history(agent_id) == [("user", "runs"), ("user", "waits")]
        assert finish(await w.ask(agent_id, "go on")).status == "completed"


async def test_a_cancel_that_cannot_be_made_durable_is_not_acknowledged(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise UnavailableError("away")

    await provider.script([{"text": "one two three", "gate": "never", "gate_after": 1}])
    monkeypatch.setattr(committer, "OUTAGE_DEADLINE", 0)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "hi")
        await provider.log(requests=1, keep=True)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "commit", away)
            patch.setattr(inbox, "mark_cancelled", lost)
            with pytest.raises(UnavailableError):
                await w.host.ref(agent_id).cancel()
        await until(lambda: not w.host.health().unfinished_runs)
    assert await statuses(pool) == ["cancelled"]


async def test_a_cancel_that_another_host_may_have_missed_is_not_acknowledged(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever took the agent over before the mark was there has read its inbox without it."""
    await provider.script([{"text": "one two three", "gate": "never", "gate_after": 1}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "hi")
        await provider.log(requests=1, keep=True)
        mark, directory = inbox.mark_cancelled, w.host._commons.directory

        async def late(conn: Conn, agent_id: str, run_ids: list[str]) -> None:
            await mark(conn, agent_id, run_ids)
            directory.deadline = 0.0

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "commit", away)
            patch.setattr(inbox, "mark_cancelled", late)
            with pytest.raises(DrainingError):
                await w.host.ref(agent_id).cancel()


async def test_a_cancel_waits_for_a_mark_only_where_the_end_is_late(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is over is never written again."""
    marked: list[list[str]] = []

    async def mark(_: Conn, __: str, run_ids: list[str]) -> None:
        marked.append(run_ids)

    await provider.script([{"text": "one two three", "gate": "never", "gate_after": 1}])
    monkeypatch.setattr(cancelling, "CANCEL_ACK", 10.0)
    monkeypatch.setattr(inbox, "mark_cancelled", mark)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "runs")
        await w.tell(agent_id, "waits")
        await provider.log(requests=1, keep=True)
        await w.host.ref(agent_id).cancel()
        assert not w.host.health().unfinished_runs
    assert marked == []


async def test_a_denial_that_cannot_be_committed_is_not_acknowledged(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"type": "requires_approval", "tool_name": "memory_insert"}
    call = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "tea"}}
    await provider.script([{"tool_calls": [call]}])
    monkeypatch.setattr(committer, "OUTAGE_DEADLINE", 0)
    async with world(pool, provider) as w:
        agent_id = await w.agent(tool_rules=(rule,))
        asking = finish(await w.ask(agent_id, "insert"))
        assert asking.stop_reason == "requires_approval"
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "commit", away)
            with pytest.raises(UnavailableError):
                await w.host.ref(agent_id).cancel()
        assert await w.host.ref(agent_id).cancel() == {asking.run_id: "cancelled"}
        with pytest.raises(NothingToCancelError):
            await w.host.ref(agent_id).cancel()
