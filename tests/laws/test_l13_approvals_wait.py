"""Approvals wait: a request survives whatever happens to its process, is answered once and bricks nothing."""

import random
from typing import Any

import pytest

from actors.commands import ResetMessages
from actors.commons import HostSettings
from actors.errors import PendingApprovalError
from actors.thread import Thread
from bench.provider import Provider
from storage import extras, pending
from storage.pool import Pool, connection
from storage.records import ApprovalPart, Message, ToolCallPart, ToolReturnPart
from tests.actors.worlds import World, finish
from tests.laws.watching import crash, hasty_clock, impatient_world, refused, unfinished, until

pytestmark = [pytest.mark.law, pytest.mark.timeout(240)]

SEED = 13
LIVES = 12
RULE: dict[str, Any] = {"type": "requires_approval", "tool_name": "memory_insert"}
YES = (ApprovalPart("call-1", approve=True),)
NO_DRAIN = HostSettings(drain_seconds=0)
QUEUEING = HostSettings(drain_seconds=0, when_pending="queue")


def asking(call_id: str = "call-1", line: str = "Likes tea") -> dict[str, Any]:
    """Return a model's message that asks for a call which needs approval."""
    arguments = {"label": "human", "new_string": line}
    return {
        "text": "May I?",
        "tool_calls": [{"name": "memory_insert", "arguments": arguments, "id": call_id}],
    }


async def parked(world: World, provider: Provider, **settings: Any) -> str:
    """Create an agent that waits for an answer; return its id."""
    await provider.script([asking()])
    agent_id = await world.agent(tool_rules=(RULE,), **settings)
    assert finish(await world.ask(agent_id, "I like tea")).stop_reason == "requires_approval"
    return agent_id


async def open_requests(pool: Pool, agent_id: str) -> list[str]:
    """Return the calls that wait, as the database has them."""
    async with connection(pool) as conn:
        return [call.id for request in await pending.of_agent(conn, agent_id) for call in request.calls]


def unpaired(messages: list[Message]) -> list[str]:
    """Say which calls of a history have not exactly one result."""
    calls = [p.id for m in messages for p in m.content if isinstance(p, ToolCallPart)]
    returns = [
        p.tool_call_id
        for m in messages
        if m.role == "tool"
        for p in m.content
        if isinstance(p, ToolReturnPart)
    ]
    return [
        f"{call_id}: {returns.count(call_id)} results" for call_id in calls if returns.count(call_id) != 1
    ]


async def wrong(world: World, agent_id: str, *, value: str = "Likes tea") -> list[str]:
    """Answer a last message, and say what is not as it should be once a request is answered."""
    found: list[str] = []
    if await open_requests(world.pool, agent_id):
        found.append("the request still waits")
    if await world.value(agent_id) != value:
        found.append(f"the block holds {await world.value(agent_id)!r}")
    try:
        if finish(await world.ask(agent_id, "still there?", model="openai/echo")).status != "completed":
            found.append("the next message failed")
    except PendingApprovalError:
        found.append("the next message was refused")
    found += unpaired(await world.messages(agent_id))
    found += refused(await world.provider.log())
    return found + [f"commands left: {left}" for left in [await unfinished(world.pool)] if left]


async def test_a_request_outlives_any_number_of_kills(pool: Pool, provider: Provider) -> None:
    with hasty_clock():
        async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
            agent_id = await parked(world, provider)
            crash(world.host)
        for _ in range(4):
            async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
                with pytest.raises(PendingApprovalError):
                    await world.tell(agent_id, "hello?")
                await world.host._population.wake(agent_id)
                crash(world.host)
        async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
            assert await open_requests(pool, agent_id) == ["call-1"]
            await world.ask(agent_id, "", messages=(), approvals=YES)
            assert await wrong(world, agent_id) == []


