"""A blocking message whose answer takes a memory tool, so two model calls, to a model with no latency."""

import asyncio
from typing import Any

import msgspec

from bench import load, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import Job, Slot
from bench.measure import percentile
from bench.replies import Reply, ToolCall
from bench.targets import Target

AGENTS = 30
CALL = Reply(
    tool_calls=(ToolCall("memory_insert", {"label": "human", "new_string": "Likes tea in the morning."}),)
)
ANSWER = Reply(text="".join(f"word{i} " for i in range(20)))


def measure(target: Target, bench: Bench) -> Figures:
    """Send messages one at a time; each changes a block, so the prompt is rebuilt as well.

    The relay has no tools: there two plain messages stand for the two model calls.
    """
    agents = _create(target)
    _send(target, bench, agents, AGENTS)
    with targets.spending(target) as spent:
        times = _send(target, bench, agents, bench.effort.of(100, 60))
    return {
        "p50": percentile(times, 50),
        "p99": percentile(times, 99),
        "server": spent.server / len(times) * 1e3,
        "postgres": spent.postgres / len(times) * 1e3,
    }


def _create(target: Target) -> list[str]:
    """Create agents that have a block to write to."""
    path, body = target.creation(targets.FAST)
    if target.name != "relay":
        block = {"label": "human", "value": "Name: Sam"}
        made = msgspec.json.decode(body, type=dict[str, Any]) | {"memory_blocks": [block]}
        body = msgspec.json.encode(made).decode()
    return targets.create(target, [(path, body)] * AGENTS)


def _send(target: Target, bench: Bench, agents: list[str], count: int) -> list[float]:
    """Return the milliseconds of each answer."""
    plain = target.name == "relay"
    messages = 2 * count if plain else count
    requests = [target.message(agents[i % len(agents)]) for i in range(messages)]
    if not plain:
        asyncio.run(bench.provider.script([CALL, ANSWER] * count))
    outcome = load.run(Job(port=target.port, slots=[Slot(requests)], keep=not plain))
    targets.check(outcome)
    if any('"status":"success"' not in body for body in outcome.bodies):
        raise RuntimeError("a memory tool did not succeed")
    times = [timing.milliseconds for timing in outcome.timings]
    return [a + b for a, b in zip(times[::2], times[1::2], strict=True)] if plain else times


CASE = Case(
    name="tool",
    measure=measure,
    run_s={"relay": 1.2, "ours": 2.5},
    rows=(
        Row(key="p50", title="step with a memory tool, p50", unit="ms", figure=9, relay=4.6),
        Row(key="p99", title="step with a memory tool, p99", unit="ms"),
        Row(key="server", title="server CPU per message with a tool", unit="ms"),
        Row(key="postgres", title="Postgres CPU per message with a tool", unit="ms"),
    ),
)
