"""Fixtures of every test: one Postgres for each worker, a fresh migrated database for each test."""

import importlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import anyio
import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from storage import embedded
from storage.dsn import plain_dsn
from storage.migrate import migrate
from storage.pool import Pool, open_pool
from tests.databases import Databases, on_database

pytest_plugins = ["tests.provider_fixtures", "tests.workers"]

# Workers share the machine, so how long one example takes, or making it, says nothing about the code.
settings.register_profile(
    "shared machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")

SERVER_VARIABLE = "WAKEFUL_TEST_DATABASE_URL"  # a server that is there already; its user may create databases


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long form of the laws as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full") is not None:
            item.add_marker(pytest.mark.skip(reason="the long form runs with --full"))


@pytest.fixture(scope="session", autouse=True)
def begun(request: pytest.FixtureRequest) -> None:
    """Begin in a worker's first test, which has the time for it, what many others would pay for once.

    Side by side on a busy machine the workers' Postgres, providers and imports take longer than a test has.
    """
    if hasattr(request.config, "workerinput"):
        importlib.import_module("actors.llm.openai_sdk")
        for shared in ("databases", "provider_process"):
            request.getfixturevalue(shared)


@pytest.fixture(scope="session")
def reachable() -> Generator[Path]:
    """Yield a directory that the user who runs Postgres can enter; as root he cannot enter pytest's own.

    In memory where there is room enough: databases are cloned there many times faster.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30
    folder = Path(tempfile.mkdtemp(prefix="wakeful-tests-", dir=memory if roomy else None))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_dsn(reachable: Path) -> Generator[str]:
    """Yield the address of a server that tests may create databases on."""
    if given := os.environ.get(SERVER_VARIABLE):
        yield plain_dsn(given)
        return
    server = embedded.start(reachable / "server", durability_off=True)
    yield server.dsn
    server.stop()


@pytest.fixture(scope="session")
def template(server_dsn: str) -> Generator[str]:
    """Yield the name of a migrated database that others are cloned from."""
    name = f"template_{uuid4().hex}"

    async def make() -> None:
        await _on_server(server_dsn, f'create database "{name}"')
        await migrate(on_database(server_dsn, name))

    anyio.run(make)
    yield name
    anyio.run(_on_server, server_dsn, f'drop database "{name}"')


@pytest.fixture(scope="session")
def databases(server_dsn: str, template: str) -> Generator[Databases]:
    """Yield what clones the migrated database."""
    with closing(Databases(server_dsn, template)) as databases:
        yield databases


@pytest.fixture
def dsn(databases: Databases) -> Generator[str]:
    """Yield the address of a fresh, migrated database."""
    with databases.fresh() as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(server_dsn: str) -> Generator[str]:
    """Yield the address of a fresh database that nothing was ever done to."""
    name = f"test_{uuid4().hex}"
    anyio.run(_on_server, server_dsn, f'create database "{name}" template template0')
    yield on_database(server_dsn, name)
    anyio.run(_on_server, server_dsn, f'drop database "{name}" with (force)')


@pytest.fixture
async def pool(dsn: str) -> AsyncGenerator[Pool]:
    """Yield an open pool on a fresh, migrated database."""
    pool = await open_pool(dsn)
    yield pool
    with anyio.move_on_after(10, shield=True):  # within the time of a test
        await pool.close()


async def _on_server(dsn: str, statement: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(statement)
    finally:
        conn.terminate()
