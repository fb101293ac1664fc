"""Memory of an idle websocket connection that has said who it is and follows two channels."""

import time

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.measure import memory
from bench.readers import Readers
from bench.targets import Target

SETTLE_S = 2.0
AGENTS = 20
WARM = 200  # connections before the first reading, so that what is loaded once is not counted


def measure(target: Target, bench: Bench) -> Figures:
    """Measure a server of its own before and after its connections; the agents are in memory before."""
    fresh = target.another(bench.home / f"ws-memory-{target.name}-{time.monotonic_ns()}")
    fresh.start()
    try:
        targets.warm(fresh)
        agents = targets.create_agents(fresh, AGENTS)
        count = bench.effort.of(5000, 500)
        with Readers() as readers:
            readers.open(fresh.port, _channels(agents, WARM))
            readers.leave()
            time.sleep(SETTLE_S)
            before = memory(fresh.pid)
            began = time.monotonic()
            readers.open(fresh.port, _channels(agents, count))
            opening_s = time.monotonic() - began
            time.sleep(SETTLE_S)
            after = memory(fresh.pid)
            lost = readers.count().lost
    finally:
        fresh.stop()
    if lost:
        raise RuntimeError(f"{lost} of {count} connections were lost")
    return {
        "connection": (after.rss_kib - before.rss_kib) / count,
        "connection_uss": (after.uss_kib - before.uss_kib) / count,
        "opened": count / opening_s,
    }


def _channels(agents: list[str], count: int) -> list[list[str]]:
    """Each connection follows one agent: its conversation and its state."""
    chosen = [agents[i % len(agents)] for i in range(count)]
    return [[f"conv:{agent}", f"agent:{agent}:state"] for agent in chosen]


CASE = Case(
    name="ws_memory",
    measure=measure,
    on=("ours",),
    most_runs=1,
    rows=(
        Row(
            key="connection", title="websocket: memory per idle connection, 2 channels", unit="KiB", figure=32
        ),
        Row(key="connection_uss", title="the same, private pages only", unit="KiB"),
        Row(key="opened", title="connections opened and subscribed per second"),
    ),
)
