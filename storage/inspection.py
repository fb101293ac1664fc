"""What a database is like, read without changing anything: for a person who asks why it does not work."""

import time
from datetime import datetime

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it ships none
from msgspec import Struct

from storage import migrate
from storage.errors import SchemaError, StorageError
from storage.failures import translate
from storage.pool import OwnConn, connect

ROUND_TRIPS = 5


class Extension(Struct, frozen=True):
    """An extension of Postgres: what is installed in this database, and what the server could install."""

    name: str
    installed: str | None
    available: str | None


class Inspection(Struct, frozen=True, kw_only=True):
    """The facts about one database. Times are in seconds, sizes in bytes.

    `knows_letters`: words end where a sign outside ASCII begins that is no letter.
    """

    major: int
    version: str
    user: str
    encoding: str
    knows_letters: bool
    standby: bool
    settings: dict[str, str]
    round_trip: float
    connections: int
    may_create: bool
    may_install: bool
    tables_denied: tuple[str, ...]
    extensions: tuple[Extension, ...]
    pending: tuple[str, ...]
    schema_problem: str | None
    size_bytes: int
    owner: str | None
    owned_until: datetime | None


# Whatever a later line does, this session writes nothing.
_READ_ONLY = "set default_transaction_read_only = on"

_FACTS = """
select current_setting('server_version') as version, current_user::text as user,
       pg_is_in_recovery() as standby, pg_database_size(current_database()) as size_bytes,
       (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections,
       coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
       has_database_privilege(current_database(), 'create') as may_install,
       to_tsvector('simple', '“so”') @@ 'so'::tsquery as knows_letters
"""

SETTINGS = (
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "max_connections",
    "superuser_reserved_connections",
    "default_transaction_read_only",
)

_SETTINGS = "select name, reset_val from pg_settings where name = any ($1)"

_EXTENSIONS = """
select w.name, e.extversion as installed, a.default_version as available
  from unnest($1::text[]) as w (name)
  left join pg_extension e on e.extname = w.name
  left join pg_available_extensions a on a.name = w.name
 order by w.name
"""

_DENIED = """
select c.relname
  from pg_class c
 where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
   and c.relname = any ($1)
   and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
            and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))
 order by 1
"""
TABLES = (
    "agents",
    "blocks",
    "conversations",
    "hosts",
    "inbox",
    "messages",
    "runs",
    "shards",
    "steps",
    "tools",
)

_HAS_HOSTS = "select to_regclass('hosts') is not null and has_table_privilege('hosts', 'select')"
_OWNER = "select name, lease_until from hosts where lease_until > now() order by lease_until desc limit 1"


async def inspect(dsn: str, *, extensions: tuple[str, ...]) -> Inspection:
    """Read the facts over one connection that writes nothing.

    Raises:
        UnavailableError: the database cannot be reached, or refuses the user.
        StorageError: it failed in the middle.
    """
    conn = await connect(dsn)
    try:
        await conn.execute(_READ_ONLY)
        return await _facts(conn, extensions)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise translate(error) or StorageError(f"the database refused to be inspected: {error}") from error
    finally:
        conn.terminate()


async def _facts(conn: OwnConn, extensions: tuple[str, ...]) -> Inspection:
    facts = await conn.fetchrow(_FACTS)
    assert facts is not None
    pending, problem = await _schema(conn)
    owner = await conn.fetchrow(_OWNER) if await conn.fetchval(_HAS_HOSTS) else None
    return Inspection(
        major=conn.get_server_version().major,
        version=str(facts["version"]).partition(" ")[0],
        user=facts["user"],
        encoding=conn.get_settings().server_encoding,
        knows_letters=facts["knows_letters"],
        standby=facts["standby"],
        settings={row["name"]: row["reset_val"] for row in await conn.fetch(_SETTINGS, list(SETTINGS))},
        round_trip=await _round_trip(conn),
        connections=facts["connections"],
        may_create=facts["may_create"],
        may_install=facts["may_install"],
        tables_denied=tuple(row["relname"] for row in await conn.fetch(_DENIED, list(TABLES))),
        extensions=tuple(
            Extension(row["name"], row["installed"], row["available"])
            for row in await conn.fetch(_EXTENSIONS, list(extensions))
        ),
        pending=pending,
        schema_problem=problem,
        size_bytes=facts["size_bytes"],
        owner=None if owner is None else owner["name"],
        owned_until=None if owner is None else owner["lease_until"],
    )


async def _schema(conn: OwnConn) -> tuple[tuple[str, ...], str | None]:
    """Return the migrations that are missing, or why the schema is not one of ours."""
    try:
        return tuple(step.name for step in await migrate.pending(conn)), None
    except SchemaError as error:
        return (), str(error)
    except asyncpg.InsufficientPrivilegeError:
        return (), "the user may not read the record of migrations (schema_migrations)"


async def _round_trip(conn: OwnConn) -> float:
    """Return the shortest of a few round trips: what the network and the server cost at least."""
    shortest = float("inf")
    for _ in range(ROUND_TRIPS):
        begun = time.perf_counter()
        await conn.fetchval("select 1")
        shortest = min(shortest, time.perf_counter() - begun)
    return shortest
