"""What the doctor sees of the database: whether it is there, fit, and set up so that nothing is lost."""

import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager

import anyio

from gateway import database
from gateway.config import Settings
from gateway.doctor.findings import Finding, Show, error, mebibytes, ok, warning
from storage import datadir, embedded, inspection, migrate
from storage.dsn import address
from storage.errors import EmbeddedError, StorageError
from storage.inspection import Extension, Inspection

DEADLINE = 15.0
NEEDED_CONNECTIONS = 16  # two pools, one for migrations, and room for a person with psql
FAR = 0.010  # seconds a round trip; every step waits for one commit
VECTOR = "vector"


@contextmanager
def visited(settings: Settings, show: Show) -> Generator[str | None]:
    """Yield the database's address, None where there is none to look at; what is wrong with it is shown.

    A server of ours that runs is visited through its socket; one that does not run is started for this
    visit and stopped again. Nothing is created.
    """
    with ExitStack() as stack:
        try:
            dsn = _enter(settings, show, stack)
        except StorageError as problem:
            show.found(
                error("database", str(problem), remedy="see above; or set DATABASE_URL to another one")
            )
            dsn = None
        yield dsn


def _enter(settings: Settings, show: Show, stack: ExitStack) -> str | None:
    if settings.database_url is not None:
        return settings.database_url
    home = database.data_dir(settings)
    holder = datadir.holder(home)
    if holder is not None:
        dsn = embedded.running_dsn(home)
        if dsn is None:
            raise EmbeddedError(f"process {holder} holds {home}, but its Postgres is not ready")
        show.found(ok("database", f"our own Postgres in {home}, run by process {holder or 'unknown'}"))
        return dsn
    if not (home / "pg").exists():
        show.found(ok("database", f"our own Postgres; `wakeful serve` will make it in {home}"))
        return None
    show.looking("starting our own Postgres for a moment")
    server = embedded.start(home)
    stack.callback(server.stop)
    show.found(ok("database", f"our own Postgres in {home}, started for this check"))
    return server.dsn


async def findings(dsn: str, *, ours: bool) -> list[Finding]:
    """Return what is to be said about the database at `dsn`; `ours` says that we run its server."""
    try:
        with anyio.fail_after(DEADLINE):
            seen = await inspection.inspect(dsn, extensions=(VECTOR, *required_extensions()))
    except StorageError as problem:
        return [error("database connection", str(problem), remedy=_way_in(str(problem), ours=ours))]
    except TimeoutError:
        text = f"{address(dsn)} did not answer within {DEADLINE:.0f} s"
        return [error("database connection", text, remedy="look at the server's own log and its load")]
    return [*_judged(seen, dsn, ours=ours)]


def required_extensions() -> tuple[str, ...]:
    """Return the extensions without which the migrations cannot be applied."""
    found = (
        re.findall(r"(?im)^create extension (?:if not exists )?\"?(\w+)", step.sql) for step in migrate.load()
    )
    return tuple(dict.fromkeys(name for names in found for name in names))


_NOBODY_THERE = "start it, or correct DATABASE_URL; in a container 127.0.0.1 is the container itself"
_WAYS_IN = (
    ("refuses our user name", "check user and password in DATABASE_URL, and the server's pg_hba.conf"),
    ("does not exist", "create it: createdb --encoding=UTF8 --lc-ctype=C.UTF-8 --template=template0 NAME"),
    ("pooler", "name the server itself in DATABASE_URL, not the pooler"),
    ("too many connections", "raise max_connections, or end idle clients"),
    ("refused", _NOBODY_THERE),
    ("call failed", _NOBODY_THERE),  # asyncio's own words for it
)


def _way_in(problem: str, *, ours: bool) -> str:
    if ours:
        return "restart the server; what its Postgres says is in postgres.log of the data directory"
    for words, remedy in _WAYS_IN:
        if words in problem:
            return remedy
    return "check host, port and network in DATABASE_URL: psql with the same URL must work"


def _judged(seen: Inspection, dsn: str, *, ours: bool) -> Iterator[Finding]:
    place = "its socket" if ours else address(dsn)
    text = f"Postgres {seen.version} at {place}, as {seen.user}, {seen.round_trip * 1000:.1f} ms a round trip"
    if seen.round_trip > FAR:
        yield warning("database connection", text, remedy="move the server nearer to its database: "
                      "every step waits for a commit")  # fmt: skip
    else:
        yield ok("database connection", text)
    yield _version(seen)
    if seen.encoding == "UTF8" and not seen.knows_letters:
        yield _letters(ours=ours)
    yield _writable(seen)
    yield _schema(seen)
    yield _rights(seen)
    for extension in seen.extensions:
        yield _extension(extension, seen)
    yield from _durability(seen)
    yield _connections(seen)
    if seen.owner is not None:
        yield ok("owner", f"a server named {seen.owner!r} is running on this database")


