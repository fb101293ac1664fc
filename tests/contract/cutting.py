"""A proxy between a websocket client and the server that counts frames, and cuts or closes after one."""

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

TEXT, CONTINUATION, CLOSE = 1, 0, 8

# What happens after the n-th data frame (from 1) of the m-th connection (from 1), which holds these bytes:
# nothing (None), a cut without a word (0), or a close with this code.
Plan = Callable[[int, int, bytes], int | None]


class Proxy:
    """Listens on `url`; `target` may change while nothing is connected."""

    def __init__(self, target: str, plan: Plan) -> None:
        self.target = target
        self.plan = plan
        self.url = ""
        self.connections = 0
        self.frames: list[int] = []  # data frames that each connection delivered
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Cut every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.frames.append(0)
        number = self.connections
        there = urlsplit(self.target)
        try:
            from_server, to_server = await asyncio.open_connection(there.hostname, there.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_server}
        try:
            async with asyncio.TaskGroup() as group:
                upstream = group.create_task(_requests(reader, to_server))
                await self._frames(from_server, writer, number)
                upstream.cancel()
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for one in (writer, to_server):
                self._writers.discard(one)
                one.transport.abort()

    async def _frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        while True:
            head = await reader.readexactly(2)
            opcode, size = head[0] & 15, head[1] & 127
            if size == 126:
                head += await reader.readexactly(2)
                size = struct.unpack("!H", head[2:])[0]
            elif size == 127:
                head += await reader.readexactly(8)
                size = struct.unpack("!Q", head[2:])[0]
            body = await reader.readexactly(size)
            writer.write(head + body)
            await writer.drain()
            if opcode not in (TEXT, CONTINUATION):
                continue
            self.frames[number - 1] += 1
            code = self.plan(number, self.frames[number - 1], body)
            if code is not None:
                if code:
                    reason = b"as the test says"
                    payload = struct.pack("!H", code) + reason
                    writer.write(bytes((128 | CLOSE, len(payload))) + payload)
                    await writer.drain()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.2):  # for the client's own close frame to come
                            await reader.read()
                return


async def _requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what the client says, but for its wish to compress: frames shall be legible."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"sec-websocket-extensions")]
    writer.write(b"\r\n".join(lines))
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def never(connection: int, frame: int, body: bytes) -> int | None:
    """Plan that nothing happens."""
    return None


def after(frame: int, code: int, *, connections: int = 1) -> Plan:
    """Plan a cut (0) or a close after this frame of each of the first connections."""

    def plan(connection: int, number: int, body: bytes) -> int | None:
        return code if connection <= connections and number == frame else None

    return plan


def at(text: bytes, code: int) -> Plan:
    """Plan a cut (0) or a close after the first frame of the first connection that holds this text."""

    def plan(connection: int, number: int, body: bytes) -> int | None:
        return code if connection == 1 and text in body else None

    return plan


@asynccontextmanager
async def cutting(target: str, plan: Plan = never) -> AsyncGenerator[Proxy]:
    """Yield a proxy to the server at this URL."""
    proxy = Proxy(target, plan)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
