"""One connection of the realtime client: commands out, replies matched, pushes handed on."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import dropwhile
from typing import NoReturn

import anyio
import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from gateway.client import frames
from gateway.client.errors import DeniedError, EndedError, LostError
from gateway.client.frames import Connected, Message, Push, Request
from gateway.realtime.protocol import SUBPROTOCOL, Connect

OPEN_SECONDS = 10.0  # for the handshake and the answer to `connect`
REPLY_SECONDS = 30.0
CLOSE_SECONDS = 2.0
QUIET_SECONDS = 10.0  # beyond the server's own interval of pings, until it counts as gone
FRAME_BYTES = 64 * 1024 * 1024  # a recovered gap comes as one frame

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses of a handshake that may succeed later

OnReply = Callable[[Message], None]
OnPush = Callable[[Push], None]


class Link:
    """A connection that was accepted. `run` must be running for anything to be answered."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, tuple[asyncio.Future[Message], OnReply | None]] = {}
        self._early: list[Message] = []
        self.accepted = Connected()

    async def greet(self, hello: Connect) -> None:
        """Send the first command and keep its answer in `accepted`.

        Raises:
            DeniedError: The server said no, and may still close.
            ConnectionClosed, msgspec.MsgspecError: There is no answer.
        """
        await self._socket.send(frames.command(1, hello))
        self._number = 1
        heard: list[Message] = []
        while not heard:  # what is said before the answer is none of ours
            said = frames.messages(await self._socket.recv())
            heard = list(dropwhile(lambda message: message.id != 1, said))
        first, *self._early = heard
        if first.error is not None:
            raise _denied(first)
        self.accepted = first.connect or Connected()

    async def run(self, on_push: OnPush) -> NoReturn:
        """Read until the connection ends.

        Raises:
            LostError: It ended in a way that allows another.
            EndedError: The server wants no other.
        """
        quiet_seconds = self.accepted.ping + QUIET_SECONDS if self.accepted.ping else None
        try:
            await self._handle(self._early, on_push)
            while True:
                with anyio.fail_after(quiet_seconds):
                    frame = await self._socket.recv()
                await self._handle(frames.messages(frame), on_push)
        except TimeoutError:
            raise LostError("the server fell silent") from None
        except ConnectionClosed as closed:
            raise _ended(closed) from None
        except msgspec.MsgspecError:
            raise EndedError(0, "the server does not speak like a wakeful server") from None
        finally:
            self._give_up()

    async def _handle(self, messages: list[Message], on_push: OnPush) -> None:
        for message in messages:
            if message.id:
                self._answered(message)
            elif message.push is not None:
                on_push(message.push)
            elif self.accepted.pong:
                await self._send(frames.PONG)

    def _answered(self, message: Message) -> None:
        future, on_reply = self._waiting.pop(message.id, (None, None))
        if future is None or future.done():
            return  # nobody waits for it any longer
        if message.error is not None:
            future.set_exception(_denied(message))
            return
        if on_reply is not None:
            on_reply(message)
        future.set_result(message)

    async def call(self, request: Request, on_reply: OnReply | None = None) -> Message:
        """Send a command and return its reply.

        `on_reply` sees a good reply before anything that the server sent after it.

        Raises:
            DeniedError: The reply is an error.
            LostError: The connection ended first, or no reply came.
        """
        self._number += 1
        number = self._number
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, on_reply)
        try:
            with anyio.fail_after(REPLY_SECONDS):
                await self._send(frames.command(number, request))
                return await future
        except TimeoutError:
            raise LostError("the server did not answer in time") from None
        finally:
            self._waiting.pop(number, None)
            future.cancel()

    async def close(self) -> None:
        """End the connection, which `run` notices. Bounded by `CLOSE_SECONDS`."""
        await self._socket.close()

    async def _send(self, frame: str) -> None:
        try:
            await self._socket.send(frame)
        except ConnectionClosed as closed:
            raise _lost(closed) from None

    def _give_up(self) -> None:
        """No reply will come any more."""
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(LostError("the connection was lost"))


@asynccontextmanager
async def connected(url: str, hello: Connect) -> AsyncGenerator[Link]:
    """Yield a connection that the server accepted, and close it after the block.

    Raises:
        LostError: There is none just now.
        EndedError: The server refuses this client for good.
        DeniedError: It refuses the token, which may only have expired.
    """
    socket = await _opened(url)
    link = Link(socket)
    try:
        with anyio.fail_after(OPEN_SECONDS):
            await link.greet(hello)
        yield link
    except TimeoutError:
        raise LostError("the server did not answer in time") from None
    except ConnectionClosed as closed:
        raise _ended(closed) from None
    except msgspec.MsgspecError:
        raise EndedError(0, "the server does not speak like a wakeful server") from None
    finally:
        with anyio.CancelScope(shield=True):
            await socket.close()  # bounded by `close_timeout`


async def _opened(url: str) -> ClientConnection:
    try:
        return await open_websocket(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=FRAME_BYTES,
            proxy=None,
        )
    except InvalidStatus as refused:
        status, body = refused.response.status_code, refused.response.body
        reason = f"the server refused the connection with status {status}"
        raise (
            LostError(reason) if status in _AGAIN else EndedError(status, _reason(body) or reason)
        ) from None
    except (OSError, InvalidHandshake) as error:  # a time-out is an OSError
        raise LostError(f"nothing answers at {url}") from error


class _Problem(msgspec.Struct, frozen=True):
    message: str


class _Body(msgspec.Struct, frozen=True):
    error: _Problem


def _reason(body: bytes | bytearray | None) -> str:
    try:
        return msgspec.json.decode(body or b"", type=_Body).error.message
    except msgspec.MsgspecError:
        return ""


def _denied(message: Message) -> DeniedError:
    assert message.error is not None
    error = message.error
    return DeniedError(error.code, error.message, temporary=error.temporary)


def _ended(closed: ConnectionClosed) -> LostError | EndedError:
    if closed.rcvd is not None and frames.is_terminal(closed.rcvd.code):
        return EndedError(closed.rcvd.code, closed.rcvd.reason or "the server ended the connection")
    return _lost(closed)


def _lost(closed: ConnectionClosed) -> LostError:
    if closed.rcvd is None:
        return LostError("the connection broke")
    return LostError(f"the connection was closed: {closed.rcvd.code} {closed.rcvd.reason}".rstrip())
