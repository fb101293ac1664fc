"""A line to an agent: one connection that says one message at a time and notes when the answer came."""

import asyncio
import math
import ssl
import time
from collections import deque
from typing import Protocol, cast
from urllib.parse import urlsplit
from uuid import uuid4

import httptools
import msgspec
from msgspec import Struct

from bench import doors
from bench.doors import Door, DoorError
from bench.peers import ENDED, TOKEN, Counts, Peer

WEBSOCKET = "/v1/ws"
# The server takes 50 commands a second of a connection (`Limits` of gateway/realtime/session.py).
CONNECTIONS = 24  # of few lines together, so that the server is asked for all that it can do
FINISHED, FAILED = ENDED
TIMED_WORDS = 4096  # of one answer
ANSWERED = 200  # bytes of a refusal that are told


class Heard:
    """What came of an answer: the time of the first text, and of each word's end. Nanoseconds, monotonic."""

    __slots__ = ("first_ns", "words_ns")

    def __init__(self) -> None:
        self.first_ns = 0
        self.words_ns: list[int] = []

    def text(self, text: str) -> None:
        """Note a piece of the answer. A word ends with a space; a piece may hold several, or half of one."""
        if not text:
            return
        now = time.monotonic_ns()
        self.first_ns = self.first_ns or now
        if len(self.words_ns) < TIMED_WORDS:
            self.words_ns += [now] * text.count(" ")


class Line(Protocol):
    """A connection to one agent. `agent` is its id, or any name where the server knows no agents."""

    async def open(self) -> None:
        """Connect. Raises `OSError` or `DoorError` where that fails."""
        ...

    async def say(self, text: str, heard: Heard) -> None:
        """Send a message and return when its answer has ended.

        One at a time. Cancelled, it leaves the line closed. Raises `OSError` where the connection breaks, and
        `DoorError` where the answer is a failure.
        """
        ...

    def close(self) -> None:
        """Leave."""
        ...


def tabs(lines: int) -> int:
    """How many websockets each of so many lines has: more than one where few say much."""
    return max(1, math.ceil(CONNECTIONS / max(1, lines)))


def line(door: Door, agent: str, *, tabs: int = 1) -> Line:
    """A line through this door, not yet open. Over websockets it says its messages by so many in turn."""
    return SocketLine(door, agent, tabs) if door.wire == "websocket" else HttpLine(door, agent)


class HttpLine(asyncio.Protocol):
    """A kept connection of HTTP/1.1, with a parser and no stream objects: cheap beside what it measures."""

    def __init__(self, door: Door, agent: str) -> None:
        self._door = door
        self._agent = agent
        parts = urlsplit(door.url.replace("{agent}", agent))
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._path = parts.path
        self._query = f"?{parts.query}" if parts.query else ""
        self._head = "".join(
            (
                f" HTTP/1.1\r\nhost: {parts.netloc.rpartition('@')[2]}\r\ncontent-type: application/json\r\n",
                f"accept: {'text/event-stream' if door.way == 'stream' else 'application/json'}\r\n",
                f"authorization: Bearer {door.key}\r\n" if door.key else "",
            )
        )
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] | None = None
        self._begin(Heard())

    def _begin(self, heard: Heard) -> None:
        self._heard = heard
        self._parser = httptools.HttpResponseParser(self)
        self._events = doors.Events()
        self._body: list[bytes] = []
        self._error: DoorError | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if self._secure else None
        await loop.create_connection(lambda: self, self._host, self._port, ssl=context)

    async def say(self, text: str, heard: Heard) -> None:
        if self._transport is None or self._transport.is_closing():
            await self.open()
        post = doors.post(self._door, self._agent, text, run=uuid4().hex)
        self._begin(heard)
        self._ended = asyncio.get_running_loop().create_future()
        path = f"{self._path}{post.path}" or "/"
        head = f"POST {path}{self._query}{self._head}content-length: {len(post.body)}\r\n\r\n"
        cast("asyncio.Transport", self._transport).write(head.encode() + post.body)
        try:
            await self._ended
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._ended = None
        if self._error is not None:
            raise self._error
        if not heard.first_ns:
            raise DoorError("an answer without text")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # what the transport and the parser call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = DoorError(f"no HTTP: {error}")
            self.close()

    def on_body(self, body: bytes) -> None:
        if self._door.way == "blocking" or self._parser.get_status_code() != 200:
            self._body.append(body)
            return
        for event in self._events.feed(body):
            self._hear(event)

    def _hear(self, event: bytes) -> None:
        try:
            self._heard.text(doors.text_of(self._door.wire, event))
        except DoorError as error:
            self._error = self._error or error

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        if status != 200:
            said = b" ".join(body[:ANSWERED].split()).decode(errors="replace")
            self._error = DoorError(f"status {status}" + (f": {said}" if said else ""))
        elif self._door.way == "blocking":
            try:
                self._heard.text(doors.whole_text(self._door.wire, body))
            except DoorError as error:
                self._error = error
        if not self._parser.should_keep_alive():
            self.close()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(self._error or exc or ConnectionResetError("the connection was closed"))


