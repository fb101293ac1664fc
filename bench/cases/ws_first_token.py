"""What the server adds to the first token over the websocket, one run at a time; the relay answers by SSE."""

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.cases import first_token
from bench.load import NUMBER
from bench.measure import percentile
from bench.readers import Readers
from bench.targets import Target

AGENTS = 20
TEXT = f"#{NUMBER}# And what do you make of it?"


def measure(target: Target, bench: Bench) -> Figures:
    """Send over a connection that follows every agent; from the command's frame to the first token's."""
    if target.name == "relay":
        return first_token.measure(target, bench)
    agents = targets.create_agents(target, AGENTS, first_token.MODEL)
    with Readers() as readers:
        readers.open(target.port, [[f"conv:{agent}" for agent in agents]])
        readers.converse(agents, TEXT)
        bench.forget_requests()
        count = bench.effort.of(100, 60)
        outcome = readers.converse([agents[i % AGENTS] for i in range(count)], TEXT)
    targets.check(outcome)
    first = bench.first_tokens(outcome)
    return {
        "p50": percentile(first.added_ms, 50),
        "p99": percentile(first.added_ms, 99),
        "back_p50": percentile(first.back_ms, 50),
        "back_p99": percentile(first.back_ms, 99),
    }


CASE = Case(
    name="ws_first_token",
    measure=measure,
    run_s={"relay": 2.6, "ours": 3.2},
    rows=(
        Row(
            key="p50",
            title="websocket: first token beside the provider's, p50",
            unit="ms",
            figure=3,
            relay=2.1,
        ),
        Row(
            key="p99",
            title="websocket: first token beside the provider's, p99",
            unit="ms",
            figure=10,
            relay=2.8,
        ),
        Row(key="back_p50", title="of that, written to seen, p50", unit="ms"),
        Row(key="back_p99", title="of that, written to seen, p99", unit="ms"),
    ),
)
