"""A blocking message, one at a time, to agents with a history of 0, 100, 1,000 and 10,000 messages.

The floor gets the whole history in each request, as a server sends it, and so do servers of others by the
OpenAI API and by AG-UI, whose clients send it. A Letta server's agents get theirs before, by an agent file or
message by message; where that takes too long, or its model is sent less, the report says so.
"""

from functools import partial

from msgspec import structs

from bench import levels, loaded
from bench.case import Bench, Case, Figures, Row
from bench.foreign import Foreign, HistoryError
from bench.generator import Order
from bench.levels import Level
from bench.loaded import Floor, Loaded
from bench.targets import FAST, Relay, Wakeful

HISTORIES = (0, 100, 1000, 10_000)
QUICK = HISTORIES[:3]
NEW_AGENTS, OLD_AGENTS = 50, 8
FEW_AGENTS = 2  # on a server that may have to be told each message
WARM_S, SECONDS = 0.5, 2.0


def measure(target: Loaded, bench: Bench) -> Figures:
    """Send to each kind of agent in turn; the agents take turns too, so that short histories stay short."""
    found: dict[int, Level] = {}
    for door in loaded.doors(target, "blocking", FAST) or loaded.doors(target, "stream", FAST)[:1]:
        for history in QUICK if bench.effort.quick else HISTORIES:
            bench.tell(f"load_history, {door.name}, making {history:,} messages")
            try:
                agents = _agents(target, bench, history)
            except HistoryError as error:
                bench.notes.append(f"load_history, {door.name}: no history of {history:,} messages: {error}")
                break  # a longer one takes longer
            bench.tell(f"load_history, {door.name}, {history:,} messages")
            order = Order(
                door=structs.replace(door, history=history if _sends(target) else 0),
                agents=agents,
                at_once=1,
                seconds=WARM_S + SECONDS,
                warm_s=WARM_S,
            )
            found[history] = levels.measure(order, bench.provider, case=CASE.name, level=history)
            bench.levels.append(found[history])
            if found[history].whole is None:
                bench.notes.append(
                    f"load_history, {door.name}, {history:,} messages: no answer in {SECONDS:g} s"
                )
    figures = {
        f"p50_{history}": level.whole.p50 for history, level in found.items() if level.whole is not None
    }
    return figures | {
        f"ratio_{history}": figures[f"p50_{history}"] / figures["p50_0"]
        for history in HISTORIES[1:]
        if f"p50_{history}" in figures and figures.get("p50_0")
    }


def _sends(target: Loaded) -> bool:
    """Whether the client sends the history with each message, as to a server that remembers none."""
    return isinstance(target, Floor) or (isinstance(target, Foreign) and target.at.kind != "letta")


def _agents(target: Loaded, bench: Bench, history: int) -> list[str]:
    """Agents with so much history. Raises `HistoryError` where they cannot be made."""
    if isinstance(target, Floor) or (isinstance(target, Foreign) and target.at.kind == "openai"):
        return ["one"]
    if history == 0 or _sends(target):
        return loaded.fresh(bench, target, NEW_AGENTS, FAST)
    count = bench.effort.of(OLD_AGENTS, 2)
    key = ("histories", target.name, str(history))
    if isinstance(target, Foreign):
        loaded.awaken(bench)
        count = min(count, FEW_AGENTS)
        make = partial(target.with_history, count, history, model=FAST, provider=bench.provider)
        return bench.once(key, partial(make, tell=bench.tell))
    return bench.once(key, lambda: _awake(target, bench, count, history))


def _awake(target: Relay | Wakeful, bench: Bench, count: int, history: int) -> list[str]:
    """Agents of ours or the relay's with so much history, in memory: what waking costs is another case."""
    agents = target.with_history(count, history, bench.bar)
    loaded.awaken(bench)
    loaded.wake(target, agents)
    return agents


CASE = Case(
    name="load_history",
    measure=measure,
    on=("floor", "relay", "ours"),
    most_runs=1,
    run_s={"floor": 12, "relay": 27, "ours": 45},
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
