"""Event logs and their followers: one ordered log per conversation, in memory, under one byte budget.

The log itself is the buffer of every follower: a follower is a cursor, so a slow one costs nothing
and nobody waits for it. Finished runs are frozen (their deltas packed, then all of it compressed with
that of their neighbours, without loss) and, when the budget is spent, forgotten whole, oldest first.

Beside followers there are listeners: functions called inside `publish`, for those who show everything to
many. They never raise and never block; a listener of a channel keeps it from being forgotten when empty.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from actors import clock
from actors.errors import LogTrimmedError
from actors.events import (
    Event,
    Logged,
    Position,
    RunFinished,
    RunStarted,
    RunStopped,
)
from actors.few import Few
from actors.finished import Finished
from actors.following import ENDS, Beside, Following
from actors.frozen import DELTAS
from actors.listeners import Ears, Listener, Watcher
from actors.segments import DELTA_BYTES, PACK_AFTER, Segment, size_of

SWEEP_CHANNELS = 10_000  # beyond them those of which nothing is known are forgotten

_LAST = (RunStopped, *ENDS)  # a run that never began says nothing before them

Hand = Callable[[int, Event], bool]  # takes the delta at an offset at once, or says that it cannot


class Channel:
    """The log of one conversation. Offsets start at 1 and grow by one per event."""

    __slots__ = (
        "agent_id",
        "ears",
        "epoch",
        "expected",
        "id",
        "logs",
        "more",
        "next",
        "running",
        "segments",
        "waiters",
    )

    def __init__(self, logs: "Logs", channel_id: str, agent_id: str) -> None:
        self.logs = logs
        self.id = channel_id
        self.agent_id = agent_id
        self.ears: Ears | None = None
        self.epoch = clock.new_epoch()
        self.next = 1
        self.more = 0  # events that listeners are told after this one, of the same publish
        self.segments: list[Segment] = []
        self.running: Segment | None = None
        self.expected = Few[str]()  # accepted runs that have said nothing yet
        self.waiters: list[asyncio.Future[None]] = []

    @property
    def position(self) -> Position:
        """Where the log stands."""
        return Position(self.epoch, self.next - 1)

    @property
    def listened(self) -> bool:
        """Whether anybody listens to this channel itself."""
        return self.ears is not None and bool(self.ears.all)

    @property
    def blank(self) -> bool:
        """Whether nothing is known of this channel and nobody waits for anything in it."""
        return not (self.segments or self.waiters or self.expected or self.listened)

    def publish(self, *events: Event) -> None:
        """Append events and wake whoever follows. Never blocks."""
        logs = self.logs
        between: Segment | None = None
        for event in events:
            segment = self.running
            if segment is not None and isinstance(event, DELTAS):  # the path of every token
                segment.live.append(event)
                size_bytes = DELTA_BYTES + len(event.text)
                segment.size_bytes += size_bytes
                logs.size_bytes += size_bytes
                self.next += 1
                if len(segment.live) >= PACK_AFTER:
                    segment.squeeze()
                continue
            segment = self._segment_of(event, between)
            between = segment if segment.run_id is None else None
            segment.live.append(event)
            segment.resize(size_of(event))
            self.next += 1
            if isinstance(event, RunFinished):
                self._end(segment, event.run_id)
        if logs.heard:
            logs.tell_listeners(self, events)
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if logs.size_bytes > logs.budget_bytes:
            logs.trim()

    def _segment_of(self, event: Event, between: Segment | None) -> Segment:
        """Return the segment that an event is said in: it may begin one, or end another run in one."""
        segment = self.running
        if isinstance(event, RunStarted):
            return self._begin(event.run_id)
        if segment is None:
            return between or self._between()
        if isinstance(event, _LAST) and event.run_id != segment.run_id:
            segment.aliases = {event.run_id: self.next, **(segment.aliases or {})}
            self.expected.discard(event.run_id)
        return segment

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

    def _knows(self, run_id: str) -> bool:
        """Say whether the log has something of this run, or is to have it."""
        return run_id in self.expected or self.find(run_id) is not None

    def find(self, run_id: str) -> int | None:
        """Return the offset at which a run's events begin, or None where the log has none of it."""
        for segment in reversed(self.segments):
            if (place := segment.find(run_id)) is not None:
                return place
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

    def since(self, offset: int, most: int | None = None) -> list[tuple[int, Event]] | None:
        """Return everything after `offset`, each event with its own; with `most` the first ones alone.

        None where part of it was forgotten, or where the log never came as far.
        """
        begin = offset + 1
        if not 0 < begin <= self.next:
            return None
        if begin == self.next:
            return []
        if not self.segments or self.segments[0].start > begin:
            return None
        found: list[tuple[int, Event]] = []
        for segment in self.segments:
            if most is not None and len(found) >= most:
                break
            if segment.end > begin:
                first = max(segment.start, begin)
                wanted = None if most is None else most - len(found)
                found += enumerate(segment.read(first, wanted), first)
        return found

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from here on, in order, with its offset; return what ends that.

        It is called inside of `publish`: it must neither block nor raise. Ended, it is never called again.
        Listening twice is being called twice.
        """
        if self.ears is None:
            self.ears = Ears(self.logs)
        return self.ears.add(listener)

    async def wait(self) -> None:
        """Return after the next publish. Cancelling loses nothing."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        await waiter

    async def follow(
        self, run_id: str, hand: Hand | None = None, *, beside: Beside | None = None
    ) -> AsyncGenerator[list[Logged], None]:
        """Yield a run's events in batches, from its first to its `RunFinished`.

        Waits while the run is queued. A run that joined another is followed into it. A delta that `hand`
        takes the moment it is said, while nothing else is due, is not yielded. After the run's first event
        others that are `beside` it are yielded as well.

        Raises:
            LogTrimmedError: The run is over and its events are no longer in memory.
        """
        cursor = self.find(run_id)
        if cursor is None:
            if run_id not in self.expected:
                raise LogTrimmedError(run_id)
            cursor = self.next
        following = Following(run_id, beside)
        while not following.ended:
            if cursor >= self.next:
                if hand is None:
                    await self.wait()
                else:
                    cursor = await self._offered(following.run_id, hand, beside)
                continue
            first, events = self.read(cursor)
            if first > cursor and not self._knows(following.run_id):
                raise LogTrimmedError(run_id)
            cursor = first + len(events)
            if batch := following.of(first, events):
                yield batch

    async def _offered(self, run_id: str, hand: Hand, beside: Beside | None) -> int:
        """Offer `hand` what is said; return the offset of the first event that it did not take."""
        refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def offer(_: Channel, offset: int, event: Event) -> None:
            if refused.done() or (event.run_id != run_id and (beside is None or not beside(event, run_id))):
                return
            try:
                taken = isinstance(event, DELTAS) and hand(offset, event)
            except Exception:  # noqa: BLE001 - whoever speaks has no part in it: the follower meets it again
                taken = False
            if not taken:
                refused.set_result(offset)

        stop = self.listen(offer)
        try:
            return await refused
        finally:
            stop()


