"""Memory of a server that just started, and what each agent adds that is alive with 20 messages."""

import time

from bench import load, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import Job, Slot
from bench.measure import memory
from bench.targets import Target

SETTLE_S = 1.5
CONNECTIONS = 32
AT_ONCE = 4 * CONNECTIONS  # agents that are spoken to before the next ones are
EXCHANGES = 10


def measure(target: Target, bench: Bench) -> Figures:
    """Measure a server of its own, so that nothing else was done to it.

    The base of what agents add is taken after other agents and streams have made the server load and
    open what it needs at first use.
    """
    fresh = target.another(bench.home / f"memory-{target.name}-{time.monotonic_ns()}")
    fresh.start()
    try:
        time.sleep(SETTLE_S)
        idle = memory(fresh.pid)
        targets.warm(fresh)
        talk(fresh, 2 * CONNECTIONS, bench)
        time.sleep(SETTLE_S)
        before = memory(fresh.pid)
        count = bench.effort.of(500, 100)
        talk(fresh, count, bench)
        time.sleep(SETTLE_S)
        after = memory(fresh.pid)
    finally:
        fresh.stop()
    return {
        "idle": idle.rss_kib / 1024,
        "idle_pss": idle.pss_kib / 1024,
        "agent": (after.rss_kib - before.rss_kib) / count,
        "agent_uss": (after.uss_kib - before.uss_kib) / count,
        "warm": before.rss_kib / 1024,
    }


def talk(target: Target, count: int, bench: Bench) -> None:
    """Create agents and have ten exchanges with each: 20 messages."""
    agents = targets.create_agents(target, count)
    with bench.bar(f"ten exchanges with each of {count} agents", count) as done:
        for batch in (agents[start : start + AT_ONCE] for start in range(0, count, AT_ONCE)):
            slots = [
                Slot([target.message(agent) for agent in batch[i::CONNECTIONS] for _ in range(EXCHANGES)])
                for i in range(min(CONNECTIONS, len(batch)))
            ]
            targets.check(load.run(Job(port=target.port, slots=slots)))
            done(len(batch))


CASE = Case(
    name="memory",
    measure=measure,
    most_runs=1,  # it starts a server, and has 5,000 exchanges with it
    run_s={"relay": 14, "ours": 24},
    rows=(
        Row(key="idle", title="memory: server idle", unit="MiB", figure=130, relay=74, drifts=False),
        Row(key="agent", title="memory: added per hot agent with 20 messages", unit="KiB", figure=24),
        Row(key="agent_uss", title="the same, private pages only", unit="KiB"),
        Row(key="warm", title="memory: server after its first agents", unit="MiB"),
    ),
)
