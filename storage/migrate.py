"""The path to today's schema: numbered SQL files, applied once each, forward only."""

import hashlib
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it ships none
from msgspec import Struct

from storage.errors import OwnedError, SchemaError
from storage.failures import translate
from storage.pool import Conn, OwnConn, connect

MIGRATIONS = Path(__file__).parent / "migrations"
OLDEST_SERVER = 14  # major version; older ones are out of support


class Migration(Struct, frozen=True):
    """One file of `migrations/`: `0001_spine.sql` is version 1, name `0001_spine`."""

    version: int
    name: str
    checksum: str
    sql: str


async def migrate(
    dsn: str, *, host: str | None = None, progress: Callable[[str], None] | None = None
) -> list[str]:
    """Bring the database to today's schema and return the names of what was applied.

    Processes that start together wait for one another. Each migration commits with its record, so a
    crash or a cancellation leaves whole migrations behind and the next start goes on. `host` is the name
    of the host that is about to start, if one is: it takes over from a live one of its own name.

    Raises:
        OwnedError: something is to be applied, and a host of another name is alive.
        SchemaError: the database is newer, edited, foreign, too old or not UTF-8; names the remedy.
        UnavailableError: the database cannot be reached.
    """
    steps = load()
    async with _own_connection(dsn) as conn:
        _check_server(conn)
        if not await pending(conn, steps):
            return []
        await conn.execute(_BE_PATIENT)
        await conn.execute(_PREPARE)
        todo = await pending(conn, steps)
        for step in todo:
            if progress is not None:
                progress(step.name)
            await _apply(conn, step, host)
        return [step.name for step in todo]


def load(folder: Path = MIGRATIONS) -> tuple[Migration, ...]:
    """Read the migrations that this release knows, in order."""
    steps = tuple(_read(path) for path in sorted(folder.glob("*.sql")))
    assert [step.version for step in steps] == list(range(1, len(steps) + 1)), "versions must count up from 1"
    return steps


_RECORDS = """
select version, name, checksum from schema_migrations order by version
"""


async def pending(conn: Conn, steps: tuple[Migration, ...] | None = None) -> list[Migration]:
    """Return the migrations that the database lacks, in order.

    Raises:
        SchemaError: it holds one that this release does not know, or knows with other content.
    """
    known = load() if steps is None else steps
    if await conn.fetchval("select to_regclass('schema_migrations')::text") is None:
        return list(known)
    applied = {row["version"]: row for row in await conn.fetch(_RECORDS)}
    by_version = {step.version: step for step in known}
    for version, row in applied.items():
        step = by_version.get(version)
        if step is None:
            raise SchemaError(
                f"the database has migration {row['name']!r}, which this release does not know: "
                "start the newer release that made it, or restore a backup from before"
            )
        if step.checksum != row["checksum"]:
            raise SchemaError(
                f"migration {step.name!r} was edited after it had been applied to this database: "
                "restore the file as it was released and put the change into a new migration"
            )
    return [step for step in known if step.version not in applied]


# The lock is the session's: it ends with the connection, whatever happens to this process. Waiting for
# another migrator may take long; a lock on a table may not, for everybody else would queue behind us.
# A string of statements is timed as one, so the first limits must be gone before it is sent.
_BE_PATIENT = """
set statement_timeout = 0;
set lock_timeout = 0;
select set_config(name, '0', false) from pg_settings where name = 'transaction_timeout';
"""
_LOCK_KEY = 0x77616B656675  # "wakefu"
_PREPARE = f"""
select pg_advisory_lock({_LOCK_KEY});
set lock_timeout = '5s';
create table if not exists schema_migrations (
  version     int primary key,
  name        text not null,
  checksum    text not null,
  applied_at  timestamptz not null default now()
);
"""
_RECORD = """
insert into schema_migrations (version, name, checksum) values ($1, $2, $3)
"""


async def _apply(conn: Conn, step: Migration, host: str | None) -> None:
    try:
        async with conn.transaction():
            if step.version > 1:
                await _quieten(conn, host)
            await conn.execute(step.sql)
            await conn.execute(_RECORD, step.version, step.name, step.checksum)
    except asyncpg.exceptions.DuplicateTableError as error:
        raise SchemaError(
            f"migration {step.name!r} found tables that it did not make ({error}): "
            "DATABASE_URL must name an empty database or one that wakeful made"
        ) from error


# A live host calls functions and reads columns that a migration replaces: every step of its agents would
# fail, and after a few attempts their commands would be given up. Nobody becomes a host meanwhile.
_OWNERSHIP = "select pg_advisory_xact_lock(hashtext('wakeful.ownership'))"
_ALIVE = """
select h.name, extract(epoch from h.lease_until - now())::float8 as seconds
  from hosts h
 where h.lease_until > now() and h.name is distinct from $1
   and exists (select from shards s where s.host = h.name)
 order by h.lease_until desc
 limit 1
"""
# Whoever writes for an agent holds its row: no statement of a migration sees more than the one before it,
# even where a host that is to be taken over still writes.
_AGENTS = "lock table agents in exclusive mode"


async def _quieten(conn: Conn, host: str | None) -> None:
    """Let nobody write for an agent until this transaction ends.

    Raises:
        OwnedError: A host of another name is alive.
    """
    await conn.execute(_OWNERSHIP)
    if (alive := await conn.fetchrow(_ALIVE, host)) is not None:
        raise OwnedError(alive["name"], alive["seconds"])
    await conn.execute(_AGENTS)


def _read(path: Path) -> Migration:
    match = re.fullmatch(r"(\d{4})_\w+", path.stem)
    assert match is not None, f"{path.name} is not named like 0001_spine.sql"
    sql = path.read_text(encoding="utf-8")  # universal newlines: a checkout's line ends do not count
    return Migration(int(match[1]), path.stem, hashlib.sha256(sql.encode()).hexdigest(), sql)


def _check_server(conn: OwnConn) -> None:
    major = conn.get_server_version().major
    if major < OLDEST_SERVER:
        raise SchemaError(f"the server is Postgres {major}: {OLDEST_SERVER} or newer is needed")
    encoding = conn.get_settings().server_encoding
    if encoding != "UTF8":
        raise SchemaError(f"the database stores text as {encoding}: create it with `encoding 'UTF8'`")


@asynccontextmanager
async def _own_connection(dsn: str) -> AsyncGenerator[OwnConn]:
    conn = await connect(dsn)
    try:
        yield conn
    except asyncpg.exceptions.InsufficientPrivilegeError as error:
        raise SchemaError(f"the user of DATABASE_URL may not change the schema: {error}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        known = translate(error)
        if known is None:
            raise
        raise known from error
    finally:
        conn.terminate()