class _Text(Struct, frozen=True):
    delta: str


class _Publication(Struct, frozen=True):
    data: _Text


class _Push(Struct, frozen=True):
    pub: _Publication


class _Said(Struct, frozen=True):
    push: _Push


_said = msgspec.json.Decoder(_Said).decode


class SocketLine:
    """A websocket that follows its agent, and sends, in turn with others that only send.

    So a person has a page open several times: what one connection may say in a second is bounded.
    """

    def __init__(self, door: Door, agent: str, tabs: int) -> None:
        self._agent = agent
        parts = urlsplit(door.url)
        self._address = parts.hostname or "", parts.port or 80
        self._tabs = tabs
        self._peers: deque[Peer] = deque()
        self._heard = Heard()
        self._ended: asyncio.Future[None] | None = None

    async def open(self) -> None:
        try:
            for _ in range(self._tabs):
                peer = Peer(Counts(), self._address, WEBSOCKET, plain=False)
                self._peers.append(peer)
                peer.on_lost = self._lose
                await peer.open()
            first = self._peers[0]
            await first.call("subscribe", {"channel": f"conv:{self._agent}"})
        except (RuntimeError, OSError) as error:
            self.close()
            if isinstance(error, OSError):
                raise
            raise DoorError(str(error)) from None
        first.hear = self._hear

    async def say(self, text: str, heard: Heard) -> None:
        if not self._peers:
            await self.open()
        self._peers.rotate()
        peer = self._peers[0]
        self._heard = heard
        self._ended = asyncio.get_running_loop().create_future()
        messages = [{"role": "user", "content": text}]
        argument = {"method": "agent.send", "data": {"agent": self._agent, "messages": messages}}
        ended = self._ended
        try:
            await peer.call("rpc", argument)
            await ended
        except RuntimeError as error:
            raise DoorError(str(error)) from None
        except (asyncio.CancelledError, OSError):
            self.close()
            raise
        finally:
            if not ended.cancel() and not ended.cancelled():
                ended.exception()  # seen, where the command failed before it was awaited
            self._ended = None
        if not heard.first_ns:
            raise DoorError("an answer without text")

    def close(self) -> None:
        peers, self._peers = self._peers, deque[Peer]()
        for peer in peers:
            peer.on_lost = None
            peer.close()

    def _lose(self, error: Exception) -> None:
        self.close()
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    def _hear(self, line: bytes) -> None:
        ended = self._ended
        if ended is None or ended.done():
            return
        if TOKEN in line:
            self._heard.text(_said(line).push.pub.data.delta)
        elif FAILED in line:
            ended.set_exception(DoorError("the run failed"))
        elif FINISHED in line:
            ended.set_result(None)
