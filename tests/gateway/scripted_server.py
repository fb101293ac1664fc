"""A websocket server that does what a test says, frame by frame: the other side of the client's tests."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.realtime.protocol import SUBPROTOCOL

Talk = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection, seen from the server."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self._commands: list[dict[str, Any]] = []

    async def next(self, kind: str) -> dict[str, Any]:
        """Wait for a command, which must be of this kind, and return it with its id."""
        while not self._commands:
            frame = await self.socket.recv()
            self._commands += [msgspec.json.decode(line) for line in str(frame).splitlines() if line != "{}"]
        command = self._commands.pop(0)
        assert kind in command, command
        return command

    async def reply(self, command: dict[str, Any], **more: Any) -> None:
        await self.say({"id": command["id"], **more})

    async def say(self, *messages: dict[str, Any]) -> None:
        """Send messages in one frame."""
        await self.socket.send("\n".join(msgspec.json.encode(message).decode() for message in messages))

    async def greet(self, **more: Any) -> dict[str, Any]:
        """Accept the client; return what it said of itself."""
        command = await self.next("connect")
        await self.reply(command, connect={"client": "c", "version": "1", "ping": 25, "pong": True, **more})
        return command["connect"]

    async def accept(self, **result: Any) -> dict[str, Any]:
        """Let the client follow a channel; return what it asked for."""
        command = await self.next("subscribe")
        result = {"recoverable": True, "positioned": True, "epoch": "e1", "offset": 0} | result
        await self.reply(command, subscribe=result)
        return command["subscribe"]

    async def publish(self, channel: str, *offsets: int) -> None:
        await self.say(*(push(channel, offset) for offset in offsets))

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)

    async def gone(self) -> None:
        """Wait until the client leaves, acknowledging that it leaves its channels first."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.reply(await self.next("unsubscribe"), unsubscribe={})


def push(channel: str, offset: int) -> dict[str, Any]:
    return {"push": {"channel": channel, "pub": pub(offset)}}


def pub(offset: int) -> dict[str, Any]:
    delta = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": str(offset)}
    return {"offset": offset, "data": delta, "tags": {"run": "run-1"}}


@asynccontextmanager
async def scripted(
    *talks: Talk, refuse: tuple[Response | None, ...] = ()
) -> AsyncGenerator[tuple[str, list[BaseException]]]:
    """Run a server whose n-th connection follows the n-th script; yield its address and what went wrong.

    `refuse` are answers to handshakes, one for each; None lets one through.
    """
    left, refusals = list(talks), list(refuse)
    wrong: list[BaseException] = []

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        return refusals.pop(0) if refusals else None

    async def talk(socket: ServerConnection) -> None:
        try:
            assert left, "an unexpected connection"
            async with asyncio.timeout(15):
                await left.pop(0)(Peer(socket))
        except BaseException as error:
            wrong.append(error)
            raise

    async with serve(
        talk, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], process_request=admit, close_timeout=1
    ) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", wrong
