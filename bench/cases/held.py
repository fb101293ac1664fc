"""How many realistic streams are held: 500 ms, then 20 ms a token, 100 tokens, first token p99 in 100 ms."""

from collections.abc import Callable

from bench import load, targets
from bench.case import TO_FIRST_TOKEN, Bench, Case, Figures, Row
from bench.load import Job, Slot
from bench.measure import percentile
from bench.targets import Target

MODEL = "fixed-t100-d500-g20"
STREAM_S = 2.5
SENDING_S = 3.2  # a stream that ends before this is followed by another on the same connection
LIMIT_MS = 100.0
LEVELS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512)
FIRST = LEVELS.index(128)


def measure(target: Target, bench: Bench) -> Figures:
    """Find the highest level that is held, beginning where the last run ended."""
    start = bench.once(("held", target.name), lambda: FIRST)
    p99s = search(start, lambda level: _p99(target, bench, level))
    held = max((level for level, p99 in p99s.items() if p99 <= LIMIT_MS), default=0)
    bench.keep(("held", target.name), LEVELS.index(held) if held else 0)
    return {"held": held} | {f"p99_{level}": p99 for level, p99 in p99s.items()}


def search(at: int, p99_of: Callable[[int], float]) -> dict[int, float]:
    """Walk up the levels while they are held, or down while they are not; return what each level took."""
    p99s: dict[int, float] = {}
    while LEVELS[at] not in p99s:
        p99s[LEVELS[at]] = p99 = p99_of(LEVELS[at])
        at = min(at + 1, len(LEVELS) - 1) if p99 <= LIMIT_MS else max(at - 1, 0)
    return p99s


def _p99(target: Target, bench: Bench, level: int) -> float:
    agents = bench.once(("held", target.name, str(level)), lambda: _awake(target, level))
    slots = [
        Slot([target.message(agent, stream=True)], start_s=STREAM_S * i / level)
        for i, agent in enumerate(agents)
    ]
    bench.forget_requests()
    outcome = load.run(Job(port=target.port, slots=slots, seconds=SENDING_S))
    if any(timing.status != 200 or not timing.tokens for timing in outcome.timings):
        return float("inf")
    return percentile(bench.first_tokens(outcome).added_ms, 99)


def _awake(target: Target, count: int) -> list[str]:
    """Create agents and let each answer once: what waking costs is not what is asked here."""
    agents = targets.create_agents(target, count, MODEL)
    slots = [Slot([target.message(agent)]) for agent in agents]
    targets.check(load.run(Job(port=target.port, slots=slots)))
    return agents


CASE = Case(
    name="held",
    measure=measure,
    most_runs=3,  # a level takes 6 s, and a run two of them on each target
    run_s={"relay": 13, "ours": 13},
    once_s={"relay": 8, "ours": 10},
    rows=(
        Row(
            key="held",
            title="realistic streams held",
            figure=128,
            relay=256,
            at_least=True,
            within=TO_FIRST_TOKEN,
            lever="what the one loop does between two tokens of the others, which `tokens` counts",
        ),
        Row(key="p99_128", title="first token, 128 realistic streams, p99", unit="ms"),
    ),
)
