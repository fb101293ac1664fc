"""Memory is edited over the websocket, by compare-and-set where it is asked for."""

import asyncio

from bench.provider import Provider
from gateway.auth import SCOPES, THOUGHTS, Caller
from storage.pool import Pool
from tests.gateway.calling import Calls
from tests.gateway.rest.talking import new_agent, talking

BLOCKS = [{"label": "human", "value": "one"}]


async def test_a_block_is_changed_and_its_version_told(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=BLOCKS)
        call = Calls(served)
        first = await call("memory.update", agent=agent, label="human", value="two")
        assert (first["accepted"], first["value"], first["label"]) == (True, "two", "human")
        second = await call("memory.update", agent=agent, label="human", limit=7, description="Whom I know")
        assert (second["value"], second["limit"]) == ("two", 7)
        assert second["version"] > first["version"]
        stored = await served.json("GET", f"/v1/agents/{agent}/core-memory/blocks/human")
        assert (stored["value"], stored["limit"], stored["description"]) == ("two", 7, "Whom I know")
        assert stored["id"] == first["blockId"]


async def test_a_stale_version_is_refused_with_what_is_there(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=BLOCKS)
        call = Calls(served)
        old = await call("memory.update", agent=agent, label="human", value='say "two"')
        asked = {"agent": agent, "label": "human", "value": "three", "ifVersion": old["version"]}
        new = await call("memory.update", **asked)
        words = f'version {new["version"]} and the value "three"'
        await call.refused("memory.update", 409, words, **asked)
        await call.refused("memory.update", 409, words, **{**asked, "ifVersion": 99})
        last = await call("memory.update", agent=agent, label="human", value="f" * 20_009)
        said = await call.refused("memory.update", 409, "and 9 characters more", **asked)
        assert len(said) < 20_200
        assert last["version"] > new["version"]


async def test_of_writers_with_one_version_one_wins(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=BLOCKS)
        call = Calls(served)
        version = (await call("memory.update", agent=agent, label="human", value="x"))["version"]
        tries = (
            call("memory.update", agent=agent, label="human", value=str(i), ifVersion=version)
            for i in range(5)
        )
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        [won] = [o for o in outcomes if not isinstance(o, BaseException)]
        stored = await served.json("GET", f"/v1/agents/{agent}/core-memory/blocks/human")
        assert (stored["value"], won["version"]) == (won["value"], version + 1)


async def test_what_cannot_be_written_is_refused(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=BLOCKS)
        call = Calls(served)
        for code, words, more in (
            (404, "not found", {"label": "nobody", "value": "x"}),
            (422, "label: ", {"label": "../x", "value": "x"}),
            (422, "value: give a value", {"label": "human"}),
            (422, "value: the text has", {"label": "human", "value": "x" * 200_001}),
            (422, "$.ifVersion", {"label": "human", "value": "x", "ifVersion": -1}),
            (422, "$.ifVersion", {"label": "human", "value": "x", "ifVersion": 1.5}),
            (422, "$.limit", {"label": "human", "limit": 0}),
        ):
            await call.refused("memory.update", code, words, agent=agent, **more)


async def test_who_may_write_but_not_see_memory_is_not_told_its_value(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": "a secret diary"}])
        blind = Calls(served, Caller("token:a", scopes=SCOPES - {THOUGHTS}))
        told = await blind("memory.update", agent=agent, label="human", limit=900)
        assert (told["limit"], "value" in told) == (900, False)
        stale = {"agent": agent, "label": "human", "value": "mine", "ifVersion": told["version"] + 9}
        said = await blind.refused("memory.update", 409, f"has version {told['version']}", **stale)
        assert "diary" not in said
        own = await blind("memory.update", **{**stale, "ifVersion": told["version"]})
        assert own["value"] == "mine"
