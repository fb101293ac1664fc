"""Connections to Postgres: how they are opened, lent and given back, and what they speak."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it ships none; the protocols below are its types

from storage import vectors
from storage.dsn import plain_dsn
from storage.failures import OUTSIDE, translate, unreachable

WARM_CONNECTIONS = 2  # a new one costs about 13 ms: these never wait for it
CONNECT_SECONDS = 10.0  # the library's own bound on one attempt; callers set shorter deadlines around it
RELEASE_SECONDS = 1.0  # a connection that cannot be tidied up in this time is cut instead
COMMAND_SECONDS = 15.0  # above the server's own timeouts: only a connection that fell silent gets there

# Milliseconds. Below the deadlines of callers nothing is promised; above them nothing may linger.
SERVER_SETTINGS: Mapping[str, str] = {
    "application_name": "wakeful",
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "15000",
    "jit": "off",
    "timezone": "UTC",
    # pgvector's: an index goes on looking when its nearest rows are filtered away, and finds 97 of 100 that
    # comparing finds (64 in place of 100: 94). Elsewhere without effect.
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "100",
}

# What a server does for one of many agents never reads a table whole where an index knows its rows. The
# planner would: it cannot tell a small archive from a large one, and expects the large one.
POOL_SETTINGS: Mapping[str, str] = {"enable_seqscan": "off"}

LOOKUP_SETTINGS: Mapping[str, str] = {
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}


class Row(Protocol):
    """One row of a result; columns by name or by place."""

    def __getitem__(self, key: str | int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def get(self, key: str, default: Any = None, /) -> Any: ...
    def keys(self) -> Iterator[str]: ...
    def values(self) -> Iterator[Any]: ...
    def items(self) -> Iterator[tuple[str, Any]]: ...


class Conn(Protocol):
    """A connection, borrowed or owned. `json` and `jsonb` are `bytes` both ways, `vector` numbers.

    Session state is not reset between borrowers: use `set local`, never `set`, `listen` or session locks.
    `has_vectors` says whether the database keeps vectors in pgvector's type; else they are `real[]`.
    """

    @property
    def has_vectors(self) -> bool: ...

    async def execute(self, query: str, /, *args: object, timeout: float | None = None) -> str: ...
    async def executemany(
        self, command: str, /, args: Iterable[Iterable[object]], *, timeout: float | None = None
    ) -> None: ...
    async def fetch(self, query: str, /, *args: object, timeout: float | None = None) -> list[Row]: ...
    async def fetchrow(self, query: str, /, *args: object, timeout: float | None = None) -> Row | None: ...
    async def fetchval(
        self, query: str, /, *args: object, column: int = 0, timeout: float | None = None
    ) -> Any: ...
    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> AbstractAsyncContextManager[Any]: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...


class OwnConn(Conn, Protocol):
    """A connection outside any pool: its opener closes it."""

    async def close(self, *, timeout: float | None = None) -> None: ...
    def get_server_version(self) -> Any: ...
    def get_settings(self) -> Any: ...


class Pool(Protocol):
    """The connections of one process. Borrow with `connection`, which says what failures mean."""

    async def acquire(self) -> OwnConn: ...
    async def release(self, connection: Conn, *, timeout: float | None = None) -> None: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...
    async def expire_connections(self) -> None: ...
    def get_idle_size(self) -> int: ...


_create_pool = cast("Callable[..., Awaitable[Pool]]", asyncpg.create_pool)  # pyright: ignore[reportUnknownMemberType]
_connect = cast("Callable[..., Awaitable[OwnConn]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]


class _Connection(asyncpg.Connection):
    """A connection that is cut when nobody answers its goodbye.

    The pool says goodbye to expired connections in a task that nobody waits for, so a timeout there
    would only be reported as an exception that was never retrieved.
    """

    has_vectors = False

    async def close(self, *, timeout: float | None = None) -> None:
        with suppress(TimeoutError):
            await super().close(timeout=timeout)  # pyright: ignore[reportUnknownMemberType]


async def open_pool(dsn: str, *, size: int = 8) -> Pool:
    """Open a pool of at most `size` connections; the first few are there when this returns.

    Raises:
        UnavailableError: the server cannot be reached or refuses; names host, port and database.
    """
    return await _open(dsn, size=size, settings={**SERVER_SETTINGS, **POOL_SETTINGS})


async def open_lookup_pool(dsn: str, *, size: int = 2) -> Pool:
    """Open a pool for statements that find every row by key: the inbox's and the checkpoint's.

    Their plans are made once, when tables may still be small or without statistics, and then kept.
    The planner would read a small table whole and keep doing so as it grows; here it may not.

    Raises:
        UnavailableError: as `open_pool`.
    """
    settings = {**SERVER_SETTINGS, **POOL_SETTINGS, **LOOKUP_SETTINGS}
    return await _open(dsn, size=size, settings=settings, init=_learn_types)


async def _open(
    dsn: str, *, size: int, settings: Mapping[str, str], init: Callable[[Any], Awaitable[None]] | None = None
) -> Pool:
    try:
        return await _create_pool(
            plain_dsn(dsn),
            min_size=min(WARM_CONNECTIONS, size),
            max_size=size,
            init=_set_codecs if init is None else init,
            reset=_keep_session,
            connection_class=_Connection,
            command_timeout=COMMAND_SECONDS,
            **{**_CONNECT_OPTIONS, "server_settings": settings},
        )
    except (*OUTSIDE, ValueError) as error:
        raise unreachable(dsn, error) from error


async def connect(dsn: str) -> OwnConn:
    """Open one connection of one's own, with the codecs and timeouts of the pool's.

    What fails on it later is the driver's error; `translate` says what it means.

    Raises:
        UnavailableError: as `open_pool`.
    """
    try:
        conn = await _connect(plain_dsn(dsn), connection_class=_Connection, **_CONNECT_OPTIONS)
        try:
            await _set_codecs(conn)
        except BaseException:  # cancelled, too: nobody has the connection yet who would close it
            conn.terminate()
            raise
    except (*OUTSIDE, ValueError) as error:
        raise unreachable(dsn, error) from error
    return conn


@asynccontextmanager
async def connection(pool: Pool) -> AsyncGenerator[Conn]:
    """Borrow a connection; what the database raises inside comes out as a `StorageError`.

    Waits for a free connection as long as the caller's deadline allows. Cancelling rolls back an open
    transaction; a statement that was under way may still have been committed by the server.

    Raises:
        UnavailableError: no connection, a lost one, a timeout, or a server that takes no writes.
        ConflictError: a unique or foreign key constraint refused the write; carries its name.
        RefusedError: the content was refused (NUL, bad encoding, out of range, too large, a check).
    """
    try:
        conn = await pool.acquire()
        try:
            yield conn
        except asyncpg.InternalClientError:
            conn.terminate()  # out of step with the server: never to be lent again
            raise
        finally:
            await pool.release(conn, timeout=RELEASE_SECONDS)
    except OUTSIDE as error:
        known = await failed(pool, error)
        if known is error:
            raise
        raise known from error


async def failed(pool: Pool, error: BaseException) -> BaseException:
    """Return what an error on a connection of `pool` means to a caller; `error` itself where it is ours."""
    if isinstance(error, TimeoutError):
        await distrust(pool)
    return (translate(error) if isinstance(error, OUTSIDE) else None) or error


@asynccontextmanager
async def transaction(conn: Conn) -> AsyncGenerator[None]:
    """Open a transaction; it commits when the block ends without an error, else it is rolled back.

    A connection that fell silent is cut instead: asked to roll back, it would cost one more deadline.
    """
    async with conn.transaction():
        try:
            yield
        except TimeoutError:
            conn.terminate()
            raise


async def distrust(pool: Pool) -> None:
    """Have every connection replaced before its next use: one fell silent, so the others may have, too.

    Call it when a statement did not answer within a deadline. A network that swallows packets breaks no
    connection; without this each one would cost its user a deadline of its own.
    """
    await pool.expire_connections()


# --- how a connection is set up --------------------------------------------------------------

_CONNECT_OPTIONS: Mapping[str, Any] = {
    "timeout": CONNECT_SECONDS,
    "server_settings": SERVER_SETTINGS,
    "statement_cache_size": 512,
    "max_cached_statement_lifetime": 0,  # statements are constants: they never go stale
}


# The column decides, not the extension: it may have been installed after the table was made without it.
# A backend whose client fell silent in the middle of a statement's messages, after `Execute` and before
# `Sync`, is neither busy nor idle: only `transaction_timeout`, since Postgres 17, makes it drop its locks.
_BEGIN_SESSION = """
select (select n.nspname
          from pg_attribute a
          join pg_type t on t.oid = a.atttypid
          join pg_namespace n on n.oid = t.typnamespace
         where a.attrelid = to_regclass('passages') and a.attname = 'embedding' and t.typname = 'vector'),
       case when current_setting('server_version_num')::int >= 170000
            then set_config('transaction_timeout', '15000', false) end
