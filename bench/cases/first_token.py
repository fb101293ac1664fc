"""What the server adds to the first token of a stream, one stream at a time."""

from bench import load, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import Job, Slot
from bench.measure import percentile
from bench.targets import Target

MODEL = "fixed-t2-d10-g2"
AGENTS = 20


def measure(target: Target, bench: Bench) -> Figures:
    """Stream short answers from a model that begins after 10 ms."""
    agents = targets.create_agents(target, AGENTS, MODEL)
    _stream(target, agents, AGENTS)
    bench.forget_requests()
    outcome = _stream(target, agents, bench.effort.of(100, 60))
    first = bench.first_tokens(outcome)
    return {
        "p50": percentile(first.added_ms, 50),
        "p99": percentile(first.added_ms, 99),
        "back_p50": percentile(first.back_ms, 50),
        "back_p99": percentile(first.back_ms, 99),
    }


def _stream(target: Target, agents: list[str], count: int) -> load.Outcome:
    requests = [target.message(agents[i % len(agents)], stream=True) for i in range(count)]
    outcome = load.run(Job(port=target.port, slots=[Slot(requests)]))
    targets.check(outcome)
    return outcome


CASE = Case(
    name="first_token",
    measure=measure,
    run_s={"relay": 2.6, "ours": 3.2},
    rows=(
        Row(key="p50", title="first token beside the provider's, p50", unit="ms", figure=4, relay=2.1),
        Row(key="p99", title="first token beside the provider's, p99", unit="ms", figure=10, relay=2.8),
        Row(key="back_p50", title="of that, written to seen, p50", unit="ms"),
        Row(key="back_p99", title="of that, written to seen, p99", unit="ms"),
    ),
)
