"""The parts of a log: what one run wrote, live at first, then packed, then compressed."""

from typing import TYPE_CHECKING, Any

from actors import frozen
from actors.events import BlockChanged, Event, ToolReturned
from actors.frozen import DELTAS, Item, Packed

if TYPE_CHECKING:
    from actors.channels import Channel

EVENT_BYTES = 300  # an event, its slot in the log and what it alone refers to, on average
DELTA_BYTES = 120  # the same for a delta, beside its text
FROZEN_BYTES = 200  # a frozen run beside its compressed events
PACK_AFTER = 4096  # live events of a running run before the older ones are packed

_NOTHING: list[Any] = []  # shared by all frozen segments; never appended to


def size_of(item: Item) -> int:
    """Return about what an item of a log costs in memory, in bytes."""
    if isinstance(item, DELTAS):
        return DELTA_BYTES + len(item.text)
    if isinstance(item, Packed):
        return EVENT_BYTES + len(item.text) + len(item.cuts)
    if isinstance(item, BlockChanged):  # the value before lives on in here alone
        return EVENT_BYTES + len(item.before or "")
    if isinstance(item, ToolReturned):  # as long as its message, which shares the text, may be
        return EVENT_BYTES + len(item.text)
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
        self.resize(sum(map(size_of, packed)) - sum(map(size_of, self.live)))
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
