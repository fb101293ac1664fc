"""A service of sandboxes that speaks E2B's HTTP API, of which the official SDK is the client."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.actors.tools.web_pages import Site, site

KEY = "e2b_" + "0" * 40


class Sandboxes:
    """Which sandboxes live, what ran in them, and what running it gives."""

    def __init__(self, running: Site) -> None:
        self.site = running
        self.living: set[str] = set()
        self.made: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.ran: list[dict[str, Any]] = []
        self.status = 201
        self.output: list[dict[str, Any]] = []
        running.pages |= {"/v2/sandboxes": self._create, "/execute": self._execute}
        running.pages |= {f"/sandboxes/sandbox{number}": self._kill for number in range(10)}

    async def _create(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("x-api-key"))
        if self.status >= 300:
            return web.json_response({"code": self.status, "message": f"no: {KEY}"}, status=self.status)
        self.made.append(await request.json())
        name = f"sandbox{len(self.made)}"
        self.living.add(name)
        made = {"templateID": "t", "sandboxID": name, "clientID": "c", "envdVersion": "0.4.0"}
        return web.json_response(made, status=201)

    async def _execute(self, request: web.Request) -> web.StreamResponse:
        self.ran.append(await request.json())
        lines = "".join(json.dumps(line) + "\n" for line in self.output)
        return web.Response(text=lines, content_type="application/x-ndjson")

    async def _kill(self, request: web.Request) -> web.StreamResponse:
        assert request.method == "DELETE"
        self.living.discard(request.path.rpartition("/")[2])
        return web.Response(status=204)


@asynccontextmanager
async def sandboxes(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Sandboxes]:
    """Run the service until the block ends; the SDK finds it there."""
    async with site() as running:
        monkeypatch.setenv("E2B_API_URL", running.url)
        monkeypatch.setenv("E2B_SANDBOX_URL", running.url)
        yield Sandboxes(running)
