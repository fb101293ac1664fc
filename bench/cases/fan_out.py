"""One agent's stream to many websockets: CPU per delivered frame, and how late it comes to the watchers."""

import time
from contextlib import ExitStack

from msgspec import Struct

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.measure import cpu_seconds, percentile
from bench.readers import Counted, Readers
from bench.targets import Wakeful

# Watchers, and the time between two tokens: a lone watcher's share shows only where many tokens come.
WATCHERS = {1: 0.004, 100: 0.02, 1_000: 0.05}
QUICK_WATCHERS = (1, 10, 50)
FRAME_US, SHARED_FRAME_US = 12, 6  # allowed for a frame to a lone watcher, and to one of many
PROCESSES = 2  # that read; each has half of the watchers
SETTLE_S = 0.5


def measure(target: Wakeful, bench: Bench) -> Figures:
    """Account the server while nobody follows and while all do, in turns: the difference is theirs.

    In a quick look the figures are those of fewer watchers than their rows say.
    """
    figures: dict[str, float] = {}
    counts = QUICK_WATCHERS if bench.effort.quick else tuple(WATCHERS)
    turns = bench.effort.of(3, 1)
    for name, count in zip(WATCHERS, counts, strict=True):
        bench.tell(f"fan_out, {count:,} watchers")
        found = _watch(target, count, gap_s=WATCHERS[name], turns=turns, seconds=bench.effort.of(2, 1))
        figures |= {f"{key}_{name}": value for key, value in found.items()}
    return figures


def _watch(target: Wakeful, count: int, *, gap_s: float, turns: int, seconds: float) -> dict[str, float]:
    whole_s = (2 * turns + 1) * (seconds + SETTLE_S) + 4
    model = f"clock-t{round(whole_s / gap_s)}-d100-g{gap_s * 1000:.0f}"
    (agent,) = targets.create_agents(target, 1, model)
    found = Watched()
    with ExitStack() as stack:
        crowd = [stack.enter_context(Readers()) for _ in range(min(PROCESSES, count))]
        for place, readers in enumerate(crowd):
            share = len(range(place, count, len(crowd)))
            readers.open(target.port, [[f"conv:{agent}"]] * share)
            readers.unfollow()
        crowd[0].say([agent], "Go on.")
        time.sleep(SETTLE_S)
        for _ in range(turns):
            found.without_s += _spent(target.pid, seconds)
            found.add(_turn(target, crowd, seconds))
        found.without_s = (found.without_s + _spent(target.pid, seconds)) * turns / (turns + 1)
        crowd[0].cancel()
    if not found.delays_ms:
        raise RuntimeError("no stamped token came")
    return {
        "cpu": (found.with_s - found.without_s) / found.frames * 1e6,
        "p50": percentile(found.delays_ms, 50),
        "p99": percentile(found.delays_ms, 99),
        "reader": found.reading_s / found.frames * 1e6,
        "lost": found.lost,
        "frames": found.frames,
    }


class Watched(Struct):
    """What came of one or several turns. CPU seconds are the server's, `reading_s` the readers' own."""

    without_s: float = 0.0
    with_s: float = 0.0
    reading_s: float = 0.0
    frames: int = 0
    lost: int = 0
    delays_ms: list[float] = []

    def add(self, turn: "Watched") -> None:
        """Add a turn."""
        self.with_s += turn.with_s
        self.reading_s += turn.reading_s
        self.frames += turn.frames
        self.lost = turn.lost
        self.delays_ms += turn.delays_ms


def _turn(target: Wakeful, crowd: list[Readers], seconds: float) -> Watched:
    """Let all follow the stream for a while."""
    for readers in crowd:
        readers.follow()
    time.sleep(SETTLE_S)
    before = _count(crowd)
    with_s = _spent(target.pid, seconds)
    counted = _count(crowd)
    for readers in crowd:
        readers.unfollow()
    time.sleep(SETTLE_S)
    return Watched(
        with_s=with_s,
        reading_s=sum(after.cpu_s - then.cpu_s for after, then in zip(counted, before, strict=True)),
        frames=sum(one.tokens for one in counted),
        lost=sum(one.lost for one in counted),
        delays_ms=[delay for one in counted for delay in one.delays_ms],
    )


def _count(crowd: list[Readers]) -> list[Counted]:
    return [readers.count() for readers in crowd]


def _spent(pid: int, seconds: float) -> float:
    """CPU seconds of a process over so many."""
    began, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began) * seconds


def _rows(count: int) -> tuple[Row, ...]:
    watchers = f"{count:,} watchers" if count > 1 else "one watcher"
    figure = FRAME_US if count == 1 else SHARED_FRAME_US
    cpu = f"fan-out to {watchers}: server CPU per frame"
    return (
        Row(key=f"cpu_{count}", title=cpu, unit="µs", figure=figure, drifts=False, limit=f"reader_{count}"),
        Row(key=f"p50_{count}", title=f"fan-out to {watchers}: written to seen, p50", unit="ms"),
        Row(key=f"p99_{count}", title=f"fan-out to {watchers}: written to seen, p99", unit="ms"),
        Row(key=f"reader_{count}", title="what the readers took to read a frame", unit="µs"),
        Row(key=f"lost_{count}", title="watchers that were lost", figure=0),
    )


CASE = Case(
    name="fan_out",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=1,  # each level takes turns already
    rows=tuple(row for count in WATCHERS for row in _rows(count)),
)
