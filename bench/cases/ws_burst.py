"""Server CPU per frame where frames go out back to back, as a bare send of the same frame does.

A model that answers at once has many frames go out in one turn of the loop, so that neither waking up nor the
kernel is paid for each: what a frame itself costs. The answers of the same runs, of agents that nobody
follows, are what is taken off. Of one connection, a bare uvicorn's sends in the same shape were 4 to 7 µs
where 12 were asked; the figure scales with that. What a frame costs that comes alone, every 20 ms, is in
`ws_tokens`.
"""

import asyncio
import sys
import time

from msgspec import Struct

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.measure import cpu_seconds
from bench.readers import Readers
from bench.targets import Process, Target, environment, free_port

MANY = 200
TOKENS = {1: 2000, MANY: 300}  # of one answer, by how many follow it
TURNS = {1: 6, MANY: 4}
QUICK_TURNS = 2
BARE_US = 5.5  # of one connection where the figure was asked: 4 to 7
QUIET_S = 0.3
WAIT_S = 30.0


class Frames(Struct, frozen=True):
    """How many came, and one of them."""

    count: int = 0
    sample: str = ""


class Sent(Struct):
    """What turns sent: CPU seconds with followers and without, and frames that came to them."""

    with_s: float = 0.0
    without_s: float = 0.0
    frames: int = 0
    sample: str = ""


def measure(target: Target, bench: Bench) -> Figures:
    """Measure answers with one follower and with many, and bare sends in the same shapes."""
    figures: dict[str, float] = {}
    for followers, tokens in TOKENS.items():
        turns = QUICK_TURNS if bench.effort.quick else TURNS[followers]
        sent = _gateway(target, bench, followers, tokens, turns)
        figures |= {
            f"cpu_{followers}": (sent.with_s - sent.without_s) / sent.frames * 1e6,
            f"bare_{followers}": _bare(bench, sent.sample, followers, tokens, turns),
            f"frames_{followers}": sent.frames / turns / tokens / followers,
        }
    return figures


def _gateway(target: Target, bench: Bench, followers: int, tokens: int, turns: int) -> Sent:
    """Let agents answer in turns: one that is followed, one that is not."""
    agents = targets.create_agents(target, 2 * turns + 2, f"fixed-t{tokens}-d0-g0")
    followed, alone = agents[::2], agents[1::2]
    sent = Sent()
    with Readers() as readers:
        readers.open(target.port, [[f"conv:{agent}" for agent in followed]] * followers)
        for turn, (one, other) in enumerate(zip(followed, alone, strict=True)):
            frames, with_s = _answer(target, bench, readers, one)
            _, without_s = _answer(target, bench, readers, other)
            if turn:  # the first is for what is loaded and opened at first use
                sent.with_s += with_s
                sent.without_s += without_s
                sent.frames += frames.count
                sent.sample = frames.sample
    if not sent.frames:
        raise RuntimeError("no token came")
    return sent


def _answer(target: Target, bench: Bench, readers: Readers, agent: str) -> tuple[Frames, float]:
    """Frames that came, and CPU seconds of the server from the message to when no more came."""
    bench.forget_requests()
    readers.count()
    before = cpu_seconds(target.pid)
    readers.say([agent], "Go on.")
    asyncio.run(bench.provider.log(ended=1))
    frames = _drain(readers)
    return frames, cpu_seconds(target.pid) - before


def _drain(readers: Readers) -> Frames:
    """Wait until no more frames come, and count those with a token."""
    deadline, found, new = time.monotonic() + WAIT_S, Frames(), 1
    while new:
        if time.monotonic() > deadline:
            raise RuntimeError(f"frames still come after {WAIT_S:g} s")
        time.sleep(QUIET_S)
        counted = readers.count()
        new = counted.tokens
        found = Frames(found.count + new, counted.sample or found.sample)
    return found


def _bare(bench: Bench, frame: str, followers: int, tokens: int, turns: int) -> float:
    """CPU of the bare application per frame, in µs, when it sends as many one after another."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", "--port", str(port), "--text", frame, "--gap", "0"]
    process = Process(command, environment(), bench.home / "bare.log")
    try:
        process.wait_ready(port, "/")
        with Readers() as readers:
            readers.open_plain(port, ["/0"] * followers)
            _drain(readers)
            spent, frames = 0.0, 0
            for turn in range(turns + 1):
                before = cpu_seconds(process.pid)
                readers.ask(str(tokens))
                seen = _drain(readers).count
                if turn:
                    spent, frames = spent + cpu_seconds(process.pid) - before, frames + seen
    finally:
        process.stop()
    return spent / frames * 1e6


def _rows(followers: int, what: str, **asked: float) -> tuple[Row, ...]:
    title = f"websocket: gateway CPU per frame, back to back, {what}"
    limit = f"bare_{followers}"
    return (
        Row(key=f"cpu_{followers}", title=title, unit="µs", limit=limit, **asked),
        Row(key=limit, title=f"a bare uvicorn's, back to back, {what}", unit="µs", reference=True),
        Row(key=f"frames_{followers}", title=f"frames per token then, {what}", figure=1),
    )


CASE = Case(
    name="ws_burst",
    measure=measure,
    on=("ours",),
    most_runs=1,  # it takes turns already
    run_s={"ours": 24},
    rows=(
        *_rows(1, "one subscriber", figure=12, limit_then=BARE_US),
        *_rows(MANY, f"{MANY} subscribers", figure=6),
    ),
)
