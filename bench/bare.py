"""What a websocket send costs at least: the smallest ASGI application under uvicorn, and without it.

    python -m bench.bare --port … --text …              an application under uvicorn
    python -m bench.bare --port … --text … --raw        frames written to transports: no server

It has groups of connections, by path (`/0`, `/1` and so on); every 20 ms, or `--gap` seconds, each group is
sent one frame, or none by itself where that is 0. Under uvicorn a client that says a number gets as many
frames, one after another.
"""

import argparse
import asyncio
import contextlib
from typing import Any, cast

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from bench import frames

GAP_S = 0.02
GROUPS = 32
SUMMARY = "Sends a frame to every websocket of a group, again and again."


class Bare:
    """The application."""

    def __init__(self, text: str, gap_s: float) -> None:
        self._message = {"type": "websocket.send", "text": text}
        self._gap_s = gap_s
        self._groups: list[list[Send]] = [[] for _ in range(GROUPS)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._serve(self._groups[int(scope["path"][1:])], receive, send)
        else:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    async def _live(self, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            await receive()
            groups = range(GROUPS if self._gap_s else 0)
            ticking = [tasks.create_task(self._tick(index)) for index in groups]
            await send({"type": "lifespan.startup.complete"})
            await receive()
            for task in ticking:
                task.cancel()
            await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, group: list[Send], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.receive":
            pass  # the first message of a client says that it is ready
        group.append(send)
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                for _ in range(int(message["text"])):
                    await send(cast("Any", self._message))
        finally:
            group.remove(send)

    async def _tick(self, index: int) -> None:
        await asyncio.sleep(self._gap_s * index / GROUPS)
        group = self._groups[index]
        while True:
            await asyncio.sleep(self._gap_s)
            for send in tuple(group):
                with contextlib.suppress(OSError):  # it went away in the middle of this tick
                    await send(cast("Any", self._message))


class Raw(asyncio.Protocol):
    """A connection that is upgraded without a look, and gets frames that were made before."""

    def __init__(self, groups: list[list[asyncio.Transport]]) -> None:
        self._groups = groups
        self._group: list[asyncio.Transport] | None = None
        self._upgraded = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._upgraded and self._group is not None and self._transport not in self._group:
            self._group.append(self._transport)
        elif not self._upgraded:
            path = data.split(b" ", 2)[1][1:]
            self._upgraded = bool(path)
            if not path:
                self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                return
            self._group = self._groups[int(path)]
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
            )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if self._group is not None and self._transport in self._group:
            self._group.remove(self._transport)


async def serve_raw(port: int, text: str, gap_s: float) -> None:
    """Serve until the process is ended."""
    groups: list[list[asyncio.Transport]] = [[] for _ in range(GROUPS)]
    framed = frames.served(text.encode())

    async def tick(index: int) -> None:
        await asyncio.sleep(gap_s * index / GROUPS)
        while True:
            await asyncio.sleep(gap_s)
            for transport in groups[index]:
                transport.write(framed)

    await asyncio.get_running_loop().create_server(lambda: Raw(groups), "127.0.0.1", port)
    async with asyncio.TaskGroup() as tasks:
        for index in range(GROUPS if gap_s else 0):
            tasks.create_task(tick(index))


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare", description=SUMMARY)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--text", required=True, help="the frame")
    parser.add_argument("--gap", type=float, default=GAP_S, help="seconds between two frames (0.02)")
    parser.add_argument("--raw", action="store_true", help="without uvicorn")
    args = parser.parse_args()
    if args.raw:
        uvloop.run(serve_raw(args.port, args.text, args.gap))
        return
    options: dict[str, Any] = {"loop": "uvloop", "ws": "websockets-sansio", "lifespan": "on"}
    uvicorn.run(Bare(args.text, args.gap), port=args.port, access_log=False, log_level="error", **options)


if __name__ == "__main__":
    main()
