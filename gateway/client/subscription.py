"""One channel that a client follows: where it stands, and what waits to be read of it. No I/O."""

import asyncio
from collections import deque
from typing import Self

from msgspec import Struct

from gateway.client import events
from gateway.client.errors import ClientError, DeniedError
from gateway.client.events import Event
from gateway.client.frames import Left, Pub, Subscribed
from gateway.realtime.protocol import INSUFFICIENT_STATE, Subscribe, SubscribeData

WAITING = 4096  # publications that may wait to be read; beyond them the server keeps them


class Publication(Struct, frozen=True):
    """One event of a channel. `tags` name its run, conversation and agent."""

    offset: int
    event: Event
    tags: dict[str, str] = {}


class Gap(Struct, frozen=True):
    """What came here is no longer with the server: read what is stored; from `offset` on it goes on."""

    epoch: str
    offset: int


class Subscription:
    """The publications of a channel, each handed over once, however often the connection breaks.

    Iterate over it. At most `WAITING` publications wait to be read (and whatever one recovery brings);
    then the client lets go of the channel, and takes it up where it left when the reader has caught up.
    """

    def __init__(self, channel: str, data: SubscribeData | None) -> None:
        self.channel = channel
        self.epoch = ""
        self.offset = 0
        self._data = data
        self._items: deque[Publication | Gap] = deque()
        self._joined = False
        self._closed = False
        self._error: ClientError | None = None
        self._changed = asyncio.Event()  # something to read, or no more to come
        self._ready = asyncio.Event()  # delivery began once, or never will
        self._room = asyncio.Event()  # the reader has caught up
        self._out = asyncio.Event()  # delivery is not wanted just now, or ended
        self._parted = asyncio.Event()  # the server does not deliver
        self._room.set()
        self._parted.set()

    # --- the reader -------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Publication | Gap:
        """Return the next item. Cancelling loses nothing.

        Raises:
            DeniedError: The server does not let this client follow the channel.
            EndedError: The client has ended.
            StopAsyncIteration: The subscription was closed.
        """
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        if len(self._items) <= WAITING // 2:
            self._room.set()
        return item

    async def begun(self) -> None:
        """Wait until delivery has begun.

        Raises:
            DeniedError, EndedError: It will not.
        """
        await self._ready.wait()
        if self._error is not None and not self.epoch:
            raise self._error

    def close(self) -> None:
        """End the subscription; what waits may still be read."""
        self._closed = True
        self._leave()

    # --- the connection ---------------------------------------------------------------------------

    @property
    def request(self) -> Subscribe:
        """What asks the server for the channel, from where this subscription stands."""
        return Subscribe(self.channel, bool(self.epoch), self.epoch, self.offset, self._data)

    @property
    def over(self) -> bool:
        """Whether nothing more is wanted."""
        return self._closed or self._error is not None

    async def room(self) -> None:
        """Return when the reader has caught up, or does not read any more."""
        await self._room.wait()

    async def parting(self) -> bool:
        """Wait until delivery is not wanted any more; return whether the server must be told."""
        await self._out.wait()
        return self._joined

    async def parted(self) -> None:
        """Wait until the server does not deliver."""
        await self._parted.wait()

    def asking(self) -> None:
        """The server is asked to deliver: from now on it may."""
        self._parted.clear()

    def join(self, result: Subscribed) -> None:
        """Delivery begins; what was missed comes first."""
        if self.epoch and not result.recovered and result.recoverable:
            self._put(Gap(result.epoch, result.offset))
            self.offset = 0
        if result.epoch != self.epoch:
            self.epoch, self.offset = result.epoch, 0
        for pub in result.publications:
            self._take(pub)
        self.offset = max(self.offset, result.offset)
        self._joined = True
        self._ready.set()
        if not self.over:
            self._out.clear()

    def push(self, pub: Pub) -> None:
        """Something was published."""
        if not self._joined or self._out.is_set():
            return
        if len(self._items) < WAITING:
            self._take(pub)
        else:
            self._room.clear()
            self._out.set()

    def dismissed(self, left: Left) -> None:
        """The server ended delivery; by its code it may be asked for again."""
        self.lost()
        if left.code < INSUFFICIENT_STATE:
            self.fail(DeniedError(left.code, left.reason))

    def lost(self) -> None:
        """The server does not deliver any more: the connection is gone, or it was told so."""
        self._joined = False
        self._out.set()
        self._parted.set()

    def fail(self, error: ClientError) -> None:
        """Nothing more will come, for this reason."""
        self._error = self._error or error
        self._leave()

    def _leave(self) -> None:
        for event in (self._changed, self._ready, self._room, self._out):
            event.set()

    def _take(self, pub: Pub) -> None:
        """Hand a publication over unless it was before."""
        if pub.offset and pub.offset <= self.offset:
            return
        self.offset = pub.offset or self.offset
        self._put(Publication(pub.offset, events.event(pub.data), pub.tags))

    def _put(self, item: Publication | Gap) -> None:
        self._items.append(item)
        self._changed.set()
