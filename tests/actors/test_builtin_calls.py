"""Agents that look at the web and run code: told to stop, killed in the middle, without keys."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from actors.events import RunFinished
from actors.host import HostSettings
from actors.window import INTERRUPTED
from bench.provider import Provider
from storage.pool import Pool, connection
from tests.actors.tools.e2b_server import KEY as E2B_KEY
from tests.actors.tools.e2b_server import sandboxes
from tests.actors.tools.exa_server import KEY as EXA_KEY
from tests.actors.tools.exa_server import engine
from tests.actors.tools.web_pages import site
from tests.actors.worlds import World, finish
from tests.laws.watching import crash, hasty_clock, impatient_world

pytestmark = pytest.mark.timeout(60)

TOOLS = ("web_search", "fetch_webpage", "run_code")
SEARCH = {"name": "web_search", "arguments": {"query": "tea"}, "id": "call-1"}
CODE = {"name": "run_code", "arguments": {"code": "6 * 7", "language": "python"}, "id": "call-1"}
RESULT = {"type": "result", "is_main_result": True, "text": "42"}


def fetch(url: str) -> dict[str, Any]:
    return {"name": "fetch_webpage", "arguments": {"url": url}, "id": "call-1"}


@asynccontextmanager
async def world(pool: Pool, provider: Provider, **settings: Any) -> AsyncGenerator[World]:
    async with impatient_world(pool, provider, settings=HostSettings(drain_seconds=0, **settings)) as ours:
        yield ours


async def results(ours: World, agent_id: str) -> list[str]:
    """Return the texts of the tool results that are stored."""
    return [text for role, text in await ours.history(agent_id) if role == "tool"]


async def states(pool: Pool) -> list[str]:
    """Return how the calls stand whose intent was stored."""
    async with connection(pool) as conn:
        return [row["state"] for row in await conn.fetch("select state from tool_calls")]


async def test_an_agent_searches_reads_and_computes(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as at, site() as pages, sandboxes(monkeypatch) as service:
        url = pages.page("/x", "<h1>Here</h1>")
        service.output = [RESULT]
        calls = [{**one, "id": f"call-{n}"} for n, one in enumerate((SEARCH, fetch(url), CODE))]
        await provider.script([{"tool_calls": calls}, {"text": "done"}])
        keys = {"exa_api_key": EXA_KEY, "exa_base_url": at.url, "e2b_api_key": E2B_KEY}
        async with world(pool, provider, fetch_private="on", **keys) as ours:
            agent_id = await ours.agent(more_tools=TOOLS)
            assert finish(await ours.ask(agent_id)).stop_reason == "end_turn"
            found = "".join(await results(ours, agent_id))
            assert "It is about tea." in found
            assert "# Here" in found
            assert '"results":["42"]' in found
    assert await states(pool) == ["success"], "only code has effects outside"


async def test_without_keys_the_agent_learns_what_is_missing_and_goes_on(
    pool: Pool, provider: Provider
) -> None:
    calls = [SEARCH, {**CODE, "id": "call-2"}]
    await provider.script([{"tool_calls": calls}, {"text": "sorry"}])
    async with world(pool, provider) as ours:
        agent_id = await ours.agent(more_tools=TOOLS)
        assert finish(await ours.ask(agent_id)).stop_reason == "end_turn"
        told = "".join(await results(ours, agent_id))
        assert "EXA_API_KEY is not set" in told
        assert "E2B_API_KEY is not set" in told
        sent = json.dumps([record.body for record in await provider.log(keep=True)], default=str)
        assert "EXA_API_KEY is not set" in sent


@pytest.mark.parametrize("name", ["web_search", "fetch_webpage"])
async def test_a_look_that_is_cancelled_ends_at_once_and_did_nothing(
    pool: Pool, provider: Provider, name: str
) -> None:
    async with engine() as at, site() as pages:
        slow = at.site if name == "web_search" else pages
        url = pages.stall("/x")
        at.site.stall("/search", head=True)
        await provider.script([{"tool_calls": [SEARCH if name == "web_search" else fetch(url)]}])
        keys = {"exa_api_key": EXA_KEY, "exa_base_url": at.url} if name == "web_search" else {}
        async with world(pool, provider, fetch_private="on", **keys) as ours:
            agent_id = await ours.agent(more_tools=TOOLS)
            receipt = await ours.tell(agent_id)
            with anyio.fail_after(15):
                await slow.stalled.wait()
            await ours.host.ref(agent_id).cancel_run(receipt.run_id)
            assert finish(await ours.events(receipt, agent_id)).status == "cancelled"
            with anyio.fail_after(15):
                await slow.gone.wait()
            (told,) = await results(ours, agent_id)
            assert told != INTERRUPTED, "it is known that it did nothing"
    assert await states(pool) == []


async def test_a_search_is_made_again_after_a_kill(pool: Pool, provider: Provider) -> None:
    async with engine() as at:
        answer = at.site.pages["/search"]
        at.site.stall("/search", head=True)
        await provider.script([{"tool_calls": [SEARCH], "repeat": 2}, {"text": "done"}])
        keys = {"exa_api_key": EXA_KEY, "exa_base_url": at.url}
        with hasty_clock():
            async with world(pool, provider, **keys) as ours:
                agent_id = await ours.agent(more_tools=TOOLS)
                receipt = await ours.tell(agent_id)
                with anyio.fail_after(15):
                    await at.site.stalled.wait()
                crash(ours.host)
            at.site.pages["/search"] = answer
            async with world(pool, provider, **keys) as ours:
                events = await ours.events(receipt, agent_id)
                assert isinstance(events[-1], RunFinished)
                assert events[-1].status == "completed"
                (told,) = await results(ours, agent_id)
                assert "It is about tea." in told


async def test_code_that_ran_when_its_server_was_killed_is_uncertain_and_not_run_again(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sandboxes(monkeypatch) as service:
        service.site.stall("/execute")
        await provider.script([{"tool_calls": [CODE]}, {"text": "done"}])
        with hasty_clock():
            async with world(pool, provider, e2b_api_key=E2B_KEY) as ours:
                agent_id = await ours.agent(more_tools=TOOLS)
                receipt = await ours.tell(agent_id)
                with anyio.fail_after(15):
                    await service.site.stalled.wait()
                crash(ours.host)
            async with world(pool, provider, e2b_api_key=E2B_KEY) as ours:
                assert finish(await ours.events(receipt, agent_id)).status == "completed"
                assert await results(ours, agent_id) == [INTERRUPTED]
        assert len(service.made) == 1
    assert await states(pool) == ["uncertain"]


async def test_code_that_is_cancelled_is_uncertain_and_its_sandbox_is_stopped(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sandboxes(monkeypatch) as service:
        service.site.stall("/execute")
        await provider.script([{"tool_calls": [CODE]}])
        async with world(pool, provider, e2b_api_key=E2B_KEY) as ours:
            agent_id = await ours.agent(more_tools=TOOLS)
            receipt = await ours.tell(agent_id)
            with anyio.fail_after(15):
                await service.site.stalled.wait()
            await ours.host.ref(agent_id).cancel_run(receipt.run_id)
            assert finish(await ours.events(receipt, agent_id)).status == "cancelled"
            assert await results(ours, agent_id) == [INTERRUPTED]
        assert service.living == set()
    assert await states(pool) == ["uncertain"]
