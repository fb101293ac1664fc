"""Fixtures of the laws: a nursery of host processes, and as many databases as a law needs."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest

from tests.databases import on_database
from tests.laws.nursery import Nursery

Databases = Callable[[], Awaitable[str]]


@pytest.fixture(scope="session")
def nursery() -> Generator[Nursery]:
    """Yield the process that forks hosts."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
async def database(server_dsn: str, template: str) -> AsyncGenerator[Databases]:
    """Yield a function that makes one more fresh, migrated database and returns its address."""
    async with AsyncExitStack() as stack:

        async def make() -> str:
            return await stack.enter_async_context(_database(server_dsn, template))

        yield make


@asynccontextmanager
async def _database(server_dsn: str, template: str) -> AsyncGenerator[str]:
    # No connection is kept meanwhile: a law with hundreds of databases would take all the server has.
    name = f"law_{uuid4().hex}"
    await _on_server(server_dsn, f'create database "{name}" template "{template}" strategy file_copy')
    yield on_database(server_dsn, name)
    await _on_server(server_dsn, f'drop database "{name}" with (force)')


async def _on_server(dsn: str, statement: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(statement)
    finally:
        conn.terminate()
