"""Clients of the realtime gateway by the hundred: some read and keep account, some never read."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec

from tests.gateway.raw_websocket import KEY, PING, PONG, TEXT, frame

RECEIVE_BYTES = 4096  # what the kernel keeps for one that does not read
ASK = (
    "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()

_decode = msgspec.json.Decoder().decode

LOOK_SECONDS = 0.001  # between looks at the kernel's account, which cost a few microseconds each


class OwnTime:
    """A clock that stands still while this thread waits for a processor, which other programs use.

    What it waits for otherwise, and what it does itself, takes as long as on any clock. Only Linux keeps
    this account; elsewhere the clock goes like any other.
    """

    def __init__(self) -> None:
        self._file = -1
        with suppress(OSError):
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._looked = 0.0
        self._waited = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        now = time.monotonic()
        if self._file >= 0 and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._waited = int(os.pread(self._file, 100, 0).split()[1]) / 1e9
        return now - self._waited


own_time = OwnTime()


class Listener(asyncio.Protocol):
    """Follows one channel. Keeps the length of the text it saw and each message's arrival by `own_time`."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._buffer = b""
        self._upgraded = False
        self._transport: Any = None
        self.joined = anyio.Event()
        self.text_chars = 0
        self.offset = 0
        self.disorder = 0
        self.close_code: int | None = None
        self.arrived: list[tuple[int, float]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(ASK)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, separator, self._buffer = self._buffer.partition(b"\r\n\r\n")
            assert separator
            assert b" 101 " in head
            self._upgraded = True
            self._transport.write(frame(b'{"id":1,"connect":{}}'))
            self._transport.write(frame(b'{"id":2,"subscribe":{"channel":"%b"}}' % self._channel.encode()))
        while self._take():
            pass

    def _take(self) -> bool:
        """Take one frame off the buffer, if there is a whole one."""
        buffer = self._buffer
        if len(buffer) < 4:
            return False
        size, start = buffer[1], 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + size:
            return False
        payload, self._buffer = buffer[start : start + size], buffer[start + size :]
        self._hear(buffer[0] & 0x0F, payload)
        return True

    def _hear(self, op: int, payload: bytes) -> None:
        if op == PING:
            self._transport.write(frame(payload, PONG))
        elif op != TEXT:
            self.close_code = int.from_bytes(payload[:2], "big")
        elif payload == b"{}":
            self._transport.write(frame(b"{}"))
        else:
            now = own_time()
            for line in payload.split(b"\n"):
                self._read(_decode(line), now)

    def _read(self, said: Any, now: float) -> None:
        if said.get("id") == 2:
            assert "subscribe" in said, said
            self.joined.set()
        elif "push" in said:
            publication = said["push"]["pub"]
            self.disorder += publication["offset"] <= self.offset
            self.offset = publication["offset"]
            self.text_chars += len(publication["data"].get("delta", ""))
            self.arrived.append((self.offset, now))

    def stall(self) -> None:
        """Read no more."""
        self._transport.pause_reading()

    def leave(self) -> None:
        """Go without a word."""
        self._transport.abort()


@asynccontextmanager
async def listeners(
    url: str, channel: str, count: int, *, deaf: bool = False
) -> AsyncGenerator[list[Listener]]:
    """Yield so many clients that follow a channel; `deaf` ones have stopped reading."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    made: list[Listener] = []
    async with AsyncExitStack() as stack:
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            if deaf:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            await loop.sock_connect(sock, (parts.hostname, parts.port))
            _, listener = await loop.create_connection(lambda: Listener(channel), sock=sock)
            stack.callback(listener.leave)
            made.append(listener)
        for listener in made:
            with anyio.fail_after(60):
                await listener.joined.wait()
            if deaf:
                listener.stall()
        yield made
