"""Fresh databases for tests: cloned from a template ahead of time, removed while the next test runs."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg


def on_database(dsn: str, name: str) -> str:
    """Return the address of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


class Databases:
    """Clones of one template, over two connections that stay open. For fixtures, which no loop runs.

    A clone waits for a checkpoint, and so does its removal. So one connection always has the next clone in
    the making, and the other removes the last: the server does both while this process runs a test. Each
    waits for what it was given before, which is a second of work at most.
    """

    def __init__(self, server_dsn: str, template: str) -> None:
        self._dsn, self._template = server_dsn, template
        self._loop = asyncio.SelectorEventLoop()  # of our own: a test's loop ends with the test
        self._maker, self._remover = _Session(server_dsn), _Session(server_dsn)
        self._next = ""  # the clone in the making

    @contextmanager
    def fresh(self) -> Generator[str]:
        """Yield the address of a database that nothing was ever done to since the template was made."""
        name = self._loop.run_until_complete(self._take())
        yield on_database(self._dsn, name)
        self._loop.run_until_complete(self._remover.begin(f'drop database "{name}" with (force)'))

    def close(self) -> None:
        """Remove what is left, and let go of the server."""
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _take(self) -> str:
        if not self._next:
            await self._make()
        name, self._next = self._next, ""
        await self._maker.done()
        await self._make()
        return name

    async def _make(self) -> None:
        name = f"test_{uuid4().hex}"
        await self._maker.begin(f'create database "{name}" template "{self._template}" strategy file_copy')
        self._next = name

    async def _end(self) -> None:
        await self._maker.done()
        if self._next:
            await self._remover.begin(f'drop database "{self._next}" with (force)')
        await self._remover.done()
        self._maker.close()
        self._remover.close()
        await asyncio.sleep(0)  # sockets close one turn of the loop later


class _Session:
    """A connection that does one statement at a time, while nobody waits for it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._conn: Any = None  # asyncpg's types are not declared
        self._doing: asyncio.Task[Any] | None = None

    async def begin(self, statement: str) -> None:
        """Give the server a statement once it has done the one before; return when it is sent."""
        await self.done()
        if self._conn is None or self._conn.is_closed():
            self._conn = await asyncpg.connect(self._dsn)
        self._doing = asyncio.get_running_loop().create_task(self._conn.execute(statement))
        await asyncio.sleep(0)  # the task's first step writes to the socket

    async def done(self) -> None:
        """Wait for the statement; raises what it failed with."""
        doing, self._doing = self._doing, None
        if doing is not None:
            await doing

    def close(self) -> None:
        if self._conn is not None:
            self._conn.terminate()
