"""What a realtime session asks its shell to do, and its subscriptions: the values between the two."""

from typing import Any

from msgspec import Struct

from gateway.realtime import protocol
from gateway.realtime.protocol import Connect

JOINING, LIVE, OVER = "joining", "live", "over"


class Following:
    """One subscription of the connection, from the command that asks for it to its end."""

    __slots__ = ("channel", "command_id", "end", "held", "state")

    def __init__(self, channel: str, command_id: int) -> None:
        self.channel = channel
        self.command_id = command_id  # 0: server-side
        self.state = JOINING
        self.held: list[Any] | None = None  # publications that came before the reply
        self.end: tuple[int, str] | None = None  # an end that came before the reply


class Send(Struct, frozen=True):
    """Send a reply or a push."""

    payload: bytes


class Deliver(Struct, frozen=True):
    """Send a publication that was held back until now."""

    frame: Any


class Close(Struct, frozen=True):
    """Close the connection. The last output there is."""

    code: int
    reason: str


class Authenticate(Struct, frozen=True):
    """Find out who connects, then call `admitted`, `failed` or `close`."""

    command_id: int
    request: Connect


class Renew(Struct, frozen=True):
    """Find out whom the new token stands for, then call `renewed`, `failed` or `close`."""

    command_id: int
    request: protocol.Refresh


class Follow(Struct, frozen=True):
    """Join a channel, then call `subscribed` or `failed`."""

    command_id: int
    request: protocol.Subscribe
    following: Following


class Leave(Struct, frozen=True):
    """Leave a channel, or do not join it after all. There is nothing to report."""

    following: Following


class Read(Struct, frozen=True):
    """Read a channel's history, then call `answered` or `failed`."""

    command_id: int
    request: protocol.History


class Call(Struct, frozen=True):
    """Call a method, then call `answered` or `failed`."""

    command_id: int
    request: protocol.Rpc


Work = Authenticate | Renew | Follow | Read | Call
Output = Send | Deliver | Close | Leave | Work
