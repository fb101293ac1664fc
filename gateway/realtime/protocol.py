"""Frames of the realtime protocol: what clients may say, decoded, and what they are told, encoded.

A documented subset of the Centrifugo JSON client protocol, so that the `centrifuge` SDKs speak to us
unchanged (https://centrifugal.dev/docs/transports/client_protocol). A frame holds JSON objects separated
by newlines, both ways; a command has an `id`, which its one reply repeats; `{}` is a ping or its pong.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

PATHS = frozenset((b"/v1/ws", b"/connection/websocket"))  # where a connection is opened
SUBPROTOCOL = "wakeful.v1.json"
VERSION = "wakeful 1.0"

FRAME_BYTES = 64 * 1024  # of one message of a client; larger input goes by REST
COMMANDS_PER_FRAME = 16
MAX_LINES = 1024  # of a frame; beyond it is not looked at
NAME_CHARS = 255  # of a channel or a method
MAX_DEPTH = 100

# Codes of errors in replies, as Centrifugo numbers them; from 400 on they are ours and mean what HTTP's do.
INTERNAL = 100
UNAUTHORIZED = 101
UNKNOWN_CHANNEL = 102
PERMISSION_DENIED = 103
METHOD_NOT_FOUND = 104
ALREADY_SUBSCRIBED = 105
LIMIT_EXCEEDED = 106
BAD_REQUEST = 107
NOT_AVAILABLE = 108
TOKEN_EXPIRED = 109
EXPIRED = 110
TOO_MANY_REQUESTS = 111
UNRECOVERABLE_POSITION = 112
STATE_INVALIDATED = 113

# Codes of a server-side unsubscribe: from 2500 on the SDKs subscribe again by themselves.
UNSUBSCRIBED_BY_SERVER = 2000
INSUFFICIENT_STATE = 2500
PERMISSION_REVOKED = 2501

# Close codes. SDKs connect again after all of them but 3500 to 3999, which are terminal.
CLOSE_SHUTDOWN = 3001
CLOSE_EXPIRED = 3005
CLOSE_SLOW = 3008
CLOSE_NO_PONG = 3012
CLOSE_TOO_MANY_REQUESTS = 3013
CLOSE_INVALID_TOKEN = 3500
CLOSE_BAD_REQUEST = 3501
CLOSE_STALE = 3502
CLOSE_CONNECTION_LIMIT = 3504

UNAVAILABLE = ("presence", "presence_stats", "publish", "sub_refresh", "send")

PING = b"{}"  # also its pong


class ProtocolError(Exception):
    """A command fails; `temporary` tells SDKs that the same command may succeed later."""

    def __init__(self, code: int, message: str, temporary: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.temporary = temporary


class GarbageError(Exception):
    """A frame cannot be understood at all; the only answer is to close with `CLOSE_BAD_REQUEST`."""


Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS)]
Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
CommandId = Annotated[int, Meta(ge=1, le=2**32 - 1)]


class StreamPosition(Struct, frozen=True):
    """A place in a channel's log. Offsets of another epoch mean nothing."""

    offset: Offset = 0
    epoch: str = ""


class Recover(Struct, frozen=True):
    """Where a server-side subscription of an earlier connection ended."""

    recover: bool = False
    epoch: str = ""
    offset: Offset = 0


class Connect(Struct, frozen=True):
    """The first command. `subs` are the server-side subscriptions that an earlier connection had."""

    token: Annotated[str, Meta(max_length=16 * 1024)] = ""
    name: str = ""
    version: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    subs: Annotated[dict[str, Recover], Meta(max_length=128)] = {}


