"""Messages a second, by how many agents are spoken to at once, and what each takes at 70 % of the most.

The closed loop finds the most; its latencies say nothing, because it waits with the server. It is climbed
until a level fails or has less than half of what a lower one had, and the level that had most is measured
again in turns with the relay at its own best: a server and its lower bound a minute apart are those of two
machines, as ours drifts. A door that streams stands beside the relay's stream, one that does not beside its
blocking answer. The latencies of the open loop that follows are counted from when each message was meant to
be sent.
"""

from statistics import median

from msgspec import Struct, structs

from bench import levels, loaded
from bench.arrivals import Arrivals
from bench.case import Bench, Case, Figures, Found, Row
from bench.doors import Door, Way
from bench.foreign import Foreign
from bench.generator import Order
from bench.levels import Level
from bench.loaded import Loaded
from bench.targets import FAST, Relay, Wakeful

LEVELS = (1, 8, 32, 128, 512)
QUICK = LEVELS[:3]
TURNS = 3
WARM_S = 0.5
CLOSED_S, OPEN_S = 1.5, 3.0
LEAST_ROUNDS, MOST_S = 3, 8.0  # in which many agents have answered several times each
SHARE = 0.7
OPEN_SEED = 70
QUICK_LINES = 128  # of the open loop, else as many as the highest level has


class Best(Struct, frozen=True):
    """The level at which a door answered most messages a second."""

    door: Door
    level: int
    rate: float


def measure(target: Loaded, bench: Bench) -> Found:
    """Climb the levels through each door that answers whole messages, and the streaming ones too."""
    p99: dict[str, float] = {}
    served = isinstance(target, Foreign | Wakeful)
    turns: list[dict[str, float]] = [{} for _ in range(bench.effort.of(TURNS, 1) if served else 1)]
    for door in _doors(target):
        best = _climb(target, bench, door)
        if best is None:
            continue
        if isinstance(target, Relay):
            bench.keep(("load_messages", door.way), (target, best))
        elif served:
            _again(target, bench, best, turns)
        rate = median([turn.get(f"best_{_key(door)}", best.rate) for turn in turns])
        p99 |= _steady(target, bench, best, rate)
    return [turn | (p99 if not number else {}) for number, turn in enumerate(turns)]


def _climb(target: Loaded, bench: Bench, door: Door) -> Best | None:
    """Ask for more at once until it gives less. None where no level was answered."""
    best: Best | None = None
    for level in QUICK if bench.effort.quick else LEVELS:
        found = _measure(bench, _closed(target, bench, door, level), level)
        bench.levels.append(found)
        rate, most = found.rate or 0.0, best.rate if best else 0.0
        if rate > most:
            best = Best(door, level, rate)
        if found.error_rate >= levels.ERRORS_AT_MOST or rate < levels.COLLAPSED * most:
            break  # a higher level would tell nothing more
    return best


def _again(target: Loaded, bench: Bench, best: Best, turns: list[dict[str, float]]) -> None:
    """Measure the best level in turns with the relay at its own, where that was measured before."""
    key, other = _key(best.door), bench.once(("load_messages", best.door.way), lambda: None)
    for turn in turns:
        turn |= {} if other is None else _rate(f"relay_{key}", *other, bench)
        turn |= _rate(f"best_{key}", target, best, bench)


def _rate(key: str, target: Loaded, best: Best, bench: Bench) -> dict[str, float]:
    """The figure, if not one round was answered in time none."""
    rate = _measure(bench, _closed(target, bench, best.door, best.level), best.level).rate
    return {} if rate is None else {key: rate}


def _steady(target: Loaded, bench: Bench, best: Best, rate: float) -> Figures:
    """What a message takes in the open loop at `SHARE` of the rate."""
    pace = Arrivals(rate=SHARE * rate, seconds=WARM_S + OPEN_S, seed=OPEN_SEED)
    lines = loaded.agents(bench, target, bench.effort.of(LEVELS[-1], QUICK_LINES), FAST)
    found = _measure(bench, Order(door=best.door, agents=lines, open_loop=pace, warm_s=WARM_S), best.level)
    bench.levels.append(found)
    if found.whole_added is None:
        return {}
    # The relay and the floor have no door by our names: they stand beside each of ours that answers so.
    names = [_key(best.door)] if target.name not in ("relay", "floor") else BESIDE[best.door.way]
    return {f"p99_{name}": found.whole_added.p99 for name in names}


def _closed(target: Loaded, bench: Bench, door: Door, level: int) -> Order:
    return Order(
        door=door,
        agents=loaded.agents(bench, target, level, FAST),
        seconds=WARM_S + CLOSED_S,
        warm_s=WARM_S,
        least_rounds=LEAST_ROUNDS,
        most_s=MOST_S,
    )


def _doors(target: Loaded) -> list[Door]:
    blocking, streaming = (loaded.doors(target, way, FAST) for way in ("blocking", "stream"))
    if isinstance(target, Relay):
        return [*blocking, *(_named(door, "relay, SSE") for door in streaming)]
    return blocking + streaming if target.name == "ours" or not blocking else blocking


def _named(door: Door, name: str) -> Door:
    return structs.replace(door, name=name)


def _measure(bench: Bench, order: Order, level: int) -> Level:
    bench.tell(f"load_messages, {order.door.name}, {level} at once")
    return levels.measure(order, bench.provider, case=CASE.name, level=level)


def _key(door: Door) -> str:
    return next((key for key, name in DOORS.items() if name == door.name), "rest")


DOORS = {"rest": "ours, REST", "websocket": "ours, websocket", "sse": "ours, SSE", "agui": "ours, AG-UI"}
BESIDE: dict[Way, list[str]] = {"blocking": ["rest"], "stream": ["websocket", "sse", "agui"]}
CASE = Case(
    name="load_messages",
    measure=measure,
    on=("floor", "relay", "ours"),
    most_runs=1,  # it takes turns already
    run_s={"floor": 18, "relay": 36, "ours": 140},
    suite="load",
    rows=(
        *(
            Row(
                key=f"best_{key}",
                title=f"{title}: messages/s at most, in turns with the relay",
                figure=0.5,
                limit=f"relay_{key}",
                limit_then=1,
                at_least=True,
                lever="CPU a message, of the server and of Postgres: at the most the cores are busy",
            )
            for key, title in DOORS.items()
        ),
        *(
            Row(key=f"p99_{key}", title=f"{title}: at 70 % of that, added to a message, p99", unit="ms")
            for key, title in DOORS.items()
        ),
    ),
)