class Logs:
    """Every channel of this process under one byte budget.

    `on_gone` are called when a conversation, or with None all of an agent, exists no more: (agent,
    conversation). Like listeners they neither block nor raise.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.size_bytes = 0
        self.channels: dict[str, Channel] = {}
        self.on_gone: list[Callable[[str, str | None], None]] = []
        self.heard = 0  # listeners and watchers of all kinds
        self._watchers: dict[str, Ears] = {}
        self._watching_all = Ears(self)
        self._finished = Finished()
        self._sweep_at = SWEEP_CHANNELS

    def channel(self, channel_id: str, agent_id: str) -> Channel:
        """Return the log of a conversation of this agent, made at first use."""
        channel = self.channels.get(channel_id)
        if channel is None:
            if len(self.channels) >= self._sweep_at:
                self._sweep()
            channel = self.channels[channel_id] = Channel(self, channel_id, agent_id)
        return channel

    def _sweep(self) -> None:
        """Forget the channels that somebody only looked at; they cost no bytes of the budget."""
        self.channels = {name: channel for name, channel in self.channels.items() if not channel.blank}
        self._sweep_at = max(SWEEP_CHANNELS, 2 * len(self.channels))

    # --- listeners ----------------------------------------------------------------------------------

    def watch(self, agent_id: str, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` with every event of every conversation of an agent; return what ends that.

        Events that belong to no conversation come without a channel, at offset 0. See `Channel.listen`.
        """
        ears = self._watchers.get(agent_id)
        if ears is None:
            ears = self._watchers[agent_id] = Ears(self)
        end = ears.add(watcher)

        def unwatch() -> None:
            end()
            if not ears.all and self._watchers.get(agent_id) is ears:
                del self._watchers[agent_id]

        return unwatch

    def watch_all(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` with every event of every conversation there is; return what ends that.

        See `watch`; what belongs to no conversation only the watchers of its agent hear.
        """
        return self._watching_all.add(watcher)

    def tell(self, agent_id: str, *events: Event) -> None:
        """Tell an agent's watchers what belongs to no conversation. It is not logged."""
        ears = self._watchers.get(agent_id)
        if ears is None:
            return
        heard = ears.all
        for event in events:
            for ear in heard:
                ear.call(None, 0, event)

    def tell_listeners(self, channel: Channel, events: tuple[Event, ...]) -> None:
        """Tell whoever listens to a channel what was just appended to it."""
        own, watchers = channel.ears, self._watchers.get(channel.agent_id)
        ears = () if own is None else own.all
        if watchers is not None:
            ears += watchers.all
        ears += self._watching_all.all
        if not ears:
            return
        more = len(events)
        offset = channel.next - more
        for event in events:
            more -= 1
            channel.more = more
            for ear in ears:
                ear.call(channel, offset, event)
            offset += 1

    # --- bounds -------------------------------------------------------------------------------------

    def finish(self, segment: Segment) -> None:
        """Count a segment among those that may be frozen and forgotten."""
        self._finished.add(segment)

    async def freeze(self) -> None:
        """Freeze what was finished before the last call; by now its followers have read it."""
        await self._finished.freeze()

    def trim(self) -> None:
        """Forget finished runs, oldest first, until the budget holds; running runs are kept whole."""
        while self.size_bytes > self.budget_bytes and (segment := self._finished.pop()) is not None:
            channel = segment.channel
            channel.segments.remove(segment)
            segment.clear()
            if channel.blank:
                self.channels.pop(channel.id, None)

    def drop(self, channel_id: str, agent_id: str) -> None:
        """Forget the channel of a conversation that is gone, and say so."""
        channel = self.channels.pop(channel_id, None)
        if channel is not None:
            for segment in channel.segments:
                segment.clear()
            self._finished.leave(channel)
            # Whoever still reads here is told that it is forgotten; a run that goes on begins a segment anew.
            channel.segments, channel.running = [], None
        self._gone(agent_id, channel_id)

    def bury(self, agent_id: str, conversation_ids: Iterable[str]) -> None:
        """Forget all of an agent that is gone, and say so."""
        for conversation_id in conversation_ids:
            self.drop(conversation_id, agent_id)
        self._gone(agent_id, None)

    def _gone(self, agent_id: str, conversation_id: str | None) -> None:
        for listener in tuple(self.on_gone):
            listener(agent_id, conversation_id)
