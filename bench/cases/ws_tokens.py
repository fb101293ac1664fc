"""Server CPU per token frame at 20 ms a token, beside what a bare send of that frame costs here.

The gateway's part is the difference: the same runs go on with and without subscribers, in turns, because the
machine drifts. A bare send is a connection of `bench.bare`, whose ticks go on as well without connections.

Nothing is judged here. A frame that comes alone has a call of the kernel of its own for each subscriber, from
a bare uvicorn as from us, and with one subscriber it wakes the loop too: of 200 subscribers that call alone,
the row of a write to a transport, takes more than the 6 µs that were asked where a bare send took 13 to 21.
Those figures are of frames back to back, where a bare send takes that here, and are judged in `ws_burst`.
What these rows tell is how far a paced frame is above the kernel's part, and below a bare server's.
"""

import sys
import time
from collections.abc import Callable

from msgspec import Struct

from bench import targets
from bench.bare import GROUPS
from bench.case import Bench, Case, Figures, Row
from bench.measure import cpu_seconds
from bench.readers import Readers
from bench.targets import Process, Target, environment, free_port

GAP_S = 0.02
SETTLE_S = 0.3
WINDOW_S = 0.8
TURNS = 3
STREAMS = GROUPS  # of one subscriber each
MANY = 200


class Part(Struct, frozen=True):
    """What a part of the case found: µs per frame, and one of the frames."""

    us: float
    frame: str


def measure(target: Target, bench: Bench) -> Figures:
    """Measure streams with a subscriber each, one stream with many, and bare sends in the same shapes."""
    shapes = {"1": [1] * STREAMS, "200": [MANY]}
    figures: dict[str, float] = {}
    for name, subscribers in shapes.items():
        part = _gateway(target, bench, subscribers)
        figures |= {
            f"cpu_{name}": part.us,
            f"bare_{name}": bare(bench, subscribers, part.frame),
            "frame_bytes": len(part.frame),
        }
        if subscribers == [MANY]:
            figures[f"raw_{name}"] = bare(bench, subscribers, part.frame, raw=True)
    return figures


def _gateway(target: Target, bench: Bench, subscribers: list[int]) -> Part:
    """Let each agent stream, with so many subscribers of its conversation."""
    turns = bench.effort.of(TURNS, 1)
    window_s = WINDOW_S
    tokens = round((2 * turns + 1) * (window_s + SETTLE_S + 1) / GAP_S) + 150
    agents = targets.create_agents(target, len(subscribers), f"fixed-t{tokens}-d100-g{GAP_S * 1000:.0f}")
    channels = [
        [f"conv:{agent}"] for agent, count in zip(agents, subscribers, strict=True) for _ in range(count)
    ]
    with Readers() as readers:
        readers.open(target.port, channels)
        readers.unfollow()
        readers.say(agents, "Go on.")
        time.sleep(SETTLE_S + 0.2)
        part = _difference(
            target.pid, readers, readers.follow, readers.unfollow, turns=turns, window_s=window_s
        )
        readers.cancel()
    return part


def bare(
    bench: Bench, subscribers: list[int], frame: str, *, gap_s: float = GAP_S, raw: bool = False
) -> float:
    """Have a bare application send the frame to groups of connections; CPU of each in µs."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", "--port", str(port), "--text", frame]
    command += ["--gap", str(gap_s)]
    command += ["--raw"] if raw else []
    process = Process(command, environment(), bench.home / "bare.log")
    try:
        process.wait_ready(port, "/")
        paths = [f"/{group}" for group, count in enumerate(subscribers) for _ in range(count)]
        with Readers() as readers:
            return _difference(
                process.pid,
                readers,
                lambda: readers.open_plain(port, paths),
                readers.leave,
                turns=bench.effort.of(TURNS - 1, 1),
                window_s=WINDOW_S,
            ).us
    finally:
        process.stop()


def _difference(
    pid: int,
    readers: Readers,
    begin: Callable[[], None],
    end: Callable[[], None],
    *,
    turns: int,
    window_s: float,
) -> Part:
    """Return CPU with subscribers less CPU without, in µs per token frame that came."""
    without, with_them, tokens, frame = 0.0, 0.0, 0, ""
    for _ in range(turns):
        without += _spent(pid, window_s)
        begin()
        time.sleep(SETTLE_S)
        readers.count()
        with_them += _spent(pid, window_s)
        counted = readers.count()
        tokens += counted.tokens
        frame = counted.sample or frame
        end()
        time.sleep(SETTLE_S)
    without = (without + _spent(pid, window_s)) * turns / (turns + 1)
    if not tokens:
        raise RuntimeError("no token came")
    return Part((with_them - without) / tokens * 1e6, frame)


def _spent(pid: int, seconds: float) -> float:
    """CPU seconds per second, over so many."""
    began, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began) * seconds


CASE = Case(
    name="ws_tokens",
    measure=measure,
    on=("ours",),
    most_runs=1,  # it takes turns already
    run_s={"ours": 36},
    rows=(
        Row(
            key="cpu_1",
            title="websocket: gateway CPU per frame, one every 20 ms, one subscriber",
            unit="µs",
            limit="bare_1",
        ),
        Row(
            key="bare_1", title="a bare uvicorn's, one every 20 ms, one connection", unit="µs", reference=True
        ),
        Row(
            key="cpu_200",
            title="websocket: gateway CPU per frame, one every 20 ms, 200 subscribers",
            unit="µs",
            limit="bare_200",
        ),
        Row(
            key="bare_200",
            title="a bare uvicorn's, one every 20 ms, 200 connections",
            unit="µs",
            reference=True,
        ),
        Row(
            key="raw_200",
            title="of that the kernel's part: a write of the frame to a transport, 200 connections",
            unit="µs",
            reference=True,
        ),
    ),
)
