"""How long it takes to recover a gap of 1,000 events, in the middle of a run and after its end, exactly."""

import asyncio
import time

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.measure import percentile
from bench.peers import Gap
from bench.readers import Readers
from bench.replies import Reply
from bench.targets import Target

EVENTS = 1000
TOKENS = EVENTS + 200  # before the model waits; deltas that come together may be one event
GATE_S = 30.0
QUIET_S = 0.3


def measure(target: Target, bench: Bench) -> Figures:
    """Stream more than the gap, hold the model there, recover, let it end, and recover again."""
    (agent,) = targets.create_agents(target, 1)
    gate = f"ws-resume-{time.monotonic_ns()}"
    words = "".join(f"word{i} " for i in range(TOKENS + 50))
    reply = Reply(text=words, gap_ms=1, gate=gate, gate_after=TOKENS, match=gate)
    asyncio.run(bench.provider.script([reply]))
    times = bench.effort.of(30, 10)
    channel = f"conv:{agent}"
    with Readers() as readers:
        readers.open(target.port, [[channel]])
        readers.say([agent], f"Wait at {gate}.")
        _wait_until_quiet(readers, EVENTS)
        running = readers.resume(target.port, channel, events=EVENTS, times=times)
        asyncio.run(bench.provider.open(gate))
        _wait_until_quiet(readers, 1)
        ended = readers.resume(target.port, channel, events=EVENTS, times=times)
    return {
        "running": percentile([gap.subscribe_ms for gap in running], 50),
        "running_worst": max(gap.subscribe_ms for gap in running),
        "ended": percentile([gap.subscribe_ms for gap in ended], 50),
        "whole": percentile([gap.whole_ms for gap in running], 50),
        "inexact": _inexact(running) + _inexact(ended),
    }


def _wait_until_quiet(readers: Readers, tokens: int) -> None:
    """Wait until so many tokens came and no more come: the model waits at its gate."""
    deadline, seen, new = time.monotonic() + GATE_S, 0, 1
    while seen < tokens or new:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{seen} of {tokens} tokens came before the model waited")
        time.sleep(QUIET_S)
        new = readers.count().tokens
        seen += new


def _inexact(gaps: list[Gap]) -> int:
    return sum(not gap.exact for gap in gaps)


CASE = Case(
    name="ws_resume",
    measure=measure,
    on=("ours",),
    most_runs=3,
    run_s={"ours": 4.5},
    rows=(
        Row(
            key="running", title="websocket: resume of 1,000 events, run under way, p50", unit="ms", figure=20
        ),
        Row(key="ended", title="websocket: resume of 1,000 events, run ended, p50", unit="ms", figure=20),
        Row(key="running_worst", title="the slowest, run under way", unit="ms", limit="running"),
        Row(key="whole", title="with connecting and saying who it is, p50", unit="ms", limit="running"),
        Row(key="inexact", title="resumes that were not exact", figure=0),
    ),
)
