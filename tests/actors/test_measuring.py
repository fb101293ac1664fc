"""When agents say what fills their window, and what they say of it."""

from actors import measuring
from actors.commands import UpdateAgent, UpdateBlock
from actors.events import Compacted, Event, RunStarted, RunStopped, StepTimed, WindowMeasured
from bench.provider import Provider
from storage.pool import Pool
from storage.records import AgentChanges, BlockChanges
from tests.actors.worlds import World, world

INSERT = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea, and walks."}}


def measured(events: list[Event]) -> list[WindowMeasured]:
    return [event for event in events if isinstance(event, WindowMeasured)]


def now(w: World, agent_id: str, *, run_id: str | None) -> WindowMeasured:
    """Return what is so at this moment."""
    actor = w.host.alive(agent_id)
    assert actor is not None
    return measuring.measured(actor, actor.threads[agent_id], run_id=run_id)


async def test_a_run_that_changes_no_memory_says_nothing_of_its_window(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        assert measured(await w.ask(agent_id) + await w.ask(agent_id, "again")) == []


async def test_a_run_that_edits_memory_says_at_its_end_what_models_see_from_then_on(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"tool_calls": [INSERT]}, {"text": "Noted."}, {"text": "And?"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        events = await w.ask(agent_id)
        (found,) = measured(events)
        before, _, after = events[events.index(found) - 1 :][:3]
        assert isinstance(before, StepTimed)
        assert isinstance(after, RunStopped)
        assert found == now(w, agent_id, run_id=events[-1].run_id)
        assert (found.messages, found.recall) == (5, 4)
        assert found.window_tokens > found.tokens.used > found.tokens.core_memory > 0
        assert measured(await w.ask(agent_id)) == [], "nothing changed since"


async def test_a_run_says_as_it_begins_what_somebody_else_changed(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.ask(agent_id)
        empty = now(w, agent_id, run_id=None)
        for value in ("tea", "coffee, and a long walk every day"):
            await w.host.ref(agent_id).edit(UpdateBlock(label="human", changes=BlockChanges(value=value)))
        expected = now(w, agent_id, run_id=None)
        events = await w.ask(agent_id)
        (found,) = measured(events)
        assert isinstance(events[0], RunStarted)
        assert events[1] == found
        assert found.tokens == expected.tokens
        assert found.tokens.core_memory > empty.tokens.core_memory
        assert measured(await w.ask(agent_id)) == []


async def test_what_is_changed_before_an_agent_spoke_is_told_as_well(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.host.ref(agent_id).edit(UpdateBlock(label="human", changes=BlockChanges(value="tea")))
        assert len(measured(await w.ask(agent_id))) == 1


async def test_a_compaction_says_what_is_left(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        for i in range(6):
            await w.ask(agent_id, f"message {i} " + "word " * 50)
        before = now(w, agent_id, run_id=None)
        heard: list[Event] = []
        w.host.logs.watch(agent_id, lambda _channel, _offset, event: heard.append(event))
        await provider.script([{"text": "They talked."}])
        assert (await w.host.ref(agent_id).compact(agent_id)).message is not None
        assert [type(event) for event in heard] == [Compacted, WindowMeasured]
        (found,) = measured(heard)
        assert found == now(w, agent_id, run_id=None)
        assert found.tokens.messages < before.tokens.messages
        assert found.tokens.summary_memory > 0
        assert found.messages < before.messages


async def test_an_agent_whose_model_nobody_offers_has_a_window_of_no_size(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.ask(agent_id)
        assert now(w, agent_id, run_id=None).window_tokens > 0
        gone = AgentChanges(settings={"model": "nobody/offers", "context_window_tokens": None})
        await w.host.ref(agent_id).edit(UpdateAgent(changes=gone))
        assert now(w, agent_id, run_id=None).window_tokens == 0
