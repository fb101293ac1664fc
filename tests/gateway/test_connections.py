import asyncio
import contextlib
import http.client
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from gateway import connections
from gateway.connections import HEAD_BYTES, Connection
from gateway.sse import DIRECT, Writer
from tests.serving import listening

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


class App:
    """Answers `/` at once, `/refuse` without reading; `/stream` and `/never` begin or not, and then wait."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.left = anyio.Event()
        self.go_on = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        if scope["path"] == "/":
            await send({**start, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        if scope["path"] == "/refuse":
            headers = [(b"content-length", b"7"), (b"connection", b"close")]
            await send({**start, "status": 415, "headers": headers})
            await send({"type": "http.response.body", "body": b"refused"})
            return
        if scope["path"] == "/stream":
            await send(start)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        self.reached.set()
        while scope["path"] == "/stream":
            if (await receive())["type"] == "http.disconnect":
                self.left.set()
                return
        await self.go_on.wait()
        await send({**start, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"late"})


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.write = writer.write
        self.writer = writer
        self.reader = reader

    async def rest(self) -> bytes:
        """Return everything until the server closes or resets the connection."""
        got = b""
        with anyio.fail_after(15), contextlib.suppress(ConnectionResetError):
            while data := await self.reader.read(65536):
                got += data
        return got


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Peer]:
    parts = urlsplit(url)
    peer = Peer(*await asyncio.open_connection(parts.hostname, parts.port))
    try:
        yield peer
    finally:
        peer.writer.close()
        with contextlib.suppress(OSError):
            await peer.writer.wait_closed()


class Written:
    """A transport that keeps what is written to it; everything else is the real one's."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.real = transport
        self.all: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.all.append(data)
        self.real.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


