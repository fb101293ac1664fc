"""Memory of a server that just started, and what each agent adds that is alive with 20 messages."""

import time

from bench import load, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import Job, Slot
from bench.measure import memory
from bench.targets import Target

SETTLE_S = 2.0
CONNECTIONS = 32
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
        talk(fresh, 2 * CONNECTIONS)
        time.sleep(SETTLE_S)
        before = memory(fresh.pid)
        count = bench.effort.of(500, 100)
        talk(fresh, count)
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


def talk(target: Target, count: int) -> None:
    """Create agents and have ten exchanges with each: 20 messages."""
    agents = targets.create_agents(target, count)
    slots = [
        Slot([target.message(agent) for agent in agents[i::CONNECTIONS] for _ in range(EXCHANGES)])
        for i in range(min(CONNECTIONS, count))
    ]
    targets.check(load.run(Job(port=target.port, slots=slots)))


CASE = Case(
    name="memory",
    measure=measure,
    most_runs=1,
    rows=(
        Row(key="idle", title="memory: server idle", unit="MiB", figure=130, relay=74, drifts=False),
        Row(key="agent", title="memory: added per hot agent with 20 messages", unit="KiB", figure=24),
        Row(key="agent_uss", title="the same, private pages only", unit="KiB"),
        Row(key="warm", title="memory: server after its first agents", unit="MiB"),
    ),
)
