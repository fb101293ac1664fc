"""The doctor looks at real databases, ours and others, running and not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from msgspec.structs import replace

from gateway.config import Settings
from gateway.doctor import database as doctor_database
from gateway.doctor.findings import Finding
from storage import embedded, inspection
from storage.inspection import Extension, Inspection
from storage.pool import connect
from tests.gateway.looking import Kept

pytestmark = pytest.mark.timeout(60)


async def look(dsn: str) -> dict[str, Finding]:
    return {f.check: f for f in await doctor_database.findings(dsn, ours=False)}


async def test_a_good_database_is_ok_but_for_what_tests_switch_off(dsn: str) -> None:
    found = await doctor_database.findings(dsn, ours=False)
    assert {f.check for f in found if f.level == "error"} <= {"durability"}
    by_check = {f.check: f.level for f in found}
    assert "database locale" not in by_check
    assert by_check["migrations"] == by_check["database rights"] == by_check["database writes"] == "ok"


async def test_an_empty_database_is_to_be_migrated(empty_dsn: str) -> None:
    finding = (await look(empty_dsn))["migrations"]
    assert finding.level == "warning"
    assert "wakeful migrate" in (finding.remedy or "")


async def test_a_database_of_a_newer_release_is_an_error(dsn: str) -> None:
    conn = await connect(dsn)
    await conn.execute("insert into schema_migrations (version, name, checksum) values (99, '0099_x', 'x')")
    await conn.close()
    assert (await look(dsn))["migrations"].level == "error"


async def test_a_database_that_takes_every_sign_for_a_letter_is_warned_of(server_dsn: str) -> None:
    admin = await connect(server_dsn)
    name = f"test_{uuid4().hex}"
    await admin.execute(f"create database {name} template template0 encoding 'UTF8' lc_ctype 'C'")
    try:
        finding = (await look(urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))))["database locale"]
        assert (finding.level, "--lc-ctype=C.UTF-8" in (finding.remedy or "")) == ("warning", True)
    finally:
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


async def test_a_database_that_cannot_be_reached_is_an_error_without_its_password() -> None:
    [finding] = await doctor_database.findings("postgresql://me:secret@127.0.0.1:1/mine", ours=False)
    assert (finding.level, finding.check) == ("error", "database connection")
    assert "secret" not in f"{finding.text}{finding.remedy}"
    assert "127.0.0.1 is the container itself" in (finding.remedy or "")


GOOD = Inspection(
    major=18,
    version="18.1",
    user="me",
    encoding="UTF8",
    knows_letters=True,
    standby=False,
    settings={
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "max_connections": "100",
        "superuser_reserved_connections": "3",
        "default_transaction_read_only": "off",
    },
    round_trip=0.001,
    connections=5,
    may_create=True,
    may_install=True,
    tables_denied=(),
    extensions=(Extension("vector", "0.8.1", "0.8.1"),),
    pending=(),
    schema_problem=None,
    size_bytes=10,
    owner=None,
    owned_until=None,
)


def changed(name: str, value: str) -> Callable[[Inspection], Inspection]:
    return lambda seen: replace(seen, settings={**seen.settings, name: value})


@pytest.mark.parametrize(
    ("fault", "check", "level"),
    [
        ({"major": 13}, "database version", "error"),
        ({"encoding": "LATIN1"}, "database version", "error"),
        ({"knows_letters": False}, "database locale", "warning"),
        ({"standby": True}, "database writes", "error"),
        ({"round_trip": 0.2}, "database connection", "warning"),
        ({"tables_denied": ("agents",)}, "database rights", "error"),
        ({"may_create": False}, "database rights", "warning"),
        ({"may_create": False, "pending": ("0002_x",)}, "database rights", "error"),
        ({"schema_problem": "foreign"}, "migrations", "error"),
        ({"connections": 95}, "connections", "warning"),
        (changed("fsync", "off"), "durability", "error"),
        (changed("synchronous_commit", "off"), "durability", "error"),
        (changed("default_transaction_read_only", "on"), "database writes", "error"),
    ],
)
async def test_each_fault_is_found_and_only_that(
    monkeypatch: pytest.MonkeyPatch, fault: Any, check: str, level: str
) -> None:
    seen = fault(GOOD) if callable(fault) else replace(GOOD, **fault)

    async def inspect(*_: Any, **__: Any) -> Inspection:
        return seen

    monkeypatch.setattr(inspection, "inspect", inspect)
    bad = [f for f in await doctor_database.findings("postgresql://h/d", ours=False) if f.level != "ok"]
    assert (check, level) in [(f.check, f.level) for f in bad]
    assert {f.check for f in bad} <= {check, "migrations"}
    assert all(f.remedy for f in bad)


@pytest.mark.parametrize(
    ("extension", "may_install", "bad"),
    [
        (Extension("vector", "0.8.1", "0.8.1"), False, False),
        (Extension("vector", None, "0.8.1"), True, False),
        (Extension("vector", None, "0.8.1"), False, True),
        (Extension("vector", None, None), True, True),
    ],
)
async def test_the_vector_extension_is_missed_where_it_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, extension: Extension, may_install: bool, bad: bool
) -> None:
    async def inspect(*_: Any, **__: Any) -> Inspection:
        return replace(GOOD, extensions=(extension,), may_install=may_install)

    monkeypatch.setattr(inspection, "inspect", inspect)
    found = (await look("postgresql://h/d"))["extension vector"]
    assert (found.level != "ok") == bad


def test_our_own_database_is_made_by_nobody_but_the_server(reachable: Path) -> None:
    kept, home = Kept(), reachable / "never-served"
    with doctor_database.visited(Settings(data_dir=str(home)), kept) as dsn:
        assert dsn is None
    assert kept.level("database") == "ok"
    assert not home.exists()


def test_our_own_database_is_visited_while_it_runs_and_started_where_it_does_not(reachable: Path) -> None:
    home = reachable / "served"
    settings = Settings(data_dir=str(home))
    server = embedded.start(home, durability_off=True)
    try:
        kept = Kept()
        with doctor_database.visited(settings, kept) as dsn:
            assert dsn == server.dsn
        assert server.alive()
        assert "run by process" in kept.one("database").text
    finally:
        server.stop()
    kept = Kept()
    with doctor_database.visited(settings, kept) as dsn:
        assert dsn is not None
        assert "started for this check" in kept.one("database").text
    again = embedded.start(home, durability_off=True)  # it was let go of
    again.stop()


def test_a_data_directory_that_another_holds_without_postgres_is_an_error(reachable: Path) -> None:
    from storage import datadir

    home = reachable / "held"
    hold = datadir.hold(home)
    try:
        kept = Kept()
        with doctor_database.visited(Settings(data_dir=str(home)), kept) as dsn:
            assert dsn is None
        assert kept.level("database") == "error"
    finally:
        hold.release()
