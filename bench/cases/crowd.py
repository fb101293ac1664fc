"""Blocking messages to many agents at once, each with one message under way, as fast as they go."""

from bench import load, targets
from bench.case import WRITES, Bench, Case, Figures, Row
from bench.load import Job, Slot
from bench.measure import cpu_seconds, percentile
from bench.targets import Target


def measure(target: Target, bench: Bench) -> Figures:
    """Count what 32 and then 128 agents answer, and what it costs."""
    figures: dict[str, float] = {}
    seconds = bench.effort.of(2, 1)
    for count in (32, 128):
        agents = targets.create_agents(target, count)
        slots = [Slot([target.message(agent)]) for agent in agents]
        targets.check(load.run(Job(port=target.port, slots=slots)))
        provider = cpu_seconds(bench.provider.pid)
        with targets.spending(target) as spent:
            outcome = load.run(Job(port=target.port, slots=slots, seconds=seconds))
        targets.check(outcome)
        until_ns = outcome.started_ns + seconds * 1e9
        done = len(outcome.timings)
        figures |= {
            f"rate_{count}": sum(timing.ended_ns <= until_ns for timing in outcome.timings) / seconds,
            f"server_{count}": spent.server / done * 1e3,
            f"postgres_{count}": spent.postgres / done * 1e3,
            f"client_{count}": outcome.cpu_s / done * 1e3,
            f"provider_{count}": (cpu_seconds(bench.provider.pid) - provider) / done * 1e3,
            f"p99_{count}": percentile([timing.milliseconds for timing in outcome.timings], 99),
        }
    return figures


# The relay's table has one range, 1,250-1,300 messages per second, for both counts.
CASE = Case(
    name="crowd",
    measure=measure,
    run_s={"relay": 5.5, "ours": 6.5},
    rows=(
        Row(key="rate_32", title="messages/s, 32 agents", figure=400, relay=1250, at_least=True),
        Row(key="rate_128", title="messages/s, 128 agents", figure=400, relay=1300, at_least=True),
        Row(key="server_32", title="server CPU per message, 32 agents", unit="ms", figure=2.2, relay=0.62),
        Row(
            key="postgres_32",
            title="Postgres CPU per message, 32 agents",
            unit="ms",
            figure=1,
            relay=0.6,
            within=WRITES,
            lever="fewer rows and entries of indexes a message, in the commits of accept and checkpoint",
        ),
        Row(key="p99_128", title="message, 128 agents, p99", unit="ms"),
    ),
)
