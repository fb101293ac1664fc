"""Event logs and their followers: one ordered log per conversation, in memory, under one byte budget.

The log itself is the buffer of every follower: a follower is a cursor, so a slow one costs nothing
and nobody waits for it. Finished runs are packed (their deltas become one string and an array of
cuts, without loss) and, when the budget is spent, forgotten whole, oldest first.
"""

import asyncio
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from msgspec import Struct

from actors import clock
from actors.errors import LogTrimmedError
from actors.events import (
    Delta,
    Event,
    Logged,
    MessageCommitted,
    Position,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    RunSteered,
    TextDelta,
    ToolCallDelta,
)

EVENT_BYTES = 160  # an event, its slot in the log and its small strings
DELTA_BYTES = 72  # the same for a delta, beside its text
PACK_AFTER = 4096  # live events of a running run before the older ones are packed


class Packed(Struct, frozen=True, gc=False):
    """Consecutive deltas of one message, as one. `cuts[i]` is where delta i ends in `text`."""

    first: Delta
    text: str
    cuts: "array[int]"

    def deltas(self) -> list[Event]:
        """Return the deltas exactly as they were published."""
        out: list[Event] = []
        start = 0
        for end in self.cuts:
            out.append(_like(self.first, self.text[start:end]))
            start = end
        return out


def _like(delta: Delta, text: str) -> Delta:
    match delta:
        case TextDelta():
            return TextDelta(delta.run_id, delta.message_id, text)
        case ReasoningDelta():
            return ReasoningDelta(delta.run_id, delta.message_id, text)
        case ToolCallDelta():
            return ToolCallDelta(delta.run_id, delta.message_id, delta.call_id, text)


def _joins(a: Event, b: Event) -> bool:
    """Say whether delta `b` continues delta `a`."""
    match a, b:
        case (TextDelta(), TextDelta()) | (ReasoningDelta(), ReasoningDelta()):
            return a.message_id == b.message_id
        case (ToolCallDelta(), ToolCallDelta()):
            return a.call_id == b.call_id
        case _:
            return False


def pack(events: Sequence[Event]) -> list[Event | Packed]:
    """Return the events with every run of deltas joined; nothing is lost."""
    out: list[Event | Packed] = []
    i = 0
    while i < len(events):
        first = events[i]
        j = i + 1
        if isinstance(first, TextDelta | ReasoningDelta | ToolCallDelta):
            while j < len(events) and _joins(first, events[j]):
                j += 1
            if j - i > 1:
                texts = [
                    e.text for e in events[i:j] if isinstance(e, TextDelta | ReasoningDelta | ToolCallDelta)
                ]
                cuts: array[int] = array("I")
                end = 0
                for text in texts:
                    end += len(text)
                    cuts.append(end)
                out.append(Packed(_like(first, ""), "".join(texts), cuts))
                i = j
                continue
        out.append(first)
        i = j
    return out


def _bytes(item: Event | Packed) -> int:
    if isinstance(item, Packed):
        return EVENT_BYTES + len(item.text) + 4 * len(item.cuts)
    if isinstance(item, TextDelta | ReasoningDelta | ToolCallDelta):
        return DELTA_BYTES + len(item.text)
    if isinstance(item, MessageCommitted):
        return 6 * EVENT_BYTES
    return EVENT_BYTES


class Segment:
    """The part of a log that one run wrote (or what was said between runs, `run_id` None)."""

    __slots__ = ("channel", "live", "live_start", "packed", "run_id", "size_bytes", "start")

    def __init__(self, channel: "Channel", run_id: str | None, start: int) -> None:
        self.channel = channel
        self.run_id = run_id
        self.start = start
        self.packed: list[Event | Packed] = []
        self.live_start = start
        self.live: list[Event] = []
        self.size_bytes = 0

    @property
    def end(self) -> int:
        """The offset after the segment's last event."""
        return self.live_start + len(self.live)

    def squeeze(self) -> int:
        """Pack what is live; return by how many bytes the segment shrank."""
        before = self.size_bytes
        packed = pack(self.live)
        self.size_bytes -= sum(_bytes(e) for e in self.live)
        self.size_bytes += sum(_bytes(e) for e in packed)
        self.packed += packed
        self.live_start += len(self.live)
        self.live = []
        return before - self.size_bytes

    def read(self, offset: int) -> list[Event]:
        """Return the events from `offset` on."""
        if offset >= self.live_start:
            return self.live[offset - self.live_start :]
        events: list[Event] = []
        for item in self.packed:
            events += item.deltas() if isinstance(item, Packed) else (item,)
        return events[offset - self.start :] + self.live