async def kills_around_the_answer(pool: Pool, provider: Provider, *, lives: int) -> list[str]:
    """Kill hosts at random moments of asking and answering; say what is wrong in the end."""
    rng = random.Random(SEED)
    found: list[str] = []
    with hasty_clock():
        for life in range(lives):
            await provider.reset()
            await provider.script([asking(), {"text": "Noted. " * 8, "gap_ms": 1}])
            async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
                agent_id = await world.agent(tool_rules=(RULE,))
                await world.ask(agent_id, "I like tea")
                receipt = await world.tell(agent_id, "", messages=(), approvals=YES)
                channel = world.host.logs.channel(agent_id, agent_id)
                seen = channel.next + rng.randrange(12)
                await until(lambda channel=channel, seen=seen: channel.next > seen, seconds=1)
                crash(world.host)
            async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
                await world.host._population.wake(agent_id)
                await until(lambda world=world: not world.host.health().unfinished_runs)
                async with connection(pool) as conn:
                    status = await conn.fetchval("select status from runs where id = $1", receipt.run_id)
                if status != "completed":
                    found.append(f"life {life}: the answer's run is {status}")
                found += [f"life {life}: {x}" for x in await wrong(world, agent_id)]
    return found


async def test_an_accepted_answer_is_carried_out_once_whenever_the_host_dies(
    pool: Pool, provider: Provider
) -> None:
    assert await kills_around_the_answer(pool, provider, lives=LIVES) == []


async def queued_behind(pool: Pool, provider: Provider) -> list[str]:
    """Queue a message behind a request, answer the request, and say what is wrong with the message."""
    async with impatient_world(pool, provider, settings=QUEUEING) as world:
        agent_id = await parked(world, provider)
        receipt = await world.tell(agent_id, "hello?")
        await world.ask(agent_id, "", messages=(), approvals=YES)
        ended = finish(await world.events(receipt, agent_id))
        found = [] if ended.stop_reason == "end_turn" else [f"it ended {ended.stop_reason}"]
        return found + await wrong(world, agent_id)


async def test_a_message_that_is_queued_meanwhile_is_answered_after_the_request(
    pool: Pool, provider: Provider
) -> None:
    assert await queued_behind(pool, provider) == []


async def test_a_message_that_waits_behind_a_request_is_no_dead_letter(
    pool: Pool, provider: Provider
) -> None:
    """Every life finds it at the head of its conversation, and none of them may count that against it."""
    with hasty_clock():
        async with impatient_world(pool, provider, settings=QUEUEING) as world:
            agent_id = await parked(world, provider)
            receipt = await world.tell(agent_id, "hello?")
            crash(world.host)
        for _ in range(5):
            async with impatient_world(pool, provider, settings=QUEUEING) as world:
                await world.host._population.wake(agent_id)
                crash(world.host)
        async with impatient_world(pool, provider, settings=QUEUEING) as world:
            await world.ask(agent_id, "", messages=(), approvals=YES)
            assert finish(await world.events(receipt, agent_id)).status == "completed"
            assert await wrong(world, agent_id) == []


async def test_a_request_outlives_passivation(pool: Pool, provider: Provider) -> None:
    async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
        agent_id = await parked(world, provider)
        actor = await world.host._population.wake(agent_id)
        await until(lambda: actor.idle)
        world.host._population.drop(actor)
        with pytest.raises(PendingApprovalError):
            await world.tell(agent_id, "hello?")
        await world.ask(agent_id, "", messages=(), approvals=YES)
        assert await wrong(world, agent_id) == []


async def test_a_request_outlives_the_emptying_of_its_window(pool: Pool, provider: Provider) -> None:
    """Compaction may evict everything but the step that waits, in memory and after a restart."""
    with hasty_clock():
        async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
            agent_id = await parked(world, provider, message_buffer_autoclear=True)
            receipt = await world.tell(agent_id, "", messages=(), approvals=YES)
            assert finish(await world.events(receipt, agent_id)).status == "completed"
            crash(world.host)
        async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
            assert await wrong(world, agent_id) == []


