"""What readers that stall cost: memory of each, and what the others, who follow the same run, notice.

The others are timed in turns, while one in five stalls with its queue half full and while none does: how late
the slowest hundredth of the frames is depends on the machine by far more than on who stalls, so that one pair
of windows says nothing, and the median of several does. What the server spends is taken in the same windows.
"""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from bench import load, targets
from bench.case import NO_PHASE, Bench, Case, Found, Row
from bench.load import NUMBER, Job, Slot
from bench.measure import cpu_seconds, memory, percentile
from bench.readers import Readers
from bench.targets import FAST, Target

MODEL = "clock-t{tokens}-d100-g50"
GAP_S = 0.05
BEGIN_S = 1.0  # from the accepted message until the first token counts
TURNS = 5
TURN_S = 25.0  # that the run goes on for, at most
SETTLE_S = 0.3
NOISY = 8  # agents whose long messages fill what lies between the server and those who stall
LONG_CHARS = 50_000
# Into the queue of one who stalls, without filling it: the kernel's buffers take 300 kB of it, and what the
# queue has counts for twice its bytes, as the server counts it.
BEFORE_BYTES = 600_000
AFTER_BYTES = 2_000_000  # beyond its end
TOKEN_BYTES = 1000  # more than one token's message has
POLL_S = 0.05
QUIET_S = 0.5
READ_UP_S = 30.0
KIB_PER_MIB = 1024


class Window(Struct, frozen=True):
    """What the readers that read saw in a while, and CPU seconds of the server meanwhile."""

    delays_ms: list[float]
    cpu_s: float

    def p(self, rank: float) -> float:
        """How late a token was, in ms: so many of a hundred were no later."""
        return percentile(self.delays_ms, rank)


def measure(target: Target, bench: Bench) -> Found:
    """Time every token at every reader, turn by turn: all read, then one in five stalls and its queue fills.

    After that long messages go on until the server gives up on those who stall. Their memory is by how much
    the server grew at most from when they stalled: what the agents keep is in it. The same messages went to
    other agents before, so that what they take in passing is there already.
    """
    reading, stalled = bench.effort.of(800, 80), bench.effort.of(200, 20)
    seconds, turns = bench.effort.of(2, 1), bench.effort.of(TURNS, 1)
    (shown,) = targets.create_agents(target, 1, MODEL.format(tokens=round((turns + 1) * TURN_S / GAP_S)))
    quiet, noisy = _noisy(target), _noisy(target)
    found: list[dict[str, float]] = []
    with Readers() as readers, Readers() as stalling:
        readers.open(target.port, [[f"conv:{shown}"]] * reading)
        channels = [f"conv:{agent}" for agent in (shown, *noisy)]
        stalling.open(target.port, [channels] * stalled, small_buffer=True)
        size = _size(target, stalling, noisy) / stalled
        before_count, after_count = round(BEFORE_BYTES / size), round(AFTER_BYTES / size)
        readers.say([shown], "Go on.")
        time.sleep(BEGIN_S)
        _window(target, readers, seconds)  # what is loaded and opened at first use
        for _ in range(turns):
            _fill(target, quiet, before_count)
            none = _window(target, readers, seconds)
            stalling.stall()
            _fill(target, noisy, before_count)
            files = _files(target)
            some = _window(target, readers, seconds)
            gone = max(0, files - _files(target))
            stalling.go_on()
            _read_up(stalling)
            found.append(_compared(none, some) | {"open": 1 - gone / stalled})
        readers.cancel()
        _fill(target, quiet, after_count)
        with Peak(target.pid) as peak:
            stalling.stall()
            _fill(target, noisy, before_count + after_count)
        stalling.go_on()
        closed = _closed(stalling, stalled)
        lost = readers.count().lost
    found[0] |= {
        "held": peak.grown_kib / stalled / KIB_PER_MIB,
        "closed": closed / stalled,
        "all": 1.0,
        "lost": lost,
        "message_bytes": size,
    }
    return found


def _compared(none: Window, some: Window) -> dict[str, float]:
    """The figures of a turn: with some who stall beside with none."""
    return {
        "p99": some.p(99),
        "p99_before": none.p(99),
        "ratio": some.p(99) / none.p(99),
        "p50": some.p(50),
        "p50_before": none.p(50),
        "cpu": some.cpu_s / len(some.delays_ms) * 1e6,
        "cpu_before": none.cpu_s / len(none.delays_ms) * 1e6,
        "cpu_ratio": some.cpu_s / len(some.delays_ms) / (none.cpu_s / len(none.delays_ms)),
    }


