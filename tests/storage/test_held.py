from contextlib import suppress

import asyncpg
import pytest

import storage.pool
from storage.errors import ConflictError, UnavailableError
from storage.held import Held
from storage.pool import Pool, connection, open_pool
from tests.laws.proxy import proxying


async def pid(held: Held) -> int:
    async with held as conn:
        return await conn.fetchval("select pg_backend_pid()")


async def test_the_connection_is_kept_from_use_to_use_and_given_back_in_the_end(dsn: str) -> None:
    pool = await open_pool(dsn, size=1)
    held = Held(pool)
    first = await pid(held)
    assert await pid(held) == first
    assert pool.get_idle_size() == 0
    await held.close()
    async with connection(pool) as conn:
        assert await conn.fetchval("select pg_backend_pid()") == first
    await pool.close()


async def test_what_fails_comes_out_as_it_does_of_a_borrowed_connection(pool: Pool) -> None:
    held = Held(pool)
    with pytest.raises(ConflictError):
        async with held as conn:
            await conn.execute("insert into organizations select * from organizations")
    with pytest.raises(KeyError):
        async with held:
            raise KeyError
    assert await pid(held) > 0
    await held.close()


async def test_a_connection_that_the_server_closed_is_replaced(pool: Pool) -> None:
    held = Held(pool)
    first = await pid(held)
    async with connection(pool) as conn:
        await conn.execute("select pg_terminate_backend($1, 5000)", first)
    with suppress(UnavailableError):  # where the driver notices only at the next use
        assert await pid(held) != first
    assert await pid(held) != first
    await held.close()


async def test_a_suspect_connection_is_replaced_before_its_next_use(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.pool, "COMMAND_SECONDS", 0.8)
    async with proxying(dsn) as proxy:
        pool = await open_pool(proxy.dsn)
        one, other = Held(pool), Held(pool)
        await pid(one)
        await pid(other)
        proxy.stall()
        with pytest.raises(UnavailableError):
            await pid(one)
        other.suspect()
        assert await pid(other) > 0
        await one.close()
        await other.close()
        pool.terminate()


async def test_a_connection_out_of_step_is_never_lent_again(pool: Pool) -> None:
    held = Held(pool)
    first = await pid(held)
    with pytest.raises((UnavailableError, asyncpg.InternalClientError)):
        async with held:
            raise asyncpg.InternalClientError("garbage was received")
    assert await pid(held) != first
    await held.close()
