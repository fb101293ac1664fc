"""Server CPU per frame where frames go out back to back: the figures asked for a delivered frame.

12 and 6 µs were asked, of one subscriber and of each of 200, where a bare uvicorn's send of the same frame
took 4 to 7 and 13 to 21 µs. A bare send back to back takes 8 and 11 µs on the machine of the README, and the
same send once every 20 ms takes 45 and 23, of which the kernel's part is most; so those figures are of frames
back to back, and are judged here. What a frame costs that comes alone stands in `ws_tokens` and `fan_out`,
without a verdict, beside a bare send and the kernel's own part.

A model that answers at once has many frames go out in one turn of the loop, so that neither waking up nor the
kernel is paid for each: what a frame itself costs. Each turn lets two agents answer, one that is followed and
one that is not, and has a bare uvicorn send as many frames in the same shape; the difference of the two
answers is the frames'. It is a third of what an answer costs, and a pause of the collector or of the machine
in one of the two would be all of it: a figure is the median of its turns, not their sum.
"""

import asyncio
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from msgspec import Struct

from bench import targets
from bench.case import NO_PHASE, Bench, Case, Found, Row
from bench.measure import cpu_seconds
from bench.readers import Readers
from bench.targets import Process, Target, environment, free_port

MANY = 200
TOKENS = {1: 2000, MANY: 300}  # of one answer, by how many follow it
TURNS = {1: 9, MANY: 5}
QUICK_TURNS = 2
BARE_US = 5.5  # of one connection where the figure was asked: 4 to 7
QUIET_S = 0.3
WAIT_S = 30.0


class Frames(Struct, frozen=True):
    """How many came, and one of them."""

    count: int = 0
    sample: str = ""


class Bare(Struct, frozen=True):
    """A bare application, and who reads it."""

    pid: int
    readers: Readers

    def send(self, tokens: int) -> float:
        """Have it send so many frames, one after another, to each reader; CPU of each in µs."""
        before = cpu_seconds(self.pid)
        self.readers.ask(str(tokens))
        frames = _drain(self.readers)
        return (cpu_seconds(self.pid) - before) / max(1, frames.count) * 1e6


def measure(target: Target, bench: Bench) -> Found:
    """Measure answers with one follower and with many, and bare sends in the same shapes, turn by turn."""
    turns: list[dict[str, float]] = []
    for followers, tokens in TOKENS.items():
        count = QUICK_TURNS if bench.effort.quick else TURNS[followers]
        for number, figures in enumerate(_turns(target, bench, followers, tokens, count)):
            turns += [{}] if number == len(turns) else []
            turns[number] |= {f"{name}_{followers}": figure for name, figure in figures.items()}
    return turns


def _turns(
    target: Target, bench: Bench, followers: int, tokens: int, turns: int
) -> Generator[dict[str, float]]:
    """Let agents answer: one that is followed, one that is not; and the bare application send."""
    agents = targets.create_agents(target, 2 * turns + 2, f"fixed-t{tokens}-d0-g0")
    followed, alone = agents[::2], agents[1::2]
    with ExitStack() as stack:
        readers = stack.enter_context(Readers())
        readers.open(target.port, [[f"conv:{agent}" for agent in followed]] * followers)
        bare: Bare | None = None
        for one, other in zip(followed, alone, strict=True):
            frames, with_s = _answer(target, bench, readers, one)
            _, without_s = _answer(target, bench, readers, other)
            if not frames.count:
                raise RuntimeError("no token came")
            if bare is None:  # the first turn is for what is loaded and opened at first use
                bare = stack.enter_context(_bare(bench, frames.sample, followers))
                bare.send(tokens)
                continue
            yield {
                "cpu": (with_s - without_s) / frames.count * 1e6,
                "bare": bare.send(tokens),
                "frames": frames.count / tokens / followers,
            }


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


@contextmanager
def _bare(bench: Bench, frame: str, followers: int) -> Generator[Bare]:
    """Start a bare application that sends the frame, and connect as many to it."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", "--port", str(port), "--text", frame, "--gap", "0"]
    process = Process(command, environment(), bench.home / "bare.log")
    try:
        process.wait_ready(port, "/")
        with Readers() as readers:
            readers.open_plain(port, ["/0"] * followers)
            _drain(readers)
            yield Bare(process.pid, readers)
    finally:
        process.stop()


def _rows(followers: int, what: str, **asked: float) -> tuple[Row, ...]:
    title = f"websocket: gateway CPU per frame, back to back, {what}"
    limit, lever = f"bare_{followers}", "what gateway/realtime does for each publication"
    return (
        Row(
            key=f"cpu_{followers}",
            title=title,
            unit="µs",
            limit=limit,
            within=NO_PHASE,
            lever=lever,
            **asked,
        ),
        Row(key=limit, title=f"a bare uvicorn's, back to back, {what}", unit="µs", reference=True),
        Row(key=f"frames_{followers}", title=f"frames per token then, {what}", figure=1),
    )


CASE = Case(
    name="ws_burst",
    measure=measure,
    on=("ours",),
    most_runs=1,  # it takes turns already
    run_s={"ours": 44},
    rows=(
        *_rows(1, "one subscriber", figure=12, limit_then=BARE_US),
        *_rows(MANY, f"{MANY} subscribers", figure=6),
    ),
)
