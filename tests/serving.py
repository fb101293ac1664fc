"""The whole gateway on a real database, in this process: for tests of routes and of clients."""

import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from actors.host import Host, HostSettings
from actors.llm.catalog import Catalog
from actors.llm.providers import Provider
from actors.tools.registry import BUILTIN
from gateway.app import App
from gateway.config import Settings
from gateway.connections import Server
from gateway.realtime import websocket
from gateway.realtime.websocket import Websockets
from gateway.rest.routes import ROUTES
from storage import tools
from storage.pool import Pool, connection

BASE = "http://127.0.0.1"
SDK = {"x-stainless-package-version": "1.12.1", "user-agent": "Letta/Python 1.12.1"}


class Served:
    """A running gateway. `http` speaks to it without a socket, as an SDK of generation 1.x."""

    def __init__(self, app: App, http: httpx.AsyncClient, websockets: Websockets) -> None:
        self.app = app
        self.websockets = websockets
        self.host: Host = app.host
        self.pool: Pool = app.host.pool
        self.http = http

    async def json(self, method: str, path: str, *, status: int = 200, **more: Any) -> Any:
        """Send a request, check the status, and return the answer's JSON."""
        response = await self.http.request(method, path, **more)
        assert response.status_code == status, (response.status_code, response.text)
        return response.json()

    async def agent(self, **fields: Any) -> dict[str, Any]:
        """Create an agent and return it."""
        return await self.json("POST", "/v1/agents/", json={"name": "test", **fields})


@asynccontextmanager
async def serving(
    pool: Pool,
    *,
    providers: Iterable[Provider] = (),
    settings: Settings | None = None,
    headers: dict[str, str] | None = None,
    host_settings: HostSettings | None = None,
) -> AsyncGenerator[Served]:
    """Run a host and its gateway until the block ends."""
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
    catalog = Catalog(providers)
    host = Host(pool, catalog, name="test-host", settings=host_settings or HostSettings(drain_seconds=2))
    chosen = settings or Settings()
    try:
        async with host.running(), websocket.running(host, chosen) as websockets:
            app = App(host, chosen, ROUTES, websocket=websockets, tokens=websockets.tokens)
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url=BASE, headers=SDK if headers is None else headers
            )
            async with client:
                yield Served(app, client, websockets)
    finally:
        await catalog.aclose()


@asynccontextmanager
async def listening(app: App) -> AsyncGenerator[str]:
    """Serve the app on a loopback port, as the product does, until the block ends; yield its base URL."""
    started, stopped = anyio.Event(), anyio.Event()
    server = Server(app, on_started=started.set)

    async def serve(listener: socket.socket) -> None:
        await server.serve([listener])
        stopped.set()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(serve, listener)
            try:
                with anyio.fail_after(15):
                    await started.wait()
                yield f"{BASE}:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                with anyio.move_on_after(5, shield=True):  # a cancelled server would leave its sockets open
                    await stopped.wait()
