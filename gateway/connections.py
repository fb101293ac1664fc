"""Client connections: what uvicorn leaves without a bound gets one here.

A request line and its headers must arrive whole within `HEAD_SECONDS` and `HEAD_BYTES`; bodies and answers
have bounds of their own in `app` and `sse`, and what comes of a body after its answer has `LINGER_SECONDS`.
A peer that vanished without a word is noticed by the kernel.
Subclasses of uvicorn's classes: the pin in `pyproject.toml` and a contract test guard what they rely on.
"""

import asyncio
import contextlib
import logging
import socket
import weakref
from collections.abc import Callable, Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from actors.clock import new_id
from actors.errors import DrainingError
from gateway import errors, sse
from gateway.auth import MAX_HEADER_BYTES
from gateway.realtime.protocol import FRAME_BYTES
from gateway.realtime.sockets import PING_SECONDS, Socket
from gateway.router import MAX_PATH_BYTES

HEAD_SECONDS = 30.0
# Above what the gate refuses with an answer that says why; beyond this nobody listens any more.
HEAD_BYTES = 2 * (MAX_HEADER_BYTES + MAX_PATH_BYTES)
# A client that sends its body before it reads would lose an answer to a connection that closes meanwhile: the
# rest of a body that nobody wants is read, and thrown away, within these.
LINGER_SECONDS = 5.0
LINGER_BYTES = 16 * 1024 * 1024
LAST_ANSWERS_SECONDS = 2  # what requests get that are still unanswered when the server stops
KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections, so that none closes under a request


class Connection(HttpToolsProtocol):
    """One client connection."""

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None
    _lingering_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head and self._head_timer is None:
            self._arm()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")
        if self._linger_timer is not None:
            self._lingering_bytes += len(data)
            if self._lingering_bytes > LINGER_BYTES:
                self.transport.close()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._disarm()
        if self.transport.is_closing():
            return  # RFC 9112, section 9.6: what comes after the last answer is not served
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is before:
            return  # an upgrade
        extensions: Any = {sse.DIRECT: _DirectWrites(self.cycle, self.transport)}
        self.scope["extensions"] = extensions  # the request's task has not begun yet
        # Who waits to be asked for its body (`expect: 100-continue`) reads before it sends.
        linger = None if self.expect_100_continue else self._linger
        whole: Any = _WholeWrites(self.cycle, self.transport, linger)
        self.cycle.transport = whole

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()
        if self._linger_timer is not None:
            self.transport.close()

    def _linger(self) -> None:
        """Close, once what the client still sends has come or is too much."""
        self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def shutdown(self) -> None:
        """Let an answer that is being sent end; cut a stream: what it follows is over, or goes on later."""
        super().shutdown()
        if not self.cycle or self.cycle.response_complete:
            return
        if self.cycle.chunked_encoding:
            self.transport.close()
        elif not self.cycle.response_started:
            self.loop.call_later(LAST_ANSWERS_SECONDS, self._turn_away)

    def _turn_away(self) -> None:
        """Answer, in place of the request's own answer, that it may be sent again to the next server.

        What it asked for is durable or was never accepted: SDKs repeat it, and the repeat finds its run.
        """
        if not self.cycle.response_started and not self.transport.is_closing():
            self.transport.write(_later())
            self.transport.close()

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        """Close a connection whose next request does not come, unless an answer is still under way."""
        if self.cycle and not self.cycle.response_complete:
            self._arm()
        else:
            self._head_timer = None
            self.transport.close()


class _DirectWrites:
    """What a stream of unknown length may write without a task: the `sse.Writer` of one response.

    The response holds it, so it holds the response weakly: what is tied in a circle, with all that a request
    made, would wait for the garbage collector, which holds up every stream while it looks.
    """

    __slots__ = ("_cycle", "_transport")

    def __init__(self, cycle: RequestResponseCycle, transport: asyncio.Transport) -> None:
        self._cycle = weakref.ref(cycle)
        self._transport = transport

    def ready(self) -> bool:
        cycle = self._cycle()
        return cycle is not None and not (
            cycle.flow.write_paused
            or cycle.disconnected
            or cycle.response_complete
            or cycle.chunked_encoding is not True
        )

    def write(self, body: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))


class _WholeWrites:
    """The transport of one response, whose head waits for its body where that has a known length.

    A write of its own would cost about as much as all that the server does between the two. It holds the
    response, whose transport it is, weakly, as `_DirectWrites` does, and so the connection.
    """

    __slots__ = ("_begun", "_cycle", "_head", "_linger", "_transport")

    def __init__(
        self, cycle: RequestResponseCycle, transport: asyncio.Transport, linger: Callable[[], None] | None
    ) -> None:
        self._cycle = weakref.ref(cycle)
        self._transport = transport
        self._linger = None if linger is None else weakref.WeakMethod(linger)
        self._head = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        if not self._begun and (cycle := self._response()).response_started:
            self._begun = True
            bodiless = cycle.scope["method"] == "HEAD"
            if cycle.chunked_encoding is False and cycle.expected_content_length and not bodiless:
                self._head = data
                return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        cycle = self._response()
        linger = None if self._linger is None else self._linger()
        if linger is not None and cycle.response_complete and cycle.more_body:
            linger()
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _response(self) -> RequestResponseCycle:
        cycle = self._cycle()
        assert cycle is not None, "only the response writes to its transport"
        return cycle


def _later() -> bytes:
    response = errors.render(errors.find(DrainingError()), new_id("req"))
    head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return (
        b"HTTP/1.1 503 Service Unavailable\r\n" + head + b"connection: close\r\n\r\n" + bytes(response.body)
    )


class Server(uvicorn.Server):
    """uvicorn's server as a part of a process that has its own signals and its own life."""

    def __init__(self, app: Any, *, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws=Socket,
                ws_max_size=FRAME_BYTES,
                ws_ping_interval=PING_SECONDS,
                ws_ping_timeout=PING_SECONDS,
                ws_per_message_deflate=False,  # a token gains little, and each costs more than all else
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=LAST_ANSWERS_SECONDS + 1,
            )
        )
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, then say so."""
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and let what is under way end; see `Connection.shutdown`."""
        # Requests that were turned away are cancelled at the end, which uvicorn would report as failures.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
