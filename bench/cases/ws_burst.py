"""Server CPU per frame where a model answers at once, so that many go out in one turn of the loop.

Then the kernel is asked once for many frames, which is what a send costs without its system call. The answers
of the same runs, of agents that nobody follows, are what is taken off.
"""

import asyncio
import sys
import time

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.measure import cpu_seconds
from bench.readers import Readers
from bench.targets import Process, Target, environment, free_port

TOKENS = 2000  # of one answer
QUIET_S = 0.3
WAIT_S = 30.0


def measure(target: Target, bench: Bench) -> Figures:
    """Let agents answer in turns: one that is followed, one that is not."""
    turns = bench.effort.of(10, 3)
    agents = targets.create_agents(target, 2 * turns + 2, f"fixed-t{TOKENS}-d0-g0")
    followed, alone = agents[::2], agents[1::2]
    with_it, without, frames, sample = 0.0, 0.0, 0, ""
    with Readers() as readers:
        readers.open(target.port, [[f"conv:{agent}" for agent in followed]])
        for turn, (one, other) in enumerate(zip(followed, alone, strict=True)):
            spent = _answer(target, bench, readers, one)
            counted = readers.count()
            spent_alone = _answer(target, bench, readers, other)
            if turn:  # the first is for what is loaded and opened at first use
                with_it, without, frames = with_it + spent, without + spent_alone, frames + counted.tokens
            sample = counted.sample
    if not frames:
        raise RuntimeError("no token came")
    bare = _bare(bench, sample, turns)
    return {
        "cpu": (with_it - without) / frames * 1e6,
        "bare": bare,
        "frames": frames / turns / TOKENS,
    }


def _answer(target: Target, bench: Bench, readers: Readers, agent: str) -> float:
    """CPU seconds of the server from the message to a moment after the answer."""
    bench.forget_requests()
    readers.count()
    before = cpu_seconds(target.pid)
    readers.say([agent], "Go on.")
    asyncio.run(bench.provider.log(ended=1))
    time.sleep(QUIET_S)
    return cpu_seconds(target.pid) - before


def _bare(bench: Bench, frame: str, turns: int) -> float:
    """CPU of the bare application per frame, in µs, when it sends as many one after another."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", "--port", str(port), "--text", frame]
    process = Process(command, environment(), bench.home / "bare.log")
    try:
        process.wait_ready(port, "/")
        with Readers() as readers:
            readers.open_plain(port, ["/0"])
            spent, frames = 0.0, 0
            for turn in range(turns + 1):
                time.sleep(QUIET_S)
                readers.count()
                before = cpu_seconds(process.pid)
                readers.ask(str(TOKENS))
                seen = _await(readers, TOKENS)
                if turn:
                    spent, frames = spent + cpu_seconds(process.pid) - before, frames + seen
    finally:
        process.stop()
    return spent / frames * 1e6


def _await(readers: Readers, tokens: int) -> int:
    deadline, seen = time.monotonic() + WAIT_S, 0
    while seen < tokens:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{seen} of {tokens} frames came")
        time.sleep(0.01)
        seen += readers.count().tokens
    return seen


CASE = Case(
    name="ws_burst",
    measure=measure,
    on=("ours",),
    most_runs=1,
    rows=(
        Row(key="cpu", title="websocket: gateway CPU per frame of a burst, one subscriber", unit="µs"),
        Row(key="bare", title="a bare uvicorn send of that frame in a burst", unit="µs"),
        Row(key="frames", title="frames per token of a burst"),
    ),
)
