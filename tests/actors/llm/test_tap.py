"""Taps on real connections, on both event loops; and what they rely on in aiohttp's public interface."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import anyio
import pytest
import uvloop

from actors.llm.tap import Tap, tap
from tests.actors.llm.servers import ANSWER, HEAD, Exchange, Handler, server

DEADLINE = 20.0

Client = Callable[[aiohttp.ClientSession, str], Awaitable[None]]
Serving = Callable[[Handler, Client], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def serving(request: pytest.FixtureRequest) -> Serving:
    """Run a client against a server on one of the two event loops."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop,
        "uvloop": uvloop.new_event_loop,
    }

    async def run(handler: Handler, client: Client) -> None:
        with anyio.fail_after(DEADLINE):
            async with server(handler) as provider, aiohttp.ClientSession() as session:
                await client(session, provider.call_url)

    def served(handler: Handler, client: Client) -> None:
        with asyncio.Runner(loop_factory=loops[request.param]) as runner:
            runner.run(run(handler, client))

    return served


def protocol_of(response: aiohttp.ClientResponse) -> asyncio.BaseProtocol:
    """Return the protocol of the transport that a response arrives on."""
    assert response.connection is not None
    assert response.connection.transport is not None
    return response.connection.transport.get_protocol()


class Gate:
    """Lets a server go on when its client says so."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        await self._open.wait()
        self._open.clear()


def test_bytes_are_there_in_the_callback_in_which_they_arrive(serving: Serving) -> None:
    heard: list[bytes] = []
    gates: list[Gate] = []

    async def handler(exchange: Exchange) -> None:
        gates.append(gate := Gate())
        await exchange.request()
        await exchange.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for word in (b"one", b"two"):
            await gate.wait()
            await exchange.send(b"3\r\n%b\r\n" % word)
        await exchange.request()

    async def client(session: aiohttp.ClientSession, address: str) -> None:
        came = asyncio.Event()
        async with session.post(address) as response:

            def arrived() -> None:
                heard.append(response.content.read_nowait())
                came.set()

            assert tap(response, arrived) is not None
            for _ in range(2):
                gates[0].open()
                await came.wait()
                came.clear()

    serving(handler, client)
    assert heard == [b"one", b"two"]


def test_a_tap_is_gone_before_the_connection_serves_another_request(serving: Serving) -> None:
    numbers: set[int] = set()
    gates: list[Gate] = []

    async def handler(exchange: Exchange) -> None:
        gates.append(gate := Gate())
        while await exchange.request() is not None:
            numbers.add(exchange.number)
            await exchange.send(HEAD + b"content-length: %d\r\n\r\n" % len(ANSWER))
            await gate.wait()
            await exchange.send(ANSWER)

    async def client(session: aiohttp.ClientSession, address: str) -> None:
        for _ in range(3):
            ended = asyncio.Event()
            async with session.post(address) as response:
                own = protocol_of(response)
                assert not isinstance(own, Tap)

                def arrived(
                    response: aiohttp.ClientResponse = response, ended: asyncio.Event = ended
                ) -> None:
                    if response.content.is_eof():
                        ended.set()

                made = tap(response, arrived)
                assert protocol_of(response) is made
                connection = response.connection
                assert connection is not None
                assert (transport := connection.transport) is not None
                gates[0].open()
                await ended.wait()
                assert transport.get_protocol() is own
                assert await response.read() == ANSWER

    serving(handler, client)
    assert numbers == {1}


def test_a_removed_tap_hears_nothing_and_aiohttp_everything(serving: Serving) -> None:
    gates: list[Gate] = []

    async def handler(exchange: Exchange) -> None:
        gates.append(gate := Gate())
        await exchange.request()
        await exchange.send(HEAD + b"content-length: 3\r\n\r\n")
        await gate.wait()
        await exchange.send(b"all")

    async def client(session: aiohttp.ClientSession, address: str) -> None:
        async with session.post(address) as response:
            made = tap(response, lambda: pytest.fail("it was removed"))
            assert made is not None
            made.remove()
            made.remove()
            gates[0].open()
            assert await response.read() == b"all"

    serving(handler, client)


@pytest.mark.parametrize("end", ["closed", "reset"])
def test_a_lost_connection_is_heard_of(serving: Serving, end: str) -> None:
    gates: list[Gate] = []

    async def handler(exchange: Exchange) -> None:
        gates.append(gate := Gate())
        await exchange.request()
        await exchange.send(HEAD + b"content-length: 100\r\n\r\n")
        await gate.wait()
        if end == "reset":
            exchange.writer.transport.abort()

    async def client(session: aiohttp.ClientSession, address: str) -> None:
        lost = asyncio.Event()
        async with session.post(address) as response:
            assert tap(response, lost.set) is not None
            gates[0].open()
            await lost.wait()
            with pytest.raises(aiohttp.ClientError):
                response.content.read_nowait()

    serving(handler, client)


def test_where_all_has_come_there_is_nothing_to_tap(serving: Serving) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.answer()

    async def client(session: aiohttp.ClientSession, address: str) -> None:
        async with session.post(address) as response:
            body = await response.read()
            assert tap(response, lambda: None) is None
            assert body == ANSWER

    serving(handler, client)


def test_a_body_still_on_its_way_out_feels_back_pressure() -> None:
    """The request's writer is aiohttp's own: what the transport says of its buffer goes on to it."""
    said: list[str] = []

    class Inner(asyncio.Protocol):
        def pause_writing(self) -> None:
            said.append("pause")

        def resume_writing(self) -> None:
            said.append("resume")

        def eof_received(self) -> bool:
            said.append("eof")
            return True

    class Transport(asyncio.Transport):
        def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
            self.protocol = protocol

    made = Tap(Transport(), Inner(), lambda: None)
    made.pause_writing()
    made.resume_writing()
    assert made.eof_received()
    assert said == ["pause", "resume", "eof"]
