import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from actors import clock, renewals
from actors.directory import Directory
from actors.errors import DrainingError
from storage import ownership
from storage.ownership import LEASE
from storage.pool import Conn, Pool, connection, open_pool
from tests.laws.watching import until

HELD_AT_MOST = 10.0  # seconds: twice a lease; a renewal that waits for the loop does not come meanwhile
NOBODY = "postgresql://nobody@127.0.0.1:1/nothing"


@asynccontextmanager
async def kept(directory: Directory) -> AsyncGenerator[None]:
    """Claim, and renew beside the block."""
    await directory.claim()
    async with anyio.create_task_group() as group:
        group.start_soon(directory.keep)
        yield
        group.cancel_scope.cancel()


async def renewed(directory: Directory, times: int = 1) -> None:
    for _ in range(times):
        seen = directory.deadline
        await until(lambda seen=seen: directory.deadline > seen)


def hold_loop_until(condition: Callable[[], bool]) -> bool:
    """Let no callback of the event loop run until the condition is true, or for `HELD_AT_MOST`."""
    give_up = time.monotonic() + HELD_AT_MOST
    while not (met := condition()) and time.monotonic() < give_up:
        sum(range(10_000))  # as a busy loop does it: with the interpreter in hand
    return met


def hold_loop_for(seconds: float) -> None:
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then:
        sum(range(1000))


def hung(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.getMessage().startswith("event loop hangs") for record in caplog.records)


def renewing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == renewals.THREAD]


async def test_a_lease_is_renewed_while_the_event_loop_is_held(pool: Pool, dsn: str) -> None:
    mine = Directory(pool, "a", dsn=dsn)
    async with kept(mine):
        await renewed(mine)
        for _ in range(2):
            seen = mine.deadline
            assert hold_loop_until(lambda seen=seen: mine.deadline > seen)
        mine.check()


async def test_a_lease_is_renewed_behind_thousands_of_callbacks_in_each_turn(pool: Pool, dsn: str) -> None:
    """So an overloaded server's loop is: it turns, and each turn is longer than a round trip may last."""
    mine = Directory(pool, "a", dsn=dsn)

    async def one_of_many(seen: float, give_up: float) -> None:
        while mine.deadline == seen and time.monotonic() < give_up:
            hold_loop_for(0.001)
            await asyncio.sleep(0)

    async with kept(mine):
        await renewed(mine)
        seen, give_up = mine.deadline, time.monotonic() + HELD_AT_MOST
        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(one_of_many, seen, give_up)
        assert mine.deadline > seen


async def test_a_host_whose_loop_hangs_is_left_to_lose_its_lease_and_renews_when_it_turns_again(
    pool: Pool, dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(renewals, "HEARTBEAT", 0.02)
    mine = Directory(pool, "a", dsn=dsn)
    async with kept(mine):
        await renewed(mine)
        monkeypatch.setattr(renewals, "STALLED", 0.1)
        assert hold_loop_until(lambda: hung(caplog) > 0)
        seen, already = mine.deadline, hung(caplog)
        assert hold_loop_until(lambda: hung(caplog) > already + 2)
        assert mine.deadline == seen
        monkeypatch.setattr(renewals, "STALLED", 60.0)
        await renewed(mine)


async def test_a_lease_that_is_given_up_lets_the_next_host_in_at_once_and_the_thread_ends(
    pool: Pool, dsn: str
) -> None:
    mine, other = Directory(pool, "a", dsn=dsn), Directory(pool, "b")
    async with kept(mine):
        await renewed(mine)
        await mine.release()
        with pytest.raises(DrainingError):
            mine.check()
        await other.claim()
        await until(lambda: not renewing())
    assert not mine.superseded.is_set()


async def test_a_renewal_that_ends_after_the_lease_was_given_up_moves_no_deadline(
    pool: Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewals, "HEARTBEAT", 0.01)
    renew, sent, go_on = ownership.renew, threading.Event(), threading.Event()

    async def slow(conn: Conn, lease: ownership.Lease) -> bool:
        mine = await renew(conn, lease)
        sent.set()
        go_on.wait()  # in the thread of renewals
        return mine

    monkeypatch.setattr(ownership, "renew", slow)
    mine = Directory(pool, "a", dsn=dsn)
    async with kept(mine), anyio.create_task_group() as group:
        await until(sent.is_set)
        group.start_soon(mine.release)
        await until(lambda: mine.deadline == 0.0)
        go_on.set()
        await until(lambda: not renewing())
    with pytest.raises(DrainingError):
        mine.check()
    await Directory(pool, "b").claim()


async def test_a_host_whose_name_was_taken_over_stops_though_its_loop_is_held(pool: Pool, dsn: str) -> None:
    mine, successor = Directory(pool, "a", dsn=dsn), Directory(pool, "a")
    async with kept(mine):
        await renewed(mine)
        await successor.claim()
        assert hold_loop_until(lambda: mine.deadline == 0.0)
        with pytest.raises(DrainingError):
            mine.check()
        await until(mine.superseded.is_set)
        await until(lambda: not renewing())


async def test_who_is_cancelled_leaves_no_thread(pool: Pool, dsn: str) -> None:
    mine = Directory(pool, "a", dsn=dsn)
    async with kept(mine):
        await renewed(mine)
        assert renewing()
    await until(lambda: not renewing())


async def test_a_database_that_falls_silent_is_asked_again_at_once_over_new_connections(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that serve requests have fallen silent with it."""
    monkeypatch.setattr(renewals, "HEARTBEAT", 0.01)
    renew, asked = ownership.renew, list[int]()

    async def silent(conn: Conn, lease: ownership.Lease) -> bool:
        asked.append(await conn.fetchval("select pg_backend_pid()"))
        if len(asked) == 2:
            await anyio.sleep_forever()
        return await renew(conn, lease)

    monkeypatch.setattr(ownership, "renew", silent)
    monkeypatch.setattr(renewals, "RENEWAL_DEADLINE", 1.0)
    pool = await open_pool(dsn, size=1)
    try:
        before = await _backend(pool)
        mine = Directory(pool, "a", dsn=dsn)
        async with kept(mine):
            await until(lambda: len(asked) > 3)
            assert asked[0] == asked[1] != asked[2]
            await renewed(mine)
            assert await _backend(pool) != before
    finally:
        await pool.close()


async def _backend(pool: Pool) -> int:
    async with connection(pool) as conn:
        return await conn.fetchval("select pg_backend_pid()")


async def test_a_database_that_cannot_be_reached_is_tried_again_until_the_lease_is_given_up(
    pool: Pool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewals, "HEARTBEAT", 0.01)
    mine = Directory(pool, "a", dsn=NOBODY)
    async with kept(mine):
        await until(lambda: sum(r.levelno == logging.WARNING for r in caplog.records) > 2)
        await mine.release()
        await until(lambda: not renewing())


async def test_the_deadline_counts_from_before_a_renewal_was_sent(
    pool: Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewals, "HEARTBEAT", 0.01)
    renew, asked_at = ownership.renew, list[float]()

    async def noted(conn: Conn, lease: ownership.Lease) -> bool:
        asked_at.append(clock.monotonic())
        if len(asked_at) > 1:
            await anyio.sleep_forever()
        return await renew(conn, lease)

    monkeypatch.setattr(ownership, "renew", noted)
    mine = Directory(pool, "a", dsn=dsn)
    async with kept(mine):
        await renewed(mine)
        assert mine.deadline - LEASE.total_seconds() <= asked_at[0]