async def written(monkeypatch: pytest.MonkeyPatch, request: bytes, app: Any) -> list[bytes]:
    """Return what the server wrote for a request that closes its connection, write by write."""
    transports: list[Written] = []

    class Watched(Connection):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            transports.append(Written(transport))
            super().connection_made(transports[-1])  # type: ignore[arg-type]

    monkeypatch.setattr(connections, "Connection", Watched)
    async with listening(app) as url, connected(url) as peer:
        peer.write(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert await peer.rest() == b"".join(transports[-1].all)
    return transports[-1].all


async def test_an_answer_of_known_length_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    said = await written(monkeypatch, GET, App())
    assert [part.partition(b"\r\n\r\n")[2] for part in said] == [b"ok"]


async def test_the_head_of_a_stream_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    head, *rest = await written(monkeypatch, GET, app)
    assert head.endswith(b"\r\n\r\n")
    assert rest == [b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("body", [b"", b"some"])
async def test_a_head_is_sent_where_no_body_follows(
    method: bytes, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    said = b"".join(await written(monkeypatch, GET.replace(b"GET", method), app))
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.partition(b"\r\n\r\n")[2] == (b"" if method == b"HEAD" else body)


async def test_a_head_without_its_body_still_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it complains of the application
    (head,) = await written(monkeypatch, GET, app)
    assert head.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("endless", [b"a", b"a: b\r\n"])
async def test_a_head_that_does_not_end_is_cut_off(endless: bytes) -> None:
    async with listening(App()) as url, connected(url) as peer:  # type: ignore[arg-type]
        peer.write(GET[:-2] + endless * (2 * HEAD_BYTES // len(endless)))
        assert (await peer.rest())[:13] in (b"HTTP/1.1 400 ", b"")  # a reset overtakes what was said


async def test_a_large_body_is_no_head() -> None:
    async with listening(App()) as url, connected(url) as peer:  # type: ignore[arg-type]
        body = b"x" * 3 * HEAD_BYTES
        peer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        peer.write(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert (await peer.rest()).count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"\r\n", GET[:-2]])
async def test_a_request_that_does_not_come_is_not_waited_for(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    async with listening(App()) as url, connected(url) as peer:  # type: ignore[arg-type]
        peer.write(said)
        assert await peer.rest() == b""


async def test_stray_bytes_do_not_end_an_answer_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    late = asyncio.Event()

    class Watched(Connection):
        def _late(self) -> None:
            super()._late()
            late.set()

    app = App()
    monkeypatch.setattr(connections, "Connection", Watched)
    async with listening(app) as url, connected(url) as peer:  # type: ignore[arg-type]
        peer.write(b"GET /never HTTP/1.1\r\nconnection: close\r\n\r\n")
        await app.reached.wait()
        monkeypatch.setattr(connections, "HEAD_SECONDS", 0.02)
        peer.write(b"\r\n")
        await late.wait()
        app.go_on.set()
        assert (await peer.rest()).endswith(b"late")


async def test_garbage_is_answered_and_the_connection_closed() -> None:
    async with listening(App()) as url, connected(url) as peer:  # type: ignore[arg-type]
        peer.write(b"\x16\x03\x01\x02\x00\x01")
        assert (await peer.rest()).startswith(b"HTTP/1.1 400 ")


async def test_at_the_end_a_stream_is_cut_and_its_endpoint_learns_it() -> None:
    app = App()
    assert (await said_until_the_end(app, b"GET /stream HTTP/1.1\r\n\r\n")).endswith(b"5\r\nbegun\r\n")
    assert app.left.is_set()


async def test_at_the_end_a_request_without_an_answer_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "LAST_ANSWERS_SECONDS", 0)
    said = await said_until_the_end(App(), b"GET /never HTTP/1.1\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head
    assert b"x-should-retry: true" in head
    assert b"connection: close" in head
    assert b'"type":"draining"' in body
    assert f"content-length: {len(body)}".encode() in head
    assert not caplog.records


async def test_at_the_end_a_request_may_still_be_answered() -> None:
    app = App()
    said = await said_until_the_end(app, b"GET /never HTTP/1.1\r\n\r\n", then=app.go_on.set)
    assert said.endswith(b"late")


async def said_until_the_end(app: App, request: bytes, *, then: Callable[[], None] | None = None) -> bytes:
    """Send a request, stop the server once its endpoint has it; return what the server said."""
    async with contextlib.AsyncExitStack() as stack:
        async with listening(app) as url:  # type: ignore[arg-type]
            peer = await stack.enter_async_context(connected(url))
            peer.write(request)
            await app.reached.wait()
            if then is not None:
                asyncio.get_running_loop().call_later(0.05, then)
        return await peer.rest()


# --- the short way ----------------------------------------------------------------------------------


class ShortWay:
    """Answers with a stream that is written past `send`; keeps how ready the way was."""

    def __init__(self) -> None:
        self.ready: list[bool] = []
        self.stalled = anyio.Event()
        self.left = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way: Writer = scope["extensions"][DIRECT]
        self.ready.append(way.ready())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.ready.append(way.ready())
        way.write(b"one ")
        await send({"type": "http.response.body", "body": b"two ", "more_body": True})
        way.write(b"three")
        if scope["path"] == "/flood":
            while way.ready():
                way.write(b"x" * 65536)
            self.stalled.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            self.ready.append(way.ready())
            self.left.set()
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self.ready.append(way.ready())


async def test_what_is_written_by_the_short_way_stands_in_the_stream_where_it_was_said() -> None:
    app = ShortWay()
    async with listening(app) as url, connected(url) as peer:  # type: ignore[arg-type]
        peer.write(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        body = (await peer.rest()).partition(b"\r\n\r\n")[2]
    assert body == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"
    assert app.ready == [False, True, False]  # before the response begins, in it, after its end


async def test_the_short_way_is_closed_while_a_client_does_not_read_and_when_it_left() -> None:
    app = ShortWay()
    async with listening(app) as url:  # type: ignore[arg-type]
        async with connected(url) as peer:
            peer.write(GET.replace(b"/", b"/flood", 1))
            with anyio.fail_after(10):
                await app.stalled.wait()
            peer.writer.transport.abort()
        with anyio.fail_after(10):
            await app.left.wait()
    assert app.ready == [False, True, False]


async def test_a_client_that_sends_its_whole_body_first_is_told_that_it_is_refused() -> None:
    def ask(netloc: str) -> tuple[int, bytes]:
        client = http.client.HTTPConnection(netloc, timeout=10)
        try:
            client.request("POST", "/refuse", body=b"x" * 6_000_000)
            response = client.getresponse()
            return response.status, response.read()
        finally:
            client.close()

    async with listening(App()) as url:
        for _ in range(3):
            assert await asyncio.to_thread(ask, urlsplit(url).netloc) == (415, b"refused")


async def test_a_refused_client_is_left_when_it_sends_too_much_or_too_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = b"POST /refuse HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n"
    monkeypatch.setattr(connections, "LINGER_BYTES", 100_000)
    async with listening(App()) as url:
        async with connected(url) as peer:
            peer.write(head)
            assert await peer.reader.readuntil(b"refused")
            with anyio.fail_after(10), contextlib.suppress(ConnectionError):
                while True:
                    peer.write(b"x" * 50_000)
                    await peer.writer.drain()
        monkeypatch.setattr(connections, "LINGER_SECONDS", 0.05)
        async with connected(url) as peer:
            peer.write(head + b"x")
            assert (await peer.rest()).endswith(b"refused")


async def test_a_refused_client_that_waits_to_be_asked_for_its_body_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 60.0)
    async with listening(App()) as url, connected(url) as peer:
        peer.write(
            b"POST /refuse HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        )
        assert (await peer.rest()).endswith(b"refused")


async def test_a_refused_client_has_no_further_request_of_it_served() -> None:
    app = App()
    async with listening(app) as url, connected(url) as peer:  # type: ignore[arg-type]
        peer.write(b"POST /refuse HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n")
        await peer.reader.readuntil(b"refused")
        peer.write(b"x" * 9 + GET.replace(b"/ ", b"/never "))
        assert await peer.rest() == b""
    assert not app.reached.is_set()


def test_a_websocket_is_asked_whether_it_is_there_and_may_send_little_at_once() -> None:
    config = connections.Server(app=None, on_started=lambda: None).config
    assert (config.ws_ping_interval, config.ws_ping_timeout) == (20.0, 20.0)
    assert (config.ws_max_size, config.ws_per_message_deflate) == (64 * 1024, False)
