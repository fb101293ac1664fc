"""Where the database of this process is, and the way to today's schema with its progress on the terminal."""

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import uvloop
from msgspec import Struct

from gateway.config import Settings
from storage import datadir, embedded, migrate
from storage.dsn import address
from storage.embedded import Embedded

if TYPE_CHECKING:
    from rich.progress import Progress


class Database(Struct, frozen=True, kw_only=True):
    """An address, the same in words for people, and the server behind it where it is ours."""

    dsn: str
    shown: str
    server: Embedded | None = None


def data_dir(settings: Settings) -> Path:
    """Return the directory of this installation."""
    return datadir.default_data_dir() if settings.data_dir is None else Path(settings.data_dir).expanduser()


@contextmanager
def opened(settings: Settings) -> Generator[Database]:
    """Yield the database that the settings name; where they name none, start ours and stop it at the end.

    Blocks while it starts; for the main thread, before there is an event loop.

    Raises:
        EmbeddedError: Ours cannot be used here; names the remedy.
    """
    if settings.database_url is not None:
        yield Database(dsn=settings.database_url, shown=address(settings.database_url))
        return
    home = data_dir(settings)
    server = embedded.start(home)
    try:
        yield Database(dsn=server.dsn, shown=f"our own Postgres in {home}", server=server)
    finally:
        server.stop()


@contextmanager
def host_name(settings: Settings) -> Generator[str]:
    """Yield the name under which this process owns agents, held for this process alone.

    A name from the data directory needs the directory's lock, which the embedded server has taken already:
    two processes under one name would take the agents from each other.

    Raises:
        EmbeddedError: The directory cannot be used, or another process holds it.
    """
    if settings.host_name is not None:
        yield settings.host_name
        return
    home = data_dir(settings)
    held = None if settings.database_url is None else datadir.hold(home)
    try:
        yield datadir.host_name(home)
    finally:
        if held is not None:
            held.release()


def bring_up_to_date(settings: Settings) -> list[str]:
    """Apply the migrations that the database lacks, showing them; return their names.

    Raises:
        StorageError: The database cannot be used; names the remedy.
    """
    with (
        opened(settings) as database,
        Migrating() as progress,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(migrate.migrate(database.dsn, progress=progress))


class Migrating:
    """Shows migrations on standard error as they are applied: a bar on a terminal, else a line for each."""

    def __init__(self) -> None:
        self._names = [step.name for step in migrate.load()]
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, name: str) -> None:
        """Note that the migration of this name begins."""
        if not sys.stderr.isatty():
            print(f"migrating the database: {name}", file=sys.stderr, flush=True)
            return
        bar = self._bar or self._start()
        task = bar.task_ids[0]
        bar.update(task, completed=self._names.index(name), description=f"migrating {name}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if error is None:
                self._bar.update(self._bar.task_ids[0], completed=len(self._names), description="migrated")
            self._bar.stop()

    def _start(self) -> "Progress":
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True))
        self._bar.add_task("migrating", total=len(self._names))
        self._bar.start()
        return self._bar
