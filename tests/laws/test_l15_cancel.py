"""L15: a cancel reaches the run in every phase, at once, and nothing is said after it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from actors import turn
from actors.commons import HostSettings
from actors.events import RunFinished, TextDelta, ToolCallDelta
from actors.llm.wire import Timeouts
from actors.population import Population
from actors.tools import conversation
from actors.turn import TurnRunner
from bench.provider import Provider
from storage import checkpoints
from storage.pool import Pool
from storage.records import Message
from tests.actors.worlds import World
from tests.laws.listeners import own_time
from tests.laws.watching import Client, everything_said, impatient_world, refused, run_status

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

ACK = 0.2  # seconds, 99 of 100 cancels
PATIENT = Timeouts(first_token=60.0, idle=60.0)
ROUNDS = 12  # so that of all cancels one may be the hundredth
ENDS = 10.0  # seconds until a cancelled run must have ended
SEARCH = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "x"}}]}
INSERT = {"tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "kept"}}]}
LONG = "one two three four five six seven eight"


class Case:
    """A run that stands in one phase: `run_id` is to be cancelled."""

    def __init__(
        self, agent_id: str, run_id: str, *, kept: tuple[str, ...] = (), shown: bool = False
    ) -> None:
        self.agent_id = agent_id
        self.run_id = run_id
        self.kept = kept
        self.shown = shown


Phase = Callable[[World], Any]


async def seen(world: World, agent_id: str, run_id: str, kind: type) -> None:
    """Wait until an event of this kind was said in the run."""
    with anyio.fail_after(10):
        async for batch in world.host.ref(agent_id).follow(run_id, agent_id):
            if any(isinstance(logged.event, kind) for logged in batch):
                return


@asynccontextmanager
async def queued(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([{"text": LONG, "gate": "never", "gate_after": 1}])
    agent_id = await world.agent()
    first = await world.tell(agent_id, "a")
    second = await world.tell(agent_id, "b")
    await seen(world, agent_id, first.run_id, TextDelta)
    try:
        yield Case(agent_id, second.run_id)
    finally:
        await world.host.ref(agent_id).cancel()


@asynccontextmanager
async def before_the_first_token(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([{"fault": "hang"}])
    agent_id = await world.agent()
    receipt = await world.tell(agent_id, "a")
    await world.provider.log(requests=1, keep=True)
    yield Case(agent_id, receipt.run_id)


@asynccontextmanager
async def in_mid_stream(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([{"text": LONG, "gap_ms": 3, "fault": "hang_after", "tokens": 5}])
    agent_id = await world.agent()
    receipt = await world.tell(agent_id, "a")
    await seen(world, agent_id, receipt.run_id, TextDelta)
    yield Case(agent_id, receipt.run_id, shown=True)


@asynccontextmanager
async def in_a_call_s_arguments(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([{**INSERT, "fault": "hang_after", "tokens": 2}])
    agent_id = await world.agent()
    receipt = await world.tell(agent_id, "a")
    await seen(world, agent_id, receipt.run_id, ToolCallDelta)
    yield Case(agent_id, receipt.run_id)


@asynccontextmanager
async def in_a_tool(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([INSERT, SEARCH])
    reading, never = anyio.Event(), anyio.Event()

    async def search(*_: object, **__: object) -> str:
        reading.set()
        await never.wait()
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversation, "search", search)
        agent_id = await world.agent()
        receipt = await world.tell(agent_id, "a")
        with anyio.fail_after(10):
            await reading.wait()
        yield Case(agent_id, receipt.run_id, kept=("kept",))


@asynccontextmanager
async def between_steps(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([INSERT, {"fault": "hang"}])
    agent_id = await world.agent()
    receipt = await world.tell(agent_id, "a")
    await world.provider.log(requests=2, keep=True)
    yield Case(agent_id, receipt.run_id, kept=("kept",))


@asynccontextmanager
async def while_it_commits(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([INSERT, {"text": "must not be asked"}])
    committing, go_on = anyio.Event(), anyio.Event()
    commit = checkpoints.commit

    async def slow(*args: Any) -> Any:
        committing.set()
        with anyio.move_on_after(0.05):
            await go_on.wait()
        return await commit(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "commit", slow)
        agent_id = await world.agent()
        receipt = await world.tell(agent_id, "a")
        with anyio.fail_after(10):
            await committing.wait()
        yield Case(agent_id, receipt.run_id, kept=("kept",))


@asynccontextmanager
async def in_a_back_off(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([{"status": 429, "headers": {"retry-after": "30"}}])
    agent_id = await world.agent()
    receipt = await world.tell(agent_id, "a")
    await world.provider.log(ended=1, keep=True)
    yield Case(agent_id, receipt.run_id)


@asynccontextmanager
async def waiting_for_a_slot(world: World) -> AsyncGenerator[Case]:
    await world.provider.script([{"fault": "hang"}])
    agent_id, other = await world.agent(), await world.agent()
    slots = world.host._commons.run_slots
    await world.tell(other, "first")
    await world.provider.log(requests=1, keep=True)
    taken = 0
    while not slots.locked():
        await slots.acquire()
        taken += 1
    receipt = await world.tell(agent_id, "a")
    with anyio.fail_after(10):
        while not getattr(slots, "_waiters", None):
            await anyio.lowlevel.checkpoint()
    try:
        yield Case(agent_id, receipt.run_id)
    finally:
        for _ in range(taken):
            slots.release()
        await world.host.ref(other).cancel()


PHASES: list[Phase] = [
    queued,
    before_the_first_token,
    in_mid_stream,
    in_a_call_s_arguments,
    in_a_tool,
    between_steps,
    while_it_commits,
    in_a_back_off,
    waiting_for_a_slot,
]


async def violations(world: World, phase: Phase, acks: list[float]) -> list[str]:
    """Cancel a run in this phase; return what of the law does not hold. Adds how long the ack took."""
    await world.provider.reset()
    async with phase(world) as case:
        found = await _cancel(world, case, acks)
    found += await _afterwards(world, case)
    return [f"{phase.__name__}: {what}" for what in found]


async def _cancel(world: World, case: Case, acks: list[float]) -> list[str]:
    begun = own_time()
    said = await world.host.ref(case.agent_id).cancel((case.run_id,))
    acks.append(own_time() - begun)
    return [] if said == {case.run_id: "cancelled"} else [f"answered {said}"]


async def _afterwards(world: World, case: Case, *, known: list[Message] | None = None) -> list[str]:
    found: list[str] = []
    agent_id = case.agent_id
    ends: list[RunFinished] = []
    with anyio.move_on_after(ENDS):
        async for batch in world.host.ref(agent_id).follow(case.run_id, agent_id):
            ends += [e.event for e in batch if isinstance(e.event, RunFinished)]
    if [e.status for e in ends] != ["cancelled"]:
        return [f"ended {ends}"]
    if (status := await run_status(world.pool, case.run_id)) != "cancelled":
        found.append(f"stored as {status}")
    await world.provider.reset()
    again = await world.ask(agent_id, "still there?")
    if [e.status for e in again if isinstance(e, RunFinished)] != ["completed"]:
        found.append("the next message was not answered")
    found += refused(await world.provider.log())
    client = Client()
    client.committed = {m.id: m for m in known or () if m.position > 0}
    client.take(everything_said(world, agent_id))
    stored = await world.messages(agent_id)
    unread = {m.id for m in stored if m.excluded}  # input of a run that never began is listed, not told
    found += client.disagreements([m for m in stored if m.id not in unread - client.committed.keys()])
    mine = [m for m in stored if m.run_id == case.run_id]
    if not any(m.role == "user" for m in mine):
        found.append("its input is not listed")
    if case.shown and not any(m.role == "assistant" and m.interrupted for m in mine):
        found.append("what was shown is not kept as interrupted")
    if case.kept and await world.value(agent_id) != "\n".join(case.kept):
        found.append("a committed step is gone")
    return found


def p99(values: list[float]) -> float:
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]


@pytest.mark.alone
@pytest.mark.timeout(240)
async def test_a_cancel_reaches_the_run_in_every_phase(pool: Pool, provider: Provider) -> None:
    found: list[str] = []
    acks: list[float] = []
    async with impatient_world(pool, provider, timeouts=PATIENT) as world:
        await world.ask(await world.agent(), "warm")
        for phase in PHASES * ROUNDS:
            found += await violations(world, phase, acks)
        assert world.host.health().unfinished_runs == 0
    assert len(acks) >= 100
    assert not found, "\n".join(found)
    print(f"{len(acks)} cancels, p50 {sorted(acks)[len(acks) // 2]:.4f} s, p99 {p99(acks):.4f} s")
    assert p99(acks) <= ACK


@pytest.mark.timeout(180)
async def test_a_run_is_cancelled_in_the_life_after_a_crash(pool: Pool, provider: Provider) -> None:
    found: list[str] = []
    settings = HostSettings(drain_seconds=0)
    cases: list[Case] = []
    async with impatient_world(pool, provider, settings=settings, timeouts=PATIENT) as world:
        await provider.script([INSERT, {"fault": "hang", "repeat": "forever"}])
        agent_id = await world.agent()
        receipt = await world.tell(agent_id, "a")
        waiting = await world.tell(agent_id, "b")
        await provider.log(requests=2, keep=True)
        cases = [
            Case(agent_id, waiting.run_id, kept=("kept",)),
            Case(agent_id, receipt.run_id, kept=("kept",)),
        ]
    acks: list[float] = []
    async with impatient_world(pool, provider, timeouts=PATIENT) as world:
        known = await world.messages(agent_id)  # a client reads the history anew when the log is new
        for case in cases:
            found += await _cancel(world, case, acks)
        for case in cases:
            found += await _afterwards(world, case, known=known)
    assert not found, "\n".join(found)


# --- planted bugs ---------------------------------------------------------------------------------


async def _found(pool: Pool, provider: Provider, phase: Phase) -> list[str]:
    settings = HostSettings(drain_seconds=0)
    async with impatient_world(pool, provider, settings=settings, timeouts=PATIENT) as world:
        return await violations(world, phase, [])


async def test_a_cancel_that_only_answers_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.laws.test_l15_cancel.ENDS", 3.0)
    monkeypatch.setattr(TurnRunner, "cancel", lambda self: None)
    assert await _found(pool, provider, before_the_first_token) != []


async def test_a_cancel_that_says_nothing_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.laws.test_l15_cancel.ENDS", 3.0)
    settle = Population.settle

    async def silent(self: Population, *args: Any, **kwargs: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("actors.channels.Channel.publish", lambda self, *events: None)
            await settle(self, *args, **kwargs)

    monkeypatch.setattr(Population, "settle", silent)
    assert await _found(pool, provider, queued) != []


async def test_text_that_is_lost_by_a_cancel_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = TurnRunner._draft

    def empty(self: TurnRunner, answer: Any, prepared: Any, status: Any, refused: Any) -> Any:
        return draft(self, None if status == "cancelled" else answer, [], status, refused)

    monkeypatch.setattr(TurnRunner, "_draft", empty)
    assert await _found(pool, provider, in_mid_stream) != []


async def test_a_token_after_the_end_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = turn.apply

    def chatty(runner: TurnRunner, draft: Any, commit_ns: int) -> None:
        message_id = runner.answer.message_id if runner.answer is not None else ""
        apply(runner, draft, commit_ns)
        if runner.cancelled:
            runner.channel.publish(TextDelta(runner.run_id, message_id, "late"))

    monkeypatch.setattr(turn, "apply", chatty)
    assert await _found(pool, provider, in_mid_stream) != []
