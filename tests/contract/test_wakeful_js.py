"""Our own ES module under Node against a real server."""

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bench.provider import Provider
from gateway.config import Settings
from storage.pool import Pool
from tests.contract.cutting import at, cutting, never
from tests.contract.node import Node, Running
from tests.contract.programs import lines, named, proxied
from tests.gateway.rest.talking import MODEL, talking
from tests.gateway.scripted_server import Peer, scripted
from tests.serving import listening, serving

pytestmark = pytest.mark.timeout(120)

TEXT = " ".join(f"word{n}" for n in range(40))
PROGRAM = "wakeful_follow.mjs"
WAITS = "wakeful_waits.mjs"
NOWHERE = "http://127.0.0.1:1"


async def test_it_follows_a_run_that_it_started(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([{"text": TEXT}])
    async with proxied(pool, provider, never) as (proxy, agent):
        said = lines(await node.run(PROGRAM, proxy.url, agent, "hello"))
    assert named(said, "sent") == [["started"]]
    assert named(said, "told") == [[TEXT]]
    assert [state for state, _ in named(said, "state")] == ["connecting", "open", "ended"]
    offsets = [offset for offset, _ in named(said, "event")]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


@pytest.mark.parametrize("code", [1012, 3001, 3008, 0])
async def test_it_goes_on_where_it_stood(pool: Pool, provider: Provider, node: Node, code: int) -> None:
    await provider.script([{"text": TEXT, "gap_ms": 10}])
    async with proxied(pool, provider, at(b"word11", code)) as (proxy, agent):
        said = lines(await node.run(PROGRAM, proxy.url, agent, "hello"))
    assert named(said, "told") == [[TEXT]]
    assert [state for state, _ in named(said, "state")] == [
        "connecting",
        "open",
        "away",
        "connecting",
        "open",
        "ended",
    ]
    offsets = [offset for offset, _ in named(said, "event")]
    assert offsets == sorted(set(offsets))


async def test_a_server_that_began_anew_is_told_as_a_gap(pool: Pool, provider: Provider, node: Node) -> None:
    async with cutting(NOWHERE) as proxy, AsyncExitStack() as stack:
        async with talking(pool, provider) as served, listening(served.app) as url:
            proxy.target = url
            agent = (await served.agent(model=MODEL))["id"]
            program = await stack.enter_async_context(node.start(PROGRAM, proxy.url, agent, ""))
            await _until(program, "ready")
            proxy.target = NOWHERE
        proxy.cut()
        again = await stack.enter_async_context(serving(pool))
        proxy.target = await stack.enter_async_context(listening(again.app))
        assert await _until(program, "gap") == [0]


async def _until(program: Running, name: str) -> list[Any]:
    while True:
        first, *rest = json.loads(await program.line())
        if first == name:
            return rest


async def test_it_stops_at_a_terminal_close(pool: Pool, node: Node) -> None:
    async with (
        serving(pool, settings=Settings(api_key="right")) as served,
        listening(served.app) as url,
        node.start(PROGRAM, url, "agent-x", "", "wrong") as program,
    ):
        assert await _until(program, "state") == ["connecting", None]
        assert await _until(program, "state") == ["ended", 3500]


async def test_a_channel_that_is_not_there_is_an_error(pool: Pool, node: Node) -> None:
    agent = "agent-00000000-0000-4000-8000-000000000000"
    async with (
        serving(pool) as served,
        listening(served.app) as url,
        node.start(PROGRAM, url, agent, "") as program,
    ):
        code, message = await _until(program, "error")
    assert code in (102, 103)
    assert message


async def test_a_channel_that_is_never_answered_is_asked_for_on_another_connection(node: Node) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.greet()
        await peer.next("subscribe")
        await peer.socket.wait_closed()

    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.publish("conv:c", 1)
        await peer.gone()

    async with scripted(deaf, talk) as (url, wrong):
        assert lines(await node.run(WAITS, "follow", url)) == [["event", 1]]
    assert wrong == []


async def test_what_is_never_answered_is_given_up_when_patience_ends(node: Node) -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.next("rpc")
        await peer.next("rpc")
        await peer.socket.wait_closed()

    async with scripted(talk) as (url, wrong):
        assert lines(await node.run(WAITS, "ask", url)) == [["failed", True]]
    assert wrong == []


async def test_a_token_that_outlives_what_timers_hold_is_not_renewed_at_once(node: Node) -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet(expires=True, ttl=10 * 365 * 86_400)
        for _ in range(2):
            await peer.reply(await peer.next("rpc"), rpc={"data": {}})
        await peer.gone()

    async with scripted(talk) as (url, wrong):
        assert lines(await node.run(WAITS, "hold", url)) == [["held"]]
    assert wrong == []


async def test_routes_are_fetched_from_where_the_server_is(node: Node) -> None:
    found = named(lines(await node.run(WAITS, "fetches")), "fetched")
    assert found == [["/v1/capabilities"], ["/deep/v1/capabilities"], ["/deep/v1/capabilities"]]


async def test_what_is_served_is_a_module_that_browsers_keep(pool: Pool) -> None:
    async with serving(pool, settings=Settings(api_key="right")) as served:
        first = await served.http.get("/static/wakeful.js")
        again = await served.http.get("/static/wakeful.js", headers={"if-none-match": first.headers["etag"]})
        other = await served.http.get("/static/docs.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert first.headers["cache-control"] == "public, no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 404
