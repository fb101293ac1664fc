"""Keeps a client of the realtime protocol connected, and its subscriptions with it."""

import random
from collections.abc import Callable

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from msgspec import Struct

from gateway.client import frames, tokens
from gateway.client.errors import ClientError, DeniedError, EndedError, LostError
from gateway.client.frames import Message, Push, Refreshed, Request, Subscribed
from gateway.client.link import Link, connected
from gateway.client.subscription import Subscription
from gateway.client.tokens import Token
from gateway.realtime.protocol import TOKEN_EXPIRED, Connect, Refresh, Unsubscribe

OnAway = Callable[[LostError], None]

PART_SECONDS = 2.0  # what a server may take to acknowledge the end of a subscription
RENEW_AT = 0.8  # of the time that a token has left


class Patience(Struct, frozen=True):
    """How long to wait between two attempts to connect, doubling with jitter, and how long in all."""

    first_seconds: float = 0.25
    longest_seconds: float = 20.0
    away_seconds: float = 600.0

    def delay(self, tries: int) -> float:
        """Return the seconds to wait after so many attempts in a row failed."""
        return random.uniform(0.5, 1.0) * min(self.longest_seconds, self.first_seconds * 2 ** min(tries, 16))


class Keeper:
    """One server, the connection to it if there is one just now, and what is followed over it."""

    def __init__(
        self, url: str, token: Token, *, name: str, patience: Patience, on_away: OnAway | None
    ) -> None:
        self._url = frames.address(url)
        self._token = token
        self._name = name
        self._patience = patience
        self._on_away = on_away
        self._subscriptions: dict[str, Subscription] = {}
        self._link: Link | None = None
        self._tasks: TaskGroup | None = None
        self._changed = anyio.Event()
        self._ended: EndedError | None = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._link is not None

    async def call(self, request: Request, *, repeat: bool = False) -> Message:
        """Send a command as soon as there is a connection, and return its reply.

        `repeat` says that it may be done twice: it is sent again when the connection was lost, for as long
        as the patience lasts.

        Raises:
            DeniedError: The reply is an error.
            LostError: The connection was lost, and the server may have acted.
            EndedError: There will be no connection.
        """
        give_up_at = anyio.current_time() + self._patience.away_seconds
        while True:
            link = await self.connection()
            try:
                return await link.call(request)
            except LostError:
                if not repeat or anyio.current_time() >= give_up_at:
                    raise
                await anyio.lowlevel.checkpoint()  # whoever reads notices as well

    async def connection(self) -> Link:
        """Return the connection as soon as there is one.

        Raises:
            EndedError: There will be none.
        """
        while self._link is None:
            if self._ended is not None:
                raise self._ended
            await self._changed.wait()
        return self._link

    def follow(self, subscription: Subscription) -> None:
        """Keep a subscription on every connection.

        Raises:
            ValueError: Its channel is followed already.
        """
        if subscription.channel in self._subscriptions:
            raise ValueError(f"{subscription.channel} is followed already")
        self._subscriptions[subscription.channel] = subscription
        if self._ended is not None:
            subscription.fail(self._ended)
        if self._link is not None and self._tasks is not None:
            self._tasks.start_soon(self._keep, self._link, subscription)

    async def forget(self, subscription: Subscription) -> None:
        """End a subscription; the server has a moment to acknowledge that."""
        subscription.close()
        try:
            with anyio.move_on_after(PART_SECONDS, shield=True):
                await subscription.parted()
        finally:
            del self._subscriptions[subscription.channel]

    # --- staying connected ------------------------------------------------------------------------

    async def live(self) -> None:
        """Connect, and connect again, until the server or the patience ends it."""
        try:
            await self._stay()
        except EndedError as error:
            self._end(error)

    async def _stay(self) -> None:
        while True:
            tries = 0
            give_up_at = anyio.current_time() + self._patience.away_seconds
            while (lost := await self._try()) is not None:
                if anyio.current_time() >= give_up_at:
                    raise EndedError(0, f"{lost}; it was tried for {self._patience.away_seconds:.0f} s")
                if self._on_away is not None:
                    self._on_away(lost)
                await anyio.sleep(self._patience.delay(tries))
                tries += 1
            await anyio.sleep(self._patience.delay(0))  # a server that hangs up at once is not pressed

    async def _try(self) -> LostError | None:
        """Connect and use the connection to its end. Return why there was none, where there was none."""
        served = False
        try:
            async with connected(self._url, await self._hello()) as link:
                served = True
                await self._serve(link)
        except LostError as error:
            return None if served else error
        except DeniedError as error:
            return self._refused(error)

    async def _hello(self) -> Connect:
        return Connect(token=await tokens.made(self._token), name=self._name, version="1")

    def _refused(self, error: DeniedError) -> LostError:
        """The server does not accept the connection; it may do so later, or with another token."""
        if error.temporary or (error.code == TOKEN_EXPIRED and callable(self._token)):
            return LostError(str(error))
        raise EndedError(error.code, str(error))

    async def _serve(self, link: Link) -> None:
        """Use a connection until it ends.

        Raises:
            LostError, EndedError: It did, and this is why.
        """
        ended: ClientError | None = None
        async with anyio.create_task_group() as tasks:
            self._link, self._tasks = link, tasks
            for subscription in self._subscriptions.values():
                tasks.start_soon(self._keep, link, subscription)
            if link.accepted.expires and callable(self._token):
                tasks.start_soon(self._renew, link, link.accepted.ttl)
            self._tell()
            try:
                await link.run(self._pushed)
            except ClientError as error:
                ended = error
            finally:
                self._link = self._tasks = None
                for subscription in self._subscriptions.values():
                    subscription.lost()
                tasks.cancel_scope.cancel()
        assert ended is not None
        raise ended

    async def _keep(self, link: Link, subscription: Subscription) -> None:
        """Keep a subscription on this connection: ask for it, let go of it while its reader is behind."""

        def join(message: Message) -> None:
            subscription.join(message.subscribe or Subscribed())

        tries = 0
        served = subscription.channel in link.accepted.subs  # delivered, but not from where it stands
        while not subscription.over:
            await subscription.room()
            try:
                if served:
                    await link.call(Unsubscribe(subscription.channel))
                    served = False
                if not subscription.over:
                    subscription.asking()
                    await link.call(subscription.request, join)
                    tries = 0
                if await subscription.parting():
                    await link.call(Unsubscribe(subscription.channel))
                    subscription.lost()
            except DeniedError as error:
                subscription.lost()
                if not error.temporary:
                    subscription.fail(error)
                    return
                await anyio.sleep(self._patience.delay(tries))
                tries += 1
            except LostError:
                subscription.lost()
                await link.close()  # whether the server delivers is not known where it did not answer
                return  # the next connection takes over

    async def _renew(self, link: Link, ttl: int) -> None:
        """Hand in a new token before the old one ends; where that fails the server ends the connection."""
        while True:
            await anyio.sleep(ttl * RENEW_AT)
            try:
                renewed = await self._refresh(link)
            except (DeniedError, EndedError):
                return
            if not renewed.expires:
                return
            ttl = renewed.ttl

    async def _refresh(self, link: Link) -> Refreshed:
        """Hand in a new token, however often it takes while the connection lasts.

        Raises:
            DeniedError: The server refuses it.
            EndedError: There will be none.
        """
        tries = 0
        while True:
            try:
                reply = await link.call(Refresh(await tokens.made(self._token)))
            except LostError:
                await anyio.sleep(self._patience.delay(tries))
                tries += 1
            else:
                return reply.refresh or Refreshed()

    def _pushed(self, push: Push) -> None:
        subscription = self._subscriptions.get(push.channel)
        if subscription is None:
            return
        if push.pub is not None:
            subscription.push(push.pub)
        elif push.unsubscribe is not None:
            subscription.dismissed(push.unsubscribe)

    def _end(self, error: EndedError) -> None:
        self._ended = error
        for subscription in self._subscriptions.values():
            subscription.fail(error)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
