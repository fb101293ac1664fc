"""A search engine that speaks Exa's HTTP API and says what it is told to."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from tests.actors.tools.web_pages import Site, site

KEY = "exa-secret-key"

FOUND: dict[str, Any] = {
    "id": "https://example.com/tea",
    "title": "Tea",
    "url": "https://example.com/tea",
    "publishedDate": "2026-03-31T00:00:00.000Z",
    "author": "Ada",
    "score": 0.9,
    "text": "All about tea.",
    "highlights": ["Tea is hot."],
    "highlightScores": [0.5],
    "summary": "It is about tea.",
}


class Engine:
    """What was asked, with which key, and what is answered."""

    def __init__(self, running: Site) -> None:
        self.site = running
        self.url = running.url
        self.asked: list[tuple[str, str | None, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {"/search": {"results": [FOUND]}, "/contents": {"results": [FOUND]}}
        self.status = 200
        for path in self.answers:
            running.pages[path] = self._answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("x-api-key"), await request.json()))
        answer = self.answers[request.path]
        body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        return web.Response(status=self.status, body=body, content_type="application/json")


@asynccontextmanager
async def engine() -> AsyncGenerator[Engine]:
    """Run a search engine until the block ends."""
    async with site() as running:
        yield Engine(running)
