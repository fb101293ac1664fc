"""The order in which one agent's conversations spoke: an index over their logs, with offsets of its own."""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from actors import clock
from actors.channels import Channel
from actors.events import Event, Position

MAX_SLICES = 20_000  # of one agent, about 100 bytes each; then the oldest are forgotten

Entry = tuple[int, Channel | None, Event]  # the offset here, the conversation's log, the event


class Begun(Struct, frozen=True, gc=False):
    """Where each conversation's run that runs began, in the agent's order, and where that stood then."""

    starts: dict[Channel, int]
    top: int


class Slice:
    """Consecutive events of one conversation's log; or one event that belongs to none."""

    __slots__ = ("channel", "count", "event", "first", "start")

    def __init__(self, start: int, channel: Channel | None, first: int, event: Event | None) -> None:
        self.start = start
        self.channel = channel
        self.first = first
        self.count = 1
        self.event = event

    @property
    def end(self) -> int:
        """The offset after the last event, in the agent's order."""
        return self.start + self.count

    def continued_by(self, channel: Channel, offset: int) -> bool:
        """Say whether this is the conversation's next event."""
        return self.channel is channel and self.first + self.count == offset

    def without(self, skip: int) -> "Slice":
        """Return the slice without its first events."""
        rest = Slice(self.start + skip, self.channel, self.first + skip, self.event)
        rest.count = self.count - skip
        return rest

    def within(self, begin: int, end: int) -> "Slice":
        """Return what of the slice, which has some of it, is from `begin` on and before `end`."""
        part = self.without(max(0, begin - self.start))
        part.count -= max(0, self.end - end)
        return part


class AgentLog:
    """An ordered log of all conversations of an agent. The events themselves stay in theirs.

    Offsets start at 1 and grow by one per event. What a conversation's log forgot is forgotten here.
    """

    __slots__ = ("_slices", "epoch", "next")

    def __init__(self) -> None:
        self.epoch = clock.new_epoch()
        self.next = 1
        self._slices: deque[Slice] = deque()

    def __len__(self) -> int:
        return len(self._slices)

    @property
    def position(self) -> Position:
        """Where the log stands."""
        return Position(self.epoch, self.next - 1)

    def seed(self, channels: Iterable[Channel]) -> None:
        """Begin with what the running runs of these conversations said so far, one after the other."""
        for channel in channels:
            if channel.running is not None and channel.running.start < channel.next:
                told = Slice(self.next, channel, channel.running.start, None)
                told.count = channel.next - channel.running.start
                self._slices.append(told)
                self.next += told.count

    def append(self, channel: Channel | None, offset: int, event: Event) -> int:
        """Note the next event and return its offset here."""
        place = self.next
        self.next += 1
        last = self._slices[-1] if self._slices else None
        if last is not None and channel is not None and last.continued_by(channel, offset):
            last.count += 1
            return place
        self._slices.append(Slice(place, channel, offset, event if channel is None else None))
        if len(self._slices) > MAX_SLICES:
            self._slices.popleft()
        return place

    def since(self, offset: int, most: int | None = None) -> list[Entry] | None:
        """Return everything after `offset`; None where part of it is forgotten or was never here.

        With `most` the first ones alone.
        """
        begin = offset + 1
        if not 0 < begin <= self.next:
            return None
        if begin == self.next:
            return []
        if not self._slices or self._slices[0].start > begin:
            return None
        end = self.next if most is None else min(self.next, begin + most)
        return self._read([s.within(begin, end) for s in self._slices if s.start < end and s.end > begin])

    def holds(self, offset: int) -> bool:
        """Say whether everything after `offset` is still here; without reading it."""
        begin = offset + 1
        if not 0 < begin <= self.next:
            return False
        if begin == self.next:
            return True
        if not self._slices or self._slices[0].start > begin:
            return False
        wanted = (part.within(begin, self.next) for part in self._slices if part.end > begin)
        return all(part.channel is None or _oldest(part.channel) <= part.first for part in wanted)

    def begun(self) -> Begun:
        """Return where the runs that run began. One of which the start is forgotten here is left out."""
        starts: dict[Channel, int] = {}
        passed: set[Channel] = set()
        for part in self._slices:
            channel = part.channel
            if channel is None or channel.running is None or channel in passed:
                continue
            skip = channel.running.start - part.first
            if skip < part.count:
                passed.add(channel)
                if skip >= 0:
                    starts[channel] = part.start + skip
        return Begun(starts, self.next - 1)

    def told(self, begun: Begun, after: int, most: int | None = None) -> list[Entry] | None:
        """Return, after a place, what those runs said until then and everything that was said since.

        With `most` the first ones alone. None where part of it is forgotten.
        """
        begin = max(after + 1, min(begun.starts.values(), default=begun.top + 1))
        if self._slices and self._slices[0].start > begin:
            return None
        wanted: list[Slice] = []
        count = 0
        for part in self._slices:
            first = begun.top + 1
            if part.channel is not None:
                first = min(first, begun.starts.get(part.channel, first))
            first = max(first, after + 1)
            if first >= part.end:
                continue
            wanted.append(part.within(first, part.end))
            count += wanted[-1].count
            if most is not None and count >= most:
                wanted[-1].count -= count - most
                break
        return self._read(wanted)

    def kept(self, before: int | None = None, most: int | None = None) -> list[Entry]:
        """Return everything that is still here, without what is older than something forgotten.

        With `before` and `most` the last ones before that offset.
        """
        end = self.next if before is None else min(self.next, before)
        begin = 0 if most is None else end - most
        wanted: list[Slice] = []
        for part in reversed(self._slices):
            if part.start >= end:
                continue
            oldest = part.start
            if part.channel is not None:
                oldest += max(0, _oldest(part.channel) - part.first)
            if max(oldest, begin) < min(part.end, end):
                wanted.append(part.within(max(oldest, begin), end))
            if max(oldest, begin) > part.start:
                break
        wanted.reverse()
        return self._read(wanted) or []

    def _read(self, slices: list[Slice]) -> list[Entry] | None:
        """Return the events of slices, each conversation read once; None where one forgot some."""
        needed: dict[Channel, int] = {}
        ends: dict[Channel, int] = {}
        for part in slices:
            if part.channel is not None:
                needed.setdefault(part.channel, part.first)  # slices are in order, so it is the least
                ends[part.channel] = part.first + part.count
        found: dict[Channel, list[tuple[int, Event]]] = {}
        for channel, first in needed.items():
            events = channel.since(first - 1, ends[channel] - first)
            if events is None:
                return None
            found[channel] = events
        entries: list[Entry] = []
        for part in slices:
            if part.channel is None:
                assert part.event is not None
                entries.append((part.start, None, part.event))
                continue
            skip = part.first - needed[part.channel]
            events = found[part.channel][skip : skip + part.count]
            entries += [(part.start + i, part.channel, event) for i, (_, event) in enumerate(events)]
        return entries


def _oldest(channel: Channel) -> int:
    """Return the offset of the first event that a log still has."""
    return channel.segments[0].start if channel.segments else channel.next
