"""A subscription's end at its connection: publications go in, to the session or past it to the socket."""

from collections.abc import Callable
from typing import Protocol

from gateway.feeds.frames import Frame
from gateway.feeds.subscriptions import Rest, Write
from gateway.realtime.outbound import Outbound
from gateway.realtime.session import Session
from gateway.realtime.session_outputs import LIVE, Following, Output


class Connection(Protocol):
    """The connection, as its subscribers use it."""

    session: Session
    outbound: Outbound

    def perform(self, outputs: list[Output]) -> None:
        """Do what the session asks for, in its order."""
        ...


class Subscriber:
    """Takes a channel's publications for a connection."""

    __slots__ = ("_connection", "_following", "_outbound", "changed", "close", "rest")

    def __init__(self, connection: Connection, following: Following) -> None:
        self._connection = connection
        self._following = following
        self._outbound = connection.outbound
        self.changed: Callable[[], None] | None = None
        self.close: Callable[[], None] | None = None
        self.rest: Rest | None = None

    def send(self, frame: Frame) -> None:
        """Send a frame, or keep it until the subscription's reply is out."""
        if self._following.state is not LIVE:
            self._connection.session.published(self._following, frame)
            return
        self._outbound.push(frame)
        if self.changed is not None and self._outbound.free:
            self.changed()  # from the next frame on there is a shorter way

    def way(self, changed: Callable[[], None]) -> Write | None:
        """Return the shorter way past this subscriber: the socket's own, while it takes what it is given."""
        self.changed = changed
        return self._outbound.way if self._following.state is LIVE else None

    def ended(self, channel: str, code: int, reason: str) -> None:
        """Tell the client that the server ended the subscription."""
        del channel
        self._connection.perform(self._connection.session.ended(self._following, code=code, reason=reason))
