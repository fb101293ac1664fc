"""Event logs and their followers: one ordered log per conversation, in memory, under one byte budget.

The log itself is the buffer of every follower: a follower is a cursor, so a slow one costs nothing
and nobody waits for it. Finished runs are frozen (their deltas packed, then all of it compressed,
without loss) and, when the budget is spent, forgotten whole, oldest first.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import anyio.lowlevel

from actors import clock, frozen
from actors.errors import LogTrimmedError
from actors.events import Event, Logged, Position, RunFinished, RunStarted, RunSteered
from actors.frozen import DELTAS, Item, Packed

EVENT_BYTES = 300  # an event, its slot in the log and what it alone refers to, on average
DELTA_BYTES = 120  # the same for a delta, beside its text
FROZEN_BYTES = 200  # a frozen run beside its compressed events
PACK_AFTER = 4096  # live events of a running run before the older ones are packed
FREEZE_BATCH = 32  # runs frozen between two looks at the event loop; about 50 µs each

_NOTHING: list[Any] = []  # shared by all frozen segments; never appended to


def _bytes(item: Item) -> int:
    if isinstance(item, DELTAS):
        return DELTA_BYTES + len(item.text)
    if isinstance(item, Packed):
        return EVENT_BYTES + len(item.text) + len(item.cuts)
    return EVENT_BYTES


class Segment:
    """The part of a log that one run wrote (or what was said between runs, `run_id` None)."""

    __slots__ = (
        "aliases",
        "channel",
        "frozen",
        "live",
        "live_start",
        "packed",
        "run_id",
        "size_bytes",
        "start",
    )

    def __init__(self, channel: "Channel", run_id: str | None, start: int) -> None:
        self.channel = channel
        self.run_id = run_id
        self.start = start
        self.aliases: dict[str, int] | None = None  # where other runs joined or ended in here
        self.frozen: bytes | None = None
        self.packed: list[Item] = []
        self.live_start = start
        self.live: list[Event] = []
        self.size_bytes = 0

    @property
    def end(self) -> int:
        """The offset after the segment's last event."""
        return self.live_start + len(self.live)

    def squeeze(self) -> None:
        """Pack what is live."""
        packed = frozen.pack(self.live)
        self.resize(sum(map(_bytes, packed)) - sum(map(_bytes, self.live)))
        self.packed += packed
        self.live_start += len(self.live)
        self.live = []

    def freeze(self) -> None:
        """Compress a finished segment; reading it thaws a copy."""
        self.squeeze()
        self.frozen = frozen.freeze(self.packed)
        self.packed = self.live = _NOTHING
        self.resize(FROZEN_BYTES + len(self.frozen) - self.size_bytes)

    def resize(self, by_bytes: int) -> None:
        """Count a change of size here and in the process's budget."""
        self.size_bytes += by_bytes
        self.channel.logs.size_bytes += by_bytes

    def read(self, offset: int) -> list[Event]:
        """Return the events from `offset` on."""
        if offset >= self.live_start and self.frozen is None:
            return self.live[offset - self.live_start :]
        events = frozen.unpack(self.packed if self.frozen is None else frozen.thaw(self.frozen))
        return events[offset - self.start :] + self.live