class SubscribeData(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a subscription shall carry: at most `maxRate` publications per second, kinds like `TEXT_*`."""

    max_rate: Annotated[float, Meta(gt=0, le=1000)] | None = None
    events: Annotated[list[Name], Meta(max_length=64)] | None = None


class Subscribe(Struct, frozen=True):
    """Follow a channel; with `recover` from the event after (epoch, offset) on."""

    channel: Name
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0
    data: SubscribeData | None = None


class Unsubscribe(Struct, frozen=True):
    """Stop following a channel."""

    channel: Name


class History(Struct, frozen=True):
    """Read at most `limit` publications of a channel: 0 none but its position, -1 all that are kept."""

    channel: Name
    limit: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = 0
    since: StreamPosition | None = None
    reverse: bool = False


class Rpc(Struct, frozen=True):
    """Call a method. `data` is its argument as JSON, not looked at yet."""

    method: Name
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Refresh(Struct, frozen=True):
    """Go on with another token."""

    token: Annotated[str, Meta(max_length=16 * 1024)] = ""


class Ping(Struct, frozen=True):
    """Ask whether the server is there; not the pong of our own ping, which is a frame `{}`."""


class Invalid(Struct, frozen=True):
    """A command that gets an error at once: unknown, not available here, or with wrong fields."""

    code: int
    message: str


class Pong(Struct, frozen=True):
    """The answer to our ping: `{}`, without an id."""


Request = Connect | Subscribe | Unsubscribe | History | Rpc | Refresh | Ping | Invalid | Pong


class Command(Struct, frozen=True):
    """One thing a client said. `id` is 0 for a pong only."""

    id: int
    request: Request


_KINDS: dict[str, msgspec.json.Decoder[Request]] = {
    name: msgspec.json.Decoder(kind)
    for name, kind in {
        "connect": Connect,
        "subscribe": Subscribe,
        "unsubscribe": Unsubscribe,
        "history": History,
        "rpc": Rpc,
        "refresh": Refresh,
        "ping": Ping,
    }.items()
}
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ID = msgspec.json.Decoder(CommandId)
_PONG = Command(0, Pong())


def decode(frame: bytes | str) -> list[Command]:
    """Return the commands of a frame in order; blank lines count for nothing.

    A command that is valid JSON and has an id but makes no sense becomes `Invalid`, which names the fault.

    Raises:
        GarbageError: It is not UTF-8, not JSON objects, nested deeper than `MAX_DEPTH`, or a command
            has no id.
    """
    if isinstance(frame, str):
        # A lone surrogate in a str cannot come off a websocket; it must not pass from elsewhere either.
        frame = frame.encode(errors="surrogatepass")
    if frame == PING:
        return [_PONG]
    try:
        frame.decode()
    except UnicodeDecodeError:
        raise GarbageError("the frame is not UTF-8") from None
    if frame.count(b"\n") > MAX_LINES:
        raise GarbageError(f"the frame has more than {MAX_LINES} lines")
    if frame.count(b"[") + frame.count(b"{") > MAX_DEPTH:
        _check_depth(frame)
    return [_command(line) for line in frame.split(b"\n") if line.strip()]


def _command(line: bytes) -> Command:
    mended = _mended(line) if b"\\u" in line else line
    try:
        fields = _OBJECT.decode(mended)
    except (msgspec.DecodeError, RecursionError):
        raise GarbageError("a command is not a JSON object") from None
    if not fields:
        return _PONG
    try:
        command_id = _ID.decode(fields["id"])
    except (KeyError, msgspec.DecodeError):
        raise GarbageError("a command has no id") from None
    if mended is not line:
        return Command(command_id, Invalid(BAD_REQUEST, "NUL characters and lone surrogates are refused"))
    return Command(command_id, _request(fields))


def _request(fields: dict[str, msgspec.Raw]) -> Request:
    names = [name for name in fields if name != "id"]
    if len(names) != 1:
        return Invalid(BAD_REQUEST, "a command has an id and exactly one more field, which names it")
    name = names[0]
    decoder = _KINDS.get(name)
    if decoder is None and name in UNAVAILABLE:
        return Invalid(NOT_AVAILABLE, f"{name} is not available")
    if decoder is None:
        return Invalid(BAD_REQUEST, "there is no such command")
    try:
        return decoder.decode(bytes(fields[name]))
    except msgspec.ValidationError as error:
        return Invalid(BAD_REQUEST, f"{name}: {error}")
    except msgspec.DecodeError:
        return Invalid(BAD_REQUEST, f"{name}: malformed")


# A string is skipped as one match, so that brackets inside it do not count.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def _check_depth(frame: bytes) -> None:
    depth = 0
    for match in _BRACKETS.finditer(frame):
        found = match[0]
        if found in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise GarbageError(f"the frame is nested deeper than {MAX_DEPTH} levels")
        elif found in b"]}":
            depth -= 1


# Escapes, a pair of backslashes being one of them, so that "\\u0000" is not taken for a NUL.
_ESCAPES = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.")
_BAD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})")


def _mended(line: bytes) -> bytes:
    r"""Return the line without `\u0000` and halves of surrogate pairs, which Postgres cannot store.

    The very same object where it has none.
    """

    def mend(found: re.Match[bytes]) -> bytes:
        return rb"\ufffd" if _BAD.fullmatch(found[0]) else found[0]

    mended = _ESCAPES.sub(mend, line)
    return line if mended == line else mended


# --- what the server says ----------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode


class ConnectResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `connect`. `ping` is the seconds between our pings, `ttl` those until the token ends."""

    client: str
    version: str
    ping: int
    pong: bool
    session: str
    node: str
    expires: bool = False
    ttl: int = 0
    data: dict[str, Any] = {}
    subs: dict[str, "SubscribeResult"] = {}


class SubscribeResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `subscribe`: where the channel stands, and what was missed."""

    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int | UnsetType = UNSET
    was_recovering: bool = False
    recovered: bool = False
    publications: Sequence[msgspec.Raw] = ()


class _Error(Struct, frozen=True):
    code: int
    message: str
    temporary: bool = False


class _Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: int = 0
    error: _Error | UnsetType = UNSET
    connect: ConnectResult | UnsetType = UNSET
    subscribe: SubscribeResult | UnsetType = UNSET
    unsubscribe: dict[str, Any] | UnsetType = UNSET
    history: dict[str, Any] | UnsetType = UNSET
    rpc: dict[str, Any] | UnsetType = UNSET
    refresh: dict[str, Any] | UnsetType = UNSET
    ping: dict[str, Any] | UnsetType = UNSET


def error(command_id: int, fault: ProtocolError) -> bytes:
    """Return the reply to a command that failed."""
    return _encode(_Reply(id=command_id, error=_Error(fault.code, fault.message, fault.temporary)))


def connected(command_id: int, result: ConnectResult) -> bytes:
    """Return the reply to `connect`."""
    return _encode(_Reply(id=command_id, connect=result))


def subscribed(command_id: int, result: SubscribeResult) -> bytes:
    """Return the reply to `subscribe`."""
    return _encode(_Reply(id=command_id, subscribe=result))


def unsubscribed(command_id: int) -> bytes:
    """Return the reply to `unsubscribe`."""
    return _encode(_Reply(id=command_id, unsubscribe={}))


def history(command_id: int, *, publications: Iterable[bytes], epoch: str, offset: int) -> bytes:
    """Return the reply to `history`; `publications` are objects of JSON."""
    found = {"publications": [msgspec.Raw(pub) for pub in publications], "epoch": epoch, "offset": offset}
    return _encode(_Reply(id=command_id, history=found))


def returned(command_id: int, data: bytes) -> bytes:
    """Return the reply to `rpc`; `data` is the method's result as JSON."""
    return _encode(_Reply(id=command_id, rpc={"data": msgspec.Raw(data)}))


def refreshed(command_id: int, *, client: str, ttl: int | None) -> bytes:
    """Return the reply to `refresh`. `ttl` are the seconds until the new token ends, None: never."""
    until = {"expires": False} if ttl is None else {"expires": True, "ttl": ttl}
    return _encode(_Reply(id=command_id, refresh={"client": client, "version": VERSION, **until}))


def pinged(command_id: int) -> bytes:
    """Return the reply to a client's `ping`."""
    return _encode(_Reply(id=command_id, ping={}))


def publication(channel: str, pub: bytes) -> bytes:
    """Return the push of one publication, itself an object of JSON."""
    return _encode({"push": {"channel": channel, "pub": msgspec.Raw(pub)}})


def unsubscribe(channel: str, *, code: int, reason: str) -> bytes:
    """Return the push that ends a subscription."""
    return _encode({"push": {"channel": channel, "unsubscribe": {"code": code, "reason": reason}}})