"""


async def _set_codecs(conn: Any) -> None:
    """Let JSON pass as bytes, and vectors as numbers where the database has them.

    The types of JSON are built in; that of vectors is not, so its place is asked for. The one bound that
    older servers do not know is set by the same statement.
    """
    await conn.set_type_codec(
        "jsonb", schema="pg_catalog", format="binary", encoder=_to_jsonb, decoder=_from_jsonb
    )
    await conn.set_type_codec("json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes)
    schema = await conn.fetchval(_BEGIN_SESSION)
    if schema is not None:
        await conn.set_type_codec(
            "vector", schema=schema, format="binary", encoder=vectors.encode, decoder=vectors.decode
        )
        reached(conn).has_vectors = True


async def _learn_types(conn: Any) -> None:
    """Set the codecs, and let the driver read what the rows of a step are before the first one is written."""
    await _set_codecs(conn)
    with suppress(asyncpg.UndefinedObjectError):  # a database without our tables yet
        await conn.fetchval("select null::message_row[]")


def reached(conn: Any) -> _Connection:
    """Return the connection behind a pool's proxy: it lives as long as the session does."""
    return getattr(conn, "_con", conn)


def _to_jsonb(document: bytes) -> bytes:
    return b"\x01" + document  # the version of the binary form


def _from_jsonb(data: bytes) -> bytes:
    return data[1:]


async def _keep_session(_: object) -> None:
    """Skip the four statements of a reset: no code here changes a session (see `Conn`)."""
