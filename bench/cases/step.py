"""A blocking message, one at a time, to a model with no latency: with no history and with 1,000 messages."""

from bench import load, targets
from bench.case import WRITES, Bench, Case, Figures, Row
from bench.load import Job, Slot
from bench.measure import percentile
from bench.targets import Target

FRESH_AGENTS, OLD_AGENTS, HISTORY = 30, 20, 1000
ROUNDS = 3  # the two kinds take turns, so that a drift of the machine meets both


def measure(target: Target, bench: Bench) -> Figures:
    """Send messages to agents that are alive already, spread so that short histories stay short.

    The old agents are made once and grow by two messages a turn, so that the last of five runs sees
    about a tenth more than 1,000.
    """
    old = bench.once(("history", target.name), lambda: target.with_history(OLD_AGENTS, HISTORY, bench.bar))
    kinds = {"0": targets.create_agents(target, FRESH_AGENTS), "1000": old}
    figures: dict[str, float] = {}
    times: dict[str, list[float]] = {"0": [], "1000": []}
    server, postgres = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0)
    for agents in kinds.values():
        _send(target, agents, len(agents))
    for _ in range(ROUNDS):
        for kind, agents in kinds.items():
            with targets.spending(target) as spent:
                times[kind] += _send(target, agents, bench.effort.of(50, 30))
            server[kind] += spent.server
            postgres[kind] += spent.postgres
    for kind, milliseconds in times.items():
        figures |= {
            f"p50_{kind}": percentile(milliseconds, 50),
            f"p99_{kind}": percentile(milliseconds, 99),
            f"server_{kind}": server[kind] / len(milliseconds) * 1e3,
            f"postgres_{kind}": postgres[kind] / len(milliseconds) * 1e3,
        }
    return figures | {"ratio": figures["p50_1000"] / figures["p50_0"]}


def _send(target: Target, agents: list[str], count: int) -> list[float]:
    requests = [target.message(agents[i % len(agents)]) for i in range(count)]
    outcome = load.run(Job(port=target.port, slots=[Slot(requests)]))
    targets.check(outcome)
    return [timing.milliseconds for timing in outcome.timings]


CASE = Case(
    name="step",
    measure=measure,
    run_s={"relay": 1.5, "ours": 3},
    once_s={"relay": 3, "ours": 7},
    rows=(
        Row(key="p50_0", title="blocking step, p50", unit="ms", figure=5, relay=2.3),
        Row(key="p99_0", title="blocking step, p99", unit="ms", figure=12, relay=3.3),
        Row(key="ratio", title="the same with history 1,000 to 0", unit="times", figure=1.3, relay=1.2),
        Row(key="server_0", title="server CPU per message, history 0", unit="ms", figure=3, relay=1.15),
        Row(key="server_1000", title="the same, history 1,000", unit="ms", figure=4, relay=1.25),
        Row(
            key="postgres_0",
            title="Postgres CPU per message",
            unit="ms",
            figure=1,
            relay=0.6,
            within=WRITES,
            lever="fewer rows and entries of indexes a message, in the commits of accept and checkpoint",
        ),
        Row(key="postgres_1000", title="Postgres CPU per message, history 1,000", unit="ms"),
    ),
)
