"""The official `centrifuge` SDK for JavaScript, unchanged, against a real server."""

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bench.provider import Provider
from gateway.config import Settings
from storage.pool import Pool
from tests.contract.cutting import after, at, cutting, never
from tests.contract.node import Node, Running
from tests.contract.programs import lines, named, proxied
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import listening, serving

pytestmark = pytest.mark.timeout(90)

TEXT = " ".join(f"word{n}" for n in range(40))
PROGRAM = "centrifuge_follow.mjs"
NOWHERE = "http://127.0.0.1:1"


async def test_it_follows_a_run_that_it_started(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([{"text": TEXT}])
    async with proxied(pool, provider, never) as (proxy, agent):
        said = lines(await node.run(PROGRAM, proxy.url, agent, "hello"))
    types = [kind for _, kind in named(said, "event")]
    assert types[0] == "RUN_STARTED"
    assert types[-1] == "RUN_FINISHED"
    assert named(said, "sent") == [["started"]]
    assert named(said, "told") == [[TEXT]]
    offsets = [offset for offset, _ in named(said, "event")]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


@pytest.mark.parametrize("code", [1012, 0])
async def test_it_survives_a_close_and_a_cut_in_mid_stream_with_its_whole_text(
    pool: Pool, provider: Provider, node: Node, code: int
) -> None:
    await provider.script([{"text": TEXT, "gap_ms": 10}])
    async with proxied(pool, provider, at(b"word11", code)) as (proxy, agent):
        said = lines(await node.run(PROGRAM, proxy.url, agent, "hello"))
        assert proxy.connections == 2
    assert named(said, "told") == [[TEXT]]
    assert named(said, "subscribed") == [[False, False, True], [True, True, True]]
    offsets = [offset for offset, _ in named(said, "event")]
    assert len(set(offsets)) == len(offsets)


async def test_it_sees_that_a_server_that_began_anew_has_forgotten(
    pool: Pool, provider: Provider, node: Node
) -> None:
    async with cutting(NOWHERE) as proxy, AsyncExitStack() as stack:
        async with talking(pool, provider) as served, listening(served.app) as url:
            proxy.target = url
            agent = (await served.agent(model=MODEL))["id"]
            program = await stack.enter_async_context(node.start(PROGRAM, proxy.url, agent, ""))
            assert await _until(program, "subscribed") == [False, False, True]
            proxy.target = NOWHERE
        proxy.cut()
        await _until(program, "connecting")
        again = await stack.enter_async_context(serving(pool))
        proxy.target = await stack.enter_async_context(listening(again.app))
        assert await _until(program, "subscribed") == [True, False, True]


async def _until(program: Running, name: str) -> list[Any]:
    while True:
        first, *rest = json.loads(await program.line())
        if first == name:
            return rest


async def test_it_stops_at_a_terminal_close(pool: Pool, node: Node) -> None:
    async with (
        serving(pool, settings=Settings(api_key="right")) as served,
        listening(served.app) as url,
        cutting(url) as proxy,
    ):
        said = lines(await node.run(PROGRAM, proxy.url, "agent-x", "", "wrong"))
        assert proxy.connections == 1
    assert [code for code, _ in named(said, "disconnected")] == [3500]
    assert named(said, "connected") == []


async def test_it_connects_with_the_api_key(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([{"text": TEXT}])
    async with (
        talking(pool, provider, settings=Settings(api_key="right")) as served,
        listening(served.app) as url,
    ):
        served.http.headers["authorization"] = "Bearer right"
        agent = (await served.agent(model=MODEL))["id"]
        said = lines(await node.run(PROGRAM, url, agent, "hello", "right"))
    assert named(said, "told") == [[TEXT]]


@pytest.mark.parametrize("frame", [1, 2, 3])
async def test_a_close_before_anything_was_said_loses_nothing_and_sends_nothing_twice(
    pool: Pool, provider: Provider, node: Node, frame: int
) -> None:
    await provider.script([{"text": TEXT}, {"text": "twice"}])
    async with proxied(pool, provider, after(frame, 1012)) as (proxy, agent):
        said = lines(await node.run(PROGRAM, proxy.url, agent, "hello"))
        assert proxy.connections == 2
    assert named(said, "told") == [[TEXT]]
