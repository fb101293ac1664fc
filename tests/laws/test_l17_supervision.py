"""L17: a command that breaks every turn is given up after three crashes; everybody else goes on."""

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from actors import clock, reading, stepcommit
from actors.agent import Actor
from actors.commands import CreateConversation
from actors.events import RunFinished
from actors.mailbox import Waiting
from actors.population import Population
from actors.turn import TurnRunner
from bench.provider import Provider
from storage import activation
from storage.pool import Pool, connection
from storage.records import Conversation, Message, TextPart
from tests.actors.worlds import World
from tests.laws.watching import Client, everything_said, hasty_clock, impatient_world, refused, unfinished

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

CRASHES = 3
LATEST = 20.0  # seconds until a run must have ended
SEARCH = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "x"}}], "match": "poison"}


class PoisonError(Exception):
    """What a bug raises."""


class Poison:
    """Makes a turn crash for one text, in its first step or in a later one."""

    def __init__(self, patch: pytest.MonkeyPatch, *, after_steps: int = 0) -> None:
        self.crashes = 0
        self.enough = anyio.Event()
        ask = TurnRunner._ask

        async def asked(turn: TurnRunner, *args: Any) -> Any:
            if "poison" in _text(turn.waiting) and turn.turn.steps_taken >= after_steps:
                self.crashes += 1
                if self.crashes >= CRASHES:
                    self.enough.set()
                raise PoisonError
            return await ask(turn, *args)

        patch.setattr(TurnRunner, "_ask", asked)


def _text(waiting: Waiting) -> str:
    return "".join(p.text for m in waiting.command.messages for p in m.content if isinstance(p, TextPart))


async def conversation_of(world: World, agent_id: str) -> str:
    conversation_id = clock.new_id("conv")
    await world.host.ref(agent_id).edit(CreateConversation(conversation_id=conversation_id))
    return conversation_id


async def violations(world: World, poison: Poison, *, hot: bool = True, stored: bool = False) -> list[str]:
    """Send the poison amid other work; return what of the law does not hold.

    `hot`: the agent is in memory already. `stored`: the poison crashes after its first committed step.
    """
    await world.provider.reset()
    if stored:
        await world.provider.script([SEARCH])
    agent_id, other_id = await world.agent(), await world.agent()
    beside = await conversation_of(world, agent_id)
    if hot:
        await world.ask(agent_id, "warm")
    else:
        world.host._population.drop(world.host._population.hot[agent_id])
    innocents = [await world.tell(agent_id, "before", conversation_id=beside)]
    guilty = await world.tell(agent_id, "poison")
    for i in range(4):
        innocents.append(await world.tell(agent_id, f"after {i}"))
        innocents.append(await world.tell(agent_id, f"beside {i}", conversation_id=beside))
    others = [await world.tell(other_id, f"elsewhere {i}") for i in range(4)]
    found: list[str] = []
    found += await _end(world, agent_id, guilty, "failed")
    for receipt in innocents:
        found += await _end(world, agent_id, receipt, "completed")
    for receipt in others:
        found += await _end(world, other_id, receipt, "completed")
    if poison.crashes != CRASHES:
        found.append(f"{poison.crashes} crashes")
    if (left := await unfinished(world.pool)) != {"dead": 1}:
        found.append(f"the inbox holds {left}")
    if world.host.health().unfinished_runs:
        found.append("a run is still counted")
    listed = [m for m in await world.messages(agent_id) if m.run_id == guilty.run_id and m.role == "user"]
    if len(listed) != 1:
        found.append("the poison is not listed once")
    elif not stored and not listed[0].excluded:
        found.append("the poison would be sent again")
    records = await world.provider.log()
    found += refused(records)
    if not stored and any("poison" in str(r.body) for r in records):
        found.append("the poison was sent to the model")
    for conversation_id in (agent_id, beside):
        found += await _view(world, conversation_id)
    return found


async def _end(world: World, agent_id: str, receipt: Any, status: str) -> list[str]:
    ends: list[RunFinished] = []
    with anyio.move_on_after(LATEST):
        ref = world.host.ref(agent_id)
        async for batch in ref.follow(receipt.run_id, receipt.conversation_id):
            ends += [e.event for e in batch if isinstance(e.event, RunFinished)]
    async with connection(world.pool) as conn:
        row = await conn.fetchrow("select status, stop_reason from runs where id = $1", receipt.run_id)
    said = [e.status for e in ends]
    if said != [status] or row["status"] != status:
        return [f"a run that must be {status} said {said} and is stored as {row['status']}"]
    return []


