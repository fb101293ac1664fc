"""What readers that stall cost: memory of each, and what the others, who follow the same run, notice."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench import load, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import NUMBER, Job, Slot
from bench.measure import memory, percentile
from bench.readers import Readers
from bench.targets import FAST, Target

MODEL = "clock-t{tokens}-d100-g50"
GAP_S = 0.05
BEGIN_S = 1.0  # from the accepted message until the first token counts
NOISY = 8  # agents whose long messages fill what lies between the server and those who stall
LONG_CHARS = 50_000
# Into the queue of one who stalls, without filling it: the kernel's buffers take 300 kB of it, and what the
# queue has counts for twice its bytes, as the server counts it.
BEFORE_BYTES = 600_000
AFTER_BYTES = 2_000_000  # beyond its end
POLL_S = 0.05
QUIET_S = 0.5
KIB_PER_MIB = 1024


def measure(target: Target, bench: Bench) -> Figures:
    """Time every token at every reader: first all read, then one in five stalls and its queue fills.

    After the measurement long messages go on until the server gives up on those who stall. Their memory is
    by how much the server grew at most from when they stalled: what the agents keep is in it.
    The same messages went to other agents before, so that what they take in passing is there already.
    """
    reading, stalled = bench.effort.of(800, 80), bench.effort.of(200, 20)
    seconds = bench.effort.of(4, 2)
    model = MODEL.format(tokens=round((seconds + BEGIN_S) / GAP_S) + 20)
    (shown,) = targets.create_agents(target, 1, model)
    quiet, noisy = _noisy(target), _noisy(target)
    with Readers() as readers, Readers() as stalling:
        readers.open(target.port, [[f"conv:{shown}"]] * reading)
        channels = [f"conv:{agent}" for agent in (shown, *noisy)]
        stalling.open(target.port, [channels] * stalled, small_buffer=True)
        size = _size(target, stalling, noisy) / stalled
        before_count, after_count = round(BEFORE_BYTES / size), round(AFTER_BYTES / size)
        _delays(readers, shown, seconds)  # what is loaded and opened at first use
        _fill(target, quiet, before_count)
        before = _delays(readers, shown, seconds)
        _fill(target, quiet, after_count)
        with Peak(target.pid) as peak:
            stalling.stall()
            _fill(target, noisy, before_count)
            files = _files(target)
            after = _delays(readers, shown, seconds)
            gone = max(0, files - _files(target))
            _fill(target, noisy, after_count)
        stalling.go_on()
        closed = _closed(stalling, stalled)
        lost = readers.count().lost
    return {
        "held": peak.grown_kib / stalled / KIB_PER_MIB,
        "p99": percentile(after, 99),
        "p99_before": percentile(before, 99),
        "ratio": percentile(after, 99) / percentile(before, 99),
        "p50": percentile(after, 50),
        "p50_before": percentile(before, 50),
        "open": 1 - gone / stalled,
        "closed": closed / stalled,
        "all": 1.0,
        "lost": lost,
        "message_bytes": size,
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


def _delays(readers: Readers, agent: str, seconds: float) -> list[float]:
    """Stream, and return how many milliseconds after it was written each token came to each reader."""
    readers.say([agent], "Go on.")
    time.sleep(BEGIN_S)
    readers.count()
    time.sleep(seconds)
    counted = readers.count()
    readers.cancel()
    if not counted.delays_ms:
        raise RuntimeError("no stamped token came")
    return counted.delays_ms


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
    most_runs=1,  # a thousand connections, of which 200 are lost
    run_s={"ours": 28},
    rows=(
        Row(key="held", title="websocket: memory per stalled reader, the most", unit="MiB", figure=1),
        Row(key="ratio", title="p99 of the others, with one in five stalled / with none", figure=1.1),
        Row(
            key="p99",
            title="token seen after it was written, 1,000 readers, 200 stalled, p99",
            unit="ms",
            limit="p99_before",
        ),
        Row(key="p99_before", title="the same, none stalled, p99", unit="ms", reference=True),
        Row(key="open", title="stalled readers still connected then, of all", figure=0.9, at_least=True),
        Row(key="closed", title="stalled readers that were closed in the end, of all", limit="all"),
        Row(key="lost", title="other readers that were lost", figure=0),
    ),
)
