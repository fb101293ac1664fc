"""What it costs to create an agent."""

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.targets import Target


def measure(target: Target, bench: Bench) -> Figures:
    """Create agents one after another."""
    count = bench.effort.of(200, 60)
    with targets.spending(target) as spent:
        targets.create_agents(target, count)
    return {"server": spent.server / count * 1e3, "postgres": spent.postgres / count * 1e3}


CASE = Case(
    name="create",
    measure=measure,
    run_s={"relay": 0.5, "ours": 1},
    rows=(
        Row(key="server", title="create an agent, server CPU", unit="ms", figure=3, relay=0.6),
        Row(key="postgres", title="create an agent, Postgres CPU", unit="ms"),
    ),
)
