"""What is said of a conversation's queue, and to whom."""

import anyio

from actors.commons import HostSettings
from actors.events import Event, QueueChanged, RunFinished, RunStarted, RunSteered
from bench.provider import Provider
from storage.pool import Pool
from tests.actors.balanced import complaints
from tests.actors.worlds import World, finish, world

GATED = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "x"}}], "gate": "on"}
RULE = {"type": "requires_approval", "tool_name": "memory_insert"}
ASKS = {"tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "x"}}]}


def queue(events: list[Event]) -> list[tuple[str, str, int, int]]:
    return [(e.run_id, e.change, e.position, e.queued) for e in events if isinstance(e, QueueChanged)]


def watched(w: World, agent_id: str) -> list[Event]:
    """Return a list that gets everything that is said of an agent from here on."""
    heard: list[Event] = []
    w.host.logs.watch(agent_id, lambda _c, _o, event: heard.append(event))
    return heard


async def test_who_waits_is_told_with_its_place_and_when_it_begins(pool: Pool, provider: Provider) -> None:
    await provider.script([GATED, {"text": "one"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        heard = watched(w, agent_id)
        first = await w.tell(agent_id, "a")
        await provider.log(requests=1, keep=True)
        second, third = await w.tell(agent_id, "b"), await w.tell(agent_id, "c")
        assert queue(heard) == [(second.run_id, "queued", 1, 1), (third.run_id, "queued", 2, 2)]
        assert (third.disposition, third.queue_position) == ("queued", 2)
        await provider.open("on")
        finish(await w.events(third, agent_id))
        assert queue(heard)[2:] == [(second.run_id, "started", 0, 1), (third.run_id, "started", 0, 0)]
        begun = [e.run_id for e in heard if isinstance(e, RunStarted)]
        assert begun == [first.run_id, second.run_id, third.run_id]
        place = next(
            i for i, e in enumerate(heard) if isinstance(e, RunStarted) and e.run_id == second.run_id
        )
        after = next(i for i, e in enumerate(heard) if isinstance(e, QueueChanged) and e.change == "started")
        assert after > place, "a run's events begin with its start"
        assert complaints(heard) == []


async def test_who_steers_is_told_to_wait_and_then_joins(pool: Pool, provider: Provider) -> None:
    await provider.script([GATED, {"text": "one"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        heard = watched(w, agent_id)
        first = await w.tell(agent_id, "a")
        await provider.log(requests=1, keep=True)
        second = await w.tell(agent_id, "b", when_busy="steer")
        assert queue(heard) == [(second.run_id, "steered", 1, 1)]
        await provider.open("on")
        finish(await w.events(first, agent_id))
        assert [e.into for e in heard if isinstance(e, RunSteered)] == [first.run_id]
        assert len(queue(heard)) == 1, "its joining says that it waits no longer"


async def test_who_is_withdrawn_is_told_before_its_end(pool: Pool, provider: Provider) -> None:
    await provider.script([GATED, {"text": "one"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        heard = watched(w, agent_id)
        first = await w.tell(agent_id, "a")
        await provider.log(requests=1, keep=True)
        second, third = await w.tell(agent_id, "b"), await w.tell(agent_id, "c")
        await w.host.ref(agent_id).cancel_run(second.run_id)
        finish(await w.events(second, agent_id))
        assert queue(heard)[2:] == [(second.run_id, "withdrawn", 0, 1)]
        ended = [e for e in heard if e.run_id == second.run_id][-1]
        assert isinstance(ended, RunFinished)
        await provider.open("on")
        finish(await w.events(first, agent_id))
        finish(await w.events(third, agent_id))


async def test_a_message_that_begins_at_once_waits_for_nothing(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        heard = watched(w, agent_id)
        await w.ask(agent_id)
        await w.ask(agent_id)
        assert queue(heard) == []


async def test_who_waits_where_nothing_runs_is_told_to_watchers_and_logged_at_the_next_start(
    pool: Pool, provider: Provider
) -> None:
    settings = HostSettings(drain_seconds=2, when_pending="queue")
    await provider.script([ASKS, {"text": "done"}, {"text": "and that"}])
    async with world(pool, provider, settings=settings) as w:
        agent_id = await w.agent(tool_rules=(RULE,))
        finish(await w.ask(agent_id))
        heard = watched(w, agent_id)
        logged = w.host.logs.channel(agent_id, agent_id).next
        waiting = await w.tell(agent_id, "later")
        assert queue(heard) == [(waiting.run_id, "queued", 1, 1)]
        assert w.host.logs.channel(agent_id, agent_id).next == logged
        assert w.host.disposition(waiting.run_id) == ("queued", 1)
        await w.host.ref(agent_id).cancel()
        with anyio.fail_after(10):
            while w.host.health().unfinished_runs:
                await anyio.sleep(0.01)
        assert queue(heard)[-1] == (waiting.run_id, "withdrawn", 0, 0)


async def test_a_queue_that_survived_a_restart_is_told_after_the_first_start(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent()
        receipts = [await w.tell(agent_id, f"m{i}") for i in range(3)]
        await provider.log(requests=1)
    async with world(pool, provider) as w:
        finish(await w.events(receipts[-1], agent_id))
        channel = w.host.logs.channel(agent_id, agent_id)
        events = [e for s in channel.segments for e in s.read(s.start)]
        assert isinstance(events[0], RunStarted)
        waiting = [r.run_id for r in receipts[1:]]
        assert queue(events)[:2] == [(waiting[0], "queued", 1, 2), (waiting[1], "queued", 2, 2)]
        assert [run for run, change, _, _ in queue(events) if change == "started"] == waiting


async def test_who_follows_a_run_does_not_see_the_queue(pool: Pool, provider: Provider) -> None:
    await provider.script([GATED, {"text": "one"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "a")
        await provider.log(requests=1, keep=True)
        second = await w.tell(agent_id, "b")
        await provider.open("on")
        events = await w.events(second, agent_id)
        assert isinstance(events[0], RunStarted)
        assert queue(events) == []
