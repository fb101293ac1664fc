"""A connection that one user keeps between its uses, in place of borrowing one each time."""

from types import TracebackType

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it ships none

from storage.pool import RELEASE_SECONDS, OwnConn, Pool, failed


class Held:
    """`async with held as conn` as with `storage.pool.connection`, for one user at a time: see `busy`.

    Borrowing and giving back cost more than a tenth of a small commit. The connection goes back to the
    pool when something fails on it, so that the next use begins with another one.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._conn: OwnConn | None = None
        self._suspect = False
        self.busy = False

    async def __aenter__(self) -> OwnConn:
        """Return the connection, a fresh one where there is none that can be trusted.

        Raises:
            UnavailableError: None can be had.
        """
        self.busy = True
        try:
            if self._conn is not None and (self._suspect or _is_closed(self._conn)):
                await self.close()
            if self._conn is None:
                self._conn = await self._pool.acquire()
        except BaseException as error:  # cancelled, too: `__aexit__` is not called for one that never entered
            self.busy = False
            if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
                raise await failed(self._pool, error) from error
            raise
        return self._conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Keep the connection, or give it back after an error, which comes out as a `StorageError`."""
        if error is None:
            self.busy = False
            return
        if isinstance(error, asyncpg.InternalClientError) and self._conn is not None:
            self._conn.terminate()  # out of step with the server: never to be lent again
        try:
            await self.close()
        finally:
            self.busy = False
        known = await failed(self._pool, error)
        if known is not error:
            raise known from error

    def suspect(self) -> None:
        """Begin the next use with another connection: this one may have fallen silent."""
        self._suspect = True

    async def close(self) -> None:
        """Give the connection back to the pool."""
        conn, self._conn, self._suspect = self._conn, None, False
        if conn is not None:
            await self._pool.release(conn, timeout=RELEASE_SECONDS)


def _is_closed(conn: OwnConn) -> bool:
    try:
        return conn.is_closed()
    except asyncpg.InterfaceError:  # the pool took it back by itself when the server hung up
        return True
