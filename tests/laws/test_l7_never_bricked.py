"""L7: whatever happened to an agent, its next message is answered, with a request that providers take."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest

from actors import window
from actors.agent import Actor
from actors.commons import HostSettings
from actors.events import RunFinished
from bench.provider import Provider
from storage.pool import Pool, connection
from storage.records import Part, TextPart, ToolCallPart, ToolReturnPart
from tests.actors.worlds import World
from tests.laws.watching import crash, hasty_clock, impatient_world, refused, until

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

SEED = 7
KILLS = 24
TWO = {
    "tool_calls": [
        {"name": "memory_insert", "arguments": {"label": "human", "new_string": "a fact"}},
        {"name": "conversation_search", "arguments": {"query": "x"}},
    ]
}
ONE = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "y"}}]}
OVERFLOW = {"error": {"message": "maximum context length exceeded", "code": "context_length_exceeded"}}

Corruption = Callable[[World, str], Awaitable[None]]


async def violations(world: World, agent_id: str, *, what: str, seconds: float = 10) -> list[str]:
    """Send the next message; return what of the law does not hold."""
    await world.provider.reset()
    found: list[str] = []
    with anyio.move_on_after(seconds) as waited:
        events = await world.ask(agent_id, "still there?")
        ends = [e for e in events if isinstance(e, RunFinished)]
        if [e.status for e in ends] != ["completed"]:
            found.append(f"the next message ended {ends}")
    if waited.cancelled_caught:
        found.append("the next message was not answered")
    records = await world.provider.log()
    found += refused(records)
    if not records or "still there?" not in records[-1].user_text:
        found.append("the model was not asked")
    return [f"{what}: {complaint}" for complaint in found]


# --- killed anywhere ------------------------------------------------------------------------------


@pytest.mark.timeout(240)
async def test_a_host_that_dies_anywhere_leaves_agents_that_answer(pool: Pool, provider: Provider) -> None:
    """The host is dropped after a random number of turns of the event loop, and another one goes on."""
    rng = random.Random(SEED)
    found: list[str] = []
    agent_id = ""
    with hasty_clock():
        for life in range(KILLS):
            await provider.reset()
            script = [TWO, {"text": "one two three", "gap_ms": 2}, ONE, {"text": "done", "gap_ms": 1}]
            await provider.script(script)
            async with impatient_world(pool, provider) as world:
                agent_id = agent_id or await world.agent()
                await world.tell(agent_id, f"message {life}")
                await _pass(world, agent_id, rng.choice((0, 1, 2, 3, 5, 8, 13, 21)))
                crash(world.host)
            async with impatient_world(pool, provider) as world:
                found += await violations(world, agent_id, what=f"life {life}")
    assert not found, "\n".join(found)


async def _pass(world: World, agent_id: str, events: int) -> None:
    """Let so many events of the agent's log pass, or its run end."""
    channel = world.host.logs.channel(agent_id, agent_id)
    await until(lambda: channel.next > events, seconds=2)


# --- corrupt rows ---------------------------------------------------------------------------------


async def _rows(world: World, agent_id: str) -> list[Any]:
    async with connection(world.pool) as conn:
        return await conn.fetch(
            "select id, position, role, content from messages"
            " where conversation_id = $1 and position > 0 order by position",
            agent_id,
        )


async def _delete(world: World, agent_id: str, role: str, number: int = 0) -> None:
    row = [r for r in await _rows(world, agent_id) if r["role"] == role][number]
    async with connection(world.pool) as conn:
        await conn.execute("delete from messages where id = $1", row["id"])


async def _rewrite(world: World, row: Any, parts: tuple[Part, ...]) -> None:
    async with connection(world.pool) as conn:
        await conn.execute(
            "update messages set content = $2 where id = $1", row["id"], msgspec.json.encode(parts)
        )


async def no_result(world: World, agent_id: str) -> None:
    await _delete(world, agent_id, "tool")


async def no_last_result(world: World, agent_id: str) -> None:
    await _delete(world, agent_id, "tool", -1)
    await _delete(world, agent_id, "assistant", -1)


async def no_caller(world: World, agent_id: str) -> None:
    rows = [
        r for r in await _rows(world, agent_id) if b"tool_call" in r["content"] and r["role"] == "assistant"
    ]
    async with connection(world.pool) as conn:
        await conn.execute("delete from messages where id = $1", rows[0]["id"])


