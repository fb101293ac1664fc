"""This host's lease: claimed at start, renewed every second, and trusted no longer than it lasts."""

import logging
from collections.abc import Sequence
from contextlib import suppress

import anyio

from actors import clock
from actors.errors import DrainingError
from storage import ownership
from storage.errors import StorageError, UnavailableError
from storage.ownership import LEASE, Lease
from storage.pool import Pool, connection, distrust

log = logging.getLogger("wakeful.directory")

HEARTBEAT = 1.0  # seconds between renewals
RENEWAL_DEADLINE = 2.0


class Directory:
    """Who owns the agents: this host, until `deadline` on its own monotonic clock.

    The deadline counts from before a renewal was sent, so it never lies after the database's. A pool of its
    own keeps renewals from waiting behind requests, which would end the lease of a host that is only busy.
    What falls silent there has fallen silent for the others: those `beside` it are distrusted with it.
    """

    def __init__(self, pool: Pool, name: str, *, beside: Sequence[Pool] = ()) -> None:
        self._pool = pool
        self._beside = beside
        self.name = name
        self.lease = Lease(name, "", ())
        self.deadline = 0.0
        self.superseded = anyio.Event()
        self._released = False
        self._renewing = anyio.Lock()

    async def claim(self) -> None:
        """Take every shard.

        Raises:
            OwnedError: A live host of another name owns the database.
            UnavailableError: The database does not answer.
        """
        before = clock.monotonic()
        async with connection(self._pool) as conn:
            self.lease = await ownership.claim(conn, name=self.name, instance=clock.new_id("host"))
        self.deadline = before + LEASE.total_seconds()
        self._released = False

    def fence(self, shard: int) -> int:
        """Return the fence under which agents of this shard commit."""
        return self.lease.fences[shard]

    def check(self) -> None:
        """Raise unless the lease still runs: past it another host may act for our agents.

        Raises:
            DrainingError: The lease ran out or was taken; nothing may be emitted or committed.
        """
        if clock.monotonic() >= self.deadline:
            raise DrainingError("this host's lease has run out")

    async def keep(self) -> None:
        """Renew the lease until cancelled, superseded or released; failures are outlasted."""
        while not self.superseded.is_set():
            await anyio.sleep(HEARTBEAT)
            async with self._renewing:
                if self._released:
                    return
                await self._renew()

    async def _renew(self) -> None:
        before = clock.monotonic()
        try:
            with anyio.fail_after(RENEWAL_DEADLINE):
                async with connection(self._pool) as conn:
                    mine = await ownership.renew(conn, self.lease)
        except (UnavailableError, TimeoutError) as error:
            log.warning("lease not renewed", extra={"reason": str(error)})
            if isinstance(error, TimeoutError):
                for pool in (self._pool, *self._beside):
                    await distrust(pool)
            return
        if mine:
            self.deadline = before + LEASE.total_seconds()
        else:
            self.deadline = 0.0
            log.error("another host took over", extra={"host": self.name})
            self.superseded.set()

    async def release(self) -> None:
        """End the lease, so that a successor need not wait for it. Best effort: it ends by itself.

        A renewal that is under way is over first, and none follows: it would keep the successor out.
        """
        if self.superseded.is_set():
            return
        self._released = True
        with suppress(StorageError, TimeoutError), anyio.move_on_after(2 * RENEWAL_DEADLINE, shield=True):
            async with self._renewing:
                self.deadline = 0.0
                async with connection(self._pool) as conn:
                    await ownership.release(conn, self.lease)