async def test_a_reset_ends_the_request(pool: Pool, provider: Provider) -> None:
    async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
        agent_id = await parked(world, provider)
        await world.host.ref(agent_id).edit(ResetMessages(agent_id))
        assert await open_requests(pool, agent_id) == []
        assert finish(await world.ask(agent_id, "hello?")).status == "completed"
        assert refused(await provider.log()) == []


@pytest.mark.parametrize("killed", [False, True])
async def test_a_cancel_ends_the_request_and_the_agent_goes_on(
    pool: Pool, provider: Provider, killed: bool
) -> None:
    with hasty_clock():
        async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
            agent_id = await parked(world, provider)
            await world.host.ref(agent_id).cancel()
            assert await open_requests(pool, agent_id) == []
            if killed:
                crash(world.host)
        async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
            assert await wrong(world, agent_id, value="") == []


async def test_of_two_answers_at_once_one_is_carried_out(pool: Pool, provider: Provider) -> None:
    no = (ApprovalPart("call-1", approve=False),)
    async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
        agent_id = await parked(world, provider)
        await provider.script([{"text": "Noted.", "delay_ms": 50}, {"text": "As I said."}])
        first = await world.tell(agent_id, "", messages=(), approvals=YES)
        second = await world.tell(agent_id, "", messages=(), approvals=no)
        assert finish(await world.events(first, agent_id)).status == "completed"
        assert finish(await world.events(second, agent_id)).status == "completed"
        assert await wrong(world, agent_id) == []


async def test_an_answer_that_came_too_late_leaves_the_next_request_alone(
    pool: Pool, provider: Provider
) -> None:
    async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
        agent_id = await parked(world, provider)
        await provider.script([{**asking("call-2", "Likes cake"), "delay_ms": 50}])
        first = await world.tell(agent_id, "", messages=(), approvals=YES)
        late = await world.tell(agent_id, "and this", approvals=YES)
        assert finish(await world.events(first, agent_id)).stop_reason == "requires_approval"
        assert finish(await world.events(late, agent_id)).stop_reason == "requires_approval"
        assert await open_requests(pool, agent_id) == ["call-2"]
        await world.ask(agent_id, "", messages=(), approvals=(ApprovalPart("call-2", approve=True),))
        assert await wrong(world, agent_id, value="Likes tea\nLikes cake") == []


async def test_what_nobody_answers_is_denied_after_a_kill_too(pool: Pool, provider: Provider) -> None:
    quick = HostSettings(drain_seconds=0, approval_seconds=0.001)
    with hasty_clock():
        async with impatient_world(pool, provider, settings=quick) as world:
            agent_id = await parked(world, provider)
            crash(world.host)
        async with impatient_world(pool, provider, settings=quick) as world:
            await world.host.expire_once()
            await until(lambda: not world.host.health().unfinished_runs)
            assert await wrong(world, agent_id, value="") == []


# --- planted bugs ---------------------------------------------------------------------------------


async def test_a_request_that_is_not_stored_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(*args: object) -> None:
        return None

    monkeypatch.setattr(extras.pending, "put", forget)
    with hasty_clock():
        async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
            agent_id = await parked(world, provider)
            assert await open_requests(pool, agent_id) == []
            crash(world.host)
        async with impatient_world(pool, provider, settings=NO_DRAIN) as world:
            await world.tell(agent_id, "hello?")  # the law: this is refused
            assert unpaired(await world.messages(agent_id)) == ["call-1: 0 results"]


async def test_an_answer_without_its_request_s_end_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(*args: object) -> None:
        return None

    monkeypatch.setattr(extras.pending, "clear", keep)
    found = await kills_around_the_answer(pool, provider, lives=2)
    assert any("still waits" in x for x in found)


async def test_a_mailbox_that_gives_out_messages_meanwhile_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Thread, "take", lambda self: self.mailbox.take())
    assert "it ended requires_approval" in await queued_behind(pool, provider)
