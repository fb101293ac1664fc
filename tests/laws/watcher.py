"""Looks at the database while hosts come and go, on a connection that is not one of theirs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from storage.pool import OwnConn, connect
from tests.laws.host_process import session_name
from tests.laws.nursery import HostProcess

LOOK = 0.01
FORGETS_WITHIN = 30.0

_SESSIONS = """
select count(*) from pg_stat_activity
 where datname = current_database() and backend_type = 'client backend' and application_name = $1
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
