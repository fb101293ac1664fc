"""Who follows a channel: each frame goes to every subscriber that wants it, at the pace it asked for."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from actors.events import Position
from actors.frozen import DELTAS
from gateway.feeds import frames
from gateway.feeds.choices import Choice
from gateway.feeds.frames import Frame
from gateway.realtime.protocol import INSUFFICIENT_STATE, Subscribe

log = logging.getLogger("wakeful.gateway")

# That wait for a paced subscriber before they are merged, and sent where that is no help.
PENDING_FRAMES = 256
PENDING_BYTES = 64 * 1024
TOGETHER_BYTES = 16 * 1024  # of frames that are written at once

Write = Callable[[bytes], None]  # takes whole websocket frames


class Sink(Protocol):
    """Where a subscriber's frames go: the outbound side of a connection."""

    def send(self, frame: Frame) -> None:
        """Take a frame. Never blocks, never raises."""
        ...

    def way(self, changed: Callable[[], None]) -> Write | None:
        """Return what takes frames as `send` would, but at once; None where only `send` knows what to do.

        That holds until `changed` is called, which the sink does whenever the answer may be another one.
        """
        ...

    def ended(self, channel: str, code: int, reason: str) -> None:
        """The server ended the subscription; nothing more comes of it."""
        ...


class Rest(Protocol):
    """What a subscriber still has to be sent before it follows live."""

    @property
    def behind(self) -> bool:
        """Whether there is a further piece."""
        ...

    def piece(self) -> list[bytes]:
        """Return the next publications, in order; after the last ones the subscriber is live.

        Raises:
            ForgottenError: They are not there any more; the subscription is to be ended.
        """
        ...


class Subscribed(Struct):
    """A subscription: where it stands, what was missed until there, and how to end it.

    Without a `rest` it is live.
    """

    epoch: str
    offset: int
    recoverable: bool
    positioned: bool
    was_recovering: bool
    recovered: bool
    publications: list[bytes]
    close: Callable[[], None]
    rest: Rest | None = None


class Subscription:
    """One subscriber of one channel. One that is `behind` hears nothing: it still gets what it missed."""

    __slots__ = ("audience", "behind", "choice", "pace", "sink")

    def __init__(self, sink: Sink, choice: Choice) -> None:
        self.sink = sink
        self.choice = choice
        self.behind = False
        self.audience: Audience | None = None
        self.pace = None if choice.rate is None else Pace(sink, 1 / choice.rate)

    def offer(self, frame: Frame) -> None:
        """Take a frame, if it is wanted."""
        if not self.choice.takes(frame):
            return
        if self.pace is None:
            self.sink.send(frame)
        else:
            self.pace.take(frame)

    def caught_up(self) -> None:
        """It has been given everything: from the next frame on it hears what is said."""
        self.behind = False
        if self.audience is not None:
            self.audience.sort_anew()

    def close(self) -> None:
        """Leave the channel. Closing twice is no error; what waits for its time is dropped."""
        if self.pace is not None:
            self.pace.stop()
        if self.audience is not None:
            audience, self.audience = self.audience, None
            audience.leave(self)


