"""A blocking message, one at a time, to agents with a history of 0, 100, 1,000 and 10,000 messages.

The floor gets the whole history in each request, as a server sends it. On a foreign server only a history of
nothing can be measured, but for one that is given it with each request.
"""

from msgspec import structs

from bench import levels, loaded
from bench.case import Bench, Case, Figures, Row
from bench.generator import Order
from bench.levels import Level
from bench.loaded import Floor, Foreign, Loaded
from bench.targets import FAST

HISTORIES = (0, 100, 1000, 10_000)
QUICK = HISTORIES[:3]
NEW_AGENTS, OLD_AGENTS = 50, 8
WARM_S, SECONDS = 0.5, 2.0


def measure(target: Loaded, bench: Bench) -> Figures:
    """Send to each kind of agent in turn; the agents take turns too, so that short histories stay short."""
    found: dict[int, Level] = {}
    for door in loaded.doors(target, "blocking", FAST):
        for history in QUICK if bench.effort.quick else HISTORIES:
            agents = _agents(target, bench, history)
            if agents is None:
                continue
            bench.tell(f"load_history, {door.name}, {history} messages")
            order = Order(
                door=structs.replace(door, history=history if door.wire == "openai" else 0),
                agents=agents,
                at_once=1,
                seconds=WARM_S + SECONDS,
                warm_s=WARM_S,
            )
            found[history] = levels.measure(order, bench.provider, case=CASE.name, level=history)
            bench.levels.append(found[history])
    figures = {
        f"p50_{history}": level.whole.p50 for history, level in found.items() if level.whole is not None
    }
    return figures | {
        f"ratio_{history}": figures[f"p50_{history}"] / figures["p50_0"]
        for history in HISTORIES[1:]
        if f"p50_{history}" in figures and figures.get("p50_0")
    }


def _agents(target: Loaded, bench: Bench, history: int) -> list[str] | None:
    """Agents with so much history, or None where they cannot be made."""
    if isinstance(target, Floor) or (isinstance(target, Foreign) and target.at.kind == "openai"):
        return ["one"]
    if history == 0:
        return loaded.fresh(bench, target, NEW_AGENTS, FAST)
    if isinstance(target, Foreign):
        return None
    count = bench.effort.of(OLD_AGENTS, 2)
    key = ("histories", target.name, str(history))
    return bench.once(key, lambda: target.with_history(count, history))


CASE = Case(
    name="load_history",
    measure=measure,
    on=("floor", "relay", "ours"),
    most_runs=1,
    suite="load",
    rows=(
        *(
            Row(key=f"p50_{history}", title=f"blocking message, history {history:,}, p50", unit="ms")
            for history in HISTORIES
        ),
        Row(key="ratio_100", title="history 100 to 0", unit="times"),
        Row(key="ratio_1000", title="history 1,000 to 0", unit="times", figure=1.3, relay=1.2),
        Row(key="ratio_10000", title="history 10,000 to 0", unit="times"),
    ),
)