async def no_middle(world: World, agent_id: str) -> None:
    rows = await _rows(world, agent_id)
    async with connection(world.pool) as conn:
        await conn.execute("delete from messages where id = $1", rows[len(rows) // 2]["id"])


async def nothing_left(world: World, agent_id: str) -> None:
    async with connection(world.pool) as conn:
        await conn.execute("delete from messages where conversation_id = $1 and position > 0", agent_id)


async def one_result_of_two(world: World, agent_id: str) -> None:
    row = next(r for r in await _rows(world, agent_id) if r["role"] == "tool")
    parts = msgspec.json.decode(row["content"], type=tuple[Part, ...])
    await _rewrite(world, row, parts[:1])


async def a_result_twice(world: World, agent_id: str) -> None:
    row = next(r for r in await _rows(world, agent_id) if r["role"] == "tool")
    parts = msgspec.json.decode(row["content"], type=tuple[Part, ...])
    await _rewrite(world, row, (*parts, *parts))


async def an_orphan(world: World, agent_id: str) -> None:
    row = next(r for r in await _rows(world, agent_id) if r["role"] == "tool")
    parts = msgspec.json.decode(row["content"], type=tuple[Part, ...])
    orphan = ToolReturnPart("call_from_nowhere", "conversation_search", "success", "[]")
    await _rewrite(world, row, (orphan, *parts))


async def an_orphan_row(world: World, agent_id: str) -> None:
    orphan = (ToolReturnPart("call_from_nowhere", "conversation_search", "success", "[]"),)
    async with connection(world.pool) as conn:
        await conn.execute(
            "insert into messages (id, conversation_id, position, agent_id, organization_id, role, content)"
            " select $2, c.id, c.end_position, c.agent_id, c.organization_id, 'tool', $3"
            "   from conversations_now c where c.id = $1",
            agent_id,
            f"message-orphan-{agent_id[6:]}",
            msgspec.json.encode(orphan),
        )
        await conn.execute("update conversations set end_position = end_position + 1 where id = $1", agent_id)


async def the_same_id_twice(world: World, agent_id: str) -> None:
    row = next(r for r in await _rows(world, agent_id) if b"tool_call" in r["content"])
    parts = msgspec.json.decode(row["content"], type=tuple[Part, ...])
    calls = [p for p in parts if isinstance(p, ToolCallPart)]
    await _rewrite(world, row, (*parts, calls[0]))


async def results_of_no_kind(world: World, agent_id: str) -> None:
    row = next(r for r in await _rows(world, agent_id) if r["role"] == "tool")
    await _rewrite(world, row, (TextPart("this is no result"),))


async def an_empty_row(world: World, agent_id: str) -> None:
    for row in await _rows(world, agent_id):
        if row["role"] == "assistant":
            await _rewrite(world, row, ())


async def a_window_that_begins_in_a_pair(world: World, agent_id: str) -> None:
    row = next(r for r in await _rows(world, agent_id) if r["role"] == "tool")
    async with connection(world.pool) as conn:
        await conn.execute(
            "update conversations set from_position = $2 where id = $1", agent_id, row["position"]
        )


CORRUPTIONS: list[Corruption] = [
    no_result,
    no_last_result,
    no_caller,
    no_middle,
    nothing_left,
    one_result_of_two,
    a_result_twice,
    an_orphan,
    an_orphan_row,
    the_same_id_twice,
    results_of_no_kind,
    an_empty_row,
    a_window_that_begins_in_a_pair,
]


async def corrupted(world: World, corruption: Corruption) -> list[str]:
    """Break an agent's rows while it sleeps; return what of the law does not hold when it wakes."""
    await world.provider.reset()
    await world.provider.script([TWO, ONE, {"text": "well"}])
    agent_id = await world.agent()
    await world.ask(agent_id, "first")
    world.host._population.drop(world.host._population.hot[agent_id])
    await corruption(world, agent_id)
    return [
        *await violations(world, agent_id, what=corruption.__name__),
        *await violations(world, agent_id, what=f"{corruption.__name__}, once more"),
    ]


@pytest.mark.timeout(180)
async def test_an_agent_with_corrupt_rows_answers(pool: Pool, provider: Provider) -> None:
    found: list[str] = []
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            for corruption in CORRUPTIONS:
                found += await corrupted(world, corruption)
    assert not found, "\n".join(found)


# --- the window's edge at every boundary ------------------------------------------------------------


@pytest.mark.timeout(180)
async def test_a_window_that_ends_at_any_boundary_is_answered(pool: Pool, provider: Provider) -> None:
    found: list[str] = []
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            await provider.script([TWO, ONE, {"text": "well"}] * 3)
            agent_id = await world.agent()
            for i in range(3):
                await world.ask(agent_id, f"message {i} " * 9)
            actor = await world.host._population.wake(agent_id)
            entries = list(actor.threads[agent_id].entries)
            total = sum(e.tokens for e in entries)
            fixed = actor.threads[agent_id].system_tokens + actor.toolbox.tokens + 40
            for spare in range(0, total + 20, max(1, total // 40)):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(actor.threads[agent_id], "entries", list(entries))
                    patch.setattr(actor.threads[agent_id], "tokens", total)
                    tokens = int((fixed + spare) * 4 / 3) + 1
                    patch.setattr("actors.turn.TurnRunner._choose_model", _with_window(tokens))
                    found += await violations(world, agent_id, what=f"{spare} tokens to spare")
    assert not found, "\n".join(found)


def _with_window(tokens: int) -> Callable[[Any], None]:
    from actors.turn import TurnRunner

    choose = TurnRunner._choose_model

    def chosen(self: TurnRunner) -> None:
        choose(self)
        self.window_tokens = tokens

    return chosen


@pytest.mark.timeout(180)
@pytest.mark.parametrize("shrinks", [1, 2, 3, 9])
async def test_a_provider_that_finds_a_step_too_long_never_bricks_the_agent(
    pool: Pool, provider: Provider, shrinks: int
) -> None:
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            agent_id = await world.agent()
            for i in range(3):
                await world.ask(agent_id, f"message {i} " * 30)
            await provider.script(
                [TWO, {"status": 400, "body": OVERFLOW, "repeat": shrinks}, {"text": "well"}]
            )
            await world.ask(agent_id, "search")
            found = refused(await provider.log())
            found += await violations(world, agent_id, what=f"{shrinks} shrinks in the second step")
    assert not found, "\n".join(found)


@pytest.mark.timeout(180)
async def test_what_a_provider_refuses_in_a_later_step_is_never_sent_again(
    pool: Pool, provider: Provider
) -> None:
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            agent_id = await world.agent()
            await world.ask(agent_id, "fine")
            await provider.script([TWO, {"status": 400}])
            await world.ask(agent_id, "leads to poison")
            await provider.log()
            found = await _sent_again(world, agent_id)
        async with impatient_world(pool, provider) as world:
            found += await _sent_again(world, agent_id)
    assert not found, "\n".join(found)


async def _sent_again(world: World, agent_id: str) -> list[str]:
    """Say whether the results that a provider refused are in the next request."""
    await world.provider.reset()
    await world.ask(agent_id, "still there?")
    (record,) = await world.provider.log()
    found = refused([record])
    if any(m["role"] == "tool" for m in record.body["messages"]):
        found.append("what was refused is sent again")
    if not any(m["content"] == "fine" for m in record.body["messages"] if m["role"] == "user"):
        found.append("more was forgotten than what was refused")
    return found


# --- planted bugs ---------------------------------------------------------------------------------


async def test_a_history_that_is_loaded_as_it_is_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "repair", lambda messages: window.Repaired(tuple(messages)))
    found: list[str] = []
    with hasty_clock():
        async with impatient_world(pool, provider, settings=HostSettings(drain_seconds=0)) as world:
            for corruption in (no_result, no_caller, one_result_of_two, an_orphan_row, the_same_id_twice):
                caught = await corrupted(world, corruption)
                found += [] if caught else [corruption.__name__]
    assert found == []


async def test_an_eviction_that_splits_pairs_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def split(entries: list[window.Entry], window_tokens: int) -> window.Fit:
        start = next(i for i, e in enumerate(entries) if e.role == "tool")
        return window.Fit(start, entries[start].position, start, 0)

    with hasty_clock():
        async with impatient_world(pool, provider, settings=HostSettings(drain_seconds=0)) as world:
            await provider.script([TWO, {"text": "well"}])
            agent_id = await world.agent()
            await world.ask(agent_id, "first")
            monkeypatch.setattr(window, "fit", split)
            monkeypatch.setattr("actors.turn.TurnRunner._choose_model", _with_window(100))
            assert await violations(world, agent_id, what="planted") != []


async def test_an_agent_that_never_wakes_again_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hasty_clock():
        async with impatient_world(pool, provider, settings=HostSettings(drain_seconds=0)) as world:
            agent_id = await world.agent()
            await world.ask(agent_id, "first")
            monkeypatch.setattr(Actor, "_schedule", lambda self, thread: None)
            assert await violations(world, agent_id, what="planted", seconds=1) != []