class Pace:
    """Sends at most one publication per interval as long as fragments of streams are all that comes.

    Fragments that wait are merged where they are adjacent. Anything else sends them first, and goes at once:
    it is never late, lost, or out of order.
    """

    __slots__ = ("_bytes", "_interval", "_next", "_pending", "_sink", "_timer")

    def __init__(self, sink: Sink, interval: float) -> None:
        self._sink = sink
        self._interval = interval
        self._pending: list[Frame] = []
        self._bytes = 0
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, frame: Frame) -> None:
        """Send a frame now or in its time."""
        if not isinstance(frame.event, DELTAS) and frame.patch is None:
            self.flush()
            self._sink.send(frame)
            return
        loop = asyncio.get_running_loop()
        if not self._pending and loop.time() >= self._next:
            self._next = loop.time() + self._interval
            self._sink.send(frame)
            return
        self._pending.append(frame)
        self._bytes += len(frame.wire)
        if self._timer is None:
            self._timer = loop.call_at(self._next, self._due)
        if self._bytes > PENDING_BYTES:
            self._squeeze()

    def _squeeze(self) -> None:
        """Merge what waits; send it where there is still too much of it."""
        self._pending = _squeezed(self._pending)
        self._bytes = sum(len(frame.wire) for frame in self._pending)
        if self._bytes > PENDING_BYTES // 2 or len(self._pending) > PENDING_FRAMES:
            self.flush()

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            return
        pending, self._pending, self._bytes = self._pending, [], 0
        self._next = asyncio.get_running_loop().time() + self._interval
        for frame in _squeezed(pending):
            self._sink.send(frame)

    def stop(self) -> None:
        """Drop what waits, and never send again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pending = []


def _squeezed(pending: Sequence[Frame]) -> list[Frame]:
    """Return the same in fewer frames: fragments joined, adjacent patches made one."""
    out: list[Frame] = []
    for frame in frames.merged(pending):
        joined = frames.merge(out[-1], frame) if out and frame.patch is not None else None
        if joined is None:
            out.append(frame)
        else:
            out[-1] = joined
    return out


def fail(error: Exception, end: Callable[[int, str], None]) -> None:
    """A feed failed while an agent spoke: nothing of that reaches the agent, `end` the subscriptions instead.

    Their clients come back, and get what they missed as far as it can be shown.
    """
    log.error("feed failed", exc_info=error)
    end(INSUFFICIENT_STATE, "insufficient state")


def seen(request: Subscribe, at: Position) -> bool:
    """Say whether a subscriber of state has seen the state `at`."""
    return request.recover and (request.epoch, request.offset) == (at.epoch, at.offset)


def joined_state(
    member: Subscription,
    request: Subscribe,
    *,
    at: Position,
    publications: list[bytes] | None,
    rest: Rest | None = None,
) -> Subscribed:
    """Return what a subscriber of state gets: the state `at`, or None where it has `seen` that."""
    return Subscribed(
        epoch=at.epoch,
        offset=at.offset,
        recoverable=True,
        positioned=True,
        was_recovering=request.recover,
        recovered=publications is None,
        publications=publications or [],
        close=member.close,
        rest=rest,
    )


class _Hearing:
    """Those subscribers who want everything of a channel, or everything but thoughts.

    Where their connections take it, frames are written to them past all that stands between: each of these
    objects would be touched anew after every system call, which costs more than what it does.
    """

    __slots__ = ("_members", "_writes")

    def __init__(self, members: Iterable[Subscription], changed: Callable[[], None]) -> None:
        ways = [(member, member.sink.way(changed)) for member in members]
        self._writes = tuple([write for _, write in ways if write is not None])
        self._members = tuple([member for member, write in ways if write is None])

    def hear(self, frames: Sequence[Frame]) -> None:
        """Give them these frames."""
        data = frames[0].wire if len(frames) == 1 else b"".join([frame.wire for frame in frames])
        for write in self._writes:
            write(data)
        for member in self._members:
            for frame in frames:
                if member.audience is not None:
                    member.sink.send(frame)


class Audience:
    """The subscribers of one channel.

    Most want everything: they are written to in one pass. The others are asked one by one.
    """

    __slots__ = ("_blind", "_choosy", "_held", "_held_bytes", "_members", "_on_empty", "_stale", "_trusted")

    def __init__(self, on_empty: Callable[[], None]) -> None:
        self._on_empty = on_empty
        self._members: dict[Subscription, None] = {}
        self._stale = False
        self._trusted = self._blind = _Hearing((), self.sort_anew)
        self._choosy: tuple[Subscription, ...] = ()
        self._held: list[Frame] = []
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._members)

    def join(self, member: Subscription) -> None:
        """Deliver to this subscriber from the next frame on."""
        member.audience = self
        self._members[member] = None
        self._stale = True

    def leave(self, member: Subscription) -> None:
        """Deliver to it no more."""
        self._members.pop(member, None)
        self._stale = True
        if not self._members:
            self._on_empty()

    def send(self, frame: Frame, *, more: bool = False) -> None:
        """Give a frame to everyone who wants it. With `more` it is given together with the next one.

        The caller sends that before it returns to the loop.
        """
        if not more and not self._held:
            self._give((frame,))
            return
        self._held.append(frame)
        self._held_bytes += len(frame.wire)
        if not more or self._held_bytes >= TOGETHER_BYTES:
            self._give_held()

    def _give_held(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._give(held)

    def _give(self, frames: Sequence[Frame]) -> None:
        if self._stale:
            self._sort()
        self._trusted.hear(frames)
        if shown := [frame for frame in frames if not frame.thought]:
            self._blind.hear(shown)
        for member in self._choosy:
            for frame in frames:
                if member.audience is self:
                    member.offer(frame)

    def sort_anew(self) -> None:
        """Look at the subscribers again before the next frame: one of them changed."""
        self._stale = True

    def _sort(self) -> None:
        self._stale = False
        hearing = [member for member in self._members if not member.behind]
        plain = [member for member in hearing if not member.choice.filters]
        self._trusted = _Hearing([m for m in plain if m.choice.thoughts], self.sort_anew)
        self._blind = _Hearing([m for m in plain if not m.choice.thoughts], self.sort_anew)
        self._choosy = tuple([member for member in hearing if member.choice.filters])

    def end(self, channel: str, code: int, reason: str) -> None:
        """End every subscription, and say why. What waits, for its time or its next, goes out before."""
        self._give_held()
        for member in tuple(self._members):
            if member.pace is not None:
                member.pace.flush()
            member.close()
            member.sink.ended(channel, code, reason)
