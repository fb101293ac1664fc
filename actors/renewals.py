"""Renews a host's lease: on the host's event loop, or in a thread that a busy loop cannot hold up."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

import anyio

from actors import clock
from storage import ownership
from storage.errors import StorageError, UnavailableError
from storage.ownership import LEASE, Lease
from storage.pool import Pool, connection, distrust, open_pool

log = logging.getLogger("wakeful.directory")

HEARTBEAT = 1.0  # seconds between renewals
THREAD = "wakeful-lease"  # its name
RENEWAL_DEADLINE = 2.0  # for one; what did not answer by then has fallen silent, and is asked again at once
RELEASE_DEADLINE = 2.0
# Without a sign of life from the host's event loop the lease is left to run out after this time: such a
# process is not busy but hung, and others may have its agents. The longest turn seen under overload, on a
# processor of which the server had a third, was 0.8 s.
STALLED = 15.0


class Holder(Protocol):
    """Whose lease it is. Its methods are called where renewals are made, so perhaps in another thread."""

    def renewed(self, until: float) -> None:
        """The lease runs until this time of the monotonic clock."""
        ...

    def lost(self) -> None:
        """Another process took the name or the shards."""
        ...

    def silent(self) -> None:
        """The database did not answer in time."""
        ...


class Renewals:
    """The renewals of one lease, until it is lost or they are ended. Failures are outlasted.

    A renewal takes several turns of an event loop. Under overload a turn lasts half a second and more: then
    renewals on that loop come too late, though the database answers at once, and a host that is only slow
    loses its agents. In a thread, with a loop and a connection of its own, they wait for nobody.
    """

    def __init__(self, lease: Lease, holder: Holder) -> None:
        self._lease = lease
        self._holder = holder
        self._lived_at = clock.monotonic()
        self._lock = threading.Lock()  # what follows is for whoever renews and whoever ends it
        self._ended = self._given_up = False
        self._wake: Callable[[], object] | None = None

    def sign_of_life(self) -> None:
        """The host's event loop turns."""
        self._lived_at = clock.monotonic()

    def end(self) -> None:
        """Renew no more. A renewal that is under way goes on; who worked returns."""
        self._end(give_up=False)

    def give_up(self) -> None:
        """Renew no more, and end the lease at the database when no renewal is under way any more."""
        self._end(give_up=True)

    def _end(self, *, give_up: bool) -> None:
        with self._lock:
            self._ended = True
            self._given_up = self._given_up or give_up
            wake = self._wake
            if wake is not None:
                wake()  # under the lock: the loop that it wakes is not closed meanwhile

    async def work(self, pool: Pool) -> bool:
        """Renew on this event loop. Returns whether the lease was lost; False where it was ended."""
        woken, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        try:
            return await self._keep(pool, woken)
        finally:
            with self._lock:
                self._wake = None

    async def work_apart(self, dsn: str) -> bool:
        """Renew in a thread, over a connection of its own; see `work`. Cancelling ends it without waiting."""
        future: Future[bool] = Future()
        future.set_running_or_notify_cancel()  # who waits may leave; the thread has its end to tell
        thread = threading.Thread(target=self._run, args=(dsn, future), name=THREAD, daemon=True)
        thread.start()
        try:
            return await asyncio.wrap_future(future)
        finally:
            self.end()

    def _run(self, dsn: str, future: "Future[bool]") -> None:
        try:
            future.set_result(asyncio.run(self._work_alone(dsn)))
        except BaseException as error:  # noqa: BLE001 - the edge of the thread: who waits for it is told
            future.set_exception(error)

    async def _work_alone(self, dsn: str) -> bool:
        while not self._ended:
            try:
                with anyio.fail_after(RENEWAL_DEADLINE):
                    pool = await open_pool(dsn, size=1)
            except (UnavailableError, TimeoutError) as error:
                log.warning("lease not renewed", extra={"reason": str(error)})
                await anyio.sleep(HEARTBEAT / 4)
                continue
            try:
                return await self.work(pool)
            finally:
                pool.terminate()
        return False

    async def _keep(self, pool: Pool, woken: asyncio.Event) -> bool:
        rest = HEARTBEAT
        while True:
            with anyio.move_on_after(rest):
                await woken.wait()
            if self._ended:
                break
            rest = HEARTBEAT
            try:
                if not await self._renew(pool):
                    self._holder.lost()
                    return True
            except UnavailableError as error:
                log.warning("lease not renewed", extra={"reason": str(error)})
            except TimeoutError:
                log.warning("lease not renewed", extra={"reason": "no answer", "seconds": RENEWAL_DEADLINE})
                self._holder.silent()
                await distrust(pool)
                rest = 0.0
        if self._given_up:
            await release(pool, self._lease)
        return False

    async def _renew(self, pool: Pool) -> bool:
        """Renew once, unless the host hangs. Returns False where the lease was lost.

        Raises:
            UnavailableError, TimeoutError: It was not renewed.
        """
        before = clock.monotonic()
        if before - self._lived_at >= STALLED:
            log.error("event loop hangs: lease left to run out", extra={"seconds": before - self._lived_at})
            return True
        with anyio.fail_after(RENEWAL_DEADLINE):
            async with connection(pool) as conn:
                try:
                    mine = await ownership.renew(conn, self._lease)
                except asyncio.CancelledError:
                    conn.terminate()  # asked to end what is under way, a silent one would take another second
                    raise
        if mine:
            self._holder.renewed(before + LEASE.total_seconds())
        return mine


async def release(pool: Pool, lease: Lease) -> None:
    """End the lease, so that a successor need not wait for it. Best effort: it ends by itself."""
    with suppress(StorageError), anyio.move_on_after(RELEASE_DEADLINE, shield=True):
        async with connection(pool) as conn:
            await ownership.release(conn, lease)
