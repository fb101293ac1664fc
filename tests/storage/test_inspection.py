"""A database is inspected as it is, and is the same afterwards."""

from collections.abc import AsyncGenerator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from storage import inspection, migrate
from storage.errors import UnavailableError
from storage.pool import connect


async def test_a_migrated_database_has_nothing_to_complain_of(dsn: str) -> None:
    seen = await inspection.inspect(dsn, extensions=("plpgsql", "nowhere"))
    assert seen.pending == ()
    assert seen.schema_problem is None
    assert seen.tables_denied == ()
    assert (seen.encoding, seen.standby, seen.may_create) == ("UTF8", False, True)
    assert {e.name: (e.installed is None, e.available is None) for e in seen.extensions} == {
        "plpgsql": (False, False),
        "nowhere": (True, True),
    }
    assert int(seen.settings["max_connections"]) > 0
    assert 0 < seen.round_trip < 1
    assert seen.owner is None


async def test_an_empty_database_lacks_every_migration_and_stays_empty(empty_dsn: str) -> None:
    seen = await inspection.inspect(empty_dsn, extensions=())
    assert list(seen.pending) == [step.name for step in migrate.load()]
    conn = await connect(empty_dsn)
    assert await conn.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    await conn.close()


async def test_a_newer_schema_is_a_problem_in_words(dsn: str) -> None:
    conn = await connect(dsn)
    await conn.execute(
        "insert into schema_migrations (version, name, checksum) values (9999, '9999_later', 'x')"
    )
    await conn.close()
    seen = await inspection.inspect(dsn, extensions=())
    assert seen.schema_problem is not None
    assert "9999_later" in seen.schema_problem


@pytest.fixture
async def stranger(dsn: str) -> AsyncGenerator[str]:
    """Yield the address of the database for a user who was granted nothing."""
    name = f"stranger_{uuid4().hex[:8]}"
    conn = await connect(dsn)
    await conn.execute(f"create role {name} login password 'pw'")
    parts = urlsplit(dsn)
    yield urlunsplit(parts._replace(netloc=f"{name}:pw@{parts.netloc.rpartition('@')[2]}"))
    await conn.execute(f"drop owned by {name}; drop role {name}")
    await conn.close()


async def test_a_user_without_rights_is_seen_as_one(stranger: str) -> None:
    seen = await inspection.inspect(stranger, extensions=())
    assert set(seen.tables_denied) == set(inspection.TABLES)
    assert not seen.may_create
    assert seen.schema_problem is not None
    assert "schema_migrations" in seen.schema_problem
    assert seen.owner is None


async def test_the_owner_is_the_host_whose_lease_runs(dsn: str) -> None:
    conn = await connect(dsn)
    await conn.execute(
        "insert into hosts (name, instance, lease_until) values ('old', 'x', now() - interval '1 s'), "
        "('mine', 'y', now() + interval '5 s')"
    )
    await conn.close()
    seen = await inspection.inspect(dsn, extensions=())
    assert seen.owner == "mine"


async def test_nothing_can_be_written_while_inspecting(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        inspection, "_OWNER", "insert into hosts values ('a', 'b', now()) returning name, now()"
    )
    with pytest.raises(Exception, match="read-only"):
        await inspection.inspect(dsn, extensions=())


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(UnavailableError):
        await inspection.inspect("postgresql://nobody@127.0.0.1:1/x", extensions=())
