"""What goes out on one realtime connection: at once where it can, else through a bounded queue.

A socket that takes what it is given gets every publication as a message that was framed once for all its
subscribers. One that does not has a queue: it is condensed without loss as it grows, and when it is full
or nothing moves any more, the connection is closed; its client comes back and recovers.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from gateway.feeds.frames import Frame, framed, merge, merged
from gateway.realtime.places import Budget

MAX_ITEMS = 512
MAX_BYTES = 1024 * 1024  # that wait, and that the transport holds
CONDENSE_ITEMS = MAX_ITEMS // 4
CONDENSE_BYTES = MAX_BYTES // 4
MORE_ITEMS = 32  # by which it grows before it is condensed anew, so that this costs little per message
MORE_BYTES = 64 * 1024
TURNS = 16  # in which the queues of those who stall at one moment are condensed, so that nobody waits for all
JOINED_BYTES = 16 * 1024  # of messages that are joined into one
STUCK_SECONDS = 10.0
CHECK_SECONDS = 1.0
BATCH = 16  # messages joined in one frame
FRAME_BYTES = 512  # a Frame and its event, beside the encoding it holds


class Wire(Protocol):
    """A websocket as the queue sees it. `ready` tells whether its buffer has room."""

    ready: bool

    def write(self, framed: bytes, /) -> None:
        """Hand whole websocket frames to the transport. Never blocks."""
        ...

    def unsent(self) -> int:
        """Return the bytes that the transport holds."""
        ...


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Let it not come."""
        ...


Later = Callable[[float, Callable[[], None]], Timer]


class Outbound:
    """The way out of one connection. `slow` is called, once, when its peer cannot keep up."""

    __slots__ = (
        "_budget",
        "_bytes",
        "_condense_bytes",
        "_condense_items",
        "_early",
        "_later",
        "_queue",
        "_slow",
        "_stuck",
        "_timer",
        "_unsent",
        "_wire",
        "closed",
    )

    def __init__(self, wire: Wire, *, later: Later, slow: Callable[[], None], budget: Budget) -> None:
        self._wire = wire
        self._later = later
        self._slow = slow
        self._budget = budget
        self._queue: deque[Frame | bytes] | None = None  # none while nothing waits
        self._bytes = 0
        self._early = 0  # turns by which it is condensed before others
        self._condense_items = CONDENSE_ITEMS
        self._condense_bytes = CONDENSE_BYTES
        self._timer: Timer | None = None
        self._stuck = 0.0  # seconds since anything moved
        self._unsent = 0
        self.closed = False

    def push(self, frame: Frame) -> None:
        """Send a publication."""
        wire = self._wire
        if self._queue is None and wire.ready and not self.closed:
            wire.write(frame.wire)
        else:
            self._enqueue(frame)

    @property
    def way(self) -> Callable[[bytes], None] | None:
        """What takes whole frames as `push` does, as long as nothing waits and the wire is ready."""
        return self._wire.write if self.free and not self.closed else None

    def say(self, payload: bytes) -> None:
        """Send a reply or a push that is for this connection alone."""
        if self._queue is None and self._wire.ready and not self.closed:
            self._wire.write(framed(payload))
        else:
            self._enqueue(payload)

    def writable(self) -> None:
        """Send what waits, as far as the wire takes it."""
        queue = self._queue
        while queue and self._wire.ready and not self.closed:
            batch: list[bytes] = []
            while queue and len(batch) < BATCH:
                item = queue.popleft()
                self._count(-_cost(item))
                batch.append(item if isinstance(item, bytes) else item.push)
            self._stuck = 0.0
            self._wire.write(framed(b"\n".join(batch)))
        if queue is not None and not queue:
            self._rest()

    def close(self) -> None:
        """Forget what waits; nothing is sent any more."""
        self.closed = True
        self._rest()

    @property
    def free(self) -> bool:
        """Whether nothing waits and the wire takes more: a message of any size may be sent."""
        return self._queue is None and self._wire.ready

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return 0 if self._queue is None else len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """How much memory they hold at most: publications are shared with other connections."""
        return self._bytes

    def _enqueue(self, item: Frame | bytes) -> None:
        if self.closed:
            return
        if self._queue is None:
            self._queue = deque()
            self._stuck = 0.0
            self._unsent = self._wire.unsent()
            self._timer = self._later(CHECK_SECONDS, self._check)
            self._early = self._budget.queues % TURNS
            self._budget.queues += 1
            self._condense_at(CONDENSE_ITEMS, CONDENSE_BYTES)
        queue, budget, size = self._queue, self._budget, _cost(item)
        queue.append(item)
        self._bytes += size  # as `_count`: every frame comes by here for everyone who stalls
        budget.used += size
        if len(queue) > self._condense_items or self._bytes > self._condense_bytes:
            self._condense(queue)
        if budget.used > budget.limit_bytes and not self.closed:
            self._give_up()

    def _condense(self, queue: deque[Frame | bytes]) -> None:
        """Join what can be joined, again only after the queue has grown; give up when too much is left."""
        items = condense(queue)
        queue.clear()
        queue.extend(items)
        self._count(sum(map(_cost, items)) - self._bytes)
        most_items = max(CONDENSE_ITEMS, len(queue) + MORE_ITEMS)
        most_bytes = max(CONDENSE_BYTES, self._bytes + MORE_BYTES)
        self._condense_at(most_items, most_bytes)
        if most_items > MAX_ITEMS or most_bytes + self._wire.unsent() > MAX_BYTES:
            self._give_up()

    def _condense_at(self, items: int, size_bytes: int) -> None:
        """Condense beyond this; a part of it earlier, by at most half of what it may grow."""
        self._condense_items = items - self._early * MORE_ITEMS // (2 * TURNS)
        self._condense_bytes = size_bytes - self._early * MORE_BYTES // (2 * TURNS)

    def _check(self) -> None:
        """Give up when nothing has moved for long."""
        unsent = self._wire.unsent()
        self._stuck = 0.0 if unsent < self._unsent else self._stuck + CHECK_SECONDS
        self._unsent = unsent
        if self._stuck >= STUCK_SECONDS:
            self._give_up()
        else:
            self._timer = self._later(CHECK_SECONDS, self._check)

    def _give_up(self) -> None:
        self.close()
        self._slow()

    def _rest(self) -> None:
        """Nothing waits any more."""
        self._queue = None
        self._count(-self._bytes)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count(self, by_bytes: int) -> None:
        self._bytes += by_bytes
        self._budget.used += by_bytes


