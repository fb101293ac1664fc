"""Stands between a host and Postgres: can cut, freeze, refuse, and lose the answer to a chosen statement.

It reads just enough of the protocol (PostgreSQL manual, "Frontend/Backend Protocol") to know which
statement an answer belongs to. It listens on a Unix socket, as the embedded server does.
"""

import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

PORT = "5432"
HEAD_BYTES = 5  # a message's type and its length


class Proxy:
    """A proxy that is open; `dsn` leads through it."""

    def __init__(self, dsn: str, folder: Path) -> None:
        parts = urlsplit(dsn)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self._server = str(Path(query["host"]) / f".s.PGSQL.{query.get('port', PORT)}")
        self._path = str(folder / f".s.PGSQL.{PORT}")
        query |= {"host": str(folder), "port": PORT}
        self.dsn = urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))
        self._links: set[_Link] = set()
        self._flowing = anyio.Event()
        self._flowing.set()
        self.refusing = False
        self.unlucky: str | None = None
        self.lost = anyio.Event()
        self.half_said: str | None = None

    async def serve(self) -> None:
        """Serve until cancelled."""
        async with await anyio.create_unix_listener(self._path) as listener:
            await listener.serve(self._connected)

    def cut(self) -> None:
        """Break every connection, now."""
        for link in tuple(self._links):
            link.cut()

    def freeze(self) -> None:
        """Let nothing through any more; connections stay open, and new ones are accepted."""
        self._flowing = anyio.Event()

    def thaw(self) -> None:
        """Let everything through that was held back."""
        self._flowing.set()

    def stall(self) -> None:
        """Let nothing through on the connections there are, for ever; new ones are carried."""
        for link in self._links:
            link.stalled = True

    def lose_answer(self, words: str) -> anyio.Event:
        """Cut the next connection on which a statement with these words was executed, before its answer.

        The event that is returned is set when that has happened.
        """
        self.unlucky, self.lost = words, anyio.Event()
        return self.lost

    def stall_inside(self, words: str) -> anyio.Event:
        """Stall the next connection that executes a statement with these words before it says `Sync`.

        The server has then done all of it and committed nothing. The event is set when that has happened.
        """
        self.half_said, self.lost = words, anyio.Event()
        return self.lost

    async def flow(self) -> None:
        """Wait while the proxy is frozen."""
        await self._flowing.wait()

    async def _connected(self, client: SocketStream) -> None:
        async with client:
            if self.refusing:
                return
            try:
                server = await anyio.connect_unix(self._server)
            except OSError:
                return
            async with server:
                link = _Link(self, client, server)
                self._links.add(link)
                await link.run()
                self._links.discard(link)


class _Link:
    """One connection through the proxy. `_asked` holds the statement of each answer that is due."""

    def __init__(self, proxy: Proxy, client: SocketStream, server: SocketStream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._statements: dict[bytes, str] = {}
        self._bound = ""
        self._asked: deque[str] = deque()
        self._scope = anyio.CancelScope()
        self.stalled = False

    async def _flow(self) -> None:
        """Wait while nothing may pass."""
        if self.stalled:
            await anyio.sleep_forever()
        await self._proxy.flow()

    def cut(self) -> None:
        """Break both sides."""
        self._scope.cancel()

    async def run(self) -> None:
        """Carry messages both ways until one side ends."""
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._until_the_end, self._forward)
                group.start_soon(self._until_the_end, self._back)

    async def _until_the_end(self, carry: Callable[[], Awaitable[None]]) -> None:
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            await carry()
        self.cut()

    async def _forward(self) -> None:
        source = BufferedByteReceiveStream(self._client)
        length = await source.receive_exactly(4)
        await self._server.send(length + await source.receive_exactly(int.from_bytes(length) - 4))
        while True:
            head, body = await _message(source)
            self._note(head[:1], body)
            await self._flow()
            await self._server.send(head + body)
            half_said = self._proxy.half_said
            if head[:1] == b"E" and half_said is not None and half_said in self._bound:
                self._proxy.half_said, self.stalled = None, True
                self._proxy.lost.set()

    async def _back(self) -> None:
        source = BufferedByteReceiveStream(self._server)
        while True:
            head, body = await _message(source)
            await self._flow()
            unlucky = self._proxy.unlucky
            doomed = unlucky is not None and bool(self._asked) and unlucky in self._asked[0]
            if head[:1] == b"Z" and self._asked:
                self._asked.popleft()
                if doomed:  # it is ready for the next: what was asked is committed
                    self._proxy.unlucky = None
                    self._proxy.lost.set()
                    return
            if not doomed:
                await self._client.send(head + body)

    def _note(self, kind: bytes, body: bytes) -> None:
        """Keep up with which statement is asked."""
        if kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            self._statements[name] = query.decode()
        elif kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            self._bound = self._statements.get(name, "")
        elif kind == b"Q":
            self._asked.append(body.rstrip(b"\0").decode())
        elif kind == b"S":
            self._asked.append(self._bound)
            self._bound = ""


async def _message(source: BufferedByteReceiveStream) -> tuple[bytes, bytes]:
    head = await source.receive_exactly(HEAD_BYTES)
    length = int.from_bytes(head[1:]) - 4
    return head, await source.receive_exactly(length) if length else b""


@asynccontextmanager
async def proxying(dsn: str) -> AsyncGenerator[Proxy]:
    """Open a proxy to the server of `dsn` until the block ends."""
    with tempfile.TemporaryDirectory(prefix="law-") as folder:
        proxy = Proxy(dsn, Path(folder))
        async with anyio.create_task_group() as group:
            group.start_soon(proxy.serve)
            with anyio.fail_after(15):
                while not await anyio.Path(folder, f".s.PGSQL.{PORT}").exists():
                    await anyio.sleep(0.001)
            yield proxy
            proxy.cut()
            group.cancel_scope.cancel()
