"""Looks at the database while hosts come and go, on a connection that is not one of theirs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from storage.pool import OwnConn, connect
from tests.laws.host_process import session_name
from tests.laws.nursery import HostProcess

LOOK = 0.01
PROGRESS_LOOK = 0.25
FORGETS_WITHIN = 30.0

_SESSIONS = """
select count(*) from pg_stat_activity
 where datname = current_database() and backend_type = 'client backend' and application_name = $1
"""


# What a host that gets on changes, and one that only lives, or dies again and again, does not.
_PROGRESS = """
select (select coalesce(sum(version), 0) from agents), (select count(*) from messages),
       (select count(*) from inbox), (select count(*) from inbox where done_at is not null),
       (select count(*) from passages where dimensions is not null)
"""


class Watcher:
    """One connection, outside every pool."""

    def __init__(self, conn: OwnConn) -> None:
        self._conn = conn

    async def most_lives(self) -> int:
        """Return the most lives that any unfinished command has had."""
        return await self._conn.fetchval(
            "select coalesce(max(attempts), 0) from inbox where state in ('new', 'applied')"
        )

    async def left(self) -> list[str]:
        """Return what is not over, and how many lives each has had."""
        rows = await self._conn.fetch(
            "select run_id, state, attempts from inbox where state in ('new', 'applied') order by seq"
        )
        return [f"{row['run_id']} {row['state']} after {row['attempts']}" for row in rows]

    async def nothing_pending(self) -> None:
        """Wait until every command is over."""
        query = "select exists (select from inbox where state in ('new', 'applied'))"
        while await self._conn.fetchval(query):
            await anyio.sleep(LOOK)

    @asynccontextmanager
    async def patience(self, host: HostProcess, seconds: float) -> AsyncGenerator[anyio.CancelScope]:
        """Cancel the block once the host has not got on for so long, however slow the machine is.

        Whoever sets the scope's deadline nearer ends the watch: it is kept from there on.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            with anyio.CancelScope(deadline=anyio.current_time() + seconds) as scope:
                group.start_soon(self._prolong, scope, host, seconds)
                try:
                    yield scope
                except Exception as error:  # noqa: BLE001 - the block's own, raised below outside of the group
                    failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _prolong(self, scope: anyio.CancelScope, host: HostProcess, seconds: float) -> None:
        seen, given = None, scope.deadline
        while scope.deadline >= given:
            row = await self._conn.fetchrow(_PROGRESS)
            assert row is not None
            if (now := (host.port, *row)) != seen and scope.deadline >= given:
                seen = now
                scope.deadline = given = anyio.current_time() + seconds
            await anyio.sleep(PROGRESS_LOOK)

    async def forgotten(self, host: HostProcess) -> None:
        """Wait until the server has executed what a dead host had sent, and closed its sessions."""
        with anyio.fail_after(FORGETS_WITHIN):
            while await self._conn.fetchval(_SESSIONS, session_name(host.pid)):
                await anyio.sleep(LOOK)


@asynccontextmanager
async def watching(dsn: str) -> AsyncGenerator[Watcher]:
    """Open the watcher's connection."""
    conn = await connect(dsn)
    try:
        yield Watcher(conn)
    finally:
        conn.terminate()
