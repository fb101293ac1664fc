"""Websockets under uvicorn: the protocol class that lets a connection be written to, and ended, at once.

Subclasses uvicorn's `websockets-sansio` protocol, which leaves four things without a bound: a peer that
reads nothing keeps its connection for ever, unread input stops the keepalive, fragments and pongs pile up.
What it relies on is guarded by the pin in `pyproject.toml` and by its tests.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

ABORT_SECONDS = 1.0  # what a peer gets to take what was sent and to answer our close
SEND_BUFFER_BYTES = 128 * 1024  # the kernel's; it would grow to megabytes for a peer that reads nothing
MAX_FRAGMENTS = 1024
PING_SECONDS = 20.0
PONG = b"\x8a"  # the first byte of a whole pong
EXTENSION = "wakeful.socket"  # the key of the socket in an ASGI scope's extensions


class Listener(Protocol):
    """What hears about a connection. Its methods never block and never raise."""

    def received(self, data: bytes) -> None:
        """Take one message; a transport's ping counts as an empty one."""
        ...

    def writable(self) -> None:
        """The transport takes data again."""
        ...

    def stopped(self) -> None:
        """The socket is not `ready` any more."""
        ...

    def lost(self) -> None:
        """The connection is gone."""
        ...


class Socket(WebSocketsSansIOProtocol):
    """One websocket connection. With a listener, messages are handed over as they arrive.

    `write` hands whole websocket frames to the transport; only while it is `ready`.
    """

    listener: Listener | None = None
    ready = True
    _abort_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over an upgraded connection."""
        super().connection_made(transport)
        # The transport's own: a method of ours in between would cost every frame.
        self.write: Callable[[bytes], None] = self.transport.write
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the listener."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._stop()
        super().connection_lost(exc)
        if self.listener is not None:
            self.listener.lost()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._stop()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        super().resume_writing()
        self.ready = not self.close_sent
        if self.listener is not None and self.ready:
            self.listener.writable()

    def data_received(self, data: bytes) -> None:
        """Parse what came; whatever ends the connection, ends it soon."""
        super().data_received(data)
        self._abort_if_closing()

    def handle_connect(self, event: Request) -> None:
        """Make the scope with which the application finds this socket."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast("dict[str, Any]", self.scope)["extensions"][EXTENSION] = self

    # --- input --------------------------------------------------------------------------------

    def handle_cont(self, event: Frame) -> None:
        """Bound the number of fragments: their size is bounded, but they may be empty."""
        super().handle_cont(event)
        if len(self.frames) > MAX_FRAGMENTS:
            self.frames = []
            self.conn.fail(CloseCode.POLICY_VIOLATION, "too many fragments")
            self.handle_parser_exception()

    def handle_ping(self) -> None:
        """Answer a ping, unless the peer does not take the answers.

        The answer to a close that was read together with it waits until what came before it is answered.
        """
        writes = self.conn.data_to_send()
        self.conn.writes += [one for one in writes if one[:1] != PONG]
        if self.ready:
            self.transport.write(b"".join([one for one in writes if one[:1] == PONG]))
        if self.listener is not None:
            self.listener.received(b"")

    def send_receive_event_to_app(self) -> None:
        """Hand a message over at once, so that reading never stops."""
        if self.listener is None or self.close_sent:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.curr_msg_data_type == "text":
            try:
                data.decode()
            except UnicodeDecodeError:
                self.conn.fail(CloseCode.INVALID_DATA, "invalid UTF-8")
                self.handle_parser_exception()
                return
        self.listener.received(bytes(data))

    # --- output and the end -------------------------------------------------------------------

    def _stop(self) -> None:
        """Let nothing be written until it is ready again."""
        self.ready = False
        if self.listener is not None:
            self.listener.stopped()

    def unsent(self) -> int:
        """Return the bytes that the transport holds."""
        return self.transport.get_write_buffer_size()

    def finish(self, code: int, reason: str) -> None:
        """Close with this code; a peer that does not answer is cut off a moment later."""
        self._stop()
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(ABORT_SECONDS, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """Give up on a peer that is not there."""
        super().keepalive_timeout()
        self._abort_if_closing()

    def shutdown(self) -> None:
        """End with the server."""
        self._stop()
        super().shutdown()
        self._abort_if_closing()

    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        """End with the application."""
        super().on_task_complete(task)
        self._abort_if_closing()

    def _abort_if_closing(self) -> None:
        """A transport that closes waits for its buffer to be taken: not for ever."""
        if self._abort_timer is None and self.transport.is_closing() and not self.disconnected:
            self._stop()
            self._abort_timer = self.loop.call_later(ABORT_SECONDS, self.transport.abort)
