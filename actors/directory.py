"""This host's lease: claimed at start, renewed every second, and trusted no longer than it lasts."""

import asyncio
import logging
import threading
from contextlib import suppress

import anyio

from actors import clock, renewals
from actors.errors import DrainingError
from actors.renewals import Renewals
from storage import ownership
from storage.ownership import LEASE, Lease
from storage.pool import Pool, connection, distrust

log = logging.getLogger("wakeful.directory")

SIGN_OF_LIFE = 1.0  # seconds
RELEASE_PATIENCE = 4.0  # seconds: for the renewal that is under way, and for the release
RUN_OUT = "this host's lease has run out; it is renewed by itself once the database answers: try again"


class Directory:
    """Who owns the agents: this host, until `deadline` on its own monotonic clock.

    The deadline counts from before a renewal was sent, so it never lies after the database's. With a `dsn`
    renewals are made in a thread over a connection of its own: neither a busy event loop nor requests that
    wait for connections may end the lease of a host that is only slow. What falls silent there has fallen
    silent for `pool`, too, which is distrusted with it.
    """

    def __init__(self, pool: Pool, name: str, *, dsn: str | None = None) -> None:
        self._pool = pool
        self._dsn = dsn
        self.name = name
        self.lease = Lease(name, "", ())
        self.deadline = 0.0
        self.superseded = anyio.Event()
        self._over = False
        self._deciding = threading.Lock()  # a renewal that ends late moves no deadline of a lease given up
        self._renewals: Renewals | None = None
        self._kept = anyio.Event()  # set when nothing renews any more
        self._hush = asyncio.Event()  # set where the database fell silent
        self._loop: asyncio.AbstractEventLoop | None = None

    async def claim(self) -> None:
        """Take every shard.

        Raises:
            OwnedError: A live host of another name owns the database.
            UnavailableError: The database does not answer.
        """
        before = clock.monotonic()
        async with connection(self._pool) as conn:
            self.lease = await ownership.claim(conn, name=self.name, instance=clock.new_id("host"))
        self._over = False
        self.deadline = before + LEASE.total_seconds()

    def fence(self, shard: int) -> int:
        """Return the fence under which agents of this shard commit."""
        return self.lease.fences[shard]

    def check(self) -> None:
        """Raise unless the lease still runs: past it another host may act for our agents.

        Raises:
            DrainingError: The lease ran out or was taken; nothing may be emitted or committed.
        """
        if clock.monotonic() >= self.deadline:
            raise DrainingError(RUN_OUT)

    async def keep(self) -> None:
        """Renew the lease until cancelled, superseded or released; failures are outlasted."""
        self._loop = asyncio.get_running_loop()
        self._kept = anyio.Event()
        self._renewals = Renewals(self.lease, self)
        try:
            lost = await self._renew(self._renewals)
        finally:
            self._renewals = None
            self._kept.set()
        if lost:
            log.error("another host took over", extra={"host": self.name})
            self.superseded.set()

    async def _renew(self, renewals: Renewals) -> bool:
        lost = False
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, renewals)
            if self._dsn is None:
                lost = await renewals.work(self._pool)
            else:
                lost = await renewals.work_apart(self._dsn)
            group.cancel_scope.cancel()
        return lost

    async def _watch(self, renewals: Renewals) -> None:
        """Show that the event loop turns, and distrust connections when the database falls silent."""
        while True:
            renewals.sign_of_life()
            with anyio.move_on_after(SIGN_OF_LIFE):
                await self._hush.wait()
                self._hush.clear()
                await distrust(self._pool)

    # What renewals tell, wherever they are made.

    def renewed(self, until: float) -> None:
        """Trust the lease until then, unless it was given up."""
        with self._deciding:
            if not self._over:
                self.deadline = until

    def lost(self) -> None:
        """Trust it no longer."""
        self._end()

    def silent(self) -> None:
        """Have the connections that serve requests replaced as well."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the host's loop is closed, and its connections with it
                self._loop.call_soon_threadsafe(self._hush.set)

    def _end(self) -> None:
        with self._deciding:
            self._over = True
            self.deadline = 0.0

    async def release(self) -> None:
        """End the lease, so that a successor need not wait for it. Best effort: it ends by itself.

        A renewal that is under way is over first, and none follows: it would keep the successor out.
        """
        if self.superseded.is_set():
            return
        self._end()
        with anyio.move_on_after(RELEASE_PATIENCE, shield=True):
            if self._renewals is None:
                await renewals.release(self._pool, self.lease)
            else:
                self._renewals.give_up()
                await self._kept.wait()
