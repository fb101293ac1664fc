"""One websocket connection of the realtime client, cheap enough to have thousands of in one process."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import msgspec
from msgspec import Struct

from bench import frames
from bench.replies import STAMP

TOKEN = b'"TEXT_MESSAGE_CONTENT"'
ENDED = (b'"RUN_FINISHED"', b'"RUN_ERROR"')
STALLED_BUFFER_BYTES = 8192  # the kernel's, of a connection that shall stall; the other side holds the rest

_DELTA = b'"delta":"'
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Counts:
    """What the connections of a process have received. `clear` begins anew."""

    def __init__(self) -> None:
        self.lost = 0
        self.codes: Counter[int] = Counter()
        self.clear()

    def clear(self) -> None:
        """Forget what was received, but not which connections were lost."""
        self.messages = self.tokens = self.received_bytes = 0
        self.sample = b""
        self.delays_ns: list[int] = []


class Peer(asyncio.Protocol):
    """A connection. Replies are awaited by `call`; of pushes it counts tokens and how late they come.

    `plain` connections speak no protocol: they only count. Methods that wait have no deadline of their own.
    """

    def __init__(self, counts: Counts, address: tuple[str, int], path: str, *, plain: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._counts = counts
        self._address = address
        self._path = path
        self._plain = plain
        self._transport: asyncio.Transport
        self._reader: frames.Reader | None = None
        self._head = b""
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self._id = 0
        self._closing = False
        self.hear: Callable[[bytes], None] | None = None  # gets every push
        self.on_lost: Callable[[Exception], None] | None = None  # is told when the connection is lost

    async def open(self, *, small_buffer: bool = False) -> None:
        """Connect, and say who it is. Raises `RuntimeError` where the server refuses."""
        sock = socket.socket()
        sock.setblocking(False)
        if small_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._loop.sock_connect(sock, self._address)
        await self._loop.create_connection(lambda: self, sock=sock)
        await self._opened
        if self._plain:
            self._transport.write(frames.frame(frames.MASK))
        else:
            await self.call("connect", {})

    async def call(self, method: str, argument: object) -> bytes:
        """Send a command and return its whole reply. Raises `RuntimeError` where it is an error."""
        self._id += 1
        reply = self._replies[self._id] = self._loop.create_future()
        self._transport.write(frames.frame(msgspec.json.encode({"id": self._id, method: argument})))
        data = await reply
        if b'"error":{' in data[:40]:
            raise RuntimeError(f"{method} was refused: {data[data.index(b'error') + 7 : -1][:300].decode()}")
        return data

    def say(self, payload: bytes) -> None:
        """Send a message that is no command."""
        self._transport.write(frames.frame(payload))

    def stall(self) -> None:
        """Read nothing any more."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Leave, without a word."""
        self._closing = True
        self._transport.abort()

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(frames.handshake(*self._address, self._path))

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:16]:
                self._fail(RuntimeError(f"no websocket: {head[:100].decode()}"))
                return
            self._reader = frames.Reader()
            self._opened.set_result(None)
        self._counts.received_bytes += len(data)
        for opcode, payload in self._reader.feed(data):
            if opcode == frames.TEXT:
                self._message(payload)
            elif opcode == frames.PING:
                self._transport.write(frames.frame(payload, frames.PONG))
            elif opcode == frames.CLOSE:
                self._counts.codes[int.from_bytes(payload[:2], "big")] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.lost += not self._closing
        error = exc or ConnectionResetError("the server closed the connection")
        self._fail(error)
        if self.on_lost is not None:
            self.on_lost(error)

    def _fail(self, error: Exception) -> None:
        for waiting in (self._opened, *self._replies.values()):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # whoever waits gets it; nobody need to

    def _message(self, payload: bytes) -> None:
        counts = self._counts
        counts.messages += 1
        if payload == b"{}":
            self._transport.write(frames.frame(payload))
            return
        for line in payload.split(b"\n"):
            if line.startswith(b'{"id"'):
                reply = self._replies.pop(_number(line), None)
                if reply is not None and not reply.done():
                    reply.set_result(line)
                continue
            if self.hear is not None:
                self.hear(line)
            if TOKEN in line:
                counts.tokens += 1
                self._time(line)

    def _time(self, line: bytes) -> None:
        """Note how late a stamped token is."""
        counts = self._counts
        counts.sample = line
        at = line.find(_DELTA) + len(_DELTA)
        stamp = line[at : at + len(STAMP)]
        if stamp.isdigit():
            counts.delays_ns.append(time.monotonic_ns() - int(stamp))


def _number(line: bytes) -> int:
    """The id of a reply: its first field."""
    start = line.index(b":") + 1
    end = start
    while line[end : end + 1].isdigit():
        end += 1
    return int(line[start:end])


class Gap(Struct, frozen=True):
    """One resume: milliseconds from connecting, and from subscribing, until every event was there.

    `first` and `last` are the offsets of what came; `exact` says that each between them came once, in order.
    """

    whole_ms: float
    subscribe_ms: float
    first: int
    last: int
    exact: bool


def gap_of(reply: bytes, *, began_ns: int, subscribed_ns: int, ended_ns: int) -> Gap:
    """Read the reply to a subscribe that recovers. Raises `RuntimeError` where it did not."""
    result = _decode(reply)["subscribe"]
    if not result.get("recovered"):
        raise RuntimeError("the gap was not recovered")
    offsets = [publication["offset"] for publication in result["publications"]]
    first, last = offsets[0], offsets[-1]
    return Gap(
        (ended_ns - began_ns) / 1e6,
        (ended_ns - subscribed_ns) / 1e6,
        first,
        last,
        offsets == list(range(first, last + 1)),
    )
