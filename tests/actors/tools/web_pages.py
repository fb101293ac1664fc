"""A web server of scripted pages on a loopback port, for tests of what fetches them."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """Pages by their paths. `asked` holds the requests that came; `stalled` is set while one is held up."""

    def __init__(self) -> None:
        self.pages: dict[str, Handler] = {}
        self.asked: list[web.Request] = []
        self.stalled = anyio.Event()
        self.gone = anyio.Event()
        self.url = ""

    def page(
        self,
        path: str,
        body: str | bytes,
        *,
        content_type: str | None = "text/html; charset=utf-8",
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Serve a page and return its address."""

        async def handle(_: web.Request) -> web.StreamResponse:
            more = {} if content_type is None else {"content-type": content_type}
            data = body.encode() if isinstance(body, str) else body
            return web.Response(status=status, body=data, headers={**more, **(headers or {})})

        self.pages[path] = handle
        return self.url + path

    def redirect(self, path: str, target: str, *, status: int = 302) -> str:
        """Serve a redirect and return its address."""
        return self.page(path, "", status=status, headers={"location": target})

    def stall(self, path: str, *, head: bool = False) -> str:
        """Serve a page that does not end, or with `head` does not even begin, and return its address."""

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"content-type": "text/html"})
            try:
                if not head:
                    await response.prepare(request)
                    await response.write(b"<p>so far")
                self.stalled.set()
                await anyio.sleep_forever()
            finally:
                self.gone.set()
            raise AssertionError

        self.pages[path] = handle
        return self.url + path

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        self.asked.append(request)
        page = self.pages.get(request.path)
        return web.Response(status=404) if page is None else await page(request)


@asynccontextmanager
async def site() -> AsyncGenerator[Site]:
    """Run a server of pages until the block ends."""
    mine = Site()
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{path:.*}", mine.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        server = web.TCPSite(runner, "127.0.0.1", 0)
        await server.start()
        mine.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield mine
    finally:
        await runner.cleanup()
