"""The finished runs of all logs: frozen together when their channel is quiet, the oldest first to go.

A run alone repeats what its neighbours say too (ids of the agent, names, the shape of every event), so
runs of one channel are frozen together, `GROUP_RUNS` at most, and read as one.
"""

from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import anyio.lowlevel

from actors.pace import Pace
from actors.segments import Segment, join

if TYPE_CHECKING:
    from actors.channels import Channel

GROUP_RUNS = 8  # runs frozen as one: what reading any of them thaws
GROUP_BYTES = 128 * 1024  # of what they cost before; a longer run is frozen alone
FREEZE_BATCH = 16  # runs frozen between two looks at the event loop; 50 µs each, ten times that if long


class Finished:
    """The finished segments of every channel, in the order in which they are to be forgotten."""

    def __init__(self) -> None:
        self._all: deque[Segment] = deque()
        self._gone = 0  # of those in `_all` that are forgotten or were joined with another
        self._warm: dict[Channel, int] = {}  # channels with segments to freeze: the sweep they last grew in
        self._sweeps = 0

    def add(self, segment: Segment) -> None:
        """Take in a segment that its channel has finished."""
        self._all.append(segment)
        self._warm[segment.channel] = self._sweeps

    async def freeze(self) -> None:
        """Freeze what was finished before the last call; by now its followers have read it.

        A channel that has finished more since then waits until it is quiet or has gathered a group.
        """
        self._sweeps += 1
        done, pace = 0, Pace()
        for channel, grown in tuple(self._warm.items()):
            quiet = grown < self._sweeps - 1
            while frozen := self._cool(channel, quiet=quiet):
                done += frozen
                if await _paused(pace, done):
                    done = 0

    def pop(self) -> Segment | None:
        """Take out the oldest segment, or None where there is none."""
        while self._all:
            segment = self._all.popleft()
            if segment.size_bytes:
                return segment
            self._gone -= 1
        return None

    def leave(self, channel: "Channel") -> None:
        """Let go of a channel that is gone; its segments are forgotten already."""
        self._warm.pop(channel, None)
        self._sweep_out(sum(segment is not channel.running for segment in channel.segments))

    def _cool(self, channel: "Channel", *, quiet: bool) -> int:
        """Freeze the oldest of what a channel has gathered; return how many runs that was."""
        warm = [s for s in channel.segments if s.frozen is None and s is not channel.running]
        if not quiet and len(warm) > GROUP_RUNS:
            warm.pop()  # it may still be read
        elif not quiet:
            return 0
        elif len(warm) <= FREEZE_BATCH:
            self._warm.pop(channel, None)
        if not warm:
            return 0
        warm = warm[:FREEZE_BATCH]
        small = _small_before(channel.segments, warm[0])
        if sum(s.runs for s in (*small, *warm)) >= GROUP_RUNS:
            warm = [*small, *warm]
        runs, groups = sum(s.runs for s in warm), 0
        for group in _groups(warm):
            join(group)
            groups += 1
        channel.segments = [s for s in channel.segments if s.size_bytes]
        self._sweep_out(len(warm) - groups)
        return runs

    def _sweep_out(self, more: int) -> None:
        """Count more segments that hold nothing now; drop them when they are the most of all."""
        self._gone += more
        if self._gone * 2 > len(self._all):
            self._all = deque(s for s in self._all if s.size_bytes)
            self._gone = 0


async def _paused(pace: Pace, done: int) -> bool:
    """Let others work where it is time for that, after so many runs; return whether they had their turn."""
    if pace.due():
        await pace.rest()
        return True
    if done >= FREEZE_BATCH:
        await anyio.lowlevel.checkpoint()
        return True
    return False


def _small_before(segments: Sequence[Segment], first: Segment) -> list[Segment]:
    """Return the frozen neighbours before `first` that are less than a group each, oldest first."""
    small: list[Segment] = []
    for segment in reversed(segments[: segments.index(first)]):
        if segment.frozen is None or segment.runs >= GROUP_RUNS or segment.size_bytes > GROUP_BYTES // 8:
            break
        small.append(segment)
    return small[::-1]


def _groups(segments: Sequence[Segment]) -> Generator[list[Segment]]:
    """Cut neighbours into groups that are frozen as one."""
    group: list[Segment] = []
    for segment in segments:
        runs, size = sum(s.runs for s in group), sum(s.size_bytes for s in group)
        if group and (runs + segment.runs > GROUP_RUNS or size + segment.size_bytes > GROUP_BYTES):
            yield group
            group = []
        group.append(segment)
    yield group
