"""Connections: codecs, settings, and the meaning of failures, each provoked on a real server."""

import asyncio
import math
import os
import signal
from array import array
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import anyio
import asyncpg
import pytest

import storage.pool
from storage.errors import RefusedError, UnavailableError
from storage.pool import Pool, connect, connection, open_pool, transaction
from tests.laws.proxy import proxying


@pytest.fixture
async def single(dsn: str) -> AsyncGenerator[Pool]:
    """A pool of one connection: whoever does not give it back stops everybody."""
    pool = await open_pool(dsn, size=1)
    yield pool
    with anyio.move_on_after(5, shield=True):
        await pool.close()


async def test_json_travels_as_bytes_both_ways(pool: Pool) -> None:
    async with connection(pool) as conn:
        assert await conn.fetchval("select $1::jsonb", b'{"a":1}') == b'{"a": 1}'
        assert await conn.fetchval("select $1::json", b'{"a":1}') == b'{"a":1}'
        assert await conn.fetchval("select $1::jsonb[]", [b"1", b"[2]"]) == [b"1", b"[2]"]
        assert await conn.fetchval("select $1::jsonb ->> 'a'", b'{"a":1}') == "1"


async def test_arrays_and_times_come_back_as_python_has_them(pool: Pool) -> None:
    async with connection(pool) as conn:
        assert await conn.fetchval("select array['a', 'b']::text[]") == ["a", "b"]
        moment = await conn.fetchval("select now()")
        assert moment.utcoffset().total_seconds() == 0


async def test_vectors_travel_as_numbers_both_ways(pool: Pool) -> None:
    async with connection(pool) as conn:
        assert conn.has_vectors
        assert await conn.fetchval("select $1::vector", [1, 0.5, -2.25]) == (1.0, 0.5, -2.25)
        assert await conn.fetchval("select $1::vector", array("f", [0.5])) == (0.5,)
        assert await conn.fetchval("select vector_dims($1::vector)", [0.1] * 1536) == 1536
        assert await conn.fetchval("select $1::vector <=> $2::vector", [1, 0], [0, 1]) == 1.0
        assert await conn.fetchval("select $1::vector::text", [0.1, 2]) == "[0.1,2]"


@pytest.mark.parametrize("numbers", [[], [math.nan], [math.inf], [1e39], [0.0] * 16_001])
async def test_a_vector_that_is_none_is_refused(pool: Pool, numbers: list[float]) -> None:
    with pytest.raises(RefusedError):
        async with connection(pool) as conn:
            await conn.fetchval("select $1::vector", numbers)


async def test_a_database_without_passages_has_no_vectors(empty_dsn: str) -> None:
    conn = await connect(empty_dsn)
    assert not conn.has_vectors
    await conn.close()


async def test_the_session_is_bounded_in_every_wait(pool: Pool) -> None:
    shown = {}
    async with connection(pool) as conn:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        for name in (*names, "transaction_timeout", "jit", "enable_seqscan"):
            shown[name] = await conn.fetchval(f"show {name}")
        shown["application_name"] = await conn.fetchval("show application_name")
        shown["timezone"] = await conn.fetchval("show timezone")
    assert shown == {
        "statement_timeout": "10s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "15s",
        "transaction_timeout": "15s",
        "jit": "off",
        "enable_seqscan": "off",
        "application_name": "wakeful",
        "timezone": "UTC",
    }


async def test_a_drivers_name_in_the_address_is_ignored(dsn: str) -> None:
    conn = await connect(dsn.replace("postgresql://", "postgresql+asyncpg://"))
    assert await conn.fetchval("select 1") == 1
    await conn.close()


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3cret@127.0.0.1:1/agents",
        "postgresql://me:s3cret@/agents?host=%2Fnowhere&port=1",
        "postgresql://me:s3cret@no-such-host.invalid:1/agents",
    ],
)
async def test_an_unreachable_server_is_named_without_its_password(dsn: str) -> None:
    with pytest.raises(UnavailableError, match="port 1, database agents: ") as caught:
        await open_pool(dsn)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("dsn", ["", "sqlite:///x", "postgresql://me:s3cret/x@host/agents"])
