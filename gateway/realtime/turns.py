"""What one connection does one after the other: large answers, each when the one before is taken."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import anyio

from gateway.feeds.frames import head_of
from gateway.feeds.subscriptions import Rest
from gateway.realtime.outbound import STUCK_SECONDS, Outbound

ORDERED = frozenset(("agent.send",))  # messages of one connection are accepted in the order they were sent
LARGE = frozenset(("agent.list", "context.get", "history"))  # methods whose answers may be


class Turns:
    """Lets one task at a time send what is large. Several at once would fill the queue of a client that
    reads as fast as it can.

    `unsent` tells what the transport holds. `slow` is called, from the loop, when it takes nothing for
    `STUCK_SECONDS` although somebody waits for it; it ends whoever waits.
    """

    __slots__ = ("_lock", "_order", "_outbound", "_room", "_slow", "_unsent")

    def __init__(self, outbound: Outbound, *, unsent: Callable[[], int], slow: Callable[[], None]) -> None:
        self._outbound = outbound
        self._unsent = unsent
        self._slow = slow
        self._lock: asyncio.Lock | None = None
        self._order: asyncio.Lock | None = None
        self._room: asyncio.Event | None = None

    def writable(self) -> None:
        """What was sent is taken, perhaps all of it."""
        if self._room is not None and self._outbound.free:
            self._room.set()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait until a message of any size may be sent. Turns are given in the order of asking."""
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            while not self._outbound.free:
                await self._move()
            yield

    def of_call(self, method: str) -> AbstractAsyncContextManager[None]:
        """Return what a call is made and answered in: where it waits for others of its kind."""
        if method in ORDERED:
            self._order = self._order or asyncio.Lock()
            return self._order
        return self.turn() if method in LARGE else nullcontext()

    @asynccontextmanager
    async def work(self, seconds: float) -> AsyncGenerator[None]:
        """Wait for a turn, as long as the client takes what comes before; then there are `seconds` for it.

        Raises:
            TimeoutError: The work took longer.
        """
        async with self.turn():
            with anyio.fail_after(seconds):
                yield

    async def _move(self) -> None:
        """Wait for room, as long as the client takes anything."""
        unsent = self._unsent()
        room = self._room = asyncio.Event()
        with anyio.move_on_after(STUCK_SECONDS):
            await room.wait()
        # With a queue it is the queue's own matter how long it does not move.
        if not room.is_set() and not self._outbound.waiting and self._unsent() >= unsent:
            asyncio.get_running_loop().call_soon(self._slow)
            await room.wait()  # until this task is cancelled with its connection


async def catch_up(outbound: Outbound, turns: Turns, channel: str, rest: Rest) -> None:
    """Send what a subscriber of a channel missed, each piece when the one before is taken.

    Raises:
        ForgottenError: Some of it is not there any more.
    """
    head = head_of(channel)
    while rest.behind:
        async with turns.turn():
            # Nothing is awaited between a piece and its message: what is said after it is sent after it.
            pushes = [b"%b%b}}" % (head, publication) for publication in rest.piece()]
            if pushes:
                outbound.say(b"\n".join(pushes))
        await asyncio.sleep(0)