class Channel:
    """The log of one conversation. Offsets start at 1 and grow by one per event."""

    __slots__ = ("epoch", "expected", "id", "logs", "next", "segments", "waiters")

    def __init__(self, logs: "Logs", channel_id: str) -> None:
        self.logs = logs
        self.id = channel_id
        self.epoch = clock.new_id("e")[2:10]
        self.next = 1
        self.segments: deque[Segment] = deque()
        self.expected: set[str] = set()  # accepted runs that have said nothing yet
        self.waiters: list[asyncio.Future[None]] = []

    @property
    def position(self) -> Position:
        """Where the log stands."""
        return Position(self.epoch, self.next - 1)

    def publish(self, *events: Event) -> None:
        """Append events and wake whoever follows. Never blocks."""
        segment = self.segments[-1] if self.segments else None
        for event in events:
            segment = self._place(segment, event)
            segment.live.append(event)
            size = _bytes(event)
            segment.size_bytes += size
            self.logs.size_bytes += size
            self.next += 1
            if isinstance(event, RunFinished):
                self._close(segment, event.run_id)
                segment = None
            elif len(segment.live) >= PACK_AFTER:
                self.logs.size_bytes -= segment.squeeze()
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if self.logs.size_bytes > self.logs.budget_bytes:
            self.logs.trim()

    def _place(self, segment: Segment | None, event: Event) -> Segment:
        """Return the segment this event belongs to: its run's, or a new one."""
        if isinstance(event, RunStarted):
            self.expected.discard(event.run_id)
        elif segment is not None and segment.run_id is not None and segment in self.logs.running:
            return segment
        run_id = event.run_id if isinstance(event, RunStarted) else None
        if segment is not None and run_id is None and segment not in self.logs.running:
            return segment
        segment = Segment(self, run_id, self.next)
        self.segments.append(segment)
        if run_id is None:
            self.logs.finished.append(segment)
        else:
            self.logs.running.add(segment)
        return segment

    def _close(self, segment: Segment, run_id: str) -> None:
        self.expected.discard(run_id)
        if segment.run_id == run_id:
            self.logs.running.discard(segment)
            self.logs.finished.append(segment)
        self.logs.size_bytes -= segment.squeeze()

    def find(self, run_id: str) -> int | None:
        """Return the offset at which a run's events begin, or None where the log has none of it."""
        for segment in reversed(self.segments):
            if segment.run_id == run_id:
                return segment.start
        for segment in reversed(self.segments):
            for place, event in enumerate(segment.read(segment.start)):
                if isinstance(event, RunSteered | RunFinished) and event.run_id == run_id:
                    return segment.start + place
        return None

    def read(self, offset: int) -> tuple[int, list[Event]]:
        """Return (offset of the first, events) from `offset` on, as far as one segment holds them."""
        for segment in reversed(self.segments):
            if segment.start <= offset:
                return (offset, segment.read(offset)) if offset < segment.end else (offset, [])
        if self.segments:
            return self.segments[0].start, self.segments[0].read(self.segments[0].start)
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
        self.running: set[Segment] = set()
        self.finished: deque[Segment] = deque()

    def channel(self, channel_id: str) -> Channel:
        """Return the log of a conversation, made at first use."""
        channel = self.channels.get(channel_id)
        if channel is None:
            channel = self.channels[channel_id] = Channel(self, channel_id)
        return channel

    def trim(self) -> None:
        """Forget finished runs, oldest first, until the budget holds; running runs are kept whole."""
        while self.size_bytes > self.budget_bytes and self.finished:
            segment = self.finished.popleft()
            channel = segment.channel
            if channel.segments and channel.segments[0] is segment:
                channel.segments.popleft()
            else:
                channel.segments.remove(segment)
            self.size_bytes -= segment.size_bytes
            if not channel.segments and not channel.waiters and not channel.expected:
                self.channels.pop(channel.id, None)

    def drop(self, channel_id: str) -> None:
        """Forget a channel whose conversation is gone."""
        channel = self.channels.pop(channel_id, None)
        if channel is None:
            return
        for segment in channel.segments:
            self.size_bytes -= segment.size_bytes
            self.running.discard(segment)
        self.finished = deque(s for s in self.finished if s.channel is not channel)
