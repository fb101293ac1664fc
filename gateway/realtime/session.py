"""One realtime connection as a state machine: what comes in and what has happened, to what is to be done.

Pure: it neither reads a clock nor awaits. Every input returns the outputs that follow from it, in order;
the shell (`websocket`) does the work they ask for and reports its end. Promises, whatever the order of
inputs: a command gets exactly one reply or the connection closes; a subscription's publications come
after its reply and end with it; the limits hold; nothing follows a `Close`.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from gateway.realtime import protocol
from gateway.realtime.protocol import Command, Connect, ConnectResult, ProtocolError, SubscribeResult
from gateway.realtime.session_outputs import (
    JOINING,
    LIVE,
    OVER,
    Authenticate,
    Call,
    Close,
    Deliver,
    Follow,
    Following,
    Leave,
    Output,
    Read,
    Renew,
    Send,
)

PING_SECONDS = 25
PONG_SECONDS = 8.0
CONNECT_SECONDS = 10.0
EXPIRED_SECONDS = 25.0  # what a client gets to refresh its token after it has ended


class Limits(Struct, frozen=True):
    """What one connection may do. Commands are paid from a bucket; below `-debt` it is closed."""

    channels: int = 128
    commands_per_frame: int = protocol.COMMANDS_PER_FRAME
    commands_per_second: float = 50.0
    burst: int = 100
    debt: int = 50
    under_way: int = 64
    held: int = 512  # publications that may wait for a subscription's own reply


LIMITS = Limits()

NEW, CONNECTING, OPEN, CLOSED = "new", "connecting", "open", "closed"

BUSY = ProtocolError(protocol.TOO_MANY_REQUESTS, "too many requests", temporary=True)


class Session:
    """The state of one connection. Times are seconds of any one monotonic clock."""

    __slots__ = (
        "_bucket",
        "_expires_at",
        "_filled_at",
        "_next_ping_at",
        "_opened_at",
        "_out",
        "_pinged_at",
        "_waiting",
        "client",
        "followings",
        "limits",
        "node",
        "pending",
        "state",
    )

    def __init__(self, *, client: str, node: str, now: float, limits: Limits = LIMITS) -> None:
        self.client = client
        self.node = node
        self.limits = limits
        self.state = NEW
        self.followings: dict[str, Following] = {}
        self.pending: dict[int, Following | None] = {}  # commands under way; of a subscribe, what it makes
        self._waiting: list[Command] = []  # said before the answer to `connect`
        self._opened_at = self._filled_at = now
        self._bucket = float(limits.burst)
        self._next_ping_at: float | None = None
        self._pinged_at: float | None = None
        self._expires_at: float | None = None
        self._out: list[Output] = []

    # --- what the client says ------------------------------------------------------------------

    def received(self, frame: bytes | str, now: float) -> list[Output]:
        """Take one message of the client."""
        if self.state == CLOSED:
            return []
        self._pinged_at = None  # any frame is a sign of life
        refill = (now - self._filled_at) * self.limits.commands_per_second
        self._bucket = min(float(self.limits.burst), self._bucket + refill)
        self._filled_at = now
        try:
            commands = protocol.decode(frame)
        except protocol.GarbageError as error:
            return self.close(protocol.CLOSE_BAD_REQUEST, str(error))
        if not commands:
            self._pays()
        for place, command in enumerate(commands):
            if self.state == CLOSED:
                break
            if not self._pays() or place >= self.limits.commands_per_frame:
                self._refuse(command)
            else:
                self._take(command)
        return self._flush()

    def _pays(self) -> bool:
        """Say whether a command is within the rate; one that goes on beyond it is closed."""
        self._bucket -= 1
        if self._bucket < -self.limits.debt:
            self._close(protocol.CLOSE_TOO_MANY_REQUESTS, "too many requests")
        return self._bucket >= 0

    def _refuse(self, command: Command) -> None:
        if command.id and self.state != CLOSED:
            self._say(protocol.error(command.id, BUSY))

    def _take(self, command: Command) -> None:
        under_way = len(self.pending) + len(self._waiting)
        match command.request:
            case protocol.Pong():
                pass
            case protocol.Invalid() as request:
                self._say(protocol.error(command.id, ProtocolError(request.code, request.message)))
            case _ if self.state == NEW:
                self._connect(command)
            case _ if command.id in self.pending or any(command.id == other.id for other in self._waiting):
                self._close(
                    protocol.CLOSE_BAD_REQUEST, "the id of a command that is under way was used again"
                )
            case Connect():
                self._close(protocol.CLOSE_BAD_REQUEST, "a connection connects once")
            case _ if under_way >= self.limits.under_way:
                self._refuse(command)
            case _ if self.state == CONNECTING:
                self._waiting.append(command)
            case _:
                self._open(command)

    def _connect(self, command: Command) -> None:
        if not isinstance(command.request, Connect):
            self._close(protocol.CLOSE_STALE, "the first command must be connect")
            return
        self.state = CONNECTING
        self.pending[command.id] = None
        self._out.append(Authenticate(command.id, command.request))

    def _open(self, command: Command) -> None:
        """Take a command of a connection that is open."""
        match command.request:
            case protocol.Subscribe() as request:
                self._subscribe(command.id, request)
            case protocol.Unsubscribe() as request:
                self._unsubscribe(command.id, request.channel)
            case protocol.Ping():
                self._say(protocol.pinged(command.id))
            case protocol.History() as request:
                self._begin(command.id, Read(command.id, request))
            case protocol.Rpc() as request:
                self._begin(command.id, Call(command.id, request))
            case request:
                assert isinstance(request, protocol.Refresh)
                self._begin(command.id, Renew(command.id, request))

    def _begin(self, command_id: int, output: Output) -> None:
        """Have a command done that is answered later."""
        self.pending[command_id] = None
        self._out.append(output)

    def _subscribe(self, command_id: int, request: protocol.Subscribe) -> None:
        if request.channel in self.followings:
            fault = ProtocolError(protocol.ALREADY_SUBSCRIBED, "already subscribed")
            self._say(protocol.error(command_id, fault))
        elif len(self.followings) >= self.limits.channels:
            text = f"a connection follows at most {self.limits.channels} channels"
            self._say(protocol.error(command_id, ProtocolError(protocol.LIMIT_EXCEEDED, text)))
        else:
            following = Following(request.channel, command_id)
            self.followings[request.channel] = self.pending[command_id] = following
            self._out.append(Follow(command_id, request, following))

    def _unsubscribe(self, command_id: int, channel: str) -> None:
        following = self.followings.pop(channel, None)
        if following is not None:
            if following.state == JOINING:
                self.pending.pop(following.command_id, None)
                fault = ProtocolError(protocol.BAD_REQUEST, "unsubscribed before it was subscribed")
                self._say(protocol.error(following.command_id, fault))
            self._leave(following)
        self._say(protocol.unsubscribed(command_id))

    # --- how its commands end ------------------------------------------------------------------

    def server_side(self, channel: str) -> Following:
        """Begin a subscription that the server makes while the client connects; see `admitted`."""
        following = self.followings[channel] = Following(channel, 0)
        return following

    def admitted(
        self,
        command_id: int,
        *,
        ttl: float | None,
        subs: Iterable[tuple[Following, SubscribeResult]] = (),
        data: dict[str, Any] | None = None,
        now: float,
    ) -> list[Output]:
        """The client may connect, for `ttl` seconds where its token ends. `subs` are made with it."""
        if self.pending.pop(command_id, self) is self or self.state != CONNECTING:
            return []
        self.state = OPEN
        self._next_ping_at = now + PING_SECONDS
        self._expire(ttl, now)
        made = tuple(subs)
        result = ConnectResult(
            client=self.client,
            version=protocol.VERSION,
            ping=PING_SECONDS,
            pong=True,
            session=self.client,
            node=self.node,
            expires=ttl is not None,
            ttl=0 if ttl is None else _whole(ttl),
            data=data or {},
            subs={following.channel: sub for following, sub in made},
        )
        self._say(protocol.connected(command_id, result))
        for following, _ in made:
            self._go_live(following)
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self._open(command)
        return self._flush()

    def subscribed(self, following: Following, result: SubscribeResult) -> list[Output]:
        """The channel is joined. Check `following.state` first: over, it is to be left again."""
        if following.state != JOINING or self.state == CLOSED:
            return []
        del self.pending[following.command_id]
        self._say(protocol.subscribed(following.command_id, result))
        self._go_live(following)
        return self._flush()

    def answered(self, command_id: int, reply: bytes) -> list[Output]:
        """A command has its reply."""
        if self.pending.pop(command_id, self) is self or self.state == CLOSED:
            return []
        return [Send(reply)]

    def renewed(self, command_id: int, *, ttl: float | None, now: float) -> list[Output]:
        """The new token is good, for `ttl` seconds where it ends."""
        self._expire(ttl, now)
        whole = None if ttl is None else _whole(ttl)
        return self.answered(command_id, protocol.refreshed(command_id, client=self.client, ttl=whole))

    def failed(self, command_id: int, fault: ProtocolError) -> list[Output]:
        """A command failed. A client that could not connect may try again within its time."""
        following = self.pending.pop(command_id, self)
        if following is self or self.state == CLOSED:
            return []
        if isinstance(following, Following):
            following.state = OVER
            self.followings.pop(following.channel, None)
        self._say(protocol.error(command_id, fault))
        if self.state == CONNECTING:
            self.state = NEW
            for following in tuple(self.followings.values()):
                self.withdrawn(following)
            waiting, self._waiting = self._waiting, []
            for command in waiting:
                self._say(
                    protocol.error(command.id, ProtocolError(protocol.UNAUTHORIZED, "not connected", True))
                )
        return self._flush()

    # --- what its channels say -----------------------------------------------------------------

    def published(self, following: Following, frame: Any) -> bool:
        """Say whether a publication is to be sent now; one before the subscription's reply is kept for it."""
        if following.state is LIVE:
            return True
        if following.state is JOINING and following.end is None:
            held = following.held = following.held or []
            if len(held) < self.limits.held:
                held.append(frame)
            else:  # the client recovers what it misses
                following.end = (protocol.INSUFFICIENT_STATE, "insufficient state")
        return False

    def ended(self, following: Following, *, code: int, reason: str) -> list[Output]:
        """The server ends a subscription."""
        if following.state == OVER or self.state == CLOSED:
            return []
        following.end = (code, reason)
        if following.state == LIVE:
            self._end(following)
        return self._flush()

    def withdrawn(self, following: Following) -> None:
        """A server-side subscription does not come about."""
        following.state = OVER
        if self.followings.get(following.channel) is following:
            del self.followings[following.channel]

    def _go_live(self, following: Following) -> None:
        following.state = LIVE
        for frame in following.held or ():
            self._out.append(Deliver(frame))
        following.held = None
        if following.end is not None:
            self._end(following)

    def _end(self, following: Following) -> None:
        assert following.end is not None
        code, reason = following.end
        self.followings.pop(following.channel, None)
        self._leave(following)
        self._say(protocol.unsubscribe(following.channel, code=code, reason=reason))

    def _leave(self, following: Following) -> None:
        following.state = OVER
        following.held = None
        self._out.append(Leave(following))

    # --- time, and the end ---------------------------------------------------------------------

    def due(self) -> float:
        """Return when `tick` has something to do next, if nothing else happens before."""
        if self._next_ping_at is None:
            return self._opened_at + CONNECT_SECONDS
        due = self._next_ping_at if self._pinged_at is None else self._pinged_at + PONG_SECONDS
        return due if self._expires_at is None else min(due, self._expires_at)

    def tick(self, now: float) -> list[Output]:
        """Do what is due by the clock: our ping, and the end of those who are late."""
        if self.state == CLOSED:
            return []
        if self._next_ping_at is None:
            if now >= self._opened_at + CONNECT_SECONDS:
                self._close(protocol.CLOSE_STALE, "no connect command came in time")
        elif self._expires_at is not None and now >= self._expires_at:
            self._close(protocol.CLOSE_EXPIRED, "the token has expired")
        elif self._pinged_at is not None and now >= self._pinged_at + PONG_SECONDS:
            self._close(protocol.CLOSE_NO_PONG, "no pong")
        elif self._pinged_at is None and now >= self._next_ping_at:
            self._pinged_at = now
            self._next_ping_at = now + PING_SECONDS
            self._say(protocol.PING)
        return self._flush()

    def close(self, code: int, reason: str) -> list[Output]:
        """End the connection for a reason that is not the session's own."""
        self._close(code, reason)
        return self._flush()

    def lost(self) -> None:
        """The connection is gone."""
        self.state = CLOSED
        for following in self.followings.values():
            following.state = OVER
            following.held = None

    def _close(self, code: int, reason: str) -> None:
        if self.state != CLOSED:
            self.lost()
            self._out.append(Close(code, reason))

    def _expire(self, ttl: float | None, now: float) -> None:
        self._expires_at = None if ttl is None else now + ttl + EXPIRED_SECONDS

    def _say(self, payload: bytes) -> None:
        self._out.append(Send(payload))

    def _flush(self) -> list[Output]:
        out, self._out = self._out, []
        return out


def _whole(ttl: float) -> int:
    """Round a token's time so that a client that obeys it does not come late; SDKs take 0 as never."""
    return max(1, int(ttl))
