"""Small servers that answer in bytes chosen by a test, for what a real HTTP server would never send."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from actors.llm.providers import Provider, provider_for
from tests.actors.llm.streams import DONE, event

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
ANSWER = event({"content": "Hello"}, "stop") + DONE

Handler = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One connection as a handler sees it: requests are read one by one, bytes are sent."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes | None:
        """Return the next whole request, or `None` when the client has gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            return head + await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = ANSWER, head: bytes = HEAD) -> None:
        """Send a whole response; the connection may serve another one."""
        await self.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)


@asynccontextmanager
async def server(handler: Handler, **how: object) -> AsyncGenerator[Provider]:
    """Yield a provider whose every connection is served by `handler`."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            await handler(Exchange(connections, reader, writer))
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, **how)  # type: ignore[arg-type]
    port = listening.sockets[0].getsockname()[1]
    scheme = "https" if "ssl" in how else "http"
    async with listening:
        yield provider_for("test", f"{scheme}://127.0.0.1:{port}", "sk-test-secret")
