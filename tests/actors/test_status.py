import anyio
from hypothesis import given
from hypothesis import strategies as st

from actors import clock
from actors.commands import UpdateBlock
from actors.events import BlockChanged, Compacted, Event, RunFinished, RunStarted, TextDelta
from actors.status import RATE_WINDOW, AgentFigures, Pulse
from bench.provider import Provider
from storage.pool import Pool
from storage.records import BlockChanges
from tests.actors.worlds import World, finish, world

RULE = {"type": "requires_approval", "tool_name": "memory_insert"}
INSERT = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "x"}}


def figures(w: World, agent_id: str) -> AgentFigures:
    found = w.host.figures(agent_id)
    assert found is not None
    return found


async def test_an_agent_that_works_says_so_and_how_fast_it_speaks(pool: Pool, provider: Provider) -> None:
    words = "one two three four five six seven eight nine ten"
    await provider.script([{"text": words, "gap_ms": 30, "gate": "on", "gate_after": 8}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        assert w.host.figures(agent_id) is None
        said: list[str] = []
        w.host.logs.watch(
            agent_id, lambda _c, _o, e: said.append(e.text) if isinstance(e, TextDelta) else None
        )
        began = clock.monotonic()
        first = await w.tell(agent_id)
        with anyio.fail_after(15):
            while len(said) < 8:
                await anyio.sleep(0.005)
        second = await w.tell(agent_id)
        now = figures(w, agent_id)
        assert (now.status, now.active, now.queued) == ("running", 1, 1)
        # Eight words came since then, and the model takes 210 ms for them, however late they are seen.
        assert len(said) / (clock.monotonic() - began) < now.tokens_per_second < 100
        assert w.host.living() == [agent_id]
        await provider.open("on")
        finish(await w.events(first, agent_id))
        finish(await w.events(second, agent_id))
        now = figures(w, agent_id)
        assert (now.status, now.active, now.queued, now.tokens_per_second) == ("idle", 0, 0, 0)
        assert now.first_token_ms is not None
        assert now.step_ms is not None
        assert now.checkpoint_ms is not None
        assert 0 < now.first_token_ms < now.step_ms
        assert 0 < now.checkpoint_ms < now.step_ms
        assert now.context_tokens is not None
        assert now.context_limit is not None
        assert 0 < now.context_tokens < now.context_limit


async def test_the_status_that_an_event_announces_is_there_when_it_is_heard(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"tool_calls": [INSERT]}, {"text": "fine"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent(tool_rules=(RULE,))
        seen: list[tuple[str, str]] = []

        def look(_channel: object, _offset: int, event: Event) -> None:
            if isinstance(event, RunStarted | RunFinished):
                seen.append((type(event).__name__, figures(w, agent_id).status))

        w.host.logs.watch(agent_id, look)
        events = await w.ask(agent_id)
        asked = finish(events)
        assert [c.name for c in asked.interrupts] == ["memory_insert"]
        assert asked.interrupts_expire_at is not None
        assert figures(w, agent_id).status == "waiting_for_approval"
        await w.host.ref(agent_id).cancel_run(asked.run_id)
        with anyio.fail_after(10):
            while figures(w, agent_id).status != "idle":
                await anyio.sleep(0.005)
        assert finish(await w.ask(agent_id)).interrupts == ()
        assert seen == [
            ("RunStarted", "running"),
            ("RunFinished", "waiting_for_approval"),
            ("RunStarted", "running"),
            ("RunFinished", "idle"),
        ]


async def test_memory_that_is_edited_while_nothing_runs_is_told_to_watchers(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.ask(agent_id)
        heard: list[tuple[object, int, Event]] = []
        w.host.logs.watch(agent_id, lambda channel, offset, event: heard.append((channel, offset, event)))
        for value in ("tea", "coffee"):
            await w.host.ref(agent_id).edit(UpdateBlock(label="human", changes=BlockChanges(value=value)))
        ((channel, offset, first), (_, _, second)) = heard
        assert (channel, offset) == (None, 0)
        assert isinstance(first, BlockChanged)
        assert isinstance(second, BlockChanged)
        assert (first.run_id, first.before, first.value, first.version) == (None, "", "tea", 1)
        assert (second.before, second.value, second.limit) == ("tea", "coffee", 100_000)


async def test_a_compaction_between_runs_is_told(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        for i in range(6):
            await w.ask(agent_id, f"message {i} " + "word " * 50)
        heard: list[Event] = []
        w.host.logs.watch(agent_id, lambda _c, _o, event: heard.append(event))
        await provider.script([{"text": "They talked."}])
        done = await w.host.ref(agent_id).compact(agent_id)
        assert done.message is not None
        told = [e for e in heard if isinstance(e, Compacted)]
        assert [(e.run_id, e.summary_message_id) for e in told] == [(None, done.message.id)]


@given(st.floats(1, 1000), st.lists(st.floats(0.06, 1.0), min_size=2, max_size=30))
def test_a_steady_stream_has_its_rate_however_often_it_is_asked(rate: float, gaps: list[float]) -> None:
    pulse = Pulse()
    pulse.begin(100.0, 5)
    now = 100.0
    for gap in gaps:
        now += gap
        length = 5 + int((now - 100.0) * rate)
        found = pulse.rate(now, length)
        assert abs(found - rate) <= 2 / min(now - 100.0, RATE_WINDOW / 2) + rate * 0.01


def test_a_stream_that_fell_silent_has_no_rate_after_a_while() -> None:
    pulse = Pulse()
    pulse.begin(0.0, 0)
    for second in range(1, 9):
        rate = pulse.rate(float(second), 100)
    assert rate == 0