def _cost(item: Frame | bytes) -> int:
    if isinstance(item, bytes):
        return len(item)
    return FRAME_BYTES + len(item.wire)


def condense(items: Iterable[Frame | bytes]) -> list[Frame | bytes]:
    """Return what waits in fewer messages that say the same.

    Adjacent fragments of one stream are joined, of the snapshots of one key only the last is kept. Each
    channel keeps its order, and nothing moves across a reply: what stands between channels is free.
    """
    out: list[Frame | bytes] = []
    channels: dict[str, list[Frame]] = {}
    for item in items:
        if isinstance(item, bytes):
            out += _condensed(channels)
            channels = {}
            out.append(item)
        elif item.channel in channels:
            channels[item.channel].append(item)
        else:
            channels[item.channel] = [item]
    return out + _condensed(channels)


def _condensed(channels: dict[str, list[Frame]]) -> list[Frame | bytes]:
    out: list[Frame | bytes] = []
    for frames in channels.values():
        last = {frame.key: frame for frame in frames if frame.key is not None}
        kept = [f for f in frames if f.key is None or last[f.key] is f] if last else frames
        for chunk in _chunks(kept):
            out += _folded(merged(chunk))
    return out


def _chunks(frames: list[Frame]) -> Iterator[list[Frame]]:
    """Yield frames in pieces of a bounded size: what is large already is not encoded again and again."""
    chunk: list[Frame] = []
    size = 0
    for frame in frames:
        size += len(frame.wire)
        if size > JOINED_BYTES and chunk:
            yield chunk
            chunk, size = [], len(frame.wire)
        chunk.append(frame)
    if chunk:
        yield chunk


def _folded(frames: list[Frame]) -> list[Frame]:
    """Join what `merged` leaves: patches of one state, and snapshots that make them needless."""
    out: list[Frame] = []
    for frame in frames:
        both = merge(out[-1], frame) if out else None
        if both is None:
            out.append(frame)
        else:
            out[-1] = both
    return out
