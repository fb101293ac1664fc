"""However a run ends, and wherever it is cut off, what its log says is balanced."""

import time
from typing import Any

import anyio
import pytest

from actors.commons import HostSettings
from actors.errors import NothingToCancelError
from actors.events import (
    Event,
    MessageCommitted,
    ReasoningDelta,
    Retracted,
    RunFinished,
    RunStarted,
    StepFinished,
    StepTimed,
    TextDelta,
    ToolReturned,
)
from bench.provider import Provider
from storage.pool import Pool
from tests.actors.balanced import complaints
from tests.actors.worlds import World, committed, finish, world

SEARCH = {"name": "conversation_search", "arguments": {"query": "tea"}}
INSERT = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "tea"}}
# Two steps of thought, text, a call that is awaited and one that is settled at the commit.
BUSY = {"reasoning": "so so", "text": "Hello there", "tool_calls": [SEARCH, INSERT], "repeat": "forever"}
STEPS = 2


def said(w: World, agent_id: str) -> list[Event]:
    """Return the whole log of an agent's default conversation."""
    segments = w.host.logs.channel(agent_id, agent_id).segments
    return [event for segment in segments for event in segment.read(segment.start)]


async def until_quiet(w: World) -> None:
    """Wait until no run is unfinished."""
    with anyio.fail_after(30):
        while w.host.health().unfinished_runs:
            await anyio.sleep(0.01)


class Crash:
    """Crashes the turn at the `at`-th event that its agent says, once."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.heard = 0
        self.run: str | None = None

    def __call__(self, _channel: object, _offset: int, event: Event) -> None:
        self.heard += 1
        if self.heard == self.at:
            raise RuntimeError(f"crashed at {type(event).__name__}")


@pytest.mark.timeout(90)  # dozens of lives
@pytest.mark.parametrize("rest", [0, 1, 2])
async def test_a_crash_at_any_event_leaves_a_balanced_log_that_tells_all(
    pool: Pool, provider: Provider, rest: int
) -> None:
    await provider.script([BUSY])
    async with world(pool, provider) as w:
        at = rest - 2
        while True:
            at += 3
            agent_id = await w.agent()
            crash = Crash(at)
            w.host.logs.watch(agent_id, crash)
            await w.tell(agent_id, "hi", max_steps=STEPS)
            await until_quiet(w)
            events = said(w, agent_id)
            assert complaints(events) == [], f"crashed at event {at}"
            ends = [e for e in events if isinstance(e, RunFinished)]
            assert [e.stop_reason for e in ends] == ["max_steps"]
            stored = [m.id for m in await w.messages(agent_id) if m.position > 0]
            told = [e.message.id for e in events if isinstance(e, MessageCommitted)]
            assert list(dict.fromkeys(told)) == stored
            if crash.heard < at:
                break
        assert at > 30, "every kind of event was met"


@pytest.mark.timeout(90)
async def test_a_cancel_at_any_event_leaves_a_balanced_log(pool: Pool, provider: Provider) -> None:
    await provider.script([{**BUSY, "gap_ms": 2}])
    async with world(pool, provider) as w:
        ends: set[str] = set()
        for at in range(1, 34):
            agent_id = await w.agent()
            heard = 0

            async def cancel(agent_id: str = agent_id) -> None:
                try:
                    await w.host.ref(agent_id).cancel()
                except NothingToCancelError:
                    return

            def count(
                _channel: object, _offset: int, _event: Event, at: int = at, stop: Any = cancel
            ) -> None:
                nonlocal heard
                heard += 1
                if heard == at:
                    w.host.spawn(stop)

            unwatch = w.host.logs.watch(agent_id, count)
            await w.tell(agent_id, "hi", max_steps=STEPS)
            await until_quiet(w)
            unwatch()
            events = said(w, agent_id)
            assert complaints(events) == [], f"cancelled at event {at}"
            assert isinstance(events[-1], RunFinished)
            ends.add(events[-1].status)
        assert "cancelled" in ends


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 400, "body": {"error": {"message": "no"}}},
        {"fault": "cut_after", "tokens": 2, **BUSY},
        {"fault": "bad_json_event", "tokens": 3, **BUSY},
        {"fault": "error_event", "tokens": 4, **BUSY},
        {"fault": "garbage"},
        {"text": "I may not", "finish_reason": "content_filter"},
        {"text": "much too", "finish_reason": "length"},
        {"tool_calls": [{"name": "memory_insert", "arguments": "[]"}], "repeat": "forever"},
    ],
)
async def test_a_run_that_fails_is_balanced(pool: Pool, provider: Provider, reply: dict[str, Any]) -> None:
    await provider.script([reply])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id))
        assert complaints(said(w, agent_id)) == []


async def test_a_new_life_s_log_begins_with_the_run_and_what_it_committed(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{**BUSY, "repeat": 1}, {"fault": "hang"}, {"text": "done"}])
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id, "remember")
        later = await w.tell(agent_id, "and then?")
        await provider.log(requests=2, keep=True)
    async with world(pool, provider) as w:
        finish(await w.events(later, agent_id))
        first, *rest = said(w, agent_id)
        assert isinstance(first, RunStarted)
        assert (first.run_id, first.attempt) == (receipt.run_id, 2)
        kept = [e for e in rest[:3] if isinstance(e, MessageCommitted)]
        assert committed(list(kept)) == (await w.history(agent_id))[:3]
        assert complaints([first, *rest]) == []


async def test_what_was_shown_is_retracted_before_the_next_attempt(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three"}, {"text": "four"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        shown: list[str] = []

        def crash(_channel: object, _offset: int, event: Event) -> None:
            if isinstance(event, TextDelta):
                shown.append(event.text)
                if len(shown) == 1:
                    raise RuntimeError("crashed while speaking")

        w.host.logs.watch(agent_id, crash)
        finish(await w.ask(agent_id))
        kinds = [type(e) for e in said(w, agent_id)]
        again = len(kinds) - 1 - kinds[::-1].index(RunStarted)
        assert kinds.index(TextDelta) < kinds.index(Retracted) < again
        assert complaints(said(w, agent_id)) == []


async def test_every_call_s_end_is_told_once_before_its_message(pool: Pool, provider: Provider) -> None:
    refused = {"name": "no_such_tool", "arguments": {}}
    await provider.script([{"tool_calls": [INSERT, SEARCH, refused]}, {"text": "ok"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        events = await w.ask(agent_id)
        ends = [(e.name, e.status) for e in events if isinstance(e, ToolReturned)]
        assert sorted(ends) == [
            ("conversation_search", "success"),
            ("memory_insert", "success"),
            ("no_such_tool", "error"),
        ]
        place = {type(e).__name__: i for i, e in enumerate(events)}
        results = [
            i for i, e in enumerate(events) if isinstance(e, MessageCommitted) and e.message.role == "tool"
        ]
        assert [i for i, e in enumerate(events) if isinstance(e, ToolReturned)][-1] < results[0]
        assert place["RunFinished"] == len(events) - 1


GATED = {"gate": "on", "gate_after": 3}


async def reasons(w: World, agent_id: str, run_id: str) -> None:
    """Wait until something of the model's reasoning was heard."""
    with anyio.fail_after(15):
        async for batch in w.host.ref(agent_id).follow(run_id, agent_id):
            if any(isinstance(e.event, ReasoningDelta) for e in batch):
                return