class Channel:
    """The log of one conversation. Offsets start at 1 and grow by one per event."""

    __slots__ = ("epoch", "expected", "id", "logs", "next", "running", "segments", "waiters")

    def __init__(self, logs: "Logs", channel_id: str) -> None:
        self.logs = logs
        self.id = channel_id
        self.epoch = clock.new_id("e")[2:10]
        self.next = 1
        self.segments: list[Segment] = []
        self.running: Segment | None = None
        self.expected: set[str] = set()  # accepted runs that have said nothing yet
        self.waiters: list[asyncio.Future[None]] = []

    @property
    def position(self) -> Position:
        """Where the log stands."""
        return Position(self.epoch, self.next - 1)

    def publish(self, *events: Event) -> None:
        """Append events and wake whoever follows. Never blocks."""
        for event in events:
            segment = self.running
            if segment is not None and isinstance(event, DELTAS):  # the path of every token
                segment.live.append(event)
                segment.size_bytes += DELTA_BYTES + len(event.text)
                self.logs.size_bytes += DELTA_BYTES + len(event.text)
                self.next += 1
                if len(segment.live) >= PACK_AFTER:
                    segment.squeeze()
                continue
            if isinstance(event, RunStarted):
                segment = self._begin(event.run_id)
            elif segment is None:
                segment = self._between()
            elif isinstance(event, RunSteered | RunFinished) and event.run_id != segment.run_id:
                segment.aliases = {event.run_id: self.next, **(segment.aliases or {})}
                self.expected.discard(event.run_id)
            segment.live.append(event)
            segment.resize(_bytes(event))
            self.next += 1
            if isinstance(event, RunFinished):
                self._end(segment, event.run_id)
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if self.logs.size_bytes > self.logs.budget_bytes:
            self.logs.trim()

    def _begin(self, run_id: str) -> Segment:
        """Start the segment of a run. A run that never said its end was cut off by a crash of its turn."""
        self.expected.discard(run_id)
        if self.running is not None:
            self.logs.finish(self.running)
        self.running = Segment(self, run_id, self.next)
        self.segments.append(self.running)
        return self.running

    def _between(self) -> Segment:
        """Return a segment for what is said while no run runs."""
        segment = Segment(self, None, self.next)
        self.segments.append(segment)
        self.logs.finish(segment)
        return segment

    def _end(self, segment: Segment, run_id: str) -> None:
        self.expected.discard(run_id)
        if segment.run_id == run_id:
            self.running = None
            self.logs.finish(segment)
        elif segment.run_id is None:
            segment.aliases = {run_id: segment.start, **(segment.aliases or {})}

    def awaits(self, run_id: str) -> bool:
        """Say whether the log lacks the end of this run: it has begun here, or is expected to."""
        if self.running is not None and self.running.run_id == run_id:
            return True
        return run_id in self.expected and self.find(run_id) is None

    def find(self, run_id: str) -> int | None:
        """Return the offset at which a run's events begin, or None where the log has none of it."""
        for segment in reversed(self.segments):
            if segment.run_id == run_id:
                return segment.start
            if segment.aliases is not None and run_id in segment.aliases:
                return segment.aliases[run_id]
        return None

    def read(self, offset: int) -> tuple[int, list[Event]]:
        """Return (offset of the first, events) from `offset` on, as far as one segment holds them.

        Where they were forgotten, the oldest that are kept.
        """
        for segment in reversed(self.segments):
            if segment.start <= offset:
                return offset, segment.read(offset)
        if self.segments:
            oldest = self.segments[0]
            return oldest.start, oldest.read(oldest.start)
        return self.next, []

    async def wait(self) -> None:
        """Return after the next publish. Cancelling loses nothing."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        await waiter

    async def follow(self, run_id: str) -> AsyncGenerator[list[Logged], None]:
        """Yield a run's events in batches, from its first to its `RunFinished`.

        Waits while the run is queued. A run that joined another is followed into it.

        Raises:
            LogTrimmedError: The run is over and its events are no longer in memory.
        """
        cursor = self.find(run_id)
        if cursor is None:
            if run_id not in self.expected:
                raise LogTrimmedError(run_id)
            cursor = self.next
        following = run_id
        while True:
            if cursor >= self.next:
                await self.wait()
                continue
            first, events = self.read(cursor)
            if first > cursor and self.find(following) is None and following not in self.expected:
                raise LogTrimmedError(run_id)
            batch: list[Logged] = []
            for place, event in enumerate(events):
                if event.run_id != following:
                    continue
                batch.append(Logged(first + place, event))
                if isinstance(event, RunSteered):
                    following = event.into
                elif isinstance(event, RunFinished):
                    yield batch
                    return
            cursor = first + len(events)
            if batch:
                yield batch


class Logs:
    """Every channel of this process under one byte budget."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.size_bytes = 0
        self.channels: dict[str, Channel] = {}
        self._finished: deque[Segment] = deque()
        self._warm: deque[Segment] = deque()  # finished, and perhaps not read to their end yet
        self._cooling = 0

    def channel(self, channel_id: str) -> Channel:
        """Return the log of a conversation, made at first use."""
        channel = self.channels.get(channel_id)
        if channel is None:
            channel = self.channels[channel_id] = Channel(self, channel_id)
        return channel

    def finish(self, segment: Segment) -> None:
        """Count a segment among those that may be frozen and forgotten."""
        self._finished.append(segment)
        self._warm.append(segment)

    async def freeze(self) -> None:
        """Freeze what was finished before the last call; by now its followers have read it."""
        cooling, self._cooling = self._cooling, 0
        while cooling > 0:
            for _ in range(min(cooling, FREEZE_BATCH)):
                segment = self._warm.popleft()
                if segment.size_bytes:  # else it was forgotten meanwhile
                    segment.freeze()
            cooling -= FREEZE_BATCH
            await anyio.lowlevel.checkpoint()
        self._cooling = len(self._warm)

    def trim(self) -> None:
        """Forget finished runs, oldest first, until the budget holds; running runs are kept whole."""
        while self.size_bytes > self.budget_bytes and self._finished:
            segment = self._finished.popleft()
            segment.channel.segments.remove(segment)
            self._forget(segment)
            channel = segment.channel
            if not channel.segments and not channel.waiters and not channel.expected:
                self.channels.pop(channel.id, None)

    def drop(self, channel_id: str) -> None:
        """Forget a channel whose conversation is gone."""
        channel = self.channels.pop(channel_id, None)
        if channel is None:
            return
        for segment in channel.segments:
            self._forget(segment)
        self._finished = deque(s for s in self._finished if s.channel is not channel)

    def _forget(self, segment: Segment) -> None:
        """Take a segment off the budget; a warm one is passed over when its turn to freeze comes."""
        segment.packed, segment.live, segment.frozen = [], [], None
        segment.resize(-segment.size_bytes)
