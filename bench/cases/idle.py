"""What a server takes that is asked nothing: its beats and polls, and what its database does meanwhile."""

import time

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.targets import Target

QUIET_S = 1.0  # after what was asked before


def measure(target: Target, bench: Bench) -> Figures:
    """Account a stretch in which nothing is sent."""
    seconds = bench.effort.of(5, 3)
    time.sleep(QUIET_S)
    began = time.monotonic()
    with targets.spending(target) as spent:
        time.sleep(seconds)
    took = time.monotonic() - began
    return {"server": spent.server / took * 1e3, "postgres": spent.postgres / took * 1e3}


CASE = Case(
    name="idle",
    measure=measure,
    most_runs=1,
    run_s={"relay": 6, "ours": 6},
    rows=(
        Row(key="server", title="server CPU while idle, per second", unit="ms"),
        Row(key="postgres", title="Postgres CPU while idle, per second", unit="ms"),
    ),
)
