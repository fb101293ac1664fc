"""Migrations: the path leads to `schema.sql`, once, and refuses databases that it does not understand."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import anyio
import asyncpg
import msgspec
import pytest
from msgspec.structs import replace

from storage import activation, checkpoints, inbox, ownership, words
from storage import migrate as module
from storage.checkpoints import WindowUpdate
from storage.errors import OwnedError, RefusedError, SchemaError, UnavailableError
from storage.inbox import Accepted
from storage.migrate import Migration, load, migrate, pending
from storage.pool import Conn, OwnConn, Pool, connect, connection
from tests.storage import seeds
from tests.storage.test_checkpoints import plain

SCHEMA = Path(module.__file__).with_name("schema.sql")

# Everything that a migration and `schema.sql` could say differently, each line one fact.
CATALOG = {
    "columns": """
        select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage,
               a.attcompression, a.attidentity, a.attgenerated, a.attstattarget, a.attcollation::text,
               pg_get_expr(d.adbin, d.adrelid), c.relkind
          from pg_attribute a join pg_class c on c.oid = a.attrelid
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped""",
    "relations": """
        select relname, relkind, relpersistence, reloptions, relrowsecurity, relreplident
          from pg_class where relnamespace = 'public'::regnamespace""",
    "constraints": """
        select conrelid::regclass::text, conname, contype, convalidated, pg_get_constraintdef(oid)
          from pg_constraint where connamespace = 'public'::regnamespace""",
    "indexes": """
        select indexrelid::regclass::text, indisvalid, pg_get_indexdef(indexrelid)
          from pg_index join pg_class c on c.oid = indexrelid
         where c.relnamespace = 'public'::regnamespace""",
    "comments": """
        select classoid::regclass::text, objsubid, description
          from pg_description where objoid >= 16384""",
    "functions": """
        select p.proname, pg_get_functiondef(p.oid) from pg_proc p
         where p.pronamespace = 'public'::regnamespace and p.prokind <> 'a'""",
    "triggers": """
        select tgrelid::regclass::text, pg_get_triggerdef(oid)
          from pg_trigger where not tgisinternal""",
    "types": """
        select t.typname, t.typtype, (select string_agg(enumlabel, ',' order by enumsortorder)
          from pg_enum where enumtypid = t.oid)
          from pg_type t where t.typnamespace = 'public'::regnamespace""",
    "views": "select viewname, definition from pg_views where schemaname = 'public'",
    "extensions": "select extname from pg_extension",
    "organizations": "select id, name from organizations",
    "shards": "select shard, host, fence from shards",
}


@pytest.fixture
async def empty(empty_dsn: str) -> AsyncGenerator[OwnConn]:
    conn = await connect(empty_dsn)
    yield conn
    await conn.close()


async def test_the_migrations_lead_to_the_schema(dsn: str, empty: OwnConn) -> None:
    migrated = await connect(dsn)
    await migrated.execute("drop table schema_migrations")
    await empty.execute(SCHEMA.read_text())
    there, here = await _facts(migrated), await _facts(empty)
    await migrated.close()
    assert {name: there[name] ^ here[name] for name in CATALOG} == dict.fromkeys(CATALOG, frozenset())
    assert len(here["columns"]) > 100
    assert len(here["shards"]) == 4096


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("alter table agents alter column settings set storage extended", "columns"),
        ("alter table agents alter column name drop not null", "columns"),
        ("alter table agents alter column fence set default 1", "columns"),
        ("alter table agents reset (fillfactor)", "relations"),
        ("alter table inbox drop constraint command_is_accepted_once", "constraints"),
        ("alter domain command_state drop constraint inbox_state_is_known", "constraints"),
        ("drop index inbox_pending", "indexes"),
        ("comment on table runs is 'x'", "comments"),
        ("create view v as select 1 as one", "views"),
        ("delete from shards where shard = 4095", "shards"),
    ],
)
async def test_the_comparison_sees_each_kind_of_difference(dsn: str, change: str, kind: str) -> None:
    conn = await connect(dsn)
    before = await _facts(conn)
    await conn.execute(change)
    after = await _facts(conn)
    await conn.close()
    assert before[kind] != after[kind]


async def test_a_second_run_finds_nothing_to_do(empty_dsn: str, empty: OwnConn) -> None:
    told: list[str] = []
    names = [step.name for step in load()]
    assert await migrate(empty_dsn, progress=told.append) == names
    assert told == names
    assert await migrate(empty_dsn, progress=told.append) == []
    assert told == names
    assert await pending(empty) == []


async def test_an_untouched_database_lacks_everything(empty: OwnConn) -> None:
    assert await pending(empty) == list(load())


async def test_processes_that_start_together_apply_each_migration_once(
    empty_dsn: str, empty: OwnConn
) -> None:
    async def start() -> None:
        applied.extend(await migrate(empty_dsn))

    applied: list[str] = []
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(start)
    assert applied == [step.name for step in load()]
    assert await empty.fetchval("select count(*) from schema_migrations") == len(load())


async def test_a_later_migration_is_applied_alone(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    later = _later("create table later (id int)")
    monkeypatch.setattr(module, "load", lambda: (*load(), later))
    assert await migrate(dsn) == [later.name]


async def test_commands_under_way_outlive_the_migrations(
    empty_dsn: str, empty: OwnConn, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load()[:1]
    monkeypatch.setattr(module, "load", lambda: first)
    await migrate(empty_dsn)
    agent_id = await seeds.agent(empty, shard=4095)
    submissions = [seeds.submission(agent_id) for _ in range(3)]
    waits, runs, ended = [a for a in await inbox.accept(empty, submissions) if isinstance(a, Accepted)]
    await empty.execute("update inbox set state = 'applied' where seq = $1", runs.seq)
    await empty.execute("update runs set status = 'running' where id = $1", runs.run_id)
    await empty.execute("update inbox set state = 'dead', done_at = now() where seq = $1", ended.seq)
    await empty.execute("update runs set status = 'failed', completed_at = now() where id = $1", ended.run_id)
    before = {table: await empty.fetch(f"select * from {table}") for table in ("inbox", "runs", "agents")}

    monkeypatch.undo()
    assert await migrate(empty_dsn) == [step.name for step in load()[1:]]
    conn = await connect(empty_dsn)
    for table, rows in before.items():
        assert [dict(r) for r in await conn.fetch(f"select * from {table}")] == [dict(r) for r in rows]
    state = await activation.activate(conn, agent_id, fence=1)
    assert [(p.seq, p.state) for p in state.pending] == [(waits.seq, "new"), (runs.seq, "applied")]
    for version, command in enumerate((runs, waits)):
        step = plain(agent_id, command, fence=1, version=version)
        at = 1 + 2 * version
        said = tuple(replace(m, position=at + i) for i, m in enumerate(step.messages))
        window = WindowUpdate(id=agent_id, from_position=1, end_position=at + 2)
        assert await checkpoints.commit(conn, [replace(step, messages=said, windows=(window,))]) == [None]
    found = await conn.fetch("select status from runs order by created_at, id")
    assert sorted(row["status"] for row in found) == ["completed", "completed", "failed"]
    await conn.close()


async def test_a_migration_that_fails_leaves_nothing_behind(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = _later("create table later (id int); select 1 / 0")
    monkeypatch.setattr(module, "load", lambda: (*load(), later))
    with pytest.raises(RefusedError):
        await migrate(dsn)
    conn = await connect(dsn)
    assert await conn.fetchval("select to_regclass('later')::text") is None
    assert await pending(conn, (*load(), later)) == [later]
    await conn.close()


async def test_a_database_on_which_another_host_lives_is_left_alone_until_it_has_stopped(
    dsn: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = _later("create table later (id int)")
    monkeypatch.setattr(module, "load", lambda: (*load(), later))
    async with connection(pool) as conn:
        lease = await ownership.claim(conn, name="old", instance="host-1", lease=timedelta(hours=1))
        for host in (None, "new"):
            with pytest.raises(OwnedError, match=r"'old' owns this database .*stop it"):
                await migrate(dsn, host=host)
        assert await conn.fetchval("select to_regclass('later')::text") is None
        await ownership.release(conn, lease)
    assert await migrate(dsn, host="new") == [later.name]


async def test_a_host_that_takes_over_its_own_name_may_migrate(
    dsn: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connection(pool) as conn:
        await ownership.claim(conn, name="same", instance="host-1", lease=timedelta(hours=1))
    later = _later("create table later (id int)")
    assert await migrate(dsn, host="other") == []  # nothing is to be applied
    monkeypatch.setattr(module, "load", lambda: (*load(), later))
    assert await migrate(dsn, host="same") == [later.name]


async def test_nobody_writes_for_an_agent_while_a_migration_is_applied(
    dsn: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = _later("create table later (id int); select pg_advisory_xact_lock(7)")
    monkeypatch.setattr(module, "load", lambda: (*load(), later))
    async with connection(pool) as conn, anyio.create_task_group() as group:
        agent_id = await seeds.agent(conn)
        await conn.execute("select pg_advisory_lock(7)")
        group.start_soon(migrate, dsn)
        with anyio.fail_after(10):
            while not await conn.fetchval("select count(*) from pg_locks where not granted and objid = 7"):
                await anyio.sleep(0.01)
        assert await conn.fetchval("select version from agents where id = $1", agent_id) == 0
        with pytest.raises(asyncpg.LockNotAvailableError):
            async with conn.transaction():
                await conn.execute("lock table agents in row exclusive mode nowait")
        await conn.execute("select pg_advisory_unlock(7)")


async def test_an_edited_migration_is_refused(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = load()
    edited = msgspec.structs.replace(first, checksum="0" * 64)
    monkeypatch.setattr(module, "load", lambda: (edited, *rest))
    with pytest.raises(SchemaError, match=r"'0001_spine' was edited .* a new migration"):
        await migrate(dsn)


async def test_a_newer_database_is_refused(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    later = _later("select 1")
    known = load()
    monkeypatch.setattr(module, "load", lambda: (*known, later))
    await migrate(dsn)
    monkeypatch.setattr(module, "load", lambda: known)
    with pytest.raises(SchemaError, match=f"'{later.name}', which this release does not know.*newer release"):
        await migrate(dsn)


async def test_a_database_of_somebody_else_is_refused_and_left_alone(empty_dsn: str, empty: OwnConn) -> None:
    await empty.execute("create table agents (id int)")
    with pytest.raises(SchemaError, match="DATABASE_URL must name an empty database"):
        await migrate(empty_dsn)
    assert await empty.fetchval("select to_regclass('organizations')::text") is None


async def test_a_database_that_is_not_utf8_is_refused(server_dsn: str) -> None:
    name = f"test_{uuid4().hex}"
    admin = await connect(server_dsn)
    await admin.execute(
        f"create database {name} template template0 encoding 'LATIN1' locale_provider libc locale 'C'"
    )
    with pytest.raises(SchemaError, match=r"LATIN1.*UTF8"):
        await migrate(urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}")))
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()


async def test_a_user_who_may_not_create_tables_is_told_so(empty_dsn: str, empty: OwnConn) -> None:
    role = f"r{uuid4().hex}"
    await empty.execute(f"create role {role} login password 'pw'")
    parts = urlsplit(empty_dsn)
    theirs = urlunsplit(parts._replace(netloc=f"{role}:pw@{parts.netloc.rpartition('@')[2]}"))
    with pytest.raises(SchemaError, match="may not change the schema"):
        await migrate(theirs)
    await empty.execute(f"drop role {role}")


async def test_an_unreachable_server_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="port 1"):
        await migrate("postgresql://me@127.0.0.1:1/agents")


def test_line_ends_of_a_checkout_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "0001_spine.sql").write_bytes(b"select 1;\nselect 2;\n")
    unix = load(tmp_path)
    (tmp_path / "0001_spine.sql").write_bytes(b"select 1;\r\nselect 2;\r\n")
    assert load(tmp_path) == unix


@pytest.mark.parametrize("text_bytes", [249_000, 1_400_000])
@pytest.mark.parametrize("letters", ["abcdefghij", "абвгдежзик", "\U00010330\U00010331\U00010332\U00010333"])
async def test_a_message_of_any_length_and_script_is_stored(
    pool: Pool, letters: str, text_bytes: int
) -> None:
    """Pairs of distinct words make the most entries of the word index for a given length."""
    base = len(letters)
    pairs = (
        "-".join("".join(letters[n // base**k % base] for k in range(7)) for n in (i, i * 7))
        for i in range(90_000)
    )
    text = " ".join(pairs).encode()[:text_bytes].decode(errors="ignore")
    assert len(text.encode()) > text_bytes - 4
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await conn.execute(
            "insert into messages (id, conversation_id, position, agent_id, organization_id, role, content)"
            " values ('message-long', $1, 7, $1, 'org', 'user', $2)",
            agent_id,
            msgspec.json.encode([{"type": "image", "source": {}}, {"type": "text", "text": text}]),
        )
        await words.fill(conn, [agent_id])
        size = await conn.fetchval("select pg_column_size(words) from message_words where position = 7")
        first = text[: len(text) // 100].partition(" ")[0].replace("-", " & ")
        found = await conn.fetchval(
            "select count(*) from message_words where words @@ to_tsquery('english', $1)", first
        )
    assert size > 10_000
    assert found == 1


def _later(sql: str) -> Migration:
    version = len(load()) + 1
    return Migration(version, f"{version:04d}_later", "c" * 64, sql)


async def _facts(conn: Conn) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(repr(tuple(row)) for row in await conn.fetch(query))
        for name, query in CATALOG.items()
    }
