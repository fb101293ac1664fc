"""The official `centrifuge-python` SDK, unchanged, against a real server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    DisconnectedContext,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)

from bench.provider import Provider
from gateway.config import Settings
from storage.pool import Pool
from tests.contract.cutting import Plan, Proxy, after, at, cutting, never
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import listening, serving

pytestmark = pytest.mark.timeout(60)

TEXT = " ".join(f"word{n}" for n in range(40))
NOWHERE = "http://127.0.0.1:1"


class Ends(ClientEventHandler):
    """Keeps the codes with which a client ended."""

    def __init__(self, codes: list[int], changed: asyncio.Event) -> None:
        self._codes = codes
        self._changed = changed

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self._codes.append(ctx.code)
        self._changed.set()


class Follower(SubscriptionEventHandler):
    """Follows an agent's conversation and keeps what happens."""

    def __init__(self, url: str, agent: str, token: str = "") -> None:
        self.publications: list[Any] = []
        self.subscribed: list[tuple[bool, bool]] = []
        self.disconnected: list[int] = []
        self._changed = asyncio.Event()
        self.client = Client(
            f"{url.replace('http', 'ws')}/v1/ws",
            events=Ends(self.disconnected, self._changed),
            token=token,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.2,
        )
        self._agent = agent
        self.subscription = self.client.new_subscription(
            f"conv:{agent}", events=self, positioned=True, recoverable=True
        )

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.publications.append(ctx.pub)
        self._changed.set()

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.subscribed.append((ctx.was_recovering, ctx.recovered))
        self._changed.set()

    async def follow(self) -> None:
        await self.client.connect()
        await self.subscription.subscribe()
        await self.subscription.ready(timeout=10)

    async def send(self, text: str) -> str:
        """Send a message, as often as that takes; return its run."""
        message = {"role": "user", "content": text}
        data = {"agent": self._agent, "messages": [message], "clientMessageId": f"cm-{self._agent}"}
        while True:
            try:
                await self.client.ready(timeout=10)
                return (await self.client.rpc("agent.send", data, timeout=10)).data["run"]
            except CentrifugeError as error:
                if getattr(error, "code", 0) >= 100:
                    raise

    async def until(self, holds: Any) -> None:
        with anyio.fail_after(30):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def told(self, run: str) -> str:
        """Wait for the end of a run and return the text that it told."""
        of_run = lambda: [pub for pub in self.publications if pub.tags["run"] == run]  # noqa: E731
        await self.until(lambda: any(pub.data["type"] == "RUN_FINISHED" for pub in of_run()))
        return "".join(pub.data["delta"] for pub in of_run() if pub.data["type"] == "TEXT_MESSAGE_CONTENT")


@asynccontextmanager
async def following(pool: Pool, provider: Provider, plan: Plan) -> AsyncGenerator[tuple[Proxy, Follower]]:
    async with (
        talking(pool, provider) as served,
        listening(served.app) as url,
        cutting(url, plan) as proxy,
    ):
        follower = Follower(proxy.url, (await served.agent(model=MODEL))["id"])
        try:
            await follower.follow()
            yield proxy, follower
        finally:
            await follower.client.disconnect()


async def test_it_follows_a_run_that_it_started(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": TEXT}])
    async with following(pool, provider, never) as (_, follower):
        assert await follower.told(await follower.send("hello")) == TEXT
    offsets = [pub.offset for pub in follower.publications]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


@pytest.mark.parametrize("code", [1012, 3008, 0])
async def test_it_survives_a_close_and_a_cut_in_mid_stream_with_its_whole_text(
    pool: Pool, provider: Provider, code: int
) -> None:
    await provider.script([{"text": TEXT, "gap_ms": 10}])
    async with following(pool, provider, at(b"word11", code)) as (proxy, follower):
        assert await follower.told(await follower.send("hello")) == TEXT
        assert proxy.connections == 2
    assert follower.subscribed == [(False, False), (True, True)]


@pytest.mark.parametrize("frame", [1, 2, 3, 4, 5])
async def test_a_close_at_the_beginning_loses_nothing_and_sends_nothing_twice(
    pool: Pool, provider: Provider, frame: int
) -> None:
    await provider.script([{"text": TEXT}, {"text": "twice"}])
    async with following(pool, provider, after(frame, 1012)) as (_, follower):
        assert await follower.told(await follower.send("hello")) == TEXT


async def test_it_sees_that_a_server_that_began_anew_has_forgotten(pool: Pool, provider: Provider) -> None:
    async with cutting(NOWHERE) as proxy, AsyncExitStack() as stack:
        async with talking(pool, provider) as served, listening(served.app) as url:
            proxy.target = url
            follower = Follower(proxy.url, (await served.agent(model=MODEL))["id"])
            stack.push_async_callback(follower.client.disconnect)
            await follower.follow()
            proxy.target = NOWHERE
        proxy.cut()
        again = await stack.enter_async_context(serving(pool))
        proxy.target = await stack.enter_async_context(listening(again.app))
        await follower.until(lambda: len(follower.subscribed) == 2)
        assert follower.subscribed == [(False, False), (True, False)]


async def test_it_stops_at_a_terminal_close(pool: Pool) -> None:
    async with (
        serving(pool, settings=Settings(api_key="right")) as served,
        listening(served.app) as url,
        cutting(url) as proxy,
    ):
        follower = Follower(proxy.url, "agent-x", token="wrong")
        await follower.client.connect()
        await follower.until(lambda: follower.disconnected)
        assert follower.disconnected == [3500]
        assert proxy.connections == 1
