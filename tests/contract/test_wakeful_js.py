"""Our own ES module under Node against a real server."""

import json
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bench.provider import Provider
from gateway.config import Settings
from storage.pool import Pool
from tests.contract.cutting import at, cutting, never
from tests.contract.node import Node, Running
from tests.contract.programs import lines, named, proxied
from tests.gateway.client.test_notices import CHANNEL, OWN, asked, joins, settled
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


@pytest.mark.alone
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


async def test_a_token_that_cannot_be_made_is_asked_for_again_and_the_reason_is_told(node: Node) -> None:
    async def talk(peer: Peer) -> None:
        assert (await peer.greet())["token"] == "good"
        await peer.reply(await peer.next("rpc"), rpc={"data": {}})
        await peer.gone()

    async with scripted(talk) as (url, wrong):
        said = lines(await node.run(WAITS, "token", url))
    assert [text for (text,) in named(said, "away")] == [
        "no token could be made: no route",
        "no token could be made: no answer",
    ]
    assert said[-2:] == [["open", None], ["ended", "the client was closed"]]
    assert wrong == []


async def test_a_token_that_is_denied_ends_the_client(node: Node) -> None:
    said = lines(await node.run(WAITS, "denied", NOWHERE))
    assert said == [["connecting", None], ["ended", 401], ["failed", "sign in again"]]


async def test_a_token_that_never_comes_is_given_up(node: Node) -> None:
    said = lines(await node.run(WAITS, "late", NOWHERE))
    assert named(said, "away") == [["no token could be made: no token came in time"]]


async def test_a_token_that_cannot_be_renewed_at_once_is_renewed_later(node: Node) -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet(expires=True, ttl=1)
        call = await peer.next("rpc")
        command = await peer.next("refresh")
        assert command["refresh"]["token"] == "second"
        await peer.reply(command, refresh={"expires": False})
        await peer.reply(call, rpc={"data": {}})
        await peer.gone()

    async with scripted(talk) as (url, wrong):
        assert lines(await node.run(WAITS, "renews", url)) == [["held"]]
    assert wrong == []


async def test_what_is_asked_of_a_user_is_told_once_over_a_cut(node: Node) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet(**OWN)
        await joins(peer)
        await peer.say({"push": {"channel": CHANNEL, "pub": asked(1)}})
        await peer.close(1012)

    async def second(peer: Peer) -> None:
        await peer.greet(**OWN)
        request = await joins(peer, offset=2, publications=[settled(2)], was_recovering=True, recovered=True)
        assert (request["epoch"], request["offset"]) == ("e1", 1)
        await peer.close(1012)

    async def third(peer: Peer) -> None:
        await peer.greet(**OWN)
        await joins(peer, epoch="e2", offset=7, was_recovering=True, recovered=False)
        await peer.gone()

    async with scripted(first, second, third) as (url, wrong):
        said = lines(await node.run(WAITS, "notices", url))
    assert said == [
        ["requested", "agent-1", "conv-1", "run-1", 1, 0],
        ["answered", "agent-1", "conv-1", "run-1", 0, 1],
        ["gap", 7],
        ["error", 0],  # it was closed
    ]
    assert wrong == []


async def test_a_token_without_a_channel_of_its_own_is_told_so(node: Node) -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.gone()

    async with scripted(talk) as (url, wrong):
        assert lines(await node.run(WAITS, "notices", url)) == [["error", 103]]
    assert wrong == []


async def test_routes_are_fetched_from_where_the_server_is(node: Node) -> None:
    found = named(lines(await node.run(WAITS, "fetches")), "fetched")
    assert found == [["/v1/capabilities"], ["/deep/v1/capabilities"], ["/deep/v1/capabilities"]]


async def test_what_is_served_is_a_module_that_browsers_keep(pool: Pool) -> None:
    async with serving(pool, settings=Settings(api_key="right")) as served:
        first = await served.http.get("/static/wakeful.js")
        again = await served.http.get("/static/wakeful.js", headers={"if-none-match": first.headers["etag"]})
        other = await served.http.get("/static/docs.js")
        types = await served.http.get("/static/wakeful.d.ts")
        imported = re.findall(r'from "\./([\w.-]+)"', first.text)
        parts = [await served.http.get(f"/static/{name}") for name in imported]
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert first.headers["cache-control"] == "public, no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 404
    assert types.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(parts) > 2
    assert {part.headers["content-type"] for part in parts} == {"text/javascript; charset=utf-8"}
