"""What a provider reports for our tokens is learned per model and outlives the process."""

from typing import Any

import pytest

from actors import calibrations
from actors.calibrations import Calibrations
from bench.provider import Provider
from bench.replies import Reply
from storage import calibrations as stored
from storage.errors import UnavailableError
from storage.pool import Pool, connection
from tests.actors.worlds import World, finish, world

USAGE: dict[str, Any] = {"prompt_tokens": 100_000, "completion_tokens": 1, "total_tokens": 100_001}


def ratio(run: World, agent_id: str) -> float:
    return run.host._population.hot[agent_id].calibration.ratio


async def taught(run: World, agent_id: str) -> None:
    """Have a model report many more tokens than we count."""
    await run.provider.script([Reply(usage=USAGE)])
    assert finish(await run.ask(agent_id)).status == "completed"


async def test_an_agent_begins_a_new_life_with_what_its_model_taught(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as run:
        agent = await run.agent(model="openai/echo")
        await taught(run, agent)
        assert ratio(run, agent) == pytest.approx(3.0)
    async with world(pool, provider) as run:
        await provider.script([Reply(usage=None)])
        await run.ask(agent)
        assert ratio(run, agent) == pytest.approx(3.0)


async def test_another_agent_of_the_model_begins_with_it_too_and_one_of_another_model_does_not(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as run:
        await taught(run, await run.agent(model="openai/echo"))
        for model, expected in (("openai/echo", 3.0), ("openai/other", 1.0)):
            agent = await run.agent(model=model)
            await provider.script([Reply(usage=None)])
            await run.ask(agent)
            assert ratio(run, agent) == pytest.approx(expected)


async def test_what_cannot_be_stored_is_stored_the_next_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise UnavailableError("gone")

    known = Calibrations(pool)
    known.observe("a/b", ours=1_000, reported=2_000)
    with monkeypatch.context() as broken:
        broken.setattr(stored, "save", fails)
        await known.save()
    await known.save()
    again = Calibrations(pool)
    await again.load()
    assert again.of("a/b") == known.of("a/b")
    async with connection(pool) as conn:
        await conn.execute("truncate calibrations")
    await known.save()
    async with connection(pool) as conn:
        assert await stored.load(conn, most=9) == [], "nothing changed since"


async def test_names_of_models_that_clients_make_up_have_a_bound(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrations, "MOST_MODELS", 2)
    known = Calibrations(pool)
    for name in "abc":
        known.observe(name, ours=1_000, reported=2_000)
    known.observe("a", ours=1_000, reported=2_000)
    assert [known.of(name).samples for name in "abc"] == [2, 1, 0]
