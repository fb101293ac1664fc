"""One realtime connection: does what its session asks for, and tells it how that ended.

Input is taken at once, by a callback of the socket; whatever takes time is a task of the connection's
own group, with a deadline, and ends with it. The order of what is sent is the session's.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol, assert_never

import anyio
import msgspec

from actors import clock
from gateway import errors
from gateway.auth import THOUGHTS, Caller
from gateway.errors import TokenExpiredError, TooManyRequestsError, UnauthorizedError
from gateway.feeds.catching_up import ForgottenError
from gateway.feeds.feeds import Feeds
from gateway.feeds.subscriptions import Subscribed, fail
from gateway.realtime import protocol
from gateway.realtime.outbound import Outbound
from gateway.realtime.places import Place, Places
from gateway.realtime.protocol import ProtocolError, SubscribeResult
from gateway.realtime.session import LIMITS, Session
from gateway.realtime.session_outputs import (
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
    Work,
)
from gateway.realtime.sockets import Socket
from gateway.realtime.subscriber import Subscriber
from gateway.realtime.turns import Turns, catch_up
from gateway.tokens import Identity, Tokens

log = logging.getLogger("wakeful.realtime")

WORK_SECONDS = 30.0  # as long as a request of REST has
ABOUT: dict[str, Any] = {
    "protocol": "wakeful/1",
    "agui": "1.0",
    "limits": {"frame": protocol.FRAME_BYTES, "channels": LIMITS.channels},
}
TEMPORARY = frozenset((429, 503, 504))


class Methods(Protocol):
    """What `rpc` commands call."""

    async def call(self, caller: Caller, method: str, data: bytes) -> bytes:
        """Return the method's result as JSON."""
        ...


class Services(msgspec.Struct, frozen=True):
    """What every connection of a server uses."""

    feeds: Feeds
    methods: Methods
    tokens: Tokens
    places: Places
    node: str


