"""One run of the server inside its event loop: migrated, serving, drained."""

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from actors.host import Host, HostSettings
from actors.llm.catalog import FALLBACK
from actors.llm.demo import DEMO
from actors.llm.embed import LOCAL_HANDLE
from actors.llm.providers import Provider
from actors.llm.wire import Timeouts
from actors.tools.registry import BUILTIN
from gateway import callbacks, config, database, garbage, logs
from gateway.app import App
from gateway.config import Settings
from gateway.connections import Server
from gateway.database import Database, Migrating
from gateway.model_catalog import open_catalog
from gateway.realtime import websocket
from gateway.realtime.websocket import Websockets
from gateway.rest.routes import ROUTES
from storage import migrate, tools
from storage.pool import Pool, connection, open_lookup_pool, open_pool

log = logging.getLogger("wakeful.serve")

START_SECONDS = 60.0  # for pool and tools; migrations take as long as they take
CLOSE_SECONDS = 5.0
COMMIT_CONNECTIONS = 4  # one for checkpoints, one for the inbox, the rest for agents that are woken
LISTING_SECONDS = 1.0  # a model server that is slower than this does not hold up the start

STOPPED, SUPERSEDED = 0, 1  # exit codes


class Life:
    """One run of the server, from an open database to its end."""

    def __init__(
        self,
        settings: Settings,
        opened: Database,
        *,
        name: str,
        providers: tuple[Provider, ...],
        env: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._database = opened
        self._name = name
        self._providers = providers
        timeouts = Timeouts(first_token=settings.first_token_timeout, idle=settings.idle_timeout)
        self._catalog = open_catalog(settings, providers, env, timeouts)
        self._told = anyio.Event()
        self._starting = anyio.CancelScope()

    async def run(self, sockets: list[socket.socket]) -> int:
        """Start, serve, stop; see `serve`."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(logs.on_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        pools: list[Pool] = []
        try:
            with self._starting:
                await self._open(pools)
            return STOPPED if self._starting.cancelled_caught else await self._serve(*pools, sockets=sockets)
        finally:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._catalog.aclose()
                for pool in pools:
                    await pool.close()

    def _signalled(self, number: signal.Signals) -> None:
        if self._told.is_set():
            log.warning("stopped at once", extra={"signal": number.name})
            os._exit(128 + number)
        self._told.set()
        self._starting.cancel()

    async def _open(self, pools: list[Pool]) -> None:
        """Open the pool of requests and that of commits, in this order."""
        with Migrating() as progress:
            await migrate.migrate(self._database.dsn, host=self._name, progress=progress)
        with anyio.fail_after(START_SECONDS):
            pools.append(await open_pool(self._database.dsn))
            async with connection(pools[0]) as conn:
                await tools.seed(conn, BUILTIN.values())
            pools.append(await open_lookup_pool(self._database.dsn, size=COMMIT_CONNECTIONS))

    async def _serve(self, pool: Pool, commit_pool: Pool, *, sockets: list[socket.socket]) -> int:
        chosen = {name: getattr(self._settings, name) for name in HostSettings.__struct_fields__}
        host = Host(
            pool,
            self._catalog,
            name=self._name,
            commit_pool=commit_pool,
            lease_dsn=self._database.dsn,
            settings=HostSettings(**chosen),
        )
        callbacks.install(host, self._settings)
        async with host.running(), websocket.running(host, self._settings) as websockets:
            app = App(host, self._settings, ROUTES, websocket=websockets, tokens=websockets.tokens)
            async with anyio.create_task_group() as tasks:
                server = Server(app, on_started=partial(self._announce, host, tasks))
                if self._database.server is not None:
                    tasks.start_soon(self._database.server.watch)
                tasks.start_soon(self._end, host, server, websockets)
                await self._ask_for_models()
                await server.serve(sockets)
                tasks.cancel_scope.cancel()
        return SUPERSEDED if host.superseded.is_set() else STOPPED

    async def _end(self, host: Host, server: Server, websockets: Websockets) -> None:
        """Wait for the reason to stop, and stop."""
        async with anyio.create_task_group() as waiting:
            for event in (self._told, host.superseded):
                waiting.start_soon(_until, event, waiting.cancel_scope)
        if host.superseded.is_set():
            log.error("superseded: another process runs under this host name", extra={"host": self._name})
        else:
            log.info("draining", extra={"seconds": self._settings.drain_seconds})
            async with anyio.create_task_group() as draining:
                draining.start_soon(websockets.drain, self._settings.drain_seconds)
                draining.start_soon(host.drain)
        server.should_exit = True

    async def _ask_for_models(self) -> None:
        """Ask model servers for their models where nothing else says which one agents get by default."""
        asks = self._providers or self._settings.discover == "on"
        if asks and self._catalog.default == DEMO.handle:
            with anyio.move_on_after(LISTING_SECONDS):
                await self._catalog.list()

    def _announce(self, host: Host, tasks: TaskGroup) -> None:
        tasks.start_soon(garbage.started().run)
        announcement = {
            "address": config.url(self._settings),
            "database": self._database.shown,
            "models": self._models(),
            "search": self._search(host),
            "data": str(database.data_dir(self._settings)),
            "try": _next_command(self._settings),
        }
        print(f"wakeful {version('wakeful')}")
        for what, text in announcement.items():
            print(f"  {what:<9} {text}")
        sys.stdout.flush()

    def _search(self, host: Host) -> str:
        embedding = host.embeddings.default
        if embedding is None:
            return "by words alone; no embedding model"
        ours = ", in a process of its own while it is wanted" if embedding == LOCAL_HANDLE else ""
        return f"by words and by {embedding}{ours}"

    def _models(self) -> str:
        known = [p for p in self._catalog.providers if p.name != FALLBACK]
        found = [f"{provider.name} ({provider.endpoint})" for provider in known]
        if self._settings.default_base_url is not None:
            found.append(f"any other name ({self._settings.default_base_url})")
        if not found:
            return f"{DEMO.handle} (no language model: set OPENAI_API_KEY or OPENAI_BASE_URL to have one)"
        return f"{', '.join(found)}; agents get {self._catalog.default} unless they name one"


async def _until(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _next_command(settings: Settings) -> str:
    """Return the command that talks to this server, as it can be typed where the server was started."""
    started_as = sys.argv[0]
    reachable = shutil.which("wakeful") is not None or Path(started_as).name != "wakeful"
    words = ["wakeful" if reachable else started_as, "chat"]
    if (settings.host, settings.port) != (Settings().host, Settings().port):
        words += ["--url", config.url(settings)]
    if settings.api_key is not None:
        words += ["--api-key", "..."]
    return " ".join(words)