def _noisy(target: Target) -> list[str]:
    """Create agents whose windows hold every long message, so that none is summarized."""
    body = {"name": f"noisy-{NUMBER}", "model": f"openai/{FAST}", "context_window_limit": 1_000_000}
    return targets.create(target, [("/v1/agents/", msgspec.json.encode(body).decode())] * NOISY)


def _size(target: Target, stalling: Readers, noisy: list[str]) -> int:
    """How many bytes a long message is to all who follow its agent: found out while they still read."""
    if stalling.count().lost:
        raise RuntimeError("readers were lost before they stalled")
    _fill(target, noisy, 1)  # more at once would be too much for those who read with small buffers
    size, new = 0, 1
    while new:
        time.sleep(QUIET_S)
        new = stalling.count().received_bytes
        size += new
    return size


def _read_up(stalling: Readers) -> None:
    """Let those who stalled read what has waited for them, until nothing but tokens comes."""
    deadline, long = time.monotonic() + READ_UP_S, True
    while long:
        if time.monotonic() > deadline:
            raise RuntimeError(f"those who stalled had not read what they were sent in {READ_UP_S:g} s")
        time.sleep(QUIET_S)
        counted = stalling.count()
        long = counted.received_bytes > counted.tokens * TOKEN_BYTES


def _window(target: Target, readers: Readers, seconds: float) -> Window:
    """See how many milliseconds after it was written each token comes to each reader."""
    time.sleep(SETTLE_S)
    readers.count()
    before = cpu_seconds(target.pid)
    time.sleep(seconds)
    cpu_s = cpu_seconds(target.pid) - before
    counted = readers.count()
    if not counted.delays_ms:
        raise RuntimeError("no stamped token came")
    return Window(counted.delays_ms, cpu_s)


def _fill(target: Target, agents: list[str], count: int) -> None:
    """Send long messages, one after another; those who follow their agents get them as events."""
    slots: list[tuple[str, str]] = []
    for number in range(count):
        path, _ = target.message(agents[number % len(agents)])
        body = {"messages": [{"role": "user", "content": "x" * LONG_CHARS}]}
        slots.append((path, msgspec.json.encode(body).decode()))
    targets.check(load.run(Job(port=target.port, slots=[Slot(slots)])))


def _files(target: Target) -> int:
    """How many files the server has open, its connections among them."""
    return len(list(Path(f"/proc/{target.pid}/fd").iterdir()))


def _closed(stalling: Readers, expected: int) -> int:
    """How many of the stalled ones the server has given up on."""
    deadline = time.monotonic() + 5
    while (lost := stalling.count().lost) < expected and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return lost


class Peak:
    """The most memory that a process had during a block, over what it had at its beginning."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._first_kib = self._most_kib = 0

    @property
    def grown_kib(self) -> int:
        """By how much it grew at most."""
        return self._most_kib - self._first_kib

    def __enter__(self) -> Self:
        self._first_kib = self._most_kib = memory(self._pid).rss_kib
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self._most_kib = max(self._most_kib, memory(self._pid).rss_kib)


CASE = Case(
    name="ws_stalled",
    measure=measure,
    on=("ours",),
    most_runs=1,  # it takes turns already
    run_s={"ours": 46},
    rows=(
        Row(key="held", title="websocket: memory per stalled reader, the most", unit="MiB", figure=1),
        Row(
            key="ratio",
            title="p99 of the others, with one in five stalled / with none",
            figure=1.1,
            within=NO_PHASE,
            lever="what the server does for those who stall before it writes to the others",
        ),
        Row(
            key="p99",
            title="token seen after it was written, 1,000 readers, 200 stalled, p99",
            unit="ms",
            limit="p99_before",
        ),
        Row(key="p99_before", title="the same, none stalled, p99", unit="ms", reference=True),
        Row(
            key="cpu",
            title="server CPU per frame to the others, 200 stalled",
            unit="µs",
            limit="cpu_before",
        ),
        Row(key="cpu_before", title="the same, none stalled", unit="µs", reference=True),
        Row(key="open", title="stalled readers still connected then, of all", figure=0.9, at_least=True),
        Row(key="closed", title="stalled readers that were closed in the end, of all", limit="all"),
        Row(key="lost", title="other readers that were lost", figure=0),
    ),
)
