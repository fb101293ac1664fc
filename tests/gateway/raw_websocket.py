"""A websocket peer that can break every rule: raw bytes over a socket, no library in between."""

import asyncio
import contextlib
import json
import socket
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
SECONDS = 15.0
KEY = b64encode(b"0123456789abcdef").decode()


def frame(payload: bytes = b"", op: int = TEXT, fin: int = 1, rsv: int = 0) -> bytes:
    """Return a masked client frame; the mask is zero, so the payload can be read in it."""
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | op])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def deflate_frame(payload: bytes) -> bytes:
    """Return what a client that speaks permessage-deflate sends (RFC 7692)."""
    deflate = zlib.compressobj(wbits=-15)
    return frame(deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4], rsv=4)


class Peer:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def handshake(self, path: str = "/v1/ws", headers: dict[str, str] | None = None) -> int:
        """Ask for the upgrade; return the status, and keep the answer's headers, and its body if refused."""
        given = {
            "Host": "127.0.0.1",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Version": "13",
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        with anyio.fail_after(SECONDS):
            answer = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = answer.strip().split("\r\n")
            self.status = int(line.split()[1])
            self.headers = {name.lower(): value for name, value in (f.split(": ", 1) for f in fields)}
            if self.status != 101:
                with contextlib.suppress(ConnectionResetError):
                    self.body = await self.reader.read()
        return self.status

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)

    def say(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame."""
        self.send(frame("\n".join(json.dumps(command) for command in commands).encode()))

    async def read(self) -> tuple[int, bytes]:
        """Return the next frame of the server as (opcode, payload)."""
        with anyio.fail_after(SECONDS):
            first, size = await self.reader.readexactly(2)
            assert first & 0x80, "the server sends no fragments"
            assert not first & 0x70
            assert not size & 0x80, "the server masks nothing"
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def next(self) -> list[Any]:
        """Return the objects of the next text frame."""
        while True:
            op, payload = await self.read()
            if op == TEXT:
                return [json.loads(line) for line in payload.split(b"\n")]
            assert op == PING, (op, payload)
            self.send(frame(payload, PONG))

    async def replies(self, count: int) -> dict[int, Any]:
        """Return the next `count` replies by their id."""
        found: dict[int, Any] = {}
        while len(found) < count:
            found |= {said["id"]: said for said in await self.next() if "id" in said}
        return found

    async def connect(self, token: str = "") -> Any:
        """Say who one is, and return the answer."""
        self.say({"id": 1, "connect": {"token": token}})
        (reply,) = await self.next()
        return reply["connect"]

    async def end(self) -> int:
        """Return the code with which the server closes; 1006 where the connection just ends."""
        try:
            while True:
                op, payload = await self.read()
                if op == CLOSE:
                    return int.from_bytes(payload[:2], "big") if payload else 1005
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return 1006

    async def gone(self) -> None:
        """Wait until the server has let go of the connection."""
        with anyio.fail_after(SECONDS), contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


@asynccontextmanager
async def dialled(url: str, *, receive_bytes: int | None = None) -> AsyncGenerator[Peer]:
    """Yield a connection on which nothing was said yet; `receive_bytes` is what the kernel holds of it."""
    parts = urlsplit(url)
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (parts.hostname, parts.port))
    limit = 2**16 if receive_bytes is None else 1024
    peer = Peer(*await asyncio.open_connection(sock=sock, limit=limit))
    try:
        yield peer
    finally:
        peer.writer.transport.abort()


@asynccontextmanager
async def upgraded(
    url: str,
    path: str = "/v1/ws",
    *,
    headers: dict[str, str] | None = None,
    receive_bytes: int | None = None,
) -> AsyncGenerator[Peer]:
    """Yield a connection that is a websocket."""
    async with dialled(url, receive_bytes=receive_bytes) as peer:
        assert await peer.handshake(path, headers) == 101, (peer.status, peer.body)
        yield peer
