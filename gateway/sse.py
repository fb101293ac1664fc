"""Server-sent events: one response that sends what a source yields, with pings, and never waits for ever.

Three tasks serve a connection for its whole life, none is made per chunk: this one sends, one waits for the
client to leave, one looks after time. A source that is waited for may write past them (`Direct`). A client
that leaves or stalls ends the response, never the run.

The group is asyncio's: of a task that is cancelled anyio's keeps a cycle of traceback and frame, and with it
all that the response held, for the garbage collector.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

import anyio
from anyio import CancelScope
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from actors import clock

STALL_SECONDS = 30.0  # a client that takes nothing is dropped after one to two times this
QUIET_SECONDS = 1800.0  # pings alone keep a stream open for this long
BODY_BYTES = 64 * 1024  # more than this goes out in several pieces, so that back-pressure is felt

Headers = tuple[tuple[bytes, bytes], ...]

DIRECT = "wakeful.direct"  # the ASGI extension under which `connections` offers a `Writer`

_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Writer(Protocol):
    """One response as the server offers it under `DIRECT`: written to without waiting."""

    def ready(self) -> bool:
        """Say whether the response has begun, has not ended, and its client takes what it gets."""
        ...

    def write(self, body: bytes) -> None:
        """Send a piece of the body, not empty. Only while it is ready."""
        ...


class Direct:
    """A source's short way to its client: past the task that sends, while that waits for the source.

    `ready` says whether `write` may be called now.
    """

    __slots__ = ("_writer", "ready", "said_at")

    def __init__(self) -> None:
        self._writer: Writer | None = None
        self.ready: Callable[[], bool] = _never
        self.said_at = 0.0

    def lead_to(self, writer: Writer | None) -> None:
        """Say where it leads; nowhere on servers that offer no such thing."""
        self._writer = writer
        self.ready = _never if writer is None else writer.ready

    def write(self, body: bytes) -> None:
        """Send whole events. Only while it is ready."""
        assert self._writer is not None
        self._writer.write(body)
        self.said_at = clock.monotonic()


def _never() -> bool:
    return False


class EventStream(Response):
    """An event stream. `batches` yields whole events, many at once if they are there.

    What the source writes `direct` goes out before anything that it yields later.
    `ping` makes a sign of life after `ping_seconds` of silence; `None` sends none. `give_up` makes the last
    words of a stream that said nothing for `QUIET_SECONDS`. `headers` stand beside those of every stream.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        batches: AsyncGenerator[list[bytes], None],
        *,
        ping: Callable[[], bytes] | None,
        ping_seconds: float,
        give_up: Callable[[], bytes],
        headers: Headers = (),
        direct: Direct | None = None,
    ) -> None:
        super().__init__()
        self._direct = direct or Direct()
        self._more = headers
        self._batches = batches
        self._ping = ping
        self._ping_seconds = ping_seconds
        self._give_up = give_up
        self._ended = False
        self._pinging: anyio.Event | None = None
        self._sending = False
        self._said_at = 0.0
        self._pinged_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream to its end. Cancelling ends the connection; nothing else depends on it."""
        self._said_at = self._pinged_at = clock.monotonic()
        self._direct.lead_to(scope.get("extensions", {}).get(DIRECT))
        with CancelScope() as response:
            async with aclosing(self._batches) as batches, asyncio.TaskGroup() as tasks:
                leaving = tasks.create_task(_leave(receive, response))
                watching = tasks.create_task(self._watch(send, response))
                if await self._say_all(batches, send):
                    leaving.cancel()
                    watching.cancel()

    async def _say_all(self, batches: AsyncGenerator[list[bytes], None], send: Send) -> bool:
        """Send what the source yields and the end of the response; say whether that was all of it.

        It was not where the stream was given up meanwhile: its last words are still being said.
        """
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *self._more]})
        async for batch in batches:
            if self._ended:
                return False
            self._sending = True
            for body in _pieces(batch):
                self._said_at = clock.monotonic()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            self._sending = False
        self._said_at = clock.monotonic()
        self._ended = self._sending = True
        if self._pinging is not None:
            await self._pinging.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    async def _watch(self, send: Send, scope: CancelScope) -> None:
        """Ping when it is quiet, give up when it stays quiet, drop a client that takes nothing."""
        while True:
            await clock.sleep(max(0.01, self._due() - clock.monotonic()))
            now = clock.monotonic()
            if not self._sending:
                await self._look(now, send, scope)
            elif now - self._said_at >= STALL_SECONDS:
                scope.cancel()

    async def _look(self, now: float, send: Send, scope: CancelScope) -> None:
        """Give up or ping, while the source is waited for, if it is time to."""
        if now - self._told_at() >= QUIET_SECONDS:
            self._ended = True
            await self._say(send, self._give_up(), scope, last=True)
            scope.cancel()
        elif self._ping is not None and now - self._last() >= self._ping_seconds:
            self._pinged_at = now
            await self._say(send, self._ping(), scope, last=False)

    def _last(self) -> float:
        """Return when the client last heard of us."""
        return max(self._told_at(), self._pinged_at)

    def _told_at(self) -> float:
        """Return when the source last said something, by whichever way."""
        return max(self._said_at, self._direct.said_at)

    def _due(self) -> float:
        """Return when there is next something to decide; a stall may begin at any moment until then."""
        if self._sending:
            return self._said_at + STALL_SECONDS
        look = min(self._told_at() + QUIET_SECONDS, clock.monotonic() + STALL_SECONDS)
        return look if self._ping is None else min(look, self._last() + self._ping_seconds)

    async def _say(self, send: Send, body: bytes, scope: CancelScope, *, last: bool) -> None:
        """Send something from beside the source. It is whole, so it may stand between any two batches;
        only the end of the response waits for it."""
        done = self._pinging = anyio.Event()
        with anyio.move_on_after(STALL_SECONDS) as limit:
            await send({"type": "http.response.body", "body": body, "more_body": not last})
        self._pinging = None
        done.set()
        if limit.cancelled_caught:
            scope.cancel()


async def _leave(receive: Receive, scope: CancelScope) -> None:
    """End the response when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _pieces(batch: list[bytes]) -> list[bytes]:
    """Join events into bodies of about `BODY_BYTES` at most; one larger event stays whole."""
    if len(batch) == 1:
        return batch
    pieces: list[bytes] = []
    start = size = 0
    for i, event in enumerate(batch):
        if size and size + len(event) > BODY_BYTES:
            pieces.append(b"".join(batch[start:i]))
            start, size = i, 0
        size += len(event)
    if size:
        pieces.append(b"".join(batch[start:]))
    return pieces
