"""What a message, a token and a frame cost where each comes after a pause.

Back to back, as in `step`, `crowd` and `tokens`, they find the processor's caches full of what they need, and
share wake-ups and commits. After a pause they do neither, and cost up to twice as much.
"""

import time
from itertools import pairwise

from msgspec import Struct

from bench import stretch, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import Job, Loading, Slot
from bench.measure import cpu_seconds
from bench.readers import Readers
from bench.targets import Target

# Seconds that are accounted, by messages per second: of a host mostly at rest, and of one half busy.
MESSAGES_S = {10: 4, 80: 2}
MODEL_S = 1.0  # to answer a message, in one piece: each agent has one message a second
STREAMS = 5
GAP_S = 0.02
WATCHERS = 2  # of each stream
TURNS = 2
REST_S = 2.0  # before the streams: what the messages before them put off is done then
SETTLE_S = 0.4
STRETCH_S = 1.5  # of streams without watchers, and then with them


class Spent(Struct, frozen=True):
    """A stretch of messages: how many ended per second, and CPU in ms per message."""

    rate: float
    server: float
    postgres: float


def measure(target: Target, bench: Bench) -> list[Figures]:
    """Measure in turns. What the server takes at rest (`idle`) is within messages and tokens, not frames."""
    count = bench.effort.of(TURNS, 1)
    model = f"fixed-t20-d{MODEL_S * 1000:.0f}-g0"
    crowds = {rate: targets.create_agents(target, rate, model) for rate in MESSAGES_S}
    time.sleep(REST_S)
    turns = _streams(target, count)
    for figures in turns:
        for rate, agents in crowds.items():
            spent = _messages(target, agents, seconds=bench.effort.of(MESSAGES_S[rate], 1) * MODEL_S)
            figures |= {
                f"rate_{rate}": spent.rate,
                f"server_{rate}": spent.server,
                f"postgres_{rate}": spent.postgres,
            }
    return [*turns]


def _messages(target: Target, agents: list[str], *, seconds: float) -> Spent:
    """Send each agent a message whenever it has answered, their beginnings spread over the model's time."""
    slots = [
        Slot([target.message(agent)], start_s=MODEL_S * at / len(agents)) for at, agent in enumerate(agents)
    ]
    job = Job(port=target.port, slots=slots, seconds=MODEL_S + SETTLE_S + seconds)
    found = stretch.account(target, job, after=MODEL_S + SETTLE_S, seconds=seconds)
    if not (count := found.messages):
        raise RuntimeError("no message ended in the stretch that was accounted")
    return Spent(count / found.seconds, found.server / count * 1e3, found.postgres / count * 1e3)


def _streams(target: Target, turns: int) -> list[dict[str, float]]:
    """Account streams to the clients that asked, and between such stretches the same with watchers."""
    seconds = STRETCH_S + SETTLE_S + turns * 2 * (STRETCH_S + SETTLE_S) + 1
    agents = targets.create_agents(
        target, STREAMS, f"fixed-t{round(seconds / GAP_S)}-d100-g{GAP_S * 1000:.0f}"
    )
    slots = [
        Slot([target.message(agent, stream=True)], start_s=GAP_S * at / STREAMS)
        for at, agent in enumerate(agents)
    ]
    watched: list[tuple[float, float]] = []  # CPU seconds and frames per second
    with Readers() as readers:
        readers.open(target.port, [[f"conv:{agent}"] for agent in agents for _ in range(WATCHERS)])
        readers.unfollow()
        loading = Loading(Job(port=target.port, slots=slots))
        time.sleep(SETTLE_S)
        alone = [_share(target.pid)]
        for _ in range(turns):
            watched.append(_watched(target.pid, readers))
            alone.append(_share(target.pid))
        targets.check(loading.finish())
    tokens = STREAMS / GAP_S
    around = [(before + after) / 2 for before, after in pairwise(alone)]
    return [
        {"tokens": tokens, "token": without / tokens * 1e6, "frame": (with_them - without) / frames * 1e6}
        for without, (with_them, frames) in zip(around, watched, strict=True)
    ]


def _watched(pid: int, readers: Readers) -> tuple[float, float]:
    """CPU seconds and frames per second of a stretch in which all watchers follow."""
    readers.follow()
    time.sleep(SETTLE_S)
    readers.count()
    began = time.monotonic()
    spent = _share(pid)
    frames = readers.count().tokens / (time.monotonic() - began)
    readers.unfollow()
    time.sleep(SETTLE_S)
    if not frames:
        raise RuntimeError("no token came to the watchers")
    return spent, frames


def _share(pid: int) -> float:
    """CPU seconds of a process per second, over a stretch."""
    began, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(STRETCH_S)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


CASE = Case(
    name="paced",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=1,  # it takes turns already
    run_s={"ours": 36},
    rows=(
        *(
            row
            for rate in MESSAGES_S
            for row in (
                Row(key=f"rate_{rate}", title=f"messages/s where {rate} are asked for", reference=True),
                Row(
                    key=f"server_{rate}",
                    title=f"server CPU per message, {rate}/s with pauses",
                    unit="ms",
                    reference=True,
                ),
                Row(
                    key=f"postgres_{rate}",
                    title=f"Postgres CPU per message, {rate}/s with pauses",
                    unit="ms",
                    reference=True,
                ),
            )
        ),
        Row(key="tokens", title=f"tokens/s of {STREAMS} streams", reference=True),
        Row(key="token", title=f"server CPU per token, {STREAMS} streams", unit="µs", reference=True),
        Row(
            key="frame",
            title=f"websocket: server CPU per frame, {STREAMS} streams of {WATCHERS} watchers",
            unit="µs",
            reference=True,
        ),
    ),
)
