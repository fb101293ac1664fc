"""Waking an agent that is not in memory: from a message to its model request, by what its window holds."""

import asyncio
import time

import msgspec

from bench import load, seeding, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import NUMBER, Job, Slot
from bench.measure import percentile
from bench.targets import FAST, Spent, Wakeful

HISTORIES = (20, 1_000, 10_000)
MANY_HISTORY = 20


def measure(target: Wakeful, bench: Bench) -> Figures:
    """Send each agent two messages, one agent at a time: for the first it wakes, beside the second.

    What waking costs is the difference. Then many wake at once.
    """
    own = target.variant(bench.home / f"cold-{time.monotonic_ns()}")
    own.start()
    try:
        targets.warm(own)
        counts = (bench.effort.of(30, 4), bench.effort.of(20, 3), bench.effort.of(6, 2))
        agents = {
            size: _seeded(own, bench, count, size) for size, count in zip(HISTORIES, counts, strict=True)
        }
        many = _seeded(own, bench, bench.effort.of(100, 20), MANY_HISTORY)
        bench.tell("cold, waking agents")
        own.restart()  # whatever it held of them it holds no more
        targets.warm(own)
        figures: dict[str, float] = {}
        for size, chosen in agents.items():
            figures |= {f"{name}_{size}": value for name, value in _wake(own, bench, chosen).items()}
        return figures | _wake_many(own, bench, many)
    finally:
        own.stop()


def _seeded(target: Wakeful, bench: Bench, count: int, history: int) -> list[str]:
    """Create agents whose windows hold so many messages, for a server that is started again then."""
    body = {"name": f"cold-{NUMBER}", "model": f"openai/{FAST}", "context_window_limit": 1_000_000}
    agents = targets.create(target, [("/v1/agents/", msgspec.json.encode(body).decode())] * count)
    with bench.bar(f"{count} agents with {history:,} messages each", count) as done:
        asyncio.run(seeding.histories(target.dsn, agents, history, done))
    return agents


def _wake(target: Wakeful, bench: Bench, agents: list[str]) -> dict[str, float]:
    """Wake agents one after another, then ask them again; milliseconds."""
    cold, cold_spent = _ask(target, bench, agents, at_once=False)
    hot, hot_spent = _ask(target, bench, agents, at_once=False)
    return {
        "cold": percentile(cold, 50),
        "cold_p95": percentile(cold, 95),
        "hot": percentile(hot, 50),
        "waking": percentile(cold, 50) - percentile(hot, 50),
        "hot_server": hot_spent.server / len(agents) * 1e3,
        "hot_postgres": hot_spent.postgres / len(agents) * 1e3,
        "server": (cold_spent.server - hot_spent.server) / len(agents) * 1e3,
        "postgres": (cold_spent.postgres - hot_spent.postgres) / len(agents) * 1e3,
    }


def _wake_many(target: Wakeful, bench: Bench, agents: list[str]) -> dict[str, float]:
    """Wake agents all at once, then ask them again, all at once."""
    times, spent = _ask(target, bench, agents, at_once=True)
    hot, hot_spent = _ask(target, bench, agents, at_once=True)
    return {
        "many_hot": percentile(hot, 50),
        "many_hot_last": max(hot),
        "many_hot_server": hot_spent.server / len(agents) * 1e3,
        "many_hot_postgres": hot_spent.postgres / len(agents) * 1e3,
        "many": percentile(times, 50),
        "many_last": max(times),
        "many_server": spent.server / len(agents) * 1e3,
        "many_postgres": spent.postgres / len(agents) * 1e3,
    }


def _ask(target: Wakeful, bench: Bench, agents: list[str], *, at_once: bool) -> tuple[list[float], Spent]:
    """Send each agent a message; return the milliseconds until its model was asked, and what all cost."""
    bench.forget_requests()
    requests = [target.message(agent) for agent in agents]
    slots = [Slot([request]) for request in requests] if at_once else [Slot(requests)]
    with targets.spending(target) as spent:
        outcome = load.run(Job(port=target.port, slots=slots))
    targets.check(outcome)
    arrived = {
        int(record.user_text.split("#")[1]): record.arrived_ns for record in asyncio.run(bench.provider.log())
    }
    times = [(arrived[timing.number] - timing.sent_ns) / 1e6 for timing in outcome.timings]
    return times, spent


def _rows(size: int) -> tuple[Row, ...]:
    what, hot = f"agent not in memory, history {size:,}", f"hot_{size}"
    p95 = 50 if size <= 1_000 else None
    return (
        Row(key=f"cold_{size}", title=f"{what}: message to model request, p50", unit="ms", limit=hot),
        Row(key=f"cold_p95_{size}", title="the same, p95", unit="ms", limit=hot, figure=p95),
        Row(key=f"waking_{size}", title="of that beyond an agent in memory", unit="ms", limit=hot),
        Row(key=f"server_{size}", title="waking it, server CPU", unit="ms", limit=f"hot_server_{size}"),
        Row(key=f"postgres_{size}", title="waking it, Postgres CPU", unit="ms", limit=f"hot_postgres_{size}"),
        Row(key=hot, title="the same agents, in memory: message to model request", unit="ms", reference=True),
    )


CASE = Case(
    name="cold",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=2,  # each seeds 82,000 messages and starts a server
    run_s={"ours": 35},
    rows=(
        *(row for size in HISTORIES for row in _rows(size)),
        Row(
            key="many",
            title="100 agents wake at once: message to model request, p50",
            unit="ms",
            limit="many_hot",
        ),
        Row(key="many_last", title="the last of them", unit="ms", limit="many_hot_last"),
        Row(
            key="many_server",
            title="server CPU for each, its answer included",
            unit="ms",
            limit="many_hot_server",
        ),
        Row(
            key="many_postgres",
            title="Postgres CPU for each, its answer included",
            unit="ms",
            limit="many_hot_postgres",
        ),
    ),
)
