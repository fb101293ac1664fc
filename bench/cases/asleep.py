"""What an agent costs in memory that nobody speaks to: right after its messages, idle, and passivated."""

import time

from bench import targets
from bench.case import NO_PHASE, Bench, Case, Figures, Row
from bench.cases.memory import CONNECTIONS, talk
from bench.measure import memory
from bench.targets import Wakeful

SETTLE_S = 2.0
IDLE_S = 10.0  # the logs of what was said are packed meanwhile
SWEEP_S = 3.0  # the server looks more often than that for agents to passivate


def measure(target: Wakeful, bench: Bench) -> Figures:
    """Fill a server of its own with one cohort after another; the first leaves before the second comes.

    What a passivated agent keeps is by how much the server with the second cohort, and the first one
    passivated, is larger than with the first alone: what was freed counts, however the allocator holds it.
    """
    # Idle seconds until agents are passivated: the first must still be there when the last are idle.
    away_s = bench.effort.of(30, 6)
    count = bench.effort.of(300, 30)
    settings = {"WAKEFUL_PASSIVATE_AFTER": str(away_s)}
    own = target.variant(bench.home / f"asleep-{time.monotonic_ns()}", settings)
    own.start()
    try:
        targets.warm(own)
        talk(own, 2 * CONNECTIONS, bench)
        time.sleep(SETTLE_S)
        before = memory(own.pid)
        talk(own, count, bench)
        time.sleep(SETTLE_S)
        hot = memory(own.pid)
        bench.wait("agents are idle", min(IDLE_S, away_s / 3))
        idle = memory(own.pid)
        bench.wait("agents are passivated", away_s + SWEEP_S)
        away = memory(own.pid)
        talk(own, count, bench)
        time.sleep(SETTLE_S)
        again = memory(own.pid)
    finally:
        own.stop()
    return {
        "hot": (hot.rss_kib - before.rss_kib) / count,
        "idle": (idle.rss_kib - before.rss_kib) / count,
        "passivated": (again.rss_kib - hot.rss_kib) / count,
        "given_back": (idle.rss_kib - away.rss_kib) / count,
        "hot_uss": (hot.uss_kib - before.uss_kib) / count,
        "passivated_uss": (again.uss_kib - hot.uss_kib) / count,
    }


CASE = Case(
    name="asleep",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=1,  # most of it is waiting until agents are passivated
    run_s={"ours": 76},
    rows=(
        Row(
            key="hot",
            title="memory per agent with 20 messages, just spoken to",
            unit="KiB",
            figure=24,
            within=NO_PHASE,
            lever="what an agent keeps of its messages, and what the allocator keeps beside it",
        ),
        Row(key="idle", title="memory per agent, in memory but idle", unit="KiB", limit="hot"),
        Row(key="passivated", title="memory that a passivated agent keeps", unit="KiB", limit="hot"),
        Row(
            key="given_back",
            title="memory that the system got back at once, per agent",
            unit="KiB",
            limit="idle",
        ),
    ),
)