async def test_an_address_that_is_none_is_an_error_of_ours(dsn: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        await connect(dsn)
    assert "s3cret" not in str(caught.value)


async def test_a_pooler_that_refuses_settings_is_told_apart() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
        fields = b"SFATAL\0C08P01\0Munsupported startup parameter: jit\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UnavailableError, match=r"connection pooler .* name the server itself"):
        await open_pool(f"postgresql://me@127.0.0.1:{port}/agents?sslmode=disable")
    server.close()


@pytest.mark.parametrize("mode", ["disable", "prefer"])
async def test_a_server_that_is_no_postgres_is_suspected_to_be_none(mode: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UnavailableError, match="is it a Postgres"):
        await open_pool(f"postgresql://me@127.0.0.1:{port}/agents?sslmode={mode}")
    server.close()


async def test_a_missing_database_is_unavailable_and_named(dsn: str) -> None:
    elsewhere = urlunsplit(urlsplit(dsn)._replace(path="/no_such_database"))
    with pytest.raises(UnavailableError, match="no_such_database: the database does not exist"):
        await open_pool(elsewhere)


async def test_a_killed_session_is_unavailable_and_the_next_borrower_works(single: Pool, dsn: str) -> None:
    killer = await connect(dsn)
    with pytest.raises(UnavailableError):  # noqa: PT012 - any of them may be the first to notice
        async with connection(single) as conn:
            pid = await conn.fetchval("select pg_backend_pid()")
            await killer.execute("select pg_terminate_backend($1, 5000)", pid)
            await conn.fetchval("select 1")
    await killer.close()
    async with connection(single) as conn:
        assert await conn.fetchval("select 1") == 1


async def test_a_statement_that_takes_too_long_is_unavailable(pool: Pool) -> None:
    with pytest.raises(UnavailableError, match="the statement took too long"):
        await _run(pool, "set local statement_timeout = 20", "select pg_sleep(10)")


async def test_a_session_that_falls_silent_is_unavailable_and_every_connection_replaced(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.pool, "COMMAND_SECONDS", 1.5)  # the others answer in that, however late
    pool = await open_pool(dsn)
    async with connection(pool) as one, connection(pool) as two:
        before = {
            await one.fetchval("select pg_backend_pid()"),
            await two.fetchval("select pg_backend_pid()"),
        }
    with pytest.raises(UnavailableError, match="did not answer in time"):
        async with connection(pool) as conn:
            await conn.fetchval("select pg_sleep(60)")
    async with connection(pool) as one, connection(pool) as two:
        after = {await one.fetchval("select pg_backend_pid()"), await two.fetchval("select pg_backend_pid()")}
    assert not before & after
    await pool.close()


async def test_a_transaction_on_a_silent_connection_costs_one_deadline_and_not_one_more_for_its_rollback(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.pool, "COMMAND_SECONDS", 3.0)
    async with proxying(dsn) as proxy:
        pool = await open_pool(proxy.dsn, size=1)
        with pytest.raises(UnavailableError):  # noqa: PT012 - the second statement, and leaving it
            async with connection(pool) as conn, transaction(conn):
                await conn.fetchval("select 1")
                proxy.stall()
                begun = anyio.current_time()
                await conn.fetchval("select 2")
        assert anyio.current_time() - begun < 2 * 3.0
        async with connection(pool) as conn:
            assert await conn.fetchval("select 3") == 3
        pool.terminate()


async def test_a_lock_that_is_not_free_in_time_is_unavailable(pool: Pool) -> None:
    async with connection(pool) as holder, holder.transaction():
        await holder.execute("lock table organizations")
        with pytest.raises(UnavailableError, match="a lock was not free"):
            await _run(pool, "set local lock_timeout = 20", "select 1 from organizations")


async def test_a_transaction_left_idle_is_unavailable(pool: Pool) -> None:
    alive = "select count(*) from pg_stat_activity where pid = $1"
    with pytest.raises(UnavailableError):  # noqa: PT012 - leaving the transaction may be the first to notice
        async with connection(pool) as watcher, connection(pool) as conn, conn.transaction():
            pid = await conn.fetchval("select pg_backend_pid()")
            await conn.execute("set local idle_in_transaction_session_timeout = 1")
            while await watcher.fetchval(alive, pid):
                pass
            await conn.execute("select 1")


async def test_a_server_that_takes_no_writes_is_unavailable(pool: Pool) -> None:
    with pytest.raises(UnavailableError, match="read-only"):
        async with connection(pool) as conn, conn.transaction(readonly=True):
            await conn.execute("delete from organizations")


async def test_a_deadlock_is_unavailable_for_its_victim(pool: Pool) -> None:
    async def take(first: int, second: int, mine: anyio.Event, theirs: anyio.Event) -> None:
        try:
            async with connection(pool) as conn, conn.transaction():
                await conn.execute("select pg_advisory_xact_lock($1)", first)
                mine.set()
                await theirs.wait()
                await conn.execute("select pg_advisory_xact_lock($1)", second)
        except UnavailableError as error:
            victims.append(str(error))

    victims: list[str] = []
    one, two = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(take, 1, 2, one, two)
        group.start_soon(take, 2, 1, two, one)
    assert len(victims) == 1
    assert "rolled back" in victims[0]


async def test_too_many_connections_are_unavailable(dsn: str) -> None:
    role = f"r{uuid4().hex}"
    admin = await connect(dsn)
    await admin.execute(f"create role {role} login password 'pw' connection limit 1")
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    theirs = urlunsplit(parts._replace(netloc=f"{role}:pw@{host}"))
    first = await connect(theirs)
    with pytest.raises(UnavailableError, match="too many connections"):
        await connect(theirs)
    await first.close()
    await admin.execute(f"drop role {role}")
    await admin.close()


async def test_a_connection_that_is_out_of_step_is_never_lent_again(single: Pool) -> None:
    sessions: list[int] = []
    with pytest.raises(UnavailableError, match="was lost"):  # noqa: PT012 - the block is the borrowing
        async with connection(single) as conn:
            sessions.append(await conn.fetchval("select pg_backend_pid()"))
            raise asyncpg.InternalClientError(
                "cannot switch to state 12; another operation (2) is in progress"
            )
    async with connection(single) as conn:
        assert await conn.fetchval("select pg_backend_pid()") not in sessions


async def test_a_closed_pool_is_unavailable(dsn: str) -> None:
    pool = await open_pool(dsn, size=1)
    await pool.close()
    with pytest.raises(UnavailableError):
        async with connection(pool):
            pass


async def test_a_cancelled_statement_gives_its_connection_back(single: Pool) -> None:
    with anyio.move_on_after(0.05) as scope:
        async with connection(single) as conn:
            await conn.execute("select pg_sleep(10)")
    assert scope.cancelled_caught
    with anyio.fail_after(15):
        async with connection(single) as conn:
            assert await conn.fetchval("select 1") == 1


async def test_a_cancelled_transaction_leaves_nothing_behind(single: Pool) -> None:
    with anyio.move_on_after(0.05):
        async with connection(single) as conn, conn.transaction():
            await conn.execute("insert into organizations (id, name) values ('org-x', 'x')")
            await conn.execute("select pg_sleep(10)")
    async with connection(single) as conn:
        assert await conn.fetchval("select count(*) from organizations") == 1


async def test_a_frozen_session_holds_up_nobody_beyond_his_deadline(pool: Pool, dsn: str) -> None:
    async with connection(pool) as conn:
        pid = await conn.fetchval("select pg_backend_pid()")
        if not _is_ours(pid):
            pytest.skip("the server's processes cannot be stopped from here")
        os.kill(pid, signal.SIGSTOP)
        try:
            started = anyio.current_time()
            with anyio.move_on_after(0.1) as scope:
                await conn.fetchval("select 1")
            assert scope.cancelled_caught
            with anyio.fail_after(10):  # less than a command may take
                async with connection(pool) as other:
                    assert await other.fetchval("select 1") == 1
            assert anyio.current_time() - started < 10
        finally:
            os.kill(pid, signal.SIGCONT)


async def _run(pool: Pool, *statements: str) -> None:
    async with connection(pool) as conn, conn.transaction():
        for statement in statements:
            await conn.execute(statement)


def _is_ours(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
