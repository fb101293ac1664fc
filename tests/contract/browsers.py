"""A browser without a window, and the pages that tests show it."""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
from aiohttp import web

PAGES = Path(__file__).parent / "browser"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
PATIENCE_S = 60.0  # a browser begins slowly on a machine that is busy


@asynccontextmanager
async def pages() -> AsyncGenerator[tuple[str, asyncio.Queue[Any]]]:
    """Yield the address of an origin that serves the pages, and what they post to `/said`."""
    heard: asyncio.Queue[Any] = asyncio.Queue(maxsize=100)

    async def said(request: web.Request) -> web.Response:
        heard.put_nowait(json.loads(await request.read()))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/said", said)
    app.router.add_static("/", PAGES)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", heard
    finally:
        await runner.cleanup()


async def shown(page: str, profile: Path, **query: str) -> Any:
    """Return the first thing that a page says in a browser."""
    assert BROWSER is not None
    async with pages() as (origin, heard):
        process = await asyncio.create_subprocess_exec(
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={profile}",
            f"{origin}/{page}?{urlencode(query)}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            with anyio.fail_after(PATIENCE_S):
                return await heard.get()
        finally:
            process.kill()
            await process.wait()
