"""L6: what a client was shown is in the history, or was retracted: its view equals the stored messages."""

import random
from typing import Any

import anyio
import pytest

from actors.answer import Answer
from actors.commons import HostSettings
from actors.events import Retracted, RunFinished, TextDelta
from actors.headstart import HeadStart
from actors.modelcall import ModelCall
from actors.turn import TurnRunner
from bench.provider import Provider
from storage.pool import Pool
from tests.actors.worlds import World
from tests.laws.test_l10_model_misbehaves import faults
from tests.laws.watching import Client, crash, everything_said, hasty_clock, impatient_world, until

pytestmark = [pytest.mark.law, pytest.mark.timeout(240)]

SEED = 6
KILLS = 20
LONG = " ".join(f"word{i}" for i in range(40))
SEARCH = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "x"}}]}


async def violations(world: World, client: Client, agent_id: str) -> list[str]:
    """Let a client see everything that was said; return where it differs from the history."""
    client.take(everything_said(world, agent_id))
    return client.disagreements(await world.messages(agent_id))


async def _ended(world: World, agent_id: str, run_id: str) -> None:
    with anyio.fail_after(10):
        async for _ in world.host.ref(agent_id).follow(run_id, agent_id):
            pass


async def _shown(world: World, agent_id: str, events: int) -> None:
    """Wait until so many events were said."""
    channel = world.host.logs.channel(agent_id, agent_id)
    await until(lambda: channel.next > events, seconds=3)


async def test_a_client_s_view_is_the_history_whatever_a_provider_does(
    pool: Pool, provider: Provider
) -> None:
    found: list[str] = []
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            for fault in faults():
                await provider.reset()
                await provider.script(list(fault.replies))
                agent_id = await world.agent(model=fault.model)
                await world.ask(agent_id, "do it", max_steps=fault.max_steps)
                await provider.reset()
                await world.ask(agent_id, "and now?", model="openai/echo")
                found += [f"{fault.name}: {x}" for x in await violations(world, Client(), agent_id)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("drained", [False, True])
async def test_a_client_s_view_is_the_history_after_kills_and_drains_in_mid_stream(
    pool: Pool, provider: Provider, drained: bool
) -> None:
    rng = random.Random(SEED)
    found: list[str] = []
    client, agent_id = Client(), ""
    settings = HostSettings(drain_seconds=0)
    with hasty_clock():
        for life in range(KILLS):
            await provider.reset()
            await provider.script([{**SEARCH, "text": "looking"}, {"text": LONG, "gap_ms": 1}])
            async with impatient_world(pool, provider, settings=settings) as world:
                agent_id = agent_id or await world.agent()
                await world.tell(agent_id, f"message {life}")
                await _shown(world, agent_id, rng.randrange(60))
                if not drained:
                    crash(world.host)
            client.take(everything_said(world, agent_id))
            client.begin_anew()
            async with impatient_world(pool, provider, settings=settings) as world:
                await until(lambda: not world.host.health().unfinished_runs)
                found += [f"life {life}: {x}" for x in await violations(world, client, agent_id)]
            client.begin_anew()
    assert not found, "\n".join(found)


class Stumble:
    """Makes a turn crash once, in mid-stream."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        attempt = ModelCall._attempt
        self.stumbled = False

        async def stumble(call: ModelCall, request: Any, answer: Answer, head: HeadStart | None) -> Any:
            if self.stumbled:
                return await attempt(call, request, answer, head)
            self.stumbled = True
            if head is not None:
                head.drop()
            async for pieces in call.model.stream(request):
                call.channel.publish(*answer.feed(pieces))
                if answer.shown:
                    raise ZeroDivisionError
            return None

        patch.setattr(ModelCall, "_attempt", stumble)


async def stumbling(pool: Pool, provider: Provider, patch: pytest.MonkeyPatch) -> list[str]:
    """Return what is wrong after a turn that crashed in mid-stream."""
    Stumble(patch)
    await provider.script([{"text": LONG, "gap_ms": 1}, {"text": "whole"}])
    with hasty_clock():
        async with impatient_world(pool, provider, settings=HostSettings(drain_seconds=0)) as world:
            agent_id = await world.agent()
            receipt = await world.tell(agent_id)
            await _ended(world, agent_id, receipt.run_id)
            events = everything_said(world, agent_id)
            assert any(isinstance(e, TextDelta) for e in events)
            assert [e.status for e in events if isinstance(e, RunFinished)] == ["completed"]
            found = await violations(world, Client(), agent_id)
            retracted = sum(isinstance(e, Retracted) for e in events)
            return found if retracted == 1 else [*found, f"{retracted} retractions"]


async def test_an_attempt_that_crashed_is_retracted(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await stumbling(pool, provider, monkeypatch) == []


# --- planted bugs ---------------------------------------------------------------------------------


async def test_a_missing_retraction_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TurnRunner, "retract", lambda self: None)
    assert any("neither kept" in x for x in await stumbling(pool, provider, monkeypatch))


async def _one_answer(pool: Pool, provider: Provider) -> list[str]:
    await provider.script([{"text": LONG, "fault": "cut_after", "tokens": 3}])
    with hasty_clock():
        async with impatient_world(pool, provider) as world:
            agent_id = await world.agent()
            await world.ask(agent_id)
            return await violations(world, Client(), agent_id)


async def test_a_stored_text_that_was_not_shown_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Answer.feed
    monkeypatch.setattr(Answer, "feed", lambda self, pieces: feed(self, pieces)[:-1])
    assert await _one_answer(pool, provider) != []


async def test_a_shown_text_that_is_not_stored_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answer, "parts", lambda self: ())
    assert await _one_answer(pool, provider) != []


async def test_a_message_that_is_stored_without_being_told_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.telling.MessageCommitted", lambda run_id, m: TextDelta(run_id, "x", ""))
    assert await _one_answer(pool, provider) != []