async def _view(world: World, conversation_id: str) -> list[str]:
    client = Client()
    client.take(everything_said(world, conversation_id))
    async with connection(world.pool) as conn:
        full = await conn.fetchrow("select * from conversations_now where id = $1", conversation_id)
        conversation = Conversation(
            id=conversation_id,
            organization_id=full["organization_id"],
            agent_id=full["agent_id"],
            created_at=full["created_at"],
            updated_at=full["updated_at"],
            end_position=full["end_position"],
        )
        stored: list[Message] = await activation.window(conn, conversation)
    return client.disagreements([m for m in stored if not m.excluded or m.id in client.committed])


@pytest.mark.parametrize("hot", [True, False])
@pytest.mark.parametrize("stored", [False, True])
async def test_a_poison_is_parked_after_three_crashes_and_harms_nobody(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch, hot: bool, stored: bool
) -> None:
    poison = Poison(monkeypatch, after_steps=int(stored))
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            found = await violations(world, poison, hot=hot, stored=stored)
    assert not found, "\n".join(found)


async def test_whoever_only_waited_while_another_crashed_is_never_parked(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison(monkeypatch)
    window = activation.window

    async def slow(conn: Any, conversation: Conversation) -> list[Message]:
        if conversation.id != conversation.agent_id:
            await poison.enough.wait()
        return await window(conn, conversation)

    monkeypatch.setattr(activation, "window", slow)
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            found = await violations(world, poison, hot=False)
    assert not found, "\n".join(found)


async def test_a_neighbour_in_the_middle_of_its_commit_is_heard_to_the_end(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison(monkeypatch)
    committing, crashed = anyio.Event(), anyio.Event()
    commit = stepcommit.commit

    async def slow(actor: Actor, thread: Any, draft_of: Callable[..., Any]) -> Any:
        draft = await commit(actor, thread, draft_of)
        if thread.id != actor.agent.id and not crashed.is_set():
            committing.set()
            with anyio.move_on_after(0.3):
                await crashed.wait()
        return draft

    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            agent_id = await world.agent()
            beside = await conversation_of(world, agent_id)
            await world.ask(agent_id, "warm")
            monkeypatch.setattr(stepcommit, "commit", slow)
            neighbour = await world.tell(agent_id, "beside", conversation_id=beside)
            with anyio.fail_after(15):
                await committing.wait()
            guilty = await world.tell(agent_id, "poison")
            with anyio.fail_after(15):
                while poison.crashes == 0:
                    await anyio.lowlevel.checkpoint()
            crashed.set()
            found = await _end(world, agent_id, neighbour, "completed")
            found += await _end(world, agent_id, guilty, "failed")
            found += await _view(world, beside)
    assert not found, "\n".join(found)


async def test_a_conversation_that_cannot_be_loaded_ends_its_commands_too(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = reading.load
    loads = 0

    async def broken(actor: Actor, thread: Any, **how: Any) -> None:
        nonlocal loads
        if thread.id != actor.agent.id:
            loads += 1
            raise PoisonError
        await load(actor, thread, **how)

    monkeypatch.setattr(reading, "load", broken)
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            agent_id = await world.agent()
            beside = await conversation_of(world, agent_id)
            guilty = await world.tell(agent_id, "x", conversation_id=beside)
            innocent = await world.tell(agent_id, "y")
            found = await _end(world, agent_id, innocent, "completed")
            found += await _end(world, agent_id, guilty, "failed")
    assert not found, "\n".join(found)
    assert loads == CRASHES


# --- planted bugs ---------------------------------------------------------------------------------


async def _found(pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    poison = Poison(monkeypatch)
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            return await violations(world, poison)


async def test_a_crash_loop_without_dead_letters_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.population.MAX_ATTEMPTS", 60)
    assert await _found(pool, provider, monkeypatch) != []


async def test_giving_up_at_the_first_crash_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.population.MAX_ATTEMPTS", 1)
    assert await _found(pool, provider, monkeypatch) != []


async def test_a_poison_that_stays_in_the_window_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.withdrawal.replace", lambda message, **_: message)
    assert await _found(pool, provider, monkeypatch) != []


async def test_a_dead_letter_that_is_not_announced_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = Population.settle
    monkeypatch.setattr("tests.laws.test_l17_supervision.LATEST", 1.5)

    async def silent(self: Population, *args: Any, **kwargs: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("actors.channels.Channel.publish", lambda self, *events: None)
            await settle(self, *args, **kwargs)

    monkeypatch.setattr(Population, "settle", silent)
    assert await _found(pool, provider, monkeypatch) != []