def _version(seen: Inspection) -> Finding:
    if seen.major < migrate.OLDEST_SERVER:
        return error(
            "database version",
            f"Postgres {seen.major} is too old",
            remedy=f"use Postgres {migrate.OLDEST_SERVER} or newer",
        )
    if seen.encoding != "UTF8":
        return error(
            "database version",
            f"the database stores text as {seen.encoding}",
            remedy="create it anew: createdb --encoding=UTF8 --lc-ctype=C.UTF-8 --template=template0 NAME",
        )
    return ok("database version", f"Postgres {seen.major} with UTF8, {mebibytes(seen.size_bytes)} of data")


def _letters(*, ours: bool) -> Finding:
    return warning(
        "database locale",
        "its LC_CTYPE is C, which takes signs outside ASCII for letters: search misses words beside “ or …",
        remedy="export the agents, start with a new --data-dir, import them"
        if ours
        else "create it anew: createdb --encoding=UTF8 --lc-ctype=C.UTF-8 --template=template0 NAME",
    )


def _writable(seen: Inspection) -> Finding:
    if seen.standby:
        return error("database writes", "it is a standby, which takes no writes", remedy="name the primary")
    if seen.settings.get("default_transaction_read_only") == "on":
        return error(
            "database writes",
            "it is set to read-only",
            remedy="alter database NAME reset default_transaction_read_only",
        )
    return ok("database writes", "it takes writes")


def _schema(seen: Inspection) -> Finding:
    if seen.schema_problem is not None:
        return error(
            "migrations",
            seen.schema_problem,
            remedy="use the release that made this database, or another one",
        )
    if seen.pending:
        missing = f"{len(seen.pending)} to apply: {', '.join(seen.pending)}"
        return warning(
            "migrations", missing, remedy="run `wakeful migrate`, or start the server, which does it"
        )
    return ok("migrations", "the schema is this release's")


def _rights(seen: Inspection) -> Finding:
    if seen.tables_denied:
        tables = ", ".join(seen.tables_denied)
        return error(
            "database rights",
            f"{seen.user} may not read and write {tables}",
            remedy=f"as their owner: grant all on all tables in schema public to {seen.user}",
        )
    if seen.pending and not seen.may_create:
        return error(
            "database rights",
            f"{seen.user} may not create tables, and migrations are to be applied",
            remedy=f"as a superuser: grant create on schema public to {seen.user}",
        )
    if not seen.may_create:
        return warning(
            "database rights",
            f"{seen.user} may not create tables, which the next upgrade will want to",
            remedy=f"as a superuser: grant create on schema public to {seen.user}",
        )
    return ok("database rights", f"{seen.user} may do what the server does")


def _extension(extension: Extension, seen: Inspection) -> Finding:
    check = f"extension {extension.name}"
    needed = extension.name in required_extensions()
    grave = error if needed else warning
    without = "migrations need it" if needed else "without it nothing can be searched by meaning"
    if extension.installed is not None:
        return ok(check, f"version {extension.installed}")
    if extension.available is None:
        return grave(
            check,
            f"the server does not have it; {without}",
            remedy="install pgvector on the server (package postgresql-NN-pgvector, image pgvector/pgvector)"
            if extension.name == VECTOR
            else f"install the extension {extension.name} on the server",
        )
    if seen.may_install:
        return ok(check, f"version {extension.available} can be installed when it is needed")
    return grave(
        check,
        f"not installed, and {seen.user} may not install it; {without}",
        remedy=f"as a superuser, in this database: create extension {extension.name}",
    )


_LOSSY = (
    ("fsync", "a crash of the machine can destroy the database"),
    ("full_page_writes", "a crash of the machine can destroy the database"),
    ("synchronous_commit", "what was acknowledged can be lost in a crash"),
)


def _durability(seen: Inspection) -> Iterator[Finding]:
    off = [(name, harm) for name, harm in _LOSSY if seen.settings.get(name) == "off"]
    for name, harm in off:
        yield error(
            "durability", f"{name} is off: {harm}", remedy=f"set {name} = on in postgresql.conf and reload"
        )
    if not off:
        yield ok("durability", "what commits is on the disk")


def _connections(seen: Inspection) -> Finding:
    most = int(seen.settings["max_connections"]) - int(seen.settings["superuser_reserved_connections"])
    text = f"{seen.connections} of {most} connections are taken"
    if seen.owner is None and most - seen.connections < NEEDED_CONNECTIONS:
        return warning(
            "connections",
            f"{text}; the server takes up to {NEEDED_CONNECTIONS}",
            remedy="raise max_connections in postgresql.conf, or end idle clients",
        )
    return ok("connections", text)
