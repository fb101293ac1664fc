import asyncio
import gc
import tracemalloc

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from gateway import connections
from gateway.feeds.frames import framed
from gateway.realtime import sockets
from gateway.realtime.protocol import FRAME_BYTES
from gateway.realtime.sockets import EXTENSION, MAX_FRAGMENTS, Socket
from tests.gateway.raw_websocket import BINARY, PING, PONG, deflate_frame, frame, upgraded
from tests.serving import listening


class Echo:
    """An application that gives back what it hears; `deaf` ones only listen to the end."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf
        self.heard: list[bytes] = []
        self.socket: Socket | None = None
        self.opened = anyio.Event()
        self.over = anyio.Event()
        self.made_writable = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket: Socket = scope["extensions"][EXTENSION]
        self.socket = socket
        socket.listener = self
        await send({"type": "websocket.accept"})
        self.opened.set()
        await self.over.wait()

    def received(self, data: bytes) -> None:
        self.heard.append(data)
        if not self.deaf and self.socket is not None:
            self.socket.write(framed(data))

    def writable(self) -> None:
        self.made_writable += 1

    def stopped(self) -> None:
        """The tests ask the socket itself."""

    def lost(self) -> None:
        self.over.set()


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("op", [1, BINARY])
async def test_frames_of_every_length_arrive_whole(size: int, op: int) -> None:
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        peer.send(frame(b"x" * size, op))
        assert await peer.read() == (1, b"x" * size)


async def test_fragments_are_one_message_and_may_be_empty() -> None:
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        whole = "grüße".encode()
        peer.send(frame(whole[:3], fin=0) + frame(b"", op=0, fin=0) + frame(b"ping", PING))
        peer.send(frame(whole[3:], op=0))
        assert await peer.read() == (PONG, b"ping")
        assert await peer.read() == (1, b"")  # a ping counts as an empty message
        assert await peer.read() == (1, whole)


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", b"\xc3"]
)
async def test_bad_utf8_closes(text: bytes) -> None:
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        peer.send(frame(text))
        assert await peer.end() == 1007
    assert app.heard == []


@pytest.mark.parametrize(
    "data",
    [frame(b"x" * (FRAME_BYTES + 1)), frame(b"x" * FRAME_BYTES, fin=0) + frame(b"x", op=0)],
    ids=["one frame", "fragments"],
)
async def test_a_message_that_is_too_large_closes(data: bytes) -> None:
    async with listening(Echo()) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        peer.send(data)
        assert await peer.end() == 1009


async def test_endless_fragments_end() -> None:
    async with listening(Echo()) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        peer.send(frame(b"", fin=0) + frame(b"", op=0, fin=0) * (MAX_FRAGMENTS + 10))
        assert await peer.end() == 1008


async def test_nobody_can_make_us_inflate() -> None:
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    bomb = deflate_frame(b"\0" * 50_000_000)
    app = Echo()
    async with listening(app) as url, upgraded(url, headers=offer) as peer:  # type: ignore[arg-type]
        assert "sec-websocket-extensions" not in peer.headers
        gc.collect()
        tracemalloc.start()
        try:
            peer.send(bomb)
            assert await peer.end() == 1002
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()
    assert app.heard == []


async def test_unread_input_does_not_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock uvicorn stops reading after one message, so that it misses the pongs behind it."""
    monkeypatch.setattr(connections, "PING_SECONDS", 1.0)
    app = Echo(deaf=True)
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        pings = 0
        peer.send(frame(b"one") + frame(b"two"))
        while pings < 4:
            op, payload = await peer.read()
            assert op == PING
            pings += 1
            peer.send(frame(payload, PONG))
        assert not app.over.is_set()
    assert app.heard[:2] == [b"one", b"two"]


async def test_a_peer_that_answers_no_ping_and_reads_nothing_is_aborted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stock uvicorn waits for ever for the buffer of such a peer to empty."""
    monkeypatch.setattr(connections, "PING_SECONDS", 0.2)
    monkeypatch.setattr(sockets, "ABORT_SECONDS", 0.1)
    app = Echo(deaf=True)
    async with listening(app) as url, upgraded(url, receive_bytes=4096):  # type: ignore[arg-type]
        await app.opened.wait()
        assert app.socket is not None
        while app.socket.ready:
            app.socket.write(framed(b"x" * 8192))
            await asyncio.sleep(0)
        with anyio.fail_after(10):
            await app.over.wait()
        assert app.socket.transport.get_write_buffer_size() == 0


async def test_a_close_that_is_not_answered_is_an_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "ABORT_SECONDS", 0.1)
    app = Echo(deaf=True)
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        await app.opened.wait()
        assert app.socket is not None
        app.socket.finish(3008, "slow")
        app.socket.finish(3001, "again")
        assert not app.socket.ready
        with anyio.fail_after(10):
            await app.over.wait()
        assert await peer.end() == 3008


async def test_pings_of_a_peer_that_reads_nothing_are_not_answered() -> None:
    app = Echo(deaf=True)
    async with listening(app) as url, upgraded(url, receive_bytes=4096) as peer:  # type: ignore[arg-type]
        await app.opened.wait()
        assert app.socket is not None
        while app.socket.ready:
            app.socket.write(framed(b"x" * 8192))
            await asyncio.sleep(0)
        before = app.socket.unsent()
        for _ in range(100):
            peer.send(frame(b"p" * 125, PING) * 20)
            await peer.writer.drain()
        with anyio.fail_after(10):
            while len(app.heard) < 2000:
                await asyncio.sleep(0.01)
        assert app.socket.unsent() <= before


async def test_a_socket_says_when_it_takes_data_again() -> None:
    app = Echo(deaf=True)
    async with listening(app) as url, upgraded(url, receive_bytes=4096) as peer:  # type: ignore[arg-type]
        await app.opened.wait()
        assert app.socket is not None
        while app.socket.ready:
            app.socket.write(framed(b"x" * 8192))
            await asyncio.sleep(0)
        with anyio.fail_after(10):
            while not app.made_writable:
                await peer.reader.read(65536)
        assert app.socket.ready


async def test_the_head_timers_of_http_leave_a_websocket_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)  # the handshake itself has that much time
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.1)
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        await asyncio.sleep(1.5)  # more than what would have ended it
        peer.send(frame(b"still here"))
        assert await peer.read() == (1, b"still here")


async def test_the_kernel_holds_little_for_a_peer() -> None:
    app = Echo(deaf=True)
    async with listening(app) as url, upgraded(url, receive_bytes=4096):  # type: ignore[arg-type]
        await app.opened.wait()
        assert app.socket is not None
        written = 0
        while app.socket.ready:
            app.socket.write(framed(b"x" * 8192))
            written += 8192
            await asyncio.sleep(0)
        assert written < 1024 * 1024