class Connection:
    """One connection, from its handshake to its end. `over` is set when it is to be let go of."""

    def __init__(
        self,
        socket: Socket,
        services: Services,
        place: Place,
        *,
        tasks: asyncio.TaskGroup,
        identity: Identity | None,
        loopback: bool,
    ) -> None:
        self.over = anyio.Event()
        self.socket = socket
        self._services = services
        self._place = place
        self._tasks = tasks
        self._identity = identity  # what the handshake showed
        self._loopback = loopback
        self._caller: Caller | None = None
        self._loop = asyncio.get_running_loop()
        self._under_way: set[asyncio.Task[None]] = set()
        self._joining: dict[Following, asyncio.Task[None]] = {}
        self._subscribers: dict[Following, Subscriber] = {}
        self.session = Session(client=clock.new_id("cl"), node=services.node, now=self._loop.time())
        self.outbound = Outbound(
            socket, later=self._loop.call_later, slow=self._slow, budget=services.places.budget
        )
        self._turns = Turns(self.outbound, unsent=socket.unsent, slow=self._slow)
        self._timer = self._loop.call_at(self.session.due(), self._tick)

    # --- the socket's side ----------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take one message of the client."""
        self.perform(self.session.received(data, self._loop.time()))

    def writable(self) -> None:
        """Send what waits."""
        self.outbound.writable()
        self._turns.writable()

    def stopped(self) -> None:
        """Let every publication come through the queue."""
        for subscriber in self._subscribers.values():
            if subscriber.changed is not None:
                subscriber.changed()

    def lost(self) -> None:
        """The connection is gone; everything of it ends."""
        self.session.lost()
        self._release()

    def close(self, code: int, reason: str) -> None:
        """End the connection."""
        self.perform(self.session.close(code, reason))

    # --- the session's side ---------------------------------------------------------------------

    def perform(self, outputs: list[Output]) -> None:
        """Do what the session asks for, in its order."""
        for output in outputs:
            match output:
                case Send(payload):
                    self.outbound.say(payload)
                case Deliver(frame):
                    self.outbound.push(frame)
                case Leave(following):
                    self._leave(following)
                case Close(code, reason):
                    self._close(code, reason)
                case Follow():
                    self._joining[output.following] = self._begin(self._follow(output))
                case _:
                    self._begin(self._work(output))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def _slow(self) -> None:
        log.info("slow client", extra={"client": self.session.client})
        self.close(protocol.CLOSE_SLOW, "slow")

    def _close(self, code: int, reason: str) -> None:
        self._release()
        self.socket.finish(code, reason)

    def _release(self) -> None:
        self.over.set()
        self._timer.cancel()
        self.outbound.close()
        for following in tuple(self._subscribers):
            self._leave(following)
        for task in tuple(self._under_way):
            if task is not asyncio.current_task():  # one that closes its own connection ends by itself
                task.cancel()

    def _leave(self, following: Following) -> None:
        task = self._joining.pop(following, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        subscriber = self._subscribers.pop(following, None)
        if subscriber is not None and subscriber.close is not None:
            subscriber.close()

    def _tick(self) -> None:
        self.perform(self.session.tick(self._loop.time()))
        if not self.over.is_set():
            self._schedule()

    def _schedule(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(self.session.due(), self._tick)

    # --- work -----------------------------------------------------------------------------------

    async def _work(self, work: Work) -> None:
        """Do one command's work. Cancelled with the connection: what it did durably stays done."""
        try:
            await self._do(work)
        # The outermost boundary of a command: it gets one reply, whatever happens; `_fault` logs it.
        except Exception as error:  # noqa: BLE001
            shown = isinstance(work, Authenticate | Renew) and isinstance(error, UnauthorizedError)
            if shown and not isinstance(error, TokenExpiredError):
                self.close(protocol.CLOSE_INVALID_TOKEN, "invalid token")
            else:
                self.perform(self.session.failed(work.command_id, self._fault(error, work)))

    async def _do(self, work: Work) -> None:
        match work:
            case Authenticate():
                with anyio.fail_after(WORK_SECONDS):
                    await self._authenticate(work)
            case Renew(command_id, request):
                with anyio.fail_after(WORK_SECONDS):
                    await self._renew(command_id, request.token)
            case Follow(following=following):
                async with self._turns.work(WORK_SECONDS):
                    result = await self._join(following, work.request)
                    # Nothing was awaited since the channel was joined: no publication is ahead of the reply.
                    self.perform(self.session.subscribed(following, result))
            case Read(command_id, request):
                async with self._turns.work(WORK_SECONDS):
                    found = await self._services.feeds.history(self._known(), request)
                    reply = protocol.history(
                        command_id, publications=found.publications, epoch=found.epoch, offset=found.offset
                    )
                    self.perform(self.session.answered(command_id, reply))
            case Call():
                await self._call(work)
            case _:
                assert_never(work)

    async def _call(self, work: Call) -> None:
        # Each has its own time, whatever those before it took.
        async with self._turns.of_call(work.request.method):
            data = await self._asked(work)
            self.perform(self.session.answered(work.command_id, protocol.returned(work.command_id, data)))

    async def _asked(self, work: Call) -> bytes:
        request = work.request
        async with asyncio.timeout(WORK_SECONDS):  # every message comes by here: an anyio scope costs more
            return await self._services.methods.call(self._known(), request.method, bytes(request.data))

    def _fault(self, error: Exception, work: Work) -> ProtocolError:
        if isinstance(error, ProtocolError):
            return error
        if isinstance(error, TokenExpiredError):
            return ProtocolError(protocol.TOKEN_EXPIRED, "token expired")
        found = errors.find(error)
        extra = {"client": self.session.client, "work": type(work).__name__}
        if found.status == 500:
            log.error("command failed", extra=extra, exc_info=error)
        else:
            log.info("command refused", extra={**extra, "status": found.status, "kind": found.kind})
        return ProtocolError(found.status, found.message, found.status in TEMPORARY)

    def _known(self) -> Caller:
        assert self._caller is not None
        return self._caller

    # --- who it is ------------------------------------------------------------------------------

    async def _authenticate(self, work: Authenticate) -> None:
        identity = self._identity
        if work.request.token or identity is None:
            identity = self._services.tokens.identify(work.request.token or None, loopback=self._loopback)
        ttl = identity.ttl()
        caller = identity.caller
        try:
            self._services.places.name(self._place, caller.user_id)
        except TooManyRequestsError as error:
            self.close(protocol.CLOSE_CONNECTION_LIMIT, str(error))
            return
        self._caller = caller
        subs = await self._follow_own(caller, work.request)
        self._services.places.settle(self._place)
        now = self._loop.time()
        self.perform(self.session.admitted(work.command_id, ttl=ttl, subs=subs, data=ABOUT, now=now))
        self._schedule()

    async def _follow_own(
        self, caller: Caller, request: protocol.Connect
    ) -> list[tuple[Following, SubscribeResult]]:
        """Subscribe the caller to its own channel. One that cannot have it connects without."""
        channel = f"user:{caller.user_id}"
        earlier = request.subs.get(channel, protocol.Recover())
        asked = protocol.Subscribe(channel, earlier.recover, earlier.epoch, earlier.offset)
        following = self.session.server_side(channel)
        try:
            return [(following, await self._join(following, asked))]
        except ProtocolError as error:
            log.info("no channel of its own", extra={"client": self.session.client, "code": error.code})
            self.session.withdrawn(following)
            return []

    async def _renew(self, command_id: int, token: str) -> None:
        """Go on as whom the new token names, with what it may still do."""
        before = self._known()
        identity = self._services.tokens.identify(token or None, loopback=self._loopback)
        ttl = identity.ttl()
        after = identity.caller
        if (after.user_id, after.organization_id) != (before.user_id, before.organization_id):
            raise UnauthorizedError  # somebody else; the connection is not theirs
        self._caller = after
        if after != before:
            await self._reauthorise(before, after)
        self.perform(self.session.renewed(command_id, ttl=ttl, now=self._loop.time()))
        if not self.over.is_set():
            self._schedule()

    async def _reauthorise(self, before: Caller, after: Caller) -> None:
        """End what the caller may follow no more, and show it all else as it may see it now.

        What is being joined meanwhile sees to it itself; see `_join`.
        """
        own: list[Following] = []
        for following in tuple(self._subscribers):
            if not self._services.feeds.allowed(after, following.channel):
                self._dismiss(following, protocol.PERMISSION_REVOKED, "permission revoked")
            elif not _narrows(before, after, following.channel):
                continue
            elif following.command_id:  # the client subscribes again, and then gets what it may still see
                self._dismiss(following, protocol.INSUFFICIENT_STATE, "permissions have changed")
            else:
                own.append(following)
        for following in own:  # SDKs do not: the server subscribed them, and does so again
            self._leave(following)
            await self._join(following, protocol.Subscribe(following.channel))

    def _dismiss(self, following: Following, code: int, reason: str) -> None:
        """End a subscription from our side."""
        self.perform(self.session.ended(following, code=code, reason=reason))

    # --- channels -------------------------------------------------------------------------------

    async def _follow(self, work: Follow) -> None:
        """Join a channel; then send what is missed of it, for as long as that takes its client."""
        following = work.following
        try:
            await self._work(work)
            subscriber = self._subscribers.get(following)
            if subscriber is not None and subscriber.rest is not None:
                await catch_up(self.outbound, self._turns, following.channel, subscriber.rest)
                subscriber.rest = None
        except ForgottenError:
            self._cut_short(following)
        except Exception as error:  # noqa: BLE001 - the boundary of a subscription: it ends, nothing else
            fail(error, lambda _code, _reason: self._cut_short(following))
        finally:
            self._joining.pop(following, None)

    def _cut_short(self, following: Following) -> None:
        """End a subscription that cannot go on; its client comes back from where it is."""
        self._dismiss(following, protocol.INSUFFICIENT_STATE, "insufficient state")

    async def _join(self, following: Following, request: protocol.Subscribe) -> SubscribeResult:
        while True:
            caller, subscriber = self._known(), Subscriber(self, following)
            joined = await self._services.feeds.subscribe(caller, request, subscriber)
            if caller == self._known():
                break
            joined.close()  # the token was renewed meanwhile: what the old one allowed counts no more
            following.held = None
        if following.state is OVER or self.over.is_set():
            joined.close()
        else:
            subscriber.close, subscriber.rest = joined.close, joined.rest
            self._subscribers[following] = subscriber
        return _result(joined)


def _narrows(before: Caller, after: Caller, channel: str) -> bool:
    """Say whether a caller that may still follow a channel is to be shown less of it than before."""
    blinded = THOUGHTS in before.scopes and THOUGHTS not in after.scopes
    of_many = channel == "fleet" or channel.startswith("user:")
    return blinded or (of_many and before.agents != after.agents)


def _result(joined: Subscribed) -> SubscribeResult:
    return SubscribeResult(
        recoverable=joined.recoverable,
        positioned=joined.positioned,
        epoch=joined.epoch,
        offset=joined.offset,
        was_recovering=joined.was_recovering,
        recovered=joined.recovered,
        publications=[msgspec.Raw(publication) for publication in joined.publications],
    )
