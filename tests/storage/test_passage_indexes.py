"""Vectors of every length get an index of their own, once, where the database can make one."""

from uuid import uuid4

import anyio
import pytest

from storage import passage_indexes, passages
from storage.errors import SchemaError
from storage.pool import Pool, connection, open_pool
from tests.storage import libraries, seeds
from tests.storage.libraries import found, passage


async def test_each_length_that_archives_use_gets_an_index_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        for dimensions in (3, 384, 2500, 5000):
            agent = await seeds.agent(conn)
            written = [passage(str(d), d, dimensions=dimensions) for d in (10, 50)]
            await passages.insert_for_agent(conn, agent, written)
        assert sorted(await passage_indexes.make_missing(conn)) == [3, 2500]
        assert await passage_indexes.make_missing(conn) == []
        rows = await conn.fetch(
            "select indexdef from pg_indexes where indexname like 'passages_by_meaning%' order by indexname"
        )
        definitions = [row[0] for row in rows]
        assert len(definitions) == 3
        assert "halfvec(2500)) halfvec_cosine_ops) WHERE (dimensions = 2500)" in definitions[0]
        assert "vector(3)) vector_cosine_ops) WHERE (dimensions = 3)" in definitions[1]


async def test_processes_that_start_together_make_it_once(pool: Pool) -> None:
    made: list[int] = []

    async def make() -> None:
        async with connection(pool) as conn:
            made.extend(await passage_indexes.make_missing(conn))

    async with connection(pool) as conn:
        await passages.insert_for_agent(conn, await seeds.agent(conn), [passage("x", 1, dimensions=3)])
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(make)
    assert set(made) == {3}


@pytest.mark.parametrize("dimensions", [3, 2500])
async def test_an_index_finds_what_comparing_finds(
    pool: Pool, dimensions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.passage_search.INDEXED_FROM", 5)
    monkeypatch.setattr("storage.passage_search.SCANNED_SQUARED", 0)
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        written = [passage(str(d), d, dimensions=dimensions) for d in range(0, 60, 3)]
        await passages.insert_for_agent(conn, agent, written)
        exact = await found(conn, agent, degrees=20, dimensions=dimensions, limit=4)
        await passage_indexes.make_missing(conn)
        assert await found(conn, agent, degrees=20, dimensions=dimensions, limit=4) == exact
        assert exact == ["21", "18", "24", "15"]


async def test_without_pgvector_there_is_nothing_to_make(empty_dsn: str) -> None:
    async with libraries.without_pgvector(empty_dsn, "forbidden") as pool:
        assert pool is not None
        async with connection(pool) as conn:
            await passages.insert_for_agent(conn, await seeds.agent(conn), [passage("x", 1, dimensions=3)])
            assert await passage_indexes.make_missing(conn) == []


async def test_a_user_who_may_not_make_indexes_is_told_so(dsn: str) -> None:
    owner = await open_pool(dsn, size=1)
    async with connection(owner) as conn:
        await passages.insert_for_agent(conn, await seeds.agent(conn), [passage("x", 1, dimensions=3)])
        role = f"r{uuid4().hex}"
        await conn.execute(f"create role {role}")
        await conn.execute(f"grant select, insert on all tables in schema public to {role}")
        await conn.execute(f"set role {role}")
        with pytest.raises(SchemaError, match="may not make index"):
            await passage_indexes.make_missing(conn)
        await conn.execute("reset role")
        await conn.execute(f"drop owned by {role}")
        await conn.execute(f"drop role {role}")
    await owner.close()
