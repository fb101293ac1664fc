"""What becomes of a turn that a message interrupts, in this process and in the next one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors import committer
from actors.commons import HostSettings
from actors.intake import Intake
from bench.provider import Provider
from storage import checkpoints, inbox
from storage.checkpoints import Checkpoint
from storage.errors import UnavailableError
from storage.pool import Conn, Pool, connection
from tests.actors.worlds import World, world
from tests.laws.watching import until

NO_DRAIN = HostSettings(drain_seconds=0)
HELD = {"text": "one two three", "gate": "never", "gate_after": 1}


async def away(_: Conn, __: list[Checkpoint]) -> object:
    """Commit nothing: what a process that dies before the end of its runs leaves behind."""
    raise UnavailableError("away")


async def statuses(pool: Pool) -> list[str]:
    """Return how the runs stand, in the order of their commands."""
    async with connection(pool) as conn:
        rows = await conn.fetch("select r.status from inbox i join runs r on r.id = i.run_id order by i.seq")
    return [row["status"] for row in rows]


async def die(w: World) -> None:
    """End the process's hold on its agents, as its death would."""
    w.host._population.closed = True  # or a next activation would go on here
    await w.host._population.suspend()


@asynccontextmanager
async def dying(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch, script: list[dict[str, Any]]
) -> AsyncGenerator[tuple[World, str]]:
    """Yield a process that ends without a drain, and an agent whose turn waits for the last of the script."""
    await provider.script(script)
    monkeypatch.setattr(committer, "OUTAGE_DEADLINE", 0)
    async with world(pool, provider, settings=NO_DRAIN) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "runs")
        await provider.log(requests=len(script), keep=True)
        yield w, agent_id


async def interrupt(w: World, agent_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledge an interrupt in a process that commits nothing more and dies."""
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "commit", away)
        await w.tell(agent_id, "urgent", when_busy="interrupt")
        await die(w)


async def test_an_interrupt_is_the_next_one_and_says_so(pool: Pool, provider: Provider) -> None:
    await provider.script([HELD])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "runs")
        await provider.log(requests=1, keep=True)
        waits = await w.tell(agent_id, "waits")
        urgent = await w.tell(agent_id, "urgent", when_busy="interrupt")
        assert (waits.disposition, waits.queue_position) == ("queued", 1)
        assert (urgent.disposition, urgent.queue_position) == ("queued", 1)
        await until(lambda: not w.host.health().unfinished_runs)
        assert await statuses(pool) == ["cancelled", "completed", "completed"]
        assert [t for r, t in await w.history(agent_id) if r == "user"] == ["runs", "urgent", "waits"]


async def test_an_acknowledged_interrupt_is_kept_by_the_next_process(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn has committed nothing yet, and its end cannot be committed before the process dies."""
    async with dying(pool, provider, monkeypatch, [HELD]) as (w, agent_id):
        await w.tell(agent_id, "waits")
        await interrupt(w, agent_id, monkeypatch)
        assert await statuses(pool) == ["created", "created", "created"]
    async with world(pool, provider) as w:
        await until(lambda: not w.host.health().unfinished_runs)
        assert await statuses(pool) == ["cancelled", "completed", "completed"]
        assert [t for r, t in await w.history(agent_id) if r == "user"] == ["runs", "urgent", "waits"]
        assert [record.user_text for record in await provider.log()] == ["runs", "urgent", "waits"]


async def test_an_interrupted_turn_with_committed_steps_does_not_go_on_in_the_next_process(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}}
    script = [{"text": "I note it", "tool_calls": [call]}, HELD]
    async with dying(pool, provider, monkeypatch, script) as (w, agent_id):
        await interrupt(w, agent_id, monkeypatch)
        assert await statuses(pool) == ["running", "created"]
    async with world(pool, provider) as w:
        await until(lambda: not w.host.health().unfinished_runs)
        assert await statuses(pool) == ["cancelled", "completed"]
        assert [r.user_text for r in await provider.log()][-1] == "urgent"


async def test_a_turn_that_began_while_the_interrupt_was_accepted_ends_durably(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dying(pool, provider, monkeypatch, [HELD]) as (w, agent_id):
        with monkeypatch.context() as patch:
            patch.setattr(Intake, "_under_way", lambda *_: ())  # as it was a moment before
            await interrupt(w, agent_id, monkeypatch)
    async with world(pool, provider) as w:
        await until(lambda: not w.host.health().unfinished_runs)
        assert await statuses(pool) == ["cancelled", "completed"]
        assert len(await provider.log()) == 2


async def test_an_interrupt_that_cannot_be_made_durable_is_not_acknowledged(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise UnavailableError("lost")

    await provider.script([HELD])
    async with world(pool, provider, settings=NO_DRAIN) as w:
        agent_id = await w.agent()
        await w.tell(agent_id, "runs")
        await provider.log(requests=1, keep=True)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "commit", away)
            patch.setattr(Intake, "_under_way", lambda *_: ())
            patch.setattr(inbox, "mark_cancelled", lost)
            with pytest.raises(UnavailableError):
                await w.tell(agent_id, "urgent", when_busy="interrupt")