async def test_a_step_says_where_its_time_went_right_after_its_end(pool: Pool, provider: Provider) -> None:
    await provider.script(
        [
            {"reasoning": "so", "text": "a b c", "tool_calls": [SEARCH], "delay_ms": 30, **GATED},
            {"text": "x"},
        ]
    )
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id)
        await reasons(w, agent_id, receipt.run_id)
        seen_ns = time.monotonic_ns()
        await anyio.sleep(0.02)
        opened_ns = time.monotonic_ns()
        await provider.open("on")
        events = await w.events(receipt, agent_id)
        steps = [i for i, e in enumerate(events) if isinstance(e, StepFinished)]
        timed = [events[i + 1] for i in steps]
        first, second = (e for e in timed if isinstance(e, StepTimed))
        finished = events[steps[0]]
        assert isinstance(finished, StepFinished)
        assert (first.timing, first.usage, first.step_id) == (
            finished.timing,
            finished.usage,
            finished.step_id,
        )
        # A timer of 30 ms rings up to 1 ms early, and a machine that is late may add to the sending.
        assert first.timing.send + first.timing.first_token >= 29e6
        assert first.timing.first_token > 0
        assert first.timing.stream >= opened_ns - seen_ns >= 20e6
        assert min(first.timing.queue, first.timing.prompt, first.timing.tools, first.timing.checkpoint) > 0
        assert second.timing.queue == 0, "only the first step of a turn waited for it"


async def test_a_step_that_was_cut_off_says_how_far_it_came(pool: Pool, provider: Provider) -> None:
    await provider.script([{"reasoning": "so", "text": "a b c", "delay_ms": 30, **GATED}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id)
        await reasons(w, agent_id, receipt.run_id)
        await w.host.ref(agent_id).cancel_run(receipt.run_id)
        (timed,) = [e for e in await w.events(receipt, agent_id) if isinstance(e, StepTimed)]
        assert timed.timing.send + timed.timing.first_token >= 29e6
        assert timed.timing.stream > 0
        assert timed.timing.tools == 0


@pytest.mark.alone
async def test_the_first_step_says_what_came_before_it(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a b c", "delay_ms": 200, "repeat": 2}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        (cold,) = [e.timing for e in await w.ask(agent_id) if isinstance(e, StepTimed)]
        (hot,) = [e.timing for e in await w.ask(agent_id) if isinstance(e, StepTimed)]
    assert cold.send > 0
    assert cold.first_token >= 100e6, "the wait for the model is not the sending"
    assert cold.claim > 0, "the agent was not in memory"
    assert hot.claim == 0
    assert hot.accept > 0, "the message was made durable"
    assert hot.send < hot.first_token, "it was sent meanwhile"
    assert hot.accept + hot.queue + hot.prompt + hot.send + hot.first_token >= 199e6
    assert cold.delivery > 0
    assert hot.delivery > 0
