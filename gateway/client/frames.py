"""The frames of the realtime protocol as a client reads and writes them. Pure."""

from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Raw, Struct

from gateway.realtime.protocol import Connect, History, Refresh, Rpc, Subscribe, Unsubscribe

PATH = "/v1/ws"
PONG = "{}"
TOO_LARGE = 1009  # close code

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class Failure(Struct, frozen=True):
    """The error of a reply."""

    code: int
    message: str = ""
    temporary: bool = False


class Pub(Struct, frozen=True):
    """A publication; `offset` is 0 in channels that are not ordered."""

    data: Raw
    offset: int = 0
    tags: dict[str, str] = {}


class Subscribed(Struct, frozen=True):
    """What a subscription begins with."""

    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: tuple[Pub, ...] = ()


class Connected(Struct, frozen=True):
    """What the server says of itself. Seconds; `subs` are the channels that it subscribed on its own."""

    client: str = ""
    version: str = ""
    ping: int = 25
    pong: bool = False
    expires: bool = False
    ttl: int = 0
    session: str = ""
    node: str = ""
    data: Raw = Raw(b"{}")
    subs: dict[str, Subscribed] = {}


class Refreshed(Struct, frozen=True):
    """How long the new token holds, in seconds."""

    expires: bool = False
    ttl: int = 0


class Past(Struct, frozen=True):
    """A stretch of a channel's history, and where the channel stands."""

    publications: tuple[Pub, ...] = ()
    epoch: str = ""
    offset: int = 0


class Returned(Struct, frozen=True):
    """What a method returned."""

    data: Raw = Raw(b"null")


class Left(Struct, frozen=True):
    """The server ended a subscription."""

    code: int = 0
    reason: str = ""


class Push(Struct, frozen=True):
    """What nobody asked for just now."""

    channel: str = ""
    pub: Pub | None = None
    unsubscribe: Left | None = None


class Message(Struct, frozen=True):
    """One message of the server: a reply (`id`), a push, or, where nothing is set, a ping."""

    id: int = 0
    error: Failure | None = None
    connect: Connected | None = None
    subscribe: Subscribed | None = None
    refresh: Refreshed | None = None
    history: Past | None = None
    rpc: Returned | None = None
    push: Push | None = None


_decode = msgspec.json.Decoder(Message).decode
_encode = msgspec.json.Encoder().encode

Request = Connect | Subscribe | Unsubscribe | History | Rpc | Refresh


def messages(frame: str | bytes) -> list[Message]:
    """Return the messages of a frame, in order.

    Raises:
        msgspec.MsgspecError: The frame is not of this protocol.
    """
    lines = frame.split("\n") if isinstance(frame, str) else frame.split(b"\n")
    return [_decode(line) for line in lines if line]


def command(number: int, request: Request) -> str:
    """Return a command as a frame of text; its reply will repeat the number."""
    return _encode({"id": number, type(request).__name__.lower(): request}).decode()


def address(url: str) -> str:
    """Return the websocket's address of a server at an `http`, `https`, `ws` or `wss` URL.

    Raises:
        ValueError: It is no such URL.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.port == 0:
        raise ValueError(f"{url!r} is no address like http://127.0.0.1:8283")
    whole = scheme == parts.scheme and parts.path.strip("/")
    path = parts.path if whole else parts.path.rstrip("/") + PATH
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def is_terminal(code: int) -> bool:
    """Say whether a close code forbids to connect again; the same rule as in every Centrifuge SDK."""
    return 3500 <= code < 4000 or 4500 <= code < 5000 or code == TOO_LARGE
