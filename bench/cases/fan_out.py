"""One agent's stream to many websockets: CPU per delivered frame, and how late it comes to the watchers.

Beside a frame stands a bare uvicorn's send of it to as many connections at the same pace, and beside how late
it comes, the time that such a server would take to send it to all: to half of them for the median. What a
bare write to as many transports takes, without a server, is the kernel's part of both. Frames come alone
here, each by a call of the kernel of its own: what one may cost at most is judged where they go out back to
back, in `ws_burst`, and why there, `ws_tokens` says.
"""

import time
from contextlib import ExitStack

from msgspec import Struct

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.cases import ws_tokens
from bench.measure import cpu_seconds, percentile
from bench.readers import Counted, Readers
from bench.targets import Wakeful

# Watchers, and the time between two tokens: a lone watcher's share shows only where many tokens come.
WATCHERS = {1: 0.004, 100: 0.02, 1_000: 0.05}
QUICK_WATCHERS = (1, 10, 50)
PROCESSES = 2  # that read; each has half of the watchers
SETTLE_S = 0.5
WINDOW_S = 1.5


def measure(target: Wakeful, bench: Bench) -> Figures:
    """Account the server while nobody follows and while all do, in turns: the difference is theirs.

    In a quick look the figures are those of fewer watchers than their rows say.
    """
    figures: dict[str, float] = {}
    counts = QUICK_WATCHERS if bench.effort.quick else tuple(WATCHERS)
    turns = bench.effort.of(3, 1)
    for name, count in zip(WATCHERS, counts, strict=True):
        bench.tell(f"fan_out, {count:,} watchers")
        gap_s = WATCHERS[name]
        found, frame = _watch(target, count, gap_s=gap_s, turns=turns, seconds=WINDOW_S)
        bench.tell(f"fan_out, {count:,} connections of a bare server")
        bare = ws_tokens.bare(bench, [count], frame, gap_s=gap_s)
        if count > 1:
            found["raw"] = ws_tokens.bare(bench, [count], frame, gap_s=gap_s, raw=True)
        found |= {"bare": bare, "half": bare * (count + 1) / 2 / 1e3, "all": bare * count / 1e3}
        figures |= {f"{key}_{name}": value for key, value in found.items()}
    return figures


def _watch(
    target: Wakeful, count: int, *, gap_s: float, turns: int, seconds: float
) -> tuple[dict[str, float], str]:
    """What it found for so many watchers, and a frame."""
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
    figures = {
        "cpu": (found.with_s - found.without_s) / found.frames * 1e6,
        "p50": percentile(found.delays_ms, 50),
        "p99": percentile(found.delays_ms, 99),
        "reader": found.reading_s / found.frames * 1e6,
        "lost": found.lost,
        "frames": found.frames,
    }
    return figures, found.sample


class Watched(Struct):
    """What came of one or several turns. CPU seconds are the server's, `reading_s` the readers' own."""

    without_s: float = 0.0
    with_s: float = 0.0
    reading_s: float = 0.0
    frames: int = 0
    lost: int = 0
    delays_ms: list[float] = []
    sample: str = ""

    def add(self, turn: "Watched") -> None:
        """Add a turn."""
        self.with_s += turn.with_s
        self.reading_s += turn.reading_s
        self.frames += turn.frames
        self.lost = turn.lost
        self.delays_ms += turn.delays_ms
        self.sample = turn.sample or self.sample


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
        sample=max(one.sample for one in counted),
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
    shown = f"fan-out to {watchers}"
    bare, raw = f"bare_{count}", f"raw_{count}"
    kernels = Row(key=raw, title=f"of that the kernel's part, {watchers}", unit="µs", reference=True)
    return (
        Row(key=f"cpu_{count}", title=f"{shown}: server CPU per frame", unit="µs", limit=bare),
        Row(key=bare, title=f"a bare uvicorn's send to {watchers}", unit="µs", reference=True),
        *([kernels] if count > 1 else []),
        Row(key=f"p50_{count}", title=f"{shown}: written to seen, p50", unit="ms", limit=f"half_{count}"),
        Row(key=f"p99_{count}", title=f"{shown}: written to seen, p99", unit="ms", limit=f"all_{count}"),
        Row(key=f"reader_{count}", title="the readers' own CPU per frame", unit="µs", reference=True),
        Row(key=f"lost_{count}", title="watchers that were lost", figure=0),
    )


CASE = Case(
    name="fan_out",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=1,  # each level takes turns already
    run_s={"ours": 90},
    rows=tuple(row for count in WATCHERS for row in _rows(count)),
)
