"""Databases of tests: each fresh, one ahead, and none left."""

from collections.abc import Iterator
from contextlib import closing

import anyio
import asyncpg
import pytest

from tests.databases import Databases


@pytest.fixture
def databases(server_dsn: str, template: str) -> Iterator[Databases]:
    with closing(Databases(server_dsn, template)) as databases:
        yield databases


def ask(dsn: str, query: str) -> object:
    async def asked() -> object:
        conn = await asyncpg.connect(dsn)
        try:
            return await conn.fetchval(query)
        finally:
            conn.terminate()

    return anyio.run(asked)


def names(server_dsn: str) -> set[str]:
    found = ask(server_dsn, "select array_agg(datname::text) from pg_database")
    assert isinstance(found, list)
    return set(found)


def test_what_one_test_writes_the_next_does_not_see(databases: Databases) -> None:
    for _ in range(3):
        with databases.fresh() as dsn:
            assert ask(dsn, "select to_regclass('agents') is not null") is True, "migrated"
            assert ask(dsn, "create table mine ()") is None
            assert ask(dsn, "select to_regclass('mine') is not null") is True
        with databases.fresh() as dsn:
            assert ask(dsn, "select to_regclass('mine') is null") is True


def test_two_may_be_held_at_once(databases: Databases) -> None:
    with databases.fresh() as one, databases.fresh() as other:
        assert one != other
        assert ask(one, "select current_database()") != ask(other, "select current_database()")


def test_nothing_is_left_though_a_test_kept_a_connection(server_dsn: str, template: str) -> None:
    before = names(server_dsn)
    databases = Databases(server_dsn, template)

    async def hold(dsn: str) -> asyncpg.Connection:
        return await asyncpg.connect(dsn)

    with anyio.from_thread.start_blocking_portal() as portal:
        with databases.fresh() as dsn:
            conn = portal.call(hold, dsn)
        with databases.fresh():
            pass
        databases.close()
        portal.call(conn.terminate)
    assert names(server_dsn) <= before
