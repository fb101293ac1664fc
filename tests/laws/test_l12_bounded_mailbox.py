"""L12: beyond its bound a mailbox refuses, and what it acknowledged it handles; it drops nothing silently."""

from collections import Counter
from typing import Any

import anyio
import pytest

from actors.commands import Receipt
from actors.commons import HostSettings
from actors.errors import MailboxFullError
from actors.load import Load
from actors.population import Population
from bench.provider import Provider
from storage.pool import Pool, connection
from tests.actors.worlds import World
from tests.laws.watching import impatient_world

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

FLOOD = 1_000
PER_AGENT = 256
IN_ALL = 300


class Flood:
    """What became of each message of a flood, by its text."""

    def __init__(self) -> None:
        self.acked: dict[str, tuple[str, Receipt]] = {}
        self.refused: Counter[str] = Counter()
        self.retry_after: list[float] = []
        self.most = 0

    async def send(self, world: World, agent_id: str, text: str) -> None:
        try:
            self.acked[text] = agent_id, await world.tell(agent_id, text)
        except MailboxFullError as error:
            self.refused[error.scope] += 1
            self.retry_after.append(error.retry_after)
        self.most = max(self.most, world.host.health().unfinished_runs)


async def violations(world: World, *, agents: int, bound: int, scope: str) -> list[str]:
    """Send a flood that meets a model which answers nobody at first; return what of the law does not hold."""
    await world.provider.script([{"text": "a", "gate": "flooded", "gate_after": 0, "repeat": agents}])
    ids = [await world.agent() for _ in range(agents)]
    flood, found = Flood(), []
    async with anyio.create_task_group() as group:
        for i in range(FLOOD):
            group.start_soon(flood.send, world, ids[i % agents], f"message {i}")
    if len(flood.acked) + sum(flood.refused.values()) != FLOOD:
        found.append("a message had no answer")
    if len(flood.acked) != bound:
        found.append(f"{len(flood.acked)} acknowledged, the bound is {bound}")
    if set(flood.refused) != {scope}:
        found.append(f"refused by {dict(flood.refused)}")
    if not all(0 < seconds <= 60 for seconds in flood.retry_after):
        found.append("a refusal does not say when to come back")
    if flood.most > bound:
        found.append(f"{flood.most} waited at once")
    if (rows := await _count(world.pool, "select count(*) from inbox")) != len(flood.acked):
        found.append(f"{rows} rows for {len(flood.acked)} acknowledged messages")
    await world.provider.open("flooded")
    found += await _all_handled(world, flood, ids)
    return found


async def _all_handled(world: World, flood: Flood, ids: list[str]) -> list[str]:
    found: list[str] = []
    with anyio.move_on_after(25) as waited:
        for agent_id, receipt in flood.acked.values():
            async for _ in world.host.ref(agent_id).follow(receipt.run_id, agent_id):
                pass
    if waited.cancelled_caught:
        found.append("an acknowledged message was not handled")
    async with connection(world.pool) as conn:
        rows = await conn.fetch("select content::text as c from messages where role = 'user'")
    handled = Counter(row["c"] for row in rows)
    texts = Counter(dict.fromkeys(flood.acked, 1))
    if sorted(handled.values()) != sorted(texts.values()):
        found.append(f"{handled.total()} handled, {texts.total()} acknowledged")
    found += [f"{t} is not stored" for t in texts if not any(f'"{t}"' in str(c) for c in handled)][:3]
    for agent_id in ids:
        users = [int(text.split()[-1]) for role, text in await world.history(agent_id) if role == "user"]
        if users != sorted(users):
            found.append("handled out of order")
    if world.host.health().unfinished_runs:
        found.append(f"{world.host.health().unfinished_runs} runs are still counted")
    load: Any = world.host._commons.load
    if load._agents or load._conversations or load._runs:
        found.append("a count did not return to zero")
    try:
        await world.ask(ids[0], "and again")
    except MailboxFullError:
        found.append("the agent stays closed")
    return found


async def _count(pool: Pool, query: str) -> int:
    async with connection(pool) as conn:
        return await conn.fetchval(query)


async def test_a_flood_at_one_agent_is_bounded_and_what_was_acknowledged_is_handled(
    pool: Pool, provider: Provider
) -> None:
    settings = HostSettings(max_pending_per_agent=PER_AGENT, drain_seconds=1)
    async with impatient_world(pool, provider, settings=settings) as world:
        found = await violations(world, agents=1, bound=PER_AGENT, scope="agent")
    assert not found, "\n".join(found)


async def test_a_flood_at_the_host_is_bounded_and_what_was_acknowledged_is_handled(
    pool: Pool, provider: Provider
) -> None:
    settings = HostSettings(max_pending=IN_ALL, drain_seconds=1)
    async with impatient_world(pool, provider, settings=settings) as world:
        found = await violations(world, agents=20, bound=IN_ALL, scope="server")
    assert not found, "\n".join(found)


async def test_a_key_that_is_repeated_takes_no_place(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a", "gate": "go", "gate_after": 0}])
    settings = HostSettings(max_pending_per_agent=3, drain_seconds=1)
    async with impatient_world(pool, provider, settings=settings) as world:
        agent_id = await world.agent()
        first = await world.tell(agent_id, "one", key="k")
        await world.tell(agent_id, "two")
        for _ in range(20):
            assert (await world.tell(agent_id, "one", key="k")).run_id == first.run_id
        assert world.host.health().unfinished_runs == 2
        last = await world.tell(agent_id, "three")
        with pytest.raises(MailboxFullError):
            await world.tell(agent_id, "four")
        await provider.open("go")
        await world.events(last, agent_id)
        assert world.host.health().unfinished_runs == 0


# --- planted bugs ---------------------------------------------------------------------------------


async def _found(pool: Pool, provider: Provider) -> list[str]:
    settings = HostSettings(max_pending_per_agent=PER_AGENT, drain_seconds=0)
    async with impatient_world(pool, provider, settings=settings) as world:
        with anyio.move_on_after(30):
            return await violations(world, agents=1, bound=PER_AGENT, scope="agent")
        return ["did not end"]


async def test_a_mailbox_without_a_bound_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Load, "reserve", Load.restore)
    assert await _found(pool, provider) != []


async def test_counting_only_after_the_commit_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Load.reserve

    def late(self: Load, agent_id: str, conversation_id: str) -> None:
        """Refuse by what is held, not by what is reserved."""
        if len(self._runs) >= PER_AGENT:
            reserve(self, agent_id, conversation_id)
        else:
            self.restore(agent_id, conversation_id)

    monkeypatch.setattr(Load, "reserve", late)
    assert await _found(pool, provider) != []


async def test_a_silent_drop_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = Population.deliver

    def lossy(self: Population, agent_id: str, waiting: Any) -> None:
        if waiting.seq % 50:
            deliver(self, agent_id, waiting)
        else:
            self.commons.load.finish(waiting.run_id)

    monkeypatch.setattr(Population, "deliver", lossy)
    monkeypatch.setattr("actors.intake.POLL", 3600.0)
    monkeypatch.setattr("actors.channels.Channel.follow", _hurried)
    assert await _found(pool, provider) != []


async def _hurried(self: Any, run_id: str, hand: Any) -> Any:
    return
    yield


async def test_a_count_that_leaks_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Load.finish

    def leaky(self: Load, run_id: str) -> None:
        if len(self._runs) != PER_AGENT // 2:
            finish(self, run_id)

    monkeypatch.setattr(Load, "finish", leaky)
    assert await _found(pool, provider) != []
