"""The response that sends a stream: what it writes, when it pings, and when it lets go."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anyio
import pytest
from starlette.types import Message

from gateway import sse
from gateway.sse import Direct, EventStream
from tests.gateway.clocks import ManualClock, manual_clock

PING_SECONDS = 20.0


class Client:
    """The other end of an ASGI connection: keeps what is sent, may stop reading, may leave."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reading = anyio.Event()
        self.reading.set()
        self.left = anyio.Event()

    async def send(self, message: Message) -> None:
        await self.reading.wait()
        self.messages.append(message)

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def bodies(self) -> list[bytes]:
        return [m["body"] for m in self.messages if m["type"] == "http.response.body"]


class Source:
    """Batches that tests push; notes whether it was closed."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: asyncio.Queue[list[bytes] | None] = asyncio.Queue()

    def say(self, *events: bytes) -> None:
        self._waiting.put_nowait(list(events))

    def end(self) -> None:
        self._waiting.put_nowait(None)

    async def batches(self) -> AsyncGenerator[list[bytes], None]:
        try:
            while (batch := await self._waiting.get()) is not None:
                yield batch
        finally:
            self.closed = True


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    with manual_clock() as mine:
        yield mine


class ShortWay:
    """What a server offers under `DIRECT`; `taking` is whether the client reads."""

    def __init__(self, client: Client) -> None:
        self.taking = True
        self._client = client

    def ready(self) -> bool:
        return self.taking

    def write(self, body: bytes) -> None:
        self._client.messages.append({"type": "http.response.body", "body": body, "more_body": True})


def stream(source: Source, *, pings: bool = True, direct: Direct | None = None) -> EventStream:
    return EventStream(
        source.batches(),
        direct=direct,
        ping=(lambda: b"ping") if pings else None,
        ping_seconds=PING_SECONDS,
        give_up=lambda: b"enough",
    )


async def serve(source: Source, client: Client, **options: Any) -> None:
    await stream(source, **options)({"type": "http"}, client.receive, client.send)


async def test_a_batch_is_one_write_and_the_response_ends_with_its_source(clock: ManualClock) -> None:
    source, client = Source(), Client()
    source.say(b"a", b"b")
    source.say(b"c")
    source.end()
    await serve(source, client)
    start, *rest = client.messages
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache"
    assert headers[b"x-accel-buffering"] == b"no"
    assert [(m["body"], m["more_body"]) for m in rest] == [(b"ab", True), (b"c", True), (b"", False)]
    assert source.closed


async def test_a_large_batch_goes_out_in_bounded_pieces(clock: ManualClock) -> None:
    source, client = Source(), Client()
    events = [bytes([i]) * 30_000 for i in range(10)]
    source.say(*events, b"x" * 200_000, b"y")
    source.end()
    await serve(source, client)
    assert b"".join(client.bodies) == b"".join(events) + b"x" * 200_000 + b"y"
    assert [len(body) for body in client.bodies[:-1]] == [60_000] * 5 + [200_000, 1]


async def test_silence_is_broken_by_pings(clock: ManualClock) -> None:
    source, client = Source(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, source, client)
        await clock.advance(PING_SECONDS - 1)
        source.say(b"a")
        await clock.advance(PING_SECONDS - 1)
        assert client.bodies == [b"a"]
        await clock.advance(1)
        assert client.bodies == [b"a", b"ping"]
        await clock.advance(2 * PING_SECONDS)
        assert client.bodies == [b"a", b"ping", b"ping", b"ping"]
        source.end()


async def test_what_is_written_directly_counts_as_a_sign_of_life(clock: ManualClock) -> None:
    source, client, direct = Source(), Client(), Direct()
    scope: dict[str, Any] = {"type": "http", "extensions": {sse.DIRECT: ShortWay(client)}}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream(source, direct=direct), scope, client.receive, client.send)
        await clock.advance(PING_SECONDS - 1)
        assert direct.ready()
        direct.write(b"a")
        await clock.advance(PING_SECONDS - 1)
        assert client.bodies == [b"a"]
        await clock.advance(1)
        assert client.bodies == [b"a", b"ping"]
        source.end()


async def test_a_server_without_the_short_way_leaves_all_to_the_source() -> None:
    source, client, direct = Source(), Client(), Direct()
    source.end()
    await serve(source, client, direct=direct)
    assert not direct.ready()


async def test_a_client_that_wants_no_pings_gets_none(clock: ManualClock) -> None:
    source, client = Source(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(source, client, pings=False))
        await clock.advance(10 * PING_SECONDS)
        assert client.bodies == []
        source.end()


@pytest.mark.parametrize("pings", [False, True])
async def test_a_stream_that_stays_silent_says_so_and_ends(clock: ManualClock, pings: bool) -> None:
    source, client = Source(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(source, client, pings=pings))
        await clock.advance(sse.QUIET_SECONDS)
    assert client.messages[-1] == {"type": "http.response.body", "body": b"enough", "more_body": False}
    assert source.closed


async def test_a_client_that_leaves_ends_the_response_and_closes_the_source(clock: ManualClock) -> None:
    source, client = Source(), Client()
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, source, client)
            await clock.advance(1)
            client.left.set()
    assert source.closed
    assert client.bodies == []


@pytest.mark.parametrize("pings", [False, True])
async def test_a_client_that_takes_nothing_is_dropped(clock: ManualClock, pings: bool) -> None:
    source, client = Source(), Client()
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: serve(source, client, pings=pings))
            await clock.advance(1)
            client.reading = anyio.Event()
            source.say(b"a")
            await clock.advance(2 * sse.STALL_SECONDS)
    assert source.closed
    assert client.bodies == []


async def test_a_client_that_stalls_on_a_ping_is_dropped(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "STALL_SECONDS", 0.05)
    source, client = Source(), Client()
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, source, client)
            await clock.advance(1)
            client.reading = anyio.Event()
            await clock.advance(PING_SECONDS)
    assert source.closed


async def test_nothing_follows_the_end_of_a_response(clock: ManualClock) -> None:
    """A ping that waited for the client while the stream ended is not sent after its end."""
    source, client = Source(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, source, client)
        await clock.advance(1)
        client.reading = anyio.Event()
        await clock.advance(PING_SECONDS)
        source.end()
        await clock.advance(0)
        client.reading.set()
    assert client.messages[-1]["more_body"] is False
    assert [m["more_body"] for m in client.messages[1:]].count(False) == 1
