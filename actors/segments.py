"""The parts of a log: what one run wrote, live at first, then packed, then compressed with its neighbours."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from actors import frozen
from actors.events import BlockChanged, Delta, Event, MessageCommitted, RunStarted, ToolReturned
from actors.frozen import DELTAS, Item, Packed
from storage.records import ImagePart, Part, ToolReturnPart

if TYPE_CHECKING:
    from actors.channels import Channel

EVENT_BYTES = 300  # an event, its slot in the log and what it alone refers to, on average
DELTA_BYTES = 120  # the same for a delta, beside its text
FROZEN_BYTES = 200  # a frozen run beside its compressed events
ALIAS_BYTES = 120  # the id of a joined run, and its place
PACK_AFTER = 4096  # live events of a running run before the older ones are packed

_NOTHING: list[Any] = []  # shared by all that are frozen or cleared; never appended to


def size_of(item: Item) -> int:
    """Return about what an item of a log costs in memory, in bytes. Every event passes here: one look-up."""
    size = _SIZES.get(type(item))
    return EVENT_BYTES if size is None else size(item)


def _of_delta(item: Delta) -> int:
    return DELTA_BYTES + len(item.text)


def _of_packed(item: Packed) -> int:
    return EVENT_BYTES + len(item.text) + len(item.cuts)


def _of_block(item: BlockChanged) -> int:
    """The value before lives on in here alone."""
    return EVENT_BYTES + len(item.before or "")


def _of_result(item: ToolReturned) -> int:
    """As long as its message, which shares them while it is live, may be."""
    return EVENT_BYTES + len(item.text) + _image_bytes(item.images)


def _of_message(item: MessageCommitted) -> int:
    return EVENT_BYTES + _image_bytes(item.message.content)


def _of_start(item: RunStarted) -> int:
    """Its messages are committed later, or never."""
    return EVENT_BYTES + sum(_image_bytes(message.content) for message in item.messages)


def _image_bytes(parts: Sequence[Part]) -> int:
    """Return what the images in a message cost: nothing else of one is megabytes long."""
    total = 0
    for part in parts:
        if isinstance(part, ImagePart):
            total += len(part.source.get("data") or "")
        elif isinstance(part, ToolReturnPart) and part.shown:
            total += _image_bytes(part.shown)
    return total


_SIZES: dict[type[Item], Callable[[Any], int]] = {
    **dict.fromkeys(DELTAS, _of_delta),
    Packed: _of_packed,
    BlockChanged: _of_block,
    ToolReturned: _of_result,
    MessageCommitted: _of_message,
    RunStarted: _of_start,
}


class Segment:
    """The part of a log that one run wrote (or what was said between runs, `run_id` None).

    Joined with those after it, it holds them too: `aliases` say where each of their runs begins.
    """

    __slots__ = (
        "aliases",
        "channel",
        "frozen",
        "live",
        "live_start",
        "packed",
        "run_id",
        "runs",
        "size_bytes",
        "start",
    )

    def __init__(self, channel: "Channel", run_id: str | None, start: int) -> None:
        self.channel = channel
        self.run_id = run_id
        self.runs = 1
        self.start = start
        self.aliases: dict[str, int] | None = None  # where other runs begin, joined or ended in here
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
        self.resize(sum(map(size_of, packed)) - sum(map(size_of, self.live)))
        self.packed += packed
        self.live_start += len(self.live)
        self.live = []

    def resize(self, by_bytes: int) -> None:
        """Count a change of size here and in the process's budget."""
        self.size_bytes += by_bytes
        self.channel.logs.size_bytes += by_bytes

    def clear(self) -> None:
        """Forget everything in here, and take it off the budget."""
        self.frozen, self.packed, self.live, self.aliases = None, _NOTHING, _NOTHING, None
        self.resize(-self.size_bytes)

    def read(self, offset: int, most: int | None = None) -> list[Event]:
        """Return the events from `offset` on, with `most` the first ones alone."""
        end = None if most is None else offset + most - self.live_start
        if offset >= self.live_start and self.frozen is None:
            return self.live[offset - self.live_start : end]
        packed = self.packed if self.frozen is None else frozen.thaw(self.frozen)
        events = frozen.unpack_part(packed, offset - self.start, most)
        return events + self.live[: end if end is None else max(0, end)]

    def find(self, run_id: str) -> int | None:
        """Return the offset at which a run's events begin in here, the newest where it began twice."""
        if self.aliases is not None and run_id in self.aliases:
            return self.aliases[run_id]
        return self.start if self.run_id == run_id else None

    def items(self) -> list[Item]:
        """Return everything in here, packed."""
        if self.frozen is not None:
            return frozen.thaw(self.frozen)
        self.squeeze()
        return self.packed


def join(segments: Sequence[Segment]) -> Segment:
    """Freeze neighbours as one, which is the first of them; the others hold nothing any more.

    Reading it thaws a copy of all.
    """
    first, last = segments[0], segments[-1]
    items: list[Item] = []
    places: dict[str, int] = {}
    for segment in segments:
        items += segment.items()
        if segment is not first and segment.run_id is not None:
            places[segment.run_id] = segment.start
        places |= segment.aliases or {}
    end, runs = last.end, sum(segment.runs for segment in segments)
    for segment in segments:
        segment.clear()
    first.frozen, first.aliases, first.runs = frozen.freeze(items), places or None, runs
    first.live_start = end
    first.resize(FROZEN_BYTES + len(first.frozen) + ALIAS_BYTES * len(places))
    return first
