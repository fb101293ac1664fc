"""What can happen to a Postgres of one's own. Each fault returns when it accepts connections again."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import anyio
import asyncpg

from storage import embedded, processes
from storage.embedded import Embedded
from storage.migrate import migrate
from tests.databases import on_database

LOOK = 0.01
COMES_BACK = 30.0
DOWN = 1.5  # seconds that the server is away
FROZEN_SHORTLY = 1.5
FROZEN_LONG = 6.5  # longer than the lease of a host, and than every deadline of an acceptance


class Server:
    """A Postgres to be maltreated."""

    def __init__(self, data_dir: Path) -> None:
        # Durable: after the crash of a backend the log must hold what was acknowledged.
        self.embedded: Embedded = embedded.start(data_dir)
        self.home = data_dir / "pg"

    async def database(self) -> str:
        """Create a migrated database and return its address."""
        name = f"law_{uuid4().hex}"
        await self._ask(f'create database "{name}"')
        dsn = on_database(self.embedded.dsn, name)
        await migrate(dsn)
        return dsn

    async def accepts(self) -> None:
        """Wait until it accepts connections."""
        with anyio.fail_after(COMES_BACK):
            while True:
                try:
                    await self._ask("select 1")
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await anyio.sleep(LOOK)
                else:
                    return

    async def _ask(self, query: str) -> list[asyncpg.Record]:
        conn = await asyncpg.connect(self.embedded.dsn, timeout=5)
        try:
            return await conn.fetch(query)
        finally:
            conn.terminate()

    async def sessions(self) -> list[int]:
        """Return the backends that serve hosts."""
        rows = await self._ask("select pid from pg_stat_activity where application_name like 'law host%'")
        return [row["pid"] for row in rows]

    # --- the faults ---------------------------------------------------------------------------------

    async def stop_and_start(self) -> None:
        """Shut it down as an administrator would, and start it again a while later."""
        assert self.embedded.pid is not None
        os.kill(self.embedded.pid, signal.SIGINT)
        await self._dead()
        await anyio.sleep(DOWN)
        self.embedded.restart()
        await self.accepts()

    async def kill_main_process(self) -> None:
        """Kill the main process; its children follow, and the next start recovers from the log."""
        assert self.embedded.pid is not None
        os.kill(self.embedded.pid, signal.SIGKILL)
        await self._dead()
        self.embedded.restart()
        await self.accepts()

    async def kill_a_backend(self) -> None:
        """Kill one backend: the server ends all others and recovers."""
        victim, *_ = await self.sessions()
        os.kill(victim, signal.SIGKILL)
        with anyio.fail_after(COMES_BACK):
            while victim in processes.members(self.home):
                await anyio.sleep(LOOK)
        await self.accepts()

    async def terminate_sessions(self) -> None:
        """End 70 % of the sessions of hosts."""
        found = await self.sessions()
        doomed = found[: max(1, round(len(found) * 0.7))]
        await self._ask(f"select pg_terminate_backend(pid) from unnest(array{doomed}) pid")

    async def freeze_shortly(self) -> None:
        """Let every process of it stand still, for less than a lease."""
        await self._freeze(FROZEN_SHORTLY)

    async def freeze_long(self) -> None:
        """Let every process of it stand still, until the leases of hosts have run out."""
        await self._freeze(FROZEN_LONG)

    async def _freeze(self, seconds: float) -> None:
        frozen = processes.members(self.home)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        await anyio.sleep(seconds)
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        await self.accepts()

    async def fill_disk(self) -> None:
        """Fill its disk to the last byte, and make room again a while later."""
        ballast = self.home.parent / "ballast"
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
                    file.flush()
            except OSError:
                pass
        await anyio.sleep(DOWN)
        ballast.unlink()
        if not self.embedded.alive():
            self.embedded.restart()
        await self.accepts()

    async def _dead(self) -> None:
        with anyio.fail_after(COMES_BACK):
            while self.embedded.alive():
                await anyio.sleep(LOOK)


Fault = Callable[[], Awaitable[None]]
